"""Experiments of many fits, summarized in tables: label sweeps, property scores, and augmentation ablations."""

from skastro.model_selection.ablation import ablation_grid, augmentation_ablation
from skastro.model_selection.properties import property_scores
from skastro.model_selection.sweeps import label_sweep

__all__ = ["ablation_grid", "augmentation_ablation", "label_sweep", "property_scores"]
