"""Simulated radio galaxies of the two Fanaroff-Riley classes, at the resolution of the FIRST survey.

A source is a core and two jets, each a chain of round Gaussian beads. A Gaussian is the product of its two profiles, so
an image is one product of two matrices. The beam only adds to the variances, so no convolution is needed.
"""

from numbers import Integral, Real

import numpy as np
import pandas as pd
from scipy import ndimage, special
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, validate_params

__all__ = ["make_radio_doubles"]

_NOISE = 0.15  # mJy per beam
_BEAM = 5.4 / np.sqrt(8 * np.log(2))  # standard deviation of a beam of 5.4 arcsec FWHM
_BEADS = 24  # number along each jet
_DRAWS = ["kind", "las", "peak", "angle", "bend", "swing", "core", "x", "y", "balance", "reach", "fade", "width"]

_DESCR = """\
Simulated radio galaxies
========================
No telescope took these images: they are sums of Gaussians, computed by skastro's `make_radio_doubles` to resemble the
cutouts of the FIRST survey (1.4 GHz) in MiraBest.

FRI: a bright core, and jets that bend, widen and fade away from it. FRII: a weak core, and lobes that are brightest in
hot spots at their far ends. The beam is 5.4 arcsec wide at half maximum, and the noise is as smooth as the beam.

Images are in mJy per beam.
"""


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "size": [Interval(Integral, 1, None, closed="left")],
        "pixel_scale": [Interval(Real, 0, 5.4, closed="right")],
        "clip": [Interval(Real, 0, None, closed="left"), None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_radio_doubles(
    n_samples: int = 500,
    *,
    size: int = 150,
    pixel_scale: float = 1.8,
    clip: float | None = 3.0,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Simulate radio galaxies of Fanaroff-Riley classes I and II.

    With an int `random_state`, the same call returns the same bytes, and the first rows of a larger sample equal a
    smaller sample.

    Parameters
    ----------
    n_samples : int, default=500
        Number of sources, about half of each class.
    size : int, default=150
        Side of the images in pixels.
    pixel_scale : float, default=1.8
        Arcseconds per pixel, at most the width of the beam.
    clip : float or None, default=3.0
        Pixels below this many standard deviations of the noise are set to zero, as in MiraBest; None keeps the noise.
    random_state : int, RandomState instance or None, default=None
        Random state of the simulation.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary with attributes:

        images : ndarray of shape (n_samples, 1, size, size), float32
            Brightness in mJy per beam of 5.4 arcsec FWHM; the noise is 0.15.
        target : ndarray of shape (n_samples,), int
            0 for FRI, 1 for FRII.
        target_names : ndarray of shape (2,), str
            ``"FRI"`` and ``"FRII"``.
        las_arcsec : ndarray of shape (n_samples,), float
            Angular size in arcseconds, from end to end along the jets; at most 0.7 of the image's side.
        bands : tuple of str
            ``("1.4 GHz",)``.
        pixel_scale : float
            Arcseconds per pixel.
        DESCR : str
            Description of the simulation.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    Fanaroff & Riley 1974, MNRAS 167, 31P, `doi:10.1093/mnras/167.1.31P <https://doi.org/10.1093/mnras/167.1.31P>`_.
    Becker, White & Helfand 1995, ApJ 450, 559 (FIRST), `doi:10.1086/176166 <https://doi.org/10.1086/176166>`_.

    Examples
    --------
    >>> from skastro.datasets import make_radio_doubles
    >>> doubles = make_radio_doubles(4, random_state=1)
    >>> doubles.images.shape, doubles.images.dtype
    ((4, 1, 150, 150), dtype('float32'))
    >>> doubles.target_names[doubles.target]
    array(['FRII', 'FRII', 'FRI', 'FRI'], dtype='<U4')
    """
    seeds = check_random_state(random_state).randint(2**31, size=3)
    sources = _sources(n_samples, seeds[0], size * pixel_scale)
    beads = _beads(sources, seeds[1])
    images = np.empty((n_samples, 1, size, size), np.float32)
    sky = np.random.default_rng(seeds[2])
    for image, peak, chain in zip(images[:, 0], sources["peak"], beads, strict=True):
        clean = _render(chain, size, pixel_scale)
        image[:] = clean * (peak / clean.max()) + _smooth_noise(size, pixel_scale, sky)
    if clip is not None:
        images[images < clip * _NOISE] = 0
    return Bunch(
        images=images,
        target=sources["target"].to_numpy(),
        target_names=np.array(["FRI", "FRII"]),
        las_arcsec=sources["las"].to_numpy(),
        bands=("1.4 GHz",),
        pixel_scale=pixel_scale,
        DESCR=_DESCR,
    )


def _sources(n: int, seed: int, side: float) -> pd.DataFrame:
    """Draw n sources for images of this side (arcsec), one row each. Row i is the same for any n."""
    u = pd.DataFrame(np.random.default_rng(seed).random((n, len(_DRAWS))), columns=_DRAWS)
    normal = special.ndtri(u.clip(1e-6, 1 - 1e-6))
    fr2 = u["kind"] >= 0.5
    return u.assign(
        target=fr2.astype(int),
        las=np.clip(np.where(fr2, 50, 70) * np.exp(0.5 * normal["las"]), 20, 0.7 * side),
        peak=_NOISE * 10 ** (1.2 + u["peak"]),
        angle=2 * np.pi * u["angle"],
        bend=np.where(fr2, 0.15, 1.0) * normal["bend"],  # both jets bend to one side, like a C
        swing=np.where(fr2, 0.1, 0.5) * normal["swing"],  # the jets bend to opposite sides, like an S
        core=np.where(fr2, 0.3, 1.0) * (0.3 + u["core"]),
        x=0.02 * side * (u["x"] - 0.5),
        y=0.02 * side * (u["y"] - 0.5),
    )


def _beads(sources: pd.DataFrame, seed: int) -> np.ndarray:
    """Return center x, y, standard deviation (arcsec) and flux of every bead: (n, 4, 2 · beads + 1)."""
    s = {name: column.to_numpy()[:, None] for name, column in sources.items()}
    rng = np.random.default_rng(seed)
    knots = np.exp(0.4 * rng.standard_normal((len(sources), 2, _BEADS)))
    core = s["x"], s["y"], np.zeros_like(s["x"]), s["core"]
    jets = [_jet(s, side, knots[:, i]) for i, side in enumerate((-1, 1))]
    return np.stack([np.hstack(parts) for parts in zip(core, *jets, strict=True)], axis=1)


def _jet(s: dict[str, np.ndarray], side: int, knots: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the beads of one jet, from the core to its end."""
    t = np.arange(1, _BEADS + 1) / _BEADS
    length = 0.5 * s["las"] * (1 + 0.3 * side * (s["reach"] - 0.5))
    heading = s["angle"] + (s["swing"] + side * s["bend"]) * t + np.pi * (side < 0)
    x = s["x"] + np.cumsum(np.cos(heading), axis=1) * length / _BEADS
    y = s["y"] + np.cumsum(np.sin(heading), axis=1) * length / _BEADS

    plume = np.exp(-(1.5 + 2 * s["fade"]) * t)
    lobe = 1.5 * np.exp(-(((1 - t) / 0.11) ** 2)) + 0.35 * np.exp((t - 1) / (0.25 + 0.25 * s["fade"])) + 0.02
    widening = 0.02 + (0.06 + 0.12 * s["width"]) * t
    backflow = 0.03 + 0.1 * s["width"] * np.sqrt(np.minimum(1 - t, 0.6))
    fr2 = s["target"] == 1
    flux = np.where(fr2, lobe, plume) * knots * (1 + 0.3 * side * (s["balance"] - 0.5))
    return x, y, np.where(fr2, backflow, widening) * s["las"], flux


def _render(beads: np.ndarray, size: int, pixel_scale: float) -> np.ndarray:
    """Compute the brightness of one source, convolved with the beam."""
    x, y, width, flux = beads[:, :, None]
    sigma = np.hypot(width, _BEAM)
    axis = (np.arange(size) - (size - 1) / 2) * pixel_scale
    profile_x = np.exp(-0.5 * ((axis - x) / sigma) ** 2)
    profile_y = np.exp(-0.5 * ((axis - y) / sigma) ** 2)
    return (profile_y * flux * (_BEAM / sigma) ** 2).T @ profile_x


def _smooth_noise(size: int, pixel_scale: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the noise of an interferometer, smoothed by the same beam as the sky."""
    sigma = _BEAM / pixel_scale
    white = rng.standard_normal((size, size))
    smooth = ndimage.gaussian_filter(white, sigma, mode="wrap")
    return smooth * (_NOISE * 2 * np.sqrt(np.pi) * sigma)
