"""Loads weights of other libraries into the models of this package."""

from keras_lightdet.foreign_weights.applications import load_keras_mobilenet_v2
from keras_lightdet.foreign_weights.effdet import load_efficientdet, load_efficientnet
from keras_lightdet.foreign_weights.model_garden import load_model_garden_retinanet, load_model_garden_spinenet
from keras_lightdet.foreign_weights.torchvision import (
    load_mobilenet_v2,
    load_resnet,
    load_shufflenet_v2,
    load_torchvision_efficientnet,
)
from keras_lightdet.foreign_weights.torchvision_detection import load_faster_rcnn

__all__ = [
    "load_efficientdet",
    "load_efficientnet",
    "load_faster_rcnn",
    "load_keras_mobilenet_v2",
    "load_mobilenet_v2",
    "load_model_garden_retinanet",
    "load_model_garden_spinenet",
    "load_resnet",
    "load_shufflenet_v2",
    "load_torchvision_efficientnet",
]
