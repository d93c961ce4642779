import keras
import numpy as np
import pytest
from small_detector import NAMES, small_thundernet

import keras_lightdet
from keras_lightdet.analysis import cost, receptive_field
from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import load_trunk, save_weights

# Parameters with batch norm, and M multiply-adds at 320 pixels of 200 regions. The paper: 262, 473 and 1300 M on COCO,
# 250, 461 and 1287 M on VOC. SNet146 of the paper's widths costs 29 M more than it says; widths of 126 do not.
COUNTS = [
    ({"variant": "snet49"}, 1_154_199, 263.5),
    ({"variant": "snet146"}, 1_878_519, 502.3),
    ({"variant": "snet535"}, 4_661_115, 1299.3),
    ({"variant": "snet146", "widths": (126, 252, 504)}, None, 474.6),
    ({"variant": "snet49", "num_classes": 20}, None, 251.2),
    ({"variant": "snet535", "num_classes": 20}, None, 1287.0),
]


@pytest.mark.parametrize(("options", "parameters", "macs"), COUNTS)
def test_counts_are_those_of_the_layer_table(options, parameters, macs):
    counts = cost(keras_lightdet.ThunderNet(**options))
    assert round(counts.macs / 1e6, 1) == macs
    assert not counts.uncounted
    if parameters:
        assert counts.trainable_parameters == parameters


def test_ablations_save_the_published_cost():
    """The ablation's steps (M multiply-adds): 198 by the proposal network, 68 by the second stage, 25 for attention."""
    macs = {
        name: cost(keras_lightdet.ThunderNet(**options)).macs / 1e6
        for name, options in {
            "all": {},
            "full": {"rpn": "full"},
            "wide": {"head_width": 2048},
            "blind": {"attention": False},
        }.items()
    }
    assert macs["full"] - macs["all"] == pytest.approx(198, abs=1)
    assert macs["wide"] - macs["all"] == pytest.approx(67.6, abs=0.1)
    assert macs["all"] - macs["blind"] == pytest.approx(25.1, abs=0.1)


def test_larger_kernels_double_the_receptive_field():
    fields = {}
    for kernel_size in (3, 5):
        backbone = keras_lightdet.backbones.SNet(variant="snet49", kernel_size=kernel_size)
        ends = {level: x._keras_history.operation.name for level, x in backbone.output.items()}
        fields[kernel_size] = [receptive_field(backbone, ends[level])[0] for level in ("P3", "P4", "P5")]
    assert fields == {3: [63, 303, 527], 5: [119, 599, 1047]}


def test_odd_sizes_of_multi_scale_training_are_cropped_to_match():
    """At 240 pixels C4 has 15 rows and upsampled C5 has 16."""
    model = small_thundernet(input_shape=(240, 240, 3))
    raw = model.rpn(np.zeros((1, 240, 240, 3)))
    assert raw["features"].shape == (1, 15, 15, 245)
    assert raw["objectness"].shape[1] == len(model.proposal_objective.anchors.generate((240, 240))) == 15 * 15 * 25
    boxes, scores = model.decode(model(np.zeros((1, 240, 240, 3))))
    assert np.all(np.isfinite(boxes)) and np.all(np.isfinite(scores))


def test_outputs_are_in_the_order_of_the_anchors():
    """Row by row, cell by cell, anchor by anchor, as `PyramidAnchors.generate` counts them."""
    keras.utils.set_random_seed(3)
    model = small_thundernet()
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3))
    raw = model.rpn(image)
    row, column, anchor = 2, 1, 7
    index = (row * 4 + column) * 25 + anchor
    ends = [model.rpn.get_layer(f"rpn_{part}").output for part in ("object", "background", "box")]
    seen, background, box = (x[0, row, column] for x in keras.Model(model.rpn.input, ends)(image))
    np.testing.assert_allclose(raw["objectness"][0, index], seen[anchor] - background[anchor], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(raw["rpn_deltas"][0, index], box[4 * anchor : 4 * anchor + 4], rtol=1e-4, atol=1e-6)


def test_untrained_anchors_differ():
    """Two logits of the same initial weights would cancel each other."""
    raw = small_thundernet().rpn(np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)))
    assert np.std(raw["objectness"]) > 1e-4


@pytest.mark.parametrize(
    "options", [{"variant": "snet50"}, {"rpn": "heavy"}, {"input_shape": (64, 64, 1)}, {"num_classes": 2}]
)
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="Expected"):
        small_thundernet(**options)


def test_weights_restore_the_detector(tmp_path):
    keras.utils.set_random_seed(0)
    model = small_thundernet(attention=False, rpn="full")
    path = save_weights(model, tmp_path / "best.weights.h5")
    restored = keras_lightdet.ThunderNet(weights=path)
    assert restored.class_names == NAMES and restored.input_size == (64, 64)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3))
    for name, value in model(image).items():
        np.testing.assert_array_equal(restored(image)[name], value)
    with pytest.raises(WeightsError, match="attention"):
        keras_lightdet.ThunderNet(weights=path, attention=True)


def test_trunk_is_loaded_for_other_classes(tmp_path):
    source = small_thundernet()
    path = save_weights(source, tmp_path / "best.weights.h5")
    other = small_thundernet(class_names=("cat", "dog"))
    (classes,) = other.class_layers()
    before = classes.get_weights()
    load_trunk(other, path)
    for layer, network in (("rpn_box", "rpn"), ("sam_conv", "rpn")):
        np.testing.assert_array_equal(
            getattr(other, network).get_layer(layer).get_weights()[0],
            getattr(source, network).get_layer(layer).get_weights()[0],
        )
    hidden = [model.region_network.get_layer("hidden") for model in (source, other)]
    np.testing.assert_array_equal(*(layer.get_weights()[0] for layer in hidden))
    for value, kept in zip(classes.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)
