"""DetectorModel: one predict step and `detect` for all detectors."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import keras
import numpy as np
from keras import ops

from keras_lightdet.base_model import BaseModel
from keras_lightdet.boxes import SelectedDetections, SelectSpec, select_detections
from keras_lightdet.detection.detections import Detections
from keras_lightdet.images import ImageInput, for_each_image, resize_image
from keras_lightdet.types import Size, Tensor, Tensors
from keras_lightdet.visualization.boxes import SHOWN_SCORE


class DetectorModel(BaseModel):
    """A detector that trains with stock `compile` and `fit` and detects objects with `detect`.

    Subclasses define the methods listed in `BaseModel`, and `decode`. Data for `fit` are pairs of images
    `[B, H, W, 3]` (0..255, RGB) and `DetectionTargets`.

    Args:
        select: Selection of detections from the decoded boxes.
        **options: Arguments of `BaseModel`.
    """

    config_objects: tuple[str, ...] = ("select",)

    def __init__(self, *, select: SelectSpec, **options: Any):
        super().__init__(**options)
        self.select = select

    def decode(self, raw: Tensors) -> tuple[Tensor, Tensor]:
        """Returns boxes `[B, N, 4]` or `[B, N, K, 4]` (xyxy pixels, inside the input) and scores `[B, N, K]`, 0..1."""
        raise self._missing("decode")

    def predict_step(self, data: Any) -> SelectedDetections:
        """Returns the selected detections of a batch in pixels of the network input."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        boxes, scores = self.decode(self(images, training=False))
        return select_detections(boxes, scores, self.select)

    def detect(
        self, images: ImageInput | Sequence[ImageInput], score_threshold: float = SHOWN_SCORE
    ) -> Detections | list[Detections]:
        """Detects objects in images of any size.

        Args:
            images: An image or a list of images: paths, Pillow images, or arrays `[H, W, 3]` of 0..255 RGB.
            score_threshold: Lowest score of a detection, 0..1.

        Returns:
            `Detections` in pixels of the image (EXIF orientation applied), with the image; a list of them for a list.

        Raises:
            DataError: If a file cannot be read as an image, or an array is not an image.
        """
        return for_each_image(images, lambda pixels: self._detect_in_image(pixels).above(score_threshold))

    def _detect_in_image(self, pixels: np.ndarray) -> Detections:
        batch = self.predict_on_batch(resize_image(pixels, self.input_size)[None])
        selected = {key: value[0] for key, value in batch.items()}
        size = cast(Size, pixels.shape[:2])
        return to_detections(selected, size, self.input_size, self.class_names, image=pixels)

    def _clip_to_input(self, boxes: Tensor) -> Tensor:
        height, width = self.input_size
        return ops.clip(boxes, 0.0, ops.convert_to_tensor([width, height, width, height], "float32"))


def to_detections(
    selected: Mapping[str, np.ndarray],
    image_size: Size,
    input_size: Size,
    class_names: Sequence[str],
    *,
    image: np.ndarray | None = None,
) -> Detections:
    """Converts one image's row of `select_detections` to `Detections` in pixels of the image.

    Args:
        selected: NumPy `{"boxes" [D, 4], "scores" [D], "labels" [D], "count" []}` in pixels of the network input.
        image_size: `(height, width)` of the image.
        input_size: `(height, width)` of the network input.
        class_names: Names in label order.
        image: The image's pixels, uint8 `[height, width, 3]`, to keep with the detections.
    """
    count = int(selected["count"])
    scale = np.array([image_size[1] / input_size[1], image_size[0] / input_size[0]] * 2, "float32")
    boxes = np.asarray(selected["boxes"][:count], "float32") * scale
    scores, labels = np.asarray(selected["scores"][:count]), np.asarray(selected["labels"][:count], "int32")
    return Detections(boxes, scores, labels, tuple(class_names), image)
