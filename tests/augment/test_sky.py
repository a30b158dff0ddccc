"""What dust, seeing and jitter do to pixel values, against their formulas in slow NumPy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from skastro.augment import ColorJitter, GaussianBlur, HalfNormal, LogNormal, PSFBlur, Redden
from skastro.augment.sky import convolve, gaussian_kernel
from skastro.preprocessing import Deredden
from skastro.surveys import SURVEYS, Survey, get_survey

# ---------------------------------------------------------------- Redden

each_dusty_survey = pytest.mark.parametrize("name", [name for name, survey in SURVEYS.items() if survey.extinction])


def test_half_a_magnitude_of_reddening_in_sdss():
    step = Redden(ebv=(0.5, 0.5)).fit(np.ones((1, 5, 2, 2)), survey=get_survey("sdss"))
    seen = step.apply(torch.ones(1, 5, 2, 2), **step.draw((1, 5, 2, 2), torch.Generator()))
    golden = torch.tensor([0.1420, 0.2185, 0.3491, 0.4575, 0.5590])
    torch.testing.assert_close(seen[0, :, 0, 0], golden, rtol=0, atol=5e-5)


@each_dusty_survey
def test_reddening_equals_the_formula_and_dereddening_undoes_it(name, noise, seeded):
    survey = get_survey(name)
    R = survey.extinction
    images = noise(6, len(R), 5, 4)
    step = Redden(ebv=(0.0, 0.8), p=0.7).fit(images.numpy(), survey=survey)
    drawn = step.draw(images.shape, seeded())
    seen = step.apply(images, **drawn)
    for i, ebv in enumerate(drawn["ebv"].tolist()):
        for b in range(len(R)):
            truth = images[i, b].double() * 10 ** (-R[b] * ebv / 2.5)
            torch.testing.assert_close(seen[i, b], truth.float(), rtol=1e-5, atol=1e-7)
    back = Deredden(survey).fit_transform(seen.numpy(), ebv=drawn["ebv"].numpy())
    np.testing.assert_allclose(back, images, rtol=1e-5, atol=1e-6)


def test_reddening_is_drawn_within_its_limits_or_from_its_distribution(seeded):
    shape = (20_000, 3, 1, 1)
    ebv = Redden(ebv=(0.1, 0.4)).draw(shape, seeded())["ebv"]
    assert 0.1 <= ebv.min() < 0.101
    assert 0.399 < ebv.max() <= 0.4
    stein = LogNormal(shape=0.67306, loc=0.001146, scale=0.03338, high=1.0)
    ebv = Redden(ebv=stein).draw(shape, seeded())["ebv"]
    assert abs(ebv.median() - 0.034526) < 1e-3
    assert Redden(ebv=LogNormal(loc=-5.0)).draw(shape, seeded())["ebv"].min() == 0


def test_coefficients_of_ones_own_go_before_the_survey():
    step = Redden(extinction=(1.0, 2.0)).fit(np.ones((1, 2, 4, 4)), survey=get_survey("sdss"))
    assert step.extinction_.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("step", "survey", "sentence"),
    [
        (Redden(), None, r"Redden needs extinction coefficients: give a survey that has them, or Redden\(extinction="),
        (Redden(), "first", "Redden needs extinction coefficients"),
        (Redden(), "sdss", r"Redden has extinction for 5 bands, the images have 3\.$"),
        (Redden(extinction=(1.0, 2.0)), "legacy", r"Redden has extinction for 2 bands, the images have 3\.$"),
        (Redden(extinction=2.0), "legacy", r"Redden has extinction for 1 bands, the images have 3\.$"),
        (Redden(ebv=HalfNormal((0.1, 0.2, 0.3))), "legacy", "ebv of Redden is one number per image"),
    ],
)
def test_reddening_without_the_right_coefficients_is_refused(step, survey, sentence):
    with pytest.raises(ValueError, match=sentence):
        step.fit(np.ones((2, 3, 8, 8)), survey=get_survey(survey))


# ---------------------------------------------------------------- PSFBlur


def variance(images):
    """Second moment of the light along x, per image and band, in pixels²."""
    offset = torch.arange(images.shape[3], dtype=torch.float64) - (images.shape[3] - 1) / 2
    return (images * offset**2).sum(dim=(2, 3)) / images.sum(dim=(2, 3))


@pytest.mark.parametrize("star", [1.0, 1.6])
@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("widest", [1.0, 1.5])
def test_seeing_adds_in_quadrature_and_keeps_the_flux(star, sigma, widest, blob, seeded):
    images = blob((61, 61), sigma=(star, star))
    step = PSFBlur((sigma, widest * sigma), unit="pixel", reference=None).fit(images.numpy())
    blurred = step.apply(images, torch.tensor([[sigma]]))
    torch.testing.assert_close(blurred.sum(), images.sum(), rtol=1e-5, atol=0)
    assert blurred.min() >= 0
    added = variance(blurred.double()) - variance(images.double())
    assert added.sqrt().item() == pytest.approx(sigma, rel=2e-3)
    torch.testing.assert_close(blurred, blurred.transpose(2, 3))


@pytest.mark.parametrize("sigma", [0.8, 1.0, 2.0, 3.0])
def test_seeing_of_a_star_is_a_wider_star(sigma, blob):
    step = PSFBlur((sigma, sigma), unit="pixel", reference=None).fit(None)
    star = blob((61, 61), sigma=(1.5, 1.5)) / 1.5**2
    wider = blob((61, 61), sigma=2 * (np.hypot(1.5, sigma),)) / (1.5**2 + sigma**2)
    torch.testing.assert_close(step.apply(star, torch.tensor([[sigma]])), wider, rtol=0, atol=1e-3 * star.max().item())


def test_seeing_equals_scipy_where_sampling_is_right(noise):
    images, sigma = noise(4, 3, 24, 19), torch.linspace(1, 2, 12).view(4, 3)
    truth = [
        [
            gaussian_filter(band.double().numpy(), s, radius=8, mode="nearest")
            for band, s in zip(image, row, strict=True)
        ]
        for image, row in zip(images, sigma.tolist(), strict=True)
    ]
    step = PSFBlur((0.0, 2.0), unit="pixel", reference=None).fit(None)
    assert step.radius_ == 8
    np.testing.assert_allclose(step.apply(images, sigma), truth, atol=5e-4)


@pytest.mark.parametrize("bands", [1, 3])
def test_one_kernel_per_band_is_one_per_image_where_they_are_alike(bands, noise):
    images, kernel = noise(4, bands, 11, 9), gaussian_kernel(torch.linspace(0, 2, 4)[:, None], 5)
    torch.testing.assert_close(kernel.sum(dim=2), torch.ones(4, 1))
    torch.testing.assert_close(convolve(images, kernel), convolve(images, kernel.expand(4, bands, -1)))


def test_bluer_bands_have_worse_seeing(seeded):
    step = PSFBlur(HalfNormal(0.13)).fit(np.ones((1, 5, 4, 4)), survey=get_survey("sdss"))
    golden = [1.1846, 1.0835, 1.0, 0.9412, 0.8916]
    np.testing.assert_allclose(step.ratio_, golden, atol=5e-5)
    sigma = step.draw((20_000, 5, 4, 4), seeded())["sigma"]
    torch.testing.assert_close(sigma / sigma[:, 2:3], torch.tensor(golden).expand_as(sigma), rtol=1e-3, atol=0)
    assert sigma[:, 2].square().mean().sqrt().item() == pytest.approx(0.13 / 0.396, rel=0.02)
    # As far as four of the widths that one draw in a thousand exceeds.
    assert step.radius_ == np.ceil(4 * 3.2905 * 0.13 / 0.396 * 1.1846)
    in_g = PSFBlur(HalfNormal(0.13), reference="g").fit(None, survey=get_survey("sdss"))
    np.testing.assert_allclose(in_g.ratio_, np.array(golden) / golden[1], rtol=1e-4)


def test_without_a_reference_bands_are_alike_and_pixels_need_no_survey(seeded):
    step = PSFBlur((0.0, 2.0), unit="pixel", reference=None).fit(np.ones((1, 3, 4, 4)))
    sigma = step.draw((5000, 3, 4, 4), seeded())["sigma"]
    assert torch.equal(sigma[:, 0], sigma[:, 2])
    assert 0 <= sigma.min() < 0.01
    assert 1.99 < sigma.max() <= 2.0


def test_widths_per_band_are_drawn_per_band_and_not_scaled(seeded):
    widths = LogNormal(shape=(0.2, 0.3, 0.35), loc=(1.08, 1.24, 1.19), scale=(1.3, 0.9, 0.8), high=(5.0, 4.5, 4.25))
    step = PSFBlur(widths, unit="pixel").fit(np.ones((1, 3, 4, 4)))
    sigma = step.draw((20_000, 3, 4, 4), seeded())["sigma"]
    torch.testing.assert_close(sigma.median(dim=0).values, torch.tensor([2.38, 2.14, 1.99]), rtol=0.02, atol=0)
    assert np.abs(np.corrcoef(sigma.T.numpy()) - np.eye(3)).max() < 0.03


def test_no_draw_is_wider_than_the_kernel_can_hold(seeded):
    step = PSFBlur(LogNormal(shape=1.0), unit="pixel", reference=None).fit(None)
    sigma = step.draw((100_000, 1, 4, 4), seeded())["sigma"]
    assert step.radius_ == np.ceil(4 * np.exp(3.0902))
    assert sigma.max().item() == pytest.approx(np.exp(3.0902))


def test_target_seeing_adds_what_is_missing(blob, seeded):
    survey = Survey(("g", "r"), pixel_scale=0.5, wavelengths=(4770.0, 6231.0))
    step = PSFBlur((1.2, 1.2), true=(0.8, 0.8)).fit(None, survey=survey)
    missing = np.sqrt(1.2**2 - 0.8**2) / 0.5 * np.array([(4770 / 6231) ** -0.3, 1.0])
    drawn = step.draw((3, 2, 61, 61), seeded())
    np.testing.assert_allclose(drawn["sigma"], np.tile(missing, (3, 1)), rtol=1e-5)
    star = blob((61, 61), sigma=(1.6, 1.6)).expand(3, 2, -1, -1)  # 0.8 arcsec
    seen = variance(step.apply(star, **drawn).double())[:, 1].sqrt() * 0.5
    np.testing.assert_allclose(seen, 1.2, rtol=2e-3)
    sharp = PSFBlur((0.8, 0.8), true=(0.8, 1.2)).fit(None, survey=survey)
    assert torch.equal(sharp.apply(star, **sharp.draw(star.shape, seeded())), star)
    both = PSFBlur(HalfNormal((1.0, 2.0)), unit="pixel", true=HalfNormal((1.0, 0.0))).fit(None)
    sigma = both.draw((20_000, 2, 4, 4), seeded())["sigma"]
    assert (sigma[:, 0] == 0).float().mean() == pytest.approx(0.5, abs=0.02)
    assert (sigma[:, 1] > 0).all()


def test_seeing_of_width_zero_is_the_image(noise, seeded):
    images = noise(3, 2, 9, 9)
    step = PSFBlur((0.0, 0.0), unit="pixel", reference=None).fit(None)
    assert torch.equal(step.apply(images, **step.draw(images.shape, seeded())), images)


@pytest.mark.parametrize(
    ("step", "survey", "sentence"),
    [
        (PSFBlur(), None, r'PSFBlur in arcseconds needs a survey with a pixel_scale; .* PSFBlur\(unit="pixel"\)\.$'),
        (PSFBlur(), "wise", "PSFBlur in arcseconds needs a survey with a pixel_scale"),
        (PSFBlur(unit="pixel"), None, r"PSFBlur needs a survey with wavelengths .* PSFBlur\(reference=None\)"),
        (PSFBlur(), "lsst", "PSFBlur needs a survey with wavelengths"),
        (PSFBlur(reference="V"), "legacy", r"reference='V', which is none of the survey's bands \(g, r, z\)\.$"),
        (PSFBlur(), "sdss", "PSFBlur has wavelengths for 5 bands, the images have 3"),
        (PSFBlur(HalfNormal((1.0, 2.0))), "legacy", "PSFBlur has sigma for 2 bands, the images have 3"),
        (PSFBlur(true=HalfNormal((1.0, 2.0))), "legacy", "PSFBlur has true for 2 bands, the images have 3"),
    ],
)
def test_seeing_without_what_it_needs_is_refused(step, survey, sentence):
    with pytest.raises(ValueError, match=sentence):
        step.fit(np.ones((2, 3, 8, 8)), survey=get_survey(survey))


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


# ---------------------------------------------------------------- ColorJitter


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_jitter_equals_the_formula(bands, noise, seeded):
    images = noise(8, bands, 6, 7) + 1
    step = ColorJitter(p=0.7)
    drawn = step.draw(images.shape, seeded())
    view = step.apply(images, **drawn)
    factors = [drawn[name].double().numpy() for name in ("brightness", "contrast", "saturation")]
    for x, came, f_b, f_c, f_s in zip(images.double().numpy(), view, *factors, strict=True):
        gray = x.mean(axis=0)
        y = np.stack([gray + f_s * (band - gray) for band in x])
        truth = np.stack([f_b * (x[b].mean() + f_c * (y[b] - x[b].mean())) for b in range(bands)])
        np.testing.assert_allclose(came, truth, atol=2e-6)


def test_saturation_of_one_band_does_nothing(noise, seeded):
    images = noise(8, 1, 10, 10)
    step = ColorJitter(brightness=0, contrast=0, saturation=0.9, p=1.0)
    torch.testing.assert_close(step.apply(images, **step.draw(images.shape, seeded())), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("width", "low", "high"), [(0.4, 0.6, 1.4), (1.5, 0.0, 2.5)])
def test_factors_stay_within_their_limits_and_reach_them(width, low, high, seeded):
    drawn = ColorJitter(width, contrast=width, saturation=width, p=1.0).draw((4000, 1, 2, 2), seeded())
    for factor in drawn.values():
        assert low <= factor.min() < low + 0.01
        assert high - 0.01 < factor.max() <= high
    assert abs(np.corrcoef(torch.stack(list(drawn.values())).numpy())[0, 1]) < 0.05


def test_brightness_scales_and_contrast_keeps_the_mean(noise):
    images, one = noise(2, 3, 8, 8) + 1, torch.ones(2)
    jitter = ColorJitter()
    torch.testing.assert_close(jitter.apply(images, 1.3 * one, one, one), 1.3 * images)
    flat = jitter.apply(images, one, 0 * one, one)
    torch.testing.assert_close(flat, images.mean(dim=(2, 3), keepdim=True).expand_as(flat))
    gray = jitter.apply(images, one, one, 0 * one)
    torch.testing.assert_close(gray, images.mean(dim=1, keepdim=True).expand_as(gray), atol=1e-5, rtol=0)
