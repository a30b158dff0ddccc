"""Laws of reading cutouts from files."""

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from skastro.datasets import load_images, open_images


def _fits(file, pixels, **header):
    fits.PrimaryHDU(pixels, header=fits.Header(header)).writeto(file)
    return file


def _picture(file, pixels, mode=None):
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image.convert(mode) if mode else image).save(file)
    return file


@pytest.fixture
def flux():
    return np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)


def test_fits_comes_out_native_whatever_went_in(tmp_path, flux):
    for order in "<>":
        _fits(tmp_path / f"{ord(order)}.fits", flux.astype(f"{order}f4"))
    cutouts = load_images(tmp_path)
    assert cutouts.images.dtype == np.float32
    assert cutouts.images.dtype.isnative
    assert cutouts.images.shape == (2, 1, 20, 30)
    np.testing.assert_array_equal(cutouts.images[0, 0], flux)
    assert cutouts.filenames.tolist() == ["60.fits", "62.fits"]


def test_scaled_integers_come_out_as_flux(tmp_path):
    stored = fits.PrimaryHDU(np.arange(6.0).reshape(2, 3))
    stored.scale("int16", bscale=0.5, bzero=10)
    stored.writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(load_images(tmp_path).images[0, 0], np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("shape", [(1, 20, 30), (1, 1, 20, 30), (5, 1, 20, 30), (1, 5, 20, 30), (5, 20, 30)])
def test_axes_of_length_one_are_dropped(tmp_path, shape):
    _fits(tmp_path / "a.fits", np.zeros(shape, np.float32))
    assert load_images(tmp_path).images.shape == (1, max(shape[:-2]), 20, 30)


def test_first_extension_with_an_image_or_the_one_named(tmp_path, flux):
    table = fits.BinTableHDU.from_columns([fits.Column("z", "E", array=np.zeros(3))])
    line = fits.ImageHDU(np.zeros(9))
    science, error = fits.ImageHDU(flux, name="SCI"), fits.ImageHDU(2 * flux, name="ERR")
    fits.HDUList([fits.PrimaryHDU(), table, line, science, error]).writeto(tmp_path / "a.fits")
    for hdu, factor in ((None, 1), ("SCI", 1), ("ERR", 2), (4, 2)):
        np.testing.assert_array_equal(load_images(tmp_path, hdu=hdu).images[0, 0], factor * flux)
    with pytest.raises(ValueError, match=r"a\.fits cannot be read, perhaps cut short: .*WHT"):
        load_images(tmp_path, hdu="WHT")
    for hdu in (1, 2):
        with pytest.raises(ValueError, match=r"a\.fits holds no image of two axes"):
            load_images(tmp_path, hdu=hdu)


def test_file_without_an_image_is_refused(tmp_path):
    fits.PrimaryHDU().writeto(tmp_path / "a.fits")
    with pytest.raises(ValueError, match=r"a\.fits holds no image of two axes"):
        load_images(tmp_path)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_image_without_a_pixel_is_refused(tmp_path, dtype):
    _fits(tmp_path / "a.fits", np.zeros((0, 5), dtype))
    with pytest.raises(ValueError, match=r"a\.fits holds no image of two axes"):
        load_images(tmp_path)


def test_cube_of_too_many_axes_is_refused(tmp_path):
    _fits(tmp_path / "a.fits", np.zeros((2, 3, 20, 30), np.float32))
    with pytest.raises(ValueError, match=r"a\.fits holds no image of two axes"):
        load_images(tmp_path)


def test_odd_characters_in_the_header_neither_stop_nor_warn(tmp_path, flux):
    file = _fits(tmp_path / "a.fits", flux, OBSERVER="Herschel")
    file.write_bytes(file.read_bytes().replace(b"Herschel", b"Hersch\tl"))
    np.testing.assert_array_equal(load_images(file).images[0, 0], flux)


@pytest.mark.parametrize(
    ("mode", "bands"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("LA", 1), ("P", 3), ("1", 1), ("CMYK", 3)]
)
def test_pictures_of_every_mode(tmp_path, mode, bands):
    pixels = np.zeros((20, 30, 3))
    pixels[:10, :, :] = 255
    file = _picture(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), pixels, mode)
    images = load_images(file).images
    assert images.dtype == np.uint8
    assert images.shape == (1, bands, 20, 30)
    assert images[0, :, 2].min() > 250
    assert images[0, :, 17].max() < 5


def test_deep_png_keeps_its_depth(tmp_path):
    Image.fromarray(np.full((4, 5), 40000, np.uint16)).save(tmp_path / "a.png")
    images = load_images(tmp_path).images
    assert images.dtype == np.float32
    assert (images == 40000).all()


def test_folder_is_sorted_and_a_list_keeps_its_order(tmp_path):
    for name in ("b.PNG", "a.png", "c.png"):
        _picture(tmp_path / name, np.full((4, 4), ord(name[0])))
    (tmp_path / "labels.csv").write_text("passed over")
    assert load_images(str(tmp_path)).images[:, 0, 0, 0].tolist() == [97, 98, 99]
    listed = load_images([tmp_path / "c.png", str(tmp_path / "a.png")])
    assert listed.images[:, 0, 0, 0].tolist() == [99, 97]
    assert listed.filenames.tolist() == ["c.png", "a.png"]


