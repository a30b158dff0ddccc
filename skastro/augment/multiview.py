"""A recipe with different augmentations for the views of an image."""

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator

from skastro.augment.base import Augment
from skastro.surveys import Survey

__all__ = ["MultiView"]


class MultiView(BaseEstimator):
    """Recipes for two global views of an image, which may differ, and for any number of smaller, local views.

    Embedders that compare views accept it as ``augment=``.

    Parameters
    ----------
    first : Augment, default=None
        Recipe of the first view; None means no augmentation.
    second : Augment, default=None
        Recipe of the second view; None means that of the first.
    local : Augment, default=None
        Recipe of the local views; None means that of the first.
    n_local : int, default=0
        Number of local views.
    local_size : int or float, default=None
        Side of the local views in pixels, or, if below 1, as a fraction of that of the global views. They are cut from
        the center, unless their recipe shifts or crops.

    References
    ----------
    Grill et al. (2020), `arXiv:2006.07733 <https://arxiv.org/abs/2006.07733>`_, appendix B, for two different recipes;
    Caron et al. (2020), `arXiv:2006.09882 <https://arxiv.org/abs/2006.09882>`_, section 3.3, for local views.

    Examples
    --------
    >>> from skastro import BYOLEmbedder
    >>> from skastro.augment import MultiView, get_recipe
    >>> recipe = MultiView(get_recipe("galaxy"), get_recipe("galaxy").set_params(blur="passthrough"))
    >>> BYOLEmbedder(augment=recipe).set_params(augment__first__rotate__degrees=90).augment.first.steps[1]
    ('rotate', Rotate(degrees=90))
    """

    def __init__(
        self,
        first: Augment | None = None,
        second: Augment | None = None,
        *,
        local: Augment | None = None,
        n_local: int = 0,
        local_size: float | None = None,
    ) -> None:
        self.first = first
        self.second = second
        self.local = local
        self.n_local = n_local
        self.local_size = local_size

    @property
    def edge(self) -> str:
        """Fill mode of pixels outside the cutout, in the first view."""
        return (self.first or Augment()).edge

    def fit(
        self,
        images: np.ndarray,
        survey: Survey | None = None,
        noise: np.ndarray | None = None,
        size: tuple[int, int] | None = None,
    ) -> Self:
        """Fit each recipe on the training images.

        Parameters
        ----------
        images : ndarray of shape (n, bands, height, width)
            Training images.
        survey : Survey, default=None
            Meaning of their bands and pixels.
        noise : ndarray of shape (bands,), default=None
            Noise of each band in the images' units.
        size : tuple of int, default=None
            Height and width of the global views.

        Returns
        -------
        MultiView
            Itself.

        Raises
        ------
        ValueError
            If local views have no size or are larger than the cutouts, or a recipe cannot be used.
        """
        for role, recipe in {"first": self.first, "second": self.second, "local": self.local}.items():
            if not isinstance(recipe, Augment | None):
                raise ValueError(f"{role} must be an Augment, as get_recipe(name) gives it; got {recipe!r}.")
        height, width = images.shape[2:]
        if self.n_local and not (0 < (self.local_size or 0) < 1 or 1 <= (self.local_size or 0) <= min(height, width)):
            raise ValueError(f"local_size={self.local_size} cannot be cut from images of {height} × {width} pixels.")
        for recipe, cut in dict(reversed(self.views(size or (height, width)))).items():  # the global size counts
            recipe.fit(images, survey, noise, cut)
        return self

    def views(self, size: tuple[int, int]) -> list[tuple[Augment, tuple[int, int]]]:
        """List the recipe and the size of each view, the two global views first.

        Parameters
        ----------
        size : tuple of int
            Height and width of the global views.

        Returns
        -------
        list of (Augment, tuple of int)
        """
        first = self.first or Augment()
        return [(first, size), (self.second or first, size)] + [(self.local or first, self._small(size))] * self.n_local

    def _small(self, size: tuple[int, int]) -> tuple[int, int]:
        if not self.local_size:
            return size
        if self.local_size < 1:
            return max(1, int(size[0] * self.local_size)), max(1, int(size[1] * self.local_size))
        return int(self.local_size), int(self.local_size)
