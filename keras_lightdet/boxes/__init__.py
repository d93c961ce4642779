"""Pure functions on boxes (float32 xyxy pixels): anchors, coding, IoU, label assignment, sampling and NMS."""

from keras_lightdet.boxes.anchors import AnchorGrid, GridAnchors, PyramidAnchors
from keras_lightdet.boxes.assignment import (
    BACKGROUND,
    IGNORED,
    GridAssigner,
    IoUAssigner,
    assign_anchors,
    assign_grid_anchors,
)
from keras_lightdet.boxes.coding import DeltaCoding, GridCoding
from keras_lightdet.boxes.nms import SelectedDetections, SelectSpec, select_detections
from keras_lightdet.boxes.overlap import box_area, iou, pairwise_intersection, pairwise_iou, shape_iou
from keras_lightdet.boxes.proposals import Proposals, ProposalSpec, Regions, add_ground_truth_boxes, propose
from keras_lightdet.boxes.sampling import OhemSpec, Sample, SampleSpec, ohem_mask, random_keys, sample_assignments

__all__ = [
    "BACKGROUND",
    "IGNORED",
    "AnchorGrid",
    "DeltaCoding",
    "GridAnchors",
    "GridAssigner",
    "GridCoding",
    "IoUAssigner",
    "OhemSpec",
    "ProposalSpec",
    "Proposals",
    "PyramidAnchors",
    "Regions",
    "Sample",
    "SampleSpec",
    "SelectSpec",
    "SelectedDetections",
    "add_ground_truth_boxes",
    "assign_anchors",
    "assign_grid_anchors",
    "box_area",
    "iou",
    "ohem_mask",
    "pairwise_intersection",
    "pairwise_iou",
    "propose",
    "random_keys",
    "sample_assignments",
    "select_detections",
    "shape_iou",
]
