"""Reader of JPEG, PNG and TIFF pictures at their full depth, with transparent pixels missing."""

from pathlib import Path
from typing import Any

import numpy as np

from skastro._extras import require
from skastro.datasets.pixels import Pixels, RefusedError, bands_first

__all__ = ["read_picture"]

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_COLORS = {"1": "LA", "L": "LA", "LA": "LA"}  # Pillow's modes of gray; all others become colors


def read_picture(file: Path, bands_axis: int | None) -> Pixels | None:
    """Read one picture.

    Parameters
    ----------
    file : pathlib.Path
        A JPEG, PNG or TIFF file.
    bands_axis : {1, -1} or None
        Axis of the bands of a TIFF that does not say it; None goes by the shape.

    Returns
    -------
    Pixels or None
        None if there is no image. Transparency is no band; wholly transparent pixels are missing.

    Raises
    ------
    ImportError
        If pillow, tifffile or imagecodecs is needed and not installed.
    skastro.datasets.pixels.RefusedError
        If bits would be lost, or the file does not tell where the bands are or which they are.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from PIL import Image
    >>> from skastro.datasets.pictures import read_picture
    >>> with TemporaryDirectory() as folder:
    ...     Image.fromarray(np.full((40, 50), 40000, np.uint16)).save(Path(folder, "sky.png"))
    ...     pixels = read_picture(Path(folder, "sky.png"), bands_axis=None)
    >>> pixels.values.shape, pixels.values.dtype, int(pixels.values.max())
    ((1, 40, 50), dtype('uint16'), 40000)
    """
    with file.open("rb") as opened:
        head = opened.read(25)
    if head.startswith(_TIFF):
        return _read_tiff(file, bands_axis)
    if head.startswith(_PNG) and head[-1] == 16:  # its bits per sample
        return _read_deep_png(file)
    return _read_shallow(file)


def _read_shallow(file: Path) -> Pixels:
    """Read up to 8 bits per sample, all that Pillow does not cut."""
    require("Reading pictures", "PIL", extra="files")
    from PIL import Image

    with Image.open(file, formats=("JPEG", "PNG", "TIFF")) as opened:
        return _opaque(np.asarray(opened.convert(_COLORS.get(opened.mode, "RGBA"))))


def _read_deep_png(file: Path) -> Pixels:
    require("Reading 16-bit PNG", "imagecodecs", extra="files")
    from imagecodecs import png_decode

    samples = np.atleast_3d(png_decode(file.read_bytes()))
    if samples.shape[-1] in (2, 4):
        return _opaque(samples)
    return _whole(np.moveaxis(samples, -1, 0))


def _read_tiff(file: Path, bands_axis: int | None) -> Pixels | None:
    require("Reading TIFF", "tifffile", "imagecodecs", extra="files")  # most compressed files need both
    from tifffile import TiffFile

    with TiffFile(file) as tiff:
        page: Any = tiff.pages[0]
        if page.photometric.name not in ("MINISBLACK", "RGB") or page.bitspersample < 8:
            return _read_display_tiff(file, page, len(tiff.pages))
        if len(tiff.series) > 1:
            raise RefusedError(f"holds {len(tiff.series)} images that differ in size or kind: save them apart.")
        samples, axes = tiff.series[0].asarray(), tiff.series[0].axes
    if samples.dtype.kind not in "iuf":
        raise RefusedError(f"holds numbers of type {samples.dtype}, which are no brightness.")
    if "S" not in axes:
        shaped = bands_first(samples, bands_axis)
        return None if shaped is None else _whole(shaped)
    if samples.ndim > 3:
        return None
    samples = np.moveaxis(samples, axes.index("S"), -1)
    if bands_axis is None and {extra.name for extra in page.extrasamples} & {"ASSOCALPHA", "UNASSALPHA"}:
        return _opaque_tiff(samples, len(page.extrasamples))
    return _whole(np.moveaxis(samples, -1, 0))


def _read_display_tiff(file: Path, page: Any, pages: int) -> Pixels:
    """Read what needs a conversion to be brightness: palettes, inks, white as zero, packed bits."""
    if page.photometric.name not in ("MINISBLACK", "MINISWHITE", "PALETTE", "SEPARATED", "YCBCR"):
        raise RefusedError(f"has colors of kind {page.photometric.name}: save it as gray or RGB.")
    if page.bitspersample > 8 or pages > 1:
        raise RefusedError(
            f"has {page.bitspersample} bits and {pages} pages of kind {page.photometric.name}, which is read with "
            "8 bits and one page only: save it as gray or RGB."
        )
    high, low = np.divmod(0 if page.colormap is None else page.colormap, 256)
    if ((low != 0) & (low != high)).any():
        raise RefusedError("has a palette of more than 8 bits: save it as RGB.")
    return _read_shallow(file)


def _opaque_tiff(samples: np.ndarray, extras: int) -> Pixels:
    """Drop a transparency that is all or nothing: tifffile calls the fourth band of a survey transparency, too."""
    alpha = samples[..., -1]
    if extras > 1 or not np.isin(alpha, (0, _opacity(alpha.dtype))).all():
        raise RefusedError("has transparency, which is no band unless you say bands_axis=-1: then every sample is one.")
    return _opaque(samples)


def _opacity(dtype: np.dtype) -> float:
    return 1 if dtype.kind == "f" else np.iinfo(dtype).max


def _opaque(samples: np.ndarray) -> Pixels:
    """Drop the last sample, which is transparency."""
    values = np.moveaxis(samples[..., :-1], -1, 0)
    step = 0 if values.dtype.kind == "f" else 1
    return Pixels(values, np.broadcast_to(samples[..., -1] == 0, values.shape), step)


def _whole(values: np.ndarray) -> Pixels:
    return Pixels(values, np.zeros(values.shape, bool), step=0 if values.dtype.kind == "f" else 1)
