"""The pixels of augmented images, by TensorFlow, from a `Plan`: an image is made of one window or of four."""

from collections.abc import Sequence

import tensorflow as tf

from keras_lightdet.data.augmentation.plan import Plan, Slice
from keras_lightdet.data.augmentation.windows import MOSAIC_PARTS, Colors
from keras_lightdet.data.image_reader import FILL
from keras_lightdet.images import resample, to_uint8

_PIXELS_PER_ROW = 4  # of the matrix that holds an image's pixels while their colors change


def make_images(images: Sequence[tf.Tensor], plan: Plan, size: tuple[int, int]) -> tf.Tensor:
    """Makes the network's images.

    Args:
        images: The group, uint8 `[height, width, 3]` each.
        plan: Of `plan_images`, for the group.
        size: `(height, width)` of the network input.

    Returns:
        Uint8 `[P, *size, 3]`.
    """
    made = []
    for place, one in enumerate(_unstack(plan)):
        # One after the other: side by side they would push each other's pixels out of the cache.
        with tf.control_dependencies(made[-1:]):
            pictures = [tf.identity(image) for image in (*images[place:], *images[:place])]
        made.append(_make_image(pictures[:MOSAIC_PARTS], one, size))
    return tf.stack(made)


def cut_pixels(image: tf.Tensor, cut: Slice) -> tf.Tensor:
    """Cuts what shows of a window out of an image: float32 `[height, width, 3]`, without the margins."""
    part = tf.slice(image, cut.begin, cut.extent)[None]
    # Whole and shrunk images are what the network will see; a small part enlarged `resample` would move by pixels.
    return tf.cond(
        cut.enlarged,
        lambda: tf.raw_ops.ResizeBilinear(images=part, size=cut.shown, half_pixel_centers=True)[0],
        lambda: resample(part, cut.shown)[0],
    )


def add_margins(image: tf.Tensor, margins: tf.Tensor) -> tf.Tensor:
    """Lays a float image on gray, `tf.pad`'s `margins` around it."""
    return tf.cond(
        tf.reduce_any(margins > 0), lambda: tf.pad(image, margins, constant_values=float(FILL)), lambda: image
    )


def change_colors(image: tf.Tensor, colors: Colors) -> tf.Tensor:
    """Changes the colors of a float `[H, W, 3]` image; the result may leave 0..255."""
    pixels = tf.size(image) // 3
    run = tf.where(pixels % _PIXELS_PER_ROW == 0, _PIXELS_PER_ROW, 1)
    side = 3 * run
    matrix = tf.reshape(tf.eye(run)[:, None, :, None] * colors.matrix[None, :, None, :], [side, side])
    # SparseMatMul, though nothing is sparse: MatMul splits among threads that are all busy, and waits for them.
    changed = tf.raw_ops.SparseMatMul(a=tf.reshape(image, [-1, side]), b=matrix) + colors.shift
    return tf.reshape(changed, tf.shape(image))


def _make_image(images: Sequence[tf.Tensor], plan: Plan, size: tuple[int, int]) -> tf.Tensor:
    """One image, out of the first of `images` or of all."""
    slices = _unstack(plan.slices)

    def mosaic():  # whose windows lie within their images
        parts = [cut_pixels(*pair) for pair in zip(images, slices, strict=True)]
        return tf.concat([tf.concat(parts[:2], axis=1), tf.concat(parts[2:], axis=1)], axis=0)

    def one():
        return add_margins(cut_pixels(images[0], slices[0]), slices[0].margins)

    made = tf.cond(plan.mosaic, mosaic, one)
    made = tf.ensure_shape(made, [*size, 3])
    made = to_uint8(tf.cond(plan.colored, lambda: change_colors(made, plan.colors), lambda: made))
    # The flip comes last, as bytes are quicker to mirror than floats.
    return tf.cond(plan.flip, lambda: tf.reverse(made, [1]), lambda: made)


def _unstack(structure) -> list:
    """A structure of tensors for each entry of the first axis."""
    columns = [tf.unstack(values) for values in tf.nest.flatten(structure)]
    return [tf.nest.pack_sequence_as(structure, row) for row in zip(*columns, strict=True)]
