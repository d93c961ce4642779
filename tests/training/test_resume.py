"""A resumed run equals an uninterrupted one to the last bit."""

import keras
import pytest
from small_run import read_log, train, train_in_process


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert train_in_process(folder) == 0
    return read_log(folder)


def test_losses_fall_and_every_epoch_is_logged(uninterrupted):
    losses = [float.fromhex(epoch["loss"]) for epoch in uninterrupted["epochs"]]
    assert len(losses) == 6 and losses[-1] < losses[0] / 3


@pytest.mark.parametrize(
    "stop", [{"stop_at": (3, 0)}, {"stop_at": (2, 4), "every_seconds": 0}], ids=["epoch", "mid-epoch"]
)
def test_killed_and_resumed_run_equals_the_uninterrupted_one(uninterrupted, tmp_path, stop):
    assert train_in_process(tmp_path, kill=True, **stop) == -9
    assert train_in_process(tmp_path, resume=True) == 0
    assert read_log(tmp_path) == uninterrupted


def test_resume_without_checkpoint_starts_and_a_finished_run_returns(uninterrupted, tmp_path):
    assert train_in_process(tmp_path, resume=True) == 0  # a process, as other tests change global settings
    assert read_log(tmp_path) == uninterrupted
    (tmp_path / "log.json").unlink()
    assert train_in_process(tmp_path, resume=True) == 0
    assert not (tmp_path / "log.json").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"steps_per_execution": 2},
        {"policy": "mixed_float16"},
        pytest.param({"jit_compile": True, "steps_per_execution": 2}, marks=pytest.mark.slow),
    ],
    ids=lambda options: "-".join(options),
)
def test_resume_is_exact_under(options, tmp_path):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(options.pop("policy", policy))
    try:
        for name in ("straight", "stopped"):
            (tmp_path / name).mkdir()
        train(tmp_path / "straight", epochs=2, **options)
        with pytest.raises(InterruptedError):
            train(tmp_path / "stopped", epochs=2, every_seconds=0, stop_at=(0, 4), **options)
        train(tmp_path / "stopped", epochs=2, resume=True, **options)
    finally:
        keras.config.set_dtype_policy(policy)
    assert read_log(tmp_path / "stopped") == read_log(tmp_path / "straight")


def test_resume_with_two_replicas_has_the_same_weights(tmp_path):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert train_in_process(straight, epochs=2, replicas=2) == 0
    assert train_in_process(stopped, epochs=2, replicas=2, stop_at=(0, 4), every_seconds=0, kill=True) == -9
    assert train_in_process(stopped, epochs=2, replicas=2, resume=True) == 0
    straight, stopped = read_log(straight), read_log(stopped)
    assert stopped["weights"] == straight["weights"]
    # A metric is summed over the replicas when it is saved, so the mean of the broken epoch is rounded anew.
    losses = [[float.fromhex(epoch["loss"]) for epoch in run["epochs"]] for run in (stopped, straight)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_steps_per_execution_must_divide_the_epoch(tmp_path):
    with pytest.raises(ValueError, match="multiple of steps_per_execution=4, got 6"):
        train(tmp_path, steps_per_execution=4)
