r"""A simulated spectrograph, which observes the galaxies of the simulated survey.

    flux = old · break · (1 − lines) + young · (1 − lines) + emission

The smooth light of the old and of the young stars is that of `skastro.datasets.galaxies.fluxes`, so spectra and images
agree. The lines and the break at 4000 Å depend on age, metallicity and star formation. All wavelengths are in vacuum.
"""

import numpy as np
import pandas as pd
from scipy import special

from skastro.datasets import galaxies as universe
from skastro.surveys import SURVEYS

__all__ = ["WAVELENGTHS", "emission_lines", "observe", "spectra"]

DESCR = """
The spectra are simulated too, of all the light of a galaxy: nothing is lost beside a fibre. Two smooth continua, those
of the images, carry a break at 4000 Å, absorption lines and emission lines. The break and the lines of metals grow with
age and metallicity, those of hydrogen fade with age. Emission follows the star formation rate, its ratios the
metallicity, and the dust of the young stars reddens it. Ages and metallicities show in these features alone, and the
images are without them: their colors differ by hundredths of a magnitude, where emission is strong by tenths. The
resolution of 2,000 is finer than the pixels, which have 800. Noise is that of the galaxy's photons and of the sky,
whose lines crowd the red; cosmic rays hit one pixel in 200.

Left out: rotation, active nuclei, shocks, bands of molecules, absorption by the air, errors of calibration and of the
subtraction of the sky. Flux is in 1e-17 erg/s/cm²/Å.
"""

_STEP = np.log(9800 / 3600) / 799
WAVELENGTHS = 3600 * np.exp(_STEP * np.arange(800))
_EDGES = np.log(3600) + _STEP * (np.arange(801) - 0.5)  # edges of the pixels, logarithms
_WIDTHS = np.diff(np.exp(_EDGES))

_NANOMAGGY = 3.631e-12 * 2.998e18 / WAVELENGTHS**2  # 3.631e-29 erg/s/cm²/Hz

_SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
_RESOLUTION = 2000  # wavelength over full width at half maximum
_GAS = 100 / 299792.458  # dispersion of the gas, over the speed of light

# Assumed values, close to those of galaxies of 8 Gyr and solar metallicity: equivalent widths (Å) in the old and in the
# young stars, Gaussian width (Å), and powers of metallicity and age by which the widths in the old stars grow.
_ABSORPTION = pd.DataFrame(
    {
        "Ca K": (3934.8, 6.5, 0.5, 7.0, 0.15, 0.2),
        "Ca H": (3969.6, 6.0, 0.5, 7.0, 0.15, 0.2),
        "Hδ": (4102.9, 1.2, 6.0, 9.0, 0.0, -0.8),
        "G": (4305.6, 5.0, 0.0, 12.0, 0.2, 0.4),
        "Hγ": (4341.7, 1.2, 6.0, 9.0, 0.0, -0.8),
        "Hβ": (4862.7, 1.6, 5.0, 9.0, 0.0, -0.5),
        "Mg b": (5176.6, 5.0, 0.5, 13.0, 0.6, 0.3),
        "Na D": (5894.6, 3.5, 0.5, 6.0, 0.6, 0.1),
        "Hα": (6564.6, 1.2, 3.0, 9.0, 0.0, -0.3),
    },
    index=["wavelength", "old", "young", "sigma", "metallicity", "age"],
).T

# Vacuum wavelength (Å), species, and share of the species' strength; those of [O II] and [S II] are for thin gas.
_EMISSION = pd.DataFrame(
    {
        "[O II] 3727": (3727.09, "[O II]", 0.42),
        "[O II] 3730": (3729.88, "[O II]", 0.58),
        "Hδ": (4102.89, "Hδ", 1.0),
        "Hγ": (4341.68, "Hγ", 1.0),
        "Hβ": (4862.68, "Hβ", 1.0),
        "[O III] 4960": (4960.30, "[O III]", 1 / 3),
        "[O III] 5008": (5008.24, "[O III]", 1.0),
        "[N II] 6550": (6549.86, "[N II]", 1 / 3),
        "Hα": (6564.61, "Hα", 1.0),
        "[N II] 6585": (6585.27, "[N II]", 1.0),
        "[S II] 6718": (6718.29, "[S II]", 0.58),
        "[S II] 6733": (6732.67, "[S II]", 0.42),
    },
    index=["wavelength", "species", "share"],
).T

_MILKY_WAY = pd.Series(SURVEYS["sdss"].extinction, SURVEYS["sdss"].wavelengths)
_CHUNK = 128  # galaxies at once, to limit memory
_LOST = 0.005  # share of the pixels hit by a cosmic ray
_CHARGE = 30  # its mean signal, in units of the noise


