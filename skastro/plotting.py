"""Pictures of results, in the manner of scikit-learn: `from_…` makes a display, `plot` draws it again."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter, map_coordinates
from sklearn.neighbors import NearestNeighbors

from skastro.metrics import delta_z, morphology_scores, photoz_bias, photoz_outliers, sigma_mad
from skastro.model_selection import label_sweep

__all__ = ["LabelSweepDisplay", "LookAlikesDisplay", "PhotoZDisplay", "VoteScatterDisplay"]

# Okabe and Ito's colours, which colour-blind readers tell apart; the markers serve black-and-white prints.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class LabelSweepDisplay:
    """Score against number of labels, one line per method, one panel per metric.

    The figure of a label sweep: figure 1 of [1]_, with ``error=True`` figure 4 of [2]_, and with several
    `metrics` figure 4 of [3]_.

    Parameters
    ----------
    frame : DataFrame
        What :func:`~skastro.model_selection.label_sweep` returns; the columns ``method`` and ``n_labels`` are
        read, and ``score`` or those named by `metrics`.
    metric_name : str, default=None
        What the score is called on the axis; ``None`` is "score".
    metrics : str, sequence of str or mapping of str to str, default=None
        Columns of `frame` to draw, each in its own panel; a mapping also gives what they are called on the axes.
        ``None`` draws ``score`` alone, under its `metric_name`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The first panel, which holds the legend of all.
    axes_ : array of matplotlib Axes, of shape (n_metrics,)
        The panels.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    lines_ : list of matplotlib Line2D
        One line per method, in the order of `frame`, panel by panel.

    See Also
    --------
    skastro.model_selection.label_sweep : Makes the table.

    References
    ----------
    .. [1] Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning".
    .. [2] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning".
    .. [3] Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images".

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import pandas as pd
    >>> from skastro.plotting import LabelSweepDisplay
    >>> scores = {"method": "BYOL", "n_labels": [72, 72, 145, 145], "score": [0.7, 0.8, 0.85, 0.87]}
    >>> display = LabelSweepDisplay.from_frame(pd.DataFrame(scores), error=True)
    >>> display.lines_[0].get_ydata().round(1)
    array([25., 14.])
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        *,
        metric_name: str | None = None,
        metrics: str | Sequence[str] | Mapping[str, str] | None = None,
    ) -> None:
        self.frame = frame
        self.metric_name = metric_name
        self.metrics = metrics

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        ax: Any = None,
        metric_name: str | None = None,
        error: bool = False,
        metrics: str | Sequence[str] | Mapping[str, str] | None = None,
    ) -> Self:
        """Draw the table of a label sweep.

        Parameters
        ----------
        frame : DataFrame
            What :func:`~skastro.model_selection.label_sweep` returns.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one for each metric; ``None`` makes a new figure.
        metric_name : str, default=None
            What the score is called on the axis; ``None`` is "score".
        error : bool, default=False
            Draw 100 (1 - score), in percent, instead of the score.
        metrics : str, sequence of str or mapping of str to str, default=None
            Columns of `frame` to draw instead of ``score``, each in its own panel; a mapping also names them.

        Returns
        -------
        LabelSweepDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a column is missing, or if there are not as many axes as metrics.
        """
        return cls(frame, metric_name=metric_name, metrics=metrics).plot(ax=ax, error=error)

    @classmethod
    def from_estimators(
        cls,
        methods: Mapping[str, Any],
        X: Any,
        y: Any,
        *,
        label_counts: Sequence[int] | np.ndarray,
        scoring: Any = None,
        ax: Any = None,
        metric_name: str | None = None,
        error: bool = False,
        **sweep: Any,
    ) -> Self:
        """Run a label sweep and draw it.

        Parameters
        ----------
        methods : mapping of str to estimator
            What to compare, by name.
        X : array-like of shape (n, ...)
            Images, spectra or a table.
        y : array-like of shape (n,) or (n, n_outputs)
            Labels or values.
        label_counts : array-like of int
            How many training rows carry a label.
        scoring : str, callable, list of str, mapping or None, default=None
            One metric, or several, which make one panel each, as in `~skastro.model_selection.label_sweep`.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one for each metric; ``None`` makes a new figure.
        metric_name : str, default=None
            What the score is called on the axis; ``None`` is the name given as `scoring`, or else "score".
        error : bool, default=False
            Draw 100 (1 - score), in percent, instead of the score.
        **sweep : dict
            The other keywords of :func:`~skastro.model_selection.label_sweep`: `cv`, `groups`, `n_repeats` and so on.

        Returns
        -------
        LabelSweepDisplay
            The display, drawn; its `frame` is the table.

        Raises
        ------
        ValueError, TypeError, NotFittedError
            As :func:`~skastro.model_selection.label_sweep` does.
        """
        if metric_name is None and isinstance(scoring, str):
            metric_name = scoring.replace("_", " ")
        frame = label_sweep(methods, X, y, label_counts=label_counts, scoring=scoring, **sweep)
        metrics = None if scoring is None or isinstance(scoring, str) or callable(scoring) else list(scoring)
        return cls.from_frame(frame, metrics=metrics, ax=ax, metric_name=metric_name, error=error)

    def plot(self, ax: Any = None, *, metric_name: str | None = None, error: bool = False) -> Self:
        """Draw the mean over folds and repeats, with its standard error as bars.

        Folds share training rows, so the bars are a guide and not an interval of confidence.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one for each metric; ``None`` makes a new figure.
        metric_name : str, default=None
            What the score is called on the axis; ``None`` is the `metric_name` of the display.
        error : bool, default=False
            Draw 100 (1 - score), in percent, instead of the score.

        Returns
        -------
        LabelSweepDisplay
            The display itself.

        Raises
        ------
        ValueError
            If a column is missing, or if there are not as many axes as metrics.
        """
        names = self._names(metric_name)
        missing = {"method", "n_labels", *names} - set(self.frame.columns)
        if missing:
            raise ValueError(f"frame lacks {', '.join(sorted(missing))}: give the table that label_sweep returns.")
        axes = _stack_panels(len(names)) if ax is None else np.ravel(ax)
        if len(axes) != len(names):
            raise ValueError(f"ax must be one Axes for each of the {len(names)} metrics; got {len(axes)}.")
        self.lines_ = []
        for panel, (metric, name) in zip(axes, names.items(), strict=True):
            scores = 100 * (1 - self.frame[metric]) if error else self.frame[metric]
            self.lines_ += _draw_sweep(panel, self.frame.assign(score=scores))
            panel.set_ylabel(f"1 − {name} (%)" if error else _capitalize(name))
        axes[0].legend(frameon=False)
        self.ax_, self.axes_, self.figure_ = axes[0], axes, axes[0].figure
        return self

    def _names(self, metric_name: str | None) -> dict[str, str]:
        """Columns to draw, and what each is called."""
        if self.metrics is None:
            return {"score": metric_name or self.metric_name or "score"}
        if isinstance(self.metrics, Mapping):
            return dict(self.metrics)
        metrics = [self.metrics] if isinstance(self.metrics, str) else self.metrics
        return {metric: metric.replace("_", " ") for metric in metrics}


