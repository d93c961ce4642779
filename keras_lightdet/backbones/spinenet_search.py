"""SpineNet's search space (Du et al. 2020, section 3.2), and a search in it by regularized evolution.

The paper's search method, reinforcement learning, is in `spinenet_controller`. Regularized evolution (Real et al. 2019,
algorithm 1) needs no training.
"""

import math
from collections import deque
from collections.abc import Callable
from operator import itemgetter

import numpy as np

from keras_lightdet.backbones.scale_permuted import OUTPUT_LEVELS, STEM_BLOCKS, Block, Blocks
from keras_lightdet.backbones.spinenet import EXPANSION, WIDTHS

KINDS = tuple(EXPANSION)
BASE_LEVELS = (2, 3, 3, 3, 4, 4, 4, 4, 4, 5)  # of the intermediate blocks, ResNet-50's, before shifts
LEVEL_SHIFTS = (-1, 0, 1, 2)
RECENT = 5  # the parents of an intermediate block are among this many blocks before it; those of an output are any


def space_size(intermediates: int = len(BASE_LEVELS)) -> int:
    """Returns the number of networks: orders, parents, level shifts and kinds, where parents are any earlier blocks."""
    blocks = intermediates + len(OUTPUT_LEVELS)
    orders = math.factorial(intermediates) * math.factorial(len(OUTPUT_LEVELS))
    parents = math.prod(math.comb(before, 2) for before in range(STEM_BLOCKS, STEM_BLOCKS + blocks))
    return orders * parents * len(LEVEL_SHIFTS) ** intermediates * len(KINDS) ** blocks


def draw_blocks(random: np.random.Generator) -> Blocks:
    """Returns a random network of the search space, as `SpineNet` expects it."""
    levels = [_shift(int(level), random) for level in random.permutation(BASE_LEVELS)]
    outputs = [int(level) for level in random.permutation(OUTPUT_LEVELS)]
    blocks = []
    for index, level in enumerate([*levels, *outputs]):
        output = index >= len(levels)
        kind = KINDS[random.integers(len(KINDS))]
        blocks.append(Block(level, kind, _draw_parents(index, random, output=output), output))
    return tuple(blocks)


def mutate(blocks: Blocks, random: np.random.Generator) -> Blocks:
    """Returns the network with one change: two levels swapped, or other parents, level or kind of one block."""
    mutated = list(blocks)
    index = int(random.integers(len(mutated)))
    block = mutated[index]
    change = random.choice(["order", "parents", "kind"] if block.output else ["order", "parents", "kind", "level"])
    if change == "order":
        others = [i for i, candidate in enumerate(mutated) if candidate.output == block.output and i != index]
        other = int(random.choice(others))
        mutated[index] = block._replace(level=mutated[other].level)
        mutated[other] = mutated[other]._replace(level=block.level)
    elif change == "parents":
        mutated[index] = block._replace(parents=_draw_parents(index, random, output=block.output))
    elif change == "kind":
        mutated[index] = block._replace(kind=KINDS[1 - KINDS.index(block.kind)])
    else:
        mutated[index] = block._replace(level=_shift(block.level, random))
    return tuple(mutated)


def evolve(
    score: Callable[[Blocks], float], *, rounds: int, population: int = 20, sample: int = 5, seed: int = 0
) -> tuple[Blocks, float]:
    """Searches for the network of the highest score.

    Args:
        score: Returns the score of a network; in the paper the AP of its RetinaNet of a quarter of the width after 5
            epochs at 512 pixels.
        rounds: Networks that are scored, those of the first population included.
        population: Size of the population; from then on each round removes the oldest network.
        sample: Networks that are drawn from the population in a round; the best of them is mutated.
        seed: Of all random draws.

    Returns:
        The network of the highest score, and its score.

    Raises:
        ValueError: If `sample` is more than `population`, or `population` more than `rounds`.
    """
    if not 0 < sample <= population <= rounds:
        raise ValueError(f"Expected sample <= population <= rounds, got {sample!r}, {population!r} and {rounds!r}.")
    random = np.random.default_rng(seed)
    alive: deque[tuple[Blocks, float]] = deque(maxlen=population)
    scored = []
    for step in range(rounds):
        if step < population:
            blocks = draw_blocks(random)
        else:
            candidates = [alive[index] for index in random.choice(population, sample, replace=False)]
            blocks = mutate(max(candidates, key=itemgetter(1))[0], random)
        alive.append((blocks, score(blocks)))
        scored.append(alive[-1])
    return max(scored, key=itemgetter(1))


def _shift(level: int, random: np.random.Generator) -> int:
    return int(np.clip(level + random.choice(LEVEL_SHIFTS), min(WIDTHS), max(WIDTHS)))


def _draw_parents(index: int, random: np.random.Generator, *, output: bool) -> tuple[int, int]:
    """Returns two blocks before block `index` of the scale-permuted network, the stem's included."""
    before = STEM_BLOCKS + index
    first = 0 if output else max(0, before - RECENT)
    low, high = sorted(int(parent) for parent in random.choice(np.arange(first, before), 2, replace=False))
    return low, high
