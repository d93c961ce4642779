"""Reads PyTorch's weights files: only tensors, never code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from keras_lightdet.errors import WeightsError
from keras_lightdet.weights import MAX_WEIGHTS_BYTES

TensorDict: TypeAlias = dict[str, np.ndarray]
StateDict: TypeAlias = Mapping[str, Any]  # PyTorch tensors or arrays by name

_SAVE = "Save one with torch.save(model.state_dict(), path)."


def read_tensors(source: str | Path | StateDict) -> tuple[str, TensorDict]:
    """Reads the tensors of a state dict.

    Args:
        source: A file of a state dict, written by `torch.save`, or the state dict, whose values may be arrays.

    Returns:
        The source's name for messages, and its arrays by tensor name. They may be views of little memory and large
        shapes: compare the shapes before any computation.

    Raises:
        WeightsError: If PyTorch is missing, or the file is missing, damaged or too large, or it contains anything but
            tensors by name.
    """
    if isinstance(source, Mapping):
        name, state = "the state dict", source
    else:
        name, state = str(source), _load(Path(source))
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"Expected {name} to contain a state dict, got {_describe(state)}. {_SAVE}")
    return name, {key: _to_array(name, key, value) for key, value in state.items()}


def _load(path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(f"Expected a PyTorch weights file at {path}, found none. Check the path.")
    size = path.stat().st_size
    if size > MAX_WEIGHTS_BYTES:
        raise WeightsError(f"Expected {path} to be at most {MAX_WEIGHTS_BYTES} bytes, got {size}. {_SAVE}")
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f'Expected PyTorch, to read {path}, found none. Run `pip install "keras-lightdet[convert]"`.'
        ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises errors of zip, pickle or tensor code
        reason = (str(error).splitlines() or [""])[0]
        raise WeightsError(
            f"Expected {path} to be a state dict of PyTorch, got {type(error).__name__}: {reason}. "
            f"Copy it again; a whole pickled model is never loaded. {_SAVE}"
        ) from error


def _to_array(name: str, key: Any, value: Any) -> np.ndarray:
    if not isinstance(key, str):
        raise WeightsError(f"Expected tensors by name in {name}, got the key {key!r}. {_SAVE}")
    try:
        array = np.asarray(value)
    except (TypeError, RuntimeError) as error:  # sparse, quantized, bfloat16, or on another device
        raise WeightsError(
            f"Expected {key!r} in {name} to be a dense tensor on the CPU of 16 to 64 bits, got one that NumPy cannot "
            f"read ({error}). Save model.float().cpu().state_dict()."
        ) from error
    if array.dtype.kind not in "fiu":
        raise WeightsError(f"Expected {key!r} in {name} to be a tensor of numbers, got {_describe(value)}. {_SAVE}")
    return array


def _describe(value: Any) -> str:
    return f"{type(value).__name__} {list(value)[:3]}" if isinstance(value, Mapping) else type(value).__name__
