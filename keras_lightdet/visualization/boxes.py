"""Draws boxes on images."""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_lightdet.data.detection.records import ImageRecord
from keras_lightdet.errors import DataError
from keras_lightdet.images import ImageInput, to_pixels
from keras_lightdet.visualization.montage import Color, load_font

# Images whose longer side is below this are upsampled by a whole factor, so that labels are readable.
MIN_SIDE = 320
SHOWN_SCORE = 0.3  # default score threshold of what users see; evaluation uses all scores
_SIDE_PER_LINE_WIDTH = 320
_SIDE_PER_FONT_SIZE = 45
_MIN_FONT = 12
_DASH_PER_LINE_WIDTH = 4
_SMALL_BOX_PER_FONT_SIZE = 4
_GOLDEN_RATIO = (1 + math.sqrt(5)) / 2
_FIRST_HUE = 0.60
# Saturation and value of successive classes, so that classes of similar hue differ in lightness.
_SHADES = ((0.85, 1.0), (0.95, 0.72), (0.55, 1.0))
IGNORED_COLOR = (160, 160, 160)
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
# Perceived lightness, 0..255, above which black text is more readable than white.
_LIGHT = 140
_LUMA = (0.299, 0.587, 0.114)

_Rectangle: TypeAlias = tuple[int, int, int, int]  # first and last pixels: (x_min, y_min, x_max, y_max)


class ScoredBoxes(Protocol):
    """The predicted boxes of one image, such as `Detections`.

    Attributes:
        boxes: Float32 `[n, 4]`, `(x_min, y_min, x_max, y_max)` in pixels of the image.
        scores: Float32 `[n]`, 0..1.
        labels: Int32 `[n]`, class indices.
        class_names: Names in label order.
    """

    @property
    def boxes(self) -> np.ndarray: ...  # noqa: D102

    @property
    def scores(self) -> np.ndarray: ...  # noqa: D102

    @property
    def labels(self) -> np.ndarray: ...  # noqa: D102

    @property
    def class_names(self) -> tuple[str, ...]: ...  # noqa: D102


def draw_detection(
    image: ImageInput,
    detections: ScoredBoxes | None,
    class_names: Sequence[str] | None = None,
    *,
    ground_truth: ImageRecord | None = None,
    min_score: float = 0.0,
) -> Image.Image:
    """Draws boxes with names and scores on a copy of an image. `draw` is a short name for it.

    Detections are solid boxes with the text "name score", the best ones on top. Ground truth is dashed, gray where it
    is ignored, and has a text only if there are no detections. A class has the same color in all images. An image
    smaller than `MIN_SIDE` is upsampled by a whole factor, so that the text is readable.

    Args:
        image: A path, a Pillow image, or an array `[H, W, 3]` of 0..255 RGB.
        detections: Boxes in pixels of the image; None draws the ground truth only.
        class_names: Names in label order; None takes those of the detections.
        ground_truth: The labeled boxes of the image.
        min_score: Omits detections below this score.

    Returns:
        An RGB image, which a notebook displays and `.save(path)` writes.

    Raises:
        DataError: The file or array is not an image, a box or a score is not finite, or a label has no name.
    """
    canvas = Image.fromarray(to_pixels(image))
    factor = max(1, math.ceil(MIN_SIDE / max(canvas.size)))
    if factor > 1:
        canvas = canvas.resize((canvas.width * factor, canvas.height * factor), Image.Resampling.BICUBIC)
    names = tuple(class_names if class_names is not None else detections.class_names if detections else ())
    return draw_on_canvas(canvas, (factor, factor), detections, names, ground_truth, min_score)


draw = draw_detection


