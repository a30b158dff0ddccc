"""The laws of the posterior: it is a density in the units of the values, and its draws follow it."""

import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.integrate import trapezoid
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("zuko")

from skastro import FlowPosterior, base, load, save
from skastro.downstream import posterior
from skastro.metrics import sbc_ranks, tarp
from skastro.training import Training, local_seed

TINY = {"n_estimators": 2, "n_transforms": (1, 2), "hidden_dim": (4, 16), "max_epochs": 2, "lr": 0.01}
MIXING = np.array([[1.0, 0.6], [-0.4, 1.2], [0.3, 0.5]])
NOISE = 0.7
COVARIANCE = np.linalg.inv(np.eye(2) + MIXING.T @ MIXING / NOISE**2)


def pairs(n, seed=0):
    """Features that are linear in two standard normal values, with noise: the posterior is known."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, 2))
    return y @ MIXING.T + NOISE * rng.normal(size=(n, 3)), y


def true_mean(X):
    return X @ MIXING / NOISE**2 @ COVARIANCE


def best_log_prob(X, y):
    return stats.multivariate_normal(np.zeros(2), COVARIANCE).logpdf(y - true_mean(X))


NAMES = ["flat", "column", "two"]


def rows(name, n, seed=0):
    """One value in one dimension, in a column, or two, at odd scales."""
    X, y = pairs(n, seed)
    y = y * [20.0, 0.01] + [1000.0, -3.0]
    return X, {"flat": y[:, 0], "column": y[:, :1], "two": y}[name]


@pytest.fixture(scope="module")
def models():
    return {name: FlowPosterior(**TINY, random_state=0).fit(*rows(name, 60)) for name in NAMES}


each_model = pytest.mark.parametrize("name", NAMES)


def unseen(name, n=6):
    return rows(name, n, seed=1)


# What is known


@pytest.fixture(scope="module")
def gaussian():
    model = FlowPosterior(2, n_transforms=1, hidden_dim=32, max_epochs=10, lr=0.02, random_state=0)
    return model.fit(*pairs(2000))


def test_a_gaussian_posterior_is_recovered(gaussian):
    X, y = pairs(1000, seed=1)
    assert gaussian.score(X, y) == pytest.approx(best_log_prob(X, y).mean(), abs=0.05)
    X, sigma = X[:100], np.sqrt(COVARIANCE.diagonal())
    assert (np.std(gaussian.predict(X) - true_mean(X), axis=0) < 0.2 * sigma).all()
    width = np.diff(gaussian.predict_interval(X, 0.68)).mean(axis=0)[:, 0]
    assert_allclose(width, 2 * stats.norm.ppf(0.84) * sigma, rtol=0.12)


def test_a_narrow_gaussian_posterior_is_recovered():
    """Values linear in three features, and noise of a quarter of their spread: one flow, as the defaults train it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 3))
    y = X @ MIXING + 0.3 * rng.normal(size=(6000, 2))
    model = FlowPosterior(1, n_transforms=2, hidden_dim=64, max_epochs=20, random_state=0).fit(X[:5000], y[:5000])
    best = stats.norm(X[5000:] @ MIXING, 0.3).logpdf(y[5000:]).sum(axis=1).mean()
    assert model.score(X[5000:], y[5000:]) == pytest.approx(best, abs=0.05)


