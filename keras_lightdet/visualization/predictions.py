"""Draws predictions beside the ground truth, for many images of a data set."""

import logging
import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from keras_lightdet.data import DetectionData, ImageRecord, SegmentationData
from keras_lightdet.errors import DataError
from keras_lightdet.files import StrPath, expand_user
from keras_lightdet.images import read_image
from keras_lightdet.visualization.boxes import IGNORED_COLOR, SHOWN_SCORE, ScoredBoxes, class_color, draw_on_canvas
from keras_lightdet.visualization.masks import IGNORED_NAME, draw_segmentation, present_classes
from keras_lightdet.visualization.montage import (
    add_caption,
    make_montage,
    stack_horizontally,
    stack_vertically,
    text_line,
    tile_size,
)

_log = logging.getLogger(__name__)

_TILE = 400  # longer side of an image in pixels
_COLUMNS = 2


def save_detection_grid(
    data: DetectionData,
    detections: Sequence[ScoredBoxes],
    path: StrPath,
    *,
    num_images: int = 8,
    min_score: float = SHOWN_SCORE,
) -> None:
    """Writes an image of predictions beside the ground truth, for images spread evenly over a data set.

    Images that cannot be read are omitted with a warning.

    Args:
        data: The labeled images.
        detections: One per record, in the records' order and in pixels of their images.
        path: The image file to write, such as `grid.png`; its folder is created.
        num_images: Largest number of images.
        min_score: Omits detections below this score.

    Raises:
        DataError: The numbers of records and detections differ, or no image can be read.
    """
    if len(detections) != len(data.records):
        raise DataError(
            f"Expected one Detections per image, {len(data.records)} in all, got {len(detections)}. "
            "Pass the predictions for these records, in their order."
        )
    images, records, shown = [], [], []
    count = min(num_images, len(data.records))
    for index in np.linspace(0, len(data.records) - 1, count).round().astype(int):
        try:
            images.append(read_image(data.records[index].path))
        except DataError as error:
            _log.warning("Omitted from %s: %s", path, error)
            continue
        records.append(data.records[index])
        shown.append(detections[index])
    if not images:
        raise DataError(f"Expected images to draw in {path}, got none that can be read of {len(data.records)}.")
    _save(draw_detection_grid(images, shown, records, data.class_names, min_score=min_score), path)


def draw_detection_grid(
    images: Sequence[np.ndarray],
    detections: Sequence[ScoredBoxes],
    ground_truth: Sequence[ImageRecord],
    class_names: Sequence[str],
    *,
    min_score: float = SHOWN_SCORE,
    columns: int = _COLUMNS,
) -> Image.Image:
    """Draws pairs of images, predictions on the left and ground truth on the right, and a legend.

    Args:
        images: Uint8 `[H, W, 3]` RGB, of any sizes, at least one.
        detections: The predictions for each image, in its pixels.
        ground_truth: The record of each image; ignored boxes are gray.
        class_names: Names in label order.
        min_score: Omits detections below this score.
        columns: Pairs per row.

    Raises:
        DataError: There is no image, or the boxes cannot be drawn (see `draw_detection`).
    """
    if not images:
        raise DataError("Expected at least one image to draw, got none.")
    pairs = [
        _detection_pair(image, predictions, record, class_names, min_score)
        for image, predictions, record in zip(images, detections, ground_truth, strict=True)
    ]
    width = max(pair.width for pair in pairs)
    padded = [stack_vertically([pair, Image.new("RGB", (width, 0))], 0) for pair in pairs]
    present: set[int] = set()
    for predictions, record in zip(detections, ground_truth, strict=True):
        present |= {*map(int, predictions.labels[predictions.scores >= min_score]), *map(int, record.labels)}
    legend = [(class_names[label], class_color(label)) for label in sorted(present)]
    if any(np.any(record.ignore) for record in ground_truth):
        legend.append((IGNORED_NAME, IGNORED_COLOR))
    note = f"solid: predictions with a score of at least {min_score:.2f}; dashed: ground truth"
    return make_montage(padded, columns, legend, note)


def save_segmentation_grid(
    data: SegmentationData, predictions: Mapping[int, np.ndarray], path: StrPath, *, columns: int = _COLUMNS
) -> None:
    """Writes an image of predicted labels beside the ground truth, with a legend.

    Args:
        data: The labeled images.
        predictions: Labels by index of the record, uint8 of the image's size.
        path: The image file to write; its folder is created.
        columns: Pairs per row.

    Raises:
        DataError: There are no predictions, or an image or its labels cannot be read.
    """
    if not predictions:
        raise DataError(f"Expected images to draw in {path}, got none.")
    pairs, shown = [], []
    for index, labels in predictions.items():
        image, ground_truth = read_image(data.records[index].path), data.read_labels(index)
        size = tile_size(image.shape[0], image.shape[1], _TILE)
        tiles = [
            add_caption(draw_segmentation(image, values).resize(size, Image.Resampling.BICUBIC), caption)
            for values, caption in ((labels, "prediction"), (ground_truth, "ground truth"))
        ]
        title = text_line(os.path.basename(data.records[index].path))
        pairs.append(stack_vertically([title, stack_horizontally(tiles)]))
        shown += [labels, ground_truth]
    _save(make_montage(pairs, columns, present_classes(shown, data.class_names)), path)


def _detection_pair(
    image: np.ndarray, detections: ScoredBoxes, record: ImageRecord, class_names: Sequence[str], min_score: float
) -> Image.Image:
    height, width = image.shape[:2]
    size = tile_size(height, width, _TILE)
    scale = size[0] / width, size[1] / height
    tile = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    predicted = draw_on_canvas(tile.copy(), scale, detections, class_names, None, min_score)
    labeled = draw_on_canvas(tile, scale, None, class_names, record, min_score)
    num_shown = int(np.sum(np.asarray(detections.scores) >= min_score))
    num_labeled = int(np.sum(~np.asarray(record.ignore, bool)))
    tiles = [add_caption(predicted, f"predictions: {num_shown}"), add_caption(labeled, f"ground truth: {num_labeled}")]
    return stack_vertically([text_line(os.path.basename(record.path)), stack_horizontally(tiles)])


def _save(image: Image.Image, path: StrPath) -> None:
    path = expand_user(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
