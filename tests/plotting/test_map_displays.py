"""What the display of a map draws is what it was given."""

import matplotlib as mpl
import numpy as np
import pytest
from kinds import COLUMNS, gap
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose, assert_array_equal

from skastro import EmbeddingMap
from skastro.plotting import EmbeddingMapDisplay
from skastro.plotting.pictures import small_line

mpl.use("Agg")
RNG = np.random.default_rng(0)
N = 60
PLACES = RNG.normal(size=(N, 2))
IMAGES = RNG.integers(0, 255, (N, 3, 8, 8), dtype=np.uint8)
Z = RNG.uniform(size=N)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(display):
    return [np.asarray(points.get_offsets()) for points in display.axes_[0].collections if len(points.get_offsets())]


def test_without_color_all_points_are_drawn_the_densest_last():
    (points,) = EmbeddingMapDisplay(PLACES).plot().axes_[0].collections
    places = np.asarray(points.get_offsets())
    assert_array_equal(places[np.lexsort(places.T)], PLACES[np.lexsort(PLACES.T)])
    assert (np.diff(points.get_array()) >= 0).all()


def test_classes_are_in_the_legend_and_the_missing_in_gray():
    kinds = np.array(["spiral", "ring", None], dtype=object)[np.arange(N) % 3]
    display = EmbeddingMapDisplay(PLACES, color=kinds).plot(color_name="kind")
    legend = display.axes_[0].get_legend()
    assert (legend.get_title().get_text(), [text.get_text() for text in legend.get_texts()]) == (
        "kind",
        ["ring", "spiral"],
    )
    for points, rows in zip(drawn(display), (2, 1, 0), strict=True):
        assert_array_equal(points, PLACES[np.arange(N) % 3 == rows])


def test_more_classes_than_colors_differ_by_marker():
    display = EmbeddingMapDisplay(PLACES, color=np.array([f"{k:02}" for k in np.arange(N) % 10])).plot()
    looks = {
        (*points.get_facecolor()[0], points.get_paths()[0].vertices.tobytes())
        for points in display.axes_[0].collections
        if len(points.get_offsets())
    }
    assert len(looks) == 10


@pytest.mark.parametrize("kind", COLUMNS)
def test_values_of_any_kind_and_gray_where_missing(kind):
    display = EmbeddingMapDisplay(PLACES, color=COLUMNS[kind](Z, gap(Z, 3))).plot()
    missing, known = drawn(display)
    assert_array_equal(missing, PLACES[[3]])
    assert_array_equal(known, np.delete(PLACES, 3, axis=0))
    assert_allclose(display.axes_[0].collections[-1].get_array(), np.delete(Z, 3))


def test_thumbnails_lie_in_the_cell_of_their_point():
    display = EmbeddingMapDisplay(PLACES, thumbnails=IMAGES).plot(n_cells=5)
    pictures = display.axes_[1].images
    assert 5 < len(pictures) == len(display.shown_) <= 25
    for row, shown in zip(display.shown_, pictures, strict=True):
        left, right, bottom, top = shown.get_extent()
        width = (right - left) / 0.92
        assert np.abs(PLACES[row] - [(left + right) / 2, (bottom + top) / 2]).max() <= width / 2 + 1e-6
        assert_array_equal(shown.get_array(), np.moveaxis(IMAGES[row], 0, -1))


def test_each_cell_with_a_point_has_one_thumbnail():
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0.01, 0.01]])
    display = EmbeddingMapDisplay(corners, thumbnails=IMAGES[:5]).plot(n_cells=4)
    assert sorted(display.shown_) in ([0, 1, 2, 3], [1, 2, 3, 4])


def test_each_cell_shows_the_point_nearest_to_its_middle():
    display = EmbeddingMapDisplay(PLACES, thumbnails=IMAGES).plot(n_cells=4)
    (left, right), (bottom, top) = display.axes_[0].get_xlim(), display.axes_[0].get_ylim()
    places = 4 * (PLACES - [left, bottom]) / [right - left, top - bottom]
    cells, middles = np.floor(places), np.linalg.norm(places - np.floor(places) - 0.5, axis=1)
    for row in display.shown_:
        assert middles[row] == middles[(cells == cells[row]).all(axis=1)].min()


def test_spectra_are_lines_with_gaps():
    spectra = RNG.normal(size=(N, 200))
    spectra[:, 80:120] = np.nan
    display = EmbeddingMapDisplay(PLACES, thumbnails=spectra).plot(n_cells=4)
    assert len(display.axes_[1].lines) == len(display.shown_)
    assert all(np.isnan(line.get_ydata()).sum() in (12, 13) for line in display.axes_[1].lines)
    assert all(line.get_markevery() == [] for line in display.axes_[1].lines)


def test_a_point_between_gaps_is_drawn_as_a_dot():
    curves = np.full((N, 64), np.nan)
    curves[:, [0, 10, 11, 30, 63]] = RNG.normal(size=(N, 5))
    display = EmbeddingMapDisplay(PLACES, thumbnails=curves).plot(n_cells=4)
    assert all(line.get_markevery() == [0, 30, 63] for line in display.axes_[1].lines)


def test_light_curves_are_at_their_times_in_any_order():
    times, order = np.sort(RNG.uniform(size=50)), RNG.permutation(50)
    line = small_line(np.sin(6 * times), times)
    assert_array_equal(small_line(np.sin(6 * times)[order], times[order]), line)
    assert np.isnan(small_line(np.full(9, np.nan))).all()
    known = ~np.isnan(line)
    assert_allclose(line[known], np.sin(6 * (np.linspace(*times[[0, -1]], 64)[known])) / 2 + 0.5, atol=0.1)
    EmbeddingMapDisplay(PLACES, thumbnails=RNG.normal(size=(N, 50)), times=times).plot(n_cells=3)


def test_from_embedding_and_from_estimator_draw_the_same_map():
    X = RNG.normal(size=(N, 6))
    fitted = EmbeddingMap("pca", random_state=0).fit(X)
    found = EmbeddingMapDisplay.from_estimator(fitted, X, color=Z)
    assert_allclose(found.positions, fitted.positions_)
    assert_allclose(EmbeddingMapDisplay.from_embedding(X, method="pca").positions, fitted.positions_)


def test_a_figure_is_used():
    figure = plt.figure()
    display = EmbeddingMapDisplay(PLACES, thumbnails=IMAGES[:, 0]).plot(figure=figure)
    assert display.figure_ is figure
    assert len(figure.axes) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"positions": PLACES[:, :1]}, r"positions must be finite and of shape \(n, 2\); their shape is \(60, 1\)"),
        ({"positions": np.full((N, 2), np.nan)}, "positions must be finite"),
        ({"color": Z[:5]}, r"color must have one value for each of the 60 positions; its shape is \(5,\)"),
        ({"thumbnails": IMAGES[:5]}, r"There are 60 positions, but the shape of thumbnails is \(5, 3, 8, 8\)"),
        ({"thumbnails": np.moveaxis(IMAGES, 1, -1)}, "look channels-last"),
        ({"thumbnails": np.ones((N, 9)), "times": np.ones(8)}, r"times of shape \(8,\) do not go with"),
    ],
)
def test_what_makes_no_picture(given, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingMapDisplay(**{"positions": PLACES} | given).plot()
    assert not plt.get_fignums()
