"""Images and spectra that stay on disk, in the formats of surveys: opened here, read where they are used."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions, validate_params

from skastro.datasets.disk import ArrowFolder, Cutouts, HDF5Files, NpyFile, ParquetFiles, ZarrStore
from skastro.datasets.disk.opened import absolute, is_plain, stamp
from skastro.datasets.files import count_cutouts
from skastro.datasets.pixels import Pixels, RefusedError, filled, find_axis, present
from skastro.images import center_crop, fold
from skastro.sources import Shelf, Source

__all__ = ["Arranged", "find_bands_axis", "open_images", "open_spectra"]

# Arrays that go with images and look like them.
BESIDE = ("ivar", "invvar", "mask", "weight", "err", "std", "psf", "model")

_ROWS = [slice, "array-like", HasMethods(["__getitem__"]), None]
_FILL = [Interval(Real, None, None, closed="neither"), StrOptions({"median"}), None]


@validate_params(
    {
        "path": [str, PathLike, "array-like"],
        "key": [str, None],
        "rows": _ROWS,
        "bands": ["array-like", None],
        "bands_axis": [Options(Integral, {1, -1}), None],
        "image_shape": [tuple, list, None],
        "size": [Interval(Integral, 1, None, closed="left"), None],
        "fill": _FILL,
        "missing": [Real, "array-like", None],
        "hdu": [Integral, str, None],
    },
    prefer_skip_nested_validation=True,
)
def open_images(
    path: str | PathLike[str] | Sequence[str | PathLike[str]],
    key: str | None = None,
    *,
    rows: Any = None,
    bands: Sequence[int] | None = None,
    bands_axis: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    size: int | None = None,
    fill: float | str | None = None,
    missing: float | Sequence[float] | None = None,
    hdu: int | str | None = None,
) -> Source:
    """Open images that stay on disk, for any estimator in place of an array.

    Parameters
    ----------
    path : str, path-like or sequence of these
        An HDF5 file (``.h5``, ``.hdf5``), a Zarr store, a ``.npy`` file, a Parquet file, a folder of HDF5 or of Parquet
        files (a HATS catalog, say), a folder that ``datasets.Dataset.save_to_disk`` wrote, or a folder or a list of
        FITS, JPEG, PNG or TIFF cutouts.
    key : str or None, default=None
        Name of the array or column; a field of a struct follows a dot, as in ``"image.flux"``. None takes the only one
        that looks like images. Groups ``0``, ``1``, … of an HDF5 file follow one another: ``"images"`` is their images.
    rows : slice, array-like of int or of bool, default=None
        Rows to take; None is all.
    bands : sequence of int, default=None
        Bands to take, in this order; None is all.
    bands_axis : {1, -1} or None, default=None
        Axis of the bands on disk, first or last. None goes by the shape: bands are last if the last axis is at most 10
        and shorter than both others, else first; a shape with such an axis at both ends is refused.
    image_shape : tuple of int, default=None
        ``(bands, height, width)`` of images that are rows of numbers on disk.
    size : int or None, default=None
        Side in pixels of the center of each image to keep; None keeps whole images.
    fill : float, "median" or None, default=None
        Value for pixels that are NaN, infinite or named by `missing`: a number, or the median of the other pixels of
        the same image and band. None leaves them, and an estimator refuses such an image where it meets it.
    missing : float, sequence of float or None, default=None
        Numbers that stand for missing pixels, such as -9999.
    hdu : int, str or None, default=None
        Number or name of the extension of FITS files; None takes the first with an image.

    Returns
    -------
    Source
        Of shape (n, bands, height, width).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If the library of the format is not installed; the error names skastro's extra.
    KeyError
        If there is no such array; the error lists those that there are.
    ValueError
        If the file is cut short or of an unknown format, if several arrays look like images or none does, or if the
        shape does not tell where the bands are.

    See Also
    --------
    load_images : Load cutouts into memory.
    open_spectra : Open spectra.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from skastro.datasets import open_images
    >>> with TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "sky.npy"), np.zeros((5, 20, 20, 3), np.uint8))
    ...     images = open_images(Path(folder, "sky.npy"), rows=slice(1, None), bands=[2, 0])
    ...     first = images[0]
    >>> images.shape, first.shape
    ((4, 2, 20, 20), (2, 20, 20))
    """
    sentinels = np.array([] if missing is None else missing, dtype=float, ndmin=1).tolist()
    options = {"size": size, "fill": fill, "sentinels": sentinels, "hdu": hdu, "bands_axis": bands_axis}
    shelf = _shelf(path, options)
    if isinstance(shelf, Cutouts):
        source = Source(shelf.open("images"), shelf)
        steps: list[Any] = []
    else:
        source = _open(shelf, key, (3, 4) if image_shape is None else (2,), "images", BESIDE)
        axis = bands_axis
        if axis is None and not image_shape:
            axis = find_bands_axis(source.shape[1:], source.reader.where)
        shape = None if image_shape is None else tuple(image_shape)
        steps = [Arranged(shape, axis, None, size)]
        steps += [Filled(fill, sentinels)] if fill is not None or sentinels else []
    for step in steps:
        source = source.then(step)
    if bands is not None:
        source = source.then(Arranged(None, None, choose_bands(bands, source.shape[1]), None))
    return source if rows is None else source[rows]


@validate_params(
    {
        "path": [str, PathLike],
        "key": [str, None],
        "rows": _ROWS,
        "missing": [Real, "array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def open_spectra(
    path: str | PathLike[str],
    key: str | None = None,
    *,
    rows: Any = None,
    missing: float | Sequence[float] | None = None,
) -> Source:
    """Open spectra, or other rows of numbers, that stay on disk.

    Estimators of spectra read all of them before they start.

    Parameters
    ----------
    path : str or path-like
        As in `open_images`, without cutouts in files of their own.
    key : str or None, default=None
        Name of the array or column; None takes the only one that looks like spectra, that is, has two axes.
    rows : slice, array-like of int or of bool, default=None
        Rows to take; None is all.
    missing : float, sequence of float or None, default=None
        Numbers that stand for missing pixels; they are read as NaN.

    Returns
    -------
    Source
        Of shape (n, n_wavelengths). ``source.beside("ivar")`` opens the inverse variances of the same rows.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If the library of the format is not installed; the error names skastro's extra.
    KeyError
        If there is no such array; the error lists those that there are.
    ValueError
        If the file is cut short or of an unknown format, or if several arrays look like spectra or none does.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from skastro.datasets import open_spectra
    >>> with TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "flux.npy"), np.ones((4, 100)))
    ...     spectra = open_spectra(Path(folder, "flux.npy"))
    >>> spectra.shape
    (4, 100)
    """
    shelf = _shelf(path, {})
    source = _open(shelf, key, (2,), "spectra", BESIDE)
    if missing is not None:
        source = source.then(Filled(None, np.array(missing, dtype=float, ndmin=1).tolist()))
    return source if rows is None else source[rows]


def choose_bands(bands: Any, n: int) -> list[int]:
    """Read which bands to take.

    Parameters
    ----------
    bands : sequence of int or bool
        Their numbers, from the end if negative; or for each whether it is taken.
    n : int
        Number of bands there are.

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        If none is taken, or one that is not there.

    Examples
    --------
    >>> from skastro.datasets.sources import choose_bands
    >>> choose_bands([2, 0], 3), choose_bands([True, False, True], 3)
    ([2, 0], [0, 2])
    """
    chosen = np.asarray(bands)
    if chosen.dtype == bool and len(chosen) == n:
        chosen = np.flatnonzero(chosen)
    if chosen.dtype.kind not in "iu" or not len(chosen) or (chosen < -n).any() or (chosen >= n).any():
        raise ValueError(f"bands={bands!r} does not choose among {n} bands: give numbers from 0 to {n - 1}.")
    return chosen.tolist()


@dataclass(frozen=True)
class Arranged:
    """A step that arranges rows as images: bands first, those chosen, cut to the center.

    Parameters
    ----------
    image_shape : tuple of int or None
        Shape of an image that is a row of numbers.
    bands_axis : {1, -1} or None
        Where the bands are.
    bands : list of int or None
        Bands to take.
    size : int or None
        Side of the center.
    """

    image_shape: tuple[int, ...] | None
    bands_axis: int | None
    bands: list[int] | None
    size: int | None

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Arrange rows.

        Parameters
        ----------
        values : ndarray of shape (n, ...)
            As they are on disk.

        Returns
        -------
        ndarray of shape (n, bands, height, width)
        """
        images = fold(values, self.image_shape, self.bands_axis)
        if self.bands is not None:
            images = images[:, self.bands]
        if self.size is None:
            return images
        if self.size > min(images.shape[2:]):
            height, width = images.shape[2:]
            raise ValueError(f"Images of {height} × {width} pixels have fewer than size={self.size}.")
        return center_crop(images, (self.size, self.size))


