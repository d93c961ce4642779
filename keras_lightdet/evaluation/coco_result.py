"""The result of COCO's evaluation."""

from dataclasses import dataclass, fields

from keras_lightdet.evaluation.curves import PrecisionRecall
from keras_lightdet.evaluation.results import ClassResult


@dataclass(frozen=True)
class CocoClass(ClassResult):
    """The result of one class; the figures are NaN if it has no objects.

    Attributes:
        name: Name of the class.
        category_id: The data set's own id of the class.
        AP: Mean over IoU thresholds 0.50 to 0.95, 0..1.
        AP50: AP at IoU 0.50.
        AR100: Recall with 100 detections per image, mean over the IoU thresholds.
        num_objects: Ground-truth objects, crowds excluded.
        num_crowds: Crowd regions, which are neither positive nor negative.
        num_detections: Detections of the class.
        curve: Precision against recall at IoU 0.50: pycocotools' 101 points, precision made monotonic.
    """

    name: str
    category_id: int
    AP: float
    AP50: float
    AR100: float
    num_objects: int
    num_crowds: int
    num_detections: int
    curve: PrecisionRecall


@dataclass(frozen=True)
class CocoResult:
    """COCO's twelve figures, 0..1, NaN where there are no objects, and one `CocoClass` per class in label order.

    AP is the mean over IoU thresholds 0.50 to 0.95; small, medium and large are objects with a labeled area below
    32 x 32, below 96 x 96 and above; AR1, AR10 and AR100 are recalls with that many detections per image and class.
    """

    AP: float
    AP50: float
    AP75: float
    APsmall: float
    APmedium: float
    APlarge: float
    AR1: float
    AR10: float
    AR100: float
    ARsmall: float
    ARmedium: float
    ARlarge: float
    classes: tuple[CocoClass, ...]

    def figures(self) -> dict[str, float]:
        """Returns the twelve figures by name, in COCO's order."""
        return {name: getattr(self, name) for name in COCO_FIGURES}


COCO_FIGURES = tuple(field.name for field in fields(CocoResult) if field.name != "classes")
