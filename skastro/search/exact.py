"""Exact nearest neighbors by torch, part by part: no more of the rows is in memory than a part of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["MEASURES", "ExactSearch", "directions", "nearest", "parts", "pick", "refine", "working_type"]

SPARE = 8  # candidates beyond those asked for, lest the rounding of a matrix product choose
FOLD = 32  # rows of which first only the best is looked at
ROUNDING = 4 * np.finfo(np.float32).eps  # of a squared distance from a matrix product, beside the squared norms
QUERY_BYTES = 1 << 26
SIMILARITIES = 1 << 22  # held at once
SMALL, LARGE = 1e-12, 1e12  # beyond which squares leave single precision
SMALLEST = 1e-280  # square below which double precision ends, and beyond whose inverse


def working_type(dtype: np.dtype) -> np.dtype:
    """Return the precision in which rows of a type are compared: single, unless they have more.

    Parameters
    ----------
    dtype : dtype
        Of the rows.

    Returns
    -------
    dtype

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.search.exact import working_type
    >>> working_type(np.dtype("f2")), working_type(np.dtype("f8"))
    (dtype('float32'), dtype('float64'))
    """
    return np.result_type(dtype, np.float32)


def directions(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length 1, however small they are; a row of zeros stays one.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Finite numbers.

    Returns
    -------
    ndarray of shape (n, d), float64

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.search.exact import directions
    >>> directions(np.array([[0.0, 0.0], [3e-200, 4e-200]])).tolist()
    [[0.0, 0.0], [0.6, 0.8]]
    """
    rows = rows.astype(np.float64)
    squares = np.einsum("ij,ij->i", rows, rows)
    if not ((squares > SMALLEST) & (squares < 1 / SMALLEST)).all():
        largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
        rows /= np.where(largest > 0, largest, 1)
        squares = np.einsum("ij,ij->i", rows, rows)
    rows /= np.sqrt(np.where(squares > 0, squares, 1))[:, np.newaxis]
    return rows


