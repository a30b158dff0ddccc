"""Displays of posteriors of single objects, and of their calibration over many."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import binom

from skastro.metrics import sbc_ranks, tarp
from skastro.metrics.checks import as_numbers
from skastro.metrics.scorers import final_predictor
from skastro.plotting.style import COLORS, new_figure, pyplot

__all__ = ["CornerDisplay", "CoverageDisplay", "RankDisplay"]

SURE = 0.99  # probability that correct posteriors lie in the gray bands, point by point


class CoverageDisplay:
    """Expected coverage of joint posteriors against credibility, by random points (TARP): figure E1 of [1]_.

    For correct posteriors, the curve stays on the diagonal. For posteriors that are too narrow, it runs below the
    diagonal at high credibility and above it at low credibility; for posteriors that are too wide, the other way round.

    Parameters
    ----------
    levels : array of shape (n_levels,)
        Credibility, from 0 to 1.
    coverage : array of shape (n_levels,)
        Expected coverage.
    n : int
        Number of objects.
    p_value : float
        P-value of the test that the posteriors are correct.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the curve.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    line_ : matplotlib Line2D
        The curve.

    See Also
    --------
    skastro.metrics.tarp : Run the test.
    RankDisplay : Plot the test of each value on its own.

    References
    ----------
    .. [1] Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
       <https://arxiv.org/abs/2310.03024>`_, appendix E.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from skastro.plotting import CoverageDisplay
    >>> rng = np.random.default_rng(1)
    >>> y_true, samples = rng.normal(size=(300, 2)), rng.normal(size=(300, 100, 2))
    >>> print(CoverageDisplay.from_predictions(y_true, samples).ax_.texts[0].get_text())
    300 objects
    p = 0.88
    """

    def __init__(self, levels: Any, coverage: Any, *, n: int, p_value: float) -> None:
        self.levels = levels
        self.coverage = coverage
        self.n = n
        self.p_value = p_value

    @classmethod
    def from_predictions(
        cls, y_true: Any, samples: Any, *, references: Any = None, random_state: Any = 0, ax: Any = None
    ) -> Self:
        """Test draws and plot the coverage.

        Parameters
        ----------
        y_true : array-like of shape (n,) or (n, k)
            True values.
        samples : array-like of shape (n, n_samples, k) or (n, n_samples)
            Draws from the posterior of each object.
        references : array-like of shape (n, k), default=None
            Reference points; ``None`` draws them.
        random_state : int, RandomState instance or None, default=0
            Random state of the reference points and of ties.
        ax : matplotlib Axes, default=None
            Axes to draw on; ``None`` makes a new figure.

        Returns
        -------
        CoverageDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            As in :func:`skastro.metrics.tarp`.
        """
        test = tarp(y_true, samples, references=references, random_state=random_state)
        return cls(test.levels, test.coverage, n=len(test.fractions), p_value=test.p_value).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y_true: Any,
        *,
        n_samples: int = 1000,
        references: Any = None,
        random_state: Any = 0,
        ax: Any = None,
    ) -> Self:
        """Draw from the posteriors of an estimator, test the draws and plot the coverage.

        Parameters
        ----------
        estimator : estimator
            A fitted `FlowPosterior`: alone, frozen, at the end of a pipeline, or fitted by a search.
        X : array-like of shape (n, ...)
            Input of the estimator.
        y_true : array-like of shape (n,) or (n, k)
            True values.
        n_samples : int, default=1000
            Number of draws from each posterior.
        references : array-like of shape (n, k), default=None
            Reference points; ``None`` draws them.
        random_state : int, RandomState instance or None, default=0
            Random state of all draws.
        ax : matplotlib Axes, default=None
            Axes to draw on; ``None`` makes a new figure.

        Returns
        -------
        CoverageDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no posterior to draw from.
        ValueError
            As in :func:`skastro.metrics.tarp`.
        """
        samples = _sample(estimator, X, n_samples, random_state)
        return cls.from_predictions(y_true, samples, references=references, random_state=random_state, ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the curve, and the band that contains that of correct posteriors at each level with 99 % probability.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; ``None`` makes a new figure.

        Returns
        -------
        CoverageDisplay
            The display itself.
        """
        if ax is None:
            _, ax = pyplot().subplots(figsize=(4, 4), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        levels = np.asarray(self.levels)
        low, high = _band(self.n, levels) / self.n
        ax.fill_between(levels, low, high, color="black", alpha=0.15, linewidth=0)
        ax.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--")
        (self.line_,) = ax.plot(levels, self.coverage, color=COLORS[0], linewidth=1.8)
        told = f"{self.n:,} objects\n{_p_label(self.p_value)}"
        ax.text(0.05, 0.95, told, transform=ax.transAxes, va="top", linespacing=1.4)
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="Credibility level", ylabel="Expected coverage", aspect="equal")
        ax.spines[["top", "right"]].set_visible(False)
        return self


