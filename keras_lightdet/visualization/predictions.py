"""A sheet of images with what a model found beside what is labeled."""

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.data.segmentation.loading import SegmentationData
from keras_lightdet.detection.detections import SHOWN_SCORE, Detections
from keras_lightdet.errors import DataError
from keras_lightdet.images import read_image
from keras_lightdet.visualization.boxes import IGNORED_COLOR, class_color, draw
from keras_lightdet.visualization.masks import draw_segmentation, present_classes
from keras_lightdet.visualization.montage import (
    beside,
    captioned,
    framed,
    in_rows,
    legend_lines,
    stacked,
    text_line,
    tile_size,
)

_log = logging.getLogger(__name__)

_TILE = 400
_COLUMNS = 2


def save_detection_grid(
    data: DetectionData,
    detections: Sequence[Detections],
    path: str | os.PathLike,
    *,
    pictures: int = 8,
    min_score: float = SHOWN_SCORE,
) -> None:
    """Writes a sheet of predictions beside truth, of images spread evenly over a data set.

    Images that cannot be read are left out with a warning.

    Args:
        data: The labeled images.
        detections: One per record, in the records' order and pixels.
        path: The image file to write, such as `grid.png`; its folder is made.
        images: How many images to show at most.
        min_score: Leaves out detections below this score.

    Raises:
        DataError: The numbers of records and detections differ, or no image can be read.
    """
    if len(detections) != len(data.records):
        raise DataError(
            f"Expected one Detections per image, {len(data.records)} in all, got {len(detections)}. "
            "Predict the very records that are drawn, in their order."
        )
    count = min(pictures, len(data.records))
    images, records, found = [], [], []
    for index in np.linspace(0, len(data.records) - 1, count).round().astype(int):
        try:
            images.append(read_image(data.records[index].path))
        except DataError as error:
            _log.warning("Left out of %s: %s", path, error)
            continue
        records.append(data.records[index])
        found.append(detections[index])
    if not images:
        raise DataError(f"Expected images to draw in {path}, got none that can be read of {len(data.records)}.")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw_detection_grid(images, found, records, data.class_names, min_score=min_score).save(path)


def draw_detection_grid(
    images: Sequence[np.ndarray],
    detections: Sequence[Detections],
    truths: Sequence[ImageRecord],
    class_names: Sequence[str],
    *,
    min_score: float = SHOWN_SCORE,
    columns: int = _COLUMNS,
) -> Image.Image:
    """Draws pairs of images, found boxes on the left, labeled ones on the right, with a legend below.

    Args:
        images: Uint8 `[H, W, 3]` RGB, of any sizes, at least one.
        detections: What was found in each, in its pixels.
        truths: The labels of each; boxes to be ignored are gray.
        class_names: Names in label order.
        min_score: Leaves out detections below this score.
        columns: Pairs in a row.

    Raises:
        DataError: There is no image, or the boxes cannot be drawn (see `keras_lightdet.draw`).
    """
    if not images:
        raise DataError("Expected at least one image to draw, got none.")
    pairs = [
        _pair(image, found, truth, class_names, min_score)
        for image, found, truth in zip(images, detections, truths, strict=True)
    ]
    columns, width = min(columns, len(pairs)), max(pair.width for pair in pairs)
    pairs = [stacked([pair, Image.new("RGB", (width, 0))], 0) for pair in pairs]
    rows = in_rows(pairs, columns)
    return framed(stacked([*rows, _legend(detections, truths, class_names, min_score, rows[0].width)]))


def save_segmentation_grid(
    data: SegmentationData, found: Mapping[int, np.ndarray], path: str | os.PathLike, *, columns: int = _COLUMNS
) -> None:
    """Writes a sheet of found labels beside the true ones, with a legend below.

    Args:
        data: The labeled images.
        found: By index of the record: labels, uint8 of the image's size.
        path: The image file to write; its folder is made.
        columns: Pairs in a row.

    Raises:
        DataError: There is none, or an image or its labels cannot be read.
    """
    if not found:
        raise DataError(f"Expected images to draw in {path}, got none.")
    pairs, shown = [], []
    for index, labels in found.items():
        image, truth = read_image(data.records[index].path), data.read_labels(index)
        size = tile_size(*image.shape[:2], _TILE)
        tiles = [
            captioned(draw_segmentation(image, one).resize(size, Image.Resampling.BICUBIC), caption)
            for one, caption in ((labels, "found"), (truth, "labeled"))
        ]
        pairs.append(stacked([text_line(os.path.basename(data.records[index].path)), beside(tiles)]))
        shown += [labels, truth]
    rows = in_rows(pairs, columns)
    legend = legend_lines(present_classes(shown, data.class_names), rows[0].width)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    framed(stacked([*rows, *legend])).save(path)


def _pair(
    image: np.ndarray, found: Detections, truth: ImageRecord, class_names: Sequence[str], min_score: float
) -> Image.Image:
    height, width = image.shape[:2]
    size = tile_size(height, width, _TILE)
    tile = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    factors = np.array([size[0] / width, size[1] / height] * 2, np.float32)
    found = dataclasses.replace(found, boxes=np.asarray(found.boxes) * factors)
    truth = dataclasses.replace(truth, boxes=np.asarray(truth.boxes) * factors)
    shown = int(np.sum(np.asarray(found.scores) >= min_score))
    to_find = int(np.sum(~np.asarray(truth.ignore, bool)))
    left = captioned(draw(tile, found, class_names, min_score=min_score), f"found: {shown}")
    right = captioned(draw(tile, None, class_names, truth=truth), f"labeled: {to_find}")
    return stacked([text_line(os.path.basename(truth.path)), beside([left, right])])


def _legend(
    detections: Sequence[Detections],
    truths: Sequence[ImageRecord],
    class_names: Sequence[str],
    min_score: float,
    width: int,
) -> Image.Image:
    """Names the colors that occur, in as many lines as they need."""
    present = set()
    for found, truth in zip(detections, truths, strict=True):
        present |= {*map(int, found.labels[found.scores >= min_score]), *map(int, truth.labels)}
    entries = [(class_names[label], class_color(label)) for label in sorted(present)]
    if any(np.any(truth.ignore) for truth in truths):
        entries.append(("not scored", IGNORED_COLOR))
    note = text_line(f"solid: found, score at least {min_score:.2f}; dashed: labeled")
    return stacked([*legend_lines(entries, width), note])
