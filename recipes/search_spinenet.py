"""Searches for a scale-permuted backbone as SpineNet was found, on your own images or on COCO 2017.

    python recipes/search_spinenet.py --demo                                   # drawn scenes, a few tiny graphs
    python recipes/search_spinenet.py --data-dir D --rounds 500 --epochs 5     # your images
    python recipes/search_spinenet.py --data-dir D --permuted-only             # order and connections alone
    python recipes/search_spinenet.py --data-dir D --method evolve             # evolution in place of the controller

A recurrent controller decides the order of scales, then who is connected to whom, then shifts of levels and kinds of
blocks (Du et al. 2020, section 3.2). Its reward is the AP of a proxy on images held out of the training split: a
RetinaNet on the graph with a quarter of SpineNet-49's widths and of its resampling, heads of 64 channels, 512 pixels, 5
epochs. The paper held 7,392 of COCO's 118,287 images out and found SpineNet-49 after 14,000 proxies on 100 machines;
nothing of that size was run here. How its proxies were trained is not said: here by Adam with a cosine to 0.

The output folder holds graphs.jsonl, a line for every graph with its AP, and found.json with the best so far. A search
that was killed goes on with the same command and --resume; it loses the graph that was in training.

    blocks = json.loads(Path("runs/spinenet_search/found.json").read_text())["blocks"]
    features = keras_lightdet.backbones.SpineNet(variant="49", blocks=blocks)
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
from detector_run import DEMO_PEAK, fingerprint, summarize
from shared_run import report_errors
from train_rsanet_coco import fetch

from keras_lightdet.backbones import SpineNet
from keras_lightdet.backbones.scale_permuted import Block
from keras_lightdet.backbones.spinenet_controller import SearchSpace, reinforce
from keras_lightdet.backbones.spinenet_search import evolve
from keras_lightdet.boxes import PyramidAnchors, SelectSpec
from keras_lightdet.data import (
    AugmentSpec,
    DetectionData,
    SceneSpec,
    default_splits,
    draw_scenes,
    load_data,
    steps_per_epoch,
    train_batches,
)
from keras_lightdet.detection import AnchorObjective, OneStageDetector
from keras_lightdet.evaluation import evaluate_coco, predict_detection
from keras_lightdet.files import atomic_write
from keras_lightdet.layers import NORM, dense_heads
from keras_lightdet.models.retinanet import PER_CELL, STRIDES
from keras_lightdet.training import make_reproducible, warmup_cosine

METHODS = ("reinforce", "evolve")
# The proxy (section 3.2): shares of SpineNet-49's widths and of its resampling, and channels of pyramid and heads.
PROXY = {"width": 0.25, "resample": 0.25, "out_width": 64}
HEAD_REPEATS = 4
PEAK, CLIP_NORM = 1e-3, 10.0  # the demo has its own peak
AUGMENT = AugmentSpec(zoom_out=0, crop=0, mosaic=0)
DEFAULTS = {"rounds": 200, "batch": 10, "epochs": 5, "input_size": 512, "batch_size": 8, "hold_out": 1 / 16}
DEMO = {"rounds": 6, "batch": 3, "epochs": 20, "input_size": 96, "batch_size": 8, "hold_out": 1 / 4}
DEMO_IMAGES = 160
# What some hundred steps at 96 pixels can learn to find.
DEMO_SCENES = SceneSpec(objects=(2, 5), object_sides=(120.0, 400.0), empty=0.0, own_color=1.0)
GRAPHS, FOUND = "graphs.jsonl", "found.json"


class GraphLog:
    """Scores graphs one after the other, and keeps every score; asked again after a kill, it answers from what it kept.

    A search is the same sequence of graphs whenever it gets the same scores, so one that is begun anew runs through the
    kept ones in no time and goes on behind them.

    Args:
        folder: Where `graphs.jsonl` and `found.json` are.
        score: Of a graph.
        config: What must be the same for a search to go on.
        resume: Whether there may be scores from before.
    """

    def __init__(self, folder: Path, score: Callable[[tuple[Block, ...]], float], config: dict, *, resume: bool):
        self.folder, self.score, self.asked = folder, score, 0
        path = folder / GRAPHS
        # A kill leaves half a line, the last one.
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        kept = [json.loads(line) for line in lines if line.endswith("\n")]
        if kept and not resume:
            raise SystemExit(f"{path} has scores. Give --resume to go on, or another --output-dir.")
        if kept and kept[0] != config:
            differ = sorted(key for key in config if kept[0].get(key) != config[key])
            raise SystemExit(f"Expected the flags of the search in {folder} to be the same, but {differ} differ.")
        self.kept = kept[1:]
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(path, "".join(json.dumps(each) + "\n" for each in [config, *self.kept]))

    def __call__(self, blocks: tuple[Block, ...]) -> float:
        """Returns a graph's score."""
        as_data = [[*block[:2], list(block.parents), block.output] for block in blocks]
        if self.asked == len(self.kept):
            start = time.monotonic()
            score = self.score(blocks)
            seconds = round(time.monotonic() - start, 1)
            self.kept.append({"round": self.asked + 1, "score": score, "seconds": seconds, "blocks": as_data})
            with (self.folder / GRAPHS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.kept[-1]) + "\n")
            best = max(self.kept, key=lambda each: each["score"])
            atomic_write(self.folder / FOUND, json.dumps({"builder": "SpineNet", **best}, indent=1) + "\n")
            print(f"graph {self.asked + 1}: AP {score:.4f}, best {best['score']:.4f}, {seconds:.0f} s", flush=True)
        entry = self.kept[self.asked]
        if entry["blocks"] != as_data:
            raise SystemExit(
                f"Expected graph {self.asked + 1} to be that of {self.folder / GRAPHS}, but the search goes another "
                "way on this machine or with these versions. Begin it anew in another --output-dir."
            )
        self.asked += 1
        return entry["score"]


