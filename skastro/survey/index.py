"""Look-alikes by an approximate index that lies on disk: built part by part, mapped where it is asked."""

import os
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.preprocessing import normalize

from skastro.search.index import library, restored
from skastro.survey.search import embeddings_of

__all__ = ["EmbeddingIndex"]


class EmbeddingIndex:
    """Find nearest neighbors by the cosine, approximately, among more rows than memory holds at full precision.

    Its methods are those of scikit-learn's ``NearestNeighbors``, with identifiers in place of row numbers. The index is
    usearch's graph over float16, in one file: `load` maps it, so that processes share it and start at once.

    Parameters
    ----------
    n_neighbors : int, default=10
        Neighbors that `kneighbors` finds.
    connectivity : int, default=16
        Links of each row: more find more, take more memory and time to build.
    expansion : int, default=64
        Rows looked at in each search: more find more, and take longer.

    Attributes
    ----------
    n_features_in_ : int
        Length of an embedding.
    n_samples_fit_ : int
        Number of rows.

    Examples
    --------
    >>> import numpy as np, pytest
    >>> _ = pytest.importorskip("usearch")
    >>> from skastro.survey import EmbeddingIndex
    >>> rows = np.random.default_rng(0).normal(size=(100, 8))
    >>> index = EmbeddingIndex(n_neighbors=2).fit(rows, ids=np.arange(1000, 1100))
    >>> distance, ids = index.kneighbors(rows[[5]])
    >>> int(ids[0, 0]), ids.shape
    (1005, (1, 2))
    """

    def __init__(self, n_neighbors: int = 10, *, connectivity: int = 16, expansion: int = 64) -> None:
        self.n_neighbors = n_neighbors
        self.connectivity = connectivity
        self.expansion = expansion

    def fit(self, X: Any, ids: Any = None) -> Self:
        """Build the index of rows.

        Parameters
        ----------
        X : array-like of shape (n, d) or lsdb.Catalog
            Embeddings, or a catalog with a column ``"embedding"``, read partition by partition: see `add_catalog`.
        ids : array-like of int of shape (n,) or str, default=None
            Identifiers, none negative; None numbers the rows. Of a catalog, the name of their column.

        Returns
        -------
        EmbeddingIndex
            Itself.

        Raises
        ------
        ImportError
            If usearch is not installed; the error names skastro's extra.
        ValueError
            If identifiers are no integers, negative or repeated.
        """
        self.__dict__.pop("_index", None)
        return self.add_catalog(X, ids) if hasattr(X, "npartitions") and hasattr(X, "columns") else self.add(X, ids)

    def add(self, X: Any, ids: Any = None) -> Self:
        """Add rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Embeddings.
        ids : array-like of int of shape (n,), default=None
            Identifiers; None goes on numbering.

        Returns
        -------
        EmbeddingIndex
            Itself.

        Raises
        ------
        ImportError
            If usearch is not installed; the error names skastro's extra.
        ValueError
            If identifiers are no integers, negative or repeated, rows are of another length, or the index is a mapped
            file.
        """
        rows = np.ascontiguousarray(X, dtype=np.float32)
        if not hasattr(self, "_index"):
            self._index, self._mapped = (
                library().Index(ndim=rows.shape[1], metric="cos", dtype="f16", connectivity=self.connectivity),
                False,
            )
        if self._mapped:
            raise ValueError("A loaded index is mapped from its file, and takes no more rows.")
        self._check(rows)
        first = self.n_samples_fit_
        keys = np.arange(first, first + len(rows)) if ids is None else np.asarray(ids)
        if keys.shape != (len(rows),) or keys.dtype.kind not in "iu" or (len(keys) and keys.min() < 0):
            raise ValueError(
                f"ids must be {len(rows)} integers, none negative; got {keys.dtype} of shape {keys.shape}."
            )
        keys = keys.astype(np.uint64)
        if len(np.unique(keys)) < len(keys) or np.any(self._index.contains(keys)):
            raise ValueError("ids are repeated: each names one row.")
        if len(keys):
            self._index.add(keys, _directions(rows))
        return self

    def add_catalog(self, catalog: Any, ids: str | None = None, column: str = "embedding") -> Self:
        """Add the rows of a catalog, partition by partition: one is in memory at a time.

        Parameters
        ----------
        catalog : lsdb.Catalog
            With a column of embeddings.
        ids : str or None, default=None
            Column of the identifiers; None goes on numbering.
        column : str, default="embedding"
            Column of the embeddings.

        Returns
        -------
        EmbeddingIndex
            Itself.

        Raises
        ------
        KeyError
            If there is no such column; the error lists those that there are.
        """
        wanted = [column] if ids is None else [column, ids]
        if absent := [name for name in wanted if name not in catalog.columns]:
            raise KeyError(f"The catalog has no column {absent[0]!r}; it has {', '.join(catalog.columns)}.")
        width = catalog.meta[column].dtype.pyarrow_dtype.list_size
        chosen = catalog[wanted]
        for number in range(catalog.npartitions):
            frame = chosen.partitions[number].compute(progress_bar=False)
            self.add(embeddings_of(frame, column, width), None if ids is None else np.asarray(frame[ids]))
        return self

    def kneighbors(self, X: Any, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """Find the neighbors of rows.

        Parameters
        ----------
        X : array-like of shape (q, d)
            Embeddings by the same model.
        n_neighbors : int, default=None
            Neighbors of each; None is that of the constructor.
        return_distance : bool, default=True
            Whether distances come along.

        Returns
        -------
        distance : ndarray of shape (q, k), float32
            One minus the cosine, the nearest first; infinite where too few were found. If `return_distance`.
        ids : ndarray of int of shape (q, k)
            Identifiers; -1 where too few were found.

        Raises
        ------
        ValueError
            If there are no rows yet, or rows are of another length.
        """
        if not hasattr(self, "_index"):
            raise ValueError("This EmbeddingIndex has no rows yet: call fit, add or load.")
        rows = np.ascontiguousarray(np.atleast_2d(X), dtype=np.float32)
        self._check(rows)
        k = min(n_neighbors or self.n_neighbors, self.n_samples_fit_)
        self._index.expansion_search = max(self.expansion, k)
        matches = self._index.search(_directions(rows), k)
        count = np.reshape(getattr(matches, "counts", len(matches)), -1)
        there = np.arange(k) < count[:, np.newaxis]
        ids = np.where(there, _padded(matches.keys, k).astype(np.int64), -1)
        distance = np.where(there, _padded(matches.distances, k), np.inf).astype(np.float32)
        return (distance, ids) if return_distance else ids

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a file, in one step.

        Parameters
        ----------
        path : str or path-like
            File to write.
        """
        partial = Path(f"{path}.part")
        self._index.save(str(partial))
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **params: Any) -> Self:
        """Map the index of a file: what is looked at is read.

        Parameters
        ----------
        path : str or path-like
            File that `save` wrote.
        **params : dict
            Parameters of the constructor.

        Returns
        -------
        EmbeddingIndex

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ImportError
            If usearch is not installed; the error names skastro's extra.
        ValueError
            If it is no index.
        """
        index = cls(**params)
        index._index, index._mapped = restored(path), True
        return index

    @property
    def n_features_in_(self) -> int:  # noqa: D102
        return self._index.ndim

    @property
    def n_samples_fit_(self) -> int:  # noqa: D102
        return len(self._index)

    def __repr__(self) -> str:
        return f"EmbeddingIndex(n_neighbors={self.n_neighbors})"

    def _check(self, rows: np.ndarray) -> None:
        if rows.ndim != 2 or rows.shape[1] != self.n_features_in_:
            raise ValueError(f"Rows of shape {rows.shape} do not go with embeddings of {self.n_features_in_} values.")
        if not np.isfinite(rows).all():
            raise ValueError("Embeddings must be finite.")


def _directions(rows: np.ndarray) -> np.ndarray:
    """Make rows of length 1, which half precision holds."""
    return normalize(rows.astype(np.float64)).astype(np.float32)


def _padded(values: Any, k: int) -> np.ndarray:
    """Make rows of what usearch gives for one query or many."""
    rows = np.atleast_2d(np.asarray(values))
    return np.pad(rows, ((0, 0), (0, k - rows.shape[1])))
