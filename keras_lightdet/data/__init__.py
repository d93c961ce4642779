"""Labelled pictures, read from any source into one form, and the batches made of them."""

from keras_lightdet.data.anchor_fit import AnchorFit, fit_anchor_scale, fit_anchors
from keras_lightdet.data.augmentation import AugmentSpec
from keras_lightdet.data.class_batches import class_test_batches, class_train_batches
from keras_lightdet.data.class_folders import ClassData, draw_class_folders, extract_imagenet, load_class_folders
from keras_lightdet.data.coco import load_coco
from keras_lightdet.data.label_inspection import LabelReport, inspect_labels
from keras_lightdet.data.label_table import LabelTable, read_label_list
from keras_lightdet.data.loading import default_splits, load_data
from keras_lightdet.data.picture_reader import DecodeFailures
from keras_lightdet.data.pipeline import eval_batches, steps_per_epoch, train_batches
from keras_lightdet.data.records import DataIssue, DetectionData, ImageRecord, join_data
from keras_lightdet.data.scenes import SceneSpec, draw_label_scenes, draw_scenes
from keras_lightdet.data.segmentation_batches import SegmentAugmentSpec, segment_train_batches
from keras_lightdet.data.segmentation_data import (
    SegmentationData,
    SegmentationRecord,
    load_segmentation,
    segmentation_splits,
)
from keras_lightdet.data.tfds import load_tfds
from keras_lightdet.data.voc import load_voc

__all__ = [
    "AnchorFit",
    "AugmentSpec",
    "ClassData",
    "DataIssue",
    "DecodeFailures",
    "DetectionData",
    "ImageRecord",
    "LabelReport",
    "LabelTable",
    "SceneSpec",
    "SegmentAugmentSpec",
    "SegmentationData",
    "SegmentationRecord",
    "class_test_batches",
    "class_train_batches",
    "default_splits",
    "draw_class_folders",
    "draw_label_scenes",
    "draw_scenes",
    "eval_batches",
    "extract_imagenet",
    "fit_anchor_scale",
    "fit_anchors",
    "inspect_labels",
    "join_data",
    "load_class_folders",
    "load_coco",
    "load_data",
    "load_segmentation",
    "load_tfds",
    "load_voc",
    "read_label_list",
    "segment_train_batches",
    "segmentation_splits",
    "steps_per_epoch",
    "train_batches",
]
