"""Many fits, one table: what a representation is worth when labels are few, and what each augmentation adds to it."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, product, takewhile
from numbers import Integral
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn import get_config
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_random_state, get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    get_routing_for_object,
    process_routing,
)
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from skastro.metrics import get_scorer

__all__ = ["ablation_grid", "augmentation_ablation", "label_sweep"]


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
    """Score each method when only some of the training rows carry a label.

    The experiment of figure 1 of [1]_ and figure 4 of [2]_. In each fold, the steps of a pipeline that learn
    without labels are fitted once, on *all* training rows; the rest of the pipeline, its head, is then fitted
    on 72 labelled rows, on 145, and so on, and scored on the test rows.

    A pipeline is cut in three:

    - Its first steps, as long as they are :class:`~sklearn.frozen.FrozenEstimator` or ``"passthrough"``,
      transform `X` once for the whole sweep. Methods that share a frozen embedder share its features.
    - The transformers that follow, as long as their tags do not require a target
      (``get_tags(step).target_tags.required``), are fitted on all training rows of the fold with ``y=None``:
      they see no label, not even those of the labelled rows. The pipeline's `memory` keeps them.
    - The head is the rest, at least the last step. The tag is the rule: it sends
      :class:`~sklearn.discriminant_analysis.LinearDiscriminantAnalysis` to the head, but says nothing of
      :class:`~sklearn.feature_selection.SelectKBest`. A pipeline as last step marks the head without the tag.

    An estimator that is no pipeline is a head, fitted whole on the labelled rows; so is a search over one.

    Parameters
    ----------
    methods : mapping of str to estimator
        What to compare, by name. The estimators are cloned, never changed.
    X : array-like of shape (n, ...)
        Images, spectra or a table. Only rows are taken from it: images keep their shape, and a memory-mapped
        array stays on the disk.
    y : array-like of shape (n,) or (n, n_outputs)
        Labels or values.
    label_counts : array-like of int
        How many training rows carry a label.
    cv : int, splitter or iterable of (train, test) index arrays, default=5
        The folds, as :func:`~sklearn.model_selection.check_cv` understands them: an int means stratified
        folds for classifiers and plain folds otherwise, both unshuffled. Use
        :class:`~sklearn.model_selection.PredefinedSplit` for published splits.
    groups : array-like of shape (n,), default=None
        What must not be divided between training and test rows, for the splitters that ask for it.
    params : mapping of str to array-like, default=None
        Metadata, such as ``{"votes": votes}``, for whatever requested it in `fit`, `transform` or `score`.
        Needs ``sklearn.set_config(enable_metadata_routing=True)``. Arrays have n rows, and each call gets
        those it needs; scalars are handed on as they are.
    n_repeats : int, default=1
        How many times the labelled rows of each fold are drawn. Pretraining is not repeated.
    scoring : str, callable, list or tuple of str, mapping or None, default=None
        One metric: a name that :func:`~skastro.metrics.get_scorer` knows, a scorer, or ``None``, the head's
        `score`. Or several: a list of names, or a mapping of names of your own to such metrics.
    random_state : int, RandomState instance or None, default=None
        Draws the labelled rows; an int draws the same ones each time.
    verbose : int, default=0
        1 shows a bar over all fits of heads: the method, its fold and the time left.

    Returns
    -------
    DataFrame
        One row per fit of a head, with the columns ``method``, ``n_labels``, ``fold`` and ``repeat`` (both
        from 0), ``score``, and ``seconds``: the wall time it takes to train this row's model from nothing,
        that is the whole pretraining of its fold and the fit of its head. Several metrics have a column each,
        under its name, in the place of ``score``.

    Raises
    ------
    ValueError
        Before any fit, if `methods` is empty, if a count is not a whole number, less than 1 or larger than
        the training set of a fold, if lengths differ, if `scoring` is empty, unknown, or names a metric twice
        or like another column, or if `params` come while metadata routing is off.
    TypeError
        Before any fit, if `methods` is not a mapping, if a method is not an estimator or has no score, or if
        no method requested one of the `params`.
    NotFittedError
        Before any fit, if a frozen step was never fitted.

    See Also
    --------
    sklearn.model_selection.learning_curve : Refits the whole estimator on each subset.
    skastro.plotting.LabelSweepDisplay : Draws the result.

    Notes
    -----
    The labelled rows are the same for every method, so methods can be compared in pairs, and they are nested:
    the 72 are among the 145. For classifiers they keep the proportions of the classes (the divisors of
    Webster and Sainte-Laguë), with at least one row of each class as soon as the count allows. More repeats
    leave the first ones as they were.

    References
    ----------
    .. [1] Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning".
    .. [2] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning".

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
    params = dict(params or {})
    _check_experiment(X, y, groups, params, n_repeats)
    scorers = _check_scoring(scoring, (*_KEYS, "seconds"))
    parts = _route(_check_methods(methods, scorers), params)

    stratify = any(map(is_classifier, methods.values())) and type_of_target(y) in ("binary", "multiclass")
    splits = _split(X, y, groups, cv, stratify)
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
    """An estimator cut where labels begin; a part without steps passes its rows through."""

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
    n_unlabelled = len(list(takewhile(_needs_no_label, transformers)))
    head = pipe[-1] if n_unlabelled == len(transformers) else pipe[n_unlabelled:]
    # The memory of a pipeline never keeps the last step, so what is worth keeping must not come last.
    end = (steps[-1][0], "passthrough")
    return _Method(
        frozen=Pipeline([*steps[:n_frozen], end]),
        pretraining=Pipeline([*steps[n_frozen:n_unlabelled], end], memory=pipe.memory, verbose=pipe.verbose),
        head=head,
        scorer=check_scoring(head, scorers),
        metadata=defaultdict(lambda: defaultdict(dict)),
    )


