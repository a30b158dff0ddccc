"""Arrays of spectra: check them, weight present pixels, and measure the level of each spectrum. NumPy only."""

from typing import Any

import numpy as np

__all__ = ["check_ivar", "check_lengths", "pixel_weights", "spectrum_levels", "standardize"]


def check_lengths(X: Any) -> None:
    """Raise an error if spectra have different lengths.

    Parameters
    ----------
    X : array-like
        Spectra.

    Raises
    ------
    ValueError
        If it is a sequence of spectra of different lengths.

    Examples
    --------
    >>> from skastro.spectra import check_lengths
    >>> check_lengths([[1.0, 2.0], [1.0, 2.0, 3.0]])
    Traceback (most recent call last):
    ...
    ValueError: X has spectra of 2 to 3 pixels: resample them onto one grid, or fill the shorter ones up with NaN.
    """
    if isinstance(X, list | tuple) or getattr(X, "dtype", None) == np.dtype(object):
        lengths = {len(row) for row in X if np.ndim(row) == 1}
        if len(lengths) > 1:
            raise ValueError(
                f"X has spectra of {min(lengths)} to {max(lengths)} pixels: resample them onto one grid, or fill the "
                "shorter ones up with NaN."
            )


def check_ivar(ivar: Any, shape: tuple[int, ...], first: int = 0) -> np.ndarray | None:
    """Raise an error if an inverse variance is invalid.

    Parameters
    ----------
    ivar : array-like or None
        Inverse variance, if any.
    shape : tuple of int
        Shape of the spectra or images.
    first : int, default=0
        Number of the first row, if these are some of many.

    Returns
    -------
    ndarray of float64 or None

    Raises
    ------
    ValueError
        If it has another shape than the spectra, or values that are negative, NaN or infinite.

    Examples
    --------
    >>> from skastro.spectra import check_ivar
    >>> check_ivar([[1.0, -1.0]], (1, 2))
    Traceback (most recent call last):
    ...
    ValueError: ivar has 1 values that are negative, NaN or infinite, the first in row 0; 0 is a missing pixel.
    """
    if ivar is None:
        return None
    ivar = np.asarray(ivar, dtype=np.float64)
    if ivar.shape != shape:
        raise ValueError(f"ivar of shape {ivar.shape} does not go with X of shape {shape}.")
    wrong = ~np.isfinite(ivar) | (ivar < 0)
    if wrong.any():
        raise ValueError(
            f"ivar has {wrong.sum()} values that are negative, NaN or infinite, the first in row "
            f"{first + np.argwhere(wrong)[0, 0]}; 0 is a missing pixel."
        )
    return ivar


def pixel_weights(flux: np.ndarray, ivar: np.ndarray | None = None) -> np.ndarray:
    """Compute the weight of each pixel within its spectrum: zero if missing, otherwise one on average.

    Parameters
    ----------
    flux : ndarray of shape (n, n_wavelengths)
        Flux. NaN marks a missing pixel; zero is a value.
    ivar : ndarray of shape (n, n_wavelengths), default=None
        Inverse variance in the inverse square of the flux's unit; zero marks a missing pixel. None weights all equally.

    Returns
    -------
    ndarray of shape (n, n_wavelengths), float64

    Raises
    ------
    ValueError
        If all pixels of a spectrum are missing.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.spectra import pixel_weights
    >>> pixel_weights(np.array([[0.0, np.nan, 2.0, 3.0]]), np.array([[1.0, 1.0, 0.0, 3.0]])).tolist()
    [[0.5, 0.0, 0.0, 1.5]]
    """
    mask = ~np.isnan(flux)
    weights = mask.astype(np.float64) if ivar is None else np.where(mask, ivar, 0.0)
    count = np.count_nonzero(weights, axis=1)
    if not count.all():
        raise ValueError(
            f"{np.sum(count == 0)} of {len(flux)} spectra have nothing but missing pixels (NaN, or ivar of zero), "
            f"the first is row {np.argmin(count)}."
        )
    # Divided twice, because a sum of inverse variances may overflow.
    weights /= weights.max(axis=1, keepdims=True)
    return weights / (weights.sum(axis=1) / count)[:, np.newaxis]


def spectrum_levels(flux: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weighted mean and standard deviation of each spectrum.

    Parameters
    ----------
    flux : ndarray of shape (n, n_wavelengths)
        Flux; the values of missing pixels do not matter.
    weights : ndarray of shape (n, n_wavelengths)
        Weights of the pixels; zero marks a missing pixel.

    Returns
    -------
    mean : ndarray of shape (n,)
        Mean in the unit of the flux.
    std : ndarray of shape (n,)
        Standard deviation in the unit of the flux.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.spectra import spectrum_levels
    >>> mean, std = spectrum_levels(np.array([[1.0, 3.0, np.nan]]), np.array([[1.0, 1.0, 0.0]]))
    >>> mean.tolist(), std.tolist()
    ([2.0], [1.0])
    """
    total = weights.sum(axis=1)
    seen = np.where(weights > 0, flux, 0.0)
    mean = np.sum(weights * seen, axis=1) / total
    return mean, np.sqrt(np.sum(weights * (seen - mean[:, np.newaxis]) ** 2, axis=1) / total)


def standardize(flux: np.ndarray, weights: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Subtract the mean of each spectrum and divide by its scale; set missing pixels to zero.

    Parameters
    ----------
    flux, weights : ndarray of shape (n, n_wavelengths)
        Flux, and weights that are zero in missing pixels.
    mean, scale : ndarray of shape (n,)
        Mean and scale of each spectrum.

    Returns
    -------
    ndarray of shape (n, n_wavelengths), float32

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.spectra import standardize
    >>> ones = np.array([[1.0, 1.0, 0.0]])
    >>> standardize(np.array([[1.0, 5.0, np.nan]]), ones, np.array([3.0]), np.array([2.0])).tolist()
    [[-1.0, 1.0, 0.0]]
    """
    standard = (flux - mean[:, np.newaxis]) / scale[:, np.newaxis]
    return np.where(weights > 0, standard, 0.0).astype(np.float32)
