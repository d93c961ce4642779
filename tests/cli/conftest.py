"""Runs commands in this process; scenes and weights of small models."""

import keras
import numpy as np
import pytest
from PIL import Image
from small_detector import small_rsanet
from small_segmenter import small_bisenet

from keras_lightdet.cli import main
from keras_lightdet.data import draw_scenes, draw_segmentation_scenes, load_data, load_segmentation
from keras_lightdet.images import read_image, resize_image
from keras_lightdet.weights import save_weights


@pytest.fixture
def run(capsys):
    """Returns a function that runs a command, checks its exit code, and returns stdout, or stderr if it fails."""

    def run_command(*arguments, code=0):
        capsys.readouterr()
        try:
            actual = main([str(argument) for argument in arguments])
        except SystemExit as end:
            actual = end.code
        output = capsys.readouterr()
        assert actual == code, f"{output.out}\n{output.err}"
        return output.err if code else output.out

    return run_command


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    return draw_scenes(tmp_path_factory.mktemp("scenes"), {"trainval": 4, "test": 3}, seed=1)


@pytest.fixture(scope="session")
def label_scenes(tmp_path_factory):
    return draw_segmentation_scenes(tmp_path_factory.mktemp("label_scenes"), {"train": 3, "val": 2}, seed=1)


@pytest.fixture(scope="session")
def detector(scenes):
    """Random weights whose predictions are scaled up, so that there are detections above the default score."""
    keras.utils.set_random_seed(3)
    data = load_data(scenes, "trainval")
    model = small_rsanet(class_names=data.class_names)
    images = np.stack([resize_image(read_image(record.path), model.input_size) for record in data.records])
    raw = model(images.astype("float32"))
    spread = {"objectness": raw["objectness"], "class": raw["class_logits"]}
    for layer in model.network.layers:
        output = layer.name.rpartition("_")[2]
        if output in spread and isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(layer.kernel * 2.0 / float(np.std(spread[output])))
            layer.bias.assign(np.ones(layer.bias.shape))
    return model


@pytest.fixture(scope="session")
def detector_weights(detector, tmp_path_factory):
    return save_weights(detector, tmp_path_factory.mktemp("detector") / "best.weights.h5")


@pytest.fixture(scope="session")
def segmenter(label_scenes):
    keras.utils.set_random_seed(3)
    return small_bisenet(load_segmentation(label_scenes, "train").class_names)


@pytest.fixture(scope="session")
def segmenter_weights(segmenter, tmp_path_factory):
    return save_weights(segmenter, tmp_path_factory.mktemp("segmenter") / "best.weights.h5")


@pytest.fixture(scope="session")
def detector_file(scenes, detector_weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "detector.tflite"
    flags = ["--weights", detector_weights, "--quantize", "none", "--data-dir", scenes, "--output", path]
    assert main(["export", *map(str, flags)]) == 0
    return path


@pytest.fixture(scope="session")
def segmenter_file(label_scenes, segmenter_weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "segmenter.tflite"
    flags = ["--weights", segmenter_weights, "--quantize", "none", "--data-dir", label_scenes, "--output", path]
    assert main(["export", *map(str, flags)]) == 0
    return path


@pytest.fixture
def photos(scenes, tmp_path):
    """A folder of two images, one of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for record, name in zip(load_data(scenes, "test").records, ("a.png", "sub/b.jpg"), strict=False):
        Image.fromarray(read_image(record.path)).save(folder / name)
    return folder
