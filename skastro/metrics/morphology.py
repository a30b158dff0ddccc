"""Metrics of predicted vote fractions, one answer at a time.

The order of arguments is scikit-learn's, truth first.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import metrics

from skastro.inputs import column_names
from skastro.metrics.checks import as_numbers, check_finite, check_lengths, check_shares, order_columns

__all__ = ["morphology_scores", "morphology_table"]


def morphology_scores(
    fractions: ArrayLike, predicted: ArrayLike, *, high_quality: tuple[float, float] = (0.2, 0.8)
) -> dict[str, float]:
    r"""Compute metrics of the predicted vote fractions of one answer.

    On the high-quality rows, where most volunteers agreed, a predicted fraction of 0.5 and above counts as a yes:

    .. math:: {\rm Acc} = \frac{TP + TN}{TP + FP + TN + FN} \qquad {\rm Prec} = \frac{TP}{TP + FP} \qquad
              {\rm Rec} = \frac{TP}{TP + FN} \qquad F_1 = \frac{2\, TP}{2\, TP + FP + FN}

    .. math:: \eta = \frac{N(P_{\rm true} < 0.2 \cap P_{\rm pred} \ge 0.8)
              + N(P_{\rm true} > 0.8 \cap P_{\rm pred} \le 0.2)}{N_{\rm HQ}}

    Parameters
    ----------
    fractions : array-like of shape (n,)
        Vote fractions from 0 to 1. Rows with NaN, where the question was not asked, are left out.
    predicted : array-like of shape (n,)
        Predicted fractions or probabilities.
    high_quality : tuple of float, default=(0.2, 0.8)
        Rows with a fraction below the first or above the second are of high quality. ``(0.5, 0.5)`` takes all but ties.

    Returns
    -------
    dict of float
        ``n``, the number of rows asked, and ``n_high_quality``, the number of high-quality rows among them. On the
        high-quality rows: ``accuracy``, ``precision``, ``recall``, ``f1``, ``auc`` (area under the receiver operating
        characteristic) and ``outliers``, the fraction :math:`\eta`. On all rows asked: ``rmse``, the root-mean-square
        error of the fractions. Undefined values are NaN, for example the area with one class only.

    Raises
    ------
    ValueError
        If lengths differ, arrays are not one-dimensional, a fraction is not between 0 and 1, a prediction is not
        finite where the question was asked, or `high_quality` is not a pair around 0.5.

    Notes
    -----
    The paper prints the denominator of the precision as TN + FP, an error. It states :math:`\eta` in percent, and with
    :math:`P_{\rm true} \le 0.2` or :math:`\ge 0.8`, although high-quality rows exclude both limits.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, appendix C.3.

    Examples
    --------
    >>> from skastro.metrics import morphology_scores
    >>> scores = morphology_scores([0.9, 1.0, 0.1, 0.0, 0.6], [0.8, 0.3, 0.2, 0.9, 0.6])
    >>> scores["n_high_quality"], scores["accuracy"], scores["outliers"]
    (4, 0.5, 0.25)
    """
    low, high = _check_high_quality(high_quality)
    fractions, predicted = _check_fractions(fractions, predicted)
    sure = (fractions < low) | (fractions > high)
    return {
        "n": len(fractions),
        "n_high_quality": int(np.sum(sure)),
        **_binary_scores(fractions[sure] > 0.5, predicted[sure]),
        "outliers": _opposite(fractions[sure], predicted[sure], low, high),
        "rmse": metrics.root_mean_squared_error(fractions, predicted) if len(fractions) else np.nan,
    }


def morphology_table(
    fractions: ArrayLike,
    predicted: ArrayLike,
    *,
    votes: ArrayLike | None = None,
    min_votes: float = 0,
    high_quality: tuple[float, float] = (0.2, 0.8),
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Compute metrics of predicted vote fractions, answer by answer.

    Parameters
    ----------
    fractions : array-like of shape (n,) or (n, n_answers)
        Vote fractions from 0 to 1; NaN where the question was not asked.
    predicted : array-like of the shape of `fractions`
        Predicted fractions or probabilities, columns in the same order; those of a table that has the names of
        `fractions` are found by name.
    votes : array-like of shape (n,) or (n, n_answers), default=None
        Number of volunteers who answered the question.
    min_votes : float, default=0
        Rows with fewer votes, or an unknown number, are left out. The paper uses 5.
    high_quality : tuple of float, default=(0.2, 0.8)
        Rows with a fraction below the first or above the second are of high quality.
    names : sequence of str, default=None
        Names of the answers; None uses the columns of a table, or numbers.

    Returns
    -------
    DataFrame
        One row per answer, one column per entry of :func:`morphology_scores`.

    Raises
    ------
    ValueError
        As in :func:`morphology_scores`; if shapes differ; if `min_votes` is given without `votes`.

    See Also
    --------
    morphology_scores : The metrics.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, appendix C and figures 3, 11 and 12.

    Examples
    --------
    >>> import pandas as pd
    >>> from skastro.metrics import morphology_table
    >>> fractions = pd.DataFrame({"smooth": [0.9, 0.1, 0.6, 0.0], "bar": [float("nan"), 0.9, 0.2, 0.1]})
    >>> predicted = [[0.7, 0.5], [0.4, 0.8], [0.6, 0.1], [0.1, 0.6]]
    >>> morphology_table(fractions, predicted)[["n", "n_high_quality", "accuracy", "recall"]]
            n  n_high_quality  accuracy  recall
    smooth  4               3       1.0     1.0
    bar     3               2       0.5     1.0
    """
    columns = column_names(fractions)
    predicted, votes = (order_columns(n, v, columns) for n, v in (("predicted", predicted), ("votes", votes)))
    fractions, predicted = _as_answers("fractions", fractions), _as_answers("predicted", predicted)
    labels = list((columns or range(fractions.shape[1])) if names is None else names)
    if fractions.shape != predicted.shape:
        raise ValueError(f"fractions and predicted must have one shape; got {fractions.shape} and {predicted.shape}.")
    if len(labels) != fractions.shape[1]:
        raise ValueError(f"names must hold one name for each of the {fractions.shape[1]} answers; got {len(labels)}.")
    if min_votes > 0:
        fractions = np.where(_check_votes(votes, fractions.shape) >= min_votes, fractions, np.nan)
    rows = [
        morphology_scores(true, guess, high_quality=high_quality)
        for true, guess in zip(fractions.T, predicted.T, strict=True)
    ]
    return pd.DataFrame(rows, index=pd.Index(labels))


