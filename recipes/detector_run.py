"""What the detector recipes share: flags, data, callbacks and what is left in the output folder."""

import argparse
import dataclasses
import hashlib
import logging
import math
from collections.abc import Callable, Sequence
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
    report_scores,
    start_from,
    train_resumable,
)

from keras_lightdet import deploy, evaluation, training
from keras_lightdet.data import (
    AugmentSpec,
    DecodeFailures,
    DetectionData,
    default_splits,
    draw_scenes,
    fit_anchor_scale,
    fit_anchors,
    load_data,
    steps_per_epoch,
    train_batches,
)
from keras_lightdet.weights import SUFFIX, read_record

DEMO = {"epochs": 50, "batch_size": 8, "input_size": 192, "train": 400, "test": 100}
# A run of minutes needs larger steps, and images that are varied less.
DEMO_PEAK = 3e-3
DEMO_AUGMENT = AugmentSpec(zoom_out=0.0, crop=0.0, jitter=0.5, mosaic=0.0)
MOSAIC_SHARE = 0.8  # of the run; the last steps see whole images only, as the network will


@dataclasses.dataclass(frozen=True)
class Splits:
    """The images to train on and those to score on."""

    train: DetectionData
    test: DetectionData


def parse_args(
    doc: str,
    *,
    name: str,
    epochs: int,
    input_size: int | None,
    batch_size: int | None = None,
    variants: Sequence[str] = (),
    backbone: str | None = None,
    demo_epochs: int = DEMO["epochs"],
    argv: Sequence[str] | None = None,
):
    """Reads the flags that all detector recipes have.

    Args:
        doc: The recipe's docstring.
        name: Of the output folder.
        epochs, input_size, batch_size: Defaults; `None` is RSANet's batch size, and an input size that the recipe
            finds itself.
        variants: The paper's sizes, the default first; adds `--variant`.
        backbone: What the detector is built on, for people; adds `--weights-backbone`.
        demo_epochs: Default under `--demo`.
        argv: In place of the command line.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, help="VOC tree or COCO folder; without it the public data set is fetched"
    )
    parser.add_argument("--format", choices=("auto", "voc", "coco"), default="auto", help="of --data-dir")
    parser.add_argument("--output-dir", type=Path, default=Path("runs") / name, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, help=f"default: {epochs}")
    usual_batch = batch_size or "the paper's, 24 up to 320 pixels and 12 above"
    parser.add_argument("--batch-size", type=int, help=f"default: {usual_batch}")
    usual_size = input_size or "that of the variant"
    parser.add_argument("--input-size", type=int, help=f"side of the network input in pixels; default: {usual_size}")
    add_weights_flags(parser, backbone)
    if variants:
        parser.add_argument("--variant", choices=variants, default=variants[0], help="default: %(default)s")
    add_run_flags(parser)
    args = parser.parse_args(argv)
    if args.demo and args.data_dir:
        parser.error("--demo draws its own data: leave out --data-dir.")
    check_exclusive_weights(parser, args)
    defaults = {**DEMO, "epochs": demo_epochs} if args.demo else {"epochs": epochs, "input_size": input_size}
    args.epochs = args.epochs or defaults["epochs"]
    args.input_size = args.input_size or defaults["input_size"]
    batch_size = defaults.get("batch_size") or batch_size or (24 if args.input_size <= 320 else 12)
    args.batch_size = args.batch_size or batch_size
    args.export = args.export or args.demo
    return args


class DetectorRun:
    """One training of one detector: data before it, files after it.

    Args:
        args: Of `parse_args`.
        fetch: Loads the public data set into a folder, where none is given.
        metric: What decides the best weights, see `EvaluateDetector`.
        scales: Sides of the network input to train at in turn, besides the one of `args`, as shares of it.
        augment: How training images are varied, but for the demo; `None` is as suits a start from noise.
    """

    def __init__(
        self,
        args,
        *,
        fetch: Callable[[Path], Splits],
        metric: str,
        scales: Sequence[float] = (),
        augment: AugmentSpec | None = None,
    ):
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
        training.make_reproducible(args.seed)
        self.args = args
        self.metric = metric
        self.scales = () if args.demo else tuple(scales)
        self.wanted_augment = augment
        self.best_path = args.output_dir / f"best{SUFFIX}"
        self.splits = self._load(fetch)
        self.steps_per_epoch = steps_per_epoch(self.splits.train, args.batch_size)
        self.total_steps = self.steps_per_epoch * args.epochs
        for name, data in (("train", self.splits.train), ("test", self.splits.test)):
            print(summarize(name, data))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return self.splits.train.class_names

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of the network."""
        return (self.args.input_size, self.args.input_size, 3)

    @property
    def augment(self) -> AugmentSpec:
        """How training images are varied."""
        if self.args.demo:
            return DEMO_AUGMENT
        return self.wanted_augment or AugmentSpec(mosaic_until_step=int(MOSAIC_SHARE * self.total_steps))

    def warmup_cosine(
        self, peak: float, final: float, *, demo_peak: float = DEMO_PEAK
    ) -> keras.optimizers.schedules.LearningRateSchedule:
        """Returns a rate that warms up for an epoch and falls to `final` at the end; the demo has its own peak."""
        peak = demo_peak if self.args.demo else peak
        warmup = min(self.steps_per_epoch, self.total_steps // 2)  # a run of one epoch has to fall, too
        return training.warmup_cosine(peak, self.total_steps, warmup, final=final)

    def fit_anchors(self, num_levels: int, per_level: int) -> Sequence | None:
        """Returns anchors in pixels of the input: those of `--weights`, else clustered on the training boxes."""
        size, seed = self.input_shape[:2], self.args.seed
        if self.args.weights:
            saved = read_record(self.args.weights)["architecture"]
            scale = math.sqrt(math.prod(size) / math.prod(saved["input_shape"][:2]))
            return (scale * np.array(saved["anchors"])).tolist() if "anchors" in saved else None
        fit = fit_anchors(self.splits.train, size, num_levels=num_levels, per_level=per_level, seed=seed)
        print(f"anchors: mean best IoU {fit.mean_best_iou:.3f}, recall at IoU 0.5 {fit.recall:.3f}: {fit.anchors}")
        return fit.anchors

    def fit_anchor_scale(self, usual: float) -> float:
        """Returns the scale of a pyramid's anchors: that of `--weights`, else what fits the training boxes."""
        if self.args.weights:
            return read_record(self.args.weights)["architecture"].get("anchor_scale", usual)
        scale, recall = fit_anchor_scale(self.splits.train, self.input_shape[:2], usual)
        print(f"anchors: from {scale:g} times a level's stride (the paper's {usual:g}), recall at IoU 0.5 {recall:.3f}")
        return scale

    def start_from(self, model) -> None:
        """Loads `--weights`, without the class predictions where the classes differ."""
        start_from(model, self.args.weights, self.class_names)

    def fit(self, model) -> None:
        """Trains a compiled model, or goes on with it, and leaves its best weights in it."""
        args, failures = self.args, DecodeFailures()

        def batches(step: int):
            return train_batches(
                self.splits.train,
                self._made_size,
                args.batch_size,
                seed=args.seed,
                multi_scale=self._sizes,
                augment=self.augment,
                start_step=step,
                strict=args.strict,
                failures=failures,
            )

        scores = evaluation.EvaluateDetector(
            self.splits.test, metric=self.metric, batch_size=args.batch_size, best_path=self.best_path
        )
        guard = training.HaltOnNaN(self.splits.train)
        steps = self.steps_per_epoch
        train_resumable(model, batches, args, steps_per_epoch=steps, scores=scores, guard=guard, config=self._config())

    def finish(self, model) -> None:
        """Scores the best weights by every rule, draws predictions beside the truth, and exports."""
        args, folder, test = self.args, self.args.output_dir, self.splits.test
        detections = evaluation.predict_detection(model, test, args.batch_size)
        results = {
            "voc07": evaluation.evaluate_voc(test, detections, metric="voc07"),
            "voc": evaluation.evaluate_voc(test, detections, metric="area"),
            "coco": evaluation.evaluate_coco(test, detections),
        }
        report_scores(results, folder, self.best_path)
        evaluation.plot_precision_recall(results["voc"], folder / "precision_recall.png")
        evaluation.save_detection_grid(test, detections, folder / "predictions.png", images=GRID_IMAGES)
        if args.export:
            data = ("--data-dir", str(args.data_dir), "--format", args.format) if args.data_dir else ()
            path, records = folder / "detector.tflite", self.splits.train.records
            export_checked(model, deploy.export_detection, path, records, self.best_path, *data)

    @property
    def _sizes(self) -> tuple[tuple[int, int], ...]:
        """Input sizes of multi-scale training; none where there is but one."""
        return tuple((round(self.args.input_size * scale),) * 2 for scale in self.scales)

    @property
    def _made_size(self) -> tuple[int, int]:
        """The size that batches are made at: the largest, which the others are shrunk from."""
        return max([self.input_shape[:2], *self._sizes])

    def _load(self, fetch: Callable[[Path], Splits]) -> Splits:
        args = self.args
        if args.demo:
            args.data_dir = args.output_dir / "scenes"
            draw_scenes(args.data_dir, {"trainval": DEMO["train"], "test": DEMO["test"]}, seed=args.seed)
        if args.data_dir is None:
            return fetch(args.output_dir.parent / "data")
        first, second = default_splits(args.data_dir, args.format)
        options = {"strict": args.strict, "seed": args.seed}
        train = load_data(args.data_dir, first, args.format, **options)
        return Splits(train, load_data(args.data_dir, second, args.format, class_names=train.class_names, **options))

    def _config(self) -> dict:
        """What must stay the same for a run to be resumed."""
        args = self.args
        return {
            "classes": list(self.class_names),
            "data": fingerprint(self.splits.train),
            "epochs": args.epochs,
            "batch_size": args.batch_size,
            "input_size": args.input_size,
            "seed": args.seed,
            "weights": args.weights,
            "weights_backbone": getattr(args, "weights_backbone", None),
            "augment": dataclasses.asdict(self.augment),
            "scales": list(self.scales),
            "variant": getattr(args, "variant", None),
        }


def summarize(name: str, data: DetectionData) -> str:
    """Tells in some lines what a split holds and what was wrong with it."""
    labels = np.concatenate([record.labels for record in data.records])
    counts = np.bincount(labels, minlength=len(data.class_names))
    empty = sum(len(record.labels) == 0 for record in data.records)
    lines = [
        f"{name}: {len(data)} images ({empty} without objects), {len(labels)} boxes: "
        + ", ".join(f"{label} {count}" for label, count in zip(data.class_names, counts, strict=True))
    ]
    if data.issues:
        lines.append(f"  {len(data.issues)} faults in the data:")
        lines += [f"  {issue.kind}: {issue.path}: {issue.detail}" for issue in data.issues[:SHOWN_ISSUES]]
        lines += [f"  and {len(data.issues) - SHOWN_ISSUES} more"] if len(data.issues) > SHOWN_ISSUES else []
    return "\n".join(lines)


def fingerprint(data: DetectionData) -> str:
    """Returns a hash of the images' ids and labels, wherever the folder stands."""
    digest = hashlib.sha256()
    for record in data.records:
        digest.update(str(record.image_id).encode())
        for values in (record.boxes, record.labels, record.ignore):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
