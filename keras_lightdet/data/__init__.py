"""Labeled images, read from any source into one form per task, and the batches made of them."""

from keras_lightdet.data.augmentation.spec import AugmentSpec, SegmentationAugmentSpec
from keras_lightdet.data.classification.batches import classification_eval_batches, classification_train_batches
from keras_lightdet.data.classification.loading import (
    ClassificationData,
    ClassificationRecord,
    extract_imagenet,
    load_classification,
)
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
from keras_lightdet.data.issues import DataIssue, DecodeFailures
from keras_lightdet.data.segmentation.batches import segmentation_train_batches
from keras_lightdet.data.segmentation.inspection import LabelReport, inspect_labels
from keras_lightdet.data.segmentation.label_table import LabelTable, read_label_list
from keras_lightdet.data.segmentation.loading import load_segmentation, segmentation_splits
from keras_lightdet.data.segmentation.records import SegmentationData, SegmentationRecord
from keras_lightdet.data.synthetic_scenes import (
    SceneSpec,
    draw_classification_scenes,
    draw_detection_scenes,
    draw_scenes,
    draw_segmentation_scenes,
)

__all__ = [
    "AnchorFit",
    "AugmentSpec",
    "ClassificationData",
    "ClassificationRecord",
    "DataIssue",
    "DecodeFailures",
    "DetectionData",
    "ImageRecord",
    "LabelReport",
    "LabelTable",
    "SceneSpec",
    "SegmentationAugmentSpec",
    "SegmentationData",
    "SegmentationRecord",
    "classification_eval_batches",
    "classification_train_batches",
    "default_splits",
    "detection_eval_batches",
    "detection_train_batches",
    "draw_classification_scenes",
    "draw_detection_scenes",
    "draw_scenes",
    "draw_segmentation_scenes",
    "eval_batches",
    "extract_imagenet",
    "fit_anchor_scale",
    "fit_anchors",
    "inspect_labels",
    "join_data",
    "load_classification",
    "load_coco",
    "load_data",
    "load_detection",
    "load_segmentation",
    "load_tfds",
    "load_voc",
    "read_label_list",
    "segmentation_splits",
    "segmentation_train_batches",
    "steps_per_epoch",
    "train_batches",
]
