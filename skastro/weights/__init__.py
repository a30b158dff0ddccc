"""Published weights: read from files and the hub, known by their layout, adapted to other images."""

from skastro.weights.adapt import adapt_bands, check_alike, load_into
from skastro.weights.files import Weights, license_of, read_weights
from skastro.weights.layouts import LAYOUTS, Layout, find_layout
from skastro.weights.pools import POOLS, PublishedPool

__all__ = [
    "LAYOUTS",
    "POOLS",
    "Layout",
    "PublishedPool",
    "Weights",
    "adapt_bands",
    "check_alike",
    "find_layout",
    "license_of",
    "load_into",
    "read_weights",
]
