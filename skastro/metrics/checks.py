"""Checks of the input that all metrics share."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from skastro.inputs import as_array, as_table

__all__ = ["as_numbers", "check_finite", "check_lengths", "check_shares", "order_columns"]

ROUNDING = 1e-6


def as_numbers(name: str, values: Any) -> np.ndarray:
    """Convert an array, column or table of any kind to numbers, NaN where missing.

    Parameters
    ----------
    name : str
        Name of the values in errors.
    values : array-like
        Values to convert.

    Returns
    -------
    ndarray, float64
    """
    return np.asarray(as_array(values, name), dtype=np.float64)


def order_columns(name: str, values: Any, columns: Iterable[Any]) -> Any:
    """Order the columns of a table by name; what is no table, or has none of the names, passes in its own order.

    Parameters
    ----------
    name : str
        Name of the values in errors.
    values : array-like
        Values to match.
    columns : iterable
        Names, in the order wanted.

    Returns
    -------
    array-like

    Raises
    ------
    ValueError
        If a table has some of the names and not the others, or columns of other names too.

    Examples
    --------
    >>> import pandas as pd
    >>> from skastro.metrics.checks import order_columns
    >>> list(order_columns("predicted", pd.DataFrame({"bar": [0.1], "smooth": [0.7]}), ["smooth", "bar"]))
    ['smooth', 'bar']
    """
    table, columns = as_table(values), list(columns)
    if table is None or not set(table.columns) & set(columns):
        return values
    wanted, given = ([str(column) for column in names] for names in (columns, table.columns))
    if sorted(wanted) != sorted(given):
        raise ValueError(f"{name} must have the columns {', '.join(wanted)}; got {', '.join(given)}.")
    return table[columns]


def check_finite(name: str, values: np.ndarray) -> None:
    """Raise an error if values contain NaN or infinity.

    Parameters
    ----------
    name : str
        Name of the values in the error.
    values : ndarray of shape (n,)
        Values to check.

    Raises
    ------
    ValueError
        If values are NaN or infinite; the error states how many, and the first row.
    """
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{name} has {len(bad)} NaN or infinite values, the first in row {bad[0]}.")


def check_shares(name: str, values: np.ndarray) -> None:
    """Raise an error if values are no shares, but for rounding.

    Parameters
    ----------
    name : str
        Name of the values in the error.
    values : ndarray of shape (n, ...)
        Values to check; NaN is none.

    Raises
    ------
    ValueError
        If values lie outside of 0 to 1; the error has the first row, and its value.
    """
    bad = np.argwhere((values < -ROUNDING) | (values > 1 + ROUNDING))
    if len(bad):
        raise ValueError(f"{name} must lie between 0 and 1; row {bad[0][0]} has {values[tuple(bad[0])]:g}.")


def check_lengths(**arrays: np.ndarray) -> None:
    """Raise an error if arrays differ in length.

    Parameters
    ----------
    **arrays : ndarray
        Arrays, by their name in the error.

    Raises
    ------
    ValueError
        If their lengths differ.
    """
    lengths = [len(values) for values in arrays.values()]
    if len(set(lengths)) > 1:
        raise ValueError(f"{' and '.join(arrays)} must have one length; got {' and '.join(map(str, lengths))}.")
