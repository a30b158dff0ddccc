"""Readers of observed spectra of supernovae and of galaxies with images, from local files."""

from collections.abc import Sequence
from numbers import Integral
from os import PathLike
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from skastro.datasets.archives import read_npz

__all__ = ["load_deimos_pairs", "load_supernovae"]

_CLASSES = ("IIb", "Ib", "Ic", "Ic-BL", "Ibn", "SLSN-Ic")
_SUPERNOVAE = """\
Spectra of stripped-envelope supernovae
=======================================
Optical spectra at rest wavelengths from 2500 to 10000 Å in logarithmic steps, the continuum divided out and one
subtracted, so that only the lines are left. Most objects were observed several times: spectra of one supernova look
alike, so training and test sides must be split by `groups`, or accuracies come out far too high. Two objects are of
type Ibn.

Credit: the spectral library of the Modjaz group, DOI 10.5281/zenodo.58766 (MIT license).
"""
_PAIRS = """\
Galaxies with an image and a spectrum
=====================================
Images by the Hubble Space Telescope (ACS; F606W and F814W) and spectra by Keck's DEIMOS, in counts, of galaxies in the
Extended Groth Strip. Each spectrum has wavelengths of its own; here they are brought to one grid, each pixel the mean
of those that fall into it, weighted by inverse variance. What the grid holds and a spectrum does not is missing.

Credit: Newman et al. 2013 (DEEP2), Davis et al. 2007 (AEGIS).
"""


