"""Outputs against those of torchvision, where it is installed: features and logits, even and odd sizes."""

import importlib.util
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torch_tensors import CLASSES, EFFICIENTNETS, EPSILONS, MOBILENETS, RESNETS, SHUFFLENETS, SIZES, draw_image

from keras_lightdet.backbones import EfficientNet, MobileNetV2, ResNet, ShuffleNetV2
from keras_lightdet.foreign_weights import (
    load_mobilenet_v2,
    load_resnet,
    load_shufflenet_v2,
    load_torchvision_efficientnet,
)

if any(importlib.util.find_spec(name) is None for name in ("torch", "torchvision")):
    pytest.skip("compares with torch and torchvision; test_golden.py does without", allow_module_level=True)

LIGHT = ("shufflenet_v2_x1_0", "resnet50_dilated", "mobilenet_v2")
NETS = {**SHUFFLENETS, **RESNETS, **MOBILENETS, **EFFICIENTNETS, "resnet50_dilated": {"depth": 50, "dilate_last": True}}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in LIGHT)) for name in NETS])
def test_outputs_are_those_of_torchvision(name, tmp_path):
    script = Path(__file__).with_name("torchvision_nets.py")
    subprocess.run([sys.executable, script, name, tmp_path], check=True)
    build, load = ResNet, load_resnet
    if name in SHUFFLENETS:
        build, load = ShuffleNetV2, load_shufflenet_v2
    elif name in MOBILENETS:
        build, load = MobileNetV2, load_mobilenet_v2
    elif name in EFFICIENTNETS:
        build = EfficientNet
        load = partial(load_torchvision_efficientnet, epsilon=EPSILONS.get(name, 1e-5))
    classifier, features = build(num_classes=CLASSES, **NETS[name]), build(**NETS[name])
    for model in (classifier, features):  # the features leave the head's tensors alone
        load(model, tmp_path / "weights.pth")
    expected = np.load(tmp_path / "answers.npz")
    compared = 0
    for height, width in SIZES:
        image = draw_image(height, width)
        for key, values in {**features(image), "logits": classifier(image)}.items():
            wanted = expected[f"{height}x{width}/{key}"]
            assert values.shape == wanted.shape
            np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max(), err_msg=key)
            compared += 1
    assert compared == len(expected.files)
