"""SpineNet's search space (Du et al. 2020, section 3.2), and a search in it for whoever can score a graph.

The paper's controller, a recurrent network trained by reinforcement on 14,000 scored graphs, is in
`spinenet_controller`. Regularized evolution (Real et al. 2019, algorithm 1) is the other way: it has nothing to train,
and swaps and redraws suit permutations.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from keras_lightdet.backbones.scale_permuted import OUTPUT_LEVELS, STEM_BLOCKS, Block
from keras_lightdet.backbones.spinenet import EXPANSION, WIDTHS

KINDS = tuple(EXPANSION)
BASE_LEVELS = (2, 3, 3, 3, 4, 4, 4, 4, 4, 5)  # of ResNet-50's blocks that are no outputs, before they are shifted
LEVEL_SHIFTS = (-1, 0, 1, 2)
RECENT = 5  # an intermediate block takes its parents from so many blocks before it, an output from all


def space_size(intermediates: int = len(BASE_LEVELS)) -> int:
    """Returns how many networks there are: orders, parents, level shifts and kinds, parents unrestricted."""
    blocks = intermediates + len(OUTPUT_LEVELS)
    orders = math.factorial(intermediates) * math.factorial(len(OUTPUT_LEVELS))
    parents = math.prod(math.comb(before, 2) for before in range(STEM_BLOCKS, STEM_BLOCKS + blocks))
    return orders * parents * len(LEVEL_SHIFTS) ** intermediates * len(KINDS) ** blocks


def draw_blocks(random: np.random.Generator) -> tuple[Block, ...]:
    """Draws a graph of the search space, as `SpineNet` takes it."""
    levels = [_shift(int(level), random) for level in random.permutation(BASE_LEVELS)]
    outputs = [int(level) for level in random.permutation(OUTPUT_LEVELS)]
    blocks = []
    for index, level in enumerate([*levels, *outputs]):
        output = index >= len(levels)
        blocks.append(Block(level, _draw_kind(random), _draw_parents(index, output, random), output))
    return tuple(blocks)


def mutate(blocks: Sequence[Block], random: np.random.Generator) -> tuple[Block, ...]:
    """Changes one thing of a graph: the places of two levels, a block's parents, a level or a kind."""
    blocks = list(blocks)
    index = int(random.integers(len(blocks)))
    block = blocks[index]
    change = random.choice(["order", "parents", "kind"] if block.output else ["order", "parents", "kind", "level"])
    if change == "order":
        other = int(random.choice([i for i, each in enumerate(blocks) if each.output == block.output and i != index]))
        blocks[index], blocks[other] = (
            block._replace(level=blocks[other].level),
            blocks[other]._replace(level=block.level),
        )
    elif change == "parents":
        blocks[index] = block._replace(parents=_draw_parents(index, block.output, random))
    elif change == "kind":
        blocks[index] = block._replace(kind=KINDS[1 - KINDS.index(block.kind)])
    else:
        blocks[index] = block._replace(level=_shift(block.level, random))
    return tuple(blocks)


def evolve(
    score: Callable[[tuple[Block, ...]], float],
    *,
    rounds: int,
    population: int = 20,
    sample: int = 5,
    seed: int = 0,
) -> tuple[tuple[Block, ...], float]:
    """Searches for the graph of the highest score.

    Args:
        score: Of a graph: in the paper the AP of its RetinaNet of a quarter of the width after 5 epochs at 512 pixels.
        rounds: Graphs that are scored, those of the first population included.
        population: Graphs alive; the oldest dies in every round after the first `population`.
        sample: Of them that are drawn in a round; the best of these is mutated.
        seed: Of all draws.

    Returns:
        The best graph that was scored, and its score.

    Raises:
        ValueError: If `sample` is more than `population`, or that more than `rounds`.
    """
    if not 0 < sample <= population <= rounds:
        raise ValueError(f"Expected sample <= population <= rounds, got {sample!r}, {population!r} and {rounds!r}.")
    random = np.random.default_rng(seed)
    alive, best = deque(maxlen=population), None
    for step in range(rounds):
        if step < population:
            blocks = draw_blocks(random)
        else:
            drawn = [alive[index] for index in random.choice(population, sample, replace=False)]
            blocks = mutate(max(drawn, key=lambda pair: pair[1])[0], random)
        alive.append((blocks, score(blocks)))
        if best is None or alive[-1][1] > best[1]:
            best = alive[-1]
    return best


def _shift(level: int, random: np.random.Generator) -> int:
    return int(np.clip(level + random.choice(LEVEL_SHIFTS), min(WIDTHS), max(WIDTHS)))


def _draw_kind(random: np.random.Generator) -> str:
    return KINDS[random.integers(len(KINDS))]


def _draw_parents(index: int, output: bool, random: np.random.Generator) -> tuple[int, int]:
    """Two blocks before the `index`th of the permuted part, the stem's counted."""
    before = STEM_BLOCKS + index
    first = 0 if output else max(0, before - RECENT)
    one, other = sorted(int(parent) for parent in random.choice(np.arange(first, before), 2, replace=False))
    return one, other
