"""Images of one class each, as folders of classes: to train a backbone before a detector is built on it."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from keras_lightdet.data.synthetic_scenes import SCENE_CLASS_NAMES, draw_scene
from keras_lightdet.errors import DataError
from keras_lightdet.files import atomic_write
from keras_lightdet.images import SUFFIXES

SPLITS = (("train",), ("val", "validation", "test"))  # what the folders to train on and to score on are called
TEST_EVERY = 10  # of a folder without splits, every tenth image of a class is to score on
_DONE = "done.json"
_CROP_MARGIN = 0.2  # of the object's longer side, on each side
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class ClassificationRecord:
    """An image's file and its label, an index into the data's `class_names`."""

    path: str
    label: int


@dataclass(frozen=True)
class ClassificationData:
    """Images of one class each: a split of a data set."""

    records: Sequence[ClassificationRecord]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)


def load_classification(root: str | os.PathLike) -> tuple[ClassificationData, ClassificationData]:
    """Reads the names of images in folders of classes; the images are decoded in training.

    Args:
        root: Either `train/` and `val/` (or `test/`), each with a folder for every class, or these folders themselves;
            then every tenth image of a class, in the order of names, is to score on.

    Returns:
        What to train on and what to score on, with the same classes: the folders' names in alphabetical order.

    Raises:
        DataError: If there are no such folders, or no images in one of them.
    """
    root = Path(root)
    train, test = (next((root / name for name in names if (root / name).is_dir()), None) for names in SPLITS)
    if train is not None and test is not None:
        names = _class_names(train)
        unknown = sorted(set(_class_names(test)) - set(names))
        if unknown:
            raise DataError(f"Expected the classes of {train} in {test}, got {unknown[:5]} too. Remove these folders.")
        return ClassificationData(_records(train, names), names), ClassificationData(_records(test, names), names)
    names, parts = _class_names(root), ([], [])
    for records in _by_class(root, names):
        for place, record in enumerate(records, start=1):
            parts[place % TEST_EVERY == 0].append(record)
    if not parts[1]:
        raise DataError(f"Expected {TEST_EVERY} or more images of a class in {root}, got fewer. Add a folder val/.")
    return tuple(ClassificationData(part, names) for part in parts)


def extract_imagenet(cache_dir: str | os.PathLike, data_dir: str | os.PathLike | None = None) -> Path:
    """Writes TensorFlow Datasets' imagenet2012 to folders of classes once, as large as it is (155 GB).

    Args:
        cache_dir: Where the folder `imagenet2012` goes.
        data_dir: TensorFlow Datasets' own folder, whose `downloads/manual` must hold the data set's two archives; None
            takes its default.

    Returns:
        The folder, for `load_classification`.
    """
    folder = Path(cache_dir) / "imagenet2012"
    if (folder / _DONE).is_file():
        return folder
    import tensorflow_datasets as tfds

    builder = tfds.builder("imagenet2012", data_dir=data_dir)
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


def draw_classification_scenes(root: str | os.PathLike, splits: dict[str, int], *, seed: int = 0) -> Path:
    """Writes folders of classes with drawn objects, each cut out of a scene with what is about it.

    Args:
        root: The folder to write; made where absent.
        splits: Images of each class by split, such as `{"train": 200, "val": 40}`.
        seed: Of the scenes.

    Returns:
        `root`.
    """
    root, number = Path(root), 0
    for split, count in splits.items():
        missing = dict.fromkeys(SCENE_CLASS_NAMES, count)
        for name in SCENE_CLASS_NAMES:
            (root / split / name).mkdir(parents=True, exist_ok=True)
        while any(missing.values()):
            scene = draw_scene([seed, number])
            number += 1
            for box, name in zip(scene.boxes, scene.names, strict=True):
                if missing[name]:
                    path = root / split / name / f"{name}_{count - missing[name]:05d}.jpg"
                    Image.fromarray(_cut(scene.image, box)).save(path, quality=_JPEG_QUALITY)
                    missing[name] -= 1
    return root


def _cut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    margin = int(_CROP_MARGIN * max(box[2] - box[0], box[3] - box[1])) + 1
    x_min, y_min, x_max, y_max = np.clip(box + np.array([-margin, -margin, margin, margin]), 0, [width, height] * 2)
    return image[y_min:y_max, x_min:x_max]


def _class_names(folder: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if len(names) < 2:
        raise DataError(f"Expected a folder for each of two or more classes in {folder}, got {names}.")
    return tuple(names)


def _records(folder: Path, names: Sequence[str]) -> list[ClassificationRecord]:
    return [record for records in _by_class(folder, names) for record in records]


def _by_class(folder: Path, names: Sequence[str]) -> list[list[ClassificationRecord]]:
    groups = []
    for label, name in enumerate(names):
        files = sorted(os.scandir(folder / name), key=lambda e: e.name) if (folder / name).is_dir() else []
        paths = [entry.path for entry in files if entry.name.lower().endswith(SUFFIXES)]
        if not paths:
            raise DataError(f"Expected images ({', '.join(SUFFIXES)}) in {folder / name}, got none. Add some.")
        groups.append([ClassificationRecord(path, label) for path in paths])
    return groups
