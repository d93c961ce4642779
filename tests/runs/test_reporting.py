"""The end of a run: the export is checked by the command `lightdet check`, whose status is that of the process."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_lightdet.data import DataIssue, DetectionData, ImageRecord
from keras_lightdet.models import registry
from keras_lightdet.runs import RunSettings, export_and_check, reporting


@pytest.fixture
def data(tmp_path):
    none = np.zeros((0, 4), np.float32)
    records = []
    for index in range(3):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (8, 4), (index, 0, 0)).save(path)
        records.append(ImageRecord(str(path), index, 8, 4, none, none[:, 0], none[:, 0] > 0, none[:, 0]))
    return DetectionData(records, ("thing",))


def settings_of(tmp_path, **options):
    return RunSettings(output_dir=tmp_path / "out", epochs=1, batch_size=1, input_size=(32, 32), **options)


def toy():
    """A user's builder."""


@pytest.mark.parametrize(("builder", "status"), [("RSANet", 0), ("RSANet", 3), ("Toy", 0)])
def test_the_exported_file_is_checked_with_the_data_of_the_run(builder, status, data, tmp_path, monkeypatch):
    exports, commands = [], []

    def export(model, path, *, quantize, calibration):
        exports.append((model, path, quantize, [int(image[0, 0, 0]) for image in calibration]))

    def run(command, check):
        commands.append(command)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(reporting, "export_detection", export)
    monkeypatch.setattr(reporting.subprocess, "run", run)
    settings = settings_of(tmp_path, data_dir=tmp_path, export=True)
    model = SimpleNamespace(architecture={"builder": builder})
    monkeypatch.setitem(registry.MODELS, "Toy", toy)
    if status:
        with pytest.raises(SystemExit) as end:
            export_and_check(model, data, settings)
        assert end.value.code == status
    else:
        export_and_check(model, data, settings)
    path = tmp_path / "out" / "detector.tflite"
    assert exports == [(model, path, "int8", [0, 1, 2])]
    command = [sys.executable, "-m", "keras_lightdet.cli", "check", path, "--weights", settings.best_path]
    own_file = ["--import", __file__] if builder == "Toy" else []
    assert commands == [[*map(str, command), *own_file, "--data-dir", str(tmp_path), "--format", "auto"]]


def test_nothing_is_exported_without_the_flag(data, tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "export_detection", pytest.fail)
    export_and_check("model", data, settings_of(tmp_path))


def test_the_first_issues_are_listed_and_the_others_counted():
    issues = [DataIssue("kind", f"{index}.jpg", "detail") for index in range(7)]
    lines = reporting.list_issues(issues)
    assert lines[0] == "  7 faults in the data:" and lines[-1] == "  and 2 more"
    assert lines[1:-1] == [f"  kind: {index}.jpg: detail" for index in range(5)]
    assert len(reporting.list_issues(issues[:5])) == 6 and reporting.list_issues([]) == []
