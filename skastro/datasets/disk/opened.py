"""Files that are opened once per process, and watched: whether they are as they were, and where they are damaged."""

import os
import threading
import weakref
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from skastro.sources import Reader

__all__ = ["GAP", "FileReader", "Parts", "absolute", "files_of", "is_plain", "open_whole", "opened", "stamp"]

GAP = 1 << 14  # bytes that cost less to read than a further call
OPEN = 64  # files kept open, of a folder of many

_files: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
_users: dict[tuple[Any, ...], dict[int, weakref.ref]] = {}
_lock = threading.RLock()


def _forked() -> None:
    """In a forked child: what the parent opened is the parent's, and nobody holds the lock."""
    global _lock
    _lock = threading.RLock()
    _files.clear()
    _users.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def stamp(path: str) -> tuple[int, int]:
    """Take the size and the time of the last change of a file.

    Parameters
    ----------
    path : str
        A file or a folder.

    Returns
    -------
    tuple of int

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file {path}.") from error
    return status.st_size, status.st_mtime_ns


class FileReader(Reader):
    """Base of the readers of one array of one file.

    A concrete one has the hooks `open` and `get`, and sets ``shape``, ``dtype`` and ``chunk``.

    Parameters
    ----------
    path : str
        The file.
    key : str
        Name of the array in it.
    watched : str, default=None
        File whose change tells that the array has changed; None is `path`.
    """

    per_thread = False  # whether one opened file serves one thread only

    def __init__(self, path: str, key: str, watched: str | None = None) -> None:
        self.path = path
        self.key = key
        self.where = f"{path} ({key})" if key else path
        self.watched = watched or path
        self.stamp = stamp(self.watched)

    @abstractmethod
    def open(self) -> Any:
        """Open the file.

        Returns
        -------
        any
            What `get` takes.
        """

    @abstractmethod
    def get(self, file: Any, start: int, stop: int) -> np.ndarray:
        """Read consecutive rows of the opened file.

        Parameters
        ----------
        file : any
            What `open` gave.
        start, stop : int
            First row, and the one after the last.

        Returns
        -------
        ndarray of shape (stop - start, ...)
        """

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read consecutive rows, and tell which are damaged if that fails.

        Parameters
        ----------
        start, stop : int
            First row, and the one after the last.

        Returns
        -------
        ndarray of shape (stop - start, ...)

        Raises
        ------
        FileNotFoundError
            If the file has gone.
        ValueError
            If the file has changed since it was opened first, or rows cannot be read.
        """
        if stamp(self.watched) != self.stamp:
            raise ValueError(f"{self.path} has changed since it was opened: open it again.")
        file = opened(self)
        try:
            return self.get(file, start, stop)
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # a damaged file may fail in any way
            first, last, cause = self._damage(file, start, stop, error)
            raise ValueError(f"{self.where}: rows {first} to {last} cannot be read: {cause}") from error

    def _damage(self, file: Any, start: int, stop: int, error: Exception) -> tuple[int, int, Exception]:
        """Find the first chunk that cannot be read."""
        for first in range(start - start % self.chunk, stop, self.chunk):
            last = min(first + self.chunk, stop)
            try:
                self.get(file, max(first, start), last)
            except Exception as cause:
                return max(first, start), last - 1, cause
        return start, stop - 1, error


def opened(reader: FileReader) -> Any:
    """Open a file, or find it open in this process; it is closed when the last of its readers has gone.

    Parameters
    ----------
    reader : FileReader
        Of one of its arrays.

    Returns
    -------
    any
        What its ``open`` gave.

    Raises
    ------
    ValueError
        If the file cannot be opened.
    """
    key = (type(reader), reader.path, reader.stamp, threading.get_ident() if reader.per_thread else 0)
    with _lock:
        users = _users.setdefault(key, {})  # first, lest another reader that goes now takes the file with it
        if id(reader) not in users:
            users[id(reader)] = weakref.ref(reader, partial(_leave, key, id(reader)))
        if key not in _files:
            _files[key] = open_whole(reader.open, reader.path)
            while len(_files) > OPEN:
                _files.popitem(last=False)
        _files.move_to_end(key)
        return _files[key]


