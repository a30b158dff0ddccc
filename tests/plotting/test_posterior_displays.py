"""What the pictures of posteriors draw is what the tests and the draws say."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import binom
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skastro.metrics import sbc_ranks, tarp
from skastro.plotting import CornerDisplay, CoverageDisplay, RankDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


class Normal(RegressorMixin, BaseEstimator):
    """Gaussian posteriors around the features."""

    def __init__(self, width=1.0):
        self.width = width

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return X

    def sample(self, X, n_samples, random_state=0):
        noise = np.random.default_rng(random_state).normal(size=(len(X), n_samples, X.shape[1]))
        return X[:, np.newaxis] + self.width * noise


def truths(n=200, k=2):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(n, k))
    return X, X + rng.normal(size=(n, k))


X, Y = truths()
S = Normal().sample(X, 99)


def wrapped():
    """The estimator alone, frozen, at the end of pipelines and found by a search."""
    normal = Normal().fit(X, Y)
    same = FunctionTransformer()
    return {
        "alone": normal,
        "frozen": FrozenEstimator(normal),
        "pipeline": make_pipeline(same, normal).fit(X, Y),
        "short pipeline": make_pipeline(normal),
        "search": GridSearchCV(make_pipeline(same, Normal()), {"normal__width": [1.0]}, cv=2).fit(X, Y),
    }


each_wrapping = pytest.mark.parametrize("name", ["alone", "frozen", "pipeline", "short pipeline", "search"])


@each_wrapping
def test_estimators_draw_what_their_draws_draw(name):
    estimator = wrapped()[name]
    coverage = CoverageDisplay.from_estimator(estimator, X, Y, n_samples=99)
    assert_array_equal(coverage.coverage, CoverageDisplay.from_predictions(Y, S).coverage)
    ranks = RankDisplay.from_estimator(estimator, X, Y, n_samples=99)
    assert_array_equal(ranks.ranks, RankDisplay.from_predictions(Y, S).ranks)
    corner = CornerDisplay.from_estimator(estimator, X[:1], Y[0], n_samples=99)
    assert_array_equal(corner.samples, S[0])
    assert_array_equal(corner.truth, Y[0])


def test_estimators_without_a_posterior_are_refused():
    for kind in (CoverageDisplay, RankDisplay, CornerDisplay):
        with pytest.raises(TypeError, match="DummyRegressor has no posterior to draw from; FlowPosterior has"):
            kind.from_estimator(make_pipeline(DummyRegressor().fit(X, Y)), X[:1], Y[0])


# Coverage


def test_the_curve_is_the_test_and_the_band_is_binomial():
    test, display = tarp(Y, S), CoverageDisplay.from_predictions(Y, S)
    assert_array_equal(display.line_.get_xdata(), test.levels)
    assert_array_equal(display.line_.get_ydata(), test.coverage)
    assert display.ax_.texts[0].get_text() == f"200 objects\np = {test.p_value:.2f}"
    band = display.ax_.collections[0].get_paths()[0].vertices
    at_half = band[np.isclose(band[:, 0], 0.5), 1]
    assert_allclose([at_half.min(), at_half.max()], binom.ppf([0.005, 0.995], 200, 0.5) / 200)


def test_given_axes_are_used():
    figure, ax = plt.subplots()
    display = CoverageDisplay.from_predictions(Y, S, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    for kind, arguments in ((RankDisplay, (Y, S)), (CornerDisplay, (S[0],))):
        assert kind.from_predictions(*arguments, figure=figure).figure_ is figure


def test_tiny_p_values_keep_their_order_of_magnitude():
    text = CoverageDisplay.from_predictions(Y, 0.01 * S).ax_.texts[0].get_text()
    assert "p = " in text
    assert "e−" in text


def test_references_and_seed_reach_the_test():
    references = np.zeros_like(Y)
    display = CoverageDisplay.from_predictions(Y, S, references=references, random_state=3)
    assert_array_equal(display.coverage, tarp(Y, S, references=references, random_state=3).coverage)


# Ranks


@pytest.mark.parametrize(("n_samples", "bins"), [(99, 20), (99, 7), (4, 20), (20, 20), (1, 1)])
def test_bars_are_counts_over_those_expected(n_samples, bins):
    display = RankDisplay.from_predictions(Y, S[:, :n_samples], bins=bins)
    test = sbc_ranks(Y, S[:, :n_samples])
    for ax, ranks in zip(display.axes_, test.ranks.T, strict=True):
        values, edges, _ = ax.patches[-1].get_data()
        expected = [
            200 * sum(low <= r < high for r in range(n_samples + 1)) / (n_samples + 1) for low, high in pairwise(edges)
        ]
        assert len(values) == min(bins, n_samples + 1)
        assert_allclose(values * expected, np.histogram(ranks, edges)[0])
        assert_allclose(sum(values * expected), 200)


def test_panels_are_named():
    display = RankDisplay.from_predictions(Y, S, names=["mass", "age"])
    assert [ax.get_title().split(":")[0] for ax in display.axes_] == ["mass", "age"]
    assert RankDisplay.from_predictions(Y, S).axes_[1].get_title().startswith("value 1: p = ")


# Corners


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_corner_has_a_panel_per_value_and_pair(k):
    samples = np.random.default_rng(0).normal(size=(4000, k)) * 10.0 ** np.arange(k)
    display = CornerDisplay.from_predictions(samples, names=list("abc"[:k]))
    assert display.axes_.shape == (k, k)
    assert [[ax.get_visible() for ax in row] for row in display.axes_] == np.tri(k, dtype=bool).tolist()
    assert [ax.get_xlabel() for ax in display.axes_[-1]] == list("abc"[:k])
    assert [ax.get_ylabel() for ax in display.axes_[1:, 0]] == list("abc"[1:k])
    display.figure_.canvas.draw()


def test_contours_hold_their_probability():
    samples = np.random.default_rng(0).multivariate_normal([1, 2], [[1, 0.8], [0.8, 2]], size=50_000)
    display = CornerDisplay.from_predictions(samples, levels=(0.5, 0.9))
    contours = display.axes_[1, 0].collections[-1]
    for path, level in zip(contours.get_paths(), (0.9, 0.5), strict=True):
        assert path.contains_points(samples).mean() == pytest.approx(level, abs=0.04)


def test_lines_mark_the_truth_and_it_is_in_sight():
    samples = np.random.default_rng(0).normal(size=(1000, 2))
    display = CornerDisplay.from_predictions(samples, truth=[9.0, -9.0])
    (vertical, horizontal) = display.axes_[1, 0].lines
    assert vertical.get_xdata()[0] == 9
    assert horizontal.get_ydata()[0] == -9
    assert display.axes_[1, 0].get_xlim()[1] > 9
    assert display.axes_[1, 0].get_ylim()[0] < -9


def test_titles_are_median_and_percentiles():
    samples = np.random.default_rng(0).normal(100, 5, size=(1000, 1))
    low, median, high = np.percentile(samples, (16, 50, 84))
    title = CornerDisplay.from_predictions(samples).axes_[0, 0].get_title()
    assert title == f"{median:.2f} (−{median - low:.2f}, +{high - median:.2f})"


def test_a_value_that_never_varies_is_drawn():
    samples = np.column_stack([np.random.default_rng(0).normal(size=500), np.full(500, 3.0)])
    CornerDisplay.from_predictions(samples).figure_.canvas.draw()


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda: CornerDisplay.from_predictions(S), "samples must be at least two finite rows of values"),
        (lambda: CornerDisplay.from_predictions(S[0] * np.nan), "samples must be at least two finite rows"),
        (lambda: CornerDisplay.from_predictions(S[0], [1.0]), "truth must have one number for each of the 2 values"),
        (lambda: CornerDisplay.from_predictions(S[0], names=["a"]), "names must hold one name for each of the 2"),
        (lambda: CornerDisplay.from_predictions(S[0], levels=[68]), "levels must lie between 0 and 1"),
        (lambda: CornerDisplay.from_estimator(Normal(), X), "X must be one row, .*; it has 200"),
        (lambda: RankDisplay.from_predictions(Y, S, names=["a"]), "names must hold one name"),
        (lambda: RankDisplay.from_predictions(Y, S, bins=0), "bins must be at least 1; got 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, sentence):
    with pytest.raises(ValueError, match=sentence):
        draw()
