"""Evaluation of classifiers against figures computed by hand."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_lightdet.classification import Classifier
from keras_lightdet.data import load_classification
from keras_lightdet.errors import DataError
from keras_lightdet.evaluation import class_table, evaluate_classification, result_as_data

NAMES = tuple(f"class {index}" for index in range(6))
# By class, the red values of its images; the classifier predicts class 0 below 50, class 1 below 100, ..
REDS = {0: [25, 25], 1: [75, 25], 2: [125], 3: [25], 4: [225], 5: [25]}


@pytest.fixture
def data(tmp_path):
    for split in ("train", "val"):
        for label, name in enumerate(NAMES):
            (tmp_path / split / name).mkdir(parents=True)
            for number, red in enumerate(REDS[label]):
                pixels = np.full((40, 30, 3), (red, 0, 0), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return load_classification(tmp_path, "val")


@pytest.fixture
def model():
    """The logit of class k is minus the distance of the mean red value from 50 k + 25."""
    images = keras.Input((None, None, 3))
    red = keras.layers.GlobalAveragePooling2D()(images)[:, :1]
    logits = -keras.ops.abs(red - np.float32([50 * label + 25 for label in range(len(NAMES))]))
    return Classifier(images, logits, class_names=NAMES)


@pytest.mark.parametrize("image_size", [20, None])
def test_figures_computed_by_hand(model, data, image_size):
    result = evaluate_classification(model, data, batch_size=3, image_size=image_size)
    confusion = np.diag([2, 1, 1, 0, 1, 0])
    confusion[[1, 3, 5], 0] = 1
    np.testing.assert_array_equal(result.confusion, confusion)
    # Of 25, class 5 is the sixth most probable class.
    assert result.figures() == pytest.approx({"accuracy": 5 / 8, "top5_accuracy": 7 / 8, "class_accuracy": 3.5 / 6})
    assert result.classes[0].precision == 2 / 5 and result.classes[0].recall == 1.0
    assert result.classes[1].columns() == {"class": "class 1", "recall": 0.5, "precision": 1.0, "images": 2}
    assert result_as_data(result)["classes"][5]["precision"] is None
    assert class_table(result).splitlines()[-1] == "accuracy 62.5  top5_accuracy 87.5  class_accuracy 58.3"


def test_data_of_other_classes_are_rejected(model, data):
    model.class_names = ("a", "b", "c", "d", "e", "f")
    with pytest.raises(DataError, match=r"\['a', 'b'"):
        evaluate_classification(model, data)
