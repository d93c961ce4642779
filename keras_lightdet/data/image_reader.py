"""Reads images inside a tf.data pipeline and replaces those whose files are damaged."""

import atexit
import time
import weakref
import zlib
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from keras_lightdet.data.issues import DecodeFailures
from keras_lightdet.errors import DataError
from keras_lightdet.images import read_image
from keras_lightdet.types import Size

FILL = 114  # gray level outside an image, and of images that replace damaged ones in evaluation
# The arguments of `decode`: a file for TensorFlow to decode, or empty, and otherwise the pixels.
Encoded: TypeAlias = tuple[bytes, np.ndarray]
ENCODED_SPEC = (tf.TensorSpec([], tf.string), tf.TensorSpec([None, None, 3], tf.uint8))
_JPEG_START = b"\xff\xd8"
_NO_PIXELS = np.zeros([0, 0, 3], np.uint8)
# The pipelines' threads must have been idle for this long before Python exits.
_IDLE_SECONDS = 0.2
_MAX_EXIT_SECONDS = 5.0


class _ExitGate:
    """Lets Python exit while a pipeline still reads ahead.

    A thread of TensorFlow that calls Python during interpreter shutdown never returns, and the process hangs. Calls
    through a closed gate fail at once, so the pipeline's buffers fill with errors and its threads idle.
    """

    def __init__(self) -> None:
        self.closed = False
        self.last_call = time.monotonic()
        _gates.add(self)

    def enter(self) -> None:
        """Records a call from the pipeline, or fails after the gate is closed."""
        self.last_call = time.monotonic()
        if self.closed:
            raise DataError("Expected no more images to be read while Python exits.")


_gates: "weakref.WeakSet[_ExitGate]" = weakref.WeakSet()


@atexit.register
def _close_gates() -> None:
    gates, start = list(_gates), time.monotonic()
    for gate in gates:
        gate.closed, gate.last_call = True, start
    while gates and time.monotonic() - start < _MAX_EXIT_SECONDS:
        time.sleep(_IDLE_SECONDS / 10)
        if time.monotonic() - max(gate.last_call for gate in gates) > _IDLE_SECONDS:
            return


class EncodedImage(NamedTuple):
    """An image as read from its file."""

    source: int  # index of the record it belongs to
    extent: Size
    encoded: Encoded


class ImageReader:
    """Reads images by the index of their record.

    Args:
        paths: The image files of the records.
        failures: Counts the files that fail to decode.
        strict: Whether to fail at a damaged image.
        fallback_extents: `(height, width)` of the gray images that replace damaged ones; None takes the next readable
            image instead.
    """

    def __init__(
        self,
        paths: Sequence[str],
        failures: DecodeFailures | None,
        *,
        strict: bool = False,
        fallback_extents: Sequence[Size] | None = None,
    ) -> None:
        self.failures = failures if failures is not None else DecodeFailures()
        self.strict = strict
        self._paths = paths
        self._fallback_extents = fallback_extents
        self._gate = _ExitGate()
        # Checksum and extent of the files that TensorFlow decodes to the same pixels as `read_image`, by index.
        self._verified: dict[int, tuple[int, Size]] = {}

    def read(self, index: int) -> EncodedImage:
        """Reads one image; may be called by TensorFlow's threads.

        Raises:
            DataError: The file is damaged and the reader is strict, or no file is readable.
        """
        self._gate.enter()
        attempts = len(self._paths) if self._fallback_extents is None else 1
        for attempt in range(attempts):
            source = (index + attempt) % len(self._paths)
            try:
                return self._read_file(source)
            except DataError as error:
                if self.strict:
                    raise
                self.failures.add(self._paths[source], error)
        if self._fallback_extents is None:
            raise DataError(f"Expected readable images, got none among {attempts}: {list(self.failures.paths)[:3]}.")
        extent = self._fallback_extents[index]
        return EncodedImage(index, extent, (b"", np.full([*extent, 3], FILL, np.uint8)))

    def _read_file(self, index: int) -> EncodedImage:
        # TensorFlow's decoder is faster inside a pipeline, but ignores the EXIF orientation and ends the run at a
        # damaged file. A file, identified by checksum, is passed to it only after both decoders gave the same pixels.
        path = self._paths[index]
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            content = b""  # read_image raises the error
        checksum = zlib.crc32(content)
        verified = self._verified.get(index)
        if verified is not None and verified[0] == checksum:
            return EncodedImage(index, verified[1], (content, _NO_PIXELS))
        image = read_image(path)
        height, width = image.shape[:2]
        if content.startswith(_JPEG_START) and _decodes_to(content, image):
            self._verified[index] = (checksum, (height, width))
        return EncodedImage(index, (height, width), (b"", image))


def decode(content: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Returns the pixels, uint8 `[height, width, 3]`, of `EncodedImage.encoded`."""
    image = tf.cond(tf.strings.length(content) > 0, lambda: _decode_jpeg(content), lambda: pixels)
    return tf.ensure_shape(image, [None, None, 3])


def _decode_jpeg(content: tf.Tensor | bytes) -> tf.Tensor:
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def _decodes_to(content: bytes, image: np.ndarray) -> bool:
    try:
        return np.array_equal(_decode_jpeg(content), image)
    except tf.errors.InvalidArgumentError:
        return False
