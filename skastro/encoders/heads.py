"""Small networks around an encoder: projection heads and input normalisation."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Normalizer", "mlp"]


def mlp(width: int, hidden: int, out: int, norm: bool = True) -> nn.Sequential:
    """Make the two-layer head of contrastive learning: linear, batch norm, ReLU, linear.

    Parameters
    ----------
    width, hidden, out : int
        Features that come in, between, and out.
    norm : bool, default=True
        Have the batch norm, as BYOL and SimCLR do; MoCo v2 does without.

    Returns
    -------
    nn.Sequential

    References
    ----------
    Grill et al. (2020), section 3.3; Chen, Fan et al. (2020), section 3.

    Examples
    --------
    >>> from skastro.encoders import mlp
    >>> len(mlp(512, 1024, 256))
    4
    """
    return nn.Sequential(
        nn.Linear(width, hidden, bias=not norm),
        nn.BatchNorm1d(hidden) if norm else nn.Identity(),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out),
    )


class Normalizer(nn.Module):
    r"""Stretch and standardise each band: :math:`(s(x) - \mu_b) / \sigma_b`.

    Parameters
    ----------
    bands : mapping of str to ndarray of shape (bands,)
        ``mean`` and ``std`` after the stretch and, for :math:`s(x) = \operatorname{asinh}(x/\beta_b)`,
        ``softening`` :math:`\beta_b`; without it :math:`s(x) = x`.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skastro.encoders import Normalizer
    >>> Normalizer({"mean": np.array([1.0]), "std": np.array([2.0])})(torch.full((1, 1, 1, 1), 5.0)).item()
    2.0
    """

    mean: Tensor
    std: Tensor
    softening: Tensor | None

    def __init__(self, bands: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        for name in ("mean", "std", "softening"):
            values = bands.get(name)
            self.register_buffer(
                name, None if values is None else torch.tensor(values, dtype=torch.float32)[:, None, None]
            )

    def forward(self, images: Tensor) -> Tensor:
        """Normalise a batch.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Flux or 8-bit pixels.

        Returns
        -------
        Tensor of float32
        """
        images = images.float()
        if self.softening is not None:
            images = torch.asinh(images / self.softening)
        return (images - self.mean) / self.std
