import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skastro import BYOLEmbedder
from skastro.preprocessing import Deredden
from skastro.surveys import SURVEYS, Survey, get_survey

each_survey = pytest.mark.parametrize("name", SURVEYS)
each_dusty_survey = pytest.mark.parametrize("name", [name for name, survey in SURVEYS.items() if survey.extinction])


@each_survey
def test_every_survey_has_one_number_per_band(name):
    survey = SURVEYS[name]
    assert len(set(survey.bands)) == len(survey.bands) > 0
    assert survey.pixel_scale is None or survey.pixel_scale > 0
    for values in (survey.wavelengths, survey.extinction):
        assert values is None or len(values) == len(survey.bands)
    # Bands go from blue to red, and redder light is less extinguished.
    assert list(survey.wavelengths or ()) == sorted(survey.wavelengths or ())
    assert list(survey.extinction or ()) == sorted(survey.extinction or (), reverse=True)


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


def test_surveys_of_one_camera_or_one_publication_agree():
    """The Legacy Surveys' three bands are three of DECam's; families differ by their recalibration of the dust."""
    assert get_survey("decam").select("grz").extinction == SURVEYS["legacy"].extinction
    assert get_survey("decam").select("grizY").wavelengths == SURVEYS["des"].wavelengths
    new, old = (np.array(SURVEYS[name].extinction) for name in ("sdss", "sdss-sfd98"))
    assert_allclose(new / old, 0.84, atol=0.04)  # Schlafly & Finkbeiner (2011): 14 % less, and another law
    assert SURVEYS["wise"].extinction == (0.184, 0.113, 0.0241, 0.00910)


@each_survey
def test_a_selection_has_the_numbers_of_its_bands_in_their_order(name):
    survey = get_survey(name)
    bands = survey.bands[::-2]
    chosen = survey.select(bands)
    assert chosen.bands == bands
    assert chosen.pixel_scale == survey.pixel_scale
    for values in ("wavelengths", "extinction"):
        of = dict(zip(survey.bands, getattr(survey, values) or (), strict=False))
        assert getattr(chosen, values) == (tuple(of[band] for band in bands) if of else None)
    assert joblib.hash(survey.select(survey.bands)) == joblib.hash(survey)
    assert joblib.hash(chosen) == joblib.hash(clone(chosen))


def test_a_selection_of_an_unknown_band_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"Unknown band 'y'; the survey has u, g, r, i, z, Y\.$"):
        get_survey("decam").select("gry")


def test_none_and_ones_own_survey_pass():
    mine = Survey(bands=("V", "I"), pixel_scale=0.05)
    assert get_survey(mine) is mine
    assert get_survey(None) is None


def test_an_unknown_survey_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"Unknown survey 'sdds'; known are sdss, legacy, first, .*, or give a Survey"):
        get_survey("sdds")


# De-reddening

EBV = np.array([0.0, 0.02, 0.1, 0.5])
SHAPES = {"images": (8, 6), "rows": (12,), "fluxes": ()}
each_shape = pytest.mark.parametrize("kind", [*SHAPES])


def fluxes(name, kind="images", dtype=np.float64, n=4):
    """Images of the survey, rows of twelve values per band, or one flux per band."""
    bands, *rest = len(SURVEYS[name].bands), *SHAPES[kind]
    shape = (n, bands * int(np.prod(rest))) if kind != "images" else (n, bands, *rest)
    return np.random.default_rng(0).normal(20, 5, size=shape).astype(dtype)


def test_published_transmissions_are_undone():
    """Half a magnitude of reddening in ugriz."""
    seen = np.array([[0.1420, 0.2185, 0.3491, 0.4575, 0.5590]])
    assert_allclose(Deredden("sdss").fit_transform(seen, ebv=[0.5]), np.ones((1, 5)), atol=5e-4)


@each_dusty_survey
@each_shape
def test_each_value_is_raised_by_its_band_and_its_dust(name, kind):
    X = fluxes(name, kind)
    R, out = SURVEYS[name].extinction, Deredden(name).fit_transform(X, ebv=EBV)
    assert out.shape == X.shape
    values, expected = out.reshape(len(X), len(R), -1), X.reshape(len(X), len(R), -1)
    for i, row in enumerate(values):
        for b, band in enumerate(row):
            assert_allclose(band, expected[i, b] * 10 ** (R[b] * EBV[i] / 2.5))


@each_dusty_survey
@each_shape
def test_dust_adds_up_and_none_is_nothing(name, kind):
    X = fluxes(name, kind)
    step = Deredden(name).fit(X)
    assert_array_equal(step.transform(X, ebv=np.zeros(len(X))), X)
    twice = step.transform(step.transform(X, ebv=EBV), ebv=2 * EBV)
    assert_allclose(twice, step.transform(X, ebv=3 * EBV))


@each_dusty_survey
@each_shape
def test_a_row_depends_on_itself_alone_and_the_input_is_kept(name, kind):
    X = fluxes(name, kind)
    X.setflags(write=False)
    step = Deredden(name)
    out = step.fit_transform(X, ebv=EBV)
    assert_array_equal(out, step.fit(X, ebv=EBV).transform(X, ebv=EBV))
    for i in range(len(X)):
        assert_array_equal(step.transform(X[i : i + 1], ebv=EBV[i : i + 1])[0], out[i])


