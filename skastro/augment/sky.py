"""Augmentations by effects between the object and the detector: dust, seeing, and changes of color."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor
from torch.nn.functional import conv2d, pad

from skastro.augment.distributions import Distribution, HalfNormal, as_float, get_distribution, sample
from skastro.augment.step import (
    NOT_NEGATIVE,
    PROBABILITY,
    PerBand,
    PixelStep,
    check_bands,
    chosen,
    quadrature_difference,
    uniform,
)
from skastro.surveys import Survey

__all__ = ["ColorJitter", "GaussianBlur", "Grayscale", "PSFBlur", "Redden"]

WIDTH = Interval(Real, 0, None, closed="left")
# Half width of the kernels, in standard deviations of the widest one.
REACH = 4


def per_image(values: Tensor) -> Tensor:
    """Reshape one value per image to broadcast over images.

    Parameters
    ----------
    values : Tensor of shape (n,)
        One value per image.

    Returns
    -------
    Tensor of shape (n, 1, 1, 1)
    """
    return values[:, None, None, None]


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve along both axes, each image or each of its bands with its own kernel.

    Parameters
    ----------
    images : Tensor of shape (n, bands, height, width)
        Images. Their outermost pixels are repeated beyond the edges.
    kernels : Tensor of shape (n, bands, 2 * radius + 1) or (n, 1, 2 * radius + 1)
        Weights along one axis, per band or for all bands of an image.

    Returns
    -------
    Tensor of the shape of images
    """
    # Planes with a kernel of their own become channels, planes that share one the batch: two convolutions in all.
    weights = kernels.flatten(0, 1)[:, None]
    padded = pad(images, [kernels.shape[2] // 2] * 4, mode="replicate")
    channels = padded.reshape(len(weights), -1, *padded.shape[2:]).transpose(0, 1)
    smooth = conv2d(channels, weights[..., None], groups=len(weights))
    smooth = conv2d(smooth, weights[:, :, None], groups=len(weights))
    return smooth.transpose(0, 1).reshape(images.shape)


def convolve_some(images: Tensor, kernels: Tensor, some: Tensor) -> Tensor:
    """Convolve some images of a batch and leave the others exactly as they are.

    Parameters
    ----------
    images : Tensor of shape (n, bands, height, width)
        Images.
    kernels : Tensor of shape (n, bands, 2 * radius + 1) or (n, 1, 2 * radius + 1)
        Weights along one axis, as in `convolve`.
    some : Tensor of shape (n,), bool
        True for the images to convolve.

    Returns
    -------
    Tensor of the shape of images
    """
    if images.device.type != "cpu":  # picking rows would make the host wait for the device
        return torch.where(per_image(some), convolve(images, kernels), images)
    result = images.clone()
    if some.any():
        result[some] = convolve(images[some], kernels[some])
    return result


def gaussian_kernel(sigma: Tensor, radius: int) -> Tensor:
    """Compute the weights of a Gaussian on pixels, with the requested variance at any width.

    Parameters
    ----------
    sigma : Tensor of shape (n, bands)
        Standard deviations in pixels.
    radius : int
        Half width of the kernels in pixels.

    Returns
    -------
    Tensor of shape (n, bands, 2 * radius + 1)
        Weights that add up to one.

    Notes
    -----
    A narrow Gaussian sampled at whole pixels has too little variance: at 0.3 pixels, less than a tenth. So it is never
    sampled at less than half a pixel, but mixed with the unit impulse in the share that makes the variance right. From
    0.8 pixels on, the correction vanishes.
    """
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    sampled = torch.softmax(-0.5 * (offsets / sigma[:, :, None].clamp(min=0.5)) ** 2, dim=2)
    variance = (sampled * offsets**2).sum(dim=2, keepdim=True)
    impulse = (offsets == 0).to(sampled)
    return impulse + sigma[:, :, None] ** 2 / variance * (sampled - impulse)


class Redden(PixelStep):
    r"""Dimming by dust, by a different amount in each band, as if seen through more of the Milky Way.

    .. math:: x'_b = x_b \cdot 10^{-R_b\,E(B-V) / 2.5}

    :class:`~skastro.preprocessing.Deredden` undoes it.

    Parameters
    ----------
    ebv : tuple of float or Distribution, default=(0.0, 0.5)
        Limits of :math:`E(B-V)` in magnitudes, drawn uniformly once per image; or the distribution that it is drawn
        from (a draw below zero counts as zero).
    extinction : sequence of float, default=None
        Coefficients :math:`R_b`, one per band; None takes those of the survey.
    p : float, default=1.0
        Probability that an image is reddened.

    Attributes
    ----------
    extinction_ : ndarray of shape (bands,)
        Coefficients in use.

    Raises
    ------
    ValueError
        If neither the survey nor `extinction` has coefficients, if they are not one per band, or if limits of `ebv` are
        negative or in the wrong order.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, section 3: :math:`E(B-V)` from U(0,
    0.5). Schlafly & Finkbeiner (2011), `doi:10.1088/0004-637X/737/2/103
    <https://doi.org/10.1088/0004-637X/737/2/103>`_, table 6, for the coefficients.

    Examples
    --------
    >>> from skastro.augment import Redden
    >>> from skastro.surveys import get_survey
    >>> Redden().fit(None, survey=get_survey("legacy")).extinction_.tolist()
    [3.214, 2.165, 1.211]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "ebv": [NOT_NEGATIVE, Distribution],
        "extinction": [PerBand(Real, 0, None, closed="left"), None],
        "p": [PROBABILITY],
    }

    def __init__(
        self,
        ebv: tuple[float, float] | Distribution = (0.0, 0.5),
        *,
        extinction: Sequence[float] | None = None,
        p: float = 1.0,
    ) -> None:
        self.ebv = ebv
        self.extinction = extinction
        self.p = p

    def learn(self, images: np.ndarray, survey: Survey | None, noise: np.ndarray | None) -> None:  # noqa: D102
        if get_distribution(self.ebv).bands:
            raise ValueError("The ebv of Redden is one number per image; its distribution has parameters per band.")
        given = survey.extinction if self.extinction is None and survey is not None else self.extinction
        if given is None:
            raise ValueError(
                "Redden needs extinction coefficients: give a survey that has them, or Redden(extinction=...)."
            )
        self.extinction_ = np.atleast_1d(np.asarray(given, dtype=float))
        check_bands("Redden has extinction", len(self.extinction_), images)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n = shape[0]
        return {"ebv": torch.where(chosen(n, self.p, generator), sample(self.ebv, (n,), generator), 0.0)}

    def apply(self, images: Tensor, ebv: Tensor) -> Tensor:  # noqa: D102
        extinction = torch.as_tensor(self.extinction_, dtype=images.dtype, device=images.device)
        return images * (10 ** (-0.4 * ebv[:, None] * extinction))[:, :, None, None]


class PSFBlur(PixelStep):
    r"""Convolution with a round Gaussian in each band, the effect of worse seeing.

    A star's variance grows by :math:`\sigma_b^2`; flux is conserved away from the edges. A width :math:`\sigma` drawn
    once per image is that of the `reference` band; the widths in the other bands follow from turbulence,

    .. math:: \sigma_b = \sigma\,(\lambda_b / \lambda_\mathrm{ref})^{-0.3}

    Widths drawn per band are used as they are.

    Parameters
    ----------
    sigma : tuple of float or Distribution, default=HalfNormal(0.13)
        Standard deviation of the Gaussian: limits between which it is drawn uniformly, or its distribution. It is drawn
        once per image, or once per band if the distribution has parameters per band.
    unit : {"arcsec", "pixel"}, default="arcsec"
        Unit of `sigma` and `true`.
    reference : str, default="r"
        Band of the survey that `sigma` refers to; None blurs all bands by the same width.
    true : tuple of float or Distribution, default=None
        Width that the images already have, drawn like `sigma`. With it, `sigma` is the target width, and the Gaussian
        has the missing width, :math:`\sqrt{\max(\sigma_b^2 - \sigma_{\mathrm{true},b}^2, 0)}`.
    p : float, default=1.0
        Probability that an image is blurred.

    Attributes
    ----------
    pixel_scale_ : float
        Side of a pixel in the unit of `sigma`.
    ratio_ : ndarray of shape (bands,) or (1,)
        Width in each band relative to that in the reference band.
    radius_ : int
        Half width of the kernels in pixels.

    Raises
    ------
    ValueError
        If the survey lacks the pixel scale or the wavelengths that are needed, has no band `reference`, or is for other
        bands than the images, or if a parameter is out of range.

    Notes
    -----
    The kernels reach to four times the largest width, in the band where it is largest. The largest width is the upper
    limit of `sigma`. For a distribution without an upper limit it is the value that one draw in a thousand exceeds, and
    draws are clipped to it. Narrow kernels are corrected to have the variance :math:`\sigma_b^2`, which the values of
    the Gaussian at whole pixels would miss.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, section 3: :math:`\sigma_r` of 0.13″,
    wider in bluer bands. The paper draws it from N(0, 0.13″); a negative draw is read as its absolute value. Stein et
    al. (2021), `arXiv:2110.13151 <https://arxiv.org/abs/2110.13151>`_; its code draws the seeing of the image and of
    the target per band, in pixels.

    Examples
    --------
    >>> from skastro.augment import PSFBlur
    >>> from skastro.surveys import get_survey
    >>> PSFBlur().fit(None, survey=get_survey("sdss")).ratio_.round(4).tolist()
    [1.1846, 1.0835, 1.0, 0.9412, 0.8916]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "sigma": [NOT_NEGATIVE, Distribution],
        "unit": [StrOptions({"arcsec", "pixel"})],
        "reference": [str, None],
        "true": [NOT_NEGATIVE, Distribution, None],
        "p": [PROBABILITY],
    }

    def __init__(
        self,
        sigma: tuple[float, float] | Distribution = HalfNormal(0.13),  # noqa: B008
        *,
        unit: str = "arcsec",
        reference: str | None = "r",
        true: tuple[float, float] | Distribution | None = None,
        p: float = 1.0,
    ) -> None:
        self.sigma = sigma
        self.unit = unit
        self.reference = reference
        self.true = true
        self.p = p

    def learn(self, images: np.ndarray, survey: Survey | None, noise: np.ndarray | None) -> None:  # noqa: D102
        given = {"sigma": self.sigma} if self.true is None else {"sigma": self.sigma, "true": self.true}
        bands = {name: get_distribution(widths).bands for name, widths in given.items()}
        for name in given:
            if bands[name]:
                check_bands(f"PSFBlur has {name}", bands[name], images)
        self.pixel_scale_ = self._pixel_scale(survey)
        self.ratio_ = np.ones(1) if all(bands.values()) else self._ratio(survey, images)
        widest = get_distribution(self.sigma).largest() * (1 if bands["sigma"] else self.ratio_)
        self.radius_ = max(1, int(np.ceil(REACH * np.max(widest) / self.pixel_scale_)))

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        blurred = chosen(shape[0], self.p, generator)[:, None]
        sigma = self._widths(self.sigma, shape, generator)
        if self.true is not None:
            sigma = quadrature_difference(sigma, self._widths(self.true, shape, generator))
        return {"sigma": torch.where(blurred, sigma, 0.0)}

    def apply(self, images: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return convolve_some(images, gaussian_kernel(sigma, self.radius_), (sigma > 0).any(dim=1))

    def _pixel_scale(self, survey: Survey | None) -> float:
        if self.unit == "pixel":
            return 1.0
        if survey is None or survey.pixel_scale is None:
            raise ValueError(
                'PSFBlur in arcseconds needs a survey with a pixel_scale; give one, or PSFBlur(unit="pixel").'
            )
        return survey.pixel_scale

    def _ratio(self, survey: Survey | None, images: np.ndarray | None) -> np.ndarray:
        if self.reference is None:
            return np.ones(1)
        if survey is None or survey.wavelengths is None:
            raise ValueError(
                "PSFBlur needs a survey with wavelengths to tell the seeing of one band from another's; give one, or "
                "PSFBlur(reference=None) to blur all bands alike."
            )
        if self.reference not in survey.bands:
            raise ValueError(
                f"PSFBlur has reference={self.reference!r}, which is none of the survey's bands "
                f"({', '.join(survey.bands)})."
            )
        check_bands("PSFBlur has wavelengths", len(survey.wavelengths), images)
        wavelengths = np.asarray(survey.wavelengths, dtype=float)
        return (wavelengths / wavelengths[list(survey.bands).index(self.reference)]) ** -0.3

    def _widths(
        self, distribution: tuple[float, float] | Distribution, shape: tuple[int, ...], generator: torch.Generator
    ) -> Tensor:
        """Draw a width in pixels for each band of each image, clipped to the largest that the kernel is made for."""
        n, bands = shape[:2]
        given = get_distribution(distribution)
        ratio = np.ones(1) if given.bands else self.ratio_
        widths = sample(given, (n, given.bands or 1), generator).clamp(max=as_float(given.largest(), generator))
        return (widths * as_float(ratio / self.pixel_scale_, generator)).expand(n, bands)


class GaussianBlur(PixelStep):
    """Convolution with a round Gaussian, the same in all bands; flux is conserved away from the edges.

    The kernel holds the values of the Gaussian at whole pixels. For seeing, with a width on the sky, see `PSFBlur`.

    Parameters
    ----------
    sigma : tuple of float, default=(0.1, 2.0)
        Limits of the Gaussian's standard deviation in pixels, drawn uniformly once per image.
    radius : int, default=3
        Half width of the kernel in pixels.
    p : float, default=1.0
        Probability that an image is blurred.

    References
    ----------
    Slijepcevic et al. (2023), `arXiv:2305.16127 <https://arxiv.org/abs/2305.16127>`_, table 1 and its code: kernel of 7
    pixels, σ from 0.1 to 2.

    Examples
    --------
    >>> from skastro.augment import GaussianBlur
    >>> GaussianBlur(p=0.1).sigma
    (0.1, 2.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "sigma": [NOT_NEGATIVE],
        "radius": [Interval(Integral, 1, None, closed="left")],
        "p": [PROBABILITY],
    }

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), *, radius: int = 3, p: float = 1.0) -> None:
        self.sigma = sigma
        self.radius = radius
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n = shape[0]
        return {"sigma": uniform(n, *self.sigma, generator), "blurred": chosen(n, self.p, generator)}

    def apply(self, images: Tensor, sigma: Tensor, blurred: Tensor) -> Tensor:  # noqa: D102
        offsets = torch.arange(-self.radius, self.radius + 1, device=images.device)
        kernel = torch.softmax(-0.5 * (offsets / sigma[:, None].clamp(min=0.01)) ** 2, dim=1)[:, None]
        return convolve_some(images, kernel, blurred)


class ColorJitter(PixelStep):
    r"""Random brightness, contrast and saturation, for images with any number of bands.

    .. math:: x' = f_b\,(m_b + f_c\,(y - m_b)), \qquad y = \bar x + f_s\,(x - \bar x)

    with :math:`\bar x` the mean over bands at each pixel, :math:`m_b` the mean of a band over the image and each
    factor :math:`f \sim U(1 - a, 1 + a)`, with limits never below zero. Flux is not clipped.

    Parameters
    ----------
    brightness, contrast, saturation : float, default=0.4
        Half widths :math:`a` of the factors. With one band, saturation changes nothing.
    p : float, default=0.8
        Probability that an image is changed.

    References
    ----------
    Slijepcevic et al. (2023), `arXiv:2305.16127 <https://arxiv.org/abs/2305.16127>`_, table 1: strength s = 0.5 of 0.8,
    that is 0.4; Chen et al. (2020), `arXiv:2002.05709 <https://arxiv.org/abs/2002.05709>`_, appendix A.

    Examples
    --------
    >>> from skastro.augment import ColorJitter
    >>> ColorJitter(brightness=0.2).contrast
    0.4
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "brightness": [WIDTH],
        "contrast": [WIDTH],
        "saturation": [WIDTH],
        "p": [PROBABILITY],
    }

    def __init__(
        self, brightness: float = 0.4, *, contrast: float = 0.4, saturation: float = 0.4, p: float = 0.8
    ) -> None:
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n = shape[0]
        jittered = chosen(n, self.p, generator)
        factors = {}
        for name in ("brightness", "contrast", "saturation"):
            width = getattr(self, name)
            factor = uniform(n, max(0.0, 1 - width), 1 + width, generator)
            factors[name] = torch.where(jittered, factor, 1.0)
        return factors

    def apply(self, images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:  # noqa: D102
        # The three blends are one linear map of pixel, gray and mean, so weights that are the identity change nothing.
        gray = images.mean(dim=1, keepdim=True)
        level = images.mean(dim=(2, 3), keepdim=True)
        pixel = per_image(brightness * contrast * saturation)
        to_gray = per_image(brightness * contrast * (1 - saturation))
        to_level = per_image(brightness * (1 - contrast))
        return pixel * images + to_gray * gray + to_level * level


class Grayscale(PixelStep):
    """Replace all bands by their mean, so that only the shape is left.

    Parameters
    ----------
    p : float, default=0.2
        Probability that an image loses its colors. With one band, nothing changes.

    References
    ----------
    Chen et al. (2020), `arXiv:2002.05709 <https://arxiv.org/abs/2002.05709>`_, appendix A, with p = 0.2; the code of
    Walmsley et al. (2022), `arXiv:2206.11927 <https://arxiv.org/abs/2206.11927>`_, with p = 0.3.

    Examples
    --------
    >>> from skastro.augment import Grayscale
    >>> Grayscale(p=0.3).p
    0.3
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"p": [PROBABILITY]}

    def __init__(self, p: float = 0.2) -> None:
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        return {"grayed": chosen(shape[0], self.p, generator)}

    def apply(self, images: Tensor, grayed: Tensor) -> Tensor:  # noqa: D102
        return torch.where(per_image(grayed), images.mean(dim=1, keepdim=True), images)