def parts(n: int, size: int) -> Iterator[slice]:
    """Cut rows into parts.

    Parameters
    ----------
    n, size : int
        Number of rows, and of rows in a part.

    Returns
    -------
    iterator of slice

    Examples
    --------
    >>> from skastro.search.exact import parts
    >>> list(parts(5, 3))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def pick(rows: Any, numbers: np.ndarray) -> np.ndarray:
    """Read single rows, which may lie on disk, each once and in the order in which they lie there.

    Parameters
    ----------
    rows : ndarray or Source of shape (n, d)
        All rows.
    numbers : ndarray of int
        Numbers of rows, in any order and shape.

    Returns
    -------
    ndarray of shape (*numbers.shape, d)

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.search.exact import pick
    >>> pick(np.arange(4.0)[:, np.newaxis], np.array([3, 0, 3])).tolist()
    [[3.0], [0.0], [3.0]]
    """
    each, places = np.unique(numbers, return_inverse=True)
    return np.asarray(rows[each])[places.reshape(np.shape(numbers))]


def nearest(
    rows: Any,
    queries: np.ndarray,
    k: int,
    *,
    metric: str = "cosine",
    center: np.ndarray | None = None,
    own: np.ndarray | None = None,
    part: int = 8192,
    device: torch.device | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Find the k nearest rows of each query, comparing it with all of them.

    Candidates come from a matrix product: the rows of the largest :math:`2 q \cdot x - x \cdot x`, with :math:`q` and
    :math:`x` about `center`, and for the cosine of length 1 before. Their distances are then computed one by one in
    double precision. Where these differ so little that the product's rounding may have hidden a nearer row, as within a
    group that is tight beside its distance from the center, the product is repeated in double precision.

    Parameters
    ----------
    rows : ndarray, memory map or Source of shape (n, d)
        What is searched. Slices of it are read, `part` rows at a time.
    queries : ndarray of shape (m, d)
        What is looked for.
    k : int
        Neighbors of each, not more than there are.
    metric : {"cosine", "euclidean"}, default="cosine"
        Distance: 1 - cos, or Euclidean.
    center : ndarray of shape (d,), default=None
        Mean of the rows, of their directions for the cosine. Any point is right, but about one far from the rows
        differences between them are lost in rounding. None is the origin.
    own : ndarray of shape (m,), int, default=None
        Row that each query is itself, and that is no neighbor of it. None if they are other objects.
    part : int, default=8192
        Rows that are compared at a time.
    device : torch.device, default=None
        Where; None is the CPU.

    Returns
    -------
    distances : ndarray of shape (m, k), float64
        Nearest first.
    numbers : ndarray of shape (m, k), int64
        Of the rows; of those equally near, the lower comes first.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.search.exact import nearest
    >>> nearest(np.eye(3), np.array([[1.0, 0.2, 0.0]]), 2, metric="euclidean")[1]
    array([[0, 1]])
    """
    device = torch.device("cpu") if device is None else device
    center = np.zeros(queries.shape[1]) if center is None else center
    search = ExactSearch(rows, metric, center, part, device)
    step = max(1, QUERY_BYTES // (queries.shape[1] * 8))
    found = [search.nearest(queries[few], k, None if own is None else own[few]) for few in parts(len(queries), step)]
    distances, numbers = zip(*found, strict=True)
    return np.concatenate(distances), np.concatenate(numbers)


@dataclass(frozen=True)
class ExactSearch:
    """What is searched, and how: as in `nearest`, for as many queries as fit into memory.

    Parameters
    ----------
    rows : ndarray, memory map or Source of shape (n, d)
        What is searched.
    metric : {"cosine", "euclidean"}
        Distance.
    center : ndarray of shape (d,)
        Point about which rows are compared.
    part : int
        Rows that are compared at a time.
    device : torch.device
        Where.
    """

    rows: Any
    metric: str
    center: np.ndarray
    part: int
    device: torch.device

    def nearest(self, queries: np.ndarray, k: int, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest rows of each query.

        Parameters
        ----------
        queries : ndarray of shape (m, d)
            What is looked for.
        k : int
            Neighbors of each.
        own : ndarray of shape (m,), int, default=None
            Row that each query is itself.

        Returns
        -------
        distances : ndarray of shape (m, k), float64
        numbers : ndarray of shape (m, k), int64
        """
        dtype = working_type(np.result_type(self.rows.dtype, queries.dtype))
        if self.metric == "euclidean" and not SMALL < np.abs(queries - self.center).max(initial=0) < LARGE:
            dtype = np.dtype(np.float64)
        dtype = np.dtype(np.float32) if self.device.type == "mps" else dtype  # which has no double precision
        candidates = self._candidates(queries, k + SPARE, own, dtype, self.device)
        distances, numbers = refine(self.rows, queries, candidates, candidates.shape[1], self.metric)
        if dtype == np.float32 and candidates.shape[1] == k + SPARE:  # else all rows were candidates
            unsure = np.flatnonzero(self._unsure(queries, distances, k))
            if len(unsure):
                some, mine = queries[unsure], None if own is None else own[unsure]
                again = self._candidates(some, k + SPARE, mine, np.dtype(np.float64), torch.device("cpu"))
                distances[unsure, :k], numbers[unsure, :k] = refine(self.rows, some, again, k, self.metric)
        return distances[:, :k], numbers[:, :k]

    def _unsure(self, queries: np.ndarray, distances: np.ndarray, k: int) -> np.ndarray:
        """Tell where rounding may have kept a nearer row from the candidates, which are ordered by their distances."""
        queries = queries.astype(np.float64)  # of half precision, squares may be beyond it
        queries = directions(queries) if self.metric == "cosine" else queries
        squares = 2 * distances if self.metric == "cosine" else distances**2
        size = 2 * np.linalg.norm(queries - self.center, axis=1) + np.sqrt(squares[:, -1])
        return squares[:, -1] - squares[:, k - 1] <= ROUNDING * size**2

    def _candidates(
        self, queries: np.ndarray, k: int, own: np.ndarray | None, dtype: np.dtype, device: torch.device
    ) -> np.ndarray:
        """Find rows that may be the nearest by a matrix product; -1 is none."""
        shift = torch.from_numpy(self.center.astype(dtype)).to(device)
        sought = 2 * self._prepare(queries, dtype, shift)[0]
        mine = None if own is None else torch.from_numpy(own).to(device)
        few, k = max(1, SIMILARITIES // self.part), min(k, len(self.rows))
        best: list[tuple[Tensor, Tensor] | None] = [None] * -(-len(queries) // few)
        for span in parts(len(self.rows), self.part):
            compared, squares = self._prepare(self.rows[span], dtype, shift)
            for number, some in enumerate(parts(len(queries), few)):
                similarity = torch.addmm(squares, sought[some], compared.T, beta=-1)
                if mine is not None:
                    _forget(similarity, mine[some] - span.start)
                values, columns = largest(similarity, k)
                best[number] = _merge(best[number], values, columns + span.start, k)
        numbers = torch.cat([torch.where(values.isneginf(), -1, numbers) for values, numbers in filter(None, best)])
        return numbers.cpu().numpy()

    def _prepare(self, given: Any, dtype: np.dtype, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows about the center, and their squares; for the cosine of length 1, or at a right angle to all."""
        rows = torch.from_numpy(np.array(given, dtype=dtype)).to(shift.device)
        if self.metric == "euclidean":
            rows.sub_(shift)
            return rows, rows.square().sum(1)
        lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        if not bool(((lengths > SMALL) & (lengths < LARGE)).all()):
            rows.div_(torch.where(rows == 0, 1, rows.abs().amax(1, keepdim=True)))
            lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        rows.div_(torch.where(lengths > 0, lengths, 1)).sub_(shift)
        return rows, rows.square().sum(1).add_(lengths.squeeze(1) == 0)


def refine(
    rows: Any, queries: np.ndarray, candidates: np.ndarray, k: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Order candidates by their distances in double precision, and keep the k nearest.

    Parameters
    ----------
    rows : ndarray or Source of shape (n, d)
        What is searched.
    queries : ndarray of shape (m, d)
        What is looked for.
    candidates : ndarray of shape (m, c), int
        Rows that may be the nearest, at least k; -1 is none.
    k : int
        Number of neighbors.
    metric : {"cosine", "euclidean"}
        Distance.

    Returns
    -------
    distances : ndarray of shape (m, k), float64
        Infinite where a candidate is none.
    numbers : ndarray of shape (m, k), int64

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.search.exact import refine
    >>> refine(np.eye(3), np.eye(3)[:1], np.array([[2, 0, 1]]), 2, "euclidean")[1]
    array([[0, 1]])
    """
    distances = np.empty(candidates.shape)
    step = max(1, QUERY_BYTES // (8 * candidates.shape[1] * queries.shape[1]))
    for few in parts(len(queries), step):
        near = pick(rows, np.maximum(candidates[few], 0)).astype(np.float64)
        distances[few] = MEASURES[metric](queries[few].astype(np.float64)[:, np.newaxis], near)
    distances[candidates < 0] = np.inf
    order = np.lexsort((candidates, distances), axis=1)[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(candidates, order, axis=1)


def _euclidean(queries: np.ndarray, near: np.ndarray) -> np.ndarray:
    return np.linalg.norm(near - queries, axis=-1)


def _cosine(queries: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Compute 1 - cos; what is zero has no direction, and is as far as what lies at a right angle."""
    lengths = np.linalg.norm(queries, axis=-1) * np.linalg.norm(near, axis=-1)
    products = np.einsum("mcd,mcd->mc", np.broadcast_to(queries, near.shape), near)
    return np.clip(1 - products / np.where(lengths > 0, lengths, np.inf), 0, 2)


MEASURES = {"cosine": _cosine, "euclidean": _euclidean}


def _forget(similarity: Tensor, places: Tensor) -> None:
    """Take each query itself out of what it is compared with."""
    here = torch.nonzero((places >= 0) & (places < similarity.shape[1])).squeeze(1)
    similarity[here, places[here]] = -torch.inf


def largest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k largest of each row: they lie in the k groups of columns whose maxima are largest.

    Parameters
    ----------
    similarity : Tensor of shape (m, n)
        Values.
    k : int
        Number of them; all, if there are fewer.

    Returns
    -------
    values : Tensor of shape (m, k)
    columns : Tensor of shape (m, k), int64

    Examples
    --------
    >>> import torch
    >>> from skastro.search.exact import largest
    >>> largest(torch.arange(9999.0)[None], 2)[1]
    tensor([[9998, 9997]])
    """
    groups = similarity.shape[1] // FOLD
    if groups < 2 * k:
        values, columns = similarity.topk(min(k, similarity.shape[1]))
        return values, columns
    rest = similarity[:, groups * FOLD :]
    folded = similarity[:, : groups * FOLD].unflatten(1, (FOLD, groups))
    chosen = folded.amax(1).topk(k).indices
    members = folded.gather(2, chosen[:, None].expand(-1, FOLD, -1)).flatten(1)
    values, places = torch.cat([members, rest], 1).topk(k)
    inside = places < FOLD * k
    line, group = places // k, chosen.gather(1, places % k)
    return values, torch.where(inside, line * groups + group, places + groups * FOLD - FOLD * k)


def _merge(before: tuple[Tensor, Tensor] | None, values: Tensor, numbers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if before is None:
        return values, numbers
    values, numbers = torch.cat([before[0], values], 1), torch.cat([before[1], numbers], 1)
    values, places = values.topk(min(k, values.shape[1]))
    return values, numbers.gather(1, places)
