"""Anchors of batches whose image size may be unknown to the graph."""

import dataclasses
from typing import TypeGuard

import tensorflow as tf

from keras_lightdet.boxes import AnchorGrid, GridAnchors, PyramidAnchors
from keras_lightdet.types import DynamicSize, Size, Tensor


def image_size_of(images: Tensor) -> DynamicSize:
    """Returns `(height, width)` of `images [B, H, W, 3]`: integers where the graph knows them, else tensors."""
    dynamic = tf.shape(images)
    return images.shape[1] or dynamic[1], images.shape[2] or dynamic[2]


def generate_anchors(anchors: PyramidAnchors, image_size: DynamicSize) -> Tensor:
    """Generates anchors `[N, 4]` for images of `(height, width)`, see `PyramidAnchors.generate`."""
    if _is_static(image_size):
        return tf.constant(anchors.generate(image_size))
    # Batches of varying size (multi-scale training): NumPy computes the anchors at each step.
    boxes = tf.numpy_function(lambda size: anchors.generate(tuple(size)), [tf.stack(image_size)], tf.float32)
    return tf.ensure_shape(boxes, [None, 4])


def generate_grid_anchors(anchors: GridAnchors, image_size: DynamicSize) -> AnchorGrid:
    """Generates the anchors for images of `(height, width)`, see `GridAnchors.generate`."""
    if _is_static(image_size):
        return anchors.generate(image_size)
    dtypes = [tf.float32, tf.float32, tf.float32, tf.int32]
    arrays = tf.numpy_function(
        lambda size: dataclasses.astuple(anchors.generate(tuple(size))), [tf.stack(image_size)], dtypes
    )
    shapes = ([None, 2], [None, 2], [None], [None])
    return AnchorGrid(*(tf.ensure_shape(array, shape) for array, shape in zip(arrays, shapes, strict=True)))


def _is_static(image_size: DynamicSize) -> TypeGuard[Size]:
    return all(isinstance(side, int) for side in image_size)
