"""Loads ImageNet weights of `keras.applications`."""

import keras

from keras_lightdet.backbones.mobilenet_v2 import STAGES
from keras_lightdet.foreign_weights.module_names import ModuleNames, conv_bn
from keras_lightdet.weights import copy_layers


def _block(stage: int, block: int) -> str:
    index = sum(row.repeats for row in STAGES[: stage - 1]) + block - 1
    return f"block_{index}_" if index else "expanded_conv_"


MOBILENET = ModuleNames(
    "MobileNetV2",
    ends={**conv_bn(stem=("Conv1", "bn_Conv1"), last=("Conv_1", "Conv_1_bn")), "classifier": "predictions"},
    units=conv_bn(
        expand=("expand", "expand_BN"), depthwise=("depthwise", "depthwise_BN"), project=("project", "project_BN")
    ),
    block=_block,
)


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
    MOBILENET.check_convention(model, "keras")
    cure = "Build both with the same width and classes, and Keras' with include_top=True for a classifier."
    copy_layers(source, model, source_name=MOBILENET.module, cure=cure)