@dataclass(frozen=True)
class Filled:
    """A step that replaces missing pixels.

    Parameters
    ----------
    fill : float, "median" or None
        What by; None is NaN.
    missing : list of float
        Numbers that stand for missing pixels; NaN and infinity always do where `fill` is given.
    """

    fill: float | str | None
    missing: list[float]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        step = 0 if values.dtype.kind == "f" else 1
        kind = values.dtype if not step else np.float32 if values.dtype.itemsize < 4 else np.float64
        if step and not self.missing:  # integers are all there
            return values
        there = present(Pixels(values, np.zeros((), bool), step), np.array(self.missing))
        whole = values.astype(kind)
        if self.fill is None:
            whole[~there & np.isfinite(whole)] = np.nan
            return whole
        for row in np.flatnonzero(~there.all(axis=tuple(range(1, values.ndim)))):
            try:
                whole[row] = filled(Pixels(values[row], ~there[row], step), there[row], self.fill)
            except RefusedError as refusal:
                raise ValueError(f"An image {refusal}") from refusal
        return whole


def _shelf(path: Any, options: dict[str, Any]) -> Shelf:
    """Tell the format by the name, and of a folder by what is in it."""
    if not isinstance(path, str | PathLike):
        files = _paths(path)
        return Cutouts(str(Path(files[0]).parent), files, options)
    place = Path(absolute(path))
    stamp(str(place))
    if place.is_dir():
        return _shelf_of_folder(place, options)
    shelves = {ending: kind for kind in (NpyFile, HDF5Files, ParquetFiles) for ending in kind.endings}
    if place.suffix.lower() not in shelves:
        raise ValueError(f"{place} does not end in one of {', '.join(sorted(shelves))}.")
    return shelves[place.suffix.lower()](str(place))


