"""What the displays draw is what the table and the embedding say."""

import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from skastro.metrics import morphology_table, photoz_bias, photoz_outliers, sigma_mad
from skastro.plotting import (
    AblationDisplay,
    AugmentationDisplay,
    LabelSweepDisplay,
    LookAlikesDisplay,
    PhotoZDisplay,
    VoteScatterDisplay,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture
def frame():
    keys = pd.MultiIndex.from_product(
        [["zebra", "ant"], [583, 72, 145], range(4), range(2)],
        names=["method", "n_labels", "fold", "repeat"],
    )
    table = keys.to_frame(index=False)
    return table.assign(score=np.random.default_rng(0).uniform(0.5, 1, len(table)), seconds=1.0)


# Label sweeps


@pytest.mark.parametrize("error", [False, True])
def test_lines_are_the_means_over_folds_and_repeats(frame, error):
    display = LabelSweepDisplay.from_frame(frame, error=error)
    assert [line.get_label() for line in display.lines_] == ["zebra", "ant"]
    for line in display.lines_:
        scores = frame[frame["method"] == line.get_label()].groupby("n_labels")["score"]
        mean = scores.mean()
        assert_array_equal(line.get_xdata(), [72, 145, 583])
        assert_allclose(line.get_ydata(), 100 * (1 - mean) if error else mean)


def test_bars_are_standard_errors(frame):
    display = LabelSweepDisplay.from_frame(frame)
    sem = frame.groupby(["method", "n_labels"], sort=False)["score"].sem()
    for container, line in zip(display.ax_.containers, display.lines_, strict=True):
        (bars,) = container[2]
        heights = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
        assert_allclose(heights, sem[line.get_label()].sort_index())


def test_ticks_are_the_counts_on_a_logarithmic_axis(frame):
    ax = LabelSweepDisplay.from_frame(frame.assign(n_labels=frame["n_labels"] * 10)).ax_
    assert ax.get_xscale() == "log"
    assert_array_equal(ax.get_xticks(), [720, 1450, 5830])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["720", "1,450", "5,830"]
    assert not ax.get_xticks(minor=True).size


def test_axis_names(frame):
    display = LabelSweepDisplay(frame, metric_name="ROC AUC")
    assert display.plot().ax_.get_ylabel() == "ROC AUC"
    assert display.plot(error=True).ax_.get_ylabel() == "1 − ROC AUC (%)"
    assert display.plot(metric_name="purity").ax_.get_ylabel() == "Purity"
    assert LabelSweepDisplay.from_frame(frame).ax_.get_ylabel() == "Score"


def test_given_axes_are_used_and_the_table_is_kept(frame):
    _, ax = plt.subplots()
    before = frame.copy()
    display = LabelSweepDisplay.from_frame(frame, ax=ax, error=True)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    pd.testing.assert_frame_equal(frame, before)
    assert display.frame is frame


def test_one_score_per_count_draws_no_bar(frame):
    display = LabelSweepDisplay.from_frame(frame.query("fold == 0 and repeat == 0"))
    assert np.isfinite(display.lines_[0].get_ydata()).all()
    display.figure_.canvas.draw()


def test_from_estimators_runs_the_sweep():
    X, y = load_digits(return_X_y=True)
    display = LabelSweepDisplay.from_estimators(
        {"probe": make_pipeline(PCA(5), LogisticRegression(max_iter=1000))},
        X[:200] / 16,
        y[:200],
        label_counts=[20, 40],
        cv=2,
        scoring="balanced_accuracy",
        random_state=0,
    )
    assert len(display.frame) == 4
    assert display.ax_.get_ylabel() == "Balanced accuracy"
    assert_allclose(display.lines_[0].get_ydata(), display.frame.groupby("n_labels")["score"].mean())


def test_from_estimators_draws_a_panel_per_metric():
    X, y = load_digits(return_X_y=True)
    methods = {"probe": make_pipeline(PCA(5), LogisticRegression(max_iter=1000))}
    metrics = ["accuracy", "f1_macro"]
    display = LabelSweepDisplay.from_estimators(methods, X[:200], y[:200], label_counts=[40], cv=2, scoring=metrics)
    assert len(display.axes_) == 2
    assert {"accuracy", "f1_macro"} <= set(display.frame)


def test_a_table_of_something_else_is_refused(frame):
    with pytest.raises(ValueError, match="frame lacks n_labels, score"):
        LabelSweepDisplay.from_frame(frame[["method", "fold"]])


@pytest.fixture
def several(frame):
    return frame.assign(sigma_mad=frame["score"] ** 2, outliers=1 - frame["score"])


@pytest.mark.parametrize("error", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_one_panel_for_each_metric_and_one_legend_for_all(several, error, given):
    ax = plt.subplots(2)[1] if given else None
    metrics = {"sigma_mad": "σ", "outliers": "outliers"}
    display = LabelSweepDisplay.from_frame(several, metrics=metrics, error=error, ax=ax)
    lines = iter(display.lines_)
    for panel, metric in zip(display.axes_, metrics, strict=True):
        for method in ("zebra", "ant"):
            mean = several[several["method"] == method].groupby("n_labels")[metric].mean()
            line = next(lines)
            assert (line.axes, line.get_label()) == (panel, method)
            assert_allclose(line.get_ydata(), 100 * (1 - mean) if error else mean)
    names = ["1 − σ (%)", "1 − outliers (%)"] if error else ["σ", "Outliers"]
    assert [panel.get_ylabel() for panel in display.axes_] == names
    assert [panel.get_legend() is not None for panel in display.axes_] == [True, False]
    assert display.ax_ is display.axes_[0]
    assert [panel.get_xlabel() != "" for panel in display.axes_] == [given, True]


@pytest.mark.parametrize("metrics", ["sigma_mad", ["sigma_mad"], {"sigma_mad": "sigma mad"}])
def test_a_single_metric_is_drawn_as_the_score_would_be(several, metrics):
    display = LabelSweepDisplay.from_frame(several, metrics=metrics)
    score = LabelSweepDisplay.from_frame(several.assign(score=several["sigma_mad"]), metric_name="sigma mad")
    assert display.ax_.get_ylabel() == score.ax_.get_ylabel() == "Sigma mad"
    for line, other in zip(display.lines_, score.lines_, strict=True):
        assert_array_equal(line.get_xydata(), other.get_xydata())


def test_as_many_axes_as_metrics(several):
    with pytest.raises(ValueError, match="one Axes for each of the 2 metrics; got 3"):
        LabelSweepDisplay.from_frame(several, metrics=["sigma_mad", "outliers"], ax=plt.subplots(3)[1])
    with pytest.raises(ValueError, match="frame lacks bias"):
        LabelSweepDisplay.from_frame(several, metrics=["sigma_mad", "bias"])


@pytest.mark.parametrize("width", [3, 5, 12])
def test_tick_labels_do_not_touch(width):
    counts = [2_000, 4_000, 20_000, 30_000, 40_000, 80_000, 200_000, 390_000, 400_000]
    _, ax = plt.subplots(figsize=(width, 3), layout="constrained")
    LabelSweepDisplay.from_frame(pd.DataFrame({"method": "BYOL", "n_labels": counts, "score": 0.5}), ax=ax)
    ax.figure.canvas.draw()
    assert_array_equal(ax.get_xticks(), counts)
    labels = [label for label in ax.get_xticklabels() if label.get_text()]
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert len(labels) >= 2
    assert labels[-1].get_text() == "400,000"


# Redshifts


@pytest.fixture
def redshifts():
    rng = np.random.default_rng(0)
    z_true = rng.gamma(3, 0.04, size=800)
    return z_true, z_true + rng.normal(0.002, 0.03, size=800) * (1 + z_true)


def test_points_are_the_redshifts_and_their_residuals(redshifts):
    z_true, z_pred = redshifts
    display = PhotoZDisplay.from_predictions(z_true, z_pred)
    expected = [np.column_stack([z_true, z_pred]), np.column_stack([z_true, (z_pred - z_true) / (1 + z_true)])]
    for ax, points in zip(display.axes_, expected, strict=True):
        drawn = ax.collections[0].get_offsets()
        assert_allclose(drawn[np.lexsort(drawn.T)], points[np.lexsort(points.T)])
    (diagonal,) = display.axes_[0].lines
    assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert_array_equal(diagonal.get_xdata(), [z_true.min(), z_true.max()])


@pytest.mark.parametrize("threshold", [0.05, 0.02])
def test_the_text_and_the_dashes_are_those_of_the_metrics(redshifts, threshold):
    display = PhotoZDisplay.from_predictions(*redshifts, threshold=threshold)
    numbers = [line.split(" = ")[1].replace("−", "-") for line in display.axes_[0].texts[0].get_text().split("\n")]
    assert numbers == [
        f"{photoz_bias(*redshifts):.4f}",
        f"{sigma_mad(*redshifts):.4f}",
        f"{100 * photoz_outliers(*redshifts, threshold=threshold):.2f} %",
    ]
    levels = [line.get_ydata()[0] for line in display.axes_[1].lines[1:]]
    assert levels == [-threshold, threshold]


def test_the_trend_is_that_of_cells_with_enough_objects(redshifts):
    z_true, z_pred = redshifts
    residuals = (z_pred - z_true) / (1 + z_true)
    cells = pd.cut(z_true, np.linspace(z_true.min(), z_true.max(), 21), include_lowest=True, right=False)
    groups = pd.DataFrame({"z": z_true, "residual": residuals}).groupby(cells.codes)
    kept = groups.filter(lambda rows: len(rows) >= 20).groupby(cells.codes[groups.transform("size") >= 20])
    ax = PhotoZDisplay.from_predictions(z_true, z_pred).axes_[1]
    assert_allclose(ax.lines[0].get_xdata(), kept["z"].median())
    assert_allclose(ax.lines[0].get_ydata(), kept["residual"].median())
    band = ax.collections[1].get_paths()[0].vertices
    for level in (0.16, 0.84):
        corners = np.column_stack([kept["z"].median(), kept["residual"].quantile(level)])
        assert all(np.isclose(band, corner).all(axis=1).any() for corner in corners)


def test_colors_rise_with_density():
    rng = np.random.default_rng(0)
    crowd, few = rng.normal(0.1, 0.005, (900, 2)), rng.uniform(0, 1, (100, 2))
    points = PhotoZDisplay.from_predictions(*np.concatenate([crowd, few]).T).axes_[0].collections[0]
    density, place = points.get_array(), points.get_offsets()
    assert (np.diff(density) >= 0).all()
    lonely = (np.abs(place - 0.1) > 0.1).any(axis=1)
    assert density[lonely].max() < density[~lonely].mean()


def test_a_sample_thins_the_points_and_nothing_else(redshifts):
    full, thin = (PhotoZDisplay.from_predictions(*redshifts, sample=sample) for sample in (None, 100))
    for ax, other in zip(full.axes_, thin.axes_, strict=True):
        assert len(other.collections[0].get_offsets()) == 100
        everything = {tuple(point) for point in ax.collections[0].get_offsets()}
        assert {tuple(point) for point in other.collections[0].get_offsets()} < everything
        assert [text.get_text() for text in ax.texts] == [text.get_text() for text in other.texts]
        for line, same in zip(ax.lines, other.lines, strict=True):
            assert_array_equal(line.get_xydata(), same.get_xydata())


def test_from_estimator_predicts():
    z = np.linspace(0, 0.4, 50)
    noisy = np.random.default_rng(0).normal(z, 0.01)[:, np.newaxis]
    model = LinearRegression().fit(noisy, z)
    display = PhotoZDisplay.from_estimator(model, noisy, z, threshold=0.01)
    assert_array_equal(display.z_pred, model.predict(noisy))
    assert (display.z_true is z, display.threshold) == (True, 0.01)


@pytest.mark.parametrize("n", [1, 2, 19, 50])
def test_few_objects_are_drawn(n):
    display = PhotoZDisplay.from_predictions([0.1] * n, [0.1] * n)
    display.figure_.canvas.draw()
    assert len(display.axes_[0].collections[0].get_offsets()) == n


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_pred": [0.1, 0.2]}, "z_true and z_pred must have one length; got 3 and 2"),
        ({"z_pred": [0.1, np.nan, 0.2]}, "z_pred has 1 NaN or infinite values, the first in row 1"),
        ({"sample": 0}, "sample must be at least 1, or None for all; got 0"),
    ],
)
def test_redshifts_that_make_no_picture(changes, message):
    with pytest.raises(ValueError, match=message):
        PhotoZDisplay.from_predictions(**{"z_true": [0.1, 0.2, 0.3], "z_pred": [0.1, 0.2, 0.3]} | changes)
    assert not plt.get_fignums()


