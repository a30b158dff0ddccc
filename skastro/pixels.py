"""Values of images: what is missing, constant or far outside, in which unit, and how they are read batch by batch.

No torch. The whole array is never copied: memory maps are read in chunks.
"""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from skastro._warning import warn
from skastro.images import as_pixels, chunks
from skastro.outliers import FAR, limits, warn_of_far
from skastro.sources import Source

__all__ = [
    "Pixels",
    "check_finite",
    "check_pixels",
    "learn_pixels",
    "measure_bands",
    "report",
    "rows_of",
    "sample_of",
    "unit_of",
]

SAMPLE_VALUES = 1 << 25  # pixels used to measure the band statistics
SOURCE_VALUES = 1 << 24  # the same of a source, of which they are held in memory
RUNS = 256  # places of a source at which they are read
CENTER_VALUES = 1 << 18  # pixels used to find what the extremes are measured from
STEPS = 8  # of single precision, below which a band is not resolved
FLAT = 1e-2  # of what is usual: noise alone reaches more, in a radio survey of the largest range of fluxes too
BYTE = 255  # the largest of 8 bits
LARGEST = 1e38  # what is said to be usual beyond this is not known
# Beyond these, float32 loses squares and products of pixels: other units then.
SMALL, LARGE = 1e-12, 1e12


