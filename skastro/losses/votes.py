"""Losses of volunteers' votes: likelihoods of counts, and their combination with a contrastive loss.

They are computed in float64, because log-gammas of large numbers nearly cancel, and returned in float32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["dirichlet_multinomial_nll", "hybrid_loss", "multinomial_nll", "soft_label_cross_entropy"]


def dirichlet_multinomial_nll(
    concentrations: Tensor, votes: Tensor, sizes: Sequence[int], *, reduction: str = "sum"
) -> Tensor:
    r"""Compute the negative log-likelihood of votes under a Dirichlet distribution of the answers' probabilities.

    With :math:`k_i` votes for answer :math:`i`, :math:`N = \sum_i k_i` and :math:`A = \sum_i \alpha_i`,

    .. math:: -\ln p(k \mid \alpha) = \ln\frac{\Gamma(N + A)}{\Gamma(A)\,\Gamma(N + 1)}
              + \sum_i \ln\frac{\Gamma(\alpha_i)\,\Gamma(k_i + 1)}{\Gamma(k_i + \alpha_i)}

    For a question without votes, loss and gradient are exactly 0.

    Parameters
    ----------
    concentrations : Tensor of shape (n, n_answers)
        :math:`\alpha`, positive.
    votes : Tensor of shape (n, n_answers)
        :math:`k`; zeros for a question that was not asked.
    sizes : sequence of int
        Number of answers to each question, in the order of the columns.
    reduction : {"sum", "mean", "none"}, default="sum"
        ``"sum"`` adds up the questions of a row; ``"mean"`` divides that sum by the number of all questions, asked or
        not. Both are then averaged over the rows with any vote, and are 0 if no row has one. ``"none"`` keeps one term
        per row and question.

    Returns
    -------
    Tensor
        A scalar, or of shape (n, n_questions); float64 if the concentrations are float64, else float32.

    Raises
    ------
    ValueError
        If the shapes, the sizes or the reduction are invalid.

    Notes
    -----
    Equation 1 of the paper integrates over the concentrations; it should be over the probabilities. Equation 2 adds
    likelihoods; it should be their logarithms. The published code averages over galaxies in one place, and over
    galaxies and questions (``"mean"`` here) in another; both averages include galaxies without a vote.

    Concentrations beyond some 1e8 make log-gamma functions that differ by less than their rounding.

    References
    ----------
    Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning", `arXiv:2206.11927
    <https://arxiv.org/abs/2206.11927>`_, equations 1 and 2.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import dirichlet_multinomial_nll
    >>> concentrations = torch.tensor([[2.0, 5.0, 1.0, 1.0, 1.0]])
    >>> votes = torch.tensor([[3, 1, 0, 0, 0]])
    >>> dirichlet_multinomial_nll(concentrations, votes, sizes=(2, 3), reduction="none")
    tensor([[2.3514, 0.0000]])
    """
    _check_votes(concentrations, votes, sizes, reduction)
    alpha, counts = concentrations.double(), votes.double()
    questions = _questions(sizes, alpha)
    total = counts @ questions
    answers = _log_choices(counts, alpha) @ questions
    return _reduce(_log_choices(total, alpha @ questions) - answers, total > 0, concentrations, reduction)


def hybrid_loss(contrastive: Tensor, supervised: Tensor, weight: float, *, scaling: str = "cosine") -> Tensor:
    r"""Add a supervised loss to a contrastive one, brought to a size that the contrastive one sets.

    .. math:: L = L_c + \lambda\,\frac{\operatorname{sg} s}{\operatorname{sg} L_s}\,L_s, \qquad
              s = \begin{cases} |2 - L_c| = 2\,|\cos| & \text{cosine} \\ |L_c| & \text{loss} \end{cases}

    where sg stops the gradient. The second term always has the value :math:`\lambda s`; only the direction of the
    gradient of :math:`L_s` matters. A supervised loss of 0, from a batch without labels, adds nothing.

    Parameters
    ----------
    contrastive : Tensor
        :math:`L_c`, a scalar; for ``"cosine"`` that of `byol_loss`, :math:`2 - 2\cos`.
    supervised : Tensor
        :math:`L_s`, a scalar, not negative.
    weight : float
        :math:`\lambda`.
    scaling : {"cosine", "loss"}, default="cosine"
        What sets the size: how far the views agree, so that the labels count the more the better they do; or the
        contrastive loss, so that the labels fade as it falls.

    Returns
    -------
    Tensor
        A scalar.

    Raises
    ------
    ValueError
        If the scaling is invalid.

    Notes
    -----
    Equation 3 of the paper divides by :math:`L_c`, which is negative if it is minus a cosine, and does not mention
    gradients. Its code has :math:`-\cos + \lambda\,\operatorname{sg}|\cos|\,L_s / \operatorname{sg} L_s`, and
    ``"cosine"`` is twice that, plus 2: the halves balance as there at the same :math:`\lambda`, which does not carry
    over to ``"loss"``.

    References
    ----------
    Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning", `arXiv:2206.11927
    <https://arxiv.org/abs/2206.11927>`_, equation 3.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import hybrid_loss
    >>> agreeing = torch.tensor(0.5)                                # a cosine of 0.75
    >>> hybrid_loss(agreeing, torch.tensor(50.0), weight=1.0).item()
    2.0
    >>> hybrid_loss(agreeing, torch.tensor(50.0), weight=1.0, scaling="loss").item()
    1.0
    """
    if scaling not in ("cosine", "loss"):
        raise ValueError(f"scaling must be 'cosine' or 'loss'; got {scaling!r}.")
    size, unit = contrastive.detach(), supervised.detach()
    size = (2 - size if scaling == "cosine" else size).abs()
    return contrastive + weight * torch.where(unit > 0, size / unit, 0.0) * supervised


def multinomial_nll(logits: Tensor, votes: Tensor, sizes: Sequence[int], *, reduction: str = "sum") -> Tensor:
    r"""Compute the negative log-likelihood of votes under one probability per answer.

    With :math:`k_i` votes for answer :math:`i`, :math:`N = \sum_i k_i` and the softmax :math:`p` of the question's
    logits,

    .. math:: -\ln p(k \mid p) = -\ln\Gamma(N + 1) + \sum_i \left[\ln\Gamma(k_i + 1) - k_i \ln p_i\right]

    It is the limit of `dirichlet_multinomial_nll` for large concentrations: a model that is certain of the
    probabilities.

    Parameters
    ----------
    logits : Tensor of shape (n, n_answers)
        Logarithms of the probabilities, up to a constant for each question.
    votes : Tensor of shape (n, n_answers)
        :math:`k`; zeros for a question that was not asked.
    sizes : sequence of int
        Number of answers to each question, in the order of the columns.
    reduction : {"sum", "mean", "none"}, default="sum"
        As for `dirichlet_multinomial_nll`.

    Returns
    -------
    Tensor
        A scalar, or of shape (n, n_questions); float64 if the logits are float64, else float32.

    Raises
    ------
    ValueError
        If the shapes, the sizes or the reduction are invalid.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import multinomial_nll
    >>> multinomial_nll(torch.zeros(1, 2), torch.tensor([[1, 1]]), sizes=(2,)).item()  # ln 2
    0.6931...
    """
    _check_votes(logits, votes, sizes, reduction)
    counts = votes.double()
    questions = _questions(sizes, counts)
    total = counts @ questions
    answers = (torch.lgamma(counts + 1) - counts * _log_shares(logits, counts, sizes)) @ questions
    return _reduce(answers - torch.lgamma(total + 1), total > 0, logits, reduction)


def soft_label_cross_entropy(logits: Tensor, votes: Tensor, sizes: Sequence[int], *, reduction: str = "sum") -> Tensor:
    r"""Compute the cross-entropy between the vote fractions of each question and one probability per answer.

    .. math:: L = -\sum_i \frac{k_i}{N} \ln p_i

    with the softmax :math:`p` of the question's logits. Unlike in `multinomial_nll`, a question has the same weight
    whether 5 people answered it or 50. With one vote each, it is the cross-entropy of hard labels.

    Parameters
    ----------
    logits : Tensor of shape (n, n_answers)
        Logarithms of the probabilities, up to a constant for each question.
    votes : Tensor of shape (n, n_answers)
        :math:`k`, or fractions; zeros for a question that was not asked.
    sizes : sequence of int
        Number of answers to each question, in the order of the columns.
    reduction : {"sum", "mean", "none"}, default="sum"
        As for `dirichlet_multinomial_nll`.

    Returns
    -------
    Tensor
        A scalar, or of shape (n, n_questions); float64 if the logits are float64, else float32.

    Raises
    ------
    ValueError
        If the shapes, the sizes or the reduction are invalid.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import soft_label_cross_entropy
    >>> soft_label_cross_entropy(torch.zeros(1, 2), torch.tensor([[3, 1]]), sizes=(2,)).item()  # ln 2
    0.6931...
    """
    _check_votes(logits, votes, sizes, reduction)
    counts = votes.double()
    questions = _questions(sizes, counts)
    total = counts @ questions
    terms = -(counts * _log_shares(logits, counts, sizes)) @ questions / total.masked_fill(total == 0, 1.0)
    return _reduce(terms, total > 0, logits, reduction)


def _check_votes(outputs: Tensor, votes: Tensor, sizes: Sequence[int], reduction: str) -> None:
    if outputs.shape != votes.shape or outputs.ndim != 2 or outputs.shape[1] != sum(sizes):
        raise ValueError(
            f"sizes tells of {sum(sizes)} answers, so one output and one count for each is needed in every row; "
            f"got outputs of shape {tuple(outputs.shape)} and votes of shape {tuple(votes.shape)}."
        )
    if reduction not in ("sum", "mean", "none"):
        raise ValueError(f"reduction must be 'sum', 'mean' or 'none'; got {reduction!r}.")


def _questions(sizes: Sequence[int], like: Tensor) -> Tensor:
    """Return a matrix of ones and zeros that maps answers (rows) to their questions (columns)."""
    return one_hot(torch.repeat_interleave(torch.tensor(sizes)), len(sizes)).to(like)


def _log_choices(counts: Tensor, concentrations: Tensor) -> Tensor:
    """Compute ln Γ(k + α) - ln Γ(α) - ln Γ(k + 1)."""
    return torch.lgamma(counts + concentrations) - torch.lgamma(concentrations) - torch.lgamma(counts + 1)


def _log_shares(logits: Tensor, counts: Tensor, sizes: Sequence[int]) -> Tensor:
    """Take the log-softmax of each question, where it has votes: 0 votes for an impossible answer cost nothing."""
    shares = [question.log_softmax(dim=1) for question in logits.double().split(list(sizes), dim=1)]
    return torch.cat(shares, dim=1).masked_fill(counts == 0, 0.0)


def _reduce(terms: Tensor, asked: Tensor, outputs: Tensor, reduction: str) -> Tensor:
    """Reduce the terms of the questions that were asked, in the precision of the network's outputs."""
    terms = torch.where(asked, terms, 0.0)
    if reduction != "none":
        rows = terms.sum(dim=1) if reduction == "sum" else terms.mean(dim=1)
        terms = rows.sum() / asked.any(dim=1).sum().clamp(min=1)
    return terms if outputs.dtype == torch.float64 else terms.float()
