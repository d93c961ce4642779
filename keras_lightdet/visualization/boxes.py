"""Images with boxes on them, for people to look at."""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_lightdet.data.detection.records import ImageRecord
from keras_lightdet.detection.detections import Detections
from keras_lightdet.errors import DataError
from keras_lightdet.images import ImageInput, to_pixels

# Images whose longer side is below this are enlarged by a whole factor, so that labels can be read.
MIN_SIDE = 320
_SIDE_PER_LINE_WIDTH = 320
_SIDE_PER_FONT_SIZE = 45
_MIN_FONT = 12
_DASH_PER_LINE_WIDTH = 4
_SMALL_BOX_PER_FONT_SIZE = 4
_GOLDEN_RATIO = (1 + math.sqrt(5)) / 2
_FIRST_HUE = 0.60
# Saturation and value of successive classes; neighbors in hue then differ in lightness.
_SHADES = ((0.85, 1.0), (0.95, 0.72), (0.55, 1.0))
IGNORED_COLOR = (160, 160, 160)
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
# Perceived lightness, 0..255, above which black text reads better than white.
_LIGHT = 140
_LUMA = (0.299, 0.587, 0.114)


def draw(
    image: ImageInput,
    detections: Detections | None,
    class_names: Sequence[str] | None = None,
    *,
    truth: ImageRecord | None = None,
    min_score: float = 0.0,
) -> Image.Image:
    """Draws boxes with names and scores on a copy of an image.

    Detections are solid boxes labeled "name score", the best ones on top. Truth is dashed, gray where it is
    to be ignored, and labeled only if there are no detections. Colors belong to classes and are the same in
    every image. An image smaller than `MIN_SIDE` is enlarged by a whole factor, so that its labels can be
    read.

    Args:
        image: A path, a Pillow image, or an array `[H, W, 3]` of 0..255 RGB.
        detections: Boxes in pixels of the image; None draws the truth alone.
        class_names: Names in label order; None takes those of the detections.
        truth: The labels of the same image.
        min_score: Leaves out detections below this score.

    Returns:
        An RGB image; it shows itself in a notebook and is stored by `.save(path)`.

    Raises:
        DataError: The file is no image, the array is none, a box or a score is not finite,
            or a label has no name.
    """
    canvas, factor = _canvas(image)
    names = tuple(class_names if class_names is not None else detections.class_names if detections else ())
    boxes = _truth_boxes(truth, names, with_text=detections is None) if truth is not None else []
    if detections is not None:
        boxes += _detection_boxes(detections, names, min_score)
    _draw_boxes(canvas, boxes, factor)
    return canvas


def class_color(label: int) -> tuple[int, int, int]:
    """Returns the color of a class as RGB, 0..255: hues a golden section apart, so any few labels differ."""
    saturation, value = _SHADES[label % len(_SHADES)]
    hue = (_FIRST_HUE + label / _GOLDEN_RATIO) % 1.0
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


@dataclass(frozen=True)
class _Box:
    corners: tuple[float, float, float, float]
    color: tuple[int, int, int]
    text: str
    dashed: bool


def _canvas(image: ImageInput) -> tuple[Image.Image, int]:
    picture = Image.fromarray(to_pixels(image))
    factor = max(1, math.ceil(MIN_SIDE / max(picture.size)))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    return picture, factor


def _detection_boxes(detections: Detections, names: tuple[str, ...], min_score: float) -> list[_Box]:
    _check(detections.boxes, detections.labels, names)
    scores = np.asarray(detections.scores, np.float64)
    if len(scores) != len(detections.labels) or not np.isfinite(scores).all():
        raise DataError(
            f"Expected a finite score for each of {len(detections.labels)} detections, got {scores.tolist()}. "
            "If a model made them, its weights have probably become NaN."
        )
    worst_first = np.argsort(scores, kind="stable")
    return [
        _Box(
            tuple(float(c) for c in detections.boxes[i]),
            class_color(int(detections.labels[i])),
            f"{names[detections.labels[i]]} {scores[i]:.2f}",
            dashed=False,
        )
        for i in worst_first
        if scores[i] >= min_score
    ]


def _truth_boxes(truth: ImageRecord, names: tuple[str, ...], with_text: bool) -> list[_Box]:
    _check(truth.boxes, truth.labels, names)
    return [
        _Box(
            tuple(float(c) for c in box),
            IGNORED_COLOR if ignore else class_color(int(label)),
            names[label] if with_text else "",
            dashed=True,
        )
        for box, label, ignore in zip(truth.boxes, truth.labels, truth.ignore, strict=True)
    ]


