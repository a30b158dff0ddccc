"""Maps: what they keep, where new rows fall, and what they refuse."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skastro import EmbeddingMap, load, save

DIGITS = load_digits()
X = DIGITS.data[:400].astype(np.float32)


@pytest.fixture(scope="module", params=["umap", "tsne", "pca"])
def fitted(request):
    if request.param == "umap":
        pytest.importorskip("umap", reason="needs the extra maps")
    return EmbeddingMap(request.param, random_state=0).fit(X)


def test_neighbors_in_the_map_are_of_one_class(fitted):
    votes = KNeighborsClassifier(5).fit(fitted.positions_[:300], DIGITS.target[:300])
    score = votes.score(fitted.positions_[300:], DIGITS.target[300:400])
    assert score > (0.4 if fitted.method_ == "pca" else 0.8)
    assert (0.7 if fitted.method_ == "pca" else 0.9) < fitted.trustworthiness_ <= 1


def test_rows_of_the_fit_fall_where_they_were(fitted):
    assert_allclose(fitted.transform(X), fitted.positions_, rtol=1e-3, atol=1e-3)
    assert fitted.positions_.dtype == fitted.transform(X).dtype == np.float32


def test_a_new_row_falls_among_its_kind_wherever_it_comes(fitted):
    new = DIGITS.data[400:500]
    places = fitted.transform(new)
    alone = np.concatenate([fitted.transform(row[np.newaxis]) for row in new])
    assert_allclose(alone, places, rtol=1e-4, atol=1e-4)
    if fitted.method_ != "pca":
        votes = KNeighborsClassifier(5).fit(fitted.positions_, DIGITS.target[:400])
        assert votes.score(places, DIGITS.target[400:500]) > 0.8


def test_a_seed_repeats(fitted):
    again = EmbeddingMap(fitted.method, random_state=0).fit_transform(X)
    assert_array_equal(again, fitted.positions_)


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
    monkeypatch.setattr("skastro.maps.find_spec", lambda name: None)
    assert EmbeddingMap().fit(X[:30]).method_ == "pca"
    with pytest.raises(ImportError, match=r"needs umap-learn: pip install skastro\[maps\]"):
        EmbeddingMap("umap").fit(X[:30])


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_identical_rows_have_a_place(method):
    found = EmbeddingMap(method, random_state=0).fit(np.repeat(X[:10], 3, axis=0))
    assert np.isfinite(found.positions_).all()
    assert np.isfinite(found.transform(X[:3])).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.where(np.arange(400)[:, np.newaxis] == 3, np.nan, X), "Input X contains NaN"),
        (X[:3], "minimum of 4 is required"),
        (X[:, :1], "A map of n_components=2 needs as many columns; X has n_features=1"),
        (X[0], "Expected 2D array, got 1D array"),
    ],
)
def test_what_makes_no_map(rows, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingMap("pca").fit(rows)
