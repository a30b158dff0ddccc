"""What is saved comes back the same; what `load` does not trust is refused by name, and nothing of it runs."""

import functools
import importlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import skops.io
from numpy.testing import assert_array_equal
from scipy.stats import loguniform
from sklearn import config_context, metrics
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    PredefinedSplit,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedKFold,
)
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestNeighbors
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelBinarizer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

import skastro
from skastro import (
    DirichletClassifier,
    FineTuneRegressor,
    FixedImageEmbedder,
    FixedSpectrumEmbedder,
    FlowPosterior,
    ImageEncoder,
    PhotoZRegressor,
    SpecFormer,
    SpectrumEncoder,
    persistence,
)
from skastro._contents import nodes
from skastro._registry import FORMAT
from skastro.metrics import get_scorer, get_scorer_names
from skastro.persistence import describe, load, save

X, y = load_digits(return_X_y=True)
X, y = X[:150], y[:150]


def named(value):
    """Name a test the same in every process: without addresses."""
    return re.sub(r" at 0x\w+", "", repr(value), flags=re.IGNORECASE)


HEADS = [
    LogisticRegression(max_iter=30, tol=1e-2),
    LogisticRegressionCV(Cs=2, cv=2, max_iter=30, tol=1e-1),
    LinearRegression(),
    Ridge(),
    RidgeCV(),
    RidgeClassifier(),
    RidgeClassifierCV(),
    SGDRegressor(),
    *(
        SGDClassifier(loss=loss, random_state=0)
        for loss in ["hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron", "squared_error"]
    ),
    *(SGDClassifier(loss=loss) for loss in ["huber", "epsilon_insensitive", "squared_epsilon_insensitive"]),
    *(KNeighborsClassifier(algorithm=algorithm) for algorithm in ["auto", "ball_tree", "kd_tree", "brute"]),
    *(KNeighborsRegressor(algorithm=algorithm, p=3) for algorithm in ["ball_tree", "kd_tree", "brute"]),
    KNeighborsClassifier(algorithm="kd_tree", metric="manhattan", weights="distance"),
    KNeighborsClassifier(algorithm="ball_tree", metric="chebyshev"),
    KNeighborsClassifier(metric="cosine"),
    MLPClassifier(max_iter=3, random_state=0),
    MLPClassifier(max_iter=3, solver="sgd", early_stopping=True, random_state=0),
    MLPRegressor(max_iter=3, random_state=0),
    RandomForestClassifier(3, random_state=0),
    RandomForestRegressor(3, max_leaf_nodes=9, random_state=0),
    ExtraTreesClassifier(3, random_state=0),
    ExtraTreesRegressor(3, random_state=0),
    DecisionTreeClassifier(ccp_alpha=0.01),
    DecisionTreeRegressor(),
    ExtraTreeClassifier(),
    ExtraTreeRegressor(),
    IsolationForest(n_estimators=3, random_state=0),
    DummyClassifier(),
    DummyRegressor(),
    CalibratedClassifierCV(RandomForestClassifier(2), cv=2),
    CalibratedClassifierCV(LogisticRegression(max_iter=30, tol=1e-1), cv=2, method="isotonic"),
]
TRANSFORMERS = [
    PCA(5, random_state=0),
    MaxAbsScaler(),
    MinMaxScaler(),
    Normalizer(),
    PowerTransformer(standardize=True),
    QuantileTransformer(n_quantiles=10),
    RobustScaler(),
    StandardScaler(),
    FeatureUnion([("pca", PCA(2)), ("same", "passthrough")]),
    ColumnTransformer([("pca", PCA(2), slice(0, 9)), ("same", "passthrough", [9, 11])], remainder=MinMaxScaler()),
    FrozenEstimator(PCA(3).fit(X)),
]


class Canary(BaseEstimator, TransformerMixin):
    """Leaves a mark when anything of it runs."""

    marks: list[str] = []  # noqa: RUF012

    def __new__(cls):
        cls.marks.append("new")
        return super().__new__(cls)

    def __setstate__(self, state):
        self.marks.append("setstate")

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        self.marks.append("transform")
        return X


def sing(*args):
    Canary.marks.append("sing")


class Embedder(TransformerMixin, BaseEstimator):
    """What this library's embedders are to a file: parameters, and a state of numbers."""

    def __init__(self, encoder="resnet18", callbacks=None):
        self.encoder = encoder
        self.callbacks = callbacks

    def fit(self, X, y=None):
        self.state_ = {
            "format": 1,
            "weights": {
                "float32": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
                "int64": np.array([2**62, -1]),
                "bool": np.array([True, False]),
                "scalar": np.array(7),
                "empty": np.zeros((0, 3), np.float16),
            },
            "numbers": (1, -2.5, np.float32(0.1), np.int64(3), 2**70, float("inf")),
            "nested": [(), [], {}, None, True, "π"],
            "by_number": {0: "a", 10: "b", 0.5: "c"},
        }
        self.provenance_ = {"survey": "sdss", "bands": ("u", "g"), "n": 150, "versions": {"torch": "2.6"}}
        self.live_ = sing
        return self

    def transform(self, X):
        return X

    def __getstate__(self):
        return {key: value for key, value in super().__getstate__().items() if key != "live_"}


