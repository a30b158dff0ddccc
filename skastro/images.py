"""Arrays of images: reshape rows, find the axis of the bands, cut windows, read in chunks. No torch."""

import copy
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from skastro._warning import warn
from skastro.missing import check_ivar, filled_ivar
from skastro.sources import Source

__all__ = [
    "InverseVariances",
    "as_pixels",
    "bands_last",
    "center_crop",
    "check_shape",
    "chunks",
    "fold",
    "fold_ivar",
    "warn_of_unfolded",
]

CHUNK_VALUES = 1 << 24  # pixels read at once: 64 MB as float32
FEW_BANDS = 10  # as many as surveys have; a last axis so short beside longer ones is that of the bands
LONG = 256  # values of a row that is no longer taken for a table's
USUAL_BANDS = (1, 3, 4, 5)  # of images that are flattened


def fold(X: Any, image_shape: tuple[int, ...] | None = None, bands_axis: int | None = None) -> Any:
    """Reshape an array to images.

    Parameters
    ----------
    X : ndarray or Source of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
        Images, single-band images, or flattened rows.
    image_shape : tuple of int, default=None
        ``(bands, height, width)`` of a flattened row; None makes each row an image of one line.
    bands_axis : {1, -1} or None, default=None
        -1 if the bands come last: ``(n, height, width, bands)``, or rows flattened from that.

    Returns
    -------
    ndarray or Source of shape (n, bands, height, width)
        A view.

    Raises
    ------
    ValueError
        If the rows cannot be reshaped, or the array has another number of dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.images import fold
    >>> fold(np.zeros((5, 12)), (3, 2, 2)).shape, fold(np.zeros((5, 8, 9, 3)), bands_axis=-1).shape
    ((5, 3, 2, 2), (5, 3, 8, 9))
    """
    if isinstance(X, Source):
        still = X.ndim == 4 and bands_axis != -1
        return X if still else X.then(partial(fold, image_shape=image_shape, bands_axis=bands_axis))
    if X.ndim == 2:
        if image_shape is not None and len(image_shape) != 3:
            raise ValueError(f"image_shape must be (bands, height, width); got {tuple(image_shape)}.")
        bands, height, width = image_shape or (1, 1, X.shape[1])
        if bands * height * width != X.shape[1]:
            raise ValueError(
                f"Rows of {X.shape[1]} values do not fold into image_shape={tuple(image_shape or ())}, "
                f"which needs {bands * height * width}."
            )
        X = X.reshape(len(X), *((height, width, bands) if bands_axis == -1 else (bands, height, width)))
    if X.ndim == 3:
        return X[:, None]
    if X.ndim == 4:
        return X if bands_axis != -1 else np.moveaxis(X, -1, 1)
    raise ValueError(
        f"Images come as (n, bands, height, width), (n, height, width) or rows of pixels; got {X.ndim} dimensions."
    )


def fold_ivar(
    ivar: Any, images: Any, image_shape: tuple[int, int, int] | None = None, bands_axis: int | None = None
) -> Any:
    """Reshape inverse variances to images, and check them: those of a source when they are read.

    Parameters
    ----------
    ivar : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
        Inverse variance in the inverse square of the images' unit; 0 marks a missing pixel.
    images : ndarray of shape (n, bands, height, width)
        Images that they belong to.
    image_shape : tuple of int, default=None
        ``(bands, height, width)`` of a flattened row.
    bands_axis : {1, -1} or None, default=None
        As in `fold`.

    Returns
    -------
    ndarray or InverseVariances of shape (n, bands, height, width)

    Raises
    ------
    ValueError
        If the shape is not that of the images, or a value is negative, NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.images import fold_ivar
    >>> fold_ivar(np.ones((5, 4, 4)), np.zeros((5, 1, 4, 4))).shape
    (5, 1, 4, 4)
    """
    folded = fold(filled_ivar(ivar), image_shape, bands_axis)
    if folded.shape != images.shape:
        raise ValueError(f"ivar of shape {folded.shape} does not go with images of shape {images.shape}.")
    if isinstance(folded, Source):
        return InverseVariances(folded)
    for start, chunk in chunks(folded):
        check_ivar(chunk, chunk.shape, start)
    return folded


