"""Laws of stationarity: what an embedding does not see does not move it."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.preprocessing import FunctionTransformer

from skastro.augment import Augment, Dihedral, GaussianNoise, Shift
from skastro.model_selection import stationarity

RNG = np.random.default_rng(0)
IMAGES = RNG.gamma(1.0, size=(30, 2, 24, 24)).astype("f4")
SUMS = FunctionTransformer(lambda X: np.stack([X.mean(axis=(2, 3)).T, X.std(axis=(2, 3)).T], 1).reshape(4, -1).T)
PIXELS = FunctionTransformer(lambda X: X.reshape(len(X), -1))
EMBEDDERS = {"sums": SUMS.fit(IMAGES), "pixels": PIXELS.fit(IMAGES)}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_turns_move_pixels_and_no_sums(metric):
    table = stationarity(EMBEDDERS, IMAGES, {"turns": Dihedral()}, metric=metric, random_state=0).set_index("embedder")
    assert table.loc["sums", "moved_most"] < 1e-3
    assert table.loc["sums", "recognized"] == 1
    assert table.loc["pixels", "moved"] > 0.9
    assert table.loc["pixels", "recognized"] < 0.5


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_distances_are_those_of_the_formula(metric):
    seen = []
    spy = FunctionTransformer(lambda X: (seen.append(SUMS.transform(X)), seen[-1])[1])
    table = stationarity({"spy": spy}, IMAGES, {"noise": GaussianNoise((1, 1))}, metric=metric, n_views=2)
    center = seen[0].mean(axis=0) if metric == "cosine" else 0
    plain, *views = (rows.astype("f8") - center for rows in seen)
    nearest = (cdist(plain, plain, metric) + np.diag(np.full(30, np.inf))).min(axis=1)
    far = [cdist(plain, view, metric) for view in views]
    moved = np.concatenate([np.diag(matrix) / nearest for matrix in far])
    assert table["moved"].item() == pytest.approx(np.median(moved), rel=1e-5)
    assert table["moved_most"].item() == pytest.approx(np.quantile(moved, 0.95), rel=1e-5)
    recognized = np.mean([matrix.argmin(axis=0) == np.arange(30) for matrix in far])
    assert table["recognized"].item() == pytest.approx(recognized)


def test_a_step_is_a_step_or_a_recipe_and_the_window_sees_beyond():
    steps = {"alone": Shift(4), "recipe": Augment([("shift", Shift(4)), ("turn", Dihedral())])}
    table = stationarity(EMBEDDERS, IMAGES, steps, size=12, random_state=0)
    assert table[["embedder", "step"]].to_numpy().tolist() == [[e, s] for e in EMBEDDERS for s in steps]
    again = stationarity(EMBEDDERS, IMAGES, steps, size=12, random_state=0)
    assert table.equals(again)


def test_eight_bit_images_stay_what_they_are():
    kinds = set()
    spy = FunctionTransformer(lambda X: (kinds.add(X.dtype.name), X.reshape(len(X), -1).astype(float))[1])
    stationarity({"spy": spy}, (50 * IMAGES).clip(0, 255).astype("u1"), {"shift": Shift(2)})
    assert kinds == {"uint8"}


def test_copies_are_no_neighbors_to_measure_by():
    rows = np.concatenate([IMAGES, IMAGES[:1]])
    assert np.isfinite(stationarity(EMBEDDERS, rows, {"turns": Dihedral()}).iloc[:, 2:].to_numpy()).all()


WRONG = {
    "one view at least": lambda: stationarity(EMBEDDERS, IMAGES, {"turns": Dihedral()}, n_views=0),
    "NaN": lambda: stationarity(EMBEDDERS, np.full((3, 1, 9, 9), np.nan), {"turns": Dihedral()}),
    "must be an augmentation step": lambda: stationarity(EMBEDDERS, IMAGES, {"turns": 3}),
    "smaller|size": lambda: stationarity(EMBEDDERS, IMAGES, {"turns": Dihedral()}, size=99),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_refused_in_a_sentence(sentence):
    with pytest.raises(ValueError, match=sentence):
        WRONG[sentence]()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_copies_measure_nothing_and_are_known(metric):
    twice = np.concatenate([IMAGES, IMAGES, RNG.gamma(1.0, size=(8, 2, 24, 24)).astype("f4")])
    steps = {"nothing": Dihedral(p=0.0), "noise": GaussianNoise((1, 1), sigma=1e-3)}
    table = stationarity({"pixels": EMBEDDERS["pixels"]}, twice, steps, metric=metric, random_state=0)
    still, noisy = table.set_index("step").loc[["nothing", "noise"]].to_dict("records")
    assert (still["moved"], still["recognized"]) == (pytest.approx(0, abs=1e-6), 1)
    assert noisy["moved"] < 0.1
