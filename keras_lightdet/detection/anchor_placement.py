"""Anchors laid over batches whose size the graph may not know."""

import tensorflow as tf

from keras_lightdet.boxes import PyramidAnchors


def size_of(images: tf.Tensor) -> tuple:
    """Returns `(height, width)` of `images [B, H, W, 3]`: numbers where the graph knows them, else tensors."""
    dynamic = tf.shape(images)
    return tuple(images.shape[axis] or dynamic[axis] for axis in (1, 2))


def is_known(image_size: tuple) -> bool:
    """Whether the graph knows `(height, width)`."""
    return all(isinstance(side, int) for side in image_size)


def generate_anchors(anchors: PyramidAnchors, image_size: tuple) -> tf.Tensor:
    """Lays anchors over images of `(height, width)`, numbers or tensors: `[N, 4]`, see `PyramidAnchors.generate`."""
    if is_known(image_size):
        return tf.constant(anchors.generate(image_size))
    # Batches of changing size (multi-scale training): the anchors come from NumPy at each step.
    placed = tf.numpy_function(lambda size: anchors.generate(tuple(size)), [tf.stack(image_size)], tf.float32)
    return tf.ensure_shape(placed, [None, 4])
