"""Backbones: functions that build images -> {"P3": .., "P4": .., "P5": ..}, fine to coarse."""

from keras_lightdet.backbones.lcnet import LCNet

__all__ = ["LCNet"]
