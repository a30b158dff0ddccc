"""Laws of FITS images: what is missing stays missing, and no number loses bits."""

import astropy
import numpy as np
import pytest
from astropy.io import fits

from skastro.datasets import load_images

INTEGERS = {  # stored type, BZERO, BLANK
    "uint8": ("u1", 0, 255),
    "uint8 blank 0": ("u1", 0, 0),
    "int8": ("u1", -128, 0),
    "int16": ("i2", 0, -32768),
    "uint16": ("i2", 2**15, -32768),
    "uint16 blank 65535": ("i2", 2**15, 32767),
    "int32": ("i4", 0, -(2**31)),
    "uint32": ("i4", 2**31, -(2**31)),
    "int64": ("i8", 0, -(2**63)),
    "uint64": ("i8", 2**63, -(2**63)),
}


def _write(file, raw, compressed=False, **header):
    """Write stored numbers as they are, with the keywords that scale them."""
    image = fits.CompImageHDU if compressed else fits.ImageHDU
    cards = fits.Header({"BLANK": header.pop("BLANK")} if "BLANK" in header else {})
    compression = {"compression_type": "GZIP_1"} if compressed else {}
    fits.HDUList([fits.PrimaryHDU(), image(raw, cards, **compression)]).writeto(file)
    with fits.open(file, mode="update", do_not_scale_image_data=True, disable_image_compression=True) as hdus:
        hdus[1].header.update(header)
    return file


@pytest.fixture
def holed(request):
    """Stored integers, the numbers they stand for, and where BLANK marks them."""
    kind, zero, blank = INTEGERS[request.param]
    values = np.random.default_rng(0).integers(20, 90, (1, 16, 20))
    lowest = np.iinfo(kind).min
    raw = (values + (-zero if zero == -128 else lowest if zero else 0)).astype(kind)
    holes = np.zeros(values.shape, bool)
    holes[:, 3:5, 4:9] = True
    raw[holes] = blank
    return raw[0], zero, blank, values, holes


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("holed", INTEGERS, indirect=True)
def test_blank_integers_are_missing(tmp_path, holed, compressed):
    raw, zero, blank, values, holes = holed
    file = _write(tmp_path / "a.fits", raw, compressed, BSCALE=1, BZERO=zero, BLANK=blank)
    with pytest.raises(ValueError, match=r"a\.fits has 10 pixels that are missing or not finite; fill= replaces"):
        load_images(file)
    images = load_images(file, fill=-7).images
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images[0], np.where(holes, -7, values))
    medians = load_images(file, fill="median", hdu=1).images
    np.testing.assert_array_equal(medians[0], np.where(holes, np.median(values[~holes]), values))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("holed", INTEGERS, indirect=True)
def test_without_blank_every_integer_is_a_value(tmp_path, holed, compressed):
    raw, zero, blank, _, _ = holed
    if abs(int(blank) + zero) > 2**53:
        pytest.skip("no float keeps the number")
    images = load_images(_write(tmp_path / "a.fits", raw, compressed, BSCALE=1, BZERO=zero)).images
    assert images.dtype == (np.uint8 if raw.dtype == np.uint8 and not zero else np.float32)
    np.testing.assert_array_equal(images[0, 0], raw.astype(object) + zero)


@pytest.mark.parametrize("compressed", [False, True])
def test_blank_of_scaled_integers(tmp_path, compressed):
    raw = np.arange(-6, 6, dtype=np.int16).reshape(3, 4)
    file = _write(tmp_path / "a.fits", raw, compressed, BSCALE=0.1, BZERO=5.0, BLANK=-6)
    images = load_images(file, fill=0).images[0, 0]
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, np.where(raw == -6, 0, raw * 0.1 + 5), rtol=1e-7)


