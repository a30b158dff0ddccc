"""Look-alikes by an approximate index that lies on disk: built part by part, mapped where it is asked."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np

from skastro.inputs import as_array, as_target, restored_on_failure
from skastro.search.exact import directions, working_type
from skastro.search.index import library, restored, search_graph
from skastro.sources import Source
from skastro.survey.search import embeddings_of
from skastro.unfinished import check_folder, replacing

__all__ = ["EmbeddingIndex"]

SPAN = 65_536  # rows that are added in one go
LARGEST = 2**63 - 1  # identifier that int64 holds, in which -1 is none


class EmbeddingIndex:
    """Find nearest neighbors by the cosine, approximately, among more rows than memory holds at full precision.

    Its methods are those of scikit-learn's ``NearestNeighbors``, with identifiers in place of row numbers. The index is
    usearch's graph over float16, in one file: `load` maps it, so that processes share it and start at once. A pickle
    holds all of it, and what is read from one takes further rows.

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
    >>> import numpy as np
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
            Embeddings, also on disk, of which some are in memory at a time; or a catalog with a column ``"embedding"``,
            read partition by partition: see `add_catalog`.
        ids : array-like of int of shape (n,) or str, default=None
            Identifiers from 0 to 2**63 - 1; None numbers the rows. Of a catalog, the name of their column.

        Returns
        -------
        EmbeddingIndex
            Itself.

        Raises
        ------
        ImportError
            If usearch is not installed; the error names skastro's extra.
        ValueError
            As in `add`; the index is then what it was before.
        """
        with restored_on_failure(self):
            self.__dict__.pop("_index", None)
            return self.add_catalog(X, ids) if hasattr(X, "npartitions") and hasattr(X, "columns") else self.add(X, ids)

    def add(self, X: Any, ids: Any = None) -> Self:
        """Add rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Embeddings.
        ids : array-like of int of shape (n,), default=None
            Identifiers from 0 to 2**63 - 1; None goes on numbering.

        Returns
        -------
        EmbeddingIndex
            Itself.

        Raises
        ------
        ImportError
            If usearch is not installed; the error names skastro's extra.
        ValueError
            If identifiers are no integers, beyond their limits or repeated, rows are not finite or of another length,
            or the index is a mapped file. The index is then what it was before.
        """
        with self._all_or_none() as added:
            self._add(X, ids, added)
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
        ValueError
            As in `add`; the index is then what it was before.
        """
        wanted = [column] if ids is None else [column, ids]
        if absent := [name for name in wanted if name not in catalog.columns]:
            raise KeyError(f"The catalog has no column {absent[0]!r}; it has {', '.join(catalog.columns)}.")
        width = catalog.meta[column].dtype.pyarrow_dtype.list_size
        chosen = catalog[wanted]
        with self._all_or_none() as added:
            for number in range(catalog.npartitions):
                frame = chosen.partitions[number].compute(progress_bar=False)
                self._add(embeddings_of(frame, column, width), None if ids is None else frame[ids], added)
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
            If there are no rows yet, rows are not finite or of another length, or `n_neighbors` is below 1.
        """
        self._need_rows()
        rows = np.atleast_2d(_rows(X, axes=(1, 2)))
        self._check_width(rows)
        _check_finite(rows)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        if not isinstance(k, Integral) or k < 1:
            raise ValueError(f"n_neighbors must be an integer of 1 or more; got {k!r}.")
        k = min(int(k), self.n_samples_fit_)
        self._index.expansion_search = max(self.expansion, k)
        ids, distance = search_graph(self._index, _directions(rows), k)
        return (distance, ids) if return_distance else ids

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a file, in one step.

        Parameters
        ----------
        path : str or path-like
            File to write.

        Raises
        ------
        FileNotFoundError
            If its folder is not there.
        ValueError
            If there are no rows yet.
        """
        self._need_rows()
        check_folder(Path(path))
        with replacing(Path(path)) as partial:
            self._index.save(str(partial))

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

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        return state | {"_index": bytes(self._index.save()), "_mapped": False} if "_index" in state else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "_index" in state:
            self._index = library().Index.restore(state["_index"])

    def _empty(self, width: int) -> Any:
        return library().Index(ndim=width, metric="cos", dtype="f16", connectivity=self.connectivity)

    @contextmanager
    def _all_or_none(self) -> Iterator[list[np.ndarray]]:
        """Take out again what was added in a block that fails, or is interrupted."""
        added: list[np.ndarray] = []
        with restored_on_failure(self):
            before = getattr(self, "_index", None)
            try:
                yield added
            except BaseException:
                if before is not None:
                    for keys in added:
                        before.remove(keys)
                raise

    def _add(self, X: Any, ids: Any, added: list[np.ndarray]) -> None:
        """Add rows, which may be on disk, some at a time, and note their keys."""
        rows = X if isinstance(X, np.ndarray | Source) and X.ndim == 2 else _rows(X)
        if not hasattr(self, "_index"):
            self._index, self._mapped = self._empty(rows.shape[1]), False
        if self._mapped:
            raise ValueError("A loaded index is mapped from its file, and takes no more rows.")
        self._check_width(rows)
        keys = self._keys(ids, len(rows))
        for start in range(0, len(rows), SPAN):
            some = _rows(rows[start : start + SPAN])
            _check_finite(some)
            added.append(keys[start : start + SPAN])
            self._index.add(added[-1], _directions(some))

    def _need_rows(self) -> None:
        if not hasattr(self, "_index"):
            raise ValueError("This EmbeddingIndex has no rows yet: call fit, add or load.")

    def _check_width(self, rows: Any) -> None:
        if rows.shape[1] != self.n_features_in_:
            raise ValueError(f"Rows of shape {rows.shape} do not go with embeddings of {self.n_features_in_} values.")

    def _keys(self, ids: Any, n: int) -> np.ndarray:
        keys = np.arange(n) + self.n_samples_fit_ if ids is None else as_target(ids, "ids")
        if keys.shape != (n,) or keys.dtype.kind not in "iu" or (n and (keys.min() < 0 or keys.max() > LARGEST)):
            raise ValueError(
                f"ids must be {n} integers from 0 to 2**63 - 1, or None; got {keys.dtype} of shape {keys.shape}."
            )
        keys = keys.astype(np.uint64)
        known, first = np.unique(keys, return_index=True)
        again = keys[np.setdiff1d(np.arange(n), first)] if len(known) < n else keys[self._index.contains(keys)]
        if len(again):
            raise ValueError(f"ids are repeated, {again[0]} among them: each names one row.")
        return keys


def _rows(X: Any, axes: tuple[int, ...] = (2,)) -> np.ndarray:
    """Read rows, or where it may be a single one."""
    rows = as_array(X)
    rows = np.ascontiguousarray(rows, dtype=working_type(rows.dtype))
    if rows.ndim not in axes:
        raise ValueError(f"X must be rows of an embedding, (n, d); its shape is {rows.shape}.")
    return rows


def _check_finite(rows: np.ndarray) -> None:
    if not np.isfinite(rows).all():
        raise ValueError("Embeddings must be finite.")


def _directions(rows: np.ndarray) -> np.ndarray:
    """Make rows of length 1, which half precision holds."""
    return directions(rows).astype(np.float32)
