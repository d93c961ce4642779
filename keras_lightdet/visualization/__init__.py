"""Images with boxes, masks and captions. Names are imported on first use, as `detection` imports `boxes` from here."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers: the names of _MODULES
    from keras_lightdet.visualization.batches import draw_detection_batch, draw_segmentation_batch
    from keras_lightdet.visualization.boxes import draw, draw_detection
    from keras_lightdet.visualization.masks import draw_segmentation
    from keras_lightdet.visualization.predictions import (
        draw_detection_grid,
        save_detection_grid,
        save_segmentation_grid,
    )

_MODULES = {
    "draw": "boxes",
    "draw_detection": "boxes",
    "draw_detection_batch": "batches",
    "draw_detection_grid": "predictions",
    "draw_segmentation": "masks",
    "draw_segmentation_batch": "batches",
    "save_detection_grid": "predictions",
    "save_segmentation_grid": "predictions",
}

__all__ = [
    "draw",
    "draw_detection",
    "draw_detection_batch",
    "draw_detection_grid",
    "draw_segmentation",
    "draw_segmentation_batch",
    "save_detection_grid",
    "save_segmentation_grid",
]


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
