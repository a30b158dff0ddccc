"""Laws of the simulated spectra."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate
from scipy.ndimage import uniform_filter1d
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score

from skastro.datasets import galaxies as universe
from skastro.datasets import make_survey, spectrograph
from skastro.datasets.spectrograph import WAVELENGTHS, emission_lines, observe, spectra
from skastro.missing import check_ivar
from skastro.spectra import pixel_weights
from skastro.surveys import SURVEYS

STEP = np.log(WAVELENGTHS[1] / WAVELENGTHS[0])
WIDTHS = 2 * WAVELENGTHS * np.sinh(STEP / 2)  # of the pixels in Å
TINY = {"bands": "r", "size": 4, "random_state": 5}


@pytest.fixture(scope="module")
def galaxies():
    return universe.population(300, seed=3)


@pytest.fixture(scope="module")
def clear(galaxies):
    """Without dust of any kind."""
    return galaxies.assign(dust=0.0, ebv=0.0)


@pytest.fixture(scope="module")
def old():
    """One galaxy of old stars, at several ages and metallicities."""
    galaxy = universe.population(1, seed=0).assign(young=1e-9, log_ssfr=-30.0, ebv=0.0, redshift=0.1)
    return lambda **columns: pd.concat([galaxy] * len(next(iter(columns.values())))).assign(
        **({"age": 8.0, "metallicity": 0.0} | columns)
    )


def test_fields():
    sky = make_survey(7, spectra=True, **TINY)
    assert sky.spectra.shape == sky.ivar.shape == (7, len(sky.wavelengths))
    assert sky.spectra.dtype == sky.ivar.dtype == np.float32
    assert np.isfinite(sky.spectra).all()
    pixel_weights(sky.spectra, check_ivar(sky.ivar, sky.spectra.shape))
    assert_allclose(np.diff(np.log(sky.wavelengths)), STEP)
    assert_allclose(sky.wavelengths[[0, -1]], [3600, 9800])
    assert list(sky.properties)[8:] == ["age", "metallicity"]
    assert sky.properties.notna().all(axis=None)
    assert "spectra are simulated" in sky.DESCR


@pytest.mark.parametrize("schema", [None, "simulated"])
def test_all_else_is_the_same_with_and_without(schema):
    without, with_ = (make_survey(6, schema=schema, spectra=spectra, **TINY) for spectra in (False, True))
    assert set(with_) - set(without) == {"spectra", "ivar", "wavelengths"}
    for key in set(without) - {"DESCR", "properties"}:
        assert_array_equal(with_[key], without[key])
    pd.testing.assert_frame_equal(with_.properties.iloc[:, :8], without.properties)
    assert with_.DESCR.startswith(without.DESCR)


def test_no_more_is_drawn_of_a_generator_that_is_handed_in():
    without, with_ = np.random.RandomState(0), np.random.RandomState(0)
    make_survey(2, bands="r", size=4, random_state=without)
    make_survey(2, bands="r", size=4, spectra=True, random_state=with_)
    assert without.randint(2**31) == with_.randint(2**31)


def test_spectra_do_not_depend_on_the_camera_nor_on_the_volunteers():
    one = make_survey(6, spectra=True, **TINY)
    other = make_survey(6, bands="gi", size=8, seeing=0, schema="gz_rings", spectra=True, random_state=5)
    assert one.spectra.tobytes() == other.spectra.tobytes()
    assert one.ivar.tobytes() == other.ivar.tobytes()


def test_same_seed_same_bytes_and_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (make_survey(5, spectra=True, **TINY) for _ in range(2))
    assert first.spectra.tobytes() == second.spectra.tobytes()
    assert first.ivar.tobytes() == second.ivar.tobytes()
    assert not np.array_equal(first.spectra, make_survey(5, spectra=True, **(TINY | {"random_state": 6})).spectra)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_larger_survey_begins_with_the_smaller():
    small, large = (make_survey(n, spectra=True, **TINY) for n in (5, 140))
    assert_array_equal(large.spectra[:5], small.spectra)
    assert_array_equal(large.ivar[:5], small.ivar)
    pd.testing.assert_frame_equal(large.properties[:5], small.properties)


def test_chunks_do_not_show(galaxies, monkeypatch):
    whole = observe(galaxies[:20], 1.0, seed=1)
    monkeypatch.setattr(spectrograph, "_CHUNK", 3)
    assert_array_equal(observe(galaxies[:20], 1.0, seed=1), whole)


def test_a_spectrum_is_that_of_its_galaxy_alone(galaxies):
    assert_array_equal(spectra(galaxies.iloc[[4, 2]]), spectra(galaxies)[[4, 2]])


@pytest.mark.parametrize("name", spectrograph._EMISSION.index)
def test_emission_lines_land_at_their_place_with_their_flux(name, galaxies, monkeypatch):
    flux = emission_lines(galaxies)[[name]]
    stretch = 1 + galaxies["redshift"].to_numpy()
    place = spectrograph._EMISSION.at[name, "wavelength"] * stretch
    inside = place < 9700
    with_, without = [], []
    for lines, kept in ((flux, with_), (flux.iloc[:, :0], without)):
        monkeypatch.setattr(spectrograph, "emission_lines", lambda _, lines=lines: lines)
        kept.append(spectra(galaxies))
    light = (with_[0] - without[0]) * WIDTHS
    assert_allclose(light.sum(axis=1)[inside], flux[name][inside], rtol=1e-6)
    center = np.exp((light @ np.log(WAVELENGTHS)) / light.sum(axis=1))
    assert np.abs(np.log(center / place)[inside]).max() < 0.1 * STEP


@pytest.mark.parametrize("name", spectrograph._ABSORPTION.index)
def test_absorption_lines_land_at_their_place_with_their_width(name, old, monkeypatch):
    redshift = np.linspace(0.02, 0.4, 40)
    galaxies = old(redshift=redshift)
    line = spectrograph._ABSORPTION.loc[name]
    lost = 1.0
    for table in (spectrograph._ABSORPTION.loc[[name]], spectrograph._ABSORPTION.iloc[:0]):
        monkeypatch.setattr(spectrograph, "_ABSORPTION", table)
        lost = spectra(galaxies) / lost
    lost = (1 - 1 / lost) * WIDTHS
    assert_allclose(lost.sum(axis=1), line["old"] * (1 + redshift), rtol=1e-4)
    place = np.exp((lost @ np.log(WAVELENGTHS)) / lost.sum(axis=1))
    assert_allclose(np.log(place), np.log(line["wavelength"] * (1 + redshift)), atol=0.1 * STEP)


def test_resolution():
    """Of a line that has no width of its own, from the second moment, with the pixel's own taken off."""
    center = WAVELENGTHS[300] * np.exp(STEP * np.arange(0, 1, 0.01))[:, None]
    profile = spectrograph._profile(center, 0.0) * WIDTHS
    variance = np.mean(np.sum(profile * np.log(WAVELENGTHS / center) ** 2, axis=1)) - STEP**2 / 12
    assert_allclose(np.sqrt(8 * np.log(2) * variance), 1 / 2000, rtol=1e-3)


