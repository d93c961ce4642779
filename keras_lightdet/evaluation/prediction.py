"""A detector's answers to a whole data set."""

import math

import keras
import tensorflow as tf

from keras_lightdet.boxes.detections import Detections
from keras_lightdet.data.pipeline import eval_batches
from keras_lightdet.data.records import DetectionData
from keras_lightdet.detection.model import to_detections
from keras_lightdet.errors import DataError


def predict_data(model: keras.Model, data: DetectionData, batch_size: int) -> list[Detections]:
    """Runs a detector over all pictures of a data set.

    Pictures are stretched to the network input, as in training and in `detect`, and the boxes back. A file that
    cannot be decoded is named and stood in for by a grey picture, so that its objects count as missed.

    Args:
        model: A `DetectorModel`: `predict` gives "boxes", "scores", "labels" and "count" of the selected
            detections, `input_size` and `class_names` say what they mean.
        data: The pictures; their labels are not looked at.
        batch_size: Pictures per batch; rounded up to a multiple of the replicas of a distribution strategy.

    Returns:
        One `Detections` per record, in the records' order, in pixels of the pictures.

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
        # A smaller last batch can leave a replica without any picture, which networks do not take.
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
