"""What COCO's evaluation answers."""

from dataclasses import dataclass

from keras_lightdet.evaluation.curves import PrecisionRecall

COCO_FIGURES = (
    "AP",
    "AP50",
    "AP75",
    "APsmall",
    "APmedium",
    "APlarge",
    "AR1",
    "AR10",
    "AR100",
    "ARsmall",
    "ARmedium",
    "ARlarge",
)


@dataclass(frozen=True)
class CocoClass:
    """The score of one class; the figures are NaN where there was no object to find.

    Attributes:
        name: The class.
        category_id: The data set's own id of it.
        AP: Mean over IoU thresholds 0.50 to 0.95, 0..1.
        AP50: At IoU 0.50.
        AR100: Recall with 100 detections per image, mean over the IoU thresholds.
        truths: Objects to find, crowds not counted.
        crowds: Regions that count neither way.
        detections: What the detector answered for the class.
        curve: Precision against recall at IoU 0.50: pycocotools' 101 points, its falling envelope.
    """

    name: str
    category_id: int
    AP: float
    AP50: float
    AR100: float
    truths: int
    crowds: int
    detections: int
    curve: PrecisionRecall


@dataclass(frozen=True)
class CocoResult:
    """COCO's twelve figures, 0..1, NaN where there was nothing to find, and `classes`, one per class.

    AP is the mean over IoU 0.50 to 0.95; small, medium and large are objects below 32 x 32, below 96 x 96 and
    above, in labeled area; AR1, AR10 and AR100 are recalls with that many detections per image and class.
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

    def rows(self) -> list[dict]:
        """Returns the per-class table as data, in label order."""
        return [
            {
                "class": c.name,
                "AP": c.AP,
                "AP50": c.AP50,
                "AR100": c.AR100,
                "objects": c.truths,
                "crowds": c.crowds,
                "detections": c.detections,
            }
            for c in self.classes
        ]
