"""The settings of augmentation: of images with boxes, and of images with a label for each pixel."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AugmentSpec:
    """Augmentation of images with boxes; the defaults are for training from scratch on little data.

    Attributes:
        flip: Probability of a horizontal flip.
        zoom_out: Probability of placing the image on a larger gray canvas.
        zoom_out_max: Largest canvas, relative to the image's sides.
        crop: Probability of an SSD crop (Liu et al. 2016, sec. 2.2).
        crop_min_ious: The crop has at least one of these IoUs, drawn at random, with some box.
        crop_min_side: Smallest crop, relative to the image's sides.
        jitter: Probability of scale jitter.
        jitter_scale: Range of the scale: below 1 the image is padded, above 1 cropped.
        jitter_aspect: Largest change of the aspect ratio, in both directions.
        mosaic: Probability of a mosaic of four images (Bochkovskiy et al. 2020, sec. 3.3).
        mosaic_center: Range of the mosaic's center, relative to the sides of the network input.
        min_visible: A box that keeps a smaller share of its area becomes `ignore`.
        color: Probability of the four color changes below, applied together.
        brightness: Largest shift, relative to 255.
        contrast: Largest change of the factor from 1.
        saturation: Largest change of the factor from 1.
        hue: Largest rotation, relative to the full color circle.
        mosaic_until_step: First step without mosaics; None keeps them to the end.
        until_step: First step without any augmentation; None keeps it to the end.
    """

    flip: float = 0.5
    zoom_out: float = 0.15
    zoom_out_max: float = 2.0
    crop: float = 0.3
    crop_min_ious: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    crop_min_side: float = 0.3
    jitter: float = 0.35
    jitter_scale: tuple[float, float] = (0.7, 1.6)
    jitter_aspect: float = 1.25
    mosaic: float = 0.3
    mosaic_center: tuple[float, float] = (0.3, 0.7)
    min_visible: float = 0.3
    color: float = 0.5
    brightness: float = 0.1
    contrast: float = 0.25
    saturation: float = 0.3
    hue: float = 0.03
    mosaic_until_step: int | None = None
    until_step: int | None = None

    def __post_init__(self) -> None:
        _check_probabilities(self, "flip", "zoom_out", "crop", "jitter", "mosaic", "min_visible", "color")
        if self.zoom_out + self.crop + self.jitter > 1:
            raise ValueError(
                "Expected zoom_out + crop + jitter to be at most 1, as at most one of them is applied, "
                f"got {self.zoom_out} + {self.crop} + {self.jitter}."
            )


@dataclass(frozen=True)
class SegmentationAugmentSpec:
    """Augmentation of images with a label for each pixel; see `AugmentSpec` for the flip and the color changes.

    Attributes:
        scales: Range of the scale, drawn log-uniformly: below 1 the image is padded, above 1 cropped. The default is
            BiSeNet's (Yu et al. 2018, section 4.1).
    """

    flip: float = 0.5
    scales: tuple[float, float] = (0.75, 2.0)
    color: float = 0.5
    brightness: float = 0.1
    contrast: float = 0.25
    saturation: float = 0.3
    hue: float = 0.03

    def __post_init__(self) -> None:
        _check_probabilities(self, "flip", "color")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise ValueError(f"Expected scales to be a rising pair above 0, got {self.scales!r}.")


def _check_probabilities(spec: AugmentSpec | SegmentationAugmentSpec, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(spec, name) <= 1:
            raise ValueError(f"Expected {name} to be in 0..1, got {getattr(spec, name)!r}.")
