"""Blocks that two or more networks share."""

from keras_lightdet.layers.batch_norm import FusedBatchNormalization
from keras_lightdet.layers.conv import NORM, TORCH_NORM, NormSpec, activate, batch_norm, conv_bn_act, depthwise_bn_act
from keras_lightdet.layers.crop_like import CropLike
from keras_lightdet.layers.fpn import fpn
from keras_lightdet.layers.large_separable_conv import large_separable_conv
from keras_lightdet.layers.light_head import BINS, light_head, predict_anchors
from keras_lightdet.layers.ps_roi_align import PSRoIAlign, ps_roi_align
from keras_lightdet.layers.resize_like import ResizeLike, resize_maps
from keras_lightdet.layers.roi_align import MultilevelRoIAlign, RoIAlign, multilevel_roi_align, roi_align
from keras_lightdet.layers.separable import separable_bn_act

__all__ = [
    "BINS",
    "NORM",
    "TORCH_NORM",
    "CropLike",
    "FusedBatchNormalization",
    "MultilevelRoIAlign",
    "NormSpec",
    "PSRoIAlign",
    "ResizeLike",
    "RoIAlign",
    "activate",
    "batch_norm",
    "conv_bn_act",
    "depthwise_bn_act",
    "fpn",
    "large_separable_conv",
    "light_head",
    "multilevel_roi_align",
    "predict_anchors",
    "ps_roi_align",
    "resize_maps",
    "roi_align",
    "separable_bn_act",
]
