"""Laws of the cutouts of the deep field."""

import numpy as np
import pytest
from scipy import stats
from skimage import data

from skastro.datasets import load_hubble_deep_field


@pytest.fixture(scope="module")
def field():
    return load_hubble_deep_field()


def test_fields(field):
    n = len(field.images)
    assert 600 <= n <= 1500
    assert field.images.shape == (n, 3, 32, 32)
    assert field.images.dtype == np.uint8
    assert field.bands == ("red", "green", "blue")
    assert field.positions.shape == (n, 2)
    assert list(field.properties) == ["color", "radius", "ellipticity", "magnitude"]
    assert np.isfinite(field.properties).all(axis=None)
    assert "not\ncalibrated" in field.DESCR
    assert "NASA" in field.DESCR


def test_cutouts_are_the_picture_around_the_positions(field):
    picture = data.hubble_deep_field()
    for image, (row, column) in zip(field.images[::50], np.rint(field.positions[::50]).astype(int), strict=True):
        np.testing.assert_array_equal(image, picture[row - 16 : row + 16, column - 16 : column + 16].transpose(2, 0, 1))


def test_each_object_is_at_the_center_of_its_cutout(field):
    light = field.images[:100].mean(axis=1)
    assert np.median(light[:, 14:18, 14:18].mean(axis=(1, 2)) / light.mean(axis=(1, 2))) > 2


def test_measurements_agree_with_the_pixels(field):
    center = field.images[:, :, 12:20, 12:20].astype(float).mean(axis=(2, 3))
    red_over_blue = np.log(center[:, 0] / center[:, 2])
    assert stats.spearmanr(red_over_blue, field.properties["color"]).statistic > 0.8
    assert stats.spearmanr(center.mean(axis=1), field.properties["magnitude"]).statistic < -0.8
    assert field.properties["ellipticity"].between(0, 1).all()
    assert field.properties["radius"].between(0.3, 50).all()


def test_brightest_first_and_fewer_above_a_higher_threshold(field):
    assert field.properties["magnitude"].is_monotonic_increasing
    assert len(load_hubble_deep_field(threshold=20, min_area=30).images) < len(field.images) / 2


def test_nothing_found_is_refused():
    with pytest.raises(ValueError, match="No object reaches threshold=10000 over min_area=12 pixels"):
        load_hubble_deep_field(threshold=10000)
    with pytest.raises(ValueError, match="No object has 872 × 872 pixels of the picture around it"):
        load_hubble_deep_field(size=872)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": 900}, {"threshold": 0}, {"min_area": 0}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter of load_hubble_deep_field"):
        load_hubble_deep_field(**wrong)
