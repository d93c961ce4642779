"""All ImageNet backbones: strides, normalization, gradients, files, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.backbones import (
    EfficientNet,
    MobileNetV2,
    ResNet,
    ShuffleNetV2,
    SNet,
    Xception39,
    XceptionDFANet,
    XceptionLight,
)
from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import copy_layers

# Each with the channels of its features.
NETS = {
    "shufflenet_v2": (ShuffleNetV2, {"width": 0.5}, (48, 96, 192)),
    "shufflenet_v2_keep": (ShuffleNetV2, {"width": 1.0, "unit": "keep"}, (116, 232, 464)),
    "shufflenet_v2_star": (ShuffleNetV2, {"width": 0.5, "extra_depthwise": True}, (48, 96, 192)),
    "snet49": (SNet, {"variant": "snet49"}, (60, 120, 512)),
    "snet146": (SNet, {"unit": "keep", "widths": (36, 72, 144), "kernel_size": 3}, (36, 72, 144)),
    "resnet18": (ResNet, {"depth": 18}, (64, 128, 256, 512)),
    "resnet50_dilated": (ResNet, {"dilate_last": True}, (256, 512, 1024, 2048)),
    "xception_light": (XceptionLight, {}, (144, 288, 576)),
    "mobilenet_v2": (MobileNetV2, {"width": 0.35}, (8, 16, 32, 112)),
    "mobilenet_v2_torch": (MobileNetV2, {"width": 0.35, "convention": "torch"}, (8, 16, 32, 112)),
    "efficientnet_lite0": (EfficientNet, {"variant": "lite0", "drop_path_rate": 0.0}, (40, 112, 320)),
    "xception39": (Xception39, {}, (64, 128, 256)),
    "xception_dfanet": (XceptionDFANet, {"variant": "b"}, (32, 64, 128)),
}
SLOW_TO_TRAIN = ("shufflenet_v2", "resnet18", "mobilenet_v2_torch", "xception39")


def draw_images(height, width, batch=1):
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3)).astype("float32")


@pytest.mark.parametrize(
    "name",
    [
        "shufflenet_v2_keep",
        "snet49",
        "resnet50_dilated",
        "xception_light",
        "mobilenet_v2",
        "mobilenet_v2_torch",
        "efficientnet_lite0",
        "xception39",
        "xception_dfanet",
    ],
)
def test_features_of_any_size_round_up(name):
    build, options, widths = NETS[name]
    levels = ("P2", "P3", "P4") if name == "xception_dfanet" else ("P2", "P3", "P4", "P5")[-len(widths) :]
    strides = dict(zip(("P2", "P3", "P4", "P5"), (4, 8, 16, 16 if "dilated" in name else 32), strict=True))
    features = build(**options)
    for height, width in ((64, 96), (45, 70)):
        expected = {
            level: (1, -(-height // strides[level]), -(-width // strides[level]), channels)
            for level, channels in zip(levels, widths, strict=True)
        }
        actual = features(draw_images(height, width))
        assert {level: tuple(x.shape) for level, x in actual.items()} == expected


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW_TO_TRAIN)) for name in NETS]
)
def test_every_weight_has_a_gradient(name):
    """In training a beta followed linearly by another batch norm has no gradient; at inference all weights have one."""
    build, options, _ = NETS[name]
    keras.utils.set_random_seed(0)
    model = build((64, 64, 3), num_classes=5, **options)
    images = draw_images(64, 64, batch=2)
    for training in (True, False):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(images, training=training) - 1.0))
        gradients = tape.gradient(loss, model.trainable_weights)
        named = {w.path: g for w, g in zip(model.trainable_weights, gradients, strict=True)}
        assert not [path for path, g in named.items() if g is None or not np.all(np.isfinite(g)) or not np.any(g)]
    largest = max(np.abs(g).max() for g in named.values())
    assert not [path for path, g in named.items() if np.abs(g).max() < 1e-6 * largest]


@pytest.mark.parametrize("build", [ShuffleNetV2, SNet, ResNet, XceptionLight, Xception39, XceptionDFANet])
def test_images_are_normalized_as_torchvision_does(build):
    model = build()
    pixels = draw_images(32, 40)
    actual = keras.Model(model.input, model.get_layer("normalize").output)(pixels)
    expected = (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["shufflenet_v2", pytest.param("xception_light", marks=pytest.mark.slow)])
def test_the_weights_of_a_classifier_are_copied_into_the_features(name, tmp_path):
    build, options, _ = NETS[name]
    keras.utils.set_random_seed(0)
    trained = build(num_classes=5, **options)
    trained.save_weights(tmp_path / "net.weights.h5")
    keras.utils.set_random_seed(1)
    classifier, features = build(num_classes=5, **options), build(**options)
    classifier.load_weights(tmp_path / "net.weights.h5")
    copy_layers(classifier, features)
    pixels = draw_images(64, 64)
    expected = keras.Model(trained.input, trained.get_layer(features.layers[-1].name).output)(pixels)
    np.testing.assert_allclose(features(pixels)["P5"], expected, atol=1e-6 * np.abs(expected).max())


def test_all_layers_are_copied_or_none():
    source, target = ShuffleNetV2(width=0.5), ShuffleNetV2(width=0.5, extra_depthwise=True)
    before = target.get_weights()
    with pytest.raises(WeightsError, match="stage2_block1_extra_depthwise_conv.*no such layer"):
        copy_layers(source, target)
    with pytest.raises(WeightsError, match=r"stage2_block1_\w+' with weights \[\(1, 1, 24, "):
        copy_layers(source, ShuffleNetV2(width=1.0))
    for actual, value in zip(target.get_weights(), before, strict=True):
        np.testing.assert_array_equal(actual, value)


@pytest.mark.parametrize("name", ["shufflenet_v2_keep", pytest.param("xception_light", marks=pytest.mark.slow)])
def test_a_saved_model_gives_the_same_outputs(name, tmp_path):
    build, options, _ = NETS[name]
    model = build(**options)
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    pixels = draw_images(45, 70)
    for level, values in model(pixels).items():
        np.testing.assert_array_equal(again(pixels)[level], values)


def test_logits_are_float32_in_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = SNet(variant="snet49", num_classes=5)
    finally:
        keras.config.set_dtype_policy("float32")
    logits = model(draw_images(64, 64))
    assert logits.dtype == "float32"
    assert np.all(np.isfinite(logits))
    assert model.get_layer("stage3_block2_shuffle").compute_dtype == "float16"


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (ShuffleNetV2, {"width": 0.75}, r"width to be one of \[0.5, 1.0, 1.5, 2.0\], got 0.75"),
        (ShuffleNetV2, {"unit": "half"}, "unit to be one of"),
        (ShuffleNetV2, {"num_classes": 0}, "num_classes"),
        (ShuffleNetV2, {"input_shape": (64, 64)}, "input_shape"),
        (SNet, {"variant": "snet50"}, "snet146"),
        (SNet, {"widths": (60, 120)}, "three even widths"),
        (SNet, {"widths": (61, 120, 240)}, "three even widths"),
        (SNet, {"widths": (20, 120, 240), "unit": "keep"}, "stage2_block1 to have more than the 24"),
        (SNet, {"kernel_size": 4}, "odd kernel_size"),
        (ResNet, {"depth": 152}, r"depth to be one of \[18, 34, 50, 101\], got 152"),
        (ResNet, {"input_shape": (64, 64, 1)}, "input_shape"),
        (XceptionLight, {"num_classes": -1}, "num_classes"),
        (MobileNetV2, {"width": 0}, "width to be above 0, got 0"),
        (MobileNetV2, {"convention": "tf"}, r"convention to be one of \['keras', 'torch'\], got 'tf'"),
        (Xception39, {"input_shape": (64, 64)}, "input_shape"),
        (XceptionDFANet, {"variant": "c"}, r"variant to be one of \['a', 'b'\], got 'c'"),
    ],
)
def test_arguments_out_of_range_are_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
