"""Predicting whole data sets and scoring during training, with a detector that finds painted rectangles."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from evaluation_cases import detection_data, record
from PIL import Image

from keras_lightdet.errors import DataError
from keras_lightdet.evaluation import EvaluateDetector, predict_detection
from keras_lightdet.weights import load_weights

INPUT_SIZE = (64, 96)
SLOTS = 3


@keras.saving.register_keras_serializable("tests")
class RectangleFinder(keras.Model):
    """Answers the box of the white pixels, moved right by its one weight; for an empty image none."""

    def __init__(self, class_names=("square",), drift=0.0):
        super().__init__()
        self.class_names, self.input_size = tuple(class_names), INPUT_SIZE
        self.architecture = {"name": "finder"}
        self.drift = self.add_weight(shape=(), initializer=keras.initializers.Constant(drift), name="drift")
        self.built = True

    def call(self, images):
        return tf.reduce_max(tf.cast(images, tf.float32), axis=-1) > 127.0

    def predict_step(self, data):
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        white = self(images)
        columns, rows = tf.reduce_any(white, 1), tf.reduce_any(white, 2)
        box = tf.cast(tf.stack([first(columns), first(rows), last(columns), last(rows)], axis=1), tf.float32)
        any_white = tf.cast(tf.reduce_any(columns, 1), tf.int32)
        boxes = (box + tf.stack([self.drift.value, 0.0, self.drift.value, 0.0]))[:, None]
        padded = tf.pad(boxes, [[0, 0], [0, SLOTS - 1], [0, 0]])
        batch = tf.shape(images)[0]
        return {
            "boxes": padded,
            "scores": tf.tile([[0.9, 0.0, 0.0]], [batch, 1]),
            "labels": tf.tile([[0, -1, -1]], [batch, 1]),
            "count": any_white,
        }

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = -self.drift * 10.0  # each step of SGD drives the box 10 px further off
        self.optimizer.apply_gradients([(tape.gradient(loss, self.drift.value), self.drift)])
        return {"loss": loss}


def first(flags):
    return tf.argmax(tf.cast(flags, tf.int32), axis=1)


def last(flags):
    return flags.shape[1] - first(tf.reverse(flags, [1]))


SIZES = [(192, 64), (96, 128), (48, 32), (300, 200), (96, 64), (200, 300), (64, 64)]


@pytest.fixture
def painted(tmp_path):
    return paint(tmp_path)


def paint(folder):
    """Seven images of different sizes, the fourth of them empty."""
    generator = np.random.default_rng(5)
    records = []
    for i, (width, height) in enumerate(SIZES):
        pixels = np.zeros((height, width, 3), np.uint8)
        low = generator.uniform(0.1, 0.4, 2) * [width, height]
        box = np.round([*low, *(low + generator.uniform(0.3, 0.5, 2) * [width, height])]).astype(int)
        boxes = [] if i == 3 else [box]
        for x0, y0, x1, y1 in boxes:
            pixels[y0:y1, x0:x1] = 255
        path = folder / f"{i}.png"
        Image.fromarray(pixels).save(path)
        labels = [0] * len(boxes)
        records.append(record(boxes, labels, image_id=f"image {i}", width=width, height=height, path=str(path)))
    return detection_data(records, ("square",))


def test_boxes_come_in_the_order_and_pixels_of_the_images(painted):
    answers = predict_detection(RectangleFinder(), painted, batch_size=3)
    assert [len(a) for a in answers] == [len(r.labels) for r in painted.records]
    for answer, truth in zip(answers, painted.records, strict=True):
        one_network_pixel = max(truth.width / INPUT_SIZE[1], truth.height / INPUT_SIZE[0])
        np.testing.assert_allclose(answer.boxes, truth.boxes, atol=1.01 * max(1.0, one_network_pixel))
        assert answer.class_names == ("square",)


def test_no_images_and_other_classes(painted):
    assert predict_detection(RectangleFinder(), detection_data([], ("square",)), 2) == []
    with pytest.raises(DataError, match="circle"):
        predict_detection(RectangleFinder(("circle",)), painted, 2)


def test_two_replicas_share_every_batch_and_keep_the_order():
    """Seven images in batches of three leave one for the last batch; replicas need devices made at the start."""
    code = """
import sys, pathlib, tempfile
sys.path[:0] = sys.argv[1:]
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_lightdet.evaluation import predict_detection
from test_callback import RectangleFinder, paint

class Strict(RectangleFinder):
    def call(self, images):
        tf.debugging.assert_positive(tf.shape(images)[0], "a replica without images")
        return super().call(images)

data = paint(pathlib.Path(tempfile.mkdtemp()))
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = Strict()
    model.compile()
for batch_size in (1, 3, 4):
    answers = predict_detection(model, data, batch_size)
    expected = predict_detection(RectangleFinder(), data, batch_size)
    assert len(answers) == len(expected) == 7
    for one, other in zip(answers, expected):
        np.testing.assert_array_equal(one.boxes, other.boxes)