@each_dusty_survey
def test_flattened_images_are_images(name):
    X = fluxes(name)
    flat = Deredden(name).fit_transform(X.reshape(len(X), -1), ebv=EBV)
    assert_array_equal(flat.reshape(X.shape), Deredden(name).fit_transform(X, ebv=EBV))


@pytest.mark.parametrize(
    ("given", "got"),
    [("f8", "f8"), ("f4", "f4"), (">f4", "f4"), ("f2", "f4"), ("u1", "f4"), ("i2", "f4"), ("i8", "f4")],
)
@each_shape
def test_doubles_stay_and_all_else_is_single_precision(given, got, kind):
    X = fluxes("sdss", kind, given)
    out = Deredden("sdss").fit_transform(X, ebv=EBV)
    assert out.dtype == got
    assert_allclose(out, Deredden("sdss").fit_transform(X.astype("f8"), ebv=EBV), rtol=1e-6)
    assert Deredden().fit_transform(X).dtype == got


def test_images_without_a_band_axis_have_one_band():
    radio = Survey(bands=("r",), extinction=(2.285,))
    X = fluxes("sdss")[:, 2]
    assert_array_equal(
        Deredden(radio).fit_transform(X, ebv=EBV), Deredden("sdss").fit_transform(fluxes("sdss"), ebv=EBV)[:, 2]
    )


def test_missing_pixels_stay_missing():
    X = fluxes("sdss")
    X[1, 2, 3, 4] = np.nan
    assert_array_equal(np.isnan(Deredden("sdss").fit_transform(X, ebv=EBV)), np.isnan(X))


def test_a_table_keeps_its_names():
    table = pd.DataFrame(fluxes("sdss", "fluxes"), columns=list("ugriz"), index=list("abcd"))
    step = Deredden("sdss").set_output(transform="pandas")
    out = step.fit_transform(table, ebv=pd.Series(EBV))
    assert list(out.columns) == list(step.get_feature_names_out()) == list("ugriz")
    assert list(out.index) == list("abcd")
    assert_array_equal(out, Deredden("sdss").fit_transform(table.to_numpy(), ebv=EBV))


def test_without_a_survey_nothing_changes():
    for kind in SHAPES:
        X = fluxes("sdss", kind)
        assert_array_equal(Deredden().fit_transform(X), X)


def test_state_is_numbers_and_survives_a_change_of_parameters():
    X, mine = fluxes("sdss"), get_survey("sdss")
    step = Deredden(mine)
    before = step.fit_transform(X, ebv=EBV)
    mine.set_params(extinction=(1, 1, 1, 1, 1))
    for copy in (step, pickle.loads(pickle.dumps(step)), FrozenEstimator(step)):
        assert_array_equal(copy.transform(X, ebv=EBV), before)
    assert_array_equal(clone(Deredden("sdss")).fit_transform(X, ebv=EBV), before)


@pytest.mark.parametrize(
    ("ebv", "sentence"),
    [
        (None, r"needs the E\(B-V\) of each object, ebv=; a pipeline hands it on .*enable_metadata_routing=True\)\.$"),
        (0.1, r"one value for each of the 4 rows of X; its shape is \(\)\.$"),
        ([0.1], r"one value for each of the 4 rows of X; its shape is \(1,\)\.$"),
        ([[0.1]] * 4, r"its shape is \(4, 1\)\.$"),
        ([0.1, np.nan, 0.1, -0.1], r"finite and not negative; 2 of 4 values are not, the first in row 1\.$"),
        ([0.1, 0.1, 0.1, np.inf], r"1 of 4 values are not, the first in row 3\.$"),
    ],
)
def test_ebv_that_says_nothing_is_refused(ebv, sentence):
    X = fluxes("sdss")
    with pytest.raises(ValueError, match=sentence):
        Deredden("sdss").fit_transform(X, ebv=ebv)
    with pytest.raises(ValueError, match=sentence):
        Deredden("sdss").fit(X).transform(X, ebv=ebv)


def test_magnitudes_in_place_of_fluxes_are_told():
    magnitudes = np.random.default_rng(0).uniform(15, 24, size=(40, 5))
    magnitudes[3, 0] = np.nan
    with pytest.warns(UserWarning, match="X looks like magnitudes, and Deredden takes flux") as told:
        step = Deredden("sdss").fit(magnitudes)
    assert len(told) == 1
    step.transform(magnitudes, ebv=np.zeros(40))  # told at fit
    images, nothing = magnitudes[:, :, np.newaxis, np.newaxis], np.full((40, 5), np.nan)
    for other in (10 ** (0.4 * (22.5 - magnitudes)), magnitudes[:9], nothing, images):
        Deredden("sdss").fit(other)
    Deredden().fit(magnitudes)


