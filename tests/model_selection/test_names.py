"""What is compared is given by name, in every experiment that compares."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from skastro.augment import Dihedral
from skastro.model_selection import label_sweep, property_scores, stationarity, transfer_matrix

X, Y = np.eye(12), np.arange(12) % 2
IMAGES = np.random.default_rng(0).normal(size=(4, 1, 9, 9))
NAMED = {
    "methods of a sweep": (lambda one: label_sweep(one, X, Y, label_counts=[4]), LogisticRegression()),
    "methods of a transfer": (lambda one: transfer_matrix(one, {"a": (X, Y), "b": (X, Y)}), LogisticRegression()),
    "datasets": (lambda one: transfer_matrix({"probe": LogisticRegression()}, one), (X, Y)),
    "embeddings": (lambda one: property_scores(one, {"mass": Y}), X),
    "heads": (lambda one: property_scores({"all": X}, {"mass": Y}, heads=one), LogisticRegression()),
    "embedders": (lambda one: stationarity(one, IMAGES, {"turns": Dihedral()}), FunctionTransformer()),
    "steps": (lambda one: stationarity({"pixels": FunctionTransformer()}, IMAGES, one), Dihedral()),
}


@pytest.mark.parametrize("name", NAMED)
def test_one_without_a_name_is_refused_before_any_work(name):
    compare, one = NAMED[name]
    word = name.partition(" ")[0]
    with pytest.raises(TypeError, match=f"{word} must be a mapping of names to .*; got {type(one).__name__}"):
        compare(one)
    with pytest.raises(ValueError, match=f"{word} is empty: give at least one, by name"):
        compare({})
