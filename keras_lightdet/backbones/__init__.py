"""Backbones: functions that build a model, images -> {"P3": .., "P4": .., "P5": ..}, fine to coarse.

With `num_classes` all but LCNet build a `Classifier` of the same layers. `weights.copy_layers` copies its weights into
the backbone of a detector.
"""

from keras_lightdet.backbones.efficientnet import EfficientNet
from keras_lightdet.backbones.lcnet import LCNet
from keras_lightdet.backbones.mobile_spinenet import MobileSpineNet
from keras_lightdet.backbones.mobilenet_v2 import MobileNetV2
from keras_lightdet.backbones.resnet import ResNet
from keras_lightdet.backbones.shufflenet_v2 import ShuffleNetV2
from keras_lightdet.backbones.snet import SNet
from keras_lightdet.backbones.spinenet import SpineNet
from keras_lightdet.backbones.xception39 import Xception39
from keras_lightdet.backbones.xception_dfanet import XceptionDFANet
from keras_lightdet.backbones.xception_light import XceptionLight

__all__ = [
    "EfficientNet",
    "LCNet",
    "MobileNetV2",
    "MobileSpineNet",
    "ResNet",
    "SNet",
    "ShuffleNetV2",
    "SpineNet",
    "Xception39",
    "XceptionDFANet",
    "XceptionLight",
]
