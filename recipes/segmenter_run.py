"""What the segmenter recipes share: flags, data, callbacks and what is left in the output folder."""

import argparse
import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from shared_run import (
    GRID_IMAGES,
    SHOWN_ISSUES,
    add_run_flags,
    add_weights_flags,
    check_exclusive_weights,
    export_checked,
    report_errors,
    report_scores,
    start_from,
    train_resumable,
)

from keras_lightdet import deploy, evaluation, training
from keras_lightdet.data import (
    DecodeFailures,
    SegmentationAugmentSpec,
    SegmentationData,
    draw_segmentation_scenes,
    inspect_labels,
    load_segmentation,
    segmentation_splits,
    segmentation_train_batches,
)
from keras_lightdet.files import file_sha256
from keras_lightdet.weights import SUFFIX

DEMO = {"epochs": 30, "batch_size": 8, "height": 128, "width": 160, "train": 300, "val": 60}
DEMO_AUGMENT = SegmentationAugmentSpec(scales=(0.75, 1.33))
WARMUP_STEPS = 1000
MOMENTUM = 0.9
CLIP_NORM = 10.0


def parse_args(
    doc: str,
    *,
    name: str,
    epochs: int,
    height: int,
    width: int,
    batch_size: int,
    variants: Sequence[str],
    backbone: str,
    crop_size: tuple[int, int] | None = None,
    argv: Sequence[str] | None = None,
):
    """Reads the flags that all segmenter recipes have.

    Args:
        doc: The recipe's docstring.
        name: Of the output folder.
        epochs, height, width, batch_size: Defaults.
        variants: The paper's sizes, the default first.
        backbone: What the segmenter is built on, for people.
        crop_size: `(height, width)` of what is cut out in training by default; None takes the input.
        argv: In place of the command line.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="SegNet's layout, parallel folders, or Cityscapes")
    parser.add_argument("--output-dir", type=Path, default=Path("runs") / name, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, help=f"default: {epochs}")
    parser.add_argument("--batch-size", type=int, help=f"default: {batch_size}")
    parser.add_argument(
        "--input-size", type=int, nargs=2, metavar=("H", "W"), help=f"network input; default: {height} {width}"
    )
    parser.add_argument("--crop-size", type=int, nargs=2, metavar=("H", "W"), help="in training")
    add_weights_flags(parser, backbone)
    parser.add_argument("--variant", choices=variants, default=variants[0], help="default: %(default)s")
    parser.add_argument("--evaluate-every", type=int, default=1, help="epochs between scores; default: %(default)s")
    add_run_flags(parser)
    args = parser.parse_args(argv)
    if args.demo == bool(args.data_dir):
        parser.error("give --data-dir, or --demo, which draws its own data.")
    check_exclusive_weights(parser, args)
    own = {"epochs": epochs, "batch_size": batch_size, "height": height, "width": width}
    defaults = DEMO if args.demo else own
    args.epochs = args.epochs or defaults["epochs"]
    args.batch_size = args.batch_size or defaults["batch_size"]
    args.input_size = tuple(args.input_size or (defaults["height"], defaults["width"]))
    usual_crop = crop_size if crop_size and not args.demo else args.input_size
    args.crop_size = tuple(args.crop_size or usual_crop)
    args.export = args.export or args.demo
    return args


class SegmenterRun:
    """One training of one segmenter: data before it, files after it.

    Args:
        args: Of `parse_args`.
        scales: Range of scales that training images are seen at.
    """

    def __init__(self, args, *, scales: tuple[float, float]):
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
        training.make_reproducible(args.seed)
        self.args = args
        self.augment = DEMO_AUGMENT if args.demo else SegmentationAugmentSpec(scales=scales)
        self.best_path = args.output_dir / f"best{SUFFIX}"
        self.train, self.val, self.test = self._load()
        self.steps_per_epoch = -(-len(self.train) // args.batch_size)
        self.total_steps = self.steps_per_epoch * args.epochs

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return self.train.class_names

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of the network."""
        return (*self.args.input_size, 3)

    def optimizer(
        self, *, rate: float, batch_size: int, decay: float, scratch_rate: float
    ) -> keras.optimizers.Optimizer:
        """Returns the paper's SGD for a trained start, Adam for one from noise; both keep an average of the weights.

        Args:
            rate: The paper's, for its `batch_size`; other batches get their share of it.
            batch_size: The paper's.
            decay: The paper's weight decay.
            scratch_rate: Adam's.
        """
        args, steps = self.args, self.total_steps
        warmup = min(WARMUP_STEPS, steps // 20)
        average = {"use_ema": True, "ema_momentum": training.ema_momentum(steps)}
        if not (args.weights or args.weights_backbone):
            schedule = training.warmup_poly(scratch_rate, steps, warmup)
            return keras.optimizers.Adam(schedule, global_clipnorm=CLIP_NORM, **average)
        schedule = training.warmup_poly(rate * args.batch_size / batch_size, steps, warmup)
        # Keras takes the decay off the weights, the papers put it into the gradients, where momentum sums it up.
        return keras.optimizers.SGD(schedule, momentum=MOMENTUM, weight_decay=decay / (1 - MOMENTUM), **average)

    def start_from(self, model) -> None:
        """Loads `--weights`, without the class predictions where the classes differ."""
        start_from(model, self.args.weights, self.class_names)

    def fit(self, model) -> None:
        """Trains a compiled model, or goes on with it, and leaves its best weights in it."""
        args, failures = self.args, DecodeFailures()

        def batches(step: int):
            return segmentation_train_batches(
                self.train,
                args.input_size,
                args.batch_size,
                seed=args.seed,
                augment=self.augment,
                crop_size=args.crop_size,
                start_step=step,
                strict=args.strict,
                failures=failures,
            )

        scores = evaluation.EvaluateSegmenter(
            self.val, batch_size=args.batch_size, best_path=self.best_path, every=args.evaluate_every
        )
        guard = training.HaltOnNaN(self.train)
        steps = self.steps_per_epoch
        train_resumable(model, batches, args, steps_per_epoch=steps, scores=scores, guard=guard, config=self._config())

    def finish(self, model) -> None:
        """Scores the best weights at full label size, plain and with flips, draws some answers, and exports."""
        args, folder, test = self.args, self.args.output_dir, self.test
        results = {
            "test": evaluation.evaluate_segmentation(model, test, args.batch_size),
            "test, flipped too": evaluation.evaluate_segmentation(model, test, args.batch_size, flip=True),
        }
        report_scores(results, folder, self.best_path)
        chosen = np.linspace(0, len(test) - 1, min(GRID_IMAGES, len(test))).astype(int).tolist()
        found = {index: model.segment(test.records[index].path) for index in chosen}
        evaluation.save_segmentation_grid(test, found, folder / "predictions.png")
        if args.export:
            path, data = folder / "segmenter.tflite", ("--data-dir", str(args.data_dir))
            export_checked(model, deploy.export_segmentation, path, self.train.records, self.best_path, *data)

    def _load(self) -> tuple[SegmentationData, SegmentationData, SegmentationData]:
        """Returns what to train on, to choose the best weights by, and to score on; the last two may be the same."""
        args = self.args
        if args.demo:
            args.data_dir = args.output_dir / "scenes"
            draw_segmentation_scenes(args.data_dir, {"train": DEMO["train"], "val": DEMO["val"]}, seed=args.seed)
        loaded = {}
        for split in segmentation_splits(args.data_dir):
            if split not in loaded:
                loaded[split] = load_segmentation(args.data_dir, split, strict=args.strict)
                report = inspect_labels(loaded[split])
                print(f"{split}: {len(loaded[split])} images\n{report.table()}")
                for issue in loaded[split].issues[:SHOWN_ISSUES]:
                    print(f"  {issue.kind}: {issue.detail}")
                report.raise_on_faults()
        return tuple(loaded[split] for split in segmentation_splits(args.data_dir))

    def _config(self) -> dict:
        """What must stay the same for a run to be resumed."""
        args = self.args
        names = ("epochs", "batch_size", "input_size", "crop_size", "seed", "weights", "weights_backbone", "variant")
        return {
            "classes": list(self.class_names),
            "data": [fingerprint(self.train), fingerprint(self.val)],
            "augment": dataclasses.asdict(self.augment),
            **{name: getattr(args, name) for name in names},
        }


def train(args, build, *, scales: tuple[float, float], **rates: float) -> None:
    """Trains, scores, draws and exports what `build` builds, by a paper's numbers; ends with a fault's message.

    Args:
        args: Of `parse_args`.
        build: The builder.
        scales: See `SegmenterRun`.
        rates: See `SegmenterRun.optimizer`.
    """
    with report_errors():
        run = SegmenterRun(args, scales=scales)
        model = build(
            class_names=run.class_names,
            input_shape=run.input_shape,
            variant=args.variant,
            weights_backbone=args.weights_backbone,
        )
        run.start_from(model)
        model.compile(run.optimizer(**rates))
        run.fit(model)
        run.finish(model)


def fingerprint(data: SegmentationData) -> str:
    """Returns a hash of the images' names, their label files' bytes and what these stand for, wherever the folder is.

    Of CamVid's 367 training images that is 1.9 MB to read, in 0.02 seconds; decoding them takes a hundred times that.
    """
    digest = hashlib.sha256(json.dumps(sorted(map(str, data.table.codes.items()))).encode())
    for record in data.records:
        labels = file_sha256(record.label_path)
        digest.update(f"{Path(record.path).name} {record.width} {record.height} {labels}\n".encode())
    return digest.hexdigest()
