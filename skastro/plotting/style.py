"""Settings shared by all displays: colors, markers, names of axes, and the import of matplotlib."""

from typing import Any

import numpy as np

from skastro._extras import require

__all__ = ["are_classes", "new_figure", "pyplot", "score_label"]

# Colors of Okabe and Ito, distinguishable for color-blind readers; the markers serve black-and-white prints.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MANY = 12  # distinct integers up to which they are taken for classes


def are_classes(values: np.ndarray) -> bool:
    """Tell whether a column is of classes: strings, booleans, or up to 12 distinct integers; other numbers are values.

    Parameters
    ----------
    values : ndarray of shape (n,)
        The column.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.plotting.style import are_classes
    >>> are_classes(np.array([0, 1, 1])), are_classes(np.array([0.0, 1.0, 1.0]))
    (True, False)
    """
    return values.dtype.kind not in "iuf" or (values.dtype.kind in "iu" and len(np.unique(values)) <= MANY)


def pyplot() -> Any:
    """Import matplotlib only when something is drawn.

    Returns
    -------
    module
        ``matplotlib.pyplot``.

    Raises
    ------
    ImportError
        If matplotlib is not installed; the message names the extra that installs it.
    """
    require("Drawing", "matplotlib", extra="plot")
    import matplotlib.pyplot as plt

    return plt


def new_figure(width: float, height: float) -> Any:
    """Make a figure whose axes and labels have room.

    Parameters
    ----------
    width, height : float
        Size in inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return pyplot().figure(figsize=(width, height), layout="constrained")


def score_label(name: str, error: bool = False) -> str:
    """Return the label of the axis of a score.

    Parameters
    ----------
    name : str
        Name of the score.
    error : bool, default=False
        If True, the axis shows 100 (1 - score), in percent.

    Returns
    -------
    str

    Examples
    --------
    >>> from skastro.plotting.style import score_label
    >>> score_label("accuracy"), score_label("accuracy", error=True)
    ('Accuracy', '1 − accuracy (%)')
    """
    if error:
        return f"1 − {name} (%)"
    return name[0].upper() + name[1:] if name[0].isascii() else name  # η stays η