def _check_counts(label_counts: Any) -> np.ndarray:
    counts = np.atleast_1d(label_counts)
    if counts.dtype.kind not in "iu" or counts.min() < 1:
        raise ValueError(f"label_counts must be whole numbers of labels, each at least 1; got {label_counts}.")
    return counts


def _check_experiment(X: Any, y: Any, groups: Any, params: Mapping[str, Any], n_repeats: Any) -> None:
    """Refuse what no table can be made of."""
    if not isinstance(n_repeats, Integral) or n_repeats < 1:
        raise ValueError(f"n_repeats must be a whole number, at least 1; got {n_repeats}.")
    if params and not get_config()["enable_metadata_routing"]:
        raise ValueError(
            f"params ({', '.join(params)}) are handed on by metadata routing, which is off: call "
            "sklearn.set_config(enable_metadata_routing=True) and request them where they are needed."
        )
    _check_lengths(X, y, {"groups": groups, **params})


def _check_lengths(X: Any, y: Any, others: Mapping[str, Any]) -> None:
    n = np.shape(X)[0]
    arrays = {name: value for name, value in others.items() if np.ndim(value)}
    for name, value in ({"y": y} | arrays).items():
        shape = np.shape(value)
        if shape[:1] != (n,):
            raise ValueError(f"{name} must have one entry for each of the {n} rows of X; its shape is {shape}.")


def _check_scoring(scoring: Any, others: Sequence[str]) -> dict[str, Any]:
    """The scorer of each column; a metric without a name of its own is the column ``score``."""
    metrics = _metric_items(scoring)
    if not metrics:
        raise ValueError("scoring is empty: give at least one metric.")
    if not all(isinstance(name, str) and _is_metric(metric) for name, metric in metrics):
        raise ValueError(
            "scoring must be one metric (a name, a callable or None), a list of names, or a mapping of names to "
            f"metrics; got {scoring}."
        )
    columns = [*others, *(name for name, _ in metrics)]
    if len(set(columns)) < len(columns):
        raise ValueError(
            f"scoring must name each metric once, and none like a column of the table ({', '.join(others)}); "
            f"got {scoring}."
        )
    return {name: get_scorer(metric) for name, metric in metrics}


def _metric_items(scoring: Any) -> list[tuple[Any, Any]]:
    if isinstance(scoring, Mapping):
        return list(scoring.items())
    return [(name, name) for name in scoring] if isinstance(scoring, list | tuple) else [("score", scoring)]


def _is_metric(value: Any) -> bool:
    return value is None or isinstance(value, str) or callable(value)


