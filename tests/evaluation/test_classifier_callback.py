"""The callback that evaluates classifiers and saves their best weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.evaluation import EvaluateClassifier, KeepBestWeights
from keras_lightdet.weights import load_weights, read_record

CORRECT, WRONG = np.eye(2, dtype="float32"), np.eye(2, dtype="float32")[::-1]


@pytest.fixture
def model():
    """Returns a network of two inputs and two logits: with the unit matrix each input is its own class."""
    inputs = keras.Input((2,))
    net = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="classifier")(inputs))
    net.architecture, net.class_names = {"builder": "Two"}, ("first", "second")
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    net.compile("sgd", loss=loss, metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")])
    return net


@pytest.fixture
def batches():
    return tf.data.Dataset.from_tensor_slices((CORRECT, CORRECT)).batch(2)


def evaluate(callback, model, kernel, epoch):
    callback.set_model(model)
    model.get_layer("classifier").set_weights([kernel])
    logs = {}
    callback.on_epoch_end(epoch, logs)
    return logs


def test_worse_weights_do_not_replace_better_ones(model, batches, tmp_path):
    path = tmp_path / "best.weights.h5"
    callback = EvaluateClassifier(batches, best_path=path)
    half = np.float32([[1, 0], [1, 0]])  # predicts "first" for both
    assert evaluate(callback, model, half, 0)["val_accuracy"] == 0.5
    logs = evaluate(callback, model, CORRECT, 1)
    assert logs["val_accuracy"] == 1.0
    assert logs["val_loss"] == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-5)
    assert evaluate(callback, model, WRONG, 2)["val_accuracy"] == 0.0
    load_weights(model, path)
    np.testing.assert_array_equal(model.get_layer("classifier").get_weights()[0], CORRECT)
    assert read_record(path)["architecture"] == {"builder": "Two"}
    assert callback.get_state() == {"best_score": 1.0, "best_epoch": 1}


def test_an_unknown_monitor_is_rejected(model, batches):
    callback = EvaluateClassifier(batches, best_path=None, monitor="accuracy")
    with pytest.raises(ValueError, match=r"one of \['val_accuracy', 'val_loss'\], got 'accuracy'"):
        evaluate(callback, model, CORRECT, 0)


def test_a_first_score_of_nan_is_replaced(model, tmp_path):
    path, scores = tmp_path / "best.weights.h5", iter([np.nan, 0.25, np.nan])

    class Scores(KeepBestWeights):
        def evaluate(self):
            return {"score": next(scores)}

    callback = Scores("val_score", best_path=path)
    assert evaluate(callback, model, WRONG, 0) == {}
    assert evaluate(callback, model, CORRECT, 1) == {"val_score": 0.25}
    assert evaluate(callback, model, WRONG, 2) == {}
    assert callback.get_state() == {"best_score": 0.25, "best_epoch": 1}
    load_weights(model, path)
    np.testing.assert_array_equal(model.get_layer("classifier").get_weights()[0], CORRECT)


def test_the_error_names_the_method_that_a_callback_lacks(model):
    class Incomplete(KeepBestWeights):
        pass

    with pytest.raises(NotImplementedError, match="Incomplete to define evaluate"):
        evaluate(Incomplete("val_score"), model, CORRECT, 0)


def test_a_resumed_run_restores_the_best_score_unless_the_file_is_missing(model, batches, tmp_path):
    path = tmp_path / "best.weights.h5"
    first = EvaluateClassifier(batches, best_path=path)
    evaluate(first, model, CORRECT, 0)
    resumed = EvaluateClassifier(batches, best_path=path)
    resumed.set_state(first.get_state())
    evaluate(resumed, model, WRONG, 1)
    load_weights(model, path)
    np.testing.assert_array_equal(model.get_layer("classifier").get_weights()[0], CORRECT)
    path.unlink()
    resumed.set_state(first.get_state())
    evaluate(resumed, model, WRONG, 1)
    assert path.exists()
