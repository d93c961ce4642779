"""What all detectors share: the methods a subclass defines, layers by attribute, export by Keras."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from small_detector import random_batch, small_rsanet, small_thundernet

from keras_lightdet.boxes import SelectSpec
from keras_lightdet.detection import DetectorModel, TwoStageDetector


class Incomplete(DetectorModel):
    def __init__(self):
        super().__init__(class_names=("disc",), input_size=(64, 64), select=SelectSpec(), loss_names=())


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("call", (None,)),
        ("compute_losses", (None, None, True)),
        ("decode", ({},)),
        ("networks", ()),
        ("inference_stages", ()),
    ],
)
def test_the_error_names_the_method_that_a_subclass_lacks(method, arguments):
    with pytest.raises(NotImplementedError, match=f"Incomplete to define {method}"):
        getattr(Incomplete(), method)(*arguments)


def test_class_layers_are_found_by_name():
    assert [layer.name for layer in small_rsanet().class_layers()] == ["p3_class", "p4_class", "p5_class"]
    assert Incomplete().class_layers() == []


def test_the_second_stage_is_found_by_its_layers_not_by_names():
    model = small_thundernet()
    assert model.roi_align.name in [layer.name for layer in model.roi_head.layers]
    assert isinstance(model.region_network, keras.Model)
    assert {layer.name for layer in model.class_layers()} == {"regions_class"}
    with pytest.raises(ValueError, match=r"a RoI layer and a functional model, got the layers \['rescaling'\]"):
        TwoStageDetector(
            model.rpn,
            keras.Sequential([keras.Input((4,)), keras.layers.Rescaling(2.0, name="rescaling")]),
            model.proposal_objective,
            model.region_objective,
            class_names=model.class_names,
            input_size=model.input_size,
            select=model.select,
        )


@pytest.mark.parametrize("build", [small_rsanet, small_thundernet])
def test_the_backbone_is_an_attribute(build):
    model = build()
    assert model.backbone is model.layers[0].get_layer("backbone")


def test_weight_files_store_the_networks_in_order_not_by_attribute(tmp_path):
    model = small_thundernet()
    model.save_weights(tmp_path / "last.weights.h5")
    paths = []
    with h5py.File(tmp_path / "last.weights.h5") as file:
        file.visititems(lambda path, item: paths.append(path) if isinstance(item, h5py.Dataset) else None)
    networks = {"/".join(path.split("/")[:2]) for path in paths if path.startswith("layers/")}
    assert networks == {"layers/functional", "layers/functional_1"}
    assert not [path for path in paths if path.startswith(("backbone", "region_network"))]


def test_keras_exports_the_raw_outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model, images = small_rsanet(), random_batch(batch=2)[0].astype("float32")
    model.export("~/saved", verbose=False)
    exported = tf.saved_model.load(tmp_path / "saved")
    for key, value in model(images).items():
        np.testing.assert_array_equal(exported.serve(images)[key], value)