"""
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(here), str(here.parent / "helpers")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def fit(model, callback, epochs, optimizer=None):
    model.compile(optimizer=optimizer or keras.optimizers.SGD(0.1), run_eagerly=False)
    batches = tf.data.Dataset.from_tensors((tf.zeros([1, 2, 2, 3]), tf.zeros([1]))).repeat(epochs)
    return model.fit(batches, epochs=epochs, steps_per_epoch=1, callbacks=[callback], shuffle=False, verbose=0)


@pytest.mark.parametrize(("metric", "monitor"), [("coco", "val_AP"), ("voc07", "val_mAP"), ("voc", "val_mAP")])
def test_scores_are_logged_and_the_best_weights_kept(painted, tmp_path, metric, monitor):
    path = tmp_path / "out" / "best.weights.h5"
    callback = EvaluateDetector(painted, metric=metric, batch_size=4, best_path=path)
    assert callback.monitor == monitor
    # SGD adds 1 px at each step of size 0.1: from -2 over -1 and 0 to 2 px of drift.
    model = RectangleFinder(drift=-3.0)
    history = fit(model, callback, epochs=5).history
    assert len(history[monitor]) == 5
    assert callback.best_score == max(history[monitor]) > 0.5
    assert callback.best_epoch == int(np.argmax(history[monitor]))
    assert float(model.drift) == pytest.approx(2.0)
    kept = RectangleFinder()
    load_weights(kept, path)
    assert float(kept.drift) == pytest.approx(-2.0 + callback.best_epoch)
    assert callback.result.classes[0].truths == 6
    assert len(callback.detections) == len(painted)
    if metric == "coco":
        assert {"val_AP", "val_AP50", "val_AR100"} <= history.keys()
        assert all(np.isfinite(values).all() for values in history.values())


def test_the_averaged_weights_are_what_is_scored_and_kept(painted, tmp_path):
    path = tmp_path / "best.weights.h5"
    callback = EvaluateDetector(painted, metric="voc07", batch_size=4, best_path=path)
    model = RectangleFinder(drift=-40.0)
    # One step of 40 px; the raw drift is then 0 and the average, of momentum 0.9, is not.
    optimizer = keras.optimizers.SGD(4.0, use_ema=True, ema_momentum=0.9)
    seen = []
    callback_after = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(float(model.drift)))
    model.compile(optimizer=optimizer)
    data = tf.data.Dataset.from_tensors((tf.zeros([1, 2, 2, 3]), tf.zeros([1])))
    model.fit(data, callbacks=[callback, callback_after], shuffle=False, verbose=0)
    assert seen == [0.0], "training goes on from the raw weights"
    average = float(optimizer._model_variables_moving_average[0])
    kept = RectangleFinder()
    load_weights(kept, path)
    assert float(kept.drift) == pytest.approx(average)
    first_answer = callback.detections[0].boxes[0]
    drift_seen = (first_answer - painted.records[0].boxes[0])[0] / (SIZES[0][0] / INPUT_SIZE[1])
    assert drift_seen == pytest.approx(average, abs=1.01)


def test_every_so_many_epochs_and_always_the_last(painted):
    callback = EvaluateDetector(painted, metric="voc07", batch_size=4, every=3)
    history = fit(RectangleFinder(drift=-30.0), callback, 5, keras.optimizers.SGD(1.0)).history
    assert len(history["val_mAP"]) == 2
    assert history["val_mAP"][0] > history["val_mAP"][1]


def test_state_survives_a_restart_and_a_lost_file_starts_anew(painted, tmp_path):
    path = tmp_path / "best.weights.h5"
    callback = EvaluateDetector(painted, metric="voc07", batch_size=4, best_path=path)
    fit(RectangleFinder(), callback, epochs=1)
    state = callback.get_state()
    assert state == {"best_score": callback.best_score, "best_epoch": 0}
    written = path.read_bytes()

    resumed = EvaluateDetector(painted, metric="voc07", batch_size=4, best_path=path)
    resumed.set_state(state)
    fit(RectangleFinder(drift=30.0), resumed, epochs=1)
    assert resumed.get_state() == state
    assert path.read_bytes() == written, "worse weights do not replace the best"

    path.unlink()
    resumed.set_state(state)
    assert resumed.get_state() == {"best_score": None, "best_epoch": None}


def test_wrong_settings_are_refused_before_training(painted):
    with pytest.raises(ValueError, match="voc07"):
        EvaluateDetector(painted, metric="mAP", batch_size=4)
    with pytest.raises(ValueError, match="every"):
        EvaluateDetector(painted, metric="coco", batch_size=4, every=0)
    only_difficult = detection_data([record([[0, 0, 9, 9]], [0], ignore=[True]), record([], [])], ("cat",))
    with pytest.raises(DataError, match="object to find"):
        EvaluateDetector(only_difficult, metric="coco", batch_size=4)