def spectra(galaxies: pd.DataFrame) -> np.ndarray:
    r"""Compute spectra without noise.

    .. math:: F = F_\mathrm{old}\, 10^{0.4 b} \Bigl(1 - \sum_k E_k^\mathrm{old} \phi_k\Bigr)
        + F_\mathrm{young} \Bigl(1 - \sum_k E_k^\mathrm{young} \phi_k\Bigr) + \sum_j F_j \phi_j

    with the continua of `skastro.datasets.galaxies.fluxes`, the break b, absorption lines of equivalent width E,
    emission lines of flux :math:`F_j`, and Gaussian profiles φ of unit area, averaged over each pixel. The equivalent
    widths in the old stars scale as powers of age and metallicity. With the age t in Gyr, the metallicity Z and
    :math:`u = (\lambda / 4000\,Å - 1) / 0.04`, the break is

    .. math:: b = (0.15 + 0.5 \log_{10} (t / 8) + 0.2 \log_{10} (Z / Z_\odot))\; \mathrm{sgn}(u)\, e^{-|u|}
        \;\mathrm{mag}.

    Its two sides cancel in broad bands. All numbers are assumptions.

    Parameters
    ----------
    galaxies : DataFrame of n rows
        Galaxies, as returned by `skastro.datasets.galaxies.population`.

    Returns
    -------
    ndarray of shape (n, n_wavelengths)
        Flux at `WAVELENGTHS`, averaged over each pixel, in 1e-17 erg/s/cm²/Å.

    Examples
    --------
    >>> from skastro.datasets.galaxies import population
    >>> from skastro.datasets.spectrograph import spectra
    >>> spectra(population(2, seed=0)).shape
    (2, 800)
    """
    redshift, age, metallicity = galaxies[["redshift", "age", "metallicity"]].to_numpy().T[:, :, None]
    stretch = 1 + redshift
    old, young = universe.fluxes(galaxies, WAVELENGTHS, _extinction(WAVELENGTHS)) * _NANOMAGGY
    u = (WAVELENGTHS / stretch / 4000 - 1) / 0.04
    strength = 0.15 + 0.5 * np.log10(age / 8) + 0.2 * metallicity
    old = old * 10 ** (0.4 * strength * np.sign(u) * np.exp(-np.abs(u)))

    lost_old, lost_young, emitted = np.zeros((3, *old.shape))
    for line in _ABSORPTION.itertuples():
        profile = _profile(line.wavelength * stretch, line.sigma / line.wavelength) * stretch
        lost_old += line.old * 10 ** (line.metallicity * metallicity) * (age / 8) ** line.age * profile
        lost_young += line.young * profile
    for name, flux in emission_lines(galaxies).items():
        emitted += flux.to_numpy()[:, None] * _profile(_EMISSION.at[name, "wavelength"] * stretch, _GAS)
    return old * (1 - lost_old) + young * (1 - lost_young) + emitted


def emission_lines(galaxies: pd.DataFrame) -> pd.DataFrame:
    r"""Compute the fluxes of the emission lines.

    .. math:: L(\mathrm{H\alpha}) = \frac{1}{2} \frac{\mathrm{SFR}}{7.9 \times 10^{-42}}, \quad
        12 + \log \mathrm{O/H} = 8.90 + 0.57 \log \frac{[\mathrm{N\,II}]}{\mathrm{H\alpha}}
        = 8.73 - 0.32 \log \frac{[\mathrm{O\,III}] / \mathrm{H\beta}}{[\mathrm{N\,II}] / \mathrm{H\alpha}}

    with the luminosity in erg/s, the star formation rate in solar masses per year, and gas of the stars' metallicity
    (the Sun: 8.69). Assumptions: dust absorbs half of the ionising photons; [O II] and [S II] are 0.7 and 0.35 times
    Hα. The Balmer lines have the ratios of case B at 10,000 K. The relations of nitrogen and oxygen are extrapolated
    beyond their measured range. Then the dust of the young stars and that of the Milky Way redden all lines.

    Parameters
    ----------
    galaxies : DataFrame of n rows
        Galaxies, as returned by `skastro.datasets.galaxies.population`.

    Returns
    -------
    DataFrame of shape (n, 12)
        Fluxes in 1e-17 erg/s/cm².

    References
    ----------
    Star formation: Kennicutt 1998, ARA&A 36, 189, `arXiv:astro-ph/9807187 <https://arxiv.org/abs/astro-ph/9807187>`_,
    equation 2. Metallicity: Pettini & Pagel 2004, MNRAS 348, L59, `arXiv:astro-ph/0401128
    <https://arxiv.org/abs/astro-ph/0401128>`_. The Sun: Asplund et al. 2009, ARA&A 47, 481, `arXiv:0909.0948
    <https://arxiv.org/abs/0909.0948>`_. Case B: Osterbrock & Ferland 2006.

    Examples
    --------
    >>> from skastro.datasets.galaxies import population
    >>> from skastro.datasets.spectrograph import emission_lines
    >>> lines = emission_lines(population(2, seed=0))
    >>> bool((lines["Hα"] / lines["Hβ"] > 2.86).all())
    True
    """
    z, metallicity = galaxies["redshift"], galaxies["metallicity"]
    area = 4 * np.pi * (universe.luminosity_distance(z) * 3.0857e24) ** 2  # cm²
    hydrogen = 0.5e17 * 10 ** (galaxies["log_mass"] + galaxies["log_ssfr"]) / 7.9e-42 / area
    nitrogen = (metallicity + 8.69 - 8.90) / 0.57
    oxygen = (8.73 - 8.69 - metallicity) / 0.32 + nitrogen
    strengths = {
        "[O II]": 0.7,
        "Hδ": 0.259 / 2.86,
        "Hγ": 0.468 / 2.86,
        "Hβ": 1 / 2.86,
        "[O III]": 10**oxygen / 2.86,
        "[N II]": 10**nitrogen,
        "Hα": 1.0,
        "[S II]": 0.35,
    }
    lines = {}
    for name, (wavelength, species, share) in _EMISSION.iterrows():
        dust = galaxies["dust"] * (5500 / wavelength) ** 0.7 + galaxies["ebv"] * _extinction(wavelength * (1 + z))
        lines[name] = share * strengths[species] * hydrogen * 10 ** (-0.4 * dust)
    return pd.DataFrame(lines)


