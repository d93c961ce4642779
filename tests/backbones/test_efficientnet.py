"""EfficientNet: published sizes, the outputs of keras.applications, compound scaling, stochastic depth."""

import re

import keras
import numpy as np
import pytest
from keras import applications

from keras_lightdet.analysis import cost
from keras_lightdet.backbones import EfficientNet
from keras_lightdet.backbones.compound_scaling import Scaling, compound_scaling, scaling_candidates, search_scaling
from keras_lightdet.backbones.efficientnet import VARIANTS, scaled_stages
from keras_lightdet.layers import round_width

# Trainable parameters as google/automl's tests assert them for 1000 classes, and our count of M multiply-adds at the
# variant's resolution. Published (Tan and Le 2019, table 2; Lite's README): 0.39, 0.70, 1.0, 1.8, 4.2, 9.9, 19 and
# 37 B; 407, 631, 899, 1440 and 2640 M, which count 3 to 6 % more than the convolutions.
SIZES = {
    "b0": (5_288_548, 385.81),
    "b1": (7_794_184, 686.80),
    "b2": (9_109_994, 993.56),
    "b3": (12_233_232, 1827.14),
    "b4": (19_341_616, 4393.77),
    "b5": (30_389_784, 10266.38),
    "b6": (43_040_704, 19067.59),
    "b7": (66_347_960, 37745.88),
    "lite0": (4_652_008, 385.19),
    "lite1": (5_416_680, 600.19),
    "lite2": (6_092_072, 859.74),
    "lite3": (8_197_096, 1383.32),
    "lite4": (13_006_568, 2553.03),
}
LARGE = ("b1", "b3", "b5", "b6", "b7")


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in VARIANTS]
)
def test_classifiers_have_the_published_size(variant):
    side = VARIANTS[variant].resolution
    actual = cost(EfficientNet((side, side, 3), variant=variant, num_classes=1000))
    assert (actual.trainable_parameters, round(actual.macs / 1e6, 2)) == SIZES[variant]
    assert not actual.uncounted


def test_widths_and_repeats_are_those_of_the_released_table():
    b4 = [round_width(1.4 * width) for width in (32, 16, 24, 40, 80, 112, 192, 320, 1280)]
    assert b4 == [48, 24, 32, 56, 112, 160, 272, 448, 1792]
    assert [stage.width for stage in scaled_stages(1.4, 1.8, fixed_ends=False)] == b4[1:-1]
    assert [stage.repeats for stage in scaled_stages(1.4, 1.8, fixed_ends=False)] == [2, 4, 4, 6, 6, 8, 2]
    assert [stage.repeats for stage in scaled_stages(1.4, 1.8, fixed_ends=True)] == [1, 4, 4, 6, 6, 8, 1]
    assert [round_width(width) for width in (1, 11.9, 12, 20.5)] == [8, 16, 16, 24]


def applications_name(name):
    """The name of a layer in keras.applications: "block2a_expand_conv" for "stage2_block1_expand_conv"."""
    if not name.startswith("stage"):
        return {"classifier": "predictions"}.get(name, name.replace("head_", "top_"))
    stage, block, layer = re.fullmatch(r"stage(\d)_block(\d+)_(\w+)", name).groups()
    layer = {"depthwise_conv": "dwconv", "depthwise_bn": "bn"}.get(layer, layer.replace("squeeze_", "se_"))
    return f"block{stage}{chr(ord('a') + int(block) - 1)}_{layer}"


def copied_from_applications(size, variant="b0"):
    """keras.applications' network with random batch norms, and this package's with the same weights."""
    theirs = getattr(applications, f"EfficientNet{variant.upper()}")(
        weights=None, classes=7, input_shape=(*size, 3), classifier_activation=None
    )
    random = np.random.default_rng(0)
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.6, 1.4, weight.shape) for weight in layer.get_weights()])
    means, variances = np.float32([0.485, 0.456, 0.406]), np.square(np.float32([0.229, 0.224, 0.225]))
    (normalize,) = [layer for layer in theirs.layers if isinstance(layer, keras.layers.Normalization)]
    normalize.set_weights([means, variances, np.int64(1)])
    normalize.finalize_state()
    ours = EfficientNet((*size, 3), variant=variant, num_classes=7)
    for layer in ours.layers:
        if layer.weights:
            layer.set_weights(theirs.get_layer(applications_name(layer.name)).get_weights())
    return theirs, ours


