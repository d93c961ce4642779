"""Backbones: functions that build images -> {"P3": .., "P4": .., "P5": ..}, fine to coarse.

All but LCNet build an ImageNet classifier of the same layers when given `num_classes`; `weights.copy_layers` brings
its weights into the features a detector builds on.
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
