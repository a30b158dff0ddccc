"""Label sweeps: scores of a representation with few labels."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from time import perf_counter
from typing import Any, NamedTuple
from warnings import catch_warnings

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import check_scoring
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_random_state, get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    get_routing_for_object,
    process_routing,
)
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from skastro._warning import warn
from skastro.model_selection.experiments import check_named, has_classes, make_splits, name_scorers, read_experiment

__all__ = ["label_sweep"]


def label_sweep(
    methods: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    label_counts: Sequence[int] | np.ndarray,
    cv: Any = 5,
    groups: Any = None,
    params: Mapping[str, Any] | None = None,
    n_repeats: int = 1,
    scoring: str | Callable[..., float] | list[str] | tuple[str, ...] | Mapping[str, Any] | None = None,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Score each method when only some of the training rows have a label.

    The experiment of figure 1 of [1]_ and figure 4 of [2]_. In each fold, the steps of a pipeline that learn
    without labels are fitted once, on *all* training rows. The rest of the pipeline, its head, is then fitted
    on 72 labeled rows, on 145, and so on, and scored on the test rows.

    A pipeline is divided into three parts:

    - Its first steps, as long as they are :class:`~sklearn.frozen.FrozenEstimator` or ``"passthrough"``,
      transform `X` once for the whole sweep. Methods that share a frozen embedder share its features.
    - The transformers that follow, as long as their tags do not require a target
      (``get_tags(step).target_tags.required``), are fitted on all training rows of the fold with ``y=None``:
      they see no labels, not even those of the labeled rows. They are cached in the pipeline's `memory`.
    - The head is the rest, at least the last step. The tag decides: it makes
      :class:`~sklearn.discriminant_analysis.LinearDiscriminantAnalysis` part of the head, but not
      :class:`~sklearn.feature_selection.SelectKBest`. A pipeline as last step marks the head without the tag.

    An estimator that is not a pipeline is a head, fitted as a whole on the labeled rows; so is a search over one.

    Parameters
    ----------
    methods : mapping of str to estimator
        Estimators to compare, by name. They are cloned and never changed.
    X : array-like of shape (n, ...)
        Images, spectra or a table. Only rows are selected from it, by position: images keep their shape, and a
        memory-mapped array stays on the disk. Methods get a table of any library as a pandas DataFrame.
    y : array-like of shape (n,) or (n, n_outputs)
        Labels or values.
    label_counts : array-like of int
        Numbers of training rows that have a label.
    cv : int, splitter or iterable of (train, test) index arrays, default=5
        The folds, as in :func:`~sklearn.model_selection.check_cv`: an int means stratified folds for classifiers and
        plain folds otherwise, both unshuffled. Use :class:`~sklearn.model_selection.PredefinedSplit` for published
        splits.
    groups : array-like of shape (n,), default=None
        Groups that must not be divided between training and test rows, for splitters that use them.
    params : mapping of str to array-like, default=None
        Metadata, such as ``{"votes": votes}``, for every object that requested it in `fit`, `transform` or `score`.
        Needs ``sklearn.set_config(enable_metadata_routing=True)``. Arrays have n rows, and each call receives the rows
        that it needs; scalars are passed on unchanged.
    n_repeats : int, default=1
        Number of times the labeled rows of each fold are drawn. Pretraining is not repeated.
    scoring : str, callable, list or tuple of str, mapping or None, default=None
        One metric: a name from :func:`~skastro.metrics.get_scorer_names`, a scorer, or ``None``, the head's
        `score`. Or several: a list of names, or a mapping from your own names to such metrics.
    random_state : int, RandomState instance or None, default=None
        Draws the labeled rows; an int draws the same rows each time.
    verbose : int, default=0
        1 shows a bar over all fits of heads: the method, its fold and the time left.

    Returns
    -------
    DataFrame
        One row per fit of a head. Columns are ``method``, ``n_labels``, ``fold`` and ``repeat`` (both from 0),
        ``score``, and ``seconds``, the wall time to train this row's model from scratch: the whole pretraining of its
        fold and the fit of its head. With several metrics, each has its own column, under its name, instead of
        ``score``.

    Raises
    ------
    ValueError
        Before any fit, if `methods` is empty, if a count is not a whole number, less than 1 or larger than
        the training set of a fold, if lengths differ, if a target is missing, if `scoring` is empty, unknown, names
        a metric twice or like another column, or cannot score these classes, as ``"roc_auc"`` cannot three, or if
        `params` are given while metadata routing is off.
    TypeError
        Before any fit, if `methods` is not a mapping, if a method is not an estimator or has no score, or if
        no method requested one of the `params`.
    NotFittedError
        Before any fit, if a frozen step was never fitted.

    Warns
    -----
    UserWarning
        If a head cannot be fitted or scored because its labels or the test rows of its fold lack a class: the score
        is NaN, and the sweep goes on.

    See Also
    --------
    sklearn.model_selection.learning_curve : Refit the whole estimator on each subset.
    skastro.plotting.LabelSweepDisplay : Plot the result.

    Notes
    -----
    The labeled rows are the same for every method, so methods can be compared in pairs, and they are nested:
    the 72 are among the 145. For classifiers they keep the proportions of the classes (the divisors of
    Webster and Sainte-Laguë), with at least one row of each class as soon as the count allows. More repeats
    do not change the first ones.

    References
    ----------
    .. [1] Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning",
       `arXiv:2206.11927 <https://arxiv.org/abs/2206.11927>`_.
    .. [2] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning", `arXiv:2305.16127
       <https://arxiv.org/abs/2305.16127>`_.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skastro.model_selection import label_sweep
    >>> X, y = load_digits(return_X_y=True)
    >>> methods = {"PCA": make_pipeline(PCA(16), LogisticRegression(max_iter=1000))}
    >>> sweep = label_sweep(methods, X[:600] / 16, y[:600], label_counts=[20, 100], cv=2, random_state=0)
    >>> sweep.drop(columns="seconds").round(2)
      method  n_labels  fold  repeat  score
    0    PCA        20     0       0   0.75
    1    PCA       100     0       0   0.80
    2    PCA        20     1       0   0.60
    3    PCA       100     1       0   0.80

    >>> sweep = label_sweep(methods, X, y, label_counts=[100], scoring=["accuracy", "neg_log_loss"])
    >>> list(sweep.columns[4:])
    ['accuracy', 'neg_log_loss', 'seconds']
    """
    counts = _check_counts(label_counts)
    X, y, groups, params = read_experiment(X, y, groups, params, n_repeats)
    scorers = name_scorers(scoring, (*_KEYS, "seconds"))
    parts = _route(_check_methods(methods, scorers), params)

    stratify = any(map(is_classifier, methods.values())) and has_classes(y)
    if stratify:
        _try_scorers(scorers.values(), np.ravel(y))
    splits = make_splits(X, y, groups, cv, stratify)
    _check_folds(counts, splits)
    draws = _draw(y, splits, counts, n_repeats, stratify, check_random_state(random_state))

    rows, features = [], {}
    with tqdm(total=len(parts) * sum(map(len, draws)), smoothing=0, disable=not verbose) as bar:
        for name, method in parts.items():
            bar.set_description(name)
            frozen = tuple(id(getattr(step, "estimator", step)) for _, step in method.frozen.steps)
            if frozen not in features:
                features[frozen] = method.frozen.transform(X, **method.metadata["frozen"]["transform"])
            for fold, (train, test) in enumerate(splits):
                bar.set_description(f"{name}, fold {fold + 1} of {len(splits)}")
                for row in _fit_fold(method, features[frozen], y, train, test, draws[fold]):
                    rows.append({"method": name, "fold": fold} | row)
                    bar.update()
    return pd.DataFrame(rows, columns=[*_KEYS, *scorers, "seconds"])


