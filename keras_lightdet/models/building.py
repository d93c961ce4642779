"""What the builders of detectors share: arguments from the caller, the weights' record or the paper, in this order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_lightdet.weights import fill_arguments, read_record, resolve_weights


@dataclass(frozen=True)
class Choice:
    """A builder's arguments, all decided.

    Attributes:
        arguments: By name, none of them `None` unless the paper leaves it so.
        class_names: In label order.
        weights: The file to load, if any.
        saved: The arguments in its record; empty without weights.
    """

    arguments: dict
    class_names: tuple[str, ...]
    weights: Path | None
    saved: dict


def choose_arguments(
    given: Mapping,
    defaults: Mapping,
    *,
    weights: str | Path | None,
    class_names: Sequence[str] | None,
    free: tuple[str, ...] = ("input_shape",),
) -> Choice:
    """Decides a builder's arguments: what is `None` comes from the record of `weights`, else from `defaults`.

    Args:
        given: The builder's arguments by name, "num_classes" among them.
        defaults: The paper's.
        weights: As the builder takes it.
        class_names: Names in label order; "class 0", "class 1", .. where neither this nor `weights` tells.
        free: Arguments that may differ from those of the weights.

    Raises:
        ValueError: If the names are not as many as the classes.
        WeightsError: If the weights are damaged or contradict an argument.
    """
    path = None if weights is None else resolve_weights(weights)
    record = {"architecture": {}, "class_names": None} if path is None else read_record(path)
    given = dict(given)
    if class_names is not None and given["num_classes"] is None:
        given["num_classes"] = len(class_names)
    chosen = fill_arguments(given, record["architecture"], free=free)
    chosen = {key: defaults.get(key) if value is None else value for key, value in chosen.items()}
    names = _names(class_names or record["class_names"], chosen["num_classes"])
    return Choice(chosen, names, path, record["architecture"])


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
