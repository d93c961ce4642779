"""Gives a two-stage detector with random weights predictions that differ between locations."""

import keras
import numpy as np

# Weight of the initial moving averages, 0 and 1. With the images' averages alone the quantization errors of int8 grow
# from layer to layer of a random network, which those of a trained network do not.
INITIAL_WEIGHT = 0.16


def spread_predictions(model, images):
    """Sets the moving averages close to those of the images, and scales the predictions up so that they differ."""
    images = np.stack(images).astype("float32")
    model.rpn(images, training=True)
    for layer in model.rpn._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            for average, initial in ((layer.moving_mean, 0.0), (layer.moving_variance, 1.0)):
                average.assign(average * (1 - INITIAL_WEIGHT) + initial * INITIAL_WEIGHT)
    raw = model.rpn(images)
    for name, output, spread in (("rpn_object", "objectness", 2.0), ("rpn_box", "rpn_deltas", 0.3)):
        scale_to(model.rpn.get_layer(name), raw[output], spread)
    raw, network = model(images), model.region_network
    predictions = {layer.name.split("_")[1]: layer for layer in network.layers if layer.name.startswith("regions_")}
    scale_to(predictions["class"], raw["class_logits"], 3.0)
    scale_to(predictions["box"], raw["box_deltas"], 1.0)


def scale_to(layer, output, spread):
    """Scales a layer's kernel so that its output, without the bias, has the standard deviation `spread`."""
    layer.kernel.assign(layer.kernel * spread / float(np.std(output)))
