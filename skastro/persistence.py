"""Files that hold a fitted pipeline, and that run nothing when they are read.

A file is what skops writes: the arrays, and ``schema.json``, a tree of nodes that each name a class and the
loader that rebuilds it. `load` works in four breaths: it reads that tree and the headers of the arrays, audits every
node against a closed list of (loader, class) pairs, compares what the nodes claim with what the file holds, and only
then lets skops construct, networks within the bounds that their weights set. The list holds this library's estimators
and those of scikit-learn that its pipelines use, each by its exact name. What it leaves out matters as much:

- callables: no function, method, partial or constructor call. The one exception is metrics, scikit-learn's and ours,
  which turn arrays into a number: a fitted search holds one when ``scoring`` is a scorer's name;
- SciPy's distributions: building one executes a string that its state holds;
- sparse matrices and boosted trees, whose indices compiled code follows without looking. Forests and
  neighbor trees have such indices too, and are let in because theirs are checked here.

A user's own estimator classes join the list for one call, by full name in ``trusted=``: as objects and nothing else.

A file also has ``skastro.json``: the number of its format, and our version. One without it, or of another format, is
refused before its nodes are audited: its classes may have moved since.

All other numbers are taken as they are: a file made in malice can still predict nonsense, or fail when it predicts.
"""

import io
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import Any, BinaryIO
from zipfile import ZipFile

from sklearn.base import BaseEstimator
from sklearn.utils._metadata_requests import MetadataRequest, MethodMetadataRequest

from skastro import __version__, _registry
from skastro._contents import ABOUT, Headers, check_built, check_nodes, items, nodes, read
from skastro.hub import local_path
from skastro.unfinished import check_folder, replacing

__all__ = ["describe", "load", "save"]


def _names(modules: dict[str, str]) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for module, names in modules.items() for name in names.split())


OURS = _names(_registry.EXPORTED) | _names(_registry.FURTHER)
SKLEARN = _names(
    {
        "sklearn.calibration": "CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
        "sklearn.compose._column_transformer": "ColumnTransformer",
        "sklearn.decomposition._pca": "PCA",
        "sklearn.dummy": "DummyClassifier DummyRegressor",
        "sklearn.ensemble._forest": "ExtraTreesClassifier ExtraTreesRegressor "
        "RandomForestClassifier RandomForestRegressor",
        "sklearn.ensemble._iforest": "IsolationForest",
        "sklearn.frozen._frozen": "FrozenEstimator",
        "sklearn.isotonic": "IsotonicRegression",
        "sklearn.linear_model._base": "LinearRegression",
        "sklearn.linear_model._logistic": "LogisticRegression LogisticRegressionCV",
        "sklearn.linear_model._ridge": "Ridge RidgeCV RidgeClassifier RidgeClassifierCV",
        "sklearn.linear_model._stochastic_gradient": "SGDClassifier SGDRegressor",
        "sklearn.metrics._dist_metrics": "ChebyshevDistance64 EuclideanDistance64 HaversineDistance64 "
        "ManhattanDistance64 MinkowskiDistance64",
        "sklearn.metrics._scorer": "_PassthroughScorer _Scorer",
        "sklearn.model_selection._search": "GridSearchCV RandomizedSearchCV",
        "sklearn.model_selection._split": "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut "
        "PredefinedSplit ShuffleSplit StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit",
        "sklearn.neighbors._ball_tree": "BallTree",
        "sklearn.neighbors._classification": "KNeighborsClassifier",
        "sklearn.neighbors._kd_tree": "KDTree",
        "sklearn.neighbors._regression": "KNeighborsRegressor",
        "sklearn.neighbors._unsupervised": "NearestNeighbors",
        "sklearn.neural_network._multilayer_perceptron": "MLPClassifier MLPRegressor",
        "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
        "sklearn.pipeline": "FeatureUnion Pipeline",
        "sklearn.preprocessing._data": "MaxAbsScaler MinMaxScaler Normalizer PowerTransformer "
        "QuantileTransformer RobustScaler StandardScaler",
        "sklearn.preprocessing._function_transformer": "FunctionTransformer",  # of a "passthrough" column
        "sklearn.preprocessing._label": "LabelBinarizer LabelEncoder",
        "sklearn.tree._classes": "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor",
        "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
    }
)
METRICS = _names(_registry.METRICS) | _names(
    {
        "sklearn.metrics._classification": "accuracy_score balanced_accuracy_score brier_score_loss f1_score "
        "jaccard_score log_loss matthews_corrcoef precision_score recall_score",
        "sklearn.metrics._ranking": "average_precision_score roc_auc_score top_k_accuracy_score",
        "sklearn.metrics._regression": "explained_variance_score max_error mean_absolute_error "
        "mean_absolute_percentage_error mean_squared_error mean_squared_log_error median_absolute_error "
        "r2_score root_mean_squared_error root_mean_squared_log_error",
    }
)
SGD_LOSSES = _names(
    {
        "_loss": "CyHalfBinomialLoss CyHalfSquaredError CyHuberLoss",  # scikit-learn 1.6's name for the next
        "sklearn._loss._loss": "CyHalfBinomialLoss CyHalfSquaredError CyHuberLoss",
        "sklearn.linear_model._sgd_fast": "EpsilonInsensitive Hinge ModifiedHuber SquaredEpsilonInsensitive "
        "SquaredHinge",
    }
)
NUMBERS = _names({"numpy": "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64"})