# Votes


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    truth, votes = rng.beta(0.5, 0.5, size=300), rng.integers(1, 40, size=300)
    return rng.binomial(votes, truth) / votes, np.clip(rng.normal(truth, 0.2), 0, 1), votes


def test_size_and_opacity_grow_with_votes(answers):
    fractions, predicted, votes = answers
    points = VoteScatterDisplay.from_predictions(fractions, predicted, votes).ax_.collections[0]
    assert_allclose(points.get_offsets(), np.column_stack([fractions, predicted]))
    for drawn in (points.get_sizes(), points.get_alpha()):
        assert_allclose(drawn / drawn.max(), votes / votes.max())
    assert 0 < points.get_alpha().max() <= 1


def test_without_votes_all_are_alike(answers):
    points = VoteScatterDisplay.from_predictions(*answers[:2]).ax_.collections[0]
    assert len(np.unique(points.get_sizes())) == len(np.unique(points.get_alpha())) == 1


@pytest.mark.parametrize("high_quality", [(0.2, 0.8), (0.1, 0.6)])
def test_the_bands_and_the_scores_are_those_of_high_quality(answers, high_quality):
    fractions, predicted, votes = answers
    display = VoteScatterDisplay.from_predictions(fractions, predicted, votes, high_quality=high_quality)
    low, high = (band.get_window_extent().transformed(display.ax_.transData.inverted()) for band in display.ax_.patches)
    assert_allclose((low.x1, high.x0), high_quality)
    (scores,) = morphology_table(fractions, predicted, high_quality=high_quality).to_dict("records")
    assert display.ax_.texts[0].get_text().split("\n") == [
        f"accuracy {scores['accuracy']:.2f}",
        f"precision {scores['precision']:.2f}",
        f"recall {scores['recall']:.2f}",
        f"AUC {scores['auc']:.2f}",
        f"η {100 * scores['outliers']:.2f} %",
    ]


