"""Looks at a data set before training: what it holds, what is wrong with it, which anchors fit, what the network sees.

    python recipes/inspect_data.py --data-dir D [--format auto] [--split train] [--input-size 320] [--output sheet.png]
    python recipes/inspect_data.py --data-dir D --input-size 360 480                         # a label for every pixel

Of boxes it prints the images, boxes per class and every issue with its file, and fits anchors; of label images it
prints how many pixels and images have each class and how many pixels are ignored, and names every file with a value
or color that is not in the list, another size, or damage, which training would refuse. Either way it writes a contact
sheet of augmented training images with their labels. Takes seconds.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from shared_run import report_errors

from keras_lightdet.data import (
    DataIssue,
    SegmentationAugmentSpec,
    inspect_labels,
    load_segmentation,
    segmentation_splits,
)
from keras_lightdet.data.augmentation.windows import AugmentSpec
from keras_lightdet.data.detection.anchor_fit import AnchorFit, fit_anchors
from keras_lightdet.data.detection.loading import FORMATS, default_splits, find_format, load_data
from keras_lightdet.data.detection.records import DetectionData
from keras_lightdet.errors import DataError
from keras_lightdet.visualization.batches import draw_detection_batch, draw_segmentation_batch

SHOWN_ISSUES = 20
PIXELS = "segmentation"
BOX_SIZE, PIXEL_SIZE = (320, 320), (360, 480)


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir",
        required=True,
        help="a VOC tree or a COCO folder; or label images in SegNet's layout, parallel folders, or Cityscapes",
    )
    parser.add_argument("--format", default="auto", choices=(*FORMATS, PIXELS))
    parser.add_argument("--split", help="default: the one that recipes train on")
    parser.add_argument(
        "--input-size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help=f"side of the network input, or height and width; default: {BOX_SIZE[0]}, or {PIXEL_SIZE} for {PIXELS}",
    )
    parser.add_argument("--output", default="contact_sheet.png", help="the image to write")
    parser.add_argument("--strict", action="store_true", help="stop at the first fault in the data")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.input_size and len(args.input_size) > 2:
        parser.error("--input-size takes one side, or height and width.")
    return args


def summary(data: DetectionData) -> str:
    """What the split holds, as lines of text."""
    labels = np.concatenate([record.labels for record in data.records])
    ignored = sum(int(record.ignore.sum()) for record in data.records)
    empty = sum(not len(record.boxes) for record in data.records)
    most = max(len(record.boxes) for record in data.records)
    lines = [
        f"images: {len(data)}, of which {empty} without objects",
        f"boxes: {len(labels)}, of which {ignored} ignored (crowd or difficult); at most {most} in an image",
    ]
    counts = Counter(labels.tolist())
    lines += [f"  {counts.get(label, 0):7}  {name}" for label, name in enumerate(data.class_names)]
    return "\n".join([*lines, issue_list(data.issues)])


def issue_list(issues: Sequence[DataIssue]) -> str:
    """What was found wrong, as lines of text: counts by kind, then the first ones with their files."""
    lines = [f"issues: {len(issues)}"]
    for kind, number in Counter(issue.kind for issue in issues).most_common():
        lines.append(f"  {number:7}  {kind}")
    lines += [f"    {issue.path}: {issue.detail}" for issue in issues[:SHOWN_ISSUES]]
    if len(issues) > SHOWN_ISSUES:
        lines.append(f"    and {len(issues) - SHOWN_ISSUES} more")
    return "\n".join(lines)


def anchor_table(fit: AnchorFit) -> str:
    """The fitted anchors and their figures, as lines of text."""
    lines = [f"anchors for {fit.num_boxes} boxes, width x height in pixels of the input, fine level first:"]
    lines += ["  " + ", ".join(f"{width:g} x {height:g}" for width, height in level) for level in fit.anchors]
    lines.append(
        f"  mean best IoU {fit.mean_best_iou:.3f}; {fit.recall:.1%} of the boxes above IoU 0.5; "
        f"{fit.smaller_than_stride:.1%} with a side below the finest stride"
    )
    return "\n".join(lines)


def inspect_boxes(args: argparse.Namespace) -> None:
    """Prints the summary and the fit, and writes the sheet."""
    split = args.split or default_splits(args.data_dir, args.format)[0]
    data = load_data(args.data_dir, split, args.format, strict=args.strict, seed=args.seed)
    size = input_size(args, BOX_SIZE)
    print(f"{args.data_dir}, split {split}\n{summary(data)}")
    try:
        print(anchor_table(fit_anchors(data, size, seed=args.seed)))
    except ValueError as error:
        print(f"anchors: {error}")
    save_sheet(draw_detection_batch(data, size, augment=AugmentSpec(), seed=args.seed), args.output)


def inspect_pixels(args: argparse.Namespace) -> None:
    """Prints the histogram and the issues, refuses faulty label images, and writes the sheet."""
    split = args.split or segmentation_splits(args.data_dir)[0]
    data = load_segmentation(args.data_dir, split, strict=args.strict)
    report = inspect_labels(data)
    print(f"{args.data_dir}, split {split}\nimages: {len(data)}\n{report.table()}\n{issue_list(data.issues)}")
    report.raise_on_faults()
    sheet = draw_segmentation_batch(
        data, input_size(args, PIXEL_SIZE), augment=SegmentationAugmentSpec(), seed=args.seed
    )
    save_sheet(sheet, args.output)


def input_size(args: argparse.Namespace, default: tuple[int, int]) -> tuple[int, int]:
    """`(height, width)` of the network input."""
    given = args.input_size or default
    return given[0], given[-1]


def save_sheet(sheet, path: str) -> None:
    """Writes the sheet and says where."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    print(f"contact sheet: {path}")


def labels_pixels(args: argparse.Namespace) -> bool:
    """Whether the data have a label for every pixel; told by the folder where `--format` does not say.

    Raises:
        DataError: The folder has no form that is known.
    """
    if args.format != "auto":
        return args.format == PIXELS
    try:
        find_format(args.data_dir)
    except DataError as no_boxes:
        try:
            segmentation_splits(args.data_dir)
        except DataError as no_pixels:
            raise DataError(f"{no_boxes} Or, for a label of every pixel: {no_pixels}") from no_pixels
        return True
    return False


def main(args: argparse.Namespace) -> None:
    """Inspects boxes or pixels, whichever are labeled."""
    (inspect_pixels if labels_pixels(args) else inspect_boxes)(args)


if __name__ == "__main__":
    with report_errors():
        main(parse_args())
