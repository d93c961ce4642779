"""Segmenter models: train and predict steps, loss, labels of pixels."""

from keras_lightdet.segmentation.loss import SegmentationLoss, pixel_loss
from keras_lightdet.segmentation.model import SegmentationModel, predict_pixels

__all__ = ["SegmentationLoss", "SegmentationModel", "pixel_loss", "predict_pixels"]
