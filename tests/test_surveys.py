import joblib
import numpy as np
import pytest
from sklearn.base import clone

from skastro import BYOLEmbedder
from skastro.surveys import SURVEYS, Survey, get_survey

each_survey = pytest.mark.parametrize("name", SURVEYS)


@each_survey
def test_every_survey_has_one_number_per_band(name):
    survey = SURVEYS[name]
    assert len(set(survey.bands)) == len(survey.bands) > 0
    assert survey.pixel_scale > 0
    for values in (survey.wavelengths, survey.extinction):
        assert values is None or len(values) == len(survey.bands)
    if survey.wavelengths:  # redder light is less extinguished
        assert list(survey.wavelengths) == sorted(survey.wavelengths)
        assert list(survey.extinction) == sorted(survey.extinction, reverse=True)


@each_survey
def test_a_survey_is_plain_values_and_the_table_is_never_handed_out(name):
    before = joblib.hash(SURVEYS[name])
    assert joblib.hash(clone(SURVEYS[name])) == joblib.hash(get_survey(name)) == before
    get_survey(name).set_params(pixel_scale=99.0)
    BYOLEmbedder(survey=name).set_params(survey__pixel_scale=99.0)
    assert joblib.hash(SURVEYS[name]) == before


def test_published_numbers():
    """Half a magnitude of reddening through the coefficients of Schlafly & Finkbeiner (2011)."""
    transmitted = 10 ** (-0.4 * 0.5 * np.array(SURVEYS["sdss"].extinction))
    np.testing.assert_allclose(transmitted, [0.1420, 0.2185, 0.3491, 0.4575, 0.5590], atol=5e-5)
    assert [SURVEYS[name].pixel_scale for name in ("sdss", "legacy", "first")] == [0.396, 0.262, 1.8]
    assert SURVEYS["legacy"].extinction == (3.214, 2.165, 1.211)


def test_none_and_ones_own_survey_pass():
    mine = Survey(bands=("V", "I"), pixel_scale=0.05)
    assert get_survey(mine) is mine
    assert get_survey(None) is None


def test_an_unknown_survey_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"Unknown survey 'sdds'; known are sdss, legacy, first, or give a Survey"):
        get_survey("sdds")
