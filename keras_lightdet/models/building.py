"""What the builders of detectors share: arguments from the caller, the weights' record or the paper, in this order."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import copy_layers, load_weights, read_record, resolve_weights


@dataclass(frozen=True)
class Choice:
    """A builder's arguments, all decided.

    Attributes:
        builder: Its name.
        arguments: By name, none of them `None` unless the paper leaves it so.
        class_names: In label order.
        weights: The file to load, if any.
        saved: The arguments in its record; empty without weights.
    """

    builder: str
    arguments: dict
    class_names: tuple[str, ...]
    weights: Path | None
    saved: dict

    @property
    def architecture(self) -> dict:
        """What the record of the detector's weights says: builder and arguments."""
        return {"builder": self.builder, **self.arguments}


def choose_arguments(
    given: Mapping,
    defaults: Mapping,
    *,
    builder: str,
    weights: str | Path | None,
    class_names: Sequence[str] | None,
    free: tuple[str, ...] = ("input_shape",),
    weights_backbone: str | Path | None = None,
) -> Choice:
    """Decides a builder's arguments: what is `None` comes from the record of `weights`, else from `defaults`.

    Args:
        given: The builder's arguments by name, "num_classes" among them.
        defaults: The paper's.
        builder: The builder's name.
        weights: As the builder takes it.
        class_names: Names in label order; "class 0", "class 1", .. where neither this nor `weights` tells.
        free: Arguments that may differ from those of the weights.
        weights_backbone: As the builder takes it; only checked.

    Raises:
        ValueError: If the names are not as many as the classes, or both kinds of weights are given.
        WeightsError: If the weights are damaged or contradict an argument.
    """
    if weights is not None and weights_backbone is not None:
        raise ValueError(
            f"Expected weights or weights_backbone, got {weights!r} and {weights_backbone!r}. Leave the second out: "
            "the weights of a detector have those of its backbone."
        )
    path = None if weights is None else resolve_weights(weights)
    record = {"architecture": {}, "class_names": None} if path is None else read_record(path)
    found = record["architecture"].get("builder", builder)
    if found != builder:
        raise WeightsError(
            f"Expected weights to be those of a {builder}, got {path} of {found}. Build a {found} for them; weights of "
            "a classifier go to weights_backbone=."
        )
    given = dict(given)
    if class_names is not None and given["num_classes"] is None:
        given["num_classes"] = len(class_names)
    chosen = fill_arguments(given, record["architecture"], free=free)
    chosen = {key: defaults.get(key) if value is None else value for key, value in chosen.items()}
    names = _names(class_names or record["class_names"], chosen["num_classes"])
    return Choice(builder, chosen, names, path, record["architecture"])


def load_backbone(backbone: keras.Model, build: Callable[..., keras.Model], weights: str | Path) -> keras.Model:
    """Gives a model's backbone the trunk of a classifier that was trained before it, and returns that classifier.

    Args:
        backbone: The features that the detector is built on.
        build: Builds the classifier of the same layers, given `num_classes`.
        weights: The classifier's `.weights.h5` with its record, or its address, see `weights.resolve_weights`.

    Raises:
        WeightsError: If the file or its record is missing or damaged, or is of another network than this backbone.
    """
    path = resolve_weights(weights)
    record = read_record(path)
    classifier = build(num_classes=max(len(record["class_names"]), 1))
    needed = json.loads(json.dumps(classifier.architecture))  # tuples are lists in a record
    found = record["architecture"]
    differing = [key for key in {**needed, **found} if needed.get(key) != found.get(key)]
    if needed["builder"] != found.get("builder"):
        raise WeightsError(
            f"Expected weights_backbone to be a classifier {needed['builder']}, got {path} of {found.get('builder')}. "
            f"Give the weights of keras_lightdet.backbones.{needed['builder']}(num_classes=..), written by "
            "keras_lightdet.weights.save_weights; those of a detector go to weights=."
        )
    if differing:
        wanted, got = ({key: options.get(key) for key in differing} for options in (needed, found))
        raise WeightsError(
            f"Expected weights_backbone to be a {needed['builder']} with {wanted}, got {path} with {got}. Build the "
            "detector with the options of the weights, or give weights with those of the detector."
        )
    classifier.class_names = tuple(record["class_names"])
    load_weights(classifier, path)
    copy_layers(classifier, backbone)
    return classifier


def check_variant(variant: str, variants: Sequence[str]) -> None:
    """Raises a `ValueError` that lists the variants for one that is none of them."""
    if variant not in variants:
        raise ValueError(f"Expected variant to be one of {sorted(variants)}, got {variant!r}.")


def check_input_shape(input_shape: Sequence[int], multiple: int = 1) -> None:
    """Raises a `ValueError` for a shape that is not `(height, width, 3)` with sides in multiples of `multiple`."""
    sides_fit = len(input_shape) == 3 and all(side and side > 0 and side % multiple == 0 for side in input_shape[:2])
    if not sides_fit or input_shape[2] != 3:
        raise ValueError(
            f"Expected input_shape (height, width, 3) with sides in multiples of {multiple}, "
            f"got {tuple(input_shape)!r}."
        )


def _names(names: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"class {index}" for index in range(num_classes))
    if len(names) != num_classes:
        raise ValueError(
            f"Expected {num_classes} class_names, got {len(names)}: {list(names)!r}. Leave num_classes out."
        )
    return tuple(names)


def fill_arguments(given: Mapping, saved: Mapping, free: tuple[str, ...] = ()) -> dict:
    """Fills the arguments of a builder that were left `None` from the record of weights.

    Args:
        given: The builder's arguments.
        saved: The record's `architecture`, empty without weights.
        free: Arguments that may differ from the saved ones.

    Raises:
        WeightsError: If a given argument contradicts the weights.
    """
    filled = {}
    for key, value in given.items():
        stands = saved.get(key)
        if value is not None and stands is not None and key not in free and _plain(value) != _plain(stands):
            raise WeightsError(
                f"Expected {key} to be left out or {stands!r}, as the weights say, got {value!r}. To start from these "
                "weights with another architecture or other classes, build without weights and call "
                "keras_lightdet.weights.load_trunk(model, path)."
            )
        filled[key] = value if value is not None else stands
    return filled


def _plain(value):
    return json.loads(json.dumps(value))
