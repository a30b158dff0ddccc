"""Missing rows and pixels: objects that lack a modality, inverse variances of zero."""

from typing import Any

import numpy as np
from sklearn.utils import check_array

from skastro.inputs import as_array
from skastro.sources import Source

__all__ = ["RAGGED", "check_ivar", "filled_ivar", "present", "refuse_ivar_as_y", "scatter"]


RAGGED = "resample them onto one grid, or fill the shorter ones up with NaN"


def filled_ivar(ivar: Any) -> Any:
    """Convert an inverse variance to an array in which what is masked is zero, that is, missing; a source stays one.

    Parameters
    ----------
    ivar : array-like
        Inverse variance.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.missing import filled_ivar
    >>> filled_ivar(np.ma.masked_equal([[4.0, -1.0]], -1.0)).tolist()
    [[4.0, 0.0]]
    """
    if isinstance(ivar, Source):
        return ivar
    return ivar.filled(0) if hasattr(ivar, "filled") else as_array(ivar, "ivar", RAGGED)


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
    >>> from skastro.missing import check_ivar
    >>> check_ivar([[1.0, -1.0]], (1, 2))
    Traceback (most recent call last):
    ...
    ValueError: ivar has 1 values that are negative, NaN or infinite, the first in row 0; 0 is a missing pixel.
    """
    if ivar is None:
        return None
    ivar = np.asarray(filled_ivar(ivar), dtype=np.float64)
    if ivar.shape != shape:
        raise ValueError(f"ivar of shape {ivar.shape} does not go with X of shape {shape}.")
    wrong = ~np.isfinite(ivar) | (ivar < 0)
    if wrong.any():
        raise ValueError(
            f"ivar has {wrong.sum()} values that are negative, NaN or infinite, the first in row "
            f"{first + np.argwhere(wrong)[0, 0]}; 0 is a missing pixel."
        )
    return ivar


def refuse_ivar_as_y(y: Any, X: Any) -> None:
    """Raise an error if what is given as a target looks like the inverse variance, by its place after X.

    Parameters
    ----------
    y : any
        What a fit without a target ignores.
    X : array-like of shape (n, ...)
        Spectra or images.

    Raises
    ------
    ValueError
        If it has the shape of `X`, of several values a row, and no negative value.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.missing import refuse_ivar_as_y
    >>> refuse_ivar_as_y(np.array([[1.0, 0.0]]), np.array([[0.3, -0.2]]))
    Traceback (most recent call last):
    ...
    ValueError: y has the shape of X, and is ignored: give the inverse variance as ivar=.
    """
    shape = tuple(getattr(y, "shape", ()))
    if len(shape) < 2 or np.prod(shape[1:]) < 2 or shape != tuple(getattr(X, "shape", ())):
        return
    if isinstance(y, Source) or not (as_array(y, "y") < 0).any():
        raise ValueError("y has the shape of X, and is ignored: give the inverse variance as ivar=.")


def present(X: Any, ivar: Any = None, name: str = "X") -> np.ndarray:
    """Return the mask of rows that are present, that is, not only NaN. Of a source, all are.

    Parameters
    ----------
    X : array-like of shape (n, ...)
        Images, spectra, or rows of numbers.
    ivar : array-like of shape (n, n_wavelengths), default=None
        Inverse variance of spectra, where zero also marks a missing pixel.
    name : str, default="X"
        Name of the array in errors.

    Returns
    -------
    ndarray of bool of shape (n,)

    Raises
    ------
    ValueError
        If `X` is not an array of numbers with at least two dimensions, or `ivar` does not match it.

    Examples
    --------
    >>> from skastro.missing import present
    >>> present([[1.0, float("nan")], [float("nan"), float("nan")]])
    array([ True, False])
    """
    if isinstance(X, Source):  # to look at the first pixel of each row would be to read all
        return np.ones(len(X), dtype=bool)
    array = as_array(X, name, RAGGED)
    array = check_array(array, dtype="numeric", allow_nd=True, ensure_all_finite=False, input_name=name)
    ivar = check_ivar(ivar, array.shape)
    if ivar is not None:
        return np.any(~np.isnan(array) & (ivar > 0), axis=tuple(range(1, array.ndim)))
    mask = np.ones(len(array), dtype=bool)
    if array.dtype.kind == "f":
        # Only rows that begin with NaN are read in full, so little of a memory map is read.
        suspects = np.flatnonzero(np.isnan(array[(slice(None), *(0,) * (array.ndim - 1))]))
        mask[suspects] = [not np.isnan(array[row]).all() for row in suspects]
    return mask


def scatter(rows: np.ndarray, mask: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """Write the results of the present rows into an array of all rows.

    Parameters
    ----------
    rows : ndarray of shape (m, ...)
        One row for each row that is present.
    mask : ndarray of bool of shape (n,)
        True for the m rows that are present.
    fill : float, default=0.0
        Value of all other rows.

    Returns
    -------
    ndarray of shape (n, ...)
        `rows` itself if all rows are present.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.missing import scatter
    >>> scatter(np.array([1.0, 2.0]), np.array([True, False, True]), np.nan)
    array([ 1., nan,  2.])
    """
    if mask.all():
        return rows
    placed = np.full((len(mask), *rows.shape[1:]), fill, dtype=rows.dtype)
    placed[mask] = rows
    return placed
