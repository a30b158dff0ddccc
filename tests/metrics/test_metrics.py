"""Each metric against its formula written slowly, what its value must not depend on, and what is refused."""

import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import get_scorer_names as sklearn_names
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.metadata_routing import get_routing_for_object

from skastro.metrics import (
    crps,
    delta_z,
    get_scorer,
    get_scorer_names,
    morphology_scores,
    morphology_table,
    photoz_bias,
    photoz_outliers,
    photoz_table,
    pit,
    sigma_mad,
)

OURS = ["neg_crps", "neg_photoz_bias", "neg_photoz_outliers", "neg_sigma_mad"]
POINT = [delta_z, photoz_bias, sigma_mad, photoz_outliers]
DENSITY = [crps, pit]
EDGES = np.array([0.0, 0.03, 0.1, 0.15, 0.3, 0.4])  # bins of unlike width


@pytest.fixture
def redshifts():
    rng = np.random.default_rng(0)
    z_true = rng.uniform(0, 0.4, 300)
    return z_true, z_true + (1 + z_true) * rng.normal(0.01, 0.03, 300)


@pytest.fixture
def densities():
    rng = np.random.default_rng(1)
    z_true = np.r_[rng.uniform(0, 0.4, 20), EDGES, -0.2, 0.7]  # within bins, on each edge, outside the grid
    return z_true, rng.dirichlet(np.full(5, 0.5), len(z_true))


# --- points ---------------------------------------------------------------------------------------------------------


def slow_errors(z_true, z_pred):
    return [(p - s) / (1 + s) for s, p in zip(z_true, z_pred, strict=True)]


def middle(values):
    values, half = sorted(values), len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


@pytest.mark.parametrize("n", [1, 2, 299, 300])
def test_points_equal_the_formulas(redshifts, n):
    z_true, z_pred = (z[:n] for z in redshifts)
    errors = slow_errors(z_true, z_pred)
    assert_allclose(delta_z(z_true, z_pred), errors)
    assert photoz_bias(z_true, z_pred) == pytest.approx(sum(errors) / n)
    assert sigma_mad(z_true, z_pred) == pytest.approx(1.4826 * middle([abs(e - middle(errors)) for e in errors]))
    for threshold in (0.05, 0.15):
        expected = sum(abs(e) > threshold for e in errors) / n
        assert photoz_outliers(z_true, z_pred, threshold=threshold) == pytest.approx(expected)


def test_sigma_mad_of_gaussian_errors_is_their_sigma_and_blind_to_outliers():
    errors = np.random.default_rng(0).normal(0.1, 0.02, 40_000)
    assert sigma_mad(np.zeros(40_000), errors) == pytest.approx(0.02, rel=0.02)
    errors[:400] = 3
    assert sigma_mad(np.zeros(40_000), errors) == pytest.approx(0.02, rel=0.03)


def test_a_shift_of_all_errors_moves_the_bias_alone(redshifts):
    z_true, z_pred = redshifts
    shifted = z_pred + 0.1 * (1 + z_true)
    assert photoz_bias(z_true, shifted) == pytest.approx(photoz_bias(z_true, z_pred) + 0.1)
    assert sigma_mad(z_true, shifted) == pytest.approx(sigma_mad(z_true, z_pred))


@pytest.mark.parametrize("metric", [photoz_bias, sigma_mad, photoz_outliers])
def test_points_do_not_depend_on_order_or_container(redshifts, metric):
    z_true, z_pred = redshifts
    assert isinstance(metric(z_true, z_pred), float)
    assert metric(z_true[::-1], z_pred[::-1]) == pytest.approx(metric(z_true, z_pred))
    assert metric(pd.Series(z_true), z_pred.tolist()) == metric(z_true, z_pred)
    assert metric(z_true, z_true) == 0


def test_an_error_equal_to_the_threshold_is_no_outlier():
    assert photoz_outliers([0.0, 0.0], [0.5, -0.5], threshold=0.5) == 0


