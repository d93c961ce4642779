"""From a trained detector or segmenter to a checked .tflite, and back to its answers."""

from keras_lightdet.deploy.export import ExportReport, export_tflite
from keras_lightdet.deploy.export_segmenter import SegmenterReport, export_segmenter
from keras_lightdet.deploy.metadata import read_labels
from keras_lightdet.deploy.runtime import TFLiteDetector, TFLiteSegmenter

__all__ = [
    "ExportReport",
    "SegmenterReport",
    "TFLiteDetector",
    "TFLiteSegmenter",
    "export_segmenter",
    "export_tflite",
    "read_labels",
]