def _check_high_quality(high_quality: tuple[float, float]) -> tuple[float, float]:
    limits = tuple(high_quality)
    if len(limits) != 2 or not 0 <= limits[0] <= 0.5 <= limits[1] <= 1:
        raise ValueError(f"high_quality must be one fraction up to 0.5 and one from there to 1; got {high_quality}.")
    return limits


def _check_fractions(fractions: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows where the question was asked."""
    fractions, predicted = as_numbers("fractions", fractions), as_numbers("predicted", predicted)
    if fractions.ndim != 1 or predicted.ndim != 1:
        raise ValueError(f"fractions and predicted must be one-dimensional; got {fractions.shape}, {predicted.shape}.")
    check_lengths(fractions=fractions, predicted=predicted)
    check_shares("fractions", fractions)
    asked = ~np.isnan(fractions)
    check_finite("predicted", np.where(asked, predicted, 0))
    check_shares("predicted", np.where(asked, predicted, 0))
    return fractions[asked], predicted[asked]


def _binary_scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Compute the scores of a binary classification; undefined scores are NaN."""
    if not len(truth):
        return dict.fromkeys(["accuracy", "precision", "recall", "f1", "auc"], np.nan)
    yes = predicted >= 0.5
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, yes, average="binary", zero_division=np.nan
    )
    return {
        "accuracy": metrics.accuracy_score(truth, yes),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auc": metrics.roc_auc_score(truth, predicted) if 0 < truth.mean() < 1 else np.nan,
    }


def _opposite(fractions: np.ndarray, predicted: np.ndarray, low: float, high: float) -> float:
    """Return the fraction of rows predicted confidently as the wrong class."""
    opposite = ((fractions < low) & (predicted >= high)) | ((fractions > high) & (predicted <= low))
    return float(np.mean(opposite)) if len(opposite) else np.nan


def _as_answers(name: str, values: ArrayLike) -> np.ndarray:
    """Return values as one column per answer."""
    values = as_numbers(name, values)
    return values[:, np.newaxis] if values.ndim == 1 else values


def _check_votes(votes: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    if votes is None:
        raise ValueError("min_votes needs votes, the number of answers given.")
    votes = _as_answers("votes", votes)
    if votes.shape not in (shape, (shape[0], 1)):
        raise ValueError(f"votes must have a number per row or the shape {shape} of fractions; got {votes.shape}.")
    return votes
