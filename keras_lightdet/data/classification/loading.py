"""Images of one class each, in folders of classes: to pretrain a backbone before a detector is built on it."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_lightdet.errors import DataError
from keras_lightdet.files import StrPath, atomic_write, expand_user
from keras_lightdet.images import SUFFIXES

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "validation", "test")}
VAL_EVERY = 10  # of a data set without splits, every tenth image of a class belongs to "val"
_DONE = "done.json"


@dataclass(frozen=True)
class ClassificationRecord:
    """An image file and its label, an index into the data's `class_names`."""

    path: str
    label: int


@dataclass(frozen=True)
class ClassificationData:
    """A split of a data set: records and class names."""

    records: Sequence[ClassificationRecord]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)


def load_classification(
    data_dir: StrPath, split: str, *, class_names: Sequence[str] | None = None
) -> ClassificationData:
    """Lists the images of one split of a data set in folders of classes. The images are decoded in training.

    Args:
        data_dir: A folder with `train/` and `val/` (or `validation/` or `test/`), each with a folder for every class;
            or a folder of classes, of which every tenth image by name belongs to "val", the others to "train".
        split: "train" or "val".
        class_names: Label order, as saved with weights: the names of the folders in any order; None sorts them.

    Returns:
        The records of the split; both splits have the same classes.

    Raises:
        DataError: There are no such folders, one of them has no images, the splits have different classes, or these
            differ from `class_names`.
    """
    if split not in SPLIT_FOLDERS:
        raise DataError(f"Expected split to be one of {list(SPLIT_FOLDERS)}, got {split!r}.")
    root = expand_user(data_dir)
    folders = {
        name: next((root / folder for folder in candidates if (root / folder).is_dir()), None)
        for name, candidates in SPLIT_FOLDERS.items()
    }
    train, val = folders["train"], folders["val"]
    if train is None or val is None:
        return _every_tenth(root, split, _class_names(root, class_names))
    names = _class_names(train, class_names)
    unknown = sorted(set(_class_names(val)) - set(names))
    if unknown:
        raise DataError(f"Expected the classes of {train} in {val}, got {unknown[:5]} too. Remove these folders.")
    records = [record for group in _by_class(train if split == "train" else val, names) for record in group]
    return ClassificationData(records, names)


def extract_imagenet(cache_dir: StrPath, data_dir: StrPath | None = None) -> Path:
    """Writes TensorFlow Datasets' imagenet2012 to folders of classes once; they take 155 GB.

    Args:
        cache_dir: Parent of the folder `imagenet2012`.
        data_dir: TensorFlow Datasets' own folder, whose `downloads/manual` must contain the data set's two archives;
            None takes its default.

    Returns:
        The folder, for `load_classification`.
    """
    folder = expand_user(cache_dir) / "imagenet2012"
    if (folder / _DONE).is_file():
        return folder
    import tensorflow_datasets as tfds

    builder = tfds.builder("imagenet2012", data_dir=os.path.expanduser(data_dir) if data_dir is not None else None)
    builder.download_and_prepare()
    names = builder.info.features["label"].names
    for split, source in (("train", "train"), ("val", "validation")):
        for name in names:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
        examples = builder.as_dataset(split=source, decoders={"image": tfds.decode.SkipDecoding()})
        for example in tfds.as_numpy(examples):
            file_name = Path(example["file_name"].decode()).name
            (folder / split / names[example["label"]] / file_name).write_bytes(example["image"])
    atomic_write(folder / _DONE, json.dumps({"classes": len(names)}))
    return folder


def _every_tenth(root: Path, split: str, names: tuple[str, ...]) -> ClassificationData:
    groups = _by_class(root, names)
    if all(len(group) < VAL_EVERY for group in groups):
        raise DataError(f"Expected {VAL_EVERY} or more images of a class in {root}, got fewer. Add a folder val/.")
    records = [
        record
        for group in groups
        for number, record in enumerate(group, start=1)
        if (number % VAL_EVERY == 0) == (split == "val")
    ]
    return ClassificationData(records, names)


def _class_names(folder: Path, expected: Sequence[str] | None = None) -> tuple[str, ...]:
    """Returns the names of the folders, sorted, or in the expected order."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if len(names) < 2:
        raise DataError(f"Expected a folder for each of two or more classes in {folder}, got {names}.")
    if expected is not None and sorted(expected) != names:
        raise DataError(
            f"Expected folders of the classes {list(expected)} in {folder}, got {names}. "
            "Use weights that were trained on these classes, or load the backbone only."
        )
    return tuple(expected or names)


def _by_class(folder: Path, names: Sequence[str]) -> list[list[ClassificationRecord]]:
    """Returns the records of each class, sorted by file name."""
    groups = []
    for label, name in enumerate(names):
        entries = sorted(os.scandir(folder / name), key=lambda e: e.name) if (folder / name).is_dir() else []
        paths = [entry.path for entry in entries if entry.name.lower().endswith(SUFFIXES)]
        if not paths:
            raise DataError(f"Expected images ({', '.join(SUFFIXES)}) in {folder / name}, got none. Add some.")
        groups.append([ClassificationRecord(path, label) for path in paths])
    return groups
