"""The ways to mix a pyramid's levels as data: a cell is a list of nodes, each a sum of maps on one level.

Nodes are counted on from the inputs: with five levels the inputs are 0 to 4, fine to coarse, and the first node is 5. A
cell gives the last node of each level.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A map that a cell makes.

    Attributes:
        level: Which level it stands on; 0 is the finest.
        inputs: Numbers of the maps that it joins, of any level.
        gated: Whether the first two are joined by NAS-FPN's attention: the finer one is weighed by what the coarser
            one's strongest responses say.
    """

    level: int
    inputs: tuple[int, ...]
    gated: bool = False


Graph = tuple[Node, ...]


def top_down(levels: int) -> Graph:
    """FPN (Lin et al. 2017): each level takes the next coarser one's result."""
    return _top_down(range(levels))


def top_down_twice(levels: int) -> Graph:
    """A cell of repeated FPN with as many nodes as one of FPN and PANet."""
    first = top_down(levels)
    return first + _top_down(range(2 * levels - 1, levels - 1, -1))


def top_down_bottom_up(levels: int) -> Graph:
    """FPN and the path back that PANet adds (Liu et al. 2018): every node of both."""
    below = list(range(2 * levels - 1, levels - 1, -1))  # of FPN, fine to coarse
    nodes, finer = [], ()
    for level in range(levels):
        nodes.append(Node(level, (below[level], *finer)))
        finer = (2 * levels + level,)
    return top_down(levels) + tuple(nodes)


def simplified_panet(levels: int) -> Graph:
    """PANet without the two nodes that have one input (Tan et al. 2020, section 3.2)."""
    return _bidirectional(levels, same_level_again=False)


def bifpn(levels: int) -> Graph:
    """BiFPN (Tan et al. 2020, section 3.2, fig. 2d): simplified PANet, and the inputs once more on the way back."""
    return _bidirectional(levels, same_level_again=True)


def fully_connected(levels: int) -> Graph:
    """Every node sees every map before it, twice: the reading that meets the cost of the paper's table 5."""
    first = tuple(Node(level, tuple(range(levels))) for level in range(levels))
    return first + tuple(Node(level, tuple(range(levels, 2 * levels))) for level in range(levels))


def nas_fpn(levels: int) -> Graph:
    """The cell that was searched (Ghiasi et al. 2019, fig. 6), of five levels; P5 and P7 join their level's last node.

    Raises:
        ValueError: If there are not five levels.
    """
    if levels != 5:
        raise ValueError(f"Expected NAS-FPN to have 5 levels, got {levels!r}. Take another fusion.")
    return (
        Node(1, (1, 3), gated=True),
        Node(1, (1, 5)),
        Node(0, (0, 6)),
        Node(1, (6, 7)),
        Node(2, (7, 8, 2), gated=True),
        Node(4, (6, 9, 4), gated=True),
        Node(3, (9, 10), gated=True),
    )


@dataclass(frozen=True)
class Fusion:
    """A member of the family that the paper compares (Tan et al. 2020, table 5).

    Attributes:
        graph: The cell for a number of levels.
        method: How a node joins its inputs: "sum", or weighed by "fast" or "softmax" (section 3.3).
        repeated: Whether the cell comes several times in a row.
    """

    graph: Callable[[int], Graph]
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


def _top_down(inputs) -> Graph:
    """One pass from the coarsest level on, where `inputs` are the numbers of its maps, fine to coarse."""
    levels = len(inputs)
    first = max(inputs) + 1
    nodes, coarser = [], ()
    for step, level in enumerate(reversed(range(levels))):
        nodes.append(Node(level, (inputs[level], *coarser)))
        coarser = (first + step,)
    return tuple(nodes)


def _bidirectional(levels: int, *, same_level_again: bool) -> Graph:
    nodes, latest = [], dict(enumerate(range(levels)))
    for level in reversed(range(levels - 1)):
        nodes.append(Node(level, (level, latest[level + 1])))
        latest[level] = levels + len(nodes) - 1
    for level in range(1, levels):
        between = level < levels - 1
        same = (level, latest[level]) if between and same_level_again else (latest[level],)
        nodes.append(Node(level, (*same, latest[level - 1])))
        latest[level] = levels + len(nodes) - 1
    return tuple(nodes)