def test_a_flow_begins_as_a_normal_distribution():
    for kind in ("autoregressive", "coupling"):
        flow = posterior.build_flow(3, 2, 2, 8, kind)
        with torch.no_grad():
            density = flow(torch.ones(5, 2)).log_prob(torch.eye(5, 3))
        assert_allclose(density, stats.norm.logpdf(np.eye(5, 3)).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("level", [0.5, 0.99, 0.9999])
def test_intervals_of_a_normal_distribution_are_its_own(level):
    X, y = pairs(60)
    model = FlowPosterior(n_estimators=1, n_transforms=1, hidden_dim=4, max_epochs=1, lr=1e-12, random_state=0)
    ends = model.fit(X, y[:, 0]).predict_interval(X[:1], level)[0]
    assert_allclose((ends - y[:, 0].mean()) / y[:, 0].std(), stats.norm.interval(level), rtol=0.03)


def test_coverage_passes_on_it_and_fails_on_one_made_narrower(gaussian):
    X, y = pairs(1000, seed=2)
    draws = gaussian.sample(X, 60)
    narrow = draws.mean(axis=1, keepdims=True) + 0.7 * (draws - draws.mean(axis=1, keepdims=True))
    assert tarp(y, draws).p_value > 0.01
    assert sbc_ranks(y, draws).p_value.min() > 0.005
    assert tarp(y, narrow).p_value < 1e-4
    assert sbc_ranks(y, narrow).p_value.max() < 1e-4


# A density, and its draws


@each_model
def test_the_density_is_the_mixture_with_its_jacobian(models, name):
    model, (X, y) = models[name], unseen(name)
    features = torch.from_numpy((X - model.feature_scaler_.mean_) / model.feature_scaler_.scale_)
    scaled = torch.from_numpy((y.reshape(len(y), -1) - model.target_scaler_.mean_) / model.target_scaler_.scale_)
    densities = [flow.double()(features).log_prob(scaled).exp().detach().numpy() for flow in pickled(model).flows_]
    expected = np.mean(densities, axis=0) / np.prod(model.target_scaler_.scale_)
    assert_allclose(np.exp(model.log_prob(X, y)), expected)
    assert model.score(X, y) == pytest.approx(model.log_prob(X, y).mean())


def test_the_density_integrates_to_one(models):
    (x, *_), _ = unseen("flat")
    grid = np.linspace(800, 1200, 4001)
    density = np.exp(models["flat"].log_prob(np.tile(x, (len(grid), 1)), grid))
    assert trapezoid(density, grid) == pytest.approx(1, abs=1e-4)
    axes = np.linspace(900, 1100, 201), np.linspace(-3.05, -2.95, 201)
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    density = np.exp(models["two"].log_prob(np.tile(x, (201**2, 1)), places.reshape(-1, 2))).reshape(201, 201)
    assert trapezoid(trapezoid(density, axes[1]), axes[0]) == pytest.approx(1, abs=2e-3)


def test_coupling_flows_are_densities_that_undo_themselves():
    """Of three values: the density integrates to one, and what is carried to normal points comes back."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(80, 3)) @ [[1, 0.8, 0.3], [0, 1, 0.5], [0, 0, 1]]
    X = y[:, :2] + rng.normal(size=(80, 2))
    model = FlowPosterior(2, flow="coupling", n_transforms=2, hidden_dim=16, max_epochs=8, lr=0.01, random_state=0)
    model.fit(X, y)
    axes = [mean + scale * np.linspace(-6, 6, 61) for mean, scale in zip(y.mean(axis=0), y.std(axis=0), strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    density = np.exp(model.log_prob(np.tile(X[0], (61**3, 1)), places.reshape(-1, 3))).reshape(61, 61, 61)
    total = trapezoid(trapezoid(trapezoid(density, axes[2]), axes[1]), axes[0])
    assert total == pytest.approx(1, abs=5e-3)
    features, values = torch.from_numpy(X), torch.from_numpy((y - y.mean(axis=0)) / y.std(axis=0))
    for flow in pickled(model).flows_.double():
        transform = flow(features).transform
        torch.testing.assert_close(transform.inv(transform(values)), values)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_halves_look_at_halves(k):
    """In a coupling transform no value depends on another of its own half, nor does the first half on the second."""
    half = -(-k // 2)
    for kind in ("autoregressive", "coupling"):
        with local_seed(0):
            flow = posterior.build_flow(k, 2, 2, 64, kind).double()
            for parameter in flow.parameters():  # a new flow lets no value depend on any other
                torch.nn.init.normal_(parameter)
        values = torch.randn(k, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        for place in range(2):
            transform = flow.transform.transforms[place](torch.zeros(2, dtype=torch.float64))
            jacobian = torch.autograd.functional.jacobian(transform, values).numpy() != 0
            order = np.arange(k)[:: 1 if place == 0 else -1]
            group = order // half if kind == "coupling" else order
            assert_array_equal(jacobian, np.eye(k, dtype=bool) | (group[:, None] > group))


def test_coupling_is_kept_in_pickles_and_files(tmp_path):
    X, y = rows("two", 60)
    y = np.column_stack([y, y.sum(axis=1) + X[:, 0]])
    model = FlowPosterior(**TINY, flow="coupling", random_state=0).fit(X, y)
    expected = model.log_prob(X, y)
    assert (clone(model).set_params(flow="autoregressive").fit(X, y).log_prob(X, y) != expected).any()
    save(model, tmp_path / "m.skastro")
    for again in (pickled(model), load(tmp_path / "m.skastro"), pickled(model.set_params(flow="autoregressive"))):
        assert_array_equal(again.log_prob(X, y), expected)


def test_draws_follow_the_density(models):
    (x, *_), _ = unseen("flat")
    grid = np.linspace(800, 1200, 4001)
    density = np.exp(models["flat"].log_prob(np.tile(x, (len(grid), 1)), grid))
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
    draws = models["flat"].sample(x[np.newaxis], 4000)[0, :, 0]
    assert stats.kstest(draws, lambda values: np.interp(values, grid, cumulative)).pvalue > 0.01
    mean = trapezoid(grid * density, grid)
    assert models["flat"].predict(x[np.newaxis])[0] == pytest.approx(mean, abs=0.02 * draws.std())
    ends = np.interp(models["flat"].predict_interval(x[np.newaxis], 0.8)[0], grid, cumulative)
    assert_allclose(ends, [0.1, 0.9], atol=0.005)


def test_all_members_are_drawn_from_alike(models):
    """Members that differ, so that draws of one alone are far from the mixture."""
    (x, *_), _ = unseen("flat")
    unlike = pickled(models["flat"])
    with torch.no_grad():
        for parameter in unlike.flows_[1].parameters():
            parameter.copy_(3 * parameter.roll(1))
    sigma, alone = unlike.target_scaler_.scale_[0], []
    for flow in unlike.flows_:
        member = pickled(unlike)
        member.flows_ = torch.nn.ModuleList([flow])
        alone.append(member.predict(x[np.newaxis])[0])
    assert abs(alone[0] - alone[1]) > 0.2 * sigma
    assert unlike.predict(x[np.newaxis])[0] == pytest.approx(np.mean(alone), abs=0.02 * sigma)
    grid = np.linspace(800, 1200, 8001)
    density = np.exp(unlike.log_prob(np.tile(x, (len(grid), 1)), grid))
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
    draws = unlike.sample(x[np.newaxis], 4000)[0, :, 0]
    assert stats.kstest(draws, lambda values: np.interp(values, grid, cumulative)).pvalue > 0.01


@each_model
def test_shapes_follow_the_values(models, name):
    model, (X, y) = models[name], unseen(name)
    k = 2 if name == "two" else 1
    assert model.n_outputs_ == k
    assert model.predict(X).shape == y.shape
    assert model.predict_interval(X).shape == (*y.shape, 2)
    assert model.sample(X, 5).shape == (6, 5, k)
    assert model.log_prob(X, y).shape == (6,)
    assert {model.predict(X).dtype, model.sample(X, 2).dtype, model.log_prob(X, y).dtype} == {np.dtype(np.float64)}
    assert_allclose(model.log_prob(X, y.reshape(6, k)), model.log_prob(X, y))


@each_model
def test_intervals_nest_and_hold_the_median(models, name):
    model, (X, _) = models[name], unseen(name)
    inner, outer = model.predict_interval(X, 0.3), model.predict_interval(X, 0.9)
    assert (outer[..., 0] < inner[..., 0]).all()
    assert (inner[..., 1] < outer[..., 1]).all()


@each_model
def test_a_row_depends_on_that_row_alone(models, name, monkeypatch):
    model, (X, y) = models[name], unseen(name)
    answers = model.predict(X), model.predict_interval(X), model.log_prob(X, y), model.sample(X, 30)
    for row in range(len(X)):
        assert_allclose(model.predict(X[[row]])[0], answers[0][row], rtol=1e-12)
        assert_allclose(model.predict_interval(X[[row]])[0], answers[1][row], rtol=1e-12)
        assert_allclose(model.log_prob(X[[row]], y[[row]])[0], answers[2][row], rtol=1e-12)
    monkeypatch.setattr(posterior, "CHUNK", 7)  # nor on how many go at a time
    assert_allclose(model.predict(X), answers[0], rtol=1e-12)
    assert_allclose(model.log_prob(X, y), answers[2], rtol=1e-12)
    assert_allclose(model.sample(X, 30), answers[3], rtol=1e-12)


def test_draws_of_several_rows_are_independent(models):
    X, _ = unseen("flat", 1)
    first, second = models["flat"].sample(np.repeat(X, 2, axis=0), 2000)[..., 0]
    assert abs(stats.spearmanr(first, second).statistic) < 0.08
    again, other = models["flat"].sample(X, 50), models["flat"].sample(X, 50, random_state=1)
    assert_array_equal(models["flat"].sample(X, 50), again)
    assert (again != other).all()


@pytest.mark.parametrize("factor", [1e-6, 1e9])
def test_units_change_the_density_by_their_jacobian(factor):
    X, y = pairs(60)
    model, other = (FlowPosterior(**TINY, random_state=0).fit(X, unit * y + 5 * unit) for unit in (1.0, factor))
    assert_allclose(other.log_prob(X, factor * (y + 5)), model.log_prob(X, y + 5) - 2 * np.log(factor), atol=1e-3)
    assert_allclose(other.predict(X), factor * model.predict(X), rtol=1e-4, atol=1e-3 * factor)


@each_model
@pytest.mark.parametrize("far", [-1e9, 1e3, 1e9])
def test_outliers_have_a_finite_log_probability(models, name, far):
    model, (X, y) = models[name], unseen(name)
    scale = model.target_scaler_.scale_ if name != "flat" else model.target_scaler_.scale_[0]
    near, outlying = model.log_prob(X, y), model.log_prob(X, y + far * scale)
    assert np.isfinite(outlying).all()
    assert (outlying < near).all()
    assert np.isfinite(model.log_prob(X + far, y)).all()
    assert np.isfinite(model.sample(X + far, 50)).all()
    assert np.isfinite(model.predict(X + far)).all()


# The ensemble and its training


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def test_same_seed_same_numbers_and_the_users_generators_are_left():
    X, y = pairs(60)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (FlowPosterior(**TINY, random_state=0).fit(X, y) for _ in range(2))
    draws = [model.sample(X, 10) for model in (first, second)]
    assert_array_equal(*draws)
    assert_array_equal(first.predict(X), second.predict(X))
    assert_array_equal(first.log_prob(X, y), second.log_prob(X, y))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert (FlowPosterior(**TINY, random_state=1).fit(X, y).predict(X) != first.predict(X)).any()


def test_a_larger_ensemble_begins_with_a_smaller_one():
    X, y = pairs(60)
    small, large = (
        FlowPosterior(**(TINY | {"n_estimators": n}), random_state=0).fit(X, y) for n in (1, TINY["n_estimators"])
    )
    assert small.flow_sizes_ == large.flow_sizes_[:1]
    for name, weight in small.flows_[0].state_dict().items():
        assert torch.equal(weight, large.flows_[0].state_dict()[name])


def test_sizes_are_drawn_between_their_limits():
    X, y = pairs(20)
    settings = {"n_transforms": (1, 3), "hidden_dim": (4, 9), "max_epochs": 1, "random_state": 0}
    sizes = pd.DataFrame(FlowPosterior(12, **settings).fit(X, y).flow_sizes_)
    assert set(sizes["n_transforms"]) == {1, 2, 3}
    assert sizes["hidden_dim"].between(4, 9).all()
    assert sizes["hidden_dim"].nunique() > 3
    fixed = FlowPosterior(2, **(settings | {"n_transforms": 2, "hidden_dim": 5})).fit(X, y)
    assert fixed.flow_sizes_ == [{"n_transforms": 2, "hidden_dim": 5}] * 2


def test_each_flow_stops_when_its_held_out_rows_say_so():
    X, y = pairs(60)
    settings = {"n_transforms": 1, "hidden_dim": 32, "max_epochs": 60, "lr": 0.03, "n_iter_no_change": 3}
    model = FlowPosterior(2, **settings, random_state=0).fit(X, y)
    for history in model.history_:
        assert set(history) == {"loss", "lr", "samples_per_s", "validation_loss"}
        losses = history["validation_loss"]
        assert len(losses) == np.argmin(losses) + 1 + 3 < 60
    assert model.history_[0]["validation_loss"][0] != model.history_[1]["validation_loss"][0]


def test_what_is_learned_does_not_depend_on_rows_held_out(monkeypatch):
    """Values of the rows held out change places: the loss of those trained on stays, and theirs does not."""
    X, y = pairs(60)
    seen, split = [], posterior.hold_out
    monkeypatch.setattr(posterior, "hold_out", lambda *args, **kw: seen.append(split(*args, **kw)) or seen[-1])
    model = FlowPosterior(**(TINY | {"n_estimators": 1, "max_epochs": 3}), random_state=0).fit(X, y)
    trained, watched = seen[0]
    assert sorted([*trained, *watched]) == list(range(60))
    mixed = y.copy()
    mixed[watched] = y[watched[::-1]]
    again = clone(model).fit(X, mixed)
    assert_allclose(again.history_[0]["loss"], model.history_[0]["loss"], rtol=1e-6)
    assert (again.history_[0]["validation_loss"] != model.history_[0]["validation_loss"]).all()


def test_the_best_epoch_is_restored(monkeypatch):
    seen = []
    split = posterior.hold_out
    monkeypatch.setattr(posterior, "hold_out", lambda *args, **kw: seen.append(split(*args, **kw)) or seen[-1])
    X, y = pairs(60)
    settings = {"n_transforms": 1, "hidden_dim": 32, "max_epochs": 60, "lr": 0.03, "n_iter_no_change": 3}
    model = FlowPosterior(1, **settings, random_state=0).fit(X, y)
    held_out = seen[0][1]
    units = np.log(model.target_scaler_.scale_).sum()
    expected = -model.history_[0]["validation_loss"].min() - units
    assert model.score(X[held_out], y[held_out]) == pytest.approx(expected, abs=1e-4)


def test_training_is_in_single_precision_unless_asked(monkeypatch):
    settings = []
    monkeypatch.setattr("skastro.base.train", lambda learner, data, how, *args: settings.append(how.training.precision))
    X, y = pairs(20)
    for training in (None, Training(precision="auto"), Training(precision="bf16")):
        model = FlowPosterior(**(TINY | {"n_estimators": 1}), training=training).fit(X, y)
        assert model.training is training
    assert settings == ["fp32", "fp32", "bf16"]


def test_ctrl_c_keeps_what_was_learned(monkeypatch):
    train, calls = base.train, []

    def interrupted(*args, **kwargs):
        train(*args, **kwargs)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(base, "train", interrupted)
    X, y = pairs(40)
    model = FlowPosterior(**TINY, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert len(model.flows_) == len(model.flow_sizes_) == len(model.history_) == 2
    assert np.isfinite(pickled(model).score(X, y))


def test_ctrl_c_in_the_first_epoch_of_a_further_flow_leaves_those_before_it(monkeypatch):
    from skastro.training import callbacks

    def interrupted(self, net, **kwargs):
        record(self, net, **kwargs)
        if steps.append(1) or len(steps) == 1 + 2 * TINY["max_epochs"]:
            raise KeyboardInterrupt

    steps, record = [], callbacks.Monitor.on_batch_end
    monkeypatch.setattr(callbacks.Monitor, "on_batch_end", interrupted)
    X, y = pairs(40)
    model = FlowPosterior(**(TINY | {"batch_size": 20}), random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert len(model.flows_) == len(model.flow_sizes_) == len(model.history_) == 1
    assert len(model.history_[0]["loss"]) == TINY["max_epochs"]


# Neighbors


@each_model
def test_pickles_and_files_answer_the_same(models, name, tmp_path):
    model, (X, y) = models[name], unseen(name)
    save(make_pipeline(StandardScaler(with_mean=False, with_std=False).fit(X), model), tmp_path / "m.skastro")
    for again in (pickled(model), load(tmp_path / "m.skastro")[-1], clone(model).fit(*rows(name, 60))):
        assert_array_equal(again.predict(X), model.predict(X))
        assert_array_equal(again.log_prob(X, y), model.log_prob(X, y))
        assert_array_equal(again.sample(X, 9), model.sample(X, 9))
        assert again.flow_sizes_ == model.flow_sizes_


def test_a_search_in_a_pipeline_maximizes_the_log_probability():
    X, y = pairs(200)
    pipe = make_pipeline(StandardScaler(), FlowPosterior(**(TINY | {"n_estimators": 1}), random_state=0))
    search = GridSearchCV(pipe, {"flowposterior__lr": [1e-6, 0.03]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_ == {"flowposterior__lr": 0.03}
    scaled = search.best_estimator_[0].transform(X)
    assert search.score(X, y) == pytest.approx(search.best_estimator_[-1].log_prob(scaled, y).mean())


def test_nested_parameters_reach_the_training_settings():
    assert FlowPosterior().set_params(training__clip=5.0).training.clip == 5.0


def test_a_constant_feature_says_nothing():
    X, y = pairs(40)
    model = FlowPosterior(**TINY, random_state=0).fit(np.column_stack([X, np.full(40, 7.0)]), y)
    assert np.isfinite(model.log_prob(np.column_stack([X, np.full(40, 7.0)]), y)).all()


# Refusals


def with_(array, place, value):
    array = array.copy()
    array[place] = value
    return array


X20, Y20 = pairs(20)


@pytest.mark.parametrize(
    ("X", "y", "sentence"),
    [
        (X20, np.ones(20), r"^Column 0 of y is constant: there is no posterior to learn\.$"),
        (X20, with_(Y20, (slice(None), 1), 3.0), "Column 1 of y is constant"),
        (X20, with_(Y20, (3, 1), np.nan), r"^y has 1 missing values, the first in row 3: leave such rows out\.$"),
        (with_(X20, (3, 1), np.nan), Y20, "Input X contains NaN"),
        (with_(X20, (3, 1), np.inf), Y20, "Input X contains infinity"),
        (X20[:4], Y20[:4], "Found array with 4 sample"),
        (X20, Y20[:-1], "inconsistent numbers of samples"),
        (X20, None, "requires y to be passed"),
        (X20, Y20[:, :, np.newaxis], "dim 3"),
    ],
)
def test_data_that_cannot_be_used_are_refused(X, y, sentence):
    with pytest.raises(ValueError, match=sentence):
        FlowPosterior(**TINY).fit(X, y)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n_estimators": 0}, "The 'n_estimators' parameter of FlowPosterior must be an int"),
        ({"flow": "affine"}, "The 'flow' parameter of FlowPosterior must be a str"),
        ({"n_transforms": 0}, "The 'n_transforms' parameter"),
        (
            {"n_transforms": (3, 2)},
            r"^n_transforms must be a whole number from 1, or two such limits .* got \(3, 2\)\.$",
        ),
        ({"hidden_dim": (8,)}, "hidden_dim must be a whole number"),
        ({"hidden_dim": (8.5, 9)}, "hidden_dim must be a whole number"),
        ({"hidden_dim": [0, 9]}, "hidden_dim must be a whole number"),
        ({"validation_fraction": 1.0}, "The 'validation_fraction' parameter"),
        (
            {"validation_fraction": 0.95},
            r"^validation_fraction=0\.95 leaves 1 of 20 rows to train on and 19 to watch; ",
        ),
        ({"max_epochs": 0}, "The 'max_epochs' parameter"),
        ({"lr": -1.0}, "The 'lr' parameter"),
        ({"training": Training(milestones=(2,))}, "milestones must be fractions"),
        ({"device": "abacus"}, "Unknown device 'abacus'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_and_nothing_is_lost(settings, sentence):
    model = FlowPosterior(**TINY, random_state=0).fit(X20, Y20)
    before = model.predict(X20)
    with pytest.raises(ValueError, match=sentence):
        model.set_params(**settings).fit(X20, Y20)
    assert_array_equal(model.set_params(device="auto").predict(X20), before)


def test_questions_that_have_no_answer_are_refused(models):
    X, y = unseen("two")
    with pytest.raises(ValueError, match=r"^y has 1 columns, but 2 were learned in fit\.$"):
        models["two"].log_prob(X, y[:, 0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        models["two"].log_prob(X, y[:-1])
    with pytest.raises(ValueError, match="y has 12 missing values, the first in row 0"):
        models["two"].log_prob(X, y * np.nan)
    with pytest.raises(ValueError, match=r"^n_samples must be at least 1; got 0\.$"):
        models["two"].sample(X, 0)
    for level in (0, 1, 68, np.nan):
        with pytest.raises(ValueError, match=f"^level must be between 0 and 1; got {level}"):
            models["two"].predict_interval(X, level)
    with pytest.raises(NotFittedError):
        FlowPosterior().sample(X)


def test_without_zuko_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match=r"FlowPosterior needs zuko: pip install skastro\[flows\]"):
        FlowPosterior(**TINY).fit(X20, Y20)


@pytest.mark.gpu
def test_a_gpu_gives_the_answers_of_the_cpu(models):
    X, y = unseen("two")
    here, there = models["two"], clone(models["two"]).set_params(device="cuda").fit(*rows("two", 60))
    assert np.isfinite(there.score(X, y))
    answers = [pickled(here).set_params(device=device).log_prob(X, y) for device in ("cpu", "cuda")]
    assert_allclose(*answers, rtol=1e-9)


def test_the_score_is_weighted():
    model = FlowPosterior(**TINY).fit(X20, Y20)
    weight = np.r_[np.ones(5), np.zeros(15)]
    assert model.score(X20, Y20, sample_weight=weight) == pytest.approx(model.log_prob(X20[:5], Y20[:5]).mean())
    assert model.score(X20, Y20) == pytest.approx(model.log_prob(X20, Y20).mean())