class RankDisplay:
    """Histograms of the ranks of true values among draws (SBC), one panel per value, as in figure 1 of [1]_.

    Ranks of correct posteriors are uniform. For posteriors that are too narrow, ranks pile up at both ends; for
    posteriors that are too wide, in the middle; for biased posteriors, at one end.

    Parameters
    ----------
    ranks : array of shape (n, k)
        Ranks, from 0 to `n_samples`.
    n_samples : int
        Number of draws per posterior.
    p_value : array of shape (k,)
        P-values of the tests that the posteriors are correct.
    names : sequence of str, default=None
        Names of the values; ``None`` numbers them.

    Attributes
    ----------
    axes_ : array of matplotlib Axes, of shape (k,)
        The panels.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    skastro.metrics.sbc_ranks : Run the test.
    CoverageDisplay : Plot the test of all values together.

    References
    ----------
    .. [1] Talts et al. (2018), "Validating Bayesian Inference Algorithms with Simulation-Based Calibration",
       `arXiv:1804.06788 <https://arxiv.org/abs/1804.06788>`_.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from skastro.plotting import RankDisplay
    >>> rng = np.random.default_rng(0)
    >>> y_true, samples = rng.normal(size=(300, 2)), rng.normal(size=(300, 100, 2))
    >>> display = RankDisplay.from_predictions(y_true, samples, names=["mass", "age"])
    >>> [ax.get_title() for ax in display.axes_]
    ['mass: p = 0.22', 'age: p = 0.70']
    """

    def __init__(self, ranks: Any, *, n_samples: int, p_value: Any, names: Sequence[str] | None = None) -> None:
        self.ranks = ranks
        self.n_samples = n_samples
        self.p_value = p_value
        self.names = names

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        samples: Any,
        *,
        names: Sequence[str] | None = None,
        random_state: Any = 0,
        bins: int = 20,
        figure: Any = None,
    ) -> Self:
        """Rank true values among draws and plot the histograms.

        Parameters
        ----------
        y_true : array-like of shape (n,) or (n, k)
            True values.
        samples : array-like of shape (n, n_samples, k) or (n, n_samples)
            Independent draws from the posterior of each object.
        names : sequence of str, default=None
            Names of the values; ``None`` numbers them.
        random_state : int, RandomState instance or None, default=0
            Random state of ties.
        bins : int, default=20
            Maximum number of bins; never more than there are ranks.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        RankDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            As in :func:`skastro.metrics.sbc_ranks`; if `names` are not one per value or `bins` is less than 1.
        """
        test = sbc_ranks(y_true, samples, random_state=random_state)
        display = cls(test.ranks, n_samples=test.n_samples, p_value=test.p_value, names=names)
        return display.plot(bins=bins, figure=figure)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y_true: Any,
        *,
        n_samples: int = 999,
        names: Sequence[str] | None = None,
        random_state: Any = 0,
        bins: int = 20,
        figure: Any = None,
    ) -> Self:
        """Draw from the posteriors of an estimator, rank true values and plot the histograms.

        Parameters
        ----------
        estimator : estimator
            A fitted `FlowPosterior`: alone, frozen, at the end of a pipeline, or fitted by a search.
        X : array-like of shape (n, ...)
            Input of the estimator.
        y_true : array-like of shape (n,) or (n, k)
            True values.
        n_samples : int, default=999
            Number of draws from each posterior.
        names : sequence of str, default=None
            Names of the values; ``None`` numbers them.
        random_state : int, RandomState instance or None, default=0
            Random state of the draws and of ties.
        bins : int, default=20
            Maximum number of bins; never more than there are ranks.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        RankDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no posterior to draw from.
        ValueError
            As in :func:`skastro.metrics.sbc_ranks`; if `names` are not one per value or `bins` is less than 1.
        """
        samples = _sample(estimator, X, n_samples, random_state)
        return cls.from_predictions(y_true, samples, names=names, random_state=random_state, bins=bins, figure=figure)

    def plot(self, *, bins: int = 20, figure: Any = None) -> Self:
        """Draw counts relative to the expected ones, and the band that contains each of them with 99 % probability.

        Parameters
        ----------
        bins : int, default=20
            Maximum number of bins; never more than there are ranks. The expected count of a bin follows from its share
            of ranks.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        RankDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `names` are not one per value or `bins` is less than 1.
        """
        if bins < 1:
            raise ValueError(f"bins must be at least 1; got {bins}.")
        ranks = np.asarray(self.ranks)
        names = _names(self.names, ranks.shape[1])
        self.figure_ = figure = figure or new_figure(0.8 + 2.6 * ranks.shape[1], 2.8)
        self.axes_ = figure.subplots(1, ranks.shape[1], sharey=True, squeeze=False)[0]
        edges = np.linspace(-0.5, self.n_samples + 0.5, min(bins, self.n_samples + 1) + 1)
        share = np.histogram(np.arange(self.n_samples + 1), edges)[0] / (self.n_samples + 1)
        expected = len(ranks) * share
        low, high = _band(len(ranks), share) / expected
        for ax, column, name, p in zip(self.axes_, ranks.T, names, np.ravel(self.p_value), strict=True):
            ax.stairs(high, edges, baseline=low, fill=True, color="black", alpha=0.15, linewidth=0)
            ax.axhline(1, color="black", linewidth=1, linestyle="--")
            ax.stairs(np.histogram(column, edges)[0] / expected, edges, color=COLORS[0], linewidth=1.8)
            ax.set(title=f"{name}: {_p_label(p)}", xlabel="Rank of the truth", xlim=(edges[0], edges[-1]))
            ax.spines[["top", "right"]].set_visible(False)
        self.axes_[0].set(ylabel="Objects over expected", ylim=(0, None))
        return self


