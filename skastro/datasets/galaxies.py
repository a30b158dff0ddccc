"""Simulated galaxies: their physical properties, their fluxes, and maps of their light.

Every galaxy has two stellar populations, each with a map of its light and a spectrum: old stars (bulge, bar, smooth
disc) and young stars (disc with arms, ring). As a consequence, arms are blue and bulges red. A galaxy is one row of a
table, drawn before any pixel is computed. All observations of it (images, volunteers' votes, spectra) start from that
row.
"""

import numpy as np
import pandas as pd
from scipy import integrate, special

__all__ = ["KINDS", "fluxes", "light", "luminosity_distance", "population"]

KINDS = pd.DataFrame(
    {
        "elliptical": (0.25, -12.0, 1.0, 1.0, 0.0, 1.0, 0.55, 0, 0.0, 0.0, 0.0),
        "spiral": (0.25, -9.9, 0.1, 0.3, 0.55, 1.0, 0.12, 2, 4.0, 0.0, 0.0),
        "barred spiral": (0.15, -10.0, 0.2, 0.35, 0.6, 1.0, 0.12, 2, 5.0, 0.35, 0.0),
        "ring": (0.10, -10.0, 0.4, 0.6, 0.6, 1.0, 0.12, 0, 0.0, 0.0, 0.9),
        "edge-on": (0.15, -10.2, 0.3, 0.6, 0.0, 0.1, 0.12, 0, 0.0, 0.0, 0.0),
        "merger": (0.10, -9.6, 0.2, 0.5, 0.4, 1.0, 0.12, 1, 3.0, 0.0, 0.0),
    },
    index=[
        "share",  # of all galaxies
        "ssfr",  # mean log10 of the specific star formation rate, per year
        "bulge_low",  # share of the old light in the bulge: from here …
        "bulge_high",  # … to here
        "cosi_low",  # cosine of the inclination: from here …
        "cosi_high",  # … to here
        "thickness",  # of the disc, or of the whole spheroid
        "n_arms",
        "arms",  # contrast of the arms
        "bar",  # share of the old light in the bar
        "ring",  # share of the young light in the ring
    ],
).T

# Magnitude (AB) of old and of young stars at rest wavelengths (Å), relative to 5500 Å.
_REST = (1500.0, 2500.0, 3300.0, 3900.0, 4200.0, 4800.0, 5500.0, 6500.0, 8000.0, 10000.0)
_OLD = (6.0, 4.2, 2.6, 1.9, 1.0, 0.4, 0.0, -0.3, -0.55, -0.8)
_YOUNG = (0.2, 0.4, 0.5, 0.35, 0.1, 0.05, 0.0, 0.0, -0.05, -0.1)

_DRAWS = [
    "kind",
    "redshift",
    "mass",
    "ssfr",
    "bulge",
    "sersic",
    "radius",
    "cosi",
    "n_arms",
    "hand",
    "pitch",
    "phase",
    "dust",
    "ebv",
    "angle",
    "x",
    "y",
    "seeing",
    "ratio",
    "gap",
    "side",
    "tilt",
]


