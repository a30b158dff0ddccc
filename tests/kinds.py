"""The kinds in which data come: tables of each library, and columns in which a value is missing."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch
from astropy.table import MaskedColumn, Table


def shuffled(columns):
    """Make a pandas table whose index is in disorder and has duplicates: rows must be taken by position."""
    n = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=np.random.default_rng(1).integers(0, n, n))


def records(columns):
    """Make a structured array in the byte order of FITS."""
    kinds = [(name, np.asarray(values).dtype.newbyteorder(">")) for name, values in columns.items()]
    table = np.zeros(len(next(iter(columns.values()))), kinds)
    for name, values in columns.items():
        table[name] = values
    return table


# Each takes columns by name.
TABLES = {
    "pandas": pd.DataFrame,
    "pandas, index in disorder": shuffled,
    "pandas, nullable": lambda columns: pd.DataFrame(columns).convert_dtypes(),
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "astropy": Table,
    "structured array": records,
}

# Each takes numbers and a mask of what is missing.
COLUMNS = {
    "NaN": lambda values, missing: np.where(missing, np.nan, values),
    "masked array": lambda values, missing: np.ma.masked_array(np.where(missing, -9999.0, values), missing),
    "astropy": lambda values, missing: MaskedColumn(np.where(missing, -9999.0, values), mask=missing),
    "pandas": lambda values, missing: pd.Series(values, dtype="Float64").mask(missing),
    "pandas, index in disorder": lambda values, missing: shuffled({"x": np.where(missing, np.nan, values)})["x"],
    "polars": lambda values, missing: pl.Series(listed(values, missing)),
    "pyarrow": lambda values, missing: pa.array(listed(values, missing)),
    "list": lambda values, missing: listed(values, missing),
    "tensor": lambda values, missing: torch.tensor(np.where(missing, np.nan, values)),
}


def listed(values, missing):
    """List values, with None for what is missing."""
    return [None if gone else value for value, gone in zip(np.asarray(values).tolist(), missing, strict=True)]


def gap(values, row):
    """Mark one row as missing."""
    return np.arange(len(values)) == row
