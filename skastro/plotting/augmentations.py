"""Display of the effect of augmentations on images."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from skastro.images import as_pixels, center_crop, check_shape, fold
from skastro.inputs import as_array
from skastro.pixels import check_finite, measure_bands
from skastro.plotting.pictures import check_images, draw_image
from skastro.plotting.style import new_figure

__all__ = ["AugmentationDisplay"]


class AugmentationDisplay:
    """Images beside their augmented views: each step alone, then the whole recipe.

    Parameters
    ----------
    images : array of shape (n, bands, height, width)
        The windows to compare the views with, in flux or 8-bit.
    views : sequence of (str, array of shape (n, bands, height, width)) tuples
        Names and views to draw beside them.

    Attributes
    ----------
    axes_ : array of matplotlib Axes, of shape (n, 1 + n_views)
        The grid: one row per image, with the original at the left.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    skastro.plotting.AblationDisplay : Plot the effect of each step on the score.
    skastro.augment.get_recipe : Return a recipe by name.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from skastro.datasets import make_survey
    >>> from skastro.plotting import AugmentationDisplay
    >>> images = make_survey(3, random_state=0).images
    >>> display = AugmentationDisplay.from_recipe(images, "supervised", random_state=0)
    >>> [ax.get_title() for ax in display.axes_[0]]
    ['original', 'rotate', 'shift', 'flip', 'recipe']
    """

    def __init__(self, images: Any, views: Sequence[tuple[str, Any]]) -> None:
        self.images = images
        self.views = views

    @classmethod
    def from_recipe(
        cls,
        images: Any,
        augment: Any = "galaxy",
        *,
        survey: Any = None,
        size: int | None = None,
        n_views: int = 1,
        random_state: int | np.random.RandomState | None = None,
        bands: Sequence[int] | None = None,
        figure: Any = None,
    ) -> Self:
        """Draw views of images as in the training of an embedder, before normalization.

        Parameters
        ----------
        images : array-like of shape (n, bands, height, width) or (n, height, width)
            A few images, flux or 8-bit, one row each. Steps measure what they need, such as the noise, on them.
        augment : str, Augment or None, default="galaxy"
            Recipe of the views; a copy of it is fitted.
        survey : str, Survey or None, default=None
            Meaning of the bands and pixels, for the steps that need it.
        size : int, default=None
            Side in pixels of the central window that the encoder sees and that is shown; ``None`` is the whole cutout.
        n_views : int, default=1
            Number of views from the whole recipe; of each step alone there is one.
        random_state : int, RandomState instance or None, default=None
            Random state of the views; an int draws the same views each time.
        bands : sequence of one or three int, default=None
            Bands to show: one in gray, or three as red, green and blue. ``None`` shows one or three bands as they are,
            and the mean of any other number of bands.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        AugmentationDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the images have another shape, NaN or infinite pixels, or other bands than the survey, or are smaller
            than `size`, if the recipe or the survey is unknown, or if `n_views` is less than 1.
        """
        images = as_array(images, "images", cure="cut them to one size")
        check_images(images.shape)
        images = fold(images)
        window = images.shape[2:] if size is None else (size, size)
        check_shape(images.shape, None, window)
        check_finite(images)
        if n_views < 1:
            raise ValueError(f"n_views must be at least 1; got {n_views}.")
        views = _draw_views(as_pixels(images), augment, survey, window, n_views, random_state)
        return cls(center_crop(images, window), views).plot(bands=bands, figure=figure)

    def plot(self, *, bands: Sequence[int] | None = None, figure: Any = None) -> Self:
        """Draw one row per image: the original, then its views.

        8-bit images are shown as they are. Other images are stretched by an arcsinh. All images of a row are scaled
        between the percentiles 1 and 99.8 of its original, so changes of brightness are visible.

        Parameters
        ----------
        bands : sequence of one or three int, default=None
            Bands to show: one in gray, or three as red, green and blue. ``None`` shows one or three bands as they are,
            and the mean of any other number of bands.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        AugmentationDisplay
            The display itself.
        """
        columns = [("original", self.images), *self.views]
        n_rows = len(self.images)
        self.figure_ = figure = figure or new_figure(1.25 * len(columns), 0.25 + 1.25 * n_rows)
        self.axes_ = figure.subplots(n_rows, len(columns), squeeze=False)
        for column, (name, images) in zip(self.axes_.T, columns, strict=True):
            for row, (ax, image, original) in enumerate(zip(column, images, self.images, strict=True)):
                draw_image(ax, image, bands, name if row == 0 else "", like=original)
        return self


def _draw_views(
    images: np.ndarray, augment: Any, survey: Any, size: tuple[int, int], n_views: int, random_state: Any
) -> list[tuple[str, np.ndarray]]:
    """Draw one view from each active step alone, and `n_views` from the whole recipe."""
    import torch  # slow to import, and not needed to draw tables

    from skastro.augment import Augment, one_recipe
    from skastro.augment.views import draw_view
    from skastro.devices import draw_seed
    from skastro.surveys import get_survey

    survey = get_survey(survey)
    if survey is not None and len(survey.bands) != images.shape[1]:
        raise ValueError(f"The survey has {len(survey.bands)} bands, the images have {images.shape[1]}.")
    recipe = one_recipe(augment).fit(images, survey, measure_bands(images)["noise"])
    alone = [
        (name, Augment([(name, step)], edge=recipe.edge, interpolation=recipe.interpolation))
        for name, step in recipe.steps
        if step != "passthrough"
    ]
    names = ["recipe"] if n_views == 1 else [f"recipe, view {view + 1}" for view in range(n_views)]
    generator = torch.Generator().manual_seed(draw_seed(random_state))
    recipes = [*alone, *((name, recipe) for name in names)]
    return [(name, draw_view(recipe, images, size, generator)) for name, recipe in recipes]
