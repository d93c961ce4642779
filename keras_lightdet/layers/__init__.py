"""Blocks that two or more networks share."""

from keras_lightdet.layers.batch_norm import FusedBatchNormalization
from keras_lightdet.layers.conv import activate, batch_norm, conv_bn_act, depthwise_bn_act

__all__ = ["FusedBatchNormalization", "activate", "batch_norm", "conv_bn_act", "depthwise_bn_act"]
