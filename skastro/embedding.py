"""Embeddings of more objects than memory holds: written as they come, and gone on with where they stopped."""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import PicklingError
from typing import Any, ClassVar

import joblib
import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from pandas.api.extensions import ExtensionArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from skastro import ranks
from skastro._extras import require
from skastro._warning import warn
from skastro.inputs import as_column, as_text
from skastro.persistence import load, parts, without_callbacks
from skastro.training.config import Training
from skastro.training.fingerprints import IGNORED
from skastro.unfinished import HASHED, Unfinished, as_written, sampled

__all__ = ["embed"]

METHODS = ("transform", "predict", "predict_proba")
PART = 16_384  # rows between two looks at the disk
NAMED = 5  # rows that a warning names
SETTINGS = {*IGNORED, "batch_size", "cv_results_", "refit_time_"}  # which change no answer, or only its last digits
UNREADABLE = (ValueError, FileNotFoundError)  # what reading an object, or asking for its answer, may end in


def embed(
    model: Any,
    X: Any,
    out: str | os.PathLike[str],
    *,
    columns: Any = None,
    method: str = "transform",
    part: int = PART,
    invalid: str = "raise",
    verbose: int = 1,
) -> Path:
    """Embed objects part by part into a file; run again after an interruption, it goes on where it stopped.

    Parameters
    ----------
    model : estimator, str or path-like
        Fitted embedder or pipeline, or the file of one.
    X : array-like of shape (n, ...)
        What the model takes: an array, a memory map, or images that stay on disk. Slices of it are handed on.
    out : str or path-like
        File to write, by its suffix: ``.npy`` (one array), ``.zarr`` or ``.parquet`` (a folder of parts, which readers
        of Parquet take as one table).
    columns : DataFrame or mapping of str to array-like of shape (n,), default=None
        What goes along, such as identifiers and positions: columns in ``.parquet``, arrays in ``.zarr``; beside
        ``name.npy`` they are ``name.csv``. Bytes, as HDF5 keeps strings, are written as text, and so are integers with
        missing values in ``.zarr``, which has none.
    method : {"transform", "predict", "predict_proba"}, default="transform"
        What the model is asked for; the answers must be numbers.
    part : int, default=16384
        Rows that are embedded and written in one go. No more is lost by an interruption, or held in memory.
    invalid : {"raise", "nan"}, default="raise"
        What is done with an object that cannot be read or that the model refuses, such as a broken file or missing
        pixels: an error, after which the same call can go on with ``"nan"``; or a row of NaN, of which a warning tells.
        A part without one valid object is an error.
    verbose : int, default=1
        1 shows a progress bar.

    Returns
    -------
    Path
        The file. Under its name it is always whole: what is unfinished has ``.part`` behind it. Of several processes
        that torchrun started the first writes, and the others do not wait for it.

    Raises
    ------
    FileExistsError
        If the file is there already, or a ``.csv`` of that name.
    FileNotFoundError
        If its folder is not there.
    OSError
        If the disk is full; what was written before stays, and the next run goes on after it.
    ImportError
        If the library of the format is not installed; the error names skastro's extra.
    ValueError
        If the suffix is unknown, X is a path or empty, columns are of another length or one is called ``embedding``,
        the answers are no numbers, what is unfinished was begun with another model, other objects or other columns (but
        ``batch_size``, ``device`` and the like may change), or another process writes it now.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skastro import FixedImageEmbedder, embed
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> embedder = FixedImageEmbedder("test_resnet", random_state=0).fit(images)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.load(embed(embedder, images, f"{folder}/rows.npy", verbose=0)).shape
    (8, 736)
    """
    out = Path(out)
    ranks.join()
    if ranks.rank() > 0:  # the first writes
        return out
    columns = {name: as_text(as_column(values, name)) for name, values in ({} if columns is None else columns).items()}
    unfinished = Unfinished(out)
    _check(X, out, columns, method, part, invalid)
    model = load(model) if isinstance(model, str | os.PathLike) else model
    check_is_fitted(model)
    _check_answers(model, X, method)
    identity = {
        "model": _identity(model),
        "objects": _known(X, invalid),
        "columns": joblib.hash(columns),
        "method": method,
    }
    with unfinished.claim(identity):
        writer = WRITERS[out.suffix](unfinished, len(X), columns)
        wrong: dict[int, Exception] = {}
        with tqdm(total=len(X), initial=unfinished.done, unit=" rows", disable=not verbose) as bar:
            while (start := unfinished.done) < len(X):
                rows, refused = _rows(getattr(model, method), X, start, min(start + part, len(X)), invalid)
                wrong |= refused
                writer.write(start, rows)
                bar.update(unfinished.done - start)
        writer.close()
        _tell(wrong, len(X))
        return unfinished.finish()


def _identity(model: Any) -> str:
    """Describe what a model would answer, so that another is told apart."""
    with without_callbacks(model), _without_settings(model):
        try:
            return str(joblib.hash(model))
        except (PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"This {type(model).__name__} cannot be pickled, by which a later call would know it again: {error}"
            ) from error


