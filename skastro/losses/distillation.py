"""Losses of self-distillation: DINO, iBOT and KoLeo, computed in float32."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from skastro import ranks

__all__ = ["dino_loss", "ibot_loss", "koleo_loss", "sinkhorn"]


def dino_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    r"""Compute the cross-entropy between the teacher's probabilities and the student's, over pairs of different views.

    .. math:: L = -\frac{1}{n |P|} \sum_{(t, s) \in P} \sum_{i=1}^{n} \sum_{k=1}^{K}
              p_{tik} \, \log \frac{e^{\ell_{sik} / \tau}}{\sum_j e^{\ell_{sij} / \tau}}

    over the pairs :math:`P` of a teacher's view and a different view of the student. No gradient flows into the
    teacher.

    Parameters
    ----------
    student : Tensor of shape (views, n, K)
        Logits :math:`\ell` of all views, the teacher's first.
    teacher : Tensor of shape (global views, n, K)
        Probabilities :math:`p` of the global views.
    temperature : float
        :math:`\tau` of the student.

    Returns
    -------
    Tensor
        A scalar; :math:`\ln K` for a student with uniform probabilities.

    Raises
    ------
    ValueError
        If there is one view alone.

    References
    ----------
    Caron et al. (2021), `arXiv:2104.14294 <https://arxiv.org/abs/2104.14294>`_, equation 3. In equation A2 of Parker et
    al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, :math:`K` is the size of the data; it should be
    the number of prototypes.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import dino_loss
    >>> dino_loss(torch.zeros(10, 4, 8), torch.full((2, 4, 8), 1 / 8), temperature=0.1).item()  # ln 8
    2.0794...
    """
    if len(student) < 2:
        raise ValueError("dino_loss compares views with each other: give two at least.")
    log_probability = log_softmax(student.float() / temperature, dim=-1)
    with torch.autocast(student.device.type, enabled=False):
        pairs = -teacher.detach().float().flatten(1) @ log_probability.flatten(1).T / student.shape[1]
    others = 1 - torch.eye(len(teacher), len(student), device=pairs.device)
    return (pairs * others).sum() / others.sum()


def ibot_loss(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    r"""Compute the cross-entropy between teacher and student over the patches that are hidden from the student.

    .. math:: L = -\frac{1}{n} \sum_{i=1}^{n} \frac{1}{|M_i|} \sum_{j \in M_i} \sum_{k=1}^{K}
              p_{ijk} \, \log \frac{e^{\ell_{ijk} / \tau}}{\sum_l e^{\ell_{ijl} / \tau}}

    over the hidden patches :math:`M_i` of each image. An image without hidden patches adds nothing. No gradient flows
    into the teacher.

    Parameters
    ----------
    student : Tensor of shape (m, K)
        Logits :math:`\ell` of the m hidden patches of all images, in the order of the mask.
    teacher : Tensor of shape (m, K)
        Probabilities :math:`p` of the same patches.
    mask : Tensor of bool of shape (n, patches)
        True where a patch is hidden.
    temperature : float
        :math:`\tau` of the student.

    Returns
    -------
    Tensor
        A scalar.

    References
    ----------
    Zhou et al. (2021), `arXiv:2111.07832 <https://arxiv.org/abs/2111.07832>`_, equation 2, with each image's patches
    averaged as in Oquab et al. (2023), `arXiv:2304.07193 <https://arxiv.org/abs/2304.07193>`_. In equation A5 of Parker
    et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, the teacher has the student's subscript.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import ibot_loss
    >>> mask = torch.tensor([[True, False, True], [True, False, False]])
    >>> ibot_loss(torch.zeros(3, 8), torch.full((3, 8), 1 / 8), mask, temperature=0.1).item()  # ln 8
    2.0794...
    """
    crossed = -(teacher.detach().float() * log_softmax(student.float() / temperature, dim=-1)).sum(dim=-1)
    weight = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return (crossed * weight[mask]).sum() / len(mask)


def koleo_loss(rows: Tensor) -> Tensor:
    r"""Compute the KoLeo loss, which moves each row away from its nearest neighbor to spread rows over all directions.

    .. math:: L = -\frac{1}{n} \sum_i \log\Bigl(\min_{j \neq i} \lVert \hat x_i - \hat x_j \rVert + 10^{-8}\Bigr),
              \qquad \hat x = x / \lVert x \rVert

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Embeddings :math:`x` of different images, at least two.

    Returns
    -------
    Tensor
        A scalar.

    References
    ----------
    Sablayrolles et al. (2019), `arXiv:1806.03198 <https://arxiv.org/abs/1806.03198>`_, equation 2. Equation A7 of
    Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, lacks the minus sign.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import koleo_loss
    >>> koleo_loss(torch.eye(4)).item()  # -ln √2
    -0.3465...
    """
    rows = normalize(rows.float(), dim=1)
    with torch.no_grad(), torch.autocast(rows.device.type, enabled=False):
        nearest = (rows @ rows.T).fill_diagonal_(-torch.inf).argmax(dim=1)
    return -torch.log((rows - rows[nearest]).norm(dim=1) + 1e-8).mean()


@torch.no_grad()
def sinkhorn(logits: Tensor, temperature: float | Tensor, *, iterations: int = 3) -> Tensor:
    r"""Turn the teacher's logits into probabilities that use all prototypes equally.

    The result is the matrix nearest to :math:`e^{\ell / \tau}` with rows that sum to 1 and columns that sum to n / K.
    Columns and rows are scaled in turn, in logarithms, rows last; columns over all ranks that share a step.

    Parameters
    ----------
    logits : Tensor of shape (n, K)
        The teacher's :math:`\ell`.
    temperature : float or Tensor
        :math:`\tau` of the teacher.
    iterations : int, default=3
        Number of scalings of columns and rows.

    Returns
    -------
    Tensor of shape (n, K)
        Rows sum to 1, columns nearly to n / K.

    References
    ----------
    Cuturi (2013), `arXiv:1306.0895 <https://arxiv.org/abs/1306.0895>`_; Caron et al. (2020), `arXiv:2006.09882
    <https://arxiv.org/abs/2006.09882>`_, section 3.1.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import sinkhorn
    >>> sinkhorn(torch.tensor([[1.0, 0.0], [1.0, 0.5]]), temperature=0.5, iterations=100).sum(dim=0)
    tensor([1., 1.])
    """
    log_probability = logits.float() / temperature
    for _ in range(iterations):
        log_probability = log_probability - ranks.logsumexp(log_probability)
        log_probability = log_probability - log_probability.logsumexp(dim=1, keepdim=True)
    return log_probability.exp()
