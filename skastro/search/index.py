"""Approximate neighbors by usearch: an index beside the rows, which may stay in its file."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skastro._extras import require
from skastro.search.exact import SPARE

__all__ = ["build_index", "candidates", "library", "open_index", "restored", "search_graph"]

KINDS = {"cosine": "cos", "euclidean": "l2sq"}
ROUNDING = 2.0**-9  # of half precision, on whatever machine
SEARCHED = 128  # nodes of the graph that a search keeps in view: twice usearch's default, for recall


def library() -> Any:
    """Import usearch.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not installed; the error names skastro's extra.
    """
    require("An index of neighbors", "usearch", extra="search")
    import usearch.index

    return usearch.index


def restored(path: str | os.PathLike[str]) -> Any:
    """Map the file of an index into memory.

    Parameters
    ----------
    path : str or path-like
        File that usearch wrote.

    Returns
    -------
    usearch.index.Index

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If usearch is not installed.
    ValueError
        If it is no index.
    """
    usearch = library()
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no index {path}.")
    try:
        index = usearch.Index.restore(os.fspath(path), view=True)
    except Exception as error:  # whatever compiled code makes of another file
        raise ValueError(f"{path} is not an index of usearch.") from error
    if index is None:
        raise ValueError(f"{path} is not an index of usearch.")
    return index


def build_index(blocks: Iterable[np.ndarray], width: int, metric: str) -> Any:
    """Build the graph of neighbors of all rows, kept in half precision.

    Parameters
    ----------
    blocks : iterable of ndarray of shape (m, width)
        What will be searched, part by part.
    width : int
        Number of columns.
    metric : {"cosine", "euclidean"}
        Distance.

    Returns
    -------
    usearch.index.Index
        Its keys are the numbers of the rows.

    Raises
    ------
    ImportError
        If usearch is not installed.
    """
    index = library().Index(ndim=width, metric=KINDS[metric], dtype="f16", expansion_search=SEARCHED)
    for block in blocks:
        keys = np.arange(len(index), len(index) + len(block))
        index.add(keys, np.ascontiguousarray(block, dtype=np.float32), threads=torch.get_num_threads())
    return index


def open_index(
    path: str | os.PathLike[str], shape: tuple[int, int], metric: str, numbers: np.ndarray, rows: np.ndarray
) -> Any:
    """Map the file of an index of given rows into memory.

    Parameters
    ----------
    path : str or path-like
        File that `LookAlikes.write_index` wrote.
    shape : tuple of int
        Of the rows that it must belong to.
    metric : {"cosine", "euclidean"}
        Distance that it must be of.
    numbers : ndarray of shape (m,), int
        Some of the rows, by which they are recognized.
    rows : ndarray of shape (m, d)
        What was indexed of these.

    Returns
    -------
    usearch.index.Index

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If usearch is not installed.
    ValueError
        If it is no index, or that of other rows, another order or another metric.
    """
    index = restored(path)
    held = (len(index), index.ndim)
    if held != shape or index.metric_kind != library().Index(ndim=1, metric=KINDS[metric]).metric_kind:
        raise ValueError(f"{path} holds the index of other rows: of shape {held}, not {shape}, or by another metric.")
    same = np.all(index.contains(numbers)) and np.allclose(np.stack(index.get(numbers)), rows, rtol=ROUNDING, atol=1e-4)
    if not same:
        raise ValueError(f"{path} holds the index of other rows, or of these in another order: write it anew.")
    index.expansion_search = SEARCHED
    return index


def candidates(index: Any, queries: np.ndarray, k: int, own: np.ndarray | None) -> np.ndarray:
    """Search the graph for rows that may be the nearest.

    Parameters
    ----------
    index : usearch.index.Index
        Of the rows.
    queries : ndarray of shape (m, d)
        What is looked for.
    k : int
        Neighbors to be found.
    own : ndarray of shape (m,), int or None
        Row that each query is itself.

    Returns
    -------
    ndarray of shape (m, c), int64
        Some more than k; -1 where the graph knew no more.
    """
    keys, _ = search_graph(index, queries, min(k + SPARE + 1, len(index)))
    return keys if own is None else np.where(keys == own[:, np.newaxis], -1, keys)


def search_graph(index: Any, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Search the graph for the keys of what is nearest, and how far it is.

    Parameters
    ----------
    index : usearch.index.Index
        Of the rows.
    queries : ndarray of shape (m, d)
        What is looked for.
    k : int
        Neighbors of each.

    Returns
    -------
    keys : ndarray of shape (m, k), int64
        The nearest first; -1 where the graph knew no more.
    distance : ndarray of shape (m, k), float32
        There infinite.
    """
    found = index.search(np.ascontiguousarray(queries, dtype=np.float32), k, threads=torch.get_num_threads())
    count: Any = getattr(found, "counts", len(found))  # one query is answered by another class, and not filled up to k
    there = np.arange(k) < np.reshape(count, (-1, 1))
    keys, distance = np.full(there.shape, -1), np.full(there.shape, np.inf, dtype=np.float32)
    for whole, given in ((keys, np.atleast_2d(found.keys)), (distance, np.atleast_2d(found.distances))):
        whole[there] = given[there[:, : given.shape[1]]]
    return keys, distance
