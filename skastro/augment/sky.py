"""Steps that change pixel values: noise, seeing, brightness. Any number of bands, any units, no clipping."""

import warnings
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from skastro.augment.step import PixelStep, chosen, uniform
from skastro.images import measure_bands
from skastro.surveys import Survey

__all__ = ["ColourJitter", "GaussianBlur", "GaussianNoise"]


def per_image(values: Tensor) -> Tensor:
    """Give one value per image the axes of an image.

    Parameters
    ----------
    values : Tensor of shape (n,)
        One value per image.

    Returns
    -------
    Tensor of shape (n, 1, 1, 1)
    """
    return values[:, None, None, None]


class GaussianNoise(PixelStep):
    r"""White Gaussian noise, in each band a drawn multiple of a level.

    .. math:: x'_b = x_b + u\,\sigma_b\,\epsilon, \qquad u \sim U(\mathrm{scale}), \quad \epsilon \sim N(0, 1)

    Parameters
    ----------
    scale : tuple of float, default=(1.0, 3.0)
        Limits of the multiple :math:`u`, drawn once per image.
    sigma : float or sequence of float, default=None
        Level :math:`\sigma_b` in the images' units, for all bands or per band; None takes the noise measured on
        the training images (1.4826 × median absolute deviation of each band).
    p : float, default=1.0
        Probability that an image receives noise.

    Attributes
    ----------
    sigma_ : ndarray of shape (bands,)
        Level in use.

    Raises
    ------
    ValueError
        If `sigma` holds neither one level nor one per band.

    Warns
    -----
    UserWarning
        If the measured noise is zero, as in images clipped at the noise: the step then does nothing.

    References
    ----------
    Hayat et al. (2021), section 3: aggregate MAD of each channel times U(1, 3).

    Examples
    --------
    >>> from skastro.augment import GaussianNoise
    >>> GaussianNoise(sigma=0.1).fit(None).sigma_.tolist()
    [0.1]
    """

    def __init__(
        self,
        scale: tuple[float, float] = (1.0, 3.0),
        sigma: float | Sequence[float] | None = None,
        p: float = 1.0,
    ) -> None:
        self.scale = scale
        self.sigma = sigma
        self.p = p

    def fit(self, images: np.ndarray, survey: Survey | None = None, noise: np.ndarray | None = None) -> Self:  # noqa: D102
        if self.sigma is None and noise is None:
            noise = measure_bands(images)["noise"]
        self.sigma_ = np.atleast_1d(np.asarray(noise if self.sigma is None else self.sigma, dtype=float))
        if images is not None and len(self.sigma_) not in (1, images.shape[1]):
            raise ValueError(
                f"GaussianNoise has sigma for {len(self.sigma_)} bands, the images have {images.shape[1]}."
            )
        if self.sigma is None and not self.sigma_.any():
            warnings.warn(
                "The noise measured on these images is zero (are they clipped?), so GaussianNoise adds none; "
                "give it sigma=.",
                UserWarning,
                stacklevel=2,
            )
        return self

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n = shape[0]
        scale = torch.where(chosen(n, self.p, generator), uniform(n, *self.scale, generator), 0.0)
        return {
            "scale": scale,
            "field": torch.randn(shape, generator=generator, device=generator.device),
        }

    def apply(self, images: Tensor, scale: Tensor, field: Tensor) -> Tensor:  # noqa: D102
        sigma = torch.as_tensor(self.sigma_, dtype=images.dtype, device=images.device)
        return torch.addcmul(images, per_image(scale) * sigma[:, None, None], field)


class GaussianBlur(PixelStep):
    """Convolution with a round Gaussian, as worse seeing does; flux is kept away from the edges.

    Parameters
    ----------
    sigma : tuple of float, default=(0.1, 2.0)
        Limits of the Gaussian's standard deviation in pixels, drawn once per image.
    radius : int, default=3
        Half width of the kernel in pixels.
    p : float, default=1.0
        Probability that an image is blurred.

    References
    ----------
    Slijepcevic et al. (2023), table 1 and its code: kernel of 7 pixels, σ from 0.1 to 2.

    Examples
    --------
    >>> from skastro.augment import GaussianBlur
    >>> GaussianBlur(p=0.1).sigma
    (0.1, 2.0)
    """

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), radius: int = 3, p: float = 1.0) -> None:
        self.sigma = sigma
        self.radius = radius
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n = shape[0]
        return {"sigma": uniform(n, *self.sigma, generator), "blurred": chosen(n, self.p, generator)}

    def apply(self, images: Tensor, sigma: Tensor, blurred: Tensor) -> Tensor:  # noqa: D102
        offsets = torch.arange(-self.radius, self.radius + 1, device=images.device)
        kernel = torch.softmax(-0.5 * (offsets / sigma[:, None].clamp(min=0.01)) ** 2, dim=1)[:, None]
        # Images become channels, each with its own kernel, and bands the batch: the whole batch in two convolutions.
        padded = pad(images, [self.radius] * 4, mode="replicate").transpose(0, 1)
        smooth = conv2d(padded, kernel[..., None], groups=len(images))
        smooth = conv2d(smooth, kernel[:, :, None], groups=len(images)).transpose(0, 1)
        return torch.where(per_image(blurred), smooth, images)


class ColourJitter(PixelStep):
    r"""Random brightness, contrast and saturation, right for one band and for many.

    .. math:: x' = f_b\,(m_b + f_c\,(y - m_b)), \qquad y = \bar x + f_s\,(x - \bar x)

    with :math:`\bar x` the mean over bands at each pixel, :math:`m_b` the mean of a band over the image and each
    factor :math:`f \sim U(1 - a, 1 + a)`, its limits never below zero. Flux is not clipped.

    Parameters
    ----------
    brightness, contrast, saturation : float, default=0.4
        Half widths :math:`a` of the factors. With one band, saturation changes nothing.
    p : float, default=0.8
        Probability that an image is changed.

    References
    ----------
    Slijepcevic et al. (2023), table 1: strength s = 0.5 of 0.8, that is 0.4; Chen et al. (2020), appendix A.

    Examples
    --------
    >>> from skastro.augment import ColourJitter
    >>> ColourJitter(brightness=0.2).contrast
    0.4
    """

    def __init__(self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, p: float = 0.8) -> None:
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
        # The three blends are one linear map of pixel, grey and mean: weights of a chosen identity are exact.
        grey = images.mean(dim=1, keepdim=True)
        level = images.mean(dim=(2, 3), keepdim=True)
        pixel = per_image(brightness * contrast * saturation)
        to_grey = per_image(brightness * contrast * (1 - saturation))
        to_level = per_image(brightness * (1 - contrast))
        return pixel * images + to_grey * grey + to_level * level
