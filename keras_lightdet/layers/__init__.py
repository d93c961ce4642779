"""Layers and blocks that two or more networks share."""

from keras_lightdet.layers.batch_norm import FusedBatchNormalization
from keras_lightdet.layers.conv import (
    NORM,
    TORCH_NORM,
    NormSpec,
    activate,
    batch_norm,
    conv_bn_act,
    depthwise_bn_act,
    he_normal,
    separable_bn_act,
)
from keras_lightdet.layers.dense_head import dense_heads
from keras_lightdet.layers.drop_block import DropBlock
from keras_lightdet.layers.fpn import fpn
from keras_lightdet.layers.fusion import WeightedFusion, fuse
from keras_lightdet.layers.fusion_graphs import FUSIONS, Fusion
from keras_lightdet.layers.inverted_residual import SqueezeExcite, add_shortcut, inverted_residual, round_width
from keras_lightdet.layers.large_separable_conv import large_separable_conv
from keras_lightdet.layers.light_head import BINS, light_head, predict_anchors
from keras_lightdet.layers.normalize_images import NormalizeImages
from keras_lightdet.layers.ps_roi_align import PSRoIAlign, ps_roi_align
from keras_lightdet.layers.resize import CropToMatch, NearestUpsample2D, ResizeToMatch, resize_maps, upsample_to_match
from keras_lightdet.layers.roi_align import MultilevelRoIAlign, RoIAlign, multilevel_roi_align, roi_align

__all__ = [
    "BINS",
    "FUSIONS",
    "NORM",
    "TORCH_NORM",
    "CropToMatch",
    "DropBlock",
    "NearestUpsample2D",
    "FusedBatchNormalization",
    "Fusion",
    "MultilevelRoIAlign",
    "NormSpec",
    "NormalizeImages",
    "PSRoIAlign",
    "ResizeToMatch",
    "RoIAlign",
    "SqueezeExcite",
    "WeightedFusion",
    "activate",
    "add_shortcut",
    "batch_norm",
    "conv_bn_act",
    "dense_heads",
    "depthwise_bn_act",
    "fpn",
    "fuse",
    "he_normal",
    "inverted_residual",
    "large_separable_conv",
    "light_head",
    "multilevel_roi_align",
    "predict_anchors",
    "ps_roi_align",
    "resize_maps",
    "roi_align",
    "round_width",
    "separable_bn_act",
    "upsample_to_match",
]