@pytest.fixture
def ours(monkeypatch):
    """An estimator that this library might have."""
    trusted = persistence.TRUSTED["ObjectNode"] | {f"{Embedder.__module__}.Embedder"}
    monkeypatch.setitem(persistence.TRUSTED, "ObjectNode", trusted)
    return Embedder


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.skastro"


def again(estimator, path):
    save(estimator, path)
    return load(path)


def dump(value, path):
    """Write what `save` would not."""
    skops.io.dump(value, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("skastro.json", json.dumps({"format": FORMAT, "version": "0.1.0"}))


def rewrite(path, edit):
    """Put an edited tree of nodes in place of a file's own."""
    members = members_of(path)
    schema = json.loads(members["schema.json"])
    write(members | {"schema.json": json.dumps(edit(schema) or schema)}, path)


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(members, path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def node_of(schema, class_name):
    return next(node for node in nodes(schema) if node["__class__"] == class_name)


def same(a, b):
    """The same types and values all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    return a == b


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")  # LogisticRegressionCV announces new defaults
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_every_head_predicts_the_same(head, path):
    pipe = Pipeline([("scale", StandardScaler()), ("emb", PCA(8, random_state=0)), ("clf", head)]).fit(X, y)
    back = again(pipe, path)
    assert_array_equal(back.predict(X), pipe.predict(X))
    if hasattr(pipe, "predict_proba"):
        assert_array_equal(back.predict_proba(X), pipe.predict_proba(X))


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=str)
def test_every_transformer_transforms_the_same(transformer, path):
    pipe = make_pipeline(transformer, "passthrough").fit(X)
    assert_array_equal(again(pipe, path).transform(X), pipe.transform(X))


@pytest.mark.parametrize(
    ("algorithm", "metric"),
    [
        ("auto", "minkowski"),
        ("kd_tree", "euclidean"),
        ("ball_tree", "manhattan"),
        ("ball_tree", "haversine"),
        ("brute", "cosine"),
    ],
)
def test_neighbors_are_the_same(algorithm, metric, path):
    neighbors = NearestNeighbors(algorithm=algorithm, metric=metric).fit(PCA(2).fit_transform(X))
    for theirs, ours in zip(again(neighbors, path).kneighbors(), neighbors.kneighbors(), strict=True):
        assert_array_equal(theirs, ours)


@pytest.mark.parametrize("encoder", [LabelEncoder(), LabelBinarizer()], ids=str)
def test_labels_are_the_same(encoder, path):
    names = np.array(["spiral", "smooth", "artifact"], dtype=object)[y % 3]
    assert_array_equal(again(encoder.fit(names), path).transform(names), encoder.transform(names))


@pytest.mark.parametrize(
    ("scoring", "cv"),
    [
        (None, 2),
        ("accuracy", KFold(2)),
        ("roc_auc_ovr", StratifiedKFold(2, shuffle=True, random_state=0)),
        (["accuracy", "f1_macro"], PredefinedSplit(np.arange(150) % 2)),
    ],
    ids=str,
)
def test_searches_score_the_same(scoring, cv, path):
    pipe = Pipeline([("emb", PCA(4)), ("clf", KNeighborsClassifier())])
    grid = {"emb": [PCA(3), StandardScaler()], "clf__n_neighbors": [1, 5]}
    refit = "accuracy" if isinstance(scoring, list) else True
    search = GridSearchCV(pipe, grid, scoring=scoring, cv=cv, refit=refit).fit(X, y)
    back = again(search, path)
    assert_array_equal(back.predict(X), search.predict(X))
    assert back.score(X, y) == search.score(X, y)
    assert_array_equal(back.cv_results_["mean_fit_time"], search.cv_results_["mean_fit_time"])
    assert_array_equal(back.fit(X, y).predict(X), search.predict(X))


@pytest.mark.parametrize("name", sorted(set(get_scorer_names()) - set(metrics.get_scorer_names())))
def test_searches_keep_our_scorers(name, path):
    votes = "vote" in name or "dirichlet" in name
    model, grid = (DirichletClassifier(), {"alpha": [1.0]}) if votes else (PhotoZRegressor(), {"n_bins": [10]})
    targets = y > 4 if votes else y / 25
    search = GridSearchCV(model, grid, scoring=get_scorer(name), cv=2).fit(X, targets)
    assert again(search, path).score(X, targets) == search.score(X, targets)


def test_a_randomized_search_inside_a_pipeline(path):
    search = RandomizedSearchCV(
        SGDClassifier(random_state=0), {"alpha": [1e-4, 1e-3]}, n_iter=2, cv=ShuffleSplit(2, random_state=0)
    )
    pipe = make_pipeline(StandardScaler(), search).fit(X, y)
    assert_array_equal(again(pipe, path).predict(X), pipe.predict(X))


def test_metadata_requests_come_back_and_stay(path):
    with config_context(enable_metadata_routing=True):
        pipe = make_pipeline(PCA(4), RidgeClassifier().set_fit_request(sample_weight=True))
        pipe.fit(X, y, sample_weight=np.ones(len(y)))
        owner = pipe[-1]._metadata_request.owner
        back = again(pipe, path)
        assert repr(back[-1].get_metadata_routing()) == repr(pipe[-1].get_metadata_routing())
        back.fit(X, y, sample_weight=np.ones(len(y)))
    assert pipe[-1]._metadata_request.owner is owner
    assert_array_equal(back.predict(X), pipe.predict(X))


def test_the_state_of_our_own_classes_comes_back_exactly(ours, path):
    pipe = make_pipeline(FrozenEstimator(ours().fit(X)), DummyClassifier()).fit(X, y)
    back = again(pipe, path)[0].estimator
    assert same(back.state_, pipe[0].estimator.state_)
    assert same(back.provenance_, pipe[0].estimator.provenance_)
    assert back.get_params() == {"encoder": "resnet18", "callbacks": None}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_another_process_predicts_the_same(path, tmp_path):
    pipe = make_pipeline(StandardScaler(), MLPClassifier(max_iter=3, random_state=0)).fit(X, y)
    save(pipe, path)
    np.save(tmp_path / "X.npy", X)
    code = (
        "import sys, numpy; from skastro.persistence import load;"
        "numpy.save(sys.argv[2], load(sys.argv[1]).predict_proba(numpy.load(sys.argv[2])))"
    )
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "X.npy"], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "X.npy"), pipe.predict_proba(X), rtol=1e-5)


def test_describe_builds_nothing(ours, path, monkeypatch):
    save(make_pipeline(ours().fit(X), PCA(2)), path)
    monkeypatch.delitem(persistence.TRUSTED, "ObjectNode")
    about = describe(path)
    assert f"{ours.__module__}.Embedder" in about["classes"]
    assert "sklearn.pipeline.Pipeline" in about["classes"]
    assert about["skops"] == skops.__version__
    assert about["skastro"] == skastro.__version__
    assert about["provenance"] == [{"survey": "sdss", "bands": ["u", "g"], "n": 150, "versions": {"torch": "2.6"}}]


def test_every_trusted_name_exists():
    missing = set()
    for name in persistence.OURS | persistence.SKLEARN | persistence.METRICS:
        module, _, member = name.rpartition(".")
        if not hasattr(importlib.import_module(module), member):
            missing.add(name)
    assert missing <= {"sklearn.calibration._TemperatureScaling"}  # younger than the oldest scikit-learn


# Classes of the user's own


class Scale(TransformerMixin, BaseEstimator):
    """A step of the user's own, which learns a forest as well."""

    def __init__(self, factor=2.0, inner=None):
        self.factor = factor
        self.inner = inner

    def fit(self, X, y=None):
        self.mean_ = np.mean(X, axis=0)
        self.forest_ = RandomForestClassifier(2, random_state=0).fit(X, np.arange(len(X)) % 2)
        return self

    def transform(self, X):
        return self.factor * (X - self.mean_)


class Called(Scale):
    """Comes back by a call of itself."""

    def __reduce__(self):
        return type(self), (self.factor,)


SCALE = f"{Scale.__module__}.Scale"


def test_a_named_step_of_ones_own_comes_back(path):
    pipe = make_pipeline(Scale(3.0, inner=Scale()), FrozenEstimator(Scale().fit(X)), PCA(2, random_state=0)).fit(X)
    save(pipe, path, trusted=[SCALE])
    back = load(path, trusted=(SCALE,))
    assert_array_equal(back.transform(X), pipe.transform(X))
    assert type(back[0]) is Scale
    assert SCALE in describe(path)["classes"]


def test_metadata_requests_inside_a_named_class_come_back(path):
    with config_context(enable_metadata_routing=True):
        save(Scale(inner=RidgeClassifier().set_fit_request(sample_weight=True)), path, trusted=[SCALE])
        request = load(path, trusted=[SCALE]).inner.get_metadata_routing()
    assert request.fit.requests["sample_weight"] is True


@pytest.mark.parametrize("trusted", [[], [f"{Canary.__module__}.Canary"]], ids=["none", "another"])
def test_a_class_that_is_not_named_is_refused_with_the_way(trusted, path):
    with pytest.raises(TypeError, match=rf"^save cannot keep scale, a {SCALE}: load .* \(trusted= admits [^.]*\)\.$"):
        save(make_pipeline(Scale(), PCA()), path, trusted=trusted)
    with pytest.raises(TypeError, match=rf"^save cannot keep a {SCALE}: load would not trust it \(trusted= [^.]*\)\.$"):
        save(Scale(), path, trusted=trusted)
    assert not path.exists()
    save(Scale(), path, trusted=[SCALE])
    with pytest.raises(ValueError, match=rf"^{path} holds {SCALE}, which .* \(trusted= .*\); nothing in it was run\.$"):
        load(path, trusted=trusted)


@pytest.mark.parametrize("method", [lambda path, **kwargs: save(PCA(), path, **kwargs), load], ids=["save", "load"])
@pytest.mark.parametrize(
    ("trusted", "error", "words"),
    [
        (SCALE, TypeError, "takes a list of full names; for one, give"),
        ([Scale], TypeError, "takes full names such as 'mypackage.module.MyStep', not <class"),
        (["Scale"], ValueError, "names Scale, which cannot be imported"),
        ([".Scale"], ValueError, "names .Scale, which cannot be imported"),
        ([f"{__name__}.Scales"], ValueError, r"Scales, which cannot be imported: .* has no attribute 'Scales'"),
        (["nowhere.at_all.Scale"], ValueError, "which cannot be imported: No module named 'nowhere'"),
        *(
            ([name], ValueError, f"trusted= names {name}, which is not the full name of an estimator class")
            for name in [
                f"{__name__}.sing",
                f"{__name__}.X",
                f"{__name__}.PCA",  # its home is another
                "sklearn.decomposition.PCA",
                "builtins.eval",
                "builtins.object",
                "functools.partial",
                "numpy.load",
                "numpy.ndarray",
                "os.system",
                "sklearn.base.clone",
                "sklearn.utils.Bunch",
                "subprocess.Popen",
                "torch.nn.modules.linear.Linear",
            ]
        ),
    ],
    ids=named,
)
def test_what_is_no_estimator_class_cannot_be_trusted(method, trusted, error, words, path):
    save(PCA(), path)
    with pytest.raises(error, match=words):
        method(path, trusted=trusted)


@pytest.mark.parametrize("loader", sorted({name for name, _ in skops.io._audit.NODE_TYPE_MAPPING} - {"ObjectNode"}))
def test_a_named_class_is_built_as_an_object_and_as_nothing_else(loader, path):
    save(Scale(), path, trusted=[SCALE])
    rewrite(path, lambda schema: schema.update(__loader__=loader))
    with pytest.raises(ValueError, match=rf"holds {SCALE}, which load does not trust"):
        load(path, trusted=[SCALE])


@pytest.mark.parametrize("value", [Scale, Scale().fit, sing], ids=["class", "method", "function"])
def test_a_named_class_opens_the_way_for_nothing_else(value, path):
    with pytest.raises(TypeError, match="save cannot keep"):
        save(Scale(inner=value), path, trusted=[SCALE])
    dump(hidden_in(Scale(), value), path)
    with pytest.raises(ValueError, match="which load does not trust"):
        load(path, trusted=[SCALE])


def test_a_named_class_that_comes_back_by_a_call_is_refused(path):
    with pytest.raises(TypeError, match=r"cannot keep \S+\.Called"):
        save(Called(), path, trusted=[f"{__name__}.Called"])


def test_trees_inside_a_named_class_are_checked(path):
    scale = Scale().fit(X)
    state = scale.forest_.estimators_[0].tree_.__getstate__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"]["feature"][0] = 64
    scale.forest_.estimators_[0].tree_.__setstate__(state)
    dump(scale, path)
    with pytest.raises(ValueError, match="indices lead outside"):
        load(path, trusted=[SCALE])


# Other formats


EARLIER = r"^{} was written by an earlier, unreleased skastro, or by skops alone: fit again and save .*\.$"


@pytest.mark.parametrize("estimator", [PCA(2), Scale(), PhotoZRegressor()], ids=str)
def test_a_file_without_a_format_is_refused_with_what_to_do(estimator, path):
    skops.io.dump(estimator, path)
    with pytest.raises(ValueError, match=EARLIER.format(path)):
        load(path)
    assert describe(path)["skastro"] is None


def test_a_class_that_has_moved_is_no_foreign_one(path):
    save(PhotoZRegressor(), path)
    rewrite(path, lambda schema: schema.update(__module__="skastro.photoz"))
    write(members_of(path) | {"skastro.json": json.dumps({"format": FORMAT - 1, "version": "0.0.9"})}, path)
    with pytest.raises(ValueError, match=EARLIER.format(path)):
        load(path)


def test_a_file_of_a_newer_format_says_so(path):
    save(PCA(2), path)
    write(members_of(path) | {"skastro.json": json.dumps({"format": FORMAT + 1, "version": "9.9"})}, path)
    with pytest.raises(ValueError, match=r"was written by a newer skastro \(9\.9\): upgrade to load it\.$"):
        load(path)
    assert describe(path)["skastro"] == "9.9"


@pytest.mark.parametrize("about", ["", "[]", "{}", '{"format": "2"}', '{"format": null}'])
def test_a_format_that_is_no_number_is_refused(about, path):
    save(PCA(2), path)
    write(members_of(path) | {"skastro.json": about}, path)
    with pytest.raises(ValueError, match=r"not a skastro file\.$"):
        load(path)


# Refusals of save


def module():
    from torch import nn

    return nn.Linear(1, 1)


def callback():
    from skorch.callbacks import EpochTimer

    return EpochTimer()


@pytest.mark.parametrize("make", [module, callback, lambda: sing, lambda: lambda x: x, lambda: np.log1p])
@pytest.mark.parametrize("parameter", ["encoder", "callbacks"])
@pytest.mark.parametrize("wrap", [lambda emb: emb, FrozenEstimator], ids=["bare", "frozen"])
def test_save_names_the_parameter_it_refuses(ours, make, parameter, wrap, path):
    value = make() if parameter == "encoder" else [make()]
    search = GridSearchCV(Pipeline([("emb", wrap(ours(**{parameter: value})))]), {})
    path.write_text("an earlier model")
    nested = "estimator__emb__" + ("estimator__" if wrap is FrozenEstimator else "") + parameter
    with pytest.raises(TypeError, match=rf"^save cannot keep {nested}, a [\w.]+: .*\.$"):
        save(search, path)
    assert path.read_text() == "an earlier model"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (FunctionTransformer(sing), "func, a builtins.function"),
        (FunctionTransformer(functools.partial(sing)), "func, a functools.partial"),
        (make_pipeline(PCA(), SVC()), "svc, a sklearn.svm._classes.SVC"),
        (SVC(), "sklearn.svm._classes.SVC"),
        ({"not": "an estimator"}, "builtins.dict"),
        (RandomizedSearchCV(Ridge(), {"alpha": loguniform(1, 2)}), "param_distributions, a scipy.stats"),
        (GridSearchCV(Ridge(), {"alpha": [1j]}), "param_grid, a builtins.complex"),  # skops would return 0j
        (LogisticRegression(class_weight={False: 1, True: 2}), "builtins.bool"),  # skops would lose a key
        (LogisticRegression(class_weight={None: 1}), "builtins.NoneType"),
        (PCA(random_state=np.random.default_rng()), "random_state, a numpy.random._generator.Generator"),
    ],
    ids=named,
)
def test_save_names_the_type_it_refuses(estimator, words, path):
    with pytest.raises(TypeError, match=rf"save cannot keep .*{words}"):
        save(estimator, path)
    assert not os.listdir(path.parent)


