"""Pixels that were hidden: the loss of filling them in, in float32 whatever comes in."""

import torch
from torch import Tensor

__all__ = ["masked_mse"]


def masked_mse(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    r"""Mean square error where something was hidden.

    .. math:: L = \frac{\sum_i w_i\,(\hat x_i - x_i)^2}{\sum_i w_i}

    over all pixels of the batch, with weights of zero where nothing was hidden or nothing is known.

    Parameters
    ----------
    prediction, target, weights : Tensor of one shape
        What was predicted :math:`\hat x`, what is true, and how much it counts.

    Returns
    -------
    Tensor
        A scalar; 0 if no weight is above zero.

    References
    ----------
    Parker et al. (2024), equation A1, which divides by the number of all patches; the paper's code, as here, by that of
    the hidden ones, so that the loss does not depend on how much is hidden.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import masked_mse
    >>> masked_mse(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 0.0]), torch.tensor([2.0, 0.0])).item()
    4.0
    """
    weights = weights.float()
    error = weights * (prediction.float() - target.float()) ** 2
    return error.sum() / weights.sum().clamp(min=torch.finfo(torch.float32).tiny)
