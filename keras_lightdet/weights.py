"""Weights files: `X.weights.h5`, and beside it the record `X.weights.json` of its builder, arguments and classes."""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urldefrag

import keras
import numpy as np

from keras_lightdet.errors import WeightsError
from keras_lightdet.files import atomic_write, file_sha256, sync

SUFFIX = ".weights.h5"
RECORD_SUFFIX = ".weights.json"
MAX_RECORD_BYTES = 1_000_000
MAX_WEIGHTS_BYTES = 4 * 2**30
RENAMED_ARGUMENTS = {"drop_connect": "drop_path_rate", "stochastic_depth": "drop_path_rate"}  # in older records


class WeightsInfo(TypedDict, total=False):
    """Optional facts in a record.

    Attributes:
        dataset: What the weights were trained on.
        scores: Measured metrics by name.
        license: Of the weights, as an SPDX identifier.
        recipe: The command that trained them.
    """

    dataset: str
    scores: dict[str, float]
    license: str
    recipe: str


class WeightsRecord(WeightsInfo):
    """The record of a weights file.

    Attributes:
        sha256: Hex digest of the weights file.
        replaces: Digest of the file that the weights replaced, which is valid until the replacement is complete.
        architecture: "builder", the builder's name, and its arguments by name.
        class_names: Names in label order.
    """

    sha256: str
    replaces: str | None
    architecture: dict[str, Any]
    class_names: list[str]


