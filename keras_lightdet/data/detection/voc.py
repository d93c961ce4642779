"""Pascal VOC trees: a VOCdevkit, or any folder with Annotations/ and JPEGImages/.

VOC counts pixels from 1, and the last pixel belongs to the box. Corners become 0-based and continuous,
`(xmin - 1, ymin - 1, xmax, ymax)`: a box over a whole 640 x 480 image, written as (1, 1, 640, 480), becomes
(0, 0, 640, 480), and its width equals the devkit's `xmax - xmin + 1`. Corners of tools that count from 0 are off by at
most one pixel, which is clipped.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.data.detection.validation import NO_CLASS, RawRecord, build_dataset, join_inside
from keras_lightdet.data.issues import IssueLog
from keras_lightdet.errors import DataError
from keras_lightdet.files import StrPath, expand_user
from keras_lightdet.images import SUFFIXES

VOC_CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
MAX_XML_BYTES = 5_000_000
MAX_OBJECTS = 10_000
# Shares of the images that a seeded split assigns to val and test; train gets the rest.
SEEDED_SPLIT = {"val": 0.15, "test": 0.15}


@dataclass(frozen=True)
class VocObject:
    """One `<object>`: its name, the corners as written (NaN where unreadable) and the difficult flag."""

    name: str
    corners: tuple[float, ...]
    difficult: bool


@dataclass(frozen=True)
class VocAnnotation:
    """One annotation file: the image's name, its stated size (zeros where absent) and its objects."""

    filename: str
    size: tuple[float, float]
    objects: tuple[VocObject, ...]


Annotations: TypeAlias = dict[Path, dict[str, VocAnnotation]]  # by tree, then by file stem in the order of the split


def load_voc(
    root: StrPath,
    split: str | None = None,
    *,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    seed: int = 0,
) -> DetectionData:
    """Reads one split of a VOC tree.

    Splits are listed in ImageSets/Main/<split>.txt; "trainval" is the union of train and val where it is not listed. A
    tree without any split file is split at random by `seed`: 70 % train, 15 % val, 15 % test. Of a VOCdevkit with
    several years, all years that have the split are joined: "trainval" is 07+12 and "test" is 07.

    Args:
        root: The tree, or a folder that contains VOCdevkit or year folders.
        split: "train", "val", "trainval", "test" or another listed name; None takes all annotated images.
        class_names: Label order, as saved with weights. None takes VOC's 20 for a year folder of the devkit, else the
            sorted names of all annotations of the tree, so that all its splits have the same classes.
        strict: See `load_detection`.
        seed: Seed of the random split of a tree that lists none.

    Returns:
        Records in the order of the split; `difficult` objects are marked `ignore`.

    Raises:
        DataError: There is no tree or split, names are not in `class_names`, nothing is usable, or (strict) any fault.
    """
    root = expand_user(root)
    trees = find_voc_trees(root)
    if not trees:
        raise DataError(
            f"Expected {str(root)!r} to hold Annotations/ and JPEGImages/, found neither. Correct the path."
        )
    log = IssueLog(strict)
    stems = {tree: _split_stems(tree, split, seed, log) for tree in trees}
    if not any(stems.values()):
        listed = sorted(list_voc_splits(root))
        raise DataError(f"Expected split {split!r} in {str(root)!r}, found {listed}. Choose one of these.")
    annotations = {tree: _read_annotations(tree, stems[tree], log) for tree in trees}
    names = _choose_class_names(root, annotations, class_names)
    return build_dataset(_raw_records(annotations, names, log), names, log, root)


def find_voc_trees(root: StrPath) -> list[Path]:
    """Returns the folders with Annotations/ and JPEGImages/ at `root`, below it, or below its VOCdevkit/."""
    root = expand_user(root)
    for folder in (root, root / "VOCdevkit"):
        candidates = [folder, *sorted(child for child in folder.glob("*") if child.is_dir())]
        trees = [tree for tree in candidates if (tree / "Annotations").is_dir() and (tree / "JPEGImages").is_dir()]
        if trees:
            return trees[:1] if trees[0] == folder else trees
    return []


def list_voc_splits(root: StrPath) -> set[str]:
    """Returns the names of the splits that the trees at `root` list."""
    return {path.stem for tree in find_voc_trees(root) for path in _split_files(tree)}


