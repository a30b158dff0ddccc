"""Experiments give one table of scores for data of every kind: rows are taken by position, properties by name."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from kinds import COLUMNS, TABLES, gap, shuffled
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import DirichletClassifier, SimCLREmbedder, augmentation_ablation, label_sweep
from skastro.augment import Augment, Flip
from skastro.model_selection import property_scores
from skastro.votes import VoteSchema

RNG = np.random.default_rng(0)
N = 40
ROWS = RNG.normal(size=(N, 3))
COLUMNS_OF_X = dict(zip(["u-g", "g-r", "r-i"], ROWS.T, strict=True))
KIND = (ROWS[:, 0] + RNG.normal(size=N) > 0).astype(int)
GROUPS = np.arange(N) % 4
DISC = RNG.integers(5, 20, N)
VOTES = {"shape_smooth": 30 - DISC, "shape_disc": DISC}
METHODS = {
    "rows": LogisticRegression(),
    "pretrained": make_pipeline(StandardScaler(), PCA(2, random_state=0), LogisticRegression()),
}
KINDS = {
    **TABLES,
    "masked array": lambda columns: np.ma.masked_array(np.column_stack(list(columns.values()))),
    "tensor": lambda columns: torch.from_numpy(np.column_stack(list(columns.values()))),
    "lists": lambda columns: np.column_stack(list(columns.values())).tolist(),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_column = pytest.mark.parametrize("kind", COLUMNS)


def sweep(X=ROWS, y=KIND, methods=METHODS, **words):
    table = label_sweep(methods, X, y, label_counts=[10, 15], cv=2, random_state=0, **words)
    return table.drop(columns="seconds")


@pytest.fixture(scope="module")
def expected():
    return sweep()


@each_kind
def test_rows_of_any_kind_are_swept(kind, expected):
    pd.testing.assert_frame_equal(sweep(KINDS[kind](COLUMNS_OF_X)), expected)


@each_column
def test_targets_of_any_kind_are_swept_and_refused_where_missing(kind, expected):
    pd.testing.assert_frame_equal(sweep(y=as_kind(kind, gap(KIND, -1))), expected)
    with pytest.raises(ValueError, match="y has 1 missing values, the first in row 3"):
        sweep(y=as_kind(kind, gap(KIND, 3)))


def as_kind(kind, missing):
    return COLUMNS[kind](KIND.astype(float), missing)


@each_column
def test_groups_of_any_kind_divide_and_are_refused_where_missing(kind):
    def by(groups):
        return label_sweep(METHODS, ROWS, KIND, label_counts=[8], cv=GroupKFold(2), groups=groups, random_state=0)

    found, plain = by(COLUMNS[kind](GROUPS.astype(float), gap(KIND, -1))), by(GROUPS)
    assert_array_equal(found["score"], plain["score"])
    with pytest.raises(ValueError, match="groups has 1 missing values, the first in row 3"):
        by(COLUMNS[kind](GROUPS.astype(float), gap(KIND, 3)))


@pytest.mark.parametrize("kind", TABLES)
def test_votes_in_any_table_are_swept(kind):
    methods = {"votes": DirichletClassifier(VoteSchema({"shape": ["smooth", "disc"]}), tol=0.01)}
    found = sweep(y=TABLES[kind](dict(reversed(VOTES.items()))), methods=methods)
    pd.testing.assert_frame_equal(found, sweep(y=np.column_stack(list(VOTES.values())), methods=methods))


@pytest.mark.parametrize("kind", ["pandas, index in disorder", "polars", "astropy"])
def test_metadata_of_any_kind_go_with_their_rows(kind):
    weight = RNG.integers(1, 9, N).astype(float)
    with config_context(enable_metadata_routing=True):
        methods = {
            "rows": LogisticRegression().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        }
        found, plain = (
            sweep(methods=methods, params={"sample_weight": given})
            for given in (COLUMNS[kind](weight, gap(weight, -1)), weight)
        )
    pd.testing.assert_frame_equal(found, plain)


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_the_output_of_transformers_is_of_no_concern(output, expected):
    many = np.random.default_rng(1).normal(size=(160, 3))
    with config_context(transform_output=output):
        pd.testing.assert_frame_equal(sweep(), expected)
        found = property_scores({"rows": many}, {"mass": many[:, 0]}, cv=2)
    pd.testing.assert_frame_equal(found, property_scores({"rows": many}, {"mass": many[:, 0]}, cv=2))


def test_an_ablation_takes_rows_by_position():
    images = RNG.normal(size=(12, 1, 32, 32)).astype(np.float32)
    embedder = SimCLREmbedder("test_resnet", augment=Augment([("flip", Flip())]), max_epochs=1, batch_size=6)
    pipe = make_pipeline(embedder, LogisticRegression())

    def ablate(X, y):
        return augmentation_ablation(pipe, X, y, kinds="all", cv=2, random_state=0)

    expected = ablate(images, KIND[:12])
    pd.testing.assert_frame_equal(ablate(torch.from_numpy(images), shuffled({"y": KIND[:12]})["y"]), expected)
    with pytest.raises(ValueError, match="y has 1 missing values, the first in row 3"):
        ablate(images, np.ma.masked_array(KIND[:12], gap(KIND[:12], 3)))


# Properties


LINE = {"line": LinearRegression()}
MASS, AGE = ROWS[:, 0] + 0.1 * RNG.normal(size=N), ROWS[:, 1] ** 2


def scores(embeddings, properties, **words):
    return property_scores(embeddings, properties, heads=LINE, cv=4, **words)


@each_kind
def test_embeddings_of_any_kind_are_scored(kind):
    found = scores({"rows": KINDS[kind](COLUMNS_OF_X)}, {"mass": MASS})
    pd.testing.assert_frame_equal(found, scores({"rows": ROWS}, {"mass": MASS}))


@pytest.mark.parametrize("kind", TABLES)
def test_properties_in_any_table_have_their_names(kind):
    found = scores({"rows": ROWS}, TABLES[kind]({"mass": MASS, "age": AGE}))
    pd.testing.assert_frame_equal(found, scores({"rows": ROWS}, {"mass": MASS, "age": AGE}))


@each_column
def test_objects_without_a_property_are_left_out(kind):
    properties = {"mass": COLUMNS[kind](MASS, gap(MASS, 3)), "age": AGE}
    expected = scores({"rows": ROWS}, {"mass": np.where(gap(MASS, 3), np.nan, MASS), "age": AGE})
    pd.testing.assert_frame_equal(scores({"rows": ROWS}, properties), expected)
    assert np.isfinite(expected["score"]).all()


def test_properties_in_a_mapping_are_not_aligned_by_index():
    properties = {"mass": pd.Series(MASS, index=np.arange(N)[::-1]), "age": pd.Series(AGE, index=np.arange(N) + 7)}
    pd.testing.assert_frame_equal(
        scores({"rows": ROWS}, properties), scores({"rows": ROWS}, {"mass": MASS, "age": AGE})
    )


@pytest.mark.parametrize("make", [pd.Series, pl.Series], ids=["pandas", "polars"])
def test_a_series_has_a_name(make):
    found = scores({"rows": ROWS}, make(MASS.tolist(), name="mass") if make is pd.Series else make("mass", MASS))
    pd.testing.assert_frame_equal(found, scores({"rows": ROWS}, {"mass": MASS}))


def test_a_masked_row_of_an_embedding_is_missing():
    lacking = np.ma.masked_array(ROWS, np.repeat(gap(ROWS, 3)[:, np.newaxis], 3, axis=1))
    found = scores({"some": lacking, "all": ROWS}, {"mass": MASS})
    expected = scores({"some": np.where(lacking.mask, np.nan, ROWS), "all": ROWS}, {"mass": MASS})
    pd.testing.assert_frame_equal(found, expected)


def test_properties_of_several_lengths_are_refused():
    with pytest.raises(ValueError, match=r"^properties must have one length; got 39, 40\.$"):
        scores({"rows": ROWS}, {"mass": MASS, "age": AGE[1:]})
