"""Classifier: a backbone with a classification head, trained by stock `compile` and `fit`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_lightdet.images import ImageInput, center_crop, for_each_image
from keras_lightdet.types import Config, Size

HEAD = "classifier"  # name of the layer that predicts the classes
DEFAULT_SIZE = (224, 224)  # of models whose input has no fixed size, as in ImageNet's evaluations


@dataclass(frozen=True)
class Classification:
    """The class of one image.

    Attributes:
        probabilities: Float32 `[K]`, in label order; they sum to 1.
        class_names: Names of the classes in label order.
    """

    probabilities: np.ndarray
    class_names: tuple[str, ...]

    @property
    def label(self) -> int:
        """Index of the most probable class."""
        return int(np.argmax(self.probabilities))

    @property
    def score(self) -> float:
        """Probability of the most probable class."""
        return float(self.probabilities[self.label])

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Returns name and probability of the `count` most probable classes, best first."""
        labels = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.class_names[label], float(self.probabilities[label])) for label in labels]


@keras.saving.register_keras_serializable("keras_lightdet")
class Classifier(keras.Model):
    """A functional model, images `[B, H, W, 3]` (0..255, RGB) -> float32 logits `[B, num_classes]`.

    It trains by stock `compile` and `fit` with Keras' losses, `from_logits=True`.

    Args:
        inputs: The images, a Keras tensor.
        outputs: The logits, a Keras tensor.
        name: Name of the model.
        architecture: Name and arguments of the builder, saved beside the weights.
        class_names: Names of the classes in label order; `None` for "class 0", "class 1", ..
    """

    def __init__(
        self,
        inputs: keras.KerasTensor,
        outputs: keras.KerasTensor,
        name: str | None = None,
        *,
        architecture: Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self.architecture = json.loads(json.dumps(dict(architecture or {})))  # tuples become lists, as in a record
        self.class_names = class_names or [f"class {index}" for index in range(self.num_classes)]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.output_shape[-1]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in label order; setting other than `num_classes` names raises a `ValueError`."""
        return self._class_names

    @class_names.setter
    def class_names(self, names: Sequence[str]) -> None:
        if len(names) != self.num_classes:
            raise ValueError(
                f"Expected {self.num_classes} class_names, got {len(names)}. Build the classifier with "
                f"num_classes={len(names)}."
            )
        self._class_names = tuple(names)

    @property
    def input_size(self) -> Size | None:
        """`(height, width)` in pixels; `None` if the model was built for images of any size."""
        _, height, width, _ = self.input_shape
        return None if height is None or width is None else (height, width)

    def class_layers(self) -> list[layers.Layer]:
        """Returns the layers whose weights belong to the classes."""
        return [self.get_layer(HEAD)]

    def classify(
        self, images: ImageInput | Sequence[ImageInput], *, input_size: Size | None = None
    ) -> Classification | list[Classification]:
        """Classifies images of any size, preprocessed as in evaluation: the resized central square.

        Args:
            images: An image or a list of images: paths, Pillow images, or arrays `[H, W, 3]` of 0..255 RGB.
            input_size: `(height, width)` in pixels of the network input; by default the model's own, or 224 x 224.

        Returns:
            A `Classification`, or a list of them for a list.

        Raises:
            DataError: If a file cannot be read as an image, or an array is not an image.
        """
        size = input_size or self.input_size or DEFAULT_SIZE
        return for_each_image(images, lambda pixels: self._classify_one(center_crop(pixels, size)))

    def _classify_one(self, image: np.ndarray) -> Classification:
        logits = self.predict_on_batch(image[None])[0]
        return Classification(np.asarray(keras.ops.softmax(logits)), self.class_names)

    def get_config(self) -> Config:
        """Returns the graph and the constructor's arguments."""
        own = {"architecture": dict(self.architecture), "class_names": list(self.class_names)}
        return {**super().get_config(), **own}


def classification_head(x: keras.KerasTensor, num_classes: int, *, dropout: float = 0.0) -> keras.KerasTensor:
    """Adds global average pooling, dropout and a dense layer.

    Args:
        x: `[B, H, W, C]`.
        num_classes: Number of classes.
        dropout: Rate of the dropout; 0 for none.

    Returns:
        Float32 logits `[B, num_classes]`.
    """
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    small = keras.initializers.RandomNormal(stddev=0.01)
    return layers.Dense(num_classes, kernel_initializer=small, dtype="float32", name=HEAD)(x)
