"""Opens a folder of labeled images, whichever form it has."""

from collections.abc import Sequence
from pathlib import Path

from keras_lightdet.data.detection.coco import load_coco
from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.data.detection.voc import find_voc_trees, load_voc
from keras_lightdet.errors import DataError

FORMATS = ("auto", "voc", "coco")
_LAYOUTS = (
    "a VOC tree (Annotations/ and JPEGImages/), or a COCO folder (annotations/instances_<split>.json and the images "
    "in <split>/, or <split>/_annotations.coco.json)"
)


def load_data(
    data_dir: str | Path,
    split: str,
    format: str = "auto",
    *,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    seed: int = 0,
) -> DetectionData:
    """Reads one split of a data set on disk.

    Args:
        data_dir: The data set's folder.
        split: "train", "val", "trainval", "test", or another name that the data set lists.
        format: "voc", "coco", or "auto" to tell by the files.
        class_names: Label order, as saved with weights; None takes it from the data.
        strict: Raise at the first fault, and decode every image once, instead of skipping what is damaged.
        seed: Of the split that is made where a VOC tree lists none.

    Returns:
        The records of the split.

    Raises:
        DataError: The folder has neither form, lacks the split, holds other classes, or (strict) has any fault.
        ValueError: `format` is unknown.
    """
    if find_format(data_dir, format) == "voc":
        return load_voc(data_dir, split, class_names=class_names, strict=strict, seed=seed)
    annotations, images = find_coco_split(Path(data_dir), split)
    return load_coco(annotations, images, class_names=class_names, strict=strict)


def find_format(data_dir: str | Path, format: str = "auto") -> str:
    """Returns "voc" or "coco", told by the files where `format` is "auto".

    Raises:
        DataError: The folder is missing or has neither form.
        ValueError: `format` is unknown.
    """
    folder = Path(data_dir)
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


def default_splits(data_dir: str | Path, format: str = "auto") -> tuple[str, str]:
    """Returns the splits to train and to score on: VOC's ("trainval", "test"), or ("train", "val") without a test list.

    Raises:
        DataError: As `find_format`.
    """
    if find_format(data_dir, format) == "coco":
        return "train", "val"
    trees = find_voc_trees(data_dir)
    listed = {path.stem for tree in trees for path in (tree / "ImageSets" / "Main").glob("*.txt")}
    return ("train", "val") if "val" in listed and "test" not in listed else ("trainval", "test")


def find_coco_split(folder: Path, split: str) -> tuple[Path, Path]:
    """Returns the annotation file and the image folder of a split.

    Raises:
        DataError: No annotation file, or more than one, carries the split's name.
    """
    files = _coco_files(folder)
    found = [path for path in files if _split_of(path) == split]
    # "train" also means instances_train2017.json, as long as only one file can be meant.
    found = found or [path for path in files if _split_of(path).rstrip("0123456789") == split]
    if len(found) != 1:
        listed = {_split_of(path): str(path) for path in files}
        raise DataError(f"Expected one COCO file for split {split!r} in {str(folder)!r}, got {len(found)} of {listed}.")
    path = found[0]
    name = _split_of(path)
    if path.parent.name == name:
        return path, path.parent
    for images in (
        folder / name,
        folder / "images" / name,
        folder / split,
        folder / "images" / split,
        folder / "images",
    ):
        if images.is_dir():
            return path, images
    return path, folder


def _coco_files(folder: Path) -> list[Path]:
    return [
        *sorted(folder.glob("annotations/instances_*.json")),
        *sorted(folder.glob("*/_annotations.coco.json")),
        *sorted(folder.glob("instances_*.json")),
    ]


def _split_of(path: Path) -> str:
    """instances_<split>.json, or the folder of an _annotations.coco.json."""
    return path.parent.name if path.name.startswith("_") else path.stem.removeprefix("instances_")
