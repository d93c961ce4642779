"""BiSeNet and DFANet: cost, input sizes, training, weights files, refused arguments."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_lightdet
from keras_lightdet.analysis import cost
from keras_lightdet.backbones import Xception39, XceptionDFANet
from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import load_trunk, save_weights

BUILDERS = {"bisenet": keras_lightdet.BiSeNet, "dfanet": keras_lightdet.DFANet}
# Parameters with batch norm, M multiply-adds, and the sizes that the papers call parameters: MiB of all float32
# tensors, which come out 2 % (BiSeNet) and up to 13 % (DFANet) off; their counts would be off four times.
COUNTS = [
    ("bisenet", {"variant": "xception39", "input_shape": (360, 640, 3)}, 1_541_963, 3065.2, 5.8),
    ("bisenet", {"variant": "resnet18", "input_shape": (360, 640, 3)}, 12_894_163, 11581.1, 49.0),
    ("bisenet", {"num_classes": 11, "input_shape": (720, 960, 3)}, 1_541_443, None, None),
    ("dfanet", {"variant": "a"}, 1_839_243, 3421.2, 7.8),
    ("dfanet", {"variant": "a_prime"}, 1_839_243, 1711.2, 7.8),
    ("dfanet", {"variant": "b"}, 1_108_075, 2055.3, 4.8),
    ("dfanet", {"variant": "b_prime", "num_classes": 11}, 1_107_811, None, None),
]
# Rows of DFANet's tables 3 and 4 for Xception A: backbones, decoder, published G multiply-adds, ours in M.
ABLATION = [
    (1, "none", 1.6, 1673.5),
    (2, "none", 2.4, 2425.0),
    (3, "none", 2.6, 2613.2),
    (4, "none", 2.7, 2660.5),
    (2, "high", 2.5, 2492.6),
    (2, "full", 3.2, 3222.4),
    (3, "high", 2.7, 2685.2),
]


def draw_images(height, width, batch=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3)).astype("float32")


def small(name, **options):
    keras.utils.set_random_seed(0)
    return BUILDERS[name](**{"num_classes": 5, "input_shape": (64, 96, 3), **options})


def settle(model):
    """Runs two images in training mode, without whose statistics the activations of an untrained model overflow."""
    model.network(keras.ops.cast(draw_images(64, 96, batch=2), model.compute_dtype), training=True)
    return model


@pytest.mark.parametrize(("name", "options", "parameters", "macs", "mebibytes"), COUNTS)
def test_counts_are_those_of_the_layer_table(name, options, parameters, macs, mebibytes):
    counts = cost(BUILDERS[name](**options))
    assert counts.trainable_parameters == parameters
    assert not counts.uncounted
    if macs:
        assert counts.macs / 1e6 == pytest.approx(macs, abs=0.1)
    if mebibytes:
        size = 4 * (counts.trainable_parameters + counts.bn_statistics) / 2**20
        assert size == pytest.approx(mebibytes, rel=0.14 if name == "dfanet" else 0.025)


@pytest.mark.parametrize(
    ("backbones", "decoder", "published", "macs"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (row[:2] not in ((1, "none"), (2, "full")))) for row in ABLATION],
)
def test_ablations_of_dfanet_have_the_published_cost(backbones, decoder, published, macs):
    macs_of_ours = cost(keras_lightdet.DFANet(backbones=backbones, decoder=decoder)).macs
    assert macs_of_ours / 1e6 == pytest.approx(macs, abs=0.1)
    assert macs_of_ours / 1e9 == pytest.approx(published, rel=0.05)


def test_modules_of_bisenet_have_the_counted_cost():
    """M multiply-adds at 640 x 360."""
    size = (360, 640, 3)
    macs = {
        key: cost(keras_lightdet.BiSeNet(input_shape=size, **options)).macs / 1e6
        for key, options in {
            "all": {},
            "plain": {"global_context": False, "attention": False},
            "spatial_path": {"spatial_path": False, "fusion": "sum"},
            "sum": {"fusion": "sum"},
        }.items()
    }
    assert macs["all"] - macs["plain"] == pytest.approx((256 * 128 + 2 * 128 * 128) / 1e6, abs=1e-6)
    assert macs["sum"] - macs["spatial_path"] == pytest.approx(1234.94, abs=0.01)
    head = 9 * 128 * 64 * 80 * 45 / 1e6  # what the head saves on 128 channels in place of 256
    assert macs["all"] - macs["sum"] == pytest.approx(236.06 + head, abs=0.01)


@pytest.mark.parametrize(("name", "stride"), [("bisenet", 8), ("dfanet", 4)])
def test_output_sizes_are_rounded_up(name, stride):
    model = settle(small(name, variant={"dfanet": "b"}.get(name)))
    for height, width in ((64, 96), (33, 129)):
        logits = model(draw_images(height, width))["logits"]
        assert logits.shape == (1, -(-height // stride), -(-width // stride), 5)
        assert np.all(np.isfinite(logits))


@pytest.mark.parametrize("name", ["bisenet", "dfanet"])
def test_training_moves_every_weight(name):
    model = small(name, variant={"dfanet": "b"}.get(name))
    labels = np.random.default_rng(1).integers(0, 5, (2, 64, 96))
    with tf.GradientTape() as tape:
        losses = model.compute_losses(draw_images(64, 96, batch=2), {"labels": labels}, training=True)
        total = sum(losses.values())
    gradients = tape.gradient(total, model.trainable_weights)
    named = {w.path: g for w, g in zip(model.trainable_weights, gradients, strict=True)}
    assert not [path for path, g in named.items() if g is None or not np.all(np.isfinite(g)) or not np.any(g)]
    assert set(losses) == {"main_loss"} | ({"aux_p16_loss", "aux_p8_loss"} if name == "bisenet" else set())


@pytest.mark.parametrize("name", ["bisenet", pytest.param("dfanet", marks=pytest.mark.slow)])
def test_weights_load_at_another_size(name, tmp_path):
    model = settle(small(name, variant={"dfanet": "b_prime"}.get(name)))
    path = save_weights(model, tmp_path / "net.weights.h5")
    again = BUILDERS[name](input_shape=(45, 70, 3), weights=path)
    assert (again.input_size, again.class_names) == ((45, 70), model.class_names)
    pixels = draw_images(45, 70)
    np.testing.assert_array_equal(again(pixels)["logits"], model(pixels)["logits"])
    with pytest.raises(WeightsError, match="num_classes to be left out or 5"):
        BUILDERS[name](num_classes=7, weights=path)


def test_a_saved_model_gives_the_same_logits_also_at_another_size(tmp_path):
    model = small("bisenet", loss=keras_lightdet.segmentation.SegmentationLoss(class_weights=(1, 2, 3, 4, 5)))
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    assert again.loss_spec == model.loss_spec
    for size in ((64, 96), (45, 70)):
        np.testing.assert_array_equal(again(draw_images(*size))["logits"], model(draw_images(*size))["logits"])


def test_other_classes_keep_all_but_the_predictions(tmp_path):
    model = small("bisenet")
    path = save_weights(model, tmp_path / "net.weights.h5")
    other = small("bisenet", num_classes=3)
    load_trunk(other, path)
    kept = {layer.name for layer in model.network.layers if layer.weights} - {x.name for x in model.class_layers()}
    assert {layer.name for layer in model.class_layers()} == {"head_class", "aux_p16_class", "aux_p8_class"}
    for name in kept:
        before, after = (each.network.get_layer(name).get_weights() for each in (model, other))
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_bisenet_starts_from_a_classifier(tmp_path):
    classifier = Xception39(num_classes=7)
    path = save_weights(classifier, tmp_path / "x39.weights.h5")
    network = small("bisenet", weights_backbone=path).network
    name = "stage4_block4_sep3_pointwise_conv"
    np.testing.assert_array_equal(network.get_layer(name).kernel, classifier.get_layer(name).kernel)
    with pytest.raises(WeightsError, match="classifier ResNet"):
        small("bisenet", variant="resnet18", weights_backbone=path)


def test_dfanet_copies_a_classifier_into_each_backbone(tmp_path):
    keras.utils.set_random_seed(1)
    classifier = XceptionDFANet(variant="b", num_classes=1000)
    path = save_weights(classifier, tmp_path / "xb.weights.h5")
    network = small("dfanet", variant="b", weights_backbone=path).network

    def same(layer, source):
        return np.array_equal(network.get_layer(layer).get_weights()[0], classifier.get_layer(source).get_weights()[0])

    assert same("stem_conv", "stem_conv")
    for number in (1, 2, 3):
        assert same(f"backbone{number}_enc3_block2_sep1_pointwise_conv", "enc3_block2_sep1_pointwise_conv")
        assert same(f"backbone{number}_attention_fc", "classifier")
    assert same("backbone1_enc3_block1_sep1_pointwise_conv", "enc3_block1_sep1_pointwise_conv")
    assert (
        network.get_layer("backbone2_enc3_block1_sep1_pointwise_conv").kernel.shape[2] == 96
    )  # the classifier has no such layer


def test_logits_are_float32_in_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small("bisenet")
    finally:
        keras.config.set_dtype_policy("float32")
    logits = settle(model)(draw_images(64, 96))["logits"]
    assert logits.dtype == "float32"
    assert np.all(np.isfinite(logits))
    assert model.network.get_layer("refine16_conv").compute_dtype == "float16"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bisenet", {"variant": "resnet50"}, r"variant to be one of \['resnet18', 'xception39'\], got 'resnet50'"),
        ("bisenet", {"fusion": "max"}, r"fusion to be one of \['ffm', 'sum'\], got 'max'"),
        ("bisenet", {"input_shape": (0, 64, 3)}, "input_shape"),
        ("bisenet", {"class_names": ("a", "b")}, "Expected 5 class_names, got 2"),
        ("bisenet", {"loss": keras_lightdet.segmentation.SegmentationLoss(class_weights=(1.0,))}, "5 class_weights"),
        ("dfanet", {"variant": "c"}, "a_prime"),
        ("dfanet", {"backbones": 0}, "backbones to be 1 or more"),
        ("dfanet", {"decoder": "low"}, "decoder to be one of"),
    ],
)
def test_arguments_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        small(name, **options)