@pytest.mark.parametrize("metric", POINT)
@pytest.mark.parametrize(
    ("z_true", "z_pred", "sentence"),
    [
        ([0.1, 0.2], [0.1], "z_true and z_pred must have one length; got 2 and 1"),
        ([0.1, 0.2], [0.1, np.nan], "z_pred has 1 NaN or infinite values, the first in row 1"),
        ([np.inf, np.nan], [0.1, 0.2], "z_true has 2 NaN or infinite values, the first in row 0"),
        ([[0.1], [0.2]], [0.1, 0.2], r"z_true must be one-dimensional and not empty; its shape is \(2, 1\)"),
        ([], [], "z_true must be one-dimensional and not empty"),
        ([0.1, -1.0], [0.1, 0.2], "z_true must be greater than -1; row 1 has -1"),
    ],
)
def test_points_refuse(metric, z_true, z_pred, sentence):
    with pytest.raises(ValueError, match=sentence):
        metric(z_true, z_pred)


# --- densities ------------------------------------------------------------------------------------------------------


def slow_cdf(z, row, edges):
    below = 0.0
    for p, (start, end) in zip(row, pairwise(edges), strict=True):
        below += p * min(max((z - start) / (end - start), 0), 1)
    return below


def slow_crps(truth, row, edges):
    """Gauss-Legendre over each piece: exact for the squares of lines, and unlike the closed form."""
    nodes, weights = np.polynomial.legendre.leggauss(3)
    breaks, total = np.unique([*edges, truth]), 0.0
    for start, end in pairwise(breaks):
        for node, weight in zip(nodes, weights, strict=True):
            z = start + (end - start) * (node + 1) / 2
            total += (end - start) / 2 * weight * (slow_cdf(z, row, edges) - (z >= truth)) ** 2
    return total


def test_crps_is_the_integral(densities):
    z_true, pdf = densities
    expected = [slow_crps(truth, row, EDGES) for truth, row in zip(z_true, pdf, strict=True)]
    assert_allclose(crps(z_true, pdf, EDGES), expected, atol=1e-12)


def test_crps_is_the_integral_on_a_fine_grid(densities):
    z_true, pdf = densities
    z = np.linspace(-0.3, 0.8, 200_001)
    z = (z[1:] + z[:-1]) / 2
    for truth, row, score in zip(z_true, pdf, crps(z_true, pdf, EDGES), strict=True):
        cdf = np.interp(z, EDGES, np.r_[0, np.cumsum(row)])
        # The step of the truth falls inside one cell of the grid: an error of up to half a cell.
        assert np.sum((cdf - (z >= truth)) ** 2) * 1.1 / 200_000 == pytest.approx(score, abs=3e-6)


def test_crps_is_the_distance_to_the_truth_less_half_the_spread(densities):
    z_true, pdf = (values[:3] for values in densities)
    rng = np.random.default_rng(2)
    for truth, row, score in zip(z_true, pdf, crps(z_true, pdf, EDGES), strict=True):
        first, second = (draws(row, EDGES, 100_000, rng) for _ in range(2))
        expected = np.mean(np.abs(first - truth)) - np.mean(np.abs(first - second)) / 2
        assert score == pytest.approx(expected, abs=1e-3)


def draws(row, edges, n, rng):
    chosen = rng.choice(len(row), n, p=row)
    return rng.uniform(edges[chosen], edges[chosen + 1])


@pytest.mark.parametrize("truth", [-0.3, 0.05, 0.2, 0.9])
def test_crps_of_a_narrow_bin_is_the_absolute_error(truth):
    edges = [0.0, 0.2 - 1e-9, 0.2 + 1e-9, 0.4]
    assert_allclose(crps([truth], [[0.0, 1.0, 0.0]], edges), abs(truth - 0.2), atol=2e-9)


def test_crps_prefers_the_density_that_the_truth_was_drawn_from(densities):
    pdf = densities[1][0]
    z_true = draws(pdf, EDGES, 20_000, np.random.default_rng(3))
    for other in (np.full(5, 0.2), np.eye(5)[pdf.argmax()], densities[1][1]):
        ours, theirs = (crps(z_true, np.tile(row, (len(z_true), 1)), EDGES).mean() for row in (pdf, other))
        assert ours < theirs


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (1.0, -0.7), (10.0, 5.0)])
def test_densities_follow_the_units_of_redshift(densities, scale, shift):
    z_true, pdf = densities
    assert_allclose(crps(scale * z_true + shift, pdf, scale * EDGES + shift), scale * crps(z_true, pdf, EDGES))
    inner = slice(20)  # a rounded truth may leave its edge
    moved = pit(scale * z_true + shift, pdf, scale * EDGES + shift)
    assert_allclose(moved[inner], pit(z_true, pdf, EDGES)[inner])


