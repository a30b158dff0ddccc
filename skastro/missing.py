"""Rows that are not there: objects without a modality. NumPy only."""

from typing import Any

import numpy as np
from sklearn.utils import check_array

from skastro.spectra import check_ivar, check_lengths

__all__ = ["present", "scatter"]


def present(X: Any, ivar: Any = None, name: str = "X") -> np.ndarray:
    """Tell which rows are there: those that are not NaN throughout.

    Parameters
    ----------
    X : array-like of shape (n, ...)
        Images, spectra, or rows of numbers.
    ivar : array-like of shape (n, n_wavelengths), default=None
        Inverse variance of spectra, where zero is as good as NaN.
    name : str, default="X"
        What to call them in errors.

    Returns
    -------
    ndarray of bool of shape (n,)

    Raises
    ------
    ValueError
        If `X` is no array of numbers of at least two dimensions, or `ivar` does not suit it.

    Examples
    --------
    >>> from skastro.missing import present
    >>> present([[1.0, float("nan")], [float("nan"), float("nan")]])
    array([ True, False])
    """
    check_lengths(X)
    array = check_array(X, dtype="numeric", allow_nd=True, ensure_all_finite=False, input_name=name)
    ivar = check_ivar(ivar, array.shape)
    if ivar is not None:
        return np.any(~np.isnan(array) & (ivar > 0), axis=tuple(range(1, array.ndim)))
    there = np.ones(len(array), dtype=bool)
    if array.dtype.kind == "f":
        # Only rows that begin with NaN are looked through: of a memory map little is read.
        suspects = np.flatnonzero(np.isnan(array[(slice(None), *(0,) * (array.ndim - 1))]))
        there[suspects] = [not np.isnan(array[row]).all() for row in suspects]
    return there


def scatter(rows: np.ndarray, there: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """Put what was computed of the rows that are there into its places.

    Parameters
    ----------
    rows : ndarray of shape (m, ...)
        One for each row that is there.
    there : ndarray of bool of shape (n,)
        Where m are True.
    fill : float, default=0.0
        What stands elsewhere.

    Returns
    -------
    ndarray of shape (n, ...)
        `rows` itself where all are there.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.missing import scatter
    >>> scatter(np.array([1.0, 2.0]), np.array([True, False, True]), np.nan)
    array([ 1., nan,  2.])
    """
    if there.all():
        return rows
    placed = np.full((len(there), *rows.shape[1:]), fill, dtype=rows.dtype)
    placed[there] = rows
    return placed
