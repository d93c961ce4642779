"""Runs exported .tflite files: detectors and segmenters with the interface of the Keras models."""

import importlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from keras_lightdet.deploy import flatbuffer
from keras_lightdet.deploy.metadata import read_labels
from keras_lightdet.deploy.postprocess import OUTPUTS
from keras_lightdet.detection.detections import Detections
from keras_lightdet.errors import ExportError
from keras_lightdet.files import StrPath
from keras_lightdet.images import ImageInput, for_each_image, resize_image
from keras_lightdet.segmentation.model import to_labels
from keras_lightdet.types import Size
from keras_lightdet.visualization.boxes import SHOWN_SCORE

_LOGGER = logging.getLogger(__name__)

MASKS = "masks"  # output of a segmenter, `[1, H, W, K]`

Interpreter: TypeAlias = Any  # of the runtime, which is loaded at run time and has no types
Outputs = dict[str, np.ndarray]


def load_runtime() -> ModuleType:
    """Returns the module whose `Interpreter` runs .tflite files: ai_edge_litert's, else TensorFlow's.

    Raises:
        ExportError: Neither is installed.
    """
    try:
        return importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        _LOGGER.warning(
            "ai-edge-litert is not installed; running .tflite files with TensorFlow's own interpreter, "
            "which TensorFlow will remove. %s",
            flatbuffer.INSTALL,
        )
    try:
        return importlib.import_module("tensorflow.lite.python.interpreter")
    except ImportError:
        raise ExportError(
            "Expected a runtime for .tflite files, found neither ai-edge-litert nor TensorFlow Lite. "
            f"{flatbuffer.INSTALL}"
        ) from None


def make_interpreter(
    content: bytes, *, num_threads: int = 1, name: str = "the converted model", keep_all: bool = False
) -> Interpreter:
    """Returns an interpreter with allocated tensors; with `keep_all` every tensor can be read after a run.

    Raises:
        ExportError: The flatbuffer is damaged or needs an op that the runtime lacks.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the memory that `keep_all` takes
            interpreter = load_runtime().Interpreter(
                model_content=content, num_threads=num_threads, experimental_preserve_all_tensors=keep_all
            )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ExportError(
            f"Expected {name} to be a model that the TFLite runtime loads, got {error}. Export it again."
        ) from None
    return interpreter


class TFLiteGraph:
    """A .tflite as a function from named arrays to named arrays.

    Args:
        content: The flatbuffer.
        num_threads: Threads of the interpreter.
        name: Name of the model in error messages.
        keep_all: Whether every tensor can be read from `interpreter` after a run.

    Attributes:
        input_shapes: Shape of each input in the signature.
        output_names: Names of the outputs in the signature.
        interpreter: The interpreter that runs the graph.
    """

    def __init__(
        self, content: bytes, *, num_threads: int = 1, name: str = "the converted model", keep_all: bool = False
    ) -> None:
        self.interpreter = make_interpreter(content, num_threads=num_threads, name=name, keep_all=keep_all)
        self._inputs, self._outputs = flatbuffer.signature_tensors(flatbuffer.unpack(content, name))
        details = {detail["index"]: detail for detail in self.interpreter.get_input_details()}
        self.input_shapes = {key: tuple(details[i]["shape"].tolist()) for key, i in self._inputs.items()}
        self.output_names = tuple(self._outputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Outputs:
        """Returns the outputs by name."""
        for name, index in self._inputs.items():
            self.interpreter.set_tensor(index, inputs[name])
        self.interpreter.invoke()
        return {name: self.interpreter.get_tensor(index) for name, index in self._outputs.items()}


class _TFLiteModel:
    """A network from a .tflite file that takes one image and gives the outputs that a subclass names."""

    _outputs: tuple[str, ...]
    _cure: str  # for a file of other outputs

    def __init__(self, path: StrPath, *, num_threads: int = 1) -> None:
        name = repr(str(path))
        self.class_names = read_labels(path)
        self._graph = TFLiteGraph(flatbuffer.read_content(path), num_threads=num_threads, name=name)
        inputs, outputs = list(self._graph.input_shapes), self._graph.output_names
        if inputs != ["images"] or set(outputs) != set(self._outputs):
            raise ExportError(
                f"Expected {name} to take 'images' and give {self._outputs}, got {inputs} and {outputs}. {self._cure}"
            )
        self.input_size: Size = self._graph.input_shapes["images"][1:3]

    def _run(self, pixels: np.ndarray) -> Outputs:
        return self._graph.run({"images": resize_image(pixels, self.input_size)[None]})


class TFLiteDetector(_TFLiteModel):
    """A detector from a .tflite file that contains post-processing.

    Args:
        path: A file written by `export_detection`.
        num_threads: Threads of the interpreter.

    Attributes:
        input_size: `(H, W)` of the network.
        class_names: Class names packed in the file, in label order.

    Raises:
        ExportError: The file is missing, damaged, without labels, or without post-processing.
    """

    _outputs = OUTPUTS
    _cure = "Export it with postprocess='builtin' or 'custom_op'."

    def detect(
        self, images: ImageInput | Sequence[ImageInput], score_threshold: float = SHOWN_SCORE
    ) -> Detections | list[Detections]:
        """Detects objects, as `DetectorModel.detect` does.

        Args:
            images: An image or a list of images, see `DetectorModel.detect`.
            score_threshold: Lowest score to keep, 0..1; no effect below the threshold of the file.

        Returns:
            Detections in pixels of the input image; a list of them for a list.
        """
        return for_each_image(images, lambda pixels: self._detect_one(pixels).above(score_threshold))

    def _detect_one(self, pixels: np.ndarray) -> Detections:
        return to_detections(self._run(pixels), pixels.shape[:2], self.class_names, image=pixels)


class TFLiteSegmenter(_TFLiteModel):
    """A segmenter from a .tflite file.

    Args:
        path: A file written by `export_segmentation`.
        num_threads: Threads of the interpreter.

    Attributes:
        input_size: `(H, W)` of the network.
        class_names: Class names packed in the file, in label order.

    Raises:
        ExportError: The file is missing, damaged, without labels, or not a segmenter.
    """

    _outputs = (MASKS,)
    _cure = "Export it from a segmenter."

    def segment(self, images: ImageInput | Sequence[ImageInput]) -> np.ndarray | list[np.ndarray]:
        """Labels every pixel, as `SegmentationModel.segment` does: uint8 `[H, W]` of the input image's size."""
        return for_each_image(images, lambda pixels: to_labels(self._run(pixels)[MASKS][0], pixels.shape[:2]))


def to_detections(
    outputs: Mapping[str, np.ndarray], size: Size, class_names: Sequence[str], *, image: np.ndarray | None = None
) -> Detections:
    """Converts a file's four outputs to detections in pixels of an image of `size` `(H, W)`, which they may keep."""
    count = int(np.ravel(outputs["count"])[0])
    y_min, x_min, y_max, x_max = np.asarray(outputs["boxes"])[0, :count].T
    height, width = size
    boxes = np.stack([x_min * width, y_min * height, x_max * width, y_max * height], axis=-1)
    return Detections(
        boxes.astype(np.float32),
        np.asarray(outputs["scores"])[0, :count],
        np.asarray(outputs["labels"])[0, :count].astype(np.int32),
        tuple(class_names),
        image,
    )
