"""Warnings that point at the line of the user's that led to them."""

import sys
import warnings
from itertools import count

__all__ = ["warn"]

BETWEEN = {"skastro", "sklearn", "torch", "skorch", "joblib", "contextlib"}  # the warning and that line


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and blame the first line outside of this package and of those that call it.

    Parameters
    ----------
    message : str
        What is told.
    category : type, default=UserWarning
        Kind of warning.

    Examples
    --------
    >>> import warnings
    >>> from skastro._warning import warn
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     warn("No image has a vote.")
    >>> str(told[0].message)
    'No image has a vote.'
    """
    frame = sys._getframe()
    for level in count(1):
        inside = frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN
        if not inside or frame.f_back is None:
            warnings.warn(message, category, stacklevel=level)
            return
        frame = frame.f_back
