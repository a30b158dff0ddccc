"""Data sets: a simulated survey, a real deep field, readers of catalogs and image files, and data left on disk."""

from skastro.datasets.files import load_images
from skastro.datasets.galaxy_zoo import load_galaxy_zoo1
from skastro.datasets.hubble import load_hubble_deep_field
from skastro.datasets.mirabest import load_mirabest
from skastro.datasets.observed_spectra import load_deimos_pairs, load_supernovae
from skastro.datasets.radio import make_radio_doubles
from skastro.datasets.sources import open_images, open_spectra
from skastro.datasets.survey import make_survey
from skastro.sources import Source

__all__ = [
    "Source",
    "load_deimos_pairs",
    "load_galaxy_zoo1",
    "load_hubble_deep_field",
    "load_images",
    "load_mirabest",
    "load_supernovae",
    "make_radio_doubles",
    "make_survey",
    "open_images",
    "open_spectra",
]
