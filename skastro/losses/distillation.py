"""A student and a teacher: losses of DINO, iBOT and KoLeo, in float32 whatever comes in."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

__all__ = ["dino_loss", "ibot_loss", "koleo_loss", "sinkhorn"]


def dino_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    r"""Cross-entropy between what the teacher says of each global view and the student of each other view.

    .. math:: L = -\frac{1}{n |P|} \sum_{(t, s) \in P} \sum_{i=1}^{n} \sum_{k=1}^{K}
              p_{tik} \, \log \frac{e^{\ell_{sik} / \tau}}{\sum_j e^{\ell_{sij} / \tau}}

    over the pairs :math:`P` of a teacher's and a student's view that are not the same. No gradient flows into the
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
        A scalar; :math:`\ln K` where the student tells nothing.

    References
    ----------
    Caron et al. (2021), equation 3. Equation A2 of Parker et al. (2024) has :math:`K` for the size of the data; it is
    the number of prototypes.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import dino_loss
    >>> dino_loss(torch.zeros(10, 4, 8), torch.full((2, 4, 8), 1 / 8), temperature=0.1).item()  # ln 8
    2.0794...
    """
    log_probability = log_softmax(student.float() / temperature, dim=-1)
    with torch.autocast(student.device.type, enabled=False):
        pairs = -teacher.detach().float().flatten(1) @ log_probability.flatten(1).T / student.shape[1]
    others = 1 - torch.eye(len(teacher), len(student), device=pairs.device)
    return (pairs * others).sum() / others.sum()


def ibot_loss(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    r"""Cross-entropy between what the teacher says of a patch that it sees and the student of one that is hidden.

    .. math:: L = -\frac{1}{n} \sum_{i=1}^{n} \frac{1}{|M_i|} \sum_{j \in M_i} \sum_{k=1}^{K}
              p_{ijk} \, \log \frac{e^{\ell_{ijk} / \tau}}{\sum_l e^{\ell_{ijl} / \tau}}

    over the hidden patches :math:`M_i` of each image; one without any adds nothing. No gradient flows into the teacher.

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
    Zhou et al. (2021), equation 2, with each image's patches averaged as in Oquab et al. (2023). Equation A5 of
    Parker et al. (2024) gives the teacher the student's subscript.

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
    r"""Keep each row away from its nearest neighbor, so that rows spread over all directions.

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
    Sablayrolles et al. (2019), equation 2. Equation A7 of Parker et al. (2024) lacks the minus sign.

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
    r"""Turn the teacher's logits into probabilities that use all prototypes alike.

    The nearest matrix to :math:`e^{\ell / \tau}` whose rows sum to 1 and whose columns sum to n / K: columns and rows
    are scaled in turn, in the logarithm, rows last.

    Parameters
    ----------
    logits : Tensor of shape (n, K)
        The teacher's :math:`\ell`.
    temperature : float or Tensor
        :math:`\tau` of the teacher.
    iterations : int, default=3
        Of columns and rows.

    Returns
    -------
    Tensor of shape (n, K)
        Rows sum to 1, columns nearly to n / K.

    References
    ----------
    Cuturi (2013); Caron et al. (2020), section 3.1.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import sinkhorn
    >>> sinkhorn(torch.tensor([[1.0, 0.0], [1.0, 0.5]]), temperature=0.5, iterations=100).sum(dim=0)
    tensor([1., 1.])
    """
    log_probability = logits.float() / temperature
    for _ in range(iterations):
        for axis in (0, 1):
            log_probability = log_probability - log_probability.logsumexp(dim=axis, keepdim=True)
    return log_probability.exp()
