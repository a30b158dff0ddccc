"""Positions on the sky: separations, and what lies within a cone."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skastro.inputs import as_target, in_unit

__all__ = ["ARCSEC", "check_positions", "check_radius", "cone", "sky_separation", "unit_vectors"]

ARCSEC = np.pi / 180 / 3600  # in radians


def check_positions(ra: Any, dec: Any) -> tuple[np.ndarray, np.ndarray]:
    """Convert positions to arrays of degrees, and refuse those that lie nowhere on the sky.

    Parameters
    ----------
    ra, dec : float or array-like of shape (n,)
        Right ascension and declination in degrees, or angles with a unit of astropy. Right ascension may be counted
        round and round.

    Returns
    -------
    ra : ndarray of shape (n,), float64
    dec : ndarray of shape (n,), float64

    Raises
    ------
    ValueError
        If only one of the two is given, they differ in length, a value is missing or infinite, a declination is
        beyond a pole, or a unit is none of angles.

    Examples
    --------
    >>> from skastro.search.sky import check_positions
    >>> check_positions(10.0, 95.0)
    Traceback (most recent call last):
    ...
    ValueError: dec must be from -90 to 90 degrees; row 0 has 95.0.
    """
    if ra is None or dec is None:
        raise ValueError("Positions need both ra and dec, in degrees.")
    ra, dec = (_degrees(name, values) for name, values in (("ra", ra), ("dec", dec)))
    if ra.shape != dec.shape or ra.ndim != 1:
        raise ValueError(f"ra and dec must be one per object; their shapes are {ra.shape} and {dec.shape}.")
    beyond = np.flatnonzero(np.abs(dec) > 90)
    if len(beyond):
        raise ValueError(f"dec must be from -90 to 90 degrees; row {beyond[0]} has {dec[beyond[0]]}.")
    return ra, dec


def _degrees(name: str, values: Any) -> np.ndarray:
    degrees = np.atleast_1d(np.asarray(as_target(in_unit(values, "deg", name), name), dtype=np.float64))
    bad = np.flatnonzero(~np.isfinite(degrees))
    if len(bad):
        raise ValueError(f"{name} has {len(bad)} infinite values, the first in row {bad[0]}.")
    return degrees


def check_radius(radius: Any) -> float:
    """Convert a radius to a number of arcseconds, and refuse a negative one.

    Parameters
    ----------
    radius : float
        In arcseconds, or an angle with a unit of astropy.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If it is no number, negative, or its unit is none of angles.

    Examples
    --------
    >>> from astropy.coordinates import Angle
    >>> from skastro.search.sky import check_radius
    >>> check_radius(Angle(2, "arcmin")), check_radius(3.0)
    (120.0, 3.0)
    """
    arcseconds = in_unit(radius, "arcsec", "radius")
    if np.ndim(arcseconds) or not arcseconds >= 0:
        raise ValueError(f"radius must be a number of arcseconds, 0 or more; got {radius}.")
    return float(arcseconds)


def unit_vectors(ra: ArrayLike, dec: ArrayLike) -> np.ndarray:
    """Convert positions to points on the unit sphere, which know no seam and no poles.

    Parameters
    ----------
    ra, dec : array-like of shape (n,)
        In degrees.

    Returns
    -------
    ndarray of shape (n, 3), float64

    Examples
    --------
    >>> from skastro.search.sky import unit_vectors
    >>> unit_vectors([0.0, 360.0], [0.0, 0.0]).round(9).tolist()
    [[1.0, 0.0, 0.0], [1.0, -0.0, 0.0]]
    """
    angle, height = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(height) * np.cos(angle), np.cos(height) * np.sin(angle), np.sin(height)], axis=-1)


def sky_separation(ra: ArrayLike, dec: ArrayLike, other_ra: ArrayLike, other_dec: ArrayLike) -> np.ndarray:
    r"""Compute the great-circle separation of positions, pair by pair.

    .. math:: \theta = 2 \arctan \frac{\|a - b\|}{\|a + b\|}

    of the unit vectors :math:`a, b`: accurate for neighbors and for opposite points alike.

    Parameters
    ----------
    ra, dec, other_ra, other_dec : array-like
        In degrees, or angles with a unit of astropy, of shapes that broadcast.

    Returns
    -------
    ndarray
        In arcseconds.

    Raises
    ------
    ValueError
        If a unit is none of angles.

    Examples
    --------
    >>> from skastro.search import sky_separation
    >>> sky_separation(359.9995, 0.0, 0.0005, 0.0).round(6)
    np.float64(3.6)
    """
    given = {"ra": ra, "dec": dec, "other_ra": other_ra, "other_dec": other_dec}
    ra, dec, other_ra, other_dec = (in_unit(values, "deg", name) for name, values in given.items())
    first, second = unit_vectors(*np.broadcast_arrays(ra, dec)), unit_vectors(*np.broadcast_arrays(other_ra, other_dec))
    chord, sum_ = np.linalg.norm(first - second, axis=-1), np.linalg.norm(first + second, axis=-1)
    return 2 * np.arctan2(chord, sum_) / ARCSEC


def cone(ra: np.ndarray, dec: np.ndarray, at_ra: float, at_dec: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Find what lies within a radius of a position, nearest first.

    Parameters
    ----------
    ra, dec : ndarray of shape (n,)
        Positions of all, in degrees.
    at_ra, at_dec : float
        Center of the cone, in degrees.
    radius : float
        In arcseconds, or an angle with a unit of astropy.

    Returns
    -------
    rows : ndarray of int
        Numbers of the rows.
    separations : ndarray of float64
        In arcseconds.

    Raises
    ------
    ValueError
        If the radius is negative, or its unit is none of angles.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.search.sky import cone
    >>> cone(np.array([10.0, 10.001, 50.0]), np.array([89.9, 89.9, 0.0]), 10.0, 89.9, 60.0)[0]
    array([0, 1])
    """
    radius = check_radius(radius)
    separations = sky_separation(ra, dec, at_ra, at_dec)
    rows = np.flatnonzero(separations <= radius)
    rows = rows[np.argsort(separations[rows], kind="stable")]
    return rows, separations[rows]
