"""Small networks around an encoder: projection heads and input normalization."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from skastro import ranks

__all__ = ["Normalizer", "PrototypeHead", "VoteHead", "expander", "mlp"]


def expander(width: int, hidden: int, out: int) -> nn.Sequential:
    """Make the three-layer head of feature decorrelation: twice linear, batch norm, ReLU; then linear.

    Parameters
    ----------
    width, hidden, out : int
        Number of input, hidden, and output features.

    Returns
    -------
    nn.Sequential

    References
    ----------
    Bardes et al. (2022), `arXiv:2105.04906 <https://arxiv.org/abs/2105.04906>`_; Zbontar et al. (2021),
    `arXiv:2103.03230 <https://arxiv.org/abs/2103.03230>`_. No layer has a bias, because batch norm or the loss would
    remove it.

    Examples
    --------
    >>> from skastro.encoders import expander
    >>> len(expander(512, 1024, 1024))
    7
    """
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out, bias=False),
    )


def mlp(width: int, hidden: int, out: int, *, norm: bool = True) -> nn.Sequential:
    """Make the two-layer head of contrastive learning: linear, batch norm, ReLU, linear.

    Parameters
    ----------
    width, hidden, out : int
        Number of input, hidden, and output features.
    norm : bool, default=True
        If True, use batch norm, as in BYOL and SimCLR; MoCo v2 does not use it.

    Returns
    -------
    nn.Sequential

    References
    ----------
    Grill et al. (2020), "Bootstrap your own latent", `arXiv:2006.07733 <https://arxiv.org/abs/2006.07733>`_, section
    3.3; Chen, Fan et al. (2020), "Improved Baselines with Momentum Contrastive Learning", `arXiv:2003.04297
    <https://arxiv.org/abs/2003.04297>`_, section 3.

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


class PrototypeHead(nn.Module):
    r"""Head of DINO: the cosine similarity of each row to many learned directions, the prototypes.

    Three linear layers, with batch norm (or none) and GELU between them, compute a bottleneck :math:`b`, and

    .. math:: \ell_k = \cos(b, v_k), \qquad k = 1 \dots K.

    Parameters
    ----------
    width, hidden, bottleneck : int
        Number of input features, of hidden features, and of features that are compared.
    prototypes : int
        Number of prototypes :math:`K`.
    norm : bool, default=True
        If True, use batch norm; DINOv2 does not use it.

    Notes
    -----
    Without batch norm, features that an untrained encoder has in common for all images dominate the bottleneck. The
    teacher's output is then nearly the same for all images, and a short training stays at chance.

    References
    ----------
    Caron et al. (2021), "Emerging Properties in Self-Supervised Vision Transformers", `arXiv:2104.14294
    <https://arxiv.org/abs/2104.14294>`_, section 3.1 and appendix C: a weight-normalized last layer of norm 1 after an
    L2 normalization is the cosine. Batch norm is an option there.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import PrototypeHead
    >>> PrototypeHead(64, 128, 32, 1000)(torch.rand(2, 64)).shape
    torch.Size([2, 1000])
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int, norm: bool = True) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden, bias=not norm),
            nn.BatchNorm1d(hidden) if norm else nn.Identity(),
            nn.GELU(),
            nn.Linear(hidden, hidden, bias=not norm),
            nn.BatchNorm1d(hidden) if norm else nn.Identity(),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        self.prototypes = nn.Parameter(nn.functional.normalize(torch.randn(prototypes, bottleneck), dim=1))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute the cosine similarity of rows to the prototypes, in float32.

        Parameters
        ----------
        rows : Tensor of shape (n, width)
            Features.

        Returns
        -------
        Tensor of shape (n, prototypes)
            Similarities from -1 to 1.
        """
        bottleneck = nn.functional.normalize(self.mlp(rows).float(), dim=-1)
        with torch.autocast(rows.device.type, enabled=False):
            return bottleneck @ nn.functional.normalize(self.prototypes, dim=1).T


class VoteHead(nn.Module):
    r"""Predict the concentrations of all answers' Dirichlet distributions: dropout, a linear layer, a scaled sigmoid.

    .. math:: \alpha = 1 + 100\,\sigma(W x + b), \qquad 1 < \alpha < 101

    Parameters
    ----------
    width : int
        Number of input features.
    n_answers : int
        Number of answers to all questions.
    generator : torch.Generator
        Generator on the CPU. Initial weights and dropout are drawn from it alone, so that the random numbers of
        everything trained beside the head do not change.
    dropout : float, default=0.2
        Fraction of the features that are dropped for each row in training.

    Notes
    -----
    The paper states concentrations from 1 to 100; its code adds 1 to 100 times the sigmoid, as here.

    References
    ----------
    Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning", `arXiv:2206.11927
    <https://arxiv.org/abs/2206.11927>`_, section 3.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import VoteHead
    >>> VoteHead(512, 206, torch.Generator().manual_seed(0))(torch.rand(2, 512)).shape
    torch.Size([2, 206])
    """

    def __init__(self, width: int, n_answers: int, generator: torch.Generator, dropout: float = 0.2) -> None:
        super().__init__()
        self.linear = nn.utils.skip_init(nn.Linear, width, n_answers)
        for parameter in self.linear.parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator)
        self.generator = generator
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        """Compute concentrations in float32.

        Parameters
        ----------
        features : Tensor of shape (n, width)
            Output of an encoder.

        Returns
        -------
        Tensor of shape (n, n_answers)
        """
        if self.training:
            kept = ranks.drawn(self._draw, len(features)) >= self.dropout
            features = features * kept.to(features) / (1 - self.dropout)
        return 1 + 100 * torch.sigmoid(self.linear(features).float())

    def _draw(self, n: int) -> Tensor:
        return torch.rand((n, self.linear.in_features), generator=self.generator)


class Normalizer(nn.Module):
    r"""Stretch and standardize each band: :math:`(s(x) - \mu_b) / \sigma_b`.

    Parameters
    ----------
    bands : mapping of str to ndarray of shape (bands,)
        ``mean`` and ``std`` after the stretch and, for :math:`s(x) = \operatorname{asinh}(x/\beta_b)`,
        ``softening`` :math:`\beta_b`. Without ``softening``, :math:`s(x) = x`.

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
                name, None if values is None else torch.tensor(values, dtype=torch.float32, device="cpu")[:, None, None]
            )

    def forward(self, images: Tensor) -> Tensor:
        """Normalize a batch.

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
