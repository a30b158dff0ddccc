"""Laws of pictures: every depth and kind comes out with its exact values, or is refused in one sentence."""

import numpy as np
import pytest
from imagecodecs import png_encode
from PIL import Image
from tifffile import imwrite

from skastro.datasets import load_images


def _noise(shape, dtype):
    random = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=shape).astype(dtype)
    native = np.dtype(dtype).newbyteorder("=")
    return random.integers(0, np.iinfo(dtype).max, shape, native, endpoint=True).astype(dtype)


def _picture(file, pixels, **kwargs):
    Image.fromarray(pixels).save(file, **kwargs)
    return file


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_is_exact_at_any_depth(tmp_path, dtype, bands):
    pixels = _noise((20, 30, bands), dtype)
    (tmp_path / "a.png").write_bytes(png_encode(pixels.squeeze()))
    images = load_images(tmp_path).images
    assert images.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(images[0], np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_only_wholly_transparent_pixels_are_missing(tmp_path, dtype, bands):
    pixels = _noise((20, 30, bands + 1), dtype)
    pixels[..., -1] = np.iinfo(dtype).max
    pixels[0, :, -1] = 1
    (tmp_path / "a.png").write_bytes(png_encode(pixels))
    np.testing.assert_array_equal(load_images(tmp_path).images[0], np.moveaxis(pixels, -1, 0)[:bands])
    pixels[:2, :5, -1] = 0
    (tmp_path / "a.png").write_bytes(png_encode(pixels))
    with pytest.raises(ValueError, match=rf"a\.png has {10 * bands} pixels that are missing"):
        load_images(tmp_path)
    expected = np.where(pixels[..., -1] == 0, 0.5, np.moveaxis(pixels, -1, 0)[:bands])
    np.testing.assert_array_equal(load_images(tmp_path, fill=0.5).images[0], expected)


@pytest.mark.parametrize("transparent", [None, 2])
def test_palettes_become_colors(tmp_path, transparent):
    index = (np.arange(600) % 4).astype(np.uint8).reshape(20, 30)
    palette = np.array([[0, 0, 0], [255, 0, 10], [3, 99, 7], [1, 2, 3]], np.uint8)
    picture = Image.fromarray(index, mode="L")
    picture.putpalette(palette.tobytes())
    picture.save(tmp_path / "a.png", **({} if transparent is None else {"transparency": transparent}))
    expected = np.moveaxis(palette[index], -1, 0)
    if transparent is None:
        assert load_images(tmp_path).images.dtype == np.uint8
        np.testing.assert_array_equal(load_images(tmp_path).images[0], expected)
    else:
        np.testing.assert_array_equal(load_images(tmp_path, fill=7).images[0], np.where(index == 2, 7, expected))
        with pytest.raises(ValueError, match=r"a\.png has 450 pixels that are missing"):
            load_images(tmp_path)


def test_gray_value_that_stands_for_transparency(tmp_path):
    pixels = np.arange(200, dtype=np.uint8).reshape(10, 20)
    _picture(tmp_path / "a.png", pixels, transparency=3)
    np.testing.assert_array_equal(load_images(tmp_path, fill=0.5).images[0, 0], np.where(pixels == 3, 0.5, pixels))


def test_sentinels_of_pictures(tmp_path):
    pixels = _noise((20, 30, 3), np.uint8)
    _picture(tmp_path / "a.png", pixels)
    images = load_images(tmp_path, missing=[0, 255], fill=0.5).images[0]
    np.testing.assert_array_equal(images, np.moveaxis(np.where(np.isin(pixels, (0, 255)), 0.5, pixels), -1, 0))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f4", "f8", ">u2", ">f4"])
def test_tiff_is_exact_at_any_depth(tmp_path, dtype, bands, compression):
    pixels = _noise((20, 30, bands), dtype)
    photometric = "rgb" if bands == 3 else "minisblack"
    byteorder = ">" if dtype.startswith(">") else "<"
    imwrite(
        tmp_path / "a.tif",
        pixels.squeeze(),
        photometric=photometric,
        planarconfig="contig" if bands > 1 else None,
        compression=compression,
        byteorder=byteorder,
    )
    images = load_images(tmp_path).images
    wide = dtype == "i4"
    assert images.dtype == (np.uint8 if dtype == "u1" else np.float64 if wide else np.float32)
    np.testing.assert_array_equal(images[0], np.moveaxis(pixels, -1, 0).astype(images.dtype))


def test_tiff_of_planes_and_of_pages_has_bands_first(tmp_path):
    cube = _noise((5, 20, 30), np.uint16)
    imwrite(tmp_path / "pages.tif", cube, photometric="minisblack")
    imwrite(tmp_path / "planes.tif", cube, photometric="minisblack", planarconfig="separate")
    for image in load_images(tmp_path).images:
        np.testing.assert_array_equal(image, cube)


def test_tiff_array_with_bands_last_is_moved_or_told(tmp_path):
    cube = _noise((30, 20, 5), np.float32)
    imwrite(tmp_path / "a.tif", cube, photometric="minisblack")
    np.testing.assert_array_equal(load_images(tmp_path).images[0], np.moveaxis(cube, -1, 0))
    np.testing.assert_array_equal(load_images(tmp_path, bands_axis=1).images[0], cube)
    imwrite(tmp_path / "a.tif", cube[:5], photometric="minisblack")
    with pytest.raises(ValueError, match=r"a\.tif has shape \(5, 20, 5\), bands first or last: say bands_axis="):
        load_images(tmp_path)
    np.testing.assert_array_equal(load_images(tmp_path, bands_axis=-1).images[0], np.moveaxis(cube[:5], -1, 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_transparency_of_tiff(tmp_path, dtype):
    pixels = _noise((20, 30, 4), dtype)
    opaque = 1 if dtype == np.float32 else np.iinfo(dtype).max
    bands = np.moveaxis(pixels, -1, 0)

    def write():
        imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])

    write()
    with pytest.raises(ValueError, match=r"a\.tif has transparency, which is no band unless you say bands_axis=-1"):
        load_images(tmp_path)
    np.testing.assert_array_equal(load_images(tmp_path, bands_axis=-1).images[0], bands)
    pixels[..., 3] = opaque
    write()
    np.testing.assert_array_equal(load_images(tmp_path).images[0], bands[:3])
    pixels[0, :, 3] = 0
    write()
    filled = load_images(tmp_path, fill=0.5).images[0]
    np.testing.assert_array_equal(filled, np.where(pixels[..., 3] == 0, 0.5, bands[:3]))


def test_holes_of_tiff_floats(tmp_path):
    pixels = _noise((20, 30), np.float32)
    pixels[0, :4] = np.nan
    imwrite(tmp_path / "a.tiff", pixels)
    with pytest.raises(ValueError, match=r"a\.tiff has 4 pixels that are missing"):
        load_images(tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_display_tiff_is_read_like_other_pictures(tmp_path, mode):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10] = 255
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.tif", compression="tiff_deflate")
    images = load_images(tmp_path).images
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[0], np.moveaxis(pixels, -1, 0)[: 1 if mode in "1L" else 3])


