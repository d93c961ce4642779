"""The weights of a frozen backbone that a training step changes."""

import keras
import numpy as np
import pytest

from keras_lightdet.backbones import ResNet, XceptionLight
from keras_lightdet.backbones.freezing import freeze


def changed_by_a_step(trainable_stages, batch_norm):
    """The stages and kinds of layers, and of moving averages, that a step of SGD changes."""
    model = ResNet((32, 32, 3), depth=18)
    freeze(model, trainable_stages=trainable_stages, batch_norm=batch_norm)
    model = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))  # as in a saved detector
    before = {layer.name: [np.array(weight) for weight in layer.weights] for layer in model.layers}
    top = keras.Model(model.input, keras.layers.GlobalAveragePooling2D()(model.output["P5"]))
    top.compile(keras.optimizers.SGD(1.0), "mse")
    random = np.random.default_rng(0)
    top.train_on_batch(random.uniform(0, 255, (2, 32, 32, 3)), random.normal(0, 9, (2, 512)))
    changed = set()
    for layer in model.layers:
        for weight, old in zip(layer.weights, before[layer.name], strict=True):
            if np.any(np.array(weight) != old):
                kind = "average" if weight.name.startswith("moving") else layer.name.rpartition("_")[2]
                changed.add((layer.name.partition("_")[0], kind))
    return changed


STAGES = ("stem", "stage2", "stage3", "stage4", "stage5")


@pytest.mark.parametrize(
    ("trainable_stages", "batch_norm"), [(5, "trained"), (1, "trained"), (5, "affine"), (3, "affine"), (3, "frozen")]
)
def test_a_step_changes_only_what_is_trainable(trainable_stages, batch_norm):
    kinds = {"frozen": ["conv"], "affine": ["conv", "bn"], "trained": ["conv", "bn", "average"]}[batch_norm]
    expected = {(stage, kind) for stage in STAGES[5 - trainable_stages :] for kind in kinds}
    assert changed_by_a_step(trainable_stages, batch_norm) == expected


def test_stages_are_counted_from_stage_5_in_a_backbone_without_it():
    backbone = XceptionLight()
    freeze(backbone, trainable_stages=3, batch_norm="frozen")
    trained = {weight.path.split("/")[0] for weight in backbone.trainable_weights}
    assert {name.split("_")[0] for name in trained} == {"stage3", "stage4"}
    assert not [name for name in trained if name.endswith("_bn")]


@pytest.mark.parametrize("options", [{"trainable_stages": 6}, {"trainable_stages": -1}, {"batch_norm": "eval"}])
def test_other_values_are_refused(options):
    with pytest.raises(ValueError, match="Expected"):
        freeze(ResNet(depth=18), **options)
