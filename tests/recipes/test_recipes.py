"""Each recipe on a few synthetic images: the files it writes, and its schedule."""

import json
import math
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from recipe_modules import RECIPES, load_recipe

import keras_lightdet
from keras_lightdet import runs
from keras_lightdet.data import draw_classification_scenes, draw_segmentation_scenes
from keras_lightdet.runs.spinenet import PROTOCOLS, SpineNetSettings
from keras_lightdet.training.checkpoint_files import list_checkpoints
from keras_lightdet.weights import load_weights, read_record, save_weights

FILES = {"best.weights.h5", "best.weights.json", "labels.txt", "metrics.json", "last", "logs"}
DETECTOR_FILES = FILES | {"scores.json", "predictions.png", "precision_recall.png"}


@pytest.fixture
def classifier(run_recipe, tmp_path):
    """The weights of a small backbone, trained by the recipe."""
    objects = draw_classification_scenes(tmp_path / "objects", {"train": 2, "val": 1})
    size = ("--input-size", 32, "--batch-size", 4, "--epochs", 2, "--variant", "snet49")
    return run_recipe("train_snet_imagenet", "--data-dir", objects, *size, folder="classifier")


def read_epochs(folder):
    return json.loads((folder / "metrics.json").read_text())["epochs"]


def test_snet_is_pretrained_and_resumes(classifier, run_recipe, capsys):
    assert set(FILES) <= {path.name for path in classifier.iterdir()}
    record = read_record(classifier / "best.weights.h5")
    assert record["architecture"]["variant"] == "snet49"
    assert record["class_names"] == (classifier / "labels.txt").read_text().split()
    epochs = read_epochs(classifier)
    # 3 steps an epoch; the rate falls from 0.5 * 4 / 512 to 0 in a line.
    assert [epoch["learning_rate"] for epoch in epochs] == pytest.approx([0.5 * 4 / 512 / 2, 0], abs=1e-9)
    assert all(math.isfinite(epoch["loss"]) and 0 <= epoch["val_accuracy"] <= 1 for epoch in epochs)
    capsys.readouterr()
    flags = ("--input-size", 32, "--batch-size", 4, "--epochs", 2, "--variant", "snet49", "--resume")
    again = run_recipe("train_snet_imagenet", "--data-dir", classifier.parent / "objects", *flags, folder="classifier")
    assert read_epochs(again) == epochs
    best = max(epoch["val_accuracy"] for epoch in epochs)
    assert f"top-1 error {100 * (1 - best):.1f} %" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "recipe", "size", "rate"),
    [
        ("xception39", "train_bisenet_camvid", "xception39", 0.025 / 16),
        ("resnet18", "train_bisenet_camvid", "resnet18", 0.025 / 16),
        ("xception_a", "train_dfanet_camvid", "a", 0.2 / 48),
        ("xception_b", "train_dfanet_camvid", "b", 0.2 / 48),
    ],
)
def test_a_segmenter_starts_from_the_pretrained_backbone(variant, recipe, size, rate, run_recipe, tmp_path):
    objects = draw_classification_scenes(tmp_path / "objects", {"train": 2, "val": 1})
    flags = ("--data-dir", objects, "--input-size", 32, "--batch-size", 4, "--epochs", 2, "--variant", variant)
    folder = run_recipe("train_backbone_imagenet", *flags, folder="classifier")
    assert set(FILES) <= {path.name for path in folder.iterdir()}
    start = (0.1 if variant == "resnet18" else 0.3) * 4 / 256  # falls in a line over two epochs
    assert [epoch["learning_rate"] for epoch in read_epochs(folder)] == pytest.approx([start / 2, 0], abs=1e-9)
    classifier = load_recipe("train_backbone_imagenet").BUILDERS[variant](num_classes=6)
    classifier.class_names = tuple((folder / "labels.txt").read_text().split())
    load_weights(classifier, folder / "best.weights.h5")
    build = keras_lightdet.BiSeNet if recipe == "train_bisenet_camvid" else keras_lightdet.DFANet
    network = build(3, (32, 48, 3), variant=size, weights_backbone=folder / "best.weights.h5").network
    trunk = [layer for layer in classifier.layers if layer.weights and layer.name != "classifier"]
    for layer in trunk:
        prefix = "backbone1_" if recipe == "train_dfanet_camvid" and not layer.name.startswith("stem") else ""
        copied = network.get_layer(prefix + layer.name).get_weights()
        assert all(map(np.array_equal, copied, layer.get_weights())), layer.name
    scenes = draw_segmentation_scenes(tmp_path / "scenes", {"train": 4, "val": 1}, seed=1)
    flags = ("--data-dir", scenes, "--epochs", 2, "--batch-size", 2, "--input-size", 32, 48, "--variant", size)
    tuned = run_recipe(recipe, *flags, "--weights-backbone", folder / "best.weights.h5")
    # The paper's rate at its batch, here of 2, after two and four of four steps.
    rates = [epoch["learning_rate"] for epoch in read_epochs(tuned)]
    assert rates == pytest.approx([2 * rate * 0.5**0.9, 0], abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_thundernet_voc", "train_thundernet_coco"])
def test_thundernet_starts_from_the_pretrained_backbone(name, classifier, run_recipe, scenes):
    flags = ("--data-dir", scenes, "--epochs", 2, "--batch-size", 2, "--input-size", 64, "--variant", "snet49")
    backbone = classifier / "best.weights.h5"
    folder = run_recipe(name, *flags, "--weights-backbone", backbone)
    assert set(DETECTOR_FILES) <= {path.name for path in folder.iterdir()}
    rates = [epoch["learning_rate"] for epoch in read_epochs(folder)]
    # 6 steps, drops at 3 and 4.5: steps 3 and 6 have a tenth and a hundredth of 0.01 * 2 / 64.
    assert rates == pytest.approx([0.01 * 2 / 64 / 10, 0.01 * 2 / 64 / 100])
    model = keras_lightdet.ThunderNet(weights=folder / "best.weights.h5")
    assert model.class_names == tuple((folder / "labels.txt").read_text().split())
    with pytest.raises(SystemExit, match="'variant': 'snet146'"):
        run_recipe(name, *flags[:-1], "snet146", "--weights-backbone", backbone, folder="other")


@pytest.mark.slow
def test_faster_rcnn_trains_the_late_stages_of_its_backbone(run_recipe, scenes, tmp_path):
    classifier = keras_lightdet.backbones.ResNet(depth=50, num_classes=2)
    backbone = save_weights(classifier, tmp_path / "resnet50.weights.h5")
    flags = ("--data-dir", scenes, "--epochs", 2, "--batch-size", 2, "--input-size", 64)
    folder = run_recipe("train_faster_rcnn_coco", *flags, "--weights-backbone", backbone)
    rates = [epoch["learning_rate"] for epoch in read_epochs(folder)]
    # 6 steps, drops at 4 and 5: step 3 has 0.02 * 2 / 16, step 6 a hundredth of it.
    assert rates == pytest.approx([0.02 * 2 / 16, 0.02 * 2 / 16 / 100])
    model = keras_lightdet.FasterRCNN(weights=folder / "best.weights.h5")
    changed = set()
    for layer in model.rpn.get_layer("backbone").layers:
        pairs = zip(layer.get_weights(), classifier.get_layer(layer.name).get_weights(), strict=True)
        if not all(np.array_equal(trained, initial) for trained, initial in pairs):
            changed.add((layer.name.partition("_")[0], layer.name.rpartition("_")[2]))
    assert changed == {(stage, "conv") for stage in ("stage3", "stage4", "stage5")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "builder"),
    [
        ("train_thundernet_voc", keras_lightdet.ThunderNet),
        ("train_light_head_rcnn_coco", keras_lightdet.LightHeadRCNN),
        ("train_faster_rcnn_coco", keras_lightdet.FasterRCNN),
        ("train_rsanet_voc", keras_lightdet.RSANet),
        ("train_efficientdet_coco", keras_lightdet.EfficientDet),
    ],
)
def test_a_detector_trains_from_scratch(name, builder, run_recipe, scenes):
    flags = ("--data-dir", scenes, "--epochs", 1, "--batch-size", 2, "--input-size", 64)
    folder = run_recipe(name, *flags)
    assert set(DETECTOR_FILES) <= {path.name for path in folder.iterdir()}
    (epoch,) = read_epochs(folder)
    assert math.isfinite(epoch["loss"])
    assert epoch["learning_rate"] == pytest.approx(1e-6, rel=1e-3)  # the end of the cosine
    model = builder(weights=folder / "best.weights.h5")
    assert model.input_size == (64, 64)
    assert all(np.all(np.isfinite(weight)) for weight in model.get_weights())


