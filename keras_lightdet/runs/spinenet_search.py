"""The search for a SpineNet: its settings, its data, the proxy of a graph, and the log from which it resumes."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import keras

from keras_lightdet.backbones import SpineNet
from keras_lightdet.backbones.scale_permuted import Block
from keras_lightdet.backbones.spinenet_controller import SearchSpace, reinforce
from keras_lightdet.backbones.spinenet_search import evolve
from keras_lightdet.boxes import PyramidAnchors, SelectSpec
from keras_lightdet.data import DetectionData, SceneSpec, default_splits, draw_detection_scenes, load_detection
from keras_lightdet.detection import AnchorObjective, OneStageDetector
from keras_lightdet.errors import CheckpointError
from keras_lightdet.files import atomic_write
from keras_lightdet.layers import NORM, dense_heads
from keras_lightdet.models.retinanet import PER_CELL, STRIDES
from keras_lightdet.runs.public_data import Fetch
from keras_lightdet.runs.settings import RunSettings, flag, positive_int
from keras_lightdet.types import Size

Graph: TypeAlias = tuple[Block, ...]

METHODS = ("reinforce", "evolve")
# The proxy (section 3.2): ratios of SpineNet-49's widths and of its resampling; channels of pyramid and heads.
PROXY_WIDTH, PROXY_RESAMPLE = 0.25, 0.25
HEAD_WIDTH, HEAD_REPEATS = 64, 4
DEMO_IMAGES = 160
# Large objects, which a network can learn to detect in some hundred steps at 96 pixels.
DEMO_SCENES = SceneSpec(objects=(2, 5), object_sides=(120.0, 400.0), empty=0.0, own_color=1.0)
GRAPHS, FOUND = "graphs.jsonl", "found.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSettings(RunSettings):
    """The settings of a search.

    Raises:
        ValueError: If `hold_out` is not within 0..0.5, or evolution is asked for permutations only.
    """

    without_flag: ClassVar[tuple[str, ...]] = (
        "weights",
        "weights_backbone",
        "evaluate_every",
        "strict",
        "export",
    )

    rounds: int = flag("graphs to evaluate", type=positive_int, metavar="N")
    batch: int = flag("graphs between two updates of the controller", type=positive_int, metavar="N")
    hold_out: float = flag("share of the images that proxies are evaluated on", type=float, metavar="SHARE")
    method: str = flag("the paper's controller, or regularized evolution", METHODS[0], choices=METHODS)
    permuted_only: bool = flag("bottlenecks at ResNet-50's levels, no adjustment", False, action="store_true")
    rate: float = flag("learning rate of the controller", 5e-3, type=float, metavar="RATE")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "evolve" and self.permuted_only:
            raise ValueError("--permuted-only is the controller's: leave out --method evolve.")
        if not 0 < self.hold_out <= 0.5:
            raise ValueError(f"--hold-out is a share from 0 to 0.5, not {self.hold_out}.")


class GraphLog:
    """Evaluates graphs and logs their scores; a resumed search receives the logged scores first.

    A search proposes the same sequence of graphs whenever it receives the same scores, so it repeats the logged graphs
    at once and continues after them.

    Args:
        folder: The folder of `graphs.jsonl` and `found.json`.
        score: Evaluates a graph.
        config: Settings that a resumed search must have in common with the interrupted one.
        resume: Whether the folder may hold scores.

    Raises:
        CheckpointError: If there are scores and `resume` is not set, or they are of another search.
    """

    def __init__(self, folder: Path, score: Callable[[Graph], float], config: Mapping[str, Any], *, resume: bool):
        self.folder, self.score, self.count = folder, score, 0
        path = folder / GRAPHS
        # A killed process leaves the last line incomplete.
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        saved = [json.loads(line) for line in lines if line.endswith("\n")]
        config = json.loads(json.dumps(config))
        if saved and not resume:
            raise CheckpointError(f"{path} has scores. Pass --resume to continue, or another --output-dir.")
        if saved and saved[0] != config:
            differing = sorted(key for key in {*config, *saved[0]} if saved[0].get(key) != config.get(key))
            raise CheckpointError(
                f"Expected the flags of the search in {folder} to be the same, but {differing} differ. Pass the same "
                "flags, or another --output-dir."
            )
        self.entries: list[dict[str, Any]] = saved[1:]
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(path, "".join(json.dumps(entry) + "\n" for entry in [config, *self.entries]))

    def __call__(self, blocks: Graph) -> float:
        """Returns the score of a graph.

        Raises:
            CheckpointError: If the log has another graph in this place.
        """
        as_data = [[*block[:2], list(block.parents), block.output] for block in blocks]
        if self.count == len(self.entries):
            self._add(blocks, as_data)
        entry = self.entries[self.count]
        if entry["blocks"] != as_data:
            raise CheckpointError(
                f"Expected graph {self.count + 1} to be that of {self.folder / GRAPHS}, got another one, as the search "
                "differs on this machine or with these versions. Start it again in another --output-dir."
            )
        self.count += 1
        return entry["score"]

    def _add(self, blocks: Graph, as_data: list[list[Any]]) -> None:
        start = time.monotonic()
        score = self.score(blocks)
        seconds = round(time.monotonic() - start, 1)
        self.entries.append({"round": self.count + 1, "score": score, "seconds": seconds, "blocks": as_data})
        with (self.folder / GRAPHS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.entries[-1]) + "\n")
        best = max(self.entries, key=lambda entry: entry["score"])
        atomic_write(self.folder / FOUND, json.dumps({"builder": "SpineNet", **best}, indent=1) + "\n")
        print(f"graph {self.count + 1}: AP {score:.4f}, best {best['score']:.4f}, {seconds:.0f} s", flush=True)


def search(score: Callable[[Graph], float], settings: SearchSettings) -> tuple[Graph, float]:
    """Searches by the method of the settings, and returns the best graph and its score."""
    if settings.method == "evolve":
        population = min(20, settings.rounds)
        sample = min(5, population)
        return evolve(score, rounds=settings.rounds, population=population, sample=sample, seed=settings.seed)
    space = SearchSpace(adjusted=not settings.permuted_only)
    return reinforce(
        score, rounds=settings.rounds, batch=settings.batch, space=space, rate=settings.rate, seed=settings.seed
    )


def load_search_data(settings: SearchSettings, fetch: Fetch) -> DetectionData:
    """Returns the images of the training split: drawn in a demo, read from `--data-dir`, else fetched."""
    if settings.demo:
        folder = settings.output_dir / "scenes"
        draw_detection_scenes(folder, {"trainval": DEMO_IMAGES}, seed=settings.seed, spec=DEMO_SCENES)
        return load_detection(folder, "trainval", seed=settings.seed)
    if settings.data_dir is None:
        return fetch(settings.download_dir)[0]
    split = default_splits(settings.data_dir, settings.format)[0]
    return load_detection(settings.data_dir, split, settings.format, seed=settings.seed)


def hold_out(data: DetectionData, share: float) -> tuple[DetectionData, DetectionData]:
    """Returns the images to train on, and a share to evaluate on, spread evenly over the records."""
    interval = round(1 / share)
    held_out = data.records[interval - 1 :: interval]
    rest = [record for index, record in enumerate(data.records) if index % interval != interval - 1]
    return dataclasses.replace(data, records=rest), dataclasses.replace(data, records=held_out)


def proxy_backbone(blocks: Sequence[Block], name: str = "spinenet") -> keras.Model:
    """Builds a SpineNet on the graph with the proxy's widths."""
    return SpineNet(
        variant="49", blocks=blocks, width=PROXY_WIDTH, resample=PROXY_RESAMPLE, out_width=HEAD_WIDTH, name=name
    )


def proxy(blocks: Sequence[Block], class_names: Sequence[str], input_size: Size) -> OneStageDetector:
    """Builds the small RetinaNet whose AP is the score of a graph."""
    images = keras.Input((None, None, 3), name="images")
    backbone = proxy_backbone(blocks, name="backbone")
    raw = dense_heads(
        backbone(images),
        len(class_names),
        PER_CELL,
        width=HEAD_WIDTH,
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
        input_size=input_size,
        select=SelectSpec(iou_threshold=0.5),
    )
