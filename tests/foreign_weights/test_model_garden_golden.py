"""SpineNets have the Model Garden's outputs, which make_model_garden_golden.py stored in model_garden.npz."""

from pathlib import Path

import numpy as np
import pytest
from garden_weights import NETS, draw_weights
from torch_tensors import draw_image, summarize

SIZE = (256, 128)


@pytest.mark.parametrize("name", [pytest.param("spinenet49s", marks=pytest.mark.slow), "mobile_spinenet49"])
def test_pyramids_are_those_of_the_model_garden(name):
    build, options = NETS[name]
    model = build(**options)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(draw_weights(layer))
    with np.load(Path(__file__).with_name("model_garden.npz")) as golden:
        expected = golden[name]
    assert len(expected) == 5
    for (level, values), row in zip(sorted(model(draw_image(*SIZE)).items()), expected, strict=True):
        np.testing.assert_allclose(summarize(level, values), row, rtol=0, atol=1e-4 * row[0], err_msg=level)
