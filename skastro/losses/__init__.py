"""Loss functions on tensors, without state."""

from skastro.losses.contrastive import byol_loss, clip_loss, info_nce, nt_xent
from skastro.losses.distillation import dino_loss, ibot_loss, koleo_loss, sinkhorn
from skastro.losses.masked import masked_mse
from skastro.losses.redundancy import barlow_twins_loss, vicreg_loss
from skastro.losses.votes import (
    dirichlet_multinomial_nll,
    hybrid_loss,
    multinomial_nll,
    soft_label_cross_entropy,
)

__all__ = [
    "barlow_twins_loss",
    "byol_loss",
    "clip_loss",
    "dino_loss",
    "dirichlet_multinomial_nll",
    "hybrid_loss",
    "ibot_loss",
    "info_nce",
    "koleo_loss",
    "masked_mse",
    "multinomial_nll",
    "nt_xent",
    "sinkhorn",
    "soft_label_cross_entropy",
    "vicreg_loss",
]