def draw_on_canvas(
    canvas: Image.Image,
    scale: tuple[float, float],
    detections: ScoredBoxes | None,
    class_names: Sequence[str],
    ground_truth: ImageRecord | None,
    min_score: float,
) -> Image.Image:
    """Draws boxes on an image itself and returns it; see `draw_detection`.

    The boxes are in pixels of the image before it was resized by the `(x, y)` factors `scale`.
    """
    boxes = []
    if ground_truth is not None:
        boxes += _ground_truth_boxes(ground_truth, class_names, with_text=detections is None)
    if detections is not None:
        boxes += _detection_boxes(detections, class_names, min_score)
    _draw_boxes(canvas, boxes, scale)
    return canvas


def class_color(label: int) -> Color:
    """Returns the RGB color of a class, 0..255; steps of the golden ratio keep the hues of few classes far apart."""
    saturation, value = _SHADES[label % len(_SHADES)]
    hue = (_FIRST_HUE + label / _GOLDEN_RATIO) % 1.0
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


@dataclass(frozen=True)
class _Box:
    corners: np.ndarray
    color: Color
    text: str
    dashed: bool


def _detection_boxes(detections: ScoredBoxes, names: Sequence[str], min_score: float) -> list[_Box]:
    """Returns the boxes in ascending order of their scores."""
    _check(detections.boxes, detections.labels, names)
    scores = np.asarray(detections.scores, np.float64)
    if len(scores) != len(detections.labels) or not np.isfinite(scores).all():
        raise DataError(
            f"Expected a finite score for each of {len(detections.labels)} detections, got {scores.tolist()}. "
            "If a model predicted them, its weights have probably become NaN."
        )
    boxes = []
    for i in np.argsort(scores, kind="stable"):
        label = int(detections.labels[i])
        if scores[i] >= min_score:
            text = f"{names[label]} {scores[i]:.2f}"
            boxes.append(_Box(np.asarray(detections.boxes[i]), class_color(label), text, dashed=False))
    return boxes


def _ground_truth_boxes(ground_truth: ImageRecord, names: Sequence[str], with_text: bool) -> list[_Box]:
    _check(ground_truth.boxes, ground_truth.labels, names)
    return [
        _Box(
            np.asarray(box),
            IGNORED_COLOR if ignore else class_color(int(label)),
            names[label] if with_text else "",
            dashed=True,
        )
        for box, label, ignore in zip(ground_truth.boxes, ground_truth.labels, ground_truth.ignore, strict=True)
    ]


