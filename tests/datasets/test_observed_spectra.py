"""Laws of the loaders of observed spectra."""

import numpy as np
import pytest

from skastro.datasets import load_deimos_pairs, load_supernovae


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    flux = rng.normal(size=(6, 50)).astype(np.float32)
    flux[:, :5] = 0
    np.savez(
        tmp_path / "sn_spectra.npz",
        flux=flux,
        wave=np.linspace(2500, 10000, 50, dtype=np.float32),
        cls=["IIb", "Ib", "Ic", "Ic-BL", "Ibn", "SLSN-Ic"],
        sn=list("abcdef"),
        phase_days=np.arange(6, dtype=np.float32),
        phase_is_relative_to_first=np.arange(6) % 2 == 0,
    )
    wave = 6000 + np.arange(400) * 0.33 + 5 * np.arange(3)[:, np.newaxis]
    ivar = rng.uniform(0.5, 2, wave.shape)
    ivar[:, 100:120] = 0
    np.savez(
        tmp_path / "deimos_pairs.npz",
        images=rng.normal(size=(3, 2, 201, 201)).astype(np.float32),
        flux=(wave + np.where(ivar > 0, 0, 1e6)).astype(np.float32),
        wave=wave,
        ivar=ivar.astype(np.float32),
        mag_BRI=np.full((3, 3), 21, np.float32),
        id=["1", "2", "3"],
    )
    return tmp_path


def test_supernovae(folder):
    supernovae = load_supernovae(folder)
    assert supernovae.spectra.shape == (6, 50)
    assert np.isnan(supernovae.spectra[:, :5]).all()
    assert np.isfinite(supernovae.spectra[:, 5:]).all()
    assert supernovae.target_names[supernovae.target].tolist() == ["IIb", "Ib", "Ic", "Ic-BL", "Ibn", "SLSN-Ic"]
    assert supernovae.groups.tolist() == list("abcdef")
    assert "zenodo.58766" in supernovae.DESCR


def test_classes_number_the_target(folder):
    supernovae = load_supernovae(folder / "sn_spectra.npz", classes=["Ic", "Ib"])
    assert supernovae.target.tolist() == [1, 0]
    assert supernovae.phase.tolist() == [1, 2]


@pytest.mark.parametrize("classes", [[], ["Ia"], ["Ib", "Ib"]])
def test_unknown_classes_are_refused(folder, classes):
    with pytest.raises(ValueError, match=r"classes must be among IIb, Ib, Ic, .* each once"):
        load_supernovae(folder, classes=classes)


@pytest.mark.parametrize("n_wavelengths", [2, 30, 2000])
def test_pairs_come_to_one_grid(folder, n_wavelengths):
    pairs = load_deimos_pairs(folder, n_wavelengths=n_wavelengths)
    step = pairs.wavelengths[1] - pairs.wavelengths[0]
    seen = pairs.ivar > 0
    np.testing.assert_array_equal(np.isnan(pairs.spectra), ~seen)
    # The flux of this archive is the wavelength: so is the mean of a pixel, to half a pixel.
    offset = (pairs.spectra - pairs.wavelengths)[seen]
    assert np.abs(offset).max() <= step / 2 + 1e-2
    with np.load(folder / "deimos_pairs.npz") as table:
        np.testing.assert_allclose(pairs.ivar.sum(axis=1), table["ivar"].sum(axis=1), rtol=1e-5)


def test_nan_that_weighs_nothing_spoils_no_pixel(folder):
    with np.load(folder / "deimos_pairs.npz") as table:
        arrays = dict(table)
    before = load_deimos_pairs(folder, n_wavelengths=7)
    arrays["flux"][arrays["ivar"] == 0] = np.nan
    np.savez(folder / "deimos_pairs.npz", **arrays)
    np.testing.assert_array_equal(load_deimos_pairs(folder, n_wavelengths=7).spectra, before.spectra)


def test_a_file_that_is_none_is_named(tmp_path):
    for load, name in {load_supernovae: "sn_spectra.npz", load_deimos_pairs: "deimos_pairs.npz"}.items():
        with pytest.raises(FileNotFoundError, match=name):
            load(tmp_path)


def test_real_supernovae(shared_data):
    supernovae = load_supernovae(shared_data)
    assert np.bincount(supernovae.target).tolist() == [201, 241, 191, 111, 9, 82]
    assert len(np.unique(supernovae.groups[supernovae.target == 4])) == 2
    assert 0.3 < np.isnan(supernovae.spectra).mean() < 0.45


def test_real_pairs(shared_data):
    pairs = load_deimos_pairs(shared_data)
    assert pairs.images.shape == (39, 2, 201, 201)
    assert pairs.spectra.shape == pairs.ivar.shape == (39, 1024)
    assert np.isfinite(pairs.spectra[pairs.ivar > 0]).all()
    assert (pairs.ivar > 0).mean() > 0.8
