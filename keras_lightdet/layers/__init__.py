"""Blocks that two or more networks share."""

from keras_lightdet.layers.batch_norm import FusedBatchNormalization
from keras_lightdet.layers.conv import NORM, TORCH_NORM, NormSpec, activate, batch_norm, conv_bn_act, depthwise_bn_act

__all__ = [
    "NORM",
    "TORCH_NORM",
    "FusedBatchNormalization",
    "NormSpec",
    "activate",
    "batch_norm",
    "conv_bn_act",
    "depthwise_bn_act",
]
