"""Pixels of one file: which are missing, where the bands are, and the smallest dtype that keeps them."""

from typing import NamedTuple

import numpy as np

from skastro.images import FEW_BANDS, bands_last

__all__ = ["Pixels", "RefusedError", "bands_first", "exact_floats", "filled", "narrowed", "present"]


class RefusedError(Exception):
    """Predicate of a sentence about a file that is whole, but that cannot be read without loss or guesses."""


class Pixels(NamedTuple):
    """Pixels of one file.

    Parameters
    ----------
    values : ndarray of shape (bands, height, width)
        Pixels in the dtype of the file, or float64 where the file scales them.
    missing : ndarray of shape (bands, height, width), bool
        Pixels that the file marks as missing; NaN and infinity need no mark.
    step : float
        Smallest difference between two numbers that the file can hold: 1 for integers, 0 for floats.
    """

    values: np.ndarray
    missing: np.ndarray
    step: float


def bands_first(data: np.ndarray, bands_axis: int | None) -> np.ndarray | None:
    """View data as (bands, height, width).

    Parameters
    ----------
    data : ndarray
        Image of any shape.
    bands_axis : {1, -1} or None
        Axis of the bands in a stack of such images; None goes by the shape.

    Returns
    -------
    ndarray of shape (bands, height, width), or None
        None if there are fewer than two axes, or more than three that are longer than one.

    Raises
    ------
    RefusedError
        If the shape does not tell where the bands are.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.datasets.pixels import bands_first
    >>> bands_first(np.zeros((64, 48, 3)), None).shape
    (3, 64, 48)
    """
    leading = [length for length in data.shape[:-2] if length > 1]
    if data.ndim < 2 or len(leading) > 1:
        return None
    cube = data.reshape([*(leading or [1]), *data.shape[-2:]])
    if bands_axis is None and leading:
        bands_axis = find_axis(cube.shape)
    return np.moveaxis(cube, -1, 0) if bands_axis == -1 and data.ndim > 2 else cube


def find_axis(shape: tuple[int, ...]) -> int:
    """Find by the shape of an image with bands where they are.

    Parameters
    ----------
    shape : tuple of three int
        Shape of the image.

    Returns
    -------
    {1, -1}
        Axis of the bands in a stack of such images.

    Raises
    ------
    RefusedError
        If the shape does not tell.

    Examples
    --------
    >>> from skastro.datasets.pixels import find_axis
    >>> find_axis((64, 64, 3)), find_axis((3, 64, 64))
    (-1, 1)
    """
    first, middle, last = shape
    if first == 1:
        return 1
    if max(first, last) <= FEW_BANDS and max(first, last) < middle:
        raise RefusedError(f"has shape {shape}, bands first or last: say bands_axis=1 or bands_axis=-1.")
    return -1 if bands_last(shape) else 1


def present(pixels: Pixels, sentinels: np.ndarray) -> np.ndarray:
    """Tell the pixels that hold a value.

    Parameters
    ----------
    pixels : Pixels
        Pixels of one file.
    sentinels : ndarray of shape (n,), float
        Numbers that stand for missing pixels.

    Returns
    -------
    ndarray of shape (bands, height, width), bool
        False for pixels that are marked, are no finite numbers, or equal a sentinel: as far as integers that the
        file scales, or its float32, can tell.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.datasets.pixels import Pixels, present
    >>> image = np.array([[[-9999, 5]]])
    >>> present(Pixels(image, np.zeros(image.shape, bool), step=1), np.array([-9999.0]))
    array([[[False,  True]]])
    """
    values, missing, step = pixels
    there = np.isfinite(values) & ~missing
    for sentinel in sentinels:
        if step:
            there &= abs(values.astype(np.float64) - sentinel) >= step / 2
        else:
            with np.errstate(over="ignore"):
                there &= values != values.dtype.type(sentinel)
    return there


def filled(pixels: Pixels, there: np.ndarray, fill: float | str | None) -> np.ndarray:
    """Fill the pixels that are not there.

    Parameters
    ----------
    pixels : Pixels
        Pixels of one file.
    there : ndarray of shape (bands, height, width), bool
        Pixels that hold a value.
    fill : float, "median" or None
        Value for the others: a number, or the median of the band; None allows no others.

    Returns
    -------
    ndarray of shape (bands, height, width)
        Pixels in the dtype of the file if nothing is missing, else float64.

    Raises
    ------
    RefusedError
        If pixels are missing and `fill` is None, or a band has no pixel to take the median of.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.datasets.pixels import Pixels, filled
    >>> image = np.array([[[-9999, 5]]])
    >>> filled(Pixels(image, image < 0, step=1), image > 0, fill=0)
    array([[[0., 5.]]])
    """
    if there.all():
        return pixels.values
    if fill is None:
        raise RefusedError(
            f'has {(~there).sum()} pixels that are missing or not finite; fill= replaces them (0 or "median", say).'
        )
    values = exact_floats(np.where(there, pixels.values, pixels.values.dtype.type(0)))
    if fill == "median":
        if not there.any(axis=(1, 2)).all():
            raise RefusedError('has a band without one finite pixel: fill="median" has nothing to go by.')
        return np.where(there, values, np.nanmedian(np.where(there, values, np.nan), axis=(1, 2), keepdims=True))
    return np.where(there, values, fill)


def narrowed(values: np.ndarray, step: float) -> np.ndarray:
    """Convert to the smallest of uint8, float32 and float64 that keeps the values.

    Parameters
    ----------
    values : ndarray
        Finite numbers.
    step : float
        Smallest difference to keep: 1 for integers; 0 for floats, which may be rounded.

    Returns
    -------
    ndarray
        What is uint8 as it is. Float32 if that keeps the differences, does not overflow and does not underflow, else
        float64.

    Raises
    ------
    RefusedError
        If not even float64 keeps the integers.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.datasets.pixels import narrowed
    >>> narrowed(np.array([2**24]), step=1).dtype, narrowed(np.array([2**24 + 1]), step=1).dtype
    (dtype('float32'), dtype('float64'))
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "f" and values.dtype.itemsize <= 4:
        return values.astype(np.float32)
    wide = exact_floats(values)
    with np.errstate(over="ignore", under="ignore"):
        narrow = wide.astype(np.float32)
    kept = (narrow == wide) | (np.isfinite(narrow) & (abs(narrow) >= np.finfo(np.float32).tiny))
    if step:
        kept &= abs(narrow - wide) < step / 2
    return narrow if kept.all() else wide


def exact_floats(values: np.ndarray) -> np.ndarray:
    """Convert to float64, unless that changes integers.

    Parameters
    ----------
    values : ndarray
        Integers or floats.

    Returns
    -------
    ndarray of float64
        The same numbers, in native byte order.

    Raises
    ------
    RefusedError
        If there are integers beyond 2**53.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.datasets.pixels import exact_floats
    >>> exact_floats(np.array([2**53]))
    array([9.00719925e+15])
    """
    if values.dtype.kind in "iu" and max(int(values.max()), -int(values.min())) > 2**53:
        raise RefusedError("has integers beyond 2**53, which float64 would round.")
    return values.astype(np.float64)
