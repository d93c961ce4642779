"""Cross-entropy over pixels, of all or of the hard ones."""

import math
from dataclasses import dataclass

import keras
import tensorflow as tf

from keras_lightdet.base_model import global_sum
from keras_lightdet.labels import IGNORE
from keras_lightdet.layers import resize_maps
from keras_lightdet.spec import Spec


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class SegmentationLoss(Spec):
    """Numbers of a segmenter's loss; the defaults are those of BiSeNet's first author's code.

    Attributes:
        hard_threshold: A pixel counts only if the probability of its true class is at most this (online hard example
            mining); None counts all.
        min_hard_share: At least this share of a batch's pixels count: the hardest ones, where fewer are that hard.
        auxiliary_weight: Weight of each auxiliary head's loss; the main head's is 1 (Yu et al. 2018, eq. 2).
        class_weights: Weight of a pixel by its true class; None weighs all alike.
    """

    hard_threshold: float | None = 0.7
    min_hard_share: float = 1 / 16
    auxiliary_weight: float = 1.0
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self):
        if self.hard_threshold is not None and not 0 < self.hard_threshold < 1:
            raise ValueError(f"Expected hard_threshold to be None or within 0..1, got {self.hard_threshold!r}.")
        if not 0 < self.min_hard_share <= 1:
            raise ValueError(f"Expected min_hard_share to be in 0..1, got {self.min_hard_share!r}.")
        if self.class_weights is not None:
            object.__setattr__(self, "class_weights", tuple(self.class_weights))  # a list in a saved model


def pixel_loss(logits: tf.Tensor, labels: tf.Tensor, spec: SegmentationLoss) -> tf.Tensor:
    """Computes the mean cross-entropy of the pixels that count, weighed by their classes.

    Args:
        logits: `[B, h, w, K]`; enlarged to the labels' size.
        labels: `[B, H, W]` integers, 0..K-1 or `IGNORE`.
        spec: The numbers.

    Returns:
        Float32 scalar, 0 where no pixel counts: this replica's share of the mean over all replicas. Which pixels are
        hard each replica decides among its own.
    """
    labels = tf.cast(labels, tf.int32)
    logits = resize_maps(tf.cast(logits, tf.float32), tf.shape(labels)[1:3])
    valid = labels != IGNORE
    true = tf.where(valid, labels, 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(true, logits)
    counted = valid if spec.hard_threshold is None else valid & _hard(losses, valid, spec)
    weights = tf.cast(counted, tf.float32)
    if spec.class_weights is not None:
        weights *= tf.gather(tf.constant(spec.class_weights, tf.float32), true)
    return tf.reduce_sum(losses * weights) / tf.maximum(global_sum(tf.reduce_sum(weights)), 1e-12)


def _hard(losses: tf.Tensor, valid: tf.Tensor, spec: SegmentationLoss) -> tf.Tensor:
    """True for the pixels of a high loss; for all where fewer than the least number are valid at all."""
    losses = tf.where(valid, losses, -1.0)
    pixels = tf.cast(tf.size(losses), tf.float32)
    least = tf.maximum(tf.cast(pixels * spec.min_hard_share, tf.int32), 1)
    threshold = -math.log(spec.hard_threshold)
    enough = tf.math.count_nonzero(losses >= threshold, dtype=tf.int32) >= least
    # Sorting all pixels takes as long as a good part of the network; most steps need none.
    cut = tf.cond(
        enough,
        lambda: tf.constant(threshold, tf.float32),
        lambda: tf.math.top_k(tf.reshape(losses, [-1]), least, sorted=True).values[-1],
    )
    return losses >= tf.stop_gradient(cut)