def _paths(paths: Any) -> list[str]:
    """Make paths absolute, and refuse what is none, and files that are not there."""
    files: list[str] = []
    for row, path in enumerate(paths):
        path = path.decode() if isinstance(path, bytes) else path
        if not isinstance(path, str | PathLike):
            raise ValueError(f"Row {row} of path holds {path!r}, which is no path.")
        files.append(absolute(path))
        if not os.path.exists(files[-1]):
            raise FileNotFoundError(f"There is no file {files[-1]}, which row {row} of path names.")
    if not files:
        raise ValueError("There are no files in the list that was given for path.")
    return files


def _shelf_of_folder(place: Path, options: dict[str, Any]) -> Shelf:
    if any((place / name).is_file() for name in ZarrStore.described):
        return ZarrStore(str(place))
    inside = {file.suffix.lower() for file in place.rglob("*") if is_plain(file)}
    for kind in (HDF5Files, ParquetFiles, ArrowFolder):
        if inside.intersection(kind.endings):
            return kind(str(place))
    return Cutouts(str(place), None, options)


def _open(shelf: Shelf, key: str | None, axes: tuple[int, ...], unit: str, beside: tuple[str, ...]) -> Source:
    there = shelf.axes()
    path = shelf.path
    if key is None:
        fit = [name for name, ndim in there.items() if ndim in axes]
        alone = [name for name in fit if not any(word in name.lower() for word in beside)] or fit
        if len(alone) != 1:
            found = f"{len(alone)} arrays of {path} look" if alone else f"No array of {path} looks"
            cutouts = count_cutouts(path) if not alone and unit == "images" else 0
            told = f" For the {cutouts} images in files of their own give their list." if cutouts else ""
            raise ValueError(f"{found} like {unit}: give key=, one of {', '.join(sorted(there))}.{told}")
        key = alone[0]
    if key not in there:
        raise KeyError(f"There is no {key!r} in {path}; there are {', '.join(sorted(there))}.")
    reader = shelf.open(key)
    if reader.dtype.kind not in "iuf":
        raise ValueError(f"{reader.where} holds {reader.dtype}, which are no {unit}.")
    return Source(reader, shelf)


def find_bands_axis(shape: tuple[int, ...], where: str) -> int | None:
    """Find by its shape where the bands of an image are.

    Parameters
    ----------
    shape : tuple of int
        Shape of an image.
    where : str
        What errors call the images.

    Returns
    -------
    {1, -1} or None
        None if it has no bands.

    Raises
    ------
    ValueError
        If the shape does not tell.

    Examples
    --------
    >>> from skastro.datasets.sources import find_bands_axis
    >>> find_bands_axis((64, 64, 3), "sky.h5"), find_bands_axis((3, 64, 64), "sky.h5")
    (-1, 1)
    """
    if len(shape) < 3:
        return None
    try:
        return find_axis(shape)
    except RefusedError as refusal:
        raise ValueError(f"{where}: a row {refusal}") from refusal