def population(n: int, seed: int) -> pd.DataFrame:
    r"""Draw galaxies, one row each. Row i is the same for any number of rows.

    The mass-weighted age t of the stars and their metallicity Z, which only spectra reveal, follow from mass and star
    formation:

    .. math:: \frac{t}{T(z)} = \sigma\bigl(-0.6\, (\log \mathrm{sSFR} + 10.1) + 0.4\, \epsilon\bigr), \qquad
        \log \frac{Z}{Z_\odot} = -0.1 + 0.35 \tanh \frac{\log M - 10.3}{0.7} + 0.12\, \epsilon'

    with the logistic function σ, the age T of the universe, and normal ε. Stars that formed at a constant rate are on
    average half as old as the universe, at a specific rate of 1/T. More massive galaxies are richer in metals, up to a
    limit, as Gallazzi et al. (2005) found. The numbers are assumptions.

    Parameters
    ----------
    n : int
        Number of galaxies.
    seed : int
        Random seed.

    Returns
    -------
    DataFrame of n rows
        Properties and place of each galaxy: lengths in arcseconds, angles in radians (`inclination` in degrees), `age`
        in Gyr, `metallicity` as log10 Z/Z☉.

    References
    ----------
    Gallazzi et al. 2005, MNRAS 362, 41, `arXiv:astro-ph/0506539 <https://arxiv.org/abs/astro-ph/0506539>`_.

    Examples
    --------
    >>> from skastro.datasets.galaxies import population
    >>> population(3, seed=0).equals(population(5, seed=0)[:3])
    True
    """
    rng = np.random.default_rng(seed)
    u = pd.DataFrame(rng.random((n, len(_DRAWS))), columns=_DRAWS)
    older, richer = rng.spawn(1)[0].standard_normal((n, 2)).T
    normal = special.ndtri(u.clip(1e-6, 1 - 1e-6))
    target = np.searchsorted(KINDS["share"].cumsum()[:-1], u["kind"], side="right")
    kind = KINDS.iloc[target].reset_index(drop=True)
    elliptical, spiral, merger = (target == KINDS.index.get_loc(k) for k in ("elliptical", "spiral", "merger"))

    redshift = 0.02 + 0.03 * special.gammaincinv(2, u["redshift"])
    # As in any flux-limited survey, distant galaxies are the massive ones.
    log_mass = 10.6 + np.log10(redshift / 0.08) + 0.3 * normal["mass"]
    log_ssfr = kind["ssfr"] - 0.3 * (log_mass - 10.6) + 0.3 * normal["ssfr"]
    young = 0.7 * special.expit(3 * (log_ssfr + 10.4))
    bulge = kind["bulge_low"] + (kind["bulge_high"] - kind["bulge_low"]) * u["bulge"]
    log_kpc = 0.7 + np.where(elliptical, 0.5, 0.2) * (log_mass - 10.6) + 0.1 * normal["radius"]
    radius = 10**log_kpc / _kpc_per_arcsec(redshift)
    cosi = kind["cosi_low"] + (kind["cosi_high"] - kind["cosi_low"]) * u["cosi"]
    return kind.assign(
        target=target,
        redshift=redshift,
        log_mass=log_mass,
        log_ssfr=log_ssfr,
        young=young,
        bulge=bulge,
        bulge_fraction=bulge * (1 - young),
        bulge_radius=radius * np.where(elliptical, 1, 0.25),
        sersic=np.where(elliptical, 3, 1.5) + 2 * u["sersic"],
        half_light_radius=radius,
        cosi=cosi,
        inclination=np.degrees(np.arccos(cosi)),
        ellipticity=1 - _axis_ratio(cosi, kind["thickness"]),
        n_arms=np.where(spiral, np.floor(2 + 3 * u["n_arms"] ** 2), kind["n_arms"]),
        hand=np.where(u["hand"] < 0.5, -1, 1),
        pitch=np.radians(np.where(merger, 35, 14 + 14 * u["pitch"])),
        phase=2 * np.pi * u["phase"],
        dust=0.3 + 0.5 * (1 - cosi) + 0.2 * u["dust"],
        ebv=0.05 * special.gammaincinv(1.5, u["ebv"]),
        angle=np.pi * u["angle"],
        x=u["x"] - 0.5,
        y=u["y"] - 0.5,
        relative_seeing=np.exp(0.1 * normal["seeing"]),
        ratio=np.where(merger, 0.3 + 0.7 * u["ratio"], 0),
        gap=radius * (0.9 + 0.7 * u["gap"]),
        side=2 * np.pi * u["side"],
        companion_cosi=0.4 + 0.6 * u["tilt"],
        age=_cosmic_age(redshift) * special.expit(-0.6 * (log_ssfr + 10.1) + 0.4 * older),
        metallicity=-0.1 + 0.35 * np.tanh((log_mass - 10.3) / 0.7) + 0.12 * richer,
    )


