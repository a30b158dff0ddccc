"""The door for data: tables, masked arrays, tensors and columns of arrays become plain arrays; missing is NaN."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils import check_array
from sklearn.utils.validation import _check_sample_weight, validate_data

from skastro.sources import Source

__all__ = [
    "as_array",
    "as_column",
    "as_rows",
    "as_table",
    "as_target",
    "as_text",
    "as_weight",
    "check_rows",
    "column_names",
    "in_unit",
    "restored_on_failure",
]


def as_table(X: Any) -> pd.DataFrame | None:
    """Convert a data frame of any library to pandas; anything else is None.

    Parameters
    ----------
    X : any
        A table: a DataFrame of pandas, polars or another library whose columns are found by name or by the dataframe
        interchange protocol, a pyarrow or astropy Table, a structured array such as FITS gives; or anything else.

    Returns
    -------
    DataFrame or None
        Columns by name, missing values as pandas has them.

    Raises
    ------
    ValueError
        If a column is a quantity of astropy, whose unit would be lost.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.inputs import as_table
    >>> list(as_table(np.zeros(2, dtype=[("redshift", ">f4"), ("id", "i8")])).columns)
    ['redshift', 'id']
    >>> as_table(np.zeros((2, 2))) is None
    True
    """
    if isinstance(X, pd.DataFrame):
        return X
    if isinstance(X, Source):
        return None
    if isinstance(X, np.ndarray):
        names = X.dtype.names or ()
        return pd.DataFrame({name: _column(X[name], name) for name in names}) if names else None
    for names in ("colnames", "column_names", "columns"):  # of astropy, pyarrow and polars
        if hasattr(X, names) and hasattr(X, "__getitem__"):
            return pd.DataFrame({name: _column(X[name], name) for name in getattr(X, names)})
    return pd.api.interchange.from_dataframe(X) if hasattr(X, "__dataframe__") else None


def as_array(X: Any, name: str = "X", cure: str = "they must be alike") -> Any:
    """Convert what a user gives to a plain array in which NaN is missing; plain arrays and sparse ones pass through.

    Parameters
    ----------
    X : array-like
        Array, memory map, masked array, column of a table or table, tensor, or a column or list of equal arrays.
    name : str, default="X"
        Name in errors.
    cure : str, default="they must be alike"
        What the error advises if the rows are of several shapes.

    Returns
    -------
    ndarray
        Of X's numbers; integers with a missing value become float64. What holds no numbers is an array of objects.

    Raises
    ------
    ValueError
        If the rows are of several shapes, a table has a column of arrays among others, or X is a quantity of astropy,
        whose unit would be lost.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.inputs import as_array
    >>> as_array(np.ma.masked_equal([1, 2, -99], -99))
    array([ 1.,  2., nan])
    >>> as_array([np.zeros((3, 8, 8)), np.zeros((3, 9, 9))], cure="cut them to one size")
    Traceback (most recent call last):
    ...
    ValueError: X has rows of several shapes, such as (3, 8, 8) and (3, 9, 9): cut them to one size.
    """
    _refuse_unit(X, name)
    if isinstance(X, os.PathLike) or (isinstance(X, str) and name == "X"):
        raise ValueError(f"{name} is the path {os.fspath(X)!r}: open it by skastro.datasets.open_images.")
    if _is_tensor(X):
        tensor = X.detach().cpu()
        return (tensor.float() if str(X.dtype) == "torch.bfloat16" else tensor).numpy()
    if issparse(X):
        return X
    if isinstance(X, list | tuple):
        return _of_objects(_stack([_row(row, name) for row in X], name, cure), name, cure)
    if (table := as_table(X)) is not None:
        return _of_objects(_values(table, name), name, cure)
    return _of_objects(_plain(X), name, cure)


def as_column(X: Any, name: str = "X") -> Any:
    """Convert a column as `as_array` does, but integers stay integers where some are missing: they may be identifiers.

    Parameters
    ----------
    X : array-like of shape (n,)
        Column, of what `as_array` takes.
    name : str, default="X"
        Name in errors.

    Returns
    -------
    ndarray or IntegerArray of pandas

    Examples
    --------
    >>> from skastro.inputs import as_column
    >>> as_column([2**60 + 1, None]).tolist()
    [1152921504606846977, <NA>]
    """
    values = as_array(X, name)
    if values.ndim != 1 or values.dtype.kind != "f" or getattr(getattr(X, "dtype", None), "kind", "O") == "f":
        return values
    ways = (getattr(X, way) for way in ("tolist", "to_list", "to_pylist") if hasattr(X, way))  # of polars, of pyarrow
    listed = X if isinstance(X, list | tuple) else next(ways, values.tolist)()
    return pd.array(listed) if pd.api.types.infer_dtype(listed, skipna=True) == "integer" else values


def in_unit(values: Any, unit: str, name: str) -> Any:
    """Convert what has a unit of astropy, a quantity or a column of a table, to numbers in the unit that is meant.

    Parameters
    ----------
    values : number or array-like
        With a unit, or without one; a list may hold quantities.
    unit : str
        Name of the unit that is meant.
    name : str
        Name in errors.

    Returns
    -------
    number or array-like
        In that unit. What has none passes as it is.

    Raises
    ------
    ValueError
        If the unit cannot be converted.

    Examples
    --------
    >>> import astropy.units as u
    >>> from skastro.inputs import in_unit
    >>> in_unit([1, 2] * u.hourangle, "deg", "ra"), in_unit(15.0, "deg", "ra")
    (array([15., 30.]), 15.0)
    >>> in_unit(1 * u.m, "deg", "ra")
    Traceback (most recent call last):
    ...
    ValueError: ra has the unit m, which cannot be converted to deg: give numbers in deg.
    """
    if isinstance(values, list | tuple):
        return [in_unit(value, unit, name) for value in values]
    held: Any = getattr(values, "unit", None)
    if not hasattr(held, "to"):
        return values
    try:
        return held.to(unit, _plain(values))
    except ValueError as error:
        raise ValueError(
            f"{name} has the unit {held}, which cannot be converted to {unit}: give numbers in {unit}."
        ) from error


def column_names(X: Any) -> list[Any]:
    """Return the names of the columns of a table; anything else has none.

    Parameters
    ----------
    X : any
        A table as in `as_table`, or anything else.

    Returns
    -------
    list
    """
    table = as_table(X)
    return [] if table is None else table.columns.tolist()


def as_target(y: Any, name: str = "y") -> Any:
    """Convert a target to a plain array without missing values.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_outputs)
        Numbers or labels.
    name : str, default="y"
        Name in errors.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If a value is missing; the error states how many and the first row.

    Examples
    --------
    >>> from skastro.inputs import as_target
    >>> as_target(["FRI", None, "FRII"])
    Traceback (most recent call last):
    ...
    ValueError: y has 1 missing values, the first in row 1: leave such rows out.
    """
    values = as_array(y, name)
    if issparse(values) or values.dtype.kind in "iubSU":
        return values
    missing = pd.isna(values)
    if missing.any():
        first = int(np.argwhere(missing)[0, 0])
        raise ValueError(f"{name} has {missing.sum()} missing values, the first in row {first}: leave such rows out.")
    return values


def as_text(values: Any) -> Any:
    """Turn bytes, as HDF5 keeps strings, into text.

    Parameters
    ----------
    values : ndarray of shape (n,), or IntegerArray of pandas
        A column.

    Returns
    -------
    ndarray or IntegerArray
        Itself, if it holds no bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.inputs import as_text
    >>> as_text(np.array([b"J0001", b"J0002"])).tolist()
    ['J0001', 'J0002']
    """
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    if values.dtype.kind == "O":
        return np.array([value.decode() if isinstance(value, bytes) else value for value in values], dtype=object)
    return values


def as_rows(X: Any, name: str = "X", cure: str = "they must be alike") -> Any:
    """Convert what a user gives to a pandas DataFrame if it is a table, else to a plain array; a source stays one.

    A table of nothing but one column of arrays, such as images, is an array.

    Parameters
    ----------
    X : array-like or table
        Rows.
    name, cure : str
        As in `as_array`.

    Returns
    -------
    DataFrame, ndarray or Source

    Examples
    --------
    >>> from skastro.inputs import as_rows
    >>> as_rows([[1.0, None]])
    array([[ 1., nan]])
    """
    if isinstance(X, Source):
        return X
    table = as_table(X)
    return as_array(X, name, cure) if table is None or _is_stack(table) else table


def check_rows(
    estimator: Any, X: Any, *, reset: bool, cure: str = "they must be alike", lazy: bool = False, **checks: Any
) -> Any:
    """Check the rows given to an estimator, and the number and names of their columns; they come in any container.

    Parameters
    ----------
    estimator : BaseEstimator
        Being fitted (reset), or fitted.
    X : array-like or table
        Rows.
    reset : bool
        Learn number and names of the columns, if the rows have two axes, rather than compare them.
    cure : str, default="they must be alike"
        As in `as_array`.
    lazy : bool, default=False
        Let a source pass unread, if it has enough rows; else it is read whole.
    **checks : dict
        For :func:`sklearn.utils.check_array`.

    Returns
    -------
    ndarray or Source

    Raises
    ------
    ValueError
        If they are not what `checks` ask for.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skastro.inputs import check_rows
    >>> scaler = StandardScaler()
    >>> check_rows(scaler, np.ones((3, 2)), reset=True).shape, scaler.n_features_in_
    ((3, 2), 2)
    """
    rows = as_rows(X, cure=cure)
    if lazy and isinstance(rows, Source):
        few = np.broadcast_to(np.float32(0), (len(rows), 1))  # of which only the number is looked at
        check_array(few, estimator=estimator, input_name="X", ensure_min_samples=checks["ensure_min_samples"])
        if rows.ndim == 2:
            validate_data(estimator, rows, reset=reset, skip_check_array=True)
        return rows
    array = check_array(
        as_array(rows) if isinstance(rows, pd.DataFrame) else rows, estimator=estimator, input_name="X", **checks
    )
    if array.ndim == 2:
        validate_data(estimator, rows, reset=reset, skip_check_array=True)
    return array


@contextmanager
def restored_on_failure(estimator: Any, unless: Callable[[BaseException], bool] | None = None) -> Iterator[None]:
    """Leave an estimator as it was if its fit, inside the block, fails or is interrupted: nothing is lost.

    Parameters
    ----------
    estimator : BaseEstimator
        Being fitted.
    unless : callable, default=None
        Whether what was fitted until an error stays; None is never.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skastro.inputs import restored_on_failure
    >>> pca = PCA()
    >>> try:
    ...     with restored_on_failure(pca):
    ...         pca.mean_ = 0.0
    ...         raise ValueError
    ... except ValueError:
    ...     hasattr(pca, "mean_")
    False
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException as error:
        if unless is None or not unless(error):
            vars(estimator).clear()
            vars(estimator).update(before)
        raise


