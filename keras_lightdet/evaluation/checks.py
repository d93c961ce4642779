"""Checks of the input of evaluations, so that data and detections that do not belong together raise an error."""

from collections.abc import Sequence

import numpy as np

from keras_lightdet.data import DetectionData, ImageRecord
from keras_lightdet.detection import Detections
from keras_lightdet.errors import DataError

_NAN_CURE = "If a model predicted them, its weights have probably become NaN: train again from the last valid weights."


def check_class_names(model_names: Sequence[str], data_names: Sequence[str]) -> None:
    """Raises a `DataError` if a model and a data set have different classes."""
    if tuple(model_names) != tuple(data_names):
        raise DataError(
            f"Expected data with the model's classes {list(model_names)}, got {list(data_names)}. "
            "Load the data with class_names= of the model."
        )


def check_evaluation_input(data: DetectionData, detections: Sequence[Detections]) -> None:
    """Raises an error if ground truth and detections do not belong together.

    Args:
        data: The labeled images.
        detections: One `Detections` per record of `data`, in the same order, in pixels of the images.

    Raises:
        DataError: The numbers of images differ, class names differ, arrays have different lengths, a box or a score is
            not finite, the corners of a box are swapped, or a label is not one of the classes. It names the image.
    """
    if len(detections) != len(data.records):
        raise DataError(
            f"Expected one Detections per image, {len(data.records)} in all, got {len(detections)}. "
            "Predict the records that are evaluated, in their order."
        )
    if data.category_ids and len(data.category_ids) != len(data.class_names):
        raise DataError(
            f"Expected one category id per class, {len(data.class_names)} in all, got {data.category_ids!r}. "
            "Leave category_ids empty if the data set has no ids of its own."
        )
    if not data.class_names:
        raise DataError("Expected at least one class name in the data to evaluate on, got none. Load it again.")
    num_classes = len(data.class_names)
    for record, of_record in zip(data.records, detections, strict=True):
        _check_names(record, of_record, data.class_names)
        _check_boxes(f"labels of {record.path}", record.boxes, record.labels, num_classes)
        _check_boxes(f"detections in {record.path}", of_record.boxes, of_record.labels, num_classes)
        _check_record_lengths(record)
        _check_scores(record, of_record)


def join_arrays(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    """Concatenates one-dimensional arrays, possibly none, to one of `dtype`."""
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(a, dtype) for a in arrays)])


def _check_names(record: ImageRecord, detections: Detections, class_names: tuple[str, ...]) -> None:
    if detections.class_names and tuple(detections.class_names) != tuple(class_names):
        raise DataError(
            f"Expected detections in {record.path} with the classes of the data {list(class_names)}, got "
            f"{list(detections.class_names)}. Evaluate on data loaded with class_names= of the model."
        )


def _check_boxes(name: str, boxes: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    boxes, labels = np.asarray(boxes), np.asarray(labels)
    if boxes.shape != (len(labels), 4) or labels.ndim != 1:
        raise DataError(
            f"Expected {name} to be boxes [n, 4] and labels [n], got {boxes.shape} and {labels.shape}. "
            "Give one label to each box."
        )
    if not len(labels):
        return
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= num_classes:
        wrong = labels[0] if labels.dtype.kind not in "iu" else labels[(labels < 0) | (labels >= num_classes)][0]
        raise DataError(
            f"Expected {name} to have integer labels in 0..{num_classes - 1}, got {wrong!r}. "
            "Check that the model and the data list the same classes."
        )
    if not np.isfinite(boxes).all():
        wrong = boxes[~np.isfinite(boxes).all(axis=1)][0]
        raise DataError(f"Expected {name} to have finite boxes, got {wrong.tolist()}. {_NAN_CURE}")
    swapped = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if swapped.any():
        wrong = boxes[swapped][0].tolist()
        raise DataError(
            f"Expected {name} to be (x_min, y_min, x_max, y_max) in that order, got {wrong}. Check the box format."
        )


def _check_record_lengths(record: ImageRecord) -> None:
    count = len(record.labels)
    if len(record.ignore) != count or len(record.areas) != count:
        raise DataError(
            f"Expected {count} ignore flags and areas for {record.path}, got {len(record.ignore)} and "
            f"{len(record.areas)}. Give one of each to every box."
        )


def _check_scores(record: ImageRecord, detections: Detections) -> None:
    scores, count = np.asarray(detections.scores), len(detections.labels)
    if scores.shape != (count,) or not np.isfinite(scores).all():
        got = scores.tolist() if scores.shape == (count,) else f"shape {scores.shape}"
        raise DataError(f"Expected one finite score per detection in {record.path} ({count}), got {got}. {_NAN_CURE}")
