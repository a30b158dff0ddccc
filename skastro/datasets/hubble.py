"""Real galaxies without a download: cutouts of the deep field in the scikit-image package."""

from numbers import Integral, Real

import numpy as np
import pandas as pd
from scipy import ndimage, stats
from skimage import data, feature, measure, segmentation
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

__all__ = ["load_hubble_deep_field"]

_BANDS = ("red", "green", "blue")
_DESCR = """\
Objects of the Hubble eXtreme Deep Field
========================================
Real galaxies (and a few stars) in the constellation Fornax, cut out of the picture that scikit-image carries as
`skimage.data.hubble_deep_field`. It is a JPEG made to be looked at: three 8-bit channels after a stretch, not
calibrated flux. Color, radius, ellipticity and magnitude are measured on that picture: they order the objects sensibly
and are worth nothing as photometry. The objects were found by thresholding: neighbors are in some cutouts, and a large
galaxy may be several objects.

Credit: NASA, ESA, G. Illingworth, D. Magee and P. Oesch (University of California, Santa Cruz), R. Bouwens (Leiden
University) and the HUDF09 Team; release STScI-2012-37, in the public domain.
"""


@validate_params(
    {
        "size": [Interval(Integral, 1, 872, closed="both")],
        "threshold": [Interval(Real, 0, None, closed="neither")],
        "min_area": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def load_hubble_deep_field(*, size: int = 32, threshold: float = 5.0, min_area: int = 12) -> Bunch:
    """Load cutouts of the objects in the Hubble eXtreme Deep Field.

    The picture is part of scikit-image, so nothing is downloaded. It is smoothed, pixels well above the background are
    grouped into objects, touching objects are separated by a watershed, and each object wholly inside the picture is
    cut out around its center of light.

    Parameters
    ----------
    size : int, default=32
        Side of the cutouts in pixels, at most 872.
    threshold : float, default=5.0
        Height of objects above the background, in standard deviations of the smoothed background.
    min_area : int, default=12
        Minimum number of pixels above the threshold.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary with attributes, brightest object first:

        images : ndarray of shape (n, 3, size, size), uint8
            Cutouts of the display image.
        bands : tuple of str
            ``("red", "green", "blue")``.
        positions : ndarray of shape (n, 2), float
            Row and column of the center of light in the picture, in pixels.
        properties : DataFrame of shape (n, 4)
            `color` (blue minus red magnitude: larger is redder), `radius` (of half the light, in pixels),
            `ellipticity` (1 − axis ratio) and `magnitude` (−2.5 log10 of the counts above the background in the three
            channels, averaged).
        pixel_scale : float
            About 0.14 arcseconds per pixel.
        DESCR : str
            Description and acknowledgments.

    Raises
    ------
    ValueError
        If a parameter is out of range, or no object satisfies the criteria.

    References
    ----------
    Illingworth et al. 2013, ApJS 209, 6, `arXiv:1305.1931 <https://arxiv.org/abs/1305.1931>`_.

    Examples
    --------
    >>> from skastro.datasets import load_hubble_deep_field
    >>> field = load_hubble_deep_field()
    >>> field.images.shape[1:], field.images.dtype
    ((3, 32, 32), dtype('uint8'))
    >>> list(field.properties)
    ['color', 'radius', 'ellipticity', 'magnitude']
    """
    picture = data.hubble_deep_field()
    flux = picture - np.median(picture, axis=(0, 1))
    objects = _measure(_segments(flux.mean(axis=-1), threshold, min_area), flux)
    corners = np.rint(objects[["row", "column"]].to_numpy()).astype(int) - size // 2
    inside = ((corners >= 0) & (corners + size <= picture.shape[:2])).all(axis=1)
    if not inside.any():
        raise ValueError(f"No object has {size} × {size} pixels of the picture around it: size is too large.")
    objects, corners = objects[inside].reset_index(drop=True), corners[inside]
    cutouts = [picture[row : row + size, column : column + size] for row, column in corners]
    return Bunch(
        images=np.ascontiguousarray(np.moveaxis(np.stack(cutouts), -1, 1)),
        bands=_BANDS,
        positions=objects[["row", "column"]].to_numpy(),
        properties=objects[["color", "radius", "ellipticity", "magnitude"]],
        pixel_scale=0.14,
        DESCR=_DESCR,
    )


def _segments(luminance: np.ndarray, threshold: float, min_area: int) -> np.ndarray:
    """Label the pixels of each object with its number; 0 is the background."""
    smooth = ndimage.gaussian_filter(luminance, 1.0)
    sigma = stats.median_abs_deviation(smooth, axis=None, scale="normal")
    bright = smooth > np.median(smooth) + threshold * sigma
    blurred = ndimage.gaussian_filter(luminance, 2.0)
    peaks = feature.peak_local_max(blurred, min_distance=4, labels=measure.label(bright), exclude_border=False)
    markers = np.zeros(luminance.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = segmentation.watershed(-blurred, markers, mask=bright)
    large = np.bincount(labels.ravel()) >= min_area
    large[0] = False
    if not large.any():
        raise ValueError(f"No object reaches threshold={threshold} over min_area={min_area} pixels: lower them.")
    return np.where(large[labels], labels, 0)


def _measure(labels: np.ndarray, flux: np.ndarray) -> pd.DataFrame:
    """Measure every object, the brightest first."""
    light = flux.mean(axis=-1).clip(min=0)
    table = pd.DataFrame(
        measure.regionprops_table(
            labels,
            light,
            properties=("label", "area", "centroid_weighted", "axis_major_length", "axis_minor_length"),
            extra_properties=(_half_light_radius,),
        )
    )
    # With 8 bits, nothing is fainter than one count, so a band has at least one count per pixel.
    red, _, blue = (
        np.maximum(ndimage.sum_labels(band, labels, table["label"]), table["area"]) for band in np.moveaxis(flux, -1, 0)
    )
    return pd.DataFrame(
        {
            "row": table["centroid_weighted-0"],
            "column": table["centroid_weighted-1"],
            "color": 2.5 * np.log10(red / blue),
            "radius": table["_half_light_radius"],
            "ellipticity": 1 - table["axis_minor_length"] / table["axis_major_length"],
            "magnitude": -2.5 * np.log10(ndimage.sum_labels(light, labels, table["label"])),
        }
    ).sort_values("magnitude", ignore_index=True)


def _half_light_radius(mask: np.ndarray, light: np.ndarray) -> float:
    """Compute the distance in pixels from the center of light that contains half of the light."""
    points, weights = np.argwhere(mask), light[mask]
    distance = np.hypot(*(points - np.average(points, axis=0, weights=weights)).T)
    order = np.argsort(distance)
    half = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
    return float(distance[order][half])
