"""Augmentations by effects of the detector: noise, background, missing bands, trails, hot pixels."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from skastro._warning import warn
from skastro.augment.distributions import Distribution, sample
from skastro.augment.step import (
    NOT_NEGATIVE,
    PROBABILITY,
    Limits,
    PerBand,
    PixelStep,
    check_bands,
    chosen,
    quadrature_difference,
    uniform,
)
from skastro.pixels import measure_bands, unit_of
from skastro.surveys import Survey

__all__ = ["Background", "BandDropout", "GaussianNoise", "HotPixels", "LevelStep", "SatelliteTrail"]

LEVEL = PerBand(Real, 0, None, closed="left")
FINITE = Limits(Real, None, None, closed="neither")


class LevelStep(PixelStep):
    """Base class of the steps whose strength is in units of the level of each band.

    The parameter `sigma` holds the level: one number for all bands, or one per band. None takes the noise measured on
    the training images.
    """

    sigma: Any

    metadata: ClassVar[tuple[str, ...]] = ("unit",)
    unit_ = 1.0

    def learn(self, images: np.ndarray, survey: Survey | None, noise: np.ndarray | None) -> None:  # noqa: D102
        self.unit_ = unit_of(images)
        self.sigma_ = self._numbers("sigma", images, noise)
        if self.sigma is None and not np.any(self.sigma_):
            warn(
                f"The noise measured on these images is zero (are they clipped?), so {type(self).__name__} adds "
                "nothing; give it sigma=."
            )

    def _numbers(self, name: str, images: np.ndarray, noise: np.ndarray | None) -> np.ndarray | None:
        """Return the levels that a parameter stands for; None if they are to be drawn."""
        given = getattr(self, name)
        if isinstance(given, Distribution):
            numbers, bands = None, given.bands
        else:
            if given is None or isinstance(given, str):
                given = measure_bands(images)["noise"] if noise is None else noise
            numbers = np.atleast_1d(np.asarray(given, dtype=float))
            bands = len(numbers)
        if bands > 1:
            check_bands(f"{type(self).__name__} has {name}", bands, images)
        return numbers

    def _draw_levels(
        self, name: str, shape: tuple[int, ...], generator: torch.Generator, unit: Tensor | None
    ) -> Tensor:
        """Return the level of each band of each image, (n, bands): drawn, given, or measured in fit."""
        given = getattr(self, name)
        if given is None or isinstance(given, str):
            measured = torch.as_tensor(getattr(self, f"{name}_"), dtype=torch.float32, device=generator.device)
            return measured.expand(shape[:2])
        if isinstance(given, Distribution):
            level = sample(given, shape[:2], generator) / self.unit_
        else:
            stated = np.asarray(given, dtype=float) / self.unit_
            level = torch.as_tensor(stated, dtype=torch.float32, device=generator.device).expand(shape[:2])
        return level if unit is None else level / unit.to(generator.device)


class GaussianNoise(LevelStep):
    r"""White Gaussian noise in each band: a random multiple of a level, or the noise missing to reach it.

    .. math:: x'_b = x_b + \sqrt{\max\left((u\,\sigma_b)^2 - \sigma_{\mathrm{true},b}^2,\ 0\right)}\ \epsilon,
        \qquad u \sim U(\mathrm{scale}), \quad \epsilon \sim N(0, 1)

    Parameters
    ----------
    scale : tuple of float, default=None
        Limits of the multiple :math:`u`, drawn once per image. None means (1.0, 3.0), or exactly 1 if `sigma` is a
        distribution.
    sigma : float, sequence of float or Distribution, default=None
        Level :math:`\sigma_b` in the images' units, for all bands or per band; None takes the noise measured on
        the training images (1.4826 × median absolute deviation of each band). With a distribution, a level is drawn
        for each band of each image.
    true : "measured", float, sequence of float or Distribution, default=None
        Noise :math:`\sigma_\mathrm{true}` that the images already have, read like `sigma`. The drawn noise is then the
        target, and only the difference is added. None assumes images free of noise: all of it is added. A step before
        this one that interpolates has made that noise less: bilinear turns leave two thirds of it.
    p : float, default=1.0
        Probability that an image receives noise.

    Attributes
    ----------
    sigma_ : ndarray of shape (bands,) or (1,), or None
        Level in use; None if it is drawn.
    true_ : ndarray of shape (bands,) or (1,), or None
        Noise that the images have; None if it is drawn or not used.

    Raises
    ------
    ValueError
        If `sigma` or `true` has neither one level nor one per band, or a parameter is out of range.

    Warns
    -----
    UserWarning
        If the measured noise is zero, as in images clipped at the noise: the step then does nothing.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, section 3: aggregate MAD of each
    channel times U(1, 3), without the 1.4826. Stein et al. (2021), `arXiv:2110.13151
    <https://arxiv.org/abs/2110.13151>`_; its code draws the noise of the image and of the target from fits to the
    survey.

    Examples
    --------
    >>> from skastro.augment import GaussianNoise
    >>> GaussianNoise(sigma=0.1).fit(None).sigma_.tolist()
    [0.1]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "scale": [NOT_NEGATIVE, None],
        "sigma": [LEVEL, Distribution, None],
        "true": [StrOptions({"measured"}), LEVEL, Distribution, None],
        "p": [PROBABILITY],
    }

    def __init__(
        self,
        scale: tuple[float, float] | None = None,
        *,
        sigma: float | Sequence[float] | Distribution | None = None,
        true: str | float | Sequence[float] | Distribution | None = None,
        p: float = 1.0,
    ) -> None:
        self.scale = scale
        self.sigma = sigma
        self.true = true
        self.p = p

    def learn(self, images: np.ndarray, survey: Survey | None, noise: np.ndarray | None) -> None:  # noqa: D102
        super().learn(images, survey, noise)
        self.true_ = None if self.true is None else self._numbers("true", images, noise)

    def draw(  # noqa: D102
        self, shape: tuple[int, ...], generator: torch.Generator, unit: Tensor | None = None
    ) -> dict[str, Tensor]:
        noisy = chosen(shape[0], self.p, generator)[:, None]
        default = (1.0, 1.0) if isinstance(self.sigma, Distribution) else (1.0, 3.0)
        multiple = uniform((shape[0], 1), *(default if self.scale is None else self.scale), generator)
        sigma = multiple * self._draw_levels("sigma", shape, generator, unit)
        if self.true is not None:
            sigma = quadrature_difference(sigma, self._draw_levels("true", shape, generator, unit))
        return {
            "sigma": torch.where(noisy, sigma, 0.0),
            "field": torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device),
        }

    def apply(self, images: Tensor, sigma: Tensor, field: Tensor) -> Tensor:  # noqa: D102
        return torch.addcmul(images, sigma[:, :, None, None], field)


