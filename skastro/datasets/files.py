"""Readers of image cutouts in FITS, JPEG and PNG files."""

import warnings
import zlib
from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

__all__ = ["load_images"]

_FITS = (".fits", ".fit", ".fts", ".fits.gz", ".fits.fz")
_PICTURES = (".jpg", ".jpeg", ".png")
_DAMAGE = (OSError, EOFError, SyntaxError, LookupError, TypeError, ValueError, zlib.error)
_UNPACKED = {
    "1": "L",
    "P": "RGBA",
    "PA": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
}  # modes whose numbers are not brightness


@validate_params(
    {
        "paths": [str, PathLike, "array-like"],
        "size": [Interval(Integral, 1, None, closed="left"), None],
        "fill": [Interval(Real, None, None, closed="neither"), StrOptions({"median"}), None],
        "hdu": [Integral, str, None],
    },
    prefer_skip_nested_validation=True,
)
def load_images(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    size: int | None = None,
    fill: float | str | None = None,
    hdu: int | str | None = None,
) -> Bunch:
    """Load FITS, JPEG and PNG cutouts into one array.

    Parameters
    ----------
    paths : str, path-like or sequence of these
        A folder (all its images, sorted by name; other files are ignored), a file, or files in the desired order.
    size : int or None, default=None
        Side in pixels of the center of each cutout to keep; None keeps whole cutouts, which must then have one size.
    fill : float, "median" or None, default=None
        Value for pixels that are not finite: a number, or the median of the other pixels of the same cutout and band.
        None raises an error for such cutouts.
    hdu : int, str or None, default=None
        Number or name of the FITS extension to read; None reads the first that contains an image.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary with attributes:

        images : ndarray of shape (n, bands, height, width), uint8 or float32
            uint8 if every file has 8 bits, else float32; native byte order. The first axis of a FITS cube is the band;
            further axes of length one are dropped, and so is the transparency of a PNG. FITS rows run upwards on
            the sky and picture rows downwards: neither is flipped.
        filenames : ndarray of shape (n,), str
            Names of the files, without their folders.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ImportError
        If astropy (for FITS) or pillow (for pictures) is not installed.
    ValueError
        If there is nothing to load; if a file has an unknown extension, is damaged, contains no image, is smaller than
        `size`, or has pixels that are not finite; or if files differ in bands or size.

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
    """
    files = _files(paths)
    images = [_mended(_center(_read(file, hdu), size, file), fill, file) for file in files]
    _refuse_mixtures(files, images)
    return Bunch(images=np.stack(images), filenames=np.array([file.name for file in files]))


def _files(paths: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[Path]:
    files = [Path(paths)] if isinstance(paths, str | PathLike) else [Path(path) for path in paths]
    if isinstance(paths, str | PathLike) and files[0].is_dir():
        files = sorted(file for file in files[0].iterdir() if file.name.lower().endswith(_FITS + _PICTURES))
    if not files:
        raise ValueError(f"paths={paths!r} holds no image: nothing ends in {', '.join(_FITS + _PICTURES)}.")
    return files


def _read(file: Path, hdu: int | str | None) -> np.ndarray:
    """Read the pixels of one file: (bands, height, width), uint8 or native float32."""
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    if not file.name.lower().endswith(_FITS + _PICTURES):
        raise ValueError(f"{file} does not end in one of {', '.join(_FITS + _PICTURES)}.")
    try:
        pixels = _read_picture(file) if file.name.lower().endswith(_PICTURES) else _read_fits(file, hdu)
    except _DAMAGE as error:
        raise ValueError(f"{file} cannot be read, perhaps cut short: {error}") from error
    if pixels is None:
        raise ValueError(f"{file} holds no image of two axes, or of three with bands first.")
    return pixels.astype(np.uint8 if pixels.dtype == np.uint8 else np.float32)


def _read_picture(file: Path) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Reading JPEG and PNG needs pillow: pip install skastro[files]") from error
    with Image.open(file) as opened:
        picture = opened.convert(_UNPACKED.get(opened.mode, opened.mode))
    brightness = [band for band in picture.getbands() if band != "A"]
    return np.moveaxis(np.atleast_3d(np.asarray(picture)), -1, 0)[: len(brightness)]


def _read_fits(file: Path, hdu: int | str | None) -> np.ndarray | None:
    try:
        from astropy.io import fits
        from astropy.io.fits.verify import VerifyWarning
    except ImportError as error:
        raise ImportError("Reading FITS needs astropy: pip install skastro[files]") from error
    with warnings.catch_warnings():
        # Only the pixels matter, not the text of the header; if pixels are missing, reading them fails.
        warnings.simplefilter("ignore", VerifyWarning)
        warnings.filterwarnings("ignore", "File may have been truncated")
        with fits.open(file, memmap=False) as hdus:
            chosen = hdus if hdu is None else [hdus[hdu]]
            images = (_bands_first(part.data) for part in chosen if part.is_image and len(part.shape) > 1)
            return next((image for image in images if image is not None), None)


def _bands_first(data: np.ndarray) -> np.ndarray | None:
    """View data as (bands, height, width); return None if other axes are longer than one."""
    bands = [length for length in data.shape[:-2] if length > 1] or [1]
    return data.reshape(bands + list(data.shape[-2:])) if len(bands) == 1 else None


def _center(image: np.ndarray, size: int | None, file: Path) -> np.ndarray:
    height, width = image.shape[1:]
    if size is None:
        return image
    if size > min(height, width):
        raise ValueError(f"{file} has {height} × {width} pixels, fewer than size={size}.")
    top, left = (height - size) // 2, (width - size) // 2
    return image[:, top : top + size, left : left + size]


def _mended(image: np.ndarray, fill: float | str | None, file: Path) -> np.ndarray:
    """Fill the pixels that are not finite."""
    bad = ~np.isfinite(image)
    if not bad.any():
        return image
    if fill is None:
        raise ValueError(
            f'{file} has {bad.sum()} pixels that are not finite; fill= replaces them (0 or "median", say).'
        )
    if fill != "median":
        return np.where(bad, np.float32(fill), image)
    if bad.all(axis=(1, 2)).any():
        raise ValueError(f'{file} has a band without one finite pixel: fill="median" has nothing to go by.')
    return np.where(bad, np.nanmedian(np.where(bad, np.nan, image), axis=(1, 2), keepdims=True), image)


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
