"""The controller: its probabilities over a whole small space, and its search against random sampling."""

import itertools
import math

import numpy as np
import pytest

from keras_lightdet.backbones.scale_permuted import check_blocks
from keras_lightdet.backbones.spinenet import SPINENET
from keras_lightdet.backbones.spinenet_controller import Controller, SearchSpace, reinforce
from keras_lightdet.backbones.spinenet_search import BASE_LEVELS, KINDS, LEVEL_SHIFTS, RECENT

PERMUTED = SearchSpace(levels=(2, 3), outputs=(3, 4), recent=3, adjusted=False)
ADJUSTED = SearchSpace(levels=(2,), outputs=(3,))


def all_choices(space, choices=()):
    """Returns all sequences of choices."""
    if len(choices) == len(space.decisions):
        return [choices]
    allowed = np.flatnonzero(space.allowed(choices))
    return [each for option in allowed for each in all_choices(space, (*choices, int(option)))]


def all_networks(space):
    """Returns the networks of the space by its definition: orders, pairs of parents, shifts and kinds."""
    networks = set()
    count = len(space.levels) + len(space.outputs)
    pairs = []
    for block in range(count):
        before = range(2 + block)
        pairs.append(itertools.combinations(before[-space.recent :] if block < len(space.levels) else before, 2))
    shifts = LEVEL_SHIFTS if space.adjusted else (0,)
    kinds = KINDS if space.adjusted else ("bottleneck",)
    orders = itertools.product(itertools.permutations(space.levels), itertools.permutations(space.outputs))
    for (inner, last), parents in itertools.product(orders, itertools.product(*pairs)):
        for moved in itertools.product(shifts, repeat=len(inner)):
            levels = [min(7, max(1, level + shift)) for level, shift in zip(inner, moved, strict=True)]
            for kind in itertools.product(kinds, repeat=count):
                networks.add(tuple(zip((*levels, *last), kind, parents, strict=True)))
    return networks


# 2 orders of either, 1, 3, 6 and 10 pairs of parents; and 1 and 3 pairs, 4 shifts and 2 kinds of two blocks.
@pytest.mark.parametrize(("space", "size"), [(PERMUTED, 2 * 2 * 1 * 3 * 6 * 10), (ADJUSTED, 1 * 3 * 4 * 2**2)])
def test_sequences_are_the_networks_of_the_space(space, size):
    networks = [tuple(block[:3] for block in space.blocks(choices)) for choices in all_choices(space)]
    assert len(networks) == size
    assert len(set(networks)) == size  # no level of these leaves 1 to 7 by its shift
    assert set(networks) == all_networks(space)


def test_blocks_of_one_level_have_no_order():
    space = SearchSpace(levels=(2, 2, 3), outputs=(3,), adjusted=False)
    orders = {tuple(block.level for block in space.blocks(choices)) for choices in all_choices(space)}
    assert orders == {(2, 2, 3, 3), (2, 3, 2, 3), (3, 2, 2, 3)}
    assert len(all_choices(space)) == 3 * math.comb(2, 2) * math.comb(3, 2) * math.comb(4, 2) * math.comb(5, 2)


@pytest.mark.parametrize("space", [PERMUTED, ADJUSTED])
def test_log_probabilities_are_those_of_the_decisions_and_sum_to_1(space):
    controller = Controller(space, units=8, rate=0.1, seed=3)
    every = all_choices(space)
    random = np.random.default_rng(0)
    for _ in range(3):  # away from the uniform start
        drawn = controller.sample(4, random)
        controller.update(drawn, random.uniform(size=4))
    probabilities = np.exp(np.asarray(controller.log_probs(every), "float64"))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities.max() > 1.5 * probabilities.min()
    for index in random.choice(len(every), 5, replace=False):
        choices = every[index]
        steps = [controller.probabilities(choices[:step])[choice] for step, choice in enumerate(choices)]
        assert probabilities[index] == pytest.approx(math.prod(map(float, steps)), rel=1e-4)
    drawn = controller.sample(4000, random)
    counts = np.array([drawn.count(choices) for choices in every])
    spread = np.sqrt(4000 * probabilities * (1 - probabilities)) + 1
    assert np.all(np.abs(counts - 4000 * probabilities) < 5 * spread)


