"""Small, fast object detectors and segmenters in Keras, trained on your own images and exported to TFLite."""

from keras_lightdet import backbones
from keras_lightdet.detection import Detections, DetectorModel, OneStageDetector, TwoStageDetector
from keras_lightdet.models import (
    BiSeNet,
    DFANet,
    EfficientDet,
    FasterRCNN,
    LightHeadRCNN,
    RetinaNet,
    RSANet,
    ThunderNet,
)
from keras_lightdet.segmentation import SegmentationModel
from keras_lightdet.visualization.boxes import draw

__version__ = "0.1.0"

__all__ = [
    "BiSeNet",
    "DFANet",
    "DetectorModel",
    "Detections",
    "EfficientDet",
    "FasterRCNN",
    "LightHeadRCNN",
    "OneStageDetector",
    "RSANet",
    "RetinaNet",
    "SegmentationModel",
    "ThunderNet",
    "TwoStageDetector",
    "backbones",
    "draw",
]
