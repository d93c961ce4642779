"""Outputs against those of TensorFlow Model Garden, where it is installed: random weights, a wide image."""

import importlib.util

import numpy as np
import pytest
from torch_tensors import draw_image

import keras_lightdet
from keras_lightdet.backbones import MobileSpineNet, SpineNet
from keras_lightdet.backbones.spinenet import SPINENET
from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights import load_model_garden_retinanet, load_model_garden_spinenet

if importlib.util.find_spec("official") is None:
    pytest.skip("compares with tf-models-official; test_model_garden_golden.py does without", allow_module_level=True)

import model_garden_nets as garden  # noqa: E402 - needs the Model Garden

CLASSES = 5
slow = pytest.mark.slow
# Another graph of the search space, whose block 5 nobody takes and whose block 6 joins the output of its level.
OTHER = [*SPINENET[:3], SPINENET[3]._replace(level=5), *SPINENET[4:]]


def assert_close(actual, expected):
    for key, wanted in expected.items():
        np.testing.assert_allclose(actual[key], wanted, rtol=0, atol=1e-4 * np.abs(wanted).max(), err_msg=key)


@pytest.mark.parametrize(
    ("build", "variant", "options"),
    [
        (SpineNet, "49s", {}),
        pytest.param(SpineNet, "49", {}, marks=slow),
        pytest.param(SpineNet, "96", {"activation": "swish"}, marks=slow),
        pytest.param(SpineNet, "49s", {"blocks": OTHER}, marks=slow),
        (MobileSpineNet, "49", {}),
        pytest.param(MobileSpineNet, "49xs", {}, marks=slow),
    ],
)
def test_pyramids_are_those_of_the_model_garden(build, variant, options):
    theirs = garden.build_spinenet(variant, mobile=build is MobileSpineNet, **options)
    garden.stir(theirs)
    model = build(variant=variant, **options)
    load_model_garden_spinenet(model, theirs, blocks=options.get("blocks"))
    image = draw_image(*garden.SIZE)
    assert_close(model(image), garden.pyramid(theirs, image))


@pytest.mark.parametrize("variant", ["mobile_spinenet49xs", pytest.param("spinenet49s", marks=slow)])
def test_detectors_are_those_of_the_model_garden(variant):
    """Compares boxes and logits of each anchor; the order of the anchors differs."""
    theirs = garden.build_retinanet(variant, CLASSES)
    garden.stir(theirs)
    model = keras_lightdet.RetinaNet(CLASSES, (garden.SIDE, garden.SIDE, 3), variant=variant)
    load_model_garden_retinanet(model, theirs)
    image = draw_image(garden.SIDE, garden.SIDE)
    anchors, boxes, logits = garden.answers(theirs, image)
    own = np.array(model.objective.generate_anchors((garden.SIDE, garden.SIDE)))
    distances = np.abs(own[:, None] - anchors[None]).max(axis=-1)
    places = distances.argmin(axis=1)
    assert sorted(places) == list(range(len(own)))
    assert distances.min(axis=1).max() < 1e-3
    raw = model(image)
    assert_close({"logits": raw["class_logits"][0]}, {"logits": logits[places]})
    actual = np.array(model.objective.decode_boxes(raw["box_deltas"], own))[0]
    sides = (boxes[:, 2:] - boxes[:, :2])[places].repeat(2, axis=1)
    assert np.abs(actual - boxes[places]).max() < 1e-3 * np.abs(sides).max()
    np.testing.assert_allclose(actual, boxes[places], rtol=1e-3, atol=0.05)


def test_other_networks_are_refused():
    model = SpineNet(variant="49s")
    before = [np.array(weight) for weight in model.weights]
    with pytest.raises(WeightsError, match="Expected"):
        load_model_garden_spinenet(model, garden.build_spinenet("49"))
    with pytest.raises(WeightsError, match="fewer layers"):
        load_model_garden_spinenet(SpineNet(variant="96"), garden.build_spinenet("49"))
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
