import io
import json
import re

import keras
import numpy as np
import pytest

from keras_lightdet.training import ProgressLines, RunLog
from keras_lightdet.training import progress as progress_module
from keras_lightdet.training import run_log as run_log_module


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    monkeypatch.setattr(run_log_module, "time", clock)
    return clock


@pytest.fixture
def model():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile(keras.optimizers.SGD(0.25), loss="mse")
    return model


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run_epochs(callback, model, clock, *, first, last, epochs, first_batch=0, steps=4):
    """Steps take ten seconds, the evaluation at the end of an epoch five."""
    callback.set_model(model)
    callback.set_params({"epochs": epochs, "steps": steps})
    for epoch in range(first, last):
        callback.on_epoch_begin(epoch)
        for batch in range(first_batch, steps):
            callback.on_train_batch_begin(batch)
            clock.now += 10
            callback.on_train_batch_end(batch, {"loss": 2.0, "box_loss": 0.5})
        clock.now += 5
        callback.on_epoch_end(epoch, {"loss": 2.0, "box_loss": 0.5, "val_AP50": 0.125 * epoch})
        first_batch = 0


def test_epoch_line_has_all_values_and_the_remaining_time(clock, model):
    stream = io.StringIO()
    run_epochs(ProgressLines(stream=stream, seconds_between_lines=1e9), model, clock, first=0, last=2, epochs=10)
    # After epoch 1: 3 timed steps in 35 s, 36 steps left: 420 s. After epoch 2: 7 in 80 s, 32 left: 366 s.
    assert stream.getvalue().splitlines() == [
        "epoch 1/10  loss 2  box loss 0.5  AP50 0  learning rate 0.25  45 s  ETA 7 min",
        "epoch 2/10  loss 2  box loss 0.5  AP50 0.125  learning rate 0.25  45 s  ETA 6 min",
    ]


def test_lines_within_an_epoch_are_printed_at_the_interval_without_a_terminal(clock, model):
    stream = io.StringIO()
    run_epochs(ProgressLines(stream=stream, seconds_between_lines=20), model, clock, first=0, last=1, epochs=2)
    assert re.findall(r"(\d)/4 .* (ETA .*)", stream.getvalue()) == [("2", "ETA 60 s"), ("4", "ETA 40 s")]


def test_a_resumed_epoch_counts_only_its_own_steps(clock, model):
    stream = io.StringIO()
    progress = ProgressLines(stream=stream, seconds_between_lines=1e9)
    run_epochs(progress, model, clock, first=3, last=4, epochs=5, first_batch=2)
    assert stream.getvalue().endswith("25 s  ETA 60 s\n")  # One timed step in 15 s, four left.


def test_on_a_terminal_one_line_is_updated(clock, model):
    stream = Terminal()
    run_epochs(ProgressLines(stream=stream), model, clock, first=0, last=1, epochs=1)
    assert stream.getvalue().count("\r") == 5 and stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("ETA 0 s\n")


def test_metrics_file_has_history_best_and_time(clock, model, tmp_path):
    path = tmp_path / "out" / "metrics.json"
    log = RunLog(path)
    run_epochs(log, model, clock, first=0, last=3, epochs=4)
    written = json.loads(path.read_text())
    assert [entry["epoch"] for entry in written["epochs"]] == [1, 2, 3]
    assert written["epochs"][1] == {
        "epoch": 2,
        "seconds": 45.0,
        "loss": 2.0,
        "box_loss": 0.5,
        "val_AP50": 0.125,
        "learning_rate": 0.25,
    }
    assert written["best"] == {"epoch": 3, "val_AP50": 0.25} and written["seconds"] == 135.0
    assert [file.name for file in path.parent.iterdir()] == ["metrics.json"]


def test_metrics_file_continues_after_a_restart_within_an_epoch(clock, model, tmp_path):
    path = tmp_path / "metrics.json"
    log = RunLog(path)
    run_epochs(log, model, clock, first=0, last=1, epochs=2)
    log.on_epoch_begin(1)
    clock.now += 20
    state = json.loads(json.dumps(log.get_state()))
    path.write_text("an epoch ahead of the checkpoint")

    clock.now += 500  # The machine was off.
    resumed = RunLog(path)
    resumed.set_state(state)
    assert len(json.loads(path.read_text())["epochs"]) == 1
    run_epochs(resumed, model, clock, first=1, last=2, epochs=2, first_batch=2)
    written = json.loads(path.read_text())
    assert [entry["seconds"] for entry in written["epochs"]] == [45.0, 45.0]
    assert written["best"]["epoch"] == 2


def test_a_nan_metric_is_null_and_never_the_best(clock, model, tmp_path):
    log = RunLog(tmp_path / "metrics.json")
    log.set_model(model)
    log.on_epoch_begin(0)
    logs = {"val_AP50": np.float32("nan")}
    log.on_epoch_end(0, logs)
    written = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert written["epochs"][0]["val_AP50"] is None and written["best"] is None
    assert logs["learning_rate"] == 0.25
