"""Detector models: train and predict steps, objectives (decode and loss), detections."""

from keras_lightdet.detection.anchor_objective import AnchorLoss, AnchorObjective
from keras_lightdet.detection.detections import Detection, Detections
from keras_lightdet.detection.grid_objective import GridLoss, GridObjective
from keras_lightdet.detection.model import DetectorModel, to_detections
from keras_lightdet.detection.one_stage import OneStageDetector
from keras_lightdet.detection.proposal_objective import ProposalObjective
from keras_lightdet.detection.region_objective import RegionObjective
from keras_lightdet.detection.two_stage import TwoStageDetector

__all__ = [
    "AnchorLoss",
    "AnchorObjective",
    "Detection",
    "Detections",
    "DetectorModel",
    "GridLoss",
    "GridObjective",
    "OneStageDetector",
    "ProposalObjective",
    "RegionObjective",
    "TwoStageDetector",
    "to_detections",
]
