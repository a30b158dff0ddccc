"""Many fits, one table: what an embedding is worth when labels are few, what it knows, what each augmentation adds."""

from skastro.model_selection.ablation import ablation_grid, augmentation_ablation
from skastro.model_selection.properties import property_scores
from skastro.model_selection.sweeps import label_sweep

__all__ = ["ablation_grid", "augmentation_ablation", "label_sweep", "property_scores"]
