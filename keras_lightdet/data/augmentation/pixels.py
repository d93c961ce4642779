"""Makes the pixels of augmented images from a `Plan`, in TensorFlow."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_lightdet.data.augmentation.colors import change_colors
from keras_lightdet.data.augmentation.plan import Crop, Plan
from keras_lightdet.data.augmentation.windows import MOSAIC_TILES
from keras_lightdet.data.image_reader import FILL
from keras_lightdet.images import resample, to_uint8
from keras_lightdet.types import Size


def make_images(images: Sequence[tf.Tensor], plan: Plan, size: Size) -> tf.Tensor:
    """Makes the images of a batch.

    Args:
        images: The group, uint8 `[height, width, 3]` each.
        plan: The result of `plan_images` for the group.
        size: `(height, width)` of the network input.

    Returns:
        Uint8 `[P, *size, 3]`.
    """
    results: list[tf.Tensor] = []
    for index, image_plan in enumerate(_unstack(plan)):
        # One image after the other: in parallel they would evict each other's pixels from the cache.
        with tf.control_dependencies(results[-1:]):
            tiles = [tf.identity(image) for image in (*images[index:], *images[:index])]
        results.append(_make_image(tiles[:MOSAIC_TILES], image_plan, size))
    return tf.stack(results)


def _crop_pixels(image: tf.Tensor, crop: Crop) -> tf.Tensor:
    """Cuts the visible part of a window out of an image: float32 `[height, width, 3]`, without the margins."""
    pixels = tf.slice(image, crop.begin, crop.extent)[None]
    # Whole and downsampled images are resized as for inference, which would shift an upsampled crop by pixels.
    return tf.cond(
        crop.upsampled,
        lambda: tf.raw_ops.ResizeBilinear(images=pixels, size=crop.size, half_pixel_centers=True)[0],
        lambda: resample(pixels, crop.size)[0],
    )


def _make_image(images: Sequence[tf.Tensor], plan: Plan, size: Size) -> tf.Tensor:
    """Makes one image from the first of `images`, or from all in a mosaic."""
    crops = _unstack(plan.crops)

    def mosaic() -> tf.Tensor:  # windows of a mosaic lie within their images
        tiles = [_crop_pixels(*pair) for pair in zip(images, crops, strict=True)]
        return tf.concat([tf.concat(tiles[:2], axis=1), tf.concat(tiles[2:], axis=1)], axis=0)

    def single() -> tf.Tensor:
        pixels, margins = _crop_pixels(images[0], crops[0]), crops[0].margins
        has_margins = tf.reduce_any(margins > 0)
        return tf.cond(has_margins, lambda: tf.pad(pixels, margins, constant_values=float(FILL)), lambda: pixels)

    image = tf.ensure_shape(tf.cond(plan.mosaic, mosaic, single), [*size, 3])
    image = to_uint8(tf.cond(plan.colored, lambda: change_colors(image, plan.colors), lambda: image))
    # The flip comes last: bytes are faster to mirror than floats.
    return tf.cond(plan.flip, lambda: tf.reverse(image, [1]), lambda: image)


def _unstack(structure: Any) -> list[Any]:
    """Splits a structure of tensors along the first axis into a list of structures."""
    columns = [tf.unstack(values) for values in tf.nest.flatten(structure)]
    return [tf.nest.pack_sequence_as(structure, row) for row in zip(*columns, strict=True)]