def _check(boxes: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> None:
    if np.shape(boxes) != (len(labels), 4) or not np.isfinite(boxes).all():
        raise DataError(
            f"Expected finite boxes [n, 4] for {len(labels)} labels to draw, got {np.asarray(boxes).tolist()}. "
            "If a model made them, its weights have probably become NaN."
        )
    wrong = [int(label) for label in labels if not 0 <= label < len(names)]
    if wrong:
        raise DataError(
            f"Expected a class name for each label to draw, got label {wrong[0]} and the names {list(names)}. "
            "Give class_names= with the names of all classes."
        )


def _draw_boxes(canvas: Image.Image, boxes: list[_Box], factor: int) -> None:
    """Draws all outlines first, then all labels, so that no line runs through a text."""
    pen, longer = ImageDraw.Draw(canvas), max(canvas.size)
    line = max(2, round(longer / _SIDE_PER_LINE_WIDTH))
    corners = [_clip(box.corners, factor, canvas.size) for box in boxes]
    for box, place in zip(boxes, corners, strict=True):
        if box.dashed:
            _dashed_rectangle(pen, place, box.color, line)
        else:
            # Pillow draws outside a box that is narrower than two lines.
            half_side = (min(place[2] - place[0], place[3] - place[1]) + 2) // 2
            pen.rectangle(place, outline=box.color, width=min(line, half_side))
    font = label_font(canvas.size)
    # Labels keep off each other and off objects so small that they would be hidden.
    taken = np.array(corners, np.float64).reshape(-1, 4) + [0, 0, 1, 1]
    taken = taken[np.prod(taken[:, 2:] - taken[:, :2], axis=1) < (_SMALL_BOX_PER_FONT_SIZE * font.size) ** 2]
    labels = []
    for box, place in zip(reversed(boxes), reversed(corners), strict=True):
        if box.text:
            text = _fit_text(box.text, font, canvas.width)
            spot = _free_spot(place, _label_size(text, font), canvas.size, taken)
            taken = np.vstack([taken, spot])
            labels.append((spot, text, box.color))
    for spot, text, color in reversed(labels):
        _draw_label(pen, spot, text, color, font)


def label_font(size: tuple[int, int]) -> ImageFont.FreeTypeFont:
    """Returns the font of the labels on an image of `size` (width, height)."""
    return ImageFont.load_default(max(_MIN_FONT, round(max(size) / _SIDE_PER_FONT_SIZE)))


def _clip(corners: tuple[float, ...], factor: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Turns edges into the first and last pixel of a box, inside the image, at least one pixel large."""
    x_min, y_min, x_max, y_max = np.clip(np.round(np.multiply(corners, factor)), 0, [*size, *size]).astype(int)
    x_min, y_min = min(x_min, size[0] - 1), min(y_min, size[1] - 1)
    return int(x_min), int(y_min), int(max(x_min, x_max - 1)), int(max(y_min, y_max - 1))


def _dashed_rectangle(
    pen: ImageDraw.ImageDraw, place: tuple[int, int, int, int], color: tuple[int, int, int], line: int
) -> None:
    x_min, y_min, x_max, y_max = place
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
    """Shortens a text until its label is no wider than the image."""
    text = " ".join(text.split())
    shown = text
    while len(shown) > 1 and _label_size(shown, font)[0] > width:
        text = text[:-1]
        shown = text.rstrip() + "…"
    return shown


def _label_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    return math.ceil(font.getlength(text)) + 2 * _padding(font), sum(font.getmetrics())


def _padding(font: ImageFont.FreeTypeFont) -> int:
    return max(2, round(font.size / 5))


def _free_spot(
    place: tuple[int, int, int, int], label: tuple[int, int], size: tuple[int, int], taken: np.ndarray
) -> np.ndarray:
    """Returns the corners of a label at its box, inside the image, where it hides the least of others."""
    (x_min, y_min, x_max, y_max), (width, height) = place, label
    right = x_max + 1 - width
    spots = [(x, y) for y in (y_min - height, y_max + 1, y_min, y_max + 1 - height) for x in (x_min, right)]
    low = np.clip(spots, 0, np.maximum(0, np.subtract(size, label)))
    corners = np.concatenate([low, low + label], axis=1)
    first, last = (
        np.maximum(corners[:, None, :2], taken[None, :, :2]),
        np.minimum(corners[:, None, 2:], taken[None, :, 2:]),
    )
    hidden = np.maximum(last - first, 0).prod(axis=2).sum(axis=1)
    return corners[hidden.argmin()]


def _draw_label(
    pen: ImageDraw.ImageDraw,
    spot: np.ndarray,
    text: str,
    color: tuple[int, int, int],
    font: ImageFont.FreeTypeFont,
) -> None:
    x_min, y_min, x_max, y_max = (int(c) for c in spot)
    pen.rectangle((x_min, y_min, x_max - 1, y_max - 1), fill=color)
    pen.text((x_min + _padding(font), y_min), text, fill=text_color(color), font=font)


def text_color(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns black or white, whichever reads better on the color."""
    return _BLACK if np.dot(_LUMA, background) > _LIGHT else _WHITE
