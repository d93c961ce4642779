"""Draws images with boxes, label maps, training batches and predictions."""

from keras_lightdet.visualization.batches import draw_detection_batch, draw_segmentation_batch
from keras_lightdet.visualization.boxes import draw, draw_detection
from keras_lightdet.visualization.masks import draw_segmentation
from keras_lightdet.visualization.predictions import draw_detection_grid, save_detection_grid, save_segmentation_grid

__all__ = [
    "draw",
    "draw_detection",
    "draw_detection_batch",
    "draw_detection_grid",
    "draw_segmentation",
    "draw_segmentation_batch",
    "save_detection_grid",
    "save_segmentation_grid",
]