def test_scores_that_are_not_defined_are_left_out():
    display = VoteScatterDisplay.from_predictions([0.9, 1.0, 0.5], [0.8, 0.9, 0.1])
    defined = [line.split()[0] for line in display.ax_.texts[0].get_text().split("\n")]
    assert defined == ["accuracy", "precision", "recall", "η"]
    assert VoteScatterDisplay.from_predictions([0.5, 0.4], [0.8, 0.9]).ax_.texts[0].get_text() == ""


def test_questions_that_were_not_asked_are_not_drawn(answers):
    fractions, predicted, votes = answers
    asked = np.arange(300) % 3 > 0
    frame = pd.DataFrame({"fractions": np.where(asked, fractions, np.nan), "votes": np.where(asked, votes, 0)})
    display = VoteScatterDisplay.from_predictions(frame["fractions"], predicted, frame["votes"], answer="smooth")
    display.figure_.canvas.draw()
    some = VoteScatterDisplay.from_predictions(fractions[asked], predicted[asked], votes[asked])
    assert display.ax_.texts[0].get_text() == some.ax_.texts[0].get_text()
    assert display.ax_.get_xlabel() == "Fraction of votes, smooth"
    offsets = display.ax_.collections[0].get_offsets()
    assert_allclose(offsets[~np.ma.getmaskarray(offsets).any(axis=1)], some.ax_.collections[0].get_offsets())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fractions": np.ones((3, 2)), "predicted": np.ones((3, 2))}, "must be one-dimensional"),
        ({"fractions": [0.1, 0.2]}, "must have one length; got 2 and 3"),
        ({"fractions": [0.1, 12, 0.2]}, "between 0 and 1; row 1 has 12"),
        ({"votes": [5, 5]}, "votes must be a number, at least 0, for each of the 3 fractions"),
        ({"votes": [5, 5, -1]}, "at least 0"),
        ({"votes": [5, 5, np.nan]}, "at least 0"),
    ],
)
def test_votes_that_make_no_picture(changes, message):
    arguments = {"fractions": [0.1, 0.5, 0.9], "predicted": [0.1, 0.5, 0.9], "votes": [5, 6, 7]} | changes
    with pytest.raises(ValueError, match=message):
        VoteScatterDisplay.from_predictions(**arguments)
    assert not plt.get_fignums()


