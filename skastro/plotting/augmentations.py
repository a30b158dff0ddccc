"""What an augmentation does to images."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from skastro.images import as_pixels, center_crop, check_finite, check_shape, fold, measure_bands
from skastro.plotting.pictures import check_images, draw_image
from skastro.plotting.style import pyplot

__all__ = ["AugmentationDisplay"]


class AugmentationDisplay:
    """Images beside their augmented views: each step alone, then the whole recipe.

    Parameters
    ----------
    images : array of shape (n, bands, height, width)
        The windows that the views are compared with, in flux or 8-bit.
    views : sequence of (str, array of shape (n, bands, height, width)) tuples
        What to draw beside them, each under its name.

    Attributes
    ----------
    axes_ : array of matplotlib Axes, of shape (n, 1 + n_views)
        The grid: one row per image, the original at the left.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    skastro.plotting.AblationDisplay : What each step is worth.
    skastro.augment.get_recipe : The recipes by name.

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
        """Draw views of images as an embedder would in training, before it normalizes them.

        Parameters
        ----------
        images : array-like of shape (n, bands, height, width) or (n, height, width)
            A few images, flux or 8-bit, one row each. What a step measures, such as the noise, is measured on them.
        augment : str, Augment or None, default="galaxy"
            The recipe; a copy of it is fitted.
        survey : str, Survey or None, default=None
            What the bands and pixels mean, for the steps that ask.
        size : int, default=None
            Side in pixels of the central window that the encoder sees, and that is shown; ``None`` is the whole
            cutout.
        n_views : int, default=1
            How many views to draw from the whole recipe; of each step alone there is one.
        random_state : int, RandomState instance or None, default=None
            Draws the views; an int draws the same picture each time.
        bands : sequence of one or three int, default=None
            The bands to show: one in gray, or three as red, green and blue. ``None`` shows one or three bands
            as they come, and the mean of any other number of bands.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; ``None`` makes a new figure.

        Returns
        -------
        AugmentationDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the images are no such array, have NaN or infinite pixels, other bands than the survey, or are smaller
            than `size`, if the recipe or the survey is unknown, or if `n_views` is less than 1.
        """
        images = np.asarray(images)
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

        8-bit images are shown as they are. The others are stretched by an arcsinh, all of a row between the
        percentiles 1 and 99.8 of its original, so that what changes the brightness is seen to.

        Parameters
        ----------
        bands : sequence of one or three int, default=None
            The bands to show: one in gray, or three as red, green and blue. ``None`` shows one or three bands
            as they come, and the mean of any other number of bands.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; ``None`` makes a new figure.

        Returns
        -------
        AugmentationDisplay
            The display itself.
        """
        columns = [("original", self.images), *self.views]
        n_rows = len(self.images)
        if figure is None:
            size = (1.25 * len(columns), 0.25 + 1.25 * n_rows)
            figure = pyplot().figure(figsize=size, layout="constrained")
        self.figure_ = figure
        self.axes_ = figure.subplots(n_rows, len(columns), squeeze=False)
        for column, (name, images) in zip(self.axes_.T, columns, strict=True):
            for row, (ax, image, original) in enumerate(zip(column, images, self.images, strict=True)):
                draw_image(ax, image, bands, name if row == 0 else "", like=original)
        return self


def _draw_views(
    images: np.ndarray, augment: Any, survey: Any, size: tuple[int, int], n_views: int, random_state: Any
) -> list[tuple[str, np.ndarray]]:
    """One view from each active step alone, and `n_views` from the whole recipe."""
    import torch  # nobody who draws a table has to wait for it

    from skastro.augment import Augment, one_recipe
    from skastro.surveys import get_survey
    from skastro.training import draw_seed

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
    pixels = torch.from_numpy(images)
    return [
        (name, _like(recipe(pixels, size, generator).numpy(), images.dtype))
        for name, recipe in [*alone, *((name, recipe) for name in names)]
    ]


def _like(views: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Views of 8-bit images are 8-bit again, so that they are shown alike."""
    return np.clip(views.round(), 0, 255).astype(np.uint8) if dtype == np.uint8 else views