# All sequences at once, which are about equally likely at first, make the exact gradient of the expected score.
def test_an_update_increases_the_expected_score():
    controller = Controller(ADJUSTED, units=8, rate=0.01)
    every = all_choices(ADJUSTED)
    scores = np.random.default_rng(1).uniform(size=len(every))

    def expected():
        return float(np.exp(np.asarray(controller.log_probs(every), "float64")) @ scores)

    start = expected()
    assert start == pytest.approx(scores.mean(), abs=0.01)
    for _ in range(10):
        controller.update(every, scores)
    assert expected() > start + 0.02


def test_the_space_of_the_paper_has_its_decisions_and_valid_networks():
    space = SearchSpace()
    parts = [decision.group for decision in space.decisions]
    order = [part for part, _ in itertools.groupby(parts)]
    assert order == ["order", "outputs", "parents", "output_parents", "shift", "kind"]
    assert [parts.count(part) for part in order] == [10, 5, 10, 5, 10, 15]
    for choices in Controller(space, units=4).sample(30, np.random.default_rng(0)):
        blocks = space.blocks(choices)
        check_blocks(blocks, KINDS)
        orders = [space.options["order"][choice] for choice in choices[:10]]
        assert sorted(orders) == sorted(BASE_LEVELS)
        pairs = zip([block.level for block in blocks[:10]], orders, strict=True)
        assert all(shifted - level in LEVEL_SHIFTS or shifted in (1, 7) for shifted, level in pairs)
        assert all(min(block.parents) >= index - RECENT for index, block in enumerate(blocks[:10], start=2))
    # Every pair of parents that SpineNet-49 has can be chosen.
    parents = [tuple(2 + index - parent for parent in block.parents[::-1]) for index, block in enumerate(SPINENET)]
    for index, distances in enumerate(parents):
        assert distances in space.options["parents" if index < 10 else "output_parents"]


class Likeness:
    """A score with a known optimum: the share of blocks' levels and parents that are those of one network."""

    def __init__(self, space):
        self.space, self.seen = space, []
        self.goal = space.blocks(Controller(space, units=4, seed=1).sample(1, np.random.default_rng(9))[0])

    def __call__(self, blocks):
        same = [(a.level == b.level) + (a.parents == b.parents) for a, b in zip(blocks, self.goal, strict=True)]
        self.seen.append(sum(same) / (2 * len(same)))
        return self.seen[-1]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_reinforcement_is_better_than_random_sampling(seed):
    space = SearchSpace(levels=(2, 3, 4), outputs=(3, 4, 5), adjusted=False)
    score, rounds = Likeness(space), 240
    actual, value = reinforce(score, rounds=rounds, batch=10, space=space, rate=0.03, seed=seed)
    assert len(score.seen) == rounds
    assert value == max(score.seen) == score(actual)
    chance = Likeness(space)
    for choices in Controller(space, units=4).sample(rounds, np.random.default_rng(seed)):
        chance(space.blocks(choices))
    after = np.mean(score.seen[rounds - 40 : rounds])  # of what the controller expects to be good by then
    assert after >= np.mean(chance.seen) + 0.3
    assert after >= max(chance.seen)
    assert value > max(chance.seen)


def test_the_search_is_reproducible():
    runs = []
    for _ in range(2):
        score = Likeness(ADJUSTED)
        runs.append((reinforce(score, rounds=15, batch=5, space=ADJUSTED, rate=0.03, seed=4), score.seen))
    assert runs[0] == runs[1]
    assert len(runs[0][1]) == 15


@pytest.mark.parametrize(("rounds", "batch"), [(0, 10), (10, 0)])
def test_numbers_out_of_range_are_refused(rounds, batch):
    with pytest.raises(ValueError, match="1 or more"):
        reinforce(lambda blocks: 0.0, rounds=rounds, batch=batch)
