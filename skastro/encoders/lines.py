"""An encoder for supervised learning from spectra, each an image of one line."""

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
    bands : int
        Rows of numbers that come in, one for flux alone.

    References
    ----------
    Parker et al. (2024), appendix B5: the supervised baseline for spectra, after Melchior et al. (2023) and Serrà et
    al. (2018). Kernels and pooling are those of its code; the paper does not print them. Dropout, of rate zero
    there by default, is left out.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import ImageEncoder
    >>> encoder = ImageEncoder("conv-attention").build(bands=1, size=(1, 7781))
    >>> encoder(torch.zeros(2, 1, 1, 7781)).shape
    torch.Size([2, 32])
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv1d(old, new, kernel, padding=kernel // 2), nn.PReLU(new), nn.MaxPool1d(kept, ceil_mode=True)
                )
                for (old, new), kernel, kept in zip(pairwise((bands, *CHANNELS)), KERNELS, KEPT, strict=True)
            )
        )
        half = CHANNELS[-1] // 2
        self.mlp = nn.Sequential(nn.Linear(half, HIDDEN), nn.PReLU(HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.PReLU(HIDDEN))

    def forward(self, images: Tensor) -> Tensor:
        """Embed spectra.

        Parameters
        ----------
        images : Tensor of shape (n, bands, 1, n_wavelengths)
            Normalized spectra.

        Returns
        -------
        Tensor of shape (n, 32)
        """
        features, scores = self.stages(images.squeeze(2)).chunk(2, dim=1)
        return self.mlp(torch.sum(scores.softmax(dim=2) * features, dim=2))
