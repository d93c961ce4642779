"""CONTRIBUTING.md's detector in one file: trained, exported and checked by the commands that are given there."""

import subprocess
import sys

import pytest
from documents import blocks
from source_tree import ROOT

from keras_lightdet.cli import main
from keras_lightdet.data import SceneSpec, draw_detection_scenes
from keras_lightdet.models.registry import MODELS

MAX_LINES = 80
SCENES = SceneSpec(sides=(96, 128), objects=(2, 4), object_sides=(24, 60))


def toy_file():
    """Returns the code of the detector."""
    (code,) = [block.code for block in blocks(ROOT / "CONTRIBUTING.md", "python") if "def ToyDet(" in block.code]
    return code


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the file and a few scenes."""
    (tmp_path / "toydet.py").write_text(toy_file())
    draw_detection_scenes(tmp_path / "my_images", {"trainval": 8, "test": 4}, spec=SCENES)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    MODELS.pop("ToyDet", None)
    sys.modules.pop("toydet", None)


def test_file_is_short_and_clean(folder):
    assert len(toy_file().splitlines()) <= MAX_LINES
    ruff, mypy = ["ruff", "--config", "pyproject.toml"], ["mypy", "--config-file", "pyproject.toml"]
    for arguments in ([*ruff, "check"], [*ruff, "format", "--check"], mypy):
        command = [sys.executable, "-m", *arguments, str(folder / "toydet.py")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_trained_exported_and_checked(folder, capsys):
    training = ["--epochs", "1", "--input-size", "64", "--batch-size", "4", "--output-dir", "out"]
    assert main(["train", "toydet.py", "--data-dir", "my_images", *training]) == 0
    MODELS.pop("ToyDet")  # as in a new process
    weights = ["--weights", "out/best.weights.h5", "--import", "toydet.py", "--data-dir", "my_images"]
    assert main(["export", *weights, "--quantize", "none", "--output", "toydet.tflite"]) == 0
    assert main(["check", "toydet.tflite", *weights]) == 0
    assert "COCO AP50" in capsys.readouterr().out
