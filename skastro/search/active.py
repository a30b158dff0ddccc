"""What to look at next: a person scores a few objects, and the ranking of all others learns from it."""

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import IsolationForest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from skastro.inputs import as_array, check_rows, restored_on_failure
from skastro.search.exact import parts

__all__ = ["ActiveRanking"]

PART = 4096  # rows that are compared with the scored ones at a time
SPREAD, NOISE = 0.25, 0.05  # variances of a score, of which the highest is 1: among objects, and of a person's mind


class ActiveRanking(BaseEstimator):
    r"""Rank objects by how much they are worth a look, from the scores that a person gave to some, as Astronomaly does.

    At first the strangest come first, by a detector of outliers. As soon as anything has a score, a Gaussian process
    learns the scores, and what comes first is what may be most interesting,

    .. math:: a = \mu + \kappa\, \sigma,

    by the mean and the standard deviation of the process: what is like the liked, and what is like nothing that was
    looked at.

    Parameters
    ----------
    detector : estimator, default=None
        Outlier detector of scikit-learn, with ``score_samples``, lower being stranger. None is an
        :class:`~sklearn.ensemble.IsolationForest`; a :class:`~sklearn.neighbors.LocalOutlierFactor` needs
        ``novelty=True``.
    explore : float, default=0.5
        :math:`\kappa`, how much not knowing is worth: 0 only looks for more of what was liked.
    random_state : int, RandomState instance or None, default=None
        Source of the default detector's randomness.

    Attributes
    ----------
    detector_ : estimator
        Fitted on all rows.
    scaler_ : StandardScaler
        Mean and scale of the columns.
    scored_ : ndarray of shape (m, n_features), float64
        The standardized rows that were scored.
    given_ : ndarray of shape (m,), float64
        Their scores, as a fraction of the highest one.
    scores_ : ndarray of shape (n,), float64
        How much each row of `fit` is worth a look.
    ranking_ : ndarray of int
        Rows of `fit` that were not scored yet, those to look at next first.
    limits_ : ndarray of shape (2,), float64
        Lowest and highest outlier score of the rows of `fit`.
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
    The kernel is fixed: a Gaussian as wide as the square root of the number of columns, which are standardized.
    Embeddings of hundreds of columns are better cut to some tens before, by a PCA. All scores given are compared with
    each other: more than some thousand take long. What is like none of them is expected to have their mean score, one
    more that is boring counted among them.

    The acquisition of the second reference is the expected improvement; the bound here found as much or more on each
    of five tasks. The formula of the first one multiplies the outlier score, so what is not strange never comes first:
    ``benchmarks/finding.py`` compares them.

    References
    ----------
    Lochner & Rudnick (2025), "Astronomaly Protege: Discovery through human-machine collaboration", `arXiv:2411.04188
    <https://arxiv.org/abs/2411.04188>`_; Lochner & Bassett (2021), "Astronomaly: Personalised active anomaly detection
    in astronomical data", `arXiv:2010.11202 <https://arxiv.org/abs/2010.11202>`_.

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
        "explore": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        detector: Any = None,
        *,
        explore: float = 0.5,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.detector = detector
        self.explore = explore
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
        with restored_on_failure(self):
            rows = check_rows(self, X, reset=True, dtype="numeric", ensure_min_samples=2)
            given = np.full(len(rows), np.nan) if y is None else _check_scores(y, len(rows))
            known = ~np.isnan(given)
            detector = self._detector()
            strange = -detector.fit(rows).score_samples(rows)
            self.detector_, self.limits_ = detector, np.array([strange.min(), strange.max()], dtype=np.float64)
            self.scaler_ = StandardScaler().set_output(transform="default").fit(rows.astype(np.float64))
            self.scored_ = self.scaler_.transform(rows[known].astype(np.float64)) if known.any() else rows[:0]
            self.given_ = given[known] / max(given[known].max(initial=0), np.finfo(np.float64).tiny)
            self.scores_ = self._interest(rows)
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
            The higher the more: strangeness from 0 to 1 before anything was scored, then the bound a, on which the
            highest score given is 1.

        Raises
        ------
        ValueError
            If `X` has other columns than in `fit`, or values that are NaN or infinite.
        """
        check_is_fitted(self)
        return self._interest(check_rows(self, X, reset=False, dtype="numeric"))

    def _detector(self) -> Any:
        if self.detector is not None:
            return clone(self.detector)
        return IsolationForest(random_state=check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _interest(self, rows: np.ndarray) -> np.ndarray:
        return self._bound(rows) if len(self.given_) else self._strangeness(rows)

    def _strangeness(self, rows: np.ndarray) -> np.ndarray:
        low, high = self.limits_
        strange = -self.detector_.score_samples(rows)
        return np.clip((strange - low) / (high - low), 0, 1) if high > low else np.ones(len(rows))

    def _bound(self, rows: np.ndarray) -> np.ndarray:
        kernel = SPREAD * RBF(np.sqrt(rows.shape[1]))
        process = GaussianProcessRegressor(kernel, alpha=NOISE, optimizer=None)
        level = self.given_.sum() / (len(self.given_) + 1)  # one more is boring: else what is liked alone is average
        process.fit(self.scored_, self.given_ - level)
        bounds = np.empty(len(rows))
        for some in parts(len(rows), PART):
            mean, deviation = process.predict(self.scaler_.transform(rows[some].astype(np.float64)), return_std=True)
            bounds[some] = level + mean + self.explore * deviation
        return bounds


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