@pytest.mark.parametrize("metric", DENSITY)
def test_splitting_a_bin_evenly_changes_nothing(densities, metric):
    z_true, pdf = densities
    finer = np.sort(np.r_[EDGES, (EDGES[1:] + EDGES[:-1]) / 2])
    assert_allclose(metric(z_true, np.repeat(pdf / 2, 2, axis=1), finer), metric(z_true, pdf, EDGES), atol=1e-12)


def test_the_mirror_image_scores_the_same_and_has_the_complementary_pit(densities):
    z_true, pdf = densities
    mirrored = -z_true, pdf[:, ::-1], -EDGES[::-1]
    assert_allclose(crps(*mirrored), crps(z_true, pdf, EDGES), atol=1e-12)
    assert_allclose(pit(*mirrored), 1 - pit(z_true, pdf, EDGES), atol=1e-12)


@pytest.mark.parametrize("metric", DENSITY)
def test_a_row_is_scored_alone_and_float32_rows_are_rounded_only(densities, metric):
    z_true, pdf = densities
    whole = metric(z_true, pdf, EDGES)
    assert_allclose([metric([z], [row], EDGES)[0] for z, row in zip(z_true, pdf, strict=True)], whole, rtol=1e-14)
    assert_allclose(metric(z_true, pdf.astype(np.float32), EDGES), whole, atol=1e-6)


def test_pit_is_the_cumulative_probability_at_the_truth(densities):
    z_true, pdf = densities
    expected = [slow_cdf(truth, row, EDGES) for truth, row in zip(z_true, pdf, strict=True)]
    assert_allclose(pit(z_true, pdf, EDGES), expected, atol=1e-14)
    assert_allclose(pit([-1.0, 0.0, 0.4, 9.0], pdf[:4], EDGES), [0, 0, 1, 1], atol=1e-14)
    assert pit(np.full(len(pdf), 9.0), pdf, EDGES).max() == 1


def test_pit_of_truths_drawn_from_their_densities_is_uniform():
    rng = np.random.default_rng(4)
    pdf = rng.dirichlet(np.ones(5), 20_000)
    z_true = np.array([draws(row, EDGES, 1, rng)[0] for row in pdf])
    values = np.sort(pit(z_true, pdf, EDGES))
    # Kolmogorov's distance, at a level of one in ten thousand.
    assert np.abs(values - (np.arange(20_000) + 0.5) / 20_000).max() < 2.2 / np.sqrt(20_000)
    table = photoz_table(z_true, z_true, pdf=pdf, edges=EDGES)
    assert_allclose(
        table.loc["all", ["coverage_50", "coverage_68", "coverage_90"]].tolist(), [0.5, 0.68, 0.9], atol=0.02
    )


@pytest.mark.parametrize("metric", DENSITY)
@pytest.mark.parametrize(
    ("z_true", "pdf", "edges", "sentence"),
    [
        ([0.1, np.nan], [[0.5, 0.5]] * 2, [0, 1, 2], "z_true has 1 NaN or infinite values, the first in row 1"),
        ([0.1], [[0.5, 0.5]] * 2, [0, 1, 2], r"pdf must have .* \(1, 2\); its shape is \(2, 2\)"),
        ([0.1], [[0.5, 0.5]], [0, 1], r"pdf must have .* \(1, 1\); its shape is \(1, 2\)"),
        ([0.1], [1.0], [0, 1], r"pdf must have .* \(1, 1\); its shape is \(1,\)"),
        ([0.1] * 2, [[0.5, 0.5], [0.5, 0.4]], [0, 1, 2], "pdf must be positive and sum to 1 in each row; row 1"),
        ([0.1] * 2, [[1.5, -0.5], [0.5, 0.5]], [0, 1, 2], "pdf must be positive and sum to 1 in each row; row 0"),
        ([0.1] * 2, [[0.5, 0.5], [0.5, np.nan]], [0, 1, 2], "pdf must be positive and sum to 1 in each row; row 1"),
        ([0.1], [[0.5, 0.5]], [0, 1, 1], "edges must be at least two finite, ascending"),
        ([0.1], [[0.5, 0.5]], [0, 1, np.inf], "edges must be at least two finite, ascending"),
        ([0.1], [[0.5, 0.5]], [0], "edges must be at least two finite, ascending"),
    ],
)
def test_densities_refuse(metric, z_true, pdf, edges, sentence):
    with pytest.raises(ValueError, match=sentence):
        metric(z_true, pdf, edges)


