"""Arrays of images: reshape rows, check pixels, and measure bands.

NumPy only. The whole array is never copied: all functions read memory maps in chunks.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from skastro.missing import check_ivar

__all__ = [
    "as_pixels",
    "center_crop",
    "check_finite",
    "check_pixels",
    "check_shape",
    "chunks",
    "fold",
    "fold_ivar",
    "measure_bands",
]

CHUNK_VALUES = 1 << 24  # pixels read at once: 64 MB as float32
SAMPLE_VALUES = 1 << 25  # pixels used to measure the band statistics


def fold(X: np.ndarray, image_shape: tuple[int, int, int] | None = None) -> np.ndarray:
    """Reshape an array to images.

    Parameters
    ----------
    X : ndarray of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
        Images, single-band images, or flattened rows.
    image_shape : tuple of int, default=None
        ``(bands, height, width)`` of a flattened row; None makes each row an image of one line.

    Returns
    -------
    ndarray of shape (n, bands, height, width)
        A view.

    Raises
    ------
    ValueError
        If the rows cannot be reshaped, or the array has another number of dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.images import fold
    >>> fold(np.zeros((5, 12)), (3, 2, 2)).shape
    (5, 3, 2, 2)
    """
    if X.ndim == 2:
        if image_shape is not None and len(image_shape) != 3:
            raise ValueError(f"image_shape must be (bands, height, width); got {tuple(image_shape)}.")
        bands, height, width = image_shape or (1, 1, X.shape[1])
        if bands * height * width != X.shape[1]:
            raise ValueError(
                f"Rows of {X.shape[1]} values do not fold into image_shape={tuple(image_shape or ())}, "
                f"which needs {bands * height * width}."
            )
        return X.reshape(len(X), bands, height, width)
    if X.ndim == 3:
        return X[:, None]
    if X.ndim == 4:
        return X
    raise ValueError(
        f"Images come as (n, bands, height, width), (n, height, width) or rows of pixels; got {X.ndim} dimensions."
    )


def fold_ivar(ivar: Any, images: np.ndarray, image_shape: tuple[int, int, int] | None = None) -> np.ndarray:
    """Reshape inverse variances to images, and check them.

    Parameters
    ----------
    ivar : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
        Inverse variance in the inverse square of the images' unit; 0 marks a missing pixel.
    images : ndarray of shape (n, bands, height, width)
        Images that they belong to.
    image_shape : tuple of int, default=None
        ``(bands, height, width)`` of a flattened row.

    Returns
    -------
    ndarray of shape (n, bands, height, width)

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
    folded = fold(np.asarray(ivar), image_shape)
    if folded.shape != images.shape:
        raise ValueError(f"ivar of shape {folded.shape} does not go with images of shape {images.shape}.")
    for start, chunk in chunks(folded):
        check_ivar(chunk, chunk.shape, start)
    return folded


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
        Consecutive images as uint8 or float32.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.images import chunks
    >>> [start for start, chunk in chunks(np.zeros((3, 1, 2, 2)))]
    [0]
    """
    step = max(1, CHUNK_VALUES // max(1, images[:1].size))
    for start in range(0, len(images), step):
        yield start, as_pixels(images[start : start + step])


def check_pixels(images: np.ndarray) -> None:
    """Raise an error if pixels are not finite or all images are constant.

    Parameters
    ----------
    images : ndarray of shape (n, bands, height, width)
        Images.

    Raises
    ------
    ValueError
        If pixels are NaN or infinite, or every image is constant.

    Warns
    -----
    UserWarning
        If some images are constant.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.images import check_pixels
    >>> check_pixels(np.full((2, 1, 2, 2), np.nan))
    Traceback (most recent call last):
    ...
    ValueError: X has 8 NaN or infinite pixels in images 0 to 1, the first in image 0; loaders have fill= ...
    """
    constant = 0
    for start, chunk in chunks(images):
        check_finite(chunk, start)
        constant += int(np.sum(chunk.min(axis=(1, 2, 3)) == chunk.max(axis=(1, 2, 3))))
    if images[0].size == 1:  # a single pixel cannot vary
        return
    if constant == len(images):
        raise ValueError(f"All {constant} images are constant: there is nothing to learn from.")
    if constant:
        warnings.warn(f"{constant} of {len(images)} images are constant.", UserWarning, stacklevel=2)


def check_finite(chunk: np.ndarray, rows: int | np.ndarray = 0) -> None:
    """Raise an error if pixels are NaN or infinite.

    Parameters
    ----------
    chunk : ndarray of shape (n, bands, height, width)
        Some images.
    rows : int or ndarray of int of shape (n,), default=0
        Number of the first of them, or of each.

    Raises
    ------
    ValueError
        If pixels are NaN or infinite; the error states their number and the first image that has one.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.images import check_finite
    >>> check_finite(np.array([[[[1.0]]], [[[np.inf]]]]), rows=10)
    Traceback (most recent call last):
    ...
    ValueError: X has 1 NaN or infinite pixels in images 10 to 11, the first in image 11; loaders have fill= ...
    """
    if chunk.dtype.kind in "iub":
        return
    finite = np.isfinite(chunk)
    if finite.all():
        return
    rows = np.arange(len(chunk)) + rows if isinstance(rows, int) else rows
    first = int(np.argmin(finite.all(axis=(1, 2, 3))))
    raise ValueError(
        f"X has {finite.size - np.count_nonzero(finite)} NaN or infinite pixels in images {rows[0]} to {rows[-1]}, "
        f"the first in image {rows[first]}; loaders have fill= to replace them."
    )


def check_shape(shape: tuple[int, ...], bands: int | None, size: tuple[int, int] | None) -> None:
    """Raise an error if images have the wrong number of bands or are too small for the window.

    Parameters
    ----------
    shape : tuple of int
        ``(n, bands, height, width)`` of the images.
    bands : int or None
        Number of bands seen in fit; None in fit itself.
    size : tuple of int or None
        Height and width of the window that the encoder sees.

    Raises
    ------
    ValueError
        If bands or size do not match; the error states both, and how to move the bands if they seem to be last.

    Examples
    --------
    >>> from skastro.images import check_shape
    >>> check_shape((10, 64, 64, 3), None, None)
    Traceback (most recent call last):
    ...
    ValueError: X of shape (10, 64, 64, 3) looks to have its bands last: give np.moveaxis(X, -1, 1).
    """
    _, came, height, width = shape
    if bands is None and came == height and width <= 10 < height:
        raise ValueError(f"X of shape {shape} looks to have its bands last: give np.moveaxis(X, -1, 1).")
    if bands is not None and came != bands:
        hint = " Its last axis looks like the bands: give np.moveaxis(X, -1, 1)." if width == bands else ""
        raise ValueError(f"X has {came} bands, but {bands} were learned in fit.{hint}")
    if size is not None and (height < size[0] or width < size[1]):
        raise ValueError(f"Images of {height} × {width} pixels are smaller than the window of {size[0]} × {size[1]}.")


def measure_bands(images: np.ndarray, stretch: str | None = None) -> dict[str, np.ndarray]:
    r"""Measure noise, mean and standard deviation of each band on an evenly spaced sample of the images.

    Parameters
    ----------
    images : ndarray of shape (n, bands, height, width)
        Training images.
    stretch : {"standard", "asinh"} or None, default=None
        Input of the encoder: flux as it is, :math:`\operatorname{asinh}(x/\beta)` with :math:`\beta` the noise, or raw
        pixels.

    Returns
    -------
    dict of ndarray of shape (bands,)
        ``noise``: 1.4826 × the median absolute deviation from the median; ``mean`` and ``std`` after the stretch
        (0 and 1 for ``stretch=None``); for ``"asinh"`` also ``softening`` :math:`\beta`: the noise, or, if more
        than half of the pixels are equal (clipped images), a tenth of the standard deviation.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.images import measure_bands
    >>> images = np.array([0.0, 1.0, 2.0, 3.0]).reshape(1, 1, 2, 2)
    >>> {name: float(value[0]) for name, value in measure_bands(images, "standard").items()}
    {'noise': 1.4826, 'mean': 1.5, 'std': 1.118...}
    """
    step = max(1, images.size // SAMPLE_VALUES)
    bands = images.shape[1]
    sample = images[::step].astype(np.float32).swapaxes(0, 1).reshape(bands, -1)
    deviation = np.abs(sample - np.median(sample, axis=1, keepdims=True))
    measured = {"noise": 1.4826 * np.median(deviation, axis=1).astype(np.float64)}
    if stretch == "asinh":
        softening = np.where(measured["noise"] > 0, measured["noise"], 0.1 * sample.std(axis=1))
        measured["softening"] = np.where(softening > 0, softening, 1.0)
        sample = np.arcsinh(sample / measured["softening"][:, None])
    if stretch is None:
        return {**measured, "mean": np.zeros(bands), "std": np.ones(bands)}
    mean, std = sample.mean(axis=1, dtype=np.float64), sample.std(axis=1, dtype=np.float64)
    # A constant band varies only by rounding; dividing by that would turn it into signal.
    std = np.where(std > np.finfo(np.float32).eps * np.abs(mean), std, 1.0)
    return {**measured, "mean": mean, "std": std}
