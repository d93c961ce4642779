"""A NaN in the data stops the run at once, names its images, and changes no weight."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.base_model import BaseModel
from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.errors import NonFiniteLossError
from keras_lightdet.training import HaltOnNaN, TrainingCheckpoint, fit_resumable, restore

IMAGES = 40


class Line(BaseModel):
    """Linear regression, and a square root whose gradient is NaN where the smallest label is 0."""

    def __init__(self):
        super().__init__(class_names=("thing",), input_size=(1, 1), loss_names=("square", "root"))
        self.dense = keras.layers.Dense(1)
        self.dense.build((None, 1))
        self.built = True

    def compute_losses(self, images, targets, training):
        square = tf.reduce_mean((self.dense(images) - targets["boxes"]) ** 2)
        root = tf.sqrt(tf.square(self.dense.kernel[0, 0]) * tf.reduce_min(targets["boxes"]))
        return {"square": square, "root": root}


def make_data(bad_step, place):
    def make(start):
        for step in range(start, 1000):
            images = np.full((4, 1), 0.5, np.float32)
            boxes = np.ones((4, 1), np.float32)
            sources = np.full((4, 4), -1, np.int32)
            sources[:, 0] = np.arange(4) + 4 * (step % 10)
            sources[2, 1] = 0  # A mosaic.
            if step == bad_step:
                (images if place == "image" else boxes)[1] = 0 if place == "gradient" else np.nan
            yield images, {"boxes": boxes, "sources": sources}

    spec = (
        tf.TensorSpec((4, 1)),
        {"boxes": tf.TensorSpec((4, 1)), "sources": tf.TensorSpec((4, 4), tf.int32)},
    )
    return lambda start: tf.data.Dataset.from_generator(lambda: make(start), output_signature=spec)


@pytest.mark.parametrize(
    "place, steps_per_execution, bad_step",
    [("image", 1, 7), ("label", 1, 9), ("label", 2, 6), ("gradient", 1, 6)],
)
def test_nan_stops_the_run_and_names_the_images(tmp_path, place, steps_per_execution, bad_step):
    none = np.zeros((0, 4), np.float32)
    records = [
        ImageRecord(f"images/{i:03d}.jpg", i, 9, 9, none, none[:, 0], none[:, 0] > 0, none[:, 0]) for i in range(IMAGES)
    ]
    halt = HaltOnNaN(DetectionData(records, ("thing",)))
    model = Line()
    model.compile(keras.optimizers.SGD(0.1), steps_per_execution=steps_per_execution)
    with pytest.raises(NonFiniteLossError, match=f"epoch {bad_step // 4 + 1},") as caught:
        fit_resumable(
            model,
            make_data(bad_step, place),
            epochs=3,
            steps_per_epoch=4,
            checkpoint=TrainingCheckpoint(tmp_path, every_seconds=0),
            callbacks=[halt],
        )
    named = {f"images/{4 * bad_step + i:03d}.jpg" for i in range(4)} | {"images/000.jpg"}
    assert {line.strip() for line in str(caught.value).splitlines()[1:]} == named
    assert int(model.optimizer.iterations) == bad_step + steps_per_execution, "the run must end with that execution"
    assert all(np.isfinite(weight).all() for weight in model.get_weights())

    fresh = Line()
    fresh.compile(keras.optimizers.SGD(0.1), steps_per_execution=steps_per_execution)
    assert restore(fresh, tmp_path).step == bad_step
    assert not fresh.halted.numpy()
    np.testing.assert_array_equal(fresh.dense.kernel.numpy(), model.dense.kernel.numpy())


def test_a_new_fit_clears_the_halted_state(tmp_path):
    model = Line()
    model.compile(keras.optimizers.SGD(0.1))
    model.halted.assign(True)
    halt = HaltOnNaN(DetectionData([], ("thing",)))
    model.fit(make_data(None, "image")(0), epochs=1, steps_per_epoch=2, verbose=0, shuffle=False, callbacks=[halt])
    assert int(model.optimizer.iterations) == 2


def test_a_plain_keras_model_stops_before_anything_is_saved(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones([6, 1], np.float32)
    y = np.float32([[1], [1], [1], [1], [np.nan], [1]])
    saved = tmp_path / "m.weights.h5"
    save = keras.callbacks.ModelCheckpoint(saved, save_weights_only=True, save_freq=1)
    with pytest.raises(NonFiniteLossError, match="batch 3"):
        model.fit(x, y, batch_size=2, shuffle=False, verbose=0, callbacks=[HaltOnNaN(), save])
    model.load_weights(saved)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
