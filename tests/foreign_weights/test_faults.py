"""Missing, damaged or foreign files, and those of another size, are refused by name; the model does not change."""

import importlib.util
import io
import pickle
import sys
import zipfile

import numpy as np
import pytest
from torch_tensors import CLASSES, draw_state_dict

from keras_lightdet.backbones import EfficientNet, ResNet, ShuffleNetV2, SNet
from keras_lightdet.errors import WeightsError
from keras_lightdet.foreign_weights import load_resnet, load_shufflenet_v2, load_torchvision_efficientnet
from keras_lightdet.foreign_weights.assign import assign_tensors
from keras_lightdet.foreign_weights.torchvision import EFFICIENTNET, RESNET, SHUFFLENET

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="reads files with torch")


@pytest.fixture(scope="module")
def model():
    return ResNet(depth=18, num_classes=CLASSES)


@pytest.fixture
def state(model):
    return draw_state_dict(model, RESNET.module)


@pytest.fixture
def pth(state, tmp_path):
    import torch

    path = tmp_path / "resnet18.pth"
    torch.save({key: torch.as_tensor(value) for key, value in state.items()}, path)
    return path


def refuse(model, source, *words):
    """Loading fails with these words in the message, and the model does not change."""
    before = [np.array(weight) for weight in model.weights]
    with pytest.raises(WeightsError) as caught:
        load_resnet(model, source)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    for word in ("Expected", *words):
        assert str(word) in str(caught.value)


def test_every_tensor_is_assigned_by_its_name(model, state):
    load_resnet(model, state)
    layer = model.get_layer("stage3_block1_shortcut_conv")
    np.testing.assert_array_equal(layer.kernel[0, 0], state["layer2.0.downsample.0.weight"][:, :, 0, 0].T)
    norm = model.get_layer("stage5_block2_spatial2_bn")
    variables = ("gamma", "beta", "moving_mean", "moving_variance")
    for variable, name in zip(variables, ("weight", "bias", "running_mean", "running_var"), strict=True):
        np.testing.assert_array_equal(getattr(norm, variable), state[f"layer4.1.bn2.{name}"])
    np.testing.assert_array_equal(model.get_layer("classifier").kernel, state["fc.weight"].T)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("layer3.1.bn2.running_var"), ["layer3.1.bn2.running_var", "stage4_block2_spatial2_bn"]),
        (lambda s: s.update({"layer1.0.conv3.weight": s["conv1.weight"]}), ["layer1.0.conv3.weight", "1 without"]),
        (lambda s: s.update({"fc.bias": np.zeros(1000, np.float32)}), ["fc.bias", "(1000,)", "(10,)"]),
        (lambda s: s.update({"bn1.bias": np.full(64, np.nan, np.float32)}), ["bn1.bias", "finite"]),
        (lambda s: s.update({"bn1.bias": np.zeros(64, np.int64)}), ["bn1.bias", "floats"]),
        (lambda s: s.update({"bn1.bias": "many"}), ["bn1.bias", "numbers"]),
        (lambda s: s.update({7: s["bn1.bias"]}), ["key 7"]),
        (lambda s: s.clear(), ["state dict"]),
    ],
    ids=["missing", "left over", "shape", "nan", "integers", "text", "key", "empty"],
)
def test_wrong_tensors_are_refused(model, state, change, words):
    change(state)
    refuse(model, state, *words)


def test_a_large_view_of_little_memory_is_refused_before_it_is_read(model, state):
    state["fc.weight"] = np.broadcast_to(np.float16(0), (2**30, 2**30))
    refuse(model, state, "fc.weight", 2**30)


def test_features_ignore_only_the_head(state):
    features = ResNet(depth=18)
    load_resnet(features, state)
    state["fpn.weight"] = state["fc.weight"]
    refuse(features, state, "fpn.weight", "1 without")


def test_a_backbone_inside_a_detector_is_read_by_its_prefix(state):
    """As in torchvision's detectors, where batch norms are frozen and do not count batches."""
    features = ResNet(depth=18)
    modules = {f"backbone.body.{RESNET.module(layer.name)}": layer for layer in features.layers if layer.weights}
    inside = {f"backbone.body.{key}": value for key, value in state.items() if value.ndim and key[:3] != "fc."}
    assign_tensors(modules, inside, source="a detector")
    np.testing.assert_array_equal(features.get_layer("stage5_block2_spatial2_bn").beta, state["layer4.1.bn2.bias"])
    with pytest.raises(WeightsError, match="a detector to have its layer, got 1 without one: roi_heads.fc6.bias"):
        assign_tensors(modules, {**inside, "roi_heads.fc6.bias": state["fc.bias"]}, source="a detector")