# Look-alikes


@pytest.fixture
def embedding():
    return np.random.default_rng(0).normal(size=(30, 4))


def pictures(display):
    return np.vectorize(lambda ax: ax.images[0], otypes=[object])(display.axes_)


def test_neighbors_are_the_nearest_by_cosine_about_the_mean_without_the_query(embedding):
    images = np.arange(30, dtype=np.uint8)[:, np.newaxis, np.newaxis] * np.ones((6, 5), np.uint8)
    display = LookAlikesDisplay.from_embedding(images, embedding, [3, 17], n_neighbors=4)
    centerd = embedding - embedding.mean(axis=0)
    unit = centerd / np.linalg.norm(centerd, axis=1, keepdims=True)
    for row, query in enumerate([3, 17]):
        cosine = unit @ unit[query]
        expected = [i for i in np.argsort(-cosine) if i != query][:4]
        assert_array_equal(display.neighbors[row], expected)
        assert_allclose(display.similarities[row], cosine[expected])
        drawn = [picture.get_array()[0, 0] for picture in pictures(display)[row]]
        assert drawn == [query, *expected]
        titles = [ax.get_title() for ax in display.axes_[row]]
        assert titles == [f"image {query}", *(f"cos {cosine[i]:.3f}" for i in expected)]


def test_the_query_is_left_out_even_among_its_copies():
    embedding = np.repeat([[1.0, 0.0], [0.0, 1.0]], 5, axis=0)
    display = LookAlikesDisplay.from_embedding(np.zeros((10, 4, 4)), embedding, [4, 9], n_neighbors=3)
    for query, neighbors in zip([4, 9], display.neighbors, strict=True):
        assert query not in neighbors
        assert_array_equal(neighbors // 5, query // 5)


@pytest.mark.parametrize(
    ("shape", "bands", "drawn"),
    [
        ((30, 6, 5), None, (6, 5)),
        ((30, 1, 6, 5), None, (6, 5)),
        ((30, 3, 6, 5), None, (6, 5, 3)),
        ((30, 2, 6, 5), None, (6, 5)),
        ((30, 5, 6, 5), None, (6, 5)),
        ((30, 5, 6, 5), [3, 2, 1], (6, 5, 3)),
        ((30, 5, 6, 5), [4], (6, 5)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">f4", np.int16])
def test_any_number_of_bands(shape, bands, drawn, dtype, embedding):
    images = np.random.default_rng(1).uniform(0, 255, shape).astype(dtype)
    display = LookAlikesDisplay.from_embedding(images, embedding, 3, n_neighbors=2, bands=bands)
    for picture in pictures(display).ravel():
        assert picture.get_array().shape == drawn
        assert picture.get_array().min() >= 0
        assert picture.get_array().max() <= (255 if dtype == np.uint8 else 1)
        assert picture.get_clim() == (0, 255 if dtype == np.uint8 else 1)


def test_8_bit_images_are_shown_as_they_are(embedding):
    images = np.random.default_rng(1).integers(0, 99, (30, 3, 6, 5), dtype=np.uint8)
    display = LookAlikesDisplay.from_embedding(images, embedding, 3, n_neighbors=1)
    assert_array_equal(pictures(display)[0, 0].get_array(), np.moveaxis(images[3], 0, -1))


def test_the_stretch_rises_with_flux_whatever_its_unit(embedding):
    images = np.tile(np.linspace(0, 1, 36).reshape(6, 6), (30, 1, 1))
    drawn = [
        pictures(LookAlikesDisplay.from_embedding(flux, embedding, 3, n_neighbors=1))[0, 0].get_array()
        for flux in (images, images * 1e-6 + 40)
    ]
    assert (np.diff(drawn[0].ravel()[1:-1]) > 0).all()
    assert (drawn[0].min(), drawn[0].max()) == (0, 1)
    assert_allclose(drawn[0], drawn[1], atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_empty_and_missing_pixels_are_drawn(value, embedding):
    images = np.ones((30, 3, 6, 5)) * np.arange(5)
    images[:, :, :3] = value
    images[3] = 0
    display = LookAlikesDisplay.from_embedding(images, embedding, [3, 4], n_neighbors=2)
    display.figure_.canvas.draw()
    assert all(np.isfinite(picture.get_array()).all() for picture in pictures(display).ravel())


def test_a_given_figure_is_used(embedding):
    left, right = plt.figure(layout="constrained").subfigures(1, 2)
    display = LookAlikesDisplay.from_embedding(np.zeros((30, 4, 4)), embedding, [0, 1], n_neighbors=2, figure=left)
    assert display.figure_ is left
    assert display.axes_.shape == (2, 3)
    assert not right.axes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((30, 8))}, r"images must be .* their shape is \(30, 8\)"),
        ({"images": np.zeros((30, 8, 8, 3))}, r"channels-last: give np.moveaxis\(images, -1, 1\)"),
        ({"images": np.zeros((29, 8, 8))}, r"29 images, but the shape of embedding is \(30, 4\)"),
        ({"queries": [3, 30]}, r"from 0 to 29; got \[ 3 30\]"),
        ({"queries": [-1]}, "from 0 to 29"),
        ({"queries": [0.5]}, "rows of the images"),
        ({"queries": []}, "rows of the images"),
        ({"n_neighbors": 30}, "from 1 to 29, the number of other images; got 30"),
        ({"n_neighbors": 0}, "from 1 to 29"),
    ],
)
def test_refusals(changes, message, embedding):
    arguments = {"images": np.zeros((30, 8, 8)), "queries": [3], "n_neighbors": 2} | changes
    with pytest.raises(ValueError, match=message):
        LookAlikesDisplay.from_embedding(embedding=embedding, **arguments)


