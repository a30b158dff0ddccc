"""What the detector adds or loses, against the formulas in slow NumPy."""

import numpy as np
import pytest
import torch

from skastro.augment import (
    Augment,
    Background,
    BandDropout,
    GaussianNoise,
    HotPixels,
    LogNormal,
    SatelliteTrail,
    Uniform,
)
from skastro.pixels import measure_bands

LEVEL_STEPS = [GaussianNoise(), Background(), SatelliteTrail(p=1.0), HotPixels(p=1.0)]
each_level_step = pytest.mark.parametrize("step", LEVEL_STEPS, ids=lambda step: type(step).__name__)


def added(step, shape, generator):
    """What a step adds to nothing."""
    return step.apply(torch.zeros(shape), **step.draw(shape, generator))


# ---------------------------------------------------------------- the level of a band


@each_level_step
def test_the_level_is_measured_or_given(step):
    images = np.random.default_rng(0).normal(size=(20, 2, 16, 16)) * [[[1.0]], [[5.0]]]
    measured = measure_bands(images)["noise"]
    step = type(step)(p=1.0)
    np.testing.assert_array_equal(Augment([("step", step)]).fit(images, noise=measured).steps[0][1].sigma_, measured)
    np.testing.assert_array_equal(step.fit(images).sigma_, measured)
    np.testing.assert_allclose(measured, [1, 5], rtol=0.05)
    for sigma in (0.3, (0.1, 0.2), np.array([0.1, 0.2])):
        np.testing.assert_array_equal(step.set_params(sigma=sigma).fit(images).sigma_, np.atleast_1d(sigma))


@each_level_step
def test_what_is_added_counts_in_the_level_of_its_band(step, seeded):
    one, many = (type(step)(sigma=sigma, p=1.0).fit(None) for sigma in (1.0, (1.0, 0.0, 4.0)))
    shape = (6, 3, 12, 12)
    expected = added(one, shape, seeded()) * torch.tensor([1.0, 0.0, 4.0])[:, None, None]
    torch.testing.assert_close(added(many, shape, seeded()), expected)
    assert added(one, shape, seeded()).any()


@each_level_step
def test_noise_of_clipped_images_is_zero_with_a_warning(step, noise, seeded):
    step, images = type(step)(p=1.0), noise(4, 1, 8, 8)
    with pytest.warns(UserWarning, match=f"noise measured .* is zero .* so {type(step).__name__} adds") as caught:
        step.fit(np.zeros((2, 1, 4, 4)), noise=np.zeros(1))
    assert len(caught) == 1
    assert torch.equal(step.apply(images, **step.draw(images.shape, seeded())), images)
    type(step)(sigma=0.0).fit(np.zeros((2, 1, 4, 4)))  # asked for: no warning


@each_level_step
def test_a_level_for_other_bands_is_refused(step):
    with pytest.raises(ValueError, match=rf"{type(step).__name__} has sigma for 3 bands, the images have 2\.$"):
        type(step)(sigma=[1.0, 2.0, 3.0]).fit(np.zeros((4, 2, 8, 8)))


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


def test_levels_are_drawn_per_image_and_band(seeded):
    sigma = LogNormal(shape=(0.1, 0.2), loc=0.0, scale=(1.0, 10.0), high=(1.5, 12.0))
    step = GaussianNoise(sigma=sigma).fit(np.ones((1, 2, 8, 8)))
    drawn = step.draw((20_000, 2, 1, 1), seeded())["sigma"]
    torch.testing.assert_close(drawn.median(dim=0).values, torch.tensor([1.0, 10.0]), rtol=0.01, atol=0)
    assert drawn[:, 1].max() == 12.0
    assert abs(np.corrcoef(drawn.T.numpy())[0, 1]) < 0.03
    assert step.sigma_ is None
    doubled = GaussianNoise(scale=(2.0, 2.0), sigma=sigma).fit(None).draw((20_000, 2, 1, 1), seeded())["sigma"]
    torch.testing.assert_close(doubled, 2 * drawn)


@pytest.mark.parametrize("true", [0.3, (0.3, 0.3), Uniform(0.3, 0.3), "measured"])
def test_target_noise_is_reached_from_the_noise_there_is(true, seeded):
    images = 0.3 * torch.randn(4, 2, 400, 400, generator=seeded(1))
    step = GaussianNoise(scale=(1.0, 1.0), sigma=(0.5, 0.2), true=true).fit(images.numpy())
    drawn = step.draw(images.shape, seeded())
    added = step.apply(torch.zeros_like(images), **drawn)
    assert added[:, 0].std().item() == pytest.approx(0.4, rel=0.01)
    noisy = step.apply(images, **drawn)
    assert noisy[:, 0].std().item() == pytest.approx(0.5, rel=0.01)
    assert torch.equal(noisy[:, 1], images[:, 1])  # there is more already


def test_the_measured_noise_is_multiplied_with_what_is_measured_there(seeded):
    images = torch.randn(4, 1, 400, 400, generator=seeded(1)) * 0.3
    step = GaussianNoise(scale=(2.0, 2.0), true="measured").fit(images.numpy())
    noisy = step.apply(images, **step.draw(images.shape, seeded()))
    assert noisy.std().item() == pytest.approx(0.6, rel=0.01)