def test_save_refuses_what_was_learned(path):
    pca = PCA(2).fit(X)
    pca.learned_ = sing
    with pytest.raises(TypeError, match=r"cannot keep \S+\.sing: load would not trust it \(.*\)\.$"):
        save(pca, path)


def test_an_interrupted_save_keeps_the_earlier_file(path, monkeypatch):
    save(PCA(2), path)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(PCA(3), path)
    assert load(path).n_components == 2
    assert os.listdir(path.parent) == [path.name]


# Refusals of load


@pytest.fixture
def silent():
    """Nothing of the file ran."""
    Canary.marks.clear()
    yield
    assert Canary.marks == []


def hidden_in(estimator, value):
    estimator.hidden_ = value
    return estimator


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Canary(), r"\S+\.Canary"),
        (sing, r"\S+\.sing"),
        (Canary().transform, r"\S+\.Canary"),
        (functools.partial(sing, "x"), r"functools.partial"),
        (os.system, r"posix.system"),
        (eval, r"builtins.eval"),
        (Canary, r"\S+\.Canary"),
        (np.log1p, r"numpy\S*.log1p"),
        (np.dtype("float32"), r"numpy.dtype"),
        (b"bytes", r"builtins.bytes"),
        (np.random.default_rng(0), r"numpy.random._generator.Generator"),
        (loguniform(1, 2), r"scipy.stats\S+"),
    ],
    ids=named,
)
def test_load_names_what_it_does_not_trust(silent, value, words, path):
    dump(make_pipeline(PCA(), hidden_in(StandardScaler(), value)), path)
    Canary.marks.clear()
    with pytest.raises(ValueError, match=rf"^{path} holds .*{words}.* \(trusted= .*\); nothing in it was run\.$"):
        load(path)


