"""DetectorModel: one train step, test step, predict step and `detect` for every detector of the package."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_lightdet.boxes import Detections, SelectSpec, select_detections
from keras_lightdet.boxes.detections import SHOWN_SCORE
from keras_lightdet.detection.stages import Stage
from keras_lightdet.images import read_image, resize_image

MAX_HALTED_SOURCES = 256


class DetectorModel(keras.Model):
    """A detector that trains by stock `compile` and `fit` and answers by `detect`.

    A leaf writes `call(images) -> raw`, `compute_losses(images, targets, training) -> {name: scalar}`,
    `decode(raw) -> (boxes [B, N, 4], scores [B, N, K])`, `networks`, `stages` and `get_config`; the rest stands here
    once.

    Data for `fit` are pairs of images `[B, H, W, 3]` (0..255, RGB) and targets `{"boxes" [B, G, 4] xyxy pixels of
    the images, "labels" [B, G] (-1 pads), "ignore" [B, G] (1 or 0), "sources" [B, S] int}`. "sources" is optional:
    it names the pictures when a loss is not finite.

    Args:
        class_names: Names of the classes in label order.
        input_size: `(height, width)` in pixels that pictures are stretched to.
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
        super().__init__(name=name)
        self.class_names = tuple(class_names)
        self.input_size = tuple(input_size)
        self.select = select
        self.architecture = dict(architecture or {})
        self._trackers = {key: keras.metrics.Mean(name=key) for key in ("loss", *loss_names)}
        # Set by the first loss that is not finite: it stops all later gradients until Python looks.
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.halted = tf.Variable(False, trainable=False, aggregation=first, name="halted")
        self.halted_sources = tf.Variable(
            tf.fill([MAX_HALTED_SOURCES], -1), trainable=False, aggregation=first, name="halted_sources"
        )

    @property
    def num_classes(self) -> int:
        """How many classes are told apart."""
        return len(self.class_names)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running means of the losses."""
        return list(self._trackers.values())

    def compute_losses(self, images, targets, training: bool) -> dict:
        """Returns the weighted parts of the loss: this replica's share, divided by the count of all replicas."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_losses.")

    def decode(self, raw: dict) -> tuple:
        """Returns boxes `[B, N, 4]` (xyxy pixels, inside the input) and scores `[B, N, K]`, 0..1."""
        raise NotImplementedError(f"{type(self).__name__} must define decode.")

    def networks(self, input_size: tuple[int, int] | None = None) -> list[tuple[keras.Model, list[tuple]]]:
        """Returns the functional models in the order they run, each with the shapes of its inputs without the batch.

        Args:
            input_size: `(height, width)` in pixels; `None` takes the detector's own.
        """
        raise NotImplementedError(f"{type(self).__name__} must define networks.")

    def stages(self) -> list[Stage]:
        """Returns the functions that make up `call` at inference, in their order: what a .tflite is made of."""
        raise NotImplementedError(f"{type(self).__name__} must define stages.")

    def train_step(self, data) -> dict:
        """Takes one optimizer step on a batch; from a loss that is not finite on, no gradient reaches the weights."""
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            losses = self.compute_losses(images, targets, training=True)
            extra = [penalty / _num_replicas() for penalty in self.losses]
            loss = ops.sum(ops.stack([*losses.values(), *extra]))
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_weights
        gradients = tape.gradient(scaled, variables)
        halted = self._watch(loss, targets)
        gradients = [_zero_where(halted, gradient) for gradient in gradients]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._track(loss, losses, images)

    def test_step(self, data) -> dict:
        """Computes the losses of a batch as at inference."""
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        losses = self.compute_losses(images, targets, training=False)
        return self._track(ops.sum(ops.stack(list(losses.values()))), losses, images)

    def predict_step(self, data) -> dict:
        """Returns the selected detections of a batch in pixels of the network input, see `select_detections`."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return select_detections(*self.decode(self(images, training=False)), self.select)

    def detect(self, images, score_threshold: float = SHOWN_SCORE) -> Detections | list[Detections]:
        """Finds objects in pictures of any size.

        Args:
            images: A picture or a list of pictures: paths, or arrays `[H, W, 3]` of 0..255 RGB.
            score_threshold: Leaves out detections below this score, 0..1.

        Returns:
            `Detections` in pixels of the picture given (EXIF orientation applied), or a list of them for a list.

        Raises:
            DataError: If a file cannot be read as a picture.
            ValueError: If an array is not `[H, W, 3]`.
        """
        if isinstance(images, (str, Path)) or getattr(images, "ndim", None) == 3:
            return self.detect([images], score_threshold)[0]
        found = []
        for image in images:  # one by one: pictures differ in size and a list may be long
            image = read_image(image) if isinstance(image, (str, Path)) else np.asarray(image)
            if image.ndim != 3 or image.shape[-1] != 3:
                raise ValueError(f"Expected a picture of shape [H, W, 3], got {image.shape}. Convert it to RGB.")
            resized = resize_image(image, self.input_size)
            answer = {key: value[0] for key, value in self.predict_on_batch(resized[None]).items()}
            found.append(to_detections(answer, image.shape[:2], self.input_size, self.class_names))
        return [each.above(score_threshold) for each in found]

    def build(self, input_shape=None) -> None:
        """Marks the model as built: its networks were built with it."""
        self.built = True

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            "class_names": list(self.class_names),
            "input_size": list(self.input_size),
            "select": keras.saving.serialize_keras_object(self.select),
            "architecture": self.architecture,
            "name": self.name,
        }

    def _watch(self, loss, targets) -> tf.Tensor:
        """Notes the pictures of the first batch whose loss is not finite; true from then on."""
        bad = global_sum(tf.cast(~tf.math.is_finite(loss), tf.float32)) > 0
        if "sources" in targets:
            sources = tf.reshape(_gather_replicas(tf.cast(targets["sources"], tf.int32)), [-1])[:MAX_HALTED_SOURCES]
            sources = tf.pad(sources, [[0, MAX_HALTED_SOURCES - tf.shape(sources)[0]]], constant_values=-1)
            first_time = bad & ~self.halted
            self.halted_sources.assign(tf.where(first_time, sources, self.halted_sources))
        halted = self.halted | bad
        self.halted.assign(halted)
        return halted

    def _track(self, loss, losses: dict, images) -> dict:
        with tf.control_dependencies([loss]):
            # Without the loss before it a constant weight is counted once more when the data run out.
            weight = tf.identity(tf.cast(tf.shape(images)[0], tf.float32))
        for key, value in {"loss": loss, **losses}.items():
            self._trackers[key].update_state(value * _num_replicas(), weight)
        return {key: tracker.result() for key, tracker in self._trackers.items()}


def to_detections(
    answer: Mapping[str, np.ndarray],
    image_size: tuple[int, int],
    input_size: tuple[int, int],
    class_names: Sequence[str],
) -> Detections:
    """Turns one picture's row of `select_detections` into `Detections` in pixels of the picture.

    Args:
        answer: NumPy `{"boxes" [D, 4], "scores" [D], "labels" [D], "count" []}` in pixels of the network input.
        image_size: `(height, width)` of the picture.
        input_size: `(height, width)` of the network input.
        class_names: Names in label order.
    """
    count = int(answer["count"])
    scale = np.array([image_size[1] / input_size[1], image_size[0] / input_size[0]] * 2, "float32")
    boxes = np.asarray(answer["boxes"][:count], "float32") * scale
    scores, labels = np.asarray(answer["scores"][:count]), np.asarray(answer["labels"][:count], "int32")
    return Detections(boxes, scores, labels, tuple(class_names))


def global_sum(value: tf.Tensor) -> tf.Tensor:
    """Sums a scalar over the replicas of a distribution strategy."""
    context = tf.distribute.get_replica_context()
    return context.all_reduce("sum", value) if _num_replicas() > 1 else value


def _gather_replicas(value: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    return context.all_gather(value, axis=0) if _num_replicas() > 1 else value


def _num_replicas() -> int:
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context is not None else 1


def _zero_where(halted: tf.Tensor, gradient: tf.Tensor | None) -> tf.Tensor | None:
    return None if gradient is None else tf.where(halted, tf.zeros_like(gradient), gradient)
