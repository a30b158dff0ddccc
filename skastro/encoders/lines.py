"""Encoder for supervised learning from spectra."""

from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["ConvAttention"]

CHANNELS = (8, 16, 16, 32)
KERNELS = (5, 10, 20, 40)  # kernel sizes in pixels
KEPT = (5, 10, 20, 1)  # pool sizes: the maximum over this many pixels is passed on
HIDDEN = 32


class ConvAttention(nn.Module):
    r"""Four convolutions, attention over the wavelengths, and two linear layers.

    With :math:`h` and :math:`a` the two halves of the 32 features at each place :math:`t`, the attention computes

    .. math:: \sum_t \operatorname{softmax}_t(a_t) \, h_t

    Parameters
    ----------
    channels : int, default=4
        Number of channels per pixel: flux, whether the pixel is present, and the two numbers of the spectrum's level.

    References
    ----------
    Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, appendix B5: the supervised baseline
    for spectra, after Melchior et al. (2023) and Serrà et al. (2018). Kernels and pooling are those of its code; the
    paper does not state them. Dropout, which has a rate of zero there by default, is left out. Their network uses only
    the flux.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import ConvAttention
    >>> encoder = ConvAttention()
    >>> encoder(torch.zeros(2, 7781), torch.ones(2, 7781, dtype=torch.bool), torch.zeros(2, 2)).shape
    torch.Size([2, 32])
    """

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv1d(old, new, kernel, padding=kernel // 2), nn.PReLU(new), nn.MaxPool1d(kept, ceil_mode=True)
                )
                for (old, new), kernel, kept in zip(pairwise((channels, *CHANNELS)), KERNELS, KEPT, strict=True)
            )
        )
        half = CHANNELS[-1] // 2
        self.mlp = nn.Sequential(nn.Linear(half, HIDDEN), nn.PReLU(HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.PReLU(HIDDEN))

    def forward(self, flux: Tensor, seen: Tensor, level: Tensor) -> Tensor:
        """Embed spectra.

        Parameters
        ----------
        flux : Tensor of shape (n, n_wavelengths)
            Standardized flux, zero in missing pixels.
        seen : Tensor of bool, shape (n, n_wavelengths)
            False where a pixel is missing.
        level : Tensor of shape (n, 2)
            Numbers that represent each spectrum's mean and scale.

        Returns
        -------
        Tensor of shape (n, 32)
        """
        rows = torch.cat(
            [flux[:, None], seen.to(flux)[:, None], level[:, :, None].expand(-1, -1, flux.shape[1])], dim=1
        )
        features, scores = self.stages(rows).chunk(2, dim=1)
        return self.mlp(torch.sum(scores.softmax(dim=2) * features, dim=2))
