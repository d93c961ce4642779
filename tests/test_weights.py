import json
import time

import keras
import numpy as np
import psutil
import pytest
from small_detector import small_rsanet

import keras_lightdet
from keras_lightdet.errors import LightdetError, WeightsError
from keras_lightdet.files import file_sha256
from keras_lightdet.weights import load_weights, read_record, resolve_weights, save_weights


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return small_rsanet()


@pytest.fixture
def path(model, tmp_path):
    return save_weights(model, tmp_path / "best.weights.h5")


def record_of(path):
    return path.with_name("best.weights.json")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def claim_huge_record(path):
    with open(record_of(path), "wb") as file:
        file.truncate(3 * 10**9)


def edit_record(**changes):
    def damage(path):
        record = json.loads(record_of(path).read_text())
        record["architecture"] |= changes.pop("architecture", {})
        record_of(path).write_text(json.dumps({**record, **changes}))

    return damage


DAMAGE = {
    "truncated weights": truncate,
    "flipped bit": flip_a_bit,
    "empty weights": lambda path: path.write_bytes(b""),
    "no weights": lambda path: path.unlink(),
    "no record": lambda path: record_of(path).unlink(),
    "empty record": lambda path: record_of(path).write_text(""),
    "record is a list": lambda path: record_of(path).write_text("[1, 2]"),
    "record without classes": lambda path: record_of(path).write_text('{"sha256": "0", "architecture": {}}'),
    "deep record": lambda path: record_of(path).write_text("[" * 100_000),
    "huge record": claim_huge_record,
    "record with an empty list of classes": edit_record(class_names=[]),
    "record with one string of classes": edit_record(class_names="abc"),
    "record with a number among the classes": edit_record(class_names=["disc", "square", 3]),
    "record with too few classes": edit_record(class_names=["disc", "square"]),
    "record of a list of builders": edit_record(architecture={"builder": ["RSANet"]}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights_are_refused_by_name_and_quickly(path, damage):
    DAMAGE[damage](path)
    began, memory = time.monotonic(), psutil.Process().memory_info().rss
    with pytest.raises(WeightsError, match="best.weights") as error:
        keras_lightdet.RSANet(weights=path)
    assert time.monotonic() - began < 2
    assert psutil.Process().memory_info().rss - memory < 500e6
    assert isinstance(error.value, LightdetError)


def test_a_keras_file_with_a_lambda_is_never_opened(tmp_path):
    foreign = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    foreign.save(tmp_path / "foreign.keras")
    with pytest.raises(WeightsError, match="Only weights are loaded"):
        keras_lightdet.RSANet(weights=tmp_path / "foreign.keras")


def test_weights_hold_the_model_alone_and_match_their_record(model, path):
    model.compile(keras.optimizers.Adam(use_ema=True))
    model.optimizer.build(model.trainable_variables)
    size = path.stat().st_size
    save_weights(model, path)
    assert path.stat().st_size == size  # no optimizer in it
    assert model.optimizer is not None
    record = read_record(path)
    assert record["sha256"] == file_sha256(path)
    assert record["architecture"]["widths"] == [4, 4, 8, 8, 8]
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_a_kill_between_record_and_weights_leaves_the_old_pair_usable(model, path):
    old = path.read_bytes()
    model.network.get_layer("p3_box").bias.assign_add(np.ones(12, "float32"))
    save_weights(model, path)
    path.write_bytes(old)  # the record is new, the rename of the weights did not happen
    keras_lightdet.RSANet(weights=path)


def test_non_finite_weights_are_not_saved(tmp_path):
    broken = small_rsanet()
    broken.network.get_layer("p3_box").bias.assign(np.full(12, np.nan))
    with pytest.raises(WeightsError, match="p3_box"):
        save_weights(broken, tmp_path / "best.weights.h5")
    assert not list(tmp_path.iterdir())


def test_weights_for_another_architecture_are_refused(path):
    record = json.loads(record_of(path).read_text())
    with pytest.raises(WeightsError, match="fit"):
        load_weights(small_rsanet(widths=(4, 4, 8, 16, 8)), path)
    assert record["class_names"] == ["disc", "square", "star"]


@pytest.mark.parametrize(
    "address", ["http://a.b/x.weights.h5#sha256=00", "https://a.b/x.weights.h5", "ftp://a.b/x.weights.h5"]
)
def test_an_address_needs_https_and_a_sum(address):
    with pytest.raises(WeightsError, match="sha256"):
        resolve_weights(address)


def test_a_record_keeps_data_set_scores_license_and_recipe(model, tmp_path):
    info = {"dataset": "VOC 2007", "scores": {"mAP": np.float32(0.5)}, "license": "Apache-2.0", "recipe": "rsanet_voc"}
    record = read_record(save_weights(model, tmp_path / "best.weights.h5", **info))
    assert {key: record[key] for key in info} == {**info, "scores": {"mAP": 0.5}}
    keras_lightdet.RSANet(weights=tmp_path / "best.weights.h5")


def test_a_record_without_optional_facts_is_read(path):
    record = json.loads(record_of(path).read_text())
    assert set(record) == {"sha256", "replaces", "architecture", "class_names"}
    del record["replaces"]
    record_of(path).write_text(json.dumps(record))
    assert read_record(path)["class_names"] == ["disc", "square", "star"]
    keras_lightdet.RSANet(weights=path)


def test_the_home_folder_is_expanded(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    save_weights(model, "~/best.weights.h5")
    assert (tmp_path / "best.weights.h5").exists()
    load_weights(model, "~/best.weights.h5")
    keras_lightdet.RSANet(weights="~/best.weights.h5")
