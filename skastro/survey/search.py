"""Look-alikes in a catalog of embeddings: exact, partition by partition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skastro._extras import require
from skastro.datasets.disk.arrow import flatten_lists
from skastro.inputs import as_array
from skastro.survey.cutouts import column_array, plain_columns

__all__ = ["Search", "embeddings_of", "search_catalog"]


@dataclass(frozen=True)
class Search:
    """What is done with each partition: its rows nearest to each query.

    Parameters
    ----------
    queries : ndarray of shape (q, d)
        Embeddings.
    k : int
        Rows per query.
    column : str
        Column of the embeddings.
    keep : tuple of str
        Columns that go along.
    """

    queries: np.ndarray
    k: int
    column: str
    keep: tuple[str, ...]

    def __call__(self, frame: Any) -> Any:
        """Find them.

        Parameters
        ----------
        frame : DataFrame
            The partition; of no rows, it gives the types of the columns.

        Returns
        -------
        DataFrame
        """
        from skastro.search.exact import nearest

        embeddings = embeddings_of(frame, self.column, self.queries.shape[1])
        there = np.isfinite(embeddings).all(axis=1)  # else of an object that could not be embedded
        frame, embeddings = frame[there], embeddings[there]
        k = min(self.k, len(embeddings))
        if k:
            distances, rows = nearest(embeddings, self.queries, k)
        else:
            distances, rows = np.empty((len(self.queries), 0)), np.empty((len(self.queries), 0), int)
        found = frame[[*self.keep]].iloc[rows.ravel()]
        numbers = np.repeat(np.arange(len(rows)), k)
        return found.assign(query=numbers, similarity=(1 - distances).ravel().astype(np.float32))


def search_catalog(
    catalog: Any, queries: Any, k: int = 10, column: str = "embedding", *, keep: Sequence[str] | None = None
) -> Any:
    """Find the rows of a catalog that are most like each query, exactly.

    Every partition is compared with every query, and the best of all are kept. A search in part of the sky is one of
    ``catalog.cone_search(...)``, which reads the partitions there. The queries travel with the task of each partition:
    ask some hundred at a time; for many, see `EmbeddingIndex`.

    Parameters
    ----------
    catalog : lsdb.Catalog
        With a column of embeddings, as `embed_catalog` makes it.
    queries : array-like of shape (q, d) or (d,)
        Embeddings by the same model.
    k : int, default=10
        Rows per query; fewer if there are not as many. A query that is in the catalog finds itself.
    column : str, default="embedding"
        Column of the embeddings.
    keep : sequence of str or None, default=None
        Columns that go along, beside the positions; None takes all that are no lists.

    Returns
    -------
    DataFrame
        ``query``, the number of the query; ``similarity``, the cosine; and the columns that go along. Sorted by query,
        the most similar first.

    Raises
    ------
    ImportError
        If lsdb is not installed; the error names skastro's extra.
    KeyError
        If there is no such column; the error lists those that there are.
    ValueError
        If the queries are of another length than the embeddings, or not finite.

    See Also
    --------
    EmbeddingIndex : Approximate, for repeated queries.
    """
    require("search_catalog", "lsdb", extra="survey")
    import pandas as pd

    if absent := [name for name in (column, *(keep or ())) if name not in catalog.columns]:
        raise KeyError(f"The catalog has no column {absent[0]!r}; it has {', '.join(catalog.columns)}.")
    asked = np.atleast_2d(as_array(queries, "queries")).astype(np.float32)
    width = getattr(column_array(catalog.meta[column]).type, "list_size", asked.shape[1])
    if asked.ndim != 2 or asked.shape[1] != width:
        raise ValueError(f"queries of shape {asked.shape} do not go with embeddings of {width} values.")
    if not np.isfinite(asked).all():
        raise ValueError("queries must be finite.")
    if k < 1:
        raise ValueError(f"k must be a number of rows; got {k!r}.")
    search = Search(asked, k, column, _along(catalog, keep))
    wanted = catalog[[*search.keep, column]]
    found = pd.DataFrame(wanted.map_partitions(search, meta=search(wanted.meta)).compute(progress_bar=False))
    found = found.sort_values(["query", "similarity"], ascending=[True, False], kind="stable")
    found = found.groupby("query").head(k).reset_index(drop=True)
    return found[["query", "similarity", *search.keep]]


def embeddings_of(frame: Any, column: str, width: int) -> np.ndarray:
    """Take the embeddings of a partition.

    Parameters
    ----------
    frame : DataFrame
        The partition.
    column : str
        Column of lists.
    width : int
        Their length.

    Returns
    -------
    ndarray of shape (n, width)
    """
    return flatten_lists(column_array(frame[column]), [column], (width,)).reshape(-1, width)


def _along(catalog: Any, keep: Sequence[str] | None) -> tuple[str, ...]:
    about = catalog.hc_structure.catalog_info
    return tuple(plain_columns(catalog) if keep is None else dict.fromkeys([*keep, about.ra_column, about.dec_column]))