def test_load_looks_into_dictionaries_lists_and_object_arrays(silent, path):
    for value in ({"a": [Canary()]}, ((Canary(),),), np.array([Canary(), 1], dtype=object)):
        dump(hidden_in(PCA(), value), path)
        Canary.marks.clear()
        with pytest.raises(ValueError, match="Canary"):
            load(path)


LOADERS = [name for name, _ in skops.io._audit.NODE_TYPE_MAPPING]


@pytest.mark.parametrize("loader", sorted({*LOADERS, "CachedNode", "NoSuchNode"}))
@pytest.mark.parametrize("name", ["posix.system", f"{__name__}.sing", "sklearn.svm._classes.SVC"])
def test_no_loader_builds_a_foreign_name(silent, loader, name, path):
    save(PCA(2).fit(X), path)
    module, _, member = name.rpartition(".")
    swap = {"__loader__": loader, "__module__": module, "__class__": member}
    rewrite(path, lambda schema: schema["content"]["content"]["n_components"].update(swap))
    with pytest.raises(ValueError, match=rf"holds {name}, which load does not trust"):
        load(path)


@pytest.mark.parametrize("loader", ["FunctionNode", "MethodNode", "ConstructorFromReduceNode", "TypeNode", [], {}])
def test_a_trusted_name_under_another_loader_is_refused(silent, loader, path):
    save(PCA(2), path)
    rewrite(path, lambda schema: schema.update(__loader__=loader))
    with pytest.raises(ValueError, match=r"sklearn\.decomposition\._pca\.PCA"):
        load(path)


