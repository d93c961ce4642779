"""Seconds and memory of the evaluators on a synthetic data set of the size of COCO val2017.

`python tests/benchmarks/evaluation_speed.py [images] [classes] [detections per image]`
"""

import resource
import sys
import time

import numpy as np

from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.detection.detections import Detections
from keras_lightdet.evaluation import evaluate_coco, evaluate_voc

SIDE = 640
OBJECTS_PER_IMAGE = 7  # 36,335 objects in the 5,000 images of val2017


def corners(generator: np.random.Generator, count: int) -> np.ndarray:
    """Returns `count` random boxes in an image."""
    low = generator.uniform(0, 0.8 * SIDE, (count, 2))
    return np.concatenate([low, low + generator.uniform(8, 0.2 * SIDE, (count, 2))], axis=1).astype(np.float32)


def synthetic(images: int, classes: int, found: int) -> tuple[DetectionData, list[Detections]]:
    """Makes truth, and detections half of which are moved objects and half of which are noise."""
    generator = np.random.default_rng(0)
    records, detections = [], []
    for image_id in range(1, images + 1):
        count = generator.poisson(OBJECTS_PER_IMAGE)
        boxes, labels = corners(generator, count), generator.integers(0, classes, count).astype(np.int32)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        records.append(
            ImageRecord(f"{image_id}.jpg", image_id, SIDE, SIDE, boxes, labels, generator.random(count) < 0.01, areas)
        )
        hits = min(count, found // 2)
        moved = np.sort((boxes[:hits] + generator.normal(0, 4, (hits, 4))).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        noise = found - hits
        detections.append(
            Detections(
                np.concatenate([moved, corners(generator, noise)]).astype(np.float32),
                generator.random(found).astype(np.float32),
                np.concatenate([labels[:hits], generator.integers(0, classes, noise)]).astype(np.int32),
            )
        )
    return DetectionData(tuple(records), tuple(f"class {i}" for i in range(classes))), detections


def peak_megabytes() -> float:
    """Returns the most memory this process has held (kilobytes on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(images: int = 5000, classes: int = 80, found: int = 100) -> None:
    """Measures each evaluator, the lighter one first as the peak only rises."""
    data, detections = synthetic(images, classes, found)
    print(f"{images} images, {classes} classes, {found} detections each; {peak_megabytes():.0f} MB to begin with")
    for name, evaluate in [("evaluate_voc", evaluate_voc), ("evaluate_coco", evaluate_coco)]:
        start = time.perf_counter()
        result = evaluate(data, detections)
        seconds = time.perf_counter() - start
        figure = next(iter(result.figures().items()))
        print(f"{name}: {seconds:.1f} s, peak {peak_megabytes():.0f} MB, {figure[0]} {figure[1]:.4f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
