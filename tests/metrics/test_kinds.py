"""Every metric gives one number for data of every kind, finds columns by name, and never uses a masked truth."""

import numpy as np
import pandas as pd
import pytest
import torch
from kinds import COLUMNS, TABLES, gap
from numpy.testing import assert_allclose

from skastro.metrics import (
    crps,
    delta_z,
    dirichlet_nll,
    get_scorer,
    interval_coverage,
    morphology_scores,
    morphology_table,
    photoz_bias,
    photoz_outliers,
    photoz_table,
    pit,
    read_votes,
    retrieval_ranks,
    retrieval_score,
    retrieval_table,
    sbc_ranks,
    sigma_mad,
    tarp,
    vote_coverage,
    vote_fraction_rmse,
    vote_scores,
    vote_table,
)
from skastro.votes import VoteSchema

RNG = np.random.default_rng(0)
N = 40
Z = RNG.uniform(0, 0.4, N)
GUESS = Z + RNG.normal(0, 0.02, N)
EDGES = np.linspace(0, 0.4, 6)
PDF = RNG.dirichlet(np.ones(5), N)
DRAWS = RNG.normal(size=(N, 30))
SHARE = RNG.uniform(size=N)
IMAGES = RNG.normal(size=(N, 4))
SPECTRA = IMAGES + RNG.normal(size=(N, 4))
KIND = RNG.integers(0, 4, N).astype(float)

# Metrics that refuse a truth that is missing, and the truth.
STRICT = {
    "delta_z": (lambda z: delta_z(z, GUESS), Z),
    "photoz_bias": (lambda z: photoz_bias(z, GUESS), Z),
    "sigma_mad": (lambda z: sigma_mad(z, GUESS), Z),
    "photoz_outliers": (lambda z: photoz_outliers(z, GUESS), Z),
    "crps": (lambda z: crps(z, PDF, EDGES), Z),
    "pit": (lambda z: pit(z, PDF, EDGES), Z),
    "photoz_table": (lambda z: photoz_table(z, GUESS, pdf=PDF, edges=EDGES, by=2), Z),
    "tarp": (lambda y: tarp(y, DRAWS).coverage, Z),
    "sbc_ranks": (lambda y: sbc_ranks(y, DRAWS).ranks, Z),
    "retrieval_ranks": (lambda labels: retrieval_ranks(IMAGES, SPECTRA, labels=labels), KIND),
    "retrieval_score": (lambda labels: list(retrieval_score(IMAGES, SPECTRA, labels=labels).values()), KIND),
    "retrieval_table": (lambda labels: retrieval_table({"image": IMAGES, "spectrum": SPECTRA}, labels=labels), KIND),
}
# Metrics that leave it out.
LENIENT = {
    "morphology_scores": lambda f, rows: list(morphology_scores(f, SHARE[::-1][rows]).values()),
    "morphology_table": lambda f, rows: morphology_table(f, SHARE[::-1][rows]),
    "interval_coverage": lambda f, rows: interval_coverage(f, np.stack([0.9 * SHARE, SHARE + 0.1], axis=1)[rows]),
}
ALL = slice(None)
each_column = pytest.mark.parametrize("kind", COLUMNS)
each_table = pytest.mark.parametrize("kind", TABLES)


@each_column
@pytest.mark.parametrize("name", STRICT)
def test_a_truth_of_any_kind_gives_one_number(name, kind):
    metric, truth = STRICT[name]
    assert_allclose(metric(COLUMNS[kind](truth, gap(truth, -1))), metric(truth))


@each_column
@pytest.mark.parametrize("name", STRICT)
def test_a_truth_that_is_missing_is_refused(name, kind):
    metric, truth = STRICT[name]
    with pytest.raises(ValueError, match=r"NaN or infinite.*\b3\b|labels has 1 missing values, the first in row 3"):
        metric(COLUMNS[kind](truth, gap(truth, 3)))


