"""Arranges images in montages with captions and a legend."""

from collections.abc import Sequence
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

Color: TypeAlias = tuple[int, int, int]  # red, green and blue, 0..255
GAP = 8  # pixels between images, and around the montage
_FONT_SIZE = 15
_BACKGROUND, _TEXT = (250, 250, 250), (20, 20, 20)


def make_montage(
    tiles: Sequence[Image.Image], columns: int, legend: Sequence[tuple[str, Color]] = (), note: str = ""
) -> Image.Image:
    """Arranges images in rows of `columns`, above a legend of names with their colors and a line of text."""
    rows = make_rows(tiles, columns)
    lines = [*_legend_lines(legend, rows[0].width), *([text_line(note)] if note else [])]
    content = stack_vertically([*rows, *lines])
    montage = Image.new("RGB", (content.width + 2 * GAP, content.height + 2 * GAP), _BACKGROUND)
    montage.paste(content, (GAP, GAP))
    return montage


def stack_horizontally(images: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Arranges images in a row, `gap` pixels apart."""
    size = sum(image.width for image in images) + gap * (len(images) - 1), max(image.height for image in images)
    montage, x = Image.new("RGB", size, _BACKGROUND), 0
    for image in images:
        montage.paste(image, (x, 0))
        x += image.width + gap
    return montage


def stack_vertically(images: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Arranges images in a column, `gap` pixels apart."""
    size = max(image.width for image in images), sum(image.height for image in images) + gap * (len(images) - 1)
    montage, y = Image.new("RGB", size, _BACKGROUND), 0
    for image in images:
        montage.paste(image, (0, y))
        y += image.height + gap
    return montage


def make_rows(images: Sequence[Image.Image], columns: int) -> list[Image.Image]:
    """Arranges images in rows of `columns`."""
    return [stack_horizontally(images[first : first + columns], 2 * GAP) for first in range(0, len(images), columns)]


def add_caption(image: Image.Image, caption: str) -> Image.Image:
    """Returns an image with a line of text below it."""
    return stack_vertically([image, text_line(caption)], gap=2)


def text_line(text: str) -> Image.Image:
    """Returns a line of text as an image."""
    font = load_font(_FONT_SIZE)
    line = Image.new("RGB", (int(font.getlength(text)) + 2, sum(font.getmetrics())), _BACKGROUND)
    ImageDraw.Draw(line).text((0, 0), text, fill=_TEXT, font=font)
    return line


def _legend_lines(legend: Sequence[tuple[str, Color]], width: int) -> list[Image.Image]:
    """Returns names, each with a swatch of its color, in lines of at most `width` pixels."""
    lines: list[list[Image.Image]] = []
    used = width
    for name, color in legend:
        text = text_line(name)
        entry = stack_horizontally([Image.new("RGB", (text.height, text.height), color), text], GAP // 2)
        if not lines or used + entry.width > width:
            lines.append([])
            used = 0
        lines[-1].append(entry)
        used += entry.width + 2 * GAP
    return [stack_horizontally(line, 2 * GAP) for line in lines]


def tile_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Returns the `(width, height)` of an image scaled to a longer side of `side` pixels."""
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def load_font(size: float) -> ImageFont.FreeTypeFont:
    """Returns Pillow's scalable font, `size` pixels high."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font
