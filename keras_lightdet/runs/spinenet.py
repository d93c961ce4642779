"""The training protocols of SpineNet (Du et al. 2020, section 4.2), and the flags that choose them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_lightdet.backbones.scale_permuted import Block
from keras_lightdet.data import AugmentSpec
from keras_lightdet.files import expand_user
from keras_lightdet.runs.settings import RunSettings, flag


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The length of a training and its regularization.

    Attributes:
        epochs: Epochs of the published run.
        scales: Range of the scale jitter.
        options: Arguments of `RetinaNet`.
    """

    epochs: int
    scales: tuple[float, float]
    options: Mapping[str, Any]

    @property
    def augment(self) -> AugmentSpec:
        """Flips and scale jitter alone."""
        return AugmentSpec(
            zoom_out=0, crop=0, mosaic=0, color=0, jitter=1.0, jitter_scale=self.scales, jitter_aspect=1.0
        )


# Neither paper nor code states DropBlock's rate.
PROTOCOLS = {
    "a": Protocol(250, (0.8, 1.2), {"drop_block": 0.1}),
    "b": Protocol(350, (0.5, 2.0), {}),
    "c": Protocol(500, (0.5, 2.0), {"drop_path_rate": 0.2, "activation": "swish"}),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpineNetSettings(RunSettings):
    """The settings of a training of RetinaNet on SpineNet.

    Raises:
        ValueError: If the variant's backbone cannot follow the protocol.
    """

    protocol: str = flag("protocol of the paper", "b", choices=tuple(PROTOCOLS))
    graph: Path | None = flag("found.json of search_spinenet.py", None, type=expand_user, metavar="FILE")

    def __post_init__(self) -> None:
        super().__post_init__()
        has_drop_block, has_drop_path = self.variant.startswith("spinenet"), "spinenet" in self.variant
        if (self.protocol == "a" and not has_drop_block) or (self.protocol == "c" and not has_drop_path):
            raise ValueError(f"--variant {self.variant} lacks the options of --protocol {self.protocol}: pass b.")

    @property
    def blocks(self) -> Sequence[Block] | None:
        """The blocks of `--graph`."""
        return None if self.graph is None else json.loads(self.graph.read_text(encoding="utf-8"))["blocks"]
