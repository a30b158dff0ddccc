"""Files that hold a fitted pipeline, and that run nothing when they are read.

A file is what skops writes: the arrays, and ``schema.json``, a tree of nodes that each name a class and the
loader that rebuilds it. `load` works in three breaths: it reads that tree, audits every node against a closed
list of (loader, class) pairs, and only then lets skops construct. The list holds this library's estimators
and those of scikit-learn that its pipelines use, each by its exact name. What it leaves out matters as much:

- callables: no function, method, partial or constructor call. The one exception is metrics, scikit-learn's and ours,
  which turn arrays into a number: a fitted search holds one when ``scoring`` is a scorer's name;
- SciPy's distributions: building one executes a string that its state holds;
- sparse matrices and boosted trees, whose indices compiled code follows without looking. Forests and
  neighbor trees have such indices too, and are let in because theirs are checked here.

All other numbers are taken as they are: a file made in malice can still predict nonsense, crash the process or
fill the memory.
"""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.neighbors import BallTree, KDTree
from sklearn.tree._tree import Tree
from sklearn.utils._metadata_requests import MetadataRequest, MethodMetadataRequest

__all__ = ["describe", "load", "save"]


def _names(modules: dict[str, str]) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for module, names in modules.items() for name in names.split())


OURS = _names(
    {
        "skastro.augment.base": "Augment",
        "skastro.augment.detector": "Background BandDropout GaussianNoise HotPixels SatelliteTrail",
        "skastro.augment.distributions": "HalfNormal LogNormal Uniform",
        "skastro.augment.geometry": "Crop Dihedral Flip Rotate Shift Zoom",
        "skastro.augment.multiview": "MultiView",
        "skastro.augment.sky": "ColorJitter GaussianBlur Grayscale PSFBlur Redden",
        "skastro.augment.spectra": "ContiguousMask ContinuumTilt InverseVarianceNoise Redshift",
        "skastro.downstream.answers": "Answers",
        "skastro.downstream.dirichlet": "DirichletClassifier",
        "skastro.downstream.finetune": "FineTuneClassifier FineTuneRegressor",
        "skastro.downstream.heads": "DirichletHead LinearHead RedshiftHead SoftmaxHead",
        "skastro.downstream.photoz": "PhotoZRegressor RedshiftBins",
        "skastro.downstream.posterior": "FlowPosterior",
        "skastro.encoders.images": "ImageEncoder",
        "skastro.encoders.spectra": "SpectrumEncoder",
        "skastro.metrics.scorers": "CRPSScorer VoteScorer",
        "skastro.pretrain.byol": "BYOLEmbedder",
        "skastro.pretrain.clip": "AstroCLIPEmbedder",
        "skastro.pretrain.masked": "MaskedSpectrumEmbedder",
        "skastro.pretrain.dino": "DINOEmbedder",
        "skastro.pretrain.hybrid": "HybridBYOLEmbedder",
        "skastro.pretrain.moco": "MoCoEmbedder",
        "skastro.pretrain.pooled": "PooledEmbedder",
        "skastro.pretrain.simclr": "SimCLREmbedder",
        "skastro.pretrain.votes": "VoteEmbedder",
        "skastro.preprocessing": "Deredden",
        "skastro.surveys": "Survey",
        "skastro.training.config": "Training",
        "skastro.votes.schema": "VoteSchema",
    }
)
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
METRICS = _names(
    {
        "skastro.metrics.photoz": "photoz_outliers sigma_mad",
        "skastro.metrics.scorers": "absolute_bias",
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
OLDEST_PROTOCOL = 2  # of skops: older ones select older, laxer nodes, and no file of ours has them


def save(estimator: BaseEstimator, path: str | os.PathLike[str]) -> None:
    """Write an estimator or a pipeline to a file that `load` can read.

    Nothing is written before the file has been read back in memory, and a file already there is replaced in
    one step: neither a refusal nor an interruption costs an earlier model.

    Parameters
    ----------
    estimator : estimator
        Fitted or not, made of this library's and scikit-learn's estimators.
    path : str or path-like
        File to write.

    Raises
    ------
    TypeError
        If a constructor parameter, at any depth, or anything learned is of a type that `load` does not trust:
        a torch module, a callback, a function, another library's estimator. Pickle keeps those.

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

    _refuse_parameters(estimator)
    file = io.BytesIO()
    with _owners_by_name(estimator):
        skops.io.dump(estimator, file)
    if foreign := _foreign(_read_schema(file, path)):
        raise TypeError(f"save cannot keep {foreign}: load would not trust it (pickle keeps anything).")
    _construct(file, path)
    path = Path(path).resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(file.getbuffer())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Any:
    """Read an estimator from a file, running no code that the file could bring.

    Parameters
    ----------
    path : str or path-like
        File written by `save`.

    Returns
    -------
    estimator
        As it was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is cut short, is not one of ours, holds a type outside the closed list (it is named, and
        nothing was run), or holds a tree whose indices lead outside it.

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
    with open(path, "rb") as file:
        if foreign := _foreign(_read_schema(file, path)):
            raise ValueError(f"{path} holds {foreign}, which load does not trust; nothing in it was run.")
        try:
            return _construct(file, path)
        except (AttributeError, LookupError, RuntimeError, TypeError) as error:
            raise ValueError(f"{path} is damaged: its parts do not fit together ({error}).") from error


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Tell what a file holds without building it, also of a file that `load` refuses.

    Parameters
    ----------
    path : str or path-like
        File written by `save`.

    Returns
    -------
    dict
        ``"classes"``: full names of the estimators, their inner types and functions; ``"provenance"``: for each
        embedder what it was trained on; ``"skops"``: the version that wrote the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is cut short or is not one of ours.

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
    with open(path, "rb") as file:
        nodes = list(_nodes(schema := _read_schema(file, path)))
    plain = {"DictNode", "JsonNode", "ListNode", "NdArrayNode", "TupleNode", "TypeNode"}
    states = [node["content"] for node in nodes if node["__loader__"] == "DictNode"]
    return {
        "classes": sorted({_node_name(node) for node in nodes if node["__loader__"] not in plain}),
        "provenance": [_plain(state["provenance_"]) for state in states if "provenance_" in state],
        "skops": schema.get("_skops_version"),
    }


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def _trusted() -> frozenset[str]:
    return frozenset().union(*TRUSTED.values())


def _items(value: Any) -> list[Any]:
    """What a container holds; nothing for what is none."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return list(np.asarray(value).flat)
    return []


def _refuse_parameters(estimator: Any) -> None:
    """Refuse by name a parameter that `load` would not trust; what was learned is audited once written."""
    if _name(type(estimator)) not in TRUSTED["ObjectNode"]:
        raise TypeError(f"save cannot keep a {_name(type(estimator))}: load would not trust it.")
    known = _trusted() | {"builtins.NoneType", "builtins.bool"}
    for name, value in _parameters(estimator):
        kind = _name(value if isinstance(value, type) else type(value))
        if kind not in known:
            raise TypeError(f"save cannot keep {name}, a {kind}: load would not trust it (pickle keeps anything).")


def _parameters(estimator: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every parameter by its nested name, as in ``set_params``, those of frozen estimators too."""
    waiting = [(prefix + name, value) for name, value in estimator.get_params(deep=False).items()]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, tuple) and value and isinstance(value[0], str):  # a step goes by its own name
            name = prefix + value[0]
        yield name, value
        waiting.extend((name, item) for item in _items(value))
        if hasattr(value, "get_params") and not isinstance(value, type):
            yield from _parameters(value, f"{name}__")


def _parts(estimator: Any) -> Iterator[Any]:
    """Everything inside an estimator, once each; of other objects, the inside is not looked at."""
    waiting, seen = [estimator], {}
    while waiting:
        part = waiting.pop()
        if id(part) not in seen:
            seen[id(part)] = part
            yield part
            waiting.extend(_items(part))
            if _name(type(part)) in TRUSTED["ObjectNode"]:
                waiting.extend(getattr(part, "__dict__", {}).values())


@contextmanager
def _owners_by_name(estimator: Any) -> Iterator[None]:
    """While writing, metadata requests name the estimator they belong to: held, it would close a circle."""
    kinds = MetadataRequest | MethodMetadataRequest
    owned = [(part, part.owner) for part in _parts(estimator) if isinstance(part, kinds)]
    try:
        for request, owner in owned:
            request.owner = owner if isinstance(owner, str) else type(owner).__name__
        yield
    finally:
        for request, owner in owned:
            request.owner = owner


def _read_schema(file: BinaryIO, path: Any) -> dict[str, Any]:
    """Read the tree of nodes, after every member of the file has passed its checksum."""
    try:
        with ZipFile(file) as archive:
            if any(member.compress_type != ZIP_STORED for member in archive.infolist()):
                raise BadZipFile("Compressed members can unpack to any size, and save writes none.")
            if archive.testzip() is not None:
                raise BadZipFile("A checksum is wrong.")
            schema = json.loads(archive.read("schema.json"))
        if schema["protocol"] < OLDEST_PROTOCOL:
            raise ValueError("The protocol is too old.")
    except (BadZipFile, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is cut short or not a skastro file.") from error
    return schema


def _nodes(part: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary that skops could take for a node, wherever it hides."""
    waiting = [part]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and "__loader__" in part:
            yield part
        waiting.extend(_items(part))


def _node_name(node: dict[str, Any]) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}"


def _foreign(schema: dict[str, Any]) -> str:
    """Name the classes that are not to be built."""
    nodes = ((str(node["__loader__"]), _node_name(node)) for node in _nodes(schema))
    return ", ".join(sorted({name for loader, name in nodes if name not in TRUSTED.get(loader, ())}))


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


def _construct(file: BinaryIO, path: Any) -> Any:
    """Build what an audited file holds, with sound indices."""
    import skops.io

    estimator = skops.io.load(file, trusted=sorted(_trusted()))
    for part in _parts(estimator):
        if isinstance(part, Tree) and not _is_sound(part):
            raise ValueError(f"{path} holds a decision tree whose indices lead outside it.")
        if isinstance(part, BallTree | KDTree):  # the same points make the same tree
            data, _, _, _, leaf_size, *_, metric, _ = part.__getstate__()
            part.__setstate__(type(part)(data, leaf_size=leaf_size, metric=metric).__getstate__())
    return estimator


def _is_sound(tree: Tree) -> bool:
    """Check the indices that compiled code follows without looking: children come later, features exist."""
    if not 1 <= tree.node_count == tree.capacity:
        return False
    children = np.stack([tree.children_left, tree.children_right])
    leaf = (children == -1).all(axis=0)
    later = ((children > np.arange(tree.node_count)) & (children < tree.node_count)).all(axis=0)
    known = (tree.feature >= 0) & (tree.feature < tree.n_features)
    if not (leaf | later & known).all():
        return False
    depth, level = -1, np.zeros(1, dtype=np.intp)
    while level.size:
        depth, level = depth + 1, np.unique(children[:, level[~leaf[level]]])
    return depth == tree.max_depth
