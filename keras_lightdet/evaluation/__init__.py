"""Evaluation of detectors by the rules of COCO and PASCAL VOC, of segmenters and classifiers; callbacks and reports."""

from keras_lightdet.evaluation.callbacks import EvaluateClassifier, EvaluateDetector, EvaluateSegmenter, KeepBestWeights
from keras_lightdet.evaluation.classification import ClassificationClass, ClassificationResult, evaluate_classification
from keras_lightdet.evaluation.coco import evaluate_coco, evaluate_coco_json
from keras_lightdet.evaluation.coco_result import CocoClass, CocoResult
from keras_lightdet.evaluation.curves import PrecisionRecall
from keras_lightdet.evaluation.detection import evaluate_detection, predict_detection
from keras_lightdet.evaluation.report import class_table, plot_precision_recall, result_as_data
from keras_lightdet.evaluation.results import EvaluationResult
from keras_lightdet.evaluation.segmentation import (
    SegmentationClass,
    SegmentationResult,
    evaluate_segmentation,
    predict_segmentation,
)
from keras_lightdet.evaluation.voc import VocClass, VocResult, evaluate_voc

__all__ = [
    "ClassificationClass",
    "ClassificationResult",
    "CocoClass",
    "CocoResult",
    "EvaluateClassifier",
    "EvaluateDetector",
    "EvaluateSegmenter",
    "EvaluationResult",
    "KeepBestWeights",
    "PrecisionRecall",
    "SegmentationClass",
    "SegmentationResult",
    "VocClass",
    "VocResult",
    "class_table",
    "evaluate_classification",
    "evaluate_coco",
    "evaluate_coco_json",
    "evaluate_detection",
    "evaluate_segmentation",
    "evaluate_voc",
    "plot_precision_recall",
    "predict_detection",
    "predict_segmentation",
    "result_as_data",
]
