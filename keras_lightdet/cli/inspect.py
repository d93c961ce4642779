"""Inspect a data set before training.

    lightdet inspect --data-dir my_data
    lightdet inspect --data-dir my_data --split val --input-size 320 --output montage.png
    lightdet inspect --data-dir my_labels --input-size 360 480

Boxes: prints the number of images, the boxes of each class and every issue with its file, and fits
anchors. Label images: prints the pixels and images of each class and the ignored pixels, and names
every file with an unknown value or color, a wrong size or damage, which training would reject.
Both: writes a montage of augmented training images with labels.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_lightdet.cli.arguments import DETECTION_FORMATS, positive_int
from keras_lightdet.files import expand_user

if TYPE_CHECKING:
    from PIL import Image

    from keras_lightdet.data import DataIssue
    from keras_lightdet.data.detection.anchor_fit import AnchorFit
    from keras_lightdet.data.detection.records import DetectionData

SHOWN_ISSUES = 20
SEGMENTATION = "segmentation"
BOX_SIZE, LABEL_SIZE = (320, 320), (360, 480)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--data-dir",
        type=expand_user,
        required=True,
        metavar="FOLDER",
        help="a VOC tree or COCO folder; or label images in SegNet's layout, parallel folders or Cityscapes",
    )
    parser.add_argument(
        "--format",
        default="auto",
        choices=(*DETECTION_FORMATS, SEGMENTATION),
        help="format of the data (default: auto, detected by the files)",
    )
    parser.add_argument("--split", help="split to inspect (default: the training split)")
    parser.add_argument(
        "--input-size",
        type=positive_int,
        nargs="+",
        metavar="PIXELS",
        help="side of the network input, or height and width (default: 320 for boxes, 360 480 for label images)",
    )
    parser.add_argument(
        "--output",
        type=expand_user,
        default=Path("montage.png"),
        metavar="FILE",
        help="montage to write (default: %(default)s)",
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first fault in the data")
    parser.add_argument("--seed", type=int, default=0, help="seed of the augmentation (default: 0)")


def run(
    *,
    data_dir: Path,
    format: str,
    split: str | None,
    input_size: Sequence[int] | None,
    output: Path,
    strict: bool,
    seed: int,
) -> int:
    """Inspects boxes or label images; returns 2 for a wrong input size."""
    if input_size and len(input_size) > 2:
        print("error: Expected --input-size to be one side, or height and width.", file=sys.stderr)
        return 2
    size = (input_size[0], input_size[-1]) if input_size else None
    if _has_label_images(data_dir, format):
        montage = _inspect_label_images(data_dir, split, size or LABEL_SIZE, strict, seed)
    else:
        montage = _inspect_boxes(data_dir, format, split, size or BOX_SIZE, strict, seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    montage.save(output)
    print(f"montage: {output}")
    return 0


def _has_label_images(data_dir: Path, format: str) -> bool:
    """Returns whether the data have label images; "auto" detects it by the files.

    Raises:
        DataError: The folder has no known format.
    """
    from keras_lightdet.data import segmentation_splits
    from keras_lightdet.data.detection.loading import find_format
    from keras_lightdet.errors import DataError

    if format != "auto":
        return format == SEGMENTATION
    try:
        find_format(data_dir)
    except DataError as no_boxes:
        try:
            segmentation_splits(data_dir)
        except DataError as no_labels:
            raise DataError(f"{no_boxes} Or, for label images: {no_labels}") from no_labels
        return True
    return False


def _inspect_boxes(
    data_dir: Path, format: str, split: str | None, size: tuple[int, int], strict: bool, seed: int
) -> "Image.Image":
    from keras_lightdet.data import AugmentSpec
    from keras_lightdet.data.detection.anchor_fit import fit_anchors
    from keras_lightdet.data.detection.loading import default_splits, load_data
    from keras_lightdet.visualization.batches import draw_detection_batch

    split = split or default_splits(data_dir, format)[0]
    data = load_data(data_dir, split, format, strict=strict, seed=seed)
    print(f"{data_dir}, split {split}\n{_summary(data)}")
    try:
        print(_anchor_table(fit_anchors(data, size, seed=seed)))
    except ValueError as error:
        print(f"anchors: {error}")
    return draw_detection_batch(data, size, augment=AugmentSpec(), seed=seed)


def _inspect_label_images(
    data_dir: Path, split: str | None, size: tuple[int, int], strict: bool, seed: int
) -> "Image.Image":
    from keras_lightdet.data import SegmentationAugmentSpec, inspect_labels, load_segmentation, segmentation_splits
    from keras_lightdet.visualization.batches import draw_segmentation_batch

    split = split or segmentation_splits(data_dir)[0]
    data = load_segmentation(data_dir, split, strict=strict)
    report = inspect_labels(data)
    print(f"{data_dir}, split {split}\nimages: {len(data)}\n{report.table()}\n{_issue_list(data.issues)}")
    report.raise_on_faults()
    return draw_segmentation_batch(data, size, augment=SegmentationAugmentSpec(), seed=seed)


def _summary(data: "DetectionData") -> str:
    """Returns the content of a split as lines of text."""
    boxes = Counter(label for record in data.records for label in record.labels.tolist())
    ignored = sum(int(record.ignore.sum()) for record in data.records)
    counts = [len(record.boxes) for record in data.records]
    lines = [
        f"images: {len(data)}, of which {counts.count(0)} without objects",
        f"boxes: {sum(counts)}, of which {ignored} ignored (crowd or difficult); at most {max(counts)} in an image",
    ]
    lines += [f"  {boxes[label]:7}  {name}" for label, name in enumerate(data.class_names)]
    return "\n".join([*lines, _issue_list(data.issues)])


def _issue_list(issues: "Sequence[DataIssue]") -> str:
    """Returns the issues as lines of text: counts by kind, then the first ones with their files."""
    lines = [f"issues: {len(issues)}"]
    lines += [f"  {number:7}  {kind}" for kind, number in Counter(issue.kind for issue in issues).most_common()]
    lines += [f"    {issue.path}: {issue.detail}" for issue in issues[:SHOWN_ISSUES]]
    if len(issues) > SHOWN_ISSUES:
        lines.append(f"    and {len(issues) - SHOWN_ISSUES} more")
    return "\n".join(lines)


def _anchor_table(fit: "AnchorFit") -> str:
    """Returns the fitted anchors and their quality as lines of text."""
    lines = [f"anchors for {fit.num_boxes} boxes, width x height in pixels of the input, fine level first:"]
    lines += ["  " + ", ".join(f"{width:g} x {height:g}" for width, height in level) for level in fit.anchors]
    lines.append(
        f"  mean best IoU {fit.mean_best_iou:.3f}; {fit.recall:.1%} of the boxes above IoU 0.5; "
        f"{fit.smaller_than_stride:.1%} with a side below the finest stride"
    )
    return "\n".join(lines)
