"""The decorator of builders, on a toy: precedence, contradictions, names, records, signatures."""

import inspect
import json
from dataclasses import dataclass

import keras
import pytest

import keras_lightdet
from keras_lightdet import backbones, models
from keras_lightdet.builder import DERIVED, backbone_builder, builder
from keras_lightdet.classification import Classifier
from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import record_path, save_weights


@dataclass(frozen=True)
class Variant:
    input_shape: tuple[int, int, int]
    width: int


VARIANTS = {"small": Variant((8, 8, 3), 2), "large": Variant((16, 16, 3), 4)}


def scale(recorded, explicit):
    if "input_shape" not in explicit:
        return recorded
    return {**recorded, "sizes": [size * explicit["input_shape"][0] / recorded["input_shape"][0] for size in (1, 2)]}


@builder(VARIANTS, input_multiple=4, adapt_record=scale)
def Toy(  # noqa: N802
    num_classes=3,
    input_shape=DERIVED,
    *,
    variant="small",
    weights=None,
    class_names=DERIVED,
    width=DERIVED,
    depth=1,
    sizes=(1.0, 2.0),
    drop_path_rate=0.0,
    select="all",
    name="toy",
):
    """Builds a toy."""
    images = keras.Input((None, None, 3))
    x = images
    for _ in range(depth):
        x = keras.layers.Conv2D(width, 1)(x)
    x = keras.layers.Dense(num_classes, name="classifier")(keras.layers.GlobalAveragePooling2D()(x))
    model = Classifier(images, x, name, class_names=class_names, architecture={"made_by": "body"})
    model.received = {"weights": weights, "select": select, "sizes": sizes, "input_shape": input_shape}
    return model


@pytest.fixture
def path(tmp_path):
    model = Toy(class_names=("a", "b"), variant="large", width=6, depth=2, drop_path_rate=0.1)
    return save_weights(model, tmp_path / "toy.weights.h5")


def test_the_variant_gives_what_the_caller_leaves_out_and_the_signature_the_rest():
    assert Toy().architecture == {
        "builder": "Toy",
        "num_classes": 3,
        "input_shape": (8, 8, 3),
        "variant": "small",
        "width": 2,
        "depth": 1,
        "sizes": (1.0, 2.0),
        "drop_path_rate": 0.0,
        "made_by": "body",
    }
    assert Toy(variant="large").architecture["width"] == 4
    assert Toy(variant="large", width=5).architecture["width"] == 5


def test_the_record_of_weights_precedes_variant_and_signature(path):
    model = Toy(weights=path)
    assert model.architecture["variant"] == "large"
    assert (model.architecture["width"], model.architecture["depth"]) == (6, 2)
    assert model.class_names == ("a", "b")
    assert model.received["weights"] is None  # they are loaded by the decorator


def test_none_is_as_good_as_left_out(path):
    options = dict.fromkeys(
        ("num_classes", "input_shape", "variant", "class_names", "width", "depth", "select", "name")
    )
    assert Toy(weights=path, **options).architecture == Toy(weights=path).architecture
    assert Toy(**options).received["select"] == "all"
    assert Toy(**options).name == "toy"


def test_arguments_are_given_by_position_too():
    assert Toy(5, (4, 12, 3)).architecture == Toy(num_classes=5, input_shape=(4, 12, 3)).architecture


def test_lists_reach_the_body_as_tuples(path):
    assert Toy(input_shape=[4, 12, 3]).received["input_shape"] == (4, 12, 3)
    assert Toy(weights=path).received["input_shape"] == (16, 16, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 5}, "width to be left out or 6, as in the record of the weights, got 5.*load_trunk"),
        ({"variant": "small"}, "variant to be left out or 'large'"),
        ({"class_names": "abc"}, "num_classes to be left out or 2"),
    ],
)
def test_arguments_that_contradict_the_weights_are_refused(path, options, message):
    with pytest.raises(WeightsError, match=message):
        Toy(weights=path, **options)


def test_equal_and_overridable_arguments_do_not_contradict_the_weights(path):
    model = Toy(weights=path, width=6, input_shape=(32, 32, 3))
    assert model.architecture["input_shape"] == (32, 32, 3)
    assert model.received["sizes"] == (2.0, 4.0)  # adapted from those of 16 pixels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "huge"}, r"variant to be one of \['large', 'small'\], got 'huge'"),
        ({"num_classes": 3, "class_names": ("a", "b")}, "3 class_names, got 2.*Leave num_classes out"),
        ({"input_shape": (8, 8)}, r"input_shape \(height, width, 3\)"),
        ({"input_shape": (8, 8, 1)}, r"input_shape \(height, width, 3\)"),
        ({"input_shape": (8, 10, 3)}, "multiples of 4"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Toy(**options)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="size"):
        Toy(size=3)