class Pixels:
    """Images as encoders read them: refused where not finite, bounded where far outside, uint8 or float32.

    Parameters
    ----------
    images : ndarray or Source of shape (n, bands, height, width)
        Raw images, in memory, mapped, or on disk.
    learned : mapping of str to ndarray of shape (bands,)
        What `learn_pixels` gave: ``unit``, and ``center``, ``bound`` and ``limit`` in the images' own unit.
    mask : ndarray of bool of shape (n,), default=None
        True for the images that are present; the others are read as zeros. None is all.
    told : bool, default=False
        Whether the user has been warned of what is far outside.

    Attributes
    ----------
    far : dict of int to None
        Rows read so far that have pixels beyond the limit.
    unit : float
        What the pixels are divided by.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.pixels import Pixels
    >>> learned = {"unit": [1.0], "center": [0.0], "bound": [2.0], "limit": [9.0]}
    >>> star = np.array([[[[1.0, 5.0]]], [[[1.0, 5e6]]]])
    >>> Pixels(star, {name: np.array(value) for name, value in learned.items()})[:].tolist()
    [[[[1.0, 5.0]]], [[[1.0, 2.0]]]]
    """

    def __init__(
        self,
        images: np.ndarray,
        learned: Mapping[str, np.ndarray],
        mask: np.ndarray | None = None,
        told: bool = False,
    ) -> None:
        self.images = images
        self.unit = float(learned["unit"][0])
        self.low, self.high = learned["center"] - learned["limit"], learned["center"] + learned["limit"]
        bounds = (learned["center"] - learned["bound"], learned["center"] + learned["bound"])
        self.bounds = [bound[:, np.newaxis, np.newaxis] for bound in bounds]
        self.mask = None if mask is None or mask.all() else mask
        self.told = told
        self.far: dict[int, None] = {}
        # What is usual, where it is known, and the widest range of an image read beside it.
        self.usual, self.known = learned["limit"] / FAR, learned["limit"] < LARGEST * self.unit
        self.widest, self.ends = np.zeros(1), np.zeros(2)  # arrays, which `over` shares
        self.of_bytes = bool(np.isinf(learned["limit"]).all())  # what was learned from had 8 bits

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the images."""
        return self.images.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.images.ndim

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.images.size

    @property
    def dtype(self) -> np.dtype:
        """Type in which they are read."""
        bounded = self.known.any()  # as of 8 bits nothing is
        return np.dtype(np.uint8 if self.images.dtype == np.uint8 and not bounded else np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def __getattr__(self, name: str) -> Any:
        """Read all for a method of arrays, such as ``max``, which a step of an augmentation may ask for."""
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        return getattr(self[:], name)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        chunk = np.asarray(self.images[rows])
        if self.dtype == np.uint8:
            return chunk
        numbers = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        present = np.ones(len(numbers), dtype=bool) if self.mask is None else self.mask[numbers]
        if not present.all():
            chunk = np.where(present[:, np.newaxis, np.newaxis, np.newaxis], chunk, 0)
        low, high = extremes(chunk, numbers)
        with np.errstate(over="ignore"):
            self.widest[0] = ((high - low) / self.usual)[:, self.known].max(initial=self.widest[0])
        self.ends[:] = low.min(initial=self.ends[0]), high.max(initial=self.ends[1])
        far = np.flatnonzero(present & ((low < self.low) | (high > self.high)).any(axis=1))
        if len(far):
            chunk = chunk.astype(np.float64)
            chunk[far] = np.clip(chunk[far], *self.bounds)
            self.far.update(dict.fromkeys(numbers[far].tolist()))
        return as_pixels(chunk if self.unit == 1 else chunk / np.float64(self.unit))

    def over(self, images: Any) -> "Pixels":
        """Read from something else that has the same rows; what is noted of them is noted here too.

        Parameters
        ----------
        images : ndarray, Source or what stands for it
            The same images.

        Returns
        -------
        Pixels
        """
        other = copy.copy(self)
        other.images = images
        return other

    def report(self) -> None:
        """Warn once of the images read so far that are far outside what was learned, or in another unit as it seems.

        Warns
        -----
        UserWarning
            With the number of images far outside and the first of them. Or if all are flat beside those learned from,
            or those had 8 bits and these are fractions, or beyond 0 to 255.
        """
        if self.told:
            return
        if self.far:
            warn_of_far(np.array(sorted(self.far)), len(self), "images", "those learned from")
            self.told = True
        elif self._strange is not None:
            warn(f"{self._strange}: are these in another unit?")
            self.told = True

    @property
    def _strange(self) -> str | None:
        """What tells of another unit, though no image is far outside."""
        if self.of_bytes and self.ends[0] == 0 < self.ends[1] <= 1:
            return "All pixels are between 0 and 1, and those learned from had 8 bits"
        if self.of_bytes and (self.ends[0] < 0 or self.ends[1] > BYTE):
            low, high = self.ends
            return f"Pixels reach from {low:.4g} to {high:.4g}, and those learned from had 8 bits, of 0 to {BYTE}"
        if self.known.any() and 0 < self.widest[0] < FLAT:
            return "No image varies by a hundredth of what those learned from do"
        return None


def report(arrays: Mapping[str, Any]) -> None:
    """Warn once of what was far outside, or constant, in those arrays of a fit that are images.

    Parameters
    ----------
    arrays : mapping of str to array-like
        What `skastro.modalities.Modality.inputs` gave.
    """
    for array in arrays.values():
        if isinstance(array, Pixels):
            array.report()


def rows_of(images: Any, rows: np.ndarray) -> Any:
    """Take rows of an array; of images they keep their unit, and all of them stay where they are.

    Parameters
    ----------
    images : ndarray or Pixels
        Rows.
    rows : ndarray of int
        Numbers of those to take.

    Returns
    -------
    ndarray or Pixels

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.pixels import rows_of
    >>> rows_of(np.arange(4), np.array([0, 2]))
    array([0, 2])
    """
    if not isinstance(images, Pixels):
        return images[rows]
    if len(rows) == len(images):
        return images
    taken = copy.copy(images)
    taken.images, taken.mask = images.images[rows], None if images.mask is None else images.mask[rows]
    taken.far = {}
    return taken


def unit_of(images: Any) -> float:
    """Return what the pixels of images were divided by.

    Parameters
    ----------
    images : ndarray, Pixels or None
        Images.

    Returns
    -------
    float
        1 for what is no `Pixels`.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.pixels import unit_of
    >>> unit_of(np.ones((2, 1, 3, 3)))
    1.0
    """
    return images.unit if isinstance(images, Pixels) else 1.0


def extremes(images: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the lowest and the highest pixel of each band of each image; refuse what is not finite.

    Parameters
    ----------
    images : ndarray of shape (n, bands, height, width)
        Some images.
    rows : ndarray of int of shape (n,)
        Their numbers.

    Returns
    -------
    low : ndarray of shape (n, bands), float64
    high : ndarray of shape (n, bands), float64

    Raises
    ------
    ValueError
        If pixels are NaN or infinite.
    """
    low, high = (reduced(images, axis=(2, 3)).astype(np.float64) for reduced in (np.min, np.max))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        check_finite(images, rows)
    return low, high


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
    >>> from skastro.pixels import check_finite
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


