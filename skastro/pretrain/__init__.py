"""Pretrainers: one method, one file, each an objective and its embedder."""

from skastro.pretrain.byol import BYOLEmbedder

__all__ = ["BYOLEmbedder"]