@each_column
@pytest.mark.parametrize("name", LENIENT)
def test_a_fraction_that_is_missing_is_left_out(name, kind):
    known = ~gap(SHARE, 3)
    assert_allclose(LENIENT[name](COLUMNS[kind](SHARE, ~known), ALL), LENIENT[name](SHARE[known], known))


@each_column
def test_predictions_of_any_kind_are_read_and_refused_where_missing(kind):
    guess, missing = COLUMNS[kind](GUESS, gap(GUESS, -1)), COLUMNS[kind](GUESS, gap(GUESS, 3))
    assert photoz_bias(Z, guess) == pytest.approx(photoz_bias(Z, GUESS))
    with pytest.raises(ValueError, match="z_pred has 1 NaN or infinite values, the first in row 3"):
        photoz_bias(Z, missing)
    with pytest.raises(ValueError, match="predicted has 1 NaN or infinite values, the first in row 3"):
        morphology_scores(SHARE, missing)


@pytest.mark.parametrize("wrap", [np.ma.masked_invalid, torch.from_numpy, pd.DataFrame, TABLES["polars"]])
def test_embeddings_of_any_kind_are_searched_and_masked_rows_are_missing(wrap):
    images, names = IMAGES.copy(), [f"simclr{i}" for i in range(4)]
    images[3, 1] = np.nan
    given = wrap(dict(zip(names, images.T, strict=True))) if wrap is TABLES["polars"] else wrap(images.copy())
    assert_allclose(retrieval_ranks(given, SPECTRA), retrieval_ranks(images, SPECTRA))
    assert retrieval_score(given, SPECTRA)["n_missing"] == 1


def test_intervals_that_are_missing_are_refused():
    intervals = np.ma.masked_less(np.stack([SHARE - 0.1, SHARE + 0.1], axis=1), -0.05)
    with pytest.raises(ValueError, match="intervals has NaN where a fraction is known"):
        interval_coverage(SHARE, intervals)


# Tables


