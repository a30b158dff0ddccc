"""How the rows of a catalog's partition become images: from columns of lists, or from a file beside the catalog."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import joblib
import numpy as np

from skastro.datasets import open_images
from skastro.datasets.disk.arrow import axes_of, band_names, first_there, flatten_lists, row_shape, take_bands
from skastro.datasets.sources import BESIDE, Arranged, Filled, find_bands_axis
from skastro.inputs import as_text
from skastro.persistence import parts
from skastro.sources import Source

__all__ = [
    "BesideRows",
    "InRows",
    "check_images",
    "column_array",
    "find_column",
    "find_cutouts",
    "open_beside",
    "plain_columns",
]

KEPT = 2  # lists of identifiers that a process keeps sorted

_orders: OrderedDict[str, tuple[np.ndarray, np.ndarray]] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class InRows:
    """Images in the rows themselves: lists of one size, or lists in structs.

    Parameters
    ----------
    column : str
        Name of the column; a field of a struct follows a dot.
    raw : tuple of int
        Shape that every row has on disk.
    arranged : Arranged or None
        Puts them as the model takes them; None leaves rows of numbers.
    bands_last : bool
        Whether the model wants the bands last.
    bands : tuple of str, default=None
        Names of the bands in the first row, in whose order all rows are put; None if a row has no names.
    filled : Filled, default=None
        Replaces missing pixels; None leaves them.
    """

    column: str
    raw: tuple[int, ...]
    arranged: Arranged | None
    bands_last: bool
    bands: tuple[str, ...] | None = None
    filled: Filled | None = None

    @property
    def taken(self) -> str:
        """The catalog's column, which need not be written again."""
        return self.column.partition(".")[0]

    def __call__(self, frame: Any) -> np.ndarray:
        """Take the images of a partition.

        Parameters
        ----------
        frame : DataFrame
            The partition.

        Returns
        -------
        ndarray of shape (n, ...)
            As the model takes them.

        Raises
        ------
        ValueError
            If a row has none, or one of another size or of other bands.
        """
        array, path = column_array(frame[self.taken]), self.column.split(".")
        try:
            values = flatten_lists(array, path, self.raw).reshape(len(frame), *self.raw)
            if self.bands is not None:
                values = take_bands(values, array, path, self.bands)
        except ValueError as error:
            raise ValueError(f"Column {self.column!r}: {error}.") from error
        return self.arrange(values)

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """Put rows as the model takes them.

        Parameters
        ----------
        values : ndarray of shape (n, *raw)
            As they are on disk.

        Returns
        -------
        ndarray of shape (n, ...)
        """
        images = values if self.arranged is None else self.arranged(values)
        if self.filled is not None:
            images = self.filled(images)
        return np.moveaxis(images, 1, -1) if self.bands_last else images