def scaled_ivar(ivar: np.ndarray, scale: float) -> np.ndarray:
    """Multiply inverse variances, of which only the product must be in the range of single precision.

    Parameters
    ----------
    ivar : ndarray
        Inverse variances.
    scale : float
        Factor.

    Returns
    -------
    ndarray, float32

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.images import scaled_ivar
    >>> round(float(scaled_ivar(np.float32([4e-34]), 1e40)[0]))
    4000000
    """
    out = np.empty(ivar.shape, np.float32)
    return np.multiply(ivar, scale, dtype=np.float64, out=out, casting="same_kind")


class InverseVariances:
    """Inverse variances of a source, refused where negative, NaN or infinite, as they are read.

    Parameters
    ----------
    images : Source of shape (n, bands, height, width)
        Inverse variances.
    scale : float, default=1.0
        What they are multiplied by.
    """

    def __init__(self, images: Any, scale: float = 1.0) -> None:
        self.images = images
        self.scale = scale
        self.shape, self.ndim, self.size = images.shape, images.ndim, images.size
        self.dtype = np.dtype(np.float32)

    def __mul__(self, scale: float) -> "InverseVariances":
        return InverseVariances(self.images, self.scale * scale)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        ivar = np.asarray(self.images[rows])
        numbers = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        wrong = ~np.isfinite(ivar) | (ivar < 0)
        if wrong.any():
            check_ivar(ivar, ivar.shape, int(numbers[np.argwhere(wrong)[0, 0]] - np.argwhere(wrong)[0, 0]))
        return scaled_ivar(ivar, self.scale)

    def over(self, images: Any) -> "InverseVariances":
        """Read from something else that has the same rows.

        Parameters
        ----------
        images : Source or what stands for it
            The same inverse variances.

        Returns
        -------
        InverseVariances
        """
        other = copy.copy(self)
        other.images = images
        return other


def center_crop(images: Any, shape: tuple[int, int]) -> Any:
    """Cut the central window out of each image, as a view of an array or tensor.

    Parameters
    ----------
    images : array of shape (..., height, width)
        Images at least as large as `shape`.
    shape : tuple of int
        Height and width of the window in pixels.

    Returns
    -------
    array of shape (..., shape[0], shape[1])

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.images import center_crop
    >>> center_crop(np.arange(16).reshape(1, 4, 4), (2, 2)).tolist()
    [[[5, 6], [9, 10]]]
    """
    height, width = shape
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]


def as_pixels(images: np.ndarray) -> np.ndarray:
    """Convert rows to contiguous arrays of native byte order: 8-bit stays, everything else becomes float32.

    Parameters
    ----------
    images : ndarray
        Rows of images of any real dtype and byte order.

    Returns
    -------
    ndarray
        Contiguous, writable array of uint8 or float32; `images` itself if it already is one.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.images import as_pixels
    >>> as_pixels(np.ones((1, 1, 2, 2), dtype=">f8")).dtype
    dtype('float32')
    """
    return np.require(images, dtype=np.uint8 if images.dtype == np.uint8 else np.float32, requirements=["C", "W"])


