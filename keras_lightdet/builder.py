"""The decorator of model builders: it resolves and checks their arguments, and loads weights into the model.

An argument's value is the first of: what the caller passes, unless it is `None`; the record of `weights`; the field of
the same name in the row of the variant; the default in the signature.
"""

import functools
import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import keras

from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import copy_layers, load_weights, read_record, resolve_weights

Params = ParamSpec("Params")
Model = TypeVar("Model", bound=keras.Model)

DERIVED: Any = None  # default of an argument whose value depends on the variant or on the weights
BACKBONE = "backbone"  # name of the layer that is the backbone
WEIGHTS_ARGUMENTS = ("weights", "weights_backbone")  # of the decorator alone
NOT_RECORDED = ("class_names", "sample", "select", "loss", "name")  # change neither the network nor its weights


def builder(
    variants: Mapping[str, Any],
    *,
    overridable: Collection[str] = ("input_shape",),
    input_multiple: int = 1,
    backbone: Callable[..., keras.Model] | None = None,
    copy_backbone: Callable[[keras.Model, Any], None] | None = None,
    adapt_record: Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]] | None = None,
) -> Callable[[Callable[Params, Model]], Callable[Params, Model]]:
    """Decorates the builder of a model.

    The builder's signature has `num_classes`, `input_shape`, `variant`, `weights`, `class_names` and the architecture's
    own arguments. Its body receives each argument's value, and the names of all classes as `class_names`.

    Args:
        variants: The published sizes by name; a row's fields and properties are the defaults of the arguments of the
            same names.
        overridable: Arguments that may differ from the record of `weights`.
        input_multiple: What the sides of `input_shape` are multiples of.
        backbone: Builds the model's backbone from the arguments it names, and the classifier of the same layers if
            `num_classes` is given.
        copy_backbone: Copies that classifier (first argument) into the model (second); `None` copies it into
            `model.backbone`.
        adapt_record: Returns the recorded arguments (first) as they apply to the arguments the caller passes (second).

    Returns:
        A decorator. The model it builds has `architecture`: the builder's name, all arguments, and the entries of the
        `architecture` that the body gave the model.
    """

    def decorate(build: Callable[Params, Model]) -> Callable[Params, Model]:
        name, signature, body = build.__name__, inspect.signature(build), cast(Callable[..., Model], build)

        @functools.wraps(build)
        def build_with_weights(*args: Params.args, **kwargs: Params.kwargs) -> Model:
            explicit = _explicit(signature, args, kwargs)
            weights, weights_backbone = (explicit.pop(key, None) for key in WEIGHTS_ARGUMENTS)
            path, recorded, class_names = _read_weights(name, weights, weights_backbone)
            if "class_names" in explicit:
                explicit.setdefault("num_classes", len(explicit["class_names"]))
            _check_contradictions(explicit, recorded, overridable)
            if adapt_record and recorded:
                recorded = adapt_record(recorded, explicit)
            arguments = _resolve(signature, variants, "variant", recorded, explicit)
            check_input_shape(arguments["input_shape"], input_multiple)
            arguments["class_names"] = _class_names(arguments["class_names"] or class_names, arguments["num_classes"])
            model = body(**arguments)
            model.architecture = {"builder": name, **_without(arguments, NOT_RECORDED), **model.architecture}
            if path is not None:
                load_weights(model, path)
            if weights_backbone is not None and backbone is not None:
                classifier = load_classifier(_bind(backbone, arguments), weights_backbone)
                if copy_backbone is None:
                    copy_layers(classifier, model.backbone)
                else:
                    copy_backbone(classifier, model)
            return model

        return build_with_weights

    return decorate


def backbone_builder(
    variants: Mapping[Any, Any] | None = None, key: str = "variant", *, not_recorded: Collection[str] = ()
) -> Callable[[Callable[Params, Model]], Callable[Params, Model]]:
    """Decorates the builder of a backbone, which builds a `Classifier` if `num_classes` is given.

    The builder's signature has `input_shape`, `num_classes`, `name` and the architecture's own arguments.

    Args:
        variants: The published sizes; a row's fields are the defaults of the arguments of the same names.
        key: The argument that selects the row.
        not_recorded: Arguments that change neither the classifier nor its weights.

    Returns:
        A decorator. The classifier it builds has `architecture`: the builder's name and the other arguments.
    """
    not_recorded = ("input_shape", "num_classes", "name", *not_recorded)

    def decorate(build: Callable[Params, Model]) -> Callable[Params, Model]:
        signature, body = inspect.signature(build), cast(Callable[..., Model], build)

        @functools.wraps(build)
        def build_and_record(*args: Params.args, **kwargs: Params.kwargs) -> Model:
            arguments = _resolve(signature, variants, key, {}, _explicit(signature, args, kwargs))
            num_classes = arguments["num_classes"]
            if num_classes is not None and num_classes < 1:
                raise ValueError(f"Expected num_classes to be None for features, or 1 or more, got {num_classes!r}.")
            model = body(**arguments)
            if num_classes is not None:
                model.architecture = _as_json({"builder": build.__name__, **_without(arguments, not_recorded)})
            return model

        return build_and_record

    return decorate


