"""Fixed stretches: how the pixels of published networks were shown to them. Nothing is learned from the images."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from skastro.augment.step import PerBand

__all__ = ["Lupton", "PercentileStretch", "Standardize", "Stretch"]

POSITIVE = Interval(Real, 0, None, closed="neither")


class Stretch(BaseEstimator, ABC):
    """Base class of the fixed stretches that ``normalize=`` takes."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    def module(self, bands: int, unit: float = 1.0) -> nn.Module:
        """Check the parameters against the images, and make the module that the encoder stands behind.

        Parameters
        ----------
        bands : int
            Bands of the images.
        unit : float, default=1.0
            What the pixels have been divided by; the stretch is of pixels in their own unit.

        Returns
        -------
        nn.Module
            From images (n, bands, height, width) to float32 of the same shape.

        Raises
        ------
        ValueError
            If a parameter is out of range, or has values for other bands.
        """
        self._validate_params()
        for name, value in self.get_params().items():
            if isinstance(value, Sequence) and not isinstance(value, str) and len(value) != bands:
                raise ValueError(f"{type(self).__name__} has {name} for {len(value)} bands, the images have {bands}.")
        return _Stretched(self, unit)

    @abstractmethod
    def stretch(self, images: Tensor) -> Tensor:
        """Stretch images.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Pixels in their own unit, floating point.

        Returns
        -------
        Tensor of the same shape
        """


class _Stretched(nn.Module):
    """A stretch as a module of networks."""

    def __init__(self, stretch: Stretch, unit: float) -> None:
        super().__init__()
        self.stretch = stretch
        self.unit = unit

    def forward(self, images: Tensor) -> Tensor:
        images = images if images.is_floating_point() else images.float()
        return self.stretch.stretch(images if self.unit == 1 else images * self.unit)


