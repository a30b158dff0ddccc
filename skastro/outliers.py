"""Rows far outside the others: how far rows usually reach, and what the user is told. NumPy only."""

import numpy as np

from skastro._warning import warn

__all__ = ["limits", "warn_of_far", "warn_of_far_targets"]

FEWEST = 10  # rows without which nothing is known about what is usual
# Far outside is ten times as far as what 95 % of the rows reach: images of surveys, in flux, stay within about four.
USUAL, FAR = 0.95, 10.0


def limits(reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find how far rows usually reach, and how far is far outside.

    Parameters
    ----------
    reach : ndarray of shape (n, k)
        How far each row reaches from the middle, in each of k quantities.

    Returns
    -------
    usual : ndarray of shape (k,)
        What 95 % of the rows keep to.
    limit : ndarray of shape (k,)
        Ten times that; infinite where too few rows tell, or most do not vary.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.outliers import limits
    >>> [value.tolist() for value in limits(np.array([[1.0]] * 19 + [[1e6]]))]
    [[1.0], [10.0]]
    """
    usual = np.quantile(reach, USUAL, axis=0, method="lower")
    with np.errstate(over="ignore"):
        return usual, np.where((usual > 0) & (len(reach) >= FEWEST), FAR * usual, np.inf)


def warn_of_far(rows: np.ndarray, n: int, unit: str, others: str) -> None:
    """Warn of rows far outside.

    Parameters
    ----------
    rows : ndarray of int
        Their numbers.
    n : int
        Number of all rows.
    unit : str
        What a row is, in the plural.
    others : str
        What they are far outside of.
    """
    warn(
        f"{len(rows)} of {n} {unit} have values more than {FAR:.0f} times as far out as {others}; the first is row "
        f"{rows[0]}. These are bounded: better mask what is no signal (a saturated star, a cosmic ray), leave out what "
        "is broken, and convert another unit."
    )


def warn_of_far_targets(y: np.ndarray) -> None:
    """Warn of targets that are far outside, such as a number that stands for "missing".

    Parameters
    ----------
    y : ndarray of shape (n,) or (n, n_outputs)
        Numbers.

    Warns
    -----
    UserWarning
        With their number and the first of them.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from skastro.outliers import warn_of_far_targets
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     warn_of_far_targets(np.append(np.linspace(0, 1, 30), -9999.0))
    >>> print(told[0].message)
    1 of 31 targets lie more than 10 times as far out as most others; the first is in row 30: is it a mark for missing?
    """
    values = y.reshape(len(y), -1)
    reach = np.abs(values - np.median(values, axis=0))
    far = np.flatnonzero((reach > limits(reach)[1]).any(axis=1))
    if len(far):
        warn(
            f"{len(far)} of {len(y)} targets lie more than {FAR:.0f} times as far out as most others; the first is in "
            f"row {far[0]}: is it a mark for missing?"
        )
