"""The program that runs a .tflite in MediaPipe; `mediapipe_check` starts it in a separate process.

It imports nothing of this package: MediaPipe can crash or block on an invalid file, which must not affect the caller,
and does not need to wait for TensorFlow to load.

    python mediapipe_runner.py detect model.tflite images.npz results.json
    python mediapipe_runner.py segment model.tflite images.npz results.npz
"""

import json
import sys
from typing import Any

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision


def detect(model_path: str, images_path: str, results_path: str) -> None:
    """Writes the detections of ObjectDetector as JSON, a list of entries for each image of the .npz."""
    options = vision.ObjectDetectorOptions(
        base_options=BaseOptions(model_asset_path=model_path), running_mode=vision.RunningMode.IMAGE
    )
    detector = vision.ObjectDetector.create_from_options(options)
    results = []
    with np.load(images_path, allow_pickle=False) as arrays:
        for name in arrays.files:
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=arrays[name])
            results.append([entry for detection in detector.detect(image).detections for entry in _entries(detection)])
    with open(results_path, "w", encoding="utf-8") as file:
        json.dump(results, file)


def segment(model_path: str, images_path: str, results_path: str) -> None:
    """Writes the category mask of ImageSegmenter, uint8, for each image of the .npz, and last the class names."""
    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=model_path),
        running_mode=vision.RunningMode.IMAGE,
        output_category_mask=True,
        output_confidence_masks=False,
    )
    segmenter = vision.ImageSegmenter.create_from_options(options)
    with np.load(images_path, allow_pickle=False) as arrays:
        images = [mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=arrays[name]) for name in arrays.files]
    masks = [np.squeeze(segmenter.segment(image).category_mask.numpy_view()).copy() for image in images]
    np.savez(results_path, *masks, np.array(segmenter.labels))


def _entries(detection: Any) -> list[dict[str, Any]]:
    """Returns one entry for each category: MediaPipe joins detections of several classes that have the same box.

    The box is x, y, width and height in pixels.
    """
    box = detection.bounding_box
    return [
        {
            "box": [box.origin_x, box.origin_y, box.width, box.height],
            "score": category.score,
            "name": category.category_name,
        }
        for category in detection.categories
    ]


if __name__ == "__main__":
    {"detect": detect, "segment": segment}[sys.argv[1]](*sys.argv[2:])
