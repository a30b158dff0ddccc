"""Towers of an alignment: the encoder and the pool of one modality, or the pool over cached tokens."""

import copy
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from skastro.encoders import CachedTokens, Tokens
from skastro.pixels import rows_of
from skastro.pretrain.pooled import PooledEmbedder
from skastro.training import AsGiven, Inference

__all__ = ["Tower", "build_tower"]

MEASURED = 64  # rows whose tokens set the units of a pool
CACHE_BYTES = 1 << 31  # of the tokens of a frozen embedder, above which they are computed anew in each epoch


class Tower(nn.Module):
    """From the arrays of a modality to a row: its tokens, pooled.

    Parameters
    ----------
    drawn, plain : nn.Module
        Views in training and else.
    tokens : nn.Module
        From a view to tokens, and a mask of those that count or None.
    head : AttentionPool
        Pools them.
    frozen : bool
        Leave what gives the tokens as it is: in eval mode, without gradients.
    """

    def __init__(self, drawn: nn.Module, plain: nn.Module, tokens: nn.Module, head: nn.Module, frozen: bool) -> None:
        super().__init__()
        self.drawn = drawn
        self.plain = plain
        self.tokens = tokens
        self.head = head
        self.frozen = frozen
        self.prefix = ""

    def set_prefix(self, prefix: str) -> Self:
        """Set the prefix of the names of the arrays that the tower reads of a batch.

        Parameters
        ----------
        prefix : str
            Of this modality alone.

        Returns
        -------
        Tower
            Itself.
        """
        self.prefix = prefix
        return self

    def forward(self, **arrays: Tensor) -> Tensor:
        """Embed a batch.

        Parameters
        ----------
        **arrays : Tensor
            Arrays of all modalities, by name.

        Returns
        -------
        Tensor of shape (n, dim)
        """
        view: Any = self.drawn if self.training else self.plain
        named = {name: arrays[self.prefix + name] for name in view.inputs if self.prefix + name in arrays}
        with torch.no_grad(), torch.autocast(next(iter(named.values())).device.type, enabled=False):
            parts = view(**named)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            tokens = self.tokens(*parts)
        return self.head(*tokens)

    def train(self, mode: bool = True) -> Self:  # noqa: D102
        super().train(mode)
        self.tokens.train(mode and not self.frozen)
        return self


def build_tower(
    side: PooledEmbedder,
    arrays: dict[str, np.ndarray],
    rows: np.ndarray,
    inference: Inference,
    frozen: bool,
    augment: Any,
    seed: int,
    trained: bool = True,
) -> tuple[Tower, dict[str, np.ndarray]]:
    """Make what is trained of a modality, and the arrays that it takes.

    Where only the pool is trained and nothing is augmented these are the tokens, unless they are too many.

    Parameters
    ----------
    side : PooledEmbedder
        Embedder and pool; the embedder is trained in place unless it is frozen.
    arrays : dict of str to ndarray
        What the embedder's views take.
    rows : ndarray of int
        Rows that are present and take part.
    inference : Inference
        Where and how to compute tokens.
    frozen : bool
        Whether only the pool is trained.
    augment : str, Augment or None
        Augmentation of the training rows.
    seed : int
        Seed of the augmentation.
    trained : bool, default=True
        Whether there is a training at all.

    Returns
    -------
    tower : Tower
    arrays : dict of str to ndarray
        What it takes.
    """
    head: Any = side.head_
    if frozen:
        few = rows[:: -(-len(rows) // MEASURED)] if side.weights is None else rows[:1]
        cached = measure(side, arrays, few, inference)
    modality = side.modality
    shown = {name: rows_of(array, rows) for name, array in arrays.items()} if augment is not None else {}
    recipe = None if augment is None else modality.fit_recipe(augment, shown)
    if frozen and trained and recipe is None and len(rows) * cached <= CACHE_BYTES:
        view = AsGiven("tokens", "mask")
        return Tower(view, view, CachedTokens(), head, frozen), cache(side, arrays, rows, inference)
    still = frozen and trained
    encoder = copy.deepcopy(modality.encoder_).requires_grad_(False) if still else modality.encoder_
    generator = torch.Generator(inference.device).manual_seed(seed)
    drawn = modality.view() if recipe is None else modality.view(recipe, generator)
    return Tower(drawn, modality.view(), Tokens(encoder), head, frozen), arrays


def measure(side: PooledEmbedder, arrays: dict[str, np.ndarray], rows: np.ndarray, inference: Inference) -> int:
    """Standardize the pool by the tokens of some rows, and count the bytes of those of one row.

    Parameters
    ----------
    side : PooledEmbedder
        Whose pool sees tokens in these units from now on, unless it was given its weights, which know their units.
    arrays : dict of str to ndarray
        What the embedder's views take.
    rows : ndarray of int
        Rows to look at.
    inference : Inference
        Where and how to compute tokens.

    Returns
    -------
    int
    """
    batches = [(tokens, mask) for _, tokens, mask in side.tokens(arrays, rows, inference)]
    tokens = torch.cat([tokens for tokens, _ in batches]).cpu()
    masks = [mask for _, mask in batches if mask is not None]
    mask = torch.cat(masks).cpu() if masks else None
    if side.weights is None:
        head: Any = side.head_
        head.standardize(tokens, mask)
    return tokens[:1].nbytes + (0 if mask is None else mask[:1].nbytes)


def cache(
    side: PooledEmbedder, arrays: dict[str, np.ndarray], rows: np.ndarray, inference: Inference
) -> dict[str, np.ndarray]:
    """Compute the tokens of the rows that take part, once.

    Parameters
    ----------
    side : PooledEmbedder
        Whose embedder gives them.
    arrays : dict of str to ndarray
        What its views take.
    rows : ndarray of int
        Rows that take part.
    inference : Inference
        Where and how to compute tokens.

    Returns
    -------
    dict of str to ndarray
        ``tokens`` of shape (n, t, width), and ``mask`` of shape (n, t) where the modality has one; zeros elsewhere.
    """
    n = len(next(iter(arrays.values())))
    cached: dict[str, np.ndarray] = {}
    for chosen, *parts in side.tokens(arrays, rows, inference):
        for name, part in zip(("tokens", "mask"), parts, strict=True):
            if part is not None:
                if name not in cached:
                    cached[name] = np.zeros((n, *part.shape[1:]), dtype=np.float32)
                cached[name][chosen] = part.float().cpu().numpy()
    return cached