@pytest.mark.skipif(astropy.__version__ < "7", reason="older astropy cannot read such files: they are refused")
def test_blank_under_its_compressed_name(tmp_path):
    raw = np.arange(12, dtype=np.int32).reshape(3, 4)
    file = _write(tmp_path / "a.fits", raw, True, ZBLANK=5)
    np.testing.assert_array_equal(load_images(file, fill=-1).images[0, 0], np.where(raw == 5, -1, raw))


@pytest.mark.parametrize("dither", [-1, 1, 2])
def test_compressed_floats_keep_their_holes(tmp_path, dither):
    flux = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    flux[:4, 5:] = np.nan
    hdu = fits.CompImageHDU(flux, quantize_method=dither, quantize_level=64)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits.fz")
    with pytest.raises(ValueError, match=r"a\.fits\.fz has 108 pixels that are missing"):
        load_images(tmp_path)
    images = load_images(tmp_path, fill=9).images[0, 0]
    np.testing.assert_allclose(images, np.where(np.isnan(flux), 9, flux), atol=0.02)


def test_each_extension_has_its_own_blank(tmp_path):
    raw = np.arange(6, dtype=np.int16).reshape(2, 3)
    parts = [fits.ImageHDU(raw, fits.Header({"BLANK": blank}), name=f"B{blank}") for blank in (0, 5)]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(tmp_path / "a.fits")
    for hdu, blank in ((None, 0), (2, 5), ("B5", 5)):
        np.testing.assert_array_equal(
            load_images(tmp_path, hdu=hdu, fill=-1).images[0, 0], np.where(raw == blank, -1, raw)
        )


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([2**24, -(2**24)], np.int32), np.float32),
        (np.array([2**24 + 1, 0], np.int32), np.float64),
        (np.array([2**53 - 1, 1], np.int64), np.float64),
        (np.array([2**32 - 1, 1], np.uint32), np.float64),
        (np.array([2**53 - 1, 1], np.uint64), np.float64),
        (np.array([1e40, 1.0]), np.float64),
        (np.array([1e-50, 1.0]), np.float64),
        (np.array([1e-40, 1.0]), np.float64),
        (np.array([0.0, 1.5]), np.float32),
        (np.array([0.1, 1e38]), np.float32),
        (np.array([1e-40, 0.1], np.float32), np.float32),
    ],
)
def test_dtype_keeps_the_numbers(tmp_path, values, dtype, compressed):
    image = fits.CompImageHDU if compressed else fits.ImageHDU
    lossless = {"compression_type": "GZIP_1", "quantize_level": 0} if compressed else {}
    fits.HDUList([fits.PrimaryHDU(), image(values.reshape(2, 1), **lossless)]).writeto(tmp_path / "a.fits")
    images = load_images(tmp_path).images
    assert images.dtype == dtype
    np.testing.assert_array_equal(images.ravel(), values.astype(dtype))


def test_one_wide_file_widens_all(tmp_path):
    for name, values in (("a", np.full((2, 2), 3, np.uint8)), ("b", np.full((2, 2), 1e40))):
        fits.writeto(tmp_path / f"{name}.fits", values)
    images = load_images(tmp_path).images
    assert images.dtype == np.float64
    assert images[:, 0, 0, 0].tolist() == [3, 1e40]


def test_scaled_integers_stay_apart(tmp_path):
    raw = np.arange(-3, 3, dtype=np.int16).reshape(2, 3)
    images = load_images(_write(tmp_path / "a.fits", raw, BSCALE=0.01, BZERO=1e8)).images
    assert images.dtype == np.float64
    np.testing.assert_array_equal(images[0, 0], raw * 0.01 + 1e8)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integers_that_no_float_keeps_are_refused(tmp_path, dtype):
    fits.writeto(tmp_path / "a.fits", np.array([[2**53 + 1, 0]], dtype))
    with pytest.raises(ValueError, match=r"a\.fits has integers beyond 2\*\*53, which float64 would round"):
        load_images(tmp_path)
    assert load_images(tmp_path, missing=2**53, fill=1).images.ravel().tolist() == [1, 0]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("missing", [0, [0, 99], (-9999.0, 0, 99)])