def _stack_panels(n_panels: int) -> np.ndarray:
    figure = _pyplot().figure(figsize=(5, 1.5 + 2.25 * n_panels), layout="constrained")
    axes = figure.subplots(n_panels, sharex=True, squeeze=False)[:, 0]
    figure.align_ylabels(axes)
    return axes


def _capitalize(name: str) -> str:
    return name[0].upper() + name[1:] if name[0].isascii() else name  # η stays η


def _draw_sweep(ax: Any, frame: pd.DataFrame) -> list[Any]:
    styles = zip(cycle(_COLOURS), cycle(_MARKERS), strict=False)
    lines = [
        _draw_line(ax, name, rows, colour, marker)
        for (name, rows), (colour, marker) in zip(frame.groupby("method", sort=False), styles, strict=False)
    ]
    ax.set_xscale("log")
    if ax.xaxis.get_tick_params().get("labelbottom", True):  # else the panel below has the same axis
        ax.set_xlabel("Number of labels")
    counts = np.unique(frame["n_labels"])
    ax.set_xticks(counts, _tick_labels(ax, counts))
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
    return lines


def _tick_labels(ax: Any, counts: np.ndarray) -> list[str]:
    """Name the counts, from the largest down, but not where a name would touch the one before."""
    inches = ax.bbox.width / ax.figure.dpi
    letter = 0.09 * np.ptp(np.log10(ax.get_xlim())) / inches  # in decades; a letter is about 0.09 inches wide
    labels, end = [], np.inf
    for count in counts[::-1]:
        label = f"{count:,}"
        half = letter * (len(label) + 1) / 2
        touches = np.log10(count) + half > end
        labels.append("" if touches else label)
        end = end if touches else np.log10(count) - half
    return labels[::-1]


