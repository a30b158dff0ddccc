"""Display of images in the order of a score."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from skastro.inputs import as_array, as_target
from skastro.plotting.pictures import check_images, draw_image
from skastro.plotting.style import new_figure

__all__ = ["RankingDisplay"]

COLUMNS = 8


class RankingDisplay:
    """Images in the order of a score: the strangest, the likest, the next to look at.

    Parameters
    ----------
    images : array of shape (n, height, width) or (n, bands, height, width)
        All images, 8-bit or flux.
    rows : array of shape (m,)
        Rows of those to draw, the first first.
    scores : array of shape (m,)
        Their scores.

    Attributes
    ----------
    axes_ : array of matplotlib Axes, of shape (lines, columns)
        The grid, read line by line.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    LookAlikesDisplay : Draw images beside their nearest neighbors.
    skastro.search.ActiveRanking : Rank what is worth a look.
    sklearn.ensemble.IsolationForest : Score outliers; in its ``score_samples`` the lowest are the strangest.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import IsolationForest
    >>> from skastro.plotting import RankingDisplay
    >>> digits = load_digits()
    >>> scores = IsolationForest(random_state=0).fit(digits.data).score_samples(digits.data)
    >>> display = RankingDisplay.from_scores(digits.images, scores, largest=False, n_images=16)
    >>> display.axes_.shape
    (2, 8)
    """

    def __init__(self, images: Any, rows: Any, scores: Any) -> None:
        self.images = images
        self.rows = rows
        self.scores = scores

    @classmethod
    def from_scores(
        cls,
        images: Any,
        scores: Any,
        *,
        n_images: int = 24,
        largest: bool = True,
        bands: Sequence[int] | None = None,
        figure: Any = None,
    ) -> Self:
        """Rank images by a score and draw the first.

        Parameters
        ----------
        images : array of shape (n, height, width) or (n, bands, height, width)
            All images, 8-bit or flux.
        scores : array-like of shape (n,)
            Scores.
        n_images : int, default=24
            Number of images to draw.
        largest : bool, default=True
            Whether the highest score comes first, or the lowest.
        bands : sequence of one or three int, default=None
            Bands to show: one in gray, or three as red, green and blue. ``None`` shows one or three bands as they are,
            and the mean of any other number of bands.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        RankingDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If images and scores differ in length, a score is missing, the images have another shape, or there are not
            as many.
        """
        images, scores = as_array(images, "images", cure="cut them to one size"), as_target(scores, "scores")
        check_images(images.shape)
        if scores.shape != images.shape[:1]:
            raise ValueError(f"There are {len(images)} images, but the shape of scores is {scores.shape}.")
        if not 1 <= n_images <= len(images):
            raise ValueError(f"n_images must be from 1 to {len(images)}, the number of images; got {n_images}.")
        order = np.asarray(scores, dtype=np.float64)  # unsigned numbers have no opposite
        rows = np.argsort(-order if largest else order, kind="stable")[:n_images]
        return cls(images, rows, scores[rows]).plot(bands=bands, figure=figure)

    def plot(self, *, bands: Sequence[int] | None = None, figure: Any = None) -> Self:
        """Draw the images line by line, each with its row and score.

        8-bit images are shown as they are. Each of the others is stretched by an arcsinh, between its own percentiles 1
        and 99.8.

        Parameters
        ----------
        bands : sequence of one or three int, default=None
            Bands to show: one in gray, or three as red, green and blue. ``None`` shows one or three bands as they are,
            and the mean of any other number of bands.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        RankingDisplay
            The display itself.
        """
        columns = min(COLUMNS, len(self.rows))
        lines = -(-len(self.rows) // columns)
        self.figure_ = figure = figure or new_figure(1.25 * columns, 1.45 * lines)
        self.axes_ = figure.subplots(lines, columns, squeeze=False)
        for ax in self.axes_.flat[len(self.rows) :]:
            ax.set_axis_off()
        for ax, row, score in zip(self.axes_.flat, self.rows, self.scores, strict=False):
            draw_image(ax, self.images[row], bands, f"{row}: {score:.3g}")
        return self
