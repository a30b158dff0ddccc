"""Reader of FITS images that knows which pixels are missing, also where integers are scaled, unsigned or compressed."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from skastro._extras import require
from skastro.datasets.pixels import Pixels, bands_first, exact_floats

__all__ = ["read_fits"]


def read_fits(file: Path, hdu: int | str | None, bands_axis: int | None) -> Pixels | None:
    """Read one image of a FITS file.

    Parameters
    ----------
    file : pathlib.Path
        A FITS file, compressed or not.
    hdu : int, str or None
        Number or name of the extension; None reads the first that contains an image.
    bands_axis : {1, -1} or None
        Axis of the bands of a cube; None goes by the shape.

    Returns
    -------
    Pixels or None
        None if there is no image.

    Raises
    ------
    ImportError
        If astropy is not installed.
    skastro.datasets.pixels.RefusedError
        If float64 would round the integers, or the shape does not tell where the bands are.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from astropy.io import fits
    >>> from skastro.datasets.fits_images import read_fits
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "sky.fits")
    ...     fits.writeto(file, np.array([[-1, 5]], np.int16), fits.Header({"BLANK": -1}))
    ...     pixels = read_fits(file, hdu=None, bands_axis=None)
    >>> pixels.values, pixels.missing
    (array([[[0, 5]]], dtype=int16), array([[[ True, False]]]))
    """
    require("Reading FITS", "astropy", extra="files")
    from astropy.io import fits
    from astropy.io.fits.verify import VerifyWarning

    with warnings.catch_warnings():
        # Only the pixels matter, not the text of the header; if pixels are missing, reading them fails.
        warnings.simplefilter("ignore", VerifyWarning)
        warnings.filterwarnings("ignore", "File may have been truncated")
        # Scaled by astropy, unsigned and 8-bit integers lose their BLANK, and 16-bit ones become float32.
        with fits.open(file, memmap=False, do_not_scale_image_data=True) as hdus:
            chosen = hdus if hdu is None else [hdus[hdu]]
            images = (_pixels(file, hdus, part, bands_axis) for part in chosen if part.is_image and len(part.shape) > 1)
            return next((image for image in images if image is not None), None)


def _pixels(file: Path, hdus: Any, part: Any, bands_axis: int | None) -> Pixels | None:
    raw = bands_first(part.data, bands_axis)
    if raw is None:
        return None
    raw = raw.astype(raw.dtype.newbyteorder("="))
    missing = np.zeros(raw.shape, bool)
    scale, zero = part.header.get("BSCALE", 1), part.header.get("BZERO", 0)
    if raw.dtype.kind == "f":
        return Pixels(_scaled(raw, scale, zero), missing, step=0)
    blank = _blank(file, hdus, part)
    if blank is not None:
        missing = raw == blank
    return Pixels(_scaled(np.where(missing, raw.dtype.type(0), raw), scale, zero), missing, step=abs(scale))


def _blank(file: Path, hdus: Any, part: Any) -> int | None:
    """Look up the stored integer that marks missing pixels."""
    from astropy.io import fits

    if "BLANK" in part.header or not isinstance(part, fits.CompImageHDU):
        return part.header.get("BLANK")
    # Compressed integers may call it ZBLANK, which astropy drops.
    return fits.getheader(file, hdus.index_of(part), disable_image_compression=True).get("ZBLANK")


def _scaled(raw: np.ndarray, scale: float, zero: float) -> np.ndarray:
    if (scale, zero) == (1, 0):
        return raw
    if raw.dtype == np.int64 and (scale, zero) == (1, 2**63):
        return raw.view(np.uint64) ^ np.uint64(2**63)
    return exact_floats(raw) * scale + zero
