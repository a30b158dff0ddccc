"""Laws of the simulated survey."""

import hashlib

import numpy as np
import pytest

from skastro.datasets import galaxies as universe
from skastro.datasets import make_survey, survey


@pytest.fixture(scope="module")
def noiseless():
    """Galaxies on frames wide enough to hold nearly all their light."""
    return make_survey(150, noise=0, size=160, random_state=3)


def test_fields():
    sky = make_survey(12, random_state=0)
    assert sky.images.shape == (12, 5, 64, 64)
    assert sky.images.dtype == np.float32
    assert np.isfinite(sky.images).all()
    assert sky.target.shape == sky.redshift.shape == (12,)
    assert sky.target.dtype.kind == "i"
    assert sky.magnitudes.shape == (12, 5)
    assert sky.properties.shape == (12, 8)
    assert sky.properties.notna().all(axis=None)
    assert sky.bands == tuple("ugriz")
    assert sky.pixel_scale == 0.396
    assert "No telescope" in sky.DESCR


def test_every_kind_occurs(noiseless):
    assert set(noiseless.target) == set(range(len(noiseless.target_names)))


def test_same_seed_same_bytes():
    first, second = (make_survey(5, random_state=1).images for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert not np.array_equal(first, make_survey(5, random_state=2).images)


@pytest.mark.parametrize(
    ("call", "digests"),
    [
        (
            {"size": 32, "random_state": 0},
            {
                "images": "b67ca618776a",
                "target": "04f3c070efde",
                "redshift": "4b80ee461abd",
                "magnitudes": "6f5010394e6e",
                "properties": "5107b34581de",
            },
        ),
        (
            {"bands": "grz", "size": 24, "noise": 2.0, "schema": "simulated", "random_state": 7},
            {
                "images": "9dde013bd7cd",
                "target": "e01b104d597a",
                "redshift": "41a6b08c660d",
                "magnitudes": "bb37f031c884",
                "properties": "ace864900890",
                "votes": "6828448231e4",
                "vote_probabilities": "2302ab64807e",
            },
        ),
    ],
)
@pytest.mark.parametrize("spectra", [False, True])
def test_the_sky_of_earlier_versions(call, digests, spectra):
    """Rounded to a hundredth, because the last bits are the processor's."""
    sky = make_survey(6, spectra=spectra, **call)
    sky.properties = sky.properties.iloc[:, :8]
    rounded = {name: np.round(np.asarray(sky[name]), 2) + 0 for name in digests}
    assert {name: hashlib.sha256(values.tobytes()).hexdigest()[:12] for name, values in rounded.items()} == digests


def test_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_survey(2, random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_larger_survey_begins_with_the_smaller():
    small, large = make_survey(5, bands="gr", random_state=1), make_survey(12, bands="gr", random_state=1)
    np.testing.assert_array_equal(large.images[:5], small.images)
    np.testing.assert_array_equal(large.properties[:5], small.properties)


def test_chunks_do_not_show(monkeypatch):
    whole = make_survey(20, bands="r", random_state=1).images
    monkeypatch.setattr(survey, "_CHUNK", 3)
    np.testing.assert_array_equal(make_survey(20, bands="r", random_state=1).images, whole)


def test_bands_are_those_asked_for_in_that_order():
    every, some = (make_survey(4, bands=bands, noise=0, random_state=1) for bands in ("ugriz", ["z", "r"]))
    np.testing.assert_array_equal(some.images, every.images[:, [4, 2]])
    np.testing.assert_array_equal(some.magnitudes, every.magnitudes[:, [4, 2]])


def test_smaller_frame_is_the_center_of_the_larger():
    small, large = (make_survey(6, size=size, noise=0, random_state=1).images for size in (32, 64))
    # Not to the bit: light beyond the margin of the smaller frame is not blurred into it.
    np.testing.assert_allclose(small, large[:, :, 16:-16, 16:-16], atol=1e-3 * large.max())


def test_images_add_up_to_the_magnitudes(noiseless):
    flux = noiseless.images.sum(axis=(2, 3))
    np.testing.assert_allclose(flux, 10 ** (0.4 * (22.5 - noiseless.magnitudes)), rtol=0.15)


def test_noise_has_the_depth_of_the_survey():
    clean, noisy = (make_survey(20, noise=noise, random_state=1).images for noise in (0, 1))
    pixel = (noisy - clean).std(axis=(0, 2, 3))
    psf_area = 4 * np.pi * (1.3 / 2.3548 / 0.396) ** 2
    depth = 22.5 - 2.5 * np.log10(5 * pixel * np.sqrt(psf_area))
    np.testing.assert_allclose(depth, [22.15, 23.13, 22.70, 22.20, 20.71], atol=0.02)


def _axis_ratios(images):
    """From second moments."""
    axis = np.arange(images.shape[-1]) - (images.shape[-1] - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    total = images.sum(axis=(1, 2))
    xx, yy, xy = ((images * moment).sum(axis=(1, 2)) / total for moment in (x * x, y * y, x * y))
    spread = np.hypot(xx - yy, 2 * xy)
    return np.sqrt((xx + yy - spread) / (xx + yy + spread))


def _kind(sky, name):
    return sky.target == list(sky.target_names).index(name)


def test_edge_on_galaxies_are_thin(noiseless):
    ratio = _axis_ratios(noiseless.images[:, 2])
    thin = _kind(noiseless, "edge-on")
    assert np.median(ratio[thin]) < 0.35
    assert np.median(ratio[_kind(noiseless, "elliptical")]) > 0.6
    assert (noiseless.properties["ellipticity"][thin] > 0.8).all()


def test_ellipticals_are_red_and_spirals_blue(noiseless):
    color = noiseless.magnitudes[:, 1] - noiseless.magnitudes[:, 2]
    assert np.median(color[_kind(noiseless, "elliptical")]) > np.median(color[_kind(noiseless, "spiral")]) + 0.2


def test_arms_wind_both_ways():
    galaxies = universe.population(100, 0)
    assert set(galaxies["hand"]) == {-1, 1}
    spiral = galaxies[galaxies["target"] == 1].iloc[:1].assign(angle=0.0, y=0.0, phase=0.0)
    left, right = (universe.light(spiral.assign(hand=hand), 64, 0.396) for hand in (-1, 1))
    np.testing.assert_allclose(left, right[:, :, ::-1], atol=1e-5 * left.max())
    assert not np.allclose(left, right, atol=1e-2 * left.max())


def test_redshift_dims_and_reddens():
    galaxy = universe.population(1, 0).assign(young=0.01)
    sky = [
        universe.fluxes(galaxy.assign(redshift=z), np.array([4770.0, 6231.0]), np.zeros(2)).sum(axis=0)[0]
        for z in (0.05, 0.2)
    ]
    assert (sky[1] < sky[0] / 10).all()
    assert sky[1][0] / sky[1][1] < 0.7 * sky[0][0] / sky[0][1]


def test_redshift_shrinks():
    galaxies = universe.population(2000, 0)
    near = galaxies["redshift"] < 0.05
    far = galaxies["redshift"] > 0.15
    assert galaxies["half_light_radius"][near].median() > 1.5 * galaxies["half_light_radius"][far].median()


def test_milky_way_reddens_by_its_coefficients():
    galaxy = universe.population(1, 0)
    extinction = np.array([3.303, 2.285])
    clear, dusty = (
        universe.fluxes(galaxy.assign(ebv=ebv), np.array([4770.0, 6231.0]), extinction) for ebv in (0.0, 0.1)
    )
    np.testing.assert_allclose(-2.5 * np.log10(dusty / clear), np.broadcast_to(0.1 * extinction, dusty.shape))


@pytest.mark.parametrize("bands", ["ugw", "", "rr", ["g", "H"]])
def test_unknown_bands_are_refused(bands):
    with pytest.raises(ValueError, match="bands must name each of its bands once, out of u, g, r, i and z"):
        make_survey(2, bands=bands)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_samples": 0},
        {"size": 0},
        {"pixel_scale": 0},
        {"seeing": -1},
        {"noise": -0.1},
        {"spectra": "yes"},
        {"random_state": "x"},
    ],
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter of make_survey"):
        make_survey(**wrong)