def sample_of(images: Any) -> tuple[Any, np.ndarray]:
    """Take what statistics are measured on: of a source some 17 million pixels, read at 256 places evenly spaced.

    Parameters
    ----------
    images : ndarray, Pixels or Source of shape (n, bands, height, width)
        Images.

    Returns
    -------
    sample : ndarray or Pixels
        Of a source what was read, in memory; else the images themselves.
    rows : ndarray of int
        Their numbers among the images.
    """
    rows = np.arange(len(images))
    source = images.images if isinstance(images, Pixels) else images
    if not isinstance(source, Source):
        return images, rows
    values = max(1, images.size // len(images))
    if len(rows) * values > SOURCE_VALUES:
        runs = np.array_split(rows, RUNS)
        length = max(1, SOURCE_VALUES // values // RUNS)
        rows = np.concatenate([run[:length] for run in runs])
    return images[rows] if isinstance(images, Pixels) else np.asarray(images[rows]), rows


def check_pixels(images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Find the extremes of all images; refuse pixels that are not finite, and images that are all constant.

    Parameters
    ----------
    images : ndarray, Pixels or Source of shape (n, bands, height, width)
        Images; of a source, only its sample is looked at: see `sample_of`.

    Returns
    -------
    low : ndarray of shape (n, bands), float64
        Lowest pixel of each band of each image.
    high : ndarray of shape (n, bands), float64
        Highest pixel.

    Raises
    ------
    ValueError
        If pixels are NaN or infinite, or every image is constant.

    Warns
    -----
    UserWarning
        If some images are constant, or a band of some images is.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.pixels import check_pixels
    >>> check_pixels(np.full((2, 1, 2, 2), np.nan))
    Traceback (most recent call last):
    ...
    ValueError: X has 8 NaN or infinite pixels in images 0 to 1, the first in image 0; loaders have fill= ...
    """
    return _checked(*sample_of(images))


def _checked(images: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = [extremes(chunk, rows[start : start + len(chunk)]) for start, chunk in chunks(images)]
    low, high = (np.concatenate(part) for part in zip(*parts, strict=True))
    if images.shape[2] * images.shape[3] > 1:  # a single pixel cannot vary
        warn_of_constant(low, high, rows)
    return low, high


def warn_of_constant(low: np.ndarray, high: np.ndarray, rows: np.ndarray) -> None:
    """Refuse images that are all constant, and warn of those that are, and of bands that hold nothing.

    Parameters
    ----------
    low, high : ndarray of shape (n, bands)
        Lowest and highest pixel of each band of each image.
    rows : ndarray of int of shape (n,)
        Their numbers.
    """
    constant = low.min(axis=1) == high.max(axis=1)
    if constant.all():
        raise ValueError(f"All {len(low)} images are constant: there is nothing to learn from.")
    if constant.any():
        warn(f"{constant.sum()} of {len(low)} images are constant.")
    empty = (low == high) & ~constant[:, np.newaxis]
    if empty.any():
        told = [
            f"band {band} in {column.sum()} (the first is image {rows[np.argmax(column)]})"
            for band, column in enumerate(empty.T)
            if column.any()
        ]
        warn(
            f"Bands are constant in images whose other bands are not: {', '.join(told)} of {len(low)} images. Are "
            "they missing there?"
        )


def learn_pixels(images: Any, stretch: str | None = None) -> dict[str, np.ndarray]:
    """Learn how to read and to normalize images, whatever their unit, also if a few hold a saturated star.

    Parameters
    ----------
    images : ndarray or Source of shape (n, bands, height, width)
        Training images; of a source, only its sample is looked at: see `sample_of`.
    stretch : {"standard", "asinh"} or None, default=None
        As in `measure_bands`.

    Returns
    -------
    dict of ndarray of shape (bands,)
        What `measure_bands` gives, of images that are not far outside, in units of ``unit``: 1, or a power of ten if
        float32 would lose what is around it. In the images' own unit, ``center``, a median; ``limit``, ten times the
        distance from it that 95 % of the images reach, beyond which an image is far outside; ``bound``, the largest
        distance in the other images, to which those far outside are bounded. Images of 8 bits have no limit.

    Raises
    ------
    ValueError
        If pixels are NaN or infinite, or every image is constant.

    Warns
    -----
    UserWarning
        If some images are constant or far outside, a band of some images is constant, or one lies so far above zero
        that float32 loses what it holds.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.pixels import learn_pixels
    >>> images = np.random.default_rng(0).normal(size=(20, 1, 8, 8)) * 1e-29
    >>> learned = learn_pixels(images, "standard")
    >>> float(learned["unit"][0]), round(float(learned["std"][0]), 1)
    (1e-30, 9.9)
    """
    n = len(images)
    images, numbers = sample_of(images)
    low, high = _checked(images, numbers)
    bands, rows = images.shape[1], np.arange(len(images))
    endless = np.full(bands, np.inf)
    learned = {"unit": np.ones(bands), "center": np.zeros(bands), "bound": endless, "limit": endless}
    if images.dtype == np.uint8:
        return {**measure_bands(images, stretch), **learned}
    center = np.median(_sample(images, rows, CENTER_VALUES), axis=1).astype(np.float64)
    with np.errstate(over="ignore"):
        reach = np.maximum(high - center, center - low)
    usual, limit = limits(reach)
    _warn_of_level(center, usual)
    unit = _unit(float(np.maximum(np.abs(center), usual).max()))
    limit = np.minimum(limit, float(np.finfo(np.float32).max) * unit)  # what float32 cannot hold is outside too
    far = (reach > limit).any(axis=1)
    if far.any():
        warn_of_far(numbers[far], n, "images", "most others")
        rows = rows if far.all() else rows[~far]  # of many bands, each image may have one that is far
    bound = np.minimum(reach[rows].max(axis=0), limit)
    learned |= {"unit": np.full(bands, unit), "center": center, "bound": bound, "limit": limit}
    return {**_measure(_sample(images, rows, SAMPLE_VALUES, unit), stretch), **learned}


def measure_bands(images: Any, stretch: str | None = None) -> dict[str, np.ndarray]:
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
    >>> from skastro.pixels import measure_bands
    >>> images = np.array([0.0, 1.0, 2.0, 3.0]).reshape(1, 1, 2, 2)
    >>> {name: float(value[0]) for name, value in measure_bands(images, "standard").items()}
    {'noise': 1.4826, 'mean': 1.5, 'std': 1.118...}
    """
    images, rows = sample_of(images)
    return _measure(_sample(images, np.arange(len(rows)), SAMPLE_VALUES), stretch)


def _sample(images: np.ndarray, rows: np.ndarray, count: int, unit: float = 1.0) -> np.ndarray:
    """Gather the pixels of each band from an evenly spaced sample of rows."""
    chosen = rows[:: max(1, images[:1].size * len(rows) // count)]
    few = images[chosen] if len(chosen) < len(images) else images
    scaled = few if unit == 1 else few / np.float64(unit)
    return scaled.swapaxes(0, 1).reshape(images.shape[1], -1)


def _measure(sample: np.ndarray, stretch: str | None) -> dict[str, np.ndarray]:
    bands = len(sample)
    sample = sample.astype(np.float32)
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


def _warn_of_level(center: np.ndarray, reach: np.ndarray) -> None:
    """Warn if bands lie so far above zero that single precision does not tell their pixels apart."""
    lost = np.flatnonzero((reach > 0) & (reach < STEPS * np.finfo(np.float32).eps * np.abs(center)))
    if len(lost):
        band = lost[0]
        warn(
            f"Band {band} varies by {reach[band]:.2g} about {center[band]:.8g}, which single precision, in which "
            "networks compute, does not hold: subtract the level of the sky."
        )


def _unit(scale: float) -> float:
    """Choose a power of ten: fluxes in other units that differ by powers of ten then become the same numbers."""
    if scale == 0 or SMALL <= scale <= LARGE:
        return 1.0
    return float(f"1e{10 * round(np.log10(scale) / 10)}")
