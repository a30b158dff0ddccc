"""From the inputs of an embedder to tokens: what attention can look at, piece by piece."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from skastro.encoders.images import TimmEncoder
from skastro.encoders.spectra import SpectrumTransformer
from skastro.images import center_crop

__all__ = ["CachedTokens", "ImageTokens", "RowToken", "SpectrumTokens"]


class ImageTokens(nn.Module):
    """The tokens of images: a ViT's class token and patches, any other timm network's last feature map.

    What is no timm network gives its row of features as the one token.

    Parameters
    ----------
    encoder : nn.Module
        From normalized images to rows of features.
    normalizer : nn.Module
        Of raw pixels.
    size : tuple of int
        Height and width of the central window that the encoder sees.
    """

    def __init__(self, encoder: nn.Module, normalizer: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalizer = normalizer
        self.size = size

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        """Compute tokens.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Raw pixels.

        Returns
        -------
        tokens : Tensor of shape (n, t, width)
            Row by row from the upper left, behind the class token where there is one.
        mask : None
            All tokens count.
        """
        window = self.normalizer(center_crop(images, self.size)).contiguous(memory_format=torch.channels_last)
        if isinstance(self.encoder, TimmEncoder):
            return self.encoder.tokens(window), None
        return self.encoder(window)[:, None], None


class SpectrumTokens(nn.Module):
    """The tokens of spectra, the one of mean and scale in front.

    Parameters
    ----------
    encoder : SpectrumTransformer
        From standardized spectra to tokens.
    """

    def __init__(self, encoder: SpectrumTransformer) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, flux: Tensor, weights: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Compute tokens.

        Parameters
        ----------
        flux, weights : Tensor of shape (n, n_wavelengths)
            Standardized flux, and the weights of the pixels; zero is missing.
        level : Tensor of shape (n, 2)
            What stands for each spectrum's mean and scale.

        Returns
        -------
        tokens : Tensor of shape (n, 1 + n_tokens, width)
        mask : Tensor of bool of shape (n, 1 + n_tokens)
            False where all pixels of a token are missing.
        """
        seen = weights > 0
        _, tokens = self.encoder(flux, seen, level)
        return tokens, pad(self.encoder.split(seen.float()).amax(dim=2) > 0, (1, 0), value=True)


class RowToken(nn.Module):
    """The one token of an object that is a row of numbers: the row."""

    def forward(self, rows: Tensor) -> tuple[Tensor, None]:
        """Make tokens.

        Parameters
        ----------
        rows : Tensor of shape (n, width)
            Features.

        Returns
        -------
        tokens : Tensor of shape (n, 1, width)
        mask : None
            All tokens count.
        """
        return rows[:, None], None


class CachedTokens(nn.Module):
    """Tokens that were computed before."""

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Give them.

        Parameters
        ----------
        tokens : Tensor of shape (n, t, width)
            Tokens.
        mask : Tensor of shape (n, t), default=None
            Zero where a token does not count.

        Returns
        -------
        tokens : Tensor of shape (n, t, width)
        mask : Tensor of shape (n, t), or None
        """
        return tokens, mask
