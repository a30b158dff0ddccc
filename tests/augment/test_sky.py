"""What noise, seeing and jitter do to pixel values, against their formulas in slow NumPy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from skastro.augment import Augment, ColourJitter, GaussianBlur, GaussianNoise
from skastro.images import measure_bands

# ---------------------------------------------------------------- GaussianNoise


def test_noise_has_the_level_asked_in_each_band(seeded):
    images = torch.zeros(64, 3, 40, 40)
    step = GaussianNoise(scale=(2.0, 2.0), sigma=[0.1, 1.0, 3.0]).fit(None)
    added = step.apply(images, **step.draw(images.shape, seeded()))
    torch.testing.assert_close(added.std(dim=(0, 2, 3)), torch.tensor([0.2, 2.0, 6.0]), rtol=0.01, atol=0)
    torch.testing.assert_close(added.mean(dim=(0, 2, 3)) / added.std(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=0.01)
    assert abs(np.corrcoef(added[:, :2].transpose(0, 1).reshape(2, -1))[0, 1]) < 0.01


def test_noise_is_one_multiple_per_image(seeded):
    images = torch.zeros(300, 2, 32, 32)
    step = GaussianNoise(scale=(1.0, 3.0), sigma=1.0).fit(None)
    multiple = step.apply(images, **step.draw(images.shape, seeded())).std(dim=(2, 3))
    torch.testing.assert_close(multiple[:, 0], multiple[:, 1], rtol=0.15, atol=0)
    assert 0.9 < multiple.min() < 1.1
    assert 2.9 < multiple.max() < 3.2
    assert abs(multiple.mean() - 2) < 0.1


def test_noise_without_sigma_is_the_measured_one():
    images = np.random.default_rng(0).normal(size=(20, 2, 16, 16)) * [[[1.0]], [[5.0]]]
    measured = measure_bands(images)["noise"]
    augment = Augment([("noise", GaussianNoise())]).fit(images, noise=measured)
    np.testing.assert_array_equal(augment.steps[0][1].sigma_, measured)
    np.testing.assert_array_equal(GaussianNoise().fit(images).sigma_, measured)
    np.testing.assert_allclose(measured, [1, 5], rtol=0.05)


def test_noise_of_clipped_images_is_zero_with_a_warning(noise, seeded):
    with pytest.warns(UserWarning, match="noise measured on these images is zero") as caught:
        step = GaussianNoise().fit(np.zeros((2, 1, 4, 4)), noise=np.zeros(1))
    assert len(caught) == 1
    GaussianNoise(sigma=0.0).fit(np.zeros((2, 1, 4, 4)))  # asked for: no warning
    images = noise(4, 1, 8, 8)
    assert torch.equal(step.apply(images, **step.draw(images.shape, seeded())), images)


def test_noise_for_other_bands_is_refused():
    with pytest.raises(ValueError, match=r"sigma for 3 bands.*images have 2"):
        GaussianNoise(sigma=[1.0, 2.0, 3.0]).fit(np.zeros((4, 2, 8, 8)))


# ---------------------------------------------------------------- GaussianBlur


@pytest.mark.parametrize("radius", [1, 3, 6])
def test_blur_equals_scipy(radius, noise, seeded):
    images = noise(6, 2, 24, 19)
    step = GaussianBlur(radius=radius)
    drawn = step.draw(images.shape, seeded())
    truth = [
        [gaussian_filter(band, sigma, radius=radius, mode="nearest") for band in image]
        for image, sigma in zip(images.double().numpy(), drawn["sigma"].tolist(), strict=True)
    ]
    np.testing.assert_allclose(step.apply(images, **drawn), truth, atol=1e-6)


def test_blur_keeps_the_flux_and_adds_in_quadrature(blob):
    star, fwhm = blob((40, 40), sigma=(1.5, 1.5)), 2.0
    blurred = GaussianBlur(radius=10).apply(star, torch.tensor([fwhm]), torch.tensor([True]))
    torch.testing.assert_close(blurred.sum(), star.sum(), rtol=1e-5, atol=0)
    offset = torch.arange(40) - 19.5
    sigma = (blurred * offset**2).sum().div(blurred.sum()).sqrt()
    assert abs(sigma - np.hypot(1.5, fwhm)) < 0.01


def test_blur_of_nothing_is_the_image(noise, seeded):
    images = noise(3, 1, 9, 9)
    step = GaussianBlur(sigma=(0.0, 0.0))
    assert torch.equal(step.apply(images, **step.draw(images.shape, seeded())), images)


# ---------------------------------------------------------------- ColourJitter


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_jitter_equals_the_formula(bands, noise, seeded):
    images = noise(8, bands, 6, 7) + 1
    step = ColourJitter(p=0.7)
    drawn = step.draw(images.shape, seeded())
    view = step.apply(images, **drawn)
    factors = [drawn[name].double().numpy() for name in ("brightness", "contrast", "saturation")]
    for x, came, f_b, f_c, f_s in zip(images.double().numpy(), view, *factors, strict=True):
        grey = x.mean(axis=0)
        y = np.stack([grey + f_s * (band - grey) for band in x])
        truth = np.stack([f_b * (x[b].mean() + f_c * (y[b] - x[b].mean())) for b in range(bands)])
        np.testing.assert_allclose(came, truth, atol=2e-6)


def test_saturation_of_one_band_does_nothing(noise, seeded):
    images = noise(8, 1, 10, 10)
    step = ColourJitter(brightness=0, contrast=0, saturation=0.9, p=1.0)
    torch.testing.assert_close(step.apply(images, **step.draw(images.shape, seeded())), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("width", "low", "high"), [(0.4, 0.6, 1.4), (1.5, 0.0, 2.5)])
def test_factors_stay_within_their_limits_and_reach_them(width, low, high, seeded):
    drawn = ColourJitter(width, width, width, p=1.0).draw((4000, 1, 2, 2), seeded())
    for factor in drawn.values():
        assert low <= factor.min() < low + 0.01
        assert high - 0.01 < factor.max() <= high
    assert abs(np.corrcoef(torch.stack(list(drawn.values())).numpy())[0, 1]) < 0.05


def test_brightness_scales_and_contrast_keeps_the_mean(noise):
    images, one = noise(2, 3, 8, 8) + 1, torch.ones(2)
    jitter = ColourJitter()
    torch.testing.assert_close(jitter.apply(images, 1.3 * one, one, one), 1.3 * images)
    flat = jitter.apply(images, one, 0 * one, one)
    torch.testing.assert_close(flat, images.mean(dim=(2, 3), keepdim=True).expand_as(flat))
    grey = jitter.apply(images, one, one, 0 * one)
    torch.testing.assert_close(grey, images.mean(dim=1, keepdim=True).expand_as(grey), atol=1e-5, rtol=0)
