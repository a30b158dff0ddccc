"""The laws of an ablation: which steps are on, who shares folds and seeds, and what is refused."""

from itertools import combinations

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, PredefinedSplit, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline

import skastro
from skastro import BYOLEmbedder, FineTuneClassifier, SimCLREmbedder
from skastro.augment import Augment, Crop, Flip, GaussianNoise, Rotate
from skastro.datasets import make_survey
from skastro.metrics import sigma_mad
from skastro.model_selection import ablation_grid, augmentation_ablation

N = 60
X = np.arange(N, dtype=float)[:, np.newaxis]  # a row is its own number, so that spies know what they saw
Y = np.repeat(["a", "b"], [40, 20])
STEPS = ["rotate", "crop", "flip"]
WORTH = {"rotate": 0.1, "crop": 0.2, "flip": 0.4, "noise": 0.8}
LOG = []


@pytest.fixture(autouse=True)
def _empty_log():
    LOG.clear()


def toy():
    return Augment([("noise", "passthrough"), ("rotate", Rotate()), ("crop", Crop()), ("flip", Flip())])


class Spy(BaseEstimator):
    """Writes down what it was fitted with; its score is what its steps are worth, and the first test row."""

    def __init__(self, augment=None, random_state=None):
        self.augment = augment
        self.random_state = random_state

    def fit(self, X, y, votes=None):
        on = [name for name, step in self.augment.steps if step != "passthrough"]
        rows = np.asarray(X).reshape(len(X), -1)[:, 0].astype(int)
        LOG.append({"on": on, "rows": rows, "y": y, "seed": self.random_state, "votes": votes})
        self.worth_ = sum(WORTH[name] for name in on)
        self.classes_ = np.unique(y)
        return self

    def score(self, X, y, sample_weight=None):
        return self.worth_ + np.asarray(X).reshape(len(X), -1)[0, 0]


class SpyClassifier(ClassifierMixin, Spy):
    def predict(self, X):
        return np.repeat("a", len(X))

    score = Spy.score


class SpyRegressor(RegressorMixin, Spy):
    def predict(self, X):
        return np.full(len(X), self.classes_.mean() + self.worth_)


def ablate(estimator=None, X=X, y=Y, cv=2, random_state=0, **kwargs):
    estimator = SpyClassifier(toy()) if estimator is None else estimator
    return augmentation_ablation(estimator, X, y, cv=cv, random_state=random_state, **kwargs)


def settings(**kwargs):
    return ablate(**kwargs).drop_duplicates("setting").set_index("setting")[STEPS]


# The settings


BY_HAND = {
    "all": {"all": "rotate crop flip"},
    "without": {"without rotate": "crop flip", "without crop": "rotate flip", "without flip": "rotate crop"},
    "only": {"only rotate": "rotate", "only crop": "crop", "only flip": "flip"},
    "pairs": {"rotate + crop": "rotate crop", "rotate + flip": "rotate flip", "crop + flip": "crop flip"},
    "none": {"none": ""},
}


@pytest.mark.parametrize("kinds", [*BY_HAND, ["none", "only", "all"], ("all", "without", "only", "none")])
def test_the_settings_of_three_steps_by_hand(kinds):
    expected = {}
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        expected |= {name: on.split() for name, on in BY_HAND[kind].items()}
    table = settings(kinds=kinds)
    assert [(name, [step for step in STEPS if row[step]]) for name, row in table.iterrows()] == list(expected.items())
    off = [[step for step in STEPS if step not in on] for on in expected.values()]
    grid = ablation_grid(SpyClassifier(toy()), kinds=kinds)
    assert grid == [{f"augment__{step}": ["passthrough"] for step in names} for names in off]


