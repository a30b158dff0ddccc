"""Each metric of votes against its formula written slowly, what it must not depend on, and what is refused."""

import pickle
from math import lgamma

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import betabinom
from sklearn import config_context
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import DirichletClassifier
from skastro.losses import dirichlet_multinomial_nll
from skastro.metrics import (
    dirichlet_nll,
    get_scorer,
    get_scorer_names,
    interval_coverage,
    make_vote_scorer,
    morphology_scores,
    per_question,
    read_votes,
    vote_coverage,
    vote_fraction_rmse,
    vote_scores,
    vote_table,
)
from skastro.metrics.scorers import VOTE_SCORERS
from skastro.votes import VoteSchema

SCHEMA = VoteSchema(
    {"shape": ["smooth", "disc", "artifact"], "bar": ["yes", "no"], "odd": ["yes", "no"]}, {"bar": ("shape", "disc")}
)
BLOCKS = {"shape": slice(0, 3), "bar": slice(3, 5), "odd": slice(5, 7)}


def volunteers(n=200, seed=0):
    """Votes down the tree, a fifth of the galaxies unseen, and concentrations that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    number = rng.integers(1, 40, n) * (rng.random(n) < 0.8)
    shape = rng.multinomial(number, rng.dirichlet([0.5, 0.5, 0.2], n))
    bar = rng.multinomial(shape[:, 1], rng.dirichlet([0.5, 0.5], n))
    odd = rng.multinomial(number // 2, rng.dirichlet([0.5, 0.5], n))
    return np.hstack([shape, bar, odd]), rng.gamma(2, 5, (n, 7)) + 0.1


VOTES, ALPHA = volunteers()
PREDICTED = ALPHA / per_question(ALPHA, SCHEMA.sizes)
MEASURES = {
    "dirichlet_nll": (dirichlet_nll, ALPHA),
    "vote_fraction_rmse": (vote_fraction_rmse, PREDICTED),
    "vote_coverage": (vote_coverage, ALPHA),
    "vote_scores": (vote_scores, PREDICTED),
    "vote_table": (vote_table, PREDICTED),
}
each_measure = pytest.mark.parametrize(("measure", "predicted"), MEASURES.values(), ids=list(MEASURES))


def slow_log_p(k, alpha):
    n, total = sum(k), sum(alpha)
    terms = [lgamma(x + a) - lgamma(a) - lgamma(x + 1) for x, a in zip(k, alpha, strict=True)]
    return lgamma(total) + lgamma(n + 1) - lgamma(n + total) + sum(terms)


def asked_rows():
    """Galaxy, question and its block, wherever the question was asked."""
    return [(i, name, block) for i in range(len(VOTES)) for name, block in BLOCKS.items() if VOTES[i, block].sum()]


# --- the formulas ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "k", "log_p"),
    [
        ((2, 5), (3, 1), -2.3513752572),
        ((1, 1, 1), (4, 0, 0), -2.7080502011),
        ((100, 1, 1), (4, 0, 0), -0.0780605465),
        ((101, 1), (40, 0), -0.3336393735),
        ((1, 101), (40, 0), -81.4939182501),
        ((50.5, 50.5, 50.5), (10, 20, 10), -5.8857496376),
    ],
)
def test_likelihoods_are_those_worked_out_elsewhere(alpha, k, log_p):
    assert dirichlet_nll([k], [alpha]) == pytest.approx(-log_p, abs=1e-9)


def test_the_likelihood_is_the_sum_over_questions_and_the_mean_over_galaxies_with_votes():
    total = sum(slow_log_p(VOTES[i, block], ALPHA[i, block]) for i, _, block in asked_rows())
    assert dirichlet_nll(VOTES, ALPHA, SCHEMA) == pytest.approx(-total / VOTES.any(axis=1).sum())


def test_the_likelihood_is_the_loss_that_is_trained_with():
    loss = dirichlet_multinomial_nll(torch.tensor(ALPHA), torch.tensor(VOTES), SCHEMA.sizes)
    assert dirichlet_nll(VOTES, ALPHA, SCHEMA) == pytest.approx(loss.item(), rel=1e-10)


def test_weights_of_galaxies_count_as_copies():
    weight = np.random.default_rng(1).integers(0, 4, len(VOTES))
    copies = dirichlet_nll(np.repeat(VOTES, weight, axis=0), np.repeat(ALPHA, weight, axis=0), SCHEMA)
    assert dirichlet_nll(VOTES, ALPHA, SCHEMA, sample_weight=weight) == pytest.approx(copies)


def test_the_error_of_fractions_is_over_answers_to_questions_asked():
    squares = []
    for i, _, block in asked_rows():
        squares += [
            (k / VOTES[i, block].sum() - p) ** 2 for k, p in zip(VOTES[i, block], PREDICTED[i, block], strict=True)
        ]
    assert vote_fraction_rmse(VOTES, PREDICTED, SCHEMA) == pytest.approx(np.sqrt(np.mean(squares)))


@pytest.mark.parametrize("limits", [(0.2, 0.8), (0.5, 0.5)])
def test_rows_of_the_table_are_the_scores_of_answers(limits):
    table = vote_table(VOTES, PREDICTED, SCHEMA, high_quality=limits)
    assert table.index.names == ["question", "answer"]
    for column, (question, answer) in enumerate(table.index):
        assert f"{question}_{answer}" == SCHEMA.columns[column]
        expected = morphology_scores(SCHEMA.fractions(VOTES)[:, column], PREDICTED[:, column], high_quality=limits)
        assert table.iloc[column].to_dict() == pytest.approx(expected)


@pytest.mark.parametrize("limits", [(0.2, 0.8), (0.5, 0.5)])
def test_scores_of_a_question_are_means_over_its_answers_and_its_accuracy_is_of_the_most_voted(limits):
    scores = vote_scores(VOTES, PREDICTED, SCHEMA, high_quality=limits)
    table = vote_table(VOTES, PREDICTED, SCHEMA, high_quality=limits)
    for question, block in BLOCKS.items():
        rows = [i for i, name, _ in asked_rows() if name == question]
        agreed = [i for i in rows if VOTES[i, block].max() / VOTES[i, block].sum() > limits[1]]
        right = [VOTES[i, block].argmax() == PREDICTED[i, block].argmax() for i in agreed]
        assert scores.loc[question, "n"] == len(rows)
        assert scores.loc[question, "n_high_quality"] == len(agreed)
        assert scores.loc[question, "accuracy"] == pytest.approx(np.mean(right))
        assert scores.loc[question, "rmse"] == pytest.approx(
            vote_fraction_rmse(VOTES, PREDICTED, SCHEMA, question=question)
        )
        for name in ("precision", "recall", "f1", "auc", "outliers"):
            assert scores.loc[question, name] == pytest.approx(table.loc[question, name].mean())


def test_of_two_answers_the_accuracy_is_that_of_a_yes_or_no():
    table, scores = vote_table(VOTES, PREDICTED, SCHEMA), vote_scores(VOTES, PREDICTED, SCHEMA)
    for question in ("bar", "odd"):
        assert scores.loc[question, "accuracy"] == pytest.approx(table.loc[(question, "yes"), "accuracy"])


def test_a_question_never_asked_has_nothing_but_its_zeros():
    votes = VOTES * ~np.isin(np.arange(7), [3, 4])
    row = vote_scores(votes, PREDICTED, SCHEMA).loc["bar"]
    assert (row["n"], row["n_high_quality"]) == (0, 0)
    assert row.drop(["n", "n_high_quality"]).isna().all()


def slow_coverage(k, n, a, b, level):
    start, step = betabinom.cdf(k - 1, n, a, b), betabinom.pmf(k, n, a, b)
    low, high = (1 - level) / 2, (1 + level) / 2
    return max(min(start + step, high) - max(start, low), 0) / step


def test_coverage_is_the_share_of_each_step_inside():
    shares = []
    for i, _, block in asked_rows():
        k, alpha = VOTES[i, block], ALPHA[i, block]
        shares += [slow_coverage(x, k.sum(), a, alpha.sum() - a, 0.8) for x, a in zip(k, alpha, strict=True)]
    assert vote_coverage(VOTES, ALPHA, SCHEMA, level=0.8) == pytest.approx(np.mean(shares))


@pytest.mark.parametrize("number", [1, 3, 40])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_coverage_is_the_level_where_votes_follow_the_prediction(number, level):
    rng = np.random.default_rng(2)
    alpha = np.exp(rng.uniform(-0.7, 4, (5000, 3)))
    fractions = np.array([rng.dirichlet(row) for row in alpha])
    votes = rng.multinomial(number, fractions)
    assert vote_coverage(votes, alpha, level=level) == pytest.approx(level, abs=0.015)
    if number == 40:
        assert vote_coverage(votes, 10 * alpha, level=level) < level - 0.1
        assert vote_coverage(votes, alpha / 10, level=level) > level + 0.05


def test_intervals_cover_what_lies_inside_them():
    rng = np.random.default_rng(3)
    fractions, ends = rng.random((50, 3)), np.sort(rng.random((50, 3, 2)), axis=2)
    fractions[rng.random((50, 3)) < 0.3] = np.nan
    inside = [low <= f <= high for f, (low, high) in zip(fractions.flat, ends.reshape(-1, 2), strict=True) if f == f]
    assert interval_coverage(fractions, ends) == pytest.approx(np.mean(inside))


# --- laws -----------------------------------------------------------------------------------------------------------


def same(first, second):
    if isinstance(first, float):
        return first == pytest.approx(second)
    return pd.testing.assert_frame_equal(first, second) is None


@each_measure
def test_galaxies_without_votes_and_questions_not_asked_count_for_nothing(measure, predicted):
    asked = per_question(VOTES, SCHEMA.sizes) > 0
    other = np.where(asked, predicted, predicted[::-1])
    some = VOTES.any(axis=1)
    assert same(measure(VOTES, predicted, SCHEMA), measure(VOTES, other, SCHEMA))
    assert same(measure(VOTES, predicted, SCHEMA), measure(VOTES[some], predicted[some], SCHEMA))


@each_measure
def test_the_order_of_galaxies_and_of_a_tables_columns_does_not_matter(measure, predicted):
    expected = measure(VOTES, predicted, SCHEMA)
    assert same(expected, measure(VOTES[::-1], predicted[::-1], SCHEMA))
    votes, guess = (pd.DataFrame(values, columns=SCHEMA.columns)[SCHEMA.columns[::-1]] for values in (VOTES, predicted))
    assert same(expected, measure(votes, guess, SCHEMA))


@each_measure
@pytest.mark.parametrize("min_volunteers", [1, 20])
@pytest.mark.parametrize("min_asked", [0, 0.3, 0.5])
@pytest.mark.parametrize("question", [None, "bar"])
def test_what_is_left_out_is_as_if_it_had_not_been_asked(measure, predicted, min_volunteers, min_asked, question):
    few = VOTES.copy()
    for i, name, block in asked_rows():
        shown = VOTES[i, :3].sum()
        if shown < min_volunteers or VOTES[i, block].sum() < min_asked * shown or question not in (None, name):
            few[i, block] = 0
    flat = VoteSchema(SCHEMA.questions)  # without the tree, which now has children without parents
    options = {"question": question, "min_volunteers": min_volunteers, "min_asked": min_asked}
    assert same(measure(VOTES, predicted, SCHEMA, **options), measure(few, predicted, flat))


@each_measure
def test_campaigns_go_by_name_and_columns_alone_are_one_question(measure, predicted):
    few, guess = VOTES[:, 3:5], predicted[:, 3:5]
    by_name, alone = measure(few, guess, "gz_rings"), measure(few, guess)
    if not isinstance(alone, float):
        by_name, alone = by_name.reset_index(drop=True), alone.reset_index(drop=True)
    assert same(by_name, alone)


def test_sums_over_questions_stand_in_the_place_of_each_answer():
    expected = [[row[BLOCKS[name.split("_")[0]]].sum() for name in SCHEMA.columns] for row in VOTES]
    assert_array_equal(per_question(VOTES, SCHEMA.sizes), expected)


def test_read_votes_keeps_the_names_of_a_table():
    votes, schema = read_votes(pd.DataFrame({"smooth": [3, 0], "bar": [1, 0]}))
    assert_array_equal(votes, [[3, 1], [0, 0]])
    assert schema.questions == {"votes": ["smooth", "bar"]}


# --- bad input ------------------------------------------------------------------------------------------------------


@each_measure
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda votes: votes - 1, "votes must (not be negative|be at least 0)"),
        (lambda votes: votes / 2, "votes must be whole numbers"),
        (lambda votes: np.where(votes > 5, np.nan, votes), "votes must be finite"),
        (lambda votes: votes[:, 1:], "votes must have 7 columns"),
        (lambda votes: votes[1:], r"must have the shape \(199, 7\)"),
        (np.zeros_like, "there is nothing to measure"),
        (lambda votes: pd.DataFrame(votes, columns=[*SCHEMA.columns[1:], "x"]), "without shape_smooth and with x"),
    ],
    ids=["negative", "fractional", "NaN", "columns", "rows", "empty", "names"],
)
def test_votes_that_are_none_are_refused(measure, predicted, change, sentence):
    if change is np.zeros_like and measure in (vote_scores, vote_table):
        assert (measure(change(VOTES), predicted, SCHEMA)["n"] == 0).all()  # a table of nothing
        return
    with pytest.raises(ValueError, match=sentence):
        measure(change(VOTES), predicted, SCHEMA)


@each_measure
def test_settings_out_of_range_are_refused(measure, predicted):
    with pytest.raises(ValueError, match="There is no question 'ring'; the schema has shape, bar, odd"):
        measure(VOTES, predicted, SCHEMA, question="ring")
    with pytest.raises(ValueError, match="min_asked must be a share from 0 to 1; got 50"):
        measure(VOTES, predicted, SCHEMA, min_asked=50)
    with pytest.raises(ValueError, match="Unknown schema 'gz3'"):
        measure(VOTES, predicted, "gz3")


@pytest.mark.parametrize("measure", [dirichlet_nll, vote_coverage])
@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf])
def test_concentrations_that_are_none_are_refused(measure, bad):
    alpha = ALPHA.copy()
    alpha[3, 2] = bad
    with pytest.raises(ValueError, match="concentrations must be finite and more than 0; row 3 has others"):
        measure(VOTES, alpha, SCHEMA)


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"sample_weight\.shape == \(3,\), expected \(200,\)"):
        dirichlet_nll(VOTES, ALPHA, SCHEMA, sample_weight=[1, 1, 1])
    with pytest.raises(ValueError, match=r"No galaxy has both votes and a weight|at least one non-zero number"):
        dirichlet_nll(VOTES, ALPHA, SCHEMA, sample_weight=np.zeros(200))
    with pytest.raises(ValueError, match="predicted has NaN or infinite values where a question was asked"):
        vote_fraction_rmse(VOTES, PREDICTED * np.nan, SCHEMA)
    with pytest.raises(ValueError, match="level must be between 0 and 1; got 90"):
        vote_coverage(VOTES, ALPHA, SCHEMA, level=90)
    with pytest.raises(ValueError, match=r"intervals must have the shape \(2, 1, 2\), two ends each; got \(2, 2\)"):
        interval_coverage([[0.5], [0.5]], [[0, 1], [0, 1]])
    with pytest.raises(ValueError, match="All fractions are NaN"):
        interval_coverage([[np.nan]], [[[0, 1]]])
    with pytest.raises(ValueError, match="There is no scorer of votes 'accuracy'; there are neg_dirichlet_nll"):
        make_vote_scorer("accuracy")


# --- scorers --------------------------------------------------------------------------------------------------------

each_scorer = pytest.mark.parametrize("name", VOTE_SCORERS)


def rows_and_votes(n=120, seed=4):
    """Simulated: bars among discs, discs among all, by one feature each."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    number = rng.integers(5, 40, n) * (rng.random(n) < 0.9)
    disc, bar = rng.beta(*np.exp([1 + X[:, 0], 1 - X[:, 0]])), rng.beta(*np.exp([1 + X[:, 1], 1 - X[:, 1]]))
    discs = rng.binomial(number, disc)
    bars = rng.binomial(discs, bar)
    return X, np.column_stack([number - discs, discs, bars, discs - bars])