class Background(LevelStep):
    r"""A constant in each band of each image, as left by an imperfect sky subtraction.

    .. math:: x'_b = x_b + u_b\,\sigma_b, \qquad u_b \sim U(\mathrm{scale})

    Parameters
    ----------
    scale : tuple of float, default=(-1.0, 1.0)
        Limits of the multiple :math:`u_b`, drawn for each image and band.
    sigma : float or sequence of float, default=None
        Level :math:`\sigma_b` in the images' units, for all bands or per band; None takes the noise measured on
        the training images.
    p : float, default=1.0
        Probability that an image receives a background.

    Attributes
    ----------
    sigma_ : ndarray of shape (bands,) or (1,)
        Level in use.

    Raises
    ------
    ValueError
        If `sigma` holds neither one level nor one per band, or a parameter is out of range.

    Warns
    -----
    UserWarning
        If the measured noise is zero: the step then does nothing.

    Examples
    --------
    >>> from skastro.augment import Background
    >>> Background(scale=(0.0, 2.0), sigma=(0.1, 0.3)).fit(None).sigma_.tolist()
    [0.1, 0.3]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "scale": [FINITE],
        "sigma": [LEVEL, None],
        "p": [PROBABILITY],
    }

    def __init__(
        self,
        scale: tuple[float, float] = (-1.0, 1.0),
        *,
        sigma: float | Sequence[float] | None = None,
        p: float = 1.0,
    ) -> None:
        self.scale = scale
        self.sigma = sigma
        self.p = p

    def draw(  # noqa: D102
        self, shape: tuple[int, ...], generator: torch.Generator, unit: Tensor | None = None
    ) -> dict[str, Tensor]:
        flux = uniform(shape[:2], *self.scale, generator) * self._draw_levels("sigma", shape, generator, unit)
        return {"flux": torch.where(chosen(shape[0], self.p, generator)[:, None], flux, 0.0)}

    def apply(self, images: Tensor, flux: Tensor) -> Tensor:  # noqa: D102
        return images + flux[:, :, None, None]


class BandDropout(PixelStep):
    """Missing bands: each band is set to zero with probability `p`, but never all bands of an image.

    If all bands of an image would be dropped, one of them, drawn uniformly, stays. With one band, nothing happens.

    Parameters
    ----------
    p : float, default=0.1
        Probability that a band of an image is set to zero.

    Raises
    ------
    ValueError
        If `p` is not a probability.

    Examples
    --------
    >>> from skastro.augment import BandDropout
    >>> BandDropout(p=0.2).p
    0.2
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"p": [PROBABILITY]}

    def __init__(self, p: float = 0.1) -> None:
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n, bands = shape[:2]
        dropped = uniform((n, bands), 0, 1, generator) < self.p
        kept = torch.randint(bands, (n, 1), generator=generator, device=generator.device)
        stays = torch.arange(bands, device=generator.device) == kept
        return {"dropped": dropped & ~(stays & dropped.all(dim=1, keepdim=True))}

    def apply(self, images: Tensor, dropped: Tensor) -> Tensor:  # noqa: D102
        return torch.where(dropped[:, :, None, None], 0.0, images)