def test_crop_keeps_the_center(tmp_path):
    for name, (height, width) in {"a.png": (20, 30), "b.png": (11, 10)}.items():
        pixels = np.zeros((height, width))
        pixels[height // 2, width // 2] = 200
        _picture(tmp_path / name, pixels)
    images = load_images(tmp_path, size=8).images
    assert images.shape == (2, 1, 8, 8)
    assert images.reshape(2, -1).argmax(axis=1).tolist() == [4 * 8 + 4] * 2
    with pytest.raises(ValueError, match=r"a\.png has 20 × 30 pixels and .*b\.png 11 × 10: size= keeps the center"):
        load_images(tmp_path)
    with pytest.raises(ValueError, match=r"b\.png has 11 × 10 pixels, fewer than size=11"):
        load_images(tmp_path, size=11)


def test_pixels_that_are_not_finite(tmp_path, flux):
    holed = np.stack([flux, flux + 5])
    holed[0, :, :3] = np.nan
    holed[1, 0, 10] = np.inf
    _fits(tmp_path / "edge.fits", holed)
    with pytest.raises(ValueError, match=r"edge\.fits has 61 pixels that are missing or not finite; fill= replaces"):
        load_images(tmp_path)
    zeros, medians = (load_images(tmp_path, fill=fill).images[0] for fill in (0, "median"))
    bad = ~np.isfinite(holed)
    assert zeros.dtype == medians.dtype == np.float32
    assert (zeros[bad] == 0).all()
    np.testing.assert_allclose(medians[0][bad[0]], np.median(holed[0][~bad[0]]))
    np.testing.assert_allclose(medians[1][bad[1]], np.median(holed[1][~bad[1]]))
    for filled in (zeros, medians):
        np.testing.assert_array_equal(filled[~bad], holed[~bad])
    assert np.isfinite(load_images(tmp_path, size=8).images).all()  # what the crop removes is no one's concern


def test_band_of_nothing_but_holes_has_no_median(tmp_path):
    _fits(tmp_path / "a.fits", np.full((4, 4), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"a\.fits has a band without one finite pixel"):
        load_images(tmp_path, fill="median")
    assert (load_images(tmp_path, fill=1.5).images == 1.5).all()


@pytest.mark.parametrize("fill", ["mean", np.nan, np.inf])
def test_other_fills_are_refused(tmp_path, fill):
    with pytest.raises(ValueError, match="The 'fill' parameter of load_images"):
        load_images(tmp_path, fill=fill)


def test_mixed_bands_are_refused(tmp_path):
    _picture(tmp_path / "a.png", np.zeros((4, 4, 3)))
    _picture(tmp_path / "b.png", np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"a\.png has 3 bands and .*b\.png 1: load them apart"):
        load_images(tmp_path)


@pytest.mark.parametrize("read", [load_images, open_images])
def test_a_folder_of_folders_is_told_how_to_list_them(read, tmp_path):
    for name in ("disc", "smooth"):
        (tmp_path / name).mkdir()
        _picture(tmp_path / name / "a.png", np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"holds no image, and folders inside are not looked into: .* sorted"):
        read(tmp_path)
    assert read(sorted(tmp_path.rglob("*.png")))


def test_nothing_to_load_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match="holds no image: nothing ends in"):
        load_images(tmp_path)
    with pytest.raises(ValueError, match=r"paths=\[\] holds no image"):
        load_images([])
    with pytest.raises(ValueError, match=r"notes\.txt does not end in one of \.fits"):
        load_images([tmp_path / "notes.txt"])
    with pytest.raises(FileNotFoundError, match=r"There is no file .*absent\.fits"):
        load_images(tmp_path / "absent.fits")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.fits", "a.fits.gz"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6])
def test_cut_files_are_refused(tmp_path, name, kept):
    noise = np.random.default_rng(0).integers(0, 256, (90, 90))
    file = _fits(tmp_path / name, noise) if "fits" in name else _picture(tmp_path / name, noise)
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(ValueError, match=rf"{name} cannot be read, perhaps cut short"):
        load_images(tmp_path)


@pytest.mark.parametrize(("module", "name", "thing"), [("PIL", "a.png", "pillow"), ("astropy", "a.fits", "astropy")])
def test_missing_library_is_named(tmp_path, monkeypatch, module, name, thing):
    (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {thing}: pip install skastro\[files\]"):
        load_images(tmp_path)


def test_real_radio_cutouts(shared_data):
    cutouts = load_images(shared_data / "files" / "fits_first")
    assert cutouts.images.shape == (7, 1, 300, 300)
    assert cutouts.images.dtype.isnative
    assert cutouts.filenames[0].startswith("100_016")


def test_real_pictures(shared_data):
    cutouts = load_images(shared_data / "files" / "jpeg", size=128)
    assert cutouts.images.shape == (60, 3, 128, 128)
    assert cutouts.images.dtype == np.uint8


def test_real_spectra_are_no_images(shared_data):
    with pytest.raises(ValueError, match=r"spec-0266-51602-0013\.fits holds no image"):
        load_images(shared_data / "files" / "fits_sdss")
