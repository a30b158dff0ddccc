"""Parts shared by the experiments: data as they come in, scorers by column, and folds."""

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.model_selection import check_cv
from sklearn.utils.multiclass import type_of_target

from skastro.inputs import as_rows, as_target
from skastro.metrics import get_scorer

__all__ = ["check_named", "has_classes", "make_splits", "name_scorers", "read_experiment", "reusable"]


def read_experiment(
    X: Any, y: Any, groups: Any, params: Mapping[str, Any] | None, n_repeats: Any
) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Check the input of an experiment, and convert it to what rows are selected from by position.

    Parameters
    ----------
    X, y, groups : array-like of shape (n, ...)
        Data, targets, and groups or None.
    params : mapping of str to array-like, or None
        Metadata by name.
    n_repeats : int
        Number of repeats of the experiment.

    Returns
    -------
    X, y, groups : DataFrame or ndarray
        Tables in pandas, everything else in plain arrays.
    params : dict of str to DataFrame, ndarray or scalar
        Likewise.

    Raises
    ------
    ValueError
        If lengths differ, a target or group is missing, there is no repeat, or metadata are given while their routing
        is off.
    """
    if not isinstance(n_repeats, Integral) or n_repeats < 1:
        raise ValueError(f"n_repeats must be a whole number, at least 1; got {n_repeats}.")
    if params and not get_config()["enable_metadata_routing"]:
        raise ValueError(
            f"params ({', '.join(params)}) are handed on by metadata routing, which is off: call "
            "sklearn.set_config(enable_metadata_routing=True) and request them where they are needed."
        )
    X, y = as_rows(X), as_rows(y, "y")
    params = {name: as_rows(value, name) if np.ndim(value) else value for name, value in (params or {}).items()}
    _check_lengths(X, y, {"groups": groups, **params})
    as_target(y)
    return X, y, groups if groups is None else as_target(groups, "groups"), params


def check_named(given: Any, name: str, what: str) -> None:
    """Refuse what should be several things by their names, and is one of them, or empty.

    Parameters
    ----------
    given : any
        Value of the parameter.
    name, what : str
        Name of the parameter, and what it should hold, for errors.

    Raises
    ------
    TypeError
        If it is no mapping.
    ValueError
        If it is empty.

    Examples
    --------
    >>> from skastro.model_selection.experiments import check_named
    >>> check_named([1], "methods", "estimators")
    Traceback (most recent call last):
    ...
    TypeError: methods must be a mapping of names to estimators; got list.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a mapping of names to {what}; got {type(given).__name__}.")
    if not given:
        raise ValueError(f"{name} is empty: give at least one, by name.")


def name_scorers(scoring: Any, others: Sequence[str]) -> dict[str, Any]:
    """Return the scorer of each column of scores; a metric without its own name is the column ``score``.

    Parameters
    ----------
    scoring : str, callable, None, list or mapping
        Metrics given by the user.
    others : sequence of str
        The other columns of the table.

    Returns
    -------
    dict of str to scorer

    Raises
    ------
    ValueError
        If no metric is given, or a name is already used.

    Examples
    --------
    >>> from skastro.model_selection.experiments import name_scorers
    >>> list(name_scorers(["accuracy", "neg_log_loss"], others=["fold"]))
    ['accuracy', 'neg_log_loss']
    """
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


def reusable(cv: Any) -> Any:
    """Keep folds that can be read once, so that several data sets or targets have them.

    Parameters
    ----------
    cv : int, splitter or iterable
        Folds, as in scikit-learn.

    Returns
    -------
    int, splitter or list
    """
    return [*cv] if isinstance(cv, Iterator) else cv


def make_splits(X: Any, y: Any, groups: Any, cv: Any, stratify: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw the folds once, so that everything compared has the same folds.

    Parameters
    ----------
    X, y, groups : array-like of shape (n, ...)
        Data, targets, and groups or None.
    cv : int, splitter or iterable
        Folds, as in scikit-learn.
    stratify : bool
        If True, folds from an int keep the proportions of the classes.

    Returns
    -------
    list of tuple of ndarray
        Rows to train on and rows to score, per fold.

    Raises
    ------
    ValueError
        If there is no fold.
    """
    splits = list(check_cv(cv, y, classifier=stratify).split(X, y, groups))
    if not splits:
        raise ValueError("cv makes no fold.")
    return splits


def has_classes(y: Any) -> bool:
    """Tell labels from votes and values.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_outputs)
        Targets.

    Returns
    -------
    bool

    Examples
    --------
    >>> from skastro.model_selection.experiments import has_classes
    >>> has_classes(["spiral", "ring"]), has_classes([[3, 0], [1, 2]])
    (True, False)
    """
    return type_of_target(y) in ("binary", "multiclass")


def _check_lengths(X: Any, y: Any, others: Mapping[str, Any]) -> None:
    n = np.shape(X)[0]
    arrays = {name: value for name, value in others.items() if np.ndim(value)}
    for name, value in ({"y": y} | arrays).items():
        shape = np.shape(value)
        if shape[:1] != (n,):
            raise ValueError(f"{name} must have one entry for each of the {n} rows of X; its shape is {shape}.")


def _metric_items(scoring: Any) -> list[tuple[Any, Any]]:
    if isinstance(scoring, Mapping):
        return list(scoring.items())
    return [(name, name) for name in scoring] if isinstance(scoring, list | tuple) else [("score", scoring)]


def _is_metric(value: Any) -> bool:
    return value is None or isinstance(value, str) or callable(value)
