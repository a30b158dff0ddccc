"""Laws of the display of rankings."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skastro.plotting import RankingDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

IMAGES = np.arange(20, dtype=np.uint8)[:, np.newaxis, np.newaxis] * np.ones((6, 5), np.uint8)
SCORES = np.random.default_rng(0).permutation(20) / 10


@pytest.mark.parametrize("largest", [True, False])
def test_images_are_drawn_in_the_order_of_their_scores(largest):
    display = RankingDisplay.from_scores(IMAGES, SCORES, n_images=11, largest=largest)
    expected = np.argsort(-SCORES if largest else SCORES)[:11]
    assert_array_equal(display.rows, expected)
    assert_array_equal(display.scores, SCORES[expected])
    assert display.axes_.shape == (2, 8)
    drawn = [ax.images[0].get_array()[0, 0] for ax in display.axes_.flat if ax.images]
    assert drawn == expected.tolist()
    assert display.axes_[0, 0].get_title() == f"{expected[0]}: {SCORES[expected[0]]:.3g}"


def test_few_images_need_few_axes_and_ties_keep_their_order():
    display = RankingDisplay.from_scores(IMAGES, np.ones(20), n_images=3)
    assert display.axes_.shape == (1, 3)
    assert_array_equal(display.rows, [0, 1, 2])


@pytest.mark.parametrize("kind", ["u1", "u8", bool])
def test_unsigned_scores_rank_as_signed_ones(kind):
    scores = np.random.default_rng(1).permutation(20).astype(kind)
    display = RankingDisplay.from_scores(IMAGES, scores, n_images=5)
    assert_array_equal(display.rows, np.argsort(-scores.astype(int), kind="stable")[:5])


WRONG = {
    "shape of scores is \\(3,\\)": lambda: RankingDisplay.from_scores(IMAGES, [1.0, 2.0, 3.0]),
    "scores has 1 missing": lambda: RankingDisplay.from_scores(IMAGES, [np.nan, *SCORES[1:]], n_images=3),
    "n_images must be from 1 to 20": lambda: RankingDisplay.from_scores(IMAGES, SCORES),
    "images must be": lambda: RankingDisplay.from_scores(SCORES[:, np.newaxis], SCORES),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_refused_in_a_sentence(sentence):
    with pytest.raises(ValueError, match=sentence):
        WRONG[sentence]()
