"""A detector, whose layers share many tensors, resumes to the last bit."""

import json

import pytest
from small_detector_run import EPOCHS, train_in_process


@pytest.mark.parametrize(
    "options",
    [
        {"widths": (8, 16, 16, 32, 64), "repeats": (1, 1, 1, 1, 1)},
        pytest.param({}, marks=pytest.mark.slow),
    ],
    ids=["tiny", "whole"],
)
def test_detector_killed_within_an_epoch_equals_the_uninterrupted_run(tmp_path, options):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder in (straight, killed):
        folder.mkdir()
    assert train_in_process(straight, options) == 0
    assert train_in_process(killed, options, stop_at=(0, 3)) == -9
    assert train_in_process(killed, options, resume=True) == 0
    logs = [json.loads((folder / "log.json").read_text()) for folder in (straight, killed)]
    assert logs[0] == logs[1]
    assert len(logs[0]["epochs"]) == EPOCHS
