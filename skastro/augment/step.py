"""Base classes of augmentation steps: stored parameters, fitted numbers, a random draw, a deterministic application."""

from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import Interval
from torch import Tensor

from skastro.surveys import Survey

__all__ = ["Limits", "PerBand", "PixelStep", "Step", "check_bands", "chosen", "quadrature_difference", "uniform"]


class Limits(Interval):
    """Constraint on a parameter that holds limits: an ordered pair (low, high) inside an interval.

    Parameters
    ----------
    type : {numbers.Integral, numbers.Real}
        Kind of number.
    left, right : float or None
        Bounds of the interval; None is infinity.
    closed : {"left", "right", "both", "neither"}
        Bounds that belong to the interval.

    Examples
    --------
    >>> from numbers import Real
    >>> from skastro.augment.step import Limits
    >>> positive = Limits(Real, 0, None, closed="left")
    >>> positive.is_satisfied_by((0.0, 2.0)), positive.is_satisfied_by((2.0, 1.0))
    (True, False)
    """

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether a value is such a pair.

        Parameters
        ----------
        val : object
            Value to check.

        Returns
        -------
        bool
        """
        pair = isinstance(val, tuple | list) and len(val) == 2
        return pair and all(Interval.is_satisfied_by(self, number) for number in val) and val[0] <= val[1]

    def __str__(self) -> str:
        return f"a pair (low, high) with low <= high, each {super().__str__()}"


class PerBand(Interval):
    """Constraint on a parameter that holds one number for all bands or one per band, all inside an interval.

    Parameters
    ----------
    type : {numbers.Integral, numbers.Real}
        Kind of number.
    left, right : float or None
        Bounds of the interval; None is infinity.
    closed : {"left", "right", "both", "neither"}
        Bounds that belong to the interval.

    Examples
    --------
    >>> from numbers import Real
    >>> from skastro.augment.step import PerBand
    >>> positive = PerBand(Real, 0, None, closed="left")
    >>> positive.is_satisfied_by(0.5), positive.is_satisfied_by((0.5, -1.0))
    (True, False)
    """

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether a value is such a number or sequence.

        Parameters
        ----------
        val : object
            Value to check.

        Returns
        -------
        bool
        """
        numbers = val if isinstance(val, tuple | list | np.ndarray) else [val]
        return len(numbers) > 0 and all(Interval.is_satisfied_by(self, number) for number in numbers)

    def __str__(self) -> str:
        return f"{super().__str__()}, or one for each band"


PROBABILITY = Interval(Real, 0, 1, closed="both")
NOT_NEGATIVE = Limits(Real, 0, None, closed="left")


class Step(BaseEstimator, ABC):
    """Base class of all steps.

    A step draws its parameters for a whole batch at once, on the batch's device. Applying them is deterministic and
    treats each row independently. ``_parameter_constraints`` lists the values that a step accepts.

    Attributes
    ----------
    metadata : tuple of str
        Names of the arrays that `draw` takes beside shape and generator, which come with the batch, one row per image.
    """

    metadata: ClassVar[tuple[str, ...]] = ()

    def fit(self, images: np.ndarray, survey: Survey | None = None, noise: np.ndarray | None = None) -> Self:
        """Check the parameters and fit the step on the training images.

        Parameters
        ----------
        images : ndarray of shape (n, bands, height, width)
            Training images.
        survey : Survey, default=None
            Meaning of their bands and pixels.
        noise : ndarray of shape (bands,), default=None
            Noise of each band.

        Returns
        -------
        Step
            Itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, or if something that the step needs is missing or is for other bands.
        """
        self.check()
        self.learn(images, survey, noise)
        return self

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the step, or of a distribution that it holds.

        Parameters
        ----------
        **params : dict
            Names as ``get_params`` returns them. A parameter of a distribution is set in a copy of the distribution, so
            another step that holds the same one, or has it as its default, does not change.

        Returns
        -------
        Step
            Itself.
        """
        for name, value in self.get_params(deep=False).items():
            if isinstance(value, BaseEstimator):
                setattr(self, name, clone(value))
        return super().set_params(**params)

    def check(self) -> None:
        """Check the parameters of the step, and of the distributions that it holds, against their constraints.

        Raises
        ------
        ValueError
            If one is out of range. A step without constraints accepts anything.
        """
        for part in (self, *self.get_params().values()):
            if hasattr(part, "_parameter_constraints"):
                part._validate_params()

    def learn(self, images: np.ndarray, survey: Survey | None, noise: np.ndarray | None) -> None:
        """Learn numbers from the images or the survey. By default, nothing; steps that need it override this.

        Parameters
        ----------
        images : ndarray of shape (n, bands, height, width)
            Training images.
        survey : Survey or None
            Meaning of their bands and pixels.
        noise : ndarray of shape (bands,) or None
            Noise of each band.
        """

    @abstractmethod
    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Draw parameters for a batch.

        Parameters
        ----------
        shape : tuple of int
            ``(n, bands, height, width)`` of the batch that the step will be applied to.
        generator : torch.Generator
            Source of randomness; the parameters are drawn on its device.

        Returns
        -------
        dict of Tensor
            Parameters to pass to `apply`, first axis of length `n`.
        """


