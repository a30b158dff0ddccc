"""Thumbnails for a page: pictures on a few large sheets, spectra and light curves as lines of 64 points."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from skastro.plotting.pictures import picture, small_line

__all__ = ["lines", "pictured", "sheets", "side_of"]

PER_SIDE = 64  # thumbnails along a side of a sheet: one sheet is decoded in a moment, and few fit into memory
QUALITY = 75
MISSING = 255  # in place of a level of a line


def pictured(n: int, most: int) -> np.ndarray:
    """Choose the rows that get a thumbnail: all, or a sample that repeats.

    Parameters
    ----------
    n : int
        Number of objects.
    most : int
        Largest number of thumbnails.

    Returns
    -------
    ndarray of int
        In ascending order.
    """
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def side_of(n: int, shape: tuple[int, ...]) -> int:
    """Choose the side of thumbnails, in pixels: smaller if there are many, never larger than the images.

    Parameters
    ----------
    n : int
        Number of thumbnails.
    shape : tuple of int
        Shape of the images.

    Returns
    -------
    int

    Examples
    --------
    >>> from skastro.explorer.thumbnails import side_of
    >>> side_of(2_000, (2_000, 3, 152, 152)), side_of(50_000, (50_000, 3, 152, 152)), side_of(500, (500, 28, 28))
    (48, 32, 28)
    """
    return min(48 if n <= 20_000 else 32, max(shape[-2:]))


def sheets(images: Any, rows: np.ndarray, side: int, bands: Sequence[int] | None, verbose: int = 0) -> list[bytes]:
    """Draw thumbnails of images on sheets, in the order of the rows, 64 by 64 on each.

    Parameters
    ----------
    images : array or Source of shape (n, height, width) or (n, bands, height, width)
        8-bit or flux.
    rows : ndarray of int
        Rows to draw, in ascending order.
    side : int
        Side of a thumbnail.
    bands : sequence of one or three int, or None
        Bands to show.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    list of bytes
        Files of WebP, of 64 columns or as many as there are thumbnails.
    """
    from PIL import Image

    per_sheet, drawn = PER_SIDE**2, []
    for start in tqdm(range(0, len(rows), per_sheet), "thumbnails", unit=" sheets", disable=not verbose):
        some = rows[start : start + per_sheet]
        columns = min(PER_SIDE, len(some))
        sheet = Image.new("RGB", (columns * side, -(-len(some) // columns) * side))
        for place, image in enumerate(np.asarray(images[some])):
            thumbnail = _fitted(picture(image, bands), side)
            corner = np.array([place % columns, place // columns]) * side + (side - np.array(thumbnail.size)) // 2
            sheet.paste(thumbnail, tuple(corner.tolist()))
        file = BytesIO()
        sheet.save(file, "WEBP", quality=QUALITY)
        drawn.append(file.getvalue())
    return drawn


def lines(spectra: Any, rows: np.ndarray, times: np.ndarray | None) -> np.ndarray:
    """Reduce spectra or light curves to lines of 64 levels.

    Parameters
    ----------
    spectra : array or Source of shape (n, n_points)
        NaN where missing.
    rows : ndarray of int
        Rows to reduce.
    times : ndarray of shape (n_points,) or (n, n_points), or None
        Where the points are.

    Returns
    -------
    ndarray of shape (len(rows), 64), uint8
        From 0 to 254; 255 is missing.
    """
    if times is None or times.ndim == 1:
        reduced = [small_line(spectrum, times) for spectrum in np.asarray(spectra[rows])]
    else:
        reduced = [small_line(*pair) for pair in zip(np.asarray(spectra[rows]), times[rows], strict=True)]
    levels = np.array(reduced)
    return np.where(np.isnan(levels), MISSING, np.round(254 * np.nan_to_num(levels))).astype(np.uint8)


def _fitted(shown: np.ndarray, side: int) -> Any:
    """Shrink a picture to a thumbnail, the longer side to `side`."""
    from PIL import Image

    pixels = shown if shown.dtype == np.uint8 else (255 * shown + 0.5).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    scale = side / max(image.size)
    if scale < 1:
        image = image.resize([max(1, round(scale * length)) for length in image.size], Image.Resampling.BOX)
    return image
