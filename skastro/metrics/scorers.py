"""Scorers by name, for searches and sweeps."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn import metrics
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from skastro.metrics.photoz import crps, photoz_bias, photoz_outliers, sigma_mad
from skastro.metrics.votes import (
    dirichlet_nll,
    per_question,
    read_votes,
    vote_coverage,
    vote_fraction_rmse,
    vote_scores,
)

__all__ = ["final_predictor", "get_scorer", "get_scorer_names", "make_vote_scorer"]

VOTE_SCORERS = (
    "neg_dirichlet_nll",
    "neg_vote_coverage_error",
    "neg_vote_fraction_rmse",
    "neg_vote_outliers",
    "vote_accuracy",
    "vote_auc",
    "vote_coverage",
    "vote_f1",
    "vote_precision",
    "vote_recall",
)


def get_scorer(scoring: str | Callable[..., float] | None) -> Any:
    """Return a scorer by name. Names of skastro take precedence over those of scikit-learn.

    Parameters
    ----------
    scoring : str, callable or None
        A name from :func:`get_scorer_names`. A callable or None is returned unchanged.

    Returns
    -------
    callable
        ``scorer(estimator, X, y)``, greater is better, for the parameter `scoring` of
        :class:`~sklearn.model_selection.GridSearchCV` and similar classes.

    Raises
    ------
    ValueError
        If no scorer has that name.

    Notes
    -----
    ``"neg_photoz_bias"`` is minus the absolute value of the mean error. ``"neg_crps"`` is for regressors with
    ``pdf, edges = predict_pdf(X)``: alone, frozen, at the end of a pipeline, or fitted by a search. For the scorers of
    votes see :func:`make_vote_scorer`. None of these hands on metadata such as ``ivar``; a model's own ``score`` does.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from skastro.metrics import get_scorer
    >>> z = np.linspace(0.0, 0.4, 20)
    >>> scores = cross_val_score(LinearRegression(), z[:, np.newaxis], z, scoring=get_scorer("neg_photoz_outliers"))
    >>> bool(np.all(scores == 0))
    True
    """
    if not isinstance(scoring, str):
        return scoring
    if scoring in _SCORERS:
        return deepcopy(_SCORERS[scoring])  # metadata that one user requests must not change the shared scorer
    if scoring in metrics.get_scorer_names():
        return metrics.get_scorer(scoring)
    raise ValueError(f"There is no scorer {scoring!r}; skastro.metrics.get_scorer_names() lists them.")


def get_scorer_names() -> list[str]:
    """List the names that :func:`get_scorer` accepts.

    Returns
    -------
    list of str
        Names of skastro and of scikit-learn, sorted.

    Examples
    --------
    >>> from skastro.metrics import get_scorer_names
    >>> {"neg_crps", "neg_sigma_mad", "r2"} <= set(get_scorer_names())
    True
    """
    return sorted({*_SCORERS, *metrics.get_scorer_names()})


def make_vote_scorer(
    name: str,
    *,
    question: str | None = None,
    min_volunteers: int = 1,
    min_asked: float = 0.0,
    high_quality: tuple[float, float] = (0.2, 0.8),
    level: float = 0.9,
) -> Callable[..., float]:
    """Make a scorer of predicted votes with non-default settings; :func:`get_scorer` returns those with the defaults.

    ``y`` are counts. Questions that were not asked, and galaxies without any vote, are ignored.

    Parameters
    ----------
    name : str
        ``"neg_dirichlet_nll"``: minus the result of :func:`dirichlet_nll`, the log-likelihood of a galaxy's votes.
        ``"neg_vote_fraction_rmse"``: minus that of :func:`vote_fraction_rmse`. ``"vote_accuracy"``,
        ``"vote_precision"``, ``"vote_recall"``, ``"vote_f1"``, ``"vote_auc"`` and ``"neg_vote_outliers"``: the columns
        of :func:`vote_scores`, averaged over the questions for which they are defined. ``"vote_coverage"``: the result
        of :func:`vote_coverage`, to inspect and not to maximize. ``"neg_vote_coverage_error"``: minus its distance from
        `level`.
    question : str, default=None
        The one question to score; None scores all.
    min_volunteers : int, default=1
        Galaxies shown to fewer volunteers are left out.
    min_asked : float, default=0.0
        Questions that a smaller fraction of a galaxy's volunteers answered are left out for that galaxy.
    high_quality : tuple of float, default=(0.2, 0.8)
        Limits beyond which volunteers agree, for the columns of :func:`vote_scores`.
    level : float, default=0.9
        Probability inside the intervals, for the coverage.

    Returns
    -------
    callable
        ``scorer(estimator, X, y)``, greater is better, for classifiers of votes: alone, frozen, at the end of a
        pipeline, or fitted by a search.

    Raises
    ------
    ValueError
        If no scorer of votes has that name.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import DirichletClassifier
    >>> from skastro.metrics import make_vote_scorer
    >>> X = np.linspace(-1, 1, 40)[:, np.newaxis]
    >>> votes = np.hstack([20 + 18 * X, 20 - 18 * X]).astype(int)
    >>> model = DirichletClassifier().fit(X, votes)
    >>> make_vote_scorer("vote_accuracy", min_volunteers=35)(model, X, votes)
    1.0
    """
    if name not in VOTE_SCORERS:
        raise ValueError(f"There is no scorer of votes {name!r}; there are {', '.join(VOTE_SCORERS)}.")
    return VoteScorer(name, question, min_volunteers, min_asked, high_quality, level)


@dataclass
class VoteScorer:
    """Scorer of `make_vote_scorer`: a class and not a closure, so that a search that holds one can be saved."""

    name: str
    question: str | None
    min_volunteers: int
    min_asked: float
    high_quality: tuple[float, float]
    level: float

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        model, X = _ask(estimator, X, "predict_concentrations", self.name)
        votes, schema = read_votes(model.count_votes(y), model.schema_)
        concentrations = np.asarray(model.predict_concentrations(X))
        chosen: dict[str, Any] = {
            "question": self.question,
            "min_volunteers": self.min_volunteers,
            "min_asked": self.min_asked,
        }
        if self.name == "neg_dirichlet_nll":
            return -dirichlet_nll(votes, concentrations, schema, **chosen)
        if "coverage" in self.name:
            coverage = vote_coverage(votes, concentrations, schema, level=self.level, **chosen)
            return coverage if self.name == "vote_coverage" else -abs(coverage - self.level)
        predicted = concentrations / per_question(concentrations, schema.sizes)
        if self.name == "neg_vote_fraction_rmse":
            return -vote_fraction_rmse(votes, predicted, schema, **chosen)
        scores = vote_scores(votes, predicted, schema, high_quality=self.high_quality, **chosen)
        score = float(scores[self.name.rpartition("vote_")[2]].mean())
        return -score if self.name.startswith("neg") else score


def absolute_bias(z_true: ArrayLike, z_pred: ArrayLike) -> float:
    """Return the absolute value of the mean error."""
    return abs(photoz_bias(z_true, z_pred))


def final_predictor(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Find the predictor that is frozen, at the end of a pipeline, or fitted by a search, and what it is given.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    X : array-like of shape (n, ...)
        What the whole is given.

    Returns
    -------
    predictor : estimator
    X : array-like of shape (n, ...)
        What the steps before it made of that.
    """
    if isinstance(estimator, FrozenEstimator):
        return final_predictor(estimator.estimator, X)
    if hasattr(estimator, "best_estimator_"):
        return final_predictor(estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline):
        return final_predictor(estimator[-1], estimator[:-1].transform(X) if len(estimator) > 1 else X)
    return estimator, X