class Standardize(Stretch):
    r"""Standardize pixels by given numbers: :math:`(x - \mu_b) / \sigma_b`.

    Parameters
    ----------
    mean : float or sequence of float, default=0.0
        :math:`\mu`, for all bands or each, in the unit of the pixels.
    std : float or sequence of float, default=255.0
        :math:`\sigma`. Alone, it brings images of 8 bits to 0 … 1.

    Examples
    --------
    >>> import torch
    >>> from skastro.stretches import Standardize
    >>> Standardize(std=255).module(bands=1)(torch.full((1, 1, 1, 1), 51, dtype=torch.uint8)).item()
    0.2
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "mean": [PerBand(Real, None, None, closed="neither")],
        "std": [PerBand(Real, 0, None, closed="neither")],
    }

    def __init__(self, mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 255.0) -> None:
        self.mean = mean
        self.std = std

    def stretch(self, images: Tensor) -> Tensor:  # noqa: D102
        return (images - _column(self.mean, images)) / _column(self.std, images)


class Lupton(Stretch):
    r"""Map the flux of three bands to red, green and blue between 0 and 1, as color pictures of surveys are made.

    With :math:`y_b = s_b x_b + m`, the intensity :math:`I`, the mean over the bands of :math:`\max(0, y_b)`, and
    :math:`F = \operatorname{asinh}(Q I) / \sqrt Q`:

    .. math:: \text{viewer: } \operatorname{clip}(y_b F / I,\ 0,\ 1) \qquad
              \text{stein: } \operatorname{clip}(x_b (s_b + m F / I),\ 0,\ 1)

    Parameters
    ----------
    scales : sequence of float, default=(6.0, 3.4, 2.2)
        :math:`s` of each band, in the order of the images: those of g, r and z of the Legacy Surveys in nanomaggies.
    m : float, default=0.03
        :math:`m`, added to each band.
    Q : float, default=20.0
        :math:`Q`, how soon bright pixels are compressed.
    formula : {"viewer", "stein"}, default="viewer"
        That of the Legacy Surveys' viewer and of AstroCLIP, or that of the code of Stein et al., where a bracket stands
        elsewhere.
    reverse : bool, default=True
        Give the bands in reversed order, the reddest first, as a picture has them.

    References
    ----------
    Lupton et al. (2004), "Preparing Red-Green-Blue Images from CCD Data", `arXiv:astro-ph/0312483
    <https://arxiv.org/abs/astro-ph/0312483>`_; Stein et al. (2021), "Self-supervised similarity search for large
    scientific datasets", `arXiv:2110.13151 <https://arxiv.org/abs/2110.13151>`_; Parker et al. (2024),
    `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_.

    Examples
    --------
    >>> import torch
    >>> from skastro.stretches import Lupton
    >>> flux = torch.tensor([0.01, 0.02, 0.04]).view(1, 3, 1, 1)
    >>> [Lupton(formula=formula).module(bands=3)(flux).flatten().tolist() for formula in ("viewer", "stein")]
    [[0.3780..., 0.3139..., 0.2883...], [0.0918..., 0.0699..., 0.0609...]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "scales": [PerBand(Real, 0, None, closed="neither")],
        "m": [Interval(Real, 0, None, closed="left")],
        "Q": [POSITIVE],
        "formula": [StrOptions({"viewer", "stein"})],
        "reverse": ["boolean"],
    }

    def __init__(
        self,
        scales: Sequence[float] = (6.0, 3.4, 2.2),
        *,
        m: float = 0.03,
        Q: float = 20.0,
        formula: str = "viewer",
        reverse: bool = True,
    ) -> None:
        self.scales = scales
        self.m = m
        self.Q = Q
        self.formula = formula
        self.reverse = reverse

    def stretch(self, images: Tensor) -> Tensor:  # noqa: D102
        scales = _column(self.scales, images)
        raised = images * scales + self.m
        intensity = raised.clamp(min=0).mean(dim=1, keepdim=True)
        intensity = torch.where(intensity == 0, 1e-6, intensity)
        ratio = torch.asinh(self.Q * intensity) / (self.Q**0.5 * intensity)
        colors = raised * ratio if self.formula == "viewer" else images * (scales + self.m * ratio)
        return (colors.flip(1) if self.reverse else colors).clamp(0, 1)


class PercentileStretch(Stretch):
    r"""Bring each image between two of its percentiles to 0 … 1, and lift what is faint by an asinh.

    .. math:: y = \operatorname{clip}\frac{x - p_\mathrm{low}}{p_\mathrm{high} - p_\mathrm{low}}, \qquad
              \frac{\operatorname{asinh}(y / a)}{\operatorname{asinh}(1 / a)}

    The way to show flux to a network of color pictures, such as Zoobot. All bands of an image share the percentiles, so
    that its colors stay.

    Parameters
    ----------
    low : float, default=1.0
        Percentile that becomes 0.
    high : float, default=99.5
        Percentile that becomes 1.
    softening : float or None, default=0.1
        :math:`a`: below it the stretch is linear. None leaves out the asinh.

    Examples
    --------
    >>> import torch
    >>> from skastro.stretches import PercentileStretch
    >>> pixels = torch.arange(5.0).view(1, 1, 1, 5)
    >>> PercentileStretch(low=0, high=100, softening=None).module(bands=1)(pixels).flatten().tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "low": [Interval(Real, 0, 100, closed="left")],
        "high": [Interval(Real, 0, 100, closed="right")],
        "softening": [POSITIVE, None],
    }

    def __init__(self, low: float = 1.0, high: float = 99.5, *, softening: float | None = 0.1) -> None:
        self.low = low
        self.high = high
        self.softening = softening

    def module(self, bands: int, unit: float = 1.0) -> nn.Module:  # noqa: D102
        stretched = super().module(bands, unit)
        if self.low >= self.high:
            raise ValueError(f"PercentileStretch needs low < high; got {self.low} and {self.high}.")
        return stretched

    def stretch(self, images: Tensor) -> Tensor:  # noqa: D102
        places = images.new_tensor([self.low / 100, self.high / 100])
        low, high = torch.quantile(images.flatten(1), places, dim=1).view(2, -1, 1, 1, 1)
        images = ((images - low) / torch.where(high > low, high - low, 1)).clamp(0, 1)
        if self.softening is None:
            return images
        return torch.asinh(images / self.softening) / torch.asinh(images.new_tensor(1 / self.softening))


def _column(values: float | Sequence[float], images: Tensor) -> Tensor:
    return images.new_tensor(values).view(-1, 1, 1)
