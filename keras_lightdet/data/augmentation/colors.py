"""Random changes of an image's colors: drawn in NumPy, applied in TensorFlow as one product of matrices."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_lightdet.data.augmentation.spec import AugmentSpec, SegmentationAugmentSpec

# The hue is rotated about the gray axis, in the plane of the chroma axes: RGB to YIQ, a rotation of I and Q, and back.
_YIQ = np.array([(0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
_TO_LUMA = np.array([_YIQ[0]] * 3)
_HUE_CONSTANT, _HUE_COSINE, _HUE_SINE = (
    np.linalg.inv(_YIQ) @ np.array(rotation) @ _YIQ
    for rotation in (
        [(1, 0, 0), (0, 0, 0), (0, 0, 0)],
        [(0, 0, 0), (0, 1, 0), (0, 0, 1)],
        [(0, 0, 0), (0, 0, -1), (0, 1, 0)],
    )
)
_PIXELS_PER_ROW = 4  # of the matrix that holds the pixels while `change_colors` multiplies it


class Colors(NamedTuple):
    """A change of colors: `pixel @ matrix + shift`."""

    matrix: np.ndarray | tf.Tensor  # float32 [..., 3, 3]
    shift: np.ndarray | tf.Tensor  # float32 [...], the same for all channels


def draw_colors(rng: np.random.Generator, count: int, spec: AugmentSpec | SegmentationAugmentSpec) -> Colors:
    """Draws changes of hue, saturation, contrast and brightness for `count` images."""
    hue, saturation, contrast, brightness = rng.uniform(-1.0, 1.0, [4, count, 1, 1])
    angle = 2.0 * math.pi * spec.hue * hue
    rotation = _HUE_CONSTANT + np.cos(angle) * _HUE_COSINE + np.sin(angle) * _HUE_SINE
    saturation = 1.0 + spec.saturation * saturation
    contrast = 1.0 + spec.contrast * contrast
    # The rotation keeps the luma, so it can be mixed with the luma afterwards.
    matrix = contrast * (saturation * rotation + (1.0 - saturation) * _TO_LUMA)
    shift = 127.5 * (1.0 - contrast) + 255.0 * spec.brightness * brightness
    return Colors(matrix.swapaxes(-1, -2).astype(np.float32), shift[:, 0, 0].astype(np.float32))


def change_colors(image: tf.Tensor, colors: Colors) -> tf.Tensor:
    """Changes the colors of a float `[H, W, 3]` image; the result may leave 0..255."""
    pixels = tf.size(image) // 3
    run = tf.where(pixels % _PIXELS_PER_ROW == 0, _PIXELS_PER_ROW, 1)
    side = 3 * run
    matrix = tf.reshape(tf.eye(run)[:, None, :, None] * colors.matrix[None, :, None, :], [side, side])
    # SparseMatMul runs on one thread. MatMul splits the work among threads that are all busy, and waits for them.
    changed = tf.raw_ops.SparseMatMul(a=tf.reshape(image, [-1, side]), b=matrix) + colors.shift
    return tf.reshape(changed, tf.shape(image))