# What load lets a node be: for each loader of skops, the classes it may build. Another loader is refused.
TRUSTED = {
    "DictNode": _names({"builtins": "dict"}),
    "FunctionNode": METRICS,
    "JsonNode": _names({"builtins": "str"}),  # the name under which skops files every plain value
    "ListNode": _names({"builtins": "list"}),
    "LossNode": SGD_LOSSES,
    "MaskedArrayNode": _names({"numpy.ma": "MaskedArray", "numpy.ma.core": "MaskedArray"}),
    "NdArrayNode": NUMBERS | _names({"numpy": "bool bool_ ndarray str_"}),
    "ObjectNode": OURS | SKLEARN,
    "RandomStateNode": _names({"numpy.random.mtrand": "RandomState"}),
    "SliceNode": _names({"builtins": "slice"}),
    "TreeNode": _names({"sklearn.tree._tree": "Tree"}),
    "TupleNode": _names({"builtins": "tuple"}),
    # The types of a dictionary's keys. Not bool: skops reads the key False back as True.
    "TypeNode": NUMBERS | _names({"builtins": "float int str", "numpy": "str_"}),
}
ADMIT = "trusted= admits by its full name an estimator class whose code you trust"


def save(estimator: BaseEstimator, path: str | os.PathLike[str], *, trusted: Collection[str] = ()) -> None:
    """Write an estimator or a pipeline to a file that `load` can read.

    Nothing is written before the file has been read back in memory, and a file already there is replaced in
    one step: neither a refusal nor an interruption costs an earlier model. Callbacks of `set_callbacks` are left out.

    Parameters
    ----------
    estimator : estimator
        Fitted or not, made of this library's and scikit-learn's estimators.
    path : str or path-like
        File to write.
    trusted : collection of str, default=()
        Full names of other estimator classes that it may hold, such as your own; `load` wants them again.

    Raises
    ------
    TypeError
        If a constructor parameter, at any depth, or anything learned is of a type that `load` does not trust:
        a torch module, a callback, a function, an estimator class that `trusted` does not name. Pickle keeps those.
    ValueError
        If `trusted` names what is no estimator class.

    See Also
    --------
    load : Read the file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import Pipeline
    >>> from skastro.persistence import load, save
    >>> X, y = load_digits(return_X_y=True)
    >>> pipe = Pipeline([("emb", PCA(16)), ("clf", LogisticRegression(max_iter=1000))]).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(pipe, Path(folder) / "digits.skastro")
    ...     again = load(Path(folder) / "digits.skastro")
    >>> bool((again.predict(X) == pipe.predict(X)).all())
    True
    """
    import skops.io  # here, because it imports all of scikit-learn, which takes seconds

    allowed, path = _allowed(trusted), Path(path).resolve()
    check_folder(path)
    _refuse_parameters(estimator, allowed)
    file = io.BytesIO()
    with _owners_by_name(estimator), without_callbacks(estimator):
        skops.io.dump(estimator, file)
    with ZipFile(file, "a") as archive:
        archive.writestr(ABOUT, json.dumps({"format": _registry.FORMAT, "version": __version__}))
    schema, _, headers = read(file)
    if foreign := _foreign(schema, allowed):
        raise TypeError(f"save cannot keep {foreign}: load would not trust it ({ADMIT}; pickle keeps anything).")
    _construct(file, schema, headers, allowed)
    with replacing(path) as partial:
        partial.write_bytes(file.getbuffer())


