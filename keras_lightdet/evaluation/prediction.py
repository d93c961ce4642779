"""A detector's answers to a whole data set."""

import math

import keras
import tensorflow as tf

from keras_lightdet.data.detection.batches import eval_batches
from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.detection.detections import Detections
from keras_lightdet.detection.model import to_detections
from keras_lightdet.errors import DataError


def predict_detection(model: keras.Model, data: DetectionData, batch_size: int) -> list[Detections]:
    """Runs a detector over all images of a data set.

    Images are stretched to the network input, as in training and in `detect`, and the boxes back. A file that
    cannot be decoded is named and stood in for by a gray image, so that its objects count as missed.

    Args:
        model: A `DetectorModel`: `predict` gives "boxes", "scores", "labels" and "count" of the selected
            detections, `input_size` and `class_names` say what they mean.
        data: The images; their labels are not looked at.
        batch_size: Images per batch; rounded up to a multiple of the replicas of a distribution strategy.

    Returns:
        One `Detections` per record, in the records' order, in pixels of the images.

    Raises:
        DataError: The classes of model and data differ.
    """
    if tuple(model.class_names) != tuple(data.class_names):
        raise DataError(
            f"Expected data with the model's classes {list(model.class_names)}, got {list(data.class_names)}. "
            "Read the data with class_names= of the model."
        )
    if not data.records:
        return []
    replicas = model.distribute_strategy.num_replicas_in_sync
    batch_size = replicas * math.ceil(batch_size / replicas)
    images = eval_batches(data, model.input_size, batch_size).map(lambda images, targets: images)
    if replicas > 1:
        # A smaller last batch can leave a replica without any image, which networks do not take.
        images = images.map(lambda batch: _filled(batch, batch_size))
    answers = model.predict(images, verbose=0)
    return [
        to_detections(
            {key: values[i] for key, values in answers.items()},
            (record.height, record.width),
            model.input_size,
            data.class_names,
        )
        for i, record in enumerate(data.records)
    ]


def _filled(images: tf.Tensor, batch_size: int) -> tf.Tensor:
    return tf.pad(images, [[0, batch_size - tf.shape(images)[0]], [0, 0], [0, 0], [0, 0]])
