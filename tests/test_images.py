"""What counts as an array of images."""

import numpy as np
import pytest
import torch

from skastro import images as module
from skastro.images import as_pixels, center_crop, check_shape, chunks, fold, fold_ivar


@pytest.fixture
def sky():
    return np.random.default_rng(0).normal(size=(7, 3, 6, 5)).astype(np.float32)


@pytest.fixture
def three_at_a_time(monkeypatch, sky):
    """Seven images come in chunks of 3, 3 and 1."""
    monkeypatch.setattr(module, "CHUNK_VALUES", 3 * sky[0].size)


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


@pytest.mark.parametrize("height", [4, 5])
def test_bands_last_are_moved_of_images_and_of_rows(height):
    images = np.arange(2 * 3 * height * 5).reshape(2, 3, height, 5)
    last = np.moveaxis(images, 1, -1)
    np.testing.assert_array_equal(fold(last, bands_axis=-1), images)
    np.testing.assert_array_equal(fold(last.reshape(2, -1), (3, height, 5), -1), images)
    np.testing.assert_array_equal(fold_ivar(last, images, bands_axis=-1), images)
    np.testing.assert_array_equal(fold(images, bands_axis=1), images)


def test_a_masked_inverse_variance_is_zero_and_may_be_beyond_float32():
    ivar = np.ma.masked_less(np.array([[[[-1.0, 1e60]]]]), 0)
    np.testing.assert_array_equal(fold_ivar(ivar, np.zeros((1, 1, 1, 2))), [[[[0.0, 1e60]]]])


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
    check_shape((10, 64, 64, 3), None, None, 1)  # as the user says
    check_shape((64, 1, 64, 3), None, None, 1)
    check_shape((8, 1, 64, 3), None, None)  # too few rows to be lines of an image


@pytest.mark.parametrize(
    ("shape", "bands", "size", "sentence"),
    [
        ((10, 64, 64, 3), None, None, r"shape \(10, 64, 64, 3\) looks to have its bands last: give np\.moveaxis"),
        ((10, 64, 48, 3), None, None, r"shape \(10, 64, 48, 3\) looks to have its bands last: .* bands_axis=-1"),
        ((10, 48, 64, 9), None, None, r"shape \(10, 48, 64, 9\) looks to have its bands last"),
        ((10, 64, 63, 4), None, None, r"shape \(10, 64, 63, 4\) looks to have its bands last"),
        (
            (3, 1, 64, 64),
            3,
            None,
            r"X of shape \(3, 64, 64\) looks like one image of 3 bands: give X\[np\.newaxis\]\.$",
        ),
        ((64, 1, 48, 3), None, None, r"shape \(64, 48, 3\) looks like one image with its bands last"),
        ((10, 64, 64, 3), 3, None, r"X has 64 bands, but 3 were learned in fit\. .*give np\.moveaxis\(X, -1, 1\)\.$"),
        ((10, 5, 64, 64), 3, None, r"X has 5 bands, but 3 were learned in fit\.$"),
        ((10, 3, 64, 60), 3, (64, 64), r"Images of 64 × 60 pixels are smaller than the window of 64 × 64\.$"),
        ((10, 3, 60, 64), None, (64, 64), r"Images of 60 × 64 pixels are smaller"),
    ],
)
def test_check_shape_refuses(shape, bands, size, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_shape(shape, bands, size)


def test_bands_said_to_be_last_that_look_first_are_refused():
    with pytest.raises(
        ValueError, match=r"bands_axis=-1, but X of shape \(10, 3, 64, 60\) looks to have its bands first"
    ):
        check_shape(fold(np.zeros((10, 3, 64, 60)), bands_axis=-1).shape, None, None, -1)


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
