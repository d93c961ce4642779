"""Small detectors of one and two stages, and batches for them."""

import dataclasses

import numpy as np

import keras_lightdet
from keras_lightdet.boxes import ProposalSpec

SIDE = 64
NAMES = ("disc", "square", "star")


def small_rsanet(**options):
    """Builds RSANet with few channels; a train step takes milliseconds."""
    size = {"widths": (4, 4, 8, 8, 8), "repeats": (1, 1, 1, 1, 1), "input_shape": (SIDE, SIDE, 3)}
    return keras_lightdet.RSANet(**{**size, "class_names": NAMES, **options})


def small_thundernet(**options):
    """Builds ThunderNet with few channels and a narrow second stage."""
    size = {"variant": "snet146", "widths": (28, 32, 36), "head_width": 16, "input_shape": (SIDE, SIDE, 3)}
    return keras_lightdet.ThunderNet(**{**size, "class_names": NAMES, **options})


def small_light_head(**options):
    """Builds Light-Head R-CNN, setting S, with a narrow second stage and few proposals."""
    size = {"head_width": 16, "input_shape": (SIDE, SIDE, 3)}
    model = keras_lightdet.LightHeadRCNN(**{**size, "class_names": NAMES, **options})
    few = {"train": ProposalSpec(100, 40), "test": ProposalSpec(100, 30)}
    model.proposal_objective = dataclasses.replace(model.proposal_objective, **few)
    return model


def small_faster_rcnn(**options):
    """Builds Faster R-CNN with few channels after its ResNet-18, all layers trainable."""
    size = {"depth": 18, "width": 8, "head_width": 16, "input_shape": (SIDE, SIDE, 3)}
    trainable = {"trainable_stages": 5, "batch_norm": "trained"}
    return keras_lightdet.FasterRCNN(**{**size, **trainable, "class_names": NAMES, **options})


def small_efficientdet(**options):
    """Builds EfficientDet-Lite0 with one narrow cell and heads of one convolution."""
    size = {"variant": "lite0", "width": 8, "cells": 1, "head_repeats": 1, "input_shape": (SIDE, SIDE, 3)}
    return keras_lightdet.EfficientDet(**{**size, "drop_path_rate": 0.0, "class_names": NAMES, **options})


BUILDERS = {"one_stage": small_rsanet, "two_stage": small_thundernet}


def random_batch(batch=4, boxes=5, seed=0, side=SIDE):
    """Returns images of random noise with random boxes, some of them padding, some to ignore."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, side * 0.6, (batch, boxes, 2))
    targets = {
        "boxes": np.concatenate([corners, corners + random.uniform(4, side * 0.4, corners.shape)], -1).astype(
            "float32"
        ),
        "labels": random.integers(-1, len(NAMES), (batch, boxes)).astype("int32"),
        "ignore": (random.random((batch, boxes)) < 0.2).astype("uint8"),
        "sources": np.tile(np.arange(batch, dtype="int32")[:, None], (1, 4)),
    }
    return random.integers(0, 256, (batch, side, side, 3)).astype("uint8"), targets
