"""Tests of coverage pass on right posteriors, fail on wrong ones, and are what the papers write, slowly."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skastro.metrics import posterior, sbc_ranks, tarp

MIX = np.array([[1.0, 0.0], [0.8, 0.6]])


def posteriors(n=1000, n_samples=200, width=1.0, shift=0.0, seed=0):
    """Truths and draws of Gaussian posteriors with correlated values at odd scales."""
    rng = np.random.default_rng(seed)
    center = rng.normal(size=(n, 1, 2))
    truth = center[:, 0] + rng.normal(size=(n, 2)) @ MIX
    draws = center + shift + width * rng.normal(size=(n, n_samples, 2)) @ MIX
    return truth * [1.0, 1e4], draws * [1.0, 1e4]


def p_values(y_true, samples, **kwargs):
    return tarp(y_true, samples, **kwargs).p_value, *sbc_ranks(y_true, samples, **kwargs).p_value


# The papers, slowly


@pytest.mark.parametrize("k", [1, 2, 3])
def test_fractions_and_ranks_are_those_of_the_papers(k):
    rng = np.random.default_rng(0)
    y_true, samples, references = rng.normal(size=(30, k)), rng.normal(size=(30, 17, k)), rng.normal(size=(30, k))
    scale = y_true.std(axis=0)
    fractions, ranks = np.zeros(30), np.zeros((30, k), dtype=int)
    for i in range(30):
        radius = np.linalg.norm((y_true[i] - references[i]) / scale)
        for s in range(17):
            fractions[i] += (np.linalg.norm((samples[i, s] - references[i]) / scale) < radius) / 17
            ranks[i] += samples[i, s] < y_true[i]
    assert_allclose(tarp(y_true, samples, references=references).fractions, fractions)
    assert_array_equal(sbc_ranks(y_true, samples).ranks, ranks)
    assert sbc_ranks(y_true, samples).n_samples == 17


def test_coverage_is_the_share_of_fractions_below_each_level():
    test = tarp(*posteriors(200, 5000), n_levels=11)
    assert_allclose(test.levels, np.arange(11) / 10)
    assert_allclose(test.coverage, [np.mean(test.fractions < level) for level in test.levels], atol=0.011)
    assert test.coverage[[0, -1]].tolist() == [0, 1]
    assert (np.diff(test.coverage) >= 0).all()


def test_the_p_values_are_of_the_fractions_and_ranks():
    y_true, samples = posteriors(n_samples=20_000, n=60)
    test, ranks = tarp(y_true, samples), sbc_ranks(y_true, samples)
    assert test.p_value == pytest.approx(stats.kstest(test.fractions, "uniform").pvalue, abs=0.01)
    assert ranks.p_value[1] == pytest.approx(stats.kstest(ranks.ranks[:, 1] / 20_000, "uniform").pvalue, abs=0.01)


# What is right, and what is wrong


def test_right_posteriors_have_uniform_p_values():
    seeds = range(100)
    values = [p_values(*posteriors(60, 9, seed=s), random_state=s) for s in seeds]  # few draws: no bias from steps
    for column in np.transpose(values):
        assert stats.kstest(column, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("wrong", "sign"), [({"width": 0.7}, -1), ({"width": 1.4}, 1), ({"shift": [0.8, 0.4]}, None)], ids=str
)
def test_wrong_posteriors_fail(wrong, sign):
    assert min(p_values(*posteriors())) > 0.01
    assert max(p_values(*posteriors(**wrong))) < 1e-3
    if sign is not None:
        assert np.sign(tarp(*posteriors(**wrong)).area) == sign


def test_only_joint_coverage_sees_a_wrong_correlation():
    y_true, samples = posteriors()
    mean, spread = samples.mean(axis=1), samples.std(axis=1)
    mirrored = mean[:, np.newaxis] * [2, 0] + samples * [-1, 1]
    assert sbc_ranks(y_true, mirrored).p_value.min() > 0.005
    along = mean + 3 * spread  # a reference may depend on the data, if not on the truth
    assert tarp(y_true, samples, references=along).p_value > 0.01
    assert tarp(y_true, mirrored, references=along).p_value < 1e-3


# Laws


def test_units_and_the_order_of_draws_say_nothing():
    y_true, samples = posteriors(100, 30)
    unit, order = np.array([1e6, 1e-3]), np.random.default_rng(0).permutation(30)
    for test in (tarp, sbc_ranks):
        one, other = test(y_true, samples), test(y_true * unit + 7, samples[:, order] * unit + 7)
        for name in one:
            assert_allclose(other[name], one[name], atol=1e-9)


def test_one_value_needs_no_axis():
    y_true, samples = posteriors(50, 20)
    for test in (tarp, sbc_ranks):
        one, other = test(y_true[:, 0], samples[:, :, 0]), test(y_true[:, :1], samples[:, :, :1])
        for name in one:
            assert_array_equal(one[name], other[name])


def test_batches_change_nothing(monkeypatch):
    y_true, samples = posteriors(50, 20)
    whole = tarp(y_true, samples)
    monkeypatch.setattr(posterior, "CHUNK", 41)
    for name, value in tarp(y_true, samples).items():
        assert_array_equal(value, whole[name])


def test_the_seed_decides_and_the_users_generator_is_left():
    y_true, samples = posteriors(50, 20)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert_array_equal(tarp(y_true, samples).fractions, tarp(y_true, samples).fractions)
    assert (tarp(y_true, samples, random_state=1).fractions != tarp(y_true, samples).fractions).any()
    assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_ties_are_broken_evenly():
    rng = np.random.default_rng(0)
    y_true, samples = rng.integers(3, size=2000), rng.integers(3, size=(2000, 9))  # right, and full of ties
    test = sbc_ranks(y_true, samples)
    assert test.ranks.min() == 0
    assert test.ranks.max() == 9
    assert stats.chisquare(np.bincount(test.ranks[:, 0], minlength=10)).pvalue > 0.01
    assert min(p_values(y_true, samples)) > 0.01
    assert len(np.unique(sbc_ranks([1.0] * 500, np.ones((500, 4))).ranks)) == 5


def test_a_value_that_never_varies_is_no_division_by_zero():
    y_true, samples = posteriors(50, 20)
    y_true[:, 1] = 3.0
    assert np.isfinite(tarp(y_true, samples).fractions).all()


# Refusals

Y, S = posteriors(10, 5)


@pytest.mark.parametrize(
    ("y_true", "samples", "sentence"),
    [
        (Y, S[:-1], r"samples must hold draws for each row and column of y_true, \(10, 'n_samples', 2\); its shape"),
        (Y, S[:, :, :1], r"its shape is \(10, 5, 1\)\."),
        (Y, S[:, :0], r"its shape is \(10, 0, 2\)\."),
        (Y[:, 0], S, "samples must hold draws"),
        (np.where(np.arange(10) == 3, np.nan, Y[:, 0]), S[:, :, 0], "^y_true is NaN or infinite in 1 rows, .* row 3"),
        (Y, np.where(S[2, 0, 0] == S, np.inf, S), "^samples is NaN or infinite in 1 rows, the first is row 2"),
    ],
)
def test_what_does_not_go_together_is_refused(y_true, samples, sentence):
    for test in (tarp, sbc_ranks):
        with pytest.raises(ValueError, match=sentence):
            test(y_true, samples)


def test_references_and_levels_that_make_no_test_are_refused():
    with pytest.raises(ValueError, match=r"references must have the shape \(10, 2\) of y_true; got \(9, 2\)\."):
        tarp(Y, S, references=Y[:-1])
    with pytest.raises(ValueError, match="references is NaN"):
        tarp(Y, S, references=Y * np.nan)
    with pytest.raises(ValueError, match=r"n_levels must be at least 2; got 1\."):
        tarp(Y, S, n_levels=1)
