"""From a trained detector to a checked .tflite, and back to detections."""

from keras_lightdet.deploy.export import ExportReport, export_tflite
from keras_lightdet.deploy.metadata import read_labels
from keras_lightdet.deploy.runtime import TFLiteDetector

__all__ = ["ExportReport", "TFLiteDetector", "export_tflite", "read_labels"]
