"""What every metric refuses."""

import numpy as np

__all__ = ["check_finite", "check_lengths"]


def check_finite(name: str, values: np.ndarray) -> None:
    """Refuse NaN and infinity.

    Parameters
    ----------
    name : str
        What the numbers are called in the error.
    values : ndarray of shape (n,)
        Numbers.

    Raises
    ------
    ValueError
        How many are NaN or infinite, and the first row.
    """
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{name} has {len(bad)} NaN or infinite values, the first in row {bad[0]}.")


def check_lengths(**arrays: np.ndarray) -> None:
    """Refuse arrays of unlike length.

    Parameters
    ----------
    **arrays : ndarray
        By the name that the error gives them.

    Raises
    ------
    ValueError
        If they do not have one length.
    """
    lengths = [len(values) for values in arrays.values()]
    if len(set(lengths)) > 1:
        raise ValueError(f"{' and '.join(arrays)} must have one length; got {' and '.join(map(str, lengths))}.")
