"""The detector models: steps, losses, decoding."""

from keras_lightdet.detection.anchor_head import AnchorHead, AnchorLoss
from keras_lightdet.detection.grid_head import GridHead, GridLoss
from keras_lightdet.detection.model import DetectorModel, to_detections
from keras_lightdet.detection.one_stage import OneStageDetector
from keras_lightdet.detection.proposal_head import ProposalHead
from keras_lightdet.detection.region_head import RegionHead
from keras_lightdet.detection.two_stage import TwoStageDetector

__all__ = [
    "AnchorHead",
    "AnchorLoss",
    "DetectorModel",
    "GridHead",
    "GridLoss",
    "OneStageDetector",
    "ProposalHead",
    "RegionHead",
    "TwoStageDetector",
    "to_detections",
]
