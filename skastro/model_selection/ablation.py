"""Ablation of augmentations: the contribution of each step to the score."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import check_scoring
from sklearn.model_selection import cross_validate
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from skastro.model_selection.experiments import make_splits, name_scorers, read_experiment

__all__ = ["ablation_grid", "augmentation_ablation"]


def ablation_grid(
    estimator: Any,
    *,
    kinds: str | Sequence[str] = ("all", "without", "only", "pairs", "none"),
    steps: str | Sequence[str] | None = None,
    augment: str | None = None,
) -> list[dict[str, list[str]]]:
    """List the settings of an ablation for a search: the steps of the augmentation to switch off in each.

    Parameters
    ----------
    estimator : estimator
        An embedder, or a pipeline or other estimator that contains one. It is not changed.
    kinds : str or sequence of str, default=("all", "without", "only", "pairs", "none")
        Kinds of settings, in this order: ``"all"``, the recipe as it is; ``"without"``, leave one step out;
        ``"only"``, one step alone; ``"pairs"``, two steps alone; ``"none"``, no step. A setting that two kinds
        describe is listed once, under the first of them.
    steps : str or sequence of str, default=None
        Steps to leave out, to use alone and to pair; ``None`` means all active steps. In settings of steps alone, steps
        not named here are off, too.
    augment : str, default=None
        The parameter that holds the recipe, such as ``"emb__augment"``; ``None`` searches for it.

    Returns
    -------
    list of dict of str to list
        The `param_grid` of :class:`~sklearn.model_selection.GridSearchCV`. Each setting is one candidate, with
        ``"passthrough"`` for the steps that are off. Steps that are ``"passthrough"`` in the recipe are ignored.

    Raises
    ------
    ValueError
        If no recipe is found, if there are several and `augment` names none, if the embedder is frozen, if no step
        is active, or if `kinds` or `steps` are unknown.
    TypeError
        If `estimator` is not an estimator.

    See Also
    --------
    augmentation_ablation : Run the settings and return a table.

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
        Estimator to fit: a pipeline of an embedder and a head, or an estimator that augments and predicts. It is
        cloned and never changed.
    X : array-like of shape (n, ...)
        Images. Only rows are selected from it, by position: images keep their shape, and a memory-mapped array stays on
        the disk.
    y : array-like of shape (n,) or (n, n_outputs)
        Labels or values.
    kinds : str or sequence of str, default=("all", "without", "only", "none")
        Kinds of settings, in this order: ``"all"``, the recipe as it is; ``"without"``, leave one step out;
        ``"only"``, one step alone; ``"pairs"``, two steps alone; ``"none"``, no step. A setting that two kinds
        describe is run once, under the first of them: of two steps, "only crop" is "without rotate".
    steps : str or sequence of str, default=None
        Steps to leave out, to use alone and to pair; ``None`` means all active steps. In settings of steps alone, steps
        not named here are off, too.
    augment : str, default=None
        The parameter that holds the recipe, such as ``"emb__augment"``; ``None`` searches for it.
    cv : int, splitter or iterable of (train, test) index arrays, default=5
        The folds, as in :func:`~sklearn.model_selection.check_cv`: an int means stratified folds for a classifier and
        plain folds otherwise, both unshuffled. Use :class:`~sklearn.model_selection.PredefinedSplit` for published
        splits.
    n_repeats : int, default=1
        Number of repeats of the experiment, with other seeds in the same folds.
    scoring : str, callable, list or tuple of str, mapping or None, default=None
        One metric: a name from :func:`~skastro.metrics.get_scorer_names`, a scorer, or ``None``, the estimator's
        `score`. Or several: a list of names, or a mapping from your own names to such metrics.
    params : mapping of str to array-like, default=None
        Metadata, such as ``{"votes": votes}``, for every object that requested it in `fit`, `transform` or `score`.
        Needs ``sklearn.set_config(enable_metadata_routing=True)``.
    groups : array-like of shape (n,), default=None
        Groups that must not be divided between training and test rows, for splitters that use them.
    random_state : int, RandomState instance or None, default=None
        Draws, for each repeat, the seed of every `random_state` within the estimator, which replaces the given value;
        an int draws the same seeds each time.
    n_jobs : int, default=None
        Number of fits that run at once, as in joblib; ``None`` means one, unless a :func:`joblib.parallel_config` is
        set.
    verbose : int, default=0
        1 shows a bar over all fits: the setting and fold last done, and the time left.

    Returns
    -------
    DataFrame
        One row per fit. Columns are ``setting`` ("all", "without rotate", "only crop", "rotate + crop", "none"), one of
        booleans for each active step, True where it is on, ``repeat`` and ``fold`` (both from 0), and ``score``. With
        several metrics, each has its own column, under its name, instead of ``score``.

    Raises
    ------
    ValueError
        Before any fit, if no recipe is found, if there are several and `augment` names none, if the embedder is
        frozen, if no step is active, if `kinds` or `steps` are unknown, if `n_repeats` is not a whole number or less
        than 1, if lengths differ, if a target is missing, if `scoring` is empty, unknown, or names a metric twice or
        like another column, or if `params` are given while metadata routing is off.
    TypeError
        Before any fit, if `estimator` is not an estimator or has no score, or if it requested none of the `params`.

    See Also
    --------
    ablation_grid : List the same settings for a search.
    skastro.plotting.AblationDisplay : Plot the result.
    skastro.plotting.AugmentationDisplay : Plot the effect of the steps on images.

    Notes
    -----
    More repeats do not change the first ones. A search over the same settings is
    ``GridSearchCV(estimator, ablation_grid(estimator))``.

    References
    ----------
    .. [1] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning", `arXiv:2305.16127
       <https://arxiv.org/abs/2305.16127>`_, table 10.
    .. [2] Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", `arXiv:2012.13083
       <https://arxiv.org/abs/2012.13083>`_, figure 13.

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
    X, y, groups, params = read_experiment(X, y, groups, params, n_repeats)
    recipe, active = _find_recipe(estimator, augment)
    settings = _ablation_settings(active, kinds, steps)
    scorers = name_scorers(scoring, ("setting", *active, "repeat", "fold"))
    scorer = check_scoring(estimator, scorers)
    splits = make_splits(X, y, groups, cv, is_classifier(estimator))
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
    """Return the name of the parameter that holds the recipe, and the recipe's active steps."""
    from skastro.augment import one_recipe  # imports torch, which a sweep does not need

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
    """Return the steps that are on in each setting, by its name."""
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
    """Clone an estimator with another seed in each random_state, its own and nested ones."""
    estimator = clone(estimator)
    names = sorted(name for name in estimator.get_params() if name.split("__")[-1] == "random_state")
    return estimator.set_params(**{name: rng.randint(np.iinfo(np.int32).max) for name in names})


def _fit_and_score(
    estimator: Any, off: Mapping[str, str], X: Any, y: Any, split: tuple, scorer: Any, params: Mapping[str, Any]
) -> dict[str, float]:
    setting = clone(estimator).set_params(**off)
    scores = cross_validate(setting, X, y, cv=[split], scoring=scorer, params=params, error_score="raise")
    return {name.removeprefix("test_"): float(score[0]) for name, score in scores.items() if name.startswith("test_")}
