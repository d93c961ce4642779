"""What the exports of detectors and segmenters share: calibration images, verified writing and the report."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from keras_lightdet.base_model import BaseModel
from keras_lightdet.deploy import flatbuffer
from keras_lightdet.errors import ExportError
from keras_lightdet.files import write_durably
from keras_lightdet.images import resize_image

CALIBRATION_IMAGES = 100  # more changed nothing measurable


@dataclass(frozen=True)
class FileReport:
    """A written file.

    Attributes:
        path: The file.
        num_bytes: Its size.
        ops: Number of operators by name.
        partitions: Number of subgraphs that XNNPACK, the CPU delegate, takes.
        raw_errors: Root mean square error of each raw output, as a fraction of its standard deviation.
    """

    path: str
    num_bytes: int
    ops: dict[str, int]
    partitions: int
    raw_errors: dict[str, float]


@contextmanager
def verified_file(path: Path, content: bytes) -> Iterator[bytes]:
    """Writes a temporary file, yields what was written, and renames it to `path` if the body raises no error.

    Raises:
        ExportError: Raised by the body, or the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        write_durably(temporary, content)
        yield flatbuffer.read_content(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise ExportError(f"Expected to write {str(path)!r}, got {error}. Choose a writable folder.") from None
    finally:
        temporary.unlink(missing_ok=True)


def prepare_calibration(model: BaseModel, calibration: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Returns up to `CALIBRATION_IMAGES` images at the model's input size, uint8 `[H, W, 3]`.

    Raises:
        ExportError: There are no images, or the model does not compute in float32.
    """
    other_dtypes = {layer.compute_dtype for layer in model._flatten_layers(include_self=False)} - {"float32", None}
    if other_dtypes:
        raise ExportError(
            f"Expected a model of float32 policy, got layers that compute in {sorted(other_dtypes)}. "
            "Build it again under the float32 policy and load the weights."
        )
    images = [resize_image(image, model.input_size) for image in islice(calibration, CALIBRATION_IMAGES)]
    if not images:
        raise ExportError("Expected images to compare the file with the model on, got none. Pass calibration images.")
    return images
