"""Batched augmentations of astronomical images and spectra."""

from skastro.augment.aperture import Aperture
from skastro.augment.base import Augment
from skastro.augment.detector import Background, BandDropout, GaussianNoise, HotPixels, SatelliteTrail
from skastro.augment.distributions import HalfNormal, LogNormal, Uniform
from skastro.augment.geometry import Crop, Dihedral, Flip, Rotate, Shift, Zoom
from skastro.augment.masks import block_masks
from skastro.augment.multiview import MultiView
from skastro.augment.recipes import RECIPES, get_recipe, one_recipe
from skastro.augment.sky import ColorJitter, GaussianBlur, Grayscale, PSFBlur, Redden
from skastro.augment.spectra import ContiguousMask, ContinuumTilt, InverseVarianceNoise, Redshift

__all__ = [
    "RECIPES",
    "Aperture",
    "Augment",
    "Background",
    "BandDropout",
    "ColorJitter",
    "ContiguousMask",
    "ContinuumTilt",
    "Crop",
    "Dihedral",
    "Flip",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "HalfNormal",
    "HotPixels",
    "InverseVarianceNoise",
    "LogNormal",
    "MultiView",
    "PSFBlur",
    "Redden",
    "Redshift",
    "Rotate",
    "SatelliteTrail",
    "Shift",
    "Uniform",
    "Zoom",
    "block_masks",
    "get_recipe",
    "one_recipe",
]
