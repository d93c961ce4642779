"""Weight files: `X.weights.h5` with the record `X.weights.json` beside it, which says what the weights are for."""

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urldefrag

import keras
import numpy as np

from keras_lightdet.errors import WeightsError
from keras_lightdet.files import atomic_write, file_sha256, sync

SUFFIX = ".weights.h5"
RECORD_SUFFIX = ".weights.json"
MAX_RECORD_BYTES = 1_000_000
MAX_WEIGHTS_BYTES = 4 * 2**30
# Arguments of builders that were renamed, by the names in older records.
RENAMED_ARGUMENTS = {"drop_connect": "drop_path_rate", "stochastic_depth": "drop_path_rate"}


def save_weights(model: keras.Model, path: str | Path) -> Path:
    """Writes a detector's weights and their record, so that a kill at any moment leaves a usable pair.

    Args:
        model: A detector with `architecture` and `class_names`.
        path: File ending in `.weights.h5`.

    Returns:
        The path written.

    Raises:
        WeightsError: If the path has another ending or a weight is not finite.
    """
    path = _check_suffix(path)
    broken = [
        variable.path for variable in model.weights if not np.all(np.isfinite(keras.ops.convert_to_numpy(variable)))
    ]
    if broken:
        raise WeightsError(
            f"Expected finite weights to save in {path}, got NaN or infinity in {broken[0]} and {len(broken) - 1} more."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name.removesuffix(SUFFIX)}.{os.getpid()}{SUFFIX}")
    with _without_optimizer(model):
        model.save_weights(aside)
    sync(aside)
    record = {
        "sha256": file_sha256(aside),
        # Until the rename below is done the file of before stands under this name.
        "replaces": file_sha256(path) if path.exists() else None,
        "architecture": dict(model.architecture),
        "class_names": list(model.class_names),
    }
    atomic_write(record_path(path), json.dumps(record, indent=1))
    os.replace(aside, path)
    sync(path.parent)
    return path


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Loads weights whose record fits the detector.

    Raises:
        WeightsError: If the file or its record is missing, damaged, foreign, or made for other classes.
    """
    path = Path(path)
    record = read_record(path)
    if list(record["class_names"]) != list(model.class_names):
        raise WeightsError(
            f"Expected weights for the classes {list(model.class_names)}, got {path} for {record['class_names']}. "
            "To keep all but the class predictions, build the model without weights and call "
            "keras_lightdet.weights.load_trunk(model, path)."
        )
    _load(model, path, skip_mismatch=False)


def load_trunk(model: keras.Model, path: str | Path) -> None:
    """Loads all weights but those of the class predictions: the start of training on other classes.

    Raises:
        WeightsError: As `load_weights`, but for the classes.
    """
    path = Path(path)
    read_record(path)
    own = [(layer, layer.get_weights()) for layer in model.class_layers()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of each class layer, which is what is meant
        _load(model, path, skip_mismatch=True)
    for layer, values in own:
        layer.set_weights(values)


def copy_layers(source: keras.Model, target: keras.Model) -> None:
    """Gives every layer of `target` the weights of the layer of its name in `source`: those of a classifier's trunk
    to the backbone of a detector.

    Args:
        source: A functional model; layers that `target` lacks, such as its head, are left out.
        target: A functional model, whose names are the same; both of the same builder and options.

    Raises:
        WeightsError: If a layer is missing or has other shapes. Nothing is copied then.
    """
    named = {layer.name: layer for layer in source.layers}
    copies = []
    for layer in target.layers:
        if not layer.weights:
            continue
        shapes = [tuple(weight.shape) for weight in layer.weights]
        given = [tuple(weight.shape) for weight in named[layer.name].weights] if layer.name in named else None
        if given != shapes:
            raise WeightsError(
                f"Expected {source.name} to have the layer {layer.name!r} with weights {shapes}, got "
                f"{'no such layer' if given is None else given}. Build both with the same options."
            )
        copies.append((layer, named[layer.name].get_weights()))
    for layer, values in copies:
        layer.set_weights(values)


def read_record(path: str | Path) -> dict:
    """Reads the record beside a weights file, and checks the file against it.

    Returns:
        `{"sha256", "replaces", "architecture", "class_names"}`.

    Raises:
        WeightsError: If either file is missing or damaged, or is not one of ours.
    """
    path = _check_suffix(path)
    beside = record_path(path)
    if not path.is_file():
        raise WeightsError(f"Expected a weights file at {path}, found none. Check the path.")
    if not beside.is_file():
        raise WeightsError(
            f"Expected the record {beside} beside {path.name}, found none. Copy it too, or write both with "
            "keras_lightdet.weights.save_weights."
        )
    if beside.stat().st_size > MAX_RECORD_BYTES:
        raise WeightsError(
            f"Expected {beside} to be at most {MAX_RECORD_BYTES} bytes, got {beside.stat().st_size}. "
            "It is no record of weights."
        )
    try:
        record = json.loads(beside.read_text(encoding="utf-8"))
        fits = (
            isinstance(record["sha256"], str)
            and isinstance(record["architecture"], dict)
            and all(isinstance(name, str) for name in record["class_names"])
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"Expected {beside} to be the record of {path.name}, could not read it ({error}). Copy it again."
        ) from error
    if not fits:
        raise WeightsError(f"Expected {beside} to be the record of {path.name}, got other contents. Copy it again.")
    size = path.stat().st_size
    if size > MAX_WEIGHTS_BYTES:
        raise WeightsError(
            f"Expected {path} to be at most {MAX_WEIGHTS_BYTES} bytes, got {size}. "
            "It is no weights file of this package."
        )
    digest = file_sha256(path)
    if digest not in (record["sha256"], record.get("replaces")):
        raise WeightsError(
            f"Expected {path} to have the sha256 {record['sha256']} of its record, got {digest}: it is damaged or "
            "another file. Copy it again."
        )
    architecture = {RENAMED_ARGUMENTS.get(key, key): value for key, value in record["architecture"].items()}
    return {**record, "architecture": architecture}


def resolve_weights(weights: str | Path) -> Path:
    """Returns the local path of `weights`: a path, or `https://...weights.h5#sha256=<hex>`, which is fetched once
    into Keras' cache.

    Raises:
        WeightsError: If an address carries no sha256, or what it serves has another.
    """
    address, fragment = urldefrag(str(weights))
    if "://" not in address:
        return Path(weights)
    if not address.startswith("https://") or not fragment.startswith("sha256="):
        raise WeightsError(
            f"Expected an address https://...{SUFFIX}#sha256=<64 hex digits>, got {weights}. Add the sum."
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
            f"Expected {address} to serve a file with sha256 {digest}, but: {error}. Check address and sum."
        ) from error
    return Path(path)


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


def record_path(path: Path) -> Path:
    """Returns where the record of a weights file stands."""
    return path.with_name(path.name.removesuffix(SUFFIX) + RECORD_SUFFIX)


def _load(model: keras.Model, path: Path, *, skip_mismatch: bool) -> None:
    try:
        with _without_optimizer(model):
            model.load_weights(path, skip_mismatch=skip_mismatch)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"Expected {path} to fit {model.name}, but: {error}") from error


@contextmanager
def _without_optimizer(model: keras.Model) -> Iterator[None]:
    """Keras writes the optimizer's variables with the weights, four times the size under Adam and averaging."""
    optimizer, model.optimizer = getattr(model, "optimizer", None), None
    try:
        yield
    finally:
        model.optimizer = optimizer


def _check_suffix(path: str | Path) -> Path:
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise WeightsError(
            f"Expected a file ending in {SUFFIX}, got {path}. "
            "Only weights are loaded here, never whole models or pickles."
        )
    return path


def _plain(value):
    return json.loads(json.dumps(value))