TREE = VoteSchema({"shape": ["smooth", "disc"], "bar": ["yes", "no"]}, {"bar": ("shape", "disc")})
X, Y = rows_and_votes()


@pytest.fixture(scope="module")
def model():
    return DirichletClassifier(TREE).fit(X, Y)


@pytest.mark.parametrize("options", [{}, {"question": "bar", "min_volunteers": 20, "min_asked": 0.5}])
def test_scorers_are_the_metrics_with_their_sign(model, options):
    alpha, fractions = model.predict_concentrations(X), model.predict_proba(X)
    scores = vote_scores(Y, fractions, TREE, **options).mean()
    coverage = vote_coverage(Y, alpha, TREE, level=0.8, **options)
    expected = {f"vote_{name}": scores[name] for name in ("accuracy", "auc", "f1", "precision", "recall")} | {
        "neg_dirichlet_nll": -dirichlet_nll(Y, alpha, TREE, **options),
        "neg_vote_fraction_rmse": -vote_fraction_rmse(Y, fractions, TREE, **options),
        "neg_vote_outliers": -scores["outliers"],
        "vote_coverage": coverage,
        "neg_vote_coverage_error": -abs(coverage - 0.8),
    }
    assert sorted(expected) == sorted(VOTE_SCORERS)
    found = {name: make_vote_scorer(name, level=0.8, **options)(model, X, Y) for name in VOTE_SCORERS}
    assert found == pytest.approx(expected)


