"""Distributions against scipy, and what every one of them promises."""

import joblib
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone

from skastro.augment.distributions import HalfNormal, LogNormal, Uniform, get_distribution, sample

# Fits of the Legacy Surveys' noise and seeing in g, r and z, as Stein et al. (2021) publish them in their code.
NOISE = {
    "shape": (0.2264926, 0.2431146, 0.1334844),
    "loc": (-0.0006735, -0.0023663, -0.0143416),
    "scale": (0.0037602, 0.0067417, 0.0260779),
}
CASES = {
    "uniform": (Uniform(0.2, 0.7), stats.uniform(0.2, 0.5)),
    "half-normal": (HalfNormal(0.13), stats.halfnorm(scale=0.13)),
    "log-normal": (LogNormal(shape=0.67306, loc=0.001146, scale=0.03338), stats.lognorm(0.67306, 0.001146, 0.03338)),
    "per band": (LogNormal(**NOISE), stats.lognorm(*(np.array(values) for values in NOISE.values()))),
    "uniform per band": (Uniform((0.0, 1.0, 2.0), (1.0, 3.0, 2.5)), stats.uniform([0.0, 1.0, 2.0], [1.0, 2.0, 0.5])),
    "half-normal per band": (HalfNormal((1.0, 2.0, 3.0)), stats.halfnorm(scale=[1.0, 2.0, 3.0])),
}
each_case = pytest.mark.parametrize(("distribution", "truth"), CASES.values(), ids=CASES)


@each_case
def test_moments_and_quantiles_are_those_of_scipy(distribution, truth, seeded):
    drawn = distribution.draw((200_000, 3), seeded()).double().numpy()
    np.testing.assert_allclose(drawn.mean(axis=0), np.broadcast_to(truth.mean(), 3), rtol=0.01)
    np.testing.assert_allclose(drawn.std(axis=0), np.broadcast_to(truth.std(), 3), rtol=0.02)
    for quantile in (0.05, 0.5, 0.95):
        expected = np.broadcast_to(truth.ppf(quantile), 3)
        np.testing.assert_allclose(
            np.quantile(drawn, quantile, axis=0), expected, rtol=0.02, atol=2e-3 * truth.std().max()
        )
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.01


@each_case
def test_one_draw_in_a_thousand_exceeds_the_largest(distribution, truth):
    expected = truth.ppf(1.0) if isinstance(distribution, Uniform) else truth.ppf(0.999)
    np.testing.assert_allclose(distribution.largest(), expected, rtol=1e-3)


@each_case
def test_shapes_bands_and_the_seed(distribution, truth, seeded, global_generators_stay):
    assert distribution.bands in (0, 3)
    assert distribution.draw((7, 3), seeded()).shape == (7, 3)
    assert distribution.draw((7, 3), seeded()).dtype == torch.float32
    if not distribution.bands:
        assert distribution.draw((7,), seeded()).shape == (7,)
    assert torch.equal(distribution.draw((7, 3), seeded(1)), distribution.draw((7, 3), seeded(1)))
    assert joblib.hash(clone(distribution)) == joblib.hash(distribution)
    distribution._validate_params()


def test_a_log_normal_is_clipped_to_its_limits(seeded):
    clipped = LogNormal(**NOISE, low=(0.001094, -1.0, -1.0), high=(0.013, 0.018, 0.061))
    drawn = clipped.draw((500_000, 3), seeded())
    assert drawn[:, 0].min() == np.float32(0.001094)
    assert (drawn <= torch.tensor([0.013, 0.018, 0.061])).all()
    assert LogNormal(shape=1.0, high=2.0).draw((1000,), seeded()).max() == 2.0
    assert LogNormal(shape=1.0, low=0.5).draw((1000,), seeded()).min() == 0.5
    assert LogNormal(shape=1.0, high=2.0).largest() == 2.0


def test_a_pair_of_limits_is_uniform(seeded):
    drawn = sample((0.1, 0.4), (10_000,), seeded())
    assert torch.equal(drawn, Uniform(0.1, 0.4).draw((10_000,), seeded()))
    assert repr(get_distribution((0.1, 0.4))) == repr(Uniform(0.1, 0.4))
    mine = HalfNormal(2.0)
    assert get_distribution(mine) is mine


def test_amounts_are_not_negative(seeded):
    drawn = sample(LogNormal(shape=0.1, loc=-1.0), (10_000,), seeded())
    assert drawn.min() == 0
    assert (drawn == 0).float().mean() == pytest.approx(0.5, abs=0.03)