@pytest.mark.slow
def test_efficientdet_trains_and_fine_tunes_by_the_paper(run_recipe, scenes, tmp_path):
    flags = ("--data-dir", scenes, "--epochs", 2, "--batch-size", 2, "--input-size", 64, "--variant", "lite0")
    classifier = keras_lightdet.backbones.EfficientNet(variant="lite0", num_classes=2)
    backbone = save_weights(classifier, tmp_path / "classifier.weights.h5")
    folder = run_recipe("train_efficientdet_coco", *flags, "--weights-backbone", backbone, folder="coco")
    assert set(DETECTOR_FILES) <= {path.name for path in folder.iterdir()}
    rates = [epoch["learning_rate"] for epoch in read_epochs(folder)]
    # 3 steps of warm-up to 0.08 * 2 / 64, 3 of the cosine.
    assert rates == pytest.approx([0.08 * 2 / 64, 1e-6], rel=1e-3)
    tuned = run_recipe("train_efficientdet_voc", *flags, "--weights", folder / "best.weights.h5", folder="voc")
    before, after = (keras_lightdet.EfficientDet(weights=each / "best.weights.h5").network for each in (folder, tuned))
    changed = {
        layer.name
        for layer in before.layers
        if not all(map(np.array_equal, layer.get_weights(), after.get_layer(layer.name).get_weights()))
    }
    assert {"predict_class", "predict_box"} <= changed
    assert not [name for name in changed if name.startswith(("backbone", "fusion"))]