class PixelStep(Step):
    """Base class of the steps that change the values of pixels without moving them."""

    @abstractmethod
    def apply(self, images: Tensor, *args: Any, **drawn: Any) -> Tensor:
        """Apply drawn parameters.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Images in flux.
        *args, **drawn : Tensor
            Output of `draw`, by name.

        Returns
        -------
        Tensor
            Images of the same shape.
        """


def check_bands(what: str, given: int, images: np.ndarray | None) -> None:
    """Raise an error if numbers are for a different number of bands than the images have.

    Parameters
    ----------
    what : str
        Step and parameter, the beginning of the error message.
    given : int
        Number of bands that the numbers are for.
    images : ndarray of shape (n, bands, height, width) or None
        Training images.

    Raises
    ------
    ValueError
        If the images have another number of bands.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.augment.step import check_bands
    >>> check_bands("Redden has extinction", 3, np.zeros((1, 5, 8, 8)))
    Traceback (most recent call last):
    ...
    ValueError: Redden has extinction for 3 bands, the images have 5.
    """
    if images is not None and given != images.shape[1]:
        raise ValueError(f"{what} for {given} bands, the images have {images.shape[1]}.")


def quadrature_difference(target: Tensor, true: Tensor) -> Tensor:
    r"""Compute the standard deviation to add in quadrature, to get from the true one to the target.

    .. math:: \sqrt{\max(\sigma^2 - \sigma_\mathrm{true}^2,\ 0)}

    Parameters
    ----------
    target, true : Tensor
        Wanted and present standard deviation.

    Returns
    -------
    Tensor
        Zero where the true one already exceeds the target.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment.step import quadrature_difference
    >>> quadrature_difference(torch.tensor([5.0, 1.0]), torch.tensor(3.0)).tolist()
    [4.0, 0.0]
    """
    return (target**2 - true**2).clamp(min=0).sqrt()


def uniform(n: int | tuple[int, ...], low: float | Tensor, high: float | Tensor, generator: torch.Generator) -> Tensor:
    """Draw `n` numbers uniformly between two limits, on the generator's device.

    Parameters
    ----------
    n : int or tuple of int
        Number of draws, or their shape.
    low, high : float or Tensor
        Limits.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    Tensor of shape (n,) or n

    Examples
    --------
    >>> import torch
    >>> from skastro.augment.step import uniform
    >>> bool(uniform(5, 2.0, 3.0, torch.Generator()).min() >= 2)
    True
    """
    return torch.rand(n, generator=generator, dtype=torch.float32, device=generator.device) * (high - low) + low


def chosen(n: int, p: float, generator: torch.Generator) -> Tensor:
    """Choose each of `n` rows with probability `p`.

    Parameters
    ----------
    n : int
        Number of rows.
    p : float
        Probability.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    Tensor of bool, shape (n,)

    Examples
    --------
    >>> import torch
    >>> from skastro.augment.step import chosen
    >>> chosen(3, 0.0, torch.Generator()).any().item()
    False
    """
    return torch.rand(n, generator=generator, dtype=torch.float32, device=generator.device) < p
