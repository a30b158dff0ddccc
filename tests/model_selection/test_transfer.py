"""Laws of the matrix of transfer."""

from itertools import product

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro.downstream import DirichletClassifier
from skastro.model_selection import transfer_matrix

RNG = np.random.default_rng(0)


def sample(n, offset=0.0):
    y = np.arange(n) % 2
    return RNG.normal(size=(n, 3)) + 2 * y[:, np.newaxis] + offset, y


NEAR, FAR = sample(90), sample(60, 4.0)
SETS = {"near": NEAR, "far": FAR}
LINE = {"line": make_pipeline(StandardScaler(), LogisticRegression())}


def test_scores_are_those_of_scikit_learn():
    table = transfer_matrix(LINE, SETS, cv=3)
    assert len(table) == 4 * 3
    for train, test in product(SETS, SETS):
        (X, y), (other, truth) = SETS[train], SETS[test]
        found = table[(table["train"] == train) & (table["test"] == test)].set_index("fold")["score"]
        folds = zip(StratifiedKFold(3).split(X, y), StratifiedKFold(3).split(other, truth), strict=True)
        for fold, ((rows, _), (_, tested)) in enumerate(folds):
            model = LINE["line"].fit(X[rows], y[rows])
            assert found[fold] == accuracy_score(truth[tested], model.predict(other[tested]))


def test_a_shift_is_measured_and_none_where_there_is_none():
    table = transfer_matrix(LINE, SETS | {"as near": sample(90)}, cv=2)
    shift = table.groupby(["train", "test"])["shift"].mean()
    assert shift["near", "near"] == 0.5
    assert abs(shift["near", "as near"] - 0.5) < 0.15
    assert shift["near", "far"] > 0.95
    assert transfer_matrix({"bare": LogisticRegression()}, SETS, cv=2)["shift"].isna().sum() == 4


def test_a_shift_is_measured_all_over_sorted_sets():
    rows = np.sort(RNG.normal(size=(2, 5000, 1)), axis=1)
    sets = {"up": (rows[0], np.arange(5000) % 2), "down": (rows[1, ::-1], np.arange(5000) % 2)}
    assert transfer_matrix(LINE, sets, cv=KFold(2, shuffle=True, random_state=0))["shift"].sub(0.5).abs().max() < 0.05


def test_a_shift_of_two_rows_is_not_known():
    few = (NEAR[0][:4], NEAR[1][:4])
    table = transfer_matrix(LINE, {"near": NEAR, "few": few}, cv=2)
    assert table["shift"].isna().tolist() == (table["train"] != table["test"]).tolist()


def test_votes_are_no_classes():
    votes = RNG.poisson(3, size=(40, 2)) + 1
    sets = {"one": (NEAR[0][:40], votes), "other": (NEAR[0][40:80], votes + 5)}
    assert transfer_matrix({"votes": DirichletClassifier()}, sets, cv=2)["score"].notna().all()


def test_an_object_that_is_tested_does_not_train():
    X, y = NEAR
    groups = np.arange(90)
    table = transfer_matrix(LINE, {"one": (X, y, groups), "copy": (X, y, groups)}, cv=3)
    assert (table["n_train"] == 60).all()  # as if they were one set
    own = table.query("train == test")["score"].to_numpy()
    assert (table.query("train != test")["score"].to_numpy() == own).all()
    turned = (X[::-1], y[::-1], groups[::-1])
    folds = [test for _, test in StratifiedKFold(3).split(X, y)]
    others = [groups[::-1][test] for _, test in StratifiedKFold(3).split(*turned[:2])]
    left = [60 - len(np.setdiff1d(other, fold)) for fold, other in zip(folds, others, strict=True)]
    table = transfer_matrix(LINE, {"one": (X, y, groups), "turned": turned}, cv=3)
    assert table.query("train == 'one' and test == 'turned'")["n_train"].tolist() == left
    assert min(left) < 60
    nobody = transfer_matrix(LINE, {"one": (X, y), "turned": (*turned[:2], np.full(90, -1))}, cv=3)
    assert (nobody["n_train"] == 60).all()


def test_what_is_frozen_transforms_each_set_once():
    class Counting(StandardScaler):
        calls = 0

        def transform(self, X, copy=None):
            Counting.calls += 1
            return super().transform(X)

    frozen = Counting().fit(NEAR[0])
    methods = {"frozen": make_pipeline(FrozenEstimator(frozen), LogisticRegression())}
    assert len(transfer_matrix(methods, SETS, cv=3)) == 12
    assert Counting.calls == 2


def test_values_are_transferred_too():
    table = transfer_matrix({"line": LinearRegression()}, SETS, cv=2, scoring="neg_mean_absolute_error")
    assert (table["score"] <= 0).all()


WRONG = {
    "two or more": lambda: transfer_matrix(LINE, {"near": NEAR}),
    "'odd' has classes that 'near' has not": lambda: transfer_matrix(LINE, {"near": NEAR, "odd": (FAR[0], FAR[1] + 1)}),
    "must be integers in all data sets, or names in all": lambda: transfer_matrix(
        LINE, {"near": (*NEAR, NEAR[0][:, 0]), "far": FAR}
    ),
    "y must have one entry": lambda: transfer_matrix(LINE, {"near": (NEAR[0], NEAR[1][:5]), "far": FAR}),
    "no scorer": lambda: transfer_matrix(LINE, SETS, scoring="luck"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_refused_in_a_sentence(sentence):
    with pytest.raises(ValueError, match=sentence):
        WRONG[sentence]()


def test_folds_of_groups_with_names():
    groups = [np.array([f"J{row // 3:03}" for row in range(len(y))]) for _, y in SETS.values()]
    sets = {name: (*data, group) for (name, data), group in zip(SETS.items(), groups, strict=True)}
    numbered = {name: (*data, np.arange(len(data[1])) // 3) for name, data in SETS.items()}
    named, expected = (transfer_matrix(LINE, some, cv=GroupKFold(3)) for some in (sets, numbered))
    assert (
        named.groupby(["train", "test"])["n_train"].sum().equals(expected.groupby(["train", "test"])["n_train"].sum())
    )
    assert (named.query("train == test")["n_train"] % 3 == 0).all()
    nobody = {name: (*data, np.full(len(data[1]), -1)) for name, data in SETS.items()}
    alone = transfer_matrix(LINE, nobody, cv=GroupKFold(3))
    assert sorted(alone.query("train == test")["n_train"]) == [40] * 3 + [60] * 3
    with pytest.raises(ValueError, match="must be integers in all data sets, or names in all"):
        transfer_matrix(LINE, {"near": numbered["near"], "far": sets["far"]})
    once = transfer_matrix(LINE, {"near": NEAR, "far": sample(90)}, cv=KFold(3).split(NEAR[0]))
    assert len(once) == 4 * 3
