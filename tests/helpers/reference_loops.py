"""IoU and NMS as loops: references for the package's own implementations."""

import numpy as np


def iou(a, b):
    """Returns the IoU of two boxes, xyxy; 0 where neither has an area."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / max(sum(area) - width * height, 1e-9)


def nms_by_loops(boxes, scores, select):
    """Applies NMS per class; returns rows of box, score, label, best first."""
    rows = [
        (*boxes[i], scores[i, k], k)
        for i in range(len(boxes))
        for k in range(scores.shape[1])
        if scores[i, k] > select.score_threshold and np.all(boxes[i, 2:] > boxes[i, :2])
    ]
    kept = []
    for row in sorted(rows, key=lambda row: -row[4]):
        if all(row[5] != other[5] or iou(row, other) <= select.iou_threshold for other in kept):
            kept.append(row)
    return np.array(kept[: select.max_detections])