def _draw_line(ax: Any, name: Any, rows: pd.DataFrame, colour: str, marker: str) -> Any:
    scores = rows.groupby("n_labels")["score"].agg(["mean", "sem"])
    counts, means = scores.index.to_numpy(), scores["mean"].to_numpy()
    (line,) = ax.plot(counts, means, color=colour, marker=marker, markersize=5, linewidth=1.5, label=str(name))
    ax.errorbar(counts, means, scores["sem"], fmt="none", ecolor=colour, elinewidth=1, capsize=2.5)
    return line


class LookAlikesDisplay:
    """Images beside those that lie nearest in an embedding: similarity search, as in figure 6 of [1]_.

    Parameters
    ----------
    images : array of shape (n, height, width) or (n, bands, height, width)
        All images, 8-bit or flux.
    queries : array of shape (n_queries,)
        Rows of the images to find look-alikes of.
    neighbors : array of shape (n_queries, n_neighbors)
        Rows of their look-alikes, nearest first.
    similarities : array of shape (n_queries, n_neighbors)
        Cosine of the angle between the embeddings of a query and of its look-alike, from -1 to 1.

    Attributes
    ----------
    axes_ : array of matplotlib Axes, of shape (n_queries, 1 + n_neighbors)
        The grid: queries at the left.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    sklearn.neighbors.NearestNeighbors : Does the search.

    References
    ----------
    .. [1] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning".

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skastro.plotting import LookAlikesDisplay
    >>> digits = load_digits()
    >>> embedding = PCA(16).fit_transform(digits.data)
    >>> display = LookAlikesDisplay.from_embedding(digits.images, embedding, queries=[0, 1], n_neighbors=3)
    >>> digits.target[display.neighbors]
    array([[0, 0, 0],
           [1, 1, 1]])
    """

    def __init__(self, images: Any, queries: Any, neighbors: Any, similarities: Any) -> None:
        self.images = images
        self.queries = queries
        self.neighbors = neighbors
        self.similarities = similarities

    @classmethod
    def from_embedding(
        cls,
        images: Any,
        embedding: Any,
        queries: Any,
        *,
        n_neighbors: int = 5,
        bands: Sequence[int] | None = None,
        figure: Any = None,
    ) -> Self:
        """Find the look-alikes of some images and draw them.

        Parameters
        ----------
        images : array of shape (n, height, width) or (n, bands, height, width)
            All images, 8-bit or flux.
        embedding : array of shape (n, d)
            What an embedder's `transform` gave for them. Cosines are taken about its mean, which all images share.
        queries : int or array-like of int
            Rows of the images to find look-alikes of.
        n_neighbors : int, default=5
            How many look-alikes of each; the image itself is not one.
        bands : sequence of one or three int, default=None
            The bands to show: one in grey, or three as red, green and blue. ``None`` shows one or three bands
            as they come, and the mean of any other number of bands.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; ``None`` makes a new figure.

        Returns
        -------
        LookAlikesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If images and embedding differ in length, if the images are no such arrays, if a query is no row
            of theirs, or if there are not as many neighbours.
        """
        queries = np.atleast_1d(queries)
        _check_look_alikes(np.shape(images), np.shape(embedding), queries, n_neighbors)
        embedding = np.asarray(embedding) - np.mean(embedding, axis=0)
        search = NearestNeighbors(n_neighbors=n_neighbors + 1, metric="cosine").fit(embedding)
        distances, found = search.kneighbors(embedding[queries])
        # Identical images may come before the query itself, or push it out of the list.
        others = np.argsort(found == queries[:, np.newaxis], axis=1, kind="stable")[:, :n_neighbors]
        neighbors = np.take_along_axis(found, others, axis=1)
        similarities = 1 - np.take_along_axis(distances, others, axis=1)
        return cls(images, queries, neighbors, similarities).plot(bands=bands, figure=figure)

    def plot(self, *, bands: Sequence[int] | None = None, figure: Any = None) -> Self:
        """Draw one row per query: the query in a frame, then its look-alikes, nearest first.

        8-bit images are shown as they are; each of the others is stretched by an arcsinh, between its own
        percentiles 1 and 99.8.

        Parameters
        ----------
        bands : sequence of one or three int, default=None
            The bands to show: one in grey, or three as red, green and blue. ``None`` shows one or three bands
            as they come, and the mean of any other number of bands.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; ``None`` makes a new figure.

        Returns
        -------
        LookAlikesDisplay
            The display itself.
        """
        n_rows, n_neighbors = np.shape(self.neighbors)
        if figure is None:
            size = (1.25 * (n_neighbors + 1), 1.45 * n_rows)
            figure = _pyplot().figure(figsize=size, layout="constrained")
        self.figure_ = figure
        self.axes_ = figure.subplots(n_rows, n_neighbors + 1, squeeze=False)
        for axes, query, neighbors, similarities in zip(
            self.axes_, self.queries, self.neighbors, self.similarities, strict=True
        ):
            _draw_image(axes[0], self.images[query], bands, f"image {query}")
            axes[0].spines[:].set(visible=True, color=_COLOURS[1], linewidth=2)
            for ax, neighbor, similarity in zip(axes[1:], neighbors, similarities, strict=True):
                _draw_image(ax, self.images[neighbor], bands, f"cos {similarity:.3f}")
        return self