def as_weight(sample_weight: Any, n: int) -> np.ndarray:
    """Convert the weights of rows to a plain array of numbers, none of them missing or negative.

    Parameters
    ----------
    sample_weight : array-like of shape (n,), number or None
        Weights; a number, or None for 1, is that of every row.
    n : int
        Number of rows.

    Returns
    -------
    ndarray of shape (n,), float64

    Raises
    ------
    ValueError
        If a weight is missing (how many, and the first row), infinite or negative, or there are not as many as rows.

    Examples
    --------
    >>> from skastro.inputs import as_weight
    >>> as_weight([1.0, float("nan")], 2)
    Traceback (most recent call last):
    ...
    ValueError: sample_weight has 1 missing values, the first in row 1: leave such rows out.
    """
    if sample_weight is not None and not isinstance(sample_weight, Number):
        sample_weight = as_target(sample_weight, "sample_weight")
    return _check_sample_weight(sample_weight, np.empty(n), dtype=np.float64, ensure_non_negative=True)


def _is_tensor(X: Any) -> bool:
    torch = sys.modules.get("torch")  # not imported here: metrics do without
    return torch is not None and isinstance(X, torch.Tensor)


def _is_masked(X: Any) -> bool:
    return isinstance(X, np.ndarray) and hasattr(X, "mask")  # a Series has a method of that name