def test_the_default_kinds():
    assert list(settings().index) == [name for kind in ("all", "without", "only", "none") for name in BY_HAND[kind]]
    grid = ablation_grid(BYOLEmbedder(augment="radio"))  # of five active steps
    assert len(grid) == 1 + 5 + 5 + 10 + 1


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (["without", "pairs"], BY_HAND["without"]),
        (["pairs", "without"], BY_HAND["pairs"]),
        (["all", "none", "all"], ["all", "none"]),
    ],
)
def test_a_setting_that_two_kinds_describe_comes_once(kinds, names):
    assert list(settings(kinds=kinds).index) == list(names)
    assert len(ablation_grid(SpyClassifier(toy()), kinds=kinds)) == len(names)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 5])
def test_no_two_settings_are_alike(n_steps):
    steps = [(f"step{i}", Flip()) for i in range(n_steps)]
    grid = ablation_grid(SpyClassifier(Augment(steps)))
    assert len({frozenset(setting) for setting in grid}) == len(grid)
    sizes = {0, 1, 2, n_steps - 1, n_steps}
    expected = {frozenset(on) for k in sizes & set(range(n_steps + 1)) for on in combinations(dict(steps), k)}
    off = {frozenset(key.removeprefix("augment__") for key in setting) for setting in grid}
    assert {frozenset(dict(steps)) - names for names in off} == expected


@pytest.mark.parametrize("steps", [["flip", "rotate"], ("rotate", "flip")])
def test_chosen_steps_are_ablated_in_the_order_of_the_recipe_and_alone_is_alone(steps):
    table = settings(kinds=["without", "only", "pairs"], steps=steps)
    assert list(table.index) == ["without rotate", "without flip", "only rotate", "only flip", "rotate + flip"]
    assert table.loc["without flip"].tolist() == [True, True, False]
    assert table.loc["only flip"].tolist() == [False, False, True]
    assert list(settings(kinds="only", steps="crop").index) == ["only crop"]


HOLDERS = {
    "itself": (BYOLEmbedder(augment="radio-finetune"), None, "augment"),
    "pipeline": (Pipeline([("emb", BYOLEmbedder(augment="radio-finetune"))]), None, "emb__augment"),
    "one of two": (FineTuneClassifier(BYOLEmbedder(augment="radio-finetune")), "encoder__augment", "encoder__augment"),
    "one is none": (
        FineTuneClassifier(BYOLEmbedder(), augment="radio-finetune").set_params(encoder__augment=None),
        None,
        "augment",
    ),
    "one is frozen": (FineTuneClassifier(FrozenEstimator(BYOLEmbedder()), augment="radio-finetune"), None, "augment"),
    "search": (GridSearchCV(BYOLEmbedder(augment="radio-finetune"), {}), None, "estimator__augment"),
}


@pytest.mark.parametrize(("estimator", "augment", "key"), HOLDERS.values(), ids=HOLDERS)
def test_the_recipe_is_found_by_name_and_its_settings_can_be_set(estimator, augment, key):
    before = repr(estimator)
    grid = ablation_grid(estimator, kinds="without", augment=augment)
    assert grid == [{f"{key}__{step}": ["passthrough"]} for step in STEPS]
    assert repr(estimator) == before
    for setting, step in zip(grid, STEPS, strict=True):
        params = clone(estimator).set_params(**{name: value for name, (value,) in setting.items()}).get_params()
        assert [name for name, value in params[key].steps if value == "passthrough"] in (["noise", step],)


# The table


def test_the_table_is_tidy():
    table = ablate(n_repeats=3)
    assert list(table.columns) == ["setting", *STEPS, "repeat", "fold", "score"]
    assert len(table) == 8 * 3 * 2
    assert not table.duplicated(["setting", "repeat", "fold"]).any()
    assert (table.dtypes[STEPS] == "bool").all()
    assert (table.dtypes[["repeat", "fold"]] == "int64").all()
    assert table.dtypes["score"] == "float64"


def test_each_row_is_a_fit_with_those_steps():
    table = ablate(n_repeats=2)
    assert len(LOG) == len(table)
    for entry, row in zip(LOG, table.itertuples(), strict=True):
        assert entry["on"] == [step for step in STEPS if getattr(row, step)]