def test_line_ratios_that_atoms_fix(clear):
    lines = emission_lines(clear)
    assert_allclose(lines["[O III] 5008"], 3 * lines["[O III] 4960"])
    assert_allclose(lines["[N II] 6585"], 3 * lines["[N II] 6550"])
    assert_allclose(lines["Hα"], 2.86 * lines["Hβ"])
    assert_allclose(lines["Hγ"], 0.468 * lines["Hβ"])


def test_dust_reddens_the_lines(galaxies, clear):
    dimming = -2.5 * np.log10(emission_lines(galaxies) / emission_lines(clear))
    for name, wavelength in (("Hα", 6564.61), ("Hβ", 4862.68)):
        own = galaxies["dust"] * (5500 / wavelength) ** 0.7
        seen = wavelength * (1 + galaxies["redshift"])
        foreground = galaxies["ebv"] * np.interp(seen, SURVEYS["sdss"].wavelengths, SURVEYS["sdss"].extinction)
        assert_allclose(dimming[name], own + foreground)


def test_hydrogen_tells_the_star_formation_rate(clear):
    galaxy = clear.iloc[0]
    path = 299792.458 / 70 * integrate.quad(lambda z: 1 / np.sqrt(0.3 * (1 + z) ** 3 + 0.7), 0, galaxy["redshift"])[0]
    cm = path * (1 + galaxy["redshift"]) * 3.0857e24
    luminosity = emission_lines(clear)["Hα"].iloc[0] * 1e-17 * 4 * np.pi * cm**2
    assert_allclose(2 * 7.9e-42 * luminosity, 10 ** (galaxy["log_mass"] + galaxy["log_ssfr"]), rtol=1e-5)


def test_nitrogen_and_oxygen_tell_the_metallicity(clear):
    lines = emission_lines(clear)
    abundance = 8.69 + clear["metallicity"]
    nitrogen = np.log10(lines["[N II] 6585"] / lines["Hα"])
    assert_allclose(8.90 + 0.57 * nitrogen, abundance)
    assert_allclose(8.73 - 0.32 * (np.log10(lines["[O III] 5008"] / lines["Hβ"]) - nitrogen), abundance)


