"""Detections: the objects a detector finds in one image."""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, overload

import numpy as np

from keras_lightdet.visualization.boxes import draw_detection

_NOTEBOOK_SIDE = 800  # pixels; larger images are reduced in a notebook

DetectionDict = TypedDict("DetectionDict", {"class": str, "label": int, "score": float, "box": list[float]})


@dataclass(frozen=True)
class Detection:
    """One object.

    Attributes:
        class_name: Name of the class; "class 3" where the names are unknown.
        label: Index of the class.
        score: 0..1.
        box: `(x_min, y_min, x_max, y_max)` in pixels of the image.
    """

    class_name: str
    label: int
    score: float
    box: tuple[float, float, float, float]

    def to_dict(self) -> DetectionDict:
        """Returns plain Python values, ready for `json.dumps`."""
        return {"class": self.class_name, "label": self.label, "score": self.score, "box": list(self.box)}


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects found in one image, best first, as NumPy arrays.

    `detections[0]` is one `Detection`, `detections[:5]` and `detections[mask]` are `Detections`; iteration gives one
    `Detection` after the other. A notebook shows the image with its boxes, and a table.

    Attributes:
        boxes: Float32 `[n, 4]`, `(x_min, y_min, x_max, y_max)` in pixels of the image.
        scores: Float32 `[n]`, 0..1, descending.
        labels: Int32 `[n]`, indices into `class_names`.
        class_names: Names of the classes in label order.
        image: Pixels of the image, uint8 `[height, width, 3]` RGB, if kept; not compared.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] = ()
    image: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def empty(cls, class_names: Sequence[str] = ()) -> "Detections":
        """Returns no detections."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), tuple(class_names))

    def above(self, score: float) -> "Detections":
        """Returns the detections with a score of at least `score`."""
        return self[self.scores >= score]

    def to_dict(self) -> list[DetectionDict]:
        """Returns one dict of plain Python values per detection, ready for `json.dumps`."""
        return [detection.to_dict() for detection in self]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> Detection: ...

    @overload
    def __getitem__(self, key: slice | Sequence[int] | Sequence[bool] | np.ndarray) -> "Detections": ...

    def __getitem__(self, key: Any) -> "Detection | Detections":
        if isinstance(key, int | np.integer):
            x_min, y_min, x_max, y_max = self.boxes[key].tolist()
            label = int(self.labels[key])
            return Detection(self._class_name(label), label, float(self.scores[key]), (x_min, y_min, x_max, y_max))
        rows = key if isinstance(key, slice) else np.asarray(key)
        return Detections(self.boxes[rows], self.scores[rows], self.labels[rows], self.class_names, self.image)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return self.class_names == other.class_names and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("boxes", "scores", "labels")
        )

    def _repr_html_(self) -> str:
        """Returns the image with its boxes, if kept, and a table of the detections."""
        rows = "".join(
            f"<tr><td>{html.escape(detection.class_name)}</td><td>{detection.score:.2f}</td>"
            f"<td>{', '.join(f'{side:.1f}' for side in detection.box)}</td></tr>"
            for detection in self
        )
        header = "<tr><th>class</th><th>score</th><th>x_min, y_min, x_max, y_max</th></tr>"
        return f"{self._image_html()}<table>{header}{rows}</table>"

    def _image_html(self) -> str:
        if self.image is None:
            return ""
        labels = range(max(self.labels, default=-1) + 1)
        canvas = draw_detection(self.image, self, [self._class_name(label) for label in labels])
        canvas.thumbnail((_NOTEBOOK_SIDE, _NOTEBOOK_SIDE))
        png = io.BytesIO()
        canvas.save(png, "PNG")
        return f'<img src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}">'

    def _class_name(self, label: int) -> str:
        return self.class_names[label] if self.class_names else f"class {label}"
