"""Distributions of the strength of a step, for cases where a pair of limits is not enough."""

from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from skastro.augment.step import PerBand, uniform

__all__ = ["Distribution", "HalfNormal", "LogNormal", "Uniform", "get_distribution", "sample"]

PerBandNumber = float | tuple[float, ...]

FINITE = PerBand(Real, None, None, closed="neither")
POSITIVE = PerBand(Real, 0, None, closed="neither")
NOT_NEGATIVE = PerBand(Real, 0, None, closed="left")


class Distribution(BaseEstimator, ABC):
    """Base class of the distributions. Each parameter is one number for all bands, or a tuple of one per band."""

    @property
    def bands(self) -> int:
        """Number of bands with parameters of their own; 0 if one distribution serves all bands."""
        return max(np.size(value) * isinstance(value, tuple | list) for value in self.get_params().values())

    @abstractmethod
    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw numbers on the generator's device.

        Parameters
        ----------
        shape : tuple of int
            ``(n,)``, or ``(n, bands)``.
        generator : torch.Generator
            Source of randomness.

        Returns
        -------
        Tensor
            Numbers of that shape.
        """

    @abstractmethod
    def largest(self) -> np.ndarray:
        """Return the upper limit, or the value that one draw in a thousand exceeds.

        Returns
        -------
        ndarray of shape () or (bands,)
        """

    def _validate_params(self) -> None:
        super()._validate_params()
        lengths = {len(value) for value in self.get_params().values() if isinstance(value, tuple | list)}
        if len(lengths) > 1:
            raise ValueError(
                f"The parameters of {type(self).__name__} must be for the same bands; they have {sorted(lengths)}."
            )
        low, high = (getattr(self, name, None) for name in ("low", "high"))
        if low is not None and high is not None and np.any(np.greater(low, high)):
            raise ValueError(f"The low limit of {type(self).__name__} must not exceed the high one; got {low}, {high}.")


class Uniform(Distribution):
    """Uniform distribution between two limits. Steps also accept the pair ``(low, high)`` in its place.

    Parameters
    ----------
    low, high : float or tuple of float
        Limits, for all bands or per band.

    Raises
    ------
    ValueError
        When a step checks the distribution: if `low` exceeds `high`, or the two are for different numbers of bands.

    Examples
    --------
    >>> from skastro.augment import Uniform
    >>> Uniform(0.0, high=(0.5, 2.0)).largest().tolist()
    [0.5, 2.0]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"low": [FINITE], "high": [FINITE]}

    def __init__(self, low: PerBandNumber = 0.0, high: PerBandNumber = 1.0) -> None:
        self.low = low
        self.high = high

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:  # noqa: D102
        return uniform(shape, as_float(self.low, generator), as_float(self.high, generator), generator)

    def largest(self) -> np.ndarray:  # noqa: D102
        return np.asarray(self.high)


