"""Votes in a table of any library are found by name; what is masked is never counted."""

import numpy as np
import pandas as pd
import pytest
import torch
from kinds import TABLES
from numpy.testing import assert_array_equal

from skastro.pretrain.votes import as_votes
from skastro.votes import VoteSchema

SCHEMA = VoteSchema({"shape": ["smooth", "disc"], "bar": ["yes", "no"]}, {"bar": ("shape", "disc")})
COUNTS = np.array([[8, 2, 1, 1], [1, 9, 7, 2], [0, 0, 0, 0], [5, 5, 0, 5]])
BY_NAME = dict(zip(SCHEMA.columns, COUNTS.T, strict=True))
DISORDERED = dict(reversed(BY_NAME.items()))
METHODS = ["totals", "fractions", "entropy"]

each_table = pytest.mark.parametrize("kind", TABLES)


@each_table
def test_counts_are_found_by_name(kind):
    assert_array_equal(SCHEMA.validate(TABLES[kind](DISORDERED)), COUNTS)
    assert_array_equal(SCHEMA.labeled(TABLES[kind](DISORDERED)), [True, True, False, True])


@each_table
@pytest.mark.parametrize("method", METHODS)
def test_answers_have_the_names_of_the_schema(method, kind):
    found, votes = getattr(SCHEMA, method), TABLES[kind](DISORDERED)
    table = found(votes)
    assert list(table.columns) in (SCHEMA.columns, list(SCHEMA.questions))
    assert_array_equal(table, found(COUNTS))
    assert_array_equal(table.index, votes.index if isinstance(votes, pd.DataFrame) else range(4))


@each_table
def test_fractions_are_found_by_name(kind):
    shares = dict(zip(SCHEMA.columns, np.array([[0.2, 0.8, 0.5, 0.5]]).T, strict=True))
    found = SCHEMA.asked(TABLES[kind](dict(reversed(shares.items()))))
    assert found.to_dict("list") == {"shape": [1.0], "bar": [0.8]}


@each_table
def test_questions_are_found_by_name(kind):
    blocks = SCHEMA.by_question(TABLES[kind](DISORDERED))
    assert_array_equal(blocks["bar"], COUNTS[:, 2:])
    assert list(blocks["shape"].columns) == ["shape_smooth", "shape_disc"]


@each_table
def test_a_schema_is_read_off_any_table(kind):
    assert VoteSchema.from_columns(TABLES[kind](BY_NAME)).questions == SCHEMA.questions
    schema, counts = as_votes(TABLES[kind](BY_NAME), None, 4)
    assert schema.columns == SCHEMA.columns
    assert_array_equal(counts, COUNTS)


@each_table
def test_columns_that_are_not_the_schemas_are_refused(kind):
    with pytest.raises(ValueError, match="votes must have the schema's columns; they came without bar_no and with odd"):
        SCHEMA.validate(TABLES[kind]({**{name: BY_NAME[name] for name in SCHEMA.columns[:3]}, "odd": COUNTS[:, 0]}))


@pytest.mark.parametrize(
    "votes",
    [
        np.ma.masked_equal(COUNTS, 7),
        pd.DataFrame(BY_NAME).mask(pd.DataFrame(BY_NAME) == 7),
        pd.DataFrame(BY_NAME).convert_dtypes().mask(pd.DataFrame(BY_NAME) == 7),
        pd.DataFrame(BY_NAME).astype(object).mask(pd.DataFrame(BY_NAME) == 7, pd.NA),
        [[None if count == 7 else count for count in row] for row in COUNTS.tolist()],
        torch.tensor(np.where(COUNTS == 7, np.nan, COUNTS)),
    ],
    ids=["masked array", "pandas, NaN", "pandas, NA", "pandas, objects", "list", "tensor"],
)
def test_counts_that_are_missing_are_refused(votes):
    with pytest.raises(ValueError, match="1 of 16 are not, the first in row 1, column 'bar_yes'"):
        SCHEMA.validate(votes)
    with pytest.raises(ValueError, match=r"votes (must be finite|has 1 missing values, the first in row 1)"):
        as_votes(votes, None if isinstance(votes, pd.DataFrame) else SCHEMA, 4)


@pytest.mark.parametrize("labels", [["FRI", None, "FRII"], np.ma.masked_array(["FRI", "?", "FRII"], [0, 1, 0])])
def test_labels_that_are_missing_are_no_answer(labels):
    with pytest.raises(ValueError, match="votes has 1 missing values, the first in row 1"):
        as_votes(labels, None, 3)
