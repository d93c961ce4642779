"""The detector models: steps, losses, decoding."""

from keras_lightdet.detection.grid_head import GridHead, GridLoss
from keras_lightdet.detection.model import DetectorModel, to_detections
from keras_lightdet.detection.one_stage import OneStageDetector

__all__ = ["DetectorModel", "GridHead", "GridLoss", "OneStageDetector", "to_detections"]