def fluxes(galaxies: pd.DataFrame, wavelength: np.ndarray, extinction: np.ndarray) -> np.ndarray:
    """Compute the flux of the old and of the young stars in each band.

    Parameters
    ----------
    galaxies : DataFrame of n rows
        Galaxies, as returned by `population`.
    wavelength : ndarray of shape (n_bands,)
        Effective wavelength of each band in Å.
    extinction : ndarray of shape (n_bands,)
        Extinction coefficient of each band.

    Returns
    -------
    ndarray of shape (2, n, n_bands)
        Fluxes in nanomaggies.
    """
    g = {name: column.to_numpy()[:, None] for name, column in galaxies.items()}
    stretch = 1 + g["redshift"]
    rest = wavelength / stretch
    absolute = 4.81 - 2.5 * (g["log_mass"] - 0.65 + 0.9 * g["young"])  # young stars: more light per mass
    distance = 25 + 5 * np.log10(luminosity_distance(g["redshift"]))
    total = absolute + distance - 2.5 * np.log10(stretch) + g["ebv"] * extinction
    old = total - 2.5 * np.log10(1 - g["young"]) + np.interp(rest, _REST, _OLD)
    young = total - 2.5 * np.log10(g["young"]) + np.interp(rest, _REST, _YOUNG) + g["dust"] * (5500 / rest) ** 0.7
    return 10 ** (0.4 * (22.5 - np.stack([old, young])))


def light(galaxies: pd.DataFrame, side: int, pixel_scale: float) -> np.ndarray:
    """Compute maps of the old and of the young light.

    Parameters
    ----------
    galaxies : DataFrame of n rows
        Galaxies, as returned by `population`.
    side : int
        Side of a map in pixels.
    pixel_scale : float
        Arcseconds per pixel.

    Returns
    -------
    ndarray of shape (2, n, side, side)
        Maps, each with a sum of about 1.
    """
    maps = _maps(galaxies, side, pixel_scale) / (1 + galaxies["ratio"].to_numpy(np.float32)[:, None, None])
    merging = (galaxies["ratio"] > 0).to_numpy()
    if merging.any():
        pair = galaxies[merging]
        share = (pair["ratio"] / (1 + pair["ratio"])).to_numpy(np.float32)[:, None, None]
        maps[:, merging] += share * _maps(_companions(pair), side, pixel_scale)
    return maps


def luminosity_distance(redshift: np.ndarray) -> np.ndarray:
    """Compute the luminosity distance in a flat universe of H0 = 70 km/s/Mpc and Ωm = 0.3.

    Parameters
    ----------
    redshift : float or ndarray
        Redshift, up to 2.

    Returns
    -------
    float or ndarray
        Distance in Mpc.

    Examples
    --------
    >>> from skastro.datasets.galaxies import luminosity_distance
    >>> float(luminosity_distance(0.1).round(1))
    460.3
    """
    return _comoving_mpc(redshift) * (1 + redshift)


def _companions(mergers: pd.DataFrame) -> pd.DataFrame:
    """Describe the smaller galaxy of each merging pair."""
    shrink = 0.8 * np.sqrt(mergers["ratio"])
    return mergers.assign(
        half_light_radius=mergers["half_light_radius"] * shrink,
        bulge_radius=mergers["bulge_radius"] * shrink,
        cosi=mergers["companion_cosi"],
        angle=mergers["angle"] + mergers["side"],
        x=mergers["x"] + mergers["gap"] * np.cos(mergers["side"]),
        y=mergers["y"] + mergers["gap"] * np.sin(mergers["side"]),
    )


