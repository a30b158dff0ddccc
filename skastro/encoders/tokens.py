"""Tokens of an embedder's view, the parts that attention can weight."""

from typing import Any

from torch import Tensor, nn

__all__ = ["CachedTokens", "Tokens"]


class Tokens(nn.Module):
    """Tokens of an encoder, or its features as the only token.

    Parameters
    ----------
    encoder : nn.Module
        Network from the tensors of a view to features. Its method ``tokens``, if it has one, returns tokens and a mask.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, *view: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute tokens.

        Parameters
        ----------
        *view : Tensor
            Input of the encoder.

        Returns
        -------
        tokens : Tensor of shape (n, t, width)
        mask : Tensor of bool of shape (n, t), or None
            False where a token is ignored; None if all are used.
        """
        tokens: Any = getattr(self.encoder, "tokens", None)
        return (self.encoder(*view)[:, None], None) if tokens is None else tokens(*view)


class CachedTokens(nn.Module):
    """Tokens that were computed before."""

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the tokens unchanged.

        Parameters
        ----------
        tokens : Tensor of shape (n, t, width)
            Tokens.
        mask : Tensor of shape (n, t), default=None
            Zero where a token is ignored.

        Returns
        -------
        tokens : Tensor of shape (n, t, width)
        mask : Tensor of shape (n, t), or None
        """
        return tokens, mask
