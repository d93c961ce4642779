"""Evaluation of segmenters against figures computed by hand and by loops."""

import math

import keras
import numpy as np
import pytest
from PIL import Image

from keras_lightdet.data import load_segmentation
from keras_lightdet.errors import DataError
from keras_lightdet.evaluation import (
    EvaluateSegmenter,
    SegmentationClass,
    SegmentationResult,
    class_table,
    evaluate_segmentation,
    result_as_data,
)
from keras_lightdet.evaluation.segmentation import count_confusion
from keras_lightdet.labels import IGNORE
from keras_lightdet.segmentation import SegmentationModel
from keras_lightdet.visualization import save_segmentation_grid
from keras_lightdet.visualization.boxes import IGNORED_COLOR, class_color

NAMES = ("dark", "middle", "light")


def test_the_confusion_matrix_counts_pairs_of_labels():
    random = np.random.default_rng(0)
    labels, predictions = random.choice([0, 1, 2, IGNORE], (2, 30, 40)), random.integers(0, 3, (2, 30, 40))
    expected = [[np.sum((labels == row) & (predictions == column)) for column in range(3)] for row in range(3)]
    np.testing.assert_array_equal(count_confusion(labels, predictions, 3), expected)


def test_figures_computed_by_hand():
    """Class 1 is never predicted, class 3 neither labeled nor predicted: it has no IoU."""
    result = SegmentationResult((*NAMES, "none"), np.array([[6, 0, 2, 0], [1, 0, 1, 0], [0, 0, 10, 0], [0] * 4]))
    assert result.ious[:3] == pytest.approx([6 / 9, 0, 10 / 13])
    assert math.isnan(result.ious[3])
    figures = result.figures()
    assert figures["mIoU"] == pytest.approx((6 / 9 + 10 / 13) / 3)
    assert figures["pixel_accuracy"] == pytest.approx(16 / 20)
    assert figures["class_accuracy"] == pytest.approx((6 / 8 + 0 + 1) / 3)
    assert result.classes[2] == SegmentationClass("light", 10 / 13, recall=1.0, precision=10 / 13, num_pixels=10)
    assert list(result.classes[2].columns()) == ["class", "IoU", "recall", "precision", "pixels"]
    assert result_as_data(result)["classes"][3]["IoU"] is None
    assert "light" in class_table(result)


@pytest.fixture
def data(tmp_path):
    """Returns images larger than the network input: dark on the left, light on the right, the top row ignored."""
    for folder in ("test", "testannot"):
        (tmp_path / folder).mkdir()
    labels = np.zeros((20, 24), np.uint8)
    labels[:, 12:] = 2
    labels[0] = IGNORE
    for number in range(3):
        Image.fromarray(labels).save(tmp_path / "testannot" / f"{number}.png")
        gray = np.uint8([10, 120, 240])[np.where(labels == IGNORE, 0, labels)]
        Image.fromarray(np.repeat(gray[..., None], 3, -1)).save(tmp_path / "test" / f"{number}.png")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    return load_segmentation(tmp_path, "test")


@pytest.fixture
def model():
    """Returns a 1x1 convolution that predicts dark or light by the red channel, and never middle."""
    images = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(3, 1, name="head_class")
    network = keras.Model(images, {"logits": logits(images)})
    kernel = np.zeros((1, 1, 3, 3), "float32")
    kernel[0, 0, 0] = [-1, 0, 1]
    logits.set_weights([kernel, np.float32([128, -1e3, -128])])
    return SegmentationModel(
        network, class_names=NAMES, input_size=(10, 12), architecture={"builder": "BiSeNet"}, name="toy"
    )


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"scales": (1.0, 1.5), "flip": True}])
def test_evaluation_is_at_the_size_of_the_labels(model, data, options):
    result = evaluate_segmentation(model, data, batch_size=2, **options)
    assert result.confusion.sum() == 3 * 19 * 24  # each labeled pixel, although the network input is 10 x 12
    assert result.confusion[:, 1].sum() == 0
    assert result.figures()["pixel_accuracy"] > 0.94  # except one or two columns at the border
    predictions = model.segment(data.records[0].path)
    np.testing.assert_array_equal(predictions[:, :11], 0)
    np.testing.assert_array_equal(predictions[2:, 14:], 2)  # the image's top row is dark, and ignored
    if not options:
        np.testing.assert_array_equal(result.confusion, 3 * count_confusion(data.read_labels(0), predictions, 3))


def test_data_of_other_classes_are_rejected(model, data):
    model.class_names = ("a", "b", "c")
    with pytest.raises(DataError, match=r"\['a', 'b', 'c'\]"):
        evaluate_segmentation(model, data)


def test_the_callback_saves_the_best_weights(model, data, tmp_path):
    path = tmp_path / "best.weights.h5"
    callback = EvaluateSegmenter(data, batch_size=2, best_path=path, evaluate_every=2)
    model.compile(keras.optimizers.SGD(0.0))
    callback.set_model(model)
    callback.set_params({"epochs": 5})
    logs = [{} for _ in range(5)]
    for epoch, log in enumerate(logs):
        if epoch == 3:  # all predictions are light from here on
            model.network.get_layer("head_class").bias.assign([-1e4, -1e4, 1e4])
        callback.on_epoch_end(epoch, log)
    assert ["val_mIoU" in log for log in logs] == [False, True, False, True, True]
    assert callback.best_score == logs[1]["val_mIoU"] > logs[3]["val_mIoU"]
    model.load_weights(path)
    assert evaluate_segmentation(model, data).figures()["mIoU"] == callback.best_score
    state = {"best_score": 0.25, "best_epoch": 7}
    callback.set_state(state)
    assert callback.get_state() == state
    path.unlink()
    callback.set_state(state)
    assert callback.get_state() == {"best_score": None, "best_epoch": None}


def test_the_grid_shows_predictions_and_ground_truth_in_class_colors(model, data, tmp_path):
    predictions = {0: model.segment(data.records[0].path)}
    save_segmentation_grid(data, predictions, tmp_path / "out" / "grid.png")
    with Image.open(tmp_path / "out" / "grid.png") as grid:
        colors = {color for _, color in grid.convert("RGB").getcolors(1 << 20)}
    assert {class_color(0), class_color(2), IGNORED_COLOR} <= colors  # the legend's swatches
    assert class_color(1) not in colors
    with pytest.raises(DataError, match="got none"):
        save_segmentation_grid(data, {}, tmp_path / "none.png")
