"""Annotated images, detections and masks of `lightdet detect`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
from PIL import Image

from keras_lightdet.cli.loading import Detector, Segmenter, detect_image, segment_image
from keras_lightdet.cli.media import ImageFile, VideoReader, VideoWriter
from keras_lightdet.cli.progress import show_progress
from keras_lightdet.deploy import TFLiteDetector
from keras_lightdet.detection import DetectorModel
from keras_lightdet.detection.detections import DetectionDict
from keras_lightdet.errors import DataError
from keras_lightdet.files import atomic_write
from keras_lightdet.images import read_image
from keras_lightdet.visualization.boxes import draw_detection
from keras_lightdet.visualization.masks import draw_segmentation


class Source(TypedDict, total=False):
    """Origin of an image: a file, or a frame of a video."""

    image: str
    video: str
    frame: int
    seconds: float


class ImageDetections(Source):
    """Entry of `detections.json`."""

    image_id: int
    width: int
    height: int
    detections: list[DetectionDict]


class CocoEntry(TypedDict):
    """Entry of `coco_results.json`; `bbox` is x, y, width and height in pixels."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


class Annotator(Protocol):
    """Runs a model on images one by one and collects the results."""

    def annotate(self, pixels: np.ndarray, source: Source, name: Path) -> Image.Image:
        """Returns the annotated image of `pixels`; `name` is a relative path for further files."""
        ...

    def finish(self) -> None:
        """Writes the results of all images."""
        ...


def make_annotator(model: Detector | Segmenter, folder: Path, score_threshold: float) -> Annotator:
    """Returns the annotator for a model, which writes to `folder`."""
    if isinstance(model, DetectorModel | TFLiteDetector):
        return DetectionAnnotator(model, folder, score_threshold)
    return SegmentationAnnotator(model, folder)


def annotate_images(annotator: Annotator, images: Sequence[ImageFile], folder: Path) -> int:
    """Writes the annotated images; returns the number of unreadable ones, which are named on stderr and skipped."""
    num_failed = 0
    for image in show_progress(images, len(images)):
        try:
            pixels = read_image(image.path)
        except DataError as error:
            print(f"skipped: {error}", file=sys.stderr)
            num_failed += 1
            continue
        path = folder / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        annotator.annotate(pixels, {"image": str(image.path)}, image.name).save(path)
    if images:
        print(f"{len(images) - num_failed} annotated images in {folder}")
    return num_failed


def annotate_video(annotator: Annotator, path: Path, reader: VideoReader, folder: Path) -> None:
    """Writes the annotated frames of a video as an MP4 file."""
    writer = VideoWriter(folder / f"{path.stem}.mp4", reader.fps)
    for number, seconds, pixels in show_progress(reader, reader.num_frames, "frames"):
        source: Source = {"video": str(path), "frame": number, "seconds": round(seconds, 3)}
        name = Path(path.stem) / f"{number:06}.png"
        writer.write(np.asarray(annotator.annotate(pixels, source, name)))
    writer.close()
    print(f"annotated video {writer.path}")


class DetectionAnnotator:
    """Draws detections and collects them for `detections.json` and `coco_results.json`."""

    def __init__(self, detector: Detector, folder: Path, score_threshold: float) -> None:
        self._detector, self._folder, self._score_threshold = detector, folder, score_threshold
        self._entries: list[ImageDetections] = []

    def annotate(self, pixels: np.ndarray, source: Source, name: Path) -> Image.Image:
        """Returns the image with boxes."""
        detections = detect_image(self._detector, pixels, self._score_threshold)
        height, width = pixels.shape[:2]
        self._entries.append(
            {**source, "image_id": 0, "width": width, "height": height, "detections": detections.to_dict()}
        )
        return draw_detection(pixels, detections)

    def finish(self) -> None:
        """Writes the two JSON files."""
        for entry, image_id in zip(self._entries, _image_ids(self._entries), strict=True):
            entry["image_id"] = image_id
        results = [
            _coco_entry(entry["image_id"], detection) for entry in self._entries for detection in entry["detections"]
        ]
        for name, content in (("detections.json", self._entries), ("coco_results.json", results)):
            atomic_write(self._folder / name, json.dumps(content, indent=1) + "\n")
        print(f"{len(results)} detections in {self._folder / 'detections.json'}")


class SegmentationAnnotator:
    """Draws the classes of pixels in color and writes them as masks."""

    def __init__(self, segmenter: Segmenter, folder: Path) -> None:
        self._segmenter, self._folder = segmenter, folder / "masks"

    def annotate(self, pixels: np.ndarray, source: Source, name: Path) -> Image.Image:
        """Writes the mask and returns the image with the classes in color."""
        labels = segment_image(self._segmenter, pixels)
        path = (self._folder / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)
        return draw_segmentation(pixels, labels)

    def finish(self) -> None:
        """Writes the list of classes."""
        lines = [f"{label} {name}\n" for label, name in enumerate(self._segmenter.class_names)]
        atomic_write(self._folder / "labels.txt", "".join(lines))
        print(f"masks in {self._folder}")


def _image_ids(entries: Sequence[ImageDetections]) -> list[int]:
    stems = [Path(entry.get("image", "")).stem for entry in entries]
    if all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return [int(stem) for stem in stems]
    return list(range(1, len(entries) + 1))


def _coco_entry(image_id: int, detection: DetectionDict) -> CocoEntry:
    x_min, y_min, x_max, y_max = detection["box"]
    return {
        "image_id": image_id,
        "category_id": detection["label"] + 1,
        "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
        "score": detection["score"],
    }
