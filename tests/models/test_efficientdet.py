"""EfficientDet: published sizes, anchors, training of every fusion, weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_detector import NAMES, random_batch, small_efficientdet

import keras_lightdet
from keras_lightdet.analysis import cost
from keras_lightdet.backbones import EfficientNet
from keras_lightdet.errors import WeightsError
from keras_lightdet.layers import FUSIONS
from keras_lightdet.models.efficientdet import VARIANTS
from keras_lightdet.weights import load_trunk, save_weights

# Trainable parameters of 90 classes and B multiply-adds as google/automl's tests assert them (of D7x its README has
# 77.0 M and 410 B). Theirs also count biases, batch norms and sums: ours are 0.3 to 2.3 % fewer.
PUBLISHED = {
    "d0": (3_880_067, 2.551),
    "d1": (6_625_898, 6.134),
    "d2": (8_097_039, 11.046),
    "d3": (12_032_296, 24.983),
    "d4": (20_723_675, 55.347),
    "d5": (33_653_315, 135.730),
    "d6": (51_871_782, 226.034),
    "d7": (51_871_782, 325.474),
    "d7x": (77_147_166, 410),
    "lite0": (3_243_470, 0.978),
    "lite1": (4_248_318, 1.974),
    "lite2": (5_252_334, 3.383),
    "lite3": (8_350_862, 7.504),
    "lite3x": (9_280_862, 14.020),
    "lite4": (15_130_894, 20.221),
}
LIGHT = ("d0", "lite0", "lite3x")


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[pytest.mark.slow] * (name not in LIGHT)) for name in PUBLISHED]
)
def test_cost_is_the_published_one(variant):
    counts = cost(keras_lightdet.EfficientDet(variant=variant))
    parameters, macs = PUBLISHED[variant]
    assert counts.trainable_parameters == parameters
    assert counts.macs == pytest.approx(macs * 1e9, rel=0.025)
    assert not counts.uncounted
    if variant == "d0":
        assert counts.bn_statistics == 47_136


def test_modules_of_d0_have_the_published_parameters():
    network = keras_lightdet.EfficientDet(variant="d0").network
    parameters = {"backbone": 0, "fusion": 0, "class": 0, "box": 0}
    for weight in network.trainable_weights:
        layer = weight.path.split("/")[0]
        module = next((key for key in parameters if layer.startswith((key, f"predict_{key}"))), "backbone")
        parameters[module] += int(np.prod(weight.shape))
    assert parameters == {"backbone": 3_595_388, "fusion": 196_281, "class": 69_354, "box": 19_044}


def test_every_published_variant_is_there():
    assert set(VARIANTS) == set(PUBLISHED)


def test_anchors_are_those_of_the_released_code():
    """google/automl's boxes of Lite0: the first cells of P3, and of P7, whose stride is 320 / 3."""
    model = small_efficientdet(input_shape=(320, 320, 3))
    placed = model.objective.anchors.generate((320, 320))
    assert len(placed) == 9 * (40**2 + 20**2 + 10**2 + 5**2 + 3**2) == 19_206
    sides = placed[:, 2:] - placed[:, :2]
    for stride, cells, first in ((8, 40, 0), (320 / 3, 3, -81)):
        wanted = [
            (3 * stride * 2 ** (octave / 3) / ratio**0.5, 3 * stride * 2 ** (octave / 3) * ratio**0.5)
            for ratio in (0.5, 1.0, 2.0)
            for octave in range(3)
        ]
        np.testing.assert_allclose(sides[first : first + 9 or None], wanted, rtol=1e-5)
        np.testing.assert_allclose((placed[first, :2] + placed[first, 2:]) / 2, [stride / 2] * 2, rtol=1e-5)
        assert cells * stride == pytest.approx(320)