def _is_quantity(X: Any) -> bool:
    return hasattr(X, "to_value") and hasattr(X, "unit")  # of astropy, whose times have only the first


def _refuse_unit(X: Any, name: str) -> None:
    if _is_quantity(X) and str(X.unit):
        raise ValueError(f"{name} has the unit {X.unit}, which is not kept: give its .value, always in the same unit.")


def _plain(X: Any) -> np.ndarray:
    """Replace what is masked by NaN."""
    if not _is_masked(X):
        return X if type(X) in (np.ndarray, np.memmap) else np.asarray(X)
    values, mask = np.asarray(getattr(X, "unmasked", X)), np.broadcast_to(X.mask, np.shape(X))
    if not mask.any():
        return values
    kind = values.dtype if values.dtype.kind in "fc" else np.float64 if values.dtype.kind in "iub" else object
    return np.where(mask, np.nan, values.astype(kind, copy=False)).astype(kind, copy=False)


def _column(X: Any, name: str) -> Any:
    """Make a column that pandas takes: in native byte order, rows of arrays as objects."""
    _refuse_unit(X, name)
    values = _plain(X)
    return list(values) if values.ndim > 1 else values.astype(values.dtype.newbyteorder("="), copy=False)


def _of_arrays(table: pd.DataFrame) -> list[Any]:
    """List the columns of a table that hold arrays."""
    places = [place for place, dtype in enumerate(table.dtypes) if dtype.kind == "O"]
    return [table.columns[place] for place in places if any(map(_is_array, table.iloc[:, place]))]


