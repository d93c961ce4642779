"""How well pixels are told apart: a confusion matrix over the labels at their full size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_lightdet.data.segmentation.loading import SegmentationData
from keras_lightdet.errors import DataError
from keras_lightdet.images import read_image, resample, resize_image, to_uint8
from keras_lightdet.labels import IGNORE
from keras_lightdet.layers import resize_maps
from keras_lightdet.segmentation import SegmentationModel


@dataclass(frozen=True)
class SegmentationResult:
    """Scores of a segmenter.

    Attributes:
        class_names: Names in label order.
        confusion: Int64 `[K, K]`: pixels by true (rows) and by predicted class; those to ignore are left out.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray

    @property
    def ious(self) -> np.ndarray:
        """Float64 `[K]`: intersection over union of each class, NaN where it is neither labeled nor predicted."""
        hits = np.diag(self.confusion)
        return _share(hits, self.confusion.sum(0) + self.confusion.sum(1) - hits)

    def figures(self) -> dict[str, float]:
        """Returns `mIoU` over the classes that occur, and the share of pixels that are right, in all and by class."""
        hits, truth = np.diag(self.confusion), self.confusion.sum(1)
        return {
            "mIoU": _mean(self.ious),
            "pixel_accuracy": float(_share(hits.sum(), truth.sum())),
            "class_accuracy": _mean(_share(hits, truth)),
        }

    def rows(self) -> list[dict]:
        """Returns a row of figures for each class."""
        hits, truth, found = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        columns = zip(
            self.class_names,
            self.ious.tolist(),
            _share(hits, truth).tolist(),
            _share(hits, found).tolist(),
            truth.tolist(),
            strict=True,
        )
        return [dict(zip(("class", "IoU", "recall", "precision", "pixels"), row, strict=True)) for row in columns]


def count_confusion(truth: np.ndarray, found: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts pixels by true and predicted class, int64 `[K, K]`; what is `IGNORE` is left out."""
    valid = truth != IGNORE
    pairs = truth[valid].astype(np.int64) * num_classes + found[valid]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def evaluate_segmentation(
    model: SegmentationModel,
    data: SegmentationData,
    batch_size: int = 8,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> SegmentationResult:
    """Scores a segmenter on a data set.

    Images are stretched to the network input; its answer is enlarged to the size of the label image, which is not
    resized. With several scales or flips, probabilities are averaged.

    Args:
        model: The segmenter.
        data: The labeled images.
        batch_size: Images per batch.
        scales: Sides of the network input, as shares of the model's own.
        flip: Whether each image is also looked at in the mirror.

    Raises:
        DataError: The classes of model and data differ, or a file cannot be used.
    """
    if tuple(model.class_names) != data.class_names:
        raise DataError(
            f"Expected data with the model's classes {list(model.class_names)}, got {list(data.class_names)}. "
            "Read the data with class_names= of the model."
        )
    count = len(data.class_names)
    confusion = np.zeros((count, count), np.int64)
    for index, found in enumerate(predict_segmentation(model, data, batch_size, scales=scales, flip=flip)):
        confusion += count_confusion(data.read_labels(index), found, count)
    return SegmentationResult(data.class_names, confusion)


def predict_segmentation(
    model: SegmentationModel,
    data: SegmentationData,
    batch_size: int = 8,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Iterator[np.ndarray]:
    """Yields the labels found in each image, uint8 `[height, width]` of its size, in the records' order."""
    plain = len(scales) == 1 and not flip
    for first in range(0, len(data), batch_size):
        records = data.records[first : first + batch_size]
        images = np.stack([resize_image(read_image(record.path), model.input_size) for record in records])
        # A smaller last batch would be traced anew.
        padding = [(0, batch_size - len(images) if len(data) > batch_size else 0), (0, 0), (0, 0), (0, 0)]
        views = [
            _predict(model, np.pad(images, padding), scale, mirror)
            for scale in scales
            for mirror in ((False, True) if flip else (False,))
        ]
        for place, record in enumerate(records):
            size = (record.height, record.width)
            enlarged = [resize_maps(view[place : place + 1], size) for view in views]
            scores = enlarged[0] if plain else tf.add_n([tf.nn.softmax(one) for one in enlarged])
            yield tf.cast(tf.argmax(scores[0], axis=-1), tf.uint8).numpy()


def _predict(model: SegmentationModel, images: np.ndarray, scale: float, mirror: bool) -> tf.Tensor:
    """Logits of a batch, looked at larger or smaller, or in the mirror."""
    if scale != 1.0:
        images = to_uint8(resample(images, [max(1, round(side * scale)) for side in model.input_size])).numpy()
    logits = model.predict_on_batch(images[:, :, ::-1] if mirror else images)
    return tf.convert_to_tensor(logits[:, :, ::-1] if mirror else logits)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.float64(part) / np.float64(whole)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
