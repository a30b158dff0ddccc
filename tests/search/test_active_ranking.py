"""Laws of the active ranking: the strange first, then what a person likes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
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
    ranking = ActiveRanking(random_state=0).fit(X, scored())
    assert set(ranking.ranking_[:2]) == {303, 304}
    assert_array_equal(np.sort(ranking.ranking_), np.flatnonzero(np.isnan(scored())))


@pytest.mark.parametrize("explore", [0.0, 0.5, 2.0])
def test_the_bound_is_that_of_a_gaussian_process(explore):
    y = scored()
    known, rows, level = ~np.isnan(y), (X - X.mean(axis=0)) / X.std(axis=0), 15 / 12 / 5
    kernel = 0.25 * np.exp(-cdist(rows, rows[known], "sqeuclidean") / 2 / 2)
    inverse = np.linalg.inv(kernel[known] + 0.05 * np.eye(11))
    mean = level + kernel @ inverse @ (y[known] / 5 - level)
    deviation = np.sqrt(0.25 - np.einsum("nm,mk,nk->n", kernel, inverse, kernel))
    found = ActiveRanking(explore=explore, random_state=0).fit(X, y).predict(X)
    assert_allclose(found, mean + explore * deviation, rtol=1e-6)


def test_the_scale_of_the_scores_does_not_matter():
    one, other = (ActiveRanking(random_state=0).fit(X, factor * scored()) for factor in (1, 0.2))
    assert_allclose(one.scores_, other.scores_)


def test_after_nothing_but_boredom_comes_what_is_unlike_it():
    y = np.where(scored() > 0, np.nan, scored())
    first = ActiveRanking(random_state=0).fit(X, y).ranking_[:5]
    assert cdist(X[first], X[y == 0]).min() > cdist(X[::7], X[y == 0]).min(axis=1).mean()


def test_a_detector_of_scikit_learn_serves():
    ranking = ActiveRanking(LocalOutlierFactor(novelty=True)).fit(X)
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
    "'explore' parameter": lambda: ActiveRanking(explore=-1).fit(X),
    "expecting 2 features": lambda: ActiveRanking().fit(X).predict(X[:, :1]),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_refused_in_a_sentence(sentence):
    with pytest.raises(ValueError, match=sentence):
        WRONG[sentence]()


def test_an_interrupted_refit_loses_nothing(monkeypatch):
    ranking = ActiveRanking(random_state=0).fit(X, scored())
    expected = ranking.predict(X)

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ActiveRanking, "_interest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ranking.fit(X[::-1, :1])
    assert_array_equal(ranking.predict(X), expected)


@pytest.mark.parametrize("explore", [0.0, 0.5])
def test_what_is_like_the_liked_comes_first_when_nothing_else_was_scored(explore):
    y = NOBODY.copy()
    y[300] = 5
    first = ActiveRanking(explore=explore, random_state=0).fit(X, y).ranking_[:4]
    assert set(first) == set(range(301, 305))
