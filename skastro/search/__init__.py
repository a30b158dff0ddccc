"""Search and find in embeddings: look-alikes, duplicates, outliers, artifacts, and what to look at next."""

from skastro.search.look_alikes import LookAlikes
from skastro.search.sky import sky_separation

__all__ = ["LookAlikes", "sky_separation"]
