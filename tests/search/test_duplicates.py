"""Laws of duplicates: what was turned, shifted and given other noise is found, and nothing else."""

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter, rotate, shift

from skastro.datasets import open_images
from skastro.search import find_duplicates, group_duplicates, sky_separation
from skastro.search.registration import detail, fingerprints, overlay

RNG = np.random.default_rng(0)
FIELDS = gaussian_filter(RNG.normal(size=(40, 2, 48, 48)), (0, 0, 1.5, 1.5))
FIELDS /= FIELDS.std()


def noise(shape=(2, 48, 48)):
    return RNG.normal(0, 0.2, shape)


def pairs(table):
    return table[["first", "second"]].to_numpy().tolist()


@pytest.mark.parametrize("angle", [0, 37, 90, 143, 180, 271])
def test_what_is_turned_shifted_dimmed_and_noisy_is_found(angle):
    moved = shift(rotate(FIELDS[7], angle, axes=(1, 2), reshape=False, order=1, mode="reflect"), (0, 3, -2), order=1)
    found = find_duplicates(np.concatenate([FIELDS, [5 * (moved + noise()) + 100]]), min_correlation=0.7)
    assert pairs(found) == [[7, 40]]
    off = (found["angle"][0] + angle + 180) % 360 - 180
    assert abs(off) < 3


def test_a_pair_that_stands_out_may_fall_short_of_the_limit_by_a_tenth():
    rows = np.concatenate([FIELDS, FIELDS[7] + np.random.default_rng(1).normal(0, 1.2, (2, 2, 48, 48))])
    once, twice = find_duplicates(rows[:-1], min_correlation=0.7), find_duplicates(rows, min_correlation=0.7)
    assert pairs(once) == [[7, 40]]
    assert len(twice) == 3
    assert pairs(find_duplicates(rows[:-1], min_correlation=once["correlation"][0] + 0.09)) == [[7, 40]]
    assert pairs(find_duplicates(rows[:-1], min_correlation=once["correlation"][0] + 0.11)) == []
    assert pairs(find_duplicates(rows, min_correlation=twice["correlation"].max() + 0.001)) == []


def test_more_than_the_shift_allowed_is_another():
    rows = np.concatenate([FIELDS, shift(FIELDS[7:8], (0, 0, 6, 0), order=1, mode="reflect")])
    assert pairs(find_duplicates(rows, max_shift=8)) == [[7, 40]]
    assert pairs(find_duplicates(rows, max_shift=2)) == []


def test_a_mirror_image_is_the_same_only_if_asked():
    rows = np.concatenate([FIELDS, FIELDS[3:4, :, ::-1]])
    assert pairs(find_duplicates(rows)) == []
    assert pairs(find_duplicates(rows, mirrored=True)) == [[3, 40]]


def test_several_copies_need_as_many_neighbors():
    rows = np.concatenate([FIELDS, *(np.rot90(FIELDS[3:4], turns, axes=(2, 3)) for turns in (1, 2, 3))])
    found = find_duplicates(rows, n_neighbors=3)
    assert sorted(pairs(found)) == [[3, 40], [3, 41], [3, 42], [40, 41], [40, 42], [41, 42]]
    groups = group_duplicates(found, len(rows))
    assert len(set(groups[[3, 40, 41, 42]])) == 1
    assert len(set(groups)) == 40


@pytest.mark.parametrize("kind", ["u1", ">f4", "f8", "i2"])
def test_the_unit_and_the_type_of_pixels_do_not_matter(kind):
    rows = np.concatenate([FIELDS, np.rot90(FIELDS[3:4], axes=(2, 3))])
    rows = (20 * rows + 128).clip(0, 255).astype(kind)
    assert pairs(find_duplicates(rows)) == [[3, 40]]
    assert pairs(find_duplicates(rows[:, 0])) == [[3, 40]]


def test_images_on_disk_are_those_in_memory(tmp_path):
    rows = np.concatenate([FIELDS, np.rot90(FIELDS[3:4], axes=(2, 3))]).astype("f4")
    np.save(tmp_path / "images.npy", rows)
    pd.testing.assert_frame_equal(find_duplicates(open_images(tmp_path / "images.npy")), find_duplicates(rows))


def test_nothing_is_the_same_as_an_empty_image_and_round_ones_are_one():
    rows = np.concatenate([FIELDS[:4], np.zeros((2, 2, 48, 48)), np.ones((1, 2, 48, 48))])
    assert pairs(find_duplicates(rows)) == []


