"""Laws of the search: what brute force finds, on disk as in memory, by row, identifier, position and example."""

import pickle
import sys

import astropy.units as u
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skastro
from skastro.datasets import open_spectra
from skastro.search import LookAlikes, sky_separation
from skastro.search.exact import FOLD, ExactSearch, largest, nearest

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3000, 12)) + 5
KINDS = ["f2", "f4", "f8", "i4"]
METRICS = ["cosine", "euclidean"]


def fitted(rows=X, **params):
    return LookAlikes(**params).fit(rows)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 700, 8192])
def test_the_neighbors_are_those_of_brute_force(metric, kind, batch_size):
    rows = (10 * X).astype(kind)[: 300 if batch_size == 1 else None]
    search = fitted(rows, metric=metric, batch_size=batch_size, n_neighbors=7)
    rival = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute").fit(rows.astype("f8"))
    queries = rows[:50] + rows[50:100]
    for given in (queries, None):
        distances, neighbors = search.kneighbors(given)
        expected, numbers = rival.kneighbors(None if given is None else given.astype("f8"))
        assert_allclose(distances, expected, rtol=1e-6, atol=1e-12)
        apart = np.diff(np.pad(expected, ((0, 0), (1, 1)), constant_values=-1)) > 1e-9
        clear = apart[:, 1:] & apart[:, :-1]
        clear[:, -1] = False  # the next one may be as near
        assert_array_equal(neighbors[clear], numbers[clear])
        assert clear.mean() > 0.5


@pytest.mark.parametrize("metric", METRICS)
def test_far_from_the_origin_single_precision_is_enough(metric):
    rows = (X[:, :6] + 1000).astype("f4")
    rival = NearestNeighbors(metric=metric, algorithm="brute").fit(rows.astype("f8"))
    assert_allclose(fitted(rows, metric=metric).kneighbors()[0], rival.kneighbors()[0], rtol=2e-3, atol=1e-12)
    assert_array_equal(fitted(rows, metric=metric).kneighbors()[1], rival.kneighbors()[1])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spread", [1e-3, 1e-5])
def test_within_a_tight_group_single_precision_is_not_enough(metric, spread):
    group = RNG.normal(size=12) + spread * RNG.normal(size=(400, 12))
    rows = np.concatenate([RNG.normal(size=(400, 12)), group]).astype("f4")
    queries = rows[500:520]
    distances = np.linalg.norm(queries[:, np.newaxis].astype("f8") - rows, axis=2)
    if metric == "cosine":
        units = rows / np.linalg.norm(rows.astype("f8"), axis=1, keepdims=True)
        distances = np.linalg.norm(units[500:520, np.newaxis] - units, axis=2) ** 2 / 2
    expected = np.sort(distances, axis=1)[:, :5]
    assert_allclose(fitted(rows, metric=metric).kneighbors(queries)[0], expected, rtol=1e-3, atol=2e-15)


def test_only_what_rounding_may_have_hidden_is_searched_again(monkeypatch):
    kinds, candidates = [], ExactSearch._candidates
    monkeypatch.setattr(ExactSearch, "_candidates", lambda *args: kinds.append(args[4]) or candidates(*args))
    fitted(X.astype("f4")).kneighbors(X[:100].astype("f4"))
    assert kinds == [np.float32]


@pytest.mark.parametrize("n", [5, FOLD * 6, FOLD * 40 + 7])
@pytest.mark.parametrize("k", [1, 3, 9])
def test_the_largest_are_those_of_a_sort(n, k):
    values = torch.from_numpy(RNG.integers(0, 50, size=(20, n)).astype("f4"))
    values[:, -1] = 60  # behind the last whole group
    best, columns = largest(values, k)
    assert_array_equal(best, values.sort(1, descending=True).values[:, :k])
    assert_array_equal(values.gather(1, columns), best)
    assert all(len(set(line)) == len(line) for line in columns.tolist())


def test_of_rows_equally_near_the_lower_comes_first():
    rows = np.tile(X[:4], (3, 1))
    distances, neighbors = fitted(rows, n_neighbors=2).kneighbors()
    assert_allclose(distances, 0, atol=1e-15)
    assert_array_equal(neighbors[:3], [[4, 8], [5, 9], [6, 10]])


@pytest.mark.parametrize("backend", ["torch", "usearch"])
def test_a_row_is_no_neighbor_of_its_own_even_among_copies(backend):
    rows = np.ones((60, 4))
    neighbors = fitted(rows, n_neighbors=4, backend=backend).kneighbors(return_distance=False)
    assert not (neighbors == np.arange(60)[:, np.newaxis]).any()
    assert all(len(set(line)) == 4 for line in neighbors.tolist())
    search = fitted(X[:50], backend=backend)
    assert_array_equal(search.kneighbors(X[:50])[1][:, 0], np.arange(50))


