"""What counts as an array of images."""

import tracemalloc
import warnings

import numpy as np
import pytest
import torch

from skastro import images as module
from skastro.images import as_pixels, center_crop, check_finite, check_pixels, check_shape, chunks, fold, measure_bands


@pytest.fixture
def sky():
    return np.random.default_rng(0).normal(size=(7, 3, 6, 5)).astype(np.float32)


@pytest.fixture
def three_at_a_time(monkeypatch, sky):
    """Seven images come in chunks of 3, 3 and 1."""
    monkeypatch.setattr(module, "CHUNK_VALUES", 3 * sky[0].size)


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """A memory map of 8 MB, and chunks and samples of a quarter of a megabyte."""
    monkeypatch.setattr(module, "CHUNK_VALUES", 1 << 16)
    monkeypatch.setattr(module, "SAMPLE_VALUES", 1 << 16)
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).normal(size=(2048, 1, 32, 32)).astype(np.float32))
    return np.load(path, mmap_mode="r")


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("shape", "image_shape", "folded"),
    [
        ((5, 12), None, (5, 1, 1, 12)),
        ((5, 12), (3, 2, 2), (5, 3, 2, 2)),
        ((5, 4, 3), None, (5, 1, 4, 3)),
        ((5, 2, 4, 3), None, (5, 2, 4, 3)),
        ((5, 2, 4, 3), (9, 9, 9), (5, 2, 4, 3)),
    ],
)
def test_fold_is_a_view(shape, image_shape, folded):
    X = np.arange(np.prod(shape)).reshape(shape)
    came = fold(X, image_shape)
    assert came.shape == folded
    assert np.shares_memory(came, X)
    np.testing.assert_array_equal(came.ravel(), X.ravel())


@pytest.mark.parametrize(
    ("shape", "image_shape", "sentence"),
    [
        ((5, 12), (3, 2, 3), r"Rows of 12 values do not fold into image_shape=\(3, 2, 3\), which needs 18\.$"),
        ((5,), None, "got 1 dimensions"),
        ((5, 1, 2, 2, 2), None, "got 5 dimensions"),
    ],
)
def test_fold_refuses(shape, image_shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        fold(np.zeros(shape), image_shape)


@pytest.mark.parametrize(("shape", "top", "left"), [((6, 5), 0, 0), ((4, 3), 1, 1), ((3, 2), 1, 1), ((1, 4), 2, 0)])
def test_center_crop_is_a_view_of_arrays_and_tensors(shape, top, left, sky):
    truth = sky[:, :, top : top + shape[0], left : left + shape[1]]
    came = center_crop(sky, shape)
    np.testing.assert_array_equal(came, truth)
    assert np.shares_memory(came, sky)
    np.testing.assert_array_equal(center_crop(torch.from_numpy(sky), shape), truth)


def test_check_shape_accepts():
    check_shape((10, 3, 64, 60), None, None)
    check_shape((10, 3, 64, 64), 3, (64, 64))
    check_shape((10, 64, 64, 64), None, (9, 64))  # many bands, but not last
    check_shape((10, 3, 3, 3), None, None)


@pytest.mark.parametrize(
    ("shape", "bands", "size", "sentence"),
    [
        ((10, 64, 64, 3), None, None, r"shape \(10, 64, 64, 3\) looks to have its bands last: give np\.moveaxis"),
        ((10, 64, 64, 3), 3, None, r"X has 64 bands, but 3 were learned in fit\. .*give np\.moveaxis\(X, -1, 1\)\.$"),
        ((10, 5, 64, 64), 3, None, r"X has 5 bands, but 3 were learned in fit\.$"),
        ((10, 3, 64, 60), 3, (64, 64), r"Images of 64 × 60 pixels are smaller than the window of 64 × 64\.$"),
        ((10, 3, 60, 64), None, (64, 64), r"Images of 60 × 64 pixels are smaller"),
    ],
)
def test_check_shape_refuses(shape, bands, size, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_shape(shape, bands, size)


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", "<i2", ">i2", ">u2", "f2", "i8", "u1", "?"])
def test_as_pixels_is_contiguous_native_and_8_bit_or_float(dtype):
    values = np.arange(24).reshape(2, 1, 3, 4) % 2 if dtype == "?" else np.arange(24).reshape(2, 1, 3, 4)
    raw = values.astype(dtype)[:, :, ::-1, ::2]
    came = as_pixels(raw)
    assert came.dtype == (np.uint8 if dtype == "u1" else np.float32)
    assert came.dtype.isnative
    assert came.flags.c_contiguous
    np.testing.assert_array_equal(came, values[:, :, ::-1, ::2])
    torch.from_numpy(came)


@pytest.mark.usefixtures("three_at_a_time")
def test_chunks_cover_every_image_once(sky):
    starts, parts = zip(*chunks(sky.astype(">f8")), strict=True)
    assert starts == (0, 3, 6)
    np.testing.assert_array_equal(np.concatenate(parts), sky)


def test_a_chunk_holds_at_least_one_image(sky, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_VALUES", 1)
    assert [len(chunk) for _, chunk in chunks(sky)] == [1] * 7


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
    monkeypatch.setattr(module, "SAMPLE_VALUES", images.size // 2)
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