def load(path: str | os.PathLike[str], *, trusted: Collection[str] = ()) -> Any:
    """Read an estimator from a file, running no code that the file could bring.

    Parameters
    ----------
    path : str or path-like
        File written by `save`, or ``"hf-hub:owner/name"`` or ``"hf-hub:owner/name@revision"`` for the model of a
        Hugging Face repository, as `skastro.push_to_hub` writes it. That is downloaded once, see `skastro.hub.fetch`.
    trusted : collection of str, default=()
        Full names of other estimator classes that the file may hold, such as your own ``"mypackage.module.MyStep"``.
        Such a class is trusted fully: its module is imported, and its code runs on whatever state the file holds.
        Name a class because you know it, never because a file asks for it. Functions, and classes that are no
        estimators, are not admitted.

    Returns
    -------
    estimator
        As it was saved.

    Raises
    ------
    ConnectionError
        If the hub cannot be reached and the local cache does not have the file.
    FileNotFoundError
        If there is no such file, repository or revision.
    PermissionError
        If the repository is not open to you.
    TypeError
        If `trusted` is one string, or holds anything but strings.
    ValueError
        If the file is cut short, is not one of ours or of another format, holds a type outside the closed list (it
        is named, and nothing was run), or is damaged: its parts do not fit together; if `trusted` names what is no
        estimator class.

    See Also
    --------
    save : Write the file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.linear_model import Ridge
    >>> from skastro.persistence import load, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Ridge(alpha=3.0), Path(folder) / "ridge.skastro")
    ...     load(Path(folder) / "ridge.skastro")
    Ridge(alpha=3.0)
    """
    allowed = _allowed(trusted)
    with _open(path) as file:
        schema, about, headers = _read(file, path)
        _refuse_format(about, path)
        with _one_sentence(path):
            foreign = _foreign(schema, allowed)
        if foreign:
            raise ValueError(
                f"{path} holds {_short(foreign)}, which load does not trust ({ADMIT}); nothing in it was run."
            )
        with _one_sentence(path):
            return _construct(file, schema, headers, allowed)


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe what a file holds without building it, also of a file that `load` refuses.

    Parameters
    ----------
    path : str or path-like
        File written by `save`, or the name of a Hugging Face repository, as `load` takes it.

    Returns
    -------
    dict
        ``"classes"``: full names of the estimators, their inner types and functions, trusted or not;
        ``"provenance"``: for each embedder what it was trained on; ``"skastro"`` and ``"skops"``: the versions that
        wrote the file, None where it does not say.

    Raises
    ------
    ConnectionError
        If the hub cannot be reached and the local cache does not have the file.
    FileNotFoundError
        If there is no such file, repository or revision.
    PermissionError
        If the repository is not open to you.
    ValueError
        If the file is cut short, is not one of ours, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.linear_model import Ridge
    >>> from skastro.persistence import describe, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Ridge(), Path(folder) / "ridge.skastro")
    ...     describe(Path(folder) / "ridge.skastro")["classes"]
    ['sklearn.linear_model._ridge.Ridge']
    """
    with _open(path) as file:
        schema, about, _ = _read(file, path)
    plain = {"DictNode", "JsonNode", "ListNode", "NdArrayNode", "TupleNode", "TypeNode"}
    with _one_sentence(path):
        states = [node["content"] for node in nodes(schema) if node["__loader__"] == "DictNode"]
        return {
            "classes": sorted({_node_name(node) for node in nodes(schema) if node["__loader__"] not in plain}),
            "provenance": [_plain(state["provenance_"]) for state in states if "provenance_" in state],
            "skastro": about.get("version"),
            "skops": schema.get("_skops_version"),
        }


def parts(estimator: Any) -> Iterator[Any]:
    """List everything inside an estimator.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.

    Yields
    ------
    object
        Each part once, itself first. Estimators and what `load` trusts are looked into, and containers; no other
        object is.
    """
    waiting, seen = [estimator], {}
    while waiting:
        part = waiting.pop()
        if id(part) not in seen:
            seen[id(part)] = part
            yield part
            inside = items(part)
            if isinstance(part, BaseEstimator) or _name(type(part)) in TRUSTED["ObjectNode"]:
                inside += getattr(part, "__dict__", {}).values()
            waiting.extend(reversed(inside))


@contextmanager
def without_callbacks(estimator: Any) -> Iterator[None]:
    """Take scikit-learn's callbacks off an estimator and what is inside it for the duration of a block.

    They are nothing learned: neither part of a file nor of what tells a model from another.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.
    """
    held = []
    for part in parts(estimator):
        state = getattr(part, "__dict__", {})
        held += [(state, key, state.pop(key)) for key in _registry.CALLBACKS & state.keys()]
    try:
        yield
    finally:
        for state, key, value in held:
            state[key] = value


def foreign_classes(estimator: Any) -> list[str]:
    """Name the estimator classes inside an estimator that `load` admits by ``trusted=`` alone.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.

    Returns
    -------
    list of str
        Their full names.
    """
    names = {_name(type(part)) for part in parts(estimator) if isinstance(part, BaseEstimator)}
    return sorted(names - TRUSTED["ObjectNode"])


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def _allowed(trusted: Collection[str]) -> dict[str, frozenset[str]]:
    """Admit objects of a user's own classes too, each an estimator under its full name."""
    if isinstance(trusted, str):
        raise TypeError(f"trusted= takes a list of full names; for one, give [{trusted!r}].")
    names = list(trusted)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"trusted= takes full names such as 'mypackage.module.MyStep', not {name!r}.")
        module, _, member = name.rpartition(".")
        try:
            kind = getattr(import_module(module), member)
        except (AttributeError, ImportError, TypeError, ValueError) as error:
            raise ValueError(f"trusted= names {name}, which cannot be imported: {error}.") from error
        if not isinstance(kind, type) or not issubclass(kind, BaseEstimator) or _name(kind) != name:
            raise ValueError(f"trusted= names {name}, which is not the full name of an estimator class.")
    return TRUSTED | {"ObjectNode": TRUSTED["ObjectNode"].union(names)}


