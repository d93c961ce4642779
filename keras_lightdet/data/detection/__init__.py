"""Images with labeled boxes."""

from keras_lightdet.data.detection.anchor_fit import AnchorFit, fit_anchor_scale, fit_anchors
from keras_lightdet.data.detection.batches import (
    detection_eval_batches,
    detection_train_batches,
    eval_batches,
    steps_per_epoch,
    train_batches,
)
from keras_lightdet.data.detection.coco import load_coco
from keras_lightdet.data.detection.loading import default_splits, load_data, load_detection
from keras_lightdet.data.detection.records import DetectionData, ImageRecord, join_data
from keras_lightdet.data.detection.tfds import load_tfds
from keras_lightdet.data.detection.voc import load_voc

__all__ = [
    "AnchorFit",
    "DetectionData",
    "ImageRecord",
    "default_splits",
    "detection_eval_batches",
    "detection_train_batches",
    "eval_batches",
    "fit_anchor_scale",
    "fit_anchors",
    "join_data",
    "load_coco",
    "load_data",
    "load_detection",
    "load_tfds",
    "load_voc",
    "steps_per_epoch",
    "train_batches",
]