def test_white_as_zero_is_turned_around_or_refused(tmp_path):
    pixels = _noise((20, 30), np.uint8)
    imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(load_images(tmp_path).images[0, 0], 255 - pixels)
    imwrite(tmp_path / "a.tif", pixels.astype(np.uint16), photometric="miniswhite")
    with pytest.raises(ValueError, match=r"a\.tif has 16 bits and 1 pages of kind MINISWHITE"):
        load_images(tmp_path)


def test_tiff_palette_of_16_bits_is_refused(tmp_path):
    colors = _noise((3, 256), np.uint16)
    for file, colormap in (("a.tif", colors), ("b.tif", colors // 256 * 257)):
        imwrite(tmp_path / file, _noise((20, 30), np.uint8), photometric="palette", colormap=colormap)
    with pytest.raises(ValueError, match=r"a\.tif has a palette of more than 8 bits"):
        load_images(tmp_path / "a.tif")
    expected = (colors // 256)[:, _noise((20, 30), np.uint8)]
    np.testing.assert_array_equal(load_images(tmp_path / "b.tif").images[0], expected)


@pytest.mark.parametrize(
    ("pixels", "settings", "sentence"),
    [
        (np.zeros((8, 9), np.complex64), {}, "holds numbers of type complex64"),
        (np.zeros((8, 9, 3), np.uint8), {"photometric": "cielab"}, "has colors of kind CIELAB"),
        (np.zeros((2, 8, 9, 3), np.uint8), {"photometric": "rgb"}, "holds no image of two axes"),
        (np.zeros((2, 3, 8, 9), np.uint16), {"photometric": "minisblack"}, "holds no image of two axes"),
    ],
)
def test_tiff_that_is_no_image_of_bands(tmp_path, pixels, settings, sentence):
    imwrite(tmp_path / "a.tif", pixels, **settings)
    with pytest.raises(ValueError, match=rf"a\.tif {sentence}"):
        load_images(tmp_path)


def test_tiff_of_different_pages_is_refused(tmp_path):
    for size in (8, 9):
        imwrite(tmp_path / "a.tif", np.zeros((size, size), np.uint16), append=size > 8)
    with pytest.raises(ValueError, match=r"a\.tif holds 2 images that differ in size or kind: save them apart"):
        load_images(tmp_path)


def test_contents_count_more_than_the_extension(tmp_path):
    pixels = _noise((20, 30, 3), np.uint16)
    imwrite(tmp_path / "a.png", pixels, photometric="rgb")
    (tmp_path / "b.tif").write_bytes(png_encode(pixels))
    for image in load_images(tmp_path).images:
        np.testing.assert_array_equal(image, np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6, 0.95])
def test_cut_tiff_is_refused(tmp_path, compression, kept):
    file = tmp_path / "a.tif"
    imwrite(file, _noise((90, 90), np.uint16), compression=compression)
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(ValueError, match=r"a\.tif cannot be read, perhaps cut short"):
        load_images(tmp_path)


@pytest.mark.parametrize("kept", [0.1, 0.6])
def test_cut_deep_png_is_refused(tmp_path, kept):
    coded = png_encode(_noise((90, 90, 3), np.uint16))
    (tmp_path / "a.png").write_bytes(coded[: int(kept * len(coded))])
    with pytest.raises(ValueError, match=r"a\.png cannot be read, perhaps cut short"):
        load_images(tmp_path)


@pytest.mark.parametrize(
    ("module", "name", "sentence"),
    [("imagecodecs", "a.png", "16-bit PNG needs imagecodecs"), ("tifffile", "a.tif", "TIFF needs tifffile")],
)
def test_missing_library_is_named(tmp_path, monkeypatch, module, name, sentence):
    pixels = _noise((20, 30, 3), np.uint16)
    (tmp_path / "a.png").write_bytes(png_encode(pixels))
    imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=rf"{sentence}.*pip install skastro\[files\]"):
        load_images(tmp_path / name)