def _ask(estimator: Any, X: Any, method: str, scorer: str) -> tuple[Any, Any]:
    """Find the final predictor and its input, and refuse one without the method."""
    predictor, X = final_predictor(estimator, X)
    if not hasattr(predictor, method):
        kind = "regressor" if method == "predict_pdf" else "classifier"
        raise TypeError(f"{scorer} needs a {kind} with {method}; {type(predictor).__name__} has none.")
    return predictor, X


# make_scorer would look for this method on the pipeline, and pipelines do not forward it.
class CRPSScorer:
    """Minus the mean CRPS of the distributions that a regressor predicts."""

    def __call__(self, estimator: Any, X: Any, y: ArrayLike, sample_weight: Any = None) -> float:
        model, X = _ask(estimator, X, "predict_pdf", "neg_crps")
        return -float(np.average(crps(y, *model.predict_pdf(X)), weights=sample_weight))


_SCORERS: dict[str, Any] = {
    "neg_crps": CRPSScorer(),
    "neg_photoz_bias": metrics.make_scorer(absolute_bias, greater_is_better=False),
    "neg_photoz_outliers": metrics.make_scorer(photoz_outliers, greater_is_better=False),
    "neg_sigma_mad": metrics.make_scorer(sigma_mad, greater_is_better=False),
} | {name: make_vote_scorer(name) for name in VOTE_SCORERS}
