"""Duplicates: the same object twice, by position and by pixels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from tqdm.auto import tqdm

from skastro.images import fold
from skastro.inputs import as_rows
from skastro.pixels import check_finite
from skastro.search.exact import parts, pick
from skastro.search.look_alikes import LookAlikes
from skastro.search.registration import SMALLEST, detail, fingerprints, overlay
from skastro.search.sky import ARCSEC, check_positions, check_radius, sky_separation, unit_vectors

__all__ = ["find_duplicates", "group_duplicates"]

PART = 256  # images, or pairs of them, in memory at a time
MARGIN = 0.1  # by how much noise may lower a correlation that no other comes near


def find_duplicates(
    images: Any = None,
    *,
    ra: Any = None,
    dec: Any = None,
    radius: float = 3.0,
    n_neighbors: int = 3,
    min_correlation: float = 0.88,
    max_shift: int = 5,
    mirrored: bool = False,
    verbose: int = 0,
) -> pd.DataFrame:
    """Find objects that are there twice, by where they are and by how they look.

    Two rows are the same if they are no farther apart on the sky than `radius`, or if their pixels agree: what differs
    between the two may be a turn, a shift, brightness and noise. Pixels are compared in two steps. A fingerprint of
    each image, which turns and shifts leave alone, proposes its nearest neighbors; these are laid over each other, and
    the correlation of their details decides.

    Parameters
    ----------
    images : array-like or Source of shape (n, bands, height, width) or (n, height, width), default=None
        Cutouts of one scale, at least 16 pixels wide, flux or 8-bit; read part by part.
    ra, dec : array-like of shape (n,), default=None
        Positions in degrees, or angles with a unit of astropy.
    radius : float, default=3.0
        Largest separation of the same object, in arcseconds, or an angle with a unit.
    n_neighbors : int, default=3
        Number of images with the most similar fingerprints that each is compared with. An object that is there m times
        needs m − 1.
    min_correlation : float, default=0.88
        Correlation of the details of the same object. On SDSS cutouts of 64 pixels that were turned, shifted by 3
        pixels and given other noise it was above 0.89, and of other galaxies below 0.88. Noise lowers it, so that up to
        0.1 less will do for a pair that stands out: no other correlation of either image comes within 0.1 of it.
        Cutouts that show little beside one round object need more: look at the pairs about the limit.
    max_shift : int, default=5
        Largest shift in pixels, along each axis; at most a quarter of a side.
    mirrored : bool, default=False
        Whether mirror images are the same, as where one file has its first row at the top and the other at the bottom.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    DataFrame
        One row per pair, the surest first: ``first`` and ``second``, numbers of rows; ``separation`` in arcseconds, NaN
        without positions; ``correlation`` and ``angle``, by how many degrees the first is turned to lie over the second
        (from the x-axis of pixels to their y-axis), NaN without images.

    Raises
    ------
    ValueError
        If there are neither images nor positions, they differ in length, images are too small or of another shape,
        have pixels that are NaN or infinite, or a parameter is out of range.

    See Also
    --------
    group_duplicates : Number the objects, for ``groups=`` of a cross-validation.
    LookAlikes : Find what is alike, and not the same.

    References
    ----------
    Reddy & Chatterji (1996), "An FFT-based technique for translation, rotation, and scale-invariant image
    registration", `doi:10.1109/83.506761 <https://doi.org/10.1109/83.506761>`_.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.datasets import make_survey
    >>> from skastro.search import find_duplicates
    >>> images = make_survey(30, size=64, random_state=0).images
    >>> images = np.concatenate([images, np.rot90(images[4:5], axes=(2, 3))])
    >>> find_duplicates(images, min_correlation=0.99)[["first", "second"]].values.tolist()
    [[4, 30]]
    >>> find_duplicates(ra=[10.0, 200.0, 10.0002], dec=[0.0, 0.0, 0.0])[["first", "second", "separation"]].round(2)
       first  second  separation
    0      0       2        0.72
    """
    if images is None and ra is None and dec is None:
        raise ValueError("Duplicates are found by images, by ra and dec, or by both: give one of them.")
    position, radius = None if ra is None and dec is None else check_positions(ra, dec), check_radius(radius)
    if images is not None:
        images = _check(as_rows(images, "images", cure="cut them to one size"), n_neighbors, min_correlation, max_shift)
    n = len(images) if position is None else len(position[0])
    if images is not None and len(images) != n:
        raise ValueError(f"ra and dec must be one per image; there are {n} of them, and {len(images)} images.")
    close = np.empty((0, 2), np.int64) if position is None else _close(*position, radius)
    alike = np.empty((0, 2), np.int64) if images is None else _alike(images, n_neighbors, verbose)
    pairs = np.unique(np.concatenate([close, alike]), axis=0)
    table = pd.DataFrame(pairs, columns=["first", "second"])
    table["separation"] = np.nan if position is None else _separations(*position, pairs)
    table["correlation"], table["angle"] = (
        (np.nan, np.nan) if images is None else _overlays(images, pairs, max_shift, mirrored, verbose)
    )
    same = (table["separation"] <= radius) | (table["correlation"] >= min_correlation)
    if images is not None:
        same |= _stand_out(pairs, table["correlation"].to_numpy(), min_correlation)
    return table[same].sort_values(["correlation", "separation"], ascending=[False, True], ignore_index=True)


def group_duplicates(pairs: pd.DataFrame, n: int) -> np.ndarray:
    """Number the objects, so that rows of the same one have one number.

    Parameters
    ----------
    pairs : DataFrame
        With columns ``first`` and ``second``, as `find_duplicates` returns them. Duplicates of
        a duplicate are duplicates.
    n : int
        Number of rows.

    Returns
    -------
    ndarray of shape (n,), int64
        For ``groups=`` of scikit-learn's splitters, which so keep an object on one side.

    Raises
    ------
    ValueError
        If a pair has a row beyond n.

    Examples
    --------
    >>> import pandas as pd
    >>> from skastro.search import group_duplicates
    >>> group_duplicates(pd.DataFrame({"first": [0, 2], "second": [2, 3]}), 5)
    array([0, 1, 0, 0, 2])
    """
    ends = pairs["first"].to_numpy(dtype=np.int64), pairs["second"].to_numpy(dtype=np.int64)
    if len(pairs) and not (min(map(np.min, ends)) >= 0 and max(map(np.max, ends)) < n):
        raise ValueError(f"pairs must be of rows from 0 to {n - 1}; they reach to {max(map(np.max, ends))}.")
    graph = coo_array((np.ones(len(pairs), dtype=bool), ends), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _check(images: Any, n_neighbors: int, min_correlation: float, max_shift: int) -> Any:
    if images.ndim not in (3, 4) or min(images.shape[-2:]) < SMALLEST or len(images) < 2:
        raise ValueError(
            f"images must be two or more of at least {SMALLEST} × {SMALLEST} pixels, (n, height, width) or "
            f"(n, bands, height, width); their shape is {images.shape}."
        )
    most = min(images.shape[-2:]) // 4
    if not 0 <= max_shift <= most:
        raise ValueError(f"max_shift must be from 0 to {most}, a quarter of a side; got {max_shift}.")
    if not 0 < min_correlation <= 1:
        raise ValueError(f"min_correlation must be above 0 and at most 1; got {min_correlation}.")
    if n_neighbors < 1:
        raise ValueError(f"n_neighbors must be 1 or more; got {n_neighbors}.")
    return fold(images)


def _close(ra: np.ndarray, dec: np.ndarray, radius: float) -> np.ndarray:
    chord = 2 * np.sin(min(radius * ARCSEC, np.pi) / 2)
    slack = chord * (1 + 1e-9) + 1e-15  # what rounding adds is left out by the separation
    return cKDTree(unit_vectors(ra, dec)).query_pairs(slack, output_type="ndarray").astype(np.int64)


def _separations(ra: np.ndarray, dec: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    first, second = pairs.T
    return sky_separation(ra[first], dec[first], ra[second], dec[second])


def _alike(images: Any, n_neighbors: int, verbose: int) -> np.ndarray:
    """Propose pairs: each image and those with the most similar fingerprints."""
    prints = np.concatenate([_fingerprints(images, span) for span in _bar(len(images), verbose)])
    k = min(n_neighbors, len(images) - 1)
    neighbors = LookAlikes(k).fit(prints).kneighbors(return_distance=False)
    pairs = np.stack([np.repeat(np.arange(len(images)), k), neighbors.ravel()], axis=1)
    return np.sort(pairs, axis=1)


def _fingerprints(images: Any, span: slice) -> np.ndarray:
    some = np.asarray(images[span])
    check_finite(some, span.start)
    return fingerprints(detail(some))


def _overlays(
    images: Any, pairs: np.ndarray, max_shift: int, mirrored: bool, verbose: int
) -> tuple[np.ndarray, np.ndarray]:
    correlations, angles = np.empty((2, len(pairs)))
    for some in _bar(len(pairs), verbose):
        first, second = (detail(pick(images, rows)) for rows in pairs[some].T)
        correlations[some], angles[some] = overlay(first, second, max_shift)
        if mirrored:
            of_mirror, at = overlay(first.flip(1), second, max_shift)
            better = of_mirror > correlations[some]
            correlations[some][better], angles[some][better] = of_mirror[better], at[better]
    return correlations, angles


def _stand_out(pairs: np.ndarray, correlations: np.ndarray, limit: float) -> np.ndarray:
    """Tell which pairs below the limit correlate better, by `MARGIN`, than all other such pairs of either image."""
    ends, values = pairs.T.ravel(), np.tile(np.where(correlations < limit, correlations, -1.0), 2)
    best = np.full(pairs.max(initial=0) + 1, limit - MARGIN)
    np.maximum.at(best, ends, values)
    near = np.bincount(ends, values > best[ends] - MARGIN, minlength=len(best))
    return ((values == best[ends]) & (near[ends] == 1)).reshape(2, -1).all(axis=0)


def _bar(n: int, verbose: int) -> Iterator[slice]:
    return tqdm(parts(n, PART), total=-(-n // PART), disable=not verbose)