def chunks(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Iterate over the images in chunks.

    Parameters
    ----------
    images : ndarray of shape (n, ...)
        Images, in memory or mapped.

    Yields
    ------
    start : int
        Index of the chunk's first image.
    chunk : ndarray
        Consecutive images, as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.images import chunks
    >>> [start for start, chunk in chunks(np.zeros((3, 1, 2, 2)))]
    [0]
    """
    step = max(1, CHUNK_VALUES // max(1, images.size // len(images)))
    for start in range(0, len(images), step):
        yield start, images[start : start + step]


def bands_last(shape: tuple[int, ...]) -> bool:
    """Tell whether an image looks to have its bands last: few there, and fewer than on each other axis.

    Parameters
    ----------
    shape : tuple of three int
        Shape of the image.

    Returns
    -------
    bool

    Examples
    --------
    >>> from skastro.images import bands_last
    >>> bands_last((64, 64, 3)), bands_last((3, 64, 64))
    (True, False)
    """
    return shape[2] <= FEW_BANDS and shape[2] < min(shape[:2])


def check_image_shape(shape: tuple[int, ...], bands_axis: int | None) -> None:
    """Refuse the shape of an image that is a row of numbers if its bands look to be said last.

    Parameters
    ----------
    shape : tuple of int
        ``(bands, height, width)``, wherever the bands are in a row; another length is looked at elsewhere.
    bands_axis : {1, -1} or None
        What the user says of that; 1 takes any shape.

    Raises
    ------
    ValueError
        If the last number is small and the others are not.
    """
    if len(shape) == 3 and bands_axis != 1 and bands_last(shape):
        right = (shape[2], *shape[:2])
        raise ValueError(
            f"image_shape is (bands, height, width), and {tuple(shape)} looks to have its bands last: say {right}, "
            "and bands_axis=-1 if they are last in each row (or bands_axis=1, if it is right)."
        )


def warn_of_unfolded(length: int) -> None:
    """Warn of rows that are to be images of one line, if they have as many values as square images of a few bands.

    Parameters
    ----------
    length : int
        Values of a row.

    Warns
    -----
    UserWarning
        With the shape that the images may have had.

    Examples
    --------
    >>> import warnings
    >>> from skastro.images import warn_of_unfolded
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     warn_of_unfolded(3072)
    >>> print(told[0].message)
    Rows of 3072 values are read as images of one line: image_shape=(3, 32, 32) folds them, (1, 1, 3072) says that ...
    """
    squares = {bands: math.isqrt(length // bands) for bands in USUAL_BANDS}
    folded = [(bands, side, side) for bands, side in squares.items() if bands * side**2 == length]
    if length >= LONG and folded:
        warn(
            f"Rows of {length} values are read as images of one line: image_shape={folded[0]} folds them, "
            f"(1, 1, {length}) says that they are meant so."
        )


def check_shape(
    shape: tuple[int, ...], bands: int | None, size: tuple[int, int] | None, bands_axis: int | None = None
) -> None:
    """Raise an error if images have the wrong number of bands or are too small for the window.

    Parameters
    ----------
    shape : tuple of int
        ``(n, bands, height, width)`` of the images.
    bands : int or None
        Number of bands seen in fit; None in fit itself.
    size : tuple of int or None
        Height and width of the window that the encoder sees.
    bands_axis : {1, -1} or None, default=None
        What the user says; None refuses a shape whose last axis looks like the bands.

    Raises
    ------
    ValueError
        If bands or size do not match; the error states both, and what to do if the bands seem to be last.

    Examples
    --------
    >>> from skastro.images import check_shape
    >>> check_shape((10, 64, 48, 3), None, None)
    Traceback (most recent call last):
    ...
    ValueError: X of shape (10, 64, 48, 3) looks to have its bands last: give np.moveaxis(X, -1, 1), or say ...
    """
    n, came, height, width = shape
    if bands is None and bands_axis is None and bands_last((came, height, width)):
        raise ValueError(
            f"X of shape {shape} looks to have its bands last: give np.moveaxis(X, -1, 1), or say bands_axis=-1 "
            "(or 1, if they are first)."
        )
    if bands is None and bands_axis is None and came == 1 and width in (3, 4) and n > FEW_BANDS < height:
        raise ValueError(
            f"X of shape {(n, height, width)} looks like one image with its bands last: give X[np.newaxis] with "
            "bands_axis=-1 (or bands_axis=1, if these are images of few columns)."
        )
    if bands is None and bands_axis == -1 and bands_last((width, came, height)):
        raise ValueError(
            f"bands_axis=-1, but X of shape {(n, height, width, came)} looks to have its bands first: "
            "leave bands_axis=None."
        )
    if bands is not None and came == 1 < bands == n:
        raise ValueError(f"X of shape {(n, height, width)} looks like one image of {bands} bands: give X[np.newaxis].")
    if bands is not None and came != bands:
        hint = " Its last axis looks like the bands: give np.moveaxis(X, -1, 1)." if width == bands else ""
        raise ValueError(f"X has {came} bands, but {bands} were learned in fit.{hint}")
    if size is not None and (height < size[0] or width < size[1]):
        raise ValueError(f"Images of {height} × {width} pixels are smaller than the window of {size[0]} × {size[1]}.")