@dataclass(frozen=True)
class BesideRows:
    """Images in a file beside the catalog.

    Parameters
    ----------
    column : str
        The catalog's column that tells them.
    source : Source
        The images.
    ids : str or None
        Array of the images' file that holds the values of the column; None if these are numbers of rows.
    bands_last : bool
        Whether the model wants the bands last.
    """

    column: str
    source: Source
    ids: str | None
    bands_last: bool
    taken = None

    def __call__(self, frame: Any) -> np.ndarray:
        """Take the images of a partition.

        Parameters
        ----------
        frame : DataFrame
            The partition.

        Returns
        -------
        ndarray of shape (n, ...)
            As the model takes them.

        Raises
        ------
        ValueError
            If a row has none, or one of another size; if an identifier is that of two images.
        """
        told = frame[self.column]
        if told.isna().any():
            raise ValueError(f"Column {self.column!r} holds nothing in row {told.isna().argmax()} of a partition.")
        wanted = np.asarray(told)
        numbers = self._find(wanted)
        absent = np.flatnonzero((numbers < 0) | (numbers >= len(self.source)))
        if len(absent):
            value = wanted[absent[:1]].tolist()[0]
            where = self.source.reader.where
            raise ValueError(f"There is no image for {self.column} {value!r} among the {len(self.source)} of {where}.")
        return self.arrange(self.source.take(numbers))

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """Put images as the model takes them.

        Parameters
        ----------
        values : ndarray of shape (n, bands, height, width)
            As the source gives them.

        Returns
        -------
        ndarray of shape (n, ...)
        """
        return np.moveaxis(values, 1, -1) if self.bands_last else values

    def _find(self, wanted: np.ndarray) -> np.ndarray:
        """Find the numbers of images; of identifiers, which are read and sorted once per process. -1 is none."""
        if self.ids is None:
            numbers, same = _cast(wanted, np.dtype(np.int64))
            return np.where(same, numbers, -1)
        with _lock:
            if self._key not in _orders:
                _orders[self._key] = self._sorted()
                while len(_orders) > KEPT:
                    _orders.popitem(last=False)
            _orders.move_to_end(self._key)
            there, order = _orders[self._key]
        wanted, same = _cast(wanted, there.dtype)
        place = np.minimum(np.searchsorted(there, wanted), len(there) - 1)
        return np.where(same & (there[place] == wanted), order[place], -1)

    @cached_property
    def _key(self) -> str:
        return str(joblib.hash((self.source.reader, self.source.rows, self.ids)))

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Read the identifiers, sort them, and refuse those that name two images."""
        there = as_text(self.source.column(str(self.ids)))
        there = there.astype(str) if there.dtype.kind == "O" else there
        order = np.argsort(there, kind="stable")
        there = there[order]
        if len(twice := np.flatnonzero(there[1:] == there[:-1])):
            raise ValueError(f"{self.ids!r} of {self.source.reader.where} names two images {there[twice[0]]!s}.")
        return there, order


def _cast(values: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Make identifiers of the type of those that are searched, and tell which are still the same."""
    if dtype.kind == "U":
        return np.asarray(as_text(values), dtype=str), np.ones(len(values), bool)
    if values.dtype.kind not in "iuf":
        return np.zeros(len(values), dtype), np.zeros(len(values), bool)
    with np.errstate(invalid="ignore"):
        cast = values.astype(dtype)
    same = (cast == values) & (cast.astype(values.dtype) == values)
    return cast, same & (abs(values) <= 2**53) if values.dtype.kind == "f" else same


def open_beside(
    images: Any,
    *,
    bands: Sequence[int] | None = None,
    bands_axis: int | None = None,
    fill: float | str | None = None,
    missing: Any = None,
) -> Source:
    """Open the images beside a catalog.

    Parameters
    ----------
    images : str, path-like or Source
        A file, or what was opened.
    bands : sequence of int, default=None
        Bands to take of a file.
    bands_axis : {1, -1} or None, default=None
        Where the bands of a file are.
    fill : float, "median" or None, default=None
        Value for missing pixels.
    missing : float, sequence of float or None, default=None
        Numbers that stand for missing pixels.

    Returns
    -------
    Source
    """
    if not isinstance(images, Source):
        return open_images(images, bands=bands, bands_axis=bands_axis, fill=fill, missing=missing)
    filled = _filled(fill, missing)
    return images if filled is None else images.then(filled)


def _filled(fill: float | str | None, missing: Any) -> Filled | None:
    sentinels = np.array([] if missing is None else missing, dtype=float, ndmin=1).tolist()
    return Filled(fill, sentinels) if fill is not None or sentinels else None


