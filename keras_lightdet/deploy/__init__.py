"""From a trained detector or segmenter to a checked .tflite, and back to its answers."""

from keras_lightdet.deploy.export_detection import ExportReport, export_detection
from keras_lightdet.deploy.export_segmentation import SegmenterReport, export_segmentation
from keras_lightdet.deploy.metadata import read_labels
from keras_lightdet.deploy.runtime import TFLiteDetector, TFLiteSegmenter

__all__ = [
    "ExportReport",
    "SegmenterReport",
    "TFLiteDetector",
    "TFLiteSegmenter",
    "export_segmentation",
    "export_detection",
    "read_labels",
]
