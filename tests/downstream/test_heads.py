"""Heads of fine-tuned networks: what each learns, its loss recomputed the slow way, and heads of a user's own."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import dirichlet_multinomial
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skastro import FineTuneClassifier, FineTuneRegressor, load, save
from skastro.downstream import (
    ClassHead,
    DirichletHead,
    LinearHead,
    RedshiftBins,
    RedshiftHead,
    SoftmaxHead,
    ValueHead,
)
from skastro.downstream.answers import Answers
from skastro.metrics import per_question
from skastro.training import local_seed
from skastro.votes import VoteSchema

TREE = VoteSchema({"shape": ["smooth", "disc"], "bar": ["yes", "no"]}, {"bar": ("shape", "disc")})
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(12, 3, 36, 36)).astype(np.float32)
PLACE = np.arange(12) % 3
LABELS = np.array(["FRI", "FRII", "ring"])[PLACE]
SHARES = RNG.dirichlet([1, 1, 1], size=12)
DISC = RNG.integers(5, 20, 12)
FLAGS = np.arange(36).reshape(12, 3) % 4 % 2
VOTES = np.stack([30 - DISC, DISC, DISC // 2, DISC - DISC // 2], axis=1)
Z = np.linspace(0.01, 0.39, 12)
VALUES = np.column_stack([Z, 1e3 * Z**2 - 7])


def slow_cross_entropy(shares, smoothing=0.0):
    def loss(outputs, _):
        log_p = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
        return [-sum(((1 - smoothing) * t + smoothing / len(t)) * lp) for t, lp in zip(shares, log_p, strict=True)]

    return loss


def slow_likelihood(votes, *questions):
    def loss(outputs, _):
        rows = zip(votes, outputs, strict=True)
        return [-sum(dirichlet_multinomial.logpmf(k[q], a[q], k[q].sum()) for q in questions) for k, a in rows]

    return loss


def slow_squares(outputs, head):
    values = (VALUES if outputs.shape[1] == 2 else Z[:, np.newaxis]).copy()
    for column in values.T:
        column[:] = (column - column.mean()) / column.std()
    return [sum((o - v) ** 2) / len(v) for o, v in zip(outputs, values, strict=True)]


# Of each head: targets, number of outputs, the loss by hand, and the answers that are true (but for smoothed labels).
HEADS = {
    "labels": (SoftmaxHead(), LABELS, 3, slow_cross_entropy(np.eye(3)[PLACE]), np.eye(3)[PLACE]),
    "smoothed labels": (SoftmaxHead(label_smoothing=0.3), LABELS, 3, slow_cross_entropy(np.eye(3)[PLACE], 0.3), None),
    "soft labels": (SoftmaxHead(), SHARES * 9, 3, slow_cross_entropy(SHARES), SHARES),
    "votes": (
        DirichletHead(TREE),
        VOTES,
        4,
        slow_likelihood(VOTES, slice(0, 2), slice(2, 4)),
        VOTES / per_question(VOTES, (2, 2)),
    ),
    "labels as votes": (
        DirichletHead(),
        LABELS,
        3,
        slow_likelihood(np.eye(3, dtype=int)[PLACE], slice(0, 3)),
        np.eye(3)[PLACE],
    ),
    "value": (LinearHead(), Z, 1, slow_squares, Z),
    "values": (LinearHead(), VALUES, 2, slow_squares, VALUES),
    "redshift bins": (
        RedshiftHead(RedshiftBins(4, point="mode")),
        Z,
        4,
        slow_cross_entropy(np.eye(4)[(Z // 0.1).astype(int)]),
        0.1 * (Z // 0.1) + 0.05,
    ),
}
each_head = pytest.mark.parametrize("name", HEADS)


def encoded(name, weight=None):
    head, y, *_ = HEADS[name]
    head = clone(head)
    target, weight = head.encode(y, np.ones(12) if weight is None else weight)
    return head, target, weight


def random_outputs(head, n_outputs):
    outputs = np.random.default_rng(1).normal(size=(12, n_outputs))
    return np.exp(outputs) if isinstance(head, DirichletHead) else outputs


# --- laws of every head ---------------------------------------------------------------------------------------------


@each_head
def test_the_loss_recomputed_the_slow_way(name):
    *_, n_outputs, slow, _ = HEADS[name]
    head, target, _ = encoded(name)
    outputs = random_outputs(head, n_outputs)
    loss = head.loss(torch.from_numpy(outputs).float(), torch.from_numpy(target).float())
    assert loss.shape == (12,)
    assert_allclose(loss, slow(outputs, head), rtol=1e-4)


@each_head
def test_the_layer_has_the_shape_of_what_was_learned_and_its_gradient_is_finite(name):
    n_outputs = HEADS[name][2]
    head, target, _ = encoded(name)
    layer = head.build(7)
    outputs = layer(torch.randn(12, 7))
    assert outputs.shape == (12, n_outputs)
    head.loss(outputs.float(), torch.from_numpy(target).float()).sum().backward()
    for parameter in layer.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.any()


@each_head
def test_fresh_weights_come_from_torchs_generator(name):
    head, *_ = encoded(name)
    states = []
    for seed in (0, 0, 1):
        with local_seed(seed):
            states.append(torch.cat([p.detach().ravel() for p in head.build(7).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize("name", [name for name in HEADS if HEADS[name][-1] is not None])
def test_outputs_that_minimize_the_loss_are_decoded_to_the_truth(name):
    *_, n_outputs, _, truth = HEADS[name]
    head, target, _ = encoded(name)
    free = torch.zeros(12, n_outputs, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=0.1)
    outputs = free
    for _ in range(300):
        outputs = torch.exp(free) if isinstance(head, DirichletHead) else free
        optimizer.zero_grad()
        head.loss(outputs, torch.from_numpy(target).float()).sum().backward()
        optimizer.step()
    with torch.no_grad():
        answers = head.decode(head.activation()(outputs).numpy())
    assert answers.shape == truth.shape
    assert_allclose(answers, truth, atol=0.01, rtol=0.02)


@each_head
def test_encode_learns_beside_the_parameters_and_leaves_targets_as_they_were(name):
    given, y, *_ = HEADS[name]
    before, copy = joblib.hash(given.get_params()), np.array(y)
    head, target, weight = encoded(name)
    assert joblib.hash(head.get_params()) == before
    assert_array_equal(y, copy)
    assert len(target) == len(weight) == 12
    learned = [key for key in vars(head) if key.endswith("_")]
    assert learned
    assert not any(isinstance(vars(head)[key], nn.Module | torch.Tensor) for key in learned)
    again = pickle.loads(pickle.dumps(head))
    assert_array_equal(again.encode(y, np.ones(12))[0], target)


@pytest.mark.parametrize("name", [name for name in HEADS if isinstance(HEADS[name][0], ClassHead)])
def test_fractions_are_those_of_the_answers(name):
    head, *_ = encoded(name)
    outputs = torch.from_numpy(random_outputs(head, HEADS[name][2])).float()
    fractions = head.decode(head.activation()(outputs).numpy())
    assert fractions.shape == (12, len(head.answers_.classes))
    assert_allclose(per_question(fractions, head.answers_.sizes), 1, rtol=1e-5)


def votes_of(*questions):
    """A table of votes on questions of two answers each."""
    return pd.DataFrame(VOTES[:, : 2 * len(questions)], columns=[f"{q}_{a}" for q in questions for a in ("yes", "no")])


@pytest.mark.parametrize("y", [votes_of("shape"), votes_of("a", "b").pipe(lambda t: t.div(t.sum(axis=1), axis=0))])
def test_shares_of_one_question_are_soft_labels_whatever_the_names(y):
    assert_allclose(SoftmaxHead().encode(y, np.ones(12))[0].sum(axis=1), 1)


@pytest.mark.parametrize(
    ("name", "y", "sentence"),
    [
        ("labels", Z, "Unknown label type: continuous"),
        ("labels", np.array([*LABELS[:-1], np.nan], dtype=object), "y has 1 missing values, the first in row 11"),
        ("soft labels", np.full_like(SHARES, np.nan), "y has 36 missing values, the first in row 0"),
        ("soft labels", SHARES - SHARES[:1], r"\d+ rows of y are not, the first is row 0"),
        ("soft labels", FLAGS, "several classes in row 1, .* one classifier for each flag"),
        (
            "soft labels",
            votes_of("shape", "bar"),
            r"of 2 questions \(shape, bar .*head=.dirichlet. takes votes",
        ),
        ("votes", VOTES - 20, "votes must (not be negative|be at least 0)"),
        ("votes", VOTES / 3, "votes must be whole numbers"),
        ("votes", VOTES[:, 1:], "votes must have 4 columns"),
        ("votes", VOTES * 0, "No row of y has both votes and a weight"),
        ("labels as votes", Z, "Unknown label type: continuous"),
        ("value", np.where(Z > 0.3, np.nan, Z), "y has 3 missing values, the first in row 9"),
        ("value", LABELS, "could not convert string to float"),
        ("values", np.ones((12, 2, 2)), "Found array with dim 3"),
        ("redshift bins", np.where(Z > 0.3, np.inf, Z), "redshifts are NaN or infinite, the first in row 9"),
        ("redshift bins", VALUES, "y should be a 1d array"),
    ],
)
def test_targets_that_are_none_are_refused(name, y, sentence):
    with pytest.raises(ValueError, match=sentence):
        clone(HEADS[name][0]).encode(y, np.ones(12))


@pytest.mark.parametrize(
    ("head", "y", "sentence"),
    [
        (SoftmaxHead(label_smoothing=1.0), LABELS, "The 'label_smoothing' parameter of SoftmaxHead"),
        (SoftmaxHead(class_weight="most"), LABELS, "The 'class_weight' parameter of SoftmaxHead"),
        (SoftmaxHead(class_weight=dict.fromkeys(LABELS, 0)), LABELS, "class_weight gives every row the weight 0"),
        (DirichletHead(dropout=1.0), LABELS, "The 'dropout' parameter of DirichletHead"),
        (DirichletHead(TREE, class_weight="balanced"), VOTES, "class_weight is for labels"),
        (RedshiftHead(4), Z, "The 'bins' parameter of RedshiftHead"),
        (RedshiftHead(RedshiftBins(low=1.0)), Z, "low must be less than high"),
    ],
)
def test_parameters_out_of_range_are_named(head, y, sentence):
    with pytest.raises(ValueError, match=sentence):
        head.encode(y, np.ones(12))


@pytest.mark.parametrize("name", ["labels", "labels as votes"])
def test_class_weights_multiply_the_weights_of_rows(name):
    y = ["FRI"] * 3 + ["FRII"] * 9
    head = clone(HEADS[name][0]).set_params(class_weight="balanced")
    assert_allclose(head.encode(y, np.full(12, 2.0))[1], [4] * 3 + [4 / 3] * 9)


def test_rows_are_held_out_by_class_where_labels_are_certain():
    hard, certain = (SoftmaxHead().encode(y, np.ones(12))[0] for y in (PLACE, np.eye(3)[PLACE]))
    assert_array_equal(hard, certain)
    assert_array_equal(SoftmaxHead().strata(hard), PLACE)
    assert SoftmaxHead().strata(SHARES) is None
    assert all(encoded(name)[0].strata(encoded(name)[1]) is None for name in HEADS if "labels" not in name)


# --- inside a fine-tuner --------------------------------------------------------------------------------------------

TINY = {"encoder": "test_resnet", "augment": None, "max_epochs": 1, "batch_size": 6, "random_state": 0, "lr": 1e-2}


def tiny(cls, **params):
    return cls(**TINY | params)


def told(model):
    return model.predict_proba(IMAGES) if isinstance(model, FineTuneClassifier) else model.predict(IMAGES)


NAMED = {
    "softmax": (FineTuneClassifier, LABELS, {}, SoftmaxHead()),
    "softmax, parameters": (
        FineTuneClassifier,
        LABELS,
        {"label_smoothing": 0.1, "class_weight": {"FRI": 3.0}},
        SoftmaxHead(label_smoothing=0.1, class_weight={"FRI": 3.0}),
    ),
    "dirichlet": (
        FineTuneClassifier,
        VOTES,
        {"head": "dirichlet", "schema": TREE, "dropout": 0.5},
        DirichletHead(TREE, dropout=0.5),
    ),
    "linear": (FineTuneRegressor, VALUES, {"head": "linear"}, LinearHead()),
    "redshift-bins": (FineTuneRegressor, Z, {"head": "redshift-bins"}, RedshiftHead()),
    "bins": (FineTuneRegressor, Z, {"head": RedshiftBins(5)}, RedshiftHead(RedshiftBins(5))),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_name_is_shorthand_for_a_head(name):
    cls, y, params, head = NAMED[name]
    assert_array_equal(told(tiny(cls, **params).fit(IMAGES, y)), told(tiny(cls, head=head).fit(IMAGES, y)))
    assert [key for key in vars(head) if key.endswith("_")] == []  # the head given was not fitted


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("copy", ["pickle", "file"])
def test_a_copy_answers_the_same(name, copy, tmp_path):
    cls, y, _, head = NAMED[name]
    model = tiny(cls, head=head, head_norm="batch").fit(IMAGES, y)
    if copy == "pickle":
        again = pickle.loads(pickle.dumps(model))
    else:
        save(model, tmp_path / "tuned.skastro")
        again = load(tmp_path / "tuned.skastro")
    assert_array_equal(told(again), told(model))
    assert joblib.hash(pickle.loads(pickle.dumps(model))) == joblib.hash(model)


@pytest.mark.parametrize(
    ("name", "value"), [("schema", TREE), ("dropout", 0.5), ("class_weight", "balanced"), ("label_smoothing", 0.1)]
)
def test_what_a_head_brings_cannot_be_set_beside_it(name, value):
    with pytest.raises(ValueError, match=f"{name} cannot be set beside a SoftmaxHead, which brings parameters of its"):
        tiny(FineTuneClassifier, head=SoftmaxHead(), **{name: value}).fit(IMAGES, LABELS)


@pytest.mark.parametrize(
    ("cls", "head", "y"),
    [
        (FineTuneClassifier, LinearHead(), LABELS),
        (FineTuneClassifier, "linear", LABELS),
        (FineTuneClassifier, RedshiftBins(), LABELS),
        (FineTuneRegressor, SoftmaxHead(), Z),
        (FineTuneRegressor, "softmax", Z),
        (FineTuneRegressor, SoftmaxHead, Z),
    ],
)
def test_heads_of_the_other_kind_are_refused(cls, head, y):
    with pytest.raises(ValueError, match=f"The 'head' parameter of {cls.__name__} must be"):
        tiny(cls, head=head).fit(IMAGES, y)


def test_a_search_reaches_a_heads_parameters():
    for model, y, grid in [
        (tiny(FineTuneClassifier), LABELS, {"head__label_smoothing": [0.0, 0.2]}),
        (tiny(FineTuneClassifier, head=DirichletHead(TREE)), VOTES, {"head__dropout": [0.0, 0.5]}),
        (tiny(FineTuneRegressor, head="redshift-bins"), Z, {"head__n_bins": [4, 8]}),
        (tiny(FineTuneRegressor, head=RedshiftHead(RedshiftBins())), Z, {"head__bins__n_bins": [4, 8]}),
    ]:
        search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(IMAGES, y)
        assert len(told(search.best_estimator_)) == 12


def test_what_was_learned_is_in_the_fitted_head():
    model = tiny(FineTuneClassifier, head="dirichlet", schema=TREE).fit(
        IMAGES, pd.DataFrame(VOTES, columns=TREE.columns)
    )
    assert isinstance(model.fitted_head_, DirichletHead)
    assert model.answers_ is model.fitted_head_.answers_
    assert model.classes_.tolist() == TREE.columns
    model = tiny(FineTuneRegressor).fit(IMAGES, VALUES)
    assert_allclose(model.fitted_head_.mean_, VALUES.mean(axis=0))
    assert model.bins_ is None


@pytest.mark.parametrize(("norm", "kind"), [("layer", nn.LayerNorm), ("batch", nn.BatchNorm1d), (None, nn.Identity)])
def test_the_norm_before_the_layer(norm, kind):
    model = tiny(FineTuneClassifier, head_norm=norm, n_layers=0).fit(IMAGES, LABELS)
    assert isinstance(model.head_[0], kind)
    whole = model.predict_proba(IMAGES)
    assert_allclose(np.concatenate([model.predict_proba(image[np.newaxis]) for image in IMAGES]), whole, atol=1e-6)
    model.set_params(head_norm="layer" if norm is None else None)  # what was fitted still answers
    assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(IMAGES), whole)


def test_a_batch_norm_learns_the_features_of_a_probe():
    model = tiny(FineTuneRegressor, head_norm="batch", n_layers=0, max_epochs=100, batch_size=12).fit(IMAGES, Z)
    features = model.embedder_.transform(IMAGES)
    norm = model.head_[0]
    assert_allclose(norm.running_mean, features.mean(axis=0), rtol=1e-3, atol=1e-4)
    assert_allclose(norm.running_var, features.var(axis=0, ddof=1), rtol=1e-3, atol=1e-4)


# --- a head of one's own --------------------------------------------------------------------------------------------


class QuantileHead(ValueHead):
    """The quantile of a value, by the pinball loss."""

    def __init__(self, quantile=0.5):
        self.quantile = quantile

    def encode(self, y, weight):
        self.low_ = float(np.min(y))
        return np.asarray(y, dtype=float) - self.low_, weight

    def build(self, width):
        return nn.Linear(width, 1)

    def loss(self, outputs, target):
        error = target - outputs[:, 0]
        return torch.maximum(self.quantile * error, (self.quantile - 1) * error)

    def decode(self, outputs):
        return outputs[:, 0] + self.low_


class SigmoidHead(ClassHead):
    """One yes or no for each class."""

    def encode(self, y, weight):
        classes, place = np.unique(y, return_inverse=True)
        self.answers_ = Answers(classes)
        return np.eye(len(classes))[place], weight

    def build(self, width):
        return nn.Linear(width, len(self.answers_.classes))

    def loss(self, outputs, target):
        return nn.functional.binary_cross_entropy_with_logits(outputs, target, reduction="none").sum(dim=1)

    def activation(self):
        return nn.Sigmoid()

    def strata(self, target):
        return target.argmax(axis=1)

    def decode(self, outputs):
        return outputs / outputs.sum(axis=1, keepdims=True)


OWN = {
    "values": (tiny(FineTuneRegressor, head=QuantileHead()), Z, {"head__quantile": [0.1, 0.9]}),
    "classes": (tiny(FineTuneClassifier, head=SigmoidHead()), LABELS, {"head": [SigmoidHead(), SoftmaxHead()]}),
}
each_own = pytest.mark.parametrize(("model", "y", "grid"), OWN.values(), ids=list(OWN))


@each_own
def test_a_head_of_ones_own_in_a_search_and_in_pickle(model, y, grid):
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(IMAGES, y)
    tuned = search.best_estimator_
    assert np.isfinite(told(tuned)).all()
    assert_array_equal(told(pickle.loads(pickle.dumps(tuned))), told(tuned))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@each_own
def test_a_head_of_ones_own_stops_early_and_averages(model, y, grid):
    model = clone(model).set_params(early_stopping=True, validation_fraction=0.25, average="dihedral", max_epochs=2)
    assert np.isfinite(model.fit(IMAGES, y).history_["validation_loss"]).all()
    assert_allclose(told(model), told(model.fit(IMAGES, y)))
    turned = model.set_params(device="cpu")._outputs(np.rot90(IMAGES, axes=(2, 3)).copy())
    assert_allclose(turned, model._outputs(IMAGES), rtol=1e-3, atol=1e-5)


@each_own
def test_a_file_cannot_hold_a_head_of_ones_own(model, y, grid, tmp_path):
    with pytest.raises(TypeError, match=r"save cannot keep head, a .*Head: load would not trust it"):
        save(clone(model).fit(IMAGES, y), tmp_path / "own.skastro")


def test_quantiles_are_learned():
    images, y = np.repeat(IMAGES, 4, axis=0), np.random.default_rng(0).exponential(size=48)
    model = tiny(FineTuneRegressor, n_layers=0, max_epochs=100, batch_size=48)
    low, high = (model.set_params(head=QuantileHead(q)).fit(images, y).predict(images) for q in (0.2, 0.8))
    assert np.mean(y < low) < 0.3
    assert np.mean(y < high) > 0.7
    assert (low < high).all()


def test_a_class_head_answers_as_classifiers_do():
    model = tiny(FineTuneClassifier, head=SigmoidHead()).fit(IMAGES, LABELS)
    assert model.classes_.tolist() == ["FRI", "FRII", "ring"]
    assert model.schema_ is None
    assert_array_equal(model.predict(IMAGES), model.classes_[model.predict_proba(IMAGES).argmax(axis=1)])
    assert model.score(IMAGES, LABELS) == np.mean(model.predict(IMAGES) == LABELS)
    assert not hasattr(model, "predict_concentrations")
    assert not hasattr(model, "predict_interval")


class IntervalHead(QuantileHead):
    """Tells intervals too."""

    def interval(self, outputs, level):
        return np.column_stack([self.decode(outputs) - level, self.decode(outputs) + level])


def test_methods_are_there_where_the_head_has_them():
    model = tiny(FineTuneRegressor, head=IntervalHead()).fit(IMAGES, Z)
    assert_allclose(model.predict_interval(IMAGES, 0.5).mean(axis=1), model.predict(IMAGES), rtol=1e-5)
    assert not hasattr(model, "predict_pdf")
    model.set_params(head="linear")
    assert hasattr(model, "predict_interval")  # the head in use, until the next fit
    assert not hasattr(clone(model), "predict_interval")


@pytest.mark.parametrize("head", [SoftmaxHead(class_weight="balanced"), DirichletHead(class_weight="balanced")])
def test_balanced_classes_are_those_of_rows_with_a_weight(head):
    labels = np.repeat(["a", "b"], 50)
    weight = np.r_[np.ones(10), np.zeros(40), np.full(50, 0.5)]
    _, whole = clone(head).encode(labels, weight)
    _, known = clone(head).encode(labels[weight > 0], weight[weight > 0])
    assert_allclose(whole[weight > 0], known)
    assert whole[:50].sum() == pytest.approx(whole[50:].sum())