def find_cutouts(
    catalog: Any,
    column: str | None,
    model: Any,
    *,
    images: Any = None,
    ids: str | None = None,
    image_shape: Sequence[int] | None = None,
    bands: Sequence[Any] | None = None,
    bands_axis: int | None = None,
    fill: float | str | None = None,
    missing: Any = None,
) -> InRows | BesideRows:
    """Find the images of a catalog, and refuse those that the model does not take.

    Parameters
    ----------
    catalog : lsdb.Catalog
        The catalog. Of one whose rows hold structs or lists of any length, a first partition is read.
    column : str or None
        Column of the images, or of what tells them in `images`.
    model : estimator
        Fitted.
    images : str, path-like, Source or None, default=None
        Images beside the catalog.
    ids : str or None, default=None
        Array of their file that holds the values of the column.
    image_shape : sequence of int, default=None
        ``(bands, height, width)`` of rows of numbers.
    bands : sequence of int or str, default=None
        Bands to take.
    bands_axis : {1, -1} or None, default=None
        Where the bands are.
    fill : float, "median" or None, default=None
        Value for missing pixels.
    missing : float, sequence of float or None, default=None
        Numbers that stand for missing pixels.

    Returns
    -------
    InRows or BesideRows

    Raises
    ------
    KeyError
        If there is no such column; the error lists those that there are.
    ValueError
        If the images are not like those that the model was trained on.
    """
    known = next((part for part in parts(model) if hasattr(part, "image_shape_")), None)
    last = getattr(known, "bands_axis", None) == -1
    if images is not None:
        if column not in catalog.columns:
            raise KeyError(f"The catalog has no column {column!r}; it has {', '.join(catalog.columns)}.")
        source = open_beside(images, bands=bands, bands_axis=bands_axis, fill=fill, missing=missing)
        if ids is not None:
            source._sibling(ids)
        check_images(known, source.shape[1:], source.reader.where)
        return BesideRows(str(column), source, ids, last)
    column = find_column(catalog, column)
    raw, names = _look(catalog, column)
    where, filled = f"column {column!r}", _filled(fill, missing)
    if known is None or (len(raw) == 1 and image_shape is None and known.image_shape_[1] == 1):
        width = getattr(model, "n_features_in_", None)
        if len(raw) == 1 and image_shape is None:
            if width not in (None, *raw):
                raise ValueError(f"Rows of {where} have {raw[0]} values, the model was trained on rows of {width}.")
            if fill == "median":
                raise ValueError(f'fill="median" is for images, and rows of {where} are none: give a number.')
            return InRows(column, raw, None, False, None, filled)
    chosen = _choose(bands, names, known, where)
    arranged = _arrange(raw, image_shape, bands_axis, chosen, known, where)
    found = InRows(column, raw, arranged, last, None if names is None else tuple(names), filled)
    check_images(known, arranged(np.zeros((1, *raw), np.float32)).shape[1:], where)
    return found


