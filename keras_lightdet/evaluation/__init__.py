"""Scores of detectors by the rules of COCO and PASCAL VOC, and what is made of them."""

from keras_lightdet.evaluation.callbacks import EvaluateClassifier, EvaluateDetector, EvaluateSegmenter, KeepBestWeights
from keras_lightdet.evaluation.coco import evaluate_coco, evaluate_coco_json
from keras_lightdet.evaluation.coco_result import CocoClass, CocoResult
from keras_lightdet.evaluation.curves import PrecisionRecall
from keras_lightdet.evaluation.grid import draw_grid, save_label_grid, save_prediction_grid
from keras_lightdet.evaluation.prediction import predict_data
from keras_lightdet.evaluation.report import class_table, plot_precision_recall, result_as_data
from keras_lightdet.evaluation.segmentation import SegmentationResult, evaluate_segmenter, predict_labels
from keras_lightdet.evaluation.voc import VocClass, VocResult, evaluate_voc

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
    "draw_grid",
    "evaluate_coco",
    "evaluate_coco_json",
    "evaluate_segmenter",
    "evaluate_voc",
    "plot_precision_recall",
    "predict_data",
    "predict_labels",
    "result_as_data",
    "save_label_grid",
    "save_prediction_grid",
]
