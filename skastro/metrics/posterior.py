"""Tests of the coverage of posteriors on objects with known truth.

The order of arguments is scikit-learn's, truth first. Draws are samples from the posterior of each object, as returned
by :meth:`skastro.FlowPosterior.sample`.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.integrate import trapezoid
from sklearn.utils import Bunch, check_random_state, gen_batches

from skastro.inputs import column_names
from skastro.metrics.checks import as_numbers, order_columns

__all__ = ["sbc_ranks", "tarp"]

CHUNK = 1 << 20  # numbers compared at once


def tarp(
    y_true: ArrayLike,
    samples: ArrayLike,
    *,
    references: ArrayLike | None = None,
    n_levels: int = 101,
    random_state: Any = 0,
) -> Bunch:
    r"""Test the coverage of joint posteriors with random points (TARP).

    Around a reference point :math:`r_i`, the ball that ends at the truth :math:`y_i` holds the fraction

    .. math:: f_i = \frac{1}{S} \sum_{s=1}^{S} \mathbf 1\left[d(y_{is}, r_i) < d(y_i, r_i)\right]

    of the S draws. The ball is a credible region. If the posteriors are right, a fraction :math:`\alpha` of the objects
    has :math:`f_i` below :math:`\alpha`: the expected coverage equals the credibility.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, k)
        True values.
    samples : array-like of shape (n, n_samples, k) or (n, n_samples)
        Draws from the posterior of each object.
    references : array-like of shape (n, k), default=None
        Reference points, which must not depend on the truth of the same object but may depend on its data. None draws
        them uniformly from the range of the truths.
    n_levels : int, default=101
        Number of credibility levels, from 0 to 1.
    random_state : int, RandomState instance or None, default=0
        Random state of the reference points and of ties.

    Returns
    -------
    Bunch
        ``levels``, ndarray of shape (n_levels,): credibility :math:`\alpha`. ``coverage``, of the same shape: expected
        coverage. ``fractions``, ndarray of shape (n,): :math:`f_i`. ``area``, float: :math:`\int_{1/2}^{1} ({\rm
        coverage} - \alpha)\, d\alpha`, positive for posteriors that are too wide, negative for posteriors that are too
        narrow. ``statistic`` and ``p_value``, float: Kolmogorov-Smirnov test of the fractions against the uniform
        distribution; a small p-value rejects the posteriors.

    Raises
    ------
    ValueError
        If shapes do not match, numbers are not finite, or there are fewer than 2 levels.

    See Also
    --------
    sbc_ranks : Test each value on its own.
    skastro.plotting.CoverageDisplay : Plot the coverage.

    Notes
    -----
    Distances are Euclidean, each value divided by the standard deviation of its truths. The fraction of S draws is one
    of S + 1 numbers, and distances may tie. Coverage and test use a number drawn uniformly from the step in its place,
    :math:`(\#_{<} + u\,(\#_{=} + 1)) / (S + 1)`, which is exactly uniform if the posteriors are right.

    A posterior that ignores the data passes if the references ignore them too, so check its log-probability as well.

    References
    ----------
    Lemos et al. (2023), "Sampling-Based Accuracy Testing of Posterior Estimators for General Inference",
    `arXiv:2302.03026 <https://arxiv.org/abs/2302.03026>`_, section 3 and algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.metrics import tarp
    >>> rng = np.random.default_rng(0)
    >>> center = rng.normal(size=(500, 1, 2))
    >>> y_true = center[:, 0] + rng.normal(size=(500, 2))
    >>> right, narrow = (tarp(y_true, center + width * rng.normal(size=(500, 200, 2))) for width in (1.0, 0.5))
    >>> bool(right.p_value > 0.05), bool(narrow.p_value < 0.001), bool(narrow.area < 0)
    (True, True, True)
    """
    references = order_columns("references", references, column_names(y_true))
    y_true, samples = _check_draws(y_true, samples)
    if n_levels < 2:
        raise ValueError(f"n_levels must be at least 2; got {n_levels}.")
    rng = check_random_state(random_state)
    if references is None:
        references = rng.uniform(y_true.min(axis=0), y_true.max(axis=0), size=y_true.shape)
    references = _check_values("references", references)
    if references.shape != y_true.shape:
        raise ValueError(f"references must have the shape {y_true.shape} of y_true; got {references.shape}.")
    nearer, as_near = _count_nearer(y_true, samples, references)
    n_samples = samples.shape[1]
    shares = _places(nearer, as_near, rng) / (n_samples + 1)
    levels = np.linspace(0, 1, n_levels)
    coverage = np.searchsorted(np.sort(shares), levels, side="right") / len(shares)
    upper = levels >= 0.5
    test = stats.kstest(shares, "uniform")
    return Bunch(
        levels=levels,
        coverage=coverage,
        fractions=nearer / n_samples,
        area=float(trapezoid(coverage[upper] - levels[upper], levels[upper])),
        statistic=float(test.statistic),
        p_value=float(test.pvalue),
    )


def sbc_ranks(y_true: ArrayLike, samples: ArrayLike, *, random_state: Any = 0) -> Bunch:
    r"""Rank each true value among the draws from its posterior: simulation-based calibration (SBC).

    .. math:: r_{ij} = \sum_{s=1}^{S} \mathbf 1\left[y_{isj} < y_{ij}\right]

    Every rank from 0 to S is equally likely if the posteriors are right.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, k)
        True values.
    samples : array-like of shape (n, n_samples, k) or (n, n_samples)
        Independent draws from the posterior of each object.
    random_state : int, RandomState instance or None, default=0
        Random state of ties: a truth that equals draws gets each of the ranks between them with the same probability.

    Returns
    -------
    Bunch
        ``ranks``, ndarray of shape (n, k), int. ``n_samples``, int: the highest rank. ``statistic`` and ``p_value``,
        ndarray of shape (k,): Kolmogorov-Smirnov test of each value's ranks against the uniform distribution. A small
        p-value rejects the posteriors. With several values, the smallest must be below 0.05 / k to be significant.

    Raises
    ------
    ValueError
        If shapes do not match or numbers are not finite.

    See Also
    --------
    tarp : Test all values together, including their correlations.
    skastro.metrics.pit : Compute the same for a density on a grid.
    skastro.plotting.RankDisplay : Plot the histograms.

    Notes
    -----
    Posteriors that are too narrow pile up ranks at both ends, too wide ones in the middle, biased ones at one end. For
    the test, a rank becomes :math:`(r + u) / (S + 1)` with :math:`u` uniform, which is exactly uniform if the
    posteriors are right.

    References
    ----------
    Talts et al. (2018), "Validating Bayesian Inference Algorithms with Simulation-Based Calibration", `arXiv:1804.06788
    <https://arxiv.org/abs/1804.06788>`_, section 4 and algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.metrics import sbc_ranks
    >>> sbc_ranks([0.5, 2.5], [[1, 2, 3], [1, 2, 3]]).ranks
    array([[0],
           [2]])
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=1000)
    >>> bool(sbc_ranks(truth, rng.normal(size=(1000, 99))).p_value[0] > 0.05)
    True
    >>> bool(sbc_ranks(truth, 0.7 * rng.normal(size=(1000, 99))).p_value[0] < 0.001)
    True
    """
    y_true, samples = _check_draws(y_true, samples)
    rng, n_samples = check_random_state(random_state), samples.shape[1]
    below = np.sum(samples < y_true[:, np.newaxis], axis=1)
    equal = np.sum(samples == y_true[:, np.newaxis], axis=1)
    places = _places(below, equal, rng)
    tests = [stats.kstest(column / (n_samples + 1), "uniform") for column in places.T]
    return Bunch(
        ranks=np.minimum(places.astype(int), below + equal),
        n_samples=n_samples,
        statistic=np.array([test.statistic for test in tests]),
        p_value=np.array([test.pvalue for test in tests]),
    )


def _check_values(name: str, values: ArrayLike) -> np.ndarray:
    """Check finite numbers, with one column per value."""
    values = as_numbers(name, values)
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if len(bad):
        raise ValueError(f"{name} is NaN or infinite in {len(bad)} rows, the first is row {bad[0]}.")
    return values[:, np.newaxis] if values.ndim == 1 else values


def _check_draws(y_true: ArrayLike, samples: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y_true, samples = _check_values("y_true", y_true), _check_values("samples", samples)
    samples = samples[:, :, np.newaxis] if samples.ndim == 2 else samples
    expected = (len(y_true), "n_samples", *y_true.shape[1:])
    if y_true.ndim != 2 or samples.ndim != 3 or samples.shape[::2] != y_true.shape or not samples.size:
        raise ValueError(
            f"samples must hold draws for each row and column of y_true, {expected}; its shape is {samples.shape}."
        )
    return y_true, samples


def _count_nearer(y_true: np.ndarray, samples: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the draws of each object that are nearer to its reference than the truth, and those that are as near."""
    scale = y_true.std(axis=0)
    scale[scale == 0] = 1
    nearer, as_near = np.empty(len(y_true)), np.empty(len(y_true))
    for rows in gen_batches(len(y_true), max(1, CHUNK // samples[0].size)):
        center = references[rows, np.newaxis]
        distance = np.sum(((samples[rows] - center) / scale) ** 2, axis=-1)
        radius = np.sum(((y_true[rows, np.newaxis] - center) / scale) ** 2, axis=-1)
        nearer[rows] = np.sum(distance < radius, axis=1)
        as_near[rows] = np.sum(distance == radius, axis=1)
    return nearer, as_near


def _places(below: np.ndarray, equal: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Return the places of truths among S draws, from 0 to S + 1; ties are drawn uniformly."""
    return below + rng.random_sample(below.shape) * (equal + 1)
