"""Cross-entropy over pixels, with online hard example mining (OHEM)."""

import math
from dataclasses import dataclass

import keras
import tensorflow as tf

from keras_lightdet.base_model import global_sum
from keras_lightdet.labels import IGNORE
from keras_lightdet.layers import resize_maps
from keras_lightdet.spec import Spec
from keras_lightdet.types import Tensor


@keras.saving.register_keras_serializable("keras_lightdet")
@dataclass(frozen=True)
class SegmentationLoss(Spec):
    """Settings of a segmenter's loss; the defaults are those of the first author's code of BiSeNet.

    Attributes:
        ohem_threshold: The loss counts pixels whose labeled class has at most this probability (OHEM); None counts all.
        min_ohem_fraction: At least this fraction of a batch's pixels is counted: those with the largest losses, if
            fewer are below the threshold.
        auxiliary_weight: Weight of each auxiliary head's loss; the main head has 1 (Yu et al. 2018, eq. 2).
        class_weights: Weight of a pixel by its labeled class; None weighs all equally.
    """

    ohem_threshold: float | None = 0.7
    min_ohem_fraction: float = 1 / 16
    auxiliary_weight: float = 1.0
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.ohem_threshold is not None and not 0 < self.ohem_threshold < 1:
            raise ValueError(f"Expected ohem_threshold to be None or within 0..1, got {self.ohem_threshold!r}.")
        if not 0 < self.min_ohem_fraction <= 1:
            raise ValueError(f"Expected min_ohem_fraction to be in 0..1, got {self.min_ohem_fraction!r}.")
        if self.class_weights is not None:
            object.__setattr__(self, "class_weights", tuple(self.class_weights))  # a list in a saved model


def pixel_loss(logits: Tensor, labels: Tensor, spec: SegmentationLoss) -> Tensor:
    """Computes the mean cross-entropy of the counted pixels, weighted by their classes.

    Args:
        logits: `[B, h, w, K]`; resized to the labels' size.
        labels: `[B, H, W]` integers, 0..K-1 or `IGNORE`.
        spec: Settings.

    Returns:
        Float32 scalar, 0 if no pixel is counted: this replica's share of the mean over all replicas. Each replica
        selects the hard pixels among its own.
    """
    labels = tf.cast(labels, tf.int32)
    logits = resize_maps(tf.cast(logits, tf.float32), tf.shape(labels)[1:3])
    valid = labels != IGNORE
    classes = tf.where(valid, labels, 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
    if spec.ohem_threshold is None:
        counted = valid
    else:
        counted = valid & _ohem_mask(tf.where(valid, losses, -1.0), spec.ohem_threshold, spec.min_ohem_fraction)
    weights = tf.cast(counted, tf.float32)
    if spec.class_weights is not None:
        weights *= tf.gather(tf.constant(spec.class_weights, tf.float32), classes)
    return tf.reduce_sum(losses * weights) / tf.maximum(global_sum(tf.reduce_sum(weights)), 1e-12)


def _ohem_mask(losses: Tensor, ohem_threshold: float, min_fraction: float) -> Tensor:
    """Marks the pixels with a large loss; all of them if fewer than the minimum are valid (ignored ones have -1)."""
    num_pixels = tf.cast(tf.size(losses), tf.float32)
    min_count = tf.maximum(tf.cast(num_pixels * min_fraction, tf.int32), 1)
    threshold = -math.log(ohem_threshold)
    enough = tf.math.count_nonzero(losses >= threshold, dtype=tf.int32) >= min_count
    # Sorting all pixels takes as long as a large part of the network; most steps do not need it.
    min_loss = tf.cond(
        enough,
        lambda: tf.constant(threshold, tf.float32),
        lambda: tf.math.top_k(tf.reshape(losses, [-1]), min_count, sorted=True).values[-1],
    )
    return losses >= tf.stop_gradient(min_loss)
