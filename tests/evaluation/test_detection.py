"""Prediction and evaluation on a data set, also during training, with a detector of white rectangles."""

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
from keras_lightdet.evaluation import (
    EvaluateDetector,
    evaluate_coco,
    evaluate_detection,
    evaluate_voc,
    predict_detection,
)
from keras_lightdet.weights import load_weights

INPUT_SIZE = (64, 96)
SLOTS = 3


@keras.saving.register_keras_serializable("tests")
class RectangleDetector(keras.Model):
    """Predicts the box of the white pixels, shifted right by its one weight; no box for a black image."""

    def __init__(self, class_names=("square",), shift=0.0):
        super().__init__()
        self.class_names, self.input_size = tuple(class_names), INPUT_SIZE
        self.architecture = {"name": "rectangles"}
        self.shift = self.add_weight(shape=(), initializer=keras.initializers.Constant(shift), name="shift")
        self.built = True

    def call(self, images):
        return tf.reduce_max(tf.cast(images, tf.float32), axis=-1) > 127.0

    def predict_step(self, data):
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        white = self(images)
        columns, rows = tf.reduce_any(white, 1), tf.reduce_any(white, 2)
        box = tf.cast(tf.stack([first(columns), first(rows), last(columns), last(rows)], axis=1), tf.float32)
        any_white = tf.cast(tf.reduce_any(columns, 1), tf.int32)
        boxes = (box + tf.stack([self.shift.value, 0.0, self.shift.value, 0.0]))[:, None]
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
            loss = -self.shift * 10.0  # each step of SGD shifts the box by 10 px
        self.optimizer.apply_gradients([(tape.gradient(loss, self.shift.value), self.shift)])
        return {"loss": loss}


def first(flags):
    return tf.argmax(tf.cast(flags, tf.int32), axis=1)


def last(flags):
    return flags.shape[1] - first(tf.reverse(flags, [1]))


SIZES = [(192, 64), (96, 128), (48, 32), (300, 200), (96, 64), (200, 300), (64, 64)]


@pytest.fixture
def data(tmp_path):
    return draw_rectangles(tmp_path)


def draw_rectangles(folder):
    """Returns seven images of different sizes; the fourth is empty."""
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


def test_predictions_are_in_the_order_and_pixels_of_the_images(data):
    predictions = predict_detection(RectangleDetector(), data, batch_size=3)
    assert [len(detections) for detections in predictions] == [len(r.labels) for r in data.records]
    for detections, expected in zip(predictions, data.records, strict=True):
        input_pixel = max(expected.width / INPUT_SIZE[1], expected.height / INPUT_SIZE[0])
        np.testing.assert_allclose(detections.boxes, expected.boxes, atol=1.01 * max(1.0, input_pixel))
        assert detections.class_names == ("square",)
        assert detections.image is None


def test_prediction_of_no_images_and_for_other_classes(data):
    assert predict_detection(RectangleDetector(), detection_data([], ("square",)), 2) == []
    with pytest.raises(DataError, match="circle"):
        predict_detection(RectangleDetector(("circle",)), data, 2)


@pytest.mark.parametrize("metric", ["coco", "voc07", "voc"])
def test_evaluate_detection_predicts_and_computes_the_metric(data, metric):
    model = RectangleDetector(shift=1.0)
    detections = predict_detection(model, data)
    expected = {
        "coco": lambda: evaluate_coco(data, detections),
        "voc07": lambda: evaluate_voc(data, detections, metric="voc07"),
        "voc": lambda: evaluate_voc(data, detections, metric="area"),
    }[metric]()
    result = evaluate_detection(model, data, metric)
    assert type(result) is type(expected)
    assert result.figures() == pytest.approx(expected.figures(), nan_ok=True)
    with pytest.raises(ValueError, match="voc07"):
        evaluate_detection(model, data, "mAP")


def test_two_replicas_share_each_batch_and_keep_the_order():
    """Seven images in batches of three leave one for the last batch; replicas need devices that exist at the start."""
    code = """
import sys, pathlib, tempfile
sys.path[:0] = sys.argv[1:]
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_lightdet.evaluation import predict_detection
from test_detection import RectangleDetector, draw_rectangles

class Strict(RectangleDetector):
    def call(self, images):
        tf.debugging.assert_positive(tf.shape(images)[0], "a replica without images")
        return super().call(images)

data = draw_rectangles(pathlib.Path(tempfile.mkdtemp()))
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = Strict()
    model.compile()
for batch_size in (1, 3, 4):
    predictions = predict_detection(model, data, batch_size)
    expected = predict_detection(RectangleDetector(), data, batch_size)
    assert len(predictions) == len(expected) == 7
    for detections, other in zip(predictions, expected):
        np.testing.assert_array_equal(detections.boxes, other.boxes)
"""
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(here), str(here.parent / "helpers")]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]


