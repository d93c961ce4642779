"""Losses per element, in float32 under any policy; callers mask, sum and divide them."""

import keras
from keras import ops


def smooth_l1(targets: keras.KerasTensor, predictions: keras.KerasTensor, *, beta: float = 1.0) -> keras.KerasTensor:
    """Squared error up to `beta`, absolute error beyond (Girshick 2015, eq. 3).

    Args:
        targets: `[...]`.
        predictions: `[...]`.
        beta: Where the two meet, in units of the targets: `1 / sigma^2` where papers give a sigma (3 in region
            proposal networks, so 1/9). 0 is the absolute error.

    Returns:
        `[...]`: `d^2 / (2 beta)` for `d < beta`, else `d - beta / 2`, with `d` the absolute difference.

    Raises:
        ValueError: A negative beta.
    """
    if beta < 0:
        raise ValueError(f"Expected beta to be at least 0, got {beta!r}.")
    distance = ops.abs(ops.cast(predictions, "float32") - ops.cast(targets, "float32"))
    if beta == 0:
        return distance
    return ops.where(distance < beta, ops.square(distance) * (0.5 / beta), distance - 0.5 * beta)


def softmax_cross_entropy(labels: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Negative log probability of each label.

    Args:
        labels: `[...]` int, 0 to K - 1 (background is the last class where there is one). Others make NaN or
            anything else: give padding some label and mask its loss.
        logits: `[..., K]`.

    Returns:
        `[...]`.
    """
    return -ops.squeeze(
        ops.take_along_axis(ops.log_softmax(ops.cast(logits, "float32")), ops.expand_dims(labels, -1), axis=-1), -1
    )


def sigmoid_cross_entropy(targets: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Binary cross-entropy `[...]` of probabilities `targets [...]` and `logits [...]`, finite for any logit."""
    logits = ops.cast(logits, "float32")
    return ops.maximum(logits, 0.0) - logits * ops.cast(targets, "float32") + ops.softplus(-ops.abs(logits))
