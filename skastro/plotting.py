"""Pictures of results, in the manner of scikit-learn: `from_…` makes a display, `plot` draws it again."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from skastro.model_selection import label_sweep

__all__ = ["LabelSweepDisplay", "LookAlikesDisplay"]

# Okabe and Ito's colours, which colour-blind readers tell apart; the markers serve black-and-white prints.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class LabelSweepDisplay:
    """Score against number of labels, one line per method.

    The figure of a label sweep: figure 1 of [1]_, and with ``error=True`` figure 4 of [2]_.

    Parameters
    ----------
    frame : DataFrame
        What :func:`~skastro.model_selection.label_sweep` returns; the columns ``method``, ``n_labels`` and
        ``score`` are read.
    metric_name : str, default=None
        What the score is called on the axis; ``None`` is "score".

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the lines are.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    lines_ : list of matplotlib Line2D
        One line per method, in the order of `frame`.

    See Also
    --------
    skastro.model_selection.label_sweep : Makes the table.

    References
    ----------
    .. [1] Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning".
    .. [2] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning".

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

    def __init__(self, frame: pd.DataFrame, *, metric_name: str | None = None) -> None:
        self.frame = frame
        self.metric_name = metric_name

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, *, ax: Any = None, metric_name: str | None = None, error: bool = False
    ) -> Self:
        """Draw the table of a label sweep.

        Parameters
        ----------
        frame : DataFrame
            What :func:`~skastro.model_selection.label_sweep` returns.
        ax : matplotlib Axes, default=None
            Where to draw; ``None`` makes a new figure.
        metric_name : str, default=None
            What the score is called on the axis; ``None`` is "score".
        error : bool, default=False
            Draw 100 (1 - score), in percent, instead of the score.

        Returns
        -------
        LabelSweepDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a column is missing.
        """
        return cls(frame, metric_name=metric_name).plot(ax=ax, error=error)

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
        scoring : str, callable or None, default=None
            One metric, as in :func:`~sklearn.model_selection.cross_val_score`.
        ax : matplotlib Axes, default=None
            Where to draw; ``None`` makes a new figure.
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
        return cls.from_frame(frame, ax=ax, metric_name=metric_name, error=error)

    def plot(self, ax: Any = None, *, metric_name: str | None = None, error: bool = False) -> Self:
        """Draw the mean over folds and repeats, with its standard error as bars.

        Folds share training rows, so the bars are a guide and not an interval of confidence.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; ``None`` makes a new figure.
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
            If a column is missing.
        """
        missing = {"method", "n_labels", "score"} - set(self.frame.columns)
        if missing:
            raise ValueError(f"frame lacks {', '.join(sorted(missing))}: give the table that label_sweep returns.")
        if ax is None:
            _, ax = _pyplot().subplots(figsize=(5, 3.75), layout="constrained")
        frame = self.frame.assign(score=100 * (1 - self.frame["score"])) if error else self.frame
        styles = zip(cycle(_COLOURS), cycle(_MARKERS), strict=False)
        self.lines_ = [
            _draw_line(ax, name, rows, colour, marker)
            for (name, rows), (colour, marker) in zip(frame.groupby("method", sort=False), styles, strict=False)
        ]
        name = metric_name or self.metric_name or "score"
        label = f"1 − {name} (%)" if error else name[0].upper() + name[1:]
        ax.set(xscale="log", xlabel="Number of labels", ylabel=label)
        counts = np.unique(frame["n_labels"])
        crowded = np.append(counts[1:] < 1.2 * counts[:-1], False)  # its label would touch the next
        ax.set_xticks(counts, ["" if hide else f"{count:,}" for count, hide in zip(counts, crowded, strict=True)])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


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


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("Drawing needs matplotlib: pip install skastro[plot]") from error
    return plt
