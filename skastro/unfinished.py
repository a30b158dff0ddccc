"""What is written beside its place until it is whole, and gone on with by the same call."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["HASHED", "Unfinished", "as_written", "check_folder", "check_new", "replacing", "sampled"]

HASHED = 64  # rows by which objects are recognized


def check_folder(out: Path) -> None:
    """Refuse a place whose folder is not there.

    Parameters
    ----------
    out : Path
        File or folder to write.

    Raises
    ------
    FileNotFoundError
        If it is not.
    """
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder {out.parent} to write {out.name} to.")


def check_new(out: Path) -> None:
    """Refuse a place that is taken, or whose folder is not there.

    Parameters
    ----------
    out : Path
        File or folder to write.

    Raises
    ------
    FileExistsError
        If it is there already.
    FileNotFoundError
        If its folder is not there.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already: remove it, or give another name.")
    check_folder(out)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file in one step: at any moment there is the former or the new one.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    Path
        Where to write meanwhile, of this process and thread alone; what is there at the end takes the file's name, and
        is gone after an error.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skastro.unfinished import replacing
    >>> with TemporaryDirectory() as folder:
    ...     notes = Path(folder, "notes.txt")
    ...     with replacing(notes) as partial:
    ...         size = partial.write_text("whole")
    ...     notes.read_text()
    'whole'
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield partial
        with open(partial, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    with suppress(OSError):  # of systems that have none for folders; the new name is on the disk only with its folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Unfinished:
    """A file or folder in the making: ``out.part``, and in ``out.part.json`` what it is made of and how far it is.

    Parameters
    ----------
    out : Path
        File or folder to be.

    Attributes
    ----------
    path : Path
        Where it is written.
    done : int
        How much of it is written, once it is claimed; counted by who writes.

    Raises
    ------
    FileExistsError
        If it is there already.
    FileNotFoundError
        If its folder is not there.
    """

    def __init__(self, out: Path) -> None:
        check_new(out)
        self.out = out
        self.path = out.with_name(f"{out.name}.part")
        self.record = out.with_name(f"{out.name}.part.json")
        self.lock = out.with_name(f"{out.name}.part.lock")

    @contextmanager
    def claim(self, identity: dict[str, Any]) -> Iterator[None]:
        """Keep others from it for the duration of a block; write down what it is made of, and refuse something else.

        Parameters
        ----------
        identity : dict
            Of plain values.

        Yields
        ------
        None
            While it is this process's own.

        Raises
        ------
        FileExistsError
            If another process has finished it meanwhile.
        ValueError
            If it was begun with something else, or by somebody else; if another process writes it now.
        """
        with self._alone():
            check_new(self.out)
            self.identity, done = identity, 0
            if self.path.exists():
                known = self._known()
                if other := [name for name, value in identity.items() if known.get(name) != value]:
                    which = f"other {other[0]}" if other[0].endswith("s") else f"another {other[0]}"
                    raise ValueError(f"{self.path} was begun with {which}: remove it, or give another name.")
                done = known["done"]
            self.advance(done)
            yield

    def advance(self, done: int) -> None:
        """Record how much is on the disk.

        Parameters
        ----------
        done : int
            What the next call need not write again.
        """
        partial = self.record.with_suffix(".tmp")
        with open(partial, "w") as file:
            json.dump({**self.identity, "done": done}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.record)
        self.done = done

    def finish(self) -> Path:
        """Give the whole its name.

        Returns
        -------
        Path
        """
        os.replace(self.path, self.out)
        self.record.unlink()
        return self.out

    def _known(self) -> dict[str, Any]:
        if not self.record.exists():
            raise ValueError(f"{self.path} is there, and not begun by skastro: remove it, or give another name.")
        try:
            return {"done": 0, **json.loads(self.record.read_text())}
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.record} is damaged: remove it and {self.path}.") from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold a lock, which the system takes off a process that dies, whatever it leaves there."""
        if fcntl is None:
            yield
            return
        with open(self.lock, "a") as file:
            if not (
                _locked(file) and self.lock.exists() and os.path.samestat(os.fstat(file.fileno()), self.lock.stat())
            ):
                raise ValueError(f"Another process is writing {self.path}: wait for it, or give another name.")
            try:
                yield
            finally:
                self.lock.unlink(missing_ok=True)


def _locked(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def sampled(X: Any) -> np.ndarray:
    """Take some rows, by which objects are recognized.

    Parameters
    ----------
    X : array-like of shape (n, ...)
        Rows, also on disk.

    Returns
    -------
    ndarray of shape (m, ...)
        64 at most, at equal distances.
    """
    return np.asarray(X[:: -(-len(X) // HASHED)])


def as_written(answers: Any) -> np.ndarray:
    """Lay out answers of a model as rows of numbers, and refuse others.

    Parameters
    ----------
    answers : array-like of shape (n, ...)
        What the model gave.

    Returns
    -------
    ndarray of shape (n, d)
    """
    rows = np.asarray(answers)
    if rows.dtype.kind not in "fiub":
        raise ValueError(f"Only numbers are written; the model answers with {rows.dtype}.")
    return rows.reshape(len(rows), -1)
