"""The meaning of label images: pixel values or colors, and the classes they encode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from keras_lightdet.errors import DataError
from keras_lightdet.files import StrPath, expand_user
from keras_lightdet.images import read_label_pixels
from keras_lightdet.labels import IGNORE

LIST_NAME = "labels.txt"
VOID_NAMES = frozenset(("void", "unlabelled", "unlabeled", "ignore", "ignored"))
MAX_CLASSES = IGNORE
_MAX_LIST_BYTES = 1_000_000
_MAX_SHOWN = 5

Code: TypeAlias = int | tuple[int, int, int]  # a pixel value, or (red, green, blue)


@dataclass(frozen=True)
class LabelTable:
    """The values or colors that label images may have, and their classes.

    Attributes:
        class_names: Names in label order.
        codes: The label, or `IGNORE`, by pixel value or by `(red, green, blue)`. The value 255 is always ignored.
    """

    class_names: tuple[str, ...]
    codes: Mapping[Code, int]

    def __post_init__(self) -> None:
        kinds = {isinstance(code, tuple) for code in self.codes}
        if len(kinds) != 1:
            raise DataError("Expected values or colors in a list of labels, got none or both. Use one kind.")
        if not 1 <= len(self.class_names) <= MAX_CLASSES:
            raise DataError(f"Expected 1 to {MAX_CLASSES} classes, got {len(self.class_names)}. Shorten the list.")

    @property
    def colors(self) -> bool:
        """Whether colors encode the classes."""
        return isinstance(next(iter(self.codes)), tuple)

    def read(self, path: StrPath) -> np.ndarray:
        """Reads a label image.

        Returns:
            Uint8 `[height, width]`: labels, or `IGNORE`.

        Raises:
            DataError: The file cannot be read, or has values or colors that are not in the list.
        """
        pixels = read_label_pixels(path, colors=self.colors).astype(np.int64)
        if self.colors:
            pixels = pixels @ np.array([1 << 16, 1 << 8, 1])
        known = {} if self.colors else {IGNORE: IGNORE}
        known |= {_number(code): label for code, label in self.codes.items()}
        numbers = np.array(sorted(known))
        labels = np.array([known[number] for number in sorted(known)], np.uint8)
        positions = np.minimum(np.searchsorted(numbers, pixels), len(numbers) - 1)
        is_unknown = numbers[positions] != pixels
        if is_unknown.any():
            raise self._unknown_error(path, pixels[is_unknown])
        return labels[positions]

    def _unknown_error(self, path: StrPath, pixels: np.ndarray) -> DataError:
        numbers, counts = np.unique(pixels, return_counts=True)
        shown = [
            f"{(number >> 16, number >> 8 & 255, number & 255) if self.colors else number} in {count} pixels"
            for number, count in zip(numbers[:_MAX_SHOWN].tolist(), counts.tolist(), strict=False)
        ]
        kind = "colors" if self.colors else "values"
        more = f" and {len(numbers) - _MAX_SHOWN} more" if len(numbers) > _MAX_SHOWN else ""
        return DataError(
            f"Expected {str(path)!r} to have listed {kind} only, got {', '.join(shown)}{more}. "
            f"Correct the image or add them to the list ({LIST_NAME})."
        )


def read_label_list(path: StrPath) -> LabelTable:
    """Reads a list of labels, one per line: "value name", "red green blue name", or "name" (the value is the line).

    Names such as "void" and "unlabeled" mean pixels to ignore.

    Raises:
        DataError: The file is missing or too long, or a line has another form.
    """
    path = expand_user(path)
    try:
        content = path.read_bytes()[: _MAX_LIST_BYTES + 1]
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"Expected a label list at {str(path)!r}, got {error}. Write one line per class.") from error
    if len(content) > _MAX_LIST_BYTES:
        raise DataError(f"Expected {str(path)!r} to be a list of labels, got over {_MAX_LIST_BYTES} bytes.")
    names: list[str] = []
    codes: dict[Code, int] = {}
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
            if name not in names:  # several values may encode one class
                names.append(name)
            codes[code] = names.index(name)
    return LabelTable(tuple(names), codes)


def _parse(words: Sequence[str], line: int) -> tuple[Code, str | None]:
    count = next((index for index, word in enumerate(words) if not word.isdecimal()), len(words))
    name = " ".join(words[count:]) or None
    numbers = [int(word) if len(word) < 7 else -1 for word in words[:count]]
    if count == 0:
        return line, name
    if count == 1:
        return numbers[0], name
    if count != 3 or max(numbers) > IGNORE:
        return -1, None
    red, green, blue = numbers
    return (red, green, blue), name


def _number(code: Code) -> int:
    return (code[0] << 16) + (code[1] << 8) + code[2] if isinstance(code, tuple) else code
