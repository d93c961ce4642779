"""Prediction and evaluation of segmenters on a data set: a confusion matrix over pixels at the size of the labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_lightdet.data import SegmentationData
from keras_lightdet.evaluation.checks import check_class_names
from keras_lightdet.evaluation.confusion import confusion_matrix, divide, nan_mean
from keras_lightdet.evaluation.results import ClassResult
from keras_lightdet.images import read_image, resample, resize_image, to_uint8
from keras_lightdet.labels import IGNORE
from keras_lightdet.layers import resize_maps
from keras_lightdet.segmentation import SegmentationModel
from keras_lightdet.types import Tensor


@dataclass(frozen=True)
class SegmentationClass(ClassResult):
    """The result of one class; a figure without pixels to divide by is NaN.

    Attributes:
        name: Name of the class.
        IoU: Intersection over union of labeled and predicted pixels, 0..1.
        recall: Fraction of the labeled pixels that are predicted, 0..1.
        precision: Fraction of the predicted pixels that are labeled so, 0..1.
        num_pixels: Labeled pixels.
    """

    name: str
    IoU: float
    recall: float
    precision: float
    num_pixels: int


@dataclass(frozen=True)
class SegmentationResult:
    """The result of a segmenter.

    Attributes:
        class_names: Names in label order.
        confusion: Int64 `[K, K]`: pixels by labeled (rows) and predicted class, without ignored pixels.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray

    @property
    def ious(self) -> np.ndarray:
        """Float64 `[K]`: IoU of each class, NaN for a class that is neither labeled nor predicted."""
        correct = np.diag(self.confusion)
        return divide(correct, self.confusion.sum(0) + self.confusion.sum(1) - correct)

    @property
    def classes(self) -> tuple[SegmentationClass, ...]:
        """The results of the classes in label order."""
        correct, labeled, predicted = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        columns = (self.ious, divide(correct, labeled), divide(correct, predicted), labeled)
        rows = zip(self.class_names, *(column.tolist() for column in columns), strict=True)
        return tuple(SegmentationClass(*row) for row in rows)

    def figures(self) -> dict[str, float]:
        """Returns the mIoU over the classes that occur, and the accuracy over all pixels and averaged over classes."""
        correct, labeled = np.diag(self.confusion), self.confusion.sum(1)
        return {
            "mIoU": nan_mean(self.ious),
            "pixel_accuracy": float(divide(correct.sum(), labeled.sum())),
            "class_accuracy": nan_mean(divide(correct, labeled)),
        }


def count_confusion(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts pixels by labeled and predicted class, int64 `[K, K]`, without labels of `IGNORE`."""
    valid = labels != IGNORE
    return confusion_matrix(labels[valid], predictions[valid], num_classes)


def evaluate_segmentation(
    model: SegmentationModel,
    data: SegmentationData,
    batch_size: int = 8,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> SegmentationResult:
    """Evaluates a segmenter on a data set.

    Images are resized to the network input and logits to the size of the label image, which is not resized. With
    several scales or flips, probabilities are averaged.

    Args:
        model: The segmenter.
        data: The labeled images.
        batch_size: Images per batch.
        scales: Sizes of the network input relative to the model's own.
        flip: Whether predictions for the horizontally flipped image are averaged, too.

    Raises:
        DataError: The classes of model and data differ, or a file cannot be read.
    """
    check_class_names(model.class_names, data.class_names)
    num_classes = len(data.class_names)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for index, predictions in enumerate(predict_segmentation(model, data, batch_size, scales=scales, flip=flip)):
        confusion += count_confusion(data.read_labels(index), predictions, num_classes)
    return SegmentationResult(data.class_names, confusion)


def predict_segmentation(
    model: SegmentationModel,
    data: SegmentationData,
    batch_size: int = 8,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Iterator[np.ndarray]:
    """Yields the predicted labels of each image, uint8 `[height, width]` of its size, in the records' order."""
    flips = (False, True) if flip else (False,)
    views = [(scale, flipped) for scale in scales for flipped in flips]
    for first in range(0, len(data), batch_size):
        records = data.records[first : first + batch_size]
        images = np.stack([resize_image(read_image(record.path), model.input_size) for record in records])
        # A smaller last batch would be traced again.
        padding = [(0, batch_size - len(images) if len(data) > batch_size else 0), (0, 0), (0, 0), (0, 0)]
        logits_of_views = [_predict(model, np.pad(images, padding), scale, flipped) for scale, flipped in views]
        for row, record in enumerate(records):
            size = (record.height, record.width)
            maps = [resize_maps(logits[row : row + 1], size) for logits in logits_of_views]
            scores = maps[0] if len(maps) == 1 else tf.add_n([tf.nn.softmax(logits) for logits in maps])
            yield tf.cast(tf.argmax(scores[0], axis=-1), tf.uint8).numpy()


def _predict(model: SegmentationModel, images: np.ndarray, scale: float, flipped: bool) -> Tensor:
    """Returns the logits of a batch, computed at another scale, or on the flipped images and flipped back."""
    if scale != 1.0:
        height, width = (max(1, round(side * scale)) for side in model.input_size)
        images = to_uint8(resample(images, (height, width))).numpy()
    logits = model.predict_on_batch(images[:, :, ::-1] if flipped else images)
    return tf.convert_to_tensor(logits[:, :, ::-1] if flipped else logits)
