"""Ranks are what a slow search by cosine counts; nobody finds itself, and ties never flatter."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal

from skastro.metrics import retrieval, retrieval_ranks, retrieval_score, retrieval_table


def pairs(n=60, d=5, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, d))
    return images, images + noise * rng.normal(size=(n, d)), rng.integers(4, size=n)


def cosine(a, b):
    return a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)


def slow_rank(i, queries, gallery, labels, alone):
    """Count the wrong rows that are at least as near as the nearest right one."""
    nearness = {j: cosine(queries[i], gallery[j]) for j in range(len(gallery)) if not (alone and i == j)}
    right = [j for j in nearness if (j == i if labels is None else labels[j] == labels[i])]
    best = max(nearness[j] for j in right)
    return 1 + sum(nearness[j] >= best for j in nearness if j not in right)


CASES = {"pairs": (True, False), "pairs by kind": (True, True), "alone by kind": (False, True)}
each_case = pytest.mark.parametrize("case", CASES)


def arguments(case, noise=0.5):
    images, spectra, kinds = pairs(noise=noise)
    across, by_kind = CASES[case]
    return images, spectra if across else None, kinds if by_kind else None


@each_case
def test_ranks_are_those_of_a_slow_search(case):
    queries, gallery, labels = arguments(case)
    found = queries if gallery is None else gallery
    expected = [slow_rank(i, queries, found, labels, gallery is None) for i in range(len(queries))]
    assert_array_equal(retrieval_ranks(queries, gallery, labels=labels), expected)
    assert len(set(expected)) > 3


@each_case
def test_score_is_recall_and_median_of_the_ranks(case):
    queries, gallery, labels = arguments(case)
    ranks = retrieval_ranks(queries, gallery, labels=labels)
    for k in (1, 3, 60):
        expected = {"n": 60, "n_missing": 0, "recall": np.mean(ranks <= k), "median_rank": np.median(ranks)}
        assert retrieval_score(queries, gallery, k=k, labels=labels) == expected


@each_case
def test_chunks_and_lengths_of_rows_say_nothing(case, monkeypatch):
    queries, gallery, labels = arguments(case)
    ranks = retrieval_ranks(queries, gallery, labels=labels)
    length = np.linspace(1e-3, 1e6, 60)[:, np.newaxis]
    assert_array_equal(
        retrieval_ranks(queries * length, None if gallery is None else gallery / length, labels=labels), ranks
    )
    monkeypatch.setattr(retrieval, "CHUNK", 61)
    assert_array_equal(retrieval_ranks(queries, gallery, labels=labels), ranks)


def test_single_precision_is_kept_and_finds_the_same():
    images, spectra, _ = pairs()
    assert_array_equal(
        retrieval_ranks(images.astype(np.float32), spectra.astype(np.float32)), retrieval_ranks(images, spectra)
    )
    loud = (1e25 * images).astype(np.float32)  # whose square overflows
    assert_array_equal(retrieval_ranks(loud, spectra.astype(np.float32)), retrieval_ranks(images, spectra))


def test_nearly_equal_rows_are_found_and_strangers_are_at_chance():
    images, spectra, _ = pairs(noise=1e-3)
    assert retrieval_score(images, spectra, k=1)["recall"] == 1
    strangers = np.random.default_rng(1).normal(size=(2000, 8)), np.random.default_rng(2).normal(size=(2000, 8))
    score = retrieval_score(*strangers, k=100)
    assert score["recall"] == pytest.approx(100 / 2000, abs=0.02)
    assert score["median_rank"] == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, pd.DataFrame])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties_count_against(dtype, kind):
    images, spectra, _ = pairs()
    point = np.tile(images[:1], (60, 1)).astype(dtype) * np.linspace(0.1, 9, 60, dtype=dtype)[:, np.newaxis]
    assert_array_equal(retrieval_ranks(kind(images.astype(dtype)), kind(point)), 60)  # collapsed
    twice = retrieval_ranks(np.vstack([images] * 2).astype(dtype), np.vstack([spectra] * 2).astype(dtype))
    once = retrieval_ranks(images.astype(dtype), spectra.astype(dtype))
    assert_array_equal(twice, np.tile(2 * once, 2))


def test_no_query_finds_itself():
    images, _, _ = pairs()
    ranks = retrieval_ranks(np.vstack([images, -images]), None, labels=np.tile(np.arange(60), 2))
    assert_array_equal(ranks, 119)  # the only right answer left is the opposite


@each_case
def test_missing_modalities_neither_ask_nor_are_found(case):
    queries, gallery, labels = arguments(case)
    gone = np.zeros(60, dtype=bool)
    gone[[3, 17]] = True
    queries[3] = queries[17, 2] = np.nan
    if gallery is not None:
        gone[8] = labels is None
        gallery[8] = np.nan
    ranks = retrieval_ranks(queries, gallery, labels=labels)
    assert_array_equal(np.isnan(ranks), gone)
    score = retrieval_score(queries, gallery, k=5, labels=labels)
    assert (score["n"], score["n_missing"]) == (60 - gone.sum(), gone.sum())
    assert score["recall"] == np.mean(ranks[~gone] <= 5)
    if labels is None:
        there = ~np.isnan(queries).any(axis=1) & ~np.isnan(gallery).any(axis=1)
        both = retrieval_ranks(queries[there], gallery[there])
        assert (both <= ranks[there]).all()  # the others only add wrong answers


def test_kinds_of_one_object_have_no_answer_among_the_others():
    images, _, _ = pairs(4)
    assert_array_equal(np.isnan(retrieval_ranks(images, None, labels=["a", "b", "a", "c"])), [False, True, False, True])
    nothing = retrieval_score(images, None, k=1, labels=range(4))
    assert nothing["n"] == 0
    assert np.isnan([nothing["recall"], nothing["median_rank"]]).all()


def test_the_table_holds_every_pair():
    images, spectra, kinds = pairs()
    images[5] = np.nan
    modalities = {"image": images, "spectrum": spectra}
    table = retrieval_table(modalities, k=(1, 5), labels=kinds)
    assert list(table.columns) == ["n", "n_missing", "recall_at_1", "recall_at_5", "median_rank"]
    assert table.index.names == ["query", "gallery"]
    for (query, gallery), row in table.iterrows():
        found = None if query == gallery else modalities[gallery]
        score = retrieval_score(modalities[query], found, k=5, labels=kinds)
        assert row.drop("recall_at_1").rename({"recall_at_5": "recall"}).to_dict() == score
    assert len(table) == 4
    unlabeled = retrieval_table(modalities)
    same = unlabeled.loc[[("image", "image"), ("spectrum", "spectrum")]]
    assert same.drop(columns=["n", "n_missing"]).isna().all(axis=None)
    assert unlabeled.drop(same.index)["n"].tolist() == [59, 59]
    assert isinstance(unlabeled.index, pd.MultiIndex)


A, B, KINDS = pairs(6)


@pytest.mark.parametrize(
    ("queries", "gallery", "labels", "sentence"),
    [
        (A, B[:-1], None, r"queries and gallery must have one shape; got \(6, 5\) and \(5, 5\)\."),
        (A, A, None, "gallery is the queries again, so that each would find itself"),
        (A, A, KINDS, "gallery is the queries again"),
        (A, None, None, "labels must say which are right"),
        (A, B, KINDS[:-1], r"labels must be one per row, \(6,\); their shape is \(5,\)\."),
        (A[0], B, None, r"queries must be rows of numbers, \(n, d\), and not empty; the shape is \(5,\)\."),
        (A[:0], B[:0], None, "queries must be rows of numbers"),
        (A, np.where(np.arange(6)[:, None] == 2, 0, B), None, "gallery has 1 rows that are zero or infinite, .* row 2"),
        (np.where(np.arange(6)[:, None] > 3, np.inf, A), B, None, "queries has 2 rows that are zero or infinite"),
    ],
)
def test_what_cannot_be_searched_is_refused(queries, gallery, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        retrieval_ranks(queries, gallery, labels=labels)


def test_k_is_at_least_one():
    with pytest.raises(ValueError, match=r"k must be at least 1; got 0\."):
        retrieval_score(A, B, k=0)
    with pytest.raises(ValueError, match=r"k must be at least 1; got -1\."):
        retrieval_table({"a": A, "b": B}, k=[1, -1])


def test_rows_far_from_the_origin_are_told_apart_in_single_precision():
    rng = np.random.default_rng(0)
    images = (rng.normal(size=(60, 8)) + 1000).astype("f4")
    spectra = (images + 1e-2 * rng.normal(size=images.shape)).astype("f4")
    assert retrieval_score(images, spectra, k=1)["recall"] == 1
