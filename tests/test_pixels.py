"""Values of images: what is refused, what is measured, what is far outside, and in which unit they are read."""

import tracemalloc
import warnings

import numpy as np
import pytest

from skastro import images as images_module
from skastro import pixels
from skastro.images import center_crop, fold
from skastro.pixels import Pixels, check_finite, check_pixels, learn_pixels, measure_bands, unit_of


@pytest.fixture
def sky():
    return np.random.default_rng(0).normal(size=(7, 3, 6, 5)).astype(np.float32)


@pytest.fixture
def three_at_a_time(monkeypatch, sky):
    """Seven images come in chunks of 3, 3 and 1."""
    monkeypatch.setattr(images_module, "CHUNK_VALUES", 3 * sky[0].size)


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """A memory map of 8 MB, and chunks and samples of a quarter of a megabyte."""
    monkeypatch.setattr(images_module, "CHUNK_VALUES", 1 << 16)
    monkeypatch.setattr(pixels, "SAMPLE_VALUES", 1 << 16)
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).normal(size=(2048, 1, 32, 32)).astype(np.float32))
    return np.load(path, mmap_mode="r")


# ---------------------------------------------------------------- refused


@pytest.mark.usefixtures("three_at_a_time")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("image", "window"), [(0, "0 to 2"), (3, "3 to 5"), (6, "6 to 6")])
def test_nan_and_infinity_are_counted_and_placed(value, image, window, sky):
    sky[image, 1, 2:4, 3] = value
    with pytest.raises(
        ValueError, match=f"X has 2 NaN or infinite pixels in images {window}, the first in image {image};"
    ):
        check_pixels(sky)


def test_check_finite_counts_from_the_start_given(sky):
    check_finite(sky)
    sky[2:, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"5 NaN .* images 100 to 106, the first in image 102;"):
        check_finite(sky, 100)


@pytest.mark.usefixtures("three_at_a_time")
def test_all_images_constant_is_refused(sky):
    with pytest.raises(ValueError, match=r"^All 7 images are constant: there is nothing to learn from\.$"):
        check_pixels(np.arange(7.0).reshape(7, 1, 1, 1) * np.ones((3, 6, 5)))


@pytest.mark.usefixtures("three_at_a_time")
@pytest.mark.parametrize("rows", [[0], [2, 3], [0, 1, 2, 3, 4, 5]])
def test_some_images_constant_is_one_warning_with_the_count(rows, sky):
    sky[rows] = 3
    with pytest.warns(UserWarning, match=f"^{len(rows)} of 7 images are constant") as caught:
        check_pixels(sky)
    assert len(caught) == 1


def test_images_of_one_pixel_cannot_be_constant():
    with warnings.catch_warnings(action="error"):
        check_pixels(np.ones((4, 1, 1, 1)))


# ---------------------------------------------------------------- measuring


@pytest.mark.parametrize("stretch", ["standard", "asinh", None])
@pytest.mark.parametrize("dtype", ["f4", ">f8", "u1"])
def test_measure_bands_equals_numpy(stretch, dtype, sky):
    images = (40 + 10 * sky * [[[1]], [[2]], [[3]]]).clip(0, 255).astype(dtype)
    measured = measure_bands(images, stretch)
    for band in range(3):
        x = images[:, band].astype(float).ravel()
        truth = {"noise": 1.4826 * np.median(np.abs(x - np.median(x))), "mean": 0, "std": 1}
        if stretch == "asinh":
            truth["softening"] = truth["noise"]
            x = np.arcsinh(x / truth["softening"])
        if stretch is not None:
            truth |= {"mean": x.mean(), "std": x.std()}
        assert measured.keys() == truth.keys()
        for name, value in truth.items():
            assert measured[name].dtype == np.float64
            np.testing.assert_allclose(measured[name][band], value, rtol=1e-5)


