"""A simulated imaging survey of simulated galaxies.

    image_b = PSF_b * (F_old,b · old + F_young,b · young) + sky noise_b

with the two stellar populations of `skastro.datasets.galaxies`. Volunteers and a spectrograph observe the same
galaxies.
"""

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import pandas as pd
from scipy import fft
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from skastro.datasets import galaxies as universe
from skastro.datasets import spectrograph, volunteers
from skastro.surveys import SURVEYS
from skastro.votes import VoteSchema, get_schema

__all__ = ["make_survey"]

_SDSS = SURVEYS["sdss"]
_BANDS = pd.DataFrame(
    {
        "wavelength": _SDSS.wavelengths,
        "extinction": _SDSS.extinction,
        "depth": (22.15, 23.13, 22.70, 22.20, 20.71),  # AB magnitude of a point source at 5σ
    },
    index=_SDSS.bands,
)
_DEPTH_SEEING = 1.3  # arcsec, the seeing at which those depths were reached
_SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))

# The properties that a catalog would list.
_PROPERTIES = [
    "log_mass",
    "log_ssfr",
    "bulge_fraction",
    "half_light_radius",
    "ellipticity",
    "inclination",
    "dust",
    "ebv",
]
_SPECTRAL_PROPERTIES = ["age", "metallicity"]  # properties that only spectra reveal
_CHUNK = 128  # galaxies rendered at once, to limit memory
_MARGIN = 8  # pixels rendered beyond each edge, so that light just outside the frame is blurred into it

