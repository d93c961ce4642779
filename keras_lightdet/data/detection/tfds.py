"""Pascal VOC and COCO from TensorFlow Datasets: extracted to image files once, then read like any other data."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.data.detection.validation import RawRecord, build_dataset
from keras_lightdet.data.issues import IssueLog
from keras_lightdet.errors import DataError
from keras_lightdet.files import StrPath, atomic_write, expand_user

# The labeled splits: the name used here and that of TensorFlow Datasets.
_VOC = {"train": "train", "val": "validation", "trainval": "train+validation"}
SUPPORTED = {
    "voc/2007": {**_VOC, "test": "test"},
    "voc/2012": _VOC,
    "coco/2017": {"train": "train", "val": "validation"},
}
_INDEX = "index.json"
_LAYOUT = 1  # of the index file; a file of another layout is written again
_ENTRIES_KEY = "pictures"  # in the index file of layout 1


def load_tfds(
    name: str, split: str, *, cache_dir: StrPath, data_dir: StrPath | None = None, strict: bool = False
) -> DetectionData:
    """Reads a data set of TensorFlow Datasets, which is downloaded on first use.

    The encoded images are written to `cache_dir` once, with an index of the boxes, and read from there afterwards.

    Args:
        name: One of `SUPPORTED`.
        split: "train", "val", "trainval" or "test", where the data set has labels for it.
        cache_dir: The folder for the images; they need about the disk space of the data set.
        data_dir: TensorFlow Datasets' own folder; None takes its default.
        strict: See `load_detection`.

    Returns:
        The records of the data set's own files; difficult and crowd boxes are marked `ignore`.

    Raises:
        DataError: `name` is not supported, the split does not exist, or (strict) any fault.
    """
    if name not in SUPPORTED:
        raise DataError(f"Expected name to be one of {list(SUPPORTED)}, got {name!r}. Load other data from its files.")
    if split not in SUPPORTED[name]:
        raise DataError(f"Expected split of {name} to be one of {list(SUPPORTED[name])}, got {split!r}.")
    folder = expand_user(cache_dir) / name / split
    index = _read_index(folder / _INDEX) or _extract(name, split, folder, data_dir)
    first_pixel = 1.0 if name.startswith("voc/") else 0.0  # TensorFlow Datasets divides VOC's corners as they are.
    records = _raw_records(folder, index[_ENTRIES_KEY], first_pixel)
    return build_dataset(records, index["class_names"], IssueLog(strict), folder)


def _read_index(path: Path) -> dict[str, Any] | None:
    """Returns the index of a completed extraction; None where there is none."""
    try:
        index = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return index if isinstance(index, dict) and index.get("layout") == _LAYOUT else None


def _extract(name: str, split: str, folder: Path, data_dir: StrPath | None) -> dict[str, Any]:
    """Writes the images, then the index atomically, so that an interrupted extraction starts again."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=os.path.expanduser(data_dir) if data_dir is not None else None)
    builder.download_and_prepare()
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    examples = builder.as_dataset(split=SUPPORTED[name][split], decoders={"image": tfds.decode.SkipDecoding()})
    for example in tfds.as_numpy(examples):
        file_name = Path(example["image/filename"].decode()).name
        (folder / file_name).write_bytes(example["image"])
        entries.append({"file": file_name, **_labels(example)})
    class_names = list(builder.info.features["objects"]["label"].names)
    index = {"layout": _LAYOUT, "class_names": class_names, _ENTRIES_KEY: entries}
    atomic_write(folder / _INDEX, json.dumps(index))
    return index


def _labels(example: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the index states of an example; boxes stay relative, `(y_min, x_min, y_max, x_max)`."""
    objects = example["objects"]
    ignore = objects["is_difficult"] if "is_difficult" in objects else objects["is_crowd"]
    return {
        "id": int(example["image/id"]) if "image/id" in example else None,
        "boxes": np.asarray(objects["bbox"], np.float64).tolist(),
        "labels": np.asarray(objects["label"]).tolist(),
        "ignore": np.asarray(ignore, bool).tolist(),
        "areas": np.asarray(objects["area"], np.float64).tolist() if "area" in objects else None,
    }


def _raw_records(folder: Path, entries: list[dict[str, Any]], first_pixel: float) -> Iterator[RawRecord]:
    for entry in entries:
        path = folder / entry["file"]
        yield RawRecord(
            path=path,
            image_id=path.stem if entry["id"] is None else entry["id"],
            source=path,
            names=[f"object {number}" for number in range(1, len(entry["boxes"]) + 1)],
            boxes=np.array(entry["boxes"], np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]],
            labels=entry["labels"],
            ignore=entry["ignore"],
            areas=entry["areas"],
            first_pixel=first_pixel,
            relative=True,
        )