@each_scorer
def test_scorers_by_name_have_the_defaults(model, name):
    assert name in get_scorer_names()
    assert get_scorer(name)(model, X, Y) == make_vote_scorer(name)(model, X, Y)
    assert pickle.loads(pickle.dumps(get_scorer(name)))(model, X, Y) == get_scorer(name)(model, X, Y)


CLASSIFIERS = {
    "one step": make_pipeline(DirichletClassifier(TREE)),
    "pipeline": make_pipeline(StandardScaler(), "passthrough", DirichletClassifier(TREE)),
    "search": GridSearchCV(
        make_pipeline(StandardScaler(), DirichletClassifier(TREE)), {"dirichletclassifier__tol": [1e-5]}, cv=2
    ),
}


@pytest.mark.parametrize("classifier", CLASSIFIERS.values(), ids=list(CLASSIFIERS))
@each_scorer
def test_scorers_see_through_pipelines_and_searches(classifier, name):
    # Features are standardized inside, so all of these are one classifier.
    expected = cross_val_score(DirichletClassifier(TREE), X, Y, scoring=get_scorer(name), cv=3)
    found = cross_val_score(classifier, X, Y, scoring=get_scorer(name), cv=3, error_score="raise")
    assert_allclose(found, expected, rtol=1e-4)


