"""Small, fast object detectors and segmenters in Keras, trained on your own images and exported to TFLite.

All public names are imported on first use: `import keras_lightdet` alone imports neither TensorFlow nor Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers: the names of _MODULES and _SUBMODULES
    from keras_lightdet import (  # noqa: F401
        analysis,
        backbones,
        data,
        deploy,
        errors,
        evaluation,
        foreign_weights,
        training,
        visualization,
        weights,
    )
    from keras_lightdet.data import (  # noqa: F401
        AugmentSpec,
        SegmentationAugmentSpec,
        classification_eval_batches,
        classification_train_batches,
        eval_batches,
        load_classification,
        load_data,
        load_segmentation,
        segmentation_train_batches,
        train_batches,
    )
    from keras_lightdet.deploy import TFLiteDetector, TFLiteSegmenter, export_detection, export_segmentation  # noqa: F401
    from keras_lightdet.detection import Detections, DetectorModel, OneStageDetector, TwoStageDetector  # noqa: F401
    from keras_lightdet.errors import (  # noqa: F401
        CheckpointError,
        DataError,
        ExportError,
        LightdetError,
        NonFiniteLossError,
        WeightsError,
    )
    from keras_lightdet.evaluation import (  # noqa: F401
        evaluate_segmentation,
        save_detection_grid,
        save_segmentation_grid,
    )
    from keras_lightdet.models import (  # noqa: F401
        BiSeNet,
        DFANet,
        EfficientDet,
        FasterRCNN,
        LightHeadRCNN,
        RetinaNet,
        RSANet,
        ThunderNet,
    )
    from keras_lightdet.segmentation import SegmentationModel  # noqa: F401
    from keras_lightdet.visualization.boxes import draw  # noqa: F401
    from keras_lightdet.visualization.masks import draw_segmentation  # noqa: F401

__version__ = "0.1.0"

_SUBMODULES = (
    "analysis",
    "backbones",
    "data",
    "deploy",
    "errors",
    "evaluation",
    "foreign_weights",
    "training",
    "visualization",
    "weights",
)
_MODULES = {
    "data": (
        "AugmentSpec",
        "SegmentationAugmentSpec",
        "classification_eval_batches",
        "classification_train_batches",
        "eval_batches",
        "load_classification",
        "load_data",
        "load_segmentation",
        "segmentation_train_batches",
        "train_batches",
    ),
    "deploy": ("TFLiteDetector", "TFLiteSegmenter", "export_detection", "export_segmentation"),
    "detection": ("DetectorModel", "Detections", "OneStageDetector", "TwoStageDetector"),
    "errors": (
        "CheckpointError",
        "DataError",
        "ExportError",
        "LightdetError",
        "NonFiniteLossError",
        "WeightsError",
    ),
    "evaluation": ("evaluate_segmentation", "save_detection_grid", "save_segmentation_grid"),
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
    "segmentation": ("SegmentationModel",),
    "visualization.boxes": ("draw",),
    "visualization.masks": ("draw_segmentation",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted([*_SUBMODULES, *_HOMES])]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Returns the public names."""
    return __all__