def test_an_extinction_in_place_of_its_color_is_told():
    step = Deredden("sdss").fit(fluxes("sdss"))
    with pytest.warns(UserWarning, match=r"ebv is 7 in row 2, more than .* is it an extinction in magnitudes\?"):
        step.transform(fluxes("sdss"), ebv=[0.1, 0.2, 7, 0.0])


def test_ebv_without_a_survey_is_refused():
    for call in (Deredden().fit, Deredden().fit_transform, Deredden().fit(fluxes("sdss")).transform):
        with pytest.raises(ValueError, match="ebv was given, but there is no survey"):
            call(fluxes("sdss"), ebv=EBV)


@pytest.mark.parametrize(
    ("survey", "sentence"),
    [
        ("sdds", "Unknown survey 'sdds'"),
        ("first", r"one extinction coefficient per band; the survey has 0 for 1 bands \(1\.4 GHz\)\.$"),
        (Survey(bands=tuple("gr"), extinction=(3.3,)), r"the survey has 1 for 2 bands \(g, r\)\.$"),
        (3, "The 'survey' parameter of Deredden"),
    ],
)
def test_a_survey_without_coefficients_is_refused(survey, sentence):
    with pytest.raises(ValueError, match=sentence):
        Deredden(survey).fit(fluxes("sdss"))


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((4, 3, 8, 8), r"The survey has 5 bands, X of shape \(4, 3, 8, 8\) has 3\.$"),
        ((4, 8, 8, 5), r"has 8\. Its last axis looks like the bands: give np\.moveaxis\(X, -1, 1\)\.$"),
        ((4, 8, 8), r"The survey has 5 bands, X of shape \(4, 8, 8\) has 1\.$"),
        ((4, 7), r"The survey has 5 bands, and rows of 7 values do not divide into them\.$"),
    ],
)
def test_other_bands_are_refused(shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        Deredden("sdss").fit(np.ones(shape))
    with pytest.raises(ValueError, match=sentence):
        Deredden("sdss").fit(fluxes("sdss")).transform(np.ones(shape), ebv=EBV)


def test_an_unfitted_step_is_refused():
    with pytest.raises(NotFittedError):
        Deredden().transform(fluxes("sdss"))


def brightness(images):
    return images.mean(axis=(2, 3))


@pytest.mark.parametrize("requested", [False, True])
def test_ebv_reaches_the_step_at_fit_and_after(requested):
    X, ebv = fluxes("sdss", n=40), np.linspace(0, 0.3, 40)
    clean = brightness(Deredden("sdss").fit_transform(X, ebv=ebv))
    y = clean @ np.arange(1, 6)
    with config_context(enable_metadata_routing=True):
        step = Deredden("sdss")
        if requested:
            step.set_fit_request(ebv=True).set_transform_request(ebv=True)
        pipe = make_pipeline(step, FunctionTransformer(brightness), LinearRegression())
        pipe.fit(X, y, ebv=ebv)
        assert_allclose(pipe.predict(X[:7], ebv=ebv[:7]), y[:7])
        assert_allclose(pipe[:-1].transform(X, ebv=ebv), clean)
        assert pipe.score(X, y, ebv=ebv) == pytest.approx(1)
        assert cross_val_score(pipe, X, y, cv=3, params={"ebv": ebv}, error_score="raise") == pytest.approx(1)
        search = GridSearchCV(pipe, {"linearregression__fit_intercept": [False, True]}, cv=3, error_score="raise")
        assert search.fit(X, y, ebv=ebv).score(X, y, ebv=ebv) == pytest.approx(1)
        with pytest.raises(ValueError, match="needs the E"):
            pipe.predict(X)


def test_a_refused_request_is_kept():
    X = fluxes("sdss")
    with config_context(enable_metadata_routing=True):
        step = Deredden("sdss").set_fit_request(ebv=False).set_transform_request(ebv=False)
        with pytest.raises(TypeError, match="ebv"):
            make_pipeline(step, FunctionTransformer(brightness)).fit(X, ebv=EBV)


def test_doubles_of_fits_stay_doubles():
    fluxes = np.full((1, 3), 16777217.0, dtype=">f8")
    assert_array_equal(Deredden("legacy").fit_transform(fluxes, ebv=[0.0]), fluxes)


def test_images_of_another_size_pass_and_what_is_no_image_does_not():
    images = np.ones((4, 3, 8, 8), "f4")
    step = Deredden("legacy").fit(images)
    assert step.n_features_in_ == 3
    assert step.transform(images[:, :, :6, :5], ebv=np.zeros(4)).shape == (4, 3, 6, 5)
    one_band = Deredden(Survey(("r",), extinction=(2.3,))).fit(images[:, 0])
    assert one_band.transform(images[:, 0, :6], ebv=np.zeros(4)).shape == (4, 6, 8)
    with pytest.raises(ValueError, match="was fitted to images"):
        step.transform(images[:, :, 0, 0], ebv=np.zeros(4))
    with pytest.raises(ValueError, match="was fitted to rows"):
        Deredden("legacy").fit(images[:, :, 0, 0]).transform(images, ebv=np.zeros(4))