def observe(galaxies: pd.DataFrame, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Observe spectra with noise. Row i is the same for any number of rows.

    .. math:: \sigma^2 = (F + F_\mathrm{sky}) / C

    where C is the number of photons that a flux of 1 brings to a pixel. Assumption: a galaxy of magnitude 17 in the r
    band has about 12 times the noise. A pixel hit by a cosmic ray is lost: it has far more flux, and no weight.

    Parameters
    ----------
    galaxies : DataFrame of n rows
        Galaxies, as returned by `skastro.datasets.galaxies.population`.
    noise : float
        Factor on the noise and on the signal of cosmic rays; 0 returns spectra without noise, with the inverse variance
        of ``noise=1``.
    seed : int
        Random seed.

    Returns
    -------
    flux : ndarray of shape (n, n_wavelengths), float32
        Flux in 1e-17 erg/s/cm²/Å.
    ivar : ndarray of shape (n, n_wavelengths), float32
        Inverse variance in the inverse square of that unit; zero where a pixel is lost.

    Examples
    --------
    >>> from skastro.datasets.galaxies import population
    >>> from skastro.datasets.spectrograph import observe
    >>> flux, ivar = observe(population(2, seed=0), noise=1.0, seed=0)
    >>> float((ivar == 0).mean().round(3))
    0.005
    """
    flux, ivar = np.empty((2, len(galaxies), len(WAVELENGTHS)), np.float32)
    photons, rays = np.random.default_rng(seed).spawn(2)
    for start in range(0, len(galaxies), _CHUNK):
        rows = slice(start, start + _CHUNK)
        clean = spectra(galaxies.iloc[rows])
        sigma = np.sqrt((clean + _SKY) / _PHOTONS)
        charge = -_CHARGE * np.log(np.minimum((1 - rays.random(clean.shape)) / _LOST, 1))
        flux[rows] = clean + noise * sigma * (photons.standard_normal(clean.shape) + charge)
        ivar[rows] = np.where(charge > 0, 0, ((noise or 1) * sigma) ** -2.0)
    return flux, ivar


def _extinction(wavelength: np.ndarray) -> np.ndarray:
    """Interpolate the coefficients of the Milky Way's dust between those of the images' bands."""
    return np.interp(wavelength, _MILKY_WAY.index, _MILKY_WAY)


def _profile(center: np.ndarray, sigma: float) -> np.ndarray:
    """Average Gaussian lines (1/Å) of unit area over each pixel; the width is relative to their wavelength."""
    width = np.hypot(sigma, _SIGMA_PER_FWHM / _RESOLUTION)
    return np.diff(special.ndtr((_EDGES - np.log(center)) / width)) / _WIDTHS


def _sky() -> np.ndarray:
    """Return the assumed flux of the night sky in the aperture, with lines near the brightest of O, Na and OH."""
    red = np.array(
        [7278, 7318, 7343, 7753, 7796, 7824, 7967, 7995, 8347, 8401, 8432, 8830, 8888, 8922, 8960, 9378, 9442, 9480]
    )
    lines = np.concatenate([[5579, 5895, 6302, 6366], red])
    widths = np.concatenate([[60, 5, 20, 7], 12 * (red / 7300) ** 6])  # equivalent widths, in Å
    return 20 * np.sqrt(WAVELENGTHS / 6500) * (1 + widths @ _profile(lines[:, None], 0.0))


_SKY = _sky()
_PHOTONS = 8 * np.exp(-((np.log(WAVELENGTHS / 6500) / 0.45) ** 2))  # assumed: low throughput at both ends
