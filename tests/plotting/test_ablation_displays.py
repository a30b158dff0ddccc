"""What the displays of augmentation draw is what the table and the recipe say."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skastro.augment import Augment, ColorJitter, Crop, Flip, GaussianNoise, Rotate, Shift
from skastro.datasets import make_survey
from skastro.images import center_crop
from skastro.pixels import measure_bands
from skastro.plotting import AblationDisplay, AugmentationDisplay
from skastro.surveys import Survey

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


# The table of an ablation

STEPS = ["rotate", "flip"]
ON = {"only flip": [False, True], "all": [True, True], "none": [False, False]}


@pytest.fixture
def frame():
    keys = pd.MultiIndex.from_product([ON, range(2), range(3)], names=["setting", "repeat", "fold"])
    table = keys.to_frame(index=False)
    switches = pd.DataFrame([ON[setting] for setting in table["setting"]], columns=STEPS)
    score = np.random.default_rng(0).uniform(0.5, 1, len(table))
    return pd.concat([table[["setting"]], switches, table[["repeat", "fold"]]], axis=1).assign(score=score)


@pytest.mark.parametrize("error", [False, True])
def test_the_table_by_hand(frame, error):
    table = AblationDisplay.from_frame(frame, error=error).table_
    assert list(table.columns) == ["setting", *STEPS, "mean", "sem", "difference", "difference_sem"]
    assert list(table["setting"]) == list(ON)
    assert table[STEPS].to_numpy().tolist() == list(ON.values())
    scores = {setting: frame.loc[frame["setting"] == setting, "score"].to_numpy() for setting in ON}
    if error:
        scores = {setting: 100 * (1 - score) for setting, score in scores.items()}
    for row in table.itertuples():
        score, difference = scores[row.setting], scores[row.setting] - scores["all"]
        expected = [x for v in (score, difference) for x in (v.mean(), v.std(ddof=1) / np.sqrt(6))]
        assert_allclose([row.mean, row.sem, row.difference, row.difference_sem], expected)


def test_differences_are_paired_whatever_the_order_of_the_rows(frame):
    expected = AblationDisplay.from_frame(frame).table_.set_index("setting")
    shuffled = AblationDisplay.from_frame(frame.sample(frac=1, random_state=0)).table_.set_index("setting")
    pd.testing.assert_frame_equal(shuffled.loc[expected.index], expected)


def test_differences_spread_less_than_scores_that_rise_and_fall_together(frame):
    worth = frame["setting"].map({"all": 0.3, "only flip": 0.2, "none": 0.0})
    table = AblationDisplay.from_frame(frame.assign(score=worth + frame["fold"] / 10 + frame["repeat"])).table_
    assert_allclose(table["difference"], [-0.1, 0.0, -0.3])
    assert_allclose(table["difference_sem"], 0, atol=1e-12)
    assert (table["sem"] > 0.1).all()


def test_without_all_there_is_no_difference_and_no_line(frame):
    display = AblationDisplay.from_frame(frame[frame["setting"] != "all"])
    assert display.table_[["difference", "difference_sem"]].isna().all(axis=None)
    assert len(display.axes_[1].lines) == len(AblationDisplay.from_frame(frame).axes_[1].lines) - 1


@pytest.mark.parametrize("error", [False, True])
def test_a_row_for_each_setting_a_tick_or_cross_for_each_step_and_a_dot(frame, error):
    display = AblationDisplay.from_frame(frame, error=error)
    display.figure_.canvas.draw()
    left, right = display.axes_
    assert [text.get_text() for text in left.get_yticklabels()] == list(ON)
    assert [text.get_text() for text in left.get_xticklabels()] == STEPS
    on = np.array(list(ON.values()))
    for line, chosen in zip(left.lines, (on, ~on), strict=True):
        assert_array_equal(np.column_stack([line.get_ydata(), line.get_xdata()]), np.argwhere(chosen))
    dots, _, (bars,) = right.containers[0]
    assert_allclose(dots.get_xdata(), display.table_["mean"])
    assert_array_equal(dots.get_ydata(), range(3))
    assert_allclose([np.ptp(bar[:, 0]) / 2 for bar in bars.get_segments()], display.table_["sem"])
    assert right.get_ylim()[0] > right.get_ylim()[1]  # the first row is at the top
    assert_allclose(right.lines[-1].get_xdata(), display.table_["mean"][1])  # the line at "all"


def test_axis_names(frame):
    display = AblationDisplay(frame, metric_name="ROC AUC")
    names = [display.plot(error=error).axes_[1].get_xlabel() for error in (False, True)]
    assert names == ["ROC AUC", "1 − ROC AUC (%)"]
    assert display.plot(metric_name="purity").axes_[1].get_xlabel() == "Purity"
    assert AblationDisplay.from_frame(frame).axes_[1].get_xlabel() == "Score"


def test_one_score_per_setting_draws_no_bar(frame):
    display = AblationDisplay.from_frame(frame.query("fold == 0 and repeat == 0"))
    display.figure_.canvas.draw()
    assert display.table_["sem"].isna().all()
    assert np.isfinite(display.table_["mean"]).all()


def test_the_frame_is_kept_as_it_is(frame):
    before = frame.copy()
    assert AblationDisplay.from_frame(frame, error=True).frame is frame
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns=["score", "fold"]), "frame lacks fold, score: give the table"),
        (lambda frame: frame.drop(columns=STEPS), "no column of booleans, one per step"),
        (lambda frame: pd.concat([frame, frame[3:]]), "frame has 'only flip' twice in repeat 1 and fold 0"),
    ],
)
def test_a_table_of_something_else_is_refused(frame, change, message):
    with pytest.raises(ValueError, match=message):
        AblationDisplay.from_frame(change(frame))
    assert not plt.get_fignums()


# Views of images


@pytest.fixture(scope="module")
def images():
    return make_survey(3, size=32, random_state=0).images


def recipe():
    steps = [("noise", GaussianNoise()), ("flip", "passthrough"), ("shift", Shift(3)), ("rotate", Rotate())]
    return Augment(steps, edge="zeros", interpolation="nearest")


def views(images, augment=None, **kwargs):
    display = AugmentationDisplay.from_recipe(
        images, recipe() if augment is None else augment, **{"random_state": 0} | kwargs
    )
    return dict(display.views)


def drawn(display):
    return [[ax.images[0].get_array() for ax in row] for row in display.axes_]


@pytest.mark.parametrize("n_views", [1, 3])
def test_a_row_for_each_image_and_a_column_for_each_active_step(images, n_views):
    display = AugmentationDisplay.from_recipe(images, recipe(), n_views=n_views, random_state=0)
    display.figure_.canvas.draw()
    whole = ["recipe"] if n_views == 1 else ["recipe, view 1", "recipe, view 2", "recipe, view 3"]
    titles = ["original", "noise", "shift", "rotate", *whole]
    assert [ax.get_title() for ax in display.axes_[0]] == titles
    assert display.axes_.shape == (3, len(titles))
    assert not any(ax.get_title() for ax in display.axes_[1:].ravel())
    assert all(len(ax.images) == 1 for ax in display.axes_.ravel())
    assert len({view.tobytes() for _, view in display.views}) == len(titles) - 1


def test_each_step_acts_alone(images):
    found = views(
        images, Augment([("noise", GaussianNoise()), ("flip", Flip(p=0.0)), ("crop", Crop((1, 1), ratio=(1, 1)))])
    )
    assert_array_equal(found["flip"], images)
    assert_array_equal(found["crop"], images)
    ratio = (found["noise"] - images).std(axis=(0, 2, 3)) / measure_bands(images)["noise"]
    assert ((ratio > 0.5) & (ratio < 3.5)).all()  # noise of once to three times what was measured on the images
    assert_allclose(found["recipe"].std(axis=(0, 2, 3)), found["noise"].std(axis=(0, 2, 3)), rtol=0.2)


def test_views_are_drawn_as_the_recipe_draws_them(images):
    augment = Augment([("shift", Shift(4))], edge="zeros")
    found = views(images, augment, size=20, random_state=5, n_views=2)
    for view in found.values():
        padded = np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4)))
        windows = [center_crop(padded[..., y : y + 32, x : x + 32], (20, 20)) for y in range(9) for x in range(9)]
        for row in range(3):
            assert any(np.allclose(window[row], view[row], atol=1e-5) for window in windows)


@pytest.mark.parametrize("size", [None, 24])
def test_what_is_shown_is_the_window_that_the_encoder_sees(images, size):
    display = AugmentationDisplay.from_recipe(images, recipe(), size=size, random_state=0)
    assert_array_equal(display.images, center_crop(images, (size or 32,) * 2))
    assert all(picture.shape == (size or 32,) * 2 for row in drawn(display) for picture in row)


def test_same_seed_same_picture(images):
    first, again, other = (
        drawn(AugmentationDisplay.from_recipe(images, recipe(), random_state=seed)) for seed in (1, 1, 2)
    )
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("augment", ["galaxy", "radio", None])
def test_recipes_by_name(images, augment):
    display = AugmentationDisplay.from_recipe(images, augment, random_state=0)
    names = [ax.get_title() for ax in display.axes_[0]]
    assert (names[0], names[-1]) == ("original", "recipe")
    assert len(names) == {"galaxy": 12, "radio": 7, None: 2}[augment]
    if augment is None:
        assert_array_equal(display.views[0][1], images)


def test_nothing_given_is_changed(images):
    augment, given = recipe(), images.copy()
    before, state = repr(augment), torch.random.get_rng_state()
    AugmentationDisplay.from_recipe(given, augment, random_state=0)
    assert_array_equal(given, images)
    assert repr(augment) == before
    assert not hasattr(augment.steps[0][1], "sigma_")
    assert_array_equal(torch.random.get_rng_state(), state)


def test_all_of_a_row_share_the_stretch_so_brightness_shows(images):
    brighter = ColorJitter(brightness=0.9, contrast=0.0, saturation=0.0, p=1.0)
    display = AugmentationDisplay.from_recipe(images, Augment([("color", brighter)]), random_state=0)
    factors = [(view / image).mean() for view, image in zip(display.views[0][1], images, strict=True)]
    for row, factor in zip(drawn(display), factors, strict=True):
        assert (row[1].mean() > row[0].mean()) == (factor > 1)


def test_8_bit_images_and_their_views_are_shown_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    augment = Augment([("flip", Flip(p=1.0)), ("color", ColorJitter(brightness=0.9, p=1.0))])
    display = AugmentationDisplay.from_recipe(images, augment, random_state=0)
    pictures = drawn(display)
    assert {picture.dtype for row in pictures for picture in row} == {np.dtype(np.uint8)}
    assert_array_equal(pictures[0][0], np.moveaxis(images[0], 0, -1))
    assert_array_equal(pictures[0][1], np.moveaxis(images[0, :, ::-1, ::-1], 0, -1))


@pytest.mark.parametrize(
    ("shape", "bands", "picture"),
    [((2, 9, 8), None, (9, 8)), ((2, 5, 9, 8), None, (9, 8)), ((2, 5, 9, 8), [3, 2, 1], (9, 8, 3))],
)
@pytest.mark.parametrize("dtype", [np.float32, ">f4", np.int16])
def test_any_number_of_bands_and_any_type(shape, bands, picture, dtype):
    images = np.random.default_rng(0).normal(100, 20, shape).astype(dtype)
    display = AugmentationDisplay.from_recipe(images, "supervised", bands=bands, random_state=0)
    assert {shown.shape for row in drawn(display) for shown in row} == {picture}


class NeedsSurvey(GaussianNoise):
    def fit(self, images, survey=None, noise=None):
        assert survey.bands == tuple("ugriz")
        return super().fit(images, survey, noise)


def test_steps_learn_the_survey(images):
    AugmentationDisplay.from_recipe(images, Augment([("noise", NeedsSurvey())]), survey="sdss", random_state=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((3, 8))}, r"images must be .* their shape is \(3, 8\)"),
        ({"images": np.zeros((3, 8, 8, 3))}, r"channels-last: give np.moveaxis\(images, -1, 1\)"),
        ({"images": np.full((3, 8, 8), np.nan)}, "192 NaN or infinite pixels in images 0 to 2"),
        ({"size": 33}, "Images of 32 × 32 pixels are smaller than the window of 33 × 33"),
        ({"augment": "galaxies"}, "Unknown augmentation recipe 'galaxies'"),
        ({"survey": "sloan"}, "Unknown survey 'sloan'"),
        ({"survey": Survey(tuple("grz"))}, "The survey has 3 bands, the images have 5"),
        ({"n_views": 0}, "n_views must be at least 1; got 0"),
    ],
)
def test_refusals(images, changes, message):
    with pytest.raises(ValueError, match=message):
        AugmentationDisplay.from_recipe(**{"images": images} | changes)
    assert not plt.get_fignums()
