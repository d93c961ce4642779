"""Pure functions on boxes, which are float32 xyxy pixels: anchors, coding, overlap, matching, sampling, selection."""

from keras_lightdet.boxes.anchors import AnchorGrid, GridAnchors, PyramidAnchors
from keras_lightdet.boxes.assignment import (
    BACKGROUND,
    UNDECIDED,
    GridAssigner,
    IoUAssigner,
    assign_anchors,
    assign_grid_anchors,
)
from keras_lightdet.boxes.coding import DeltaCoding, GridCoding
from keras_lightdet.boxes.nms import SelectSpec, select_detections
from keras_lightdet.boxes.overlap import box_area, iou, pairwise_intersection, pairwise_iou, shape_iou
from keras_lightdet.boxes.proposals import ProposalSpec, add_ground_truth_boxes, propose
from keras_lightdet.boxes.sampling import OhemSpec, SampleSpec, ohem_mask, random_keys, sample_assignments

__all__ = [
    "BACKGROUND",
    "UNDECIDED",
    "DeltaCoding",
    "GridAnchors",
    "GridCoding",
    "GridAssigner",
    "OhemSpec",
    "IoUAssigner",
    "AnchorGrid",
    "ProposalSpec",
    "PyramidAnchors",
    "SampleSpec",
    "SelectSpec",
    "add_ground_truth_boxes",
    "box_area",
    "ohem_mask",
    "iou",
    "assign_anchors",
    "assign_grid_anchors",
    "pairwise_intersection",
    "pairwise_iou",
    "propose",
    "random_keys",
    "sample_assignments",
    "select_detections",
    "shape_iou",
]
