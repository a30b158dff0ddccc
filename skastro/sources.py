"""Rows that stay on disk: what looks like an array, and reads only what is asked for. NumPy only."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any, Self

import numpy as np

__all__ = ["Reader", "Shelf", "Source"]

BLOCK_BYTES = 1 << 20  # read in one go at least: a call costs as much as some hundred kB
PIECE_BYTES = 1 << 26  # read in one go at most, where all is asked for

Step = Callable[[np.ndarray], np.ndarray]


class Reader(ABC):
    """One array of a file, read by runs of rows.

    A concrete one pickles small and opens its file itself, once per process.

    Attributes
    ----------
    where : str
        What errors call it: the file, and the array's name in it.
    shape : tuple of int
        Shape of the array.
    dtype : dtype
        Its type.
    chunk : int
        Rows that lie together, and are read together.
    direct : bool
        Whether single rows are read as fast as chunks.
    gap : int
        Bytes between two rows that are read along rather than left out.
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunk: int = 1
    direct: bool = False
    gap: int = 0

    @abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """Read consecutive rows.

        Parameters
        ----------
        start, stop : int
            First row, and the one after the last.

        Returns
        -------
        ndarray of shape (stop - start, ...)
        """

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def block(self) -> int:
        """Rows that are best read in one go: whole chunks, about a megabyte."""
        row = max(1, int(np.prod(self.shape[1:]))) * self.dtype.itemsize
        return self.chunk * max(1, round(BLOCK_BYTES / (self.chunk * row)))

    def place(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Number the runs of `length` rows that rows lie in.

        Parameters
        ----------
        rows : ndarray of int
            Rows.
        length : int
            Length of a run.

        Returns
        -------
        ndarray of int
        """
        return rows // length

    def starts(self) -> np.ndarray:
        """List the first row of each chunk.

        Returns
        -------
        ndarray of int
        """
        return np.arange(0, len(self), self.chunk)


class Shelf(ABC):
    """The arrays of a file, a folder or a table, by name. A concrete one pickles small.

    Attributes
    ----------
    path : str
        The file or the folder.
    """

    path: str

    @abstractmethod
    def axes(self) -> dict[str, int]:
        """Tell which arrays there are.

        Returns
        -------
        dict of str to int
            Number of axes of each array.
        """

    @abstractmethod
    def open(self, name: str) -> Reader:
        """Open an array.

        Parameters
        ----------
        name : str
            One of `axes`.

        Returns
        -------
        Reader
        """

    def narrowed(self, reader: Reader, rows: range | np.ndarray) -> tuple["Shelf", Reader, range | np.ndarray]:
        """Leave out what some rows do not need, before they go to another process.

        Parameters
        ----------
        reader : Reader
            Of one of the arrays.
        rows : range or ndarray of int
            Rows of it.

        Returns
        -------
        shelf : Shelf
        reader : Reader
        rows : range or ndarray of int
            The same rows, as that reader counts them.
        """
        return self, reader, rows


class Source:
    """Rows of an array on disk, which any estimator takes in place of an array.

    A slice, an array of row numbers or a mask gives another source, and reads nothing; an int gives a row, and
    ``np.asarray`` gives all rows, as arrays. Rows are read in ascending order, each once, and then put into the order
    asked for. The file is opened once in each process; pickles hold its path.

    Parameters
    ----------
    reader : Reader
        Of one array.
    shelf : Shelf
        Where it stands beside the other arrays of the file.
    rows : range or ndarray of int, default=None
        Rows of the array, in their order; None is all.
    steps : tuple of callable, default=()
        What rows that were read go through, some at a time.

    Attributes
    ----------
    shape : tuple of int
        Shape of all rows.
    dtype : dtype
        Type of their values.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from skastro.datasets import open_images
    >>> with TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "sky.npy"), np.arange(60.0).reshape(5, 3, 2, 2))
    ...     source = open_images(Path(folder, "sky.npy"))
    ...     some = source[[4, 0, 4]]
    ...     values = np.asarray(some)[:, 0, 0, 0]
    >>> source.shape, some.shape, values
    ((5, 3, 2, 2), (3, 3, 2, 2), array([48.,  0., 48.]))
    """

    def __init__(
        self,
        reader: Reader,
        shelf: Shelf,
        rows: range | np.ndarray | None = None,
        steps: tuple[Step, ...] = (),
    ) -> None:
        self.reader = reader
        self.shelf = shelf
        self.rows = range(len(reader)) if rows is None else rows
        self.steps = steps
        none = self._through(np.empty((0, *reader.shape[1:]), reader.dtype), range(0))
        self.shape = (len(self.rows), *none.shape[1:])
        self.dtype = none.dtype

    def __getstate__(self) -> dict[str, Any]:
        shelf, reader, rows = self.shelf.narrowed(self.reader, self.rows)
        return vars(self) | {"shelf": shelf, "reader": reader, "rows": rows}

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes that all rows take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<Source of shape {self.shape}, {self.dtype}: {self.reader.where}>"

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), self.reader.block):
            yield from self.take(slice(start, start + self.reader.block))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            if not key or not all(
                part is Ellipsis or (isinstance(part, slice) and part == slice(None)) for part in key[1:]
            ):
                raise IndexError("A source is indexed by rows alone; np.asarray(source[rows]) is an array.")
            key = key[0]
        if key is Ellipsis:
            return self
        if isinstance(key, Integral):
            return self.take(self._numbers([key]))[0]
        if isinstance(key, slice):
            return self._view(self.rows[key])
        return self._view(self._file_rows(self._numbers(key)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("What lies on disk has to be copied into memory.")
        values = np.empty(self.shape, self.dtype if dtype is None else dtype)
        row = max(1, self.nbytes // max(1, len(self)))
        length = self.reader.block * max(1, PIECE_BYTES // (self.reader.block * row))
        for start in range(0, len(self), length):
            values[start : start + length] = self.take(slice(start, start + length))
        return values

    def take(self, numbers: slice | np.ndarray) -> np.ndarray:
        """Read rows into an array.

        Parameters
        ----------
        numbers : slice or ndarray of int
            Their numbers in this source, none negative.

        Returns
        -------
        ndarray of shape (m, ...)
        """
        rows = np.asarray(self.rows[numbers]) if isinstance(numbers, slice) else self._file_rows(numbers)
        wanted, order = np.unique(rows, return_inverse=True)
        values = self.read_sorted(wanted)
        return values if np.array_equal(rows, wanted) else values[order]

    def read_sorted(self, rows: np.ndarray) -> np.ndarray:
        """Read rows of the array on disk, and take them through the steps.

        Parameters
        ----------
        rows : ndarray of int
            Rows of the array, in ascending order, each once.

        Returns
        -------
        ndarray of shape (m, ...)
        """
        if not len(rows):
            return np.empty((0, *self.shape[1:]), self.dtype)
        if rows[-1] - rows[0] + 1 == len(rows):
            return self._through(self.reader.read(int(rows[0]), int(rows[-1]) + 1), rows)
        values = np.empty((len(rows), *self.reader.shape[1:]), self.reader.dtype)
        bounds = np.flatnonzero(self._apart(rows)) + 1
        for first, last in zip([0, *bounds], [*bounds, len(rows)], strict=True):
            start = int(rows[first])
            values[first:last] = self.reader.read(start, int(rows[last - 1]) + 1)[rows[first:last] - start]
        return self._through(values, rows)

    def _apart(self, rows: np.ndarray) -> np.ndarray:
        """Tell which neighbors among rows are read in two goes."""
        reader = self.reader
        row = max(1, int(np.prod(reader.shape[1:]))) * reader.dtype.itemsize
        far = np.diff(reader.place(rows, reader.chunk)) != 0
        if not reader.gap:
            return far
        return far & (np.diff(rows) * row > reader.gap) | (np.diff(reader.place(rows, reader.block)) != 0)

    def blocks(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find where rows lie.

        Parameters
        ----------
        numbers : ndarray of int
            Their numbers in this source.

        Returns
        -------
        rows : ndarray of int
            Their rows in the array on disk.
        blocks : ndarray of int
            Numbers of the blocks of rows that are best read in one go.
        """
        rows = self._file_rows(numbers)
        return rows, self.reader.place(rows, self.reader.block)

    def sample(self, n: float, random_state: int | None = None) -> Self:
        """Draw rows at random in whole chunks, such as the partitions of a catalog: what is not drawn is not read.

        Parameters
        ----------
        n : int or float
            Number of rows, or their share if between 0 and 1. The last chunk drawn is cut.
        random_state : int or None, default=None
            Seed.

        Returns
        -------
        Source
            In the order of the file.

        Raises
        ------
        ValueError
            If there are not as many rows.
        """
        wanted = round(n * len(self)) if isinstance(n, float) and n <= 1 else int(n)
        if not 0 < wanted <= len(self):
            raise ValueError(f"n must be from 1 to the {len(self)} rows, or a share of them; got {n!r}.")
        starts = self.reader.starts()
        run = np.searchsorted(starts, self._file_rows(np.arange(len(self))), side="right") - 1
        turn = np.random.default_rng(random_state).permutation(len(starts))[run]
        return self[np.sort(np.argsort(turn, kind="stable")[:wanted])]

    def then(self, step: Step) -> Self:
        """Take rows through a further step after they are read.

        Parameters
        ----------
        step : callable
            From some rows to as many; pickles small.

        Returns
        -------
        Source
        """
        return type(self)(self.reader, self.shelf, self.rows, (*self.steps, step))

    @property
    def companions(self) -> list[str]:
        """Names of all arrays in the same file."""
        return sorted(self.shelf.axes())

    def column(self, name: str) -> np.ndarray:
        """Read another array of the same file, such as redshifts, votes or identifiers, for these rows.

        Parameters
        ----------
        name : str
            Its name in the file.

        Returns
        -------
        ndarray of shape (n, ...)

        Raises
        ------
        KeyError
            If there is no such array; the error lists those that there are.
        ValueError
            If it has another number of rows.
        """
        return np.asarray(type(self)(self._sibling(name), self.shelf, self.rows))

    def beside(self, name: str) -> Self:
        """Open another array of the same file, such as inverse variances, for these rows, arranged as these are.

        Parameters
        ----------
        name : str
            Its name in the file.

        Returns
        -------
        Source

        Raises
        ------
        KeyError
            If there is no such array; the error lists those that there are.
        ValueError
            If it has another number of rows.
        """
        return type(self)(self._sibling(name), self.shelf, self.rows, self.steps)

    def _sibling(self, name: str) -> Reader:
        names = self.companions
        if name not in names:
            raise KeyError(f"There is no {name!r} beside {self.reader.where}; there are {', '.join(names)}.")
        reader = self.shelf.open(name)
        if len(reader) != len(self.reader):
            raise ValueError(f"{reader.where} has {len(reader)} rows, {self.reader.where} has {len(self.reader)}.")
        return reader

    def _view(self, rows: range | np.ndarray) -> Self:
        return type(self)(self.reader, self.shelf, rows, self.steps)

    def _numbers(self, key: Any) -> np.ndarray:
        """Turn a mask or row numbers, which may count from the end, into row numbers."""
        numbers = np.asarray(key)
        if numbers.dtype == bool:
            if numbers.shape != (len(self),):
                raise IndexError(f"A mask of shape {numbers.shape} does not go with {len(self)} rows.")
            return np.flatnonzero(numbers)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise IndexError(f"Rows are chosen by an int, a slice, a list of ints or a mask; got {key!r}.")
        numbers = numbers.astype(np.int64)
        wrong = (numbers < -len(self)) | (numbers >= len(self))
        if wrong.any():
            raise IndexError(f"There is no row {numbers[wrong][0]} of {len(self)}.")
        return np.where(numbers < 0, numbers + len(self), numbers)

    def _file_rows(self, numbers: np.ndarray) -> np.ndarray:
        if isinstance(self.rows, range):  # which would be as long as the file
            return self.rows.start + self.rows.step * np.asarray(numbers, dtype=np.int64)
        return self.rows[numbers]

    def _through(self, values: np.ndarray, rows: range | np.ndarray) -> np.ndarray:
        """Take rows through the steps; if one fails, find the row."""
        for step in self.steps:
            try:
                values = step(values)
            except ValueError:
                for row, value in zip(rows, values, strict=True):
                    try:
                        step(value[np.newaxis])
                    except ValueError as error:
                        raise ValueError(f"{self.reader.where}, row {row}: {error}") from error
                raise
        return values
