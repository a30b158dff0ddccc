"""Displays of results, as in scikit-learn: `from_…` creates and draws a display, `plot` draws it again."""

from skastro.plotting.ablations import AblationDisplay
from skastro.plotting.augmentations import AugmentationDisplay
from skastro.plotting.look_alikes import LookAlikesDisplay
from skastro.plotting.maps import EmbeddingMapDisplay
from skastro.plotting.photoz import PhotoZDisplay
from skastro.plotting.posteriors import CornerDisplay, CoverageDisplay, RankDisplay
from skastro.plotting.rankings import RankingDisplay
from skastro.plotting.sweeps import LabelSweepDisplay
from skastro.plotting.votes import VoteScatterDisplay

__all__ = [
    "AblationDisplay",
    "AugmentationDisplay",
    "CornerDisplay",
    "CoverageDisplay",
    "EmbeddingMapDisplay",
    "LabelSweepDisplay",
    "LookAlikesDisplay",
    "PhotoZDisplay",
    "RankDisplay",
    "RankingDisplay",
    "VoteScatterDisplay",
]
