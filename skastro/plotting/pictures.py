"""Conversion of images with any number of bands, in any unit, to pictures, and of spectra to small lines."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from skastro.images import bands_last
from skastro.inputs import as_array

__all__ = ["check_images", "draw_image", "picture", "small_line"]


def check_images(shape: tuple[int, ...]) -> None:
    """Raise an error if an array does not have the shape of images.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array.

    Raises
    ------
    ValueError
        If the shape is not (n, height, width) or (n, bands, height, width), or the bands seem to be last.

    Examples
    --------
    >>> from skastro.plotting.pictures import check_images
    >>> check_images((30, 64))
    Traceback (most recent call last):
    ...
    ValueError: images must be (n, height, width) or (n, bands, height, width); their shape is (30, 64).
    """
    if len(shape) not in (3, 4):
        raise ValueError(f"images must be (n, height, width) or (n, bands, height, width); their shape is {shape}.")
    if len(shape) == 4 and bands_last(shape[1:]):
        raise ValueError(f"images of shape {shape} look channels-last: give np.moveaxis(images, -1, 1).")


def picture(image: Any, bands: Sequence[int] | None = None, like: Any = None) -> np.ndarray:
    """Convert one image to a picture: 8-bit as it is, flux stretched by an arcsinh.

    Parameters
    ----------
    image : array of shape (height, width) or (bands, height, width)
        8-bit or flux.
    bands : sequence of one or three int, default=None
        Bands to show: one in gray, or three as red, green and blue. ``None`` shows one or three bands as they are, and
        the mean of any other number of bands.
    like : array of shape (height, width) or (bands, height, width), default=None
        Image with the percentiles 1 and 99.8 that limit the stretch; ``None`` uses the image itself.

    Returns
    -------
    ndarray of shape (height, width) or (height, width, 3)
        Uint8, or floating point from 0 to 1. Missing pixels of flux are black.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.plotting.pictures import picture
    >>> picture(np.linspace(0, 1, 9).reshape(1, 3, 3)).round(1)
    array([[0. , 0.3, 0.5],
           [0.7, 0.8, 0.8],
           [0.9, 1. , 1. ]])
    """
    shown = _pixels(image, bands)
    if shown.dtype != np.uint8:
        reference = (shown if like is None else _pixels(like, bands)).astype(float)
        limits = np.nanpercentile(reference, (1, 99.8)) if np.isfinite(reference).any() else np.zeros(2)
        shown = _stretch(shown.astype(float), limits)
    return shown[0] if len(shown) == 1 else np.moveaxis(shown, 0, -1)


def draw_image(
    ax: Any, image: np.ndarray, bands: Sequence[int] | None, title: str, like: np.ndarray | None = None
) -> None:
    """Draw one image: 8-bit as it is, flux stretched by an arcsinh.

    Parameters
    ----------
    ax : matplotlib Axes
        Axes to draw on.
    image : ndarray of shape (height, width) or (bands, height, width)
        8-bit or flux.
    bands : sequence of one or three int, or None
        Bands to show: one in gray, or three as red, green and blue. ``None`` shows one or three bands as they are, and
        the mean of any other number of bands.
    title : str
        Title above the image.
    like : ndarray of shape (height, width) or (bands, height, width), default=None
        Image with the percentiles 1 and 99.8 that limit the stretch; ``None`` uses the image itself.
    """
    shown = picture(image, bands, like)
    ax.imshow(shown, cmap="gray", vmin=0, vmax=255 if shown.dtype == np.uint8 else 1)
    ax.set_title(title, fontsize="small", pad=3)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def small_line(values: np.ndarray, times: np.ndarray | None = None, n_bins: int = 64) -> np.ndarray:
    """Reduce a spectrum or a light curve to what a thumbnail can show: means in bins, between percentiles 1 and 99.

    Parameters
    ----------
    values : ndarray of shape (n_points,)
        Fluxes or magnitudes, NaN where missing.
    times : ndarray of shape (n_points,), default=None
        Where the points are, in any order; ``None`` puts them at equal distances.
    n_bins : int, default=64
        Number of bins between the first point and the last that is known.

    Returns
    -------
    ndarray of shape (n_bins,)
        From 0 to 1, NaN in bins without a point.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.plotting.pictures import small_line
    >>> small_line(np.array([1.0, 3.0, np.nan, np.nan, 2.0, 2.0]), n_bins=3).tolist()
    [0.5, nan, 0.5]
    """
    values = values.astype(float)
    times = np.arange(len(values), dtype=float) if times is None else times.astype(float)
    known = np.isfinite(values) & np.isfinite(times)
    line = np.full(n_bins, np.nan)
    if not known.any():
        return line
    values, times = values[known], times[known]
    place = (times - times.min()) / max(np.ptp(times), np.finfo(float).tiny)
    bins = np.minimum((n_bins * place).astype(int), n_bins - 1)
    low, high = np.percentile(values, (1, 99))
    counts = np.bincount(bins, minlength=n_bins)
    means = np.bincount(bins, values, minlength=n_bins)[counts > 0] / counts[counts > 0]
    line[counts > 0] = np.clip((means - low) / (high - low), 0, 1) if high > low else 0.5
    return line


def check_bands(bands: Sequence[int], n: int) -> None:
    """Refuse bands that are not there.

    Parameters
    ----------
    bands : sequence of int
        Numbers of bands to show.
    n : int
        Number of bands there are.

    Raises
    ------
    ValueError
        If one is not among them.
    """
    if any(not -n <= band < n for band in bands):
        raise ValueError(f"bands={list(bands)} are to be shown, but the images have {n}: give numbers from 0.")


def _pixels(image: Any, bands: Sequence[int] | None) -> np.ndarray:
    """Return the one or three bands to show: (1, height, width) or (3, height, width)."""
    image = as_array(image, "image")
    image = image.reshape(-1, *image.shape[-2:])
    if bands is not None:
        check_bands(bands, len(image))
        image = image[list(bands)]
    if len(image) not in (1, 3):
        image = image.mean(axis=0, keepdims=True).astype(image.dtype)
    return image


def _stretch(image: np.ndarray, limits: np.ndarray, softening: float = 0.1) -> np.ndarray:
    """Map to 0 … 1 by the arcsinh of the mean of the bands, which keeps the colors (Lupton et al. 2004)."""
    low, high = limits
    light = np.clip(np.nan_to_num(image - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    mean = np.maximum(light.mean(axis=0), np.finfo(np.float32).tiny)
    gain = np.arcsinh(mean / softening) / np.arcsinh(1 / softening) / mean
    return np.clip(light * gain, 0, 1)
