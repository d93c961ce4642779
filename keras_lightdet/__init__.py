"""Small, fast object detectors and segmenters in Keras, trained on your own pictures and exported to TFLite."""

from keras_lightdet import backbones
from keras_lightdet.boxes import Detections
from keras_lightdet.detection import DetectorModel, OneStageDetector, TwoStageDetector
from keras_lightdet.drawing import draw
from keras_lightdet.models import EfficientDet, FasterRCNN, LightHeadRCNN, RetinaNet, RSANet, ThunderNet

__version__ = "0.1.0"

__all__ = [
    "DetectorModel",
    "Detections",
    "EfficientDet",
    "FasterRCNN",
    "LightHeadRCNN",
    "OneStageDetector",
    "RSANet",
    "RetinaNet",
    "ThunderNet",
    "TwoStageDetector",
    "backbones",
    "draw",
]
