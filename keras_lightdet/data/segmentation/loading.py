"""Images with a label for every pixel: SegNet's layout, parallel folders and Cityscapes, read into one form."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_lightdet.data.detection.records import DataIssue
from keras_lightdet.data.segmentation.label_table import LIST_NAME, LabelTable, read_label_list
from keras_lightdet.errors import DataError
from keras_lightdet.images import SUFFIXES, read_size
from keras_lightdet.labels import IGNORE

LABEL_FOLDERS = ("labels", "masks", "annotations")
LABEL_SUFFIXES = (".png", ".bmp")
MAX_SPLIT_BYTES = 50_000_000
# Cityscapes' 34 ids, of which 19 are trained and scored; the others, and its licence plates, are ignored.
CITYSCAPES_CLASS_NAMES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES = LabelTable(
    CITYSCAPES_CLASS_NAMES,
    {**dict.fromkeys(range(34), IGNORE), **{value: label for label, value in enumerate(CITYSCAPES_IDS)}},
)
_IMAGE_ENDING, _LABEL_ENDING = "_leftImg8bit", "_gtFine_labelIds.png"
_LAYOUTS = (
    f"SegNet's layout (train/, trainannot/, .. and {LIST_NAME}), parallel folders (images/train/, labels/train/, .. "
    f"and {LIST_NAME}) or Cityscapes (leftImg8bit/ and gtFine/)"
)


@dataclass(frozen=True)
class SegmentationRecord:
    """One image and the image of its labels.

    Attributes:
        path: The image's file.
        label_path: The file of its labels, of the same size.
        width: Pixels, after the EXIF orientation is applied.
        height: Pixels, after the EXIF orientation is applied.
    """

    path: str
    label_path: str
    width: int
    height: int


@dataclass(frozen=True)
class SegmentationData:
    """A split of a data set: records, what their label images mean, and what was found wrong while reading."""

    records: Sequence[SegmentationRecord]
    table: LabelTable
    issues: tuple[DataIssue, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return self.table.class_names

    def read_labels(self, index: int) -> np.ndarray:
        """Reads the labels of a record, uint8 `[height, width]` of its size.

        Raises:
            DataError: The file cannot be read, has another size, or holds what is not in the table.
        """
        record = self.records[index]
        labels = self.table.read(record.label_path)
        if labels.shape != (record.height, record.width):
            raise DataError(
                f"Expected {record.label_path!r} to be {record.width} x {record.height} pixels as {record.path!r}, got "
                f"{labels.shape[1]} x {labels.shape[0]}. Save it at the image's size."
            )
        return labels


def load_segmentation(
    root: str | os.PathLike,
    split: str,
    *,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
) -> SegmentationData:
    """Reads one split of a data set on disk, told by its files to be in one of three layouts.

    Label images are decoded in training and by `inspect_labels`, not here.

    Args:
        root: The data set's folder.
        split: "train", "val", "test", or another name that the data set has.
        class_names: Label order, as saved with weights; the data's must be the same.
        strict: Raise at the first fault instead of skipping the image.

    Raises:
        DataError: The folder has none of the layouts, lacks the split, holds other classes, or (strict) has any fault.
    """
    root = Path(root)
    pairs, table = _find_pairs(root, split)
    if class_names is not None and tuple(class_names) != table.class_names:
        raise DataError(
            f"Expected {str(root)!r} to have the classes {list(class_names)}, got {list(table.class_names)}. "
            f"Correct {LIST_NAME}, or start from other weights."
        )
    records, issues = [], []
    for image, labels in pairs:
        try:
            width, height = read_size(image)
            if not labels.is_file():
                raise DataError(f"Expected the labels of {str(image)!r} at {str(labels)!r}, found none. Add them.")
        except DataError as error:
            if strict:
                raise
            issues.append(DataIssue("unusable", str(image), str(error)))
            continue
        records.append(SegmentationRecord(str(image), str(labels), width, height))
    if not records:
        raise DataError(f"Expected images of the split {split!r} in {str(root)!r}, got none. {_first(issues)}")
    return SegmentationData(records, table, tuple(issues))


def segmentation_splits(root: str | os.PathLike) -> tuple[str, str, str]:
    """Returns the splits to train on, to choose the best weights by, and to score: one may serve for the last two.

    Cityscapes' test labels are not public, so its "val" serves for both.

    Raises:
        DataError: The folder has none of the layouts, or neither "val" nor "test".
    """
    root = Path(root)
    there = [split for split in ("val", "test") if _has_split(root, split)]
    if not there or not _has_split(root, "train"):
        raise DataError(f"Expected {str(root)!r} to have the split train, and val or test, in {_LAYOUTS}.")
    return "train", there[0], there[0] if (root / "leftImg8bit").is_dir() else there[-1]


def _has_split(root: Path, split: str) -> bool:
    return any((root / name / split).is_dir() for name in ("leftImg8bit", "images")) or _is_segnet(root, split)


def _is_segnet(root: Path, split: str) -> bool:
    return (root / f"{split}annot").is_dir() and (root / split).is_dir()


def _find_pairs(root: Path, split: str) -> tuple[list[tuple[Path, Path]], LabelTable]:
    """Images and where their labels should be, and what those mean."""
    if not root.is_dir():
        raise DataError(f"Expected a folder at {str(root)!r}, found none. Correct the path.")
    if not _has_split(root, split):
        raise DataError(f"Expected {str(root)!r} to have the split {split!r} in {_LAYOUTS}, found none of these.")
    if (root / "leftImg8bit" / split).is_dir():
        return _cityscapes_pairs(root, split), CITYSCAPES
    table = read_label_list(root / LIST_NAME)
    if _is_segnet(root, split):
        return _segnet_pairs(root, split), table
    folder = next((root / name / split for name in LABEL_FOLDERS if (root / name / split).is_dir()), None)
    if folder is None:
        raise DataError(f"Expected a folder {split}/ in one of {LABEL_FOLDERS} in {str(root)!r}, found none. Add it.")
    return [(image, _label_of(image, folder)) for image in _images(root / "images" / split)], table


def _segnet_pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    """The split's list of stems or of pairs of paths, as it is there; else all images of its folder."""
    pictures = {path.stem: path for path in _images(root / split)}
    listed = root / f"{split}.txt"
    stems = list(pictures)
    if listed.is_file():
        if listed.stat().st_size > MAX_SPLIT_BYTES:
            raise DataError(f"Expected {str(listed)!r} to be a list of images, got over {MAX_SPLIT_BYTES} bytes.")
        lines = listed.read_text(encoding="utf-8", errors="replace").splitlines()
        stems = [Path(line.split()[0]).name.removesuffix(".png").removesuffix(".jpg") for line in lines if line.split()]
    missing = root / split
    return [
        (pictures.get(stem, missing / f"{stem}.png"), _label_of(Path(stem), root / f"{split}annot", stem))
        for stem in stems
    ]


def _cityscapes_pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    pairs = []
    for image in sorted((root / "leftImg8bit" / split).glob(f"*/*{_IMAGE_ENDING}.png")):
        name = image.stem.removesuffix(_IMAGE_ENDING) + _LABEL_ENDING
        pairs.append((image, root / "gtFine" / split / image.parent.name / name))
    return pairs


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _label_of(image: Path, folder: Path, stem: str | None = None) -> Path:
    candidates = [folder / f"{stem or image.stem}{suffix}" for suffix in LABEL_SUFFIXES]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _first(issues: Sequence[DataIssue]) -> str:
    return issues[0].detail if issues else "Add some."
