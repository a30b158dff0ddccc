"""Losses that compare the views of an image: BYOL, MoCo, SimCLR and CLIP, computed in float32."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

__all__ = ["byol_loss", "clip_loss", "info_nce", "nt_xent"]


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Compute the distance between the online network's predictions and the target network's projections.

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
    Grill et al. (2020), `arXiv:2006.07733 <https://arxiv.org/abs/2006.07733>`_, equation 2. Equation 2 of Slijepcevic
    et al. (2023), `arXiv:2305.16127 <https://arxiv.org/abs/2305.16127>`_, is printed without the normalization; the
    paper's code has it.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import byol_loss
    >>> byol_loss(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]])).item()
    2.0
    """
    return torch.mean(2 - 2 * cosine_similarity(prediction.float(), target.detach().float(), dim=-1))


def clip_loss(first: Tensor, second: Tensor, scale: float | Tensor) -> Tensor:
    r"""Compute the symmetric contrastive loss of CLIP, which pairs the same objects in two modalities.

    .. math:: L = -\frac{1}{2n} \sum_i \left[\log \frac{e^{s(x_i, y_i)}}{\sum_j e^{s(x_i, y_j)}}
                                      + \log \frac{e^{s(x_i, y_i)}}{\sum_j e^{s(x_j, y_i)}}\right], \qquad
              s(x, y) = \sigma \, \frac{x \cdot y}{\lVert x \rVert \, \lVert y \rVert}

    Parameters
    ----------
    first, second : Tensor of shape (n, d)
        Embeddings :math:`x` and :math:`y` of the same objects in two modalities.
    scale : float or Tensor
        :math:`\sigma`, an inverse temperature. A tensor may be learned.

    Returns
    -------
    Tensor
        A scalar; :math:`\ln n` where all similarities are equal.

    References
    ----------
    Radford et al. (2021), `arXiv:2103.00020 <https://arxiv.org/abs/2103.00020>`_, figure 3. Equations 1 and 2 of Parker
    et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, have one direction only and the squares of
    the norms; their code computes the loss as here.

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
    r"""Compute the InfoNCE loss: classify each query's own key among the keys of other images.

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
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, equation 1; He et al. (2020),
    `arXiv:1911.05722 <https://arxiv.org/abs/1911.05722>`_, equation 1.

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
    r"""Compute the NT-Xent loss: classify, for each of the 2n views, the other view of its image among 2n - 1 views.

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
    Chen et al. (2020), `arXiv:2002.05709 <https://arxiv.org/abs/2002.05709>`_, equation 1.

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
