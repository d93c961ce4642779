"""Sheets of images with captions and a legend, put together for people to look at."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP = 8  # pixels between images, and around them all
_FONT_SIZE = 15
_PAPER, _INK = (250, 250, 250), (20, 20, 20)


def framed(image: Image.Image) -> Image.Image:
    """Returns an image with a margin of paper around it."""
    sheet = Image.new("RGB", (image.width + 2 * GAP, image.height + 2 * GAP), _PAPER)
    sheet.paste(image, (GAP, GAP))
    return sheet


def beside(images: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Puts images in a row, `gap` pixels apart."""
    return _joined(images, gap, axis=0)


def stacked(images: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Puts images in a column, `gap` pixels apart."""
    return _joined(images, gap, axis=1)


def in_rows(images: Sequence[Image.Image], columns: int) -> list[Image.Image]:
    """Puts images in rows of `columns`."""
    return [beside(images[first : first + columns], 2 * GAP) for first in range(0, len(images), columns)]


def captioned(image: Image.Image, caption: str) -> Image.Image:
    """Returns an image with a line of text below it."""
    return stacked([image, text_line(caption)], gap=2)


def text_line(text: str) -> Image.Image:
    """Returns a line of text as an image."""
    font = ImageFont.load_default(_FONT_SIZE)
    line = Image.new("RGB", (int(font.getlength(text)) + 2, sum(font.getmetrics())), _PAPER)
    ImageDraw.Draw(line).text((0, 0), text, fill=_INK, font=font)
    return line


def legend_lines(entries: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> list[Image.Image]:
    """Returns names, each beside a swatch of its color, in lines of at most `width` pixels."""
    lines, line, used = [], [], 0
    for name, color in entries:
        entry = _entry(name, color)
        if line and used + entry.width > width:
            lines.append(beside(line, 2 * GAP))
            line, used = [], 0
        line.append(entry)
        used += entry.width + 2 * GAP
    return [*lines, *([beside(line, 2 * GAP)] if line else [])]


def tile_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Returns the `(width, height)` of an image scaled to a longer side of `side` pixels."""
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _entry(name: str, color: tuple[int, int, int]) -> Image.Image:
    text = text_line(name)
    swatch = Image.new("RGB", (text.height, text.height), color)
    return beside([swatch, text], GAP // 2)


def _joined(images: Sequence[Image.Image], gap: int, axis: int) -> Image.Image:
    size = [max(image.size[d] for image in images) for d in (0, 1)]
    size[axis] = sum(image.size[axis] for image in images) + gap * (len(images) - 1)
    sheet, place = Image.new("RGB", tuple(size), _PAPER), [0, 0]
    for image in images:
        sheet.paste(image, tuple(place))
        place[axis] += image.size[axis] + gap
    return sheet