def _maps(galaxies: pd.DataFrame, side: int, pixel_scale: float) -> np.ndarray:
    """Compute maps of the two populations of single galaxies, from formulas that integrate to one."""
    g = {name: column.to_numpy(np.float32)[:, None, None] for name, column in galaxies.items()}
    axis = (np.arange(side, dtype=np.float32) - (side - 1) / 2) * np.float32(pixel_scale)
    dx, dy = axis - g["x"], axis[:, None] - g["y"]
    along = dx * np.cos(g["angle"]) + dy * np.sin(g["angle"])
    across = dy * np.cos(g["angle"]) - dx * np.sin(g["angle"])

    spheroid = _axis_ratio(g["cosi"], KINDS.at["elliptical", "thickness"])
    # A quarter of a pixel approximates the mean over the central pixel, where the profile has a cusp.
    r = np.hypot(np.hypot(along, across / spheroid), np.float32(0.25 * pixel_scale))
    bulge = _sersic(r, g["bulge_radius"], g["sersic"]) / spheroid

    # The disc seen face-on, in units of its scale length: again a circle, of area 1 / unit.
    q, h = _axis_ratio(g["cosi"], g["thickness"]), g["half_light_radius"] / np.float32(1.678)
    unit = 1 / (q * h**2)
    r, azimuth = np.hypot(along, across / q) / h, np.arctan2(across / q, along) - g["phase"]
    disc = np.exp(-r) / (2 * np.pi) * unit
    # A logarithmic spiral, straight inside its start, which is the end of the bar if there is one.
    start = np.where(g["bar"] > 0, np.float32(1.1), np.float32(0.4))
    winding = g["hand"] * azimuth - np.log(np.maximum(r, start) / start) / np.tan(g["pitch"])
    arms = np.exp(g["arms"] * (np.cos(g["n_arms"] * winding) - 1)) / special.i0e(g["arms"])
    knots = 1 + 0.5 * np.cos(5 * g["hand"] * azimuth + 9 * r)
    bar = np.exp(-((r * np.cos(azimuth)) ** 2) - (r * np.sin(azimuth) / 0.25) ** 2) / (np.pi * 0.25) * unit
    ring = np.exp(-8 * (r - 2) ** 2) / (np.pi * np.sqrt(2 * np.pi)) * unit

    old = g["bulge"] * bulge + g["bar"] * bar + (1 - g["bulge"] - g["bar"]) * disc * (0.7 + 0.3 * arms)
    young = (g["ring"] * ring + (1 - g["ring"]) * disc * (0.25 + 0.75 * arms)) * knots
    return np.stack([old, young]) * np.float32(pixel_scale**2)


def _sersic(r: np.ndarray, radius: np.ndarray, n: np.ndarray) -> np.ndarray:
    b = 2 * n - np.float32(1 / 3)
    return np.exp(-b * (r / radius) ** (1 / n)) * b ** (2 * n) / (2 * np.pi * n * radius**2 * special.gamma(2 * n))


def _axis_ratio(cosi: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Compute the apparent axis ratio of a flattened spheroid at this inclination."""
    return np.sqrt(cosi**2 + thickness**2 * (1 - cosi**2))


def _comoving_mpc(redshift: np.ndarray) -> np.ndarray:
    """Compute the comoving distance in a flat universe of H0 = 70 km/s/Mpc and Ωm = 0.3."""
    z = np.linspace(0, 2, 2001)
    path = integrate.cumulative_trapezoid(1 / np.sqrt(0.3 * (1 + z) ** 3 + 0.7), z, initial=0)
    return 299792.458 / 70 * np.interp(redshift, z, path)


def _cosmic_age(redshift: np.ndarray) -> np.ndarray:
    """Compute the age of that universe at this redshift, in Gyr."""
    return 2 / 3 / np.sqrt(0.7) * 977.8 / 70 * np.arcsinh(np.sqrt(0.7 / 0.3 / (1 + redshift) ** 3))


def _kpc_per_arcsec(redshift: np.ndarray) -> np.ndarray:
    return _comoving_mpc(redshift) / (1 + redshift) * 1000 * np.radians(1 / 3600)