DRAW = {
    "sweep": lambda figure: LabelSweepDisplay.from_frame(
        pd.DataFrame({"method": "BYOL", "n_labels": [10, 20], "score": [0.5, 0.6]}), ax=figure.subplots()
    ),
    "redshifts": lambda figure: PhotoZDisplay.from_predictions([0.1, 0.2], [0.1, 0.2], figure=figure),
    "votes": lambda figure: VoteScatterDisplay.from_predictions([0.1, 0.9], [0.2, 0.8], ax=figure.subplots()),
    "look-alikes": lambda figure: LookAlikesDisplay.from_embedding(
        np.zeros((4, 5, 5)), np.eye(4), 0, n_neighbors=2, figure=figure
    ),
    "ablation": lambda figure: AblationDisplay.from_frame(
        pd.DataFrame({"setting": ["all", "none"], "flip": [True, False], "repeat": 0, "fold": 0, "score": [0.9, 0.8]}),
        figure=figure,
    ),
    "augmentation": lambda figure: AugmentationDisplay.from_recipe(
        np.eye(5)[np.newaxis], "radio", random_state=0, figure=figure
    ),
}


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
@pytest.mark.parametrize("part", [False, True])
def test_drawing_leaves_pyplot_and_the_settings_as_they_were(draw, part):
    figure, other = matplotlib.figure.Figure(), plt.figure()
    settings, state = dict(matplotlib.rcParams), np.random.get_state()[1].copy()  # noqa: NPY002
    given = figure.subfigures(1, 2)[1] if part else figure
    display = draw(given)
    assert display.figure_ is given
    assert plt.get_fignums() == [other.number]
    assert plt.gcf() is other
    assert not other.axes
    assert dict(matplotlib.rcParams) == settings
    assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_without_matplotlib_the_extra_is_named(frame, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install skastro\[plot\]"):
        LabelSweepDisplay.from_frame(frame)