def load_classifier(build: Callable[..., keras.Model], weights: str | Path) -> keras.Model:
    """Loads the classifier whose layers a model's backbone has.

    Args:
        build: Builds it, given `num_classes`.
        weights: Its `.weights.h5` with its record, or its address, see `weights.resolve_weights`.

    Raises:
        WeightsError: If the file or its record is missing or damaged, or is of another builder or other options.
    """
    path = resolve_weights(weights)
    record = read_record(path)
    classifier = build(num_classes=len(record["class_names"]))
    expected, actual = _as_json(classifier.architecture), record["architecture"]
    name = expected["builder"]
    if name != actual.get("builder"):
        raise WeightsError(
            f"Expected weights_backbone to be a classifier {name}, got {path} of {actual.get('builder')}. "
            f"Give the weights of keras_lightdet.backbones.{name}(num_classes=..), written by "
            "keras_lightdet.weights.save_weights; those of a detector go to weights=."
        )
    differing = [key for key in {**expected, **actual} if expected.get(key) != actual.get(key)]
    if differing:
        wanted, got = ({key: options.get(key) for key in differing} for options in (expected, actual))
        raise WeightsError(
            f"Expected weights_backbone to be a {name} with {wanted}, got {path} with {got}. Build the detector with "
            "the options of the weights, or give weights with those of the detector."
        )
    classifier.class_names = tuple(record["class_names"])
    load_weights(classifier, path)
    return classifier


def check_choice(argument: str, value: object, choices: Collection[Any]) -> None:
    """Raises a `ValueError` that lists the choices for a value that is not among them."""
    if value not in list(choices):  # a list also compares values that cannot be hashed
        raise ValueError(f"Expected {argument} to be one of {sorted(choices)}, got {value!r}.")


def check_input_shape(input_shape: Sequence[int], multiple: int = 1) -> None:
    """Raises a `ValueError` for a shape that is not `(height, width, 3)` with sides in multiples of `multiple`."""
    sides = input_shape[:2]
    if len(input_shape) != 3 or input_shape[2] != 3 or not all(x and x > 0 and x % multiple == 0 for x in sides):
        raise ValueError(
            f"Expected input_shape (height, width, 3), sides in multiples of {multiple}, got {tuple(input_shape)!r}."
        )


def _read_weights(
    name: str, weights: str | Path | None, weights_backbone: str | Path | None
) -> tuple[Path | None, dict[str, Any], list[str] | None]:
    """Returns the path of `weights`, the arguments in its record and the names of its classes."""
    if weights is None:
        return None, {}, None
    if weights_backbone is not None:
        raise ValueError(
            f"Expected weights or weights_backbone, got {weights!r} and {weights_backbone!r}. Leave the second out: "
            "the weights of a model contain those of its backbone."
        )
    path = resolve_weights(weights)
    record = read_record(path)
    recorded_name = record["architecture"].get("builder", name)
    if recorded_name != name:
        raise WeightsError(
            f"Expected weights to be those of a {name}, got {path} of {recorded_name}. Build a {recorded_name} for "
            "them; weights of a classifier go to weights_backbone=."
        )
    class_names = record["class_names"]
    architecture = {key: value for key, value in record["architecture"].items() if value is not None}
    if architecture.get("num_classes", len(class_names)) != len(class_names):
        raise WeightsError(
            f"Expected the record of {path} to have names of {architecture['num_classes']} classes, got {class_names}. "
            "Copy it again."
        )
    return path, _without(architecture, NOT_RECORDED), class_names


def _check_contradictions(
    explicit: Mapping[str, Any], recorded: Mapping[str, Any], overridable: Collection[str]
) -> None:
    for key, value in explicit.items():
        if key in recorded and key not in overridable and _as_json(value) != recorded[key]:
            raise WeightsError(
                f"Expected {key} to be left out or {recorded[key]!r}, as in the record of the weights, got {value!r}. "
                "To start from these weights with another architecture or other classes, build without weights and "
                "call keras_lightdet.weights.load_trunk(model, path)."
            )


def _explicit(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments that the caller passes."""
    return {key: value for key, value in signature.bind(*args, **kwargs).arguments.items() if value is not None}


def _resolve(
    signature: inspect.Signature,
    variants: Mapping[Any, Any] | None,
    key: str,
    recorded: Mapping[str, Any],
    explicit: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the value of each of the builder's arguments but those of `WEIGHTS_ARGUMENTS`."""
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}
    values = {**defaults, **recorded, **explicit}
    if variants is not None:
        check_choice(key, values[key], variants)
        row = variants[values[key]]
        fields = {name: getattr(row, name) for name in defaults if hasattr(row, name)}
        values = {**defaults, **fields, **recorded, **explicit}
    return {name: _as_tuples(values[name]) for name in defaults if name not in WEIGHTS_ARGUMENTS}


def _without(arguments: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in names}


def _class_names(names: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"class {index}" for index in range(num_classes))
    if len(names) != num_classes:
        raise ValueError(
            f"Expected {num_classes} class_names, got {len(names)}: {list(names)!r}. Leave num_classes out."
        )
    return tuple(names)


def _bind(backbone: Callable[..., keras.Model], arguments: Mapping[str, Any]) -> Callable[..., keras.Model]:
    """Returns `backbone` with the arguments it names, of which only `num_classes` is left."""
    names = set(inspect.signature(backbone).parameters) - {"num_classes"}
    return functools.partial(backbone, **{key: arguments[key] for key in names})


def _as_json(value: Any) -> Any:
    """Returns the value as a record stores it."""
    return json.loads(json.dumps(value))


def _as_tuples(value: Any) -> Any:
    """Returns a value of a record with tuples for its lists."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value
