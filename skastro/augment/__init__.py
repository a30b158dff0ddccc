"""Astronomical augmentations: batched, physical, searchable."""

from skastro.augment.base import Augment
from skastro.augment.geometry import Crop, Dihedral, Flip, Rotate, Shift, Zoom
from skastro.augment.multiview import MultiView
from skastro.augment.recipes import RECIPES, get_recipe
from skastro.augment.sky import ColourJitter, GaussianBlur, GaussianNoise

__all__ = [
    "RECIPES",
    "Augment",
    "ColourJitter",
    "Crop",
    "Dihedral",
    "Flip",
    "GaussianBlur",
    "GaussianNoise",
    "MultiView",
    "Rotate",
    "Shift",
    "Zoom",
    "get_recipe",
]
