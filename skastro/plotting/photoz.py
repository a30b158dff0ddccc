"""Display of photometric redshifts and their residuals."""

from typing import Any, Self

import numpy as np

from skastro.metrics import delta_z, photoz_bias, photoz_outliers, sigma_mad
from skastro.metrics.checks import as_numbers
from skastro.plotting.density import density
from skastro.plotting.style import new_figure

__all__ = ["PhotoZDisplay"]


class PhotoZDisplay:
    r"""Predicted against true redshift, above the residuals: figure 5 of [1]_.

    The residual of an object of spectroscopic redshift :math:`z_s` and photometric redshift :math:`z_p` is

    .. math:: \Delta z = \frac{z_p - z_s}{1 + z_s}.

    Parameters
    ----------
    z_true : array of shape (n,)
        Spectroscopic redshifts.
    z_pred : array of shape (n,)
        Photometric redshifts.
    threshold : float, default=0.05
        An object with :math:`|\Delta z|` above the threshold is an outlier.

    Attributes
    ----------
    axes_ : array of matplotlib Axes, of shape (2,)
        The panels of redshifts and of residuals.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    skastro.metrics.photoz_table : Compute the metrics in bins of redshift.

    References
    ----------
    .. [1] Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", `arXiv:2012.13083
       <https://arxiv.org/abs/2012.13083>`_, section 3.3.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from skastro.plotting import PhotoZDisplay
    >>> rng = np.random.default_rng(0)
    >>> z_true = rng.gamma(3, 0.04, size=1000)
    >>> display = PhotoZDisplay.from_predictions(z_true, z_true + rng.normal(0, 0.02, size=1000) * (1 + z_true))
    >>> print(display.axes_[0].texts[0].get_text())
    ⟨Δz⟩ = −0.0009
    $σ_{MAD}$ = 0.0200
    η = 0.70 %
    """

    def __init__(self, z_true: Any, z_pred: Any, *, threshold: float = 0.05) -> None:
        self.z_true = z_true
        self.z_pred = z_pred
        self.threshold = threshold

    @classmethod
    def from_predictions(
        cls, z_true: Any, z_pred: Any, *, sample: int | None = 50_000, threshold: float = 0.05, figure: Any = None
    ) -> Self:
        """Draw predictions.

        Parameters
        ----------
        z_true : array-like of shape (n,)
            Spectroscopic redshifts.
        z_pred : array-like of shape (n,)
            Photometric redshifts.
        sample : int or None, default=50_000
            Maximum number of objects to show as points; ``None`` shows all.
        threshold : float, default=0.05
            An object with a residual above the threshold, of either sign, is an outlier.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        PhotoZDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the redshifts differ in length or are not finite, or if `sample` is less than 1.
        """
        return cls(z_true, z_pred, threshold=threshold).plot(sample=sample, figure=figure)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        z_true: Any,
        *,
        sample: int | None = 50_000,
        threshold: float = 0.05,
        figure: Any = None,
    ) -> Self:
        """Predict redshifts and draw them.

        Parameters
        ----------
        estimator : estimator
            A fitted regressor, or a pipeline with one at its end.
        X : array-like of shape (n, ...)
            Input of the estimator.
        z_true : array-like of shape (n,)
            Spectroscopic redshifts.
        sample : int or None, default=50_000
            Maximum number of objects to show as points; ``None`` shows all.
        threshold : float, default=0.05
            An object with a residual above the threshold, of either sign, is an outlier.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        PhotoZDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the redshifts differ in length or are not finite, or if `sample` is less than 1.
        """
        z_pred = estimator.predict(X)
        return cls.from_predictions(z_true, z_pred, sample=sample, threshold=threshold, figure=figure)

    def plot(self, *, sample: int | None = 50_000, figure: Any = None) -> Self:
        """Draw the objects, colored by their density, and the median and the central 68 % of their residuals.

        The numbers, the median and the band include all objects, even those that are not shown. The median is computed
        in up to 25 cells of redshift of equal width, in cells with at least 20 objects. Residuals far beyond the
        threshold and the band lie outside the lower panel.

        Parameters
        ----------
        sample : int or None, default=50_000
            Maximum number of objects to show as points; ``None`` shows all.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        PhotoZDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the redshifts differ in length or are not finite, or if `sample` is less than 1.
        """
        if sample is not None and sample < 1:
            raise ValueError(f"sample must be at least 1, or None for all; got {sample}.")
        z_true, z_pred = as_numbers("z_true", self.z_true), as_numbers("z_pred", self.z_pred)
        residuals = delta_z(z_true, z_pred)
        self.figure_ = figure = figure or new_figure(4.5, 6)
        self.axes_ = figure.subplots(2, sharex=True, height_ratios=(3, 1.2))
        crowding = density(z_true, z_pred)
        shown = np.random.default_rng(0).permutation(len(z_true))[:sample]
        for ax, values in zip(self.axes_, (z_pred, residuals), strict=True):
            _draw_points(ax, z_true[shown], values[shown], crowding[shown])
        self._draw_one_to_one(self.axes_[0], z_true, z_pred)
        self._draw_trend(self.axes_[1], z_true, residuals)
        figure.align_ylabels(self.axes_)
        return self

    def _draw_one_to_one(self, ax: Any, z_true: np.ndarray, z_pred: np.ndarray) -> None:
        limits = [z_true.min(), z_true.max()]
        ax.plot(limits, limits, color="black", linewidth=1)
        outliers = photoz_outliers(z_true, z_pred, threshold=self.threshold)
        scores = (
            f"⟨Δz⟩ = {photoz_bias(z_true, z_pred):.4f}\n"
            f"$σ_{{MAD}}$ = {sigma_mad(z_true, z_pred):.4f}\n"
            f"η = {100 * outliers:.2f} %"
        )
        ax.text(0.04, 0.97, scores.replace("-", "−"), transform=ax.transAxes, va="top", linespacing=1.4)
        ax.set_ylabel("Photometric redshift")

    def _draw_trend(self, ax: Any, z_true: np.ndarray, residuals: np.ndarray) -> None:
        centers, low, median, high = _trend(z_true, residuals)
        ax.fill_between(centers, low, high, color="black", alpha=0.25, linewidth=0)
        ax.plot(centers, median, color="black", linewidth=1.5)
        for level in (-self.threshold, self.threshold):
            ax.axhline(level, color="black", linewidth=0.8, linestyle="--")
        limit = max(2.5 * self.threshold, 1.2 * np.abs([low, high]).max(initial=0))
        ax.set(ylim=(-limit, limit), xlabel="Spectroscopic redshift", ylabel="Δz")


def _draw_points(ax: Any, x: np.ndarray, y: np.ndarray, crowding: np.ndarray) -> None:
    order = np.argsort(crowding)  # draw the densest points last, on top
    size = np.clip(3000 / len(x), 3, 15)
    style = {"norm": "log", "cmap": "viridis", "linewidths": 0, "rasterized": True}
    ax.scatter(x[order], y[order], s=size, c=crowding[order], **style)
    ax.spines[["top", "right"]].set_visible(False)


def _trend(z: np.ndarray, residuals: np.ndarray, enough: int = 20) -> np.ndarray:
    """Compute the median redshift and residual percentiles 16, 50, 84 of each cell with enough objects: (4, n)."""
    n_cells = int(np.clip(len(z) / (2 * enough), 1, 25))
    cell = np.digitize(z, np.linspace(z.min(), z.max(), n_cells + 1)[1:-1])
    groups = [cell == i for i in np.flatnonzero(np.bincount(cell) >= enough)]
    rows = [(np.median(z[group]), *np.percentile(residuals[group], (16, 50, 84))) for group in groups]
    return np.reshape(rows, (-1, 4)).T