def test_efficientdets_decay_excludes_norms_biases_and_fusion_weights():
    recipe = load_recipe("train_efficientdet_coco")
    model = keras_lightdet.EfficientDet(variant="lite0", fusion="bifpn_fast")
    excluded = re.compile("|".join(recipe.NOT_DECAYED))  # as Keras reads them
    decayed = {weight.path for weight in model.trainable_weights if not excluded.search(weight.path)}
    kernels = {weight.path for weight in model.trainable_weights if len(weight.shape) > 1}
    assert decayed == kernels
    assert recipe.JITTER.jitter_scale == (0.1, 2.0)


@pytest.mark.slow
def test_spinenet_trains_by_a_protocol(run_recipe, scenes):
    flags = ("--data-dir", scenes, "--epochs", 2, "--batch-size", 2, "--input-size", 64)
    folder = run_recipe("train_spinenet_coco", *flags, "--variant", "mobile_spinenet49xs", "--protocol", "c")
    assert set(DETECTOR_FILES) <= {path.name for path in folder.iterdir()}
    record = read_record(folder / "best.weights.h5")["architecture"]
    assert (record["variant"], record["activation"], record["drop_path_rate"]) == (
        "mobile_spinenet49xs",
        "swish",
        0.2,
    )
    assert [epoch["learning_rate"] for epoch in read_epochs(folder)] == pytest.approx([1e-3, 1e-6], rel=1e-3)


class Images(list):
    class_names = ("thing",)


class Compiled(Exception):  # noqa: N818 - carries an optimizer out of a recipe
    pass


class Model:
    def __init__(self, **options):
        self.options = options

    def compile(self, optimizer):
        raise Compiled(self.options, optimizer)


# Published steps of protocol c: 231,500 of them, 2000 of warm-up from 0.0067 to 0.28 (here 5 of 500 epochs), drops at
# 470 and 490 epochs.
@pytest.mark.parametrize(
    ("name", "epochs", "scales", "options"),
    [
        ("a", 250, (0.8, 1.2), {"drop_block": 0.1}),
        ("b", 350, (0.5, 2.0), {}),
        ("c", 500, (0.5, 2.0), {"drop_path_rate": 0.2, "activation": "swish"}),
    ],
)
def test_spinenets_protocols_are_those_of_the_paper(
    name, epochs, scales, options, monkeypatch, tmp_path, restore_graph_optimizer
):
    steps = 463
    recipe = load_recipe("train_spinenet_coco")
    flags = ["--variant", "spinenet49", "--batch-size", "256", "--protocol", name, "--output-dir", str(tmp_path)]
    settings = runs.parse_settings(
        SpineNetSettings, flags, None, "", recipe.DEFAULTS, recipe.DEMO, variants=recipe.VARIANTS
    )
    assert (settings.epochs, settings.input_size, settings.batch_size) == (epochs, (640, 640), 256)
    assert (PROTOCOLS[name].augment.jitter_scale, PROTOCOLS[name].augment.jitter) == (scales, 1.0)
    monkeypatch.setattr(runs, "load_detection_splits", lambda *_: (Images([0] * 256 * steps), None))
    monkeypatch.setattr(recipe, "RetinaNet", Model)
    with pytest.raises(Compiled) as compiled:
        recipe.main(flags)
    arguments, sgd = compiled.value.args
    assert options.items() <= arguments.items()
    rates = [(0, 0.0067), (2.5, (0.0067 + 0.28) / 2), (5, 0.28), (epochs - 30.1, 0.28), (epochs - 29.9, 0.028)]
    for epoch, rate in [*rates, (epochs - 10.1, 0.028), (epochs - 9.9, 0.0028)]:
        assert float(sgd._learning_rate(round(epoch * steps))) == pytest.approx(rate, rel=1e-3)
    assert sgd.weight_decay * (1 - sgd.momentum) == pytest.approx(4e-5)


