"""Batch norms of an untrained model given the statistics of a batch: without them its numbers grow past all bounds."""

import keras
import numpy as np


def settle(model: keras.Model, images: np.ndarray) -> keras.Model:
    """Sets the moving averages to what one training pass over `images` sees, and returns the model."""
    norms = [layer for layer in model.network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model.network(keras.ops.cast(images, model.compute_dtype), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model
