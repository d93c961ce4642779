"""Brings weights that the user has from other libraries into the models of this one."""

from keras_lightdet.convert.torchvision import load_resnet, load_shufflenet_v2

__all__ = ["load_resnet", "load_shufflenet_v2"]
