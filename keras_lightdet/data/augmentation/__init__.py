"""Random changes of training images, together with their boxes or labels."""

from keras_lightdet.data.augmentation.spec import AugmentSpec, SegmentationAugmentSpec

__all__ = ["AugmentSpec", "SegmentationAugmentSpec"]
