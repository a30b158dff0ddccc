"""Pretrainers: one method, one file, each an objective and its embedder."""

from skastro.pretrain.byol import BYOLEmbedder
from skastro.pretrain.moco import MoCoEmbedder
from skastro.pretrain.simclr import SimCLREmbedder

__all__ = ["BYOLEmbedder", "MoCoEmbedder", "SimCLREmbedder"]
