"""Losses per element, in float32 under any dtype policy; callers mask, sum and normalize them."""

from keras import ops

from keras_lightdet.types import Tensor


def smooth_l1(targets: Tensor, predictions: Tensor, *, beta: float = 1.0) -> Tensor:
    """Computes the smooth L1 loss: quadratic up to `beta`, linear beyond (Girshick 2015, eq. 3).

    Args:
        targets, predictions: `[...]`.
        beta: Error at which the two meet, in units of the targets: `1 / sigma^2` where papers give a sigma (3 in region
            proposal networks, so 1/9). 0 is the absolute error.

    Returns:
        `[...]`: `d^2 / (2 beta)` for `d < beta`, else `d - beta / 2`, with `d` the absolute difference.

    Raises:
        ValueError: If beta is negative.
    """
    if beta < 0:
        raise ValueError(f"Expected beta to be at least 0, got {beta!r}.")
    distance = ops.abs(ops.cast(predictions, "float32") - ops.cast(targets, "float32"))
    if beta == 0:
        return distance
    return ops.where(distance < beta, ops.square(distance) * (0.5 / beta), distance - 0.5 * beta)


def softmax_cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """Computes the negative log probability `[...]` of `labels [...]`, given `logits [..., K]`.

    Labels are integers, 0 to K - 1 (background is the last class where there is one). Other values give undefined
    results: give padding any valid label and mask its loss.
    """
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"))
    return -ops.squeeze(ops.take_along_axis(log_probabilities, ops.expand_dims(labels, -1), axis=-1), -1)


def sigmoid_cross_entropy(targets: Tensor, logits: Tensor) -> Tensor:
    """Computes the binary cross-entropy `[...]` of `targets [...]` (0..1) and `logits [...]`, finite for any logit."""
    logits = ops.cast(logits, "float32")
    return ops.maximum(logits, 0.0) - logits * ops.cast(targets, "float32") + ops.softplus(-ops.abs(logits))


def huber(targets: Tensor, predictions: Tensor, *, delta: float = 1.0) -> Tensor:
    """Computes the Huber loss: half the squared error up to `delta` (above 0), linear of slope `delta` beyond."""
    return delta * smooth_l1(targets, predictions, beta=delta)


def sigmoid_focal_loss(targets: Tensor, logits: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Computes the focal loss (Lin et al. 2017, section 3.2, eq. 5): cross-entropy with less weight on easy examples.

    With `z` the logit, negated for targets of 1, `1 - p_t` is `sigmoid(z)` and the cross-entropy `softplus(z)`, so
    that value and gradient are finite for any logit.

    Args:
        targets, logits: `[...]`; targets are 1 or 0.
        alpha: Weight of targets of 1; targets of 0 have `1 - alpha`.
        gamma: Exponent of `1 - p_t`; 0 is the weighted cross-entropy.

    Returns:
        `[...]`: `-alpha_t * (1 - p_t)^gamma * log(p_t)`.
    """
    targets, logits = ops.cast(targets, "float32"), ops.cast(logits, "float32")
    signed_logits = logits * (1.0 - 2.0 * targets)
    cross_entropy = ops.softplus(signed_logits)
    weight = (1.0 - alpha) + (2.0 * alpha - 1.0) * targets
    return weight * ops.exp(gamma * (signed_logits - cross_entropy)) * cross_entropy