@pytest.mark.parametrize(("variant", "protocol"), [("mobile_spinenet49", "a"), ("resnet50_fpn", "c")])
def test_a_protocol_that_the_variant_cannot_follow_is_refused(variant, protocol, run_recipe, capsys):
    with pytest.raises(SystemExit):
        run_recipe("train_spinenet_coco", "--variant", variant, "--protocol", protocol)
    assert f"--variant {variant} lacks the options of --protocol {protocol}: pass b." in capsys.readouterr().err


def test_weights_of_model_and_backbone_at_once_are_refused(run_recipe, capsys):
    with pytest.raises(SystemExit):
        run_recipe("train_thundernet_voc", "--weights", "a.weights.h5", "--weights-backbone", "b.weights.h5")
    assert "--weights has a backbone" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "builder", "variant"),
    [
        ("train_bisenet_camvid", keras_lightdet.BiSeNet, "xception39"),
        ("train_dfanet_camvid", keras_lightdet.DFANet, "b"),
    ],
)
def test_a_segmenter_trains_and_resumes(name, builder, variant, run_recipe, tmp_path, capsys):
    scenes = draw_segmentation_scenes(tmp_path / "scenes", {"train": 4, "val": 2}, seed=1)
    flags = ("--data-dir", scenes, "--epochs", 2, "--batch-size", 2, "--input-size", 48, 64)
    folder = run_recipe(name, *flags)
    assert (FILES | {"scores.json", "predictions.png"}) <= {path.name for path in folder.iterdir()}
    epochs = read_epochs(folder)
    assert all(math.isfinite(epoch["loss"]) and 0 <= epoch["val_mIoU"] <= 1 for epoch in epochs)
    model = builder(weights=folder / "best.weights.h5")
    assert (model.input_size, model.architecture["variant"]) == ((48, 64), variant)
    best = max(epoch["val_mIoU"] for epoch in epochs)
    assert json.loads((folder / "scores.json").read_text())["test"]["mIoU"] == pytest.approx(best)
    assert read_epochs(run_recipe(name, *flags, "--resume")) == epochs
    edited = scenes / "valannot" / "scene_00005.png"
    Image.fromarray(1 - np.minimum(np.asarray(Image.open(edited)), 1)).save(edited)
    with pytest.raises(SystemExit, match="differences in data"):
        run_recipe(name, *flags, "--resume")
    (scenes / "trainannot" / "scene_00002.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=r"trainannot.scene_00002.png"):
        run_recipe(name, *flags, folder="spoiled")


def test_a_fault_of_the_user_ends_with_one_line_and_no_traceback(run_recipe, tmp_path):
    with pytest.raises(SystemExit, match=r"^error: Expected a folder at '.*nowhere', found none. Correct the path.$"):
        run_recipe("train_rsanet_voc", "--data-dir", tmp_path / "nowhere")


@pytest.mark.slow
def test_a_killed_segmenter_run_equals_an_uninterrupted_one(tmp_path):
    """SIGKILL at any moment after the first checkpoint; the metrics of every epoch are bit-equal."""
    scenes = draw_segmentation_scenes(tmp_path / "scenes", {"train": 4, "val": 1}, seed=1)
    flags = ("--data-dir", scenes, "--epochs", 4, "--batch-size", 2, "--input-size", 32, 48)

    def start(folder, *more):
        command = [sys.executable, RECIPES / "train_bisenet_camvid.py", "--output-dir", folder, *flags, *more]
        return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert start(straight).wait() == 0
    process = start(killed)
    while process.poll() is None and not list_checkpoints(killed / "last"):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -9, "the run ended before it was killed"
    assert 1 <= len(read_epochs(killed)) < 4
    assert start(killed, "--resume").wait() == 0
    expected, resumed = ([{**epoch, "seconds": 0} for epoch in read_epochs(each)] for each in (straight, killed))
    assert resumed == expected
    assert len({epoch["loss"] for epoch in resumed}) == 4
