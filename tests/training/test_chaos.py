"""A run that is killed repeatedly at random moments, also while it saves, resumes and equals an uninterrupted one."""

import os
import random
import signal
import time

import pytest
from small_run import PROCESSES, read_log, train, train_in_process

from keras_lightdet.training.checkpoint_files import SAVING_PREFIX, list_checkpoints

BALLAST = 4000  # Units of a layer of 16 inputs: a save of about 1 MB.
LIMIT_SECONDS = 120
KINDS = ("start", "save", "anywhere")


def is_saving(folder):
    return any((folder / "last").glob(f"{SAVING_PREFIX}*"))


def newest(folder):
    return next((path.name for path in list_checkpoints(folder / "last")), None)


def start_and_kill(folder, options, rng, kind):
    """Starts the run and kills it; returns its exit code (-9 if it was killed) and whether that hit a save."""
    process = PROCESSES.Process(target=train, args=(str(folder),), kwargs={**options, "resume": True})
    process.start()
    if kind == "start":
        process.join(rng.uniform(0.05, 1.0))
    else:
        for _ in range(rng.randint(1, 6)):
            before = newest(folder)
            wait_for(process, lambda before=before: newest(folder) != before)
        if kind == "save":
            pause_in_a_save(process, folder, rng)
        else:
            time.sleep(rng.uniform(0, 0.1))
    process.kill()
    process.join()
    return process.exitcode, is_saving(folder)


def pause_in_a_save(process, folder, rng):
    """Pauses the run at a random moment of a save; retries if the save has ended by then."""
    while process.is_alive():
        wait_for(process, lambda: is_saving(folder))
        time.sleep(rng.uniform(0, 0.01))
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(0.005)
        if is_saving(folder):
            return
        os.kill(process.pid, signal.SIGCONT)


def wait_for(process, condition):
    end = time.monotonic() + LIMIT_SECONDS
    while process.is_alive() and not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


def run_with_kills(tmp_path, kills, epochs):
    """Returns the number of kills that hit a save; every start must make progress, and the result be bit-equal."""
    options = {"epochs": epochs, "every_seconds": 0, "ballast": BALLAST}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert train_in_process(straight, epochs=epochs, ballast=BALLAST) == 0
    killed.mkdir()
    rng = random.Random(kills)
    ends = [start_and_kill(killed, options, rng, KINDS[index % 3]) for index in range(kills)]
    assert [code for code, _ in ends] == [-9] * kills, "a start made no progress, or the run ended before it was killed"
    assert train_in_process(killed, resume=True, **options) == 0
    assert read_log(killed) == read_log(straight)
    return sum(hit for _, hit in ends)


def test_five_kills(tmp_path):
    run_with_kills(tmp_path, 5, epochs=15)


@pytest.mark.slow
def test_fifty_kills(tmp_path):
    assert run_with_kills(tmp_path, 50, epochs=100) >= 50 / 3