def test_sentinels_are_missing(tmp_path, dtype, missing):
    values = np.arange(100).reshape(1, 10, 10).astype(dtype)
    fits.writeto(tmp_path / "a.fits", values[0])
    holes = np.isin(values, missing)
    with pytest.raises(ValueError, match=rf"a\.fits has {holes.sum()} pixels that are missing"):
        load_images(tmp_path, missing=missing)
    images = load_images(tmp_path, missing=missing, fill=0.5).images
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images[0], np.where(holes, 0.5, values))


def test_sentinels_are_found_in_narrow_and_scaled_numbers(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.array([[-9999.1, 5]], np.float32))
    _write(tmp_path / "b.fits", np.array([[-9999, 50]], np.int16), BSCALE=0.1)
    fits.writeto(tmp_path / "c.fits", np.array([[-1e300, 5]]))
    images = load_images(tmp_path, missing=[-9999.1, -999.9, -1e300], fill=0).images
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images[:, 0, 0], [[0, 5]] * 3)


def test_sentinels_are_numbers(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.zeros((2, 2)))
    with pytest.raises(ValueError, match="could not convert string to float"):
        load_images(tmp_path, missing=["NA"])


def test_large_fill_stays_finite(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.array([[np.nan, 1]], np.float32))
    images = load_images(tmp_path, fill=1e40).images
    assert images.dtype == np.float64
    assert images.ravel().tolist() == [1e40, 1]


@pytest.mark.parametrize("shape", [(64, 48, 3), (48, 64, 10), (64, 48, 1), (11, 64, 5), (1, 64, 48, 3)])
def test_bands_last_are_moved(tmp_path, shape):
    cube = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    fits.writeto(tmp_path / "a.fits", cube)
    expected = np.moveaxis(cube.reshape(shape[-3:]), -1, 0)
    for bands_axis in (None, -1):
        np.testing.assert_array_equal(load_images(tmp_path, bands_axis=bands_axis).images[0], expected)
    np.testing.assert_array_equal(load_images(tmp_path, bands_axis=1).images[0], cube.reshape(shape[-3:]))


@pytest.mark.parametrize("shape", [(3, 64, 48), (64, 8, 8), (8, 8, 8), (64, 48, 11), (1, 64, 3)])
def test_other_cubes_have_bands_first(tmp_path, shape):
    cube = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    fits.writeto(tmp_path / "a.fits", cube)
    for bands_axis in (None, 1):
        np.testing.assert_array_equal(load_images(tmp_path, bands_axis=bands_axis).images[0], cube)
    moved = load_images(tmp_path, bands_axis=-1).images[0]
    np.testing.assert_array_equal(moved, np.moveaxis(cube, -1, 0))


@pytest.mark.parametrize("shape", [(3, 64, 3), (4, 64, 3), (3, 64, 4)])
def test_bands_at_both_ends_are_refused(tmp_path, shape):
    fits.writeto(tmp_path / "a.fits", np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=r"a\.fits has shape \(., 64, .\), bands first or last: say bands_axis=1 or"):
        load_images(tmp_path)
    assert load_images(tmp_path, bands_axis=1).images.shape == (1, *shape)
    assert load_images(tmp_path, bands_axis=-1).images.shape == (1, shape[2], *shape[:2])


def test_plain_images_have_no_axis_of_bands(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.zeros((64, 3), np.float32))
    for bands_axis in (None, 1, -1):
        assert load_images(tmp_path, bands_axis=bands_axis).images.shape == (1, 1, 64, 3)


def test_other_axes_of_bands_are_refused(tmp_path):
    with pytest.raises(ValueError, match="The 'bands_axis' parameter of load_images"):
        load_images(tmp_path, bands_axis=0)