@pytest.mark.parametrize("size", [(64, 64), (70, 101)])
def test_every_anchor_has_an_output_at_any_size(size):
    model = small_efficientdet(input_shape=(*size, 3))
    raw = model(np.zeros((1, *size, 3), "float32"))
    count = sum(model.objective.anchors.level_counts(size))
    assert raw["box_deltas"].shape == (1, count, 4)
    assert raw["class_logits"].shape == (1, count, 3)
    boxes, scores = model.decode(raw)
    assert np.all(boxes >= 0) and np.all(boxes[..., 2:] <= np.float32([size[1], size[0]]))
    np.testing.assert_allclose(np.median(scores), 0.01, rtol=0.05)


def untrained(model, images, targets):
    """Returns the paths of the weights without a gradient."""
    with tf.GradientTape() as tape:
        loss = sum(model.compute_losses(images, targets, training=True).values())
    gradients = tape.gradient(loss, model.trainable_weights)
    assert all(gradient is None or np.all(np.isfinite(gradient)) for gradient in gradients)
    return [w.path for w, g in zip(model.trainable_weights, gradients, strict=True) if g is None or not np.any(g)]


@pytest.mark.parametrize(
    "fusion",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in ("bifpn_fast", "nas_fpn"))) for name in FUSIONS],
)
def test_every_weight_of_every_fusion_is_trained(fusion):
    keras.utils.set_random_seed(0)
    # At 64 pixels P7 would be P6, and shares of two equal maps have no gradient; nor have Lite's ReLU6 where a sum of
    # five maxima passes their 6.
    model = small_efficientdet(variant="d0", fusion=fusion, anchor_scale=1.0, input_shape=(128, 128, 3))
    images, targets = random_batch(boxes=40, side=128)
    for place, side in enumerate((64, 128)):  # for the coarse levels
        for key, value in (("boxes", [0, 0, side, side]), ("labels", 0), ("ignore", 0)):
            targets[key][:, place] = value
    # Biases before a batch norm move nothing in training; the released networks have them.
    allowed = ("_conv/bias", "net_conv1/bias")
    assert not [path for path in untrained(model, images, targets) if not path.endswith(allowed)]


def test_weights_alone_restore_the_detector(tmp_path):
    keras.utils.set_random_seed(0)
    model = small_efficientdet(fusion="simplified_panet", anchor_scale=2.0)
    path = save_weights(model, tmp_path / "best.weights.h5")
    restored = keras_lightdet.EfficientDet(weights=path)
    assert restored.class_names == NAMES
    assert restored.objective == model.objective
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3))
    np.testing.assert_array_equal(restored(image)["class_logits"], model(image)["class_logits"])
    with pytest.raises(WeightsError, match="load_trunk"):
        keras_lightdet.EfficientDet(weights=path, variant="lite1")
    other = small_efficientdet(fusion="simplified_panet", class_names=("cat", "dog"))
    before = other.network.get_layer("predict_class").get_weights()
    load_trunk(other, path)
    pairs = zip(other.network.get_layer("predict_class").get_weights(), before, strict=True)
    assert all(np.array_equal(now, then) for now, then in pairs)
    same = [each.network.get_layer("predict_box").get_weights()[0] for each in (other, model)]
    np.testing.assert_array_equal(*same)


def test_training_starts_from_a_classifier(tmp_path):
    keras.utils.set_random_seed(0)
    classifier = EfficientNet(variant="lite0", num_classes=2)
    path = save_weights(classifier, tmp_path / "best.weights.h5")
    model = small_efficientdet(weights_backbone=path)
    layer = "stage5_block2_project_conv"
    backbone = model.network.get_layer("backbone")
    np.testing.assert_array_equal(backbone.get_layer(layer).kernel, classifier.get_layer(layer).kernel)
    with pytest.raises(WeightsError, match="'variant': 'lite1'"):
        small_efficientdet(variant="lite1", weights_backbone=path)


@pytest.mark.parametrize(
    "options", [{"variant": "d8"}, {"input_shape": (64, 64, 1)}, {"num_classes": 2}, {"fusion": "fpn2"}]
)
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="Expected"):
        small_efficientdet(**options)