def test_a_row_without_direction_is_at_a_right_angle():
    assert_array_equal(fitted(np.eye(3), n_neighbors=3).kneighbors(np.zeros((1, 3)))[0], [[1, 1, 1]])


@pytest.mark.parametrize("kind", ["f2", "f4"])
def test_rows_on_disk_are_those_in_memory(kind, tmp_path):
    np.save(tmp_path / "rows.npy", X.astype(kind))
    expected = fitted(X.astype(kind)).kneighbors_of([3, 900])
    for rows in (np.load(tmp_path / "rows.npy", mmap_mode="r"), open_spectra(tmp_path / "rows.npy")):
        search = fitted(rows, batch_size=500)
        for mine, theirs in zip(search.kneighbors_of([3, 900]), expected, strict=True):
            assert_array_equal(mine, theirs)
        assert_allclose(search.more_like([0, 1]), fitted(X.astype(kind)).more_like([0, 1]), rtol=1e-9)
    assert_array_equal(pickle.loads(pickle.dumps(search)).rows_, X.astype(kind))


def test_moments_are_those_of_the_columns():
    search = fitted(batch_size=77)
    assert_allclose(search.mean_, X.mean(axis=0), rtol=1e-12)
    assert_allclose(search.scale_, X.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("params", [{}, {"backend": "usearch"}])
def test_what_is_saved_finds_the_same(params, tmp_path):
    search = LookAlikes(**params).fit(X, ids=np.arange(3000).astype(str), ra=X[:, 0], dec=X[:, 1])
    skastro.save(search, tmp_path / "search.skastro")
    again = skastro.load(tmp_path / "search.skastro")
    assert_allclose(again.kneighbors_of(ids="17")[0], search.kneighbors_of(17)[0])
    assert_array_equal(again.look_up(ra=X[8, 0], dec=X[8, 1]), [8])


def test_an_index_finds_nearly_all_and_is_mapped_from_its_file(tmp_path):
    search = fitted(backend="usearch", n_neighbors=10)
    distances, found = search.kneighbors()
    exact = fitted(n_neighbors=10).kneighbors(return_distance=False)
    assert np.mean([len(set(mine) & set(theirs)) for mine, theirs in zip(found, exact, strict=True)]) > 9.7
    assert np.all(np.diff(distances) >= 0)
    search.write_index(tmp_path / "rows.usearch")
    again = pickle.loads(pickle.dumps(search)).open_index(tmp_path / "rows.usearch")
    assert_array_equal(again.kneighbors(return_distance=False), found)
    for other, match in ((fitted(X[:90], backend="usearch"), "other rows"), (fitted(), "has no index")):
        with pytest.raises(ValueError, match=match):
            other.open_index(tmp_path / "rows.usearch")
    (tmp_path / "text").write_text("an index? no")
    with pytest.raises(ValueError, match="is not an index"):
        search.open_index(tmp_path / "text")
    with pytest.raises(FileNotFoundError, match="no index"):
        search.open_index(tmp_path / "nothing")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_an_index_belongs_to_its_rows_in_their_order(tmp_path, metric, kind):
    pytest.importorskip("usearch", reason="needs the extra search")
    from skastro.survey import EmbeddingIndex

    rows, path = X.astype(kind), tmp_path / "rows.usearch"
    fitted(rows, backend="usearch", metric=metric).write_index(path)
    fitted(rows, backend="usearch", metric=metric).open_index(path)
    search = fitted(rows[::-1].copy(), backend="usearch", metric=metric)
    with pytest.raises(ValueError, match="other rows, or of these in another order"):
        search.open_index(path)
    EmbeddingIndex().fit(rows, ids=np.arange(3000) + 5).save(path)
    with pytest.raises(ValueError, match="index of other rows"):
        search.open_index(path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere to write rows"):
        search.write_index(tmp_path / "nowhere" / "rows")


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_an_index_knows_no_units_and_no_metric_of_before(scale):
    pytest.importorskip("usearch", reason="needs the extra search")
    rows = scale * X.astype("f4")
    search = fitted(rows, backend="usearch")
    for metric in METRICS:
        truth = fitted(rows, metric=metric).kneighbors(rows[:200])[1]
        assert np.mean(search.set_params(metric=metric).kneighbors(rows[:200])[1] == truth) > 0.98


def test_without_usearch_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch", None)
    with pytest.raises(ImportError, match=r"skastro\[search\]"):
        fitted(backend="usearch")


def test_rows_are_found_by_number_identifier_and_position():
    ra, dec = RNG.uniform(0, 360, 3000), np.degrees(np.arcsin(RNG.uniform(-1, 1, 3000)))
    names = np.array([f"J{number:04}" for number in range(3000)])
    search = LookAlikes().fit(X, ids=names, ra=ra, dec=dec)
    by_row = search.kneighbors_of([5, 7])
    for way in (
        {"ids": ["J0005", "J0007"]},
        {"ra": ra[[5, 7]], "dec": dec[[5, 7]]},
        {"ra": ra[[5, 7]] + 360, "dec": dec[[5, 7]]},
    ):
        for mine, theirs in zip(search.kneighbors_of(**way), by_row, strict=True):
            assert_array_equal(mine, theirs)
    assert_array_equal(LookAlikes().fit(X, ids=np.arange(3000)[::-1]).look_up(ids=[2999, 0]), [0, 2999])


@pytest.mark.parametrize("kind", ["i8", "u8", "i2", str])
def test_identifiers_are_compared_whole(kind):
    ids = (np.arange(5) if kind == "i2" else 1237648702966988820 + np.arange(5) * 2**32 // 2).astype(kind)
    search = LookAlikes(1).fit(X[:5], ids=ids)
    for given in (ids[3:1:-1], ids[3:1:-1].tolist()):
        assert_array_equal(search.look_up(ids=given), [3, 2])
    with pytest.raises(ValueError, match=r"that no row has|are integers of int16"):
        search.look_up(ids="123" if kind is str else int(ids[0]) + 2**32 + 1)


def test_identifiers_that_are_no_integers_are_refused():
    with pytest.raises(ValueError, match=r"ids are integers of int64; got float64, the first is 1\.7"):
        LookAlikes(1).fit(X[:5], ids=np.arange(5)).look_up(ids=1.7)


def test_positions_know_no_seam_and_no_poles():
    ra, dec = np.array([359.9999, 0.0001, 180.0, 0.0, 90.0]), np.array([0.0, 0.0, 89.9999, 89.9999, -90.0])
    search = LookAlikes(n_neighbors=1).fit(X[:5], ra=ra, dec=dec)
    separations, rows = search.cone(0.0, 0.0, 1.0)
    assert set(rows) == {0, 1}
    assert_allclose(separations, 0.36, rtol=1e-6)
    assert set(search.cone(12.0, 90.0, 1.0)[1]) == {2, 3}
    assert_array_equal(search.cone(200.0, -90.0, 1e-6)[1], [4])
    assert_allclose(sky_separation(0, 0, 180, 0), 180 * 3600)
    assert_allclose(sky_separation(10, 60, 10 + 1e-7, 60), 1e-7 * 3600 * 0.5, rtol=1e-6)


def test_angles_of_any_unit_are_the_same_angles():
    ra, dec = [10.0, 10.01, 50.0] * u.deg, [0.0, 0.0, 89.0] * u.deg
    search = LookAlikes(1).fit(X[:3], ra=ra.to(u.rad), dec=dec.to(u.hourangle))
    assert_allclose(search.ra_, ra.value)
    assert_allclose(search.dec_, dec.value)
    assert_array_equal(search.cone(ra[0].to(u.rad), dec[0], 1 * u.arcmin)[1], [0, 1])
    assert_array_equal(search.look_up(ra=ra.to(u.hourangle), dec=dec, radius=1 * u.mas), [0, 1, 2])
    with pytest.raises(ValueError, match=r"no object within 120\.0 arcsec"):
        search.look_up(ra=30.0, dec=0.0, radius=2 * u.arcmin)


def test_more_like_these_and_less_like_those():
    rows = np.random.default_rng(0).normal(size=(300, 8))
    rows[:100, 0] += 4
    rows[50:100, 1] += 4
    search = fitted(rows)
    both = search.more_like([*range(10), *range(50, 60)])
    assert np.mean(np.argsort(-both)[:80] < 100) > 0.95
    first = np.argsort(-search.more_like(range(10), range(50, 60)))[:40]
    assert np.mean(first < 50) > 0.7  # of which a sixth of all rows are
    assert np.mean(np.isin(first, range(50, 100))) < 0.1
    assert_array_equal(search.more_like(0), search.more_like([0]))


def test_metadata_are_routed_through_a_pipeline():
    with config_context(enable_metadata_routing=True):
        pipe = make_pipeline(StandardScaler(), LookAlikes()).fit(X[:10], ids=list("abcdefghij"))
    assert_array_equal(pipe[-1].look_up(ids="c"), [2])


WRONG = {
    "n_neighbors must be from 1 to 9.*got 10": lambda: fitted(X[:10]).kneighbors(n_neighbors=10),
    "n_neighbors must be from 1 to 10.*got 11": lambda: fitted(X[:10]).kneighbors(X, n_neighbors=11),
    "n_neighbors must be from 1 to 10.*got 0": lambda: fitted(X[:10]).kneighbors(X, n_neighbors=0),
    "1 values that are NaN or infinite, the first in row 2": lambda: fitted([[0.0], [1.0], [np.nan]]),
    "2 values that are NaN or infinite, the first in row 1": lambda: fitted([[0, 1], [np.inf, np.nan]]),
    "contains NaN": lambda: fitted().kneighbors(np.full((1, 12), np.nan)),
    "expecting 12 features": lambda: fitted().kneighbors(X[:, :5]),
    "one per row": lambda: LookAlikes().fit(X, ids=["a"]),
    "a stands in several rows": lambda: LookAlikes().fit(X[:2], ids=["a", "a"]),
    "ids has 1 missing": lambda: LookAlikes().fit(X[:2], ids=["a", None]),
    "both ra and dec": lambda: LookAlikes().fit(X[:2], ra=[0, 1]),
    "ra has 1 missing": lambda: LookAlikes().fit(X[:2], ra=[0, np.nan], dec=[0, 1]),
    "row 1 has 91": lambda: LookAlikes().fit(X[:2], ra=[0, 1], dec=[0, 91]),
    "there are 2 of them, and 3 rows": lambda: LookAlikes().fit(X[:3], ra=[0, 1], dec=[0, 1]),
    "given no ids": lambda: fitted().kneighbors_of(ids="a"),
    "given no positions": lambda: fitted().cone(0, 0, 1),
    "no row has, the first is z": lambda: LookAlikes().fit(X[:2], ids=["a", "b"]).look_up(ids=["a", "z"]),
    "no object within 3.0 arcsec": lambda: LookAlikes().fit(X[:2], ra=[0, 1], dec=[0, 0]).look_up(ra=5, dec=5),
    "in one way": lambda: fitted().look_up(),
    "one way, by rows": lambda: fitted().look_up(1, ids="a"),
    "rows must be from 0 to 2999; got 3000": lambda: fitted().kneighbors_of([0, 3000]),
    "rows must be numbers of rows": lambda: fitted().kneighbors_of(["a"]),
    "radius must be": lambda: LookAlikes().fit(X[:2], ra=[0, 1], dec=[0, 0]).cone(0, 0, -1),
    "liked must have a row": lambda: fitted().more_like([]),
    "none that disliked has": lambda: fitted().more_like([1], [1, 2]),
    "All rows are liked": lambda: fitted(X[:2]).more_like([0, 1]),
    "Unknown device": lambda: fitted(device="abacus"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_refused_in_a_sentence(sentence):
    with pytest.raises(ValueError, match=sentence):
        WRONG[sentence]()


def test_a_refused_fit_leaves_the_earlier_one():
    search = fitted(X[:20])
    with pytest.raises(ValueError, match="NaN"):
        search.fit(np.full((5, 12), np.nan))
    with pytest.raises(ValueError, match="unlike each other"):
        search.fit(X[:5, :3], ids=np.zeros(5, int))
    assert search.n_samples_fit_ == 20
    assert search.kneighbors(X[:1])[1][0, 0] == 0
    assert len(nearest(X, X[:3], 2)[0]) == 3


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-30, 1e-24, 1e19, 1e25])
def test_the_unit_of_the_rows_does_not_matter(metric, scale):
    rows = np.random.default_rng(0).normal(size=(200, 8))
    expected = fitted(rows.astype("f4"), metric=metric).kneighbors()[1]
    for backend in ("torch", "usearch"):
        found = fitted((rows * scale).astype("f4"), metric=metric, backend=backend).kneighbors()[1]
        assert np.mean(found == expected) > (0.98 if backend == "usearch" else 0.9999)


def test_a_parameter_that_was_set_after_fit_is_checked():
    search = fitted(np.eye(9))
    for wrong in ({"metric": "manhattan"}, {"batch_size": 0}, {"backend": "guess"}):
        with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter of LookAlikes"):
            clone(search).set_params(**wrong).fit(np.eye(9))
        with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter of LookAlikes"):
            fitted(np.eye(9)).set_params(**wrong).kneighbors()
        with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter of LookAlikes"):
            fitted(np.eye(9)).set_params(**wrong).more_like([0])
        with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter of LookAlikes"):
            fitted(np.eye(9), backend="usearch").set_params(**wrong).write_index("index")