_DESCR = """\
Simulated galaxies
==================
No telescope took these images: every galaxy, its light and the noise are computed from the formulas of skastro's
`make_survey`, so every truth is known exactly.

Six kinds (elliptical, spiral, barred spiral, ring, edge-on, merger) of two stellar populations, in a flat universe with
H0 = 70 km/s/Mpc and matter density 0.3. Distance dims a galaxy, shrinks it and reddens it. Its own dust reddens its
young stars; the Milky Way's dust (E(B−V), Schlafly & Finkbeiner coefficients) reddens all of it. The optics blur each
band with a Gaussian whose width falls with wavelength to the power 0.3, and the sky adds Gaussian noise at the depth of
the Sloan survey. Shot noise of the galaxies, neighbors, stars and artifacts are left out.

Images are in nanomaggies per pixel (magnitude = 22.5 − 2.5 log10 flux).
"""


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "bands": [str, "array-like"],
        "size": [Interval(Integral, 1, None, closed="left")],
        "pixel_scale": [Interval(Real, 0, None, closed="neither")],
        "seeing": [Interval(Real, 0, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "schema": [str, VoteSchema, None],
        "n_volunteers": [Integral, tuple, list],
        "spectra": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_survey(
    n_samples: int = 1000,
    *,
    bands: str | Sequence[str] = "ugriz",
    size: int = 64,
    pixel_scale: float = 0.396,
    seeing: float = 1.3,
    noise: float = 1.0,
    schema: str | VoteSchema | None = None,
    n_volunteers: int | Sequence[int] = (5, 40),
    spectra: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Simulate a survey of galaxies: images in several bands, optionally spectra and votes, and the true properties.

    With an int `random_state`, the same call returns the same bytes, and the first rows of a larger survey equal a
    smaller survey.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of galaxies.
    bands : str or sequence of str, default="ugriz"
        Bands of the Sloan survey, in the desired order: ``"grz"``, ``["r"]``.
    size : int, default=64
        Side of the images in pixels.
    pixel_scale : float, default=0.396
        Arcseconds per pixel.
    seeing : float, default=1.3
        Typical full width at half maximum of the PSF in the r band, in arcseconds. It varies by a tenth from one galaxy
        to the next and scales as wavelength to the power −0.3. 0 means no blur.
    noise : float, default=1.0
        Factor on the noise of images and spectra; 0 returns both without noise.
    schema : str or VoteSchema, default=None
        Questions to simulated volunteers: ``"simulated"``, two campaigns with different questions on everything but
        rings; ``"gz_rings"``, whether there is a ring; or a schema of such questions. None means no votes. Images are
        the same for every schema.
    n_volunteers : int or tuple of two int, default=(5, 40)
        Number of volunteers who see each galaxy, or the minimum and the maximum.
    spectra : bool, default=False
        If True, also return spectra. Everything else is the same with and without.
    random_state : int, RandomState instance or None, default=None
        Random state of the simulation.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary with attributes:

        images : ndarray of shape (n_samples, n_bands, size, size), float32
            Flux in nanomaggies per pixel, sky subtracted, reddened by the Milky Way.
        target : ndarray of shape (n_samples,), int
            Index of the kind in `target_names`.
        target_names : ndarray of shape (6,), str
            Kinds of galaxy.
        redshift : ndarray of shape (n_samples,), float
            Redshift, from 0.02 to about 0.4.
        magnitudes : ndarray of shape (n_samples, n_bands), float
            Total magnitudes (AB), without noise and including light beyond the frame.
        properties : DataFrame of shape (n_samples, 8)
            `log_mass` (log10 of the stellar mass in solar masses), `log_ssfr` (log10 of the specific star formation
            rate per year), `bulge_fraction` (of the light at 5500 Å, before the galaxy's own dust),
            `half_light_radius` (arcsec; of the disk alone, of an elliptical's spheroid), `ellipticity`
            (1 − axis ratio), `inclination` (degrees), `dust` (A_V inside the galaxy, mag), `ebv` (E(B−V) of the
            Milky Way in mag, on the scale of Schlegel, Finkbeiner & Davis 1998). A merger has those of its larger
            galaxy. With `spectra`, there are two more columns: `age` (mean age of the stars, weighted by mass, in Gyr)
            and `metallicity` (log10 Z/Z☉).
        bands : tuple of str
            Names of the bands.
        pixel_scale : float
            Arcseconds per pixel.
        votes : DataFrame of shape (n_samples, n_answers), int64
            With `schema`: number of volunteers who gave each answer. Each galaxy is shown in one campaign of the
            schema.
        vote_probabilities : DataFrame of shape (n_samples, n_answers), float64
            With `schema`: true probability of each answer from a volunteer who is asked.
        spectra : ndarray of shape (n_samples, 800), float32
            With `spectra`: flux of the whole galaxy in 1e-17 erg/s/cm²/Å, reddened by the Milky Way.
        ivar : ndarray of shape (n_samples, 800), float32
            With `spectra`: inverse variance of that flux; zero where a cosmic ray hit, since the flux there is
            meaningless. With ``noise=0`` it is that of ``noise=1``, for a flux without noise.
        wavelengths : ndarray of shape (800,), float64
            With `spectra`: wavelengths of the pixels in Å, from 3600 to 9800, evenly spaced in the logarithm.
        DESCR : str
            Description of the simulation and its limits.

    Raises
    ------
    ValueError
        If a parameter is out of range, a band is unknown, repeated or missing, or the schema has a question that the
        simulation cannot answer.

    References
    ----------
    Extinction: Schlafly & Finkbeiner 2011, ApJ 737, 103, `doi:10.1088/0004-637X/737/2/103
    <https://doi.org/10.1088/0004-637X/737/2/103>`_, table 6. Depths: SDSS Data Release 16.

    Examples
    --------
    >>> from skastro.datasets import make_survey
    >>> sky = make_survey(5, bands="grz", random_state=0)
    >>> sky.images.shape, sky.images.dtype
    ((5, 3, 64, 64), dtype('float32'))
    >>> sky.target_names[sky.target]
    array(['spiral', 'merger', 'elliptical', 'edge-on', 'spiral'], dtype='<U13')

    Labels by the majority of ten volunteers:

    >>> sky = make_survey(5, bands="grz", schema="gz_rings", n_volunteers=10, random_state=1)
    >>> (sky.votes["ring_yes"] > sky.votes["ring_no"]).to_numpy()
    array([ True, False, False, False, False])

    Spectra of the same galaxies; the brightest line of the second is Hα:

    >>> sky = make_survey(5, bands="grz", spectra=True, random_state=0)
    >>> sky.spectra.shape
    (5, 800)
    >>> flux = np.where(sky.ivar > 0, sky.spectra, np.nan)  # what a cosmic ray hit is lost
    >>> float((sky.wavelengths[np.nanargmax(flux[1])] / (1 + sky.redshift[1])).round())
    6563.0
    """
    filters = _filters(bands)
    generator = check_random_state(random_state)
    seeds = generator.randint(2**31, size=2)
    galaxies = universe.population(n_samples, seeds[0])
    votes = {} if schema is None else _ask(galaxies, get_schema(schema), n_volunteers, generator.randint(2**31))
    fluxes = universe.fluxes(galaxies, filters["wavelength"].to_numpy(), filters["extinction"].to_numpy())
    spectroscopy = _disperse(galaxies, noise, seeds[1]) if spectra else {}
    images = _photograph(galaxies, fluxes, filters, size, pixel_scale, seeing)
    _add_sky(images, filters["depth"].to_numpy(), pixel_scale, noise, seeds[1])
    return Bunch(
        images=images,
        target=galaxies["target"].to_numpy(),
        target_names=universe.KINDS.index.to_numpy(dtype=str),
        redshift=galaxies["redshift"].to_numpy(),
        magnitudes=22.5 - 2.5 * np.log10(fluxes.sum(axis=0)),
        properties=galaxies[_PROPERTIES + (_SPECTRAL_PROPERTIES if spectra else [])],
        bands=tuple(filters.index),
        pixel_scale=pixel_scale,
        DESCR=_DESCR + (volunteers.DESCR if votes else "") + (spectrograph.DESCR if spectra else ""),
        **votes,
        **spectroscopy,
    )


def _ask(
    galaxies: pd.DataFrame, schema: VoteSchema, n_volunteers: int | Sequence[int], seed: int
) -> dict[str, pd.DataFrame]:
    probabilities = volunteers.vote_probabilities(galaxies, schema)
    votes = volunteers.cast_votes(probabilities, schema, n_volunteers, seed)
    return {"votes": votes, "vote_probabilities": probabilities}


def _disperse(galaxies: pd.DataFrame, noise: float, seed: int) -> dict[str, np.ndarray]:
    flux, ivar = spectrograph.observe(galaxies, noise, seed)
    return {"spectra": flux, "ivar": ivar, "wavelengths": spectrograph.WAVELENGTHS.copy()}


def _filters(bands: str | Sequence[str]) -> pd.DataFrame:
    names = list(bands)
    if not names or len(set(names)) < len(names) or not set(names) <= set(_BANDS.index):
        raise ValueError(f"bands must name each of its bands once, out of u, g, r, i and z; got {bands!r}.")
    return _BANDS.loc[names]


def _photograph(
    galaxies: pd.DataFrame, fluxes: np.ndarray, filters: pd.DataFrame, size: int, pixel_scale: float, seeing: float
) -> np.ndarray:
    """Compute images without noise, a chunk of galaxies at a time."""
    images = np.empty((len(galaxies), len(filters), size, size), np.float32)
    frame = slice(_MARGIN, _MARGIN + size)
    color = (filters["wavelength"] / _BANDS.at["r", "wavelength"]).to_numpy() ** -0.3
    sigma = seeing * _SIGMA_PER_FWHM / pixel_scale * np.outer(galaxies["relative_seeing"], color)
    for start in range(0, len(galaxies), _CHUNK):
        rows = slice(start, start + _CHUNK)
        waves = fft.rfft2(universe.light(galaxies.iloc[rows], size + 2 * _MARGIN, pixel_scale))
        for band in range(len(filters)):
            blurred = _blurred(waves, fluxes[:, rows, band], sigma[rows, band])
            images[rows, band] = blurred[:, frame, frame]
    return images


def _blurred(waves: np.ndarray, fluxes: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Mix the Fourier transforms of the two populations by their fluxes and convolve with Gaussians (px)."""
    side = waves.shape[-2]
    k2 = (fft.fftfreq(side)[:, None] ** 2 + fft.rfftfreq(side) ** 2).astype(np.float32)
    mix = np.einsum("pnyx,pn->nyx", waves, fluxes.astype(np.float32))
    transfer = np.exp(-2 * np.pi**2 * k2 * np.float32(sigma[:, None, None] ** 2))
    return fft.irfft2(mix * transfer, s=(side, side))


def _add_sky(images: np.ndarray, depth: np.ndarray, pixel_scale: float, noise: float, seed: int) -> None:
    """Add noise, in place and galaxy by galaxy, so that the first rows do not depend on the number of rows."""
    point_source = 10 ** (0.4 * (22.5 - depth)) / 5
    pixels = np.sqrt(4 * np.pi) * _DEPTH_SEEING * _SIGMA_PER_FWHM / pixel_scale
    sigma = (noise * point_source / pixels).astype(np.float32)[:, None, None]
    rng = np.random.default_rng(seed)
    for image in images:
        image += sigma * rng.standard_normal(image.shape, np.float32)