@pytest.mark.parametrize("protocol", [0, 1, -1, True, "2", None])
def test_older_and_odd_protocols_are_refused(protocol, path):
    save(PCA(2), path)
    rewrite(path, lambda schema: schema.update(protocol=protocol))
    with pytest.raises(ValueError, match=r"not a skastro file\.$"):
        load(path)


def test_an_identity_that_aliases_another_node_does_not_hide_it(silent, path):
    dump({"a": 1, "b": sing}, path)

    def alias(schema):
        schema["content"]["a"]["__id__"] = schema["content"]["b"]["__id__"]

    rewrite(path, alias)
    with pytest.raises(ValueError, match="sing"):
        load(path)


@pytest.mark.parametrize("keep", [0, 1, 21, 0.1, 0.5, 0.9, -23, -22, -1])
def test_a_file_cut_short_is_one_sentence(keep, path):
    save(make_pipeline(PCA(2), Ridge()).fit(X, y), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    for read in (load, describe):
        with pytest.raises(ValueError, match=rf"^{path} is cut short or not a skastro file\.$"):
            read(path)


@pytest.mark.parametrize(
    "members",
    [{}, {"schema.json": "no json"}, {"schema.json": "[]"}, {"schema.json": "{}"}, {"schema.json": "[" * 100000}],
    ids=range(5),
)
def test_an_archive_without_a_tree_is_one_sentence(members, path):
    write(members, path)
    with pytest.raises(ValueError, match="cut short or not a skastro file"):
        load(path)


def test_a_flipped_byte_is_found(path):
    save(PCA(2).fit(X), path)
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 300] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cut short"):
        load(path)


