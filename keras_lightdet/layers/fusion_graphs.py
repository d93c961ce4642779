"""Feature fusions as data: a cell is a list of nodes, each of which fuses maps on one level of a pyramid.

Maps are numbered: with five levels the inputs are 0 to 4, fine to coarse, and the first node is 5. The outputs of a
cell are the last nodes of the levels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class FusionNode:
    """A map that a cell computes.

    NAS-FPN's attention fuses the first two inputs of a gated node: the global maximum of the coarser one weights the
    channels of the finer one.
    """

    level: int  # 0 is the finest
    inputs: tuple[int, ...]  # numbers of the maps that it fuses, of any level
    gated: bool = False


FusionGraph: TypeAlias = tuple[FusionNode, ...]


def top_down(levels: int) -> FusionGraph:
    """FPN (Lin et al. 2017): each level adds the result of the next coarser one."""
    return _top_down(range(levels))


def top_down_twice(levels: int) -> FusionGraph:
    """A cell of repeated FPN, with as many nodes as one of FPN and PANet."""
    first = top_down(levels)
    return first + _top_down(range(2 * levels - 1, levels - 1, -1))


def top_down_bottom_up(levels: int) -> FusionGraph:
    """FPN and the bottom-up path that PANet adds (Liu et al. 2018), with all nodes of both."""
    fpn_nodes = range(2 * levels - 1, levels - 1, -1)  # fine to coarse
    nodes = []
    finer: tuple[int, ...] = ()
    for level in range(levels):
        nodes.append(FusionNode(level, (fpn_nodes[level], *finer)))
        finer = (2 * levels + level,)
    return top_down(levels) + tuple(nodes)


def simplified_panet(levels: int) -> FusionGraph:
    """PANet without the two nodes that have one input (Tan et al. 2020, section 3.2)."""
    return _bidirectional(levels, same_level_again=False)


def bifpn(levels: int) -> FusionGraph:
    """BiFPN (Tan et al. 2020, section 3.2, fig. 2d): simplified PANet with the inputs added in the bottom-up path."""
    return _bidirectional(levels, same_level_again=True)


def fully_connected(levels: int) -> FusionGraph:
    """Twice, each node fuses the maps of all levels: the reading that meets the cost in the paper's table 5."""
    first = tuple(FusionNode(level, tuple(range(levels))) for level in range(levels))
    return first + tuple(FusionNode(level, tuple(range(levels, 2 * levels))) for level in range(levels))


def nas_fpn(levels: int) -> FusionGraph:
    """The cell found by architecture search (Ghiasi et al. 2019, fig. 6), of five levels.

    The nodes of P5 and P7 also fuse the input of their level.

    Raises:
        ValueError: If there are not five levels.
    """
    if levels != 5:
        raise ValueError(f"Expected NAS-FPN to have 5 levels, got {levels!r}. Take another fusion.")
    return (
        FusionNode(1, (1, 3), gated=True),
        FusionNode(1, (1, 5)),
        FusionNode(0, (0, 6)),
        FusionNode(1, (6, 7)),
        FusionNode(2, (7, 8, 2), gated=True),
        FusionNode(4, (6, 9, 4), gated=True),
        FusionNode(3, (9, 10), gated=True),
    )


@dataclass(frozen=True)
class Fusion:
    """A feature fusion that the paper compares (Tan et al. 2020, table 5).

    Attributes:
        graph: Returns the cell for a number of levels.
        method: How a node fuses its inputs: "sum", or weighted by "fast" or "softmax" (section 3.3).
        repeated: Whether the cell is repeated.
    """

    graph: Callable[[int], FusionGraph]
    method: str = "sum"
    repeated: bool = True


FUSIONS = {
    "fpn": Fusion(top_down, repeated=False),
    "repeated_fpn": Fusion(top_down_twice),
    "panet": Fusion(top_down_bottom_up, repeated=False),
    "repeated_fpn_panet": Fusion(top_down_bottom_up),
    "simplified_panet": Fusion(simplified_panet),
    "nas_fpn": Fusion(nas_fpn),
    "fully_connected_fpn": Fusion(fully_connected),
    "bifpn_sum": Fusion(bifpn),
    "bifpn_fast": Fusion(bifpn, "fast"),
    "bifpn_softmax": Fusion(bifpn, "softmax"),
}


def _top_down(inputs: Sequence[int]) -> FusionGraph:
    """Returns a pass from the coarsest level to the finest; `inputs` are the numbers of its maps, fine to coarse."""
    levels = len(inputs)
    first = max(inputs) + 1
    nodes = []
    coarser: tuple[int, ...] = ()
    for step, level in enumerate(reversed(range(levels))):
        nodes.append(FusionNode(level, (inputs[level], *coarser)))
        coarser = (first + step,)
    return tuple(nodes)


def _bidirectional(levels: int, *, same_level_again: bool) -> FusionGraph:
    nodes, latest = [], dict(enumerate(range(levels)))
    for level in reversed(range(levels - 1)):
        nodes.append(FusionNode(level, (level, latest[level + 1])))
        latest[level] = levels + len(nodes) - 1
    for level in range(1, levels):
        intermediate = level < levels - 1
        same_level = (level, latest[level]) if intermediate and same_level_again else (latest[level],)
        nodes.append(FusionNode(level, (*same_level, latest[level - 1])))
        latest[level] = levels + len(nodes) - 1
    return tuple(nodes)