def _refuse_parameters(estimator: Any, allowed: Mapping[str, frozenset[str]]) -> None:
    """Refuse by name a parameter that `load` would not trust; what was learned is audited once written."""
    if _name(type(estimator)) not in allowed["ObjectNode"]:
        raise TypeError(f"save cannot keep a {_name(type(estimator))}: load would not trust it ({ADMIT}).")
    known = frozenset({"builtins.NoneType", "builtins.bool"}).union(*allowed.values())
    for name, value in _parameters(estimator):
        kind = _name(value if isinstance(value, type) else type(value))
        if isinstance(value, os.PathLike):
            raise TypeError(f"save cannot keep {name}, a {kind}: give a path as a str.")
        if kind not in known:
            way = f"{ADMIT}; pickle" if isinstance(value, BaseEstimator) else "pickle"
            raise TypeError(f"save cannot keep {name}, a {kind}: load would not trust it ({way} keeps anything).")


def _parameters(estimator: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every parameter by its nested name, as in ``set_params``, those of frozen estimators too."""
    waiting = [(prefix + name, value) for name, value in estimator.get_params(deep=False).items()]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, tuple) and value and isinstance(value[0], str):  # a step goes by its own name
            name = prefix + value[0]
        yield name, value
        waiting.extend((name, item) for item in items(value))
        if hasattr(value, "get_params") and not isinstance(value, type):
            yield from _parameters(value, f"{name}__")


@contextmanager
def _owners_by_name(estimator: Any) -> Iterator[None]:
    """While writing, metadata requests name the estimator they belong to: held, it would close a circle."""
    kinds = MetadataRequest | MethodMetadataRequest
    owned = [(part, part.owner) for part in parts(estimator) if isinstance(part, kinds)]
    try:
        for request, owner in owned:
            request.owner = owner if isinstance(owner, str) else type(owner).__name__
        yield
    finally:
        for request, owner in owned:
            request.owner = owner


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a local file, or the model of a Hugging Face repository."""
    if os.path.isdir(file := local_path(path)):
        raise IsADirectoryError(f"{path} is a folder, and no file that skastro.save wrote.")
    return open(file, "rb")


def _read(file: BinaryIO, path: Any) -> tuple[dict[str, Any], dict[str, Any], Headers]:
    """Read all of a file but its arrays."""
    try:
        return read(file)
    except Exception as error:  # what is no file of ours may fail in any way
        raise ValueError(f"{path} is cut short or not a skastro file.") from error


@contextmanager
def _one_sentence(path: Any) -> Iterator[None]:
    """Say of whatever fails that the file is damaged, but for a package that is not installed."""
    try:
        yield
    except Exception as error:
        if type(error) is ImportError:
            raise
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise ValueError(f"{path} is damaged: its parts do not fit together ({_short(reason)}).") from error


def _short(text: str) -> str:
    """Make one short line of what a file may have made long, or unreadable."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text[:10_000])
    return shorten(printable.strip(". "), 300, placeholder=" ...")


def _refuse_format(about: Mapping[str, Any], path: Any) -> None:
    """Refuse a file of another format: its classes may have moved, and its states may be others."""
    if about["format"] < _registry.FORMAT:
        raise ValueError(
            f"{path} was written by an earlier, unreleased skastro, or by skops alone: fit again and save with this "
            "version, or load it with what wrote it."
        )
    if about["format"] > _registry.FORMAT:
        raise ValueError(
            f"{path} was written by a newer skastro ({_short(str(about.get('version')))}): upgrade to load it."
        )


def _node_name(node: dict[str, Any]) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}"


def _foreign(schema: dict[str, Any], allowed: Mapping[str, frozenset[str]]) -> str:
    """Name the classes that are not to be built."""
    named = ((str(node["__loader__"]), _node_name(node)) for node in nodes(schema))
    return ", ".join(sorted({name for loader, name in named if name not in allowed.get(loader, ())}))


def _plain(node: dict[str, Any]) -> Any:
    """A node's plain values; of anything else, the class."""
    match node["__loader__"]:
        case "JsonNode":
            return json.loads(node["content"])
        case "DictNode":
            return {key: _plain(value) for key, value in node["content"].items()}
        case "ListNode" | "TupleNode":
            return [_plain(value) for value in node["content"]]
    return _node_name(node)


def _construct(file: BinaryIO, schema: dict[str, Any], headers: Headers, allowed: Mapping[str, frozenset[str]]) -> Any:
    """Build what an audited file holds, if it holds what it claims."""
    import skops.io

    check_nodes(schema, headers)
    estimator = skops.io.load(file, trusted=sorted(frozenset().union(*allowed.values())))
    check_built(parts(estimator))
    return estimator
