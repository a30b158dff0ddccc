"""Laws of the table of properties."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, KFold, PredefinedSplit, ShuffleSplit
from sklearn.neighbors import KNeighborsRegressor

from skastro.model_selection import property_scores

RNG = np.random.default_rng(0)
TRUTH = pd.DataFrame(RNG.normal(size=(120, 2)), columns=["mass", "age"])
SEEN = {"mass": TRUTH[["mass"]].to_numpy(), "noise": RNG.normal(size=(120, 3))}
LINE = {"line": LinearRegression()}


def test_scores_are_those_of_scikit_learn():
    folds = KFold(3, shuffle=True, random_state=0)
    table = property_scores(SEEN, TRUTH, heads={"k-NN": KNeighborsRegressor(5)}, cv=folds)
    assert len(table) == 2 * 2 * 3
    found = table.query("embedding == 'noise' and property == 'age'").set_index("fold")["score"]
    for fold, (train, test) in enumerate(folds.split(SEEN["noise"])):
        model = KNeighborsRegressor(5).fit(SEEN["noise"][train], TRUTH["age"][train])
        assert found[fold] == pytest.approx(r2_score(TRUTH["age"][test], model.predict(SEEN["noise"][test])))


def test_what_is_known_is_told():
    table = property_scores(SEEN, TRUTH, heads=LINE).groupby(["embedding", "property"])["score"].mean()
    assert table["mass", "mass"] == pytest.approx(1)
    assert table.drop(("mass", "mass")).max() < 0.1


def test_heads_of_the_paper_are_the_default():
    table = property_scores({"both": TRUTH}, TRUTH["age"], cv=ShuffleSplit(1, test_size=0.2, random_state=0))
    assert table["head"].tolist() == ["k-NN", "MLP"]


def test_missing_rows_and_values_are_left_out():
    embedding = SEEN["mass"].copy()
    embedding[:20] = np.nan
    properties = {"mass": TRUTH["mass"].where(np.arange(120) < 100)}
    table = property_scores({"some": embedding, "all": SEEN["noise"]}, properties, heads=LINE, cv=2)
    halves = [(range(50), range(50, 80))]
    alone = property_scores({"all": SEEN["noise"][20:100]}, TRUTH["mass"][20:100], heads=LINE, cv=halves)
    halves = PredefinedSplit(np.where(np.arange(120) < 70, -1, 0))  # of all rows, the missing ones too
    both = property_scores({"some": embedding, "all": SEEN["noise"]}, properties, heads=LINE, cv=halves)
    assert np.isfinite(table["score"]).all()
    assert both.query("embedding == 'all'")["score"].item() == pytest.approx(alone["score"].item())


def test_groups_and_scoring():
    table = property_scores(
        SEEN, TRUTH, heads=LINE, cv=GroupKFold(4), groups=np.arange(120) % 4, scoring="neg_mean_absolute_error"
    )
    assert (table["score"] <= 0).all()
    assert table["fold"].nunique() == 4


@pytest.mark.parametrize(
    ("embeddings", "properties", "message"),
    [
        (SEEN, TRUTH.iloc[:0], "nothing to compare"),
        ({"short": np.zeros((7, 2))}, TRUTH, "'short' must have one row for each of the 120 objects"),
        ({"flat": np.zeros(120)}, TRUTH, "'flat' must have one row"),
        ({"gone": np.full((120, 2), np.nan)}, TRUTH, "No object has a row in every embedding"),
    ],
)
def test_nothing_to_compare_is_refused(embeddings, properties, message):
    with pytest.raises(ValueError, match=message):
        property_scores(embeddings, properties, heads=LINE)


def test_few_objects_are_few_neighbors():
    few = {name: rows[:20] for name, rows in SEEN.items()}
    assert property_scores(few, TRUTH[:20])["score"].notna().all()


@pytest.mark.parametrize(
    ("embeddings", "properties", "message"),
    [
        (
            SEEN,
            TRUTH.assign(age=np.where(np.arange(120) < 3, 1.0, np.nan)),
            "'age' is known of 3 objects, which leaves",
        ),
        (SEEN, TRUTH.assign(kind="spiral"), "'kind' is of object, and not of numbers"),
    ],
)
def test_properties_that_cannot_be_scored_are_named_before_any_fit(embeddings, properties, message):
    heads = {"none": None}  # which cannot be fitted
    with pytest.raises(ValueError, match=message):
        property_scores(embeddings, properties, heads=heads)


@pytest.mark.parametrize("folds", [lambda X: KFold(3).split(X), lambda X: [*KFold(3).split(X)]])
def test_folds_that_can_be_read_once_are_those_of_all_properties(folds):
    table = property_scores(SEEN, TRUTH, heads=LINE, cv=folds(TRUTH))
    pd.testing.assert_frame_equal(table, property_scores(SEEN, TRUTH, heads=LINE, cv=KFold(3)))
    with pytest.raises(ValueError, match="cv makes no fold"):
        property_scores(SEEN, TRUTH, heads=LINE, cv=iter([]))
