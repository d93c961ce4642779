"""Choosing the candidates that a loss counts: at random in given shares, or the hardest ones."""

from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.boxes.assignment import BACKGROUND
from keras_lightdet.spec import Spec


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class SampleSpec(Spec):
    """How many candidates of an image a loss counts.

    Attributes:
        count: Candidates of an image, positive and negative together.
        positive_fraction: Largest share of positives, 0..1; what they do not fill goes to negatives.
    """

    count: int = 256
    positive_fraction: float = 0.5

    def __post_init__(self):
        if self.count < 1 or not 0.0 <= self.positive_fraction <= 1.0:
            raise ValueError(f"Expected a positive count and a fraction in 0..1, got {self!r}.")

    @property
    def max_positive(self) -> int:
        """Most positives of an image."""
        return int(self.count * self.positive_fraction)


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class OhemSpec(Spec):
    """Online hard example mining (Shrivastava et al. 2016).

    Attributes:
        count: Candidates of an image that stay in the loss.
        joint: Whether the images of a batch share their `count`s: the hardest `B * count` of all stay, wherever
            they are. The authors of Light-Head R-CNN do so, with 512 for two images.
    """

    count: int = 256
    joint: bool = False


def random_keys(shape, seed: tf.Tensor) -> tf.Tensor:
    """Returns uniform float32 numbers, 0..1, that depend on `shape` and `seed` (int `[2]`) alone.

    A seed made of the run's seed and the step number gives a resumed run the samples of an uninterrupted one.
    """
    # The bits are the same under every compiler; TensorFlow's own way from bits to numbers is another under XLA.
    bits = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    return tf.cast(tf.bitwise.right_shift(bits, 8), tf.float32) / 2**24


def sample_assignments(matched: keras.KerasTensor, keys: keras.KerasTensor, spec: SampleSpec) -> dict:
    """Draws positives and negatives of each image without replacement.

    Args:
        matched: `[B, N]` int32 from `assign_anchors`.
        keys: `[B, N]` random numbers, see `random_keys`: the candidates of the largest keys are drawn.
        spec: The shares.

    Returns:
        `{"indices" [B, S] int32, "positive" [B, S] bool, "valid" [B, S] bool}` with S = `spec.count`: positives
        first, then negatives, then slots that are not valid (index 0) where there are too few candidates. Each
        valid index occurs once.
    """
    positive_rows, positive_real = _draw(matched >= 0, keys, spec.max_positive)
    negative_rows, negative_real = _draw(matched == BACKGROUND, keys, spec.count)
    rows = ops.concatenate([positive_rows, negative_rows], axis=1)
    real = ops.concatenate([positive_real, negative_real], axis=1)
    is_positive = ops.concatenate([positive_real, ops.zeros_like(negative_real)], axis=1)
    # The slots in use move to the front in their order; there are never fewer slots than `count`.
    slots = spec.max_positive + spec.count
    order = ops.where(real, 0, slots) + ops.arange(slots)
    chosen = ops.top_k(-order, spec.count)[1]
    real = ops.take_along_axis(real, chosen, axis=1)
    return {
        "indices": ops.where(real, ops.take_along_axis(rows, chosen, axis=1), 0),
        "positive": ops.take_along_axis(is_positive, chosen, axis=1),
        "valid": real,
    }


def ohem_mask(losses: keras.KerasTensor, valid: keras.KerasTensor, spec: OhemSpec) -> keras.KerasTensor:
    """Marks the candidates with the largest losses.

    Args:
        losses: `[B, N]`, at least 0, not NaN; no gradient flows through the choice.
        valid: `[B, N]` bool, false for candidates that are never chosen.
        spec: How many.

    Returns:
        Float32 `[B, N]`, 1 for the chosen ones and 0 for the others, to weigh the same losses with.
    """
    batch, candidates = ops.shape(losses)[0], losses.shape[1]
    losses = ops.where(valid, ops.stop_gradient(losses), -1.0)
    wanted, available = min(spec.count, candidates), candidates
    if spec.joint:
        losses, wanted, available = ops.reshape(losses, (1, -1)), wanted * batch, available * batch
    hardest, rows = ops.top_k(losses, wanted)
    starts = ops.expand_dims(ops.arange(ops.shape(losses)[0], dtype="int32") * available, -1)
    places = ops.reshape(ops.cast(rows, "int32") + starts, (-1, 1))
    flat = ops.scatter(places, ops.reshape(ops.cast(hardest >= 0, "float32"), (-1,)), (batch * candidates,))
    return ops.reshape(flat, (batch, candidates))


def _draw(eligible, keys, count: int) -> tuple:
    """The rows `[B, count]` of the largest keys among the eligible ones, and which of them are real."""
    keys = ops.where(eligible, keys, -1.0)
    spare = ops.full((ops.shape(keys)[0], count), -1.0)  # there may be fewer candidates than slots
    drawn, rows = ops.top_k(ops.concatenate([keys, spare], axis=1), count)
    return ops.cast(rows, "int32"), drawn >= 0
