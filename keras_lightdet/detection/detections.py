"""What a detector answers for one image."""

from dataclasses import dataclass

import numpy as np

SHOWN_SCORE = 0.3  # people are not shown what a detector doubts more; scores of whole data sets take all


@dataclass(frozen=True)
class Detections:
    """The objects found in one image, best first, as NumPy arrays.

    Attributes:
        boxes: Float32 `[n, 4]`, `(x_min, y_min, x_max, y_max)` in pixels of the image that was given.
        scores: Float32 `[n]`, 0..1, falling.
        labels: Int32 `[n]`, indices into `class_names`.
        class_names: The names of the classes, in label order.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> "Detections":
        """Returns the detections whose score is at least `score`."""
        keep = self.scores >= score
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep], self.class_names)
