"""Laws of the simulated radio galaxies."""

import numpy as np
import pytest

from skastro.datasets import make_radio_doubles


def test_fields():
    doubles = make_radio_doubles(30, random_state=0)
    assert doubles.images.shape == (30, 1, 150, 150)
    assert doubles.images.dtype == np.float32
    assert set(doubles.target) == {0, 1}
    assert list(doubles.target_names) == ["FRI", "FRII"]
    assert ((doubles.las_arcsec >= 20) & (doubles.las_arcsec <= 0.7 * 150 * 1.8)).all()
    assert doubles.bands == ("1.4 GHz",)
    assert doubles.pixel_scale == 1.8
    assert "No telescope" in doubles.DESCR


def test_same_seed_same_bytes_and_larger_begins_with_smaller():
    small, again, large = (make_radio_doubles(n, random_state=5) for n in (4, 4, 9))
    assert small.images.tobytes() == again.images.tobytes()
    np.testing.assert_array_equal(large.images[:4], small.images)
    assert not np.array_equal(small.images, make_radio_doubles(4, random_state=6).images)


def test_second_class_is_brightest_at_its_ends():
    doubles = make_radio_doubles(200, random_state=0)
    peak = doubles.images.reshape(200, -1).argmax(axis=1)
    distance = 1.8 * np.hypot(peak // 150 - 74.5, peak % 150 - 74.5)
    predicted = distance > 0.25 * doubles.las_arcsec
    assert (predicted == doubles.target).mean() > 0.95


def test_clipping_empties_the_sky():
    clipped = make_radio_doubles(20, random_state=0).images
    assert (clipped == 0).mean() > 0.95
    assert clipped[clipped > 0].min() >= np.float32(3 * 0.15)


def test_noise_is_kept_when_asked_for_and_as_smooth_as_the_beam():
    noisy, clipped = (make_radio_doubles(20, clip=clip, random_state=0).images for clip in (None, 3.0))
    np.testing.assert_array_equal(clipped, np.where(noisy < 0.45, 0, noisy))
    corner = noisy[:, 0, :30, :30]
    assert corner.std() == pytest.approx(0.15, rel=0.1)
    # White noise seen by a Gaussian beam of 5.4 arcsec keeps exp(−d² / 4σ²) of its correlation over one pixel.
    expected = np.exp(-((1.8 / (2 * 5.4 / 2.3548)) ** 2))
    assert (corner[:, 1:] * corner[:, :-1]).mean() / corner.var() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("wrong", [{"n_samples": 0}, {"size": 0}, {"pixel_scale": 6.0}, {"clip": -1}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter of make_radio_doubles"):
        make_radio_doubles(**wrong)
