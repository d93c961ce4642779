"""Reads images inside a tf.data pipeline, and knows what to do when a file turns out damaged."""

import atexit
import logging
import threading
import time
import weakref
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_lightdet.data.detection.records import ImageRecord
from keras_lightdet.errors import DataError
from keras_lightdet.images import read_image

# Gray that fills what lies outside an image, and stands in for one that cannot be read in evaluation.
FILL = 114
_JPEG_START = b"\xff\xd8"
_NO_PIXELS = np.zeros([0, 0, 3], np.uint8)
# Of the threads, before Python may exit.
_REST_SECONDS = 0.2
_MAX_EXIT_SECONDS = 5.0
_logger = logging.getLogger(__name__)


class DecodeFailures:
    """The files that could not be decoded while a pipeline ran; each is logged once. Safe to share among threads.

    Attributes:
        paths: How often each file failed, by path.
    """

    def __init__(self):
        self.paths: dict[str, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.paths)

    def add(self, path: str, error: Exception) -> None:
        """Counts a failure and warns at the first one of a file."""
        with self._lock:
            self.paths[path] = self.paths.get(path, 0) + 1
            first = self.paths[path] == 1
        if first:
            _logger.warning("Skipped a damaged image: %s", error)


class _ExitGate:
    """Lets Python exit while a pipeline is still reading ahead.

    TensorFlow's threads call Python; one that is about to do so when the interpreter shuts down never comes back, and
    the process hangs. With the gate closed calls fail at once, so the pipeline's buffers fill and its threads rest.
    """

    def __init__(self):
        self.closed = False
        self.last_call = time.monotonic()
        _gates.add(self)

    def enter(self) -> None:
        """Notes a call from the pipeline; raises once the gate is closed."""
        self.last_call = time.monotonic()
        if self.closed:
            raise DataError("Expected no more images to be read while Python exits.")


_gates: "weakref.WeakSet[_ExitGate]" = weakref.WeakSet()


@atexit.register
def _close_gates() -> None:
    """Closes every gate and waits until no call has come for a moment."""
    gates, start = list(_gates), time.monotonic()
    for gate in gates:
        gate.closed, gate.last_call = True, start
    while gates and time.monotonic() - start < _MAX_EXIT_SECONDS:
        time.sleep(_REST_SECONDS / 10)
        if time.monotonic() - max(gate.last_call for gate in gates) > _REST_SECONDS:
            return


class EncodedImage(NamedTuple):
    """An image as it was read; `decode` makes its pixels.

    Attributes:
        index: Of the record that it is of.
        extent: `(height, width)` in pixels.
        content: A file that TensorFlow may decode, or empty.
        pixels: Uint8 `[height, width, 3]`; of size 0 where there is `content`.
    """

    index: int
    extent: tuple[int, int]
    content: bytes
    pixels: np.ndarray


class ImageReader:
    """Reads images by their index among the records.

    Args:
        records: What the indices count.
        replace: Take the next readable record for a damaged image; else a gray image of its size.
        strict: Fail at a damaged image instead.
        failures: Takes what failed.
    """

    def __init__(self, records: Sequence[ImageRecord], *, replace: bool, strict: bool, failures: DecodeFailures):
        self.records = records
        self.replace = replace
        self.strict = strict
        self.failures = failures
        self._gate = _ExitGate()
        # Checksum and extent of the files that TensorFlow may decode, by index.
        self._proven: dict[int, tuple[int, tuple[int, int]]] = {}

    def read(self, index: int) -> EncodedImage:
        """Reads one image; may be called by TensorFlow's threads."""
        self._gate.enter()
        attempts = len(self.records) if self.replace else 1
        for attempt in range(attempts):
            found = (index + attempt) % len(self.records)
            try:
                return self._read_image(found)
            except DataError as error:
                if self.strict:
                    raise
                self.failures.add(self.records[found].path, error)
        if self.replace:
            raise DataError(f"Expected readable images, got none among {attempts}: {list(self.failures.paths)[:3]}.")
        extent = (self.records[index].height, self.records[index].width)
        return EncodedImage(index, extent, b"", np.full([*extent, 3], FILL, np.uint8))

    def _read_image(self, index: int) -> EncodedImage:
        """Reads a file for TensorFlow to decode by itself, or else its pixels.

        TensorFlow's decoder is quicker from within the pipeline, but knows no orientation and ends a run at damage. So
        it gets a file, known by its checksum, only after it once gave the very pixels of `read_image`.
        """
        path = self.records[index].path
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            content = b""  # read_image says what is wrong
        checksum = zlib.crc32(content)
        proven, extent = self._proven.get(index, (None, None))
        if proven == checksum:
            return EncodedImage(index, extent, content, _NO_PIXELS)
        image = read_image(path)
        if content.startswith(_JPEG_START) and _decodes_alike(content, image):
            self._proven[index] = (checksum, image.shape[:2])
        return EncodedImage(index, image.shape[:2], b"", image)


def decode(content: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """The image, uint8 `[height, width, 3]`, in whichever of the two forms of `EncodedImage` it came."""
    image = tf.cond(tf.strings.length(content) > 0, lambda: _decode_jpeg(content), lambda: pixels)
    return tf.ensure_shape(image, [None, None, 3])


def _decode_jpeg(content: tf.Tensor | bytes) -> tf.Tensor:
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def _decodes_alike(content: bytes, image: np.ndarray) -> bool:
    try:
        return np.array_equal(_decode_jpeg(content), image)
    except tf.errors.InvalidArgumentError:
        return False