@each_scorer
def test_scorers_guide_searches_over_tables(name):
    votes = pd.DataFrame(Y, columns=TREE.columns)[TREE.columns[::-1]]
    grid = {"alpha": [1.0, 1e4]}
    searches = [
        GridSearchCV(DirichletClassifier(TREE), grid, scoring=get_scorer(name), cv=3, error_score="raise").fit(X, y)
        for y in (Y, votes)
    ]
    first, second = (search.cv_results_["mean_test_score"] for search in searches)
    assert_allclose(first, second)
    if "coverage" not in name and "outliers" not in name:  # who knows nothing is never sure of the wrong thing
        assert first[0] >= first[1]
    frozen = FrozenEstimator(searches[0])
    assert get_scorer(name)(frozen, X, Y) == get_scorer(name)(searches[0].best_estimator_, X, Y)


def test_several_scorers_at_once():
    scoring = {name: get_scorer(name) for name in VOTE_SCORERS}
    with config_context(enable_metadata_routing=True):
        scores = cross_validate(DirichletClassifier(TREE), X, Y, scoring=scoring, cv=3, error_score="raise")
    assert all(np.isfinite(scores[f"test_{name}"]).all() for name in VOTE_SCORERS)


def test_labels_are_one_vote_each():
    labels = np.array(["disc", "smooth"])[np.argmin(Y[:, :2], axis=1)]
    model = DirichletClassifier().fit(X, labels)
    assert get_scorer("vote_accuracy")(model, X, labels) == pytest.approx(model.score(X, labels))
    probabilities = model.predict_proba(X)[np.arange(len(X)), (labels == "smooth").astype(int)]
    assert get_scorer("neg_dirichlet_nll")(model, X, labels) == pytest.approx(np.log(probabilities).mean())


@each_scorer
def test_scorers_need_concentrations(name):
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y.argmax(axis=1))
    with pytest.raises(
        TypeError, match=f"{name} needs a classifier with predict_concentrations; LogisticRegression has"
    ):
        get_scorer(name)(classifier, X, Y)


@pytest.mark.parametrize("metric", [vote_fraction_rmse, vote_scores, vote_table])
def test_predictions_that_are_no_fractions_are_refused(metric):
    votes = np.array([[3, 7], [0, 0], [9, 1]])
    metric(votes, np.array([[0.3, 0.7], [30.0, 70.0], [1 + 1e-9, 0.0]]))  # of what nobody was asked, any
    with pytest.raises(ValueError, match=r"predicted must lie between 0 and 1; row 2 has 90"):
        metric(votes, np.array([[0.3, 0.7], [0.5, 0.5], [90, 10]]))