def test_half_precision_is_read(model, state):
    load_resnet(model, {key: value.astype(np.float16) if value.ndim else value for key, value in state.items()})
    np.testing.assert_allclose(model.get_layer("stem_bn").gamma, state["bn1.weight"], rtol=1e-3)


@pytest.fixture(scope="module")
def shuffle_state():
    return draw_state_dict(ShuffleNetV2(width=0.5), SHUFFLENET.module)


def test_units_of_another_form_are_refused_although_the_weights_fit(shuffle_state):
    with pytest.raises(ValueError, match='unit="split"'):
        load_shufflenet_v2(ShuffleNetV2(width=0.5, unit="keep"), shuffle_state)


def test_efficientnets_of_another_convention_or_size_are_refused():
    state = draw_state_dict(EfficientNet(convention="torch"), EFFICIENTNET.module)
    with pytest.raises(ValueError, match='convention="torch"'):
        load_torchvision_efficientnet(EfficientNet(), state)
    with pytest.raises(WeightsError, match=r"'features.1.1.block.0.0.weight' of shape"):
        load_torchvision_efficientnet(EfficientNet(variant="b1", convention="torch"), state)


def test_models_that_torchvision_lacks_are_refused(shuffle_state):
    with pytest.raises(WeightsError, match=r"of shape \(24, 1, 5, 5\) .* got shape \(24, 1, 3, 3\)"):
        load_shufflenet_v2(SNet(variant="snet49", widths=(48, 96, 192)), shuffle_state)
    with pytest.raises(ValueError, match="stage2_block1_extra_depthwise_conv"):
        load_shufflenet_v2(ShuffleNetV2(width=0.5, extra_depthwise=True), shuffle_state)


def test_without_torch_the_cure_is_named(model, tmp_path, monkeypatch):
    path = tmp_path / "resnet18.pth"
    path.write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    refuse(model, path, path, 'pip install "keras-lightdet[convert]"')


def test_missing_and_huge_files(model, tmp_path):
    refuse(model, tmp_path / "none.pth", "none.pth", "Check the path")
    with open(tmp_path / "huge.pth", "wb") as file:
        file.truncate(5 * 2**30)
    refuse(model, tmp_path / "huge.pth", "huge.pth", "at most")


def zip_without_pickle(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/readme.txt", "no tensors here")
    return buffer.getvalue()


class Intruder:
    """Would end the process if it were unpickled."""

    def __reduce__(self):
        return exec, ("import os; os._exit(3)",)


@needs_torch
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"<html>not found</html>",
        zip_without_pickle,
        lambda content: pickle.dumps(Intruder()),
        lambda content: pickle.dumps([1, 2]),
    ],
    ids=["empty", "truncated", "page", "zip", "code", "list"],
)
def test_damaged_and_foreign_files_are_refused(model, pth, damage):
    pth.write_bytes(damage(pth.read_bytes()))
    refuse(model, pth, pth)


@needs_torch
def test_a_checkpoint_around_the_state_dict_is_refused_with_the_cure(model, pth):
    import torch

    torch.save({"epoch": 3, "state_dict": torch.load(pth, weights_only=True)}, pth)
    refuse(model, pth, pth, "torch.save(model.state_dict(), path)")


@needs_torch
def test_a_whole_module_is_not_unpickled(model, pth):
    import torch

    torch.save(torch.nn.Linear(2, 3), pth)
    refuse(model, pth, pth, "never loaded")


@needs_torch
@pytest.mark.parametrize("zipped", [True, False])
def test_both_file_formats_of_torch_are_read(model, state, pth, zipped):
    import torch

    torch.save(
        {key: torch.as_tensor(value) for key, value in state.items()}, pth, _use_new_zipfile_serialization=zipped
    )
    model.get_layer("classifier").bias.assign(np.zeros(CLASSES))
    load_resnet(model, str(pth))
    np.testing.assert_array_equal(model.get_layer("classifier").bias, state["fc.bias"])


@needs_torch
@pytest.mark.parametrize("strange", ["bfloat16", "sparse"])
def test_tensors_that_numpy_cannot_hold_are_refused(model, state, pth, strange):
    import torch

    state = {key: torch.as_tensor(value) for key, value in state.items()}
    bias = state["bn1.bias"]
    state["bn1.bias"] = bias.bfloat16() if strange == "bfloat16" else bias.to_sparse()
    torch.save(state, pth)
    refuse(model, pth, pth, "bn1.bias")
