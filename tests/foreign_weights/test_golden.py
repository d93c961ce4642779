"""The networks have torchvision's outputs, which make_golden.py stored in golden.npz; torch is not needed."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torch_tensors import (
    CLASSES,
    EFFICIENTNETS,
    EPSILONS,
    MOBILENETS,
    RESNETS,
    SHUFFLENETS,
    SIZES,
    draw_image,
    draw_state_dict,
    summarize,
)

from keras_lightdet.backbones import EfficientNet, MobileNetV2, ResNet, ShuffleNetV2
from keras_lightdet.foreign_weights import (
    load_mobilenet_v2,
    load_resnet,
    load_shufflenet_v2,
    load_torchvision_efficientnet,
)
from keras_lightdet.foreign_weights.torchvision import EFFICIENTNET, MOBILENET, RESNET, SHUFFLENET
from keras_lightdet.weights import copy_layers

GOLDEN = Path(__file__).with_name("golden.npz")
LIGHT = ("shufflenet_v2_x1_0", "resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0")
ALL = (*SHUFFLENETS, *RESNETS, *MOBILENETS, *EFFICIENTNETS)
NETS = [pytest.param(name, marks=[pytest.mark.slow] * (name not in LIGHT)) for name in ALL]


@pytest.mark.parametrize("name", NETS)
def test_features_and_logits_are_those_of_torchvision(name):
    if name in SHUFFLENETS:
        build, load, names, options = ShuffleNetV2, load_shufflenet_v2, SHUFFLENET, SHUFFLENETS[name]
    elif name in RESNETS:
        build, load, names, options = ResNet, load_resnet, RESNET, RESNETS[name]
    elif name in MOBILENETS:
        build, load, names, options = MobileNetV2, load_mobilenet_v2, MOBILENET, MOBILENETS[name]
    else:
        build, names, options = EfficientNet, EFFICIENTNET, EFFICIENTNETS[name]
        load = partial(load_torchvision_efficientnet, epsilon=EPSILONS.get(name, 1e-5))
    classifier, features = build(num_classes=CLASSES, **options), build(**options)
    load(classifier, draw_state_dict(classifier, names.module))
    copy_layers(classifier, features)
    with np.load(GOLDEN) as golden:
        expected = golden[name]
    for size, rows in zip(SIZES, expected, strict=True):
        image = draw_image(*size)
        outputs = {**features(image), "logits": classifier(image)}
        for (key, values), row in zip(sorted(outputs.items()), rows, strict=True):
            np.testing.assert_allclose(summarize(key, values), row, rtol=0, atol=1e-4 * row[0], err_msg=key)