# --- the table of redshifts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("by", "n_bins"), [(None, 0), (1, 1), (4, 4), (np.int64(3), 3), ([0, 0.1, 0.2, 0.4], 3)])
def test_rows_of_the_table_are_the_metrics_of_their_objects(redshifts, by, n_bins):
    z_true, z_pred = redshifts
    pdf = np.random.default_rng(5).dirichlet(np.ones(5), len(z_true))
    table = photoz_table(z_true, z_pred, pdf=pdf, edges=EDGES, by=by, threshold=0.02, levels=(0.5, 0.955))
    assert list(table) == ["n", "bias", "sigma_mad", "outliers", "crps", "coverage_50", "coverage_95.5"]
    assert len(table) == n_bins + 1
    assert table.index[-1] == "all"
    assert table["n"].iloc[:-1].sum() == (len(z_true) if n_bins else 0)
    for label, row in table.iterrows():
        chosen = [label == "all" or z in label for z in z_true]
        objects = z_true[chosen], z_pred[chosen]
        transform = pit(objects[0], pdf[chosen], EDGES)
        expected = [
            len(objects[0]),
            photoz_bias(*objects),
            sigma_mad(*objects),
            photoz_outliers(*objects, threshold=0.02),
            crps(objects[0], pdf[chosen], EDGES).mean(),
            np.mean((transform > 0.25) & (transform < 0.75)),
            np.mean((transform > 0.0225) & (transform < 0.9775)),
        ]
        assert_allclose(row.to_numpy(float), expected)


def test_equally_filled_bins_are_equally_filled(redshifts):
    assert photoz_table(*redshifts, by=6)["n"].tolist() == [50] * 6 + [300]


def test_bins_hold_their_lower_edge_and_the_last_both():
    table = photoz_table([0.0, 0.1, 0.2, 0.3, 0.31], [0.0] * 5, by=[0, 0.1, 0.2, 0.3])
    assert table["n"].tolist() == [1, 1, 2, 5]
    assert [str(label) for label in table.index] == ["[0.0, 0.1)", "[0.1, 0.2)", "[0.2, 0.3]", "all"]


def test_a_bin_without_objects_has_nothing_but_its_zero():
    table = photoz_table([0.1, 0.3], [0.1, 0.3], pdf=[[1.0], [1.0]], edges=[0, 1], by=[-0.5, 0, 0.2, 0.4])
    assert table["n"].tolist() == [0, 1, 1, 2]
    assert table["n"].dtype.kind == "i"
    assert table.iloc[0, 1:].isna().all()
    assert table.iloc[1:].notna().all(axis=None)


