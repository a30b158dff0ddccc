"""Photometric redshifts: a classifier over bins of redshift, read as a distribution."""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, check_cv
from sklearn.utils import Tags, _safe_indexing, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from skastro._warning import warn
from skastro.downstream.answers import ValueRegressorMixin
from skastro.inputs import as_array, as_rows, as_target, as_weight, restored_on_failure
from skastro.metrics import pit

__all__ = ["PhotoZRegressor", "RedshiftBins"]

LEVELS = np.linspace(0, 1, 21)
EVEN = 0.01  # share of an honest recalibration, so that the places rise from 0 to 1


class RedshiftBins(BaseEstimator):
    r"""Equal bins of redshift, and what a distribution over them says about one object.

    A redshift becomes a class by its bin, and probabilities :math:`p_i` of the bins become a redshift again, by
    default their expectation over the centers :math:`c_i`:

    .. math:: \delta = \frac{z_\mathrm{high} - z_\mathrm{low}}{n_\mathrm{bins}}, \qquad
        i(z) = \left\lfloor \frac{z - z_\mathrm{low}}{\delta} \right\rfloor, \qquad
        z_p = \sum_i p_i\, c_i, \quad c_i = z_\mathrm{low} + \left(i + \tfrac{1}{2}\right) \delta.

    Parameters
    ----------
    n_bins : int, default=180
        Number of bins, at least 2.
    low : float, default=0.0
        Redshift at which the first bin begins.
    high : float, default=0.4
        Redshift at which the last bin ends; it belongs to that bin.
    point : {"mean", "mode", "median"}, default="mean"
        What `estimate` gives: the expectation, the center of the most probable bin, or the redshift that has half
        of the probability below it.

    References
    ----------
    Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", section 3.3 and
    appendix E.2: 180 bins, the expectation.

    Pasquet et al. (2019), "Photometric redshifts from SDSS images using a convolutional neural network".

    Examples
    --------
    >>> from skastro.downstream import RedshiftBins
    >>> bins = RedshiftBins(n_bins=4)
    >>> bins.digitize([0.05, 0.1, 0.4]).tolist()
    [0, 1, 3]
    >>> pdf = [[0.5, 0.25, 0.25, 0.0]]
    >>> bins.estimate(pdf), bins.quantile(pdf, 0.5), bins.interval(pdf, 0.5)
    (array([0.125]), array([0.1]), array([[0.05, 0.2 ]]))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_bins": [Interval(Integral, 2, None, closed="left")],
        "low": [Interval(Real, None, None, closed="neither")],
        "high": [Interval(Real, None, None, closed="neither")],
        "point": [StrOptions({"mean", "mode", "median"})],
    }

    def __init__(self, n_bins: int = 180, *, low: float = 0.0, high: float = 0.4, point: str = "mean") -> None:
        self.n_bins = n_bins
        self.low = low
        self.high = high
        self.point = point

    def check(self) -> None:
        """Refuse settings that make no bins.

        Raises
        ------
        ValueError
            Naming the setting: fewer than 2 bins, no finite limits, `low` not below `high`, or an unknown `point`.
        """
        self._validate_params()
        if self.low >= self.high:
            raise ValueError(f"low must be less than high; got low={self.low} and high={self.high}.")

    @property
    def edges(self) -> np.ndarray:
        """Edges of the bins: ndarray of shape (n_bins + 1,)."""
        self.check()
        return np.linspace(self.low, self.high, self.n_bins + 1)

    @property
    def centers(self) -> np.ndarray:
        """The middle of each bin: ndarray of shape (n_bins,)."""
        edges = self.edges
        return (edges[:-1] + edges[1:]) / 2

    def digitize(self, z: Any) -> np.ndarray:
        """Find the bin of each redshift.

        Parameters
        ----------
        z : array-like of shape (n,)
            Redshifts. Those outside the bins go to the first or the last.

        Returns
        -------
        ndarray of shape (n,), int
            Indices from 0 to ``n_bins - 1``; a redshift on an edge belongs to the bin above.

        Raises
        ------
        ValueError
            If redshifts are NaN or infinite: how many, and the first row.

        Warns
        -----
        UserWarning
            If redshifts are outside the bins: how many, and how far they reach.
        """
        inner = self.edges[1:-1]
        z = column_or_1d(as_array(z, "redshifts"), dtype=np.float64, warn=True)
        finite = np.isfinite(z)
        if not finite.all():
            raise ValueError(
                f"{np.sum(~finite)} of {len(z)} redshifts are NaN or infinite, the first in row {np.argmin(finite)}."
            )
        outside = np.sum((z < self.low) | (z > self.high))
        if outside:
            warn(
                f"{outside} of {len(z)} redshifts lie outside [{self.low}, {self.high}] and are put into the first "
                f"or the last bin: they reach from {z.min():.4g} to {z.max():.4g}; set low= and high= of the bins."
            )
        return np.digitize(z, inner)

    def estimate(self, pdf: Any) -> np.ndarray:
        """Estimate one redshift for each distribution, as `point` says.

        Parameters
        ----------
        pdf : array-like of shape (n, n_bins)
            Probability of each bin; rows sum to 1.

        Returns
        -------
        ndarray of shape (n,), float64
        """
        if self.point == "median":
            return self.quantile(pdf, 0.5)
        pdf, centers = self._probabilities(pdf), self.centers
        return pdf @ centers if self.point == "mean" else centers[pdf.argmax(axis=1)]

    def quantile(self, pdf: Any, q: float) -> np.ndarray:
        """Find the redshift that has a share `q` of the probability below it.

        Probability is spread evenly within a bin, so the cumulative distribution is a straight line there. Where it
        is flat, the lowest redshift is given, but never one below all probability.

        Parameters
        ----------
        pdf : array-like of shape (n, n_bins)
            Probability of each bin; rows sum to 1.
        q : float
            From 0 to 1.

        Returns
        -------
        ndarray of shape (n,), float64

        Raises
        ------
        ValueError
            If `q` is not from 0 to 1, or `pdf` is not what it should be.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q must be from 0 to 1; got {q}.")
        pdf, edges = self._probabilities(pdf), self.edges
        cdf = pdf.cumsum(axis=1)
        cdf /= cdf[:, -1:]
        row, bin_ = np.arange(len(pdf)), np.argmax((cdf >= q) & (pdf > 0), axis=1)
        # Counted down from the end of the bin, because its cumulative probability is what was compared.
        left = np.clip((cdf[row, bin_] - q) / pdf[row, bin_], 0, 1)
        return edges[bin_ + 1] - left * (edges[bin_ + 1] - edges[bin_])

    def interval(self, pdf: Any, level: float) -> np.ndarray:
        """Find the central interval: as much probability below it as above it.

        Parameters
        ----------
        pdf : array-like of shape (n, n_bins)
            Probability of each bin; rows sum to 1.
        level : float
            Probability inside, more than 0 and at most 1.

        Returns
        -------
        ndarray of shape (n, 2), float64
            Lower and upper redshift.

        Raises
        ------
        ValueError
            If `level` is not a probability above 0, or `pdf` is not what it should be.
        """
        if not 0 < level <= 1:
            raise ValueError(f"level must be more than 0 and at most 1; got {level}.")
        return np.column_stack([self.quantile(pdf, (1 - level) / 2), self.quantile(pdf, (1 + level) / 2)])

    def _probabilities(self, pdf: Any) -> np.ndarray:
        pdf = np.asarray(as_array(pdf, "pdf"), dtype=np.float64)
        if pdf.ndim != 2 or pdf.shape[1] != self.n_bins:
            raise ValueError(f"pdf must have one column for each of the {self.n_bins} bins; its shape is {pdf.shape}.")
        total = pdf.sum(axis=1, keepdims=True)
        # Roomy, because a network's softmax may come in half precision.
        valid = (pdf >= 0).all(axis=1) & (np.abs(total[:, 0] - 1) < 0.01)
        if not valid.all():
            raise ValueError(f"Rows of pdf must be probabilities that sum to 1; row {np.argmin(valid)} is not.")
        return pdf / total