SCHEMA = VoteSchema({"shape": ["smooth", "disc"], "bar": ["yes", "no"]}, {"bar": ("shape", "disc")})
DISC = RNG.integers(5, 20, N)
VOTES = np.stack([30 - DISC, DISC, DISC // 3, DISC - DISC // 3], axis=1)
ALPHA = RNG.gamma(3, 3, (N, 4)) + 1
PREDICTED = ALPHA / np.repeat(ALPHA.reshape(N, 2, 2).sum(axis=2), 2, axis=1)
ORDER = [3, 0, 2, 1]
VOTE_METRICS = {
    "dirichlet_nll": (dirichlet_nll, ALPHA),
    "vote_fraction_rmse": (vote_fraction_rmse, PREDICTED),
    "vote_coverage": (vote_coverage, ALPHA),
    "vote_scores": (vote_scores, PREDICTED),
    "vote_table": (vote_table, PREDICTED),
}


def disordered(kind, names, values):
    """Make a table with its columns in another order."""
    order = ORDER[: len(names)] if len(names) == 4 else np.arange(len(names))[::-1]
    return TABLES[kind]({names[i]: values[:, i] for i in order})


@each_table
@pytest.mark.parametrize("name", VOTE_METRICS)
def test_votes_and_predictions_in_a_table_are_found_by_name(name, kind):
    metric, predicted = VOTE_METRICS[name]
    expected = metric(VOTES, predicted, SCHEMA)
    votes, table = (disordered(kind, SCHEMA.columns, values) for values in (VOTES, predicted))
    assert_allclose(metric(votes, predicted, SCHEMA), expected)
    assert_allclose(metric(votes, table, SCHEMA), expected)
    assert_allclose(metric(VOTES, table, SCHEMA), expected)


@each_table
@pytest.mark.parametrize("name", VOTE_METRICS)
def test_without_a_schema_both_tables_are_matched_by_name(name, kind):
    metric, predicted = VOTE_METRICS[name]
    names, predicted = ["smooth", "disc"], predicted[:, :2]
    found = metric(TABLES[kind](dict(zip(names, VOTES[:, :2].T, strict=True))), disordered(kind, names, predicted))
    assert_allclose(found, metric(VOTES[:, :2], predicted))


@pytest.mark.parametrize("name", VOTE_METRICS)
@pytest.mark.parametrize("hide", [np.ma.masked_equal, lambda votes, n: pd.DataFrame(votes).mask(votes == n).to_numpy()])
def test_votes_that_are_missing_are_refused(name, hide):
    metric, predicted = VOTE_METRICS[name]
    with pytest.raises(ValueError, match="votes must be finite, and zero where nobody was asked"):
        metric(hide(VOTES, DISC[0]), predicted, SCHEMA)


@each_column
def test_weights_that_are_missing_are_refused(kind):
    weight = np.arange(1.0, N + 1)
    found = dirichlet_nll(VOTES, ALPHA, SCHEMA, sample_weight=COLUMNS[kind](weight, gap(weight, -1)))
    assert found == pytest.approx(dirichlet_nll(VOTES, ALPHA, SCHEMA, sample_weight=weight))
    with pytest.raises(ValueError, match="sample_weight has 1 missing values, the first in row 3"):
        dirichlet_nll(VOTES, ALPHA, SCHEMA, sample_weight=COLUMNS[kind](weight, gap(weight, 3)))


@each_table
def test_votes_alone_have_the_names_of_their_columns(kind):
    votes, schema = read_votes(TABLES[kind]({"ring": VOTES[:, 0], "none": VOTES[:, 1]}))
    assert schema.questions == {"votes": ["ring", "none"]}
    assert_allclose(votes, VOTES[:, :2])


@each_table
def test_tables_of_fractions_are_matched_by_name(kind):
    names, fractions = ["smooth", "bar"], PREDICTED[:, [0, 2]]
    expected = morphology_table(fractions, SHARE[:, np.newaxis] * fractions, votes=VOTES[:, :2], min_votes=8)
    found = morphology_table(
        TABLES[kind](dict(zip(names, fractions.T, strict=True))),
        disordered(kind, names, SHARE[:, np.newaxis] * fractions),
        votes=disordered(kind, names, VOTES[:, :2]),
        min_votes=8,
    )
    assert list(found.index) == names
    assert_allclose(found, expected)


def test_tables_that_share_some_names_only_are_refused():
    fractions = pd.DataFrame({"smooth": SHARE, "bar": SHARE})
    with pytest.raises(ValueError, match=r"^predicted must have the columns smooth, bar; got smooth, ring\.$"):
        morphology_table(fractions, fractions.rename(columns={"bar": "ring"}))
    by_position = morphology_table(fractions, fractions.set_axis(["P(smooth)", "P(bar)"], axis=1))
    assert_allclose(by_position, morphology_table(fractions, fractions))


@each_table
def test_references_are_matched_with_the_truth_by_name(kind):
    truth, references = np.column_stack([Z, SHARE]), RNG.uniform(size=(N, 2))
    draws = RNG.normal(size=(N, 20, 2))
    names = ["z", "f"]
    found = tarp(
        TABLES[kind](dict(zip(names, truth.T, strict=True))), draws, references=disordered(kind, names, references)
    )
    assert_allclose(found.fractions, tarp(truth, draws, references=references).fractions)


# Scorers


class Guess:
    """A regressor that knows."""

    def fit(self, X, y):
        return self

    def predict(self, X):
        return GUESS

    def predict_pdf(self, X):
        return PDF, EDGES


@each_column
def test_scorers_take_a_truth_of_any_kind_and_refuse_a_missing_one(kind):
    whole, missing = COLUMNS[kind](Z, gap(Z, -1)), COLUMNS[kind](Z, gap(Z, 3))
    score = get_scorer("neg_crps")
    assert score(Guess(), None, whole) == pytest.approx(-crps(Z, PDF, EDGES).mean())
    with pytest.raises(ValueError, match="z_true has 1 NaN"):
        score(Guess(), None, missing)
