"""The laws of `label_sweep`: who sees which rows, which labels and which metadata, and what is refused."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, make_scorer, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    PredefinedSplit,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from skastro.downstream import PhotoZRegressor
from skastro.metrics import crps, sigma_mad
from skastro.model_selection import label_sweep

N = 90
X = np.arange(N, dtype=float)[:, np.newaxis]  # a row is its own number, so that spies know what they saw
Y = np.repeat(["a", "b", "c"], [54, 27, 9])
COLUMNS = ["method", "n_labels", "fold", "repeat", "score", "seconds"]
LOG = []


def numbers(rows):
    return np.asarray(rows).reshape(len(rows), -1)[:, 0].astype(int)


def logged(name, call):
    return [entry for entry in LOG if entry["name"] == name and entry["call"] == call]


@pytest.fixture(autouse=True)
def _empty_log():
    LOG.clear()


class SpyTransformer(TransformerMixin, BaseEstimator):
    """Passes rows on and writes down which."""

    def __init__(self, name="spy", seconds=0.0):
        self.name = name
        self.seconds = seconds

    def fit(self, X, y=None, votes=None):
        LOG.append({"name": self.name, "call": "fit", "rows": numbers(X), "y": y, "votes": votes})
        time.sleep(self.seconds)
        self.fitted_ = True
        return self

    def fit_transform(self, X, y=None, votes=None, ebv=None):
        return self.fit(X, y, votes=votes).transform(X, ebv=ebv)

    def transform(self, X, ebv=None):
        LOG.append({"name": self.name, "call": "transform", "rows": numbers(X), "ebv": ebv})
        return X


class SpyClassifier(ClassifierMixin, BaseEstimator):
    """Predicts the first class and writes down what it learned from."""

    def __init__(self, name="head"):
        self.name = name

    def fit(self, X, y, sample_weight=None):
        LOG.append({"name": self.name, "call": "fit", "rows": numbers(X), "y": y, "weight": sample_weight})
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        LOG.append({"name": self.name, "call": "predict", "rows": numbers(X)})
        return np.repeat(self.classes_[:1], len(X))


class SpyRegressor(RegressorMixin, BaseEstimator):
    """Predicts the mean and writes down what it learned from."""

    def fit(self, X, y):
        LOG.append({"name": "head", "call": "fit", "rows": numbers(X), "y": y})
        self.mean_ = np.mean(y, axis=0)
        return self

    def predict(self, X):
        return np.tile(self.mean_, (len(X), 1)) if np.ndim(self.mean_) else np.full(len(X), self.mean_)


def sweep(methods, X=X, y=Y, label_counts=(6, 12, 30), cv=3, random_state=0, **kwargs):
    return label_sweep(methods, X, y, label_counts=label_counts, cv=cv, random_state=random_state, **kwargs)


def splits(cv=3, y=Y):
    return list(StratifiedKFold(cv).split(np.zeros(len(y)), y))


# The table


def test_the_table_is_tidy():
    table = sweep({"one": SpyClassifier(), "two": SpyClassifier()}, n_repeats=2)
    assert list(table.columns) == COLUMNS
    assert len(table) == 2 * 3 * 2 * 3
    assert not table.duplicated(["method", "n_labels", "fold", "repeat"]).any()
    assert set(table["method"]) == {"one", "two"}
    assert set(table["n_labels"]) == {6, 12, 30}
    assert set(table["fold"]) == {0, 1, 2}
    assert set(table["repeat"]) == {0, 1}
    assert (table.dtypes[["n_labels", "fold", "repeat"]] == "int64").all()
    assert (table.dtypes[["score", "seconds"]] == "float64").all()


def test_all_labels_is_cross_validation():
    digits, y = load_digits(return_X_y=True)
    digits, y = digits[:300] / 16, y[:300]
    pipe = make_pipeline(PCA(8, svd_solver="full"), KNeighborsClassifier(3))
    table = label_sweep({"pipe": pipe}, digits, y, label_counts=[200], cv=3, scoring="balanced_accuracy")
    expected = cross_val_score(pipe, digits, y, cv=3, scoring="balanced_accuracy")
    assert table["score"].to_numpy() == pytest.approx(expected)


SEVERAL = {
    "list": ["accuracy", "neg_log_loss", "balanced_accuracy"],
    "tuple": ("neg_log_loss", "accuracy"),
    "one": ["accuracy"],
    "mapping": {"own": None, "score": "accuracy", "hits": make_scorer(accuracy_score, normalize=False)},
}
several = pytest.mark.parametrize("scoring", SEVERAL.values(), ids=SEVERAL)


@several
def test_several_metrics_are_columns_in_the_place_of_the_score(scoring):
    table = sweep({"one": make_pipeline(SpyTransformer(), KNeighborsClassifier(3))}, scoring=scoring)
    assert list(table.columns) == [*COLUMNS[:4], *scoring, "seconds"]
    assert (table.dtypes[[*scoring]] == "float64").all()


@several
def test_a_metric_is_the_same_among_others_and_alone(scoring):
    methods = {"pipe": make_pipeline(PCA(1), KNeighborsClassifier(3)), "direct": KNeighborsClassifier(1)}
    together = sweep(methods, scoring=scoring)
    for name in scoring:
        alone = sweep(methods, scoring=scoring[name] if isinstance(scoring, dict) else name)
        assert_array_equal(together[name], alone["score"])


@several
def test_several_metrics_with_all_labels_are_cross_validation(scoring):
    digits, y = load_digits(return_X_y=True)
    digits, y = digits[:300] / 16, y[:300]
    pipe = make_pipeline(PCA(8, svd_solver="full"), KNeighborsClassifier(3))
    table = label_sweep({"pipe": pipe}, digits, y, label_counts=[200], cv=3, scoring=scoring)
    expected = cross_validate(pipe, digits, y, cv=3, scoring=scoring)
    for name in scoring:
        assert table[name].to_numpy() == pytest.approx(expected[f"test_{name}"])


def test_several_metrics_share_one_fit_and_one_prediction():
    sweep({"m": make_pipeline(SpyTransformer(), SpyClassifier())}, scoring=["accuracy", "balanced_accuracy"])
    assert len(logged("spy", "fit")) == 3
    assert len(logged("head", "fit")) == len(logged("head", "predict")) == 3 * 3


def redshifts(n=120):
    redshift = np.random.default_rng(0).uniform(0, 0.4, n)
    return np.random.default_rng(1).normal(redshift[:, np.newaxis], 0.1, (n, 3)), redshift


def test_our_metrics_go_by_name():
    features, redshift = redshifts()
    train, test = next(KFold(2).split(features))
    head = PhotoZRegressor(KNeighborsClassifier(9), n_bins=10)
    table = sweep({"m": head}, features, redshift, [60], cv=[(train, test)], scoring=["neg_crps", "neg_sigma_mad"])
    head.fit(features[train], redshift[train])
    assert table["neg_sigma_mad"].item() == pytest.approx(-sigma_mad(redshift[test], head.predict(features[test])))
    expected = -np.mean(crps(redshift[test], *head.predict_pdf(features[test])))
    assert table["neg_crps"].item() == pytest.approx(expected)


def test_the_figure_of_several_metrics():
    pytest.importorskip("matplotlib").use("Agg")
    from skastro.plotting import LabelSweepDisplay

    features, redshift = redshifts()
    head, scoring = PhotoZRegressor(KNeighborsClassifier(3), n_bins=10), ["neg_sigma_mad", "neg_crps"]
    methods = {"one": make_pipeline(PCA(2), head), "all": head}
    display = LabelSweepDisplay.from_frame(sweep(methods, features, redshift, scoring=scoring), metrics=scoring)
    assert len(display.axes_) == 2
    means = display.frame.groupby(["method", "n_labels"], sort=False)[scoring].mean()
    drawn = [line.get_ydata() for line in display.lines_]
    assert_array_equal(np.ravel(drawn), np.ravel(means.T))


def test_seconds_hold_the_whole_pretraining_in_every_row():
    pipe = make_pipeline(SpyTransformer(seconds=0.02), SpyClassifier())
    table = sweep({"slow": pipe, "fast": SpyClassifier()})
    seconds = table.groupby("method")["seconds"]
    assert seconds.min()["slow"] >= 0.02
    assert seconds.median()["fast"] < 0.02


def test_progress_shows_method_and_fold(capsys):
    sweep({"rings": SpyClassifier()}, verbose=1)
    assert "rings, fold 3 of 3" in capsys.readouterr().err
    sweep({"rings": SpyClassifier()})
    assert capsys.readouterr().err == ""


# The labeled rows


@pytest.mark.parametrize(
    ("head", "y", "folds"),
    [
        (SpyClassifier(), Y, splits()),
        (SpyRegressor(), np.linspace(0, 1, N), list(KFold(3).split(X))),
        (SpyRegressor(), np.linspace(0, 1, 2 * N).reshape(N, 2), list(KFold(3).split(X))),
    ],
    ids=["classes", "values", "many values"],
)
def test_subsets_are_nested_and_from_the_training_rows(head, y, folds):
    sweep({"m": head}, y=y)
    fits = [set(entry["rows"]) for entry in logged("head", "fit")]
    for fold, (train, _) in enumerate(folds):
        small, medium, large = fits[3 * fold : 3 * fold + 3]
        assert [len(small), len(medium), len(large)] == [6, 12, 30]
        assert small < medium < large <= set(train)


def test_labels_belong_to_their_rows():
    sweep({"pipe": make_pipeline(SpyTransformer(), SpyClassifier()), "direct": SpyClassifier()})
    for entry in logged("head", "fit"):
        assert_array_equal(entry["y"], Y[entry["rows"]])


def test_subsets_are_stratified():
    counts = range(3, 61)
    sweep({"m": SpyClassifier()}, label_counts=counts)
    for entry, (train, n_labels) in zip(
        logged("head", "fit"), ((train, n) for train, _ in splits() for n in counts), strict=True
    ):
        classes, got = np.unique(entry["y"], return_counts=True)
        _, available = np.unique(Y[train], return_counts=True)
        assert list(classes) == ["a", "b", "c"]
        fair = np.maximum(n_labels * available / len(train), 1)
        assert np.all(np.abs(got - fair) < 1.5)


def test_fewer_labels_than_classes_are_of_different_classes():
    sweep({"m": SpyClassifier()}, label_counts=[1, 2])
    for entry in logged("head", "fit"):
        assert len(set(entry["y"])) == len(entry["y"])


def test_methods_share_subsets_and_repeats_differ():
    methods = {"one": SpyClassifier("one"), "two": make_pipeline(SpyTransformer(), SpyClassifier("two"))}
    sweep(methods, label_counts=[12], n_repeats=2)
    one, two = ([entry["rows"] for entry in logged(name, "fit")] for name in methods)
    assert_array_equal(one, two)
    for first, second in zip(one[::2], one[1::2], strict=True):
        assert set(first) != set(second)


def test_random_state_decides_the_subsets():
    def rows(**kwargs):
        LOG.clear()
        sweep({"m": SpyClassifier()}, label_counts=[12], **kwargs)
        return np.array([entry["rows"] for entry in logged("head", "fit")])

    assert_array_equal(rows(random_state=7), rows(random_state=7))
    assert_array_equal(rows(random_state=np.random.RandomState(7)), rows(random_state=np.random.RandomState(7)))
    assert not np.array_equal(rows(random_state=7), rows(random_state=8))
    assert_array_equal(rows(random_state=7, n_repeats=3)[::3], rows(random_state=7))


def test_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    sweep({"m": SpyClassifier()})
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_whole_numbers_are_values_to_a_regressor():
    counts = np.random.default_rng(0).poisson(20, N)  # single counts would make stratified folds warn
    table = sweep({"m": make_pipeline(PCA(1), Ridge())}, y=counts, label_counts=[5, 60])
    assert np.isfinite(table["score"]).all()


# Pretraining, frozen embedders, heads


def test_pretraining_sees_all_training_rows_once_and_no_label():
    pipe = make_pipeline(SpyTransformer("first"), None, SpyTransformer("second"), SpyClassifier())
    sweep({"m": pipe}, n_repeats=2)
    for name in ("first", "second"):
        fits = logged(name, "fit")
        assert len(fits) == 3
        assert all(entry["y"] is None for entry in fits)
        for entry, (train, _) in zip(fits, splits(), strict=True):
            assert_array_equal(entry["rows"], train)
    assert len(logged("head", "fit")) == 3 * 2 * 3


def test_heads_are_scored_on_the_test_rows():
    sweep({"m": make_pipeline(SpyTransformer(), SpyClassifier())}, label_counts=[12])
    for entry, (_, test) in zip(logged("head", "predict"), splits(), strict=True):
        assert_array_equal(entry["rows"], test)


class SpyDiscriminant(LinearDiscriminantAnalysis):
    def fit(self, X, y):
        LOG.append({"name": "supervised", "call": "fit", "rows": numbers(X), "y": y})
        return super().fit(X, y)


@pytest.mark.parametrize(
    "head",
    [
        (SpyDiscriminant(), SpyTransformer("after"), SpyClassifier()),
        # The tag of SelectKBest does not say that it needs labels, so the head is marked by a pipeline.
        (make_pipeline(SelectKBest(k=1), SpyDiscriminant(), SpyTransformer("after"), SpyClassifier()),),
    ],
    ids=["tag", "nested"],
)
def test_supervised_transformers_belong_to_the_head(head):
    sweep({"m": make_pipeline(SpyTransformer(), *head)}, label_counts=[12])
    assert [len(entry["rows"]) for entry in logged("spy", "fit")] == [60, 60, 60]
    for name in ("supervised", "after", "head"):
        assert [len(entry["y"]) for entry in logged(name, "fit")] == [12, 12, 12]


def test_anything_but_a_pipeline_is_fitted_whole_on_the_labeled_rows():
    pipe = make_pipeline(SpyTransformer(), SpyClassifier())
    search = GridSearchCV(pipe, {"spytransformer__seconds": [0.0]}, cv=KFold(2))
    sweep({"m": search}, label_counts=[12])
    assert max(len(entry["rows"]) for entry in logged("spy", "fit")) == 12


def test_a_frozen_embedder_embeds_once():
    embedder = SpyTransformer().fit(X)
    LOG.clear()
    methods = {
        "one": Pipeline([("emb", FrozenEstimator(embedder)), ("head", SpyClassifier())]),
        "two": make_pipeline("passthrough", FrozenEstimator(embedder), SpyTransformer("own"), SpyClassifier()),
        "three": Pipeline([("emb", FrozenEstimator(embedder)), ("head", SpyClassifier())]),
    }
    sweep(methods, n_repeats=2)
    assert not logged("spy", "fit")
    assert [len(entry["rows"]) for entry in logged("spy", "transform")] == [N, N]  # "one" and "three" share
    assert [len(entry["rows"]) for entry in logged("own", "fit")] == [60, 60, 60]


def test_a_frozen_embedder_after_pretraining_is_not_refitted():
    frozen = FrozenEstimator(SpyTransformer("frozen").fit(X))
    LOG.clear()
    sweep({"m": make_pipeline(SpyTransformer(), frozen, SpyClassifier())}, label_counts=[12])
    assert not logged("frozen", "fit")
    assert len(logged("spy", "fit")) == 3


def test_memory_keeps_the_pretraining(tmp_path):
    pipe = make_pipeline(SpyTransformer(), SpyClassifier(), memory=str(tmp_path))
    first, second = sweep({"m": pipe}), sweep({"m": pipe})
    assert len(logged("spy", "fit")) == 3
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))


def test_given_estimators_are_never_changed():
    pipe = make_pipeline(SpyTransformer(), SpyClassifier())
    before = repr(pipe)
    sweep({"m": pipe, "direct": pipe[-1]})
    assert repr(pipe) == before
    assert not hasattr(pipe[0], "fitted_")
    assert not hasattr(pipe[-1], "classes_")


# Data and folds


def test_images_keep_their_shape_and_stay_on_the_disk(tmp_path):
    file = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", "float32", (N, 2, 5, 4))
    file[:] = X[:, :, np.newaxis, np.newaxis]
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    largest = []

    class ImageClassifier(SpyClassifier):
        def fit(self, X, y):
            assert X.shape[1:] == (2, 5, 4)
            largest.append(len(X))
            return super().fit(X, y)

    table = sweep({"pipe": make_pipeline(SpyTransformer(), ImageClassifier()), "direct": ImageClassifier()}, images)
    assert max(largest) == 30
    assert len(table) == 18


def test_tables_and_lists_are_indexed_by_row():
    frame = pd.DataFrame({"x": X[:, 0]}, index=np.arange(N)[::-1] + 1000)
    pipe = make_pipeline(PCA(1).set_output(transform="pandas"), LogisticRegression())
    given = [(X, Y), (frame, pd.Series(Y, index=frame.index)), (X.tolist(), Y.tolist())]
    scores = [sweep({"m": pipe}, *data, label_counts=[30])["score"] for data in given]
    assert_array_equal(scores[0], scores[1])
    assert_array_equal(scores[0], scores[2])


def test_published_splits():
    fold = np.where(np.arange(N) % 5 == 0, 0, -1)
    table = sweep({"m": make_pipeline(SpyTransformer(), SpyClassifier())}, cv=PredefinedSplit(fold))
    assert set(table["fold"]) == {0}
    (fit,) = logged("spy", "fit")
    assert_array_equal(fit["rows"], np.flatnonzero(fold == -1))


def test_groups_are_not_divided():
    groups = np.arange(N) // 3
    sweep({"m": make_pipeline(SpyTransformer(), SpyClassifier())}, cv=GroupKFold(3), groups=groups)
    for fit, predict in zip(logged("spy", "fit"), logged("head", "predict")[::3], strict=True):
        assert not set(groups[fit["rows"]]) & set(groups[predict["rows"]])


# Metadata


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
def test_metadata_goes_where_it_was_requested():
    votes, weight, ebv = X * [1, 10], X[:, 0] / N, X[:, 0] + 0.5
    spy = SpyTransformer().set_fit_request(votes=True).set_transform_request(ebv=True)
    head = SpyClassifier().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
    plain = make_pipeline(PCA(1), SpyClassifier("plain").set_fit_request(sample_weight=False))
    plain[-1].set_score_request(sample_weight=False)
    methods = {"m": make_pipeline(spy, head), "plain": plain}
    sweep(methods, params={"votes": votes, "sample_weight": weight, "ebv": ebv})
    for fit in logged("spy", "fit"):
        assert len(fit["rows"]) == 60
        assert_array_equal(fit["votes"], votes[fit["rows"]])
    assert len(logged("spy", "transform")) == 6
    for transform in logged("spy", "transform"):
        assert_array_equal(transform["ebv"], ebv[transform["rows"]])
    for fit in logged("head", "fit"):
        assert_array_equal(fit["weight"], weight[fit["rows"]])
    assert all(fit["weight"] is None for fit in logged("plain", "fit"))


@pytest.mark.usefixtures("routing")
def test_metadata_reaches_a_frozen_embedder_whole():
    ebv = X[:, 0] + 0.5
    embedder = SpyTransformer().set_transform_request(ebv=True).fit(X)
    LOG.clear()
    sweep({"m": make_pipeline(FrozenEstimator(embedder), SpyClassifier())}, params={"ebv": ebv})
    (transform,) = logged("spy", "transform")
    assert_array_equal(transform["ebv"], ebv)


@pytest.mark.usefixtures("routing")
def test_metadata_reaches_the_score_and_scalars_pass_whole():
    seen = []

    class Scored(SpyClassifier):
        def score(self, X, y, sample_weight=None, scale=1.0):
            seen.append((numbers(X), sample_weight, scale))
            return scale

    head = Scored().set_fit_request(sample_weight=False).set_score_request(sample_weight=True, scale=True)
    table = sweep({"m": head}, params={"sample_weight": X[:, 0], "scale": 0.25}, label_counts=[6])
    assert (table["score"] == 0.25).all()
    for rows, weight, _ in seen:
        assert_array_equal(rows, weight)


@pytest.mark.usefixtures("routing")
def test_metadata_reaches_the_metrics_that_requested_it():
    weight, head = np.random.default_rng(0).uniform(size=N), KNeighborsClassifier(3)
    weighted = make_scorer(accuracy_score).set_score_request(sample_weight="votes")
    plain = make_scorer(accuracy_score).set_score_request(sample_weight=False)
    given = {"label_counts": [60], "params": {"votes": weight}}
    table = sweep({"m": head}, scoring={"weighted": weighted, "plain": plain}, **given)
    for fold, (train, test) in enumerate(splits()):
        right = head.fit(X[train], Y[train]).predict(X[test]) == Y[test]
        assert table["weighted"][fold] == pytest.approx(np.average(right, weights=weight[test]))
        assert table["plain"][fold] == pytest.approx(np.mean(right))
    assert_array_equal(sweep({"m": head}, scoring=weighted, **given)["score"], table["weighted"])


@pytest.mark.usefixtures("routing")
def test_metadata_that_one_metric_neither_requests_nor_declines_is_refused_before_any_fit():
    scoring = {"weighted": make_scorer(accuracy_score).set_score_request(sample_weight=True), "own": None}
    head = SpyClassifier().set_fit_request(sample_weight=True)
    with pytest.raises(ValueError, match=r"sample_weight.*not explicitly set"):
        sweep({"m": head}, params={"sample_weight": X[:, 0]}, scoring=scoring)
    assert not LOG


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize(
    ("method", "message"),
    [
        (make_pipeline(PCA(1), KNeighborsClassifier()), "votes.*not routed to any object"),
        (make_pipeline(SpyTransformer(), SpyClassifier()), "votes.*not explicitly set as requested"),
        (make_pipeline(SpyTransformer(), SelectKBest(), SpyClassifier()), "votes.*not explicitly set"),
    ],
)
def test_metadata_that_nobody_requested_is_refused_before_any_fit(method, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sweep({"spy": SpyClassifier(), "m": method}, params={"votes": X})
    assert not LOG


# Refusals


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": {"m": SpyClassifier(), "class": LogisticRegression}}, TypeError, "instance"),
        ({"methods": {"m": SpyClassifier(), "word": "resnet18"}}, TypeError, "resnet18"),
        (
            {"methods": {"m": SpyClassifier(), "mute": make_pipeline(SpyTransformer())}},
            TypeError,
            "'score' method",
        ),
        (
            {"methods": {"m": SpyClassifier(), "f": make_pipeline(FrozenEstimator(PCA()), SpyClassifier())}},
            NotFittedError,
            "not fitted",
        ),
        ({"label_counts": [12, 61]}, ValueError, "asks for 61 labels, but fold 0 has 60 training rows"),
        ({"label_counts": [0, 12]}, ValueError, r"at least 1; got \[0, 12\]"),
        ({"label_counts": [0.5, 1.0]}, ValueError, r"whole numbers.*got \[0.5, 1.0\]"),
        ({"label_counts": []}, ValueError, r"got \[\]"),
        ({"n_repeats": 0}, ValueError, "n_repeats.*got 0"),
        ({"y": Y[:-1]}, ValueError, r"y must have one entry for each of the 90 rows of X.*\(89,\)"),
        ({"y": None}, ValueError, "y must have one entry"),
        ({"groups": np.arange(4)}, ValueError, r"groups must have one entry.*\(4,\)"),
        ({"scoring": []}, ValueError, "scoring is empty"),
        ({"scoring": {}}, ValueError, "scoring is empty"),
        ({"scoring": 3}, ValueError, "scoring must be one metric.*got 3"),
        ({"scoring": {"accuracy", "roc_auc"}}, ValueError, "scoring must be one metric.*or a mapping"),
        ({"scoring": ["accuracy", make_scorer(accuracy_score)]}, ValueError, "a list of names"),
        ({"scoring": ["accuracy", ["roc_auc"]]}, ValueError, r"got \['accuracy', \['roc_auc'\]\]"),
        ({"scoring": {"a": ["accuracy"]}}, ValueError, r"got \{'a': \['accuracy'\]\}"),
        ({"scoring": {0: "accuracy"}}, ValueError, "a mapping of names to metrics"),
        ({"scoring": ["accuracy", "accuracy"]}, ValueError, "scoring must name each metric once"),
        *(
            ({"scoring": {name: "accuracy"}}, ValueError, f"none like a column.*got.*{name}")
            for name in COLUMNS
            if name != "score"
        ),
        ({"scoring": "beauty"}, ValueError, "no scorer 'beauty'"),
        ({"scoring": ["accuracy", "beauty"]}, ValueError, "no scorer 'beauty'"),
        ({"scoring": {"truth": accuracy_score}}, ValueError, "scoring value.*looks like it is a metric"),
        ({"scoring": "roc_auc"}, ValueError, 'roc_auc_score cannot score the 3 classes of y: .*such as "roc_auc_ovr"'),
        ({"scoring": ["accuracy", "f1"]}, ValueError, "f1_score cannot score the 3 classes of y: .*"),
        ({"scoring": "f1", "y": np.where(Y == "c", "b", Y)}, ValueError, "cannot score the 2 classes .* pos_label=1"),
        ({"params": {"votes": X}}, ValueError, r"votes.*set_config\(enable_metadata_routing=True\)"),
    ],
)
def test_refusals_come_in_one_sentence_before_any_fit(changes, error, message):
    arguments = {"methods": {"m": make_pipeline(SpyTransformer(), SpyClassifier())}, "label_counts": [12]}
    with pytest.raises(error, match=message):
        sweep(**(arguments | changes))
    assert not LOG


@pytest.mark.usefixtures("routing")
def test_metadata_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"votes must have one entry for each of the 90 rows of X.*\(89, 1\)"):
        sweep({"m": SpyClassifier()}, params={"votes": X[1:]})


def test_a_count_larger_than_the_smallest_fold_names_it():
    fold = np.repeat([0, 1, 2], [10, 50, 30])
    with pytest.raises(ValueError, match="asks for 50 labels, but fold 1 has 40 training rows"):
        sweep({"m": SpyClassifier()}, label_counts=[5, 50], cv=PredefinedSplit(fold))
    assert not LOG


def test_neither_module_imports_torch():
    code = "import sys, skastro.model_selection, skastro.plotting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("response", ["predict_proba", "decision_function", "predict"])
def test_metrics_of_several_classes_are_not_refused(response):
    y, scorer = (Y == "a").astype(int), make_scorer(roc_auc_score, response_method=response)
    scoring = {"own": scorer, "f1": "f1", "worst": lambda model, X, y: 0.0, "proba": "neg_log_loss"}
    assert sweep({"line": LogisticRegression()}, y=y, scoring=scoring).notna().all(axis=None)
    scoring = ["roc_auc_ovr", "f1_macro", "top_k_accuracy", "matthews_corrcoef", "precision_weighted"]
    assert list(sweep({"line": LogisticRegression()}, label_counts=[30], scoring=scoring)[scoring]) == scoring


def test_without_a_class_there_is_no_score_and_the_sweep_goes_on():
    methods, counts = {"line": LogisticRegression()}, [1, 9]
    with pytest.warns(UserWarning, match="1 labels: a class is missing"):
        table = label_sweep(
            methods, X, Y, label_counts=counts, cv=3, scoring=["accuracy", "neg_log_loss"], random_state=0
        )
    few = table["n_labels"] == 1
    assert table.loc[few, ["accuracy", "neg_log_loss"]].isna().all(axis=None)
    assert table.loc[~few, ["accuracy", "neg_log_loss"]].notna().all(axis=None)
    with pytest.raises(ValueError, match="NaN"):  # which has another reason
        label_sweep(methods, np.where(X < 80, X, np.nan), Y, label_counts=[9], cv=3)
