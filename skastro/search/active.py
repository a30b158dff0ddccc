"""What to look at next: a person scores a few objects, and the ranking of all others learns from it."""

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import IsolationForest, RandomForestRegressor
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from skastro.inputs import as_array, check_rows

__all__ = ["ActiveRanking"]

LOW, RANGE = 0.1, 0.85  # a person's scores lie between 0.1 and 0.95 in the formula, as in the paper's code
FAR = 100.0  # beyond, the tangent is 1


class ActiveRanking(BaseEstimator):
    r"""Rank objects by how much they are worth a look, from the scores that a person gave to some, as Astronomaly does.

    At first the strangest come first, by a detector of outliers. Where a person has scored objects, that of what is
    like them counts instead:

    .. math:: \hat S = S \tanh\left(e^{\alpha d / d_0} - 1 + \operatorname{arctanh}(0.1 + 0.85\, U)\right)

    S is the outlier score from 0 to 1; U the score that a regressor, trained on the scores given, predicts, as a
    fraction of the highest one given; d the distance to the nearest object scored, and d₀ its mean. So what is far from
    all that was looked at keeps its rank, and what is like the boring loses it.

    Parameters
    ----------
    detector : estimator, default=None
        Outlier detector of scikit-learn, with ``score_samples``, lower being stranger. None is an
        :class:`~sklearn.ensemble.IsolationForest`; a :class:`~sklearn.neighbors.LocalOutlierFactor` needs
        ``novelty=True``.
    regressor : estimator, default=None
        Learns the scores given. None is a :class:`~sklearn.ensemble.RandomForestRegressor`.
    alpha : float, default=1.0
        How fast a score given is forgotten with distance; 0 believes it everywhere.
    random_state : int, RandomState instance or None, default=None
        Source of the default detector's and regressor's randomness.

    Attributes
    ----------
    detector_ : estimator
        Fitted on all rows.
    regressor_ : estimator or None
        Fitted on the rows that were scored; None before any was.
    scored_ : ndarray of shape (m, n_features), float64
        The rows that were scored.
    scores_ : ndarray of shape (n,), float64
        How much each row of `fit` is worth a look, from 0 to 1.
    ranking_ : ndarray of int
        Rows of `fit` that were not scored yet, those to look at next first.
    limits_ : ndarray of shape (2,), float64
        Lowest and highest outlier score of the rows of `fit`.
    highest_ : float
        Highest score given; 0 before any was.
    distance_ : float
        d₀; 0 before any row was scored.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features,), str
        Names of the columns, if `X` has any.

    See Also
    --------
    LookAlikes.more_like : Rank by examples of what is sought, without outliers.
    expected_information_gain : Choose what volunteers should see.

    Notes
    -----
    Distances and the default detector see columns as they are: scale them first where their units differ.

    References
    ----------
    Lochner & Bassett (2021), "Astronomaly: Personalised active anomaly detection in astronomical data",
    `arXiv:2010.11202 <https://arxiv.org/abs/2010.11202>`_.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.search import ActiveRanking
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(310, 2)) + np.repeat([0, 8, -8], [300, 5, 5])[:, np.newaxis]
    >>> scores = np.full(310, np.nan)                                       # nothing was looked at
    >>> ranking = ActiveRanking(random_state=0).fit(rows, scores)
    >>> bool(np.all(ranking.ranking_[:10] >= 300))
    True
    >>> scores[300], scores[305], scores[:5] = 5, 0, 0                      # the first group is what we want
    >>> bool(np.all(ranking.fit(rows, scores).ranking_[:4] < 305))
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "detector": [HasMethods(["fit", "score_samples"]), None],
        "regressor": [HasMethods(["fit", "predict"]), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        detector: Any = None,
        regressor: Any = None,
        *,
        alpha: float = 1.0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.detector = detector
        self.regressor = regressor
        self.alpha = alpha
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what is strange from all rows, and what is worth a look from those with a score.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Embeddings.
        y : array-like of shape (n,), default=None
            Scores that a person gave, 0 being boring, on any scale; NaN where nobody looked. None is NaN everywhere.

        Returns
        -------
        ActiveRanking
            Itself.

        Raises
        ------
        ValueError
            If a parameter is invalid, a value of `X` is NaN or infinite, scores are not one per row, or one is
            negative or infinite.
        """
        self._validate_params()
        rows = check_rows(self, X, reset=True, dtype="numeric", ensure_min_samples=2)
        given = np.full(len(rows), np.nan) if y is None else _check_scores(y, len(rows))
        detector, regressor = self._parts()
        strange = -detector.fit(rows).score_samples(rows)
        known = ~np.isnan(given)
        self.detector_, self.limits_ = detector, np.array([strange.min(), strange.max()], dtype=np.float64)
        self.scored_ = np.asarray(rows[known], dtype=np.float64)
        self.regressor_ = regressor.fit(rows[known], given[known]) if known.any() else None
        self.highest_ = float(given[known].max()) if known.any() else 0.0
        self.distance_ = float(self._distances(rows).mean()) if known.any() else 0.0
        self.scores_ = self._interest(rows, strange)
        self.ranking_ = np.flatnonzero(~known)[np.argsort(-self.scores_[~known], kind="stable")]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Compute how much objects are worth a look.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Embeddings.

        Returns
        -------
        ndarray of shape (n,), float64
            From 0 to 1, the higher the more.

        Raises
        ------
        ValueError
            If `X` has other columns than in `fit`, or values that are NaN or infinite.
        """
        check_is_fitted(self)
        rows = check_rows(self, X, reset=False, dtype="numeric")
        return self._interest(rows, -self.detector_.score_samples(rows))

    def _parts(self) -> tuple[Any, Any]:
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=2)
        return (
            IsolationForest(random_state=seeds[0]) if self.detector is None else clone(self.detector),
            RandomForestRegressor(random_state=seeds[1]) if self.regressor is None else clone(self.regressor),
        )

    def _distances(self, rows: np.ndarray) -> np.ndarray:
        return pairwise_distances_argmin_min(rows, self.scored_)[1]

    def _interest(self, rows: np.ndarray, strange: np.ndarray) -> np.ndarray:
        low, high = self.limits_
        strangeness = np.clip((strange - low) / (high - low), 0, 1) if high > low else np.ones(len(rows))
        if self.regressor_ is None:
            return strangeness
        worth = self.regressor_.predict(rows) / self.highest_ if self.highest_ > 0 else np.zeros(len(rows))
        far = self._distances(rows) / self.distance_ if self.distance_ > 0 else np.zeros(len(rows))
        trust = np.arctanh(LOW + RANGE * np.clip(worth, 0, 1))
        return strangeness * np.tanh(np.expm1(np.minimum(self.alpha * far, FAR)) + trust)


def _check_scores(y: Any, n: int) -> np.ndarray:
    given = np.asarray(as_array(y, "y"), dtype=np.float64)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.shape != (n,):
        raise ValueError(f"y must be one score per row, ({n},), NaN where nobody looked; its shape is {given.shape}.")
    bad = np.flatnonzero((given < 0) | np.isinf(given))
    if len(bad):
        raise ValueError(
            f"y must be scores of 0 or more, or NaN where nobody looked; row {bad[0]} has {given[bad[0]]}."
        )
    return given
