"""Exports trained detectors and segmenters to verified .tflite files, and runs such files."""

from keras_lightdet.deploy.export_detection import ExportReport, export_detection
from keras_lightdet.deploy.export_segmentation import SegmenterReport, export_segmentation
from keras_lightdet.deploy.metadata import read_labels
from keras_lightdet.deploy.runtime import TFLiteDetector, TFLiteSegmenter

__all__ = [
    "ExportReport",
    "SegmenterReport",
    "TFLiteDetector",
    "TFLiteSegmenter",
    "export_detection",
    "export_segmentation",
    "read_labels",
]
