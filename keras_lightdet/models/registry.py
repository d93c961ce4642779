"""All models by name: their published variants, and the right model for any weights file."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from keras_lightdet import backbones, models
from keras_lightdet.backbones.efficientnet import VARIANTS as EFFICIENTNETS
from keras_lightdet.classification.model import DEFAULT_SIZE, Classifier
from keras_lightdet.detection import DetectorModel
from keras_lightdet.errors import WeightsError
from keras_lightdet.segmentation import SegmentationModel
from keras_lightdet.types import Size
from keras_lightdet.weights import load_weights, read_record, resolve_weights

Task = Literal["detection", "segmentation", "classification"]

SEGMENTERS = ("BiSeNet", "DFANet")
MODELS: dict[str, Callable[..., DetectorModel | SegmentationModel]] = {
    name: getattr(models, name) for name in models.__all__
}
# By backbone with a classifier: the argument that selects one of the module's VARIANTS.
CLASSIFIERS = {
    "EfficientNet": "variant",
    "MobileNetV2": "width",
    "MobileSpineNet": "variant",
    "ResNet": "depth",
    "SNet": "variant",
    "ShuffleNetV2": "width",
    "SpineNet": "variant",
    "Xception39": "",
    "XceptionDFANet": "variant",
    "XceptionLight": "",
}


@dataclass(frozen=True)
class ModelVariant:
    """A published size of a model."""

    builder: str  # name of the function that builds it; a classifier's is in `keras_lightdet.backbones`
    variant: str  # name of the size; "" for a model of one size
    options: Mapping[str, Any]  # the builder's arguments that select it, such as `{"variant": "d0"}`
    input_size: Size  # in pixels; for classifiers that of ImageNet's evaluations
    task: Task


def list_variants(builder: str | None = None) -> list[ModelVariant]:
    """Lists the published sizes of detectors, segmenters and classifiers.

    Args:
        builder: Name of a builder, such as "EfficientDet" or "ResNet"; `None` for all.

    Raises:
        ValueError: If there is no such builder.
    """
    names = [*MODELS, *CLASSIFIERS]
    if builder is not None and builder not in names:
        raise ValueError(f"Expected builder to be one of {names}, got {builder!r}.")
    variants = [variant for name in MODELS for variant in _model_variants(name)]
    variants += [variant for name in CLASSIFIERS for variant in _classifier_variants(name)]
    return [variant for variant in variants if builder in (None, variant.builder)]


def load_model(weights: str | Path) -> DetectorModel | SegmentationModel | Classifier:
    """Builds the detector, segmenter or classifier that a weights file is of, and loads the weights.

    Args:
        weights: A `.weights.h5` with its record, or its `https` address with `#sha256=`, see `weights.resolve_weights`.

    Raises:
        WeightsError: If the file or its record is missing or damaged, or this package has no such model.
    """
    path = resolve_weights(weights)
    record = read_record(path)
    options = dict(record["architecture"])
    name = options.pop("builder", None)
    if name not in [*MODELS, *CLASSIFIERS]:
        raise WeightsError(
            f"Expected {path} to be weights of one of {[*MODELS, *CLASSIFIERS]}, got {name!r}. Import the file "
            f"that adds it by MODELS[{name!r}] = .., for commands with --import FILE, or build the model in Python."
        )
    try:
        if name in MODELS:
            return MODELS[name](weights=path)
        classifier: Classifier = getattr(backbones, name)(**options, num_classes=len(record["class_names"]))
    except WeightsError:
        raise
    except (TypeError, ValueError) as error:
        raise WeightsError(f"Expected {path} to have the record of a {name}, but: {error}. Copy it again.") from error
    classifier.class_names = tuple(record["class_names"])
    load_weights(classifier, path)
    return classifier


def _model_variants(name: str) -> list[ModelVariant]:
    default_shape = inspect.signature(MODELS[name]).parameters["input_shape"].default
    task: Task = "segmentation" if name in SEGMENTERS else "detection"
    return [
        ModelVariant(name, key, {"variant": key}, getattr(row, "input_shape", default_shape)[:2], task)
        for key, row in _variants(MODELS[name]).items()
    ]


def _classifier_variants(name: str) -> list[ModelVariant]:
    argument = CLASSIFIERS[name]
    if not argument:
        return [ModelVariant(name, "", {}, DEFAULT_SIZE, "classification")]
    sizes = {key: (row.resolution, row.resolution) for key, row in EFFICIENTNETS.items()}
    return [
        ModelVariant(name, str(value), {argument: value}, sizes.get(value, DEFAULT_SIZE), "classification")
        for value in _variants(getattr(backbones, name))
    ]


def _variants(build: Callable[..., Any]) -> Any:
    return importlib.import_module(build.__module__).VARIANTS
