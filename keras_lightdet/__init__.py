"""Small, fast object detectors and segmenters in Keras, trained on your own images and exported to TFLite.

Public names are imported on first use: `import keras_lightdet` alone imports neither TensorFlow nor Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # for editors and type checkers: the names of _SUBMODULES, _NAMES and _SHORT_NAMES
    # ruff: noqa: F401
    from keras_lightdet import (
        analysis,
        backbones,
        boxes,
        data,
        deploy,
        errors,
        evaluation,
        foreign_weights,
        images,
        layers,
        models,
        runs,
        training,
        visualization,
        weights,
    )
    from keras_lightdet.classification import Classification, Classifier
    from keras_lightdet.data import (
        AugmentSpec,
        SegmentationAugmentSpec,
        classification_eval_batches,
        classification_train_batches,
        detection_eval_batches,
        detection_train_batches,
        load_classification,
        load_detection,
        load_segmentation,
        segmentation_train_batches,
    )
    from keras_lightdet.data import detection_eval_batches as eval_batches
    from keras_lightdet.data import detection_train_batches as train_batches
    from keras_lightdet.data import load_detection as load_data
    from keras_lightdet.deploy import TFLiteDetector, TFLiteSegmenter, export_detection, export_segmentation
    from keras_lightdet.deploy import export_detection as export
    from keras_lightdet.detection import Detection, Detections, DetectorModel, OneStageDetector, TwoStageDetector
    from keras_lightdet.errors import (
        CheckpointError,
        DataError,
        ExportError,
        LightdetError,
        NonFiniteLossError,
        WeightsError,
    )
    from keras_lightdet.evaluation import evaluate_classification, evaluate_detection, evaluate_segmentation
    from keras_lightdet.evaluation import evaluate_detection as evaluate
    from keras_lightdet.models import (
        BiSeNet,
        DFANet,
        EfficientDet,
        FasterRCNN,
        LightHeadRCNN,
        RetinaNet,
        RSANet,
        ThunderNet,
    )
    from keras_lightdet.models.registry import list_variants, load_model
    from keras_lightdet.segmentation import SegmentationModel
    from keras_lightdet.visualization import (
        draw_detection,
        draw_segmentation,
        save_detection_grid,
        save_segmentation_grid,
    )
    from keras_lightdet.visualization import draw_detection as draw
    from keras_lightdet.weights import load_weights, save_weights

_SUBMODULES = (
    "analysis",
    "backbones",
    "boxes",
    "data",
    "deploy",
    "errors",
    "evaluation",
    "foreign_weights",
    "images",
    "layers",
    "models",
    "runs",
    "training",
    "visualization",
    "weights",
)
_NAMES = {
    "classification": ("Classification", "Classifier"),
    "data": (
        "AugmentSpec",
        "SegmentationAugmentSpec",
        "classification_eval_batches",
        "classification_train_batches",
        "detection_eval_batches",
        "detection_train_batches",
        "load_classification",
        "load_detection",
        "load_segmentation",
        "segmentation_train_batches",
    ),
    "deploy": ("TFLiteDetector", "TFLiteSegmenter", "export_detection", "export_segmentation"),
    "detection": ("Detection", "Detections", "DetectorModel", "OneStageDetector", "TwoStageDetector"),
    "errors": (
        "CheckpointError",
        "DataError",
        "ExportError",
        "LightdetError",
        "NonFiniteLossError",
        "WeightsError",
    ),
    "evaluation": ("evaluate_classification", "evaluate_detection", "evaluate_segmentation"),
    "models": (
        "BiSeNet",
        "DFANet",
        "EfficientDet",
        "FasterRCNN",
        "LightHeadRCNN",
        "RSANet",
        "RetinaNet",
        "ThunderNet",
    ),
    "models.registry": ("list_variants", "load_model"),
    "segmentation": ("SegmentationModel",),
    "visualization": ("draw_detection", "draw_segmentation", "save_detection_grid", "save_segmentation_grid"),
    "weights": ("load_weights", "save_weights"),
}
_SHORT_NAMES = {
    "draw": "draw_detection",
    "eval_batches": "detection_eval_batches",
    "evaluate": "evaluate_detection",
    "export": "export_detection",
    "load_data": "load_detection",
    "train_batches": "detection_train_batches",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(["__version__", *_SUBMODULES, *_MODULES, *_SHORT_NAMES])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    full_name = _SHORT_NAMES.get(name, name)
    if full_name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[full_name]}"), full_name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Returns the public names."""
    return __all__
