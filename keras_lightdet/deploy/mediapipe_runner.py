"""The program that runs a .tflite in MediaPipe; `mediapipe_check` starts it in a process of its own.

It imports nothing of this package: MediaPipe can die or hang on a file it does not like, and must not take
the caller along, nor wait for TensorFlow to load.

    python mediapipe_runner.py detect model.tflite images.npz answer.json
    python mediapipe_runner.py segment model.tflite images.npz answer.npz
"""

import json
import sys


def detect(model_path: str, images_path: str, answer_path: str) -> None:
    """Writes, per image of the .npz, the boxes (xywh pixels), scores and label names that ObjectDetector finds."""
    import mediapipe
    import numpy as np
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ObjectDetectorOptions(
        base_options=BaseOptions(model_asset_path=model_path), running_mode=vision.RunningMode.IMAGE
    )
    detector = vision.ObjectDetector.create_from_options(options)
    answer = []
    with np.load(images_path, allow_pickle=False) as pictures:
        for name in pictures.files:
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pictures[name])
            answer.append([one for found in detector.detect(image).detections for one in _plain(found)])
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file)


def segment(model_path: str, images_path: str, answer_path: str) -> None:
    """Writes, per image of the .npz, ImageSegmenter's category mask, uint8, and last the labels that it read."""
    import mediapipe
    import numpy as np
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=model_path),
        running_mode=vision.RunningMode.IMAGE,
        output_category_mask=True,
        output_confidence_masks=False,
    )
    segmenter = vision.ImageSegmenter.create_from_options(options)
    with np.load(images_path, allow_pickle=False) as pictures:
        images = [
            mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pictures[key]) for key in pictures.files
        ]
    masks = [np.squeeze(segmenter.segment(image).category_mask.numpy_view()).copy() for image in images]
    np.savez(answer_path, *masks, np.array(segmenter.labels))


def _plain(detection) -> list[dict]:
    """One entry for each category: MediaPipe joins detections of several classes that have the same box."""
    box = detection.bounding_box
    corner_and_size = [box.origin_x, box.origin_y, box.width, box.height]
    return [
        {"box": corner_and_size, "score": category.score, "name": category.category_name}
        for category in detection.categories
    ]


if __name__ == "__main__":
    {"detect": detect, "segment": segment}[sys.argv[1]](*sys.argv[2:])