def _break(galaxies, flux):
    """Dn(4000): flux per frequency at 4000–4100 Å over that at 3850–3950 Å, at rest."""
    rest = WAVELENGTHS / (1 + galaxies["redshift"].to_numpy()[:, None])
    per_frequency = flux * WAVELENGTHS**2
    red, blue = (np.mean(per_frequency, 1, where=(rest > a) & (rest < a + 100)) for a in (4000, 3850))
    return red / blue


def test_break_grows_with_age(old):
    galaxies = old(age=np.linspace(1, 12, 12))
    index = _break(galaxies, spectra(galaxies))
    assert (np.diff(index) > 0).all()
    assert 1.0 < index[0] < index[-1] < 2.3


def test_break_is_that_of_old_galaxies(galaxies):
    index = _break(galaxies, spectra(galaxies))
    assert np.median(index[galaxies["log_ssfr"] < -11.5]) > np.median(index[galaxies["log_ssfr"] > -10]) + 0.25


def _depth(galaxies, wavelength):
    """Of an absorption line, against the continuum 50 Å aside."""
    rest = np.log(WAVELENGTHS)
    values = [
        [np.interp(np.log(x * (1 + z)), rest, row) for x in (wavelength - 50, wavelength, wavelength + 50)]
        for z, row in zip(galaxies["redshift"], spectra(galaxies), strict=True)
    ]
    left, middle, right = np.transpose(values)
    return 1 - 2 * middle / (left + right)


@pytest.mark.parametrize(
    ("wavelength", "column", "sign"),
    [
        (5176.6, "metallicity", 1),
        (5894.6, "metallicity", 1),
        (5176.6, "age", 1),
        (4305.6, "age", 1),
        (4862.7, "age", -1),
        (4102.9, "age", -1),
    ],
)
def test_depth_of_lines_follows_age_and_metallicity(wavelength, column, sign, old):
    low, high = (2.0, 11.0) if column == "age" else (-0.6, 0.4)
    depth = _depth(old(**{column: np.linspace(low, high, 6)}), wavelength)
    assert (depth > 0).all()
    assert (sign * np.diff(depth) > 0).all()


def test_young_stars_have_deeper_hydrogen(galaxies):
    galaxy = galaxies.iloc[:1].assign(log_ssfr=-30.0, age=8.0, redshift=0.1)
    few, many = (_depth(galaxy.assign(young=young), 4102.9) for young in (0.05, 0.7))
    assert many > 1.5 * few


@pytest.mark.parametrize(("band", "low", "high"), [("r", 5550, 6950), ("i", 6900, 8200), ("z", 8400, 9790)])
def test_photometry_of_spectra_is_that_of_the_images(band, low, high, galaxies, monkeypatch):
    """Through rectangles in the place of filters: AB magnitudes weigh photons. The images know no emission lines."""
    survey = SURVEYS["sdss"].select(band)
    flux = universe.fluxes(galaxies, np.array(survey.wavelengths), np.array(survey.extinction)).sum(axis=(0, 2))
    inside = (low < WAVELENGTHS) & (high > WAVELENGTHS)
    flat = (WIDTHS / WAVELENGTHS)[inside].sum() * 2.998e18 * 3.631e-20 * 1e17  # of magnitude 0

    def difference():
        photons = (spectra(galaxies) * WIDTHS * WAVELENGTHS)[:, inside].sum(axis=1)
        return np.abs(-2.5 * np.log10(photons / flat) - (22.5 - 2.5 * np.log10(flux)))

    assert np.quantile(difference(), 0.95) < 0.1
    monkeypatch.setattr(spectrograph, "emission_lines", lambda _: pd.DataFrame())
    assert difference().max() < 0.06


def test_milky_way_reddens_as_it_does_in_the_images(clear):
    dusty = spectra(clear.assign(ebv=0.1)) / spectra(clear)
    for wavelength, coefficient in zip(SURVEYS["sdss"].wavelengths, SURVEYS["sdss"].extinction, strict=True):
        if 3600 < wavelength < 9800:
            dimming = -2.5 * np.log10(dusty[:, np.argmin(np.abs(WAVELENGTHS - wavelength))])
            assert_allclose(dimming, 0.1 * coefficient, rtol=0.01)


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
def test_noise_is_what_the_inverse_variance_tells(noise, galaxies):
    flux, ivar = observe(galaxies, noise, seed=0)
    pull = (flux - spectra(galaxies)) * np.sqrt(ivar)
    there = ivar > 0
    assert abs(pull[there].mean()) < 0.01
    assert abs((pull[there] ** 2).mean() - 1) < 0.02
    by_pixel = np.mean(pull**2, axis=0, where=there)
    assert np.abs(by_pixel - 1).max() < 6 * np.sqrt(2 / len(galaxies))
    neighbors = (pull[:, 1:] * pull[:, :-1])[there[:, 1:] & there[:, :-1]]
    assert abs(neighbors.mean()) < 0.01


