"""Settings resolve from flags, the defaults of a recipe and those of its demo."""

import dataclasses
import json
from pathlib import Path

import pytest

from keras_lightdet.runs import ClassificationSettings, RunSettings, SegmentationSettings, parse_settings, run_config
from keras_lightdet.runs.settings import NOT_IDENTIFYING
from keras_lightdet.runs.spinenet import SpineNetSettings

DEFAULTS = {
    "epochs": 12,
    "input_size": 416,
    "batch_size": lambda settings: 24 if max(settings.input_size) <= 320 else 12,
}
DEMO = {"epochs": 3, "input_size": (64, 96)}


def parse(*flags, settings_class=RunSettings, defaults=DEFAULTS, **options):
    return parse_settings(settings_class, flags, "doc", "toy", defaults, DEMO, **options)


def test_a_flag_comes_before_the_demo_and_the_default():
    settings = parse(variants=("large", "small"))
    assert (settings.epochs, settings.input_size, settings.batch_size) == (12, (416, 416), 12)
    assert (settings.variant, settings.output_dir, settings.export) == ("large", Path("runs/toy"), False)
    settings = parse("--demo", "--epochs", "5", "--variant", "small", variants=("large", "small"))
    assert (settings.epochs, settings.input_size, settings.batch_size) == (5, (64, 96), 24)
    assert (settings.variant, settings.export, settings.data_folder) == ("small", True, Path("runs/toy/scenes"))
    assert not parse("--demo", "--no-export").export


def test_an_input_size_is_a_side_or_height_and_width():
    assert parse("--input-size", "320").input_shape == (320, 320, 3)
    settings = parse("--input-size", "240", "320", "--batch-size", "7")
    assert (settings.input_size, settings.batch_size) == ((240, 320), 7)
    assert settings.scaled_sizes((0.5, 1)) == [(120, 160), (240, 320)]


def test_a_leading_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/her")
    settings = parse("--data-dir", "~/data", "--output-dir", "~/out", "--weights", "~/w.weights.h5")
    assert (settings.data_dir, settings.output_dir) == (Path("/home/her/data"), Path("/home/her/out"))
    assert settings.weights == "/home/her/w.weights.h5"
    assert settings.best_path == Path("/home/her/out/best.weights.h5")
    address = "https://example.org/~user/w.weights.h5#sha256=0"
    assert parse("--weights-backbone", address).weights_backbone == address


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--demo", "--data-dir", "d"], "--demo draws its own data"),
        (["--weights", "a", "--weights-backbone", "b"], "--weights has a backbone"),
        (["--input-size", "1", "2", "3"], "one side, or height and width, got 3 numbers"),
        (["--epochs", "0"], "argument --epochs: Expected an integer of at least 1, got '0'."),
        (["--variant", "tiny"], "unrecognized arguments: --variant tiny"),
    ],
)
def test_wrong_flags_end_with_a_usage_message(flags, message, capsys):
    with pytest.raises(SystemExit) as end:
        parse(*flags)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_settings_of_a_task_have_its_flags_only(capsys):
    crop = {**DEFAULTS, "crop_size": lambda settings: settings.input_size}
    settings = parse("--input-size", "96", "128", settings_class=SegmentationSettings, defaults=crop)
    assert settings.crop_size == (96, 128)
    settings = parse("--crop-size", "32", settings_class=SegmentationSettings, defaults=crop)
    assert settings.crop_size == (32, 32)
    assert parse(settings_class=ClassificationSettings).side == 416
    for flags in (["--export"], ["--input-size", "96", "128"]):
        with pytest.raises(SystemExit):
            parse(*flags, settings_class=ClassificationSettings)
    assert "Expected a square --input-size" in capsys.readouterr().err


def test_help_states_the_defaults(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "epochs of the whole run; default: 12, with --demo 3" in text
    assert "seed of weights, shuffle and augmentation; default: 0" in text


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse().epochs = 1


def test_a_run_is_identified_by_the_settings_that_change_its_training(monkeypatch):
    monkeypatch.setattr("keras_lightdet.runs.fitting.fingerprint", len)

    class Data(list):
        class_names = ("thing",)

    settings = parse("--data-dir", "d", "--evaluate-every", "2", "--resume")
    config = run_config(settings, Data([1, 2]), Data([3]), scales=(0.5, 2.0))
    assert not set(config) & set(NOT_IDENTIFYING)
    assert config["data"] == [2, 1] and config["classes"] == ("thing",) and config["scales"] == (0.5, 2.0)
    assert (config["epochs"], config["input_size"], config["seed"]) == (12, (416, 416), 0)


def test_a_path_among_the_settings_is_text_in_the_identity():
    settings = SpineNetSettings(
        output_dir=Path("out"), epochs=1, batch_size=2, input_size=(64, 64), graph=Path("found.json")
    )
    assert json.loads(json.dumps(settings.identity()))["graph"] == "found.json"