def read_voc_annotation(path: StrPath) -> VocAnnotation:
    """Reads one annotation file; entities and external references are refused.

    Raises:
        DataError: The file is larger than 5 MB, has more than 10 000 objects, has a DTD, or is not VOC XML.
    """
    import defusedxml
    import defusedxml.ElementTree as ElementTree

    path = expand_user(path)
    try:
        if path.stat().st_size > MAX_XML_BYTES:
            raise DataError(f"Expected {str(path)!r} to be at most {MAX_XML_BYTES} bytes. Split or remove it.")
        root = ElementTree.fromstring(path.read_bytes(), forbid_dtd=True)
    except defusedxml.DefusedXmlException as error:
        raise DataError(f"Expected {str(path)!r} to have no DTD or entities, got {error}. Remove them.") from error
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"Expected {str(path)!r} to be a VOC XML file, got {error}. Export it again.") from error
    if root.tag != "annotation":
        raise DataError(f"Expected {str(path)!r} to start with <annotation>, got <{root.tag[:80]}>. Export it again.")
    nodes = root.findall("object")
    if len(nodes) > MAX_OBJECTS:
        raise DataError(f"Expected at most {MAX_OBJECTS} objects in {str(path)!r}, got {len(nodes)}. Split it.")
    objects = []
    for node in nodes:
        corners = tuple(_number(node.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
        name, difficult = (node.findtext("name") or "").strip(), _number(node.findtext("difficult", "0")) == 1
        objects.append(VocObject(name, corners, difficult))
    size = (_number(root.findtext("size/width", "0")), _number(root.findtext("size/height", "0")))
    return VocAnnotation((root.findtext("filename") or "").strip(), size, tuple(objects))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")  # the validation reports it


def _split_files(tree: Path) -> list[Path]:
    return list((tree / "ImageSets" / "Main").glob("*.txt"))


def _split_stems(tree: Path, split: str | None, seed: int, log: IssueLog) -> list[str]:
    """Returns the stems of one split of a tree, without repeats; empty where the tree has no such split."""
    annotated = sorted(path.stem for path in (tree / "Annotations").glob("*.xml"))
    if split is None:
        return annotated
    files = {path.stem: path for path in _split_files(tree)}
    if not files:
        return _seeded_split(annotated, split, seed)
    union = ["train", "val"] if split == "trainval" and split not in files else [split]
    stems: dict[str, None] = {}  # an ordered set
    for path in (files[name] for name in union if name in files):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            stem = line.split(maxsplit=1)[0] if line.strip() else ""
            if not stem:
                continue
            if stem in stems:
                log.report("listed twice", path, f"{stem!r} is listed again, used once")
            elif join_inside(tree, stem) is None:
                log.report("path escape", path, f"{stem!r} would leave the data folder, skipped")
            else:
                stems[stem] = None
    return list(stems)


def _seeded_split(stems: Sequence[str], split: str, seed: int) -> list[str]:
    """Splits stems by a seeded shuffle: train, val and test are disjoint, trainval is the union of train and val."""
    order = np.random.default_rng(seed).permutation(len(stems))
    val, test = (int(round(SEEDED_SPLIT[name] * len(stems))) for name in ("val", "test"))
    train = order[test + val :]
    indices = {"test": order[:test], "val": order[test : test + val], "train": train, "trainval": order[test:]}
    if split not in indices:
        raise DataError(f"Expected split to be one of {sorted(indices)} as no split file exists, got {split!r}.")
    return sorted(stems[index] for index in indices[split])


def _read_annotations(tree: Path, stems: Sequence[str], log: IssueLog) -> dict[str, VocAnnotation]:
    """Reads the annotations of a split; missing and damaged files are reported and left out."""
    annotations = {}
    for stem in stems:
        path = tree / "Annotations" / f"{stem}.xml"
        if not path.is_file():
            log.report("no annotation", path, "the split lists this image but it has no annotation, skipped")
            continue
        try:
            annotations[stem] = read_voc_annotation(path)
        except DataError as error:
            log.report("annotation unreadable", path, error)
    return annotations


def _choose_class_names(root: Path, annotations: Annotations, expected: Sequence[str] | None) -> tuple[str, ...]:
    """Returns `expected` after a check against the annotations, else the names of all annotations of the trees."""
    names = _object_names(annotations)
    if expected is not None:
        if names - set(expected):
            raise DataError(
                f"Expected the objects in {str(root)!r} to be of the classes {list(expected)}, got {sorted(names)}. "
                "Use weights that were trained on these classes, or load the backbone only."
            )
        return tuple(expected)
    if names <= set(VOC_CLASS_NAMES) and all(re.fullmatch(r"VOC20\d\d", tree.name) for tree in annotations):
        return VOC_CLASS_NAMES
    for tree, in_split in annotations.items():  # A class that occurs in another split only has a label too.
        others = [path.stem for path in (tree / "Annotations").glob("*.xml") if path.stem not in in_split]
        names |= _object_names({tree: _read_annotations(tree, others, IssueLog())})
    return tuple(sorted(names))


def _object_names(annotations: Annotations) -> set[str]:
    in_all_trees = (annotation for in_tree in annotations.values() for annotation in in_tree.values())
    return {voc_object.name for annotation in in_all_trees for voc_object in annotation.objects} - {""}


def _raw_records(annotations: Annotations, class_names: Sequence[str], log: IssueLog) -> Iterator[RawRecord]:
    """Yields the records of all trees; an image that would lie outside its tree is reported and left out."""
    label_by_name = {name: label for label, name in enumerate(class_names)}
    for tree, in_tree in annotations.items():
        images = _images_by_stem(tree / "JPEGImages")
        for stem, annotation in in_tree.items():
            source, objects = tree / "Annotations" / f"{stem}.xml", annotation.objects
            path = images.get(stem) or join_inside(tree / "JPEGImages", annotation.filename)
            if path is None:
                log.report(
                    "path escape", source, f"<filename> {annotation.filename!r} would leave the data folder, skipped"
                )
                continue
            yield RawRecord(
                path=path,
                image_id=stem if len(annotations) == 1 else f"{tree.name}/{stem}",
                source=source,
                names=[f"object {number} ({voc_object.name})" for number, voc_object in enumerate(objects, start=1)],
                boxes=np.array([voc_object.corners for voc_object in objects], np.float64),
                labels=[label_by_name.get(voc_object.name, NO_CLASS) for voc_object in objects],
                ignore=[voc_object.difficult for voc_object in objects],
                stated_size=annotation.size,
                first_pixel=1.0,
            )


def _images_by_stem(folder: Path) -> dict[str, Path]:
    """Returns the images by stem; of several with one stem, that with the first of `SUFFIXES`."""
    rank = {suffix: position for position, suffix in enumerate(reversed(SUFFIXES))}
    files = [path for path in folder.iterdir() if path.suffix.lower() in rank]
    return {path.stem: path for path in sorted(files, key=lambda path: (rank[path.suffix.lower()], path.name))}