_KEYS = ("method", "n_labels", "fold", "repeat")


class _Method(NamedTuple):
    """An estimator divided where labels begin; a part without steps passes its rows through."""

    frozen: Pipeline
    pretraining: Pipeline
    head: Any
    scorer: Any
    metadata: Mapping[str, Any]


def _is_frozen(step: Any) -> bool:
    return step == "passthrough" or isinstance(step, FrozenEstimator)


def _needs_no_label(step: Any) -> bool:
    return _is_frozen(step) or (hasattr(step, "transform") and not get_tags(step).target_tags.required)


def _cut(estimator: Any, scorers: dict[str, Any]) -> _Method:
    estimator = clone(estimator)
    pipe = estimator if isinstance(estimator, Pipeline) else Pipeline([("head", estimator)])
    steps = [(name, "passthrough" if step is None else step) for name, step in pipe.steps]
    transformers = [step for _, step in steps[:-1]]
    n_frozen = len(list(takewhile(_is_frozen, transformers)))
    n_unlabeled = len(list(takewhile(_needs_no_label, transformers)))
    head = pipe[-1] if n_unlabeled == len(transformers) else pipe[n_unlabeled:]
    # The memory of a pipeline never caches the last step, so a step worth caching must not be last.
    end = (steps[-1][0], "passthrough")
    return _Method(
        frozen=Pipeline([*steps[:n_frozen], end]),
        pretraining=Pipeline([*steps[n_frozen:n_unlabeled], end], memory=pipe.memory, verbose=pipe.verbose),
        head=head,
        scorer=check_scoring(head, scorers),
        metadata=defaultdict(lambda: defaultdict(dict)),
    )