@pytest.mark.parametrize(
    ("size", "variant"),
    [((64, 96), "b0"), ((75, 61), "b0"), pytest.param((75, 64), "b4", marks=pytest.mark.slow)],
)
def test_outputs_are_those_of_keras_applications(size, variant):
    theirs, ours = copied_from_applications(size, variant)
    pixels = np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype("float32")
    ends = [
        max(name for name in (layer.name for layer in theirs.layers) if re.match(f"block{s}._add", name))
        for s in (3, 5)
    ]
    pairs = [(ours.output, theirs.output)]
    for stage, end in zip((3, 5), ends, strict=True):
        mine = [layer.output for layer in ours.layers if re.fullmatch(f"stage{stage}_block\\d+_add", layer.name)][-1]
        pairs.append((mine, theirs.get_layer(end).output))
    actual = keras.Model(ours.input, [mine for mine, _ in pairs])(pixels)
    expected = keras.Model(theirs.input, [other for _, other in pairs])(pixels)
    for mine, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5 * np.abs(other).max())


def test_lite_networks_normalize_by_their_own_numbers_and_end_in_relu6():
    model = EfficientNet(variant="lite0")
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    actual = keras.Model(model.input, model.get_layer("normalize").output)(pixels)
    np.testing.assert_allclose(actual, (pixels - 127) / 128, atol=1e-6)
    acts = {layer.get_config()["activation"] for layer in model.layers if isinstance(layer, keras.layers.Activation)}
    assert acts == {"relu6"}


def test_drop_path_skips_whole_images_and_keeps_the_mean():
    model = EfficientNet((32, 32, 3), drop_path_rate=0.5)
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert rates["stage2_block2_drop"] == pytest.approx(0.5 * 2 / 16)  # the third of 16 blocks
    assert rates["stage6_block4_drop"] == pytest.approx(0.5 * 14 / 16)
    dropped = np.asarray(model.get_layer("stage6_block4_drop")(np.ones((400, 2, 2, 3), "float32"), training=True))
    images = dropped.reshape(400, -1)
    assert np.all(images == images[:, :1])
    assert 0.3 < np.mean(images[:, 0] > 0) < 0.8
    np.testing.assert_allclose(images.max(), 1 / (1 - 0.5 * 14 / 16), rtol=1e-5)
    assert not [layer for layer in EfficientNet(drop_path_rate=0.0).layers if isinstance(layer, keras.layers.Dropout)]


def test_compound_scaling_of_the_paper():
    alpha, beta, gamma = compound_scaling(1)
    assert (alpha, beta, gamma) == (1.2, 1.1, 1.15)
    assert compound_scaling(0) == (1, 1, 1)
    assert compound_scaling(1).cost == pytest.approx(1.920, abs=5e-4)
    assert compound_scaling(3) == pytest.approx((1.2**3, 1.1**3, 1.15**3))


def test_scaling_candidates_are_all_triples_under_the_constraint():
    actual = scaling_candidates(0.05)
    by_hand = [
        (a / 100, b / 100, c / 100)
        for a in range(100, 301, 5)
        for b in range(100, 301, 5)
        for c in range(100, 301, 5)
        if abs(a / 100 * (b / 100) ** 2 * (c / 100) ** 2 - 2) <= 0.1
    ]
    np.testing.assert_allclose(sorted(actual), sorted(by_hand))
    assert any(np.allclose(each, (1.2, 1.1, 1.15)) for each in actual)
    assert search_scaling(lambda each: -abs(each.width - 1.25) - abs(each.depth - 1.0)) == pytest.approx(
        min(actual, key=lambda each: abs(each.width - 1.25) + abs(each.depth - 1.0))
    )


@pytest.mark.parametrize("scaling", [Scaling(2, 1, 1), Scaling(1, 2, 1), Scaling(1, 1, 2)])
def test_the_estimate_of_cost_holds_for_the_network(scaling):
    def macs(factors):
        side = 224 * factors.resolution
        return cost(EfficientNet((side, side, 3), variant="lite0", width=factors.width, depth=factors.depth)).macs

    # Lite's stem and its first and last stage are not scaled.
    assert macs(scaling) / macs(Scaling(1, 1, 1)) == pytest.approx(scaling.cost, rel=0.1)


@pytest.mark.parametrize("options", [{"variant": "b8"}, {"drop_path_rate": 1.0}, {"input_shape": (32, 32, 1)}])
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="Expected"):
        EfficientNet(**options)
