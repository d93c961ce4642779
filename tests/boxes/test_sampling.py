"""Random sampling and OHEM."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lightdet.boxes import OhemSpec, SampleSpec, ohem_mask, random_keys, sample_assignments


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 40), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 0.6))
def test_samples_are_valid(seed, count, fraction, positive_share):
    random, spec = np.random.default_rng(seed), SampleSpec(count, fraction)
    assigned = np.where(random.random((3, 30)) < positive_share, 2, random.choice([-1, -2], (3, 30))).astype("int32")
    sample = {k: np.asarray(v) for k, v in sample_assignments(assigned, random_keys((3, 30), (seed, 1)), spec).items()}
    for row, indices, positive, valid in zip(assigned, *sample.values(), strict=True):
        assert indices.shape == (count,)
        drawn = indices[valid]
        assert len(set(drawn)) == len(drawn)
        num_positive = min((row >= 0).sum(), int(count * fraction))
        assert valid.sum() == num_positive + min((row == -1).sum(), count - num_positive)
        # Positives, negatives, padding, in this order.
        assert (row[indices[:num_positive]] >= 0).all()
        assert (row[drawn[num_positive:]] == -1).all()
        np.testing.assert_array_equal(positive, np.arange(count) < num_positive)
        np.testing.assert_array_equal(valid, np.arange(count) < len(drawn))
        assert (indices[~valid] == 0).all()


def test_candidates_with_the_largest_keys_are_drawn():
    assigned = np.int32([[0, -1, 1, -1, 2, -1, -2]])
    keys = np.float32([[0.1, 0.2, 0.9, 0.8, 0.5, 0.4, 1.0]])
    sample = sample_assignments(assigned, keys, SampleSpec(4, 0.5))
    np.testing.assert_array_equal(sample["indices"], [[2, 4, 3, 5]])
    np.testing.assert_array_equal(sample["positive"], [[True, True, False, False]])


def test_candidates_are_drawn_about_equally_often():
    assigned = np.tile(np.repeat([0, -1], [40, 60]), (400, 1)).astype("int32")
    sample = sample_assignments(assigned, random_keys((400, 100), (7, 0)), SampleSpec(20, 0.5))
    times = np.bincount(np.asarray(sample["indices"]).ravel(), minlength=100)
    assert times[:40].sum() == times[40:].sum() == 4000
    # 100 times each of 40 positives, 67 times each of 60 negatives; four standard deviations either way.
    assert times[:40].min() > 60 and times[:40].max() < 140
    assert times[40:].min() > 34 and times[40:].max() < 100


def test_a_seed_gives_the_same_sample_under_xla():
    assigned = np.int32([[0] * 5 + [-1] * 20])

    def draw(seed):
        return sample_assignments(assigned, random_keys((1, 25), seed), SampleSpec(8, 0.25))["indices"]

    seeds = np.int32([[3, 10], [3, 11]])
    first, second = np.asarray(draw(seeds[0])), np.asarray(draw(seeds[1]))
    assert (first != second).any()
    np.testing.assert_array_equal(tf.function(draw, jit_compile=True)(seeds[0]), first)


def ohem_by_sorting(losses, valid, count):
    largest = sorted(np.flatnonzero(valid), key=lambda i: -losses.flat[i])[:count]
    mask = np.zeros(losses.size)
    mask[largest] = 1
    return mask.reshape(losses.shape)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 20))
def test_ohem_selects_the_largest_losses(seed, count):
    random = np.random.default_rng(seed)
    losses, valid = random.exponential(size=(3, 12)).astype("float32"), random.random((3, 12)) < 0.7
    per_image = ohem_mask(losses, valid, OhemSpec(count))
    np.testing.assert_array_equal(
        per_image, [ohem_by_sorting(*arrays, count) for arrays in zip(losses, valid, strict=True)]
    )
    joint = ohem_mask(losses, valid, OhemSpec(count, joint=True))
    np.testing.assert_array_equal(joint, ohem_by_sorting(losses, valid, 3 * min(count, 12)))


@pytest.mark.parametrize("joint", [False, True])
def test_no_gradient_flows_through_ohem_under_xla(joint):
    losses = tf.Variable(np.float32([[1, 5, 2], [9, 8, 0.5]]))

    @tf.function(jit_compile=True)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(ohem_mask(losses, tf.ones((2, 3), bool), OhemSpec(1, joint)) * losses)
        return tape.gradient(loss, losses)

    expected = [[0, 0, 0], [1, 1, 0]] if joint else [[0, 1, 0], [1, 0, 0]]
    np.testing.assert_array_equal(step(), expected)


def test_invalid_fractions_are_rejected():
    with pytest.raises(ValueError, match="fraction"):
        SampleSpec(256, 1.5)
