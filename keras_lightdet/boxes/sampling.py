"""Selection of the candidates that a loss counts: random sampling, or online hard example mining (OHEM)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import keras
import tensorflow as tf
from keras import ops

from keras_lightdet.boxes.assignment import BACKGROUND
from keras_lightdet.spec import Spec
from keras_lightdet.types import Tensor


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class SampleSpec(Spec):
    """Settings of random sampling.

    Attributes:
        count: Candidates per image, positive and negative together.
        positive_fraction: Largest fraction of positives, 0..1; negatives fill the rest.
    """

    count: int = 256
    positive_fraction: float = 0.5

    def __post_init__(self) -> None:
        if self.count < 1 or not 0.0 <= self.positive_fraction <= 1.0:
            raise ValueError(f"Expected a positive count and a fraction in 0..1, got {self!r}.")

    @property
    def max_positive(self) -> int:
        """Largest number of positives per image."""
        return int(self.count * self.positive_fraction)


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class OhemSpec(Spec):
    """Settings of online hard example mining (Shrivastava et al. 2016).

    Attributes:
        count: Candidates per image that the loss counts: those with the largest losses.
        joint: Whether the images of a batch share their `count`s: the loss counts the `B * count` largest of the
            batch, in any image. The authors of Light-Head R-CNN do so, with 512 for two images.
    """

    count: int = 256
    joint: bool = False


class Sample(TypedDict):
    """Sampled candidates of a batch: positives first, then negatives, then padding.

    Attributes:
        indices: Int32 `[B, S]`; each valid index occurs once; 0 in padding.
        positive: Bool `[B, S]`.
        valid: Bool `[B, S]`, false in padding.
    """

    indices: Tensor
    positive: Tensor
    valid: Tensor


def random_keys(shape: Sequence[int] | Tensor, seed: Tensor) -> Tensor:
    """Returns uniform float32 numbers, 0..1, that depend on `shape` and `seed` (int `[2]`) only.

    With a seed made of the step number, a resumed run draws the samples of an uninterrupted one.
    """
    # These bits are the same under every compiler; TensorFlow's conversion from bits to floats differs under XLA.
    bits = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    return tf.cast(tf.bitwise.right_shift(bits, 8), tf.float32) / 2**24


def sample_assignments(assigned: Tensor, keys: Tensor, spec: SampleSpec) -> Sample:
    """Samples positives and negatives of each image without replacement.

    Args:
        assigned: `[B, N]` int32 from `assign_anchors`.
        keys: `[B, N]` random numbers, see `random_keys`: candidates with the largest keys are sampled.
        spec: Settings.

    Returns:
        S = `spec.count` candidates per image; padding where there are too few.
    """
    positive_rows, positive_real = _draw(assigned >= 0, keys, spec.max_positive)
    negative_rows, negative_real = _draw(assigned == BACKGROUND, keys, spec.count)
    rows = ops.concatenate([positive_rows, negative_rows], axis=1)
    real = ops.concatenate([positive_real, negative_real], axis=1)
    is_positive = ops.concatenate([positive_real, ops.zeros_like(negative_real)], axis=1)
    # The slots in use move to the front in their order; there are never fewer slots than `count`.
    num_slots = spec.max_positive + spec.count
    order = ops.where(real, 0, num_slots) + ops.arange(num_slots)
    slots = ops.top_k(-order, spec.count)[1]
    real = ops.take_along_axis(real, slots, axis=1)
    return {
        "indices": ops.where(real, ops.take_along_axis(rows, slots, axis=1), 0),
        "positive": ops.take_along_axis(is_positive, slots, axis=1),
        "valid": real,
    }


def ohem_mask(losses: Tensor, valid: Tensor, spec: OhemSpec) -> Tensor:
    """Marks the candidates with the largest losses.

    Args:
        losses: `[B, N]`, at least 0, not NaN; no gradient flows through the selection.
        valid: `[B, N]` bool, false for candidates that are never selected.
        spec: Settings.

    Returns:
        Float32 `[B, N]`, 1 for selected candidates and 0 for others: the weights of the same losses.
    """
    batch, candidates = ops.shape(losses)[0], losses.shape[1]
    losses = ops.where(valid, ops.stop_gradient(losses), -1.0)
    count, available = min(spec.count, candidates), candidates
    if spec.joint:
        losses, count, available = ops.reshape(losses, (1, -1)), count * batch, available * batch
    largest, rows = ops.top_k(losses, count)
    starts = ops.expand_dims(ops.arange(ops.shape(losses)[0], dtype="int32") * available, -1)
    indices = ops.reshape(ops.cast(rows, "int32") + starts, (-1, 1))
    flat = ops.scatter(indices, ops.reshape(ops.cast(largest >= 0, "float32"), (-1,)), (batch * candidates,))
    return ops.reshape(flat, (batch, candidates))


def _draw(eligible: Tensor, keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the rows `[B, count]` of the largest keys among the eligible candidates, and which rows are real."""
    keys = ops.where(eligible, keys, -1.0)
    padding = ops.full((ops.shape(keys)[0], count), -1.0)  # there may be fewer candidates than slots
    drawn, rows = ops.top_k(ops.concatenate([keys, padding], axis=1), count)
    return ops.cast(rows, "int32"), drawn >= 0