def test_the_softening_of_clipped_images_is_a_tenth_of_their_spread(sky):
    sky = np.maximum(sky - 1, 0)  # most pixels are zero, as in radio images clipped at the noise
    measured = measure_bands(sky, "asinh")
    np.testing.assert_array_equal(measured["noise"], 0)
    np.testing.assert_allclose(measured["softening"], 0.1 * sky.std(axis=(0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 4.0, -1e4])
@pytest.mark.parametrize("stretch", ["standard", "asinh"])
def test_a_dead_band_is_divided_by_one(stretch, value, sky):
    sky[:, 1] = value
    measured = measure_bands(sky, stretch)
    assert measured["std"][1] == 1
    assert all(np.isfinite(value).all() for value in measured.values())


def test_a_sample_is_spread_over_all_images(monkeypatch, sky):
    images = np.concatenate([sky, sky + 100])
    monkeypatch.setattr(pixels, "SAMPLE_VALUES", images.size // 2)
    measured = measure_bands(images, "standard")
    np.testing.assert_allclose(measured["mean"], images[::2].mean(axis=(0, 2, 3)), rtol=1e-5)
    assert (abs(measured["mean"] - 50) < 10).all()


def test_a_memory_map_is_never_copied_whole(mapped):
    def everything():
        folded = fold(mapped)
        check_pixels(folded)
        measure_bands(center_crop(folded, (30, 30)), "asinh")

    everything()
    tracemalloc.start()
    everything()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < mapped.nbytes / 3


# ---------------------------------------------------------------- far outside


def stars(times, n=60, rows=(7,), bands=2):
    """Images of noise, some with a star that outshines the brightest pixel of the others that many times."""
    images = np.random.default_rng(0).normal(size=(n, bands, 8, 8)) * 3 + 5
    for row in rows:
        images[row, 0, 2:4, 2:4] = images.max() * times
    return images


def quiet(call, *args, **kwargs):
    with warnings.catch_warnings(action="ignore"):
        return call(*args, **kwargs)


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "i2", "u1", "?"])
def test_ordinary_images_are_read_as_they_are_and_measured_as_ever(dtype):
    images = (stars(1) if dtype != "?" else stars(1) > 5).astype(dtype)
    with warnings.catch_warnings(action="error"):
        learned = learn_pixels(images, "standard")
        reader = Pixels(images, learned)
        read = reader[:]
        reader.report()
    assert {name: learned[name].tolist() for name in ("noise", "mean", "std")} == {
        name: value.tolist() for name, value in measure_bands(images, "standard").items()
    }
    np.testing.assert_array_equal(read, images.astype(reader.dtype))
    assert read.dtype == reader.dtype == (np.uint8 if dtype == "u1" else np.float32)
    assert (reader.shape, reader.ndim, reader.size, len(reader)) == (images.shape, 4, images.size, len(images))


@pytest.mark.parametrize("stretch", ["standard", "asinh", None])
@pytest.mark.parametrize("times", [30, -30, 1e3, 1e30, 1e300])
def test_a_star_changes_nothing_that_is_learned_from_the_others(times, stretch):
    with pytest.warns(UserWarning, match=r"^1 of 60 images have values .* the first is row 7\.") as caught:
        learned = learn_pixels(stars(times), stretch)
    assert len(caught) == 1
    without = learn_pixels(np.delete(stars(times), 7, axis=0), stretch)
    for name in ("noise", "mean", "std", "unit"):
        np.testing.assert_allclose(learned[name], without[name], rtol=1e-12)


def test_the_widest_range_of_all_is_no_error():
    images = stars(1)
    reader = Pixels(np.concatenate([images[:1], [images[0] * 0 + [[-1.7e308, 1.7e308] * 4]]]), learn_pixels(images))
    assert np.isfinite(reader[:]).all()
    assert list(reader.far) == [1]


@pytest.mark.parametrize("rows", [slice(None), slice(5, 9), np.array([9, 7, 1]), np.array([7])])
def test_what_is_far_outside_is_bounded_to_the_brightest_of_the_others(rows):
    images = stars(1e3)
    reader = Pixels(images, quiet(learn_pixels, images))
    ordinary = np.delete(images, 7, axis=0)
    center = np.median(images, axis=(0, 2, 3))
    bound = np.abs(ordinary - center[:, None, None]).max(axis=(0, 2, 3))
    truth = images.copy()
    truth[7] = np.clip(truth[7], (center - bound)[:, None, None], (center + bound)[:, None, None])
    np.testing.assert_allclose(reader[rows], truth[rows], rtol=1e-6)
    assert images[7].max() > 1e4  # what the user gave is left alone
    with pytest.warns(UserWarning, match="1 of 60 images have .* those learned from; the first is row 7"):
        reader.report()
    with warnings.catch_warnings(action="error"):
        reader.report()  # once


@pytest.mark.parametrize("factor", [1 / 255, 1e-3, 1e-17])
def test_images_all_flat_beside_those_learned_from_are_told_once(factor):
    images = stars(1) - 5
    learned = learn_pixels(images)
    reader = Pixels(images * factor, learned)
    reader[:]
    with pytest.warns(UserWarning, match="No image varies by a hundredth of what those learned from do"):
        reader.report()
    with warnings.catch_warnings(action="error"):
        reader.report()
        for other in (images * 5e-2, images[:1], np.zeros_like(images)):
            reader = Pixels(other, learned)
            reader[:]
            reader.report()
        few = Pixels(images * factor, learn_pixels(images[:5]))
        few[:]
        few.report()


