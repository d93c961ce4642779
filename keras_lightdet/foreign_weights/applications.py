"""Loads ImageNet weights of `keras.applications`."""

import keras

from keras_lightdet.backbones.mobilenet_v2 import STAGES
from keras_lightdet.errors import WeightsError
from keras_lightdet.layers import NORM

_MOBILE_ENDS = {
    "stem_conv": "Conv1",
    "stem_bn": "bn_Conv1",
    "last_conv": "Conv_1",
    "last_bn": "Conv_1_bn",
    "classifier": "predictions",
}


def load_keras_mobilenet_v2(model: keras.Model, source: keras.Model) -> None:
    """Loads weights of `keras.applications.MobileNetV2` into a `MobileNetV2`.

    `load_keras_mobilenet_v2(features, keras.applications.MobileNetV2(include_top=False))` loads the ImageNet weights,
    which Keras downloads.

    Args:
        model: The classifier or the features, with `convention="keras"`.
        source: `keras.applications.MobileNetV2` whose `alpha` is the model's width.

    Raises:
        ValueError: If the model has the other convention, with which the weights give other results.
        WeightsError: If the source lacks a layer or has one of another size. The model does not change then.
    """
    if model.get_layer("stem_bn").epsilon != NORM.epsilon:
        raise ValueError(f'Expected a MobileNetV2 with convention="keras", got {model.name!r} of another. Rebuild it.')
    sources = {layer.name: layer for layer in source.layers}
    pairs = []
    for layer in model.layers:
        if not layer.weights:
            continue
        name = keras_mobilenet_layer(layer.name)
        values = sources[name].get_weights() if name in sources else []
        actual, expected = [value.shape for value in values], [tuple(weight.shape) for weight in layer.weights]
        if actual != expected:
            raise WeightsError(
                f"Expected {source.name} to have a layer {name!r} with weights {expected}, got {actual or 'none'}. "
                "Build both with the same width and classes, and Keras' with include_top=True for a classifier."
            )
        pairs.append((layer, values))
    for layer, values in pairs:
        layer.set_weights(values)


def keras_mobilenet_layer(layer_name: str) -> str:
    """Returns Keras' name of a `MobileNetV2` layer: "block_1_expand_BN" for "stage2_block1_expand_bn"."""
    if layer_name in _MOBILE_ENDS:
        return _MOBILE_ENDS[layer_name]
    stage, block, unit, kind = layer_name.split("_")
    index = sum(row.repeats for row in STAGES[: int(stage.removeprefix("stage")) - 1])
    index += int(block.removeprefix("block")) - 1
    prefix = f"block_{index}" if index else "expanded_conv"
    return f"{prefix}_{unit}" if kind == "conv" else f"{prefix}_{unit}_BN"
