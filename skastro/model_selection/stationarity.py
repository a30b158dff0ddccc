"""Stationarity: how far embeddings move when images are augmented, beside the distance to their neighbors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from skastro.images import as_pixels, center_crop, check_shape, fold
from skastro.inputs import as_array
from skastro.model_selection.experiments import check_named
from skastro.pixels import check_finite, measure_bands
from skastro.surveys import get_survey

__all__ = ["stationarity"]

ROUNDING = 1e-6  # of embeddings, which are of single precision


def stationarity(
    embedders: Mapping[str, Any],
    images: Any,
    steps: Mapping[str, Any],
    *,
    survey: Any = None,
    size: int | None = None,
    n_views: int = 4,
    metric: str = "cosine",
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    r"""Measure how far each augmentation moves embeddings, as figure 9 of [1]_ shows.

    An image and its augmented views are the same object, so their embeddings should be nearer to each other than to
    those of other images:

    .. math:: \text{moved} = \frac{d(z, z')}{d(z, z_\text{nearest})}

    is below 1 for a view z' that stays nearer to its image z than that image's nearest neighbor does.

    Parameters
    ----------
    embedders : mapping of str to estimator
        Fitted transformers, by name.
    images : array-like of shape (n, bands, height, width) or (n, height, width)
        Images that stand for the survey, flux or 8-bit; all of them are each other's neighbors.
    steps : mapping of str to step or Augment
        Augmentations, by name, such as ``{"rotation": Rotate(), "noise": GaussianNoise((0, 3))}``; copies of them are
        fitted on the images.
    survey : str, Survey or None, default=None
        Meaning of the bands and pixels, for the steps that need it.
    size : int, default=None
        Side in pixels of the central window that is embedded, so that turned and shifted views see real sky beyond it.
        None is the whole cutout.
    n_views : int, default=4
        Number of views of each image and step.
    metric : {"cosine", "euclidean"}, default="cosine"
        Distance; cosines are taken about the mean of the embeddings.
    random_state : int, RandomState instance or None, default=None
        Source of the views' randomness; an int draws the same views each time.

    Returns
    -------
    DataFrame
        One row per embedder and step: ``moved``, the median over all views; ``moved_most``, which one view in twenty
        exceeds; and ``recognized``, the fraction of views whose own image is the nearest of all.

    Raises
    ------
    ValueError
        If there is nothing to measure, images have another shape, NaN or infinite pixels, are smaller than `size` or
        less than two, or a step is invalid.
    TypeError
        If embedders or steps are not given by name.

    See Also
    --------
    augmentation_ablation : Measure what a step is worth in training.

    References
    ----------
    .. [1] Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images",
       `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_.

    Examples
    --------
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from skastro.augment import GaussianNoise, Rotate
    >>> from skastro.datasets import make_survey
    >>> from skastro.model_selection import stationarity
    >>> images = make_survey(60, random_state=0).images
    >>> brightness = FunctionTransformer(lambda X: X.mean(axis=(2, 3))).fit(images)
    >>> pixels = FunctionTransformer(lambda X: X.reshape(len(X), -1)).fit(images)
    >>> steps = {"rotation": Rotate(), "noise": GaussianNoise((0, 1))}
    >>> table = stationarity({"bands": brightness, "pixels": pixels}, images, steps, size=32, random_state=0)
    >>> list(table.columns)
    ['embedder', 'step', 'moved', 'moved_most', 'recognized']
    """
    from skastro.search import LookAlikes  # brings torch

    check_named(embedders, "embedders", "estimators")
    check_named(steps, "steps", "augmentations")
    images = fold(as_array(images, "images", cure="cut them to one size"))
    window = images.shape[2:] if size is None else (size, size)
    check_shape(images.shape, None, window)
    check_finite(images)
    if len(images) < 2 or n_views < 1:
        raise ValueError("There is nothing to measure: give two images and one view at least.")
    views = _views(as_pixels(images), steps, get_survey(survey), window, n_views, random_state)
    plain = center_crop(images, window)
    lines = []
    for name, embedder in embedders.items():
        rows = np.asarray(embedder.transform(plain), dtype=np.float64)
        center = rows.mean(axis=0) if metric == "cosine" else 0.0
        search = LookAlikes(1, metric=metric).fit(rows - center)
        nearest = search.kneighbors()[0][:, 0]
        tie = ROUNDING**2 if metric == "cosine" else ROUNDING * float(np.linalg.norm(rows.std(axis=0)))
        for step, drawn in views.items():
            found = [
                _moved(search, np.asarray(embedder.transform(view), dtype=np.float64) - center, nearest, tie)
                for view in drawn
            ]
            moved, recognized = map(np.concatenate, zip(*found, strict=True))
            lines.append((name, step, *np.quantile(moved, (0.5, 0.95)), recognized.mean()))
    return pd.DataFrame(lines, columns=["embedder", "step", "moved", "moved_most", "recognized"])


def _views(
    images: np.ndarray, steps: Mapping[str, Any], survey: Any, window: tuple[int, int], n_views: int, random_state: Any
) -> dict[str, list[np.ndarray]]:
    import torch

    from skastro.augment import Augment
    from skastro.augment.views import draw_view
    from skastro.devices import draw_seed

    noise = measure_bands(images)["noise"]
    generator = torch.Generator().manual_seed(draw_seed(random_state))
    views = {}
    for name, step in steps.items():
        augment = clone(step if isinstance(step, Augment) else Augment([(name, step)])).fit(images, survey, noise)
        views[name] = [draw_view(augment, images, window, generator) for _ in range(n_views)]
    return views


def _moved(search: Any, views: np.ndarray, nearest: np.ndarray, tie: float) -> tuple[np.ndarray, np.ndarray]:
    """Return how far views are from their images, by the distances to the nearest neighbors, and which are known.

    Distances that differ by `tie` may be one.
    """
    from skastro.search.exact import MEASURES

    first = search.kneighbors(views)[0][:, 0]
    moved = MEASURES[search.metric](search.rows_[:, np.newaxis], views[:, np.newaxis])[:, 0]
    alone = nearest > tie  # a copy is no neighbor to measure by
    return moved[alone] / nearest[alone], moved <= first + tie
