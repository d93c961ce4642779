"""The end of a run: metrics, and the export with its check."""

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from keras_lightdet.data import DataIssue, DetectionData, SegmentationData
from keras_lightdet.deploy import export_detection, export_segmentation
from keras_lightdet.detection import DetectorModel
from keras_lightdet.evaluation import EvaluationResult, class_table, result_as_data
from keras_lightdet.images import read_image
from keras_lightdet.models import registry
from keras_lightdet.runs.settings import RunSettings
from keras_lightdet.segmentation import SegmentationModel

CALIBRATION_IMAGES = 100
GRID_IMAGES = 12
SHOWN_ISSUES = 5


def list_issues(issues: Sequence[DataIssue]) -> list[str]:
    """Returns the first faults of a data set, one a line; none for none."""
    lines = [f"  {issue.kind}: {issue.path}: {issue.detail}" for issue in issues[:SHOWN_ISSUES]]
    rest = len(issues) - SHOWN_ISSUES
    more = [f"  and {rest} more"] if rest > 0 else []
    return [f"  {len(issues)} faults in the data:", *lines, *more] if lines else []


def write_scores(results: Mapping[str, EvaluationResult], settings: RunSettings) -> None:
    """Writes the results to `scores.json`."""
    scores = {name: result_as_data(result) for name, result in results.items()}
    (settings.output_dir / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


def report_scores(results: Mapping[str, EvaluationResult], settings: RunSettings) -> None:
    """Writes the results to `scores.json`, and prints them with the paths of the run's files."""
    folder = settings.output_dir
    write_scores(results, settings)
    for name, result in results.items():
        print(f"\n{name}\n{class_table(result)}")
    print(f"\nbest weights {settings.best_path}, images {folder / 'predictions.png'}, scores {folder / 'scores.json'}")


def export_and_check(
    model: DetectorModel | SegmentationModel, data: DetectionData | SegmentationData, settings: RunSettings
) -> None:
    """Writes the int8 .tflite if `--export` is set, and checks it with the command `lightdet check`.

    Ends the process with the status of that command if it finds a fault.

    Args:
        model: The model with its best weights.
        data: The training data, whose images calibrate the file.
        settings: The settings of the run.
    """
    if not settings.export:
        return
    is_segmenter = isinstance(model, SegmentationModel)
    path = settings.output_dir / ("segmenter.tflite" if is_segmenter else "detector.tflite")
    print(f"\nexporting {path}", flush=True)
    export = export_segmentation if is_segmenter else export_detection
    export(model, path, quantize="int8", calibration=_calibration_images(data))
    command = [sys.executable, "-m", "keras_lightdet.cli", "check", str(path), "--weights", str(settings.best_path)]
    build = registry.MODELS.get(model.architecture["builder"])
    if build is not None and not build.__module__.startswith("keras_lightdet."):
        command += ["--import", inspect.getfile(inspect.unwrap(build))]
    if settings.data_folder is not None:
        command += ["--data-dir", str(settings.data_folder)]
        command += [] if is_segmenter else ["--format", settings.format]
    status = subprocess.run(command, check=False).returncode
    if status:
        sys.exit(status)  # the command has printed the fault


def _calibration_images(data: DetectionData | SegmentationData) -> Iterator[np.ndarray]:
    """Yields images spread evenly over the records."""
    count = min(CALIBRATION_IMAGES, len(data.records))
    for index in np.linspace(0, len(data.records) - 1, count).astype(int):
        yield read_image(data.records[index].path)