@validate_params(
    {"path": [str, PathLike], "classes": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def load_supernovae(path: str | PathLike[str], *, classes: Sequence[str] = _CLASSES) -> Bunch:
    """Load spectra of supernovae with their types.

    Parameters
    ----------
    path : str or path-like
        ``sn_spectra.npz``, or the folder that contains it.
    classes : sequence of str, default=("IIb", "Ib", "Ic", "Ic-BL", "Ibn", "SLSN-Ic")
        Types to keep, in the order of their numbers in `target`.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary with attributes, in the order of the file:

        spectra : ndarray of shape (n, 1024), float32
            Relative flux with the continuum removed; NaN where nothing was observed.
        wavelengths : ndarray of shape (1024,), float32
            Rest wavelengths in Å.
        target : ndarray of shape (n,), int
            Index of the type in `target_names`.
        target_names : ndarray of shape (n_classes,), str
            The types.
        groups : ndarray of shape (n,), str
            Name of the supernova, for `sklearn.model_selection.StratifiedGroupKFold`.
        phase : ndarray of shape (n,), float32
            Days since maximum light, or, if `phase_is_relative_to_first`, since the first spectrum.
        phase_is_relative_to_first : ndarray of shape (n,), bool
            True where the date of the maximum is unknown.
        DESCR : str
            Description and acknowledgments.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If a type is unknown, or the archive is damaged or lacks an array.

    Examples
    --------
    An archive of two spectra, made here:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from skastro.datasets import load_supernovae
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(
    ...         Path(folder, "sn_spectra.npz"),
    ...         flux=np.float32([[0, 0.2, -0.1], [0.3, 0, 0]]),
    ...         wave=np.float32([4000, 5000, 6000]),
    ...         cls=["Ic", "IIb"],
    ...         sn=["sn1994I", "sn1993J"],
    ...         phase_days=np.float32([2, 0]),
    ...         phase_is_relative_to_first=[False, True],
    ...     )
    ...     supernovae = load_supernovae(folder)
    >>> supernovae.target_names[supernovae.target]
    array(['Ic', 'IIb'], dtype='<U7')
    >>> np.isnan(supernovae.spectra).sum(axis=1)
    array([1, 2])
    """
    if not len(classes) or not set(classes) <= set(_CLASSES) or len(set(classes)) < len(classes):
        raise ValueError(f"classes must be among {', '.join(_CLASSES)}, each once; got {classes!r}.")
    table = read_npz(_find(path, "sn_spectra.npz"), "flux", "wave", "cls", "sn", "phase_days", _UNDATED)
    is_class = np.array([table["cls"] == name for name in classes])
    kept = is_class.any(axis=0)
    flux = table["flux"][kept]
    return Bunch(
        spectra=np.where(flux == 0, np.float32(np.nan), flux),
        wavelengths=table["wave"],
        target=is_class[:, kept].argmax(axis=0),
        target_names=np.array(classes),
        groups=table["sn"][kept],
        phase=table["phase_days"][kept],
        phase_is_relative_to_first=table[_UNDATED][kept],
        DESCR=_SUPERNOVAE,
    )


@validate_params(
    {"path": [str, PathLike], "n_wavelengths": [Interval(Integral, 2, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def load_deimos_pairs(path: str | PathLike[str], *, n_wavelengths: int = 1024) -> Bunch:
    """Load galaxies that have both an image and a spectrum.

    Parameters
    ----------
    path : str or path-like
        ``deimos_pairs.npz``, or the folder that contains it.
    n_wavelengths : int, default=1024
        Number of pixels of the common grid of wavelengths.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary with attributes; row i of each belongs to the same galaxy:

        images : ndarray of shape (n, 2, 201, 201), float32
            Images in V and I.
        spectra : ndarray of shape (n, n_wavelengths), float32
            Counts; NaN where nothing was observed.
        ivar : ndarray of shape (n, n_wavelengths), float32
            Inverse variance in counts⁻²; 0 where nothing was observed.
        wavelengths : ndarray of shape (n_wavelengths,), float64
            Center of each pixel of the grid, observed wavelength in Å.
        magnitudes : ndarray of shape (n, 3), float32
            Magnitudes in B, R and I.
        objid : ndarray of shape (n,), str
            Identifiers.
        bands : tuple of str
            ``("V", "I")``.
        DESCR : str
            Description and acknowledgments.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the archive is damaged or lacks an array.

    Examples
    --------
    An archive of one galaxy, made here:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from skastro.datasets import load_deimos_pairs
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(
    ...         Path(folder, "deimos_pairs.npz"),
    ...         images=np.zeros((1, 2, 201, 201), np.float32),
    ...         flux=np.float32([[1, 3, 5, 5]]),
    ...         wave=np.float32([[6000, 6001, 6002, 6003]]),
    ...         ivar=np.float32([[1, 1, 1, 0]]),
    ...         mag_BRI=np.zeros((1, 3), np.float32),
    ...         id=["1"],
    ...     )
    ...     pairs = load_deimos_pairs(folder, n_wavelengths=2)
    >>> pairs.wavelengths, pairs.spectra, pairs.ivar
    (array([6000.75, 6002.25]), array([[2., 5.]], dtype=float32), array([[2., 1.]], dtype=float32))
    """
    table = read_npz(_find(path, "deimos_pairs.npz"), "images", "flux", "wave", "ivar", "mag_BRI", "id")
    edges = np.linspace(float(table["wave"].min()), float(table["wave"].max()), n_wavelengths + 1)
    spectra, ivar = _rebin(table["wave"], table["flux"], table["ivar"], edges)
    return Bunch(
        images=table["images"],
        spectra=spectra,
        ivar=ivar,
        wavelengths=(edges[:-1] + edges[1:]) / 2,
        magnitudes=table["mag_BRI"],
        objid=table["id"],
        bands=("V", "I"),
        DESCR=_PAIRS,
    )


_UNDATED = "phase_is_relative_to_first"


def _find(path: str | PathLike[str], name: str) -> Path:
    return Path(path) / name if Path(path).is_dir() else Path(path)


def _rebin(wave: np.ndarray, flux: np.ndarray, ivar: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average pixels between edges, weighted by inverse variance."""
    shape = (len(flux), len(edges) - 1)
    places = np.clip(np.searchsorted(edges, wave, side="right") - 1, 0, shape[1] - 1)
    cells = (places + shape[1] * np.arange(shape[0])[:, np.newaxis]).ravel()
    total = np.bincount(cells, ivar.ravel().astype(float), np.prod(shape)).reshape(shape)
    weighted = ivar * np.where(ivar > 0, flux, 0)  # what was not observed may be stored as NaN
    summed = np.bincount(cells, weighted.ravel().astype(float), np.prod(shape)).reshape(shape)
    mean = np.divide(summed, total, out=np.full(shape, np.nan), where=total > 0)
    return mean.astype(np.float32), total.astype(np.float32)
