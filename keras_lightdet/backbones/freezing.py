"""Freezes the early stages of a backbone, and its batch norms wholly or in part."""

import keras

from keras_lightdet.builder import check_choice
from keras_lightdet.layers import FusedBatchNormalization

BATCH_NORMS = ("trained", "affine", "frozen")
STAGE_NAMES = ("stage5", "stage4", "stage3", "stage2", "stem")  # prefixes of the layers' names


def freeze(backbone: keras.Model, *, trainable_stages: int = len(STAGE_NAMES), batch_norm: str = "trained") -> None:
    """Sets which layers of a backbone are trainable.

    Args:
        backbone: A model whose layers' names start with "stem", "stage2", .., such as a `ResNet`, or an
            `XceptionLight`, which has no "stage5".
        trainable_stages: Number of stages that are trained, counted from "stage5": 5 trains all, 3 freezes the stem
            and stage 2, 0 freezes all.
        batch_norm: "trained"; "affine" trains gamma and beta, with fixed moving averages that are used in training
            too; or "frozen".

    Raises:
        ValueError: If an argument is out of its range.
    """
    if not 0 <= trainable_stages <= len(STAGE_NAMES):
        raise ValueError(f"Expected trainable_stages to be 0 to {len(STAGE_NAMES)}, got {trainable_stages!r}.")
    check_choice("batch_norm", batch_norm, BATCH_NORMS)
    for layer in backbone.layers:
        layer.trainable = layer.name.startswith(STAGE_NAMES[:trainable_stages])
        if isinstance(layer, FusedBatchNormalization):
            layer.trainable = layer.trainable and batch_norm != "frozen"
            layer.fixed_statistics = batch_norm != "trained"
