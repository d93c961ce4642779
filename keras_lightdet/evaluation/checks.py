"""What every evaluator asks of its input, so that a wrong pairing is an error and never a low score."""

from collections.abc import Sequence

import numpy as np

from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.detection.detections import Detections
from keras_lightdet.errors import DataError


def check_evaluation_input(data: DetectionData, detections: Sequence[Detections]) -> None:
    """Refuses truth and detections that cannot be scored against each other.

    Args:
        data: The labeled images.
        detections: One `Detections` per record of `data`, in the same order, in pixels of the images.

    Raises:
        DataError: The numbers of images differ, class names differ, arrays do not belong together, a box or
            a score is not finite, a box is inside out, or a label is outside the classes. It names the
            image.
    """
    if len(detections) != len(data.records):
        raise DataError(
            f"Expected one Detections per image, {len(data.records)} in all, got {len(detections)}. "
            "Predict the very records that are evaluated, in their order."
        )
    if data.category_ids and len(data.category_ids) != len(data.class_names):
        raise DataError(
            f"Expected one category id per class, {len(data.class_names)} in all, got {data.category_ids!r}. "
            "Leave category_ids empty where the data set has no ids of its own."
        )
    if not data.class_names:
        raise DataError("Expected at least one class name in the data to evaluate on, got none. Read it again.")
    num_classes = len(data.class_names)
    for record, found in zip(data.records, detections, strict=True):
        _check_names(record, found, data.class_names)
        _check_boxes(f"labels of {record.path}", record.boxes, record.labels, num_classes)
        _check_boxes(f"detections in {record.path}", found.boxes, found.labels, num_classes)
        _check_truth_extras(record)
        _check_scores(record, found)


def join_arrays(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    """Joins one-dimensional arrays, of which there may be none, into one of `dtype`."""
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(a, dtype) for a in arrays)])


def _check_names(record: ImageRecord, found: Detections, class_names: tuple[str, ...]) -> None:
    if found.class_names and tuple(found.class_names) != tuple(class_names):
        raise DataError(
            f"Expected detections in {record.path} with the classes of the data {list(class_names)}, got "
            f"{list(found.class_names)}. Evaluate on data read with class_names= of the model."
        )


def _check_boxes(what: str, boxes: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    boxes, labels = np.asarray(boxes), np.asarray(labels)
    if boxes.shape != (len(labels), 4) or labels.ndim != 1:
        raise DataError(
            f"Expected {what} to be boxes [n, 4] and labels [n], got {boxes.shape} and {labels.shape}. "
            "Give one label to each box."
        )
    if not len(labels):
        return
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= num_classes:
        wrong = labels[0] if labels.dtype.kind not in "iu" else labels[(labels < 0) | (labels >= num_classes)][0]
        raise DataError(
            f"Expected {what} to have integer labels in 0..{num_classes - 1}, got {wrong!r}. "
            "Check that the model and the data list the same classes."
        )
    if not np.isfinite(boxes).all():
        wrong = boxes[~np.isfinite(boxes).all(axis=1)][0]
        raise DataError(
            f"Expected {what} to have finite boxes, got {wrong.tolist()}. "
            "If a model made them, its weights have probably become NaN: train again from the last good ones."
        )
    inside_out = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if inside_out.any():
        raise DataError(
            f"Expected {what} to be (x_min, y_min, x_max, y_max) in that order, got "
            f"{boxes[inside_out][0].tolist()}. Check the box format."
        )


def _check_truth_extras(record: ImageRecord) -> None:
    count = len(record.labels)
    if len(record.ignore) != count or len(record.areas) != count:
        raise DataError(
            f"Expected {count} ignore flags and areas for {record.path}, got {len(record.ignore)} and "
            f"{len(record.areas)}. Give one of each to every box."
        )


def _check_scores(record: ImageRecord, found: Detections) -> None:
    scores = np.asarray(found.scores)
    if scores.shape != (len(found.labels),) or not np.isfinite(scores).all():
        got = f"shape {scores.shape}" if scores.shape != (len(found.labels),) else f"{scores.tolist()}"
        raise DataError(
            f"Expected one finite score per detection in {record.path} ({len(found.labels)}), got {got}. "
            "If a model made them, its weights have probably become NaN: train again from the last good ones."
        )
