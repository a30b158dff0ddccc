"""Loss of the reconstruction of hidden pixels, computed in float32."""

import torch
from torch import Tensor

__all__ = ["masked_mse"]


def masked_mse(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    r"""Compute the weighted mean squared error over hidden pixels.

    .. math:: L = \frac{\sum_i w_i\,(\hat x_i - x_i)^2}{\sum_i w_i}

    over all pixels of the batch. Weights are zero where nothing was hidden or the truth is unknown.

    Parameters
    ----------
    prediction, target, weights : Tensor of one shape
        Predicted values :math:`\hat x`, true values :math:`x`, and weights :math:`w`.

    Returns
    -------
    Tensor
        A scalar; 0 if no weight is above zero.

    References
    ----------
    Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, equation A1, which divides by the
    number of all patches. The paper's code divides by the number of hidden patches, as here, so the loss does not
    depend on how much is hidden.

    Examples
    --------
    >>> import torch
    >>> from skastro.losses import masked_mse
    >>> masked_mse(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 0.0]), torch.tensor([2.0, 0.0])).item()
    4.0
    """
    weights = weights.float()
    known = torch.where(weights > 0, target, 0.0)  # what is unknown may be NaN
    error = weights * (prediction.float() - known.float()) ** 2
    return error.sum() / weights.sum().clamp(min=torch.finfo(torch.float32).tiny)