def _check_counts(label_counts: Any) -> np.ndarray:
    counts = np.atleast_1d(label_counts)
    if counts.dtype.kind not in "iu" or counts.min() < 1:
        raise ValueError(f"label_counts must be whole numbers of labels, each at least 1; got {label_counts}.")
    return counts


def _check_methods(methods: Any, scorers: dict[str, Any]) -> dict[str, _Method]:
    check_named(methods, "methods", "estimators")
    parts = {name: _cut(estimator, scorers) for name, estimator in methods.items()}
    for method in parts.values():
        for _, step in method.frozen.steps:
            if step != "passthrough":
                check_is_fitted(step)
    return parts


def _try_scorers(scorers: Iterable[Any], y: np.ndarray) -> None:
    """Refuse metrics of scikit-learn that cannot score these classes, before anything is fitted."""
    rows = np.zeros((len(y), 1))
    constant = DummyClassifier().fit(rows, y)
    for scorer in scorers:
        metric: Any = getattr(scorer, "_score_func", None)
        if not getattr(metric, "__module__", "").startswith("sklearn."):
            continue
        try:
            with catch_warnings(action="ignore"), suppress(AttributeError):  # of what a constant model never says
                scorer(constant, rows, y)
        except ValueError as error:
            raise ValueError(
                f"{metric.__name__} cannot score the {len(constant.classes_)} classes of y: {error}. Take a metric of "
                'several classes, such as "roc_auc_ovr" or "f1_macro".'
            ) from error


def _check_folds(counts: np.ndarray, splits: list) -> None:
    sizes = [len(train) for train, _ in splits]
    fold = int(np.argmin(sizes))
    if counts.max() > sizes[fold]:
        raise ValueError(
            f"label_counts asks for {counts.max()} labels, but fold {fold} has {sizes[fold]} training rows."
        )


_CALLS = {
    "frozen": ("transform",),
    "pretraining": ("fit_transform", "transform"),
    "head": ("fit",),
    "scorer": ("score",),
}


def _route(parts: Mapping[str, _Method], params: Mapping[str, Any]) -> Mapping[str, _Method]:
    """Return the metadata requested by the parts of each method, as ``metadata[part][call]``."""
    if not params:
        return parts
    # One router for all methods: each of the params must be requested by at least one method.
    router = MetadataRouter(owner="label_sweep")
    for name, method in parts.items():
        for part, calls in _CALLS.items():
            mapping = MethodMapping()
            for call in calls:
                mapping.add(caller="fit", callee=call)
            router.add(method_mapping=mapping, **{f"{part} of {name}": getattr(method, part)})
    routed = process_routing(router, "fit", **params)
    given = {name: {part: routed[f"{part} of {name}"] for part in _CALLS} for name in parts}
    for name, method in parts.items():
        _check_inner_requests(method, given[name])
    return {name: method._replace(metadata=given[name]) for name, method in parts.items()}


