"""Pascal VOC trees: a VOCdevkit, or any folder with Annotations/ and JPEGImages/.

VOC counts pixels from 1 and includes the last one. Boxes become continuous 0-based corners,
`(xmin - 1, ymin - 1, xmax, ymax)`: a box over the whole of a 640 x 480 image, written (1, 1, 640, 480), is
(0, 0, 640, 480), and its width is the devkit's `xmax - xmin + 1`. Tools that write 0-based corners are off by at most
a pixel, which is clipped.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_lightdet.data.detection.records import DetectionData, ImageRecord
from keras_lightdet.data.detection.validation import (
    IssueLog,
    clean_boxes,
    finish,
    join_inside,
    make_record,
    reconcile_size,
    try_read_header,
)
from keras_lightdet.errors import DataError
from keras_lightdet.images import SUFFIXES, ImageHeader

VOC_CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
MAX_XML_BYTES = 5_000_000
MAX_OBJECTS = 10_000
# Share of the images that a seeded split holds back; train takes the rest.
SEEDED_SPLIT = {"val": 0.15, "test": 0.15}


@dataclass(frozen=True)
class VocObject:
    """One `<object>`: its name, raw corners as written (NaN where unreadable) and the difficult flag."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VocAnnotation:
    """One annotation file: the image's name and stated size (zeros where absent), and its objects."""

    filename: str
    size: tuple[float, float]
    objects: tuple[VocObject, ...]


def load_voc(
    root: str | Path,
    split: str | None = None,
    *,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    seed: int = 0,
) -> DetectionData:
    """Reads one split of a VOC tree.

    Splits come from ImageSets/Main/<split>.txt; "trainval" is made of train and val where it is not listed. A tree
    without any split file is split by `seed`: 70 % train, 15 % val, 15 % test. Of a VOCdevkit with several years, each
    year that has the split takes part, so "trainval" is 07+12 and "test" is 07.

    Args:
        root: The tree, or a folder that holds VOCdevkit or year folders.
        split: "train", "val", "trainval", "test" or another listed name; None takes every annotated image.
        class_names: Label order, as saved with weights. None takes VOC's 20 for a year folder of the devkit, else the
            sorted names of all annotations of the tree, so every split of it has the same classes.
        strict: Raise at the first fault, and decode every image once, instead of skipping what is damaged.
        seed: Of the split that is made where none is listed.

    Returns:
        Records sorted as the split lists them; `difficult` objects are marked `ignore`.

    Raises:
        DataError: There is no tree or split, names are not in `class_names`, nothing is usable, or (strict) any fault.
    """
    trees = find_voc_trees(root)
    if not trees:
        raise DataError(
            f"Expected {str(root)!r} to hold Annotations/ and JPEGImages/, found neither. Correct the path."
        )
    log = IssueLog(strict)
    stems = {tree: _split_stems(tree, split, seed, log) for tree in trees}
    if not any(stems.values()):
        listed = sorted({path.stem for tree in trees for path in (tree / "ImageSets" / "Main").glob("*.txt")})
        raise DataError(f"Expected split {split!r} in {str(root)!r}, found {listed}. Choose one of these.")
    annotations = {tree: _read_annotations(tree, stems[tree], log) for tree in trees}
    names = _choose_class_names(root, trees, annotations, class_names)
    records = []
    for tree in trees:
        pictures = _images_by_stem(tree / "JPEGImages")
        for stem in stems[tree]:
            if stem in annotations[tree]:
                image_id = stem if len(trees) == 1 else f"{tree.name}/{stem}"
                record = _record(tree, stem, image_id, annotations[tree][stem], pictures, names, log)
                records += [record] if record else []
    return finish(records, names, log, Path(root))


def find_voc_trees(root: str | Path) -> list[Path]:
    """Returns the folders with Annotations/ and JPEGImages/ at `root`, below it, or below its VOCdevkit/."""
    root = Path(root)
    for folder in (root, root / "VOCdevkit"):
        candidates = [folder, *sorted(child for child in folder.glob("*") if child.is_dir())]
        trees = [tree for tree in candidates if (tree / "Annotations").is_dir() and (tree / "JPEGImages").is_dir()]
        if trees:
            return trees[:1] if trees[0] == folder else trees
    return []


def read_voc_annotation(path: str | Path) -> VocAnnotation:
    """Reads one annotation file, with entities and external references refused.

    Raises:
        DataError: The file is larger than 5 MB, holds more than 10 000 objects, is hostile, or is no VOC XML.
    """
    import defusedxml
    import defusedxml.ElementTree as ElementTree

    path = Path(path)
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
    size = (_number(root.findtext("size/width", "0")), _number(root.findtext("size/height", "0")))
    objects = tuple(
        VocObject(
            name=(node.findtext("name") or "").strip(),
            corners=tuple(_number(node.findtext(f"bndbox/{c}", "")) for c in ("xmin", "ymin", "xmax", "ymax")),
            difficult=_number(node.findtext("difficult", "0")) == 1,
        )
        for node in nodes
    )
    return VocAnnotation((root.findtext("filename") or "").strip(), size, objects)


