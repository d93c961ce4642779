"""Opens a folder of images with labeled boxes, in any supported format."""

from collections.abc import Sequence
from pathlib import Path

from keras_lightdet.data.detection.coco import load_coco
from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.data.detection.voc import find_voc_trees, list_voc_splits, load_voc
from keras_lightdet.errors import DataError
from keras_lightdet.files import StrPath, expand_user

FORMATS = ("auto", "voc", "coco")
_LAYOUTS = (
    "a VOC tree (Annotations/ and JPEGImages/), or a COCO folder (annotations/instances_<split>.json and the images "
    "in <split>/, or <split>/_annotations.coco.json)"
)


def load_detection(
    data_dir: StrPath,
    split: str,
    format: str = "auto",
    *,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    seed: int = 0,
) -> DetectionData:
    """Reads one split of a detection data set on disk. `load_data` is a short name for it.

    Args:
        data_dir: The data set's folder.
        split: "train", "val", "trainval", "test", or another name that the data set lists.
        format: "voc", "coco", or "auto" to detect the format by the files.
        class_names: Label order, as saved with weights; None takes it from the data.
        strict: Whether to raise at the first fault and decode every image once, instead of skipping damaged files.
        seed: Seed of the random split of a VOC tree that lists none.

    Returns:
        The records of the split.

    Raises:
        DataError: The folder has neither format, lacks the split, has other classes, or (strict) has any fault.
        ValueError: `format` is unknown.
    """
    if find_format(data_dir, format) == "voc":
        return load_voc(data_dir, split, class_names=class_names, strict=strict, seed=seed)
    annotations, images = _find_coco_split(expand_user(data_dir), split)
    return load_coco(annotations, images, class_names=class_names, strict=strict)


load_data = load_detection


def find_format(data_dir: StrPath, format: str = "auto") -> str:
    """Returns "voc" or "coco"; "auto" detects it by the files.

    Raises:
        DataError: The folder is missing or has neither format.
        ValueError: `format` is unknown.
    """
    folder = expand_user(data_dir)
    if format not in FORMATS:
        raise ValueError(f"Expected format to be one of {FORMATS}, got {format!r}.")
    if not folder.is_dir():
        raise DataError(f"Expected a folder at {str(folder)!r}, found none. Correct the path.")
    if format != "auto":
        return format
    if find_voc_trees(folder):
        return "voc"
    if _coco_files(folder):
        return "coco"
    raise DataError(f"Expected {str(folder)!r} to be {_LAYOUTS}, found neither. Correct the path or the layout.")


def default_splits(data_dir: StrPath, format: str = "auto") -> tuple[str, str]:
    """Returns the splits to train and to evaluate on: ("trainval", "test") for VOC, ("train", "val") for COCO.

    A VOC tree that lists val but no test has the splits of COCO.

    Raises:
        DataError: See `find_format`.
    """
    if find_format(data_dir, format) == "coco":
        return "train", "val"
    listed = list_voc_splits(data_dir)
    return ("train", "val") if "val" in listed and "test" not in listed else ("trainval", "test")


def _find_coco_split(folder: Path, split: str) -> tuple[Path, Path]:
    """Returns the annotation file and the image folder of a split."""
    names = {path: _split_name(path) for path in _coco_files(folder)}
    matches = [path for path, name in names.items() if name == split]
    # "train" also matches instances_train2017.json, if that is the only such file.
    matches = matches or [path for path, name in names.items() if name.rstrip("0123456789") == split]
    if len(matches) != 1:
        listed = {name: str(path) for path, name in names.items()}
        raise DataError(
            f"Expected one COCO file for split {split!r} in {str(folder)!r}, got {len(matches)} of {listed}."
        )
    path, name = matches[0], names[matches[0]]
    if path.parent.name == name:
        return path, path.parent
    candidates = (name, f"images/{name}", split, f"images/{split}", "images", ".")
    return path, next(folder / candidate for candidate in candidates if (folder / candidate).is_dir())


def _coco_files(folder: Path) -> list[Path]:
    return [
        *sorted(folder.glob("annotations/instances_*.json")),
        *sorted(folder.glob("*/_annotations.coco.json")),
        *sorted(folder.glob("instances_*.json")),
    ]


def _split_name(path: Path) -> str:
    """Returns the split in instances_<split>.json, or the folder of an _annotations.coco.json."""
    return path.parent.name if path.name.startswith("_") else path.stem.removeprefix("instances_")
