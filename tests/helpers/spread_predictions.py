"""A detector of two stages with random weights that tells one place from another."""

import keras
import numpy as np

# Of batch norms' first averages, 0 and 1. Without them the small errors of 8 bits grow from layer to layer of a random
# network, as they do not in a trained one.
DAMPING = 0.16


def spread_predictions(model, pictures):
    """Gives batch norms nearly the images' averages, and scales the predictions up so that they differ clearly."""
    images = np.stack(pictures).astype("float32")
    model.rpn(images, training=True)
    for layer in model.rpn._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            for average, first in ((layer.moving_mean, 0.0), (layer.moving_variance, 1.0)):
                average.assign(average * (1 - DAMPING) + first * DAMPING)
    raw = model.rpn(images)
    for name, output, spread in (("rpn_object", "objectness", 2.0), ("rpn_box", "rpn_deltas", 0.3)):
        scale_to(model.rpn.get_layer(name), raw[output], spread)
    raw, network = model(images), model.roi_head.get_layer("region_network")
    predictions = {layer.name.split("_")[1]: layer for layer in network.layers if layer.name.startswith("regions_")}
    scale_to(predictions["class"], raw["class_logits"], 3.0)
    scale_to(predictions["box"], raw["box_deltas"], 1.0)


def scale_to(layer, output, spread):
    """Gives what a layer adds to its bias another standard deviation."""
    layer.kernel.assign(layer.kernel * spread / float(np.std(output)))