def _check_look_alikes(
    images: tuple[int, ...], embedding: tuple[int, ...], queries: np.ndarray, n_neighbors: int
) -> None:
    if len(images) not in (3, 4):
        raise ValueError(f"images must be (n, height, width) or (n, bands, height, width); their shape is {images}.")
    if len(images) == 4 and images[-1] <= 4 < images[1]:
        raise ValueError(f"images of shape {images} look channels-last: give np.moveaxis(images, -1, 1).")
    if embedding[:1] != images[:1]:
        raise ValueError(f"There are {images[0]} images, but the shape of embedding is {embedding}.")
    if queries.dtype.kind not in "iu" or queries.min() < 0 or queries.max() >= images[0]:
        raise ValueError(f"queries must be rows of the images, from 0 to {images[0] - 1}; got {queries}.")
    if not 1 <= n_neighbors < images[0]:
        raise ValueError(
            f"n_neighbors must be from 1 to {images[0] - 1}, the number of other images; got {n_neighbors}."
        )


def _draw_image(ax: Any, image: np.ndarray, bands: Sequence[int] | None, title: str) -> None:
    picture = _picture(np.asarray(image), bands)
    ax.imshow(picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1)
    ax.set_title(title, fontsize="small", pad=3)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _picture(image: np.ndarray, bands: Sequence[int] | None) -> np.ndarray:
    """One image as matplotlib draws it: (height, width) or (height, width, 3), 8-bit or from 0 to 1."""
    image = image.reshape(-1, *image.shape[-2:])
    if bands is not None:
        image = image[list(bands)]
    if len(image) not in (1, 3):
        image = image.mean(axis=0, keepdims=True).astype(image.dtype)
    if image.dtype != np.uint8:
        image = _stretch(image.astype(float))
    return image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)