def split(data: DetectionData, share: float) -> tuple[DetectionData, DetectionData]:
    """Returns the images to train on and those held out, which are spread evenly over the records."""
    every = round(1 / share)
    held = [index % every == every - 1 for index in range(len(data.records))]
    parts = ([record for record, is_held in zip(data.records, held, strict=True) if is_held == part] for part in (0, 1))
    trained, held_out = (dataclasses.replace(data, records=part) for part in parts)
    return trained, held_out


def proxy(blocks: Sequence[Block], class_names: Sequence[str], side: int) -> OneStageDetector:
    """Builds the small RetinaNet whose AP stands for the graph's."""
    images = keras.Input((None, None, 3), name="images")
    raw = dense_heads(
        SpineNet(variant="49", blocks=blocks, **PROXY, name="backbone")(images),
        len(class_names),
        PER_CELL,
        width=PROXY["out_width"],
        repeats=HEAD_REPEATS,
        separable=False,
        activation="relu",
        norm=NORM,
        initializer=keras.initializers.RandomNormal(stddev=0.01),
    )
    return OneStageDetector(
        keras.Model(images, raw, name="network"),
        AnchorObjective(PyramidAnchors.octaves(STRIDES, scale=3.0, offset=0.5)),
        class_names=class_names,
        input_size=(side, side),
        select=SelectSpec(iou_threshold=0.5),
    )