def _check(boxes: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    if np.shape(boxes) != (len(labels), 4) or not np.isfinite(boxes).all():
        raise DataError(
            f"Expected finite boxes [n, 4] for {len(labels)} labels to draw, got {np.asarray(boxes).tolist()}. "
            "If a model predicted them, its weights have probably become NaN."
        )
    unnamed = [int(label) for label in labels if not 0 <= label < len(names)]
    if unnamed:
        raise DataError(
            f"Expected a class name for each label to draw, got label {unnamed[0]} and the names {list(names)}. "
            "Pass class_names= with the names of all classes."
        )


def _draw_boxes(canvas: Image.Image, boxes: Sequence[_Box], scale: tuple[float, float]) -> None:
    """Draws all outlines first, then all texts, so that no line crosses a text."""
    pen, longer_side = ImageDraw.Draw(canvas), max(canvas.size)
    line = max(2, round(longer_side / _SIDE_PER_LINE_WIDTH))
    rectangles = [_pixel_rectangle(box.corners, scale, canvas.size) for box in boxes]
    for box, rectangle in zip(boxes, rectangles, strict=True):
        if box.dashed:
            _dashed_rectangle(pen, rectangle, box.color, line)
        else:
            # Pillow draws outside a box that is narrower than two lines.
            half_side = (min(rectangle[2] - rectangle[0], rectangle[3] - rectangle[1]) + 2) // 2
            pen.rectangle(rectangle, outline=box.color, width=min(line, half_side))
    font = load_font(max(_MIN_FONT, round(longer_side / _SIDE_PER_FONT_SIZE)))
    # Texts avoid each other, and objects so small that a text would hide them.
    occupied = np.array(rectangles, np.float64).reshape(-1, 4) + [0, 0, 1, 1]
    is_small = np.prod(occupied[:, 2:] - occupied[:, :2], axis=1) < (_SMALL_BOX_PER_FONT_SIZE * font.size) ** 2
    occupied = occupied[is_small]
    texts = []
    for box, rectangle in zip(reversed(boxes), reversed(rectangles), strict=True):
        if box.text:
            text = _fit_text(box.text, font, canvas.width)
            position = _free_position(rectangle, _text_size(text, font), canvas.size, occupied)
            occupied = np.vstack([occupied, position])
            texts.append((position, text, box.color))
    for position, text, color in reversed(texts):
        x_min, y_min, x_max, y_max = (int(value) for value in position)
        pen.rectangle((x_min, y_min, x_max - 1, y_max - 1), fill=color)
        pen.text((x_min + _padding(font), y_min), text, fill=text_color(color), font=font)


def _pixel_rectangle(corners: np.ndarray, scale: tuple[float, float], size: tuple[int, int]) -> _Rectangle:
    """Returns the first and last pixels of a box, inside an image of `(width, height)`, at least one pixel large."""
    scaled = np.round(np.multiply(corners, np.array([*scale, *scale], np.float32)))
    x_min, y_min, x_max, y_max = (int(value) for value in np.clip(scaled, 0, [*size, *size]))
    x_min, y_min = min(x_min, size[0] - 1), min(y_min, size[1] - 1)
    return x_min, y_min, max(x_min, x_max - 1), max(y_min, y_max - 1)


def _dashed_rectangle(pen: ImageDraw.ImageDraw, rectangle: _Rectangle, color: Color, line: int) -> None:
    x_min, y_min, x_max, y_max = rectangle
    dash = _DASH_PER_LINE_WIDTH * line
    for x in range(x_min, x_max + 1, 2 * dash):
        end = min(x + dash - 1, x_max)
        pen.rectangle((x, y_min, end, min(y_min + line - 1, y_max)), fill=color)
        pen.rectangle((x, max(y_max - line + 1, y_min), end, y_max), fill=color)
    for y in range(y_min, y_max + 1, 2 * dash):
        end = min(y + dash - 1, y_max)
        pen.rectangle((x_min, y, min(x_min + line - 1, x_max), end), fill=color)
        pen.rectangle((max(x_max - line + 1, x_min), y, x_max, end), fill=color)


def _fit_text(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Truncates a text that is wider than the image."""
    text = " ".join(text.split())
    truncated = text
    while len(truncated) > 1 and _text_size(truncated, font)[0] > width:
        text = text[:-1]
        truncated = text.rstrip() + "…"
    return truncated


def _text_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Returns the `(width, height)` of a text with its padding."""
    return math.ceil(font.getlength(text)) + 2 * _padding(font), sum(font.getmetrics())


def _padding(font: ImageFont.FreeTypeFont) -> int:
    return max(2, round(font.size / 5))


def _free_position(
    rectangle: _Rectangle, text_size: tuple[int, int], size: tuple[int, int], occupied: np.ndarray
) -> np.ndarray:
    """Returns the corners of a text at its box, inside the image, where it hides the least of `occupied`."""
    (x_min, y_min, x_max, y_max), (width, height) = rectangle, text_size
    right = x_max + 1 - width
    candidates = [(x, y) for y in (y_min - height, y_max + 1, y_min, y_max + 1 - height) for x in (x_min, right)]
    low = np.clip(candidates, 0, np.maximum(0, np.subtract(size, text_size)))
    corners = np.concatenate([low, low + text_size], axis=1)
    first = np.maximum(corners[:, None, :2], occupied[None, :, :2])
    last = np.minimum(corners[:, None, 2:], occupied[None, :, 2:])
    hidden = np.maximum(last - first, 0).prod(axis=2).sum(axis=1)
    return corners[hidden.argmin()]


def text_color(background: Color) -> Color:
    """Returns black or white, whichever is more readable on the color."""
    return _BLACK if np.dot(_LUMA, background) > _LIGHT else _WHITE