def test_positions_close_to_each_other_are_the_same_and_know_no_seam():
    ra, dec = [0.0001, 50.0, 359.9999, 10.0, 190.0], [0.0, 0.0, 0.0, 89.9999, 89.9999]
    found = find_duplicates(ra=ra, dec=dec, radius=0.75)
    assert pairs(found) == [[0, 2], [3, 4]]
    assert_allclose(found["separation"], [0.72, 0.72], rtol=1e-6)
    assert found["correlation"].isna().all()
    assert pairs(find_duplicates(ra=ra, dec=dec, radius=0.7)) == []
    assert pairs(find_duplicates(ra=[5.0, 5.0], dec=[0.0, 0.0], radius=0.0)) == [[0, 1]]


def test_angles_of_any_unit_are_the_same_angles():
    ra, dec = [0.0001, 50.0, 359.9999] * u.deg, [0.0, 0.0, 0.0] * u.deg
    expected = find_duplicates(ra=ra.value, dec=dec.value)
    assert pairs(expected) == [[0, 2]]
    for unit in (u.deg, u.rad, u.hourangle):
        found = find_duplicates(ra=ra.to(unit), dec=dec.to(unit), radius=3 * u.arcsec)
        pd.testing.assert_frame_equal(found, expected)
        assert_allclose(sky_separation(ra[0].to(unit), dec[0], ra[2], dec[2].to(unit)), 0.72)
    assert pairs(find_duplicates(ra=ra, dec=dec, radius=0.01 * u.arcmin)) == []
    assert pairs(find_duplicates(ra=ra, dec=dec, radius=0.02 * u.arcmin)) == [[0, 2]]


def test_positions_and_pixels_find_together():
    rows = np.concatenate([FIELDS, np.rot90(FIELDS[3:4], axes=(2, 3))])
    ra = np.arange(41.0)
    ra[6] = ra[5] + 1e-4
    found = find_duplicates(rows, ra=ra, dec=np.zeros(41))
    assert pairs(found) == [[3, 40], [5, 6]]
    assert_allclose(found["separation"], [sky_separation(3, 0, 40, 0), 0.36], rtol=1e-6)
    assert found["correlation"][0] > 0.95 > 0.5 > found["correlation"][1]


def test_a_fingerprint_knows_of_no_shift_and_no_turn():
    plain = fingerprints(detail(FIELDS))
    other = fingerprints(detail(np.rot90(np.roll(FIELDS, 2, axis=3), axes=(2, 3)) + noise(FIELDS.shape)))
    plain, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (plain, other))
    assert_array_equal(np.argmax(plain @ other.T, axis=1), np.arange(40))


def test_a_correlation_is_that_of_pearson():
    first, second = detail(FIELDS[:1]), detail(FIELDS[:1] + 0.5 * FIELDS[1:2])
    correlation, _ = overlay(first, second, 0)
    inside = torch.hypot(*torch.meshgrid(*2 * [torch.arange(48) - 23.5], indexing="ij")) <= 24
    expected = np.corrcoef(first[0][inside], second[0][inside])[0, 1]
    assert correlation[0] == pytest.approx(expected, abs=1e-4)


WRONG = {
    "give one of them": lambda: find_duplicates(),
    "their shape is \\(3, 8, 8\\)": lambda: find_duplicates(np.zeros((3, 8, 8))),
    "their shape is \\(3, 64, 64, 3\\)": lambda: find_duplicates(np.zeros((3, 64, 64, 3))),
    "their shape is \\(1, 48, 48\\)": lambda: find_duplicates(FIELDS[:1, 0]),
    "max_shift must be from 0 to 12": lambda: find_duplicates(FIELDS, max_shift=13),
    "min_correlation must be above 0": lambda: find_duplicates(FIELDS, min_correlation=0),
    "n_neighbors must be 1 or more": lambda: find_duplicates(FIELDS, n_neighbors=0),
    "first in image 1": lambda: find_duplicates([FIELDS[0, 0], np.full((48, 48), np.nan)]),
    "both ra and dec": lambda: find_duplicates(ra=[0.0]),
    "radius must be": lambda: find_duplicates(ra=[0.0], dec=[0.0], radius=-1),
    "radius has the unit m, which": lambda: find_duplicates(ra=[0.0], dec=[0.0], radius=1 * u.m),
    "there are 2 of them, and 40 images": lambda: find_duplicates(FIELDS, ra=[0, 1], dec=[0, 1]),
    "reach to 7": lambda: group_duplicates(pd.DataFrame({"first": [0], "second": [7]}), 7),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_refused_in_a_sentence(sentence):
    with pytest.raises(ValueError, match=sentence):
        WRONG[sentence]()