def fit(model, callback, epochs, optimizer=None):
    model.compile(optimizer=optimizer or keras.optimizers.SGD(0.1), run_eagerly=False)
    batches = tf.data.Dataset.from_tensors((tf.zeros([1, 2, 2, 3]), tf.zeros([1]))).repeat(epochs)
    return model.fit(batches, epochs=epochs, steps_per_epoch=1, callbacks=[callback], shuffle=False, verbose=0)


@pytest.mark.parametrize(("metric", "monitor"), [("coco", "val_AP"), ("voc07", "val_mAP"), ("voc", "val_mAP")])
def test_figures_are_logged_and_the_best_weights_are_saved(data, tmp_path, metric, monitor):
    path = tmp_path / "out" / "best.weights.h5"
    callback = EvaluateDetector(data, metric=metric, batch_size=4, best_path=path)
    assert callback.monitor == monitor
    # Each step of SGD at 0.1 adds 1 px: the shift is -2, -1, 0, 1 and 2 px.
    model = RectangleDetector(shift=-3.0)
    history = fit(model, callback, epochs=5).history
    assert len(history[monitor]) == 5
    assert callback.best_score == max(history[monitor]) > 0.5
    assert callback.best_epoch == int(np.argmax(history[monitor]))
    assert float(model.shift) == pytest.approx(2.0)
    best = RectangleDetector()
    load_weights(best, path)
    assert float(best.shift) == pytest.approx(-2.0 + callback.best_epoch)
    assert callback.result.classes[0].num_objects == 6
    assert len(callback.detections) == len(data)
    if metric == "coco":
        assert {"val_AP", "val_AP50", "val_AR100"} <= history.keys()
        assert all(np.isfinite(values).all() for values in history.values())


def test_the_averaged_weights_are_evaluated_and_saved(data, tmp_path):
    path = tmp_path / "best.weights.h5"
    callback = EvaluateDetector(data, metric="voc07", batch_size=4, best_path=path)
    model = RectangleDetector(shift=-40.0)
    # One step of 40 px: the raw shift is then 0, the average with momentum 0.9 is not.
    optimizer = keras.optimizers.SGD(4.0, use_ema=True, ema_momentum=0.9)
    shifts = []
    callback_after = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: shifts.append(float(model.shift)))
    model.compile(optimizer=optimizer)
    batches = tf.data.Dataset.from_tensors((tf.zeros([1, 2, 2, 3]), tf.zeros([1])))
    model.fit(batches, callbacks=[callback, callback_after], shuffle=False, verbose=0)
    assert shifts == [0.0], "training continues with the raw weights"
    average = float(optimizer._model_variables_moving_average[0])
    best = RectangleDetector()
    load_weights(best, path)
    assert float(best.shift) == pytest.approx(average)
    first_box = callback.detections[0].boxes[0]
    shift_of_prediction = (first_box - data.records[0].boxes[0])[0] / (SIZES[0][0] / INPUT_SIZE[1])
    assert shift_of_prediction == pytest.approx(average, abs=1.01)


def test_evaluation_is_periodic_and_includes_the_last_epoch(data):
    callback = EvaluateDetector(data, metric="voc07", batch_size=4, evaluate_every=3)
    history = fit(RectangleDetector(shift=-30.0), callback, 5, keras.optimizers.SGD(1.0)).history
    assert len(history["val_mAP"]) == 2
    assert history["val_mAP"][0] > history["val_mAP"][1]


def test_state_is_restored_unless_the_file_is_missing(data, tmp_path):
    path = tmp_path / "best.weights.h5"
    callback = EvaluateDetector(data, metric="voc07", batch_size=4, best_path=path)
    fit(RectangleDetector(), callback, epochs=1)
    state = callback.get_state()
    assert state == {"best_score": callback.best_score, "best_epoch": 0}
    written = path.read_bytes()

    resumed = EvaluateDetector(data, metric="voc07", batch_size=4, best_path=path)
    resumed.set_state(state)
    fit(RectangleDetector(shift=30.0), resumed, epochs=1)
    assert resumed.get_state() == state
    assert path.read_bytes() == written, "worse weights do not replace the best ones"

    path.unlink()
    resumed.set_state(state)
    assert resumed.get_state() == {"best_score": None, "best_epoch": None}


def test_invalid_settings_are_rejected_before_training(data):
    with pytest.raises(ValueError, match="voc07"):
        EvaluateDetector(data, metric="mAP", batch_size=4)
    with pytest.raises(ValueError, match="evaluate_every"):
        EvaluateDetector(data, metric="coco", batch_size=4, evaluate_every=0)
    only_difficult = detection_data([record([[0, 0, 9, 9]], [0], ignore=[True]), record([], [])], ("cat",))
    with pytest.raises(DataError, match="an object in the evaluation data"):
        EvaluateDetector(only_difficult, metric="coco", batch_size=4)
