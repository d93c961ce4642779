"""Images with a label for each pixel."""

from keras_lightdet.data.segmentation.batches import segmentation_train_batches
from keras_lightdet.data.segmentation.inspection import LabelReport, inspect_labels
from keras_lightdet.data.segmentation.label_table import LabelTable, read_label_list
from keras_lightdet.data.segmentation.loading import load_segmentation, segmentation_splits
from keras_lightdet.data.segmentation.records import SegmentationData, SegmentationRecord

__all__ = [
    "LabelReport",
    "LabelTable",
    "SegmentationData",
    "SegmentationRecord",
    "inspect_labels",
    "load_segmentation",
    "read_label_list",
    "segmentation_splits",
    "segmentation_train_batches",
]
