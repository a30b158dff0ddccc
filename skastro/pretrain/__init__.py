"""Pretrainers: one method, one file, each an objective and its embedder."""

from skastro.pretrain.barlow import BarlowTwinsEmbedder
from skastro.pretrain.byol import BYOLEmbedder
from skastro.pretrain.clip import AstroCLIPEmbedder
from skastro.pretrain.dino import DINOEmbedder
from skastro.pretrain.hybrid import HybridBYOLEmbedder
from skastro.pretrain.masked import MaskedSpectrumEmbedder
from skastro.pretrain.moco import MoCoEmbedder
from skastro.pretrain.pooled import PooledEmbedder
from skastro.pretrain.simclr import SimCLREmbedder
from skastro.pretrain.vicreg import VICRegEmbedder
from skastro.pretrain.votes import VoteEmbedder

__all__ = [
    "AstroCLIPEmbedder",
    "BYOLEmbedder",
    "BarlowTwinsEmbedder",
    "DINOEmbedder",
    "HybridBYOLEmbedder",
    "MaskedSpectrumEmbedder",
    "MoCoEmbedder",
    "PooledEmbedder",
    "SimCLREmbedder",
    "VICRegEmbedder",
    "VoteEmbedder",
]