class PhotoZRegressor(ValueRegressorMixin, BaseEstimator):
    """Photometric redshifts, each with its distribution, by classification into bins of redshift.

    A head for a pipeline: its input is rows of numbers, such as embeddings or colors. Any classifier with
    probabilities learns the bin of each redshift; `RedshiftBins` has the formulas. Bins without a training object
    have probability 0, and if all objects are in one bin, every prediction is that bin.

    A classifier's distributions may be too wide or too narrow. With `cv` they are recalibrated: the places
    :math:`u = F(z)` of true redshifts in the distributions that other folds give them have themselves a cumulative
    distribution :math:`G`, which for honest ones is :math:`G(u) = u`; each distribution :math:`F` becomes
    :math:`G(F)`.

    Parameters
    ----------
    classifier : classifier with `predict_proba`, default=None
        What learns the bins; it is cloned. None is ``LogisticRegression(C=10, max_iter=1000)``, a linear head: it
        wants standardized features.
    n_bins : int, default=180
        Number of bins, at least 2.
    low : float, default=0.0
        Redshift at which the first bin begins.
    high : float, default=0.4
        Redshift at which the last bin ends.
    point : {"mean", "mode", "median"}, default="mean"
        What `predict` gives of the distribution.
    cv : int, cross-validation splitter, iterable or None, default=None
        How many folds recalibrate the distributions, drawn at random, or which; the classifier is fitted once more for
        each. None leaves them as they are: too wide, if labels are few (of a thousand, intervals of 68 % held 77 %).

    Attributes
    ----------
    classifier_ : classifier
        Fitted; its classes are the indices of the bins that have training objects.
    recalibration_ : ndarray of shape (21,) or None
        Places below which 0, 5, ... 100 % of the true redshifts are: equal steps from 0 to 1 for honest distributions.
    bins_ : RedshiftBins
        Bins in use.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features,), str
        Their names, if `X` had any.

    References
    ----------
    Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", section 3.3 and
    appendix E.2: 180 bins from redshift 0 to 0.4, the expectation.

    Kuleshov, Fenner & Ermon (2018), "Accurate Uncertainties for Deep Learning Using Calibrated Regression",
    `arXiv:1807.00263 <https://arxiv.org/abs/1807.00263>`_; of redshifts Bordoloi, Lilly & Amara (2010),
    `arXiv:0910.5735 <https://arxiv.org/abs/0910.5735>`_: the recalibration.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skastro.downstream import PhotoZRegressor
    >>> redshift = np.linspace(0, 0.4, 200)
    >>> color = np.sqrt(redshift)[:, np.newaxis]
    >>> head = PhotoZRegressor(KNeighborsClassifier(9), n_bins=20).fit(color, redshift)
    >>> head.predict(color[[20, 100]]).round(3)
    array([0.041, 0.201])
    >>> head.predict_interval(color[[20, 100]], level=0.5).round(3)
    array([[0.031, 0.051],
           [0.191, 0.211]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        **RedshiftBins._parameter_constraints,
        "cv": ["cv_object"],
    }

    def __init__(
        self,
        classifier: Any = None,
        *,
        n_bins: int = 180,
        low: float = 0.0,
        high: float = 0.4,
        point: str = "mean",
        cv: Any = None,
    ) -> None:
        self.classifier = classifier
        self.n_bins = n_bins
        self.low = low
        self.high = high
        self.point = point
        self.cv = cv

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn the bins of redshifts.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Embeddings, colors or other numbers.
        y : array-like of shape (n,)
            Redshifts.
        sample_weight : array-like of shape (n,), default=None
            Weights, handed to the classifier's `fit` if given.

        Returns
        -------
        PhotoZRegressor
            Itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, lengths differ, or numbers or redshifts are missing or infinite. NaN in `X`
            passes where the classifier takes it.

        Warns
        -----
        UserWarning
            If redshifts are outside the bins, how many, and how far they reach: they are put into the first or the
            last.
        """
        self._validate_params()
        bins = RedshiftBins(self.n_bins, low=self.low, high=self.high, point=self.point)
        bins.check()
        with restored_on_failure(self):
            X = self._rows(X, reset=True)
            if y is None:
                raise ValueError("PhotoZRegressor requires y to be passed, but the target y is None.")
            check_consistent_length(X, y)
            classes = bins.digitize(as_target(y))
            weights = None if sample_weight is None else as_weight(sample_weight, len(X))
            self.bins_ = bins
            self.recalibration_ = (
                None if self.cv is None else self._recalibration(X, np.ravel(as_target(y)), classes, weights)
            )
            self.classifier_ = self._fitted(X, classes, weights)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Estimate redshifts.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Embeddings, colors or other numbers.

        Returns
        -------
        ndarray of shape (n,), float64
        """
        pdf, _ = self.predict_pdf(X)
        return self.bins_.estimate(pdf)

    def predict_pdf(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Estimate the distribution of each redshift.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Embeddings, colors or other numbers.

        Returns
        -------
        pdf : ndarray of shape (n, n_bins), float64
            Probability of each bin; rows sum to 1. Divide by the bins' width for a density.
        edges : ndarray of shape (n_bins + 1,), float64
            Where bins begin and end.
        """
        check_is_fitted(self)
        pdf = self._pdf(self.classifier_, self._rows(X, reset=False))
        if self.recalibration_ is not None:
            below = np.pad(pdf.cumsum(axis=1), ((0, 0), (1, 0)))
            pdf = np.diff(np.interp(below, self.recalibration_, LEVELS), axis=1)
        return pdf, self.bins_.edges

    def predict_interval(self, X: Any, level: float = 0.68) -> np.ndarray:
        """Estimate central intervals of redshift.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Embeddings, colors or other numbers.
        level : float, default=0.68
            Probability inside, more than 0 and at most 1.

        Returns
        -------
        ndarray of shape (n, 2), float64
            Lower and upper redshift.
        """
        pdf, _ = self.predict_pdf(X)
        return self.bins_.interval(pdf, level)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # The checks' targets are no redshifts: most are clipped.
        tags.regressor_tags.poor_score = True
        tags.input_tags.allow_nan = self.classifier is not None and get_tags(self.classifier).input_tags.allow_nan
        return tags

    def _rows(self, X: Any, reset: bool) -> np.ndarray | pd.DataFrame:
        """Check rows; the classifier sees the names of columns too."""
        finite = "allow-nan" if get_tags(self).input_tags.allow_nan else True
        rows = validate_data(self, as_rows(X), order="C", reset=reset, ensure_all_finite=finite)
        names = getattr(self if reset else self.classifier_, "feature_names_in_", None)
        return rows if names is None else pd.DataFrame(rows, columns=self.feature_names_in_, copy=False)

    def _fitted(self, X: Any, classes: np.ndarray, weights: np.ndarray | None) -> Any:
        given = {} if weights is None else {"sample_weight": weights}
        return self._classifier(classes).fit(X, classes, **given)

    def _pdf(self, classifier: Any, X: Any) -> np.ndarray:
        pdf = np.zeros((len(X), self.bins_.n_bins))
        pdf[:, classifier.classes_] = classifier.predict_proba(X)
        return pdf

    def _recalibration(self, X: Any, z: np.ndarray, classes: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Find where true redshifts are in the distributions that classifiers of other folds give them."""
        folds = KFold(self.cv, shuffle=True, random_state=0) if isinstance(self.cv, Integral) else check_cv(self.cv)
        if hasattr(folds, "get_metadata_routing") and folds.get_metadata_routing().split.requests.get("groups"):
            raise ValueError(f"fit takes no groups: give the folds themselves, cv=[*{self.cv}.split(X, z, groups)].")
        places, counts = [], []
        for train, test in folds.split(X, z):
            weight = None if weights is None else weights[train]
            classifier = self._fitted(_safe_indexing(X, train), classes[train], weight)
            places.append(pit(z[test], self._pdf(classifier, _safe_indexing(X, test)), self.bins_.edges))
            counts.append(np.ones(len(places[-1])) if weights is None else weights[test])
        measured = np.quantile(np.concatenate(places), LEVELS, weights=np.concatenate(counts), method="inverted_cdf")
        measured[[0, -1]] = 0, 1
        return (1 - EVEN) * measured + EVEN * LEVELS

    def _classifier(self, classes: np.ndarray) -> Any:
        if np.ptp(classes) == 0:  # many classifiers refuse a single class
            return DummyClassifier()
        if self.classifier is None:
            # Few objects per bin make the usual C=1 too cautious: on simulated colors 10 beat it at every size.
            return LogisticRegression(C=10, max_iter=1000)
        return clone(self.classifier)
