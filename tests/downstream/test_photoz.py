"""The laws of redshift bins and of the classifier that reads them."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skastro import load, save
from skastro.datasets import make_survey
from skastro.downstream import PhotoZRegressor, RedshiftBins
from skastro.preprocessing import Deredden
from skastro.surveys import SURVEYS

GRIDS = [
    RedshiftBins(),
    RedshiftBins(7, low=-0.3, high=1.1),
    RedshiftBins(2, low=0, high=6),
    RedshiftBins(300, low=1.5, high=1.6),
]
each_grid = pytest.mark.parametrize("bins", GRIDS, ids=lambda bins: f"{bins.n_bins}-bins")
POINTS = ("mean", "mode", "median")

HEADS = {
    "default": None,
    "logistic": LogisticRegression(C=100, max_iter=1000),
    "scaled": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "neighbors": KNeighborsClassifier(9),
    "forest": RandomForestClassifier(20, max_features=None, min_samples_leaf=3, random_state=0),
    "boosting": HistGradientBoostingClassifier(max_iter=20, random_state=0),
    "network": MLPClassifier((32,), solver="lbfgs", max_iter=2000, tol=1e-3, random_state=0),
    "search": GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [5, 9]}, cv=2),
}
each_head = pytest.mark.parametrize("name", HEADS)


def distributions(bins, n=200, seed=0):
    """Rows with gaps, with all in one bin, and with tiny probabilities."""
    rng = np.random.default_rng(seed)
    pdf = rng.exponential(size=(n, bins.n_bins)) ** 4 * (rng.random((n, bins.n_bins)) < 0.6)
    pdf[np.arange(n), rng.integers(bins.n_bins, size=n)] += 1e-6
    pdf[:10] = np.eye(bins.n_bins)[rng.integers(bins.n_bins, size=10)]
    return pdf / pdf.sum(axis=1, keepdims=True)


def redshifts_and_colors(n=300, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.uniform(0, 0.4, size=n)
    return np.column_stack([np.sin(8 * z), np.cos(8 * z), z]) * 3 + rng.normal(scale=0.05, size=(n, 3)), z


# The bins


@each_grid
def test_edges_are_equal_steps_and_centers_lie_between(bins):
    width = (bins.high - bins.low) / bins.n_bins
    assert bins.edges[[0, -1]].tolist() == [bins.low, bins.high]
    assert_allclose(np.diff(bins.edges), width)
    assert_allclose(bins.centers, [bins.low + (i + 0.5) * width for i in range(bins.n_bins)], atol=1e-12)


@each_grid
def test_digitize_is_the_floor_of_the_paper(bins):
    z = np.random.default_rng(0).uniform(bins.low, bins.high, size=1000)
    width = (bins.high - bins.low) / bins.n_bins
    assert bins.digitize(z).tolist() == [int(np.floor((value - bins.low) / width)) for value in z]


@each_grid
def test_each_edge_opens_its_bin_and_the_end_belongs_to_the_last(bins):
    assert_array_equal(bins.digitize(bins.edges[:-1]), np.arange(bins.n_bins))
    assert_array_equal(bins.digitize([bins.high]), bins.n_bins - 1)
    assert_array_equal(bins.digitize(bins.centers), np.arange(bins.n_bins))


@each_grid
def test_redshifts_outside_are_clipped_with_one_warning(bins):
    z = [bins.low - 1, bins.centers[1], bins.high + 1, bins.high + 99]
    with pytest.warns(UserWarning, match=r"^3 of 4 redshifts lie outside \[.* set low= and high= of") as record:
        assert bins.digitize(z).tolist() == [0, 1, bins.n_bins - 1, bins.n_bins - 1]
    assert len(record) == 1
    assert f"reach from {bins.low - 1:.4g} to {bins.high + 99:.4g};" in str(record[0].message)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_redshifts_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match=r"^2 of 4 redshifts are NaN or infinite, the first in row 1\.$"):
        RedshiftBins().digitize([0.1, bad, 0.2, bad])


# What a distribution says


@each_grid
def test_the_mean_is_the_expectation(bins):
    pdf = distributions(bins)
    expected = [sum(p * center for p, center in zip(row, bins.centers, strict=True)) for row in pdf]
    assert_allclose(bins.estimate(pdf), expected)


@each_grid
def test_the_mode_is_the_likeliest_center(bins):
    pdf = distributions(bins)
    mode = clone(bins).set_params(point="mode").estimate(pdf)
    assert [row[bins.digitize([z])[0]] for row, z in zip(pdf, mode, strict=True)] == pdf.max(axis=1).tolist()


@each_grid
@pytest.mark.parametrize("q", [0.01, 0.16, 0.5, 0.84, 0.99])
def test_quantiles_invert_the_cumulative_distribution(bins, q):
    pdf = distributions(bins)
    for row, z in zip(pdf, bins.quantile(pdf, q), strict=True):
        assert np.interp(z, bins.edges, np.concatenate([[0], np.cumsum(row)])) == pytest.approx(q, abs=1e-9)


@each_grid
def test_quantiles_never_fall_and_end_where_the_probability_ends(bins):
    pdf = distributions(bins)
    quantiles = np.array([bins.quantile(pdf, q) for q in np.linspace(0, 1, 41)])
    assert (np.diff(quantiles, axis=0) >= 0).all()
    first, last = (pdf > 0).argmax(axis=1), bins.n_bins - (pdf > 0)[:, ::-1].argmax(axis=1)
    assert_allclose(quantiles[0], bins.edges[first], atol=1e-12)
    assert (quantiles[-1] <= bins.edges[last] + 1e-12).all()


@each_grid
def test_the_median_is_the_middle_quantile(bins):
    pdf = distributions(bins)
    assert_array_equal(clone(bins).set_params(point="median").estimate(pdf), bins.quantile(pdf, 0.5))


@each_grid
@pytest.mark.parametrize("level", [0.1, 0.68, 0.95, 1.0])
def test_intervals_hold_their_level_and_nest(bins, level):
    pdf = distributions(bins)
    interval = bins.interval(pdf, level)
    assert interval.shape == (len(pdf), 2)
    for row, ends in zip(pdf, interval, strict=True):
        below = np.interp(ends, bins.edges, np.concatenate([[0], np.cumsum(row)]))
        assert_allclose(below, [(1 - level) / 2, (1 + level) / 2], atol=1e-9)
    wider = bins.interval(pdf, 1.0)
    assert (wider[:, 0] <= interval[:, 0]).all()
    assert (interval[:, 1] <= wider[:, 1]).all()


@pytest.mark.parametrize("point", POINTS)
def test_a_distribution_of_one_bin_is_that_bin(point):
    bins = RedshiftBins(point=point)
    assert_allclose(bins.estimate(np.eye(180)), bins.centers)
    assert_allclose(bins.interval(np.eye(180), 1), np.column_stack([bins.edges[:-1], bins.edges[1:]]))


def test_intervals_cover_what_was_drawn_from_the_distributions():
    bins, rng = RedshiftBins(40), np.random.default_rng(0)
    pdf = distributions(bins, 4000)
    z = [rng.uniform(*bins.edges[i : i + 2]) for i in (rng.choice(40, p=row) for row in pdf)]
    for level in (0.5, 0.68, 0.95):
        low, high = bins.interval(pdf, level).T
        assert np.mean((low <= z) & (z <= high)) == pytest.approx(level, abs=0.03)


def test_single_precision_is_close_enough_to_probabilities():
    bins, pdf = RedshiftBins(), distributions(RedshiftBins())
    for point in POINTS:
        bins.set_params(point=point)
        assert_allclose(bins.estimate(pdf.astype(np.float32)), bins.estimate(pdf), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n_bins": 1}, r"The 'n_bins' parameter of \w+ must be an int in the range \[2, inf\)"),
        ({"n_bins": 10.0}, "The 'n_bins' parameter"),
        ({"low": np.nan}, "The 'low' parameter"),
        ({"high": np.inf}, "The 'high' parameter"),
        ({"low": 0.4}, r"low must be less than high; got low=0\.4 and high=0\.4\."),
        ({"point": "best"}, "The 'point' parameter"),
    ],
)
def test_settings_that_make_no_bins_are_refused(settings, sentence):
    X, z = redshifts_and_colors(20)
    for refused in (
        RedshiftBins(**settings).check,
        lambda: RedshiftBins(**settings).digitize(z),
        lambda: PhotoZRegressor(**settings).fit(X, z),
    ):
        with pytest.raises(ValueError, match=sentence):
            refused()


@pytest.mark.parametrize(
    ("pdf", "sentence"),
    [
        ([0.5, 0.5], r"one column for each of the 2 bins; its shape is \(2,\)\."),
        ([[0.5, 0.25, 0.25]], r"one column for each of the 2 bins; its shape is \(1, 3\)\."),
        ([[0.5, 0.5], [1.5, -0.5]], "probabilities that sum to 1; row 1 is not"),
        ([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]], "row 2 is not"),
        ([[np.nan, 0.5]], "row 0 is not"),
    ],
)
def test_what_is_no_distribution_is_refused(pdf, sentence):
    for point in POINTS:
        with pytest.raises(ValueError, match=sentence):
            RedshiftBins(2, point=point).estimate(pdf)


def test_shares_and_levels_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"q must be from 0 to 1; got 1\.5\."):
        RedshiftBins(2).quantile([[0.5, 0.5]], 1.5)
    for level in (0, 68, np.nan):
        with pytest.raises(ValueError, match=f"level must be more than 0 and at most 1; got {level}"):
            RedshiftBins(2).interval([[0.5, 0.5]], level)


# The regressor


@each_head
def test_every_head_is_the_classifier_spread_over_the_bins(name):
    X, z = redshifts_and_colors()
    head = PhotoZRegressor(HEADS[name], n_bins=20).fit(X, z)
    pdf, edges = head.predict_pdf(X)
    assert pdf.shape == (len(X), 20)
    assert_array_equal(edges, head.bins_.edges)
    assert_allclose(pdf.sum(axis=1), 1)
    assert_array_equal(pdf[:, head.classifier_.classes_], head.classifier_.predict_proba(X))
    assert_array_equal(np.unique(head.bins_.digitize(z)), head.classifier_.classes_)
    assert_allclose(head.predict(X), pdf @ head.bins_.centers)
    assert_array_equal(head.predict_interval(X, 0.9), head.bins_.interval(pdf, 0.9))


@each_head
def test_every_head_learns(name):
    X, z = redshifts_and_colors(500)
    unseen, truth = redshifts_and_colors(200, seed=1)
    head = PhotoZRegressor(HEADS[name], n_bins=20).fit(X, z)
    assert head.score(unseen, truth) > 0.95


@pytest.mark.parametrize("point", POINTS)
def test_every_point_lies_inside_its_widest_interval(point):
    X, z = redshifts_and_colors()
    head = PhotoZRegressor(HEADS["neighbors"], n_bins=20, point=point).fit(X, z)
    low, high = head.predict_interval(X, 1).T
    assert ((low <= head.predict(X)) & (head.predict(X) <= high)).all()


def coverage(head, X, z, level):
    low, high = head.predict_interval(X, level).T
    return np.mean((low <= z) & (z <= high))


def test_recalibrated_intervals_hold_what_they_should():
    """Many neighbors make distributions too wide."""
    X, z = redshifts_and_colors(1500)
    unseen, truth = redshifts_and_colors(1500, seed=1)
    wide = PhotoZRegressor(KNeighborsClassifier(60)).fit(X, z)
    honest = clone(wide).set_params(cv=5).fit(X, z)
    assert wide.recalibration_ is None
    for level in (0.5, 0.68, 0.9):
        assert coverage(wide, unseen, truth, level) > level + 0.08
        assert abs(coverage(honest, unseen, truth, level) - level) < 0.04


def test_recalibration_is_the_distribution_of_places_in_other_folds():
    X, z = redshifts_and_colors(120)
    folds = KFold(3)
    head = PhotoZRegressor(HEADS["neighbors"], n_bins=10, cv=folds).fit(X, z)
    plain = PhotoZRegressor(HEADS["neighbors"], n_bins=10)
    places = []
    for train, test in folds.split(X):
        pdf, edges = clone(plain).fit(X[train], z[train]).predict_pdf(X[test])
        for row, true in zip(pdf, z[test], strict=True):
            bin_ = min(np.searchsorted(edges, true, side="right") - 1, 9)
            places.append(row[:bin_].sum() + row[bin_] * (true - edges[bin_]) / (edges[bin_ + 1] - edges[bin_]))
    levels = np.linspace(0, 1, 21)
    at = 0.99 * np.quantile(places, levels, method="inverted_cdf") + 0.01 * levels
    at[[0, -1]] = 0.0, 1.0
    pdf, _ = head.predict_pdf(X)
    before, _ = plain.fit(X, z).predict_pdf(X)
    assert_allclose(pdf.cumsum(axis=1), np.interp(before.cumsum(axis=1), at, levels), atol=1e-9)
    assert_array_equal(pdf[before == 0], 0)


def test_recalibration_takes_weights_and_refuses_a_single_fold():
    X, z = redshifts_and_colors(60)
    head = PhotoZRegressor(n_bins=5, cv=2).fit(X, z, sample_weight=np.ones(60))
    assert_allclose(head.predict(X), clone(head).fit(X, z).predict(X))
    with pytest.raises(ValueError, match="'cv' parameter of PhotoZRegressor must be"):
        clone(head).set_params(cv=1).fit(X, z)


def test_bins_without_objects_have_no_probability():
    X, z = redshifts_and_colors()
    empty = (z > 0.1) & (z < 0.3)
    pdf, edges = PhotoZRegressor(n_bins=20).fit(X[~empty], z[~empty]).predict_pdf(X)
    assert not pdf[:, (edges[:-1] >= 0.1) & (edges[1:] <= 0.3)].any()


@each_head
def test_one_occupied_bin_is_every_prediction(name):
    X, _ = redshifts_and_colors(20)
    head = PhotoZRegressor(HEADS[name], n_bins=20).fit(X, np.full(20, 0.11), sample_weight=np.ones(20))
    assert_allclose(head.predict(X), 0.11)
    assert_allclose(head.predict_interval(X, 1), [[0.1, 0.12]] * 20)


def test_clipping_warns_once_in_fit_and_never_after():
    X, z = redshifts_and_colors()
    with pytest.warns(UserWarning, match="of 300 redshifts lie outside") as record:
        head = PhotoZRegressor(n_bins=20, high=0.3).fit(X, z)
    assert len(record) == 1
    assert head.predict(X).max() <= 0.3


def test_the_classifier_given_is_never_fitted():
    X, z = redshifts_and_colors()
    classifier = KNeighborsClassifier(9)
    PhotoZRegressor(classifier, n_bins=20).fit(X, z)
    assert not hasattr(classifier, "classes_")


def test_what_is_set_after_fit_waits_for_the_next_one():
    X, z = redshifts_and_colors()
    head = PhotoZRegressor(n_bins=20).fit(X, z)
    before = head.predict(X)
    assert_array_equal(head.set_params(n_bins=5, point="mode").predict(X), before)


def test_nan_passes_where_the_classifier_takes_it():
    X, z = redshifts_and_colors()
    X[::7, 0] = np.nan
    assert PhotoZRegressor(HEADS["boosting"], n_bins=20).fit(X, z).score(X, z) > 0.9
    with pytest.raises(ValueError, match="Input X contains NaN"):
        PhotoZRegressor(n_bins=20).fit(X, z)


def test_weights_count_as_copies():
    X, z = redshifts_and_colors(100)
    weight = np.random.default_rng(0).integers(1, 4, size=100)
    head = PhotoZRegressor(LogisticRegression(max_iter=1000, tol=1e-8), n_bins=5)
    copies = clone(head).fit(np.repeat(X, weight, axis=0), np.repeat(z, weight))
    assert_allclose(head.fit(X, z, sample_weight=weight).predict(X), copies.predict(X), atol=1e-5)


def test_weights_are_routed_through_a_pipeline_to_the_classifier():
    X, z = redshifts_and_colors(100)
    weight = np.linspace(0.1, 3, 100)
    expected = PhotoZRegressor(n_bins=5).fit(X, z, sample_weight=weight).predict(X)
    with config_context(enable_metadata_routing=True):
        inner = make_pipeline(
            "passthrough", LogisticRegression(C=10, max_iter=1000).set_fit_request(sample_weight=True)
        )
        for classifier in (None, inner):
            head = PhotoZRegressor(classifier, n_bins=5).set_fit_request(sample_weight=True)
            pipe = make_pipeline("passthrough", head).fit(X, z, sample_weight=weight)
            assert_allclose(pipe.predict(X), expected)


@pytest.mark.parametrize(
    ("classifier", "sentence"),
    [
        (LinearSVC(), r"'classifier' parameter of PhotoZRegressor must be an object implementing .*'predict_proba'"),
        ("logistic", "'classifier' parameter of PhotoZRegressor"),
    ],
)
def test_what_gives_no_probabilities_is_refused(classifier, sentence):
    X, z = redshifts_and_colors(20)
    with pytest.raises(ValueError, match=sentence):
        PhotoZRegressor(classifier).fit(X, z)


def test_redshifts_that_do_not_go_with_the_rows_are_refused():
    X, z = redshifts_and_colors(20)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        PhotoZRegressor().fit(X, z[:-1])
    with pytest.raises(ValueError, match=r"^y has 1 missing values, the first in row 3: leave such rows out\.$"):
        PhotoZRegressor().fit(X, np.where(np.arange(20) == 3, np.nan, z))
    with pytest.raises(ValueError, match="y should be a 1d array"):
        PhotoZRegressor().fit(X, np.column_stack([z, z]))
    with pytest.raises(NotFittedError):
        PhotoZRegressor().predict_pdf(X)


@each_head
def test_clones_pickles_and_joblib_agree_to_the_bit(name, tmp_path):
    X, z = redshifts_and_colors(100)
    head = PhotoZRegressor(HEADS[name], n_bins=5).fit(X, z)
    joblib.dump(head, tmp_path / "head.joblib")
    copies = (clone(head).fit(X, z), pickle.loads(pickle.dumps(head)), joblib.load(tmp_path / "head.joblib"))
    for copy in copies:
        assert_array_equal(copy.predict_pdf(X)[0], head.predict_pdf(X)[0])


def test_a_search_reaches_the_classifier_and_the_bins():
    X, z = redshifts_and_colors()
    grid = {"photozregressor__classifier__C": [0.01, 10.0], "photozregressor__n_bins": [2, 20]}
    pipe = make_pipeline(StandardScaler(), PhotoZRegressor(LogisticRegression(max_iter=1000)))
    search = GridSearchCV(pipe, grid, cv=3).fit(X, z)
    assert search.best_params_ == {"photozregressor__classifier__C": 10.0, "photozregressor__n_bins": 20}


# The paper's chain on a small simulated sky


def colors(images):
    """The r magnitude and neighboring colors, on the asinh scale that takes negative flux."""
    magnitudes = -np.arcsinh(images.sum(axis=(2, 3)) / 2)
    return np.column_stack([magnitudes[:, 2], -np.diff(magnitudes)])


@pytest.fixture(scope="module")
def sky():
    sky = make_survey(400, size=16, random_state=0)
    return sky.images, sky.redshift, sky.properties["ebv"]


def chain():
    return make_pipeline(Deredden("sdss"), FunctionTransformer(colors), StandardScaler(), PhotoZRegressor(n_bins=40))


def test_dereddened_colors_give_redshifts(sky):
    images, z, ebv = sky
    with config_context(enable_metadata_routing=True):
        scores = cross_val_score(chain(), images, z, cv=4, params={"ebv": ebv}, error_score="raise")
        search = GridSearchCV(chain(), {"photozregressor__point": POINTS}, cv=4, error_score="raise")
        search.fit(images, z, ebv=ebv)
        assert search.score(images, z, ebv=ebv) > scores.mean() > 0.6
    clean = Deredden("sdss").fit_transform(images, ebv=ebv)
    assert_allclose(scores, cross_val_score(chain()[1:], clean, z, cv=4))


def test_more_dust_changes_nothing_once_undone(sky):
    images, z, ebv = sky
    redden = 10 ** (-0.3 / 2.5 * np.array(SURVEYS["sdss"].extinction))
    with config_context(enable_metadata_routing=True):
        pipe = chain().fit(images, z, ebv=ebv)
        predicted = pipe.predict(images, ebv=ebv)
        assert_allclose(pipe.predict(images * redden[:, None, None], ebv=ebv + 0.3), predicted, rtol=1e-4)


@pytest.mark.parametrize("survey", [None, "sdss"])
def test_a_file_answers_the_same(survey, tmp_path):
    X, z = redshifts_and_colors()
    fluxes, ebv = np.abs(np.hstack([X, X])[:, :5]) + 1, np.full(len(X), 0.1)
    with config_context(enable_metadata_routing=True):
        dust = {} if survey is None else {"ebv": ebv}
        pipe = make_pipeline(Deredden(survey), StandardScaler(), PhotoZRegressor(n_bins=10)).fit(fluxes, z, **dust)
        save(pipe, tmp_path / "redshifts.skastro")
        again = load(tmp_path / "redshifts.skastro")
        assert_array_equal(again.predict(fluxes, **dust), pipe.predict(fluxes, **dust))


def test_a_refit_that_the_classifier_refuses_loses_nothing():
    X, z = np.linspace(0, 1, 100)[:, np.newaxis], np.linspace(0, 0.4, 100)
    model = PhotoZRegressor(KNeighborsClassifier(5), n_bins=20).fit(X, z)
    expected = model.predict(X)
    with pytest.raises(TypeError):
        model.set_params(n_bins=40).fit(X, z, sample_weight=np.ones(100))
    assert_array_equal(model.predict(X), expected)


def test_folds_of_groups_are_given_themselves():
    rng = np.random.default_rng(0)
    X, z, groups = rng.normal(size=(40, 2)), rng.uniform(0.01, 0.39, 40), np.arange(40) // 4
    splitter = GroupKFold(2)
    with pytest.raises(ValueError, match=r"fit takes no groups: give the folds themselves, cv=\[\*GroupKFold"):
        PhotoZRegressor(DecisionTreeClassifier(), n_bins=8, cv=splitter).fit(X, z)
    model = PhotoZRegressor(DecisionTreeClassifier(), n_bins=8, cv=[*splitter.split(X, z, groups)])
    assert np.isfinite(model.fit(X, z).predict(X)).all()


def test_a_classifier_that_goes_by_names_of_columns_has_them():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(60, 3)), columns=["g", "r", "i"])
    z = np.clip(0.2 + 0.05 * table["g"], 0.01, 0.39)
    named = make_column_transformer((StandardScaler(), ["g", "r"]))
    for cv in (None, 2):
        model = PhotoZRegressor(make_pipeline(named, LogisticRegression()), n_bins=4, cv=cv).fit(table, z)
        other = PhotoZRegressor(make_pipeline(StandardScaler(), LogisticRegression()), n_bins=4, cv=cv)
        expected = other.fit(table[["g", "r"]].to_numpy(), z).predict(table[["g", "r"]].to_numpy())
        assert_allclose(model.predict(table), expected)
