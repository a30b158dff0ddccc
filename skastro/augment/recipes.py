"""Recipes by name: one per paper, and a sensible one for galaxies.

Every recipe holds a place for noise, so that a search can put a step there without knowing the recipe.
"""

from difflib import get_close_matches

from sklearn.base import clone

from skastro.augment.base import Augment
from skastro.augment.detector import GaussianNoise
from skastro.augment.geometry import Crop, Flip, Rotate, Shift
from skastro.augment.multiview import MultiView
from skastro.augment.sky import ColourJitter, GaussianBlur

__all__ = ["RECIPES", "get_recipe"]

RECIPES = {
    # Slijepcevic et al. (2023), table 1. The saturation and hue of the paper's code do nothing on one band. The
    # images are clipped at the noise, so what lies outside a cutout is zero.
    "radio": Augment(
        [
            ("noise", "passthrough"),
            ("rotate", Rotate(degrees=180)),
            ("crop", Crop(scale=(0.8, 1.0))),
            ("flip", Flip(p=0.5)),
            ("colour", ColourJitter(brightness=0.4, contrast=0.4, saturation=0.0, p=0.8)),
            ("blur", GaussianBlur(sigma=(0.1, 2.0), radius=3, p=0.1)),
        ],
        edge="zeros",
    ),
    # Slijepcevic et al. (2023), table 2.
    "radio-finetune": Augment(
        [
            ("noise", "passthrough"),
            ("rotate", Rotate(degrees=180)),
            ("crop", Crop(scale=(0.9, 1.0))),
            ("flip", Flip(p=0.5)),
        ],
        edge="zeros",
    ),
    # No step changes the flux, which a redshift or a mass is told from. Hayat et al. (2021) shift by up to 7 pixels,
    # for cutouts larger than the window.
    "supervised": Augment(
        [
            ("noise", "passthrough"),
            ("rotate", Rotate(degrees=180)),
            ("shift", Shift(pixels=2)),
            ("flip", Flip(p=0.5)),
        ]
    ),
    "galaxy": Augment(
        [
            ("noise", GaussianNoise(scale=(0.0, 1.0))),
            ("rotate", Rotate(degrees=180)),
            ("shift", Shift(pixels=2)),
            ("crop", Crop(scale=(0.5, 1.0), ratio=(1.0, 1.0))),
            ("flip", Flip(p=0.5)),
            ("colour", ColourJitter(brightness=0.4, contrast=0.4, saturation=0.2, p=0.8)),
            ("blur", GaussianBlur(sigma=(0.1, 1.0), radius=3, p=0.1)),
        ]
    ),
}


def get_recipe(augment: str | Augment | MultiView | None) -> Augment | MultiView:
    """Look up a recipe by name; one given is copied, and None is the recipe without steps.

    Parameters
    ----------
    augment : str, Augment, MultiView or None
        One of ``RECIPES``, or what is already a recipe.

    Returns
    -------
    Augment or MultiView
        A fresh copy, never the object in the table or the one given.

    Raises
    ------
    ValueError
        If no recipe has that name.

    Examples
    --------
    >>> from skastro.augment import get_recipe
    >>> [name for name, step in get_recipe("radio-finetune").steps]
    ['noise', 'rotate', 'crop', 'flip']
    """
    if augment is None:
        return Augment()
    if isinstance(augment, str):
        if augment not in RECIPES:
            close = get_close_matches(augment, RECIPES, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"Unknown augmentation recipe {augment!r}; known are {', '.join(RECIPES)}.{hint}")
        augment = RECIPES[augment]
    return clone(augment)