def test_the_table_has_no_density_columns_without_densities(redshifts):
    assert list(photoz_table(*redshifts)) == ["n", "bias", "sigma_mad", "outliers"]


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"pdf": [[1.0]] * 3}, "pdf and edges belong together"),
        ({"edges": [0, 1]}, "pdf and edges belong together"),
        ({"pdf": [[1.0]] * 2, "edges": [0, 1]}, "pdf must have a row per redshift"),
        ({"pdf": [[1.0]] * 3, "edges": [0, 1], "levels": (0.5, 68)}, "levels must lie between 0 and 1"),
        ({"by": [0.4, 0.2]}, "by must be at least two finite, ascending"),
        ({"by": 0}, "by=0 is not a number of bins"),
        ({"by": -2}, "by=-2 is not a number of bins"),
        ({"by": 3}, "by=3 is not a number of bins that 2 different z_true fill"),
    ],
)
def test_the_table_refuses(parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        photoz_table([0.1, 0.1, 0.2], [0.1, 0.2, 0.3], **parameters)


# --- morphologies ---------------------------------------------------------------------------------------------------

# Rows and their part: TP, TP, FN, FP, TN, TN, FP (0.5 is a yes), FN and opposite, FP and opposite, then three of low
# quality.
FRACTIONS = [0.9, 1.0, 0.85, 0.1, 0.0, 0.05, 0.19, 0.95, 0.15, 0.2, 0.5, 0.8]
PREDICTED = [0.7, 0.9, 0.40, 0.6, 0.1, 0.45, 0.5, 0.20, 0.80, 0.9, 0.5, 0.1]


def test_scores_are_those_counted_by_hand():
    scores = morphology_scores(FRACTIONS, PREDICTED)
    pairs = [(p, q) for p in (0.7, 0.9, 0.4, 0.2) for q in (0.6, 0.1, 0.45, 0.5, 0.8)]
    tp, fp, tn, fn = 2, 3, 2, 2
    expected = {
        "n": 12,
        "n_high_quality": 9,
        "accuracy": (tp + tn) / 9,
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "auc": sum(p > q for p, q in pairs) / len(pairs),
        "outliers": 2 / 9,
        "rmse": np.sqrt(np.mean((np.array(FRACTIONS) - PREDICTED) ** 2)),
    }
    assert list(scores) == list(expected)
    assert scores == pytest.approx(expected)


@pytest.mark.parametrize(("limits", "n"), [((0.2, 0.8), 9), ((0.5, 0.5), 11), ((0.1, 0.9), 4), ((0, 1), 0)])
def test_high_quality_rows_lie_outside_both_limits(limits, n):
    assert morphology_scores(FRACTIONS, PREDICTED, high_quality=limits)["n_high_quality"] == n


def test_a_perfect_prediction_and_its_opposite():
    perfect, opposite = morphology_scores(FRACTIONS, FRACTIONS), morphology_scores(FRACTIONS, 1 - np.array(FRACTIONS))
    for name in ("accuracy", "precision", "recall", "f1", "auc"):
        assert (perfect[name], opposite[name]) == (1, 0)
    assert (perfect["outliers"], opposite["outliers"], perfect["rmse"]) == (0, 1, 0)


def test_the_other_answer_of_two_has_the_same_accuracy_and_area():
    fractions, predicted = np.random.default_rng(9).random((2, 50))
    yes, no = morphology_scores(fractions, predicted), morphology_scores(1 - fractions, 1 - predicted)
    for name in ("accuracy", "auc", "outliers", "rmse"):
        assert yes[name] == pytest.approx(no[name])


def test_questions_not_asked_are_left_out():
    nothing = [np.nan] * 3
    assert morphology_scores([*nothing, *FRACTIONS], [0.9, np.nan, 0.1, *PREDICTED]) == pytest.approx(
        morphology_scores(FRACTIONS, PREDICTED)
    )


@pytest.mark.parametrize(
    ("fractions", "predicted", "undefined"),
    [
        ([0.9, 1.0], [0.8, 0.1], {"auc"}),
        ([0.1, 0.0], [0.8, 0.1], {"auc", "recall"}),
        ([0.1, 0.0], [0.2, 0.1], {"auc", "recall", "precision", "f1"}),
        ([0.1, 0.9], [0.2, 0.1], {"precision"}),
        ([0.4, 0.6], [0.2, 0.1], {"auc", "recall", "precision", "f1", "accuracy", "outliers"}),
        ([np.nan], [0.5], {"auc", "recall", "precision", "f1", "accuracy", "outliers", "rmse"}),
    ],
)
def test_what_is_undefined_is_nan_without_a_warning(fractions, predicted, undefined):
    scores = morphology_scores(fractions, predicted)
    assert {name for name, value in scores.items() if np.isnan(value)} == undefined


def test_rows_of_the_table_are_the_scores_of_their_answers():
    rng = np.random.default_rng(6)
    fractions, predicted, votes = rng.random((50, 3)), rng.random((50, 3)), rng.integers(0, 40, (50, 3))
    fractions[rng.random((50, 3)) < 0.2] = np.nan
    table = morphology_table(
        fractions, predicted, votes=votes, min_votes=10, high_quality=(0.3, 0.6), names=["a", "b", "c"]
    )
    for column, (_, row) in enumerate(table.iterrows()):
        kept = votes[:, column] >= 10
        expected = morphology_scores(fractions[kept, column], predicted[kept, column], high_quality=(0.3, 0.6))
        assert row.to_dict() == pytest.approx(expected)
    assert table["n"].dtype.kind == "i"


def test_votes_per_row_count_for_every_answer():
    fractions, votes = np.random.default_rng(7).random((20, 2)), np.arange(20)
    per_row = morphology_table(fractions, fractions, votes=votes, min_votes=5)
    assert per_row["n"].tolist() == [15, 15]
    pd.testing.assert_frame_equal(
        per_row, morphology_table(fractions, fractions, votes=np.c_[votes, votes], min_votes=5)
    )


def test_answers_are_named_by_their_columns():
    frame = pd.DataFrame({"smooth": FRACTIONS, "bar": FRACTIONS})
    assert list(morphology_table(frame, frame).index) == ["smooth", "bar"]
    assert list(morphology_table(frame, frame, names=["x", "y"]).index) == ["x", "y"]
    assert list(morphology_table(frame.to_numpy(), frame).index) == [0, 1]
    assert morphology_table(FRACTIONS, PREDICTED).loc[0].to_dict() == pytest.approx(
        morphology_scores(FRACTIONS, PREDICTED)
    )


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"predicted": [0.5]}, r"fractions and predicted must have one shape; got \(2, 1\) and \(1, 1\)"),
        ({"predicted": [0.5, np.nan]}, "predicted has 1 NaN or infinite values, the first in row 1"),
        ({"fractions": [0.5, 1.5]}, "fractions must lie between 0 and 1; row 1 has 1.5"),
        ({"min_votes": 5}, "min_votes needs votes"),
        ({"min_votes": 5, "votes": [1, 2, 3]}, r"votes must have .* \(2, 1\) of fractions; got \(3, 1\)"),
        ({"high_quality": (0.8, 0.2)}, "high_quality must be"),
        ({"high_quality": (0.2,)}, "high_quality must be"),
        ({"names": ["a", "b"]}, "names must hold one name for each of the 1 answers; got 2"),
    ],
)
def test_morphologies_refuse(parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        morphology_table(**{"fractions": [0.1, 0.9], "predicted": [0.2, 0.8]} | parameters)


@pytest.mark.parametrize(
    ("fractions", "predicted", "sentence"),
    [
        ([0.1, 0.9], [0.1], "fractions and predicted must have one length; got 2 and 1"),
        ([[0.1, 0.9]], [0.1], "fractions and predicted must be one-dimensional"),
    ],
)
def test_scores_refuse(fractions, predicted, sentence):
    with pytest.raises(ValueError, match=sentence):
        morphology_scores(fractions, predicted)


# --- scorers --------------------------------------------------------------------------------------------------------


class BinnedRegressor(RegressorMixin, BaseEstimator):
    """A line with a box of probability around it."""

    def __init__(self, halfwidth=2):
        self.halfwidth = halfwidth

    def fit(self, X, y):
        self.line_ = LinearRegression().fit(X, y)
        return self

    def predict(self, X):
        return self.line_.predict(X)

    def predict_pdf(self, X):
        edges = np.linspace(-0.2, 0.6, 81)
        center = np.searchsorted(edges, self.predict(X)) - 1
        box = np.abs(np.arange(80) - center[:, np.newaxis]) <= self.halfwidth
        return box / box.sum(axis=1, keepdims=True), edges


@pytest.fixture
def survey():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(90, 2))
    return X, 0.2 + 0.03 * X[:, 0] + rng.normal(0, 0.02, 90)


