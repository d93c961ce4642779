"""The command line itself: help without TensorFlow, usage errors, exit codes, scripts, shared defaults."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import keras_lightdet
from keras_lightdet.cli import COMMANDS, arguments, build_parser, main
from keras_lightdet.data.detection.loading import FORMATS
from keras_lightdet.deploy.benchmark import ROUNDS
from keras_lightdet.deploy.export_segmentation import ACTIVATIONS
from keras_lightdet.deploy.postprocess import POSTPROCESS_FORMS
from keras_lightdet.deploy.tflite_convert import QUANTIZE_MODES
from keras_lightdet.visualization.boxes import SHOWN_SCORE

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "export/export_tflite.py": "export",
    "export/check_tflite.py": "check",
    "export/benchmark_tflite.py": "bench",
    "recipes/inspect_data.py": "inspect",
    "recipes/print_costs.py": "costs",
}
HELP_SCRIPT = """
import sys
from keras_lightdet.cli import COMMANDS, main
for arguments in (["--version"], ["--help"], *([name, "--help"] for name in COMMANDS if name != "train"), ["models"]):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    assert not code, arguments
heavy = {"tensorflow", "keras", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_version_and_models_do_not_import_tensorflow():
    process = subprocess.run([sys.executable, "-c", HELP_SCRIPT], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-1500:]
    assert f"lightdet {keras_lightdet.__version__}\n" in process.stdout
    for name in COMMANDS:
        assert f"    {name} " in process.stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("train", "models", "costs")])
def test_help_has_an_example_and_default_values(run, name):
    text = run(name, "--help")
    assert f"\n    lightdet {name} " in text
    assert "None" not in text


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("unknown",),
        ("export",),
        ("export", "--weights", "a", "--data-dir", "b", "--output", "c", "--quantize", "int4"),
        ("detect", "a.jpg"),
        ("detect", "a.jpg", "--weights", "a", "--model", "b"),
        ("bench", "a.tflite", "--threads", "0"),
        ("inspect", "--data-dir", "a", "--input-size", "1", "2", "3"),
    ],
)
def test_wrong_usage_ends_with_2(run, wrong):
    assert "error: " in run(*wrong, code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("detect", "nowhere.jpg", "--weights", "nowhere.weights.h5"), "nowhere.jpg"),
        (("evaluate", "--weights", "nowhere.weights.h5", "--data-dir", "."), "nowhere.weights.h5"),
        (("check", "nowhere.tflite"), "nowhere.tflite"),
        (("bench", "nowhere.tflite"), "nowhere.tflite"),
        (("inspect", "--data-dir", "nowhere"), "nowhere"),
        (("models", "YOLO"), "Expected builders of .*RSANet.*, got YOLO"),
    ],
)
def test_errors_are_one_line_and_end_with_1(run, arguments, message):
    text = run(*arguments, code=1)
    assert text.startswith("error: Expected ") and text.count("\n") == 1
    assert re.search(message, text)


@pytest.mark.parametrize(("script", "command"), SCRIPTS.items())
def test_scripts_run_the_commands(monkeypatch, capsys, run, script, command):
    expected = run(command, "--help")
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert not end.value.code
    assert capsys.readouterr().out == expected


def test_the_module_runs_as_the_command():
    process = subprocess.run(
        [sys.executable, "-m", "keras_lightdet.cli", "--version"], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (0, f"lightdet {keras_lightdet.__version__}\n")


@pytest.mark.parametrize("arguments", [("models", "--backbones"), ("--help",)])
def test_a_closed_output_pipe_ends_the_command_quietly(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "keras_lightdet.cli", *arguments]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=buffered, text=True, check=False)
    os.close(writer)
    assert (process.returncode, process.stderr) == (1, "")


def test_a_python_file_is_imported_before_the_weights_are_read(run, tmp_path, capsys):
    (tmp_path / "my_builder.py").write_text("print('imported')\n")
    flags = ("--weights", tmp_path / "a.weights.h5", "--data-dir", tmp_path)
    assert "my_missing.py" in run("evaluate", *flags, "--import", tmp_path / "my_missing.py", code=1)
    assert main(["evaluate", *map(str, flags), "--import", str(tmp_path / "my_builder.py")]) == 1
    output = capsys.readouterr()
    assert output.out == "imported\n" and "a.weights.h5" in output.err


def test_choices_and_defaults_are_those_of_the_package():
    assert arguments.QUANTIZE_MODES == QUANTIZE_MODES
    assert arguments.POSTPROCESS_FORMS == POSTPROCESS_FORMS
    assert arguments.ACTIVATIONS == ACTIVATIONS
    assert arguments.DETECTION_FORMATS == FORMATS
    assert arguments.SCORE_THRESHOLD == SHOWN_SCORE
    assert arguments.BENCHMARK_ROUNDS == ROUNDS


def test_home_folders_are_expanded_in_flags(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    values = build_parser().parse_args(["inspect", "--data-dir=~/data"])
    assert values.data_dir == tmp_path / "data"