def save_weights(
    model: keras.Model,
    path: str | Path,
    *,
    dataset: str | None = None,
    scores: Mapping[str, float] | None = None,
    license: str | None = None,
    recipe: str | None = None,
) -> Path:
    """Writes a model's weights and their record; an interruption at any moment leaves a usable pair.

    Args:
        model: A detector, segmenter or classifier with `architecture` and `class_names`.
        path: File ending in `.weights.h5`; `~` is expanded.
        dataset, scores, license, recipe: Facts for the record, see `WeightsInfo`.

    Returns:
        The path written.

    Raises:
        WeightsError: If the path has another ending or a weight is not finite.
    """
    path = _weights_path(path)
    non_finite = [
        variable.path for variable in model.weights if not np.all(np.isfinite(keras.ops.convert_to_numpy(variable)))
    ]
    if non_finite:
        raise WeightsError(
            f"Expected finite weights to save in {path}, got NaN or infinity in {non_finite[0]} and "
            f"{len(non_finite) - 1} more. Restore an earlier checkpoint and lower the learning rate."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name.removesuffix(SUFFIX)}.{os.getpid()}{SUFFIX}")
    with _without_optimizer(model):
        model.save_weights(temporary)
    sync(temporary)
    numbers = None if scores is None else {key: float(value) for key, value in scores.items()}
    info = {"dataset": dataset, "scores": numbers, "license": license, "recipe": recipe}
    record = {
        "sha256": file_sha256(temporary),
        "replaces": file_sha256(path) if path.exists() else None,
        "architecture": dict(model.architecture),
        "class_names": list(model.class_names),
        **{key: value for key, value in info.items() if value is not None},
    }
    atomic_write(record_path(path), json.dumps(record, indent=1))
    os.replace(temporary, path)
    sync(path.parent)
    return path


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Loads weights whose record has the model's classes.

    Raises:
        WeightsError: If the file or its record is missing, damaged, of another model, or of other classes.
    """
    path = _weights_path(path)
    record = read_record(path)
    if list(record["class_names"]) != list(model.class_names):
        raise WeightsError(
            f"Expected weights for the classes {list(model.class_names)}, got {path} for {record['class_names']}. "
            "To keep all but the class predictions, build the model without weights and call "
            "keras_lightdet.weights.load_trunk(model, path)."
        )
    _load(model, path, skip_mismatch=False)


def load_trunk(model: keras.Model, path: str | Path) -> None:
    """Loads all weights but those of the class predictions, to fine-tune on other classes.

    Raises:
        WeightsError: If the file or its record is missing, damaged or of another model.
    """
    path = _weights_path(path)
    read_record(path)
    class_weights = [(layer, layer.get_weights()) for layer in model.class_layers()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of the class layers, which are skipped on purpose
        _load(model, path, skip_mismatch=True)
    for layer, values in class_weights:
        layer.set_weights(values)


def copy_layers(
    source: keras.Model,
    target: keras.Model,
    *,
    source_name: Callable[[str], str] = str,
    cure: str = "Build both with the same options.",
) -> None:
    """Copies to every layer of `target` the weights of the layer of the same name in `source`.

    Args:
        source: A functional model, such as a classifier; layers that `target` lacks are left out.
        target: A functional model, such as a detector's backbone, of the same builder and options.
        source_name: Returns the name in `source` of a layer of `target`, if the names differ.
        cure: End of the error's message.

    Raises:
        WeightsError: If a layer is missing or has other shapes. Nothing is copied then.
    """
    sources = {layer.name: layer.get_weights() for layer in source.layers}
    targets = [layer for layer in target.layers if layer.weights]
    set_weights([(layer, sources.get(source_name(layer.name))) for layer in targets], source.name, cure)


def set_weights(values: Sequence[tuple[keras.Layer, Sequence[np.ndarray] | None]], source_name: str, cure: str) -> None:
    """Sets the weights of layers to values of a source, `None` where it has no such layer, after a check of all shapes.

    Raises:
        WeightsError: If a layer is missing or has other shapes. No weights change then.
    """
    for layer, arrays in values:
        expected = [tuple(weight.shape) for weight in layer.weights]
        actual = "no such layer" if arrays is None else [array.shape for array in arrays]
        if actual != expected:
            raise WeightsError(
                f"Expected {source_name} to have the layer {layer.name!r} with weights {expected}, got {actual}. {cure}"
            )
    for layer, arrays in values:
        layer.set_weights(arrays)


def read_record(path: str | Path) -> WeightsRecord:
    """Reads the record of a weights file and checks the file against it.

    Raises:
        WeightsError: If the file or its record is missing, too large, damaged, or not of this package.
    """
    path = _weights_path(path)
    record_file = record_path(path)
    if not path.is_file():
        raise WeightsError(f"Expected a weights file at {path}, found none. Check the path.")
    if not record_file.is_file():
        raise WeightsError(
            f"Expected the record {record_file} beside {path.name}, found none. Copy it too, or write both with "
            "keras_lightdet.weights.save_weights."
        )
    for file, limit in ((record_file, MAX_RECORD_BYTES), (path, MAX_WEIGHTS_BYTES)):
        if file.stat().st_size > limit:
            raise WeightsError(
                f"Expected {file} to be at most {limit} bytes, got {file.stat().st_size}. "
                "It is not a file of this package."
            )
    record = _parse_record(record_file)
    digest = file_sha256(path)
    if digest not in (record["sha256"], record["replaces"]):
        raise WeightsError(
            f"Expected {path} to have the sha256 {record['sha256']} of its record, got {digest}: it is damaged or "
            "another file. Copy it again."
        )
    return record


def _parse_record(path: Path) -> WeightsRecord:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record.setdefault("replaces", None)
        arguments, names = record["architecture"].items(), record["class_names"]
        record["architecture"] = {RENAMED_ARGUMENTS.get(key, key): value for key, value in arguments}
        strings = [record["sha256"], record["architecture"].get("builder", ""), *names]
        valid = isinstance(names, list) and names and all(isinstance(value, str) for value in strings)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"Expected {path} to be a record of weights, got {error!r}. Copy it again.") from error
    if not valid:
        raise WeightsError(f"Expected {path} to be a record of weights, got other contents. Copy it again.")
    return record


def resolve_weights(weights: str | Path) -> Path:
    """Returns the local path of weights; those at an address are downloaded once, to the Keras cache.

    Args:
        weights: A path, or `https://...weights.h5#sha256=<64 hex digits>`. The record has the same address but for the
            ending `.weights.json`.

    Raises:
        WeightsError: If an address has no sha256, cannot be downloaded, or serves a file with another sha256.
    """
    address, fragment = urldefrag(str(weights))
    if "://" not in address:
        return Path(weights).expanduser()
    if not address.startswith("https://") or not fragment.startswith("sha256="):
        raise WeightsError(
            f"Expected an address https://...{SUFFIX}#sha256=<64 hex digits>, got {weights}. "
            "Add the sha256 of the file."
        )
    digest = fragment.removeprefix("sha256=")
    name = f"{digest[:16]}-{Path(address).name}"
    try:
        path = keras.utils.get_file(
            name, address, cache_subdir="keras_lightdet", file_hash=digest, hash_algorithm="sha256"
        )
        keras.utils.get_file(
            name.replace(SUFFIX, RECORD_SUFFIX),
            address.replace(SUFFIX, RECORD_SUFFIX),
            cache_subdir="keras_lightdet",
        )
    except Exception as error:  # get_file raises bare Exception for a failed download
        raise WeightsError(
            f"Expected {address} to serve a file with sha256 {digest}, but: {error}. Check the address and the sha256."
        ) from error
    return Path(path)


def record_path(path: Path) -> Path:
    """Returns the path of the record of a weights file."""
    return path.with_name(path.name.removesuffix(SUFFIX) + RECORD_SUFFIX)


def _load(model: keras.Model, path: Path, *, skip_mismatch: bool) -> None:
    try:
        with _without_optimizer(model):
            model.load_weights(path, skip_mismatch=skip_mismatch)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"Expected {path} to fit {model.name}, but: {error}. Build the model by its record."
        ) from error


@contextmanager
def _without_optimizer(model: keras.Model) -> Iterator[None]:
    """Detaches the optimizer, whose variables Keras would save too: four times the size with Adam and an EMA."""
    optimizer, model.optimizer = getattr(model, "optimizer", None), None
    try:
        yield
    finally:
        model.optimizer = optimizer


def _weights_path(path: str | Path) -> Path:
    """Expands `~` and checks the ending."""
    path = Path(path).expanduser()
    if not path.name.endswith(SUFFIX):
        raise WeightsError(
            f"Expected a file ending in {SUFFIX}, got {path}. "
            "Only weights are loaded, never whole models or pickles: give a file that save_weights wrote."
        )
    return path
