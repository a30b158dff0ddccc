"""Maps: what they keep, where new rows fall, and what they refuse."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skastro import EmbeddingMap, load, save

DIGITS = load_digits()
N = 250
X = DIGITS.data[:N].astype(np.float32)
NEW, KINDS = DIGITS.data[N : N + 100], DIGITS.target[N : N + 100]


@pytest.fixture(scope="module", params=["umap", "tsne", "pca"])
def fitted(request):
    if request.param == "umap":
        pytest.importorskip("umap", reason="needs the extra maps")
    return EmbeddingMap(request.param, random_state=0).fit(X)


def test_neighbors_in_the_map_are_of_one_class(fitted):
    votes = KNeighborsClassifier(5).fit(fitted.positions_[:200], DIGITS.target[:200])
    score = votes.score(fitted.positions_[200:], DIGITS.target[200:N])
    assert score > (0.4 if fitted.method_ == "pca" else 0.8)
    expected = trustworthiness(StandardScaler().fit_transform(X), fitted.positions_, n_neighbors=15)
    assert_allclose(fitted.trustworthiness_, expected, rtol=1e-6)
    assert expected > (0.7 if fitted.method_ == "pca" else 0.9)


def test_rows_of_the_fit_fall_where_they_were(fitted):
    assert_allclose(fitted.transform(X), fitted.positions_, rtol=1e-3, atol=1e-3)
    assert fitted.positions_.dtype == fitted.transform(X).dtype == np.float32


def test_a_new_row_falls_among_its_kind_wherever_it_comes(fitted):
    places = fitted.transform(NEW)
    alone = np.concatenate([fitted.transform(row[np.newaxis]) for row in NEW[:5]])
    assert_allclose(alone, places[:5], rtol=1e-4, atol=1e-4)
    if fitted.method_ != "pca":
        votes = KNeighborsClassifier(5).fit(fitted.positions_, DIGITS.target[:N])
        assert votes.score(places, KINDS) > 0.6
        distances = np.linalg.norm(fitted.pca_.transform(fitted.scaler_.transform(NEW[:1])) - fitted.rows_, axis=1)
        nearest = np.argsort(distances)[:15]
        expected = np.average(fitted.positions_[nearest], axis=0, weights=1 / distances[nearest])
        assert_allclose(places[0], expected, rtol=1e-4)


def test_a_seed_repeats(fitted):
    one, again, other = (EmbeddingMap(fitted.method, random_state=s).fit_transform(X[:40]) for s in (0, 0, 1))
    assert_array_equal(one, again)
    assert (fitted.method_ == "umap") == (one != other).any()


def test_the_rows_of_a_large_map_are_sampled_to_judge_it(monkeypatch):
    monkeypatch.setattr("skastro.maps.LOOKED_AT", 100)
    maps = [EmbeddingMap("pca", random_state=seed).fit(X) for seed in (0, 0, 1)]
    assert maps[0].trustworthiness_ == maps[1].trustworthiness_ != maps[2].trustworthiness_
    assert_allclose(maps[0].trustworthiness_, EmbeddingMap("pca").fit(X[:100]).trustworthiness_, atol=0.1)


def test_a_map_is_saved_and_loaded(fitted, tmp_path):
    save(fitted, tmp_path / "map.skastro")
    assert_array_equal(load(tmp_path / "map.skastro").transform(X[:20] + 1), fitted.transform(X[:20] + 1))


def test_components_are_those_of_scaled_columns():
    expected = PCA(2).fit_transform(StandardScaler().fit_transform(DIGITS.data))
    found = EmbeddingMap("pca").fit_transform(DIGITS.data)
    assert_allclose(np.abs(found), np.abs(expected), atol=1e-6)


@pytest.mark.parametrize("n_components", [1, 3])
@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_lines_and_volumes(method, n_components):
    found = EmbeddingMap(method, n_components=n_components, random_state=0).fit_transform(X[:60])
    assert found.shape == (60, n_components)


def test_without_umap_auto_is_components_and_umap_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    assert EmbeddingMap().fit(X[:30]).method_ == "pca"
    with pytest.raises(ImportError, match=r"needs umap-learn: pip install skastro\[maps\]"):
        EmbeddingMap("umap").fit(X[:30])


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_identical_rows_have_a_place(method):
    found = EmbeddingMap(method, random_state=0).fit(np.repeat(X[:8], 3, axis=0))
    assert np.isfinite(found.positions_).all()
    assert np.isfinite(found.transform(X[:3])).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.where(np.arange(N)[:, np.newaxis] == 3, np.nan, X), "Input X contains NaN"),
        (X[:3], "minimum of 4 is required"),
        (X[:, :1], "A map of n_components=2 needs as many columns; X has n_features=1"),
        (X[0], "Expected 2D array, got 1D array"),
        (np.ones((9, 3)), "All rows of X are alike: there is nothing to map"),
    ],
)
def test_what_makes_no_map(rows, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingMap("pca").fit(rows)


def test_an_interrupted_refit_loses_nothing(monkeypatch):
    fitted = EmbeddingMap("pca", random_state=0).fit(X)
    before = dict(vars(fitted))

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("skastro.maps._trustworthiness", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(3 * X[::-1])
    assert vars(fitted) == before


@pytest.mark.parametrize("verbose", [0, 1])
def test_a_bar_is_all_that_a_map_shows(verbose, capsys):
    pytest.importorskip("umap", reason="needs the extra maps")
    EmbeddingMap("umap", verbose=verbose, random_state=0).fit(X[:40])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("UMAP" in shown.err) == bool(verbose)
