"""The command without flags: one clear line without the network, and a training with the data set at hand."""

import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from recipe_modules import NAMES, RECIPES, load_recipe

tfds = pytest.importorskip("tensorflow_datasets")

DATA_SETS = {
    "voc": "PASCAL VOC 2007 and 2012",
    "coco": "COCO 2017",
    "spinenet": "COCO 2017",
    "imagenet": "ImageNet 2012",
    "camvid": "CamVid",
    "cityscapes": "Cityscapes",
}


def check_message(message, name):
    data_set = DATA_SETS[name.rpartition("_")[2]]
    assert "\n" not in message
    assert message.startswith(f"error: Expected {data_set}, but ")
    for needed in ("network", "disk space", "License: ", "--data-dir"):
        assert needed in message


@pytest.mark.parametrize("name", NAMES)
def test_without_the_network_one_line_says_what_the_data_set_needs(name, run_recipe, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("Max retries exceeded\nwith url: /VOCtest_06-Nov-2007.tar")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    with pytest.raises(SystemExit) as end:
        run_recipe(name)
    check_message(end.value.code, name)


def run_without_network(name, folder):
    """Runs a recipe without flags in a process that has no network."""
    if os.name != "posix" or not shutil.which("unshare"):
        pytest.skip("no unshare")
    offline = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*offline, "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare is not permitted")
    environment = {
        **os.environ,
        "HOME": str(folder),
        "TFDS_DATA_DIR": str(folder / "tfds"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [*offline, sys.executable, str(RECIPES / f"{name}.py")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    check_message(done.stderr.strip().splitlines()[-1], name)


def test_the_command_without_flags_ends_with_one_line(tmp_path):
    run_without_network("train_snet_imagenet", tmp_path)


@pytest.mark.slow  # minutes: the downloader tries again and again
def test_the_command_that_downloads_ends_with_one_line(tmp_path):
    run_without_network("train_rsanet_voc", tmp_path)


def examples(count):
    buffer = io.BytesIO()
    Image.new("RGB", (80, 40), (40, 90, 200)).save(buffer, "JPEG")
    for number in range(count):
        ends = np.linspace(0.5, 1.0, 5) - 0.03 * number  # boxes of different sizes, for anchors to fit
        objects = {
            "bbox": np.stack([np.full(5, 0.1), np.full(5, 0.2), ends, ends[::-1]], -1).astype(np.float32),
            "label": np.arange(5, dtype=np.int64),
            "is_difficult": np.arange(5) == 4,
        }
        yield {"image": buffer.getvalue(), "image/filename": f"{number:06}.jpg".encode(), "objects": objects}


@pytest.fixture
def voc(monkeypatch, tmp_path):
    """VOC as TensorFlow Datasets gives it, with a few plain images."""

    def as_dataset(self, split, decoders=None, **_):
        stacked = tf.nest.map_structure(lambda *values: np.stack(values), *examples(3))
        return tf.data.Dataset.from_tensor_slices(stacked)

    monkeypatch.chdir(tmp_path)
    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        yield tmp_path


def check_files(folder, epochs):
    assert len(json.loads((folder / "metrics.json").read_text())["epochs"]) == epochs
    assert {"best.weights.h5", "scores.json", "predictions.png"} <= {path.name for path in folder.iterdir()}
    assert len((folder / "labels.txt").read_text().split()) == 20


def test_rsanet_trains_on_a_small_voc_of_tensorflow_datasets(voc, restore_graph_optimizer, monkeypatch):
    recipe = load_recipe("train_rsanet_voc")
    monkeypatch.setattr(recipe, "DEFAULTS", {"epochs": 2, "input_size": 64, "batch_size": 2})
    recipe.main([])
    check_files(voc / "runs" / "rsanet_voc", epochs=2)


@pytest.mark.slow
def test_the_command_without_flags_trains_on_voc_of_tensorflow_datasets(voc, restore_graph_optimizer):
    load_recipe("train_rsanet_voc").main([])
    check_files(voc / "runs" / "rsanet_voc", epochs=120)