def test_scorers_are_the_metrics_with_their_sign(survey):
    X, z = survey
    reg = BinnedRegressor().fit(X[:50], z[:50])
    expected = {
        "neg_crps": -crps(
            z,
            *reg.predict_pdf(X),
        ).mean(),
        "neg_photoz_bias": -abs(photoz_bias(z, reg.predict(X))),
        "neg_photoz_outliers": -photoz_outliers(z, reg.predict(X)),
        "neg_sigma_mad": -sigma_mad(z, reg.predict(X)),
    }
    assert sorted(expected) == OURS
    assert {name: get_scorer(name)(reg, X, z) for name in OURS} == pytest.approx(expected)


REGRESSORS = {
    "alone": BinnedRegressor(),
    "one step": make_pipeline(BinnedRegressor()),
    "pipeline": make_pipeline(StandardScaler(), "passthrough", BinnedRegressor()),
    "pipeline in pipeline": make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), BinnedRegressor())),
    "search": GridSearchCV(make_pipeline(StandardScaler(), BinnedRegressor()), {"binnedregressor__halfwidth": [2]}),
}


@pytest.mark.parametrize("reg", REGRESSORS.values(), ids=list(REGRESSORS))
@pytest.mark.parametrize("name", OURS)
def test_scorers_see_through_pipelines_and_searches(survey, name, reg):
    # Scaling changes no line, so all of these are one regressor.
    X, z = survey
    expected = cross_val_score(BinnedRegressor(), X, z, scoring=get_scorer(name), cv=3)
    assert_allclose(cross_val_score(reg, X, z, scoring=get_scorer(name), cv=3, error_score="raise"), expected)
    frozen = FrozenEstimator(reg.fit(X, z))
    assert get_scorer(name)(frozen, X, z) == pytest.approx(get_scorer(name)(BinnedRegressor().fit(X, z), X, z))


