"""Arrays of spectra: check them, weight present pixels, and measure the level of each spectrum. NumPy only."""

import numpy as np

__all__ = ["peak_shares", "pixel_noise", "pixel_weights", "spectrum_levels", "standardize"]


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


def peak_shares(flux: np.ndarray, weights: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Compute the share of each spectrum's variance that its most outlying pixel holds.

    Parameters
    ----------
    flux, weights : ndarray of shape (n, n_wavelengths)
        Flux, and weights that are zero in missing pixels.
    mean, std : ndarray of shape (n,)
        What `spectrum_levels` gave for them.

    Returns
    -------
    ndarray of shape (n,)
        From 0 to 1; 0 if a spectrum is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.spectra import peak_shares, spectrum_levels
    >>> struck = np.array([[1.0, -1.0, 1.0, -1.0], [1.0, -1.0, 1.0, 1e6]])
    >>> ones = np.ones((2, 4))
    >>> peak_shares(struck, ones, *spectrum_levels(struck, ones)).round(2).tolist()
    [0.25, 0.75]
    """
    seen = np.where(weights > 0, flux, mean[:, np.newaxis])
    largest = np.max(weights * (seen - mean[:, np.newaxis]) ** 2, axis=1)
    return largest / np.where(std > 0, weights.sum(axis=1) * std**2, np.inf)


def pixel_noise(flux: np.ndarray, weights: np.ndarray) -> float:
    r"""Measure the noise of spectra from pixel to pixel, whatever their continuum.

    .. math:: \sigma = \frac{1.4826}{\sqrt 6}\ \mathrm{median}\,|2 f_i - f_{i-2} - f_{i+2}|

    Parameters
    ----------
    flux, weights : ndarray of shape (n, n_wavelengths)
        Flux, and weights that are zero in missing pixels.

    Returns
    -------
    float
        Standard deviation, in the unit of the flux; 0 where no five pixels in a row have their ends and middle.

    References
    ----------
    Stoehr et al. (2008), "DER_SNR: A Simple & General Spectroscopic Signal-to-Noise Measurement Algorithm", ASP
    Conference Series 394, 505, `ADS <https://ui.adsabs.harvard.edu/abs/2008ASPC..394..505S>`_.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.spectra import pixel_noise
    >>> noisy = np.linspace(0, 50, 4000) + np.random.default_rng(0).normal(size=(3, 4000))
    >>> round(pixel_noise(noisy, np.ones((3, 4000))), 1)
    1.0
    """
    there = weights > 0
    whole = there[:, 2:-2] & there[:, :-4] & there[:, 4:]
    bends = np.abs(2 * flux[:, 2:-2] - flux[:, :-4] - flux[:, 4:])[whole]
    return float(1.4826 / np.sqrt(6) * np.median(bends)) if len(bends) else 0.0


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
