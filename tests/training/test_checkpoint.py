import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.errors import CheckpointError
from keras_lightdet.training.checkpoint import TrainingCheckpoint, restore
from keras_lightdet.training.checkpoint_files import list_checkpoints, read_checkpoint, write_checkpoint
from keras_lightdet.training.run import fit_resumable

CONFIG = {"batch_size": 2, "class_names": ("cat", "dog"), "seed": 1}


def make_model(width=3):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(width)(inputs))
    model.compile("adam", loss="mse")
    return model


def fit(model, checkpoint, epochs=3, **options):
    x = np.ones((4, 2), np.float32)
    model.fit(
        x,
        np.ones((4, 3), np.float32),
        batch_size=2,
        epochs=epochs,
        verbose=0,
        callbacks=[checkpoint],
        **options,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three epochs of two steps: checkpoints of the steps 4 and 6, and the weights at the latter."""
    directory = tmp_path_factory.mktemp("run") / "last"
    model = make_model()
    fit(model, TrainingCheckpoint(directory, run_config=CONFIG))
    return directory, model.get_weights()


@pytest.fixture
def directory(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "last")
    return tmp_path / "last"


def test_two_are_kept_and_the_newest_is_restored(trained, directory):
    assert [folder.name for folder in list_checkpoints(directory)] == ["step-00000006", "step-00000004"]
    model = make_model()
    state = restore(model, directory, CONFIG)
    assert (state.step, state.epoch, state.batch) == (6, 3, 0)
    assert int(model.optimizer.iterations) == 6
    for got, expected in zip(model.get_weights(), trained[1], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_an_absent_folder_has_no_checkpoint(tmp_path):
    assert restore(make_model(), tmp_path / "absent") is None


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "truncated": lambda folder: (folder / "variables.npz").write_bytes((folder / "variables.npz").read_bytes()[:-100]),
    "flipped byte in the variables": lambda folder: flip_a_byte(folder / "variables.npz"),
    "flipped byte in the state": lambda folder: flip_a_byte(folder / "state.json"),
    "flipped byte in the sums": lambda folder: flip_a_byte(folder / "SHA256SUMS"),
    "missing variables": lambda folder: (folder / "variables.npz").unlink(),
    "missing sums": lambda folder: (folder / "SHA256SUMS").unlink(),
    "empty state": lambda folder: (folder / "state.json").write_text(""),
    "empty sums": lambda folder: (folder / "SHA256SUMS").write_text(""),
    "empty folder": lambda folder: [file.unlink() for file in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_restored(directory, damage, caplog):
    DAMAGES[damage](directory / "step-00000006")
    state = restore(make_model(), directory, CONFIG)
    assert (state.step, state.epoch) == (4, 2)
    assert "step-00000006" in caplog.text and "damaged" in caplog.text


@pytest.mark.parametrize("position", range(0, 1000, 37))
def test_any_flipped_byte_is_detected(directory, position):
    folder = directory / "step-00000006"
    for path in folder.iterdir():
        content = bytearray(path.read_bytes())
        content[position % len(content)] ^= 1 << (position % 8)
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            read_checkpoint(folder)
        content[position % len(content)] ^= 1 << (position % 8)
        path.write_bytes(content)
    read_checkpoint(folder)


def test_training_resumes_before_a_damaged_checkpoint_and_replaces_it(trained, directory):
    flip_a_byte(directory / "step-00000006" / "variables.npz")
    model = make_model()
    checkpoint = TrainingCheckpoint(directory, run_config=CONFIG)
    state = checkpoint.restore(model)
    fit(model, checkpoint, initial_epoch=state.epoch)
    read_checkpoint(directory / "step-00000006")
    for got, expected in zip(model.get_weights(), trained[1], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_all_damaged_is_an_error_that_names_them(directory):
    for folder in list_checkpoints(directory):
        flip_a_byte(folder / "variables.npz")
    with pytest.raises(CheckpointError, match="step-00000006, step-00000004"):
        restore(make_model(), directory, CONFIG)


def test_another_run_is_refused_with_what_differs(directory):
    other = {**CONFIG, "batch_size": 8, "class_names": ("dog", "cat")}
    with pytest.raises(CheckpointError, match=r"batch_size: saved 2, now 8; class_names: saved \['cat', 'dog'\]"):
        restore(make_model(), directory, other)


def test_a_checkpoint_of_an_older_version_names_the_settings_that_changed(tmp_path):
    old = {**CONFIG, "input_size": 192, "augment": {"mosaic": 1.0, "colour": 0.5}}
    new = {**CONFIG, "input_size": (192, 192), "augment": {"mosaic": 1.0, "color": 0.5}}
    fit(make_model(), TrainingCheckpoint(tmp_path, run_config=old), epochs=1)
    with pytest.raises(CheckpointError) as caught:
        restore(make_model(), tmp_path, new)
    message = str(caught.value)
    assert "\n" not in message and "mosaic" not in message
    assert "augment.color: saved absent, now 0.5; augment.colour: saved 0.5, now absent" in message
    assert "input_size: saved 192, now [192, 192]" in message
    assert "another version of keras_lightdet" in message


def test_another_model_is_refused(directory):
    with pytest.raises(CheckpointError, match="Expected .*step-00000006 to fit the model's 2 variables"):
        restore(make_model(width=4), directory, CONFIG)


def test_a_new_run_does_not_overwrite_an_old_one(directory):
    with pytest.raises(CheckpointError, match="no checkpoints"):
        fit(make_model(), TrainingCheckpoint(directory))
    assert len(list_checkpoints(directory)) == 2


def test_non_finite_weights_are_not_saved(directory):
    model = make_model()
    checkpoint = TrainingCheckpoint(directory, run_config=CONFIG)
    checkpoint.restore(model)
    model.layers[-1].bias.assign([0.0, np.nan, 0.0])
    with pytest.raises(CheckpointError, match="NaN or infinity in dense"):
        fit(model, checkpoint, epochs=4, initial_epoch=3)
    assert [folder.name for folder in list_checkpoints(directory)] == ["step-00000006", "step-00000004"]


def test_leftovers_of_killed_saves_are_removed_by_the_next_one(tmp_path):
    for name in (".saving-step-00000009", ".dropped-step-00000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "variables.npz").write_bytes(b"half")
    assert list_checkpoints(tmp_path) == []
    write_checkpoint(tmp_path, 10, {"a": np.arange(3)}, {"epoch": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]
    arrays, state = read_checkpoint(tmp_path / "step-00000010")
    assert arrays["a"].tolist() == [0, 1, 2] and state == {"epoch": 1}


def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path):
    (tmp_path / "last").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="Free space there"):
        write_checkpoint(tmp_path / "last", 1, {}, {})


def test_the_state_is_json_that_a_person_can_read(directory):
    state = json.loads((directory / "step-00000006" / "state.json").read_text())
    assert state["run_config"] == {**CONFIG, "class_names": ["cat", "dog"]}
    assert state["variables"]["model"][0][1:] == [[2, 3], "float32"]


class Score(keras.callbacks.Callback):
    """Counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def on_epoch_end(self, epoch, logs=None):
        self.calls += 1

    def get_state(self):
        return {"calls": self.calls}

    def set_state(self, state):
        self.calls = state["calls"]


def test_stateful_callbacks_are_saved_after_their_epoch_and_restored(tmp_path):
    x = np.ones((2, 2), np.float32), np.ones((2, 3), np.float32)

    def run(epochs, stateful, **options):
        fit_resumable(
            make_model(),
            lambda step: tf.data.Dataset.from_tensors(x).repeat(),
            epochs=epochs,
            steps_per_epoch=2,
            checkpoint=TrainingCheckpoint(tmp_path, stateful=stateful),
            callbacks=stateful,
            **options,
        )

    run(2, [Score()])
    score = Score()
    run(5, [score], resume=True)
    assert score.calls == 5
    with pytest.raises(ValueError, match="different classes"):
        TrainingCheckpoint(tmp_path, stateful=[Score(), Score()])
    with pytest.raises(CheckpointError, match=r"states of \['StopAtNothing'\]"):
        run(6, [type("StopAtNothing", (Score,), {})()], resume=True)
