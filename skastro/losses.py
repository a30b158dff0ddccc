"""The objectives' formulas: pure functions of tensors, without state, in float32 whatever comes in."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

__all__ = ["byol_loss"]


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
    Grill et al. (2020), equation 2. Equation 2 of Slijepcevic et al. (2023) leaves the normalisation out of the
    print; the paper's code has it.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import byol_loss
    >>> byol_loss(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]])).item()
    2.0
    """
    return torch.mean(2 - 2 * cosine_similarity(prediction.float(), target.detach().float(), dim=-1))