def test_noise_scales_the_inverse_variance(galaxies):
    one, three = (observe(galaxies[:9], noise, seed=0)[1] for noise in (1.0, 3.0))
    assert_allclose(one, 9 * three, rtol=1e-5)


def test_without_noise_the_flux_is_clean_and_the_inverse_variance_that_of_the_usual_noise(galaxies):
    clean, ivar = observe(galaxies[:9], 0, seed=0)
    assert_array_equal(clean, spectra(galaxies[:9]).astype(np.float32))
    assert_array_equal(ivar, observe(galaxies[:9], 1.0, seed=0)[1])


def test_cosmic_rays(galaxies):
    flux, ivar = observe(galaxies, 1.0, seed=0)
    lost = ivar == 0
    assert_allclose(lost.mean(), 0.005, rtol=0.1)
    excess = (flux - spectra(galaxies))[lost] / np.median(ivar) ** -0.5
    assert np.median(excess) > 10


def test_faint_galaxies_and_lines_of_the_sky_are_noisier(galaxies):
    flux, ivar = observe(galaxies, 0, seed=0)
    signal = np.median(flux * np.sqrt(ivar), axis=1)
    r = universe.fluxes(galaxies, np.array([6231.0]), np.zeros(1)).sum(axis=(0, 2))
    assert np.corrcoef(np.log(signal), np.log(r))[0, 1] > 0.9
    assert 8 < np.median(signal) < 20
    sigma = np.nanmedian(np.where(ivar > 0, ivar, np.nan), axis=0) ** -0.5
    for wavelength in (5579, 7753, 9378):
        place = np.argmin(np.abs(WAVELENGTHS - wavelength))
        assert sigma[place] > 1.2 * sigma[place - 15]


def test_stars_are_younger_than_the_universe_and_age_falls_with_star_formation():
    galaxies = universe.population(3000, seed=0)
    hubble = 977.8 / 70  # Gyr
    for z, age in zip(galaxies["redshift"][:3], universe._cosmic_age(galaxies["redshift"])[:3], strict=True):
        past = integrate.quad(lambda x: hubble / (1 + x) / np.sqrt(0.3 * (1 + x) ** 3 + 0.7), z, np.inf)[0]
        assert_allclose(age, past, rtol=1e-4)
    assert (galaxies["age"] > 0).all()
    assert (galaxies["age"] < universe._cosmic_age(galaxies["redshift"])).all()
    assert -0.95 < np.corrcoef(galaxies["age"], galaxies["log_ssfr"])[0, 1] < -0.6


def test_massive_galaxies_are_richer_in_metals():
    galaxies = universe.population(3000, seed=0)
    mean = galaxies.groupby(pd.cut(galaxies["log_mass"], [9, 10, 10.5, 11, 12]), observed=True)["metallicity"].mean()
    assert (np.diff(mean) > 0).all()
    scatter = galaxies["metallicity"] - (-0.1 + 0.35 * np.tanh((galaxies["log_mass"] - 10.3) / 0.7))
    assert_allclose(scatter.std(), 0.12, rtol=0.05)


def test_spectra_tell_redshifts_far_better_than_colors():
    """The strongest two patterns of some spectra at rest, slid along the others, against a ridge on exact colors."""
    sky = make_survey(400, bands="ugriz", size=4, spectra=True, random_state=0)
    known, asked = slice(0, 250), slice(250, None)
    level, weight = (uniform_filter1d(x.astype(float), 201, axis=1) for x in (sky.spectra * sky.ivar, sky.ivar))
    detail = np.clip((sky.spectra - level / weight) * np.sqrt(sky.ivar), -10, 10)
    shifts = np.rint(np.log1p(sky.redshift[known]) / STEP).astype(int)
    rest = np.stack([np.roll(row, -shift) for row, shift in zip(detail[known], shifts, strict=True)])
    patterns = np.linalg.svd(rest / np.linalg.norm(rest, axis=1, keepdims=True), full_matrices=False)[2][:2]
    match = sum(np.stack([detail[asked] @ np.roll(p, s) for s in range(280)]) ** 2 for p in patterns)
    redshift = np.expm1(STEP * match.argmax(axis=0))
    colors = -np.diff(sky.magnitudes, axis=1)
    guess = RidgeCV(np.logspace(-6, 2, 9)).fit(colors[known], sky.redshift[known]).predict(colors[asked])
    assert r2_score(sky.redshift[asked], redshift) > 0.95 > r2_score(sky.redshift[asked], guess) + 0.05
    error, guessed = (np.median(np.abs(x - sky.redshift[asked])) for x in (redshift, guess))
    assert error < 0.1 * guessed
