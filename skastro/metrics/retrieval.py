"""Metrics of retrieval by cosine similarity of embeddings."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from skastro.inputs import as_array, as_target

__all__ = ["retrieval_ranks", "retrieval_score", "retrieval_table"]

CHUNK = 1 << 23  # similarities held in memory at once
TIE = 8  # similarities within this many roundings are equal


def retrieval_ranks(
    queries: ArrayLike, gallery: ArrayLike | None = None, *, labels: ArrayLike | None = None
) -> np.ndarray:
    r"""Rank the right answer to each query among all rows of a gallery, by cosine similarity.

    .. math:: \cos(q, g) = \frac{q \cdot g}{\|q\|\, \|g\|}

    Parameters
    ----------
    queries : array-like of shape (n, d)
        Embeddings of the objects, in one modality.
    gallery : array-like of shape (n, d), default=None
        Embeddings of the same objects, row by row, in another modality. None searches among the queries
        themselves, each of them without itself.
    labels : array-like of shape (n,), default=None
        Class of each object. With labels, every row of the query's class is a right answer, and the first of them
        counts. Without, only the row of the same object is.

    Returns
    -------
    ndarray of shape (n,)
        Rank of the nearest right answer, 1 being best. NaN where the modality of the query, or that of all its right
        answers, is missing.

    Raises
    ------
    ValueError
        If shapes do not match, a label is missing, a row is infinite or zero and has no direction, `gallery` equals
        the queries, or both `gallery` and `labels` are None, so that no answer is right.

    See Also
    --------
    retrieval_score : Compute recall and median of the ranks.

    Notes
    -----
    A row with a NaN or a masked value is a missing modality. It is neither a query nor an answer.

    Ties count against: a wrong row as near as the right one ranks before it. So an embedding that has collapsed to a
    point scores worst, not as chance.

    The full matrix of similarities is never held in memory.

    Examples
    --------
    >>> from skastro.metrics import retrieval_ranks
    >>> images = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    >>> spectra = [[2.0, 0.1], [1.0, 0.9], [float("nan"), 0.0]]
    >>> retrieval_ranks(images, spectra)
    array([ 1.,  1., nan])
    """
    rounding = max(_rounding(given) for given in (queries, gallery) if given is not None)
    queries, gallery, alone = _check_pairs(queries, gallery, labels)
    kinds = np.arange(len(queries)) if labels is None else _check_labels(labels, len(queries))
    asking, found = ~np.isnan(queries[:, 0]), np.flatnonzero(~np.isnan(gallery[:, 0]))
    ranks = np.full(len(queries), np.nan)
    gallery = gallery[found]
    for rows in _chunks(np.flatnonzero(asking), len(found)):
        similarity = queries[rows] @ gallery.T
        right = kinds[rows, np.newaxis] == kinds[found]
        if alone:
            itself = rows[:, np.newaxis] == found
            similarity[itself], right[itself] = -np.inf, False
        answered = right.any(axis=1)
        best = np.max(similarity, axis=1, where=right, initial=-np.inf, keepdims=True)
        # Rounding turns a row of length 1, which changes its cosine by the sine of the angle.
        tie = TIE * (rounding * np.sqrt(1 - np.clip(best, -1, 1) ** 2) + np.finfo(np.float64).eps)
        before = np.sum((similarity >= best - tie) & ~right, axis=1)
        ranks[rows[answered]] = 1 + before[answered]
    return ranks


def retrieval_score(
    queries: ArrayLike, gallery: ArrayLike | None = None, *, k: int = 10, labels: ArrayLike | None = None
) -> dict[str, float]:
    """Compute how often a right answer is among the k nearest rows of a gallery, by cosine similarity.

    Parameters
    ----------
    queries : array-like of shape (n, d)
        Embeddings of the objects, in one modality.
    gallery : array-like of shape (n, d), default=None
        Embeddings of the same objects, row by row, in another modality. None searches among the queries
        themselves, each of them without itself.
    k : int, default=10
        Number of nearest rows to consider.
    labels : array-like of shape (n,), default=None
        Class of each object. With labels, every row of the query's class is a right answer, and the first of them
        counts. Without, only the row of the same object is.

    Returns
    -------
    dict of float
        ``n``, the number of queries that have a right answer; ``n_missing``, the number that are left out; ``recall``,
        the fraction with the first right answer among the k nearest; ``median_rank`` of that answer, 1 being best. NaN
        without queries.

    Raises
    ------
    ValueError
        As in :func:`retrieval_ranks`; if `k` is less than 1.

    See Also
    --------
    retrieval_ranks : Rank each query; explains ties and missing modalities.
    retrieval_table : Compute the scores of all pairs of modalities.

    Notes
    -----
    By chance, recall is k / n without labels. So only compare it between galleries of one size.

    References
    ----------
    Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, section 6.1, search in this way and
    show examples.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.metrics import retrieval_score
    >>> rng = np.random.default_rng(0)
    >>> images = rng.normal(size=(100, 8))
    >>> spectra = images + 0.5 * rng.normal(size=(100, 8))
    >>> retrieval_score(images, spectra, k=1)
    {'n': 100, 'n_missing': 0, 'recall': 0.88, 'median_rank': 1.0}
    """
    _check_k(k)
    return _summary(retrieval_ranks(queries, gallery, labels=labels), {"recall": k})


def retrieval_table(
    embeddings: Mapping[str, ArrayLike], *, k: Sequence[int] = (1, 5, 10), labels: ArrayLike | None = None
) -> pd.DataFrame:
    """Compute retrieval scores from each modality to each, including itself.

    Parameters
    ----------
    embeddings : mapping of str to array-like of shape (n, d)
        Embeddings of the same objects by the name of the modality, with NaN rows where it is missing.
    k : sequence of int, default=(1, 5, 10)
        Numbers of nearest rows to consider.
    labels : array-like of shape (n,), default=None
        Class of each object: every row of the query's class is then a right answer. Without, only the row of the same
        object is, and a search within one modality has no right answer.

    Returns
    -------
    DataFrame
        One row per pair, indexed by ``query`` and ``gallery``. Columns are ``n``, ``n_missing``, ``recall_at_1`` …, and
        ``median_rank``. Within one modality, the query itself is left out of the gallery, and without labels the scores
        are NaN.

    Raises
    ------
    ValueError
        As in :func:`retrieval_ranks`; if a `k` is less than 1.

    See Also
    --------
    retrieval_score : Compute the scores of one pair.

    References
    ----------
    Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, section 6.1 and figure 2: the four
    pairs of images and spectra.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.metrics import retrieval_table
    >>> rng = np.random.default_rng(0)
    >>> kind = np.repeat([0, 1], 50)
    >>> images, spectra = (kind[:, np.newaxis] + rng.normal(size=(100, 4)) for _ in range(2))
    >>> retrieval_table({"image": images, "spectrum": spectra}, k=[1, 5], labels=kind)
                         n  n_missing  recall_at_1  recall_at_5  median_rank
    query    gallery
    image    image     100          0         0.74         0.96          1.0
             spectrum  100          0         0.69         0.95          1.0
    spectrum image     100          0         0.69         0.94          1.0
             spectrum  100          0         0.71         0.97          1.0
    """
    columns = {f"recall_at_{_check_k(number)}": number for number in k}
    table = {
        (query, gallery): _summary(_pair_ranks(embeddings, query, gallery, labels), columns)
        for query, gallery in product(embeddings, repeat=2)
    }
    return pd.DataFrame(list(table.values()), index=pd.MultiIndex.from_tuples(table, names=["query", "gallery"]))


def _pair_ranks(embeddings: Mapping[str, ArrayLike], query: str, gallery: str, labels: ArrayLike | None) -> np.ndarray:
    if query != gallery:
        return retrieval_ranks(embeddings[query], embeddings[gallery], labels=labels)
    if labels is None:
        return np.full(len(as_array(embeddings[query], query)), np.nan)
    return retrieval_ranks(embeddings[query], None, labels=labels)


def _summary(ranks: np.ndarray, columns: Mapping[str, int]) -> dict[str, float]:
    answered = ranks[~np.isnan(ranks)]
    recalls = {name: float(np.mean(answered <= k)) if len(answered) else np.nan for name, k in columns.items()}
    median = float(np.median(answered)) if len(answered) else np.nan
    return {"n": len(answered), "n_missing": len(ranks) - len(answered), **recalls, "median_rank": median}


def _chunks(rows: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Yield rows, a few at a time, to hold few similarities in memory."""
    step = max(1, CHUNK // max(1, width))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _check_k(k: int) -> int:
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}.")
    return k


