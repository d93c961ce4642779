"""DetectorModel: one predict step and `detect` for every detector of the package."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_lightdet.base_model import BaseModel
from keras_lightdet.boxes import SelectSpec, select_detections
from keras_lightdet.detection.detections import SHOWN_SCORE, Detections
from keras_lightdet.images import ImageInput, for_each_image, resize_image
from keras_lightdet.inference_stage import InferenceStage


class DetectorModel(BaseModel):
    """A detector that trains by stock `compile` and `fit` and answers by `detect`.

    A leaf writes `call(images) -> raw`, `compute_losses(images, targets, training) -> {name: scalar}`,
    `decode(raw) -> (boxes [B, N, 4], scores [B, N, K])`, `networks`, `stages` and `get_config`; the rest stands here
    once.

    Data for `fit` are pairs of images `[B, H, W, 3]` (0..255, RGB) and targets `{"boxes" [B, G, 4] xyxy pixels of
    the images, "labels" [B, G] (-1 pads), "ignore" [B, G] (1 or 0), "sources" [B, S] int}`. "sources" is optional:
    it names the images when a loss is not finite.

    Args:
        class_names: Names of the classes in label order.
        input_size: `(height, width)` in pixels that images are stretched to.
        select: How detections are chosen from the decoded boxes.
        loss_names: Keys of what `compute_losses` returns.
        architecture: Name and arguments of the builder, kept beside saved weights.
        name: Name of the model.
    """

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        input_size: tuple[int, int],
        select: SelectSpec,
        loss_names: Sequence[str],
        architecture: Mapping | None = None,
        name: str | None = None,
    ):
        super().__init__(
            class_names=class_names,
            input_size=input_size,
            loss_names=loss_names,
            architecture=architecture,
            name=name,
        )
        self.select = select

    def decode(self, raw: dict) -> tuple:
        """Returns boxes `[B, N, 4]` (xyxy pixels, inside the input) and scores `[B, N, K]`, 0..1."""
        raise NotImplementedError(f"{type(self).__name__} must define decode.")

    def inference_stages(self) -> list[InferenceStage]:
        """Returns the functions that make up `call` at inference, in their order: what a .tflite is made of."""
        raise NotImplementedError(f"{type(self).__name__} must define stages.")

    def predict_step(self, data) -> dict:
        """Returns the selected detections of a batch in pixels of the network input, see `select_detections`."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return select_detections(*self.decode(self(images, training=False)), self.select)

    def detect(
        self, images: ImageInput | Sequence[ImageInput], score_threshold: float = SHOWN_SCORE
    ) -> Detections | list[Detections]:
        """Finds objects in images of any size.

        Args:
            images: An image or a list of images: paths, Pillow images, or arrays `[H, W, 3]` of 0..255 RGB.
            score_threshold: Leaves out detections below this score, 0..1.

        Returns:
            `Detections` in pixels of the image given (EXIF orientation applied), or a list of them for a list.

        Raises:
            DataError: If a file cannot be read as an image, or an array is none.
        """
        return for_each_image(images, lambda pixels: self._detect_one(pixels).above(score_threshold))

    def _detect_one(self, pixels: np.ndarray) -> Detections:
        answer = self.predict_on_batch(resize_image(pixels, self.input_size)[None])
        answer = {key: value[0] for key, value in answer.items()}
        return to_detections(answer, pixels.shape[:2], self.input_size, self.class_names)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            "class_names": list(self.class_names),
            "input_size": list(self.input_size),
            "select": keras.saving.serialize_keras_object(self.select),
            "architecture": self.architecture,
            "name": self.name,
        }


def to_detections(
    answer: Mapping[str, np.ndarray],
    image_size: tuple[int, int],
    input_size: tuple[int, int],
    class_names: Sequence[str],
) -> Detections:
    """Turns one image's row of `select_detections` into `Detections` in pixels of the image.

    Args:
        answer: NumPy `{"boxes" [D, 4], "scores" [D], "labels" [D], "count" []}` in pixels of the network input.
        image_size: `(height, width)` of the image.
        input_size: `(height, width)` of the network input.
        class_names: Names in label order.
    """
    count = int(answer["count"])
    scale = np.array([image_size[1] / input_size[1], image_size[0] / input_size[0]] * 2, "float32")
    boxes = np.asarray(answer["boxes"][:count], "float32") * scale
    scores, labels = np.asarray(answer["scores"][:count]), np.asarray(answer["labels"][:count], "int32")
    return Detections(boxes, scores, labels, tuple(class_names))
