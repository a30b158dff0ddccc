"""Transfer: train on one data set, test on another."""

from collections.abc import Callable, Mapping
from itertools import product, takewhile
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import check_scoring
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples
from tqdm.auto import tqdm

from skastro.metrics import get_scorer
from skastro.model_selection.experiments import check_named, has_classes, make_splits, read_experiment, reusable

__all__ = ["transfer_matrix"]

COLUMNS = ("method", "train", "test", "fold", "n_train", "score", "shift")
ENOUGH = 1000  # rows of each data set by which a shift is measured
FOLDS = 3  # in which it is


def transfer_matrix(
    methods: Mapping[str, Any],
    datasets: Mapping[str, tuple],
    *,
    cv: Any = 5,
    scoring: str | Callable[..., float] | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Train each method on each data set and test it on all of them, as in table 7 of [1]_.

    Every data set is divided into folds. A method is trained on the training rows of one data set, and scored on the
    test rows of each, so that a column of the matrix is always measured on the same objects, also on the diagonal.
    Frozen first steps of a pipeline transform each data set once.

    Parameters
    ----------
    methods : mapping of str to estimator
        Estimators to compare, by name. They are cloned and never changed.
    datasets : mapping of str to tuple of (X, y) or (X, y, groups)
        Data sets, by name, whose labels mean the same. Rows that share a group are of one object, in whichever
        data set they are: where it is tested, it does not train. Groups are names, or integers of which negative ones
        are of nobody.
    cv : int, splitter or iterable, default=5
        Folds of each data set, of the same number.
    scoring : str, callable or None, default=None
        A metric, by a name from :func:`skastro.metrics.get_scorer_names`; greater is better. None is the `score` of the
        method.
    verbose : int, default=0
        1 shows a bar over all fits.

    Returns
    -------
    DataFrame
        One row per method, data set to train on, data set to test on, and fold: ``method``, ``train``, ``test``,
        ``fold``, ``n_train``, ``score`` and ``shift``: how well a linear classifier tells test rows of the two data
        sets apart, as the area under its ROC curve, by the features that the last step of the pipeline sees. It is 0.5
        if they are alike, 1 if never mistaken, and NaN for methods that are no pipeline, or features that are no rows
        of numbers. ``table.pivot_table("score", ["method", "train"], "test", sort=False)`` is the matrix.

    Raises
    ------
    ValueError
        Before any fit, if there are less than two data sets, lengths differ, a target is missing, data sets have
        unlike numbers of folds, or a class that is tested is not in the data set that trains.
    TypeError
        Before any fit, if a method has no score, or methods or data sets are not given by name.

    See Also
    --------
    label_sweep : Score methods with few labels.

    References
    ----------
    .. [1] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning", `arXiv:2305.16127
       <https://arxiv.org/abs/2305.16127>`_.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skastro.model_selection import transfer_matrix
    >>> X, y = load_digits(return_X_y=True)
    >>> methods = {"PCA": make_pipeline(PCA(16, random_state=0), LogisticRegression(max_iter=2000))}
    >>> table = transfer_matrix(methods, {"plain": (X[:900], y[:900]), "faint": (X[900:] / 2, y[900:])}, cv=3)
    >>> table.pivot_table("score", ["method", "train"], "test", sort=False).round(1)
    test          plain  faint
    method train
    PCA    plain    0.9    0.6
           faint    0.8    0.9
    >>> bool((table["shift"][table["train"] != table["test"]] > 0.9).all())
    True
    """
    check_named(methods, "methods", "estimators")
    check_named(datasets, "datasets", "(X, y) or (X, y, groups)")
    classify = any(map(is_classifier, methods.values()))
    scorers = {name: check_scoring(method, get_scorer(scoring)) for name, method in methods.items()}
    sets = _read(datasets, cv, classify)
    folds = range(len(next(iter(sets.values())).splits))
    lines = []
    with tqdm(total=len(methods) * len(folds) * len(sets) ** 2, smoothing=0, disable=not verbose) as bar:
        for name, method in methods.items():
            frozen, rest = _cut(method)
            embedded = {key: data._replace(X=frozen.transform(data.X)) for key, data in sets.items()}
            for fold, train in product(folds, embedded):
                fits: dict[bytes, Any] = {}  # one for all tests, unless an object is left out
                for test in embedded:
                    bar.set_description(f"{name}, {train} to {test}")
                    scores = _transfer(rest, scorers[name], embedded[train], embedded[test], fold, fits)
                    lines.append((name, train, test, fold, *scores))
                    bar.update()
    return pd.DataFrame(lines, columns=COLUMNS)


class _Data(NamedTuple):
    """A data set, the group of each row, and its folds."""

    X: Any
    y: Any
    groups: np.ndarray
    splits: list[tuple[np.ndarray, np.ndarray]]


def _read(datasets: Mapping[str, tuple], cv: Any, classify: bool) -> dict[str, _Data]:
    if len(datasets) < 2:
        raise ValueError(f"datasets must be two or more, by name; got {list(datasets)}.")
    cv = reusable(cv)
    grouping = hasattr(cv, "get_metadata_routing") and cv.get_metadata_routing().split.requests.get("groups")
    read = {
        name: read_experiment(X, y, groups[0] if groups else None, None, 1)[:3]
        for name, (X, y, *groups) in datasets.items()
    }
    numbers = _numbered({name: np.asarray(groups) for name, (_, _, groups) in read.items() if groups is not None})
    sets = {}
    for name, (X, y, _) in read.items():
        groups = numbers.get(name, np.full(len(y), -1))
        apart = np.where(groups < 0, groups.max() + 1 + np.arange(len(y)), groups)  # those of nobody, each on its own
        splits = make_splits(X, y, apart if grouping else None, cv, classify and has_classes(y))
        sets[name] = _Data(X, y, groups, splits)
    counts = {name: len(data.splits) for name, data in sets.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"cv must make as many folds of each data set; it makes {counts}.")
    classes = {name: set(np.unique(data.y).tolist()) for name, data in sets.items() if classify and has_classes(data.y)}
    for (train, known), (test, asked) in product(classes.items(), repeat=2):
        if unknown := asked - known:
            raise ValueError(f"{test!r} has classes that {train!r} has not: {sorted(unknown)}.")
    return sets


def _numbered(groups: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Number groups that have names, alike in all data sets; integers stay."""
    kinds = {values.dtype.kind for values in groups.values()}
    if "f" in kinds or len({kind in "iu" for kind in kinds}) > 1:
        raise ValueError("groups must be integers in all data sets, or names in all.")
    if not groups or kinds <= {"i", "u"}:
        return groups
    _, codes = np.unique(np.concatenate([values.astype(str) for values in groups.values()]), return_inverse=True)
    ends = np.cumsum([len(values) for values in groups.values()])
    return dict(zip(groups, np.split(codes, ends[:-1]), strict=True))


def _cut(method: Any) -> tuple[Pipeline, Any]:
    """Divide a pipeline behind its frozen first steps."""
    steps = method.steps if isinstance(method, Pipeline) else [("method", method)]
    frozen = list(takewhile(lambda step: isinstance(step[1], FrozenEstimator), steps[:-1]))
    return Pipeline([*frozen, ("end", "passthrough")]), method[len(frozen) :] if frozen else method


def _transfer(
    method: Any, scorer: Any, train: _Data, test: _Data, fold: int, fits: dict[bytes, Any]
) -> tuple[int, float, float]:
    """Return how many rows train, the score and the shift."""
    rows, tested = train.splits[fold][0], test.splits[fold][1]
    held = test.groups[tested]
    rows = rows[~np.isin(train.groups[rows], held[held >= 0])]
    key = rows.tobytes()
    if key not in fits:
        fits[key] = clone(method).fit(_safe_indexing(train.X, rows), _safe_indexing(train.y, rows))
    fitted, unseen = fits[key], _safe_indexing(test.X, tested)
    score = scorer(fitted, unseen, _safe_indexing(test.y, tested))
    own = _safe_indexing(train.X, train.splits[fold][1])
    return len(rows), float(score), 0.5 if train is test else _shift(fitted, own, unseen)


def _shift(fitted: Any, own: Any, other: Any) -> float:
    """Compute how well test rows of two data sets are told apart by the features of the last step."""
    if not isinstance(fitted, Pipeline):
        return np.nan
    some = [_safe_indexing(X, _spread(_num_samples(X))) for X in (own, other)]
    features = [np.asarray(fitted[:-1].transform(X) if len(fitted) > 1 else X) for X in some]
    if features[0].ndim != 2 or min(map(len, features)) < FOLDS:
        return np.nan
    origin = np.repeat([0, 1], list(map(len, features)))
    judge = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return float(np.mean(cross_val_score(judge, np.concatenate(features), origin, cv=folds, scoring="roc_auc")))


def _spread(n: int) -> np.ndarray:
    """Choose rows all over a data set, which may be sorted."""
    return np.linspace(0, n - 1, min(n, ENOUGH)).astype(np.int64)