def test_compressed_members_are_refused(path):
    skops.io.dump(PCA(2).fit(X), path, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="not a skastro file"):
        load(path)


def test_a_missing_file_says_so(path):
    with pytest.raises(FileNotFoundError):
        load(path)


@pytest.mark.parametrize(
    ("field", "value"), [("left_child", 10**9), ("right_child", 0), ("feature", 64), ("feature", -7)]
)
def test_a_tree_that_leads_outside_itself_is_refused(field, value, path):
    pipe = make_pipeline(StandardScaler(), RandomForestClassifier(2, random_state=0)).fit(X, y)
    state = pipe[1].estimators_[1].tree_.__getstate__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"][field][0] = value
    pipe[1].estimators_[1].tree_.__setstate__(state)
    dump(pipe, path)
    with pytest.raises(ValueError, match=r" is damaged: .*a decision tree whose indices lead outside it\)\.$"):
        load(path)


@pytest.mark.parametrize(("key", "value"), [("max_depth", 1), ("max_depth", 2**61), ("node_count", 1)])
def test_a_tree_with_false_counts_is_refused(key, value, path):
    save(DecisionTreeClassifier().fit(X, y), path)
    rewrite(path, lambda schema: node_of(schema, "Tree")["content"]["content"][key].update(content=str(value)))
    with pytest.raises(ValueError, match=r"indices lead outside|arrays of foreign shapes"):
        load(path)


@pytest.mark.parametrize("algorithm", ["ball_tree", "kd_tree"])
def test_neighbor_trees_are_built_anew_from_their_points(algorithm, path):
    neighbors = NearestNeighbors(algorithm=algorithm).fit(X[:, :9])
    expected = neighbors.kneighbors(return_distance=False)
    state = list(neighbors._tree.__getstate__())
    state[1] = np.full_like(state[1], 10**9)
    neighbors._tree.__setstate__(tuple(state))
    dump(neighbors, path)
    assert_array_equal(load(path).kneighbors(return_distance=False), expected)


# What a file claims, and what it holds


