"""What the real MediaPipe runtime makes of a .tflite, in a process of its own with a time limit."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_lightdet.deploy import mediapipe_runner
from keras_lightdet.deploy.metadata import read_labels
from keras_lightdet.detection.detections import Detections
from keras_lightdet.errors import ExportError

TIME_LIMIT = 120.0  # seconds; MediaPipe hangs on some faults instead of failing
BOX_TOLERANCE = 2.0  # pixels: MediaPipe resizes the image by its own code
_KEPT_ERROR = 600  # characters


@dataclass(frozen=True)
class Difference:
    """How one image's detections differ between two runtimes.

    Attributes:
        compared: Detections of the first.
        missing: Of these, how many the second lacks: same label, corners within the tolerance.
        max_distance: Largest distance of corners, pixels, among those found on both sides.
    """

    compared: int
    missing: int
    max_distance: float


def detect_with_mediapipe(
    path: str | Path, images: Sequence[np.ndarray], *, time_limit: float = TIME_LIMIT
) -> list[Detections]:
    """Runs a .tflite in `mediapipe.tasks.vision.ObjectDetector`.

    Args:
        path: A file with metadata.
        images: Uint8 `[H, W, 3]` RGB images of any size.
        time_limit: Seconds for all of it.

    Returns:
        Detections in pixels of each image.

    Raises:
        ExportError: MediaPipe refuses the file, dies, or takes longer.
    """
    class_names = read_labels(path)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        _run("detect", path, images, answer, time_limit)
        found = json.loads(answer.read_text(encoding="utf-8"))
    return [_to_detections(one, class_names) for one in found]


def segment_with_mediapipe(
    path: str | Path, images: Sequence[np.ndarray], *, time_limit: float = TIME_LIMIT
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Runs a .tflite in `mediapipe.tasks.vision.ImageSegmenter`.

    Args:
        path: A file with metadata.
        images: Uint8 `[H, W, 3]` RGB images of any size.
        time_limit: Seconds for all of it.

    Returns:
        The category mask of each image, uint8 `[H, W]`, and the labels that MediaPipe read from the file.

    Raises:
        ExportError: MediaPipe refuses the file, dies, or takes longer.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.npz"
        _run("segment", path, images, answer, time_limit)
        with np.load(answer, allow_pickle=False) as found:
            *masks, labels = (found[name] for name in found.files)
    return masks, tuple(labels.tolist())


def _run(task: str, path: str | Path, images: Sequence[np.ndarray], answer: Path, time_limit: float) -> None:
    """Has `mediapipe_runner` write `answer`."""
    pictures = answer.with_name("images.npz")
    np.savez(pictures, *images)  # arr_0, arr_1, ..
    command = [sys.executable, mediapipe_runner.__file__, task, str(path), str(pictures), str(answer)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=time_limit, check=False)
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"Expected MediaPipe to answer for {str(path)!r} within {time_limit} s, it did not. "
            "Do check the file's metadata, or raise the limit."
        ) from None
    if done.returncode or not answer.exists():
        raise ExportError(
            f"Expected MediaPipe to run {str(path)!r}, got exit status {done.returncode}: "
            f"...{done.stderr.strip()[-_KEPT_ERROR:]} Do check that mediapipe is installed and the file "
            "whole."
        )


def in_whole_pixels(found: Detections) -> Detections:
    """Cuts corner and size to whole pixels, as MediaPipe does."""
    corner, size = np.floor(found.boxes[:, :2]), np.floor(found.boxes[:, 2:] - found.boxes[:, :2])
    boxes = np.concatenate([corner, corner + size], axis=-1)
    return Detections(boxes, found.scores, found.labels, found.class_names)


def compare_detections(expected: Detections, got: Detections, *, box_tolerance: float = BOX_TOLERANCE) -> Difference:
    """Looks for each expected detection among those of another runtime; each of these serves once."""
    free = list(range(len(got)))
    distances = []
    for box, label in zip(expected.boxes, expected.labels, strict=True):
        near = {k: float(np.abs(got.boxes[k] - box).max()) for k in free if got.labels[k] == label}
        best = min(near, key=near.get, default=None)
        if best is not None and near[best] <= box_tolerance:
            free.remove(best)
            distances.append(near[best])
    return Difference(len(expected), len(expected) - len(distances), max(distances, default=0.0))


def _to_detections(found: list[dict], class_names: tuple[str, ...]) -> Detections:
    boxes = np.array([one["box"] for one in found], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([class_names.index(one["name"]) for one in found], np.int32)
    return Detections(boxes, np.array([one["score"] for one in found], np.float32), labels, class_names)
