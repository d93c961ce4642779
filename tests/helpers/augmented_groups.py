"""Augments small groups of painted images in tests."""

import numpy as np
import tensorflow as tf
from data_trees import paint

from keras_lightdet.data import AugmentSpec
from keras_lightdet.data.augmentation.pixels import make_images
from keras_lightdet.data.augmentation.plan import plan_images
from keras_lightdet.data.detection.records import ImageRecord

OBLONG = (96, 160)
BOX = (30, 12, 75, 50)
NOTHING = dict.fromkeys(("flip", "zoom_out", "crop", "jitter", "mosaic", "color"), 0.0)
NO_CHANGE = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)


def record(image, *boxes, ignore=False, label=3):
    count, boxes = len(boxes), np.float32(boxes).reshape(-1, 4)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    labels, flags = np.full(count, label, np.int32), np.full(count, ignore)
    return ImageRecord("", 0, image.shape[1], image.shape[0], boxes, labels, flags, areas)


def painted(box=BOX, size=OBLONG, **options):
    image = paint(*size, box)
    return image, record(image, box, **options)


def plan(seed, group, size, step=0, max_boxes=12, **spec):
    """The plan of a group of `(image, record)` in which only the named augmentation is active."""
    return plan_images(
        np.random.default_rng(seed),
        np.array([image.shape[:2] for image, _ in group]),
        [record for _, record in group],
        size,
        AugmentSpec(**{**NOTHING, **spec}),
        np.full(len(group), step),
        max_boxes,
    )


def pixels(image_plan, group, size):
    images = make_images([tf.constant(image) for image, _ in group], image_plan, size).numpy()
    assert images.dtype == np.uint8 and images.shape == (len(group), *size, 3)
    return images


def augment(seed, group, size, **spec):
    """The augmented images of a group, each with its boxes, labels and ignore flags in a dict."""
    image_plan, targets = plan(seed, group, size, **spec)
    is_padding = targets["labels"] < 0
    assert not targets["boxes"][is_padding].any() and not targets["ignore"][is_padding].any()
    boxes_of_each = [
        {name: targets[name][index][~is_padding[index]] for name in ("boxes", "labels", "ignore")}
        for index in range(len(group))
    ]
    return list(zip(pixels(image_plan, group, size), boxes_of_each, strict=True))
