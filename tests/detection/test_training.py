"""Detectors with stock compile and fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from replica_check import assert_replicas_agree
from small_detector import BUILDERS, NAMES, SIDE, random_batch, small_rsanet

from keras_lightdet.errors import DataError


def batches(count=8, **options):
    images, targets = random_batch(**options)
    return tf.data.Dataset.from_tensors((images, targets)).repeat(count)


# Tracing the larger graph of two stages takes most of a minute per test; test_two_stage.py has fast tests of it.
DETECTORS = [pytest.param(name, marks=pytest.mark.slow if name == "two_stage" else ()) for name in BUILDERS]


@pytest.fixture(params=DETECTORS)
def build(request):
    return BUILDERS[request.param]


@pytest.fixture
def mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def fit(model, optimizer=None, epochs=2, **options):
    model.compile(optimizer or keras.optimizers.Adam(3e-3), **options)
    return model.fit(batches(), epochs=epochs, verbose=0).history["loss"]


def test_fit_lowers_the_loss_and_logs_its_terms(build):
    keras.utils.set_random_seed(0)
    model = build()
    model.compile(keras.optimizers.Adam(3e-3, global_clipnorm=5.0, use_ema=True), steps_per_execution=2)
    history = model.fit(batches(16), epochs=3, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    names = [key for key in history if key != "loss"]
    np.testing.assert_allclose(sum(np.array(history[key]) for key in names), history["loss"], rtol=1e-5)
    assert len(names) == len(set(names)) == (3 if build is small_rsanet else 4)
    tested = model.evaluate(batches(1), verbose=0, return_dict=True)
    assert set(tested) == set(history)


def test_steps_per_execution_changes_nothing(build):
    losses = []
    for steps in (1, 2):
        keras.utils.set_random_seed(0)
        losses.append(fit(build(), steps_per_execution=steps))
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_xla_gives_the_same_losses(build):
    losses = []
    for jit in (False, True):
        keras.utils.set_random_seed(0)
        losses.append(fit(build(), keras.optimizers.SGD(1e-3), epochs=1, jit_compile=jit))
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_mixed_precision_keeps_raw_outputs_and_losses_in_float32(mixed_precision, build):
    keras.utils.set_random_seed(0)
    model = build()
    losses = fit(model, epochs=3)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert {value.dtype for value in model(np.zeros((1, SIDE, SIDE, 3))).values()} == {tf.float32}
    assert losses[-1] < losses[0]


def test_multi_scale_batches_give_the_losses_of_their_sizes(build):
    keras.utils.set_random_seed(0)
    model = build()
    model.compile(keras.optimizers.SGD(0.0))
    sizes = {side: random_batch(side=side) for side in (64, 96)}
    expected = {}
    for step, (side, batch) in enumerate(sizes.items()):
        model.optimizer.iterations.assign(step)  # the seed of the regions that a loss counts
        expected[side] = float(sum(model.compute_losses(*batch, training=True).values()))
    model.optimizer.iterations.assign(0)
    spec = ({"boxes": [4, 5, 4], "labels": [4, 5], "ignore": [4, 5], "sources": [4, 4]}, [4, None, None, 3])
    signature = (
        tf.TensorSpec(spec[1], tf.uint8),
        {key: tf.TensorSpec(shape, tf.as_dtype(sizes[64][1][key].dtype)) for key, shape in spec[0].items()},
    )
    data = tf.data.Dataset.from_generator(lambda: iter([sizes[64], sizes[96]]), output_signature=signature)
    history = model.fit(data, verbose=0).history["loss"][0]
    assert history == pytest.approx((expected[64] + expected[96]) / 2, rel=1e-4)


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_a_non_finite_loss_halts_and_stores_the_sources(build, steps_per_execution):
    model = build()
    model.compile(keras.optimizers.SGD(1e-2), steps_per_execution=steps_per_execution)
    images, targets = random_batch()
    broken = {**targets, "boxes": np.full_like(targets["boxes"], np.nan), "sources": targets["sources"] + 40}
    before = [w.numpy() for w in model.trainable_weights]
    valid = tf.data.Dataset.from_tensors((images, targets))
    data = tf.data.Dataset.from_tensors((images, broken)).concatenate(valid)
    model.fit(data, verbose=0)
    assert bool(model.halted)
    assert set(model.halted_sources.numpy()) == {40, 41, 42, 43, -1}
    for weight, value in zip(model.trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_keras_file_restores_model_optimizer_and_class_names(tmp_path, build):
    model = build()
    fit(model, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    image = random_batch()[0]
    np.testing.assert_array_equal(loaded(image)["class_logits"], model(image)["class_logits"])
    assert loaded.class_names == NAMES
    assert int(loaded.optimizer.iterations) == 8
    assert loaded.fit(batches(1), verbose=0).history["loss"][0] > 0


def test_detect_returns_boxes_in_pixels_of_the_image(tmp_path):
    """Biases of the network set known boxes; the image is not square."""
    model = small_rsanet()
    for output, bias in (("objectness", -20.0), ("class", [-20.0, 3.0, -20.0] * 3)):
        for level in ("p3", "p4", "p5"):
            layer = model.network.get_layer(f"{level}_{output}")
            layer.kernel.assign(tf.zeros_like(layer.kernel))
            layer.bias.assign(tf.zeros_like(layer.bias) + bias)
    for level in ("p3", "p4", "p5"):
        box = model.network.get_layer(f"{level}_box")
        box.kernel.assign(tf.zeros_like(box.kernel))
    model.network.get_layer("p5_objectness").bias.assign([-20.0, 3.0, -20.0])
    pixels = np.zeros((100, 320, 3), "uint8")
    width, height = model.objective.anchors.sizes[2][1]
    expected = []
    for row in range(2):
        for column in range(2):
            x, y = 16 + 32 * column, 16 + 32 * row
            box = np.clip([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 0, 64)
            expected.append(box * [5, 100 / 64, 5, 100 / 64])
    Image.fromarray(pixels).save(tmp_path / "image.png")
    for image in (pixels, tmp_path / "image.png", str(tmp_path / "image.png")):
        detections = model.detect(image)
        assert set(detections.labels) == {1}
        assert detections.class_names == NAMES
        order = np.lexsort(detections.boxes.T)
        np.testing.assert_allclose(
            detections.boxes[order], np.array(expected)[np.lexsort(np.array(expected).T)], rtol=1e-4
        )
    assert [len(each) for each in model.detect([pixels, pixels[:50]])] == [4, 4]
    assert len(model.detect(pixels, score_threshold=0.95)) == 0


def test_detect_rejects_an_array_that_is_not_an_image():
    with pytest.raises(DataError, match=r"\[8, 8\]. Convert it to RGB"):
        small_rsanet().detect([np.zeros((8, 8))])


@pytest.mark.parametrize("name", DETECTORS)
def test_two_replicas_give_the_gradients_of_one(name):
    """Includes synchronized batch norm and the normalizer over all replicas."""
    assert_replicas_agree(name, timeout=300)