def test_names_of_classes_are_given_or_numbered():
    assert Toy(2).class_names == ("class 0", "class 1")
    assert Toy(class_names=["cat", "dog", "cow", "hen"]).architecture["num_classes"] == 4


def test_weights_of_another_builder_are_refused(path):
    record = json.loads(record_path(path).read_text())
    record["architecture"]["builder"] = "Other"
    record_path(path).write_text(json.dumps(record))
    with pytest.raises(WeightsError, match="those of a Toy, got .*toy.weights.h5 of Other. Build a Other"):
        Toy(weights=path)


def test_only_architecture_is_read_from_a_record(path):
    record = json.loads(record_path(path).read_text())
    record["architecture"] |= {"select": "none", "name": "other", "unknown": 1, "weights": "other.weights.h5"}
    record_path(path).write_text(json.dumps(record))
    model = Toy(weights=path)
    assert (model.received["select"], model.name) == ("all", "toy")
    assert "unknown" not in model.architecture


@pytest.mark.parametrize("key", ["drop_connect", "stochastic_depth"])
def test_older_names_of_arguments_are_read(path, key):
    record_path(path).write_text(record_path(path).read_text().replace("drop_path_rate", key))
    assert Toy(weights=path).architecture["drop_path_rate"] == 0.1


def test_signatures_show_the_real_defaults():
    assert (Toy.__name__, Toy.__doc__) == ("Toy", "Builds a toy.")
    parameters = inspect.signature(keras_lightdet.ThunderNet).parameters
    defaults = {name: parameters[name].default for name in ("num_classes", "input_shape", "variant", "rpn", "name")}
    assert defaults == {
        "num_classes": 80,
        "input_shape": (320, 320, 3),
        "variant": "snet146",
        "rpn": "light",
        "name": "thundernet",
    }


@dataclass(frozen=True)
class Size:
    width: int
    blocks: int


@backbone_builder({1: Size(2, 1), 2: Size(4, 3)}, "size", not_recorded=("rate",))
def ToyNet(  # noqa: N802
    input_shape=(None, None, 3), *, size=1, width=DERIVED, kinds=("a",), rate=0.0, num_classes=None, name="toynet"
):
    """Builds a toy backbone."""
    images = keras.Input(input_shape)
    x = keras.layers.Conv2D(width, 1)(images)
    if num_classes is None:
        return keras.Model(images, {"P3": x}, name=name)
    x = keras.layers.Dense(num_classes)(keras.layers.GlobalAveragePooling2D()(x))
    return Classifier(images, x, name)


def test_a_classifier_records_the_arguments_of_its_architecture():
    model = ToyNet((8, 8, 3), size=2, kinds=("a", "b"), rate=0.5, num_classes=5, name="other")
    assert model.architecture == {"builder": "ToyNet", "size": 2, "width": 4, "kinds": ["a", "b"]}
    assert ToyNet(width=3, num_classes=5).architecture["width"] == 3
    assert ToyNet(width=None, num_classes=5).architecture["width"] == 2
    assert not hasattr(ToyNet(), "architecture")
    assert (ToyNet.__name__, ToyNet.__doc__) == ("ToyNet", "Builds a toy backbone.")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 3}, r"size to be one of \[1, 2\], got 3"), ({"num_classes": 0}, "num_classes to be None for features")],
)
def test_arguments_of_a_backbone_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ToyNet(**options)


# Records of saved classifiers have these arguments; another one would make `weights_backbone` refuse their files.
@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (backbones.EfficientNet, {"variant", "width", "depth", "convention"}),
        (backbones.MobileNetV2, {"width", "convention"}),
        (backbones.MobileSpineNet, {"variant", "blocks", "activation", "drop_path_rate"}),
        (backbones.ResNet, {"depth", "dilate_last"}),
        (backbones.SNet, {"variant", "widths", "unit", "kernel_size"}),
        (backbones.ShuffleNetV2, {"width", "unit", "extra_depthwise"}),
        (backbones.Xception39, set()),
        (backbones.XceptionDFANet, {"variant"}),
        (backbones.XceptionLight, set()),
    ],
)
def test_records_of_classifiers_have_their_arguments(build, arguments):
    assert set(build(num_classes=2).architecture) == {"builder", *arguments}


@pytest.mark.parametrize("name", models.__all__)
def test_flags_of_all_builders_are_given_by_name(name):
    parameters = list(inspect.signature(getattr(keras_lightdet, name)).parameters.values())
    assert [parameter.name for parameter in parameters[:2]] == ["num_classes", "input_shape"]
    assert {parameter.kind for parameter in parameters[2:]} == {inspect.Parameter.KEYWORD_ONLY}
