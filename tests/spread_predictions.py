"""A detector of two stages with random weights that tells one place from another."""

import numpy as np


def spread_predictions(model, pictures):
    """Gives batch norms the pictures' averages, and scales the predictions up so that they differ clearly."""
    images = np.stack(pictures).astype("float32")
    for _ in range(60):
        model.rpn(images, training=True)
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
