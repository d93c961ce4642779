"""What the training recipes share: settings and flags, data, optimizers, fit with resume, reports and export."""

from keras_lightdet.runs.classification import load_classification_splits, report_classification
from keras_lightdet.runs.detection import (
    DEMO_AUGMENT,
    fit_run_anchor_scale,
    fit_run_anchors,
    load_detection_splits,
    report_detection,
    scratch_augment,
    summarize,
)
from keras_lightdet.runs.fingerprints import fingerprint
from keras_lightdet.runs.fitting import fit, load_initial_weights, run_config, standard_callbacks
from keras_lightdet.runs.optimizers import adam_from_scratch, ema, sgd_with_l2
from keras_lightdet.runs.public_data import (
    CAMVID,
    CITYSCAPES,
    PublicData,
    fetch_coco,
    fetch_imagenet,
    fetch_voc,
)
from keras_lightdet.runs.reporting import export_and_check, report_scores
from keras_lightdet.runs.segmentation import (
    DEMO_SEGMENTATION_AUGMENT,
    load_segmentation_splits,
    report_segmentation,
)
from keras_lightdet.runs.session import report_errors, start
from keras_lightdet.runs.settings import (
    ClassificationSettings,
    RunSettings,
    SegmentationSettings,
    flag,
    parse_settings,
)

__all__ = [
    "CAMVID",
    "CITYSCAPES",
    "ClassificationSettings",
    "DEMO_AUGMENT",
    "DEMO_SEGMENTATION_AUGMENT",
    "PublicData",
    "RunSettings",
    "SegmentationSettings",
    "adam_from_scratch",
    "ema",
    "export_and_check",
    "fetch_coco",
    "fetch_imagenet",
    "fetch_voc",
    "fingerprint",
    "fit",
    "fit_run_anchor_scale",
    "fit_run_anchors",
    "flag",
    "load_classification_splits",
    "load_detection_splits",
    "load_initial_weights",
    "load_segmentation_splits",
    "parse_settings",
    "report_classification",
    "report_detection",
    "report_errors",
    "report_scores",
    "report_segmentation",
    "run_config",
    "scratch_augment",
    "sgd_with_l2",
    "standard_callbacks",
    "start",
    "summarize",
]