def claim(schema, key, value):
    """Put a plain value in place of every one of that name."""
    holders = [node["content"] for node in nodes(schema) if node["__loader__"] == "DictNode"]
    holders = [holder for holder in holders if holder.get(key, {}).get("__loader__") == "JsonNode"]
    assert holders
    for number, holder in enumerate(holders, start=1):
        holder[key].update(content=json.dumps(value), __id__=number)  # equal values may share theirs


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Files of tiny networks, by name."""
    rng = np.random.default_rng(0)
    spectra, images = rng.random((9, 40)) + 1, rng.random((9, 3, 16, 16), dtype=np.float32)
    bins = FineTuneRegressor(ImageEncoder("test_resnet"), head="redshift-bins", max_epochs=1, augment=None)
    fitted = {
        "spectra": FixedSpectrumEmbedder(SpectrumEncoder(depth=1, width=8, heads=2)).fit(spectra),
        "specformer": FixedSpectrumEmbedder(SpecFormer(depth=1, width=8, heads=2)).fit(spectra),
        "images": FixedImageEmbedder("test_resnet").fit(images),
        "vit": FixedImageEmbedder(ImageEncoder("test_vit", patch=8)).fit(images),
        "flow": FlowPosterior(1, n_transforms=1, hidden_dim=8, max_epochs=1).fit(rng.random((9, 2)), rng.random(9)),
        "bins": bins.fit(images, np.linspace(0.1, 0.3, 9)),
    }
    folder = tmp_path_factory.mktemp("networks")
    for name, model in fitted.items():
        save(model, folder / name)
    return folder


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("spectra", "depth", 10**9),
        ("spectra", "width", 2 * 10**9),
        ("spectra", "token", 10**9),
        ("spectra", "n_features_in_", 10**12),
        ("specformer", "depth", 10**9),
        ("specformer", "width", 2 * 10**9),
        ("specformer", "max_tokens", 10**12),
        ("images", "name", "vit_giant_patch14_dinov2"),
        ("vit", "patch", 1),
        ("flow", "n_transforms", 10**9),
        ("flow", "hidden_dim", 10**9),
        ("flow", "hidden_dim", 10**5),
        ("flow", "n_outputs_", 10**9),
        ("flow", "n_features_in_", 10**9),
        ("bins", "n_bins", 10**9),
    ],
)
def test_a_network_larger_than_its_weights_is_refused_before_it_is_built(name, key, value, networks, path):
    path.write_bytes((networks / name).read_bytes())
    rewrite(path, lambda schema: claim(schema, key, value))
    words = "size mismatch" if key == "patch" else "a network is larger than its weights in the file"
    with pytest.raises(ValueError, match=rf"is damaged: its parts do not fit together \(.*{words}.*\)\.$"):
        load(path)


def array_file(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda nodes: nodes[0],
        lambda nodes: nodes[np.newaxis],
        lambda nodes: nodes["left_child"],
        lambda nodes: nodes[:-1],
        lambda nodes: nodes[["left_child", "right_child"]],
    ],
    ids=["0-d", "2-d", "plain", "short", "fewer fields"],
)
@pytest.mark.parametrize("name", ["nodes", "values", "classes"])
def test_a_tree_of_foreign_arrays_is_refused(name, change, path):
    save(DecisionTreeClassifier().fit(X, y), path)
    members = members_of(path)
    tree = node_of(json.loads(members["schema.json"]), "Tree")
    state = tree["content"]["content"] | {"classes": tree["__reduce__"]["args"]["content"][1]}
    nodes = np.load(io.BytesIO(members[state["nodes"]["file"]]))
    write(members | {state[name]["file"]: array_file(change(nodes))}, path)
    with pytest.raises(ValueError, match=r"is damaged: .*\(a decision tree has arrays of foreign shapes\)\.$"):
        load(path)


@pytest.mark.parametrize("value", [-1, 10**9, 2**63, 0.5, True, None, "1"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_tree_of_false_sizes_is_refused(place, value, path):
    save(DecisionTreeClassifier().fit(X, y), path)
    rewrite(
        path,
        lambda schema: node_of(schema, "Tree")["__reduce__"]["args"]["content"][place].update(
            content=json.dumps(value)
        ),
    )
    with pytest.raises(ValueError, match=r"is damaged"):
        load(path)


@pytest.mark.parametrize("estimator", [RandomForestClassifier(2), IsolationForest(n_estimators=2)], ids=str)
def test_a_forest_of_trees_for_more_features_is_refused(estimator, path):
    trees = estimator.fit(X, y).estimators_
    trees[1] = type(trees[1])().fit(X[:, :9], y)
    dump(estimator, path)
    with pytest.raises(ValueError, match="whose trees take other features"):
        load(path)


NULL = {"__loader__": "JsonNode", "__module__": "builtins", "__class__": "str", "content": "null"}


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("algorithm", ["ball_tree", "kd_tree"])
def test_a_neighbor_tree_without_an_array_is_refused(algorithm, place, path):
    save(NearestNeighbors(algorithm=algorithm).fit(X[:, :9]), path)
    name = {"ball_tree": "BallTree", "kd_tree": "KDTree"}[algorithm]
    rewrite(path, lambda schema: node_of(schema, name)["content"]["content"].__setitem__(place, NULL))
    with pytest.raises(ValueError, match="in place of an array"):
        load(path)


def test_a_loss_with_a_state_is_refused(path):
    save(SGDClassifier().fit(X, y), path)

    def fill(schema):
        loss = next(node for node in nodes(schema) if node["__loader__"] == "LossNode")
        loss["content"] = {**listed(NULL), "__loader__": "TupleNode", "__class__": "tuple"}

    rewrite(path, fill)
    with pytest.raises(ValueError, match="a loss has a state"):
        load(path)


@pytest.mark.parametrize("change", [list.pop, list.clear, lambda state: state.append(NULL), list.reverse])
@pytest.mark.parametrize("name", ["EuclideanDistance64", "KDTree"])
def test_a_compiled_object_of_a_foreign_state_is_refused(name, change, path):
    save(NearestNeighbors(algorithm="kd_tree").fit(X[:, :9]), path)
    rewrite(path, lambda schema: [change(node_of(schema, name)["content"]["content"])] and schema)
    with pytest.raises(ValueError, match=r"has a foreign state|in place of an array|of another number of axes"):
        load(path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("_fit_X", lambda points: points[:, :5].copy()),
        ("_fit_X", lambda points: points[0]),
        ("_y", lambda labels: labels[:-1]),
        ("_y", lambda labels: labels + 1),
        ("_y", lambda labels: labels - 1),
    ],
)
def test_neighbors_of_foreign_targets_are_refused(name, change, path):
    neighbors = KNeighborsClassifier(algorithm="brute").fit(X, y)
    setattr(neighbors, name, change(getattr(neighbors, name)))
    dump(neighbors, path)
    with pytest.raises(ValueError, match="neighbors whose targets are others"):
        load(path)


def test_a_forest_of_some_features_comes_back(path):
    forest = IsolationForest(n_estimators=3, max_features=0.3, random_state=0).fit(X)
    assert_array_equal(again(forest, path).score_samples(X), forest.score_samples(X))


def test_a_random_state_outside_its_words_is_refused(path):
    save(PCA(2, random_state=np.random.RandomState(0)), path)
    rewrite(path, lambda schema: claim(schema, "pos", 10**6))
    with pytest.raises(ValueError, match="a random state whose position is outside"):
        load(path)


@pytest.mark.parametrize(
    "header", [{"shape": (10**12,)}, {"shape": (-1, -1)}, {"descr": "<U0"}, {"descr": "|O"}], ids=str
)
def test_an_array_that_does_not_fill_its_member_is_refused(header, path):
    save(PCA(2).fit(X), path)
    members = members_of(path)
    name = next(name for name in members if name.endswith(".npy"))
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": (1,), "fortran_order": False, "descr": "<f8"} | header)
    write(members | {name: file.getvalue() + bytes(8)}, path)
    for read in (load, describe):
        with pytest.raises(ValueError, match=rf"^{path} is cut short or not a skastro file\.$"):
            read(path)


def listed(*content, **identity):
    kind = {"__loader__": "ListNode", "__module__": "builtins", "__class__": "list"}
    return {**kind, "content": list(content), **identity}


def test_lists_that_name_each_other_again_and_again_are_refused(path):
    save(PCA(2), path)
    part = listed(__id__=1)
    for level in range(2, 40):
        part = listed(part, {"__id__": part["__id__"]}, __id__=level)
    rewrite(path, lambda schema: schema["content"]["content"].update(n_components=part))
    with pytest.raises(ValueError, match="two parts have one identity"):
        load(path)


def test_a_node_inside_itself_is_refused(path):
    save(PCA(2), path)
    rewrite(path, lambda schema: schema["content"]["content"].update(n_components=listed(listed(__id__=1), __id__=1)))
    with pytest.raises(ValueError, match="two parts have one identity"):
        load(path)


def test_one_array_is_not_read_again_and_again(path):
    save(PCA(2).fit(X), path)

    def repeat(schema):
        array = node_of(schema, "ndarray")
        schema["content"]["content"]["n_components"] = listed(*(array | {"__id__": number} for number in range(1, 9)))

    rewrite(path, repeat)
    with pytest.raises(ValueError, match="an array is not in the member of its name"):
        load(path)


def test_what_is_shared_is_saved_twice_and_comes_back(path):
    embedder = FixedSpectrumEmbedder(SpectrumEncoder(depth=1, width=8, heads=2)).fit(X[:, :20] + 1)
    pipe = make_pipeline(FrozenEstimator(embedder), RidgeClassifier())
    search = GridSearchCV(pipe, {"ridgeclassifier__alpha": [1, 2]}, cv=2).fit(X[:, :20] + 1, y)
    assert_array_equal(again(search, path).predict(X[:, :20] + 1), search.predict(X[:, :20] + 1))


@pytest.mark.parametrize("depth", [100, 400, 5000])
def test_nodes_nested_deeply_are_read_or_refused(depth, path):
    save(PCA(2), path)
    rewrite(path, lambda schema: schema["content"]["content"].update(n_components="here"))
    before, after = json.dumps(listed("here")).split('"here"')
    content = members_of(path)
    nested = content["schema.json"].decode().replace('"here"', before * depth + json.dumps(listed()) + after * depth)
    write(content | {"schema.json": nested}, path)
    try:
        assert isinstance(load(path), PCA)
    except ValueError as error:
        assert re.search(r"is damaged|is cut short", str(error))  # noqa: PT017 either is right


def test_an_error_of_any_kind_is_one_sentence(path):
    save(make_pipeline(PCA(2), Scale()), path, trusted=[SCALE])
    for error in (MemoryError(), RecursionError("deep\nand deeper"), ZeroDivisionError("\x1b" * 999), KeyError("x")):

        def fail(self, state, error=error):
            raise error

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Scale, "__setstate__", fail)
            with pytest.raises(ValueError, match=r"is damaged: its parts do not fit together \([ -~]{,310}\)\.$"):
                load(path, trusted=[SCALE])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("content", None),
        ("content", "{"),
        ("content", "[" * 10**5),
        ("__loader__", "DictNode"),
        ("__loader__", "ListNode"),
    ],
    ids=str,
)
def test_describe_refuses_in_one_sentence(ours, key, value, path):
    save(ours().fit(X), path)
    rewrite(path, lambda schema: schema["content"]["content"]["provenance_"]["content"]["n"].update({key: value}))
    with pytest.raises(ValueError, match=rf"^{path} is damaged: its parts do not fit together \(.*\)\.$"):
        describe(path)