def column_array(series: Any) -> Any:
    """Take the Arrow array of a column, in one piece.

    Parameters
    ----------
    series : pandas.Series
        The column.

    Returns
    -------
    pyarrow.Array
    """
    import pyarrow as pa

    array = pa.array(series)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _axes(catalog: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in catalog.columns:
        found |= axes_of(column_array(catalog.meta[name]).type, name, 1)
    return found


def plain_columns(catalog: Any) -> list[str]:
    """List the columns that are no lists or structs.

    Parameters
    ----------
    catalog : lsdb.Catalog
        The catalog.

    Returns
    -------
    list of str
    """
    import pyarrow as pa

    kinds = {name: column_array(catalog.meta[name]).type for name in catalog.columns}
    return [name for name, kind in kinds.items() if not pa.types.is_nested(kind)]


def find_column(catalog: Any, column: str | None) -> str:
    """Find the column of the images, and in a struct the field.

    Parameters
    ----------
    catalog : lsdb.Catalog
        The catalog.
    column : str or None
        As for `skastro.survey.embed_catalog`.

    Returns
    -------
    str
        A field of a struct follows a dot.

    Raises
    ------
    KeyError
        If there is no such column; the error lists those that there are.
    ValueError
        If several columns look like images, or none does.
    """
    axes = _axes(catalog)
    if column in axes and axes[column] > 1:
        return column
    fit = [name for name, ndim in axes.items() if ndim > 1 and column in (None, name.partition(".")[0])]
    fit = [name for name in fit if axes[name] >= 3] or fit
    alone = [name for name in fit if not any(word in name.lower() for word in BESIDE)] or fit
    if len(alone) == 1:
        return alone[0]
    if column is not None and column not in axes and not alone:
        raise KeyError(f"The catalog has no column {column!r}; it has {', '.join(axes)}.")
    asked = "The catalog" if column is None else f"Column {column!r}"
    raise ValueError(f"{asked} has {len(alone) or 'no'} columns that look like images: give one of {', '.join(axes)}.")


def _look(catalog: Any, column: str) -> tuple[tuple[int, ...], list[str] | None]:
    """Find the shape of a row, and the names of its bands, by the type or by a first row."""
    import pyarrow as pa

    top, *fields = column.split(".")
    kind = column_array(catalog.meta[top]).type
    if pa.types.is_fixed_size_list(kind) and pa.types.is_primitive(kind.value_type):
        return (kind.list_size,), None
    alone = catalog[[top]]
    for number in range(catalog.npartitions):
        frame = alone.partitions[number].compute(progress_bar=False)
        array = first_there(column_array(frame[top]), [top, *fields])
        if len(array):
            raw = row_shape(array, [top, *fields])
            return raw, band_names(array, [top, *fields], raw)
    raise ValueError(f"The catalog has no rows with {column!r}.")


def _trained_bands(known: Any) -> list[str] | None:
    survey = getattr(known, "survey_", None)
    return None if survey is None else [str(band) for band in survey.bands]


def _choose(bands: Sequence[Any] | None, names: list[str] | None, known: Any, where: str) -> list[int] | None:
    """Number the bands to take: those asked for, or by name those that the model was trained on."""
    trained = _trained_bands(known)
    if bands is None and names and trained and names != trained:
        if not set(trained) <= set(names):
            raise ValueError(
                f"The model was trained on the bands {', '.join(trained)}, {where} has {', '.join(names)}: "
                "say which to take by bands=."
            )
        bands = trained
    if bands is None:
        return None
    if unknown := [band for band in bands if isinstance(band, str) and band not in (names or [])]:
        raise ValueError(f"There is no band {unknown[0]!r} in {where}; there are {', '.join(names or ['no names'])}.")
    return [(names or []).index(band) if isinstance(band, str) else int(band) for band in bands]


def _arrange(
    raw: tuple[int, ...], image_shape: Any, bands_axis: int | None, bands: list[int] | None, known: Any, where: str
) -> Arranged:
    if len(raw) > 1:
        axis = bands_axis or find_bands_axis(raw, where)
        return Arranged(None, axis, bands, None)
    shape = tuple(image_shape or getattr(known, "image_shape_", raw))
    if int(np.prod(shape)) != raw[0]:
        raise ValueError(
            f"Rows of {where} have {raw[0]} values, which are no images of {shape}: say their (bands, height, width) "
            "by image_shape=."
        )
    return Arranged(shape, bands_axis, bands, None)


def check_images(known: Any, shape: tuple[int, ...], where: str) -> None:
    """Refuse images of other bands than the model's, or smaller than what it sees.

    Parameters
    ----------
    known : estimator or None
        The part of the model that takes images.
    shape : tuple of int
        ``(bands, height, width)`` of the images.
    where : str
        What errors call them.

    Raises
    ------
    ValueError
        If they do not suit.
    """
    if known is None:
        return
    bands, *size = shape
    wanted = known.image_shape_[0]
    if bands != wanted:
        names = _trained_bands(known)
        told = f" ({', '.join(names)})" if names else ""
        raise ValueError(
            f"The model was trained on images of {wanted} bands{told}, {where} has {bands}: choose them by bands=, or "
            "take a model of this survey."
        )
    if any(here < seen for here, seen in zip(size, known.size_, strict=True)):
        height, width = known.size_
        raise ValueError(
            f"The model sees {height} × {width} pixels, the images of {where} have only {size[0]} × {size[1]}."
        )
