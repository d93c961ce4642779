"""list_variants lists every published size; load_model builds the right model for any weights file."""

import importlib
import json

import numpy as np
import pytest
from small_detector import NAMES, small_rsanet
from small_segmenter import small_bisenet

import keras_lightdet
from keras_lightdet import backbones, models
from keras_lightdet.backbones import ResNet, SNet, SpineNet
from keras_lightdet.classification import Classifier
from keras_lightdet.detection import DetectorModel
from keras_lightdet.errors import WeightsError
from keras_lightdet.models.registry import list_variants, load_model
from keras_lightdet.segmentation import SegmentationModel
from keras_lightdet.weights import record_path, save_weights


def random_image(height=64, width=96):
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype("float32")


def edit_record(path, **architecture):
    record = json.loads(record_path(path).read_text())
    record["architecture"] |= architecture
    record_path(path).write_text(json.dumps(record))


@pytest.mark.parametrize("builder", models.__all__)
def test_every_variant_of_a_model_is_listed(builder):
    module = importlib.import_module(getattr(keras_lightdet, builder).__module__)
    assert [row.variant for row in list_variants(builder)] == list(module.VARIANTS)
    tasks = {row.task for row in list_variants(builder)}
    assert tasks == {"segmentation" if builder in ("BiSeNet", "DFANet") else "detection"}


def test_every_backbone_with_a_classifier_is_listed():
    rows = [row for row in list_variants() if row.task == "classification"]
    assert {row.builder for row in rows} == set(backbones.__all__) - {"LCNet"}
    for row in rows:
        module = importlib.import_module(getattr(backbones, row.builder).__module__)
        if hasattr(module, "VARIANTS"):
            assert {each.variant for each in list_variants(row.builder)} == {str(key) for key in module.VARIANTS}


def test_rows_state_input_sizes_and_the_arguments_that_build_them():
    rows = {(row.builder, row.variant): row for row in list_variants()}
    assert len(rows) == len(list_variants())
    assert rows["EfficientDet", "lite3x"].input_size == (640, 640)
    assert rows["DFANet", "b_prime"].input_size == (512, 1024)
    assert rows["ThunderNet", "snet49"].input_size == (320, 320)
    assert rows["EfficientNet", "b3"].input_size == (300, 300)
    assert rows["ResNet", "50"].input_size == (224, 224)
    assert rows["ResNet", "50"].options == {"depth": 50}
    assert rows["Xception39", ""].options == {}


def test_an_unknown_builder_is_refused():
    with pytest.raises(ValueError, match="one of .*'RSANet'.*'ResNet'.*got 'YOLO'"):
        list_variants("YOLO")


@pytest.mark.parametrize(("build", "kind"), [(small_rsanet, DetectorModel), (small_bisenet, SegmentationModel)])
def test_detectors_and_segmenters_are_loaded(tmp_path, build, kind):
    model = build()
    loaded = load_model(save_weights(model, tmp_path / "best.weights.h5"))
    assert isinstance(loaded, kind)
    assert loaded.class_names == model.class_names
    assert loaded.architecture == model.architecture
    image = random_image(*model.input_size)
    for key, value in model(image).items():
        np.testing.assert_array_equal(loaded(image)[key], value)


@pytest.mark.parametrize(
    ("build", "options"), [(ResNet, {"depth": 18}), (SNet, {"variant": "snet49"}), (SpineNet, {"variant": "49s"})]
)
def test_classifiers_are_loaded_by_their_record(tmp_path, build, options):
    model = build(num_classes=len(NAMES), **options)
    model.class_names = NAMES
    loaded = load_model(save_weights(model, tmp_path / "best.weights.h5"))
    assert isinstance(loaded, Classifier)
    assert loaded.class_names == NAMES
    image = random_image()
    np.testing.assert_array_equal(loaded(image), model(image))


@pytest.mark.parametrize("key", ["drop_connect", "stochastic_depth"])
def test_older_names_of_the_drop_path_rate_are_read(tmp_path, key):
    model = keras_lightdet.RetinaNet(2, (128, 128, 3), variant="mobile_spinenet49xs", drop_path_rate=0.25)
    path = save_weights(model, tmp_path / "old.weights.h5")
    text = record_path(path).read_text().replace("drop_path_rate", key)
    assert key in text
    record_path(path).write_text(text)
    loaded = load_model(path)
    assert loaded.architecture["drop_path_rate"] == 0.25
    assert key not in loaded.architecture


def test_weights_of_an_unknown_builder_are_refused(tmp_path):
    path = save_weights(small_rsanet(), tmp_path / "best.weights.h5")
    edit_record(path, builder="YOLO")
    with pytest.raises(WeightsError, match="best.weights.h5 to be weights of one of .*'RSANet'.*got 'YOLO'"):
        load_model(path)


@pytest.mark.parametrize("options", [{"size": 3}, {"depth": 19}])
def test_a_classifiers_record_of_unknown_options_is_refused(tmp_path, options):
    path = save_weights(ResNet(depth=18, num_classes=2), tmp_path / "best.weights.h5")
    edit_record(path, **options)
    with pytest.raises(WeightsError, match="best.weights.h5 to have the record of a ResNet"):
        load_model(path)


@pytest.mark.parametrize("options", [{"variant": "huge"}, {"widths": 3}])
def test_a_detectors_record_of_unknown_options_is_refused(tmp_path, options):
    path = save_weights(small_rsanet(), tmp_path / "best.weights.h5")
    edit_record(path, **options)
    with pytest.raises(WeightsError, match="best.weights.h5 to have the record of a RSANet"):
        load_model(path)
