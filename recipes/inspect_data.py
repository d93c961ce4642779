"""Looks at a data set before training: what it holds, what is wrong with it, which anchors fit, what the network sees.

    python recipes/inspect_data.py --data-dir D [--format auto] [--split train] [--input-size 320] [--output sheet.png]

Prints the pictures, boxes per class and every issue with its file; fits anchors to the boxes; writes a contact sheet of
augmented training pictures with their boxes. Takes seconds.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from keras_lightdet.data.anchor_fit import AnchorFit, fit_anchors
from keras_lightdet.data.augmentation import AugmentSpec
from keras_lightdet.data.contact_sheet import draw_contact_sheet
from keras_lightdet.data.loading import FORMATS, default_splits, load_data
from keras_lightdet.data.records import DetectionData
from keras_lightdet.errors import DataError

SHOWN_ISSUES = 20


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="a VOC tree or a COCO folder")
    parser.add_argument("--format", default="auto", choices=FORMATS)
    parser.add_argument("--split", help="default: the one that recipes train on")
    parser.add_argument("--input-size", type=int, default=320, help="side of the network input, pixels")
    parser.add_argument("--output", default="contact_sheet.png", help="the picture to write")
    parser.add_argument("--strict", action="store_true", help="stop at the first fault in the data")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def summary(data: DetectionData) -> str:
    """What the split holds, as lines of text."""
    labels = np.concatenate([record.labels for record in data.records])
    ignored = sum(int(record.ignore.sum()) for record in data.records)
    empty = sum(not len(record.boxes) for record in data.records)
    most = max(len(record.boxes) for record in data.records)
    lines = [
        f"pictures: {len(data)}, of which {empty} without objects",
        f"boxes: {len(labels)}, of which {ignored} ignored (crowd or difficult); at most {most} in a picture",
    ]
    counts = Counter(labels.tolist())
    lines += [f"  {counts.get(label, 0):7}  {name}" for label, name in enumerate(data.class_names)]
    lines.append(f"issues: {len(data.issues)}")
    for kind, number in Counter(issue.kind for issue in data.issues).most_common():
        lines.append(f"  {number:7}  {kind}")
    lines += [f"    {issue.path}: {issue.detail}" for issue in data.issues[:SHOWN_ISSUES]]
    if len(data.issues) > SHOWN_ISSUES:
        lines.append(f"    and {len(data.issues) - SHOWN_ISSUES} more")
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


def main(args: argparse.Namespace) -> None:
    """Prints the summary and the fit, and writes the sheet."""
    split = args.split or default_splits(args.data_dir, args.format)[0]
    data = load_data(args.data_dir, split, args.format, strict=args.strict, seed=args.seed)
    size = (args.input_size, args.input_size)
    print(f"{args.data_dir}, split {split}\n{summary(data)}")
    try:
        print(anchor_table(fit_anchors(data, size, seed=args.seed)))
    except ValueError as error:
        print(f"anchors: {error}")
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    draw_contact_sheet(data, size, augment=AugmentSpec(), seed=args.seed).save(args.output)
    print(f"contact sheet: {args.output}")


if __name__ == "__main__":
    try:
        main(parse_args())
    except DataError as error:
        sys.exit(str(error))
