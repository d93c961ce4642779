"""Ground truth as all tasks see it: the label of ignored pixels, and the labeled boxes of an image."""

from typing import Protocol

import numpy as np

IGNORE = 255  # pixels with this label are excluded from the loss and from evaluation


class LabeledBoxes(Protocol):
    """The ground-truth boxes of one image, such as an `ImageRecord`.

    Attributes:
        boxes: Float32 `[n, 4]`, `(x_min, y_min, x_max, y_max)` in pixels of the image.
        labels: Int32 `[n]`, class indices.
        ignore: Bool `[n]`, true for boxes that are neither positive nor negative.
    """

    @property
    def boxes(self) -> np.ndarray: ...  # noqa: D102

    @property
    def labels(self) -> np.ndarray: ...  # noqa: D102

    @property
    def ignore(self) -> np.ndarray: ...  # noqa: D102
