"""What of a backbone is trained: the late stages, and all, some or nothing of its batch norms."""

import keras

from keras_lightdet.layers import FusedBatchNormalization

# "trained": as any other layer. "affine": gamma and beta are trained, the moving averages stay as they are and serve in
# training too. "frozen": nothing of them is trained.
BATCH_NORMS = ("trained", "affine", "frozen")
STAGES = ("stage5", "stage4", "stage3", "stage2", "stem")


def freeze(backbone: keras.Model, *, trainable_stages: int = len(STAGES), batch_norm: str = "trained") -> None:
    """Decides which layers of a backbone are trained.

    Args:
        backbone: Its layers' names start with the names of their stages: all of them in a `ResNet`, all but "stage5"
            in an `XceptionLight`.
        trainable_stages: How many stages are trained, counted from the last: 5 is all, 3 leaves the stem and stage 2
            as they are, 0 everything.
        batch_norm: One of `BATCH_NORMS`.

    Raises:
        ValueError: If an argument is none of the above.
    """
    if not 0 <= trainable_stages <= len(STAGES):
        raise ValueError(f"Expected trainable_stages to be 0 to {len(STAGES)}, got {trainable_stages!r}.")
    if batch_norm not in BATCH_NORMS:
        raise ValueError(f"Expected batch_norm to be one of {BATCH_NORMS}, got {batch_norm!r}.")
    for layer in backbone.layers:
        layer.trainable = layer.name.startswith(STAGES[:trainable_stages])
        if isinstance(layer, FusedBatchNormalization):
            layer.trainable = layer.trainable and batch_norm != "frozen"
            layer.fixed_statistics = batch_norm != "trained"
