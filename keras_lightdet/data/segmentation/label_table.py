"""What the pixels of label images stand for: values or colors, and the names of the classes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_lightdet.errors import DataError
from keras_lightdet.images import read_label_pixels
from keras_lightdet.labels import IGNORE

LIST_NAME = "labels.txt"
VOID_NAMES = frozenset(("void", "unlabelled", "unlabeled", "ignore", "ignored"))
MAX_CLASSES = IGNORE
_MAX_LIST_BYTES = 1_000_000
_MAX_SHOWN = 5

Code = int | tuple[int, int, int]


@dataclass(frozen=True)
class LabelTable:
    """The list of what may stand in label images.

    Attributes:
        class_names: Names in label order.
        codes: By pixel value, or by `(red, green, blue)`: the label, or `IGNORE`. The value 255 is always ignored.
    """

    class_names: tuple[str, ...]
    codes: Mapping[Code, int]

    def __post_init__(self):
        kinds = {isinstance(code, tuple) for code in self.codes}
        if len(kinds) != 1:
            raise DataError("Expected values or colors in a list of labels, got none or both. Use one of them.")
        if not 1 <= len(self.class_names) <= MAX_CLASSES:
            raise DataError(f"Expected 1 to {MAX_CLASSES} classes, got {len(self.class_names)}. Shorten the list.")

    @property
    def colors(self) -> bool:
        """Whether colors stand for classes."""
        return isinstance(next(iter(self.codes)), tuple)

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """Reads a label image.

        Returns:
            Uint8 `[height, width]`: labels, or `IGNORE`.

        Raises:
            DataError: The file cannot be read, or holds what is not in the list; it is named.
        """
        pixels = read_label_pixels(path, colors=self.colors).astype(np.int64)
        if self.colors:
            pixels = pixels @ np.array([1 << 16, 1 << 8, 1])
        known = dict(sorted((_number(code), label) for code, label in self.codes.items()))
        if not self.colors:
            known = dict(sorted({IGNORE: IGNORE, **known}.items()))
        numbers, labels = np.array(list(known)), np.array(list(known.values()), np.uint8)
        place = np.minimum(np.searchsorted(numbers, pixels), len(numbers) - 1)
        strange = numbers[place] != pixels
        if strange.any():
            raise self._refusal(path, pixels[strange])
        return labels[place]

    def _refusal(self, path: str | os.PathLike, pixels: np.ndarray) -> DataError:
        numbers, counts = np.unique(pixels, return_counts=True)
        shown = [
            f"{_color(number) if self.colors else number} in {count} pixels"
            for number, count in zip(numbers[:_MAX_SHOWN].tolist(), counts.tolist(), strict=False)
        ]
        kind = "colors" if self.colors else "values"
        more = f" and {len(numbers) - _MAX_SHOWN} more" if len(numbers) > _MAX_SHOWN else ""
        return DataError(
            f"Expected {os.fspath(path)!r} to hold listed {kind} only, got {', '.join(shown)}{more}. "
            f"Correct the image or add them to the list ({LIST_NAME})."
        )


def read_label_list(path: str | Path) -> LabelTable:
    """Reads a list of labels, one a line: "value name", "red green blue name", or "name" (the value is the line).

    Names such as "void" and "unlabeled" stand for pixels to ignore.

    Raises:
        DataError: The file is missing, too long, or a line is none of these; it is named.
    """
    path = Path(path)
    try:
        content = path.read_bytes()[: _MAX_LIST_BYTES + 1]
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"Expected a list of labels at {str(path)!r}, got {error}. Write one line a class.") from error
    if len(content) > _MAX_LIST_BYTES:
        raise DataError(f"Expected {str(path)!r} to be a list of labels, got over {_MAX_LIST_BYTES} bytes.")
    names, codes = [], {}
    lines = [line.split() for line in text.splitlines()]
    for number, words in enumerate(line for line in lines if line):
        code, name = _parse(words, number)
        if name is None or code in codes or not all(0 <= value <= 65535 for value in np.atleast_1d(code)):
            raise DataError(
                f'Expected "value name", "red green blue name" or "name" on every line of {str(path)!r}, each once, '
                f"got {' '.join(words)[:80]!r}. Correct the line."
            )
        if name.lower() in VOID_NAMES:
            codes[code] = IGNORE
        else:
            if name not in names:  # several values may stand for one class
                names.append(name)
            codes[code] = names.index(name)
    return LabelTable(tuple(names), codes)


def plain_table(class_names: Sequence[str]) -> LabelTable:
    """A table in which the values are the labels."""
    return LabelTable(tuple(class_names), dict(zip(range(len(class_names)), range(len(class_names)), strict=True)))


def _parse(words: Sequence[str], line: int) -> tuple[Code, str | None]:
    count = next((index for index, word in enumerate(words) if not word.isdecimal()), len(words))
    name = " ".join(words[count:]) or None
    numbers = [int(word) if len(word) < 7 else -1 for word in words[:count]]
    if count == 0:
        return line, name
    if count == 1:
        return numbers[0], name
    return (tuple(numbers), name) if count == 3 and max(numbers) <= IGNORE else (-1, None)


def _number(code: Code) -> int:
    return (code[0] << 16) + (code[1] << 8) + code[2] if isinstance(code, tuple) else code


def _color(number: int) -> tuple[int, int, int]:
    return (number >> 16, number >> 8 & 255, number & 255)