def _check_labels(given: ArrayLike, n: int) -> np.ndarray:
    labels = as_target(given, "labels")
    if labels.shape != (n,):
        raise ValueError(f"labels must be one per row, ({n},); their shape is {labels.shape}.")
    return np.unique(labels, return_inverse=True)[1]


def _check_pairs(
    queries: ArrayLike, gallery: ArrayLike | None, labels: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the directions of both, NaN where missing, and whether queries are searched among themselves."""
    directions = _directions("queries", queries)
    if gallery is None:
        if labels is None:
            raise ValueError(
                "Without a gallery each query is searched among the others, and labels must say which are right."
            )
        return directions, directions, True
    others = _directions("gallery", gallery)
    if directions.shape != others.shape:
        raise ValueError(f"queries and gallery must have one shape; got {directions.shape} and {others.shape}.")
    if np.array_equal(directions, others, equal_nan=True):
        raise ValueError("gallery is the queries again, so that each would find itself; leave it out, and give labels.")
    return directions, others, False


def _rounding(given: ArrayLike) -> float:
    """Tell how exact the numbers are that came."""
    dtype = as_array(given).dtype
    return float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


def _directions(name: str, given: ArrayLike) -> np.ndarray:
    """Scale rows to length 1; a row with a NaN becomes a row of only NaN."""
    rows = as_array(given, name).astype(np.float64)  # else those far from the origin have one direction
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"{name} must be rows of numbers, (n, d), and not empty; the shape is {rows.shape}.")
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    bad = np.flatnonzero((length == 0) | np.isinf(length))
    if len(bad):
        raise ValueError(f"{name} has {len(bad)} rows that are zero or infinite, the first is row {bad[0]}.")
    rows /= length[:, np.newaxis]
    return rows