def test_true_noise_for_other_bands_is_refused():
    for true in ((0.1, 0.2), Uniform((0.1, 0.1), 0.2)):
        with pytest.raises(ValueError, match="GaussianNoise has true for 2 bands, the images have 3"):
            GaussianNoise(sigma=1.0, true=true).fit(np.zeros((4, 3, 8, 8)))


# ---------------------------------------------------------------- Background


def test_background_is_one_constant_per_image_and_band(seeded):
    sky = added(Background(scale=(-2.0, 1.0), sigma=(1.0, 3.0)).fit(None), (5000, 2, 3, 3), seeded())
    assert torch.equal(sky, sky[:, :, :1, :1].expand_as(sky))
    levels = sky[:, :, 0, 0] / torch.tensor([1.0, 3.0])
    assert -2 <= levels.min() < -1.99
    assert 0.99 < levels.max() <= 1
    assert abs(np.corrcoef(levels.T.numpy())[0, 1]) < 0.05


# ---------------------------------------------------------------- BandDropout


@pytest.mark.parametrize("bands", [2, 3, 5])
@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_bands_drop_out_as_often_as_asked_but_never_all(bands, p, noise, seeded):
    images = noise(20_000, bands, 1, 1).abs() + 1
    step = BandDropout(p=p)
    seen = step.apply(images, **step.draw(images.shape, seeded()))
    dropped = (seen == 0).flatten(1)
    assert torch.equal(seen, torch.where(dropped[..., None, None], 0.0, images))
    assert not dropped.all(dim=1).any()
    # One band of those images stays that would have lost all.
    torch.testing.assert_close(
        dropped.float().mean(dim=0), torch.full((bands,), p - p**bands / bands), rtol=0, atol=0.015
    )


def test_a_single_band_never_drops_out(noise, seeded):
    images = noise(50, 1, 4, 4)
    step = BandDropout(p=1.0)
    assert torch.equal(step.apply(images, **step.draw(images.shape, seeded())), images)


# ---------------------------------------------------------------- SatelliteTrail


@pytest.mark.parametrize("width", [0.7, 1.0, 2.5])
def test_a_trail_equals_the_formula(width, seeded):
    shape, level = (12, 2, 20, 15), np.array([1.0, 3.0])
    step = SatelliteTrail(brightness=(2.0, 4.0), width=width, sigma=level, p=0.8).fit(None)
    drawn = step.draw(shape, seeded())
    seen = step.apply(torch.zeros(shape), **drawn)
    for i in range(shape[0]):
        flux, x, y, angle = (drawn[name][i].double().numpy() for name in ("flux", "x", "y", "angle"))
        assert flux[1] == pytest.approx(3 * flux[0])
        for row in range(20):
            for column in range(15):
                place = np.array([column - 7 - x, row - 9.5 - y])
                distance = place @ [-np.sin(angle), np.cos(angle)]
                truth = flux * np.exp(-0.5 * (distance / width) ** 2)
                np.testing.assert_allclose(seen[i, :, row, column], truth, atol=1e-5)


def test_every_trail_crosses_its_image_from_edge_to_edge(seeded):
    seen = added(SatelliteTrail(brightness=(1.0, 1.0), sigma=1.0, p=1.0).fit(None), (500, 1, 24, 24), seeded())[:, 0]
    bright = seen > 0.7
    assert bright.any(dim=(1, 2)).float().mean() > 0.97  # but for those that cut a corner
    edge = torch.ones(24, 24, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    assert (bright & edge).any(dim=(1, 2)).float().mean() > 0.97
    # Anywhere, and in any direction.
    assert (seen.mean(dim=0) / seen.mean() - 1).abs().max() < 0.5
    angle = SatelliteTrail().fit(np.ones((1, 1, 2, 2)), noise=np.ones(1)).draw((5000, 1, 24, 24), seeded())["angle"]
    assert 0 <= angle.min() < 0.01
    assert 3.13 < angle.max() < 3.1416


# ---------------------------------------------------------------- HotPixels


def test_hot_pixels_are_few_and_each_in_one_band(seeded):
    step = HotPixels(n=4, brightness=(5.0, 50.0), sigma=(1.0, 2.0, 4.0), p=1.0).fit(None)
    shape = (3000, 3, 16, 12)
    hot = added(step, shape, seeded())
    count = (hot > 0).sum(dim=(1, 2, 3))
    assert count.max() == 4
    assert (count == 4).float().mean() > 0.98  # two on one place are rare
    assert (hot > 0).any(dim=1).sum(dim=(1, 2)).float().mean() > 3.9
    once = hot[count == 4] / torch.tensor([1.0, 2.0, 4.0])[:, None, None]
    assert 5 <= once[once > 0].min() < 5.1
    assert 49.9 < once.max() <= 50
    share = (hot > 0).float().mean(dim=(0, 2, 3)) * 16 * 12
    torch.testing.assert_close(share, torch.full((3,), 4 / 3), rtol=0.05, atol=0)


def test_hot_pixels_on_the_same_place_add_up():
    step = HotPixels(n=2)
    seen = step.apply(torch.ones(1, 2, 2, 2), torch.tensor([[5, 5]]), torch.tensor([[2.0, 3.0]]))
    assert seen.flatten().tolist() == [1, 1, 1, 1, 1, 6, 1, 1]
