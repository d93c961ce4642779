"""Annotated images, detections and masks of `lightdet detect`."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from keras_lightdet.cli.inference import detect_image, segment_image
from keras_lightdet.cli.loading import Detector, Segmenter
from keras_lightdet.cli.media import InputFile, VideoReader, write_video
from keras_lightdet.cli.progress import show_progress
from keras_lightdet.deploy import TFLiteDetector
from keras_lightdet.detection import Detections, DetectorModel
from keras_lightdet.errors import DataError
from keras_lightdet.files import atomic_write
from keras_lightdet.images import read_image
from keras_lightdet.visualization.boxes import draw_detection
from keras_lightdet.visualization.masks import draw_segmentation

# {"image": file}, or {"video": file, "frame": number, "seconds": time}
Source: TypeAlias = dict[str, str | int | float]


class DetectionAnnotator:
    """Draws detections and collects them for `detections.json` and `coco_results.json`."""

    def __init__(self, detector: Detector, folder: Path, score_threshold: float) -> None:
        self._detector, self._folder, self._score_threshold = detector, folder, score_threshold
        self._results: list[tuple[Source, tuple[int, ...], Detections]] = []

    def annotate(self, pixels: np.ndarray, source: Source, name: Path) -> Image.Image:
        """Returns the image with boxes."""
        detections = detect_image(self._detector, pixels, self._score_threshold)
        self._results.append((source, pixels.shape, detections))
        return draw_detection(pixels, detections)

    def finish(self) -> None:
        """Writes the two JSON files."""
        entries, coco_entries = [], []
        image_ids = _image_ids([str(source.get("image", "")) for source, _, _ in self._results])
        for image_id, (source, (height, width, _), detections) in zip(image_ids, self._results, strict=True):
            size = {"width": width, "height": height}
            entries.append({**source, "image_id": image_id, **size, "detections": detections.to_dict()})
            for detection in detections:
                x_min, y_min, x_max, y_max = detection.box
                box = {"bbox": [x_min, y_min, x_max - x_min, y_max - y_min], "score": detection.score}
                coco_entries.append({"image_id": image_id, "category_id": detection.label + 1, **box})
        self._folder.mkdir(parents=True, exist_ok=True)
        for file_name, content in (("detections.json", entries), ("coco_results.json", coco_entries)):
            atomic_write(self._folder / file_name, json.dumps(content, indent=1) + "\n")
        print(f"{len(coco_entries)} detections in {self._folder / 'detections.json'}")


class SegmentationAnnotator:
    """Draws the classes of pixels in color and writes them as masks."""

    def __init__(self, segmenter: Segmenter, folder: Path) -> None:
        self._segmenter, self._folder = segmenter, folder / "masks"

    def annotate(self, pixels: np.ndarray, source: Source, name: Path) -> Image.Image:
        """Writes the mask to a path like `name` and returns the image with the classes in color."""
        labels = segment_image(self._segmenter, pixels)
        path = (self._folder / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)
        return draw_segmentation(pixels, labels)

    def finish(self) -> None:
        """Writes the list of classes."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{label} {name}\n" for label, name in enumerate(self._segmenter.class_names)]
        atomic_write(self._folder / "labels.txt", "".join(lines))
        print(f"masks in {self._folder}")


Annotator: TypeAlias = DetectionAnnotator | SegmentationAnnotator


def make_annotator(model: Detector | Segmenter, folder: Path, score_threshold: float) -> Annotator:
    """Returns the annotator for a model, which writes to `folder`."""
    if isinstance(model, DetectorModel | TFLiteDetector):
        return DetectionAnnotator(model, folder, score_threshold)
    return SegmentationAnnotator(model, folder)


def annotate_images(annotator: Annotator, images: Sequence[InputFile], folder: Path) -> int:
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


def annotate_video(annotator: Annotator, video: InputFile, reader: VideoReader, folder: Path) -> None:
    """Writes the annotated frames of a video as an MP4 file."""

    def annotated_frames() -> Iterator[np.ndarray]:
        for number, seconds, pixels in show_progress(reader, reader.num_frames, "frames"):
            source: Source = {"video": str(video.path), "frame": number, "seconds": round(seconds, 3)}
            name = video.name.with_suffix("") / f"{number:06}.png"
            yield np.asarray(annotator.annotate(pixels, source, name))

    path = folder / video.name.with_suffix(".mp4")
    write_video(path, reader.fps, annotated_frames())
    print(f"annotated video {path}")


def _image_ids(files: Sequence[str]) -> list[int]:
    """Returns the numbers in the files' names if all are different numbers, as in COCO, else positions from 1."""
    stems = [Path(file).stem for file in files]
    if all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return [int(stem) for stem in stems]
    return list(range(1, len(stems) + 1))