def test_a_few_stars_do_not_hide_one_another():
    rows = (3, 10, 40)
    with pytest.warns(UserWarning, match=r"^3 of 60 images have values .* the first is row 3\."):
        learned = learn_pixels(stars(50, rows=rows))
    assert (learned["bound"] < 30).all()


@pytest.mark.parametrize("n", [2, 9])
def test_few_images_say_nothing_about_what_is_usual(n):
    with warnings.catch_warnings(action="error"):
        learned = learn_pixels(stars(100, n=n, rows=(0,)))
    assert (learned["limit"] > 1e38).all()


def test_absent_images_are_zeros_whatever_they_hold():
    images = stars(1) + 1e4  # of which zero is far outside
    images[3] = np.nan
    mask = np.arange(60) != 3
    reader = Pixels(images, learn_pixels(images[mask]), mask)
    assert not reader[np.array([3])].any()
    assert not reader.far
    np.testing.assert_array_equal(reader[2:4], [images[2].astype("f4"), np.zeros((2, 8, 8))])


def test_reading_refuses_what_is_not_finite_by_its_row():
    images = stars(1)
    reader = Pixels(images.copy(), learn_pixels(images))
    reader.images[41, 0, 0, :3] = np.nan
    with pytest.raises(ValueError, match="3 NaN or infinite pixels in images 40 to 42, the first in image 41"):
        reader[40:43]
    with pytest.raises(ValueError, match="3 NaN or infinite pixels in images 50 to 41, the first in image 41"):
        reader[np.array([50, 2, 41])]


# ---------------------------------------------------------------- bands that hold nothing


def test_bands_that_are_constant_in_some_images_are_told_with_count_and_band():
    images = stars(1, bands=3)
    images[20:50, 1], images[[2, 9], 2] = 0, 5
    with pytest.warns(
        UserWarning, match=r"band 1 in 30 \(the first is image 20\), band 2 in 2 \(the first is image 2\) of 60 images"
    ) as caught:
        learn_pixels(images)
    assert len(caught) == 1


# ---------------------------------------------------------------- units


@pytest.mark.parametrize("stretch", ["standard", "asinh", None])
@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("unit", [1e-300, 1e-40, 1e-30, 1e-20, 1e22, 1e40, 1e200])
def test_any_unit_is_measured_and_read_alike(unit, clipped, stretch):
    images = np.clip(stars(1) - 9, 0, None) if clipped else stars(1)
    plain, other = learn_pixels(images, stretch), learn_pixels(images * unit, stretch)
    reader, scaled = Pixels(images, plain), Pixels(images * unit, other)
    scale = scaled.unit / unit
    np.testing.assert_allclose(scaled[:] * scale, reader[:], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(other["noise"] * scale, plain["noise"], rtol=1e-6)
    if stretch == "asinh":
        np.testing.assert_allclose(other["softening"] * scale, plain["softening"], rtol=1e-6)
    if stretch != "standard":
        scale = 1
    np.testing.assert_allclose(other["mean"] * scale, plain["mean"], rtol=1e-6)
    np.testing.assert_allclose(other["std"] * (scale if stretch else 1), plain["std"], rtol=1e-6)
    assert unit_of(scaled) == scaled.unit
    assert np.log10(scaled.unit) % 10 == 0


@pytest.mark.parametrize("unit", [1e-10, 1.0, 1e10])
def test_what_float32_holds_well_keeps_its_unit(unit):
    assert learn_pixels(stars(1) * unit)["unit"].tolist() == [1, 1]


def test_of_many_bands_each_image_may_have_one_that_is_far():
    images = np.random.default_rng(0).normal(size=(40, 40, 1, 8, 8))[:, :, 0]
    images[np.arange(40), np.arange(40), 4, 4] = 1e4
    with pytest.warns(UserWarning, match="40 of 40 images"):
        learned = learn_pixels(images, "standard")
    assert (learned["bound"] <= learned["limit"]).all()
    assert learned["bound"].max() < 1e3


def test_a_level_beside_which_single_precision_holds_no_noise_is_told():
    images = np.random.default_rng(0).normal(size=(10, 2, 16, 16))
    learn_pixels(images + 1e5)
    sky = np.where(images > 1.5, 5.0, 1.0 + 1e-9 * images)  # of which all that counts is held
    learn_pixels(sky)
    with pytest.warns(UserWarning, match=r"Band 1 varies by 3\.\d about 1e\+09, .* subtract the level of the sky"):
        learn_pixels(images + np.array([0, 1e9])[:, np.newaxis, np.newaxis])
