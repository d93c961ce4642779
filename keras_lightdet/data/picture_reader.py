"""Reads records inside a tf.data pipeline: pictures, padded boxes, and what to do when a file turns out damaged."""

import atexit
import logging
import threading
import time
import weakref
import zlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_lightdet.data.records import ImageRecord
from keras_lightdet.errors import DataError
from keras_lightdet.images import read_image

# Grey that fills what lies outside a picture, and stands in for one that cannot be read in evaluation.
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
            _logger.warning("Skipped a damaged picture: %s", error)


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
            raise DataError("Expected no more pictures to be read while Python exits.")


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


class PictureReader:
    """Reads pictures and targets by their index among the records, as a TensorFlow op.

    Args:
        records: What the indices count.
        max_boxes: Boxes per picture in the output; a picture with more keeps its largest.
        replace: Take the next readable record for a damaged picture; else a grey picture of its size.
        strict: Fail at a damaged picture instead.
        failures: Takes what failed.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        max_boxes: int,
        *,
        replace: bool,
        strict: bool,
        failures: DecodeFailures,
    ):
        self.records = records
        self.max_boxes = max_boxes
        self.replace = replace
        self.strict = strict
        self.failures = failures
        self._gate = _ExitGate()
        self._proven: dict[int, int] = {}

    def read(self, indices: tf.Tensor, count: int) -> tuple[tuple[tf.Tensor, ...], dict[str, tf.Tensor]]:
        """Reads a group of pictures, whose sizes may differ; `pick` takes one of them out.

        Args:
            indices: Int64 `[count]`.
            count: How many there are.

        Returns:
            `(images, targets)`: uint8 `[height, width, 3]` each; and boxes `[count, G, 4]` in pixels of their
            picture, labels `[count, G]` (-1 pads), ignore `[count, G]` and source `[count]`, the indices read.
        """
        types = [tf.string, tf.uint8] * count + [tf.float32, tf.int32, tf.bool, tf.int32]
        flat = tf.numpy_function(self._read_all, [indices], types)
        boxes, labels, ignore, source = flat[2 * count :]
        targets = {
            "boxes": tf.ensure_shape(boxes, [count, self.max_boxes, 4]),
            "labels": tf.ensure_shape(labels, [count, self.max_boxes]),
            "ignore": tf.ensure_shape(ignore, [count, self.max_boxes]),
            "source": tf.ensure_shape(source, [count]),
        }
        files, pixels = flat[: 2 * count : 2], flat[1 : 2 * count : 2]
        return tuple(_decode(*pair) for pair in zip(files, pixels, strict=True)), targets

    def _read_all(self, indices: np.ndarray) -> list[np.ndarray]:
        self._gate.enter()
        files, pixels, *targets = zip(*(self._read_one(int(index)) for index in indices), strict=True)
        pictures = [part for pair in zip(files, pixels, strict=True) for part in pair]
        return [*pictures, *(np.stack(arrays) for arrays in targets)]

    def _read_one(self, index: int) -> list[np.ndarray | bytes]:
        attempts = len(self.records) if self.replace else 1
        for attempt in range(attempts):
            found = (index + attempt) % len(self.records)
            record = self.records[found]
            try:
                return [*self._read_picture(found), *self._padded(record), np.int32(found)]
            except DataError as error:
                if self.strict:
                    raise
                self.failures.add(record.path, error)
        if self.replace:
            raise DataError(f"Expected readable pictures, got none among {attempts}: {list(self.failures.paths)[:3]}.")
        record = self.records[index]
        grey = np.full([record.height, record.width, 3], FILL, np.uint8)
        return [b"", grey, *self._padded(record), np.int32(index)]

    def _read_picture(self, index: int) -> tuple[bytes, np.ndarray]:
        """Returns a file that TensorFlow may decode by itself, or else no bytes and the pixels.

        TensorFlow's decoder is quicker from within the pipeline, but knows no orientation and ends a run at damage. So
        it gets a file, known by its checksum, only after it once gave the very pixels of `read_image`.
        """
        path = self.records[index].path
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            return b"", read_image(path)  # which says what is wrong
        checksum = zlib.crc32(content)
        if self._proven.get(index) == checksum:
            return content, _NO_PIXELS
        image = read_image(path)
        if content.startswith(_JPEG_START) and _decodes_alike(content, image):
            self._proven[index] = checksum
        return b"", image

    def _padded(self, record: ImageRecord) -> list[np.ndarray]:
        kept = slice(None)
        if len(record.boxes) > self.max_boxes:
            sizes = record.boxes[:, 2:] - record.boxes[:, :2]
            kept = np.argsort(-sizes.prod(axis=-1), kind="stable")[: self.max_boxes]
        boxes = np.zeros([self.max_boxes, 4], np.float32)
        labels = np.full([self.max_boxes], -1, np.int32)
        ignore = np.zeros([self.max_boxes], bool)
        count = min(len(record.boxes), self.max_boxes)
        boxes[:count], labels[:count], ignore[:count] = record.boxes[kept], record.labels[kept], record.ignore[kept]
        return [boxes, labels, ignore]


def _decode(content: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """The picture, uint8 `[height, width, 3]`, in whichever of the two forms it came."""
    image = tf.cond(tf.strings.length(content) > 0, lambda: _decode_jpeg(content), lambda: pixels)
    return tf.ensure_shape(image, [None, None, 3])


def _decode_jpeg(content: tf.Tensor | bytes) -> tf.Tensor:
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def _decodes_alike(content: bytes, image: np.ndarray) -> bool:
    try:
        return np.array_equal(_decode_jpeg(content), image)
    except tf.errors.InvalidArgumentError:
        return False


def pick(
    images: tuple[tf.Tensor, ...], targets: dict[str, tf.Tensor], place: tf.Tensor
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Takes one picture, by its place, out of a group that `PictureReader.read` gave.

    Returns:
        `(image, targets)`: uint8 `[height, width, 3]`, and boxes `[G, 4]`, labels `[G]`, ignore `[G]`, source `[]`.
    """
    image = tf.switch_case(tf.cast(place, tf.int32), [lambda image=image: image for image in images])
    return image, {key: value[place] for key, value in targets.items()}
