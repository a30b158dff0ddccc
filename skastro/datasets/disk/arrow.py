"""Columns of arrays in Parquet (HATS among it) and in the Arrow files of the Hugging Face ``datasets``."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from skastro._extras import require
from skastro.datasets.disk.opened import FileReader, Parts, files_of, open_whole, opened
from skastro.sources import Reader, Shelf

__all__ = [
    "ArrowFolder",
    "ArrowReader",
    "ParquetFiles",
    "ParquetReader",
    "axes_of",
    "band_names",
    "first_there",
    "flatten_lists",
    "row_shape",
    "take_bands",
]

BAND = "band"  # field that names the bands, in the struct that the images are in


class ArrowReader(FileReader):
    """Reader of one column of an Arrow file.

    Parameters
    ----------
    path : str
        The file.
    key : str
        Name of the column; a field of a struct follows a dot.
    like : ArrowReader, default=None
        Of the same column of another file: of a column of the same type no row is looked at.
    """

    bands: list[str] | None  # their names in the first row, if it has any

    def __init__(self, path: str, key: str, like: "ArrowReader | None" = None) -> None:
        super().__init__(path, key)
        file = opened(self)
        n = self.count(file)
        self.chunk = max(1, self.length(file))
        if like is not None and (not n or self.kind(file) == like.kind(opened(like))):
            self.shape, self.dtype, self.bands = (n, *like.shape[1:]), like.dtype, like.bands
            return
        first, fields = self._first(file, n), self._fields()
        self.shape = (n, *row_shape(first, fields))
        self.dtype = flatten_lists(first, fields, self.shape[1:]).dtype
        self.bands = like.bands if like is not None else band_names(first, fields, self.shape[1:])

    def open(self) -> Any:  # noqa: D102
        return open_arrow(self.path)

    def count(self, file: Any) -> int:
        """Count the rows.

        Parameters
        ----------
        file : any
            What `open` gave.

        Returns
        -------
        int
        """
        return file.num_rows

    def kind(self, file: Any) -> Any:
        """Tell the type of the column.

        Parameters
        ----------
        file : any
            What `open` gave.

        Returns
        -------
        pyarrow.DataType
        """
        return file.schema.field(self._fields()[0]).type

    def length(self, file: Any) -> int:
        """Count the rows that are read together.

        Parameters
        ----------
        file : any
            What `open` gave.

        Returns
        -------
        int
        """
        return 1

    def column(self, file: Any, start: int, stop: int) -> Any:
        """Read consecutive rows of the column, with the structs that it is in.

        Parameters
        ----------
        file : any
            What `open` gave.
        start, stop : int
            First row, and the one after the last.

        Returns
        -------
        pyarrow.Array
        """
        return _one(file.column(self._fields()[0]).slice(start, stop - start))

    def get(self, file: Any, start: int, stop: int) -> np.ndarray:  # noqa: D102
        array = self.column(file, start, stop)
        values = flatten_lists(array, self._fields(), self.shape[1:], start)
        rows = values.reshape(stop - start, *self.shape[1:]).astype(self.dtype, copy=False)
        return rows if self.bands is None else take_bands(rows, array, self._fields(), self.bands, start)

    def _fields(self) -> list[str]:
        return self.key.split(".")

    def _first(self, file: Any, n: int) -> Any:
        """Read the first row that holds something."""
        for start in range(0, n, self.chunk):
            rows = first_there(self.column(file, start, min(n, start + self.chunk)), self._fields())
            if len(rows):
                return rows
        return self.column(file, 0, min(n, 1))


class ParquetReader(ArrowReader):
    """Reader of one column of a Parquet file, by groups of rows.

    Parameters
    ----------
    path : str
        The file.
    key : str
        Name of the column; a field of a struct follows a dot.
    like : ArrowReader, default=None
        Of the same column of another file: of a column of the same type no row is looked at.
    """

    per_thread = True

    def open(self) -> Any:  # noqa: D102
        return open_parquet(self.path)

    def count(self, file: Any) -> int:  # noqa: D102
        return file.metadata.num_rows

    def kind(self, file: Any) -> Any:  # noqa: D102
        return file.schema_arrow.field(self._fields()[0]).type

    def length(self, file: Any) -> int:  # noqa: D102
        return file.metadata.row_group(0).num_rows if file.metadata.num_row_groups else 1

    def column(self, file: Any, start: int, stop: int) -> Any:  # noqa: D102
        meta = file.metadata
        ends = np.cumsum([meta.row_group(group).num_rows for group in range(meta.num_row_groups)])
        first, last = np.searchsorted(ends, [start, max(start, stop - 1)], side="right")
        begin = int(ends[first - 1]) if first else 0
        parent = self.key.rpartition(".")[0]
        names = [self.key, f"{parent}.{BAND}"] if parent else [self.key]
        table = file.read_row_groups(list(range(first, last + 1)), columns=names, use_threads=False)
        return _one(table.column(0).slice(start - begin, stop - start))


class _Columns(Shelf):
    """Columns of a file, or of a folder of files."""

    endings: ClassVar[tuple[str, ...]]
    reader: ClassVar[type[ArrowReader]]

    def __init__(self, path: str) -> None:
        self.path = path

    def axes(self) -> dict[str, int]:
        file = self._files()[0]
        found: dict[str, int] = {}
        for field in open_whole(partial(self._schema, file), file):
            found |= axes_of(field.type, field.name, 1)
        return found

    def open(self, name: str) -> Reader:
        filled: list[ArrowReader] = []
        for file in self._files():
            reader = self.reader(file, name, filled[0] if filled else None)
            filled += [reader] if len(reader) else []
        if not filled:
            return self.reader(self._files()[0], name)
        return filled[0] if len(filled) == 1 else Parts(filled)

    def _files(self) -> list[str]:
        return files_of(self.path, self.endings)

    @staticmethod
    @abstractmethod
    def _schema(file: str) -> Any:
        """Read names and types of the columns."""


class ParquetFiles(_Columns):
    """Columns of a Parquet file, or of a folder of them such as a HATS catalog.

    Parameters
    ----------
    path : str
        A file, or a folder with files of the same columns, which are taken in the order of their names.
    """

    endings = (".parquet", ".parq", ".pq")
    reader = ParquetReader

    def _files(self) -> list[str]:
        return files_of(_partitions(self.path), self.endings)

    @staticmethod
    def _schema(file: str) -> Any:
        return open_parquet(file).schema_arrow


class ArrowFolder(_Columns):
    """Columns of a folder that ``datasets.Dataset.save_to_disk`` wrote.

    Parameters
    ----------
    path : str
        The folder.
    """

    endings = (".arrow",)
    reader = ArrowReader

    @staticmethod
    def _schema(file: str) -> Any:
        return open_arrow(file).schema


def open_parquet(path: str) -> Any:
    """Open a Parquet file.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    pyarrow.parquet.ParquetFile

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    """
    require("Reading Parquet", "pyarrow", extra="parquet")
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path)


def open_arrow(path: str) -> Any:
    """Map an Arrow file of the streaming format into memory.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    """
    require("Reading Arrow", "pyarrow", extra="parquet")
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(path)).read_all()


def _partitions(path: str) -> str:
    """Find the partitions of a HATS catalog; beside them lie statistics, and in a collection copies of their rows."""
    place, collection = Path(path), Path(path, "collection.properties")
    if collection.is_file():
        lines = (line.partition("=") for line in collection.read_text().splitlines())
        place /= {name.strip(): value.strip() for name, _, value in lines}.get("hats_primary_table_url", "")
    return str(place / "dataset") if (place / "dataset").is_dir() else str(place)


def axes_of(kind: Any, name: str, ndim: int) -> dict[str, int]:
    """Count the axes of a column, and of each field of a struct.

    Parameters
    ----------
    kind : pyarrow.DataType
        Type of its values.
    name : str
        Its name; a field of a struct follows a dot.
    ndim : int
        Axes that there are already; 1 for rows.

    Returns
    -------
    dict of str to int
    """
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        kind, ndim = kind.storage_type, ndim + max(0, len(getattr(kind, "shape", ())) - 1)
    if _is_list(kind):
        return axes_of(kind.value_type, name, ndim + 1)
    if pa.types.is_struct(kind):
        found: dict[str, int] = {}
        for field in kind:
            found |= axes_of(field.type, f"{name}.{field.name}", ndim)
        return found
    return {name: ndim}


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _one(column: Any) -> Any:
    """Join the pieces of a column."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def row_shape(array: Any, fields: list[str]) -> tuple[int, ...]:
    """Find the shape of the first row.

    Parameters
    ----------
    array : pyarrow.Array
        Nested lists and structs, in any order.
    fields : list of str
        Name of the column, then of the fields of the structs.

    Returns
    -------
    tuple of int
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(array, pa.ExtensionArray):
        shape = getattr(array.type, "shape", ())
        return tuple(shape) if shape else row_shape(array.storage, fields)
    if pa.types.is_struct(array.type):
        return row_shape(array.field(fields[1]), fields[1:])
    if not _is_list(array.type):
        return ()
    lengths = pc.list_value_length(array)
    length = lengths[0].as_py() if len(array) else None
    return (length or 0, *row_shape(array.flatten(), fields))


def first_there(array: Any, fields: list[str]) -> Any:
    """Take the first row that holds something.

    Parameters
    ----------
    array : pyarrow.Array
        Nested lists and structs, in any order.
    fields : list of str
        Name of the column, then of the fields of the structs.

    Returns
    -------
    pyarrow.Array
        Of one row, or of none.
    """
    row = _there(array, fields).index(True).as_py()
    return array[:0] if row < 0 else array[row : row + 1]


def _there(array: Any, fields: list[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_struct(array.type):
        return array.is_valid()
    return pc.and_(array.is_valid(), _there(array.field(fields[1]), fields[1:]))


def band_names(array: Any, fields: list[str], shape: tuple[int, ...]) -> list[str] | None:
    """Read the names of the bands that stand beside the images in a struct, as Multimodal Universe has them.

    Parameters
    ----------
    array : pyarrow.Array
        Of one row.
    fields : list of str
        Name of the column, then of the fields of the structs.
    shape : tuple of int
        Shape of a row.

    Returns
    -------
    list of str or None
        None if there are no names, or not as many as the first axis is long.
    """
    if len(fields) < 2 or not shape or not len(array):
        return None
    try:
        return [str(name) for name in flatten_lists(array, [*fields[:-1], BAND], shape[:1])]
    except (KeyError, ValueError, IndexError):
        return None


def take_bands(values: np.ndarray, array: Any, fields: list[str], names: Sequence[str], first: int = 0) -> np.ndarray:
    """Put the bands of each row in the order of those of the first row, by their names.

    Parameters
    ----------
    values : ndarray of shape (n, bands, ...)
        The rows.
    array : pyarrow.Array
        What they were taken out of.
    fields : list of str
        Name of the column, then of the fields of the structs.
    names : sequence of str
        The names in the first row.
    first : int, default=0
        Number of the first of these rows, for errors.

    Returns
    -------
    ndarray of shape (n, bands, ...)

    Raises
    ------
    ValueError
        If a row has other bands.
    """
    there = flatten_lists(array, [*fields[:-1], BAND], (len(names),), first).reshape(len(values), -1)
    wrong = np.flatnonzero((there != np.array(names, dtype=object)).any(axis=1))
    if not len(wrong):
        return values
    values = values.copy()
    for row in wrong:
        here = [str(name) for name in there[row]]
        if sorted(here) != sorted(names):
            raise ValueError(
                f"row {first + row} has the bands {', '.join(here)}, the first row {', '.join(names)}; all must have "
                "the same"
            )
        values[row] = values[row, [here.index(name) for name in names]]
    return values


def flatten_lists(array: Any, fields: list[str], shape: tuple[int, ...], first: int = 0) -> np.ndarray:
    """Take the numbers out of nested lists that all have the same lengths.

    Parameters
    ----------
    array : pyarrow.Array
        Nested lists and structs, in any order.
    fields : list of str
        Name of the column, then of the fields of the structs.
    shape : tuple of int
        Lengths that the lists of each row must have.
    first : int, default=0
        Number of the first row, for errors.

    Returns
    -------
    ndarray of shape (n * prod(shape),)
        Arrow's own buffer where it has no gaps.

    Raises
    ------
    ValueError
        If a row holds nothing, or lists of other lengths.
    """
    import pyarrow as pa

    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    rows, left, name = len(array), list(shape), ".".join(fields)
    while not _is_leaf(array):
        if pa.types.is_struct(array.type):
            array, fields = array.field(fields[1]), fields[1:]
            continue
        if pa.types.is_fixed_size_list(array.type) and len(left) > 1 and array.type.list_size == np.prod(left):
            left = [array.type.list_size]  # a tensor, flattened
        _check_lengths(array, left[0], rows, first)
        array, left = array.flatten(), left[1:]
    if array.null_count and (pa.types.is_integer(array.type) or pa.types.is_boolean(array.type)):
        row = first + array.is_null().index(True).as_py() * rows // len(array)
        raise ValueError(
            f"row {row} of {name!r} holds nothing, which {array.type} has no value for: write floats, and NaN there"
        )
    return array.to_numpy(zero_copy_only=False)


def _is_leaf(array: Any) -> bool:
    import pyarrow as pa

    return not (_is_list(array.type) or pa.types.is_struct(array.type))


def _check_lengths(array: Any, length: int, rows: int, first: int) -> None:
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != length)
    if len(wrong):
        row = first + int(wrong[0]) * rows // len(array)
        if lengths[wrong[0]] < 0:
            raise ValueError(f"row {row} holds nothing, others lists of {length}")
        raise ValueError(
            f"row {row} holds lists of {lengths[wrong[0]]}, the first row lists of {length}; all must have one size"
        )
