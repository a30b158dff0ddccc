"""Scores of the physical properties that embeddings contain, with heads that need little or no training."""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.metrics import check_scoring
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.parallel import Parallel, delayed

from skastro.inputs import as_array, as_table, as_target
from skastro.metrics import get_scorer
from skastro.model_selection.experiments import check_named, make_splits, reusable

__all__ = ["property_scores"]


def property_scores(
    embeddings: Mapping[str, Any],
    properties: Any,
    *,
    heads: Mapping[str, Any] | None = None,
    cv: Any = 5,
    groups: Any = None,
    scoring: Any = "r2",
    n_jobs: int | None = None,
) -> pd.DataFrame:
    r"""Score how well each property is predicted from each embedding.

    .. math:: R^2 = 1 - \frac{\sum_i (y_i - \hat y_i)^2}{\sum_i (y_i - \bar y)^2}

    unless `scoring` is set. Each fold trains a head on its training rows and scores it on the others. Rows with a NaN
    property are left out, and so are rows that any of the embeddings lacks (a row of only NaN, a missing modality), so
    that all embeddings are scored on the same objects.

    Parameters
    ----------
    embeddings : mapping of str to array-like of shape (n, d)
        Features by name; their widths may differ.
    properties : table of shape (n, n_properties), Series or mapping of str to array-like of shape (n,)
        Properties to predict, by name. Their rows are those of the embeddings by position, whatever their index.
    heads : mapping of str to estimator, default=None
        Regressors by name. None means ``"k-NN"``, the mean of 64 neighbors weighted by their inverse distance, and
        ``"MLP"``, one hidden layer of 32, each on standardized features.
    cv : int, splitter or iterable, default=5
        Folds.
    groups : array-like of shape (n,), default=None
        Groups, for splitters that keep groups together.
    scoring : str, callable or None, default="r2"
        A metric, by a name from :func:`skastro.metrics.get_scorer_names`; greater is better.
    n_jobs : int, default=None
        Number of fits that run at once.

    Returns
    -------
    DataFrame
        One row per embedding, head, property and fold, with its score. ``table.pivot_table("score", ["embedding",
        "head"], "property")`` has the layout of the paper's table.

    Raises
    ------
    ValueError
        Before any fit, if there is nothing to score, lengths differ, or no row is left.
    TypeError
        If `embeddings` or `heads` are not given by name.

    See Also
    --------
    skastro.metrics.vote_scores : Compute scores of morphology, per question.
    label_sweep : Score one property with fewer labels.

    References
    ----------
    Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
    <https://arxiv.org/abs/2310.03024>`_, table 2. The number of neighbors and their weights are those of its code.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skastro.model_selection import property_scores
    >>> rng = np.random.default_rng(0)
    >>> truth = pd.DataFrame(rng.normal(size=(300, 2)), columns=["mass", "age"])
    >>> embeddings = {"both": truth, "mass alone": truth[["mass"]]}
    >>> table = property_scores(embeddings, truth)
    >>> r2 = table.pivot_table("score", ["embedding", "head"], "property")
    >>> r2.index.tolist()
    [('both', 'MLP'), ('both', 'k-NN'), ('mass alone', 'MLP'), ('mass alone', 'k-NN')]
    >>> (r2 > 0.7).loc["mass alone"].values.tolist()
    [[False, True], [False, True]]
    """
    values = _read_properties(properties)
    check_named(embeddings, "embeddings", "embeddings")
    if heads is not None:
        check_named(heads, "heads", "regressors")
    arrays = {name: as_array(rows, name) for name, rows in embeddings.items()}
    mask = _check(arrays, values)
    groups = groups if groups is None else as_target(groups, "groups")
    scorer = get_scorer(scoring)
    first = next(iter(arrays.values()))
    cv = reusable(cv)
    splits = {
        label: _known_splits(str(label), make_splits(first, y, groups, cv, stratify=False), mask & np.isfinite(y))
        for label, y in values.items()
    }
    heads = _heads(min(len(train) for folds in splits.values() for train, _ in folds)) if heads is None else heads
    work = list(product(arrays, heads, values))
    fits = (
        delayed(_scores)(heads[head], arrays[name], values[label], splits[label], scorer) for name, head, label in work
    )
    found = Parallel(n_jobs=n_jobs)(fits)
    lines = [
        (name, head, label, fold, score)
        for (name, head, label), scores in zip(work, found, strict=True)
        for fold, score in enumerate(scores)
    ]
    return pd.DataFrame(lines, columns=["embedding", "head", "property", "fold", "score"])


def _heads(n_train: int) -> dict[str, Any]:
    neighbors = KNeighborsRegressor(min(64, n_train), weights="distance")
    network = MLPRegressor(
        hidden_layer_sizes=(32,), learning_rate_init=3e-3, early_stopping=True, max_iter=500, random_state=0
    )
    targets = StandardScaler().set_output(transform="default")  # scikit-learn takes no polars back
    scaled = TransformedTargetRegressor(network, transformer=targets)
    return {
        "k-NN": make_pipeline(StandardScaler(), neighbors),
        "MLP": make_pipeline(StandardScaler(), scaled),
    }


def _read_properties(properties: Any) -> dict[Any, np.ndarray]:
    """Return each property by its name, NaN where unknown."""
    if not isinstance(properties, Mapping):
        table = as_table(properties)
        if table is None:  # a Series has a name, and so has a column of astropy
            name = getattr(properties, "name", None)
            table = pd.DataFrame(as_array(properties, "properties"))
            table = table.set_axis([name], axis=1) if name is not None else table
        properties = table
    arrays = {name: as_array(values, name) for name, values in properties.items()}
    if words := [name for name, values in arrays.items() if values.dtype.kind not in "fiub"]:
        raise ValueError(f"Property {words[0]!r} is of {arrays[words[0]].dtype}, and not of numbers.")
    return arrays


def _check(arrays: Mapping[str, np.ndarray], values: Mapping[Any, np.ndarray]) -> np.ndarray:
    """Return the mask of rows that all embeddings have."""
    lengths = {len(column) for column in values.values()}
    if not max(lengths, default=0):
        raise ValueError("There is nothing to compare: give at least one property with its rows.")
    if len(lengths) > 1:
        raise ValueError(f"properties must have one length; got {', '.join(map(str, sorted(lengths)))}.")
    (n,) = lengths
    for name, rows in arrays.items():
        if rows.ndim != 2 or len(rows) != n:
            raise ValueError(
                f"Embedding {name!r} must have one row for each of the {n} objects of properties; its shape is "
                f"{rows.shape}."
            )
    mask = ~np.any([np.isnan(rows).all(axis=1) for rows in arrays.values()], axis=0)
    if not mask.any():
        raise ValueError("No object has a row in every embedding.")
    return mask


def _known_splits(name: str, splits: Iterable[Any], known: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Leave rows of unknown property, or of no embedding, out of the folds of all rows."""
    folds = [tuple(np.asarray(part)[known[part]] for part in split) for split in splits]
    if not all(len(part) for fold in folds for part in fold):
        raise ValueError(f"Property {name!r} is known of {known.sum()} objects, which leaves a fold without any.")
    return folds


def _scores(head: Any, rows: np.ndarray, y: np.ndarray, splits: list[Any], scorer: Any) -> list[float]:
    """Score a head on each fold."""
    scores = []
    for train, test in splits:
        model = clone(head).fit(rows[train], y[train])
        scores.append(float(check_scoring(model, scorer)(model, rows[test], y[test])))
    return scores
