"""Density of points, by which they are colored."""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

__all__ = ["density"]


def density(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Count the points around each point, on a smoothed grid.

    Parameters
    ----------
    x, y : ndarray of shape (n,)
        Places of the points.

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.plotting.density import density
    >>> crowd = density(np.array([0.0, 0.01, 0.02, 1.0]), np.array([0.0, 0.0, 0.01, 1.0]))
    >>> bool(crowd[0] > crowd[3])
    True
    """
    n_cells = int(np.clip(np.sqrt(len(x)), 5, 80))
    counts, *edges = np.histogram2d(x, y, bins=n_cells)
    places = [n_cells * (v - e[0]) / (e[-1] - e[0]) - 0.5 for v, e in zip((x, y), edges, strict=True)]
    return map_coordinates(gaussian_filter(counts, 1), places, order=1, mode="nearest")
