"""Arrays of spectra: what is missing, how much a pixel counts, and the level of a spectrum, in slow NumPy."""

import numpy as np
import pytest

from skastro.missing import check_ivar
from skastro.spectra import peak_shares, pixel_noise, pixel_weights, spectrum_levels, standardize


@pytest.fixture
def observed():
    """Spectra with gaps, and their inverse variance; a zero flux that is no gap."""
    rng = np.random.default_rng(0)
    flux, ivar = rng.normal(3, 2, (5, 30)), rng.uniform(0.1, 4, (5, 30))
    flux[0, 3], flux[1, :4], ivar[2, 5:9] = 0.0, np.nan, 0.0
    return flux, ivar


@pytest.mark.parametrize("unit", [1.0, 1e-17, 1e20])
@pytest.mark.parametrize("weighted", [True, False])
def test_weights_and_levels_equal_their_formulas(observed, unit, weighted):
    flux, ivar = observed[0] * unit, observed[1] / unit**2 if weighted else None
    weights = pixel_weights(flux, ivar)
    mean, std = spectrum_levels(flux, weights)
    standard = standardize(flux, weights, mean, std)
    for i, (f, w) in enumerate(zip(flux, np.ones_like(flux) if ivar is None else ivar, strict=True)):
        good = np.isfinite(f) & (w > 0)
        f, w = f[good] / unit, w[good] / w[good].mean()
        mu = np.sum(w * f) / np.sum(w)
        sigma = np.sqrt(np.sum(w * (f - mu) ** 2) / np.sum(w))
        np.testing.assert_allclose(weights[i, good], w)
        assert (weights[i, ~good] == 0).all()
        np.testing.assert_allclose([mean[i] / unit, std[i] / unit], [mu, sigma])
        np.testing.assert_allclose(standard[i, good], (f - mu) / sigma, rtol=1e-5, atol=1e-6)
        assert (standard[i, ~good] == 0).all()


def test_a_flux_of_nan_is_missing_whatever_its_inverse_variance():
    weights = pixel_weights(np.array([[np.nan, 1.0, 0.0]]), np.array([[5.0, 1.0, 1.0]]))
    assert weights.tolist() == [[0.0, 1.0, 1.0]]


def test_the_largest_inverse_variances_do_not_overflow():
    assert pixel_weights(np.ones((1, 4)), np.full((1, 4), 1e308)).tolist() == [[1.0] * 4]


def test_spectra_without_pixels_are_refused(observed):
    flux, ivar = observed
    flux[3], ivar[4] = np.nan, 0.0
    with pytest.raises(ValueError, match=r"2 of 5 spectra have nothing but missing pixels .* the first is row 3"):
        pixel_weights(flux, ivar)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_an_impossible_inverse_variance_is_refused(observed, value):
    _, ivar = observed
    ivar[2, 7] = value
    with pytest.raises(ValueError, match="ivar has 1 values that are negative, NaN or infinite, the first in row 2"):
        check_ivar(ivar, (5, 30))


def test_an_inverse_variance_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"ivar of shape \(5, 29\) does not go with X of shape \(5, 30\)"):
        check_ivar(np.ones((5, 29)), (5, 30))
    assert check_ivar(None, (5, 30)) is None


def test_the_share_of_one_pixel_is_that_of_its_weighted_square(observed):
    flux, ivar = observed
    weights = pixel_weights(flux, ivar)
    mean, std = spectrum_levels(flux, weights)
    squares = np.nan_to_num(weights * (flux - mean[:, None]) ** 2)
    np.testing.assert_allclose(peak_shares(flux, weights, mean, std), squares.max(axis=1) / squares.sum(axis=1))
    ones = np.ones((1, 9))
    assert peak_shares(ones, ones, *spectrum_levels(ones, ones)).tolist() == [0]


def test_the_noise_is_that_of_the_pixels_that_are_there():
    rng = np.random.default_rng(0)
    flux = 3 * rng.normal(size=(20, 2000)) + np.linspace(0, 200, 2000) + rng.uniform(0, 900, (20, 1))
    weights = (rng.random(flux.shape) > 0.6).astype(float)
    whole = [
        abs(2 * f[i] - f[i - 2] - f[i + 2])
        for f, w in zip(flux, weights, strict=True)
        for i in range(2, 1998)
        if w[i] and w[i - 2] and w[i + 2]
    ]
    assert pixel_noise(flux, weights) == pytest.approx(1.4826 * np.median(whole) / 6**0.5, rel=1e-12)
    assert pixel_noise(flux, weights) == pytest.approx(3, rel=0.05)
    assert pixel_noise(flux[:, :4], weights[:, :4]) == 0
