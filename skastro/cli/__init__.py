"""Command line: a demonstration, a card of a saved model, and fits, embeddings and maps of images on disk."""

from skastro.cli.arguments import main
from skastro.cli.demonstration import demo

__all__ = ["demo", "main"]
