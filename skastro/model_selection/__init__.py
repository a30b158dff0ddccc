"""Experiments summarized in tables: label sweeps, property scores, ablations, transfer and stationarity."""

from skastro.model_selection.ablation import ablation_grid, augmentation_ablation
from skastro.model_selection.properties import property_scores
from skastro.model_selection.stationarity import stationarity
from skastro.model_selection.sweeps import label_sweep
from skastro.model_selection.transfer import transfer_matrix

__all__ = [
    "ablation_grid",
    "augmentation_ablation",
    "label_sweep",
    "property_scores",
    "stationarity",
    "transfer_matrix",
]
