"""Search and find in embeddings: look-alikes, duplicates, and what to look at next."""

from skastro.search.active import ActiveRanking
from skastro.search.duplicates import find_duplicates, group_duplicates
from skastro.search.information import expected_information_gain
from skastro.search.look_alikes import LookAlikes
from skastro.search.sky import sky_separation

__all__ = [
    "ActiveRanking",
    "LookAlikes",
    "expected_information_gain",
    "find_duplicates",
    "group_duplicates",
    "sky_separation",
]
