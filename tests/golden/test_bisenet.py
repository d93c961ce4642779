"""BiSeNet has the outputs of the first author's networks, which make_bisenet.py stored in bisenet.npz."""

from pathlib import Path

import keras
import numpy as np
import pytest
from bisenet_modules import CLASSES, FOLDERS, OUTPUTS, SIZE, module_of
from torch_tensors import draw_image, draw_state_dict, summarize

import keras_lightdet
from keras_lightdet.foreign_weights.assign import assign_tensors


@pytest.mark.parametrize("variant", FOLDERS)
def test_outputs_of_all_modules_are_those_of_the_first_author(variant):
    network = keras_lightdet.BiSeNet(CLASSES, (*SIZE, 3), variant=variant).network
    modules = {module_of(layer.name, variant): layer for layer in network.layers if layer.weights}
    tensors = draw_state_dict(network, lambda layer: module_of(layer, variant))
    assign_tensors(modules, tensors, source="drawn tensors")
    tapped = keras.Model(network.input, {name: network.get_layer(name).output for name in OUTPUTS})
    actual = tapped(draw_image(*SIZE))
    with np.load(Path(__file__).with_name("bisenet.npz")) as golden:
        expected = golden[variant]
    for name, row in zip(OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(summarize(name, actual[name]), row, rtol=0, atol=1e-4 * row[0], err_msg=name)
