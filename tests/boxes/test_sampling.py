"""Samples of candidates: random shares and the hardest ones."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lightdet.boxes import OhemSpec, SampleSpec, ohem_mask, random_keys, sample_assignments


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 40), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 0.6))
def test_samples_keep_their_promises(seed, count, fraction, share):
    random, spec = np.random.default_rng(seed), SampleSpec(count, fraction)
    matched = np.where(random.random((3, 30)) < share, 2, random.choice([-1, -2], (3, 30))).astype("int32")
    found = {k: np.asarray(v) for k, v in sample_assignments(matched, random_keys((3, 30), (seed, 1)), spec).items()}
    for row, indices, positive, valid in zip(matched, *found.values(), strict=True):
        assert indices.shape == (count,)
        chosen = indices[valid]
        assert len(set(chosen)) == len(chosen)
        num_positive = min((row >= 0).sum(), int(count * fraction))
        assert valid.sum() == num_positive + min((row == -1).sum(), count - num_positive)
        # Positives, negatives, empty slots, in this order.
        assert (row[indices[:num_positive]] >= 0).all()
        assert (row[chosen[num_positive:]] == -1).all()
        np.testing.assert_array_equal(positive, np.arange(count) < num_positive)
        np.testing.assert_array_equal(valid, np.arange(count) < len(chosen))
        assert (indices[~valid] == 0).all()


def test_the_largest_keys_are_drawn():
    matched = np.int32([[0, -1, 1, -1, 2, -1, -2]])
    keys = np.float32([[0.1, 0.2, 0.9, 0.8, 0.5, 0.4, 1.0]])
    found = sample_assignments(matched, keys, SampleSpec(4, 0.5))
    np.testing.assert_array_equal(found["indices"], [[2, 4, 3, 5]])
    np.testing.assert_array_equal(found["positive"], [[True, True, False, False]])


def test_every_candidate_is_drawn_about_equally_often():
    matched = np.tile(np.repeat([0, -1], [40, 60]), (400, 1)).astype("int32")
    found = sample_assignments(matched, random_keys((400, 100), (7, 0)), SampleSpec(20, 0.5))
    times = np.bincount(np.asarray(found["indices"]).ravel(), minlength=100)
    assert times[:40].sum() == times[40:].sum() == 4000
    # 100 times each of 40 positives, 67 times each of 60 negatives; four standard deviations either way.
    assert times[:40].min() > 60 and times[:40].max() < 140
    assert times[40:].min() > 34 and times[40:].max() < 100


def test_a_seed_gives_the_same_sample_in_every_process_and_compiler():
    matched = np.int32([[0] * 5 + [-1] * 20])

    def draw(seed):
        return sample_assignments(matched, random_keys((1, 25), seed), SampleSpec(8, 0.25))["indices"]

    seeds = np.int32([[3, 10], [3, 11]])
    first, second = np.asarray(draw(seeds[0])), np.asarray(draw(seeds[1]))
    assert (first != second).any()
    np.testing.assert_array_equal(tf.function(draw, jit_compile=True)(seeds[0]), first)


def hardest_by_sorting(losses, valid, count):
    chosen = sorted(np.flatnonzero(valid), key=lambda i: -losses.flat[i])[:count]
    mask = np.zeros(losses.size)
    mask[chosen] = 1
    return mask.reshape(losses.shape)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 20))
def test_the_hardest_are_those_that_sorting_puts_first(seed, count):
    random = np.random.default_rng(seed)
    losses, valid = random.exponential(size=(3, 12)).astype("float32"), random.random((3, 12)) < 0.7
    alone = ohem_mask(losses, valid, OhemSpec(count))
    np.testing.assert_array_equal(alone, [hardest_by_sorting(*one, count) for one in zip(losses, valid, strict=True)])
    together = ohem_mask(losses, valid, OhemSpec(count, joint=True))
    np.testing.assert_array_equal(together, hardest_by_sorting(losses, valid, 3 * min(count, 12)))


@pytest.mark.parametrize("joint", [False, True])
def test_the_choice_passes_no_gradient_and_compiles(joint):
    losses = tf.Variable(np.float32([[1, 5, 2], [9, 8, 0.5]]))

    @tf.function(jit_compile=True)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(ohem_mask(losses, tf.ones((2, 3), bool), OhemSpec(1, joint)) * losses)
        return tape.gradient(loss, losses)

    expected = [[0, 0, 0], [1, 1, 0]] if joint else [[0, 1, 0], [1, 0, 0]]
    np.testing.assert_array_equal(step(), expected)


def test_shares_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="fraction"):
        SampleSpec(256, 1.5)
