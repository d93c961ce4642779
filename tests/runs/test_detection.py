"""Anchors of a run: from the weights it starts from, else from the training boxes."""

import numpy as np
import pytest

import keras_lightdet
from keras_lightdet.data import draw_detection_scenes, load_detection
from keras_lightdet.runs import RunSettings, fit_run_anchor_scale, fit_run_anchors
from keras_lightdet.weights import save_weights

ANCHORS = (((8.0, 10.0),), ((16.0, 20.0),), ((32.0, 40.0),))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_detection(draw_detection_scenes(tmp_path_factory.mktemp("scenes"), {"trainval": 6}, seed=1), "trainval")


def settings_of(folder, weights=None):
    return RunSettings(output_dir=folder, epochs=1, batch_size=2, input_size=(128, 128), weights=weights)


def test_weights_bring_their_anchors(data, tmp_path):
    """Those they were trained with, in pixels of this input, instead of those that fit the new boxes."""
    small = {"widths": (4, 4, 8, 8, 8), "repeats": (1, 1, 1, 1, 1)}
    models = {
        "rsanet": keras_lightdet.RSANet(3, (64, 64, 3), anchors=ANCHORS, **small),
        "lite": keras_lightdet.EfficientDet(3, (64, 64, 3), variant="lite0", anchor_scale=2.5),
        "thunder": keras_lightdet.ThunderNet(3, (64, 64, 3), variant="snet49"),
    }
    settings = {
        name: settings_of(tmp_path, str(save_weights(model, tmp_path / f"{name}.weights.h5")))
        for name, model in models.items()
    }
    anchors = fit_run_anchors(settings["rsanet"], data, num_levels=3, per_level=1)
    np.testing.assert_array_equal(anchors, 2 * np.array(ANCHORS))
    assert fit_run_anchor_scale(settings["lite"], data, 4.0) == 2.5
    # The builder refuses weights of another builder later, by name.
    assert fit_run_anchors(settings["thunder"], data, num_levels=3, per_level=1) is None
    assert fit_run_anchor_scale(settings["thunder"], data, 4.0) == 4.0


def test_anchors_fit_the_training_boxes_without_weights(data, tmp_path, capsys):
    anchors = fit_run_anchors(settings_of(tmp_path), data, num_levels=3, per_level=2)
    assert np.shape(anchors) == (3, 2, 2)
    assert "anchors: mean best IoU" in capsys.readouterr().out
    assert fit_run_anchors(settings_of(tmp_path), data, num_levels=3, per_level=100) is None
    assert "anchors: those of the model. Expected at least 300 different box sizes" in capsys.readouterr().out
