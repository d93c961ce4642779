"""Classifier: its answers are those of evaluation, its class names fit, and it is saved and loaded with both."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_lightdet.backbones import MobileSpineNet, ShuffleNetV2, SNet
from keras_lightdet.classification import Classification, Classifier
from keras_lightdet.data import classification_eval_batches, load_classification
from keras_lightdet.errors import DataError
from keras_lightdet.weights import load_trunk, save_weights

NAMES = ("cat", "dog", "fox")


def small_classifier(side=32, num_classes=3):
    keras.utils.set_random_seed(0)
    model = SNet((side, side, 3), widths=(28, 32, 36), num_classes=num_classes)
    head = model.get_layer("classifier")
    head.set_weights([20 * weight for weight in head.get_weights()])  # probabilities that differ
    return model


def write_images(root, names=NAMES):
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for index, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            pixels = random.integers(0, 256, (40 + 9 * index, 61, 3)).astype("uint8")
            Image.fromarray(pixels).save(root / split / name / "image.png")
    return root


def test_classify_answers_as_evaluation_does(tmp_path):
    model = small_classifier()
    data = load_classification(write_images(tmp_path), "val")
    model.class_names = data.class_names
    answers = model.classify([record.path for record in data.records])
    (images, _), *_ = classification_eval_batches(data, 32, len(data))
    expected = np.asarray(keras.ops.softmax(model(images)))
    np.testing.assert_allclose([answer.probabilities for answer in answers], expected, atol=1e-5)
    assert np.ptp(expected, axis=1).min() > 1e-3
    for answer, probabilities in zip(answers, expected, strict=True):
        assert answer.label == probabilities.argmax()
        assert answer.score == pytest.approx(probabilities.max(), abs=1e-5)
        assert [name for name, _ in answer.top(2)] == [NAMES[label] for label in np.argsort(-probabilities)[:2]]


def test_a_model_for_images_of_any_size_classifies_at_any_size():
    model = SNet(widths=(28, 32, 36), num_classes=3)
    assert model.input_size is None
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype("uint8")
    assert isinstance(model.classify(image, input_size=(64, 64)), Classification)
    assert small_classifier(side=64).input_size == (64, 64)


def test_class_names_are_as_many_as_the_classes():
    model = small_classifier()
    assert model.class_names == ("class 0", "class 1", "class 2")
    model.class_names = list(NAMES)
    assert model.class_names == NAMES and model.num_classes == 3
    with pytest.raises(ValueError, match=r"Expected 3 class_names, got 2\. Build the classifier with num_classes=2"):
        model.class_names = ("cat", "dog")


def test_an_array_of_fractions_is_refused():
    with pytest.raises(DataError, match="Multiply it by 255"):
        small_classifier().classify(np.full((8, 8, 3), 0.5))


def test_a_saved_classifier_is_loaded_whole(tmp_path):
    model = MobileSpineNet((64, 64, 3), variant="49xs", num_classes=3)
    model.class_names = NAMES
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(restored, Classifier)
    assert restored.class_names == NAMES
    assert dict(restored.architecture) == dict(model.architecture)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3))
    np.testing.assert_array_equal(restored(image), model(image))


def test_fine_tuning_on_other_classes_starts_from_the_trunk(tmp_path):
    source, model = small_classifier(num_classes=3), small_classifier(num_classes=5)
    path = save_weights(source, tmp_path / "three.weights.h5")
    stem, head = model.get_layer("stem_conv"), model.get_layer("classifier")
    stem.set_weights([np.zeros_like(stem.get_weights()[0])])
    own = head.get_weights()[0]
    load_trunk(model, path)
    np.testing.assert_array_equal(stem.get_weights()[0], source.get_layer("stem_conv").get_weights()[0])
    np.testing.assert_array_equal(head.get_weights()[0], own)


def test_it_trains_by_compile_and_fit():
    model = ShuffleNetV2((32, 32, 3), width=0.5, num_classes=2)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3))
    history = model.fit(images, np.array([0, 1, 0, 1]), verbose=0)
    assert np.isfinite(history.history["loss"][0])