class LogNormal(Distribution):
    r"""Clipped log-normal distribution with an offset: noise, seeing and dust vary over a survey in this form.

    .. math:: x = \min(\max(s\,e^{a\,\epsilon} + x_0,\ \mathrm{low}),\ \mathrm{high}), \qquad \epsilon \sim N(0, 1)

    Parameters
    ----------
    shape : float or tuple of float, default=1.0
        Standard deviation :math:`a` of the logarithm, for all bands or per band.
    loc : float or tuple of float, default=0.0
        Offset :math:`x_0`.
    scale : float or tuple of float, default=1.0
        Median :math:`s` before the offset.
    low, high : float or tuple of float, default=None
        Limits to which draws are clipped.

    Raises
    ------
    ValueError
        When a step checks the distribution: if `shape` is negative, `scale` is not positive, `low` exceeds `high`, or
        two parameters are for different numbers of bands.

    Notes
    -----
    The parameters are those of :data:`scipy.stats.lognorm`, so its fits can be used as they are.

    References
    ----------
    Stein et al. (2021), "Self-supervised similarity search for large scientific datasets", `arXiv:2110.13151
    <https://arxiv.org/abs/2110.13151>`_; its code fits noise, seeing and reddening of the Legacy Surveys in this form.

    Examples
    --------
    >>> from skastro.augment import LogNormal
    >>> round(float(LogNormal(shape=0.67306, loc=0.001146, scale=0.03338, high=1.0).largest()), 3)
    0.268
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "shape": [NOT_NEGATIVE],
        "loc": [FINITE],
        "scale": [POSITIVE],
        "low": [FINITE, None],
        "high": [FINITE, None],
    }

    def __init__(
        self,
        *,
        shape: PerBandNumber = 1.0,
        loc: PerBandNumber = 0.0,
        scale: PerBandNumber = 1.0,
        low: PerBandNumber | None = None,
        high: PerBandNumber | None = None,
    ) -> None:
        self.shape = shape
        self.loc = loc
        self.scale = scale
        self.low = low
        self.high = high

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:  # noqa: D102
        normal = torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)
        width, loc, scale, low, high = (as_float(value, generator) for value in self._numbers())
        return (scale * torch.exp(width * normal) + loc).clamp(low, high)

    def largest(self) -> np.ndarray:  # noqa: D102
        width, loc, scale, low, high = (np.asarray(value) for value in self._numbers())
        return np.clip(scale * np.exp(3.0902 * width) + loc, low, high)

    def _numbers(self) -> tuple[PerBandNumber, ...]:
        low = -torch.inf if self.low is None else self.low
        high = torch.inf if self.high is None else self.high
        return self.shape, self.loc, self.scale, low, high


class HalfNormal(Distribution):
    r"""Half-normal distribution: the absolute value of a normal number, :math:`|N(0, \mathrm{scale})|`.

    Parameters
    ----------
    scale : float or tuple of float, default=1.0
        Standard deviation of the normal number, for all bands or per band.

    Raises
    ------
    ValueError
        When a step checks the distribution: if `scale` is negative.

    Examples
    --------
    >>> from skastro.augment import HalfNormal
    >>> round(float(HalfNormal(0.13).largest()), 2)
    0.43
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"scale": [NOT_NEGATIVE]}

    def __init__(self, scale: PerBandNumber = 1.0) -> None:
        self.scale = scale

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:  # noqa: D102
        normal = torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)
        return normal.abs() * as_float(self.scale, generator)

    def largest(self) -> np.ndarray:  # noqa: D102
        return 3.2905 * np.asarray(self.scale)


def as_float(value: PerBandNumber | np.ndarray, generator: torch.Generator) -> Tensor:
    """Move one number, or one per band, to the generator's device.

    Parameters
    ----------
    value : float, tuple of float or ndarray
        Parameter of a distribution.
    generator : torch.Generator
        Generator whose device is used.

    Returns
    -------
    Tensor of shape () or (bands,)
    """
    return torch.as_tensor(value, dtype=torch.float32, device=generator.device)


def get_distribution(distribution: tuple[float, float] | Distribution) -> Distribution:
    """Turn a pair of limits into a uniform distribution; return a distribution unchanged.

    Parameters
    ----------
    distribution : tuple of float or Distribution
        Limits, or a distribution.

    Returns
    -------
    Distribution

    Examples
    --------
    >>> from skastro.augment.distributions import get_distribution
    >>> get_distribution((0.0, 0.5))
    Uniform(high=0.5)
    """
    return distribution if isinstance(distribution, Distribution) else Uniform(*distribution)


def sample(
    distribution: tuple[float, float] | Distribution, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Draw amounts that are not negative: a draw below zero counts as zero.

    Parameters
    ----------
    distribution : tuple of float or Distribution
        Limits of a uniform distribution, or any other.
    shape : tuple of int
        ``(n,)``, or ``(n, bands)``.
    generator : torch.Generator
        Source of randomness; the numbers are drawn on its device.

    Returns
    -------
    Tensor
        Numbers of that shape.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment.distributions import HalfNormal, sample
    >>> sample(HalfNormal((0.1, 0.2, 0.3)), (8, 3), torch.Generator()).shape
    torch.Size([8, 3])
    """
    return get_distribution(distribution).draw(shape, generator).clamp(min=0)