@contextmanager
def _without_settings(model: Any) -> Iterator[None]:
    """Forget what does not change an answer, for the duration of a block."""
    held: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for part in parts(model):
            if isinstance(part, BaseEstimator):
                state = vars(part)
                held += [(state, key, state[key]) for key in (SETTINGS | {"training"}) & state.keys()]
                state |= dict.fromkeys(SETTINGS & state.keys())
                if state.get("training", part) is None:
                    state["training"] = Training()  # as which None is taken; parts comes to it next
        yield
    finally:
        for state, key, value in held:
            state[key] = value


def _known(X: Any, invalid: str) -> str:
    """Describe objects, so that others are told apart."""
    try:
        some: Any = sampled(X)
    except UNREADABLE:
        if invalid == "raise":
            raise
        some = [_read(X, row) for row in range(0, len(X), -(-len(X) // HASHED))]
    return str(joblib.hash((np.shape(X), some)))


def _read(X: Any, row: int) -> np.ndarray | None:
    try:
        return np.asarray(X[row : row + 1])
    except UNREADABLE:
        return None


def _rows(
    ask: Callable[[Any], Any], X: Any, start: int, stop: int, invalid: str
) -> tuple[np.ndarray, dict[int, Exception]]:
    """Ask for the answers of a part, with NaN for objects that are refused, and tell which these are."""
    if invalid == "raise":
        with _counted_from(start):
            return as_written(ask(X[start:stop])), {}
    wrong: dict[int, Exception] = {}
    found = dict(_readable(ask, X, start, stop, wrong))
    first = next(iter(found.values()), None)
    if first is None or (wrong and first.dtype.kind != "f"):
        with _counted_from(min(wrong)):
            raise wrong[min(wrong)]
    rows = np.full((stop - start, first.shape[1]), np.nan if wrong else 0, first.dtype)
    for begin, some in found.items():
        rows[begin - start : begin - start + len(some)] = some
    return rows, wrong


def _readable(
    ask: Callable[[Any], Any], X: Any, start: int, stop: int, wrong: dict[int, Exception]
) -> Iterator[tuple[int, np.ndarray]]:
    """Find the stretches of objects that have answers by halving those that do not, and note the others."""
    try:
        with _counted_from(start, errors=False):
            rows = as_written(ask(X[start:stop]))
    except UNREADABLE as error:
        if stop - start == 1:
            wrong[start] = error
            return
        middle = (start + stop) // 2
        yield from _readable(ask, X, start, middle, wrong)
        yield from _readable(ask, X, middle, stop, wrong)
    else:
        yield start, rows


def _tell(wrong: Mapping[int, Exception], n: int) -> None:
    if wrong:
        first = min(wrong)
        named = ", ".join(str(row) for row in sorted(wrong)[:NAMED])
        warn(f"{len(wrong)} of {n} rows are NaN, the first are {named}. Row {first}: {wrong[first]}")


def _check(X: Any, out: Path, columns: Mapping[str, Any], method: str, part: int, invalid: str) -> None:
    if out.suffix not in WRITERS:
        raise ValueError(f"out must end in {', '.join(WRITERS)}; got {out.name!r}.")
    if columns and out.suffix == ".npy" and out.with_suffix(".csv").exists():
        raise FileExistsError(f"{out.with_suffix('.csv')} is there already, where the columns go: remove it or rename.")
    if library := WRITERS[out.suffix].library:
        require(f"Writing {out.suffix}", library, extra=out.suffix.removeprefix("."))
    if method not in METHODS:
        raise ValueError(f"method must be 'transform', 'predict' or 'predict_proba'; got {method!r}.")
    if part < 1:
        raise ValueError(f"part must be a number of rows; got {part!r}.")
    if invalid not in ("raise", "nan"):
        raise ValueError(f"invalid must be 'raise' or 'nan'; got {invalid!r}.")
    if isinstance(X, str | os.PathLike):
        raise ValueError(f"X is the path {str(X)!r}: open it by skastro.datasets.open_images.")
    if not len(X):
        raise ValueError("There are no objects to embed: X is empty.")
    for name, values in columns.items():
        if values.shape != (len(X),):
            raise ValueError(
                f"columns has {name!r} of shape {values.shape}; there are {len(X)} objects, and each takes one value."
            )
        if name == "embedding":
            raise ValueError("columns has 'embedding', which is the name of what is written: call it otherwise.")


def _check_answers(model: Any, X: Any, method: str) -> None:
    """Refuse a model that has no such answers, or answers with words."""
    if not hasattr(model, method):
        there = [name for name in METHODS if hasattr(model, name)]
        raise ValueError(f"{type(model).__name__} has no {method}; it has {', '.join(there) or 'nothing to write'}.")
    if hasattr(model, "classes_") and method == "predict":
        with warnings.catch_warnings(action="ignore"):  # the part that it is in will tell
            as_written(model.predict(X[:1]))


@contextmanager
def _counted_from(start: int, errors: bool = True) -> Iterator[None]:
    """Say in warnings and errors, which count the rows of a part, where it starts."""
    with warnings.catch_warnings(record=True, action="always") as told:
        try:
            yield
        except ValueError as error:
            if not (start and errors):
                raise
            raise ValueError(f"{error} Rows are counted from row {start}.") from error
    for warning in told:
        text = f"{warning.message} Rows are counted from row {start}." if start else str(warning.message)
        warn(text, warning.category)


class Writer(ABC):
    """A file that is written part by part.

    Parameters
    ----------
    unfinished : Unfinished
        Where it is written.
    n : int
        Rows to come.
    columns : mapping of str to ndarray, or to IntegerArray of pandas
        What goes along.
    """

    library: ClassVar[str | None] = None  # beyond those that skastro needs anyway

    def __init__(self, unfinished: Unfinished, n: int, columns: Mapping[str, Any]) -> None:
        self.unfinished = unfinished
        self.path = unfinished.path
        self.n = n
        self.columns = columns

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write some rows, and record them once they are on the disk.

        Parameters
        ----------
        start : int
            Number of the first.
        rows : ndarray of shape (m, d)
            Embeddings.
        """
        with self.told(start):
            self.put(start, rows)
            self.unfinished.advance(start + len(rows))

    @contextmanager
    def told(self, done: int) -> Iterator[None]:
        """Say what to do where writing fails.

        Parameters
        ----------
        done : int
            Rows that are on the disk.
        """
        try:
            yield
        except OSError as error:
            raise OSError(
                f"{self.path} could not be written ({error.strerror or error}): make room and run again, "
                f"it goes on after {done} of {self.n} rows."
            ) from error

    @abstractmethod
    def put(self, start: int, rows: np.ndarray) -> None:
        """Write some rows to the disk.

        Parameters
        ----------
        start : int
            Number of the first.
        rows : ndarray of shape (m, d)
            Embeddings.
        """

    def close(self) -> None:  # noqa: B027 most have nothing open
        """Write what is left to write."""


class NpyWriter(Writer):
    """One array in NumPy's format."""

    def put(self, start: int, rows: np.ndarray) -> None:
        if start == 0:
            open_memmap(self.path, "w+", rows.dtype, (self.n, rows.shape[1]))
        begin = open_memmap(self.path, "r").offset
        with open(self.path, "r+b") as file:  # not by the map: a full disk would end the process without a word
            file.seek(begin + start * rows[:1].nbytes)
            file.write(np.ascontiguousarray(rows).data)
            os.fsync(file.fileno())

    def close(self) -> None:
        if self.columns:
            whole = self.unfinished.out.with_suffix(".csv")
            partial = whole.with_name(f"{whole.name}.part")
            with self.told(self.n):
                pd.DataFrame(dict(self.columns)).to_csv(partial, index=False)
                os.replace(partial, whole)


class ParquetWriter(Writer):
    """A folder with a file of Parquet for each part: the columns, and each row's embedding as a list of fixed size."""

    library = "pyarrow"

    def put(self, start: int, rows: np.ndarray) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path.mkdir(exist_ok=True)
        values = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
        along = {
            name: pa.array(column[start : start + len(rows)], from_pandas=True) for name, column in self.columns.items()
        }
        gaps = {name: column[:0] for name, column in self.columns.items() if isinstance(column, ExtensionArray)}
        # Lest pandas read integers with gaps as floats.
        told = pa.Schema.from_pandas(pd.DataFrame(gaps), preserve_index=False).metadata
        partial = self.path / ".writing"
        pq.write_table(pa.table({**along, "embedding": values}, metadata=told), partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, self.path / f"part-{start:012d}.parquet")


class ZarrWriter(Writer):
    """A group of Zarr with the array ``embedding``, and one array for each column."""

    library = "zarr"

    def put(self, start: int, rows: np.ndarray) -> None:
        import zarr

        group: Any = zarr.open_group(str(self.path), mode="a" if start else "w")
        if start == 0:
            shape, chunks = (self.n, rows.shape[1]), (min(self.n, 4096), rows.shape[1])
            group.create_array("embedding", shape=shape, chunks=chunks, dtype=rows.dtype)
            for name, column in self.columns.items():
                if isinstance(column, ExtensionArray) or column.dtype == object:
                    column = np.where(pd.isna(column), "", column.astype(object)).astype(str)  # no text where missing
                dtype = str if column.dtype.kind in "OU" else column.dtype
                group.create_array(name, shape=column.shape, chunks=column.shape, dtype=dtype)[:] = column
        group["embedding"][start : start + len(rows)] = rows


WRITERS: dict[str, type[Writer]] = {".npy": NpyWriter, ".zarr": ZarrWriter, ".parquet": ParquetWriter}
