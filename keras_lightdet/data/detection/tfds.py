"""Pascal VOC and COCO through TensorFlow Datasets, turned into images on disk so that they go the way of all data."""

import json
import os
from pathlib import Path

import numpy as np

from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.data.detection.validation import (
    IssueLog,
    clean_boxes,
    finish,
    make_record,
    try_read_header,
    turn_boxes,
)
from keras_lightdet.errors import DataError
from keras_lightdet.files import atomic_write

# The labeled splits, by our name for them and theirs.
_VOC = {"train": "train", "val": "validation", "trainval": "train+validation"}
SUPPORTED = {
    "voc/2007": {**_VOC, "test": "test"},
    "voc/2012": _VOC,
    "coco/2017": {"train": "train", "val": "validation"},
}
_INDEX = "index.json"
# Of the index file; one of another layout is made anew.
_LAYOUT = 1


def load_tfds(
    name: str,
    split: str,
    *,
    cache_dir: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    strict: bool = False,
) -> DetectionData:
    """Reads a data set of TensorFlow Datasets, downloading it at the first use.

    The encoded images are written to `cache_dir` once, with an index of the boxes, and read from there afterwards.

    Args:
        name: One of `SUPPORTED`.
        split: "train", "val", "trainval" or "test", as far as the data set has it with labels.
        cache_dir: Where the images go: about the size of the data set.
        data_dir: TensorFlow Datasets' own folder; None takes its default.
        strict: Raise at the first fault, and decode every image once, instead of skipping what is damaged.

    Returns:
        Records as of the data set's own files; difficult and crowd boxes are marked `ignore`.

    Raises:
        DataError: `name` is not supported, the split does not exist, or (strict) any fault.
    """
    if name not in SUPPORTED:
        raise DataError(f"Expected name to be one of {list(SUPPORTED)}, got {name!r}. Load other data from its files.")
    if split not in SUPPORTED[name]:
        raise DataError(f"Expected split of {name} to be one of {list(SUPPORTED[name])}, got {split!r}.")
    folder = Path(cache_dir) / name / split
    index = _read_index(folder / _INDEX)
    if index is None:
        index = _extract(name, split, folder, data_dir)
    log = IssueLog(strict)
    records = []
    for entry in index["pictures"]:
        record = _record(folder, entry, name, log)
        records += [record] if record else []
    return finish(records, index["class_names"], log, folder)


def _read_index(path: Path) -> dict | None:
    """The index of an extraction that was finished; None where there is none."""
    try:
        index = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return index if isinstance(index, dict) and index.get("layout") == _LAYOUT else None


def _extract(name: str, split: str, folder: Path, data_dir: str | os.PathLike | None) -> dict:
    """Writes images and, last and in one move, the index, so that a broken extraction is started anew."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    builder.download_and_prepare()
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    examples = builder.as_dataset(split=SUPPORTED[name][split], decoders={"image": tfds.decode.SkipDecoding()})
    for example in tfds.as_numpy(examples):
        file_name = Path(example["image/filename"].decode()).name
        (folder / file_name).write_bytes(example["image"])
        images.append({"file": file_name, **_objects(example)})
    class_names = builder.info.features["objects"]["label"].names
    index = {"layout": _LAYOUT, "class_names": list(class_names), "pictures": images}
    atomic_write(folder / _INDEX, json.dumps(index))
    return index


def _objects(example: dict) -> dict:
    """What the index keeps of an example; boxes stay as given, relative `(y_min, x_min, y_max, x_max)`."""
    objects = example["objects"]
    ignore = objects["is_difficult"] if "is_difficult" in objects else objects["is_crowd"]
    return {
        "id": int(example["image/id"]) if "image/id" in example else None,
        "boxes": np.asarray(objects["bbox"], np.float64).tolist(),
        "labels": np.asarray(objects["label"]).tolist(),
        "ignore": np.asarray(ignore, bool).tolist(),
        "areas": np.asarray(objects["area"], np.float64).tolist() if "area" in objects else None,
    }


def _record(folder: Path, entry: dict, name: str, log: IssueLog):
    path = folder / entry["file"]
    header = try_read_header(path, log)
    if header is None:
        return None
    y_min, x_min, y_max, x_max = np.float64(entry["boxes"]).reshape(-1, 4).T
    # VOC's corners are counted from 1, and the data set divides them as they are.
    first = 1.0 if name.startswith("voc/") else 0.0
    width, height = header.width, header.height
    boxes = np.stack([x_min * width - first, y_min * height - first, x_max * width, y_max * height], axis=-1)
    names = [f"object {position}" for position in range(1, len(boxes) + 1)]
    boxes, kept = clean_boxes(turn_boxes(boxes, header), header.displayed_size, path, log, names)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    if entry["areas"] is not None:
        areas = np.float64(entry["areas"])[kept]
    labels, ignore = np.int32(entry["labels"])[kept], np.array(entry["ignore"], bool)[kept]
    image_id = path.stem if entry["id"] is None else entry["id"]
    return make_record(path, image_id, header, boxes, labels, ignore, areas)