def _number(text: str) -> float:
    """The number in a tag; NaN where it is none, so the box is reported and dropped."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _split_stems(tree: Path, split: str | None, seed: int, log: IssueLog) -> list[str]:
    """The stems of one split of one tree, without repeats; empty where the tree has no such split."""
    annotated = sorted(path.stem for path in (tree / "Annotations").glob("*.xml"))
    if split is None:
        return annotated
    lists = {path.stem: path for path in (tree / "ImageSets" / "Main").glob("*.txt")}
    if not lists:
        return seeded_split(annotated, split, seed)
    parts = [split] if split in lists else ["train", "val"] if split == "trainval" else []
    stems: dict[str, None] = {}
    for path in (lists[part] for part in parts if part in lists):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            stem = line.split(maxsplit=1)[0] if line.strip() else ""
            if not stem:
                continue
            if stem in stems:
                log.report("listed twice", path, f"{stem!r} is listed again, taken once")
            elif join_inside(tree, stem) is None:
                log.report("path escape", path, f"{stem!r} would leave the data folder, skipped")
            else:
                stems[stem] = None
    return list(stems)


def seeded_split(stems: Sequence[str], split: str, seed: int) -> list[str]:
    """Splits stems by a seeded shuffle; train, val and test are disjoint and trainval is train plus val.

    Raises:
        DataError: `split` is not one of train, val, trainval and test.
    """
    order = np.random.default_rng(seed).permutation(len(stems))
    val, test = (int(round(SEEDED_SPLIT[part] * len(stems))) for part in ("val", "test"))
    parts = {
        "test": order[:test],
        "val": order[test : test + val],
        "train": order[test + val :],
        "trainval": order[test:],
    }
    if split not in parts:
        raise DataError(f"Expected split to be one of {sorted(parts)} as no split file exists, got {split!r}.")
    return sorted(stems[index] for index in parts[split])


def _read_annotations(tree: Path, stems: Sequence[str], log: IssueLog) -> dict[str, VocAnnotation]:
    """Reads the annotations of the split; a damaged file is reported and left out."""
    annotations = {}
    for stem in stems:
        path = tree / "Annotations" / f"{stem}.xml"
        if not path.is_file():
            log.report("no annotation", path, "the split lists this image but it has no annotation, skipped")
            continue
        try:
            annotations[stem] = read_voc_annotation(path)
        except DataError as error:
            if log.strict:
                raise
            log.report("annotation unreadable", path, str(error))
    return annotations


def _choose_class_names(root, trees, annotations, given: Sequence[str] | None) -> tuple[str, ...]:
    found = {o.name for read in annotations.values() for annotation in read.values() for o in annotation.objects}
    if given is not None:
        if found - set(given) - {""}:
            raise DataError(
                f"Expected the objects in {str(root)!r} to be of the classes {list(given)}, got {sorted(found)}. "
                "Use weights that were trained on these classes, or load the trunk alone."
            )
        return tuple(given)
    if found <= set(VOC_CLASS_NAMES) and all(re.fullmatch(r"VOC20\d\d", tree.name) for tree in trees):
        return VOC_CLASS_NAMES
    for tree in trees:  # Classes that only another split has count too, or its labels would shift.
        others = [path.stem for path in (tree / "Annotations").glob("*.xml") if path.stem not in annotations[tree]]
        rest = _read_annotations(tree, others, IssueLog())
        found |= {o.name for annotation in rest.values() for o in annotation.objects}
    return tuple(sorted(found - {""}))


def _images_by_stem(folder: Path) -> dict[str, Path]:
    order = {suffix: rank for rank, suffix in enumerate(reversed(SUFFIXES))}
    files = [path for path in folder.iterdir() if path.suffix.lower() in order]
    return {path.stem: path for path in sorted(files, key=lambda path: (order[path.suffix.lower()], path.name))}


def _record(tree, stem, image_id, annotation, pictures, class_names, log: IssueLog) -> ImageRecord | None:
    """Finds the image by its stem, else by <filename>; None where there is none or it is damaged."""
    xml = tree / "Annotations" / f"{stem}.xml"
    path = pictures.get(stem)
    if path is None:
        path = join_inside(tree / "JPEGImages", annotation.filename)
        if path is None:
            log.report("path escape", xml, f"<filename> {annotation.filename!r} would leave the data folder, skipped")
            return None
    header = try_read_header(path, log)
    if header is None:
        return None
    return make_record(path, image_id, header, *_clean_objects(xml, annotation, header, class_names, log))


def _clean_objects(xml: Path, annotation: VocAnnotation, header: ImageHeader, class_names, log: IssueLog):
    """Returns boxes, labels, ignore and areas of one annotation, in pixels of the upright image."""
    labels = {name: label for label, name in enumerate(class_names)}
    objects, names = [], []
    for position, o in enumerate(annotation.objects, start=1):
        name, (x_min, y_min, x_max, y_max) = f"object {position} ({o.name})", o.corners
        if o.name not in labels:
            log.report("no class name", xml, f"{name} has no class name, dropped")
        elif x_max <= x_min or y_max <= y_min:
            # Without width as written it is a slip of the mouse, though the 1-based rule would give it one pixel.
            log.report("box without area", xml, f"{name} has the corners {o.corners}, dropped")
        else:
            objects.append(o)
            names.append(name)
    corners = np.float64([o.corners for o in objects]).reshape(-1, 4)
    boxes = reconcile_size(header, annotation.size, corners - [1.0, 1.0, 0.0, 0.0], xml, log)
    boxes, kept = clean_boxes(boxes, header.displayed_size, xml, log, names)
    objects = [objects[position] for position in kept]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return boxes, [labels[o.name] for o in objects], [o.difficult for o in objects], areas
