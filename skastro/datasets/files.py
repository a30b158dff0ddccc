"""Readers of image cutouts in FITS, JPEG, PNG and TIFF files."""

from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_params

from skastro.datasets.fits_images import read_fits
from skastro.datasets.pictures import read_picture
from skastro.datasets.pixels import Pixels, RefusedError, exact_floats, filled, narrowed, present

__all__ = ["count_cutouts", "list_files", "load_images", "load_one"]

_FITS = (".fits", ".fit", ".fts", ".fits.gz", ".fits.fz")
_PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


@validate_params(
    {
        "paths": [str, PathLike, "array-like"],
        "size": [Interval(Integral, 1, None, closed="left"), None],
        "fill": [Interval(Real, None, None, closed="neither"), StrOptions({"median"}), None],
        "missing": [Real, "array-like", None],
        "hdu": [Integral, str, None],
        "bands_axis": [Options(Integral, {1, -1}), None],
    },
    prefer_skip_nested_validation=True,
)
def load_images(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    size: int | None = None,
    fill: float | str | None = None,
    missing: float | Sequence[float] | None = None,
    hdu: int | str | None = None,
    bands_axis: int | None = None,
) -> Bunch:
    """Load FITS, JPEG, PNG and TIFF cutouts into one array.

    Parameters
    ----------
    paths : str, path-like or sequence of these
        A folder (all its images, sorted by name; other files are ignored), a file, or files in the desired order.
    size : int or None, default=None
        Side in pixels of the center of each cutout to keep; None keeps whole cutouts, which must then have one size.
    fill : float, "median" or None, default=None
        Value for missing pixels: a number, or the median of the other pixels of the same cutout and band. Missing are
        NaN, infinity, the BLANK of FITS integers, wholly transparent pixels, and what `missing` names. None raises an
        error for such cutouts.
    missing : float, sequence of float or None, default=None
        Numbers that stand for missing pixels in these files, such as -9999, in each band by itself.
    hdu : int, str or None, default=None
        Number or name of the FITS extension to read; None reads the first that contains an image.
    bands_axis : {1, -1} or None, default=None
        Where the bands of a FITS or TIFF cube are: 1, first, or -1, last, as in a stack of such cubes. None goes by
        the shape: bands are last if the last axis is at most 10 and shorter than both others, else first; a shape with
        such an axis at both ends is refused. If a TIFF says itself which axis holds its samples, they are the bands;
        then 1 or -1 only says that all of them are, also one that is called transparency.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary with attributes:

        images : ndarray of shape (n, bands, height, width), uint8, float32 or float64
            uint8 if every file has 8 bits and no missing pixel. Float32 if that keeps all integers apart (also those
            that FITS scales) and every float finite and not 0, which may round floats. Else float64 for all. Native
            byte order; axes of length one are dropped.
            FITS rows run upwards on the sky and picture rows downwards: neither is flipped. The pages of a TIFF are
            its bands. Palettes, CMYK and YCbCr become red, green and blue. Transparency is dropped, and partly
            transparent pixels keep their colors; a TIFF that has some is refused unless `bands_axis` is given, for
            they may be fluxes of a fourth band.
        filenames : ndarray of shape (n,), str
            Names of the files, without their folders.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ImportError
        If a library is not installed: astropy (FITS), pillow (pictures), imagecodecs (16-bit PNG, TIFF) or tifffile
        (TIFF).
    ValueError
        If there is nothing to load; if a file has an unknown extension, is damaged, contains no image, is smaller than
        `size`, has missing pixels and there is no `fill`, does not tell where its bands are, or would lose bits; or if
        files differ in bands or size.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from PIL import Image
    >>> from skastro.datasets import load_images
    >>> with TemporaryDirectory() as folder:
    ...     Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(Path(folder, "galaxy.png"))
    ...     cutouts = load_images(folder, size=32)
    >>> cutouts.images.shape, cutouts.images.dtype
    ((1, 3, 32, 32), dtype('uint8'))
    >>> cutouts.filenames
    array(['galaxy.png'], dtype='<U10')

    A cube of unsigned integers with its bands last, in which 0 means that nothing was observed:

    >>> from astropy.io import fits
    >>> counts = np.full((20, 30, 2), 50000, np.uint16)
    >>> counts[0] = 0
    >>> with TemporaryDirectory() as folder:
    ...     fits.writeto(Path(folder, "sky.fits"), counts)
    ...     cutouts = load_images(folder, missing=0, fill="median")
    >>> cutouts.images.shape, cutouts.images.dtype, float(cutouts.images.min())
    ((1, 2, 20, 30), dtype('float32'), 50000.0)
    """
    files = list_files(paths)
    sentinels = np.array([] if missing is None else missing, dtype=float, ndmin=1)
    images = [load_one(file, size, fill, sentinels, hdu, bands_axis) for file in files]
    _refuse_mixtures(files, images)
    return Bunch(images=np.stack(images), filenames=np.array([file.name for file in files]))