def open_whole(function: Callable[[], Any], path: str) -> Any:
    """Open a file, and say so if it is damaged.

    Parameters
    ----------
    function : callable
        Opens it.
    path : str
        The file.

    Returns
    -------
    any
        What the function gives.

    Raises
    ------
    ValueError
        If the file cannot be opened.
    """
    try:
        return function()
    except (ImportError, FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # a damaged file may fail in any way
        raise ValueError(f"{path} cannot be opened, perhaps cut short: {error}") from error


def _leave(key: tuple[Any, ...], number: int, _: Any) -> None:
    with _lock:
        users = _users.get(key, {})
        users.pop(number, None)
        if not users:
            _users.pop(key, None)
            _files.pop(key, None)


class Parts(Reader):
    """Arrays of several files or groups, one after the other.

    Parameters
    ----------
    readers : list of Reader
        Of rows of one shape.

    Raises
    ------
    ValueError
        If rows have several shapes, or types without one that holds the values of all.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skastro.datasets.disk.npy import NpyReader
    >>> from skastro.datasets.disk.opened import Parts
    >>> with TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "a.npy"), np.arange(3))
    ...     reader = NpyReader(str(Path(folder, "a.npy")))
    ...     rows = Parts([reader, reader]).read(2, 5)
    >>> rows
    array([2, 0, 1])
    """

    def __init__(self, readers: list[Any]) -> None:
        self.readers = readers
        first = readers[0]
        for reader in readers:
            if reader.shape[1:] != first.shape[1:]:
                raise ValueError(
                    f"{first.where} has rows of shape {first.shape[1:]}, {reader.where} of {reader.shape[1:]}: "
                    "open them apart."
                )
        self.where = f"{first.where} and {len(readers) - 1} more"
        lengths = np.array([len(reader) for reader in readers])
        self.begins = np.concatenate([[0], np.cumsum(lengths)])
        self.shape = (int(self.begins[-1]), *first.shape[1:])
        self.dtype = _common_type(readers)
        self.chunk = first.chunk
        self.gap = min(reader.gap for reader in readers)

    def read(self, start: int, stop: int) -> np.ndarray:  # noqa: D102
        rows = []
        first = int(np.searchsorted(self.begins, start, side="right")) - 1
        for reader, begin in zip(self.readers[first:], self.begins[first:-1].tolist(), strict=True):
            if begin >= stop:
                break
            rows.append(reader.read(max(0, start - begin), min(len(reader), stop - begin)))
        return (rows[0] if len(rows) == 1 else np.concatenate(rows)).astype(self.dtype, copy=False)

    def place(self, rows: np.ndarray, length: int) -> np.ndarray:  # noqa: D102
        part = np.searchsorted(self.begins, rows, side="right") - 1
        before = np.concatenate([[0], np.cumsum(-(-np.diff(self.begins) // length))])
        return before[part] + (rows - self.begins[part]) // length

    def starts(self) -> np.ndarray:  # noqa: D102
        begins = self.begins[:-1].tolist()
        return np.concatenate([reader.starts() + begin for reader, begin in zip(self.readers, begins, strict=True)])


def _common_type(readers: list[Any]) -> np.dtype:
    """Find the type of all parts; integers would be rounded as floats, and counts are no fluxes."""
    common, first = np.result_type(*(reader.dtype for reader in readers)), readers[0]
    if common.kind == "f" and any(reader.dtype.kind != "f" for reader in readers):
        other = next(reader for reader in readers if reader.dtype != first.dtype)
        raise ValueError(
            f"{first.where} holds {first.dtype}, {other.where} {other.dtype}, which have no common type: open them "
            "apart."
        )
    return common


def is_plain(file: Path) -> bool:
    """Tell whether a file of a folder holds data: hidden ones do not, and ``_metadata`` describes the others.

    Parameters
    ----------
    file : Path
        The file.

    Returns
    -------
    bool
    """
    return not file.name.startswith(("_", "."))


def files_of(path: str, endings: Collection[str]) -> list[str]:
    """List the files of a folder, in the order of their names, or the file.

    Parameters
    ----------
    path : str
        File or folder.
    endings : collection of str
        Of the files to list, in small letters.

    Returns
    -------
    list of str
    """
    place = Path(path)
    if not place.is_dir():
        return [path]
    return sorted(str(file) for file in place.rglob("*") if file.suffix.lower() in endings and is_plain(file))


def absolute(path: Any) -> str:
    """Make a path that means the same in every process.

    Parameters
    ----------
    path : str or path-like
        A path.

    Returns
    -------
    str
    """
    return str(Path(path).expanduser().absolute())
