"""Runs the Python blocks of README.md and docs/ in order, page by page, in a folder with small data and weights."""

import shutil

import keras
import pytest
from documents import blocks, documents
from small_detector import small_rsanet
from source_tree import relative

import keras_lightdet
from keras_lightdet.data import SceneSpec, draw_classification_scenes, draw_detection_scenes, draw_segmentation_scenes

PAGES = [path for path in documents() if blocks(path, "python")]
SCENES = SceneSpec(sides=(96, 128), objects=(2, 4), object_sides=(24, 60))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with the files that the documents name."""
    folder = tmp_path_factory.mktemp("workspace")
    draw_detection_scenes(folder / "my_images", {"trainval": 24, "test": 8}, spec=SCENES)
    draw_segmentation_scenes(folder / "my_labels", {"train": 8, "val": 4}, spec=SCENES)
    draw_classification_scenes(folder / "my_classes", {"train": 4, "val": 2})
    shutil.copy(next((folder / "my_images" / "JPEGImages").iterdir()), folder / "street.jpg")
    for name, content in (("images/a.jpg", None), ("labels/a.txt", "0 0.5 0.5 0.2 0.4\n1 0.3 0.3 0.1 0.1\n")):
        path = folder / "text_labels" / name
        path.parent.mkdir(parents=True)
        path.write_text(content) if content else shutil.copy(folder / "street.jpg", path)
    names = keras_lightdet.load_data(folder / "my_images", "trainval").class_names
    detector = small_rsanet(class_names=names)
    keras_lightdet.weights.save_weights(detector, folder / "runs" / "rsanet_voc" / "best.weights.h5")
    labels = keras_lightdet.load_segmentation(folder / "my_labels", "train")
    segmenter = keras_lightdet.BiSeNet(class_names=labels.class_names, input_shape=(96, 128, 3))
    keras_lightdet.weights.save_weights(segmenter, folder / "runs" / "bisenet_camvid" / "best.weights.h5")
    return folder


@pytest.fixture
def short_fit(monkeypatch):
    """Shortens every training to one step, run eagerly: tracing a graph takes longer than the step."""
    fit = keras.Model.fit

    def fit_one_step(self, *args, **options):
        self.run_eagerly = True
        return fit(self, *args, **{**options, "epochs": 1, "steps_per_epoch": 1, "verbose": 0})

    monkeypatch.setattr(keras.Model, "fit", fit_one_step)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_blocks_run(page, workspace, short_fit, monkeypatch, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(workspace, folder)
    monkeypatch.chdir(folder)
    namespace = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
        if not block.not_run:
            exec(code, namespace)


def test_only_blocks_that_need_downloads_are_not_run():
    reasons = {block.not_run for page in PAGES for block in blocks(page, "python") if block.not_run}
    assert all(reason.startswith(("needs", "downloads")) for reason in reasons), reasons