class SatelliteTrail(LevelStep):
    r"""One straight trail across the image, at a random place and angle, scaled in each band by its level.

    .. math:: x'_b = x_b + u\,\sigma_b\,e^{-d^2 / 2 w^2}, \qquad u \sim U(\mathrm{brightness})

    with :math:`d` the distance of a pixel from the line, which passes through a point drawn uniformly within the image
    at an angle drawn uniformly from 0 to 180°.

    Parameters
    ----------
    brightness : tuple of float, default=(2.0, 10.0)
        Limits of the height :math:`u` of the trail, in units of the band's level, drawn once per image.
    width : float, default=1.0
        Standard deviation :math:`w` of its profile in pixels.
    sigma : float or sequence of float, default=None
        Level :math:`\sigma_b` in the images' units, for all bands or per band; None takes the noise measured on
        the training images.
    p : float, default=0.1
        Probability that an image has a trail.

    Attributes
    ----------
    sigma_ : ndarray of shape (bands,) or (1,)
        Level in use.

    Raises
    ------
    ValueError
        If `sigma` holds neither one level nor one per band, or a parameter is out of range.

    Warns
    -----
    UserWarning
        If the measured noise is zero: the step then does nothing.

    Examples
    --------
    >>> from skastro.augment import SatelliteTrail
    >>> SatelliteTrail(width=2.0).brightness
    (2.0, 10.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "brightness": [NOT_NEGATIVE],
        "width": [Interval(Real, 0, None, closed="neither")],
        "sigma": [LEVEL, None],
        "p": [PROBABILITY],
    }

    def __init__(
        self,
        brightness: tuple[float, float] = (2.0, 10.0),
        *,
        width: float = 1.0,
        sigma: float | Sequence[float] | None = None,
        p: float = 0.1,
    ) -> None:
        self.brightness = brightness
        self.width = width
        self.sigma = sigma
        self.p = p

    def draw(  # noqa: D102
        self, shape: tuple[int, ...], generator: torch.Generator, unit: Tensor | None = None
    ) -> dict[str, Tensor]:
        n, _, height, width = shape
        flux = uniform((n, 1), *self.brightness, generator) * self._draw_levels("sigma", shape, generator, unit)
        return {
            "flux": torch.where(chosen(n, self.p, generator)[:, None], flux, 0.0),
            "x": uniform(n, 0, width, generator) - width / 2,
            "y": uniform(n, 0, height, generator) - height / 2,
            "angle": uniform(n, 0, torch.pi, generator),
        }

    def apply(self, images: Tensor, flux: Tensor, x: Tensor, y: Tensor, angle: Tensor) -> Tensor:  # noqa: D102
        height, width = images.shape[2:]
        down = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2 - y[:, None, None]
        across = torch.arange(width, device=images.device) - (width - 1) / 2 - x[:, None, None]
        sine, cosine = torch.sin(angle)[:, None, None], torch.cos(angle)[:, None, None]
        profile = torch.exp(-0.5 * ((cosine * down - sine * across) / self.width) ** 2)
        return torch.addcmul(images, flux[:, :, None, None], profile[:, None])


class HotPixels(LevelStep):
    r"""Single bright pixels, each in one band, like hot pixels and cosmic rays.

    Parameters
    ----------
    n : int, default=3
        Number of pixels per image. Each falls anywhere, in any band; two at the same place add up.
    brightness : tuple of float, default=(5.0, 50.0)
        Limits of the flux added to a pixel, in units of the band's level, drawn for each pixel.
    sigma : float or sequence of float, default=None
        Level :math:`\sigma_b` in the images' units, for all bands or per band; None takes the noise measured on
        the training images.
    p : float, default=0.1
        Probability that an image has hot pixels.

    Attributes
    ----------
    sigma_ : ndarray of shape (bands,) or (1,)
        Level in use.

    Raises
    ------
    ValueError
        If `sigma` holds neither one level nor one per band, or a parameter is out of range.

    Warns
    -----
    UserWarning
        If the measured noise is zero: the step then does nothing.

    Examples
    --------
    >>> from skastro.augment import HotPixels
    >>> HotPixels(n=10).n
    10
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n": [Interval(Integral, 0, None, closed="left")],
        "brightness": [NOT_NEGATIVE],
        "sigma": [LEVEL, None],
        "p": [PROBABILITY],
    }

    def __init__(
        self,
        n: int = 3,
        *,
        brightness: tuple[float, float] = (5.0, 50.0),
        sigma: float | Sequence[float] | None = None,
        p: float = 0.1,
    ) -> None:
        self.n = n
        self.brightness = brightness
        self.sigma = sigma
        self.p = p

    def draw(  # noqa: D102
        self, shape: tuple[int, ...], generator: torch.Generator, unit: Tensor | None = None
    ) -> dict[str, Tensor]:
        images, bands, height, width = shape
        pixels = (images, self.n)
        place = torch.randint(bands * height * width, pixels, generator=generator, device=generator.device)
        level = self._draw_levels("sigma", shape, generator, unit).gather(1, place // (height * width))
        flux = uniform(pixels, *self.brightness, generator) * level
        return {"place": place, "flux": torch.where(chosen(images, self.p, generator)[:, None], flux, 0.0)}

    def apply(self, images: Tensor, place: Tensor, flux: Tensor) -> Tensor:  # noqa: D102
        return images.flatten(1).scatter_add(1, place, flux).view(images.shape)
