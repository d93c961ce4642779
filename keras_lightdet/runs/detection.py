"""Data, anchors and results of a detector's run."""

import math
from typing import TypeAlias

import numpy as np

from keras_lightdet import evaluation
from keras_lightdet.data import (
    AugmentSpec,
    DetectionData,
    default_splits,
    draw_detection_scenes,
    fit_anchor_scale,
    fit_anchors,
    load_detection,
)
from keras_lightdet.detection import DetectorModel
from keras_lightdet.runs.public_data import Fetch
from keras_lightdet.runs.reporting import GRID_IMAGES, list_issues, report_scores
from keras_lightdet.runs.settings import RunSettings
from keras_lightdet.visualization import save_detection_grid
from keras_lightdet.weights import read_record, resolve_weights

DEMO_IMAGES = {"trainval": 400, "test": 100}
AnchorSizes: TypeAlias = tuple[tuple[tuple[float, float], ...], ...]
MOSAIC_SHARE = 0.8  # of a run; the last steps see whole images only, as in evaluation
# A run of minutes learns more from images that are varied less.
DEMO_AUGMENT = AugmentSpec(zoom_out=0.0, crop=0.0, jitter=0.5, mosaic=0.0)


def scratch_augment(settings: RunSettings, steps: int) -> AugmentSpec:
    """Returns the augmentation for training from scratch: mosaics end after 80 % of the steps, a demo's is milder."""
    return DEMO_AUGMENT if settings.demo else AugmentSpec(mosaic_until_step=int(MOSAIC_SHARE * steps))


def load_detection_splits(settings: RunSettings, fetch: Fetch) -> tuple[DetectionData, DetectionData]:
    """Returns the images to train on and those to evaluate on, and prints what they hold.

    They are drawn in a demo, read from `--data-dir` if it is set, else from the public data set.

    Args:
        settings: The settings of the run.
        fetch: Loads the public data set, such as `fetch_voc`.

    Raises:
        DataError: If the data are faulty, or the public data set cannot be fetched.
    """
    if settings.demo:
        draw_detection_scenes(settings.output_dir / "scenes", DEMO_IMAGES, seed=settings.seed)
    folder = settings.data_folder
    if folder is None:
        train_data, test_data = fetch(settings.download_dir)
    else:
        train, test = default_splits(folder, settings.format)
        train_data = load_detection(folder, train, settings.format, **settings.data_options)
        names = train_data.class_names
        test_data = load_detection(folder, test, settings.format, class_names=names, **settings.data_options)
    print(summarize("train", train_data), summarize("test", test_data), sep="\n")
    return train_data, test_data


def summarize(name: str, data: DetectionData) -> str:
    """Returns lines of text on a split: images, boxes of each class, and the first faults."""
    labels = np.concatenate([record.labels for record in data.records])
    counts = np.bincount(labels, minlength=len(data.class_names))
    empty = sum(len(record.labels) == 0 for record in data.records)
    classes = ", ".join(f"{label} {count}" for label, count in zip(data.class_names, counts, strict=True))
    head = f"{name}: {len(data)} images ({empty} without objects), {len(labels)} boxes: {classes}"
    return "\n".join([head, *list_issues(data.issues)])


def fit_run_anchors(
    settings: RunSettings, data: DetectionData, *, num_levels: int, per_level: int
) -> AnchorSizes | None:
    """Returns anchor sizes in pixels of the input: those of `--weights`, else clusters of the training boxes.

    None, for the model's own, if the weights have none or the boxes have too few different sizes.
    """
    if settings.weights:
        saved = read_record(resolve_weights(settings.weights))["architecture"]
        scale = math.sqrt(math.prod(settings.input_size) / math.prod(saved["input_shape"][:2]))
        levels = saved.get("anchors")
        return levels and tuple(tuple((scale * width, scale * height) for width, height in level) for level in levels)
    try:
        fit = fit_anchors(data, settings.input_size, num_levels=num_levels, per_level=per_level, seed=settings.seed)
    except ValueError as error:
        print(f"anchors: those of the model. {error}")
        return None
    print(f"anchors: mean best IoU {fit.mean_best_iou:.3f}, recall at IoU 0.5 {fit.recall:.3f}: {fit.anchors}")
    return fit.anchors


def fit_run_anchor_scale(settings: RunSettings, data: DetectionData, default: float) -> float:
    """Returns the anchor scale of a pyramid: that of `--weights`, else the scale that fits the training boxes."""
    if settings.weights:
        return read_record(resolve_weights(settings.weights))["architecture"].get("anchor_scale", default)
    scale, recall = fit_anchor_scale(data, settings.input_size, default)
    print(f"anchors: from {scale:g} times a level's stride (the paper's {default:g}), recall at IoU 0.5 {recall:.3f}")
    return scale


def report_detection(model: DetectorModel, data: DetectionData, settings: RunSettings) -> None:
    """Evaluates the best weights by all rules, and writes scores.json, predictions.png and precision_recall.png."""
    folder = settings.output_dir
    detections = evaluation.predict_detection(model, data, settings.batch_size)
    voc07 = evaluation.evaluate_voc(data, detections, metric="voc07")
    voc = evaluation.evaluate_voc(data, detections, metric="area")
    report_scores({"voc07": voc07, "voc": voc, "coco": evaluation.evaluate_coco(data, detections)}, settings)
    evaluation.plot_precision_recall(voc, folder / "precision_recall.png")
    save_detection_grid(data, detections, folder / "predictions.png", num_images=GRID_IMAGES)
