"""Scores of detectors by the rules of COCO and PASCAL VOC, and what is made of them."""

from keras_lightdet.evaluation.callbacks import EvaluateClassifier, EvaluateDetector, EvaluateSegmenter, KeepBestWeights
from keras_lightdet.evaluation.coco import evaluate_coco, evaluate_coco_json
from keras_lightdet.evaluation.coco_result import CocoClass, CocoResult
from keras_lightdet.evaluation.curves import PrecisionRecall
from keras_lightdet.evaluation.prediction import predict_detection
from keras_lightdet.evaluation.report import class_table, plot_precision_recall, result_as_data
from keras_lightdet.evaluation.segmentation import SegmentationResult, evaluate_segmentation, predict_segmentation
from keras_lightdet.evaluation.voc import VocClass, VocResult, evaluate_voc
from keras_lightdet.visualization.predictions import draw_detection_grid, save_detection_grid, save_segmentation_grid

__all__ = [
    "CocoClass",
    "CocoResult",
    "EvaluateClassifier",
    "EvaluateDetector",
    "EvaluateSegmenter",
    "KeepBestWeights",
    "PrecisionRecall",
    "SegmentationResult",
    "VocClass",
    "VocResult",
    "class_table",
    "draw_detection_grid",
    "evaluate_coco",
    "evaluate_coco_json",
    "evaluate_segmentation",
    "evaluate_voc",
    "plot_precision_recall",
    "predict_detection",
    "predict_segmentation",
    "result_as_data",
    "save_segmentation_grid",
    "save_detection_grid",
]
