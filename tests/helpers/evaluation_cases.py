"""Short forms of records and detections for the tests of evaluation."""

import numpy as np

from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.detection.detections import Detections


def record(boxes, labels, *, ignore=None, areas=None, image_id=1, width=320, height=240, path="a.jpg"):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    sizes = boxes[:, 2:] - boxes[:, :2]
    return ImageRecord(
        path,
        image_id,
        width,
        height,
        boxes,
        np.asarray(labels, np.int32),
        np.zeros(len(boxes), bool) if ignore is None else np.asarray(ignore, bool),
        np.asarray(sizes.prod(axis=1) if areas is None else areas, np.float32),
    )


def detections_of(boxes, scores, labels, class_names=()):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.asarray(scores, np.float32), np.asarray(labels, np.int32), class_names)


def detection_data(records, class_names, category_ids=()):
    return DetectionData(tuple(records), tuple(class_names), (), category_ids)
