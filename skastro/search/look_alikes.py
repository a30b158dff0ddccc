"""Look-alikes: similarity search in embeddings, by rows, identifiers, positions and examples."""

import os
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skastro.devices import resolve_device
from skastro.inputs import as_target, check_rows, restored_on_failure
from skastro.search.exact import directions, nearest, parts, pick, refine
from skastro.search.index import build_index, candidates, open_index
from skastro.search.sky import check_positions, check_radius, cone
from skastro.unfinished import check_folder, replacing

__all__ = ["LookAlikes"]

QUERIES = 8192  # rows of `fit` that are looked for in one go
KNOWN = 64  # rows by which those of an index are recognized
BACKGROUND = 500  # rows that stand for all in a search by examples
HALF = 6e4  # what half precision holds


class LookAlikes(BaseEstimator):
    """Search embeddings for the nearest neighbors of an object, in the words of scikit-learn's ``NearestNeighbors``.

    The rows may be an array, a memory map, or rows that stay on disk (:func:`skastro.datasets.open_spectra`): they are
    read part by part, so that memory does not grow with their number. To search by an image, give what the embedder
    makes of it: ``search.kneighbors(embedder.transform(images))``, best of an embedder with ``average="dihedral"``,
    which turns do not move.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of neighbors to find, if a search does not say.
    metric : {"cosine", "euclidean"}, default="cosine"
        Distance: 1 less the cosine of the angle, or Euclidean.
    backend : {"torch", "usearch"}, default="torch"
        ``"torch"`` compares with every row, and is exact. ``"usearch"`` follows a graph of neighbors in half precision,
        which is some ten times as fast and misses a few (extra ``search``); the distances it gives are exact.
    batch_size : int, default=8192
        Rows that are read and compared at a time.
    device : str, default="auto"
        Device of the exact search: ``"auto"`` (CUDA if available) or a torch device.

    Attributes
    ----------
    rows_ : ndarray, memory map or Source of shape (n, d)
        What is searched; not a copy.
    mean_, scale_ : ndarray of shape (d,), float64
        Mean and standard deviation of the columns.
    center_ : ndarray of shape (d,), float64
        Point about which distances are computed: the mean, or for the cosine that of the directions.
    ids_ : ndarray of shape (n,) or None
        Identifiers.
    ra_, dec_ : ndarray of shape (n,), float64, or None
        Positions in degrees.
    n_samples_fit_ : int
        Number of rows.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (d,), str
        Names of the columns, if `X` has any.

    See Also
    --------
    sklearn.neighbors.NearestNeighbors : The same by trees, or for other metrics.
    skastro.search.find_duplicates : Find the same object twice.

    Notes
    -----
    A file of `skastro.save` and a pickle hold all rows, and not the index of ``backend="usearch"``, which is built
    again when first used, unless `open_index` maps its own file. With several threads an index is not the same twice.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skastro.search import LookAlikes
    >>> digits = load_digits()
    >>> search = LookAlikes(n_neighbors=3).fit(PCA(16, random_state=0).fit_transform(digits.data))
    >>> distances, rows = search.kneighbors_of([0, 1])
    >>> digits.target[rows]
    array([[0, 0, 0],
           [1, 1, 1]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "metric": [StrOptions({"cosine", "euclidean"})],
        "backend": [StrOptions({"torch", "usearch"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
    }
    ra_: Any
    dec_: Any
    # Requested by default: they have only one possible use.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"ids": True, "ra": True, "dec": True}

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        metric: str = "cosine",
        backend: str = "torch",
        batch_size: int = 8192,
        device: str = "auto",
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.backend = backend
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Any, y: Any = None, *, ids: Any = None, ra: Any = None, dec: Any = None) -> Self:
        """Take the rows that will be searched, and with ``backend="usearch"`` build the index.

        Parameters
        ----------
        X : array-like or Source of shape (n, d)
            Embeddings.
        y : ignored
            Present for scikit-learn.
        ids : array-like of shape (n,), default=None
            Identifier of each row, a string or an integer, no two alike.
        ra, dec : array-like of shape (n,), default=None
            Positions in degrees, or angles with a unit of astropy.

        Returns
        -------
        LookAlikes
            Itself.

        Raises
        ------
        ImportError
            If the backend is not installed; the error names skastro's extra.
        ValueError
            If a parameter is invalid; a value of `X` is NaN or infinite (how many, and the first row); identifiers or
            positions are not one per row, are missing, or two identifiers are alike.
        """
        self._validate_params()
        resolve_device(self.device)
        with restored_on_failure(self):
            rows = check_rows(
                self, X, reset=True, lazy=True, dtype="numeric", ensure_all_finite=False, ensure_min_samples=1
            )
            if rows.ndim != 2:
                raise ValueError(f"X must be rows of an embedding, (n, d); its shape is {rows.shape}.")
            names, position = _check_ids(ids, len(rows)), _check_sky(ra, dec, len(rows))
            mean, deviation, heading = _moments(rows, self.batch_size)
            self.rows_, self.n_samples_fit_ = rows, len(rows)
            self.mean_, self.scale_ = mean, np.where(deviation > 0, deviation, 1.0)
            self.center_ = heading if self.metric == "cosine" else mean
            self.ids_, (self.ra_, self.dec_) = names, position
            self._unit, self._index = np.linalg.norm(deviation) / len(deviation) ** 0.5 or 1.0, None
            if self.backend == "usearch":
                self._built()
        return self

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """Find the nearest rows of each embedding.

        Parameters
        ----------
        X : array-like of shape (m, d), default=None
            Embeddings to look for. None looks for each row of `fit`, which is then no neighbor of its own.
        n_neighbors : int, default=None
            Number of neighbors; None is that of the constructor.
        return_distance : bool, default=True
            Whether to return the distances too.

        Returns
        -------
        distances : ndarray of shape (m, n_neighbors), float64
            Nearest first; only with `return_distance`.
        neighbors : ndarray of shape (m, n_neighbors), int64
            Numbers of the rows. Of rows equally near, the lower comes first; which of them are left out behind the
            last place is chance.

        Raises
        ------
        ValueError
            If there are not as many neighbors, or `X` has other columns than the rows or values that are NaN or
            infinite.
        """
        self._check_ready()
        if X is None:
            return self._among(np.arange(self.n_samples_fit_), n_neighbors, return_distance)
        queries = check_rows(self, X, reset=False, dtype="numeric")
        k = self._check_neighbors(n_neighbors, self.n_samples_fit_)
        return _answer(self._search(queries, k, None), return_distance)

    def kneighbors_of(
        self,
        rows: Any = None,
        *,
        ids: Any = None,
        ra: Any = None,
        dec: Any = None,
        radius: float = 3.0,
        n_neighbors: int | None = None,
        return_distance: bool = True,
    ) -> Any:
        """Find the nearest rows of some rows, which are named by number, identifier or position.

        Parameters
        ----------
        rows, ids, ra, dec, radius : object
            What to look for, as in `look_up`. No row is a neighbor of its own.
        n_neighbors : int, default=None
            Number of neighbors; None is that of the constructor.
        return_distance : bool, default=True
            Whether to return the distances too.

        Returns
        -------
        distances : ndarray of shape (m, n_neighbors), float64
            Nearest first; only with `return_distance`.
        neighbors : ndarray of shape (m, n_neighbors), int64
            Numbers of the rows.

        Raises
        ------
        ValueError
            As in `look_up`; if there are not as many neighbors.
        """
        found = self.look_up(rows, ids=ids, ra=ra, dec=dec, radius=radius)
        return self._among(found, n_neighbors, return_distance)

    def look_up(
        self, rows: Any = None, *, ids: Any = None, ra: Any = None, dec: Any = None, radius: float = 3.0
    ) -> np.ndarray:
        """Find the numbers of rows, which are named in one of three ways.

        Parameters
        ----------
        rows : int or array-like of int, default=None
            Numbers of the rows.
        ids : str, int or array-like of them, default=None
            Identifiers that `fit` was given.
        ra, dec : float or array-like of float, default=None
            Positions in degrees, or angles with a unit of astropy; each is of the nearest object.
        radius : float, default=3.0
            How far that may be, in arcseconds, or an angle with a unit.

        Returns
        -------
        ndarray of shape (m,), int64

        Raises
        ------
        ValueError
            If rows are named in no way or in two, by what `fit` was not given, or one is not there.
        """
        self._check_ready()
        ways = [name for name, value in (("rows", rows), ("ids", ids), ("ra and dec", ra)) if value is not None]
        if len(ways) != 1 and not (not ways and dec is not None):
            raise ValueError(f"Name the rows in one way, by rows, by ids, or by ra and dec; got {ways or 'none'}.")
        if rows is not None:
            return _check_numbers("rows", rows, self.n_samples_fit_)
        return self._by_id(ids) if ids is not None else self._by_position(ra, dec, radius)

    def cone(self, ra: float, dec: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Find the rows within a radius of a position on the sky, nearest first.

        Parameters
        ----------
        ra, dec : float
            Center in degrees, or angles with a unit of astropy.
        radius : float
            In arcseconds, or an angle with a unit.

        Returns
        -------
        separations : ndarray of shape (m,), float64
            In arcseconds.
        rows : ndarray of shape (m,), int64
            Their numbers.

        Raises
        ------
        ValueError
            If `fit` was given no positions, or this one lies nowhere on the sky.
        """
        self._check_ready()
        self._need_positions()
        (at_ra,), (at_dec,) = check_positions(ra, dec)
        rows, separations = cone(self.ra_, self.dec_, at_ra, at_dec, radius)
        return separations, rows

    def more_like(self, liked: Any, disliked: Any = ()) -> np.ndarray:
        """Score all rows by how much more they are like some than like others.

        A linear classifier, fitted on the spot, tells the liked from the disliked, and from 500 rows that stand for
        all, on columns of unit variance. The three sorts weigh the same.

        Parameters
        ----------
        liked : int or array-like of int
            Numbers of rows to find more of.
        disliked : int or array-like of int, default=()
            Numbers of rows to find fewer of.

        Returns
        -------
        ndarray of shape (n,), float64
            The higher, the more alike; 0 is undecided. ``np.argsort(-scores)`` ranks the rows.

        Raises
        ------
        ValueError
            If nothing is liked, a row is not there, or one is both liked and disliked.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_digits
        >>> from skastro.search import LookAlikes
        >>> digits = load_digits()
        >>> scores = LookAlikes().fit(digits.data).more_like(liked=[1, 11], disliked=[8])
        >>> digits.target[np.argsort(-scores)[:5]]
        array([1, 1, 1, 1, 1])
        """
        self._check_ready()
        n = self.n_samples_fit_
        liked, disliked = (_check_numbers(*given, n) for given in (("liked", liked), ("disliked", disliked)))
        if not len(liked) or len(np.intersect1d(liked, disliked)):
            raise ValueError("liked must have a row, and none that disliked has too.")
        every = _spread(n, BACKGROUND)
        others = np.setdiff1d(every, np.concatenate([liked, disliked]))
        sorts = [sort for sort in (liked, disliked, others) if len(sort)]
        if len(sorts) == 1:
            raise ValueError("All rows are liked: there are none to tell them from.")
        numbers = np.concatenate(sorts)
        weight = np.concatenate([np.full(len(sort), len(numbers) / len(sorts) / len(sort)) for sort in sorts])
        classifier = LogisticRegression(class_weight=None, C=0.1, max_iter=1000)
        classifier.fit(self._standardized(pick(self.rows_, numbers)), np.isin(numbers, liked), sample_weight=weight)
        scores = [
            classifier.decision_function(self._standardized(self.rows_[span])) for span in parts(n, self.batch_size)
        ]
        return np.concatenate(scores)

    def write_index(self, path: str | os.PathLike[str]) -> None:
        """Write the index of ``backend="usearch"`` to a file, in one step, for `open_index`.

        Parameters
        ----------
        path : str or path-like
            File to write.

        Raises
        ------
        FileNotFoundError
            If its folder is not there.
        ValueError
            If the backend is another, which has no index.
        """
        self._check_ready()
        self._need_index()
        check_folder(Path(path))
        with replacing(Path(path)) as partial:
            self._built().save(os.fspath(partial))

    def open_index(self, path: str | os.PathLike[str]) -> Self:
        """Use the index in a file, which is mapped into memory and not read whole.

        Compiled code follows the file without looking: open only what you wrote.

        Parameters
        ----------
        path : str or path-like
            File that `write_index` wrote for the same rows.

        Returns
        -------
        LookAlikes
            Itself.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not the index of these rows, in this order and by the same metric, or the backend is another.
        """
        self._check_ready()
        self._need_index()
        some = _spread(self.n_samples_fit_, KNOWN)
        rows = self._graded(pick(self.rows_, some))
        self._index, self._metric = open_index(path, self.rows_.shape, self.metric, some, rows), self.metric
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "rows_" in state:
            state |= {"rows_": np.asarray(state["rows_"]), "_index": None}
        return state

    def _among(self, rows: np.ndarray, n_neighbors: int | None, return_distance: bool) -> Any:
        k = self._check_neighbors(n_neighbors, self.n_samples_fit_ - 1)
        blocks = []
        for span in parts(len(rows), QUERIES):
            own = rows[span]
            blocks.append(self._search(pick(self.rows_, own), k, own))
        distances, neighbors = zip(*blocks, strict=True) if blocks else ([np.empty((0, k))], [np.empty((0, k), int)])
        return _answer((np.concatenate(distances), np.concatenate(neighbors)), return_distance)

    def _search(self, queries: np.ndarray, k: int, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        if self.backend == "torch":
            return self._exactly(queries, k, own)
        found = candidates(self._built(), self._graded(queries), k, own)
        short = np.sum(found >= 0, axis=1) < k  # where the graph breaks off, as among many copies of a row
        answer = refine(self.rows_, queries, found, k, self.metric)
        if short.any():
            exact = self._exactly(queries[short], k, None if own is None else own[short])
            distances, neighbors = (np.empty((len(queries), k), values.dtype) for values in exact)
            for whole, some, rest in zip((distances, neighbors), answer, exact, strict=True):
                whole[~short], whole[short] = some[~short], rest
            return distances, neighbors
        return answer

    def _exactly(self, queries: np.ndarray, k: int, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        center, device = self.center_, resolve_device(self.device)
        return nearest(
            self.rows_, queries, k, metric=self.metric, center=center, own=own, part=self.batch_size, device=device
        )

    def _built(self) -> Any:
        if self._index is None or self._metric != self.metric:
            graded = (self._graded(self.rows_[span]) for span in parts(self.n_samples_fit_, self.batch_size))
            self._index, self._metric = build_index(graded, self.rows_.shape[1], self.metric), self.metric
        return self._index

    def _graded(self, rows: Any) -> np.ndarray:
        """Bring rows to a size that half precision holds, which changes no order of distances."""
        rows = np.asarray(rows, dtype=np.float64)
        if self.metric == "cosine":
            return directions(rows)
        return np.clip((rows - self.mean_) / self._unit, -HALF, HALF)

    def _standardized(self, rows: Any) -> np.ndarray:
        return (np.asarray(rows, dtype=np.float64) - self.mean_) / self.scale_

    def _by_id(self, ids: Any) -> np.ndarray:
        if self.ids_ is None:
            raise ValueError("fit was given no ids: search by row, or fit with ids=.")
        wanted = _as_ids(np.atleast_1d(as_target(ids, "ids")), self.ids_.dtype)
        order = np.argsort(self.ids_, kind="stable")
        places = np.minimum(np.searchsorted(self.ids_, wanted, sorter=order), len(order) - 1)
        found = order[places]
        absent = np.flatnonzero(self.ids_[found] != wanted)
        if len(absent):
            raise ValueError(f"ids has {len(absent)} that no row has, the first is {wanted[absent[0]]!s}.")
        return found

    def _by_position(self, ra: Any, dec: Any, radius: float) -> np.ndarray:
        self._need_positions()
        found, radius = [], check_radius(radius)
        for at_ra, at_dec in zip(*check_positions(ra, dec), strict=True):
            rows, _ = cone(self.ra_, self.dec_, at_ra, at_dec, radius)
            if not len(rows):
                raise ValueError(f"There is no object within {radius} arcseconds of ra {at_ra}, dec {at_dec}.")
            found.append(rows[0])
        return np.array(found, dtype=np.int64)

    def _need_positions(self) -> None:
        if self.ra_ is None:
            raise ValueError("fit was given no positions: fit with ra= and dec=.")

    def _need_index(self) -> None:
        if self.backend != "usearch":
            raise ValueError(f'backend="{self.backend}" has no index: backend="usearch" has.')

    def _check_ready(self) -> None:
        check_is_fitted(self)
        self._validate_params()  # of which some may have been set since fit

    def _check_neighbors(self, n_neighbors: int | None, most: int) -> int:
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        if not isinstance(k, Integral) or not 1 <= k <= most:
            raise ValueError(f"n_neighbors must be from 1 to {most}, the number of rows to be found; got {k}.")
        return int(k)


def _spread(n: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def _answer(found: tuple[np.ndarray, np.ndarray], return_distance: bool) -> Any:
    return found if return_distance else found[1]


def _moments(rows: Any, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute mean and deviation of the columns and the mean direction in one pass; refuse what is not finite."""
    n, bad, first = 0, 0, -1
    mean, squares, heading = np.zeros((3, rows.shape[1]))
    for span in parts(len(rows), size):
        some = np.asarray(rows[span], dtype=np.float64)
        finite = np.isfinite(some)
        if not finite.all():
            first = span.start + int(np.flatnonzero(~finite.all(axis=1))[0]) if first < 0 else first
            bad += int(np.sum(~finite))
            continue
        shift = some.mean(axis=0) - mean  # Chan's update, which subtracts no large sums of squares
        total = n + len(some)
        squares += some.var(axis=0) * len(some) + shift**2 * n * len(some) / total
        mean += shift * len(some) / total
        n = total
        heading += directions(some).sum(axis=0)
    if bad:
        raise ValueError(f"X has {bad} values that are NaN or infinite, the first in row {first}.")
    return mean, np.sqrt(squares / n), heading / n


def _check_ids(ids: Any, n: int) -> np.ndarray | None:
    if ids is None:
        return None
    names = as_target(ids, "ids")
    names = names.astype(str) if names.dtype == object else names
    if names.shape != (n,) or names.dtype.kind not in "iuSU":
        raise ValueError(
            f"ids must be strings or integers, one per row, ({n},); got shape {names.shape} of {names.dtype}."
        )
    unique, counts = np.unique(names, return_counts=True)
    if len(unique) < n:
        raise ValueError(f"ids must be unlike each other; {unique[counts > 1][0]!s} stands in several rows.")
    return names


def _as_ids(wanted: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Make identifiers of the type of those that are searched, without a change of any."""
    if dtype.kind in "SU":
        return wanted.astype(dtype.kind)  # of any length
    if wanted.dtype.kind not in "iu" or np.any(wanted.astype(dtype) != wanted):
        raise ValueError(f"ids are integers of {dtype}; got {wanted.dtype}, the first is {wanted[0]!s}.")
    return wanted.astype(dtype)


def _check_sky(ra: Any, dec: Any, n: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    if ra is None and dec is None:
        return None, None
    position = check_positions(ra, dec)
    if len(position[0]) != n:
        raise ValueError(f"ra and dec must be one per row; there are {len(position[0])} of them, and {n} rows.")
    return position


def _check_numbers(name: str, given: ArrayLike, n: int) -> np.ndarray:
    numbers = np.atleast_1d(np.asarray(given))
    numbers = numbers.astype(np.int64) if not numbers.size else numbers
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise ValueError(f"{name} must be numbers of rows; got {numbers.dtype} of shape {numbers.shape}.")
    if numbers.size and (numbers.min() < 0 or numbers.max() >= n):
        raise ValueError(f"{name} must be from 0 to {n - 1}; got {numbers[(numbers < 0) | (numbers >= n)][0]}.")
    return numbers.astype(np.int64)