def test_the_table_is_the_search_over_the_grid():
    estimator, kinds = SpyClassifier(toy()), ("all", "without", "only", "pairs", "none")
    search = GridSearchCV(estimator, ablation_grid(estimator, kinds=kinds), cv=3).fit(X, Y)
    table = ablate(estimator, kinds=kinds, cv=3)
    scores = table.pivot(index="setting", columns="fold", values="score").loc[table["setting"].unique()]
    assert_array_equal(scores, np.transpose([search.cv_results_[f"split{fold}_test_score"] for fold in range(3)]))
    assert search.best_params_ == {}  # every step is worth something


def test_settings_share_folds_and_labels_belong_to_their_rows():
    ablate(cv=3)
    folds = [train for train, _ in StratifiedKFold(3).split(X, Y)]
    for start in range(0, len(LOG), 3):
        for entry, train in zip(LOG[start : start + 3], folds, strict=True):
            assert_array_equal(entry["rows"], train)
            assert_array_equal(entry["y"], Y[train])


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_folds_that_are_drawn_are_drawn_once(n_jobs):
    cv = KFold(2, shuffle=True, random_state=np.random.RandomState(0))
    with joblib.parallel_config("threading"):
        ablate(cv=cv, n_jobs=n_jobs, n_repeats=2)
    assert len({tuple(entry["rows"]) for entry in LOG}) == 2


def test_settings_share_seeds_and_repeats_have_others():
    def seeds(**kwargs):
        LOG.clear()
        pipe = make_pipeline(SpyClassifier(toy(), random_state=7))
        table = ablate(pipe, n_repeats=3, **kwargs)
        drawn = pd.Series([entry["seed"] for entry in LOG]).groupby(table["repeat"].to_numpy()).unique()
        assert all(len(seeds) == 1 for seeds in drawn)
        return [int(seed) for (seed,) in drawn]

    assert len(set(seeds())) == 3
    assert seeds(random_state=1) == seeds(random_state=np.random.RandomState(1)) != seeds(random_state=2)


def test_more_repeats_leave_the_first_as_they_were():
    ablate(n_repeats=1, kinds="all")
    first = {entry["seed"] for entry in LOG}
    LOG.clear()
    ablate(n_repeats=4, kinds="all")
    assert {entry["seed"] for entry in LOG[:2]} == first


def test_every_seed_within_is_drawn():
    class Twin(SpyClassifier):
        def __init__(self, augment=None, random_state=None, inner=None):
            super().__init__(augment, random_state)
            self.inner = inner

        def fit(self, X, y):
            LOG.append((self.random_state, self.inner.random_state))
            self.worth_ = 0.0
            return self

    ablate(Twin(toy(), inner=LogisticRegression(random_state=3)), kinds="all", cv=2, n_repeats=2)
    assert len({seed for seeds in LOG for seed in seeds}) == 4
    assert all(isinstance(seed, int) for seeds in LOG for seed in seeds)


def test_nothing_given_is_changed():
    pipe = make_pipeline(SpyClassifier(toy(), random_state=7))
    before, state = repr(pipe), np.random.get_state()[1].copy()  # noqa: NPY002
    ablate(pipe)
    assert repr(pipe) == before
    assert not hasattr(pipe[-1], "worth_")
    assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_several_metrics_are_columns():
    scoring = {"right": "accuracy", "hits": make_scorer(accuracy_score, normalize=False), "own": None}
    table = ablate(scoring=scoring)
    assert list(table.columns) == ["setting", *STEPS, "repeat", "fold", *scoring]
    assert (table["right"] == 20 / 30).all()
    assert (table["hits"] == 20).all()
    assert_array_equal(table["own"], ablate()["score"])


def test_a_regressor_with_a_metric_of_ours():
    z = np.random.default_rng(0).uniform(0.1, 0.4, N)
    table = ablate(SpyRegressor(toy()), y=z, cv=KFold(2), scoring="neg_sigma_mad")
    for row in table.itertuples():
        train, test = list(KFold(2).split(X))[row.fold]
        worth = sum(WORTH[step] for step in STEPS if getattr(row, step))
        predicted = np.full(len(test), z[train].mean() + worth)
        assert row.score == pytest.approx(-sigma_mad(z[test], predicted))


