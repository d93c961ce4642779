"""Runs a .tflite in the real MediaPipe runtime, in a separate process with a time limit."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_lightdet.deploy.metadata import read_labels
from keras_lightdet.detection.detections import Detections
from keras_lightdet.errors import ExportError
from keras_lightdet.files import StrPath, expand_user

TIME_LIMIT = 120.0  # seconds; on some faults MediaPipe blocks forever instead of failing
BOX_TOLERANCE = 2.0  # pixels; MediaPipe has its own resizing code
_MAX_ERROR_TEXT = 600  # characters
_RUNNER = Path(__file__).with_name("mediapipe_runner.py")


@dataclass(frozen=True)
class Difference:
    """Difference of one image's detections between two runtimes.

    Attributes:
        compared: Number of detections of the first runtime.
        missing: Number of these without a match in the second: same label, corners within the tolerance.
        max_distance: Largest distance between corners of matches, in pixels.
    """

    compared: int
    missing: int
    max_distance: float


def detect_with_mediapipe(
    path: StrPath, images: Sequence[np.ndarray], *, time_limit: float = TIME_LIMIT
) -> list[Detections]:
    """Runs a .tflite in `mediapipe.tasks.vision.ObjectDetector`.

    Args:
        path: A file with metadata.
        images: Uint8 `[H, W, 3]` RGB images of any size.
        time_limit: Seconds for all images.

    Returns:
        Detections in pixels of each image.

    Raises:
        ExportError: MediaPipe rejects the file, crashes, or exceeds the time limit.
    """
    class_names = read_labels(path)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        _run("detect", path, images, results, time_limit)
        entries_by_image = json.loads(results.read_text(encoding="utf-8"))
    return [_to_detections(entries, class_names) for entries in entries_by_image]


def segment_with_mediapipe(
    path: StrPath, images: Sequence[np.ndarray], *, time_limit: float = TIME_LIMIT
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Runs a .tflite in `mediapipe.tasks.vision.ImageSegmenter`.

    Arguments and errors are those of `detect_with_mediapipe`.

    Returns:
        The category mask of each image, uint8 `[H, W]`, and the class names that MediaPipe read from the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.npz"
        _run("segment", path, images, results, time_limit)
        with np.load(results, allow_pickle=False) as arrays:
            *masks, class_names = (arrays[name] for name in arrays.files)
    return masks, tuple(class_names.tolist())


def _run(task: str, path: StrPath, images: Sequence[np.ndarray], results: Path, time_limit: float) -> None:
    """Runs `mediapipe_runner`, which writes the file `results`."""
    images_path, model_path = results.with_name("images.npz"), expand_user(path)
    np.savez(images_path, *images)  # arr_0, arr_1, ..
    command = [sys.executable, str(_RUNNER), task, str(model_path), str(images_path), str(results)]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=time_limit, check=False)
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"Expected MediaPipe to run {str(path)!r} within {time_limit} s, it did not. "
            "Check the file's metadata, or raise the limit."
        ) from None
    if process.returncode or not results.exists():
        raise ExportError(
            f"Expected MediaPipe to run {str(path)!r}, got exit status {process.returncode}: "
            f"...{process.stderr.strip()[-_MAX_ERROR_TEXT:]} Check that mediapipe is installed and the file is "
            "complete."
        )


def in_whole_pixels(detections: Detections) -> Detections:
    """Truncates corner and size to whole pixels, as MediaPipe does."""
    corner, size = np.floor(detections.boxes[:, :2]), np.floor(detections.boxes[:, 2:] - detections.boxes[:, :2])
    boxes = np.concatenate([corner, corner + size], axis=-1)
    return Detections(boxes, detections.scores, detections.labels, detections.class_names)


def compare_detections(
    expected: Detections, detections: Detections, *, box_tolerance: float = BOX_TOLERANCE
) -> Difference:
    """Matches each expected detection with one of another runtime; each of these is used once."""
    unused = list(range(len(detections)))
    distances = []
    for box, label in zip(expected.boxes, expected.labels, strict=True):
        candidates = [
            (float(np.abs(detections.boxes[k] - box).max()), k) for k in unused if detections.labels[k] == label
        ]
        distance, best = min(candidates, default=(np.inf, -1))
        if distance <= box_tolerance:
            unused.remove(best)
            distances.append(distance)
    return Difference(len(expected), len(expected) - len(distances), max(distances, default=0.0))


def _to_detections(entries: Sequence[Mapping[str, Any]], class_names: tuple[str, ...]) -> Detections:
    boxes = np.array([entry["box"] for entry in entries], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([class_names.index(entry["name"]) for entry in entries], np.int32)
    return Detections(boxes, np.array([entry["score"] for entry in entries], np.float32), labels, class_names)
