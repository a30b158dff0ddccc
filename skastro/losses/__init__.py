"""The objectives' formulas: pure functions of tensors, without state."""

from skastro.losses.contrastive import byol_loss, info_nce, nt_xent
from skastro.losses.masked import masked_mse
from skastro.losses.votes import (
    dirichlet_multinomial_nll,
    hybrid_loss,
    multinomial_nll,
    soft_label_cross_entropy,
)

__all__ = [
    "byol_loss",
    "dirichlet_multinomial_nll",
    "hybrid_loss",
    "info_nce",
    "masked_mse",
    "multinomial_nll",
    "nt_xent",
    "soft_label_cross_entropy",
]
