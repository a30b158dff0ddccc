"""Checks of the input that all metrics share."""

import numpy as np

__all__ = ["check_finite", "check_lengths"]


def check_finite(name: str, values: np.ndarray) -> None:
    """Raise an error if values contain NaN or infinity.

    Parameters
    ----------
    name : str
        Name of the values in the error.
    values : ndarray of shape (n,)
        Values to check.

    Raises
    ------
    ValueError
        If values are NaN or infinite; the error states how many, and the first row.
    """
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{name} has {len(bad)} NaN or infinite values, the first in row {bad[0]}.")


def check_lengths(**arrays: np.ndarray) -> None:
    """Raise an error if arrays differ in length.

    Parameters
    ----------
    **arrays : ndarray
        Arrays, by their name in the error.

    Raises
    ------
    ValueError
        If their lengths differ.
    """
    lengths = [len(values) for values in arrays.values()]
    if len(set(lengths)) > 1:
        raise ValueError(f"{' and '.join(arrays)} must have one length; got {' and '.join(map(str, lengths))}.")
