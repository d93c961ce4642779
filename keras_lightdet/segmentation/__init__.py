"""The segmenter model: steps, loss, answers."""

from keras_lightdet.segmentation.loss import SegmentationLoss, pixel_loss
from keras_lightdet.segmentation.model import SegmentationModel, predict_pixels

__all__ = ["SegmentationLoss", "SegmentationModel", "pixel_loss", "predict_pixels"]