class CornerDisplay:
    """The posterior of one object: each value, and each pair of values, as in figure D3 of [1]_.

    Parameters
    ----------
    samples : array of shape (n_samples, k)
        Draws.
    truth : array of shape (k,), default=None
        True values.
    names : sequence of str, default=None
        Names of the values; ``None`` numbers them.

    Attributes
    ----------
    axes_ : array of matplotlib Axes, of shape (k, k)
        The panels; those above the diagonal are hidden.
    figure_ : matplotlib Figure
        The figure.

    References
    ----------
    .. [1] Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
       <https://arxiv.org/abs/2310.03024>`_, appendix D1.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from skastro.plotting import CornerDisplay
    >>> samples = np.random.default_rng(0).multivariate_normal([10.5, 3.0], [[0.04, 0.06], [0.06, 0.25]], size=5000)
    >>> display = CornerDisplay.from_predictions(samples, truth=[10.4, 3.1], names=["log mass", "age"])
    >>> display.axes_[1, 0].get_xlabel(), display.axes_[1, 0].get_ylabel()
    ('log mass', 'age')
    >>> [ax.get_title() for ax in display.axes_.diagonal()]
    ['10.506 (−0.200, +0.195)', '3.001 (−0.491, +0.508)']
    """

    def __init__(self, samples: Any, truth: Any = None, *, names: Sequence[str] | None = None) -> None:
        self.samples = samples
        self.truth = truth
        self.names = names

    @classmethod
    def from_predictions(
        cls,
        samples: Any,
        truth: Any = None,
        *,
        names: Sequence[str] | None = None,
        levels: Sequence[float] = (0.68, 0.95),
        figure: Any = None,
    ) -> Self:
        """Plot draws from a posterior.

        Parameters
        ----------
        samples : array-like of shape (n_samples, k)
            Draws from the posterior.
        truth : array-like of shape (k,), default=None
            True values.
        names : sequence of str, default=None
            Names of the values; ``None`` numbers them.
        levels : sequence of float, default=(0.68, 0.95)
            Probability inside each contour.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        CornerDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `samples` are not finite rows, `truth` or `names` are not one per value, or a level is not between 0 and
            1.
        """
        return cls(samples, truth, names=names).plot(levels=levels, figure=figure)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        truth: Any = None,
        *,
        n_samples: int = 10_000,
        names: Sequence[str] | None = None,
        levels: Sequence[float] = (0.68, 0.95),
        random_state: Any = 0,
        figure: Any = None,
    ) -> Self:
        """Draw from the posterior of one object and plot the draws.

        Parameters
        ----------
        estimator : estimator
            A fitted `FlowPosterior`: alone, frozen, at the end of a pipeline, or fitted by a search.
        X : array-like of shape (1, ...)
            Input of the estimator.
        truth : array-like of shape (k,), default=None
            True values.
        n_samples : int, default=10_000
            Number of draws.
        names : sequence of str, default=None
            Names of the values; ``None`` numbers them.
        levels : sequence of float, default=(0.68, 0.95)
            Probability inside each contour.
        random_state : int, RandomState instance or None, default=0
            Random state of the draws.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        CornerDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no posterior to draw from.
        ValueError
            If `X` does not have exactly one row, and as in `from_predictions`.
        """
        if len(X) != 1:
            raise ValueError(f"X must be one row, because a corner shows one object; it has {len(X)}.")
        (samples,) = _sample(estimator, X, n_samples, random_state)
        return cls.from_predictions(samples, truth, names=names, levels=levels, figure=figure)

    def plot(self, *, levels: Sequence[float] = (0.68, 0.95), figure: Any = None) -> Self:
        """Draw a histogram of each value and contours of each pair; lines mark the truth.

        Above each histogram are the median and the distances to the percentiles 16 and 84. Contours enclose the densest
        region with the given probability. Panels show the central 99.8 % of each value, and the truth.

        Parameters
        ----------
        levels : sequence of float, default=(0.68, 0.95)
            Probability inside each contour.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        CornerDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `samples` are not finite rows, `truth` or `names` are not one per value, or a level is not between 0 and
            1.
        """
        if not all(0 < level < 1 for level in levels):
            raise ValueError(f"levels must lie between 0 and 1; got {levels}.")
        samples, truth = _check_corner(self.samples, self.truth)
        k = samples.shape[1]
        names = _names(self.names, k)
        self.figure_ = figure = figure or new_figure(0.8 + 2 * k, 0.8 + 2 * k)
        self.axes_ = figure.subplots(k, k, sharex="col", squeeze=False)
        ranges = [_range(column, value) for column, value in zip(samples.T, truth, strict=True)]
        for i, j in np.ndindex(k, k):
            ax = self.axes_[i, j]
            if i == j:
                _draw_value(ax, samples[:, i], float(truth[i]), ranges[i])
            elif i > j:
                _draw_pair(ax, samples[:, [j, i]], truth[[j, i]], [ranges[j], ranges[i]], levels)
            ax.set_visible(i >= j)
            ax.label_outer()
            if i == k - 1:
                ax.set_xlabel(names[j])
            if i > j == 0:
                ax.set_ylabel(names[i])
        return self