def list_files(paths: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[Path]:
    """List the image files of a folder, or those of a list.

    Parameters
    ----------
    paths : str, path-like or sequence of these
        As in `load_images`.

    Returns
    -------
    list of pathlib.Path

    Raises
    ------
    ValueError
        If there is none.
    """
    files = [Path(paths)] if isinstance(paths, str | PathLike) else [Path(path) for path in paths]
    if isinstance(paths, str | PathLike) and files[0].is_dir():
        folder = files[0]
        files = sorted(file for file in folder.iterdir() if file.name.lower().endswith(_FITS + _PICTURES))
        if not files and any(part.is_dir() for part in folder.iterdir()):
            raise ValueError(
                f"paths={paths!r} holds no image, and folders inside are not looked into: give the files, such as "
                'sorted(Path(folder).rglob("*.jpg")), whose .parent.name is then the class.'
            )
    if not files:
        raise ValueError(f"paths={paths!r} holds no image: nothing ends in {', '.join(_FITS + _PICTURES)}.")
    return files


def count_cutouts(path: str | PathLike[str]) -> int:
    """Count the image files of a folder.

    Parameters
    ----------
    path : str or path-like
        A folder, or what is none.

    Returns
    -------
    int
    """
    place = Path(path)
    return sum(file.name.lower().endswith(_FITS + _PICTURES) for file in place.iterdir()) if place.is_dir() else 0


def load_one(
    file: Path,
    size: int | None,
    fill: float | str | None,
    sentinels: Sequence[float] | np.ndarray,
    hdu: int | str | None,
    bands_axis: int | None,
    steady: bool = False,
) -> np.ndarray:
    """Load one cutout.

    Parameters
    ----------
    file : pathlib.Path
        The file.
    size, fill : int, str or None
        As in `load_images`.
    sentinels : sequence of float
        Numbers that stand for missing pixels.
    hdu, bands_axis : int, str or None
        As in `load_images`.
    steady : bool, default=False
        Whether integers of 32 and 64 bits become float64 whatever they are, as those of the next file may have to.

    Returns
    -------
    ndarray of shape (bands, height, width)

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    ValueError
        If it cannot be read.
    """
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    if not file.name.lower().endswith(_FITS + _PICTURES):
        raise ValueError(f"{file} does not end in one of {', '.join(_FITS + _PICTURES)}.")
    try:
        pixels = _center(_read(file, hdu, bands_axis), size)
        whole = filled(pixels, present(pixels, np.asarray(sentinels)), fill)
        if steady and pixels.values.dtype.kind in "iu" and pixels.values.dtype.itemsize >= 4:
            return exact_floats(whole)
        return narrowed(whole, pixels.step)
    except RefusedError as refusal:
        raise ValueError(f"{file} {refusal}") from refusal


def _read(file: Path, hdu: int | str | None, bands_axis: int | None) -> Pixels:
    try:
        if file.name.lower().endswith(_PICTURES):
            pixels = read_picture(file, bands_axis)
        else:
            pixels = read_fits(file, hdu, bands_axis)
    except (ImportError, RefusedError):
        raise
    except Exception as error:  # a damaged file may fail in any way
        raise RefusedError(f"cannot be read, perhaps cut short: {error}") from error
    if pixels is None or not pixels.values.size:
        raise RefusedError("holds no image of two axes, or of three with bands first or last.")
    return pixels


def _center(pixels: Pixels, size: int | None) -> Pixels:
    height, width = pixels.values.shape[1:]
    if size is None:
        return pixels
    if size > min(height, width):
        raise RefusedError(f"has {height} × {width} pixels, fewer than size={size}.")
    top, left = (height - size) // 2, (width - size) // 2
    middle = (slice(None), slice(top, top + size), slice(left, left + size))
    return Pixels(pixels.values[middle], pixels.missing[middle], pixels.step)


def _refuse_mixtures(files: list[Path], images: list[np.ndarray]) -> None:
    bands, height, width = images[0].shape
    for file, image in zip(files, images, strict=True):
        if len(image) != bands:
            raise ValueError(f"{files[0]} has {bands} bands and {file} {len(image)}: load them apart.")
        if image.shape[1:] != (height, width):
            raise ValueError(
                f"{files[0]} has {height} × {width} pixels and {file} {image.shape[1]} × {image.shape[2]}: "
                "size= keeps the center of each."
            )
