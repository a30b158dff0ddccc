"""Safe readers of NumPy archives and pickles from untrusted sources.

A pickle is a program, and allowing it only NumPy's functions is not enough: a forged dtype makes NumPy follow addresses
written in the file (tried: NumPy 2.4 crashes). Here every name in a pickle stands for an inert record. Only when the
whole file has been read do records become arrays, made from a checked type, a shape and bytes. Nor may a file take
more time and memory than its length stands for: its opcodes are scanned first, and what it holds is counted before it
unfolds.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from skastro._arrays import array_header

__all__ = ["read_npz", "read_pickle"]


def read_npz(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read named arrays of a NumPy archive.

    Parameters
    ----------
    path : pathlib.Path
        An ``.npz`` file.
    *names : str
        Arrays that the archive must contain.

    Returns
    -------
    dict of str to ndarray
        The named arrays.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, is not an archive, lacks one of the arrays, or stores one as Python objects.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from skastro.datasets.archives import read_npz
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(Path(folder, "sky.npz"), flux=np.ones(3))
    ...     read_npz(Path(folder, "sky.npz"), "flux")
    {'flux': array([1., 1., 1.])}
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                missing = [name for name in names if f"{name}.npy" not in archive.namelist()]
                if not missing:
                    return {name: _read_array(archive, archive.getinfo(f"{name}.npy")) for name in names}
        except Exception as error:  # a damaged archive may fail in any way
            raise ValueError(f"{path} is damaged or not an archive of plain arrays: {error}") from error
    raise ValueError(f"{path} lacks the arrays {', '.join(missing)}.")


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain values and of numeric or text arrays, without running its code.

    Parameters
    ----------
    path : pathlib.Path
        A pickle of any protocol, written by Python 2 or 3; byte strings of Python 2 become text.

    Returns
    -------
    object
        The numbers, text, lists, tuples, dicts and arrays that were pickled.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    pickle.UnpicklingError
        If the file contains anything other than arrays and plain values, is damaged, or is not a pickle.

    Examples
    --------
    >>> import pickle
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from skastro.datasets.archives import read_pickle
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "batch").write_bytes(pickle.dumps({"data": np.arange(3)}))
    ...     read_pickle(Path(folder, "batch"))
    {'data': array([0, 1, 2])}
    """
    content = path.read_bytes()
    try:
        _scan(content)
        value = _Reader(io.BytesIO(content), encoding="latin1").load()
        if _weight(value, {}) > UNFOLDED * len(content):
            raise pickle.UnpicklingError("it names its parts so often that they would fill the memory.")
        return _plain(value)
    except Exception as error:  # a damaged pickle may fail in any way
        raise pickle.UnpicklingError(f"{path} was not read: {error}") from error


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        array_header(file, member.file_size)
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _scan(content: bytes) -> None:
    """Refuse a pickle by its opcodes, of which none is run: those no array needs, and numbers beyond the file."""
    file = io.BytesIO(content)
    while (opcode := _OPCODES.get(file.read(1).decode("latin1"))) is not None and opcode.name != "STOP":
        if opcode.name == "STRING":  # of Python 2, which pickletools reads as ASCII
            file.readline()
            continue
        argument: Any = opcode.arg.reader(file) if opcode.arg else None
        if opcode.name in _PLACES and not 0 <= argument <= len(content):
            raise pickle.UnpicklingError(f"it has a part of number or size {argument}, beyond its length.")
        if isinstance(argument, int) and argument.bit_length() > 64:  # a dictionary of such keys could take forever
            raise pickle.UnpicklingError("it has an integer of more than 64 bits.")
    if opcode is None:
        raise pickle.UnpicklingError("it ends early, or has an opcode that no array needs.")


class _Record:
    """Record that stands for the result of a call in a pickle: it stores the arguments and does nothing."""

    meaning: Callable[[], Any]

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    """Unpickler that returns records in place of the names in a pickle, and refuses names that no array needs."""

    def find_class(self, module: str, name: str) -> type[_Record]:
        """Return a record class, new each time so that a file cannot leave anything behind on it."""
        meaning = _MEANINGS.get(f"{module}.{name}".replace("numpy.core", "numpy._core"))
        if meaning is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array; nothing in it was run.")
        return type(name, (_Record,), {"meaning": meaning})


def _weight(value: Any, known: dict[int, int]) -> int:
    """Count what a value unfolds to, its parts as often as they are named, without unfolding it."""
    if id(value) not in known:
        known[id(value)] = 0  # where it holds itself
        parts: Iterable[Any] = value if isinstance(value, list | tuple) else []
        if isinstance(value, dict):
            parts = [*value.keys(), *value.values()]
        if isinstance(value, _Record):
            parts = [value.arguments, getattr(value, "state", None)]
        length = len(value) if isinstance(value, str | bytes | bytearray) else 0
        known[id(value)] = 1 + length + sum(_weight(part, known) for part in parts)
    return known[id(value)]


def _plain(value: Any) -> Any:
    """Turn the records in an unpickled value into arrays."""
    if isinstance(value, _Record):
        return value.meaning()
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value


def _encode(record: _Record) -> bytes:
    return record.arguments[0].encode("latin1")


def _dtype(record: _Record) -> np.dtype:
    """Return a dtype of numbers or text of one size; of the forgeable state only the byte order is used."""
    dtype = np.dtype(str(record.arguments[0]))
    if dtype.kind not in "biufSU":
        raise ValueError(f"it holds an array of {dtype}, neither numbers nor text.")
    return dtype.newbyteorder(record.state[1])


def _array(raw: Any, dtype: _Record, shape: Any, order: Any) -> np.ndarray:
    buffer = raw.encode("latin1") if isinstance(raw, str) else _plain(raw)
    return np.frombuffer(buffer, _dtype(dtype)).reshape(shape, order=order)


def _reconstruct(record: _Record) -> Any:
    _, shape, dtype, fortran, raw = record.state
    return _plain(raw) if isinstance(raw, list) else _array(raw, dtype, shape, "F" if fortran else "C")


def _frombuffer(record: _Record) -> np.ndarray:
    return _array(*record.arguments)


def _scalar(record: _Record) -> Any:
    dtype, raw = record.arguments
    return _array(raw, dtype, (), "C").item()


UNFOLDED = 64  # bytes and values for each byte of a pickle: it names a text again in two bytes

# All opcodes of plain values and arrays; no pickler writes the others for them. The first are numbers of places.
_PLACES = ("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET", "FRAME")
_NEEDED = f"""{" ".join(_PLACES)} STOP MARK PROTO MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 LIST EMPTY_LIST APPEND APPENDS
    DICT EMPTY_DICT SETITEM SETITEMS TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_TUPLE"""
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes if opcode.name in _NEEDED.split()}

# All names in a pickled array; NumPy 1 spells `numpy._core` without the underscore.
_MEANINGS: dict[str, Callable[[_Record], Any]] = {
    "_codecs.encode": _encode,
    "numpy.dtype": _dtype,
    "numpy.ndarray": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _frombuffer,
}
