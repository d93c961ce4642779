"""Data and results of a segmenter's run."""

import numpy as np

from keras_lightdet import evaluation
from keras_lightdet.data import (
    SegmentationAugmentSpec,
    SegmentationData,
    draw_segmentation_scenes,
    inspect_labels,
    load_segmentation,
    segmentation_splits,
)
from keras_lightdet.runs.public_data import PublicData
from keras_lightdet.runs.reporting import GRID_IMAGES, list_issues, report_scores
from keras_lightdet.runs.settings import RunSettings
from keras_lightdet.segmentation import SegmentationModel
from keras_lightdet.visualization import save_segmentation_grid

DEMO_LABEL_IMAGES = {"train": 300, "val": 60}
DEMO_SEGMENTATION_AUGMENT = SegmentationAugmentSpec(scales=(0.75, 1.33))


def load_segmentation_splits(
    settings: RunSettings, public_data: PublicData
) -> tuple[SegmentationData, SegmentationData, SegmentationData]:
    """Returns the images to train on, to select the best weights by, and to test on, and prints what they hold.

    The last two are the same where the data set has no third split. The images are drawn in a demo, else read from
    `--data-dir`.

    Args:
        settings: The settings of the run.
        public_data: The data set that the error names if there is no `--data-dir`.

    Raises:
        DataError: If there is no `--data-dir`, or the label images are faulty.
    """
    if settings.demo:
        draw_segmentation_scenes(settings.output_dir / "scenes", DEMO_LABEL_IMAGES, seed=settings.seed)
    folder = settings.data_folder
    if folder is None:
        raise public_data.error("but it is not fetched automatically")
    names = segmentation_splits(folder)
    splits = {}
    for name in dict.fromkeys(names):
        data = load_segmentation(folder, name, strict=settings.strict)
        report = inspect_labels(data)
        print("\n".join([f"{name}: {len(data)} images", report.table(), *list_issues(data.issues)]))
        report.raise_on_faults()
        splits[name] = data
    train, val, test = (splits[name] for name in names)
    return train, val, test


def report_segmentation(model: SegmentationModel, data: SegmentationData, settings: RunSettings) -> None:
    """Evaluates the best weights at full label size, with and without flips; writes scores.json and predictions.png."""
    results = {
        "test": evaluation.evaluate_segmentation(model, data, settings.batch_size),
        "test, flipped too": evaluation.evaluate_segmentation(model, data, settings.batch_size, flip=True),
    }
    report_scores(results, settings)
    indices = np.linspace(0, len(data) - 1, min(GRID_IMAGES, len(data))).astype(int).tolist()
    paths = [data.records[index].path for index in indices]
    predictions = dict(zip(indices, model.segment(paths), strict=True))
    save_segmentation_grid(data, predictions, settings.output_dir / "predictions.png")
