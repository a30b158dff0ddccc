"""The door for data: every kind of table, column and array becomes the same plain array, and missing is NaN."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from astropy.table import Column, MaskedColumn, QTable
from kinds import COLUMNS, TABLES, gap
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer

from skastro import FixedImageEmbedder
from skastro.inputs import as_array, as_column, as_rows, as_table, as_target, as_weight, column_names, in_unit

NUMBERS = {"b": np.array([3.0, 1.0, 2.0]), "a": np.array([7, 8, 9])}
VALUES = np.array([0.5, 1.5, 2.5, 3.5])
GONE = gap(VALUES, 2)
KNOWN = np.where(GONE, np.nan, VALUES)
LABELS = ["FRI", None, "FRII"]

each_table = pytest.mark.parametrize("kind", TABLES)
each_column = pytest.mark.parametrize("kind", COLUMNS)


class Interchange:
    """A table that has the interchange protocol and nothing else."""

    def __dataframe__(self, **options):
        return pd.DataFrame(NUMBERS).__dataframe__(**options)


@each_table
def test_every_table_has_its_columns_by_name(kind):
    table = as_table(TABLES[kind](NUMBERS))
    assert column_names(TABLES[kind](NUMBERS)) == list(table.columns) == ["b", "a"]
    for name, values in NUMBERS.items():
        assert_array_equal(table[name].to_numpy(dtype=float), values)


@pytest.mark.filterwarnings("ignore:.*interchange")
def test_a_table_of_an_unknown_library_comes_by_the_interchange():
    pd.testing.assert_frame_equal(as_table(Interchange()), pd.DataFrame(NUMBERS))


@each_table
def test_every_table_is_an_array_of_numbers(kind):
    assert_array_equal(as_array(TABLES[kind](NUMBERS)), np.column_stack(list(NUMBERS.values())), strict=True)
    assert isinstance(as_rows(TABLES[kind](NUMBERS)), pd.DataFrame)


@pytest.mark.parametrize("make", [pl.DataFrame, pa.table, pd.DataFrame])
def test_nulls_of_a_table_are_nan(make):
    assert_array_equal(as_array(make({"n": [1, None], "x": [0.5, 2.0]})), [[1, 0.5], [np.nan, 2]])


@pytest.mark.parametrize(
    "X", [VALUES, [1.0, 2.0], torch.ones(2), pl.Series([1]), pd.Series([1]), MaskedColumn([1]), None, "name", 5]
)
def test_what_is_no_table_has_no_names(X):
    assert as_table(X) is None
    assert column_names(X) == []


@each_column
def test_every_missing_value_is_nan(kind):
    found = as_array(COLUMNS[kind](VALUES, GONE))
    assert found.dtype == np.float64
    assert_array_equal(found, KNOWN)
    assert_array_equal(as_rows(COLUMNS[kind](VALUES, GONE)), KNOWN)


@each_column
def test_a_column_without_gaps_is_its_numbers(kind):
    assert_array_equal(as_target(COLUMNS[kind](VALUES, gap(VALUES, -1))), VALUES, strict=True)


@each_column
def test_targets_and_weights_with_gaps_are_refused(kind):
    with pytest.raises(ValueError, match=r"^z has 1 missing values, the first in row 2: leave such rows out\.$"):
        as_target(COLUMNS[kind](VALUES, GONE), "z")
    with pytest.raises(ValueError, match=r"^sample_weight has 1 missing values, the first in row 2"):
        as_weight(COLUMNS[kind](VALUES, GONE), 4)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        ["FRI", np.nan, "FRII"],
        ["FRI", pd.NA, "FRII"],
        np.array(LABELS, dtype=object),
        np.ma.masked_array(["FRI", "?", "FRII"], [False, True, False]),
        MaskedColumn(["FRI", "?", "FRII"], mask=[False, True, False]),
        pd.Series(LABELS, index=[5, 5, 0]),
        pd.Series(LABELS, dtype="string"),
        pd.Categorical(LABELS),
        pl.Series(LABELS),
        pa.array(LABELS),
        pl.DataFrame({"label": LABELS}),
    ],
    ids=lambda labels: f"{type(labels).__module__} {type(labels).__name__}",
)
def test_a_label_that_is_missing_is_no_class(labels):
    with pytest.raises(ValueError, match=r"^y has 1 missing values, the first in row 1"):
        as_target(labels)


def test_plain_arrays_pass_untouched(tmp_path):
    on_disk = np.memmap(tmp_path / "X", np.float32, "w+", shape=(2, 3))
    for X in (VALUES, np.arange(3), np.array(["a"]), on_disk, csr_array(np.eye(2))):
        assert as_array(X) is X
        assert as_target(X) is X


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "uint8", "bool"])
def test_kinds_of_numbers_stay(kind):
    values = np.ones(3, kind)
    for X in (values, list(values), torch.from_numpy(values), pd.Series(values), np.ma.masked_array(values)):
        assert_array_equal(as_array(X), values, strict=True)


def test_tensors_of_any_kind_are_arrays():
    assert_array_equal(as_array(torch.ones(2, dtype=torch.bfloat16)), np.ones(2, np.float32), strict=True)
    assert_array_equal(as_array(torch.ones(2, requires_grad=True)), np.ones(2, np.float32), strict=True)
    assert_array_equal(as_array([torch.zeros(3), torch.ones(3)]), [[0, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        lambda rows: pd.Series(rows, index=[4, 4, 1]),
        lambda rows: pl.Series([row.tolist() for row in rows]),
        lambda rows: np.array([*rows, None], dtype=object)[:3],
        lambda rows: pd.DataFrame({"pixels": rows}),
        lambda rows: QTable({"pixels": np.stack(rows)}),
    ],
)
@pytest.mark.parametrize("convert", [as_array, as_rows])
def test_a_column_of_arrays_is_stacked(make, convert):
    rows = list(np.arange(12.0).reshape(3, 4))
    assert_array_equal(convert(make(rows)), np.stack(rows))


def test_a_row_that_a_column_of_arrays_lacks_is_nan():
    assert_array_equal(as_array(pd.Series([np.ones(2), None])), [[1, 1], [np.nan, np.nan]])
    masked = np.ma.masked_equal([1.0, -99.0], -99.0)
    assert_array_equal(as_array([np.ones(2), masked]), [[1, 1], [1, np.nan]])


@pytest.mark.parametrize("make", [list, pd.Series, lambda rows: np.array([*rows, None], dtype=object)[:2]])
def test_rows_of_several_shapes_are_told(make):
    with pytest.raises(ValueError, match=r"^X has rows of several shapes, such as \(2, 8\) and \(2, 9\): cut them\.$"):
        as_array(make([np.ones((2, 8)), np.ones((2, 9))]), cure="cut them")


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, QTable])
@pytest.mark.parametrize("other", [np.ones((3, 8)), np.arange(3), np.array(["a", "b", "c"])])
def test_a_column_of_arrays_among_others_is_refused_and_alone_it_passes(make, other):
    table = make({"img": list(np.ones((3, 8))) if make is pd.DataFrame else np.ones((3, 8)), "other": list(other)})
    with pytest.raises(ValueError, match=r"^X is a table of 2 columns, and 'img' holds arrays: .*, X\['img'\], or np"):
        as_array(table)
    assert_array_equal(as_array(table["img"]), np.ones((3, 8)))
    chosen = ColumnTransformer([("i", FunctionTransformer(as_array), ["img"])])
    if make is not QTable:
        assert_array_equal(chosen.fit_transform(table), np.ones((3, 8)))


def test_arrays_beside_numbers_are_told():
    with pytest.raises(ValueError, match=r"^X has rows that are arrays, and rows that are none"):
        as_array(pd.Series([np.ones(2), 1.0]))


def test_weights_are_one_number_each():
    assert_array_equal(as_weight(None, 3), np.ones(3))
    assert_array_equal(as_weight(2, 3), np.full(3, 2.0))
    assert_array_equal(as_weight(torch.arange(3), 3), [0.0, 1.0, 2.0], strict=True)
    with pytest.raises(ValueError, match=r"expected \(3,\)"):
        as_weight([1, 1], 3)
    with pytest.raises(ValueError, match="Negative values"):
        as_weight([1, -1], 2)


IDS = [2**60 + 1, 2**60 + 2, None]


@pytest.mark.parametrize(
    "given",
    [
        IDS,
        [*IDS[:2], np.nan],
        np.array(IDS, dtype=object),
        np.ma.masked_array(np.array([*IDS[:2], -9], ">i8"), [False, False, True]),
        MaskedColumn([*IDS[:2], -9], mask=[False, False, True]),
        pd.Series(IDS, dtype="Int64", index=[4, 4, 1]),
        pd.Series(IDS, dtype="int64[pyarrow]"),
        pl.Series(IDS),
        pa.array(IDS),
        pa.chunked_array([IDS]),
    ],
    ids=lambda given: f"{type(given).__module__} {type(given).__name__}",
)
def test_integers_of_a_column_stay_integers_where_some_are_missing(given):
    found = as_column(given)
    assert (found.dtype, found[:2].tolist(), pd.isna(found[2])) == ("Int64", IDS[:2], True)


@each_column
def test_any_other_column_is_as_an_array(kind):
    assert_array_equal(as_column(COLUMNS[kind](VALUES, GONE)), KNOWN, strict=True)
    assert_array_equal(as_column(["a", "b"]), ["a", "b"])
    assert_array_equal(as_column(np.arange(3)), np.arange(3), strict=True)


@pytest.mark.parametrize(
    "given",
    [
        VALUES * u.hourangle,
        list(VALUES * u.hourangle),
        Column(VALUES, unit="hourangle"),
        (15 * VALUES * u.deg).to(u.rad),
        15 * VALUES,
        (15 * VALUES).tolist(),
    ],
    ids=["quantity", "list", "column", "radian", "array", "numbers"],
)
def test_an_angle_is_in_degrees_whatever_its_unit(given):
    assert_allclose(in_unit(given, "deg", "ra"), 15 * VALUES, rtol=1e-14)


def test_an_angle_that_is_missing_stays_so():
    assert_array_equal(in_unit(MaskedColumn(VALUES, mask=GONE, unit="deg"), "deg", "ra"), KNOWN)
    with pytest.raises(
        ValueError, match=r"^ra has the unit m, which cannot be converted to deg: give numbers in deg\.$"
    ):
        in_unit(VALUES * u.m, "deg", "ra")


@pytest.mark.parametrize("convert", [as_array, as_rows, as_target])
@pytest.mark.parametrize("unit", ["nJy", "%", "mag"])
def test_no_unit_is_lost_without_a_word(convert, unit):
    quantity = VALUES * u.Unit(unit)
    for given in (quantity, list(quantity), [quantity, quantity], quantity.astype(np.float32)):
        with pytest.raises(ValueError, match=rf"^flux has the unit {unit}, which is not kept: give its \.value"):
            convert(given, "flux")
    with pytest.raises(ValueError, match=rf"^z has the unit {unit}"):
        as_table(QTable({"z": quantity}))
    assert_array_equal(convert(VALUES * u.dimensionless_unscaled), VALUES)
    assert_array_equal(convert(Column(VALUES, unit=unit)), VALUES)  # files name units of what they hold as numbers


@pytest.mark.parametrize("given", ["cutouts", Path("cutouts")])
def test_a_path_is_told_how_to_be_opened(given):
    with pytest.raises(ValueError, match=r"X is the path 'cutouts': open it by skastro\.datasets\.open_images"):
        FixedImageEmbedder("test_resnet").fit(given)
