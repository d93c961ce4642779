"""Random and mutated networks are in the search space, and evolution is better than random search."""

import itertools

import numpy as np
import pytest

from keras_lightdet.backbones import SpineNet
from keras_lightdet.backbones.scale_permuted import check_blocks
from keras_lightdet.backbones.spinenet import SPINENET
from keras_lightdet.backbones.spinenet_search import KINDS, RECENT, draw_blocks, evolve, mutate, space_size


def assert_valid(blocks):
    check_blocks(blocks, KINDS)
    assert [block.output for block in blocks] == [False] * 10 + [True] * 5
    for index, block in enumerate(blocks, start=2):
        if not block.output:
            assert min(block.parents) >= index - RECENT


def test_random_and_mutated_networks_are_valid():
    random = np.random.default_rng(0)
    changed = set()
    for _ in range(200):
        blocks = draw_blocks(random)
        assert_valid(blocks)
        after = mutate(blocks, random)
        assert_valid(after)
        places = [index for index, (old, new) in enumerate(zip(blocks, after, strict=True)) if old != new]
        assert len(places) <= 2
        fields = {
            name
            for index in places
            for name in ("level", "kind", "parents")
            if getattr(blocks[index], name) != getattr(after[index], name)
        }
        assert len(fields) <= 1
        changed |= fields
    assert changed == {"level", "kind", "parents"}


# Two intermediates, counted one by one: 2! 5! orders, C(2,2) C(3,2) .. C(8,2) parents, 4^2 levels, 2^7 kinds.
def test_the_space_has_the_published_size():
    orders = len(list(itertools.permutations(range(2)))) * len(list(itertools.permutations(range(5))))
    parents = np.prod([len(list(itertools.combinations(range(before), 2))) for before in range(2, 9)])
    assert space_size(2) == orders * parents * 4**2 * 2**7
    assert space_size() == pytest.approx(1.2e40, rel=0.05)


def likeness(blocks):
    """The number of levels and kinds that are those of SpineNet-49."""
    return sum((a.level == b.level) + (a.kind == b.kind) for a, b in zip(blocks, SPINENET, strict=True))


def test_evolution_is_better_than_random_search():
    seen = []

    def score(blocks):
        seen.append(blocks)
        return likeness(blocks)

    actual, value = evolve(score, rounds=600, seed=0)
    assert len(seen) == 600 and value == likeness(actual) == max(map(likeness, seen))
    random = np.random.default_rng(0)
    chance = max(likeness(draw_blocks(random)) for _ in range(600))
    assert value >= chance + 4
    assert evolve(likeness, rounds=600, seed=0) == (actual, value)


def test_a_random_network_is_built():
    blocks = draw_blocks(np.random.default_rng(1))
    pyramid = SpineNet(variant="49s", blocks=blocks)(np.zeros((1, 64, 96, 3)))
    assert {level: tuple(x.shape[1:3]) for level, x in pyramid.items()} == {
        f"P{level}": (-(-64 // 2**level), -(-96 // 2**level)) for level in range(3, 8)
    }


@pytest.mark.parametrize(("population", "sample"), [(5, 6), (30, 5), (5, 0)])
def test_numbers_out_of_range_are_refused(population, sample):
    with pytest.raises(ValueError, match="sample <= population <= rounds"):
        evolve(likeness, rounds=20, population=population, sample=sample)
