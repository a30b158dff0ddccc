"""An encoder for supervised learning from spectra."""

from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["ConvAttention"]

CHANNELS = (8, 16, 16, 32)
KERNELS = (5, 10, 20, 40)  # pixels
KEPT = (5, 10, 20, 1)  # of how many pixels the largest goes on
HIDDEN = 32


class ConvAttention(nn.Module):
    r"""Four convolutions, of whose last features one half weighs the places of the other, and two layers behind.

    With :math:`h` and :math:`a` the two halves of the 32 features at each place :math:`t`, what goes on is

    .. math:: \sum_t \operatorname{softmax}_t(a_t) \, h_t

    Parameters
    ----------
    channels : int, default=4
        Numbers per pixel that come in: flux, whether it is seen, and the two numbers of the spectrum's level.

    References
    ----------
    Parker et al. (2024), appendix B5: the supervised baseline for spectra, after Melchior et al. (2023) and Serrà et
    al. (2018). Kernels and pooling are those of its code; the paper does not print them. Dropout, of rate zero
    there by default, is left out. Theirs sees the flux alone.

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
            Standardized flux, zero where it is not seen.
        seen : Tensor of bool, shape (n, n_wavelengths)
            False where a pixel is missing.
        level : Tensor of shape (n, 2)
            What stands for each spectrum's mean and scale.

        Returns
        -------
        Tensor of shape (n, 32)
        """
        rows = torch.cat(
            [flux[:, None], seen.to(flux)[:, None], level[:, :, None].expand(-1, -1, flux.shape[1])], dim=1
        )
        features, scores = self.stages(rows).chunk(2, dim=1)
        return self.mlp(torch.sum(scores.softmax(dim=2) * features, dim=2))
