"""A map of embeddings as one page that opens from disk: look around, find look-alikes, label by hand."""

from skastro.explorer.page import explore

__all__ = ["explore"]
