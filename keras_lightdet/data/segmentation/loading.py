"""Opens a folder of images with a label for each pixel: SegNet's layout, parallel folders or Cityscapes."""

from collections.abc import Sequence
from pathlib import Path

from keras_lightdet.data.issues import IssueLog
from keras_lightdet.data.segmentation.label_table import LIST_NAME, LabelTable, read_label_list
from keras_lightdet.data.segmentation.records import SegmentationData, SegmentationRecord
from keras_lightdet.errors import DataError
from keras_lightdet.files import StrPath, expand_user
from keras_lightdet.images import SUFFIXES, read_size
from keras_lightdet.labels import IGNORE

LABEL_FOLDERS = ("labels", "masks", "annotations")
LABEL_SUFFIXES = (".png", ".bmp")
MAX_SPLIT_BYTES = 50_000_000
# Of Cityscapes' 34 ids 19 are trained and evaluated; the others, and its license plates, are ignored.
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


def load_segmentation(
    data_dir: StrPath, split: str, *, class_names: Sequence[str] | None = None, strict: bool = False
) -> SegmentationData:
    """Reads one split of a segmentation data set on disk; its files decide which of three layouts it has.

    Label images are decoded in training and by `inspect_labels`, not yet here.

    Args:
        data_dir: The data set's folder.
        split: "train", "val", "test", or another name that the data set has.
        class_names: Label order, as saved with weights; the data's must be the same.
        strict: Whether to raise at the first fault instead of skipping the image.

    Raises:
        DataError: The folder has none of the layouts, lacks the split, has other classes, or (strict) has any fault.
    """
    root = expand_user(data_dir)
    pairs, table = _find_pairs(root, split)
    if class_names is not None and tuple(class_names) != table.class_names:
        raise DataError(
            f"Expected {str(root)!r} to have the classes {list(class_names)}, got {list(table.class_names)}. "
            f"Correct {LIST_NAME}, or start from other weights."
        )
    records, log = [], IssueLog(strict)
    for image, labels in pairs:
        try:
            width, height = read_size(image)
            if not labels.is_file():
                raise DataError(f"Expected the labels of {str(image)!r} at {str(labels)!r}, found none. Add them.")
        except DataError as error:
            log.report("unusable", image, error)
            continue
        records.append(SegmentationRecord(str(image), str(labels), width, height))
    if not records:
        reason = log.issues[0].detail if log.issues else "Add some."
        raise DataError(f"Expected images of the split {split!r} in {str(root)!r}, got none. {reason}")
    return SegmentationData(records, table, tuple(log.issues))


def segmentation_splits(data_dir: StrPath) -> tuple[str, str, str]:
    """Returns the splits to train on, to select the best weights by, and to evaluate on; the last two may be the same.

    Cityscapes' test labels are not public, so its "val" is both.

    Raises:
        DataError: The folder has none of the layouts, or neither "val" nor "test".
    """
    root = expand_user(data_dir)
    held_out = [split for split in ("val", "test") if _has_split(root, split)]
    if not held_out or not _has_split(root, "train"):
        raise DataError(f"Expected {str(root)!r} to have the split train, and val or test, in {_LAYOUTS}.")
    return "train", held_out[0], held_out[0] if (root / "leftImg8bit").is_dir() else held_out[-1]


def _has_split(root: Path, split: str) -> bool:
    return any((root / name / split).is_dir() for name in ("leftImg8bit", "images")) or _is_segnet(root, split)


def _is_segnet(root: Path, split: str) -> bool:
    return (root / f"{split}annot").is_dir() and (root / split).is_dir()


def _find_pairs(root: Path, split: str) -> tuple[list[tuple[Path, Path]], LabelTable]:
    """Returns images with the expected paths of their labels, and the meaning of these."""
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
    return [(image, _label_path(folder, image.stem)) for image in _images(root / "images" / split)], table


def _segnet_pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    """Returns the pairs of a split: those that its file lists, by stems or by two paths, else all of its folder."""
    images = {path.stem: path for path in _images(root / split)}
    list_file = root / f"{split}.txt"
    stems = list(images)
    if list_file.is_file():
        if list_file.stat().st_size > MAX_SPLIT_BYTES:
            raise DataError(f"Expected {str(list_file)!r} to be a list of images, got over {MAX_SPLIT_BYTES} bytes.")
        lines = list_file.read_text(encoding="utf-8", errors="replace").splitlines()
        stems = [Path(line.split()[0]).name.removesuffix(".png").removesuffix(".jpg") for line in lines if line.split()]
    annotations = root / f"{split}annot"
    return [(images.get(stem, root / split / f"{stem}.png"), _label_path(annotations, stem)) for stem in stems]


def _cityscapes_pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    pairs = []
    for image in sorted((root / "leftImg8bit" / split).glob(f"*/*{_IMAGE_ENDING}.png")):
        name = image.stem.removesuffix(_IMAGE_ENDING) + _LABEL_ENDING
        pairs.append((image, root / "gtFine" / split / image.parent.name / name))
    return pairs


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _label_path(folder: Path, stem: str) -> Path:
    candidates = [folder / f"{stem}{suffix}" for suffix in LABEL_SUFFIXES]
    return next((path for path in candidates if path.is_file()), candidates[0])