def _check_methods(methods: Any, scorers: dict[str, Any]) -> dict[str, _Method]:
    if not isinstance(methods, Mapping):
        raise TypeError(f"methods must be a mapping of names to estimators; got {type(methods).__name__}.")
    if not methods:
        raise ValueError("methods is empty: give at least one estimator, by name.")
    parts = {name: _cut(estimator, scorers) for name, estimator in methods.items()}
    for method in parts.values():
        for _, step in method.frozen.steps:
            if step != "passthrough":
                check_is_fitted(step)
    return parts


def _split(X: Any, y: Any, groups: Any, cv: Any, stratify: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(check_cv(cv, y, classifier=stratify).split(X, y, groups))


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
    """Give each method the metadata its parts requested, as ``metadata[part][call]``."""
    if not params:
        return parts
    # One router for all methods: each of the params must be requested by some method, not by every one.
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
    """Let pipelines and searches complain about their steps now, not when their turn to be fitted comes."""
    for part, calls in _CALLS.items():
        inner = getattr(method, part)
        if isinstance(get_routing_for_object(inner), MetadataRouter):
            for call in calls:
                process_routing(inner, call, **metadata[part][call])


def _draw(
    y: Any, splits: list, counts: np.ndarray, n_repeats: int, stratify: bool, rng: np.random.RandomState
) -> list[list[tuple[int, int, np.ndarray]]]:
    """Choose, for each fold, the labelled rows: count, repeat and places in the training set."""
    labels = [_safe_indexing(y, train) for train, _ in splits]
    orders = [[_label_order(fold, stratify, rng) for fold in labels] for _ in range(n_repeats)]
    return [
        [(count, repeat, order[:count]) for repeat, order in enumerate(fold) for count in counts]
        for fold in zip(*orders, strict=True)
    ]


def _label_order(y: Any, stratify: bool, rng: np.random.RandomState) -> np.ndarray:
    """Order in which rows get their labels; every subset is a beginning of it, so subsets are nested."""
    order = rng.permutation(np.shape(y)[0])
    if not stratify:
        return order
    classes = np.unique(np.ravel(y), return_inverse=True)[1][order]
    rank = pd.Series(classes).groupby(classes).cumcount().to_numpy()
    # Webster's divisors, except that each class has one row before any has two; ties keep their random order.
    turn = np.where(rank > 0, rank + 0.5, 0) / np.bincount(classes)[classes]
    return order[np.argsort(turn, kind="stable")]


def _fit_fold(
    method: _Method, X: Any, y: Any, train: np.ndarray, test: np.ndarray, draws: list
) -> Iterator[dict[str, Any]]:
    """Pretrain once, then fit and score a head for each draw."""
    features, place, unseen, pretraining = _pretrain(method, X, train, test)
    y_test, score_params = _safe_indexing(y, test), _at(test, method.metadata["scorer"]["score"])
    for count, repeat, chosen in draws:
        labelled, labels = _safe_indexing(features, place[chosen]), _safe_indexing(y, train[chosen])
        fit_params = _at(train[chosen], method.metadata["head"]["fit"])
        start = perf_counter()
        head = clone(method.head).fit(labelled, labels, **fit_params)
        seconds = pretraining + perf_counter() - start
        scores = method.scorer(head, unseen, y_test, **score_params)
        scores = {name: float(score) for name, score in scores.items()}
        yield {"n_labels": count, "repeat": repeat, "seconds": seconds} | scores


def _pretrain(method: _Method, X: Any, train: np.ndarray, test: np.ndarray) -> tuple[Any, np.ndarray, Any, float]:
    """Learn from all training rows without a label.

    Returns features, the place of each training row in them, the features of the test rows, and seconds.
    """
    if len(method.pretraining) == 1:  # nothing to train: heads take their few rows straight from X
        return X, train, _safe_indexing(X, test), 0.0
    pipe, metadata = clone(method.pretraining), method.metadata["pretraining"]
    start = perf_counter()
    features = pipe.fit_transform(_safe_indexing(X, train), None, **_at(train, metadata["fit_transform"]))
    seconds = perf_counter() - start
    unseen = pipe.transform(_safe_indexing(X, test), **_at(test, metadata["transform"]))
    return features, np.arange(len(train)), unseen, seconds


def _at(rows: np.ndarray, metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _safe_indexing(value, rows) if np.ndim(value) else value for name, value in metadata.items()}


def ablation_grid(
    estimator: Any,
    *,
    kinds: str | Sequence[str] = ("all", "without", "only", "pairs", "none"),
    steps: str | Sequence[str] | None = None,
    augment: str | None = None,
) -> list[dict[str, list[str]]]:
    """List the settings of an ablation for a search: which steps of the augmentation are switched off.

    Parameters
    ----------
    estimator : estimator
        An embedder, or a pipeline or other estimator that holds one. It is not changed.
    kinds : str or sequence of str, default=("all", "without", "only", "pairs", "none")
        Which settings, in this order: ``"all"``, the recipe as it is; ``"without"``, leave one step out;
        ``"only"``, one step alone; ``"pairs"``, two steps alone; ``"none"``, no step. A setting that two kinds
        describe comes once, as the first of them.
    steps : str or sequence of str, default=None
        The steps to leave out, to show alone and to pair; ``None`` is all active ones. What is alone is alone: the
        steps not named here are off then, too.
    augment : str, default=None
        The parameter that holds the recipe, such as ``"emb__augment"``; ``None`` finds it.

    Returns
    -------
    list of dict of str to list
        The `param_grid` of :class:`~sklearn.model_selection.GridSearchCV`: each setting is one candidate, in which
        the steps that are off are ``"passthrough"``. Those that are so in the recipe are no steps here.

    Raises
    ------
    ValueError
        If no recipe is found, if there are several and `augment` names none, if the embedder is frozen, if no step
        is active, or if `kinds` or `steps` are unknown.
    TypeError
        If `estimator` is not an estimator.

    See Also
    --------
    augmentation_ablation : Runs the settings and makes a table.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import Pipeline
    >>> from skastro import BYOLEmbedder
    >>> from skastro.model_selection import ablation_grid
    >>> pipe = Pipeline([("emb", BYOLEmbedder(augment="radio-finetune")), ("clf", LogisticRegression())])
    >>> for setting in ablation_grid(pipe, kinds=["all", "without"]):
    ...     print(setting)
    {}
    {'emb__augment__rotate': ['passthrough']}
    {'emb__augment__crop': ['passthrough']}
    {'emb__augment__flip': ['passthrough']}
    """
    recipe, active = _find_recipe(estimator, augment)
    settings = _ablation_settings(active, kinds, steps)
    return [{key: [value] for key, value in _switch_off(recipe, active, on).items()} for on in settings.values()]


def augmentation_ablation(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    kinds: str | Sequence[str] = ("all", "without", "only", "none"),
    steps: str | Sequence[str] | None = None,
    augment: str | None = None,
    cv: Any = 5,
    n_repeats: int = 1,
    scoring: str | Callable[..., float] | list[str] | tuple[str, ...] | Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    groups: Any = None,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Score an estimator with steps of its augmentation switched off.

    The experiment of table 10 of [1]_ and figure 13 of [2]_. In each setting the whole estimator, embedder and head,
    is fitted on the training rows of each fold and scored on the test rows. Settings share folds and seeds, so they
    can be compared in pairs.

    Parameters
    ----------
    estimator : estimator
        What is fitted: a pipeline of an embedder and a head, or an estimator that augments and predicts. It is
        cloned, never changed.
    X : array-like of shape (n, ...)
        Images. Only rows are taken from it: images keep their shape, and a memory-mapped array stays on the disk.
    y : array-like of shape (n,) or (n, n_outputs)
        Labels or values.
    kinds : str or sequence of str, default=("all", "without", "only", "none")
        Which settings, in this order: ``"all"``, the recipe as it is; ``"without"``, leave one step out;
        ``"only"``, one step alone; ``"pairs"``, two steps alone; ``"none"``, no step. A setting that two kinds
        describe is run once, as the first of them: of two steps, "only crop" is "without rotate".
    steps : str or sequence of str, default=None
        The steps to leave out, to show alone and to pair; ``None`` is all active ones. What is alone is alone: the
        steps not named here are off then, too.
    augment : str, default=None
        The parameter that holds the recipe, such as ``"emb__augment"``; ``None`` finds it.
    cv : int, splitter or iterable of (train, test) index arrays, default=5
        The folds, as :func:`~sklearn.model_selection.check_cv` understands them: an int means stratified folds for
        a classifier and plain folds otherwise, both unshuffled. Use
        :class:`~sklearn.model_selection.PredefinedSplit` for published splits.
    n_repeats : int, default=1
        How many times to run it all, with other seeds in the same folds.
    scoring : str, callable, list or tuple of str, mapping or None, default=None
        One metric: a name that :func:`~skastro.metrics.get_scorer` knows, a scorer, or ``None``, the estimator's
        `score`. Or several: a list of names, or a mapping of names of your own to such metrics.
    params : mapping of str to array-like, default=None
        Metadata, such as ``{"votes": votes}``, for whatever requested it in `fit`, `transform` or `score`.
        Needs ``sklearn.set_config(enable_metadata_routing=True)``.
    groups : array-like of shape (n,), default=None
        What must not be divided between training and test rows, for the splitters that ask for it.
    random_state : int, RandomState instance or None, default=None
        Draws, for each repeat, the seed of every `random_state` within the estimator, in the place of what was set
        there; an int draws the same ones each time.
    n_jobs : int, default=None
        How many fits run at once, as joblib understands it; ``None`` is one, unless a
        :func:`joblib.parallel_config` says otherwise.
    verbose : int, default=0
        1 shows a bar over all fits: the setting and fold last done, and the time left.

    Returns
    -------
    DataFrame
        One row per fit, with the columns ``setting`` ("all", "without rotate", "only crop", "rotate + crop", "none"),
        one of booleans for each active step, True where it is on, ``repeat`` and ``fold`` (both from 0), and
        ``score``. Several metrics have a column each, under its name, in the place of ``score``.

    Raises
    ------
    ValueError
        Before any fit, if no recipe is found, if there are several and `augment` names none, if the embedder is
        frozen, if no step is active, if `kinds` or `steps` are unknown, if `n_repeats` is not a whole number or less
        than 1, if lengths differ, if `scoring` is empty, unknown, or names a metric twice or like another column, or
        if `params` come while metadata routing is off.
    TypeError
        Before any fit, if `estimator` is not an estimator or has no score, or if it requested none of the `params`.

    See Also
    --------
    ablation_grid : The same settings for a search.
    skastro.plotting.AblationDisplay : Draws the result.
    skastro.plotting.AugmentationDisplay : Shows what the steps do to images.

    Notes
    -----
    More repeats leave the first ones as they were. A search over the same settings is
    ``GridSearchCV(estimator, ablation_grid(estimator))``.

    References
    ----------
    .. [1] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning", table 10.
    .. [2] Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", figure 13.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skastro import SimCLREmbedder, augmentation_ablation
    >>> from skastro.datasets import make_survey
    >>> survey = make_survey(24, size=32, random_state=0)
    >>> embedder = SimCLREmbedder("test_resnet", augment="radio-finetune", max_epochs=1)
    >>> pipe = make_pipeline(embedder, LogisticRegression(max_iter=1000))
    >>> bright = survey.images[:, 2].sum(axis=(1, 2)) > 200
    >>> table = augmentation_ablation(pipe, survey.images, bright, kinds=["all", "without"], cv=2, random_state=0)
    >>> table.groupby("setting", sort=False).first().drop(columns=["repeat", "fold", "score"])
                    rotate   crop   flip
    setting
    all               True   True   True
    without rotate   False   True   True
    without crop      True  False   True
    without flip      True   True  False
    """
    params = dict(params or {})
    _check_experiment(X, y, groups, params, n_repeats)
    recipe, active = _find_recipe(estimator, augment)
    settings = _ablation_settings(active, kinds, steps)
    scorers = _check_scoring(scoring, ("setting", *active, "repeat", "fold"))
    scorer = check_scoring(estimator, scorers)
    splits = _split(X, y, groups, cv, is_classifier(estimator))
    rng = check_random_state(random_state)
    repeats = [_reseed(estimator, rng) for _ in range(n_repeats)]

    runs = list(product(settings.items(), enumerate(repeats), enumerate(splits)))
    fits = (
        delayed(_fit_and_score)(seeded, _switch_off(recipe, active, on), X, y, split, scorer, params)
        for (_, on), (_, seeded), (_, split) in runs
    )
    rows = []
    with tqdm(total=len(runs), smoothing=0, disable=not verbose) as bar:
        scores = Parallel(n_jobs=n_jobs, return_as="generator")(fits)
        for ((setting, on), (repeat, _), (fold, _)), row in zip(runs, scores, strict=True):
            bar.set_description(f"{setting}, fold {fold + 1} of {len(splits)}")
            switches = {name: name in on for name in active}
            rows.append({"setting": setting} | switches | {"repeat": repeat, "fold": fold} | row)
            bar.update()
    return pd.DataFrame(rows)


def _find_recipe(estimator: Any, augment: str | None) -> tuple[str, list[str]]:
    """Name the parameter that holds the recipe, and the recipe's active steps."""
    from skastro.augment import one_recipe  # imports torch, which a sweep does without

    values = clone(estimator).get_params()
    recipe = _recipe_name(estimator, values, augment)
    active = [name for name, step in one_recipe(values[recipe]).steps if step != "passthrough"]
    if not active:
        raise ValueError(f"{recipe} has no active step, so there is nothing to switch off.")
    return recipe, active


def _recipe_name(estimator: Any, values: Mapping[str, Any], augment: str | None) -> str:
    recipes = _recipes(values)
    if augment is None and len(recipes) == 1:
        return recipes[0]
    if augment is not None and augment in recipes:
        return augment
    if augment is None and recipes:
        raise ValueError(f"The estimator has several recipes, {', '.join(recipes)}: say with augment= which to ablate.")
    frozen = [value.estimator for value in (estimator, *values.values()) if isinstance(value, FrozenEstimator)]
    if any(_recipes(inner.get_params()) for inner in frozen):
        raise ValueError(
            "A frozen embedder is not fitted again, so its augmentation cannot be ablated: give it without "
            "FrozenEstimator."
        )
    if augment is not None:
        raise ValueError(
            f"augment must name a recipe of the estimator, {', '.join(recipes) or 'which has none'}; got {augment!r}."
        )
    raise ValueError("The estimator has no augmentation to ablate: none of its parameters named augment has a recipe.")


def _recipes(values: Mapping[str, Any]) -> list[str]:
    return [key for key, value in values.items() if key.split("__")[-1] == "augment" and value is not None]


def _ablation_settings(active: list[str], kinds: Any, steps: Any) -> dict[str, set[str]]:
    """The steps that are on in each setting, by its name."""
    chosen = set(active if steps is None else _as_list(steps))
    if not chosen or chosen - set(active):
        raise ValueError(f"steps must be active steps of the recipe, {', '.join(active)}; got {steps!r}.")
    ablated = [name for name in active if name in chosen]
    everything = set(active)
    by_kind: dict[str, dict[str, set[str]]] = {
        "all": {"all": everything},
        "without": {f"without {name}": everything - {name} for name in ablated},
        "only": {f"only {name}": {name} for name in ablated},
        "pairs": {" + ".join(pair): set(pair) for pair in combinations(ablated, 2)},
        "none": {"none": set()},
    }
    kinds = _as_list(kinds)
    if not kinds or set(kinds) - set(by_kind):
        raise ValueError(f"kinds must be some of {', '.join(by_kind)}; got {kinds}.")
    settings: dict[str, set[str]] = {}
    for name, on in (item for kind in kinds for item in by_kind[kind].items()):
        if on not in settings.values():
            settings[name] = on
    return settings


def _as_list(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _switch_off(recipe: str, active: list[str], on: set[str]) -> dict[str, str]:
    return {f"{recipe}__{name}": "passthrough" for name in active if name not in on}


def _reseed(estimator: Any, rng: np.random.RandomState) -> Any:
    """Clone an estimator with another seed in each random_state, itself and nested."""
    estimator = clone(estimator)
    names = sorted(name for name in estimator.get_params() if name.split("__")[-1] == "random_state")
    return estimator.set_params(**{name: rng.randint(np.iinfo(np.int32).max) for name in names})


def _fit_and_score(
    estimator: Any, off: Mapping[str, str], X: Any, y: Any, split: tuple, scorer: Any, params: Mapping[str, Any]
) -> dict[str, float]:
    setting = clone(estimator).set_params(**off)
    scores = cross_validate(setting, X, y, cv=[split], scoring=scorer, params=params, error_score="raise")
    return {name.removeprefix("test_"): float(score[0]) for name, score in scores.items() if name.startswith("test_")}