def _stretch(image: np.ndarray, softening: float = 0.1) -> np.ndarray:
    """Map to 0 … 1 by the arcsinh of the mean of the bands, which keeps the colours (Lupton et al. 2004)."""
    low, high = np.nanpercentile(image, (1, 99.8))
    light = np.clip(np.nan_to_num(image - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    mean = np.maximum(light.mean(axis=0), np.finfo(np.float32).tiny)
    gain = np.arcsinh(mean / softening) / np.arcsinh(1 / softening) / mean
    return np.clip(light * gain, 0, 1)


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
        An object with :math:`|\Delta z|` above it is an outlier.

    Attributes
    ----------
    axes_ : array of matplotlib Axes, of shape (2,)
        The panels of redshifts and of residuals.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    skastro.metrics.photoz_table : The numbers, by redshift.

    References
    ----------
    .. [1] Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", section 3.3.

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
            How many objects to show as points, at most; ``None`` shows all.
        threshold : float, default=0.05
            An object with a residual above it, of either sign, is an outlier.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; ``None`` makes a new figure.

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
        """Predict and draw.

        Parameters
        ----------
        estimator : estimator
            A fitted regressor, or a pipeline with one at its end.
        X : array-like of shape (n, ...)
            What it predicts redshifts from.
        z_true : array-like of shape (n,)
            Spectroscopic redshifts.
        sample : int or None, default=50_000
            How many objects to show as points, at most; ``None`` shows all.
        threshold : float, default=0.05
            An object with a residual above it, of either sign, is an outlier.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; ``None`` makes a new figure.

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
        """Draw the objects, coloured by their density, and the median and the central 68 % of their residuals.

        The numbers, the median and the band are those of all objects, also of those that are not shown. The median
        is taken in up to 25 cells of redshift, equal in width, where there are 20 objects or more. Residuals far
        beyond the threshold and the band lie outside of the lower panel.

        Parameters
        ----------
        sample : int or None, default=50_000
            How many objects to show as points, at most; ``None`` shows all.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; ``None`` makes a new figure.

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
        residuals = delta_z(self.z_true, self.z_pred)
        z_true, z_pred = np.asarray(self.z_true, dtype=float), np.asarray(self.z_pred, dtype=float)
        if figure is None:
            figure = _pyplot().figure(figsize=(4.5, 6), layout="constrained")
        self.figure_ = figure
        self.axes_ = figure.subplots(2, sharex=True, height_ratios=(3, 1.2))
        density = _density(z_true, z_pred)
        shown = np.random.default_rng(0).permutation(len(z_true))[:sample]
        for ax, values in zip(self.axes_, (z_pred, residuals), strict=True):
            _draw_points(ax, z_true[shown], values[shown], density[shown])
        self._draw_one_to_one(self.axes_[0], z_true, z_pred)
        self._draw_trend(self.axes_[1], z_true, residuals)
        figure.align_ylabels(self.axes_)
        return self

    def _draw_one_to_one(self, ax: Any, z_true: np.ndarray, z_pred: np.ndarray) -> None:
        limits = [z_true.min(), z_true.max()]
        ax.plot(limits, limits, color="black", linewidth=1)
        outliers = photoz_outliers(z_true, z_pred, self.threshold)
        scores = (
            f"⟨Δz⟩ = {photoz_bias(z_true, z_pred):.4f}\n"
            f"$σ_{{MAD}}$ = {sigma_mad(z_true, z_pred):.4f}\n"
            f"η = {100 * outliers:.2f} %"
        )
        ax.text(0.04, 0.97, scores.replace("-", "−"), transform=ax.transAxes, va="top", linespacing=1.4)
        ax.set_ylabel("Photometric redshift")

    def _draw_trend(self, ax: Any, z_true: np.ndarray, residuals: np.ndarray) -> None:
        centres, low, median, high = _trend(z_true, residuals)
        ax.fill_between(centres, low, high, color="black", alpha=0.25, linewidth=0)
        ax.plot(centres, median, color="black", linewidth=1.5)
        for level in (-self.threshold, self.threshold):
            ax.axhline(level, color="black", linewidth=0.8, linestyle="--")
        limit = max(2.5 * self.threshold, 1.2 * np.abs([low, high]).max(initial=0))
        ax.set(ylim=(-limit, limit), xlabel="Spectroscopic redshift", ylabel="Δz")


def _draw_points(ax: Any, x: np.ndarray, y: np.ndarray, density: np.ndarray) -> None:
    order = np.argsort(density)  # the densest come last, on top
    size = np.clip(3000 / len(x), 3, 15)
    style = {"norm": "log", "cmap": "viridis", "linewidths": 0, "rasterized": True}
    ax.scatter(x[order], y[order], s=size, c=density[order], **style)
    ax.spines[["top", "right"]].set_visible(False)


def _trend(z: np.ndarray, residuals: np.ndarray, enough: int = 20) -> np.ndarray:
    """Median redshift and percentiles 16, 50 and 84 of the residuals in each cell with enough objects: (4, n)."""
    n_cells = int(np.clip(len(z) / (2 * enough), 1, 25))
    cell = np.digitize(z, np.linspace(z.min(), z.max(), n_cells + 1)[1:-1])
    groups = [cell == i for i in np.flatnonzero(np.bincount(cell) >= enough)]
    rows = [(np.median(z[group]), *np.percentile(residuals[group], (16, 50, 84))) for group in groups]
    return np.reshape(rows, (-1, 4)).T


def _density(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How many points lie around each, on a smoothed grid."""
    n_cells = int(np.clip(np.sqrt(len(x)), 5, 80))
    counts, *edges = np.histogram2d(x, y, bins=n_cells)
    places = [n_cells * (v - e[0]) / (e[-1] - e[0]) - 0.5 for v, e in zip((x, y), edges, strict=True)]
    return map_coordinates(gaussian_filter(counts, 1), places, order=1, mode="nearest")


class VoteScatterDisplay:
    """Predicted against volunteers' fraction of votes for one answer: figure 3 of [1]_.

    Parameters
    ----------
    fractions : array of shape (n,)
        Fraction of the volunteers who gave the answer; NaN where none was asked.
    predicted : array of shape (n,)
        The fraction predicted.
    votes : array of shape (n,), default=None
        How many volunteers were asked; ``None`` treats all objects alike.
    high_quality : tuple of two float, default=(0.2, 0.8)
        Objects with a fraction below the first or above the second are of high quality; the scores are theirs.
    answer : str, default=None
        What the answer is called on the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the points are.
    figure_ : matplotlib Figure
        The figure of `ax_`.

    See Also
    --------
    skastro.metrics.morphology_scores : The numbers, for high-quality objects.

    References
    ----------
    .. [1] Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", section 3.2.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from skastro.plotting import VoteScatterDisplay
    >>> fractions, predicted, votes = [0.9, 1.0, 0.1, 0.0, 0.6], [0.8, 0.7, 0.2, 0.9, 0.6], [40, 38, 12, 35, 20]
    >>> display = VoteScatterDisplay.from_predictions(fractions, predicted, votes, answer="smooth")
    >>> print(display.ax_.texts[0].get_text())
    accuracy 0.75
    precision 0.67
    recall 1.00
    AUC 0.50
    η 25.00 %
    """

    def __init__(
        self,
        fractions: Any,
        predicted: Any,
        votes: Any = None,
        *,
        high_quality: tuple[float, float] = (0.2, 0.8),
        answer: str | None = None,
    ) -> None:
        self.fractions = fractions
        self.predicted = predicted
        self.votes = votes
        self.high_quality = high_quality
        self.answer = answer

    @classmethod
    def from_predictions(
        cls,
        fractions: Any,
        predicted: Any,
        votes: Any = None,
        *,
        high_quality: tuple[float, float] = (0.2, 0.8),
        answer: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw predictions.

        Parameters
        ----------
        fractions : array-like of shape (n,)
            Fraction of the volunteers who gave the answer; NaN where none was asked.
        predicted : array-like of shape (n,)
            The fraction predicted.
        votes : array-like of shape (n,), default=None
            How many volunteers were asked; ``None`` treats all objects alike.
        high_quality : tuple of two float, default=(0.2, 0.8)
            Objects with a fraction below the first or above the second are of high quality; the scores are theirs.
        answer : str, default=None
            What the answer is called on the axes.
        ax : matplotlib Axes, default=None
            Where to draw; ``None`` makes a new figure.

        Returns
        -------
        VoteScatterDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If lengths differ, if there is more than one answer, if a fraction is not between 0 and 1, or if a
            number of votes is negative.
        """
        return cls(fractions, predicted, votes, high_quality=high_quality, answer=answer).plot(ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw each object, larger and less transparent the more votes it has, over the bands of high quality.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; ``None`` makes a new figure.

        Returns
        -------
        VoteScatterDisplay
            The display itself.

        Raises
        ------
        ValueError
            If lengths differ, if there is more than one answer, if a fraction is not between 0 and 1, or if a
            number of votes is negative.
        """
        scores = morphology_scores(self.fractions, self.predicted, self.high_quality)
        weights = _vote_weights(self.votes, len(self.fractions))
        if ax is None:
            _, ax = _pyplot().subplots(figsize=(4.75, 4.75), layout="constrained")
        low, high = self.high_quality
        for band in ((-0.02, low), (high, 1.02)):
            ax.axvspan(*band, color="0.93", linewidth=0, zorder=0)
        ax.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
        # The more points, the fainter each, so that a crowd shows as a shade.
        opacity = weights * np.clip(30 / np.sqrt(len(weights)), 0.15, 0.8)
        style = {"color": _COLOURS[0], "linewidths": 0, "rasterized": True}
        ax.scatter(self.fractions, self.predicted, s=30 * weights, alpha=opacity, **style)
        box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2}
        ax.text(low + 0.02, 0.99, _score_text(scores), va="top", linespacing=1.4, bbox=box)
        suffix = f", {self.answer}" if self.answer else ""
        ax.set(xlabel=f"Fraction of votes{suffix}", ylabel=f"Predicted fraction{suffix}")
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _vote_weights(votes: Any, n: int) -> np.ndarray:
    """Votes relative to the most of all; equal weights without votes."""
    votes = np.ones(n) if votes is None else np.asarray(votes, dtype=float)
    if votes.shape != (n,) or not (votes >= 0).all() or not np.isfinite(votes).all():
        raise ValueError(f"votes must be a number, at least 0, for each of the {n} fractions.")
    return votes / max(votes.max(initial=0), 1)


def _score_text(scores: Mapping[str, float]) -> str:
    """The scores that are defined, one to a line."""
    names = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "auc": "AUC"}
    lines = [f"{name} {scores[key]:.2f}" for key, name in names.items() if np.isfinite(scores[key])]
    if np.isfinite(scores["outliers"]):
        lines.append(f"η {100 * scores['outliers']:.2f} %")
    return "\n".join(lines)


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("Drawing needs matplotlib: pip install skastro[plot]") from error
    return plt
