"""Display of a map of embeddings: points in color, and thumbnails where they fall."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from skastro.inputs import as_array
from skastro.maps import EmbeddingMap
from skastro.plotting.density import density
from skastro.plotting.pictures import check_images, picture, small_line
from skastro.plotting.style import COLORS, MARKERS, are_classes, new_figure, pyplot

__all__ = ["EmbeddingMapDisplay"]

GRAY = "0.75"  # of points whose class or value is missing
PAPER = "0.95"  # that lines are drawn on


class EmbeddingMapDisplay:
    """A map of embeddings: points colored by class, value or density, and a grid of thumbnails where they fall.

    As figures 2 and 8 of [1]_ and figure 1 of [2]_. What a map is not: see :class:`~skastro.maps.EmbeddingMap`.

    Parameters
    ----------
    positions : array of shape (n, 2)
        Places in the map.
    color : array of shape (n,), default=None
        Classes (strings, booleans, or up to 12 distinct integers), or values (other numbers); ``None`` shows the
        density of points.
    thumbnails : array, default=None
        Images of shape (n, height, width) or (n, bands, height, width), 8-bit or flux; or spectra or light curves of
        shape (n, n_points), drawn as small lines, NaN where missing.
    times : array of shape (n_points,) or (n, n_points), default=None
        Where the points of a line are, such as the times of light curves; ``None`` puts them at equal distances.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The points, and the thumbnails if there are any.
    figure_ : matplotlib Figure
        The figure.
    shown_ : ndarray of int
        Rows whose thumbnails are shown.

    See Also
    --------
    skastro.explorer.explore : Make a page to look around in a map.

    References
    ----------
    .. [1] Hayat et al. (2021), "Self-supervised representation learning for astronomical images",
       `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_.
    .. [2] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning", `arXiv:2305.16127
       <https://arxiv.org/abs/2305.16127>`_.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from skastro.plotting import EmbeddingMapDisplay
    >>> digits = load_digits()
    >>> display = EmbeddingMapDisplay.from_embedding(
    ...     digits.data, color=digits.target, thumbnails=digits.images, method="pca"
    ... )
    >>> len(display.axes_), len(display.shown_) > 50
    (2, True)
    """

    def __init__(self, positions: Any, *, color: Any = None, thumbnails: Any = None, times: Any = None) -> None:
        self.positions = positions
        self.color = color
        self.thumbnails = thumbnails
        self.times = times

    @classmethod
    def from_embedding(
        cls,
        embedding: Any,
        *,
        color: Any = None,
        thumbnails: Any = None,
        times: Any = None,
        method: str = "auto",
        random_state: int | np.random.RandomState | None = 0,
        n_cells: int = 14,
        bands: Sequence[int] | None = None,
        color_name: str | None = None,
        figure: Any = None,
    ) -> Self:
        """Make the map of embeddings and draw it.

        Parameters
        ----------
        embedding : array of shape (n, d)
            Output of an embedder's `transform`.
        color, thumbnails, times : array, default=None
            As in the class.
        method : {"auto", "umap", "tsne", "pca"}, default="auto"
            Of :class:`~skastro.maps.EmbeddingMap`.
        random_state : int, RandomState instance or None, default=0
            Of :class:`~skastro.maps.EmbeddingMap`.
        n_cells : int, default=14
            Thumbnails along each side of the map, at most.
        bands : sequence of one or three int, default=None
            Bands to show of images, as in `plot`.
        color_name : str, default=None
            Name of the classes or values.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        EmbeddingMapDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the arrays differ in length or have other shapes.
        """
        positions = EmbeddingMap(method, random_state=random_state).fit_transform(embedding)
        display = cls(positions, color=color, thumbnails=thumbnails, times=times)
        return display.plot(n_cells=n_cells, bands=bands, color_name=color_name, figure=figure)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        color: Any = None,
        thumbnails: Any = None,
        times: Any = None,
        n_cells: int = 14,
        bands: Sequence[int] | None = None,
        color_name: str | None = None,
        figure: Any = None,
    ) -> Self:
        """Place rows in a fitted map and draw them.

        Parameters
        ----------
        estimator : estimator
            A fitted :class:`~skastro.maps.EmbeddingMap`, a pipeline with one at its end, or any transformer to two
            columns.
        X : array-like of shape (n, ...)
            Input of the estimator.
        color, thumbnails, times : array, default=None
            As in the class.
        n_cells : int, default=14
            Thumbnails along each side of the map, at most.
        bands : sequence of one or three int, default=None
            Bands to show of images, as in `plot`.
        color_name : str, default=None
            Name of the classes or values.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        EmbeddingMapDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the arrays differ in length or have other shapes.
        """
        display = cls(estimator.transform(X), color=color, thumbnails=thumbnails, times=times)
        return display.plot(n_cells=n_cells, bands=bands, color_name=color_name, figure=figure)

    def plot(
        self,
        *,
        n_cells: int = 14,
        bands: Sequence[int] | None = None,
        color_name: str | None = None,
        figure: Any = None,
    ) -> Self:
        """Draw the points, and beside them the thumbnails of those nearest to the middle of each cell of a grid.

        Parameters
        ----------
        n_cells : int, default=14
            Thumbnails along each side of the map, at most.
        bands : sequence of one or three int, default=None
            Bands to show of images: one in gray, or three as red, green and blue. ``None`` shows one or three bands as
            they are, and the mean of any other number of bands.
        color_name : str, default=None
            Name of the classes or values.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        EmbeddingMapDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the arrays differ in length or have other shapes.
        """
        positions, color, thumbnails, times = self._checked(n_cells)
        n_panels = 1 if thumbnails is None else 2
        self.figure_ = figure = figure or new_figure(5.5 * n_panels, 5)
        self.axes_ = figure.subplots(1, n_panels, squeeze=False)[0]
        low, high = positions.min(axis=0), positions.max(axis=0)
        side = 1.04 * max((high - low).max(), np.finfo(np.float32).tiny)
        corner = (low + high - side) / 2
        for ax in self.axes_:
            ax.set(xlim=(corner[0], corner[0] + side), ylim=(corner[1], corner[1] + side), xticks=[], yticks=[])
            ax.set_aspect("equal")
        _draw_points(self.axes_[0], positions, color, color_name)
        self.shown_ = np.array([], dtype=int)
        if thumbnails is not None:
            self.shown_, cells = _one_per_cell((positions - corner) / side, n_cells)
            for row, cell in zip(self.shown_, cells, strict=True):
                box = corner[:, np.newaxis] + side * (cell[:, np.newaxis] + [0.04, 0.96]) / n_cells
                if thumbnails.ndim == 2:
                    _draw_line(self.axes_[1], thumbnails[row], None if times is None else times[row], box)
                else:
                    _draw_picture(self.axes_[1], picture(thumbnails[row], bands), box)
        return self

    def _checked(self, n_cells: int) -> tuple[np.ndarray, Any, Any, Any]:
        positions = np.asarray(as_array(self.positions, "positions"), dtype=float)
        if positions.ndim != 2 or positions.shape[1] != 2 or not np.isfinite(positions).all():
            raise ValueError(f"positions must be finite and of shape (n, 2); their shape is {positions.shape}.")
        if n_cells < 1:
            raise ValueError(f"n_cells must be at least 1; got {n_cells}.")
        n = len(positions)
        color = None if self.color is None else as_array(self.color, "color")
        if color is not None and color.shape != (n,):
            raise ValueError(f"color must have one value for each of the {n} positions; its shape is {color.shape}.")
        if self.thumbnails is None:
            return positions, color, None, None
        thumbnails = as_array(self.thumbnails, "thumbnails", cure="cut them to one size")
        if len(thumbnails) != n:
            raise ValueError(f"There are {n} positions, but the shape of thumbnails is {thumbnails.shape}.")
        if thumbnails.ndim != 2:
            check_images(thumbnails.shape)
            return positions, color, thumbnails, None
        times = None if self.times is None else as_array(self.times, "times")
        if times is not None and times.shape not in (thumbnails.shape, thumbnails.shape[1:]):
            raise ValueError(f"times of shape {times.shape} do not go with thumbnails of shape {thumbnails.shape}.")
        return positions, color, thumbnails, None if times is None else np.broadcast_to(times, thumbnails.shape)


def _draw_points(ax: Any, positions: np.ndarray, color: np.ndarray | None, name: str | None) -> None:
    style = {"s": float(np.clip(6000 / len(positions), 2, 15)), "linewidths": 0, "rasterized": True}
    if color is None:
        crowding = density(*positions.T)
        order = np.argsort(crowding)  # draw the densest points last, on top
        ax.scatter(*positions[order].T, c=crowding[order], cmap="viridis", **style)
    elif are_classes(color):
        _draw_classes(ax, positions, color, name, style)
    else:
        missing = ~np.isfinite(color.astype(float))
        ax.scatter(*positions[missing].T, c=GRAY, **style)
        limits = np.percentile(color[~missing], (1, 99)) if (~missing).any() else (0, 1)
        points = ax.scatter(
            *positions[~missing].T, c=color[~missing], cmap="viridis", vmin=limits[0], vmax=limits[1], **style
        )
        ax.figure.colorbar(points, ax=ax, label=name or "", shrink=0.8)


def _draw_classes(ax: Any, positions: np.ndarray, color: np.ndarray, name: str | None, style: dict[str, Any]) -> None:
    codes, classes = pd.factorize(color, sort=True)
    ax.scatter(*positions[codes < 0].T, c=GRAY, **style)
    for code, label in enumerate(classes):
        turn, hue = divmod(code, len(COLORS))
        marker = MARKERS[turn % len(MARKERS)]
        ax.scatter(*positions[codes == code].T, color=COLORS[hue], marker=marker, label=str(label), **style)
    if len(classes):
        ax.legend(title=name, fontsize="small", markerscale=(40 / style["s"]) ** 0.5, framealpha=0.8)


def _one_per_cell(places: np.ndarray, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose of each cell of the unit square the point nearest to its middle: rows (k,) and cells (k, 2)."""
    cells = np.clip((places * n_cells).astype(int), 0, n_cells - 1)
    order = np.argsort(np.linalg.norm(places * n_cells - cells - 0.5, axis=1), kind="stable")
    cells, first = np.unique(cells[order], axis=0, return_index=True)
    return order[first], cells


def _draw_picture(ax: Any, shown: np.ndarray, box: np.ndarray) -> None:
    limits = {"vmin": 0, "vmax": 255 if shown.dtype == np.uint8 else 1}
    view = ax.axis()
    ax.imshow(shown, cmap="gray", extent=box.ravel(), **limits)
    ax.axis(view)


def _draw_line(ax: Any, values: np.ndarray, times: np.ndarray | None, box: np.ndarray) -> None:
    y = small_line(values, times)
    (left, right), (bottom, top) = box
    ax.add_patch(pyplot().Rectangle((left, bottom), right - left, top - bottom, facecolor=PAPER, zorder=0))
    x, y = left + (right - left) * np.linspace(0.05, 0.95, len(y)), bottom + (top - bottom) * (0.08 + 0.84 * y)
    alone = np.flatnonzero(~np.isnan(y) & np.isnan(np.append(y[1:], np.nan)) & np.isnan(np.append(np.nan, y[:-1])))
    ax.plot(x, y, color=COLORS[0], linewidth=0.8, marker=".", markersize=1.5, markevery=alone.tolist())