def proxy_score(blocks: Sequence[Block], data: DetectionData, held_out: DetectionData, args) -> float:
    """Trains a graph's proxy and returns its AP; the same graph has the same score."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(args.seed)
    model = proxy(blocks, data.class_names, args.input_size)
    steps = args.epochs * steps_per_epoch(data, args.batch_size)
    rate = warmup_cosine(DEMO_PEAK if args.demo else PEAK, steps, steps // (2 * args.epochs))
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=CLIP_NORM))
    batches = train_batches(data, model.input_size, args.batch_size, seed=args.seed, augment=AUGMENT)
    model.fit(batches, steps_per_epoch=steps, verbose=0)
    return float(evaluate_coco(held_out, predict_detection(model, held_out, args.batch_size)).figures()["AP"])


def load(args) -> DetectionData:
    """Returns the images of the training split."""
    if args.demo:
        args.data_dir = args.output_dir / "scenes"
        draw_scenes(args.data_dir, {"trainval": DEMO_IMAGES}, seed=args.seed, spec=DEMO_SCENES)
    if args.data_dir is None:
        return fetch(args.output_dir.parent / "data").train
    name = "trainval" if args.demo else default_splits(args.data_dir, args.format)[0]
    return load_data(args.data_dir, name, args.format, seed=args.seed)


def search(args, score: Callable[[tuple[Block, ...]], float]) -> tuple[tuple[Block, ...], float]:
    """Runs the search with a score of graphs, and returns the best graph and its score."""
    if args.method == "evolve":
        population = min(20, args.rounds)
        return evolve(score, rounds=args.rounds, population=population, sample=min(5, population), seed=args.seed)
    space = SearchSpace(adjusted=not args.permuted_only)
    return reinforce(score, rounds=args.rounds, batch=args.batch, space=space, rate=args.rate, seed=args.seed)


def main(args) -> None:
    """Searches, and tells what was found."""
    make_reproducible(args.seed)
    data = load(args)
    print(summarize("images", data))
    trained, held_out = split(data, args.hold_out)
    kept = ("demo", "method", "permuted_only", "rate", "seed", *DEFAULTS)
    config = {**{key: getattr(args, key) for key in kept}, "data": fingerprint(data)}
    log = GraphLog(
        args.output_dir, lambda blocks: proxy_score(blocks, trained, held_out, args), config, resume=args.resume
    )
    _, best = search(args, log)
    print(f"best of {args.rounds} graphs: AP {best:.4f}, in {args.output_dir / FOUND}")


def read_args(argv: Sequence[str] | None = None):
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="VOC tree or COCO folder; without it COCO 2017 is fetched")
    parser.add_argument("--format", choices=("auto", "voc", "coco"), default="auto", help="of --data-dir")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/spinenet_search"), help="default: %(default)s")
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help="default: %(default)s")
    parser.add_argument("--permuted-only", action="store_true", help="bottlenecks at ResNet-50's levels, no adjustment")
    parser.add_argument("--rate", type=float, default=5e-3, help="of the controller's Adam; default: %(default)s")
    for name, kind, what in (
        ("rounds", int, "graphs to score"),
        ("batch", int, "graphs between two updates of the controller"),
        ("epochs", int, "of a proxy"),
        ("input-size", int, "side of a proxy's input in pixels"),
        ("batch-size", int, "images a step of a proxy"),
        ("hold-out", float, "share of the images that proxies are scored on"),
    ):
        usual = DEFAULTS[name.replace("-", "_")]
        parser.add_argument(f"--{name}", type=kind, help=f"{what}; default: {usual}")
    parser.add_argument("--seed", type=int, default=0, help="of all draws; default: %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on with the search in --output-dir")
    parser.add_argument("--demo", action="store_true", help="search a little on drawn scenes: no data, no network")
    args = parser.parse_args(argv)
    if args.demo and args.data_dir:
        parser.error("--demo draws its own data: leave out --data-dir.")
    if args.method == "evolve" and args.permuted_only:
        parser.error("--permuted-only is the controller's: leave out --method evolve.")
    for name, value in (DEMO if args.demo else DEFAULTS).items():
        setattr(args, name, getattr(args, name) or value)
    if not 0 < args.hold_out <= 0.5:
        parser.error(f"--hold-out is a share from 0 to 0.5, not {args.hold_out}.")
    return args


if __name__ == "__main__":
    with report_errors():
        main(read_args())
