"""Pure functions on boxes: anchors, coding, overlap, matching, selection. Boxes are float32 xyxy pixels."""

from keras_lightdet.boxes.anchors import GridAnchors, PlacedAnchors
from keras_lightdet.boxes.coding import GridCoding
from keras_lightdet.boxes.detections import Detections
from keras_lightdet.boxes.matching import GridMatch, match_grid_anchors
from keras_lightdet.boxes.overlap import box_area, iou, pairwise_intersection, pairwise_iou, shape_iou
from keras_lightdet.boxes.selection import SelectSpec, select_detections

__all__ = [
    "Detections",
    "GridAnchors",
    "GridCoding",
    "GridMatch",
    "PlacedAnchors",
    "SelectSpec",
    "box_area",
    "iou",
    "match_grid_anchors",
    "pairwise_intersection",
    "pairwise_iou",
    "select_detections",
    "shape_iou",
]
