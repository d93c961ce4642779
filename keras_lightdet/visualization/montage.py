"""Arranges images in montages with captions and a legend."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP = 8  # pixels between images, and around the montage
_FONT_SIZE = 15
_BACKGROUND, _TEXT = (250, 250, 250), (20, 20, 20)


def add_border(image: Image.Image) -> Image.Image:
    """Returns an image with a border of `GAP` pixels."""
    montage = Image.new("RGB", (image.width + 2 * GAP, image.height + 2 * GAP), _BACKGROUND)
    montage.paste(image, (GAP, GAP))
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


def legend_lines(entries: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> list[Image.Image]:
    """Returns names, each with a swatch of its color, in lines of at most `width` pixels."""
    lines: list[list[Image.Image]] = []
    used = width
    for name, color in entries:
        entry = _legend_entry(name, color)
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


def _legend_entry(name: str, color: tuple[int, int, int]) -> Image.Image:
    text = text_line(name)
    swatch = Image.new("RGB", (text.height, text.height), color)
    return stack_horizontally([swatch, text], GAP // 2)