def test_images_keep_their_shape_and_stay_on_the_disk(tmp_path):
    file = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", "float32", (N, 2, 5, 4))
    file[:] = X[:, :, np.newaxis, np.newaxis]
    table = ablate(X=np.load(tmp_path / "images.npy", mmap_mode="r"))
    pd.testing.assert_frame_equal(table, ablate(X=np.array(file)))
    pd.testing.assert_frame_equal(table, ablate())


def test_published_splits_and_groups():
    ablate(cv=PredefinedSplit(np.where(np.arange(N) % 5 == 0, 0, -1)))
    assert all(len(entry["rows"]) == 48 for entry in LOG)
    LOG.clear()
    groups = np.arange(N) // 3
    ablate(cv=GroupKFold(2), groups=groups)
    assert all(len(set(groups[entry["rows"]])) == 10 for entry in LOG)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_metadata_goes_where_it_was_requested(n_jobs):
    with config_context(enable_metadata_routing=True), joblib.parallel_config("threading"):
        pipe = make_pipeline(SpyClassifier(toy()).set_fit_request(votes=True))
        ablate(pipe, params={"votes": X * [1, 10]}, n_jobs=n_jobs)
    for entry in LOG:
        assert_array_equal(entry["votes"], X[entry["rows"]] * [1, 10])


def test_fits_at_once_give_the_same_table():
    with joblib.parallel_config("threading"):
        pd.testing.assert_frame_equal(ablate(n_jobs=3, n_repeats=2), ablate(n_repeats=2))


def test_progress_shows_setting_and_fold(capsys):
    ablate(verbose=1)
    assert "none, fold 2 of 2" in capsys.readouterr().err
    ablate()
    assert capsys.readouterr().err == ""


def test_an_error_in_a_fit_is_raised_as_it_is():
    class Broken(SpyClassifier):
        def fit(self, X, y):
            raise ArithmeticError("out of luck")

    with pytest.raises(ArithmeticError, match="out of luck"):
        ablate(Broken(toy()))


# Embedders


@pytest.fixture(scope="module")
def survey():
    images = make_survey(24, size=32, random_state=0).images
    return images, np.arange(24) % 2


def pipeline(max_epochs=1, **kwargs):
    embedder = SimCLREmbedder("test_resnet", max_epochs=max_epochs, batch_size=8, random_state=0, **kwargs)
    return Pipeline([("emb", embedder), ("clf", LogisticRegression(max_iter=1000))])


def test_a_search_takes_the_grid(survey):
    pipe = pipeline(max_epochs=0, augment="radio-finetune")
    grid = ablation_grid(pipe)
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(*survey)
    assert len(search.cv_results_["params"]) == len(grid) == 8
    assert np.ptp(search.cv_results_["mean_test_score"]) == 0  # an untrained encoder has seen no view
    assert pipe.named_steps["emb"].augment == "radio-finetune"


def test_an_embedder_is_trained_anew_in_each_setting(survey):
    recipe = Augment([("rotate", Rotate()), ("noise", GaussianNoise())])
    table = augmentation_ablation(
        pipeline(augment=recipe), *survey, kinds=["all", "none"], cv=2, scoring="neg_log_loss", random_state=0
    )
    assert list(table["setting"]) == ["all", "all", "none", "none"]
    assert not (table["score"][:2].to_numpy() == table["score"][2:].to_numpy()).any()
    again = augmentation_ablation(
        pipeline(augment=recipe), *survey, kinds="none", cv=2, scoring="neg_log_loss", random_state=0
    )
    assert_array_equal(again["score"], table["score"][2:])
    assert not hasattr(recipe.steps[1][1], "sigma_")


def test_it_is_importable_from_the_package():
    assert skastro.augmentation_ablation is augmentation_ablation


# Refusals


