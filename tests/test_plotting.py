"""What the displays draw is what the table and the embedding say."""

import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skastro.plotting import LabelSweepDisplay, LookAlikesDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


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


def test_a_table_of_something_else_is_refused(frame):
    with pytest.raises(ValueError, match="frame lacks n_labels, score"):
        LabelSweepDisplay.from_frame(frame[["method", "fold"]])


# Look-alikes


@pytest.fixture
def embedding():
    return np.random.default_rng(0).normal(size=(30, 4))


def pictures(display):
    return np.vectorize(lambda ax: ax.images[0], otypes=[object])(display.axes_)


def test_neighbours_are_the_nearest_by_cosine_about_the_mean_without_the_query(embedding):
    images = np.arange(30, dtype=np.uint8)[:, np.newaxis, np.newaxis] * np.ones((6, 5), np.uint8)
    display = LookAlikesDisplay.from_embedding(images, embedding, [3, 17], n_neighbors=4)
    centred = embedding - embedding.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
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


def test_without_matplotlib_the_extra_is_named(frame, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install skastro\[plot\]"):
        LabelSweepDisplay.from_frame(frame)
