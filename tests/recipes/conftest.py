import pytest
import tensorflow as tf
from recipe_modules import load_recipe

from keras_lightdet.data import draw_detection_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    return draw_detection_scenes(tmp_path_factory.mktemp("scenes"), {"trainval": 6, "test": 2}, seed=1)


@pytest.fixture
def restore_graph_optimizer():
    """Resets what `make_reproducible` sets for the process: other tests compare to the last bit."""
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.fixture
def run_recipe(tmp_path, restore_graph_optimizer):
    """Runs a recipe with flags, and returns its output folder."""

    def run(name, *flags, folder="run"):
        load_recipe(name).main(["--output-dir", str(tmp_path / folder), *map(str, flags)])
        return tmp_path / folder

    return run