off = SpyClassifier(Augment([("flip", "passthrough")]))
two = make_pipeline(BYOLEmbedder(), SpyClassifier(toy()))
frozen = make_pipeline(FrozenEstimator(BYOLEmbedder()), LogisticRegression())
REFUSED = [
    ({"estimator": Ridge()}, ValueError, "no augmentation to ablate: none of its parameters named augment"),
    ({"estimator": SpyClassifier()}, ValueError, "no augmentation to ablate"),
    ({"estimator": make_pipeline(FrozenEstimator(Ridge()), Ridge())}, ValueError, "no augmentation to ablate"),
    (
        {"estimator": two},
        ValueError,
        "several recipes, byolembedder__augment, spyclassifier__augment: say with augment=",
    ),
    ({"estimator": frozen}, ValueError, "frozen embedder is not fitted again.*without FrozenEstimator"),
    ({"estimator": FrozenEstimator(BYOLEmbedder())}, ValueError, "frozen embedder"),
    ({"estimator": frozen, "augment": "frozenestimator__augment"}, ValueError, "frozen embedder"),
    (
        {"augment": "emb__augment"},
        ValueError,
        "augment must name a recipe of the estimator, augment; got 'emb__augment'",
    ),
    ({"estimator": Ridge(), "augment": "augment"}, ValueError, "of the estimator, which has none; got 'augment'"),
    ({"estimator": off}, ValueError, "augment has no active step"),
    ({"estimator": SpyClassifier("radios")}, ValueError, "Unknown augmentation recipe 'radios'"),
    ({"kinds": ["all", "some"]}, ValueError, r"kinds must be some of all, without, .*got \['all', 'some'\]"),
    ({"kinds": []}, ValueError, r"kinds must be some of.*got \[\]"),
    ({"steps": ["flip", "psf"]}, ValueError, r"active steps of the recipe, rotate, crop, flip; got \['flip', 'psf'\]"),
    ({"steps": "noise"}, ValueError, "active steps of the recipe, rotate, crop, flip; got 'noise'"),
    ({"steps": []}, ValueError, r"active steps of the recipe.*got \[\]"),
    ({"estimator": "resnet18"}, TypeError, "resnet18"),
    ({"estimator": SpyClassifier}, TypeError, "instance"),
]


@pytest.mark.parametrize(("changes", "error", "message"), REFUSED)
def test_refusals_come_in_one_sentence_before_any_fit(changes, error, message):
    for refuse in (ablate, lambda estimator, **kwargs: ablation_grid(estimator, **kwargs)):
        with pytest.raises(error, match=message):
            refuse(**{"estimator": SpyClassifier(toy())} | changes)
    assert not LOG


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_repeats": 0}, ValueError, "n_repeats must be a whole number, at least 1; got 0"),
        ({"n_repeats": 1.5}, ValueError, "n_repeats.*got 1.5"),
        ({"y": Y[:-1]}, ValueError, r"y must have one entry for each of the 60 rows of X.*\(59,\)"),
        ({"groups": np.arange(4)}, ValueError, r"groups must have one entry.*\(4,\)"),
        ({"scoring": []}, ValueError, "scoring is empty"),
        ({"scoring": "beauty"}, ValueError, "no scorer 'beauty'"),
        ({"scoring": {"flip": "accuracy"}}, ValueError, "none like a column.*rotate, crop, flip, repeat, fold"),
        ({"scoring": {"setting": "accuracy"}}, ValueError, "none like a column"),
        ({"params": {"votes": X}}, ValueError, r"votes.*set_config\(enable_metadata_routing=True\)"),
        ({"estimator": BYOLEmbedder()}, TypeError, "'score' method"),
    ],
)
def test_what_makes_no_table_is_refused_before_any_fit(changes, error, message):
    with pytest.raises(error, match=message):
        ablate(**changes)
    assert not LOG


@pytest.mark.parametrize("pipe", [False, True])
def test_metadata_that_nobody_requested_is_refused_before_any_fit(pipe):
    estimator = make_pipeline(SpyClassifier(toy())) if pipe else SpyClassifier(toy())
    with config_context(enable_metadata_routing=True), pytest.raises(ValueError, match=r"votes.*not explicitly set"):
        ablate(estimator, params={"votes": X})
    assert not LOG
