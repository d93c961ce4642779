"""Pure functions on boxes, which are float32 xyxy pixels: anchors, coding, overlap, matching, sampling, selection."""

from keras_lightdet.boxes.anchors import GridAnchors, PlacedAnchors, PyramidAnchors
from keras_lightdet.boxes.coding import DeltaCoding, GridCoding
from keras_lightdet.boxes.detections import Detections
from keras_lightdet.boxes.matching import BACKGROUND, UNDECIDED, GridMatch, IoUMatch, match_boxes, match_grid_anchors
from keras_lightdet.boxes.overlap import box_area, iou, pairwise_intersection, pairwise_iou, shape_iou
from keras_lightdet.boxes.proposals import ProposalSpec, append_true_boxes, propose
from keras_lightdet.boxes.sampling import HardSpec, SampleSpec, hardest_mask, random_keys, sample_matches
from keras_lightdet.boxes.selection import SelectSpec, select_detections

__all__ = [
    "BACKGROUND",
    "UNDECIDED",
    "DeltaCoding",
    "Detections",
    "GridAnchors",
    "GridCoding",
    "GridMatch",
    "HardSpec",
    "IoUMatch",
    "PlacedAnchors",
    "ProposalSpec",
    "PyramidAnchors",
    "SampleSpec",
    "SelectSpec",
    "append_true_boxes",
    "box_area",
    "hardest_mask",
    "iou",
    "match_boxes",
    "match_grid_anchors",
    "pairwise_intersection",
    "pairwise_iou",
    "propose",
    "random_keys",
    "sample_matches",
    "select_detections",
    "shape_iou",
]
