"""Votes with error bars: what is recovered, what the concentrations say, what votes mean, and what is refused."""

import io
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import BYOLEmbedder, DirichletClassifier, FineTuneClassifier, Training, load, save
from skastro.downstream.answers import learn_answers
from skastro.metrics import dirichlet_nll, get_scorer, interval_coverage, per_question, vote_coverage
from skastro.votes import VoteSchema, get_schema

TREE = VoteSchema({"shape": ["smooth", "disc", "artifact"], "bar": ["yes", "no"]}, {"bar": ("shape", "disc")})


def simulated(n, seed=0, low=0.5, high=200.0, n_features=4):
    """Votes of 5 to 40 volunteers down the tree, with fractions drawn from known concentrations."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, size=(n, n_features))
    slopes = np.random.default_rng(99).normal(size=(n_features, 5))
    place = X @ (slopes / np.abs(slopes).sum(axis=0))  # from -1 to 1
    alpha = np.exp((np.log(low * high) + np.log(high / low) * place) / 2)
    gamma = rng.gamma(alpha)
    fractions = gamma / per_question(gamma, TREE.sizes)
    shape = rng.multinomial(rng.integers(5, 41, n), fractions[:, :3])
    return X, np.hstack([shape, rng.multinomial(shape[:, 1], fractions[:, 3:])]), alpha, fractions


X, VOTES, _, _ = simulated(150)
VOTES[::10] = 0  # shown to nobody
IMAGES = np.random.default_rng(0).normal(size=(12, 3, 36, 36)).astype(np.float32)
TINY = {
    "encoder": "test_resnet",
    "head": "dirichlet",
    "augment": None,
    "max_epochs": 1,
    "batch_size": 8,
    "random_state": 0,
}
MODELS = {
    "linear": (DirichletClassifier(TREE), X, VOTES),
    "hidden layer": (DirichletClassifier(TREE, hidden_layer_sizes=(6,), random_state=0), X, VOTES),
    "images": (FineTuneClassifier(schema=TREE, **TINY), IMAGES, VOTES[:12]),
    "images, frozen": (FineTuneClassifier(schema=TREE, n_layers=0, **TINY), IMAGES, VOTES[:12]),
}
each_model = pytest.mark.parametrize(("model", "rows", "votes"), MODELS.values(), ids=list(MODELS))
small = pytest.mark.parametrize(
    "model", [DirichletClassifier(TREE), FineTuneClassifier(schema=TREE, **TINY)], ids=["rows", "images"]
)


def rows_for(model):
    return (X[:12], VOTES[:12]) if isinstance(model, DirichletClassifier) else (IMAGES, VOTES[:12])


# --- recovery -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0.5, 200), (0.5, 5), (20, 200)])
def test_known_concentrations_are_recovered(low, high):
    X, votes, _, _ = simulated(3000, 1, low, high)
    unseen, others, alpha, fractions = simulated(3000, 2, low, high)
    model = DirichletClassifier(TREE).fit(X, votes)
    expected = alpha / per_question(alpha, TREE.sizes)
    assert np.sqrt(np.mean((model.predict_proba(unseen) - expected) ** 2)) < 0.04
    assert 0.87 < interval_coverage(fractions, model.predict_interval(unseen)) < 0.93
    assert vote_coverage(others, model.predict_concentrations(unseen), TREE) == pytest.approx(0.9, abs=0.02)
    assert model.score(unseen, others) > -dirichlet_nll(others, alpha, TREE) - 0.1


def test_a_hidden_layer_learns_what_a_line_cannot():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(1000, 1))
    votes = rng.binomial(20, 1 / (1 + np.exp(4 - 3 * X**2)))
    scores = [
        DirichletClassifier(hidden_layer_sizes=hidden, random_state=0)
        .fit(X, np.c_[votes, 20 - votes])
        .score(X, np.c_[votes, 20 - votes])
        for hidden in ((), (8,))
    ]
    assert scores[1] > scores[0] + 0.5


def test_what_is_minimized_is_the_penalized_likelihood():
    model = DirichletClassifier(TREE, alpha=3.0, tol=1e-8).fit(X, VOTES)
    seen = VOTES.any(axis=1)
    Z = (X - X[seen].mean(axis=0)) / X[seen].std(axis=0)

    def loss(weights, bias):
        nll = dirichlet_nll(VOTES, np.exp(Z @ weights + bias), TREE) * seen.sum()
        return (nll + 3.0 * X.shape[1] / 2 * np.sum(weights**2)) / seen.sum()

    (weights,), (bias,) = model.coefs_, model.intercepts_
    assert loss(weights, bias) == pytest.approx(model.loss_, rel=1e-10)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert loss(weights + 1e-3 * rng.normal(size=weights.shape), bias + 1e-3 * rng.normal(size=5)) > model.loss_


def test_labels_are_logistic_regression():
    y = np.array(["a", "b", "c"])[np.digitize(X[:, 0] + 0.3 * X[:, 1], [-0.5, 0.5])]
    model = DirichletClassifier(alpha=1.0, tol=1e-8).fit(X, y)
    # The penalty is per feature, and both weigh all classes alike.
    rival = make_pipeline(StandardScaler(), LogisticRegression(C=1 / X.shape[1], tol=1e-8, max_iter=1000)).fit(X, y)
    assert_allclose(model.predict_proba(X), rival.predict_proba(X), atol=1e-5)
    assert_array_equal(model.predict(X), rival.predict(X))
    assert model.score(X, y) == rival.score(X, y)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.schema_ is None


def test_weights_count_as_copies_and_weight_0_as_no_row():
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    model = DirichletClassifier(TREE, tol=1e-8)
    copies = clone(model).fit(np.repeat(X, weight, axis=0), np.repeat(VOTES, weight, axis=0))
    assert_allclose(model.fit(X, VOTES, sample_weight=weight).predict_proba(X), copies.predict_proba(X), atol=1e-5)


def test_more_volunteers_count_more():
    X, votes = np.zeros((2, 1)), np.array([[1, 3], [30, 10]])
    assert DirichletClassifier().fit(X, votes).predict_proba(X)[0, 0] > 0.5


def test_many_features_are_no_louder_than_few():
    model = DirichletClassifier(TREE, tol=1e-8)
    few, many = clone(model).fit(X, VOTES), clone(model).fit(np.tile(X, 10), VOTES)
    assert_allclose(many.predict_proba(np.tile(X, 10)), few.predict_proba(X), atol=1e-5)


# --- what the concentrations say ------------------------------------------------------------------------------------


def told(votes, schema=None):
    answers, _ = learn_answers(votes, schema)
    return answers


def test_fractions_and_interval_of_the_catalogs():
    alpha, answers = np.array([[10.0, 5.0, 1.0]]), told([[1, 1, 1]])
    assert_allclose(answers.fractions(alpha), [[0.625, 0.3125, 0.0625]])
    assert_allclose(answers.interval(alpha, 0.9)[0, 0], [0.4226, 0.8091], atol=5e-5)


ALPHA = np.exp(np.random.default_rng(0).uniform(-1, 9, (50, 5)))


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9, 0.999])
def test_intervals_are_quantiles_of_beta_distributions(level):
    low, high = np.moveaxis(told(VOTES, TREE).interval(ALPHA, level), -1, 0)
    beta = stats.beta(ALPHA, per_question(ALPHA, TREE.sizes) - ALPHA)
    assert_allclose(beta.cdf(high) - beta.cdf(low), level, atol=1e-6)
    assert_allclose(beta.cdf(low), (1 - level) / 2, atol=1e-6)


def test_of_two_answers_the_intervals_mirror_each_other():
    interval = told(VOTES, TREE).interval(ALPHA, 0.9)[:, 3:]
    assert_allclose(interval[:, 0], 1 - interval[:, 1, ::-1], atol=1e-9)


def test_samples_follow_the_distributions():
    alpha = np.array([[10.0, 5.0, 1.0, 0.3, 0.6], [0.5, 0.5, 0.5, 200.0, 100.0]])
    answers = told(VOTES, TREE)
    draws = answers.sample(alpha, 20_000, random_state=0)
    assert draws.shape == (2, 20_000, 5)
    assert_allclose(per_question(draws.reshape(-1, 5), TREE.sizes), 1)
    for i, row in enumerate(alpha):
        total = per_question(alpha, TREE.sizes)[i]
        for a in range(5):
            assert stats.kstest(draws[i, :, a], stats.beta(row[a], total[a] - row[a]).cdf).statistic < 0.02
    assert_array_equal(draws, answers.sample(alpha, 20_000, random_state=0))
    tiny = answers.sample(alpha * 1e-4, 20_000, random_state=0)  # where gamma variates underflow
    assert_allclose(tiny.mean(axis=1), answers.fractions(alpha), atol=0.015)


def test_shares_of_all_volunteers_fall_down_the_tree():
    answers = told(VOTES, TREE)
    fractions = answers.fractions(ALPHA)
    shares = answers.shares(fractions)
    assert_array_equal(shares[:, :3], fractions[:, :3])
    assert_allclose(shares[:, 3:], fractions[:, 3:] * fractions[:, 1:2])


# --- every classifier of votes --------------------------------------------------------------------------------------


@each_model
def test_all_answers_come_from_the_concentrations(model, rows, votes):
    model = clone(model).fit(rows, votes)
    alpha = model.predict_concentrations(rows)
    assert alpha.dtype == np.float64
    assert (alpha > 0).all()
    ideal = told(votes, TREE)
    assert_array_equal(model.predict_proba(rows), ideal.fractions(alpha))
    assert_array_equal(model.predict_proba(rows, asked=True), ideal.shares(ideal.fractions(alpha)))
    assert_array_equal(model.predict_interval(rows, 0.5), ideal.interval(alpha, 0.5))
    assert_array_equal(model.sample(rows, 3, random_state=0), ideal.sample(alpha, 3, random_state=0))
    assert model.score(rows, votes) == pytest.approx(-dirichlet_nll(votes, alpha, TREE))
    assert model.score(rows, votes) == get_scorer("neg_dirichlet_nll")(model, rows, votes)


@each_model
def test_the_most_voted_answer_has_the_largest_fraction(model, rows, votes):
    model = clone(model).fit(rows, votes)
    fractions, answers = model.predict_proba(rows), model.predict(rows)
    assert answers.shape == (len(rows), 2)
    for i, (shape, bar) in enumerate(answers):
        assert fractions[i, TREE.columns.index(f"shape_{shape}")] == fractions[i, :3].max()
        assert fractions[i, TREE.columns.index(f"bar_{bar}")] == fractions[i, 3:].max()
    assert model.classes_.tolist() == TREE.columns
    assert_allclose(per_question(fractions, TREE.sizes), 1)


@each_model
def test_tables_in_tables_out(model, rows, votes):
    arrays = clone(model).fit(rows, votes)
    mixed = pd.DataFrame(votes, columns=TREE.columns)[TREE.columns[::-1]]
    tables = clone(model).fit(rows, mixed)
    for method in ("predict_proba", "predict_concentrations"):
        table = getattr(tables, method)(rows)
        assert list(table.columns) == TREE.columns
        assert_array_equal(table, getattr(arrays, method)(rows))
    assert list(tables.predict(rows).columns) == ["shape", "bar"]
    assert_array_equal(tables.predict(rows), arrays.predict(rows))
    assert tables.score(rows, mixed) == arrays.score(rows, votes) == tables.score(rows, votes)
    assert_array_equal(tables.predict_interval(rows), arrays.predict_interval(rows))


def test_a_table_of_features_hands_its_index_on():
    features = pd.DataFrame(X, columns=list("abcd"), index=[f"J{i}" for i in range(len(X))])
    model = DirichletClassifier(TREE).fit(features, pd.DataFrame(VOTES, columns=TREE.columns))
    assert model.feature_names_in_.tolist() == list("abcd")
    for table in (model.predict(features), model.predict_proba(features)):
        assert table.index.equals(features.index)


@each_model
def test_rows_without_votes_do_not_matter(model, rows, votes):
    extra = np.zeros((3, 5), dtype=int)
    if isinstance(model, DirichletClassifier):
        more = clone(model).fit(np.concatenate([rows, rows[:3] + 50]), np.concatenate([votes, extra]))
        assert_array_equal(more.predict_proba(rows), clone(model).fit(rows, votes).predict_proba(rows))
    model = clone(model).fit(rows, votes)
    seen = votes.any(axis=1)
    assert model.score(rows, votes) == pytest.approx(model.score(rows[seen], votes[seen]))


@each_model
def test_same_seed_same_numbers_and_the_users_generators_stay(model, rows, votes):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = clone(model).fit(rows, votes).predict_proba(rows)
    assert torch.equal(before[0], torch.get_rng_state())
    assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert_array_equal(first, clone(model).fit(rows, votes).predict_proba(rows))


@each_model
@pytest.mark.parametrize("copy", ["pickle", "joblib", "file"])
@pytest.mark.parametrize("table", [False, True])
def test_a_copy_answers_the_same(model, rows, votes, copy, table, tmp_path):
    model = clone(model).fit(rows, pd.DataFrame(votes, columns=TREE.columns) if table else votes)
    if copy == "pickle":
        again = pickle.loads(pickle.dumps(model))
    elif copy == "joblib":
        joblib.dump(model, buffer := io.BytesIO())
        again = joblib.load(buffer)
    else:
        save(model, tmp_path / "votes.skastro")
        again = load(tmp_path / "votes.skastro")
    assert_array_equal(again.predict_interval(rows), model.predict_interval(rows))
    assert_array_equal(again.predict(rows), model.predict(rows))
    assert again.score(rows, votes) == model.score(rows, votes)
    assert again.schema_.columns == TREE.columns


@small
def test_searches_and_pipelines(model):
    rows, votes = rows_for(model)
    grid = {"alpha": [0.1, 10.0]} if isinstance(model, DirichletClassifier) else {"lr": [1e-3, 1e-2]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(rows, votes)
    assert search.score(rows, votes) == search.best_estimator_.score(rows, votes)
    table = pd.DataFrame(votes, columns=TREE.columns)
    scores = cross_val_score(
        model, rows, table, cv=2, scoring=get_scorer("neg_vote_fraction_rmse"), error_score="raise"
    )
    assert (scores < 0).all()
    assert cross_val_predict(model, rows, votes, cv=2, method="predict_proba").shape == (12, 5)


def test_on_a_frozen_embedding():
    embedder = BYOLEmbedder("test_resnet", max_epochs=1, batch_size=8, hidden_dim=8, projection_dim=8, random_state=0)
    pipe = make_pipeline(FrozenEstimator(embedder.fit(IMAGES)), DirichletClassifier(TREE)).fit(IMAGES, VOTES[:12])
    assert pipe.predict_proba(IMAGES).shape == (12, 5)
    assert get_scorer("neg_dirichlet_nll")(pipe, IMAGES, VOTES[:12]) == pytest.approx(pipe.score(IMAGES, VOTES[:12]))


@small
def test_weights_travel_by_routing(model):
    rows, votes = rows_for(model)
    weight = np.linspace(0.5, 2, 12)
    expected = clone(model).fit(rows, votes, sample_weight=weight).predict_proba(rows)
    with config_context(enable_metadata_routing=True):
        pipe = make_pipeline("passthrough", clone(model).set_fit_request(sample_weight=True))
        assert_array_equal(pipe.fit(rows, votes, sample_weight=weight).predict_proba(rows), expected)


@small
def test_campaigns_go_by_name(model):
    rows, _ = rows_for(model)
    schema = get_schema("gz_desi")
    votes = np.random.default_rng(0).multinomial(20, np.full(3, 1 / 3), 12)
    votes = np.hstack([votes, np.zeros((12, 31), dtype=int)])
    fitted = clone(model).set_params(schema="gz_desi").fit(rows, votes)
    assert fitted.schema == "gz_desi"
    assert fitted.predict(rows).shape == (12, 10)
    assert fitted.predict_proba(rows).shape == (12, schema.n_answers)


@small
@pytest.mark.parametrize("table", [False, True])
def test_without_a_schema_columns_are_the_answers_to_one_question(model, table):
    rows, votes = rows_for(model)
    votes = pd.DataFrame(votes[:, 3:], columns=["bar", "none"]) if table else votes[:, 3:]
    fitted = clone(model).set_params(schema=None).fit(rows, votes)
    assert fitted.classes_.tolist() == (["bar", "none"] if table else ["0", "1"])
    assert set(np.ravel(fitted.predict(rows))) <= set(fitted.classes_)
    assert fitted.predict_proba(rows).shape == (12, 2)
    if table:
        assert fitted.score(rows, votes) == fitted.score(rows, votes[["none", "bar"]])


@small
@pytest.mark.parametrize("labels", [["bar", "none"], [3, 1], [True, False]])
def test_plain_labels_come_back_and_their_score_is_the_accuracy(model, labels):
    rows, _ = rows_for(model)
    y = np.array(labels)[np.arange(12) % 2]
    fitted = clone(model).set_params(schema=None).fit(rows, y)
    assert_array_equal(fitted.classes_, np.unique(labels))
    assert fitted.predict(rows).shape == (12,)
    assert fitted.score(rows, y) == np.mean(fitted.predict(rows) == y)
    assert fitted.predict_interval(rows).shape == (12, 2, 2)
    assert_array_equal(fitted.count_votes(y), y[:, np.newaxis] == np.unique(labels))
    with pytest.raises(ValueError, match=r"y has the label .*, which was not seen in fit"):
        fitted.count_votes(np.array(["other"] * 12))


def test_a_single_label_is_certain():
    model = DirichletClassifier().fit(X, np.full(len(X), "ring"))
    assert_array_equal(model.predict_proba(X), np.ones((len(X), 1)))
    assert_array_equal(model.predict_interval(X), np.ones((len(X), 1, 2)))


# --- end to end -----------------------------------------------------------------------------------------------------


def test_the_history_of_images_tells_the_likelihood():
    exact = {
        "training": Training(optimizer="sgd", precision="fp32", warmup=0),
        "lr": 1e-12,
        "batch_size": 12,
        "n_layers": 0,
        "dropout": 0.0,
    }
    votes = VOTES[:12]
    model = FineTuneClassifier(**TINY | exact, schema=TREE)
    model.fit(IMAGES, votes)
    assert model.history_["loss"][0] == pytest.approx(-model.score(IMAGES, votes), rel=1e-4)


def test_images_teach_votes():
    images, votes = IMAGES.copy(), np.tile([[18, 2], [2, 18]], (6, 1))
    images[::2] += 2 * np.hanning(36).astype(np.float32)
    model = FineTuneClassifier(**TINY | {"max_epochs": 60, "lr": 1e-2}).fit(images, votes)
    assert model.predict(images).ravel().tolist() == ["0", "1"] * 6
    assert_allclose(model.predict_proba(images), votes / 20, atol=0.2)


def test_concentrations_of_images_lie_within_the_papers_limits():
    alpha = FineTuneClassifier(**TINY, schema=TREE).fit(IMAGES, VOTES[:12]).predict_concentrations(IMAGES)
    assert ((alpha > 1) & (alpha < 101)).all()


def test_rows_without_votes_are_neither_trained_on_nor_held_out():
    votes = np.where(np.arange(12)[:, np.newaxis] < 6, VOTES[1:7].sum(axis=0), 0)
    model = FineTuneClassifier(**TINY | {"max_epochs": 3}, schema=TREE, early_stopping=True, validation_fraction=0.4)
    model.fit(IMAGES, votes)
    assert (model.history_["validation_loss"] > 0).all()


def test_a_single_image_with_votes_is_refused():
    with pytest.raises(
        ValueError, match="Found 1 sample with a label and a weight; FineTuneClassifier needs at least 2"
    ):
        FineTuneClassifier(**TINY, schema=TREE).fit(IMAGES, VOTES[1] * (np.arange(12) == 3)[:, np.newaxis])


def test_dropout_is_for_training_alone():
    few, many = (FineTuneClassifier(**TINY, schema=TREE, dropout=share).fit(IMAGES, VOTES[:12]) for share in (0.0, 0.9))
    assert not np.allclose(few.predict_proba(IMAGES), many.predict_proba(IMAGES))
    assert_array_equal(many.predict_proba(IMAGES), many.set_params(dropout=0.5).predict_proba(IMAGES))


def test_a_softmax_tells_no_concentrations():
    model = FineTuneClassifier("test_resnet")
    for name in ("predict_concentrations", "predict_interval", "sample", "count_votes"):
        assert not hasattr(model, name)
        assert hasattr(clone(model).set_params(head="dirichlet"), name)


def test_a_refit_with_the_other_head_forgets_the_first():
    labels, model = np.arange(12) % 3, FineTuneClassifier(**TINY, schema=TREE).fit(IMAGES, VOTES[:12])
    model.set_params(head="softmax", schema=None)
    assert model.predict_proba(IMAGES).shape == (12, 5)  # what was fitted still answers
    model.fit(IMAGES, labels)
    assert model.schema_ is None
    assert model.predict(IMAGES).shape == (12,)
    assert not hasattr(model, "predict_interval")


# --- bad input ------------------------------------------------------------------------------------------------------

FRAME = pd.DataFrame(VOTES[:12], columns=TREE.columns)
BAD = {
    "negative": (VOTES[:12] - 1, "votes must (not be negative|be at least 0)"),
    "fractional": (VOTES[:12] / 2 + 0.25, "votes must be whole numbers"),
    "NaN": (np.where(VOTES[:12] > 5, np.nan, VOTES[:12]), "votes must be finite"),
    "a column missing": (FRAME.drop(columns="bar_no"), "votes must have the schema's columns; .*without bar_no"),
    "a column extra": (FRAME.assign(ring=1), "votes must have the schema's columns; .*with ring"),
    "columns missing in an array": (VOTES[:12, 1:], "votes must have 5 columns"),
    "labels": (np.arange(12), "votes must have 5 columns"),
    "no vote": (VOTES[:12] * 0, "No row of y has both votes and a weight"),
    "rows": (VOTES[:11], "inconsistent numbers of samples"),
    "nothing": (None, "requires y to be passed"),
}


@small
@pytest.mark.parametrize(("y", "sentence"), BAD.values(), ids=list(BAD))
def test_votes_that_are_none_are_refused(model, y, sentence, monkeypatch):
    monkeypatch.setattr("skastro.base.train", lambda *args, **kwargs: pytest.fail("training had started"))
    with pytest.raises(ValueError, match=sentence):
        clone(model).fit(rows_for(model)[0], y)


@small
def test_votes_for_a_question_nobody_came_to_are_told(model):
    rows, votes = rows_for(model)
    votes = votes.copy()
    votes[3] = [5, 0, 0, 2, 3]
    votes[4] = [0, 0, 5, 2, 3]
    with pytest.warns(
        UserWarning, match="2 times a question has votes though none of the answers that lead to it"
    ) as told:
        clone(model).fit(rows, votes)
    assert len(told) == 1


@small
def test_a_refused_refit_loses_nothing(model):
    rows, votes = rows_for(model)
    fitted = clone(model).fit(rows, votes)
    before = fitted.predict_proba(rows)
    with pytest.raises(ValueError, match="No row of y has both votes and a weight"):
        fitted.fit(rows, votes * 0)
    with pytest.raises(ValueError, match="Unknown schema 'gz3'"):
        fitted.set_params(schema="gz3").fit(rows, votes)
    assert_array_equal(fitted.predict_proba(rows), before)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"alpha": -1.0}, "The 'alpha' parameter"),
        ({"max_iter": 0}, "The 'max_iter' parameter"),
        ({"tol": 0.0}, "The 'tol' parameter"),
        ({"schema": 3}, "The 'schema' parameter"),
        ({"hidden_layer_sizes": (8, 0)}, r"hidden_layer_sizes must be whole numbers above 0; got \(8, 0\)"),
        ({"hidden_layer_sizes": 8}, "The 'hidden_layer_sizes' parameter"),
    ],
)
def test_parameters_out_of_range_are_named(params, sentence):
    with pytest.raises(ValueError, match=sentence):
        DirichletClassifier(**params).fit(X, VOTES)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"head": "softmax"}, "schema is for head='dirichlet'"),
        ({"class_weight": "balanced"}, "class_weight is for labels"),
        ({"label_smoothing": 0.1}, "label_smoothing is for head='softmax'"),
        ({"dropout": 1.0}, "The 'dropout' parameter"),
    ],
)
def test_what_belongs_to_the_other_head_is_refused(params, sentence):
    with pytest.raises(ValueError, match=sentence):
        FineTuneClassifier(**TINY | {"schema": TREE} | params).fit(IMAGES, VOTES[:12])


@small
def test_levels_that_are_none_are_refused(model):
    rows, votes = rows_for(model)
    fitted = clone(model).fit(rows, votes)
    for level in (0, 1, 90):
        with pytest.raises(ValueError, match=f"level must be between 0 and 1; got {level}"):
            fitted.predict_interval(rows, level)
    with pytest.raises(NotFittedError):
        clone(model).predict_interval(rows)
    with pytest.raises(NotFittedError):
        clone(model).score(rows, votes)


def test_too_few_iterations_are_told():
    with pytest.warns(ConvergenceWarning, match="has not converged after max_iter=2 iterations"):
        DirichletClassifier(TREE, max_iter=2).fit(X, VOTES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 2 < DirichletClassifier(TREE).fit(X, VOTES).n_iter_ < 1000


@pytest.mark.parametrize("kind", [list, np.array, lambda labels: np.array(labels, object), pd.Series])
def test_a_label_of_any_kind_that_was_not_seen_is_told(kind):
    model = DirichletClassifier().fit(np.eye(4), ["a", "b", "a", "b"])
    with pytest.raises(ValueError, match="y has the label 'z', which was not seen in fit"):
        model.count_votes(kind(["a", "z"]))
