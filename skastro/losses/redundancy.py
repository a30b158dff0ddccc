"""Features that vary and say different things: losses of VICReg and Barlow Twins, in float32 whatever comes in."""

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, mse_loss, relu

__all__ = ["barlow_twins_loss", "vicreg_loss"]


def barlow_twins_loss(first: Tensor, second: Tensor, weight: float = 5e-3) -> tuple[Tensor, dict[str, Tensor]]:
    r"""Correlate each feature of one view with the same feature of the other view, and with no other one.

    .. math:: L = \sum_j (1 - C_{jj})^2 + \lambda \sum_{j \neq k} C_{jk}^2, \qquad
              C_{jk} = \frac{1}{n} \sum_i \hat z_{ij} \hat z'_{ik}

    with :math:`\hat z` standardized over the batch.

    Parameters
    ----------
    first, second : Tensor of shape (n, d)
        Projections :math:`z` and :math:`z'` of two views.
    weight : float, default=5e-3
        :math:`\lambda`.

    Returns
    -------
    loss : Tensor
        A scalar; d where all projections are the same point.
    parts : dict of Tensor
        ``on_diagonal_loss`` and ``off_diagonal_loss`` before the latter is weighted, without gradient.

    Notes
    -----
    Variances are those of a batch norm, over n and with 1e-5 added, as in the paper's code (`main.py`).

    References
    ----------
    Zbontar et al. (2021), "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
    https://arxiv.org/abs/2103.03230, equations 1 and 2.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import barlow_twins_loss
    >>> rows = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> barlow_twins_loss(rows, rows)[0].item()
    0.000
    >>> barlow_twins_loss(rows, -rows)[0].item()
    8.000
    """
    first, second = (batch_norm(rows.float(), None, None, training=True) for rows in (first, second))
    with torch.autocast(first.device.type, enabled=False):
        correlation = first.T @ second / len(first)
    diagonal = correlation.diagonal()
    parts = {
        "on_diagonal_loss": (1 - diagonal).square().sum(),
        "off_diagonal_loss": (correlation - torch.diag(diagonal)).square().sum(),
    }
    loss = parts["on_diagonal_loss"] + weight * parts["off_diagonal_loss"]
    return loss, {name: part.detach() for name, part in parts.items()}


def vicreg_loss(
    first: Tensor, second: Tensor, weights: tuple[float, float, float] = (25.0, 25.0, 1.0)
) -> tuple[Tensor, dict[str, Tensor]]:
    r"""Bring both views of an image together while features vary over the batch and do not repeat each other.

    .. math:: L = \lambda\, s(Z, Z') + \mu\, \tfrac12 [v(Z) + v(Z')] + \nu\, [c(Z) + c(Z')]

    .. math:: s = \frac{1}{n d} \sum_i \lVert z_i - z'_i \rVert^2, \quad
              v = \frac{1}{d} \sum_j \max\left(0, 1 - \sqrt{C_{jj} + 10^{-4}}\right), \quad
              c = \frac{1}{d} \sum_{j \neq k} C_{jk}^2, \quad
              C = \frac{1}{n - 1} \sum_i (z_i - \bar z)(z_i - \bar z)^\mathsf{T}

    Parameters
    ----------
    first, second : Tensor of shape (n, d)
        Projections :math:`Z` and :math:`Z'` of two views.
    weights : tuple of float, default=(25.0, 25.0, 1.0)
        :math:`\lambda, \mu, \nu`.

    Returns
    -------
    loss : Tensor
        A scalar; :math:`0.99 \mu` where all projections are the same point.
    parts : dict of Tensor
        ``invariance_loss``, ``variance_loss`` and ``covariance_loss`` before they are weighted, without gradient.

    Raises
    ------
    ValueError
        If there is one image alone.

    Notes
    -----
    Paper and code differ, and this is the code (`main_vicreg.py`): its distance is also divided by d, and its hinges
    :math:`v` are halved. The paper's equations have neither.

    References
    ----------
    Bardes, Ponce and LeCun (2022), "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
    Learning", https://arxiv.org/abs/2105.04906.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import vicreg_loss
    >>> loss, parts = vicreg_loss(torch.ones(4, 3), torch.ones(4, 3))
    >>> loss.item(), parts["variance_loss"].item()
    (24.75, 0.99)
    """
    if len(first) < 2:
        raise ValueError("vicreg_loss measures how features vary over a batch: give two images at least.")
    views = torch.stack([first, second]).float()
    centered = views - views.mean(dim=1, keepdim=True)
    with torch.autocast(views.device.type, enabled=False):
        covariance = centered.mT @ centered / (len(first) - 1)
    variance = covariance.diagonal(dim1=1, dim2=2)
    parts = {
        "invariance_loss": mse_loss(*views),
        "variance_loss": relu(1 - torch.sqrt(variance + 1e-4)).mean(),
        "covariance_loss": (covariance - torch.diag_embed(variance)).square().sum() / first.shape[1],
    }
    loss = torch.stack([weight * part for weight, part in zip(weights, parts.values(), strict=True)]).sum()
    return loss, {name: part.detach() for name, part in parts.items()}
