"""Segmenters with stock compile and fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from replica_check import assert_replicas_agree
from small_segmenter import BUILDERS, random_batch, small_toy

from keras_lightdet.segmentation import SegmentationLoss, SegmentationModel

# Tracing the papers' networks takes most of a minute per test.
SEGMENTERS = [pytest.param(name, marks=() if name == "toy" else pytest.mark.slow) for name in BUILDERS]


@pytest.fixture
def mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def batches(count=8, **options):
    return tf.data.Dataset.from_tensors(random_batch(**options)).repeat(count)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_mixed_precision_with_ema_and_clipping_lowers_the_loss(mixed_precision, name):
    """The averaged weights, which `fit` leaves in the model, predict most pixels correctly."""
    keras.utils.set_random_seed(0)
    model = BUILDERS[name]()
    model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=5.0, use_ema=True, ema_momentum=0.8))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    history = model.fit(batches(20), epochs=3, verbose=0).history
    assert history["loss"][-1] < 0.75 * history["loss"][0]
    terms = [key for key in history if key != "loss"]
    assert len(terms) == len(model.network.output)
    np.testing.assert_allclose(sum(np.array(history[key]) for key in terms), history["loss"], rtol=1e-5)
    images, targets = random_batch()
    logits = model(images)["logits"]
    assert logits.dtype == "float32"
    assert {variable.dtype for variable in model.trainable_weights} == {"float32"}
    labeled = targets["labels"] != 255
    predictions = model.segment(list(images))
    assert np.mean((np.stack(predictions) == targets["labels"])[labeled]) > 0.8  # 0.33 by chance


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_clipped_step_is_the_gradient_scaled_to_the_clipnorm(name):
    keras.utils.set_random_seed(0)
    model = BUILDERS[name]()
    images, targets = random_batch()
    with tf.GradientTape() as tape:
        loss = sum(model.compute_losses(images, targets, training=True).values())
    gradients = [g.numpy() for g in tape.gradient(loss, model.trainable_weights)]
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradients))
    assert norm > 0.1
    before = [w.numpy() for w in model.trainable_weights]
    model.compile(keras.optimizers.SGD(1.0, global_clipnorm=0.1))
    model.fit(batches(1), verbose=0)
    for weight, start, gradient in zip(model.trainable_weights, before, gradients, strict=True):
        np.testing.assert_allclose(start - weight.numpy(), gradient * 0.1 / norm, atol=2e-5)


def test_keras_file_restores_the_segmenter(tmp_path):
    toy, images = small_toy(), random_batch()[0]
    loss = SegmentationLoss(ohem_threshold=None, class_weights=(1.0, 2.0, 0.5))
    options = {"class_names": toy.class_names, "input_size": toy.input_size, "architecture": {"builder": "Toy"}}
    model = SegmentationModel(toy.network, loss=loss, **options)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(images)["logits"], model(images)["logits"])
    assert loaded.loss_spec == loss
    for key in options:
        assert getattr(loaded, key) == options[key]
    with pytest.raises(ValueError, match="Expected 3 class_weights, got 2"):
        SegmentationModel(toy.network, loss=SegmentationLoss(class_weights=(1.0, 2.0)), **options)


def test_fit_leaves_the_averaged_weights():
    """By hand: the first step's weights, then 0.75 of the average and 0.25 of each later step's weights."""
    keras.utils.set_random_seed(0)
    model, weights_of_steps = small_toy(), []

    class Keep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights_of_steps.append([w.numpy() for w in model.trainable_weights])

    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75))
    model.fit(batches(4), verbose=0, callbacks=[Keep()])
    average = weights_of_steps[0]
    for weights in weights_of_steps[1:]:
        average = [0.75 * mean + 0.25 * weight for mean, weight in zip(average, weights, strict=True)]
    for weight, expected, last in zip(model.trainable_weights, average, weights_of_steps[-1], strict=True):
        np.testing.assert_allclose(weight.numpy(), expected, atol=1e-6)
        assert not np.allclose(last, expected, atol=1e-6)


def test_steps_per_execution_changes_nothing():
    losses = []
    for steps in (1, 2):
        keras.utils.set_random_seed(0)
        model = small_toy()
        model.compile(keras.optimizers.SGD(1e-2), steps_per_execution=steps)
        losses.append(model.fit(batches(), epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_non_finite_loss_halts_and_stores_the_sources():
    model = small_toy()
    model.compile(keras.optimizers.SGD(1e-2))
    model.network.get_layer("head_class").bias.assign([0.0, np.nan, 0.0])
    before = [w.numpy() for w in model.trainable_weights]
    images, targets = random_batch()
    data = [(images, {**targets, "sources": targets["sources"] + first}) for first in (40, 50)]
    model.fit(tf.data.Dataset.from_tensors(data[0]).concatenate(tf.data.Dataset.from_tensors(data[1])), verbose=0)
    assert bool(model.halted)
    assert set(model.halted_sources.numpy()) == {40, 41, 42, 43, -1}
    for weight, value in zip(model.trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_two_replicas_give_the_gradients_of_one(name):
    """Includes synchronized batch norm and the normalizer over all replicas."""
    assert_replicas_agree(name, timeout=900)
