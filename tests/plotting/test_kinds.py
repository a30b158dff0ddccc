"""Displays draw data of every kind at the same places."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
from kinds import COLUMNS, TABLES, gap, shuffled
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose, assert_array_equal

from skastro.plotting import (
    AblationDisplay,
    CornerDisplay,
    CoverageDisplay,
    LabelSweepDisplay,
    LookAlikesDisplay,
    PhotoZDisplay,
    RankDisplay,
    VoteScatterDisplay,
)

mpl.use("Agg")
RNG = np.random.default_rng(0)
N = 30
Z = RNG.uniform(0, 0.4, N)
GUESS = Z + RNG.normal(0, 0.02, N)
DRAWS = RNG.normal(size=(N, 20))
each_column = pytest.mark.parametrize("kind", COLUMNS)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def points(ax):
    return np.asarray(ax.collections[-1].get_offsets())


@each_column
def test_redshifts_of_any_kind_are_drawn_and_refused_where_missing(kind):
    found, expected = (PhotoZDisplay.from_predictions(z, GUESS) for z in (COLUMNS[kind](Z, gap(Z, -1)), Z))
    assert_array_equal(points(found.axes_[0]), points(expected.axes_[0]))
    with pytest.raises(ValueError, match="z_true has 1 NaN"):
        PhotoZDisplay.from_predictions(COLUMNS[kind](Z, gap(Z, 3)), GUESS)


@each_column
def test_fractions_of_any_kind_are_drawn_and_left_out_where_missing(kind):
    found, expected = (
        VoteScatterDisplay.from_predictions(shares, Z)
        for shares in (COLUMNS[kind](Z, gap(Z, 3)), np.where(gap(Z, 3), np.nan, Z))
    )
    assert_array_equal(points(found.ax_), points(expected.ax_))
    assert found.ax_.texts[0].get_text() == expected.ax_.texts[0].get_text()


@each_column
def test_numbers_of_votes_that_are_missing_are_refused(kind):
    with pytest.raises(ValueError, match="votes must be a number, at least 0"):
        VoteScatterDisplay.from_predictions(Z, GUESS.clip(0, 1), COLUMNS[kind](100 * Z, gap(Z, 3)))


@each_column
@pytest.mark.parametrize("display", [CoverageDisplay, RankDisplay])
def test_truths_that_are_missing_test_no_posterior(display, kind):
    display.from_predictions(COLUMNS[kind](Z, gap(Z, -1)), DRAWS)
    with pytest.raises(ValueError, match="y_true is NaN or infinite in 1 rows, the first is row 3"):
        display.from_predictions(COLUMNS[kind](Z, gap(Z, 3)), DRAWS)


@pytest.mark.parametrize("kind", TABLES)
def test_draws_in_any_table_are_drawn(kind):
    draws = {"mass": DRAWS[:, 0], "age": DRAWS[:, 1]}
    found = CornerDisplay.from_predictions(TABLES[kind](draws), np.ma.masked_array([0.1, -9.0], [False, True]))
    expected = CornerDisplay.from_predictions(DRAWS[:, :2], [0.1, np.nan])
    assert [ax.get_title() for ax in found.axes_.flat] == [ax.get_title() for ax in expected.axes_.flat]


@pytest.mark.parametrize("kind", TABLES)
def test_look_alikes_are_those_of_the_array(kind):
    images, embedding = RNG.normal(size=(N, 8, 8)), RNG.normal(size=(N, 3)) + 5
    table = TABLES[kind](dict(zip("abc", embedding.T, strict=True)))
    found, expected = (
        LookAlikesDisplay.from_embedding(images, rows, [0, 1], n_neighbors=2) for rows in (table, embedding)
    )
    assert_array_equal(found.neighbors, expected.neighbors)
    assert_allclose(found.similarities, expected.similarities)


def test_masked_pixels_are_not_drawn():
    images = np.ma.masked_array(RNG.normal(size=(3, 8, 8)), False)
    images[:, 2, 2] = 1e6
    images[:, 2, 2] = np.ma.masked
    display = LookAlikesDisplay.from_embedding(images, RNG.normal(size=(3, 2)), [0], n_neighbors=1)
    assert display.axes_[0, 0].images[0].get_array().std() > 0.1


@pytest.mark.parametrize("make", [shuffled, pl.DataFrame])
def test_tables_of_scores_are_drawn_whatever_their_library_or_index(make):
    sweep = {"method": ["BYOL"] * 4, "n_labels": [72, 72, 145, 145], "score": [0.7, 0.8, 0.85, 0.87]}
    expected = LabelSweepDisplay.from_frame(pd.DataFrame(sweep), error=True)
    assert_allclose(
        LabelSweepDisplay.from_frame(make(sweep), error=True).lines_[0].get_ydata(), expected.lines_[0].get_ydata()
    )
    ablation = {
        "setting": ["all", "all", "without flip", "without flip"],
        "flip": [True, True, False, False],
        "repeat": [0] * 4,
        "fold": [0, 1, 0, 1],
        "score": [0.90, 0.80, 0.86, 0.78],
    }
    expected = AblationDisplay.from_frame(pd.DataFrame(ablation), error=True).table_
    pd.testing.assert_frame_equal(AblationDisplay.from_frame(make(ablation), error=True).table_, expected)