def _is_array(cell: Any) -> bool:
    return not isinstance(cell, str | bytes) and np.ndim(cell) > 0  # names first: they may be many


def _is_stack(table: pd.DataFrame) -> bool:
    """Tell a table whose one column holds arrays."""
    return table.shape[1] == 1 and bool(_of_arrays(table))


def _values(table: pd.DataFrame, name: str) -> np.ndarray:
    arrays = _of_arrays(table)
    if arrays and table.shape[1] == 1:
        return table.iloc[:, 0].to_numpy()
    if arrays:
        raise ValueError(
            f"{name} is a table of {table.shape[1]} columns, and {arrays[0]!r} holds arrays: give that column alone, "
            f"{name}[{arrays[0]!r}], or np.stack those that are bands."
        )
    numbers = all(pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes)
    if numbers and any(not isinstance(kind, np.dtype) for kind in table.dtypes):  # those of pandas know pd.NA
        return np.ascontiguousarray(table.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.ascontiguousarray(table.to_numpy())  # row by row: sums in another order are others in the last digit


def _row(row: Any, name: str) -> Any:
    """Convert a row that NumPy would not read, or of which it would lose the mask or the unit."""
    return as_array(row, name) if _is_masked(row) or _is_tensor(row) or _is_quantity(row) else row


def _stack(rows: list[Any], name: str, cure: str) -> np.ndarray:
    try:
        values = np.asarray(rows)
        if values.dtype.kind not in "SU":
            return values
        named = np.asarray(rows, dtype=object)
        return named if pd.isna(named).any() else values  # NumPy makes NaN a name
    except ValueError as error:
        if any(row is None for row in rows):  # what is missing, among arrays
            objects = np.empty(len(rows), dtype=object)
            objects[:] = rows
            return objects
        shapes = sorted({np.shape(row) for row in rows}) if len(rows) else []
        if len(shapes) < 2:
            raise
        raise ValueError(f"{name} has rows of several shapes, such as {shapes[0]} and {shapes[-1]}: {cure}.") from error


def _of_objects(values: np.ndarray, name: str, cure: str) -> np.ndarray:
    """Stack rows that are arrays, and turn objects that are numbers into numbers."""
    if values.dtype != object:
        return values
    missing = np.asarray(pd.isna(values))
    rows = [_row(row, name) for row in values] if values.ndim == 1 else []
    if arrays := [np.asarray(row) for row in rows if np.ndim(row)]:
        if len(arrays) + missing.sum() < len(rows):
            raise ValueError(f"{name} has rows that are arrays, and rows that are none: {cure}.")
        nothing = np.full(arrays[0].shape, np.nan)
        return _stack([nothing if gone else row for row, gone in zip(rows, missing, strict=True)], name, cure)
    known = np.where(missing, np.nan, values) if missing.any() else values
    return pd.Series(known.ravel()).infer_objects().to_numpy().reshape(values.shape)
