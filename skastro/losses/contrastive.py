"""Views that agree or contrast: losses of BYOL, MoCo, SimCLR and CLIP, in float32 whatever comes in."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

__all__ = ["byol_loss", "clip_loss", "info_nce", "nt_xent"]


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Distance between the online network's predictions and the target network's projections.

    .. math:: L = \frac{1}{n} \sum_i \lVert \hat p_i - \hat z_i \rVert^2
                = \frac{1}{n} \sum_i (2 - 2\cos(p_i, z_i)), \qquad 0 \le L \le 4

    with :math:`\hat v = v / \lVert v \rVert`. No gradient flows into the target.

    Parameters
    ----------
    prediction : Tensor of shape (n, d)
        Outputs :math:`p` of the predictor.
    target : Tensor of shape (n, d)
        Outputs :math:`z` of the target projector for the other view.

    Returns
    -------
    Tensor
        A scalar; 2 for unrelated directions.

    References
    ----------
    Grill et al. (2020), equation 2. Equation 2 of Slijepcevic et al. (2023) leaves the normalization out of the
    print; the paper's code has it.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import byol_loss
    >>> byol_loss(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]])).item()
    2.0
    """
    return torch.mean(2 - 2 * cosine_similarity(prediction.float(), target.detach().float(), dim=-1))


def clip_loss(first: Tensor, second: Tensor, scale: float | Tensor) -> Tensor:
    r"""Find, by each object in one modality, the same object in the other, and back.

    .. math:: L = -\frac{1}{2n} \sum_i \left[\log \frac{e^{s(x_i, y_i)}}{\sum_j e^{s(x_i, y_j)}}
                                      + \log \frac{e^{s(x_i, y_i)}}{\sum_j e^{s(x_j, y_i)}}\right], \qquad
              s(x, y) = \sigma \, \frac{x \cdot y}{\lVert x \rVert \, \lVert y \rVert}

    Parameters
    ----------
    first, second : Tensor of shape (n, d)
        Embeddings :math:`x` and :math:`y` of the same objects in two modalities.
    scale : float or Tensor
        :math:`\sigma`, an inverse temperature; as a tensor it may be learned.

    Returns
    -------
    Tensor
        A scalar; :math:`\ln n` where all similarities are equal.

    References
    ----------
    Radford et al. (2021), figure 3. Parker et al. (2024), equations 1 and 2, print one direction only and squares of
    the norms; their code is as here.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import clip_loss
    >>> clip_loss(torch.ones(5, 3), torch.ones(5, 3), scale=15.5).item()  # ln 5
    1.6094...
    """
    first, second = (normalize(rows.float(), dim=1) for rows in (first, second))
    with torch.autocast(first.device.type, enabled=False):
        similarities = scale * (first @ second.T)
    own = torch.arange(len(first), device=first.device)
    return (cross_entropy(similarities, own) + cross_entropy(similarities.T, own)) / 2


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    r"""Find, by each query, its own key among those of other images.

    .. math:: L = -\frac{1}{n} \sum_i \log
              \frac{e^{s(q_i, k_i)}}{e^{s(q_i, k_i)} + \sum_{j=1}^{K} e^{s(q_i, k'_j)}}, \qquad
              s(a, b) = \frac{\cos(a, b)}{\tau}

    No gradient flows into keys and queue.

    Parameters
    ----------
    query : Tensor of shape (n, d)
        Projections :math:`q` of one view.
    key : Tensor of shape (n, d)
        The momentum network's projections :math:`k` of the other view.
    queue : Tensor of shape (K, d)
        Keys :math:`k'` of earlier images.
    temperature : float
        :math:`\tau`.

    Returns
    -------
    Tensor
        A scalar; :math:`\ln(K + 1)` where all similarities are equal.

    References
    ----------
    Hayat et al. (2021), equation 1; He et al. (2020), equation 1.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import info_nce
    >>> same = torch.ones(2, 4)
    >>> info_nce(same, same, torch.ones(7, 4), temperature=0.1).item()  # ln 8
    2.0794...
    """
    query, key, queue = (normalize(rows.float(), dim=1) for rows in (query, key.detach(), queue.detach()))
    own = torch.sum(query * key, dim=1, keepdim=True)
    with torch.autocast(query.device.type, enabled=False):
        similarities = torch.cat([own, query @ queue.T], dim=1) / temperature
    return cross_entropy(similarities, torch.zeros(len(query), dtype=torch.long, device=query.device))


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    r"""Find, by each of the 2n views of a batch, the other view of its image among the 2n - 1 others.

    .. math:: L = -\frac{1}{2n} \sum_{i=1}^{2n} \log \frac{e^{s(z_i, z_{i'})}}{\sum_{j \neq i} e^{s(z_i, z_j)}},
              \qquad s(a, b) = \frac{\cos(a, b)}{\tau}

    with :math:`i'` the other view of the same image.

    Parameters
    ----------
    first, second : Tensor of shape (n, d)
        Projections :math:`z` of two views.
    temperature : float
        :math:`\tau`.

    Returns
    -------
    Tensor
        A scalar; :math:`\ln(2n - 1)` where all similarities are equal.

    References
    ----------
    Chen et al. (2020), equation 1.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import nt_xent
    >>> nt_xent(torch.ones(4, 3), torch.ones(4, 3), temperature=0.5).item()  # ln 7
    1.9459...
    """
    views = normalize(torch.cat([first, second]).float(), dim=1)
    with torch.autocast(views.device.type, enabled=False):
        similarities = views @ views.T / temperature
    similarities.fill_diagonal_(-torch.inf)
    return cross_entropy(similarities, torch.arange(len(views), device=views.device).roll(len(first)))