def _check_inner_requests(method: _Method, metadata: Mapping[str, Any]) -> None:
    """Validate the requests of pipelines and searches now, not when they are fitted."""
    for part, calls in _CALLS.items():
        inner = getattr(method, part)
        if isinstance(get_routing_for_object(inner), MetadataRouter):
            for call in calls:
                process_routing(inner, call, **metadata[part][call])


def _draw(
    y: Any, splits: list, counts: np.ndarray, n_repeats: int, stratify: bool, rng: np.random.RandomState
) -> list[list[tuple[int, int, np.ndarray]]]:
    """Choose the labeled rows of each fold: count, repeat and places in the training set."""
    labels = [_safe_indexing(y, train) for train, _ in splits]
    orders = [[_label_order(fold, stratify, rng) for fold in labels] for _ in range(n_repeats)]
    return [
        [(count, repeat, order[:count]) for repeat, order in enumerate(fold) for count in counts]
        for fold in zip(*orders, strict=True)
    ]


def _label_order(y: Any, stratify: bool, rng: np.random.RandomState) -> np.ndarray:
    """Return the order in which rows get their labels; every subset is its beginning, so subsets are nested."""
    order = rng.permutation(np.shape(y)[0])
    if not stratify:
        return order
    classes = np.unique(np.ravel(y), return_inverse=True)[1][order]
    rank = pd.Series(classes).groupby(classes).cumcount().to_numpy()
    # Webster's divisors, except that each class gets one row before any gets two; ties keep their random order.
    turn = np.where(rank > 0, rank + 0.5, 0) / np.bincount(classes)[classes]
    return order[np.argsort(turn, kind="stable")]


def _fit_fold(
    method: _Method, X: Any, y: Any, train: np.ndarray, test: np.ndarray, draws: list
) -> Iterator[dict[str, Any]]:
    """Pretrain once, then fit and score a head for each draw: NaN where one fails for want of a class."""
    classes = set(np.unique(y)) if has_classes(y) else set()
    features, place, unseen, pretraining = _pretrain(method, X, train, test)
    y_test, score_params = _safe_indexing(y, test), _at(test, method.metadata["scorer"]["score"])
    for count, repeat, chosen in draws:
        labeled, labels = _safe_indexing(features, place[chosen]), _safe_indexing(y, train[chosen])
        fit_params = _at(train[chosen], method.metadata["head"]["fit"])
        start = perf_counter()
        try:
            head = clone(method.head).fit(labeled, labels, **fit_params)
            seconds = pretraining + perf_counter() - start
            scores = {name: float(score) for name, score in method.scorer(head, unseen, y_test, **score_params).items()}
        except ValueError as error:
            if not (classes > set(np.unique(labels)) or classes > set(np.unique(y_test))):
                raise
            warn(f"{count} labels: a class is missing, and there is no score. {error}")
            seconds, scores = np.nan, {}  # which becomes NaN
        yield {"n_labels": count, "repeat": repeat, "seconds": seconds} | scores


def _pretrain(method: _Method, X: Any, train: np.ndarray, test: np.ndarray) -> tuple[Any, np.ndarray, Any, float]:
    """Fit the pretraining steps on all training rows without labels.

    Return features, the place of each training row in them, the features of the test rows, and seconds.
    """
    if len(method.pretraining) == 1:  # nothing to pretrain: heads take their few rows directly from X
        return X, train, _safe_indexing(X, test), 0.0
    pipe, metadata = clone(method.pretraining), method.metadata["pretraining"]
    start = perf_counter()
    features = pipe.fit_transform(_safe_indexing(X, train), None, **_at(train, metadata["fit_transform"]))
    seconds = perf_counter() - start
    unseen = pipe.transform(_safe_indexing(X, test), **_at(test, metadata["transform"]))
    return features, np.arange(len(train)), unseen, seconds


def _at(rows: np.ndarray, metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _safe_indexing(value, rows) if np.ndim(value) else value for name, value in metadata.items()}
