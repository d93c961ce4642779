"""Layers that another library does not have are refused by name; models of another convention are refused."""

import pytest

from keras_lightdet.backbones import EfficientNet, MobileNetV2
from keras_lightdet.foreign_weights import applications, effdet, torchvision

NAMES = {
    "torchvision.RESNET": torchvision.RESNET,
    "torchvision.SHUFFLENET": torchvision.SHUFFLENET,
    "torchvision.MOBILENET": torchvision.MOBILENET,
    "torchvision.EFFICIENTNET": torchvision.EFFICIENTNET,
    "effdet.EFFICIENTNET": effdet.EFFICIENTNET,
    "applications.MOBILENET": applications.MOBILENET,
}


@pytest.mark.parametrize("layer", ["dense", "stage2_block1_other_bn", "stage2_blockx_expand_conv", "stage2_block1"])
@pytest.mark.parametrize("names", NAMES)
def test_a_layer_of_another_network_is_refused(names, layer):
    network = NAMES[names].network
    with pytest.raises(ValueError, match=f"layer of {network} that the other library has, got '{layer}'. Build"):
        NAMES[names].module(layer)


@pytest.mark.parametrize("names", ["torchvision.MOBILENET", "torchvision.EFFICIENTNET", "effdet.EFFICIENTNET"])
def test_the_first_stage_has_no_expansion(names):
    assert NAMES[names].module("stage2_block1_expand_conv")
    with pytest.raises(ValueError, match="stage1_block1_expand_conv"):
        NAMES[names].module("stage1_block1_expand_conv")


@pytest.mark.parametrize(
    ("build", "names"), [(MobileNetV2, torchvision.MOBILENET), (EfficientNet, torchvision.EFFICIENTNET)]
)
def test_conventions_are_recognized(build, names):
    for convention, other in (("keras", "torch"), ("torch", "keras")):
        model = build(convention=convention)
        names.check_convention(model, convention)
        with pytest.raises(ValueError, match=f'{names.network} with convention="{other}", got {model.name!r}'):
            names.check_convention(model, other)