@pytest.mark.parametrize("name", OURS)
def test_scorers_pickle_and_guide_a_search(survey, name):
    X, z = survey
    scorer = pickle.loads(pickle.dumps(get_scorer(name)))
    pipe = make_pipeline(StandardScaler(), BinnedRegressor())
    search = GridSearchCV(pipe, {"binnedregressor__halfwidth": [0, 3, 60]}, scoring=scorer, cv=3, error_score="raise")
    search.fit(X, z)
    assert np.all(search.cv_results_["mean_test_score"] <= 0)
    assert search.score(X, z) == pytest.approx(get_scorer(name)(search.best_estimator_, X, z))
    if name == "neg_crps":
        assert search.best_params_ == {"binnedregressor__halfwidth": 3}


def test_several_scorers_in_one_search(survey):
    scoring = {name: get_scorer(name) for name in [*OURS, "r2"]}
    search = GridSearchCV(BinnedRegressor(), {"halfwidth": [1, 2]}, scoring=scoring, refit="neg_crps", cv=2)
    search.fit(*survey)
    assert {f"mean_test_{name}" for name in scoring} <= set(search.cv_results_)


def test_crps_needs_densities(survey):
    with pytest.raises(TypeError, match="neg_crps needs a regressor with predict_pdf; Ridge has none"):
        get_scorer("neg_crps")(make_pipeline(StandardScaler(), Ridge()).fit(*survey), *survey)


def test_names_are_ours_and_those_of_scikit_learn():
    assert {*OURS, *sklearn_names()} < set(get_scorer_names())
    assert get_scorer_names() == sorted(get_scorer_names())
    assert all(callable(get_scorer(name)) for name in get_scorer_names())
    assert get_scorer(None) is None
    assert get_scorer(slow_cdf) is slow_cdf
    with pytest.raises(ValueError, match="There is no scorer 'crps'"):
        get_scorer("crps")


def test_what_is_requested_of_a_scorer_is_not_asked_of_the_next(survey):
    with config_context(enable_metadata_routing=True):
        get_scorer("neg_photoz_outliers").set_score_request(threshold=True)
        requests = get_routing_for_object(get_scorer("neg_photoz_outliers")).score.requests
        assert requests["threshold"] is None
        scores = cross_val_score(BinnedRegressor(), *survey, scoring=get_scorer("neg_crps"), error_score="raise")
    assert np.all(scores < 0)
