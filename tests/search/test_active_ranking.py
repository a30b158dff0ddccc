"""Laws of the active ranking: the strange first, then what a person likes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.ensemble import IsolationForest, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import LocalOutlierFactor

import skastro
from skastro.search import ActiveRanking

RNG = np.random.default_rng(0)
X = RNG.normal(size=(310, 2)) + np.repeat([0, 8, -8], [300, 5, 5])[:, np.newaxis]
NOBODY = np.full(310, np.nan)


def scored():
    y = NOBODY.copy()
    y[300:303], y[305:308], y[:5] = 5, 0, 0
    return y


def test_before_anybody_looked_the_strangest_come_first():
    ranking = ActiveRanking(random_state=0).fit(X)
    assert set(ranking.ranking_[:10]) == set(range(300, 310))
    assert_array_equal(np.sort(ranking.ranking_), np.arange(310))
    assert_array_equal(ranking.predict(X), ranking.scores_)
    assert (ranking.scores_.min(), ranking.scores_.max()) == (0, 1)
    assert_array_equal(ActiveRanking(random_state=0).fit(X, NOBODY).scores_, ranking.scores_)


def test_what_is_like_the_liked_comes_next_and_what_was_seen_comes_no_more():
    ranking = ActiveRanking(alpha=0, random_state=0).fit(X, scored())
    assert set(ranking.ranking_[:2]) == {303, 304}
    assert_array_equal(np.sort(ranking.ranking_), np.flatnonzero(np.isnan(scored())))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_formula_is_that_of_the_paper(alpha):
    y, detector, regressor = scored(), IsolationForest(random_state=1), RandomForestRegressor(random_state=1)
    S = -detector.fit(X).score_samples(X)
    S = (S - S.min()) / (S.max() - S.min())
    known = ~np.isnan(y)
    U = 0.1 + 0.85 * regressor.fit(X[known], y[known]).predict(X) / 5
    d = cdist(X, X[known]).min(axis=1)
    expected = S * np.tanh(np.exp(alpha * d / d.mean()) - 1 + np.arctanh(U))
    assert_allclose(ActiveRanking(detector, regressor, alpha=alpha).fit(X, y).predict(X), expected, rtol=1e-6)


def test_the_scale_of_the_scores_does_not_matter_and_zeros_alone_are_boring():
    one, other = (ActiveRanking(random_state=0).fit(X, factor * scored()) for factor in (1, 0.2))
    assert_allclose(one.scores_, other.scores_)
    boring = ActiveRanking(random_state=0, alpha=0).fit(X, np.where(scored() > 0, np.nan, scored()))
    fresh = ActiveRanking(random_state=0).fit(X)
    assert_allclose(boring.scores_, 0.1 * fresh.scores_)


def test_detectors_and_regressors_of_scikit_learn_serve():
    ranking = ActiveRanking(LocalOutlierFactor(novelty=True), Ridge()).fit(X, scored())
    assert np.isfinite(ranking.predict(X + 100)).all()
    assert ranking.predict(X + 1e6).max() <= 1


def test_all_seen_and_all_alike_are_no_special_case():
    assert len(ActiveRanking(random_state=0).fit(X, np.ones(310)).ranking_) == 0
    assert_array_equal(ActiveRanking(random_state=0).fit(np.zeros((9, 2))).scores_, np.ones(9))


def test_what_is_saved_ranks_the_same(tmp_path):
    ranking = ActiveRanking(random_state=0).fit(X, scored())
    skastro.save(ranking, tmp_path / "ranking.skastro")
    assert_array_equal(skastro.load(tmp_path / "ranking.skastro").predict(X), ranking.predict(X))


WRONG = {
    "row 2 has -1": lambda: ActiveRanking().fit(X[:3], [np.nan, 0, -1]),
    "row 0 has inf": lambda: ActiveRanking().fit(X[:3], [np.inf, 0, 1]),
    "one score per row": lambda: ActiveRanking().fit(X, [1.0]),
    "contains NaN": lambda: ActiveRanking().fit(np.full((3, 2), np.nan)),
    "'alpha' parameter": lambda: ActiveRanking(alpha=-1).fit(X),
    "expecting 2 features": lambda: ActiveRanking().fit(X).predict(X[:, :1]),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_refused_in_a_sentence(sentence):
    with pytest.raises(ValueError, match=sentence):
        WRONG[sentence]()
