"""Laws of the Galaxy Zoo 1 loader."""

import numpy as np
import pytest

from skastro.datasets import load_galaxy_zoo1

NAMES = ["Elliptical", "CW", "ACW", "Edge", "DK", "Merger"]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "gz1_sdss.npz",
        images=rng.integers(0, 256, (12, 64, 64, 3), np.uint8),
        label=np.arange(12) % 6,
        label_names=NAMES,
        objid=[f"{i:020}" for i in range(12)],
    )
    np.savez(tmp_path / "gz2_unlabelled.npz", images=rng.integers(0, 256, (4, 64, 64, 3), np.uint8))
    return tmp_path


def test_fields(folder):
    zoo = load_galaxy_zoo1(folder)
    assert zoo.images.shape == (10, 3, 64, 64)
    assert zoo.images.dtype == np.uint8
    assert zoo.images.flags.c_contiguous
    assert list(zoo.target_names) == ["elliptical", "spiral", "edge-on", "merger"]
    assert zoo.target.tolist() == [0, 1, 1, 2, 3] * 2
    assert zoo.objid[4] == f"{5:020}"
    assert zoo.bands == ("red", "green", "blue")
    assert zoo.pixel_scale is None
    assert "Lintott" in zoo.DESCR
    assert "unlabeled_images" not in zoo


def test_channels_come_first(folder):
    with np.load(folder / "gz1_sdss.npz") as arrays:
        np.testing.assert_array_equal(load_galaxy_zoo1(folder).images[2, 1], arrays["images"][2, :, :, 1])


def test_classes_number_the_target(folder):
    zoo = load_galaxy_zoo1(folder / "gz1_sdss.npz", classes=["anticlockwise", "don't know"])
    assert zoo.target.tolist() == [0, 1, 0, 1]
    assert zoo.objid.tolist() == [f"{i:020}" for i in (2, 4, 8, 10)]


def test_unlabeled_come_from_the_same_folder(folder):
    zoo = load_galaxy_zoo1(folder / "gz1_sdss.npz", unlabeled=True)
    assert zoo.unlabeled_images.shape == (4, 3, 64, 64)
    (folder / "gz2_unlabelled.npz").unlink()
    with pytest.raises(FileNotFoundError, match="gz2_unlabelled"):
        load_galaxy_zoo1(folder, unlabeled=True)


@pytest.mark.parametrize("classes", [["spirals"], [], ["elliptical", "ring"]])
def test_unknown_classes_are_refused(folder, classes):
    with pytest.raises(ValueError, match="classes must be among elliptical, spiral, clockwise"):
        load_galaxy_zoo1(folder, classes=classes)


@pytest.mark.parametrize("classes", [["spiral", "clockwise"], ["merger", "merger"]])
def test_overlapping_classes_are_refused(folder, classes):
    with pytest.raises(ValueError, match="classes must not overlap"):
        load_galaxy_zoo1(folder, classes=classes)


def test_lacking_array_is_named(folder):
    with pytest.raises(ValueError, match=r"gz2_unlabelled\.npz lacks the arrays label, label_names, objid"):
        load_galaxy_zoo1(folder / "gz2_unlabelled.npz")


def test_real_archives(shared_data):
    zoo = load_galaxy_zoo1(shared_data, unlabeled=True)
    assert np.bincount(zoo.target).tolist() == [540, 510, 420, 69]
    assert zoo.images.shape == (1539, 3, 64, 64)
    assert zoo.unlabeled_images.shape == (1735, 3, 64, 64)