def _sample(estimator: Any, X: Any, n_samples: int, random_state: Any) -> np.ndarray:
    """Draw from an estimator that is alone, frozen, at the end of a pipeline, or fitted by a search."""
    predictor, X = final_predictor(estimator, X)
    if not hasattr(predictor, "sample"):
        raise TypeError(f"{type(predictor).__name__} has no posterior to draw from; FlowPosterior has.")
    return predictor.sample(X, n_samples, random_state=random_state)


def _band(n: int, share: np.ndarray) -> np.ndarray:
    """Compute the limits of the counts of n objects that each fall in a bin with this probability: (2, ...)."""
    return np.stack([binom.ppf(end, n, share) for end in ((1 - SURE) / 2, (1 + SURE) / 2)])


def _p_label(p: float) -> str:
    return f"p = {p:.2f}" if p >= 0.01 else f"p = {p:.0e}".replace("-", "−")


def _names(names: Sequence[str] | None, k: int) -> Sequence[str]:
    names = [f"value {i}" for i in range(k)] if names is None else list(names)
    if len(names) != k:
        raise ValueError(f"names must hold one name for each of the {k} values; got {len(names)}.")
    return names


def _check_corner(samples: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check draws and the truth; the truth is NaN where unknown."""
    samples = as_numbers("samples", samples)
    if samples.ndim != 2 or len(samples) < 2 or not np.isfinite(samples).all():
        raise ValueError(f"samples must be at least two finite rows of values; their shape is {samples.shape}.")
    truth = np.full(samples.shape[1], np.nan) if truth is None else as_numbers("truth", truth)
    if truth.shape != samples.shape[1:]:
        raise ValueError(f"truth must have one number for each of the {samples.shape[1]} values; got {truth.shape}.")
    return samples, truth


def _range(values: np.ndarray, truth: float) -> tuple[float, float]:
    low, high = np.quantile(values, (0.001, 0.999))
    low, high = np.fmin(low, truth), np.fmax(high, truth)
    margin = 0.03 * (high - low) or 0.5  # if all values are the same
    return low - margin, high + margin


def _draw_value(ax: Any, values: np.ndarray, truth: float, span: tuple[float, float]) -> None:
    low, median, high = np.percentile(values, (16, 50, 84))
    counts, edges = np.histogram(values, bins=40, range=span)
    ax.stairs(counts, edges, color=COLORS[0], linewidth=1.5)
    ax.axvline(truth, color=COLORS[1], linewidth=1.2)
    digits = max(0, 2 - int(np.floor(np.log10(max(high - low, 1e-12)))))
    title = f"{median:z.{digits}f} (-{median - low:.{digits}f}, +{high - median:.{digits}f})"
    ax.set_title(title.replace("-", "−"), fontsize="small")
    ax.set(yticks=[], ylim=(0, None), xlim=span)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _draw_pair(
    ax: Any, pair: np.ndarray, truth: np.ndarray, spans: Sequence[tuple[float, float]], levels: Sequence[float]
) -> None:
    counts, *edges = np.histogram2d(pair[:, 0], pair[:, 1], bins=40, range=list(spans))
    density = gaussian_filter(counts, 1)
    heights = np.unique(_heights(density, levels))  # contours need ascending levels
    centers = [(e[:-1] + e[1:]) / 2 for e in edges]
    ax.contourf(*centers, density.T, [*heights, np.inf], colors=COLORS[0], alpha=0.25)
    ax.contour(*centers, density.T, heights, colors=COLORS[0], linewidths=1.2)
    ax.axvline(truth[0], color=COLORS[1], linewidth=1.2)
    ax.axhline(truth[1], color=COLORS[1], linewidth=1.2)
    ax.set(xlim=spans[0], ylim=spans[1])


def _heights(density: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Compute the density above which the densest cells contain each probability."""
    ordered = np.sort(density, axis=None)[::-1]
    held = np.cumsum(ordered) / ordered.sum()
    return ordered[np.searchsorted(held, levels)]
