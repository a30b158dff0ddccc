"""Display of images beside their nearest neighbors."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.neighbors import NearestNeighbors

from skastro.inputs import as_array
from skastro.plotting.pictures import check_images, draw_image
from skastro.plotting.style import COLORS, new_figure

__all__ = ["LookAlikesDisplay"]


class LookAlikesDisplay:
    """Images beside their nearest neighbors in an embedding: similarity search, as in figure 6 of [1]_.

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
    sklearn.neighbors.NearestNeighbors : Search for nearest neighbors.

    References
    ----------
    .. [1] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning", `arXiv:2305.16127
       <https://arxiv.org/abs/2305.16127>`_.

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
            Output of an embedder's `transform` for them. Cosines are taken about its mean, which all images share.
        queries : int or array-like of int
            Rows of the images to find look-alikes of.
        n_neighbors : int, default=5
            Number of look-alikes of each query, without the query itself.
        bands : sequence of one or three int, default=None
            Bands to show: one in gray, or three as red, green and blue. ``None`` shows one or three bands as they are,
            and the mean of any other number of bands.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        LookAlikesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If images and embedding differ in length, if the images have another shape, if a query is not one of their
            rows, or if there are not as many neighbors.
        """
        images, embedding = as_array(images, "images", cure="cut them to one size"), as_array(embedding, "embedding")
        queries = np.atleast_1d(as_array(queries, "queries"))
        _check_look_alikes(images.shape, embedding.shape, queries, n_neighbors)
        embedding = embedding - embedding.mean(axis=0)
        search = NearestNeighbors(n_neighbors=n_neighbors + 1, metric="cosine").fit(embedding)
        distances, found = search.kneighbors(embedding[queries])
        # Identical images may come before the query itself, or displace it from the list.
        others = np.argsort(found == queries[:, np.newaxis], axis=1, kind="stable")[:, :n_neighbors]
        neighbors = np.take_along_axis(found, others, axis=1)
        similarities = 1 - np.take_along_axis(distances, others, axis=1)
        return cls(images, queries, neighbors, similarities).plot(bands=bands, figure=figure)

    def plot(self, *, bands: Sequence[int] | None = None, figure: Any = None) -> Self:
        """Draw one row per query: the query in a frame, then its look-alikes, nearest first.

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
        LookAlikesDisplay
            The display itself.
        """
        n_rows, n_neighbors = np.shape(self.neighbors)
        self.figure_ = figure = figure or new_figure(1.25 * (n_neighbors + 1), 1.45 * n_rows)
        self.axes_ = figure.subplots(n_rows, n_neighbors + 1, squeeze=False)
        for axes, query, neighbors, similarities in zip(
            self.axes_, self.queries, self.neighbors, self.similarities, strict=True
        ):
            draw_image(axes[0], self.images[query], bands, f"image {query}")
            axes[0].spines[:].set(visible=True, color=COLORS[1], linewidth=2)
            for ax, neighbor, similarity in zip(axes[1:], neighbors, similarities, strict=True):
                draw_image(ax, self.images[neighbor], bands, f"cos {similarity:.3f}")
        return self


def _check_look_alikes(
    images: tuple[int, ...], embedding: tuple[int, ...], queries: np.ndarray, n_neighbors: int
) -> None:
    check_images(images)
    if embedding[:1] != images[:1]:
        raise ValueError(f"There are {images[0]} images, but the shape of embedding is {embedding}.")
    if queries.dtype.kind not in "iu" or queries.min() < 0 or queries.max() >= images[0]:
        raise ValueError(f"queries must be rows of the images, from 0 to {images[0] - 1}; got {queries}.")
    if not 1 <= n_neighbors < images[0]:
        raise ValueError(
            f"n_neighbors must be from 1 to {images[0] - 1}, the number of other images; got {n_neighbors}."
        )
