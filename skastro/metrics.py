"""How good are redshifts, redshift densities and morphologies: metrics, tables of them, and scorers by name.

Arguments come in scikit-learn's order, truth first.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import metrics
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import gen_batches

__all__ = [
    "crps",
    "delta_z",
    "get_scorer",
    "get_scorer_names",
    "morphology_scores",
    "morphology_table",
    "photoz_bias",
    "photoz_outliers",
    "photoz_table",
    "pit",
    "sigma_mad",
]


def delta_z(z_true: ArrayLike, z_pred: ArrayLike) -> np.ndarray:
    r"""Redshift error of each object, relative to the stretch of its light.

    .. math:: \Delta z = \frac{z_p - z_s}{1 + z_s}

    Parameters
    ----------
    z_true : array-like of shape (n,)
        Spectroscopic redshifts :math:`z_s`.
    z_pred : array-like of shape (n,)
        Photometric redshifts :math:`z_p`.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If an array is empty, not one-dimensional or not finite, if lengths differ, or if a true redshift is
        -1 or less.

    References
    ----------
    Hayat et al. (2021), section 3.3.

    Examples
    --------
    >>> from skastro.metrics import delta_z
    >>> delta_z([0.0, 0.25], [0.01, 0.20])
    array([ 0.01, -0.04])
    """
    z_true, z_pred = _check_columns(z_true=z_true, z_pred=z_pred)
    if z_true.min() <= -1:
        raise ValueError(f"z_true must be greater than -1; row {np.argmin(z_true)} has {z_true.min():g}.")
    return (z_pred - z_true) / (1 + z_true)


def photoz_bias(z_true: ArrayLike, z_pred: ArrayLike) -> float:
    r"""Mean redshift error :math:`\langle \Delta z \rangle`, with its sign.

    Parameters
    ----------
    z_true : array-like of shape (n,)
        Spectroscopic redshifts.
    z_pred : array-like of shape (n,)
        Photometric redshifts.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As :func:`delta_z`.

    References
    ----------
    Hayat et al. (2021), figure 4.

    Examples
    --------
    >>> from skastro.metrics import photoz_bias
    >>> photoz_bias([0.0, 0.25], [0.01, 0.20])
    -0.015
    """
    return float(np.mean(delta_z(z_true, z_pred)))


def sigma_mad(z_true: ArrayLike, z_pred: ArrayLike) -> float:
    r"""Spread of the redshift errors, blind to outliers: :math:`\sigma` where they are Gaussian.

    .. math:: \sigma_{\rm MAD} = 1.4826\, \operatorname{median} |\Delta z - \operatorname{median} \Delta z|

    Parameters
    ----------
    z_true : array-like of shape (n,)
        Spectroscopic redshifts.
    z_pred : array-like of shape (n,)
        Photometric redshifts.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As :func:`delta_z`.

    References
    ----------
    Hayat et al. (2021), section 3.3.

    Examples
    --------
    >>> from skastro.metrics import sigma_mad
    >>> sigma_mad([0.0, 0.0, 0.0], [0.01, 0.02, 0.30])
    0.014826
    """
    delta = delta_z(z_true, z_pred)
    return 1.4826 * float(np.median(np.abs(delta - np.median(delta))))


def photoz_outliers(z_true: ArrayLike, z_pred: ArrayLike, threshold: float = 0.05) -> float:
    r"""Fraction :math:`\eta` of objects with :math:`|\Delta z|` above a threshold.

    Parameters
    ----------
    z_true : array-like of shape (n,)
        Spectroscopic redshifts.
    z_pred : array-like of shape (n,)
        Photometric redshifts.
    threshold : float, default=0.05
        Errors larger than this are outliers.

    Returns
    -------
    float
        From 0 to 1; the paper prints percent.

    Raises
    ------
    ValueError
        As :func:`delta_z`.

    References
    ----------
    Hayat et al. (2021), section 3.3.

    Examples
    --------
    >>> from skastro.metrics import photoz_outliers
    >>> photoz_outliers([0.0, 0.1, 0.2, 0.3], [0.01, 0.1, 0.3, 0.3])
    0.25
    """
    return float(np.mean(np.abs(delta_z(z_true, z_pred)) > threshold))


def crps(z_true: ArrayLike, pdf: ArrayLike, edges: ArrayLike) -> np.ndarray:
    r"""Continuous ranked probability score of each object: how far its density lies from the truth, in redshift.

    .. math:: {\rm CRPS} = \int_{-\infty}^{\infty} \left(F(z) - \mathbf 1[z \ge z_s]\right)^2 dz

    Parameters
    ----------
    z_true : array-like of shape (n,)
        Spectroscopic redshifts :math:`z_s`. Those outside the grid count in full.
    pdf : array-like of shape (n, n_bins)
        Probability in each bin. Rows sum to 1; what rounding leaves of that is divided out.
    edges : array-like of shape (n_bins + 1,)
        Edges of the bins, ascending.

    Returns
    -------
    ndarray of shape (n,)
        0 for a certain and right prediction; smaller is better.

    Raises
    ------
    ValueError
        If redshifts or edges are not finite, edges do not ascend, shapes do not match, or a row is no
        probability.

    See Also
    --------
    pit : Whether the densities are as wide as the errors.

    Notes
    -----
    The density is constant within a bin, so :math:`F` is a line in each and the integral is exact:
    :math:`w (a^2 + ab + b^2) / 3` for a line from a to b over a width w. For a certain prediction the score is
    the absolute error.

    References
    ----------
    Gneiting & Raftery (2007), equation 20, with the sign turned.

    Examples
    --------
    >>> from skastro.metrics import crps
    >>> crps([0.5, 2.0], [[1.0], [1.0]], edges=[0.0, 1.0])
    array([0.083, 1.333])
    """
    z_true, pdf, edges = _check_densities(z_true, pdf, edges)
    batches = gen_batches(len(z_true), 1000)  # their temporaries stay in the processor's cache
    return np.concatenate([_integrate_scores(z_true[rows], pdf[rows], edges) for rows in batches])


def pit(z_true: ArrayLike, pdf: ArrayLike, edges: ArrayLike) -> np.ndarray:
    r"""Probability integral transform: the probability that the density of an object gave to less than the truth.

    .. math:: {\rm PIT} = F(z_s) = \int_{-\infty}^{z_s} p(z)\, dz

    Parameters
    ----------
    z_true : array-like of shape (n,)
        Spectroscopic redshifts :math:`z_s`. Below the grid the transform is 0, above it 1.
    pdf : array-like of shape (n, n_bins)
        Probability in each bin, the density constant within it. Rows sum to 1; what rounding leaves of that is
        divided out.
    edges : array-like of shape (n_bins + 1,)
        Edges of the bins, ascending.

    Returns
    -------
    ndarray of shape (n,)
        Uniform from 0 to 1 over objects whose densities are calibrated.

    Raises
    ------
    ValueError
        As :func:`crps`.

    See Also
    --------
    crps : Calibration and sharpness in one number.

    References
    ----------
    Gneiting, Balabdaoui & Raftery (2007), equation 1.

    Examples
    --------
    >>> from skastro.metrics import pit
    >>> pit([0.1, 0.3], [[0.5, 0.5], [0.0, 1.0]], edges=[0.0, 0.2, 0.4])
    array([0.25, 0.5 ])
    """
    z_true, pdf, edges = _check_densities(z_true, pdf, edges)
    # Rounding must not carry a truth above the grid past 1, where histograms from 0 to 1 lose it.
    return np.minimum(np.sum(pdf * _share_below(z_true, edges), axis=1), 1)


def photoz_table(
    z_true: ArrayLike,
    z_pred: ArrayLike,
    pdf: ArrayLike | None = None,
    edges: ArrayLike | None = None,
    by: int | ArrayLike | None = None,
    threshold: float = 0.05,
    levels: Sequence[float] = (0.5, 0.68, 0.9),
) -> pd.DataFrame:
    """Measure photometric redshifts along the true redshift.

    Parameters
    ----------
    z_true : array-like of shape (n,)
        Spectroscopic redshifts.
    z_pred : array-like of shape (n,)
        Photometric redshifts.
    pdf : array-like of shape (n, n_bins), default=None
        Probability in each bin of `edges`, as :func:`crps` takes it.
    edges : array-like of shape (n_bins + 1,), default=None
        Edges of the bins of `pdf`.
    by : int or array-like, default=None
        The rows of the table: edges of bins of the true redshift, or how many equally filled bins; None is no
        bin at all. A bin holds its lower edge, and the last one its upper edge too.
    threshold : float, default=0.05
        Errors larger than this are outliers.
    levels : sequence of float, default=(0.5, 0.68, 0.9)
        Central intervals whose coverage is measured.

    Returns
    -------
    DataFrame
        One row per bin, labelled by its interval, and a last row "all", which also counts objects outside the
        bins. Columns ``n``, ``bias``, ``sigma_mad`` and ``outliers``; with a pdf also ``crps``, the mean, and
        ``coverage_50`` …, the fraction of objects whose truth lies in the central interval of that probability.
        A bin without objects has NaN.

    Raises
    ------
    ValueError
        As :func:`delta_z` and :func:`crps`; if one of `pdf` and `edges` is missing; if `by` are not ascending
        edges or more bins than the redshifts fill; if a level is not between 0 and 1.

    References
    ----------
    Hayat et al. (2021), section 3.3 and figure 4.

    Examples
    --------
    >>> from skastro.metrics import photoz_table
    >>> photoz_table([0.0, 0.05, 0.1, 0.2], [0.01, 0.05, 0.2, 0.2], by=[0, 0.1, 0.2])
                 n   bias  sigma_mad  outliers
    [0.0, 0.1)   2  0.005      0.007      0.00
    [0.1, 0.2]   2  0.045      0.067      0.50
    all          4  0.025      0.007      0.25
    """
    z_true, z_pred = _check_columns(z_true=z_true, z_pred=z_pred)
    per_object = _density_scores(z_true, pdf, edges, levels)
    bins = _redshift_bins(z_true, by) | {"all": np.full(len(z_true), True)}
    rows = [_photoz_row(z_true[chosen], z_pred[chosen], per_object[chosen], threshold) for chosen in bins.values()]
    return pd.DataFrame(rows, index=pd.Index(bins, dtype=object))


def morphology_scores(
    fractions: ArrayLike, predicted: ArrayLike, high_quality: tuple[float, float] = (0.2, 0.8)
) -> dict[str, float]:
    r"""Compare predicted vote fractions of one answer with those of the volunteers.

    On the high-quality rows, those where most volunteers agreed, either fraction above 0.5 is a yes:

    .. math:: {\rm Acc} = \frac{TP + TN}{TP + FP + TN + FN} \qquad {\rm Prec} = \frac{TP}{TP + FP} \qquad
              {\rm Rec} = \frac{TP}{TP + FN} \qquad F_1 = \frac{2\, TP}{2\, TP + FP + FN}

    .. math:: \eta = \frac{N(P_{\rm true} < 0.2 \cap P_{\rm pred} \ge 0.8)
              + N(P_{\rm true} > 0.8 \cap P_{\rm pred} \le 0.2)}{N_{\rm HQ}}

    Parameters
    ----------
    fractions : array-like of shape (n,)
        Vote fractions from 0 to 1. Rows with NaN, the question not asked, are left out.
    predicted : array-like of shape (n,)
        Predicted fractions or probabilities.
    high_quality : tuple of float, default=(0.2, 0.8)
        Rows below the first or above the second fraction are of high quality. ``(0.5, 0.5)`` takes all but ties.

    Returns
    -------
    dict of float
        ``n`` rows asked and ``n_high_quality`` among them; on these ``accuracy``, ``precision``, ``recall``,
        ``f1``, ``auc`` (area under the receiver operating characteristic) and ``outliers``, the fraction
        :math:`\eta`; on all rows asked ``rmse``, the root-mean-square error of the fractions. What is not
        defined, as the area with one class only, is NaN.

    Raises
    ------
    ValueError
        If lengths differ, arrays are not one-dimensional, a fraction is not between 0 and 1, a prediction is not
        finite where the question was asked, or `high_quality` is no pair around 0.5.

    Notes
    -----
    The paper prints the denominator of the precision as TN + FP, an error; :math:`\eta` in percent; and
    :math:`P_{\rm true} \le 0.2` or :math:`\ge 0.8` in it, although high-quality rows exclude both limits.

    References
    ----------
    Hayat et al. (2021), appendix C.3.

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
    votes: ArrayLike | None = None,
    min_votes: float = 0,
    high_quality: tuple[float, float] = (0.2, 0.8),
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Measure predicted vote fractions, answer by answer.

    Parameters
    ----------
    fractions : array-like of shape (n,) or (n, n_answers)
        Vote fractions from 0 to 1; NaN where the question was not asked.
    predicted : array-like of the shape of `fractions`
        Predicted fractions or probabilities, columns in the same order.
    votes : array-like of shape (n,) or (n, n_answers), default=None
        How many volunteers answered the question.
    min_votes : float, default=0
        Rows with fewer votes are left out. The paper asks for 5.
    high_quality : tuple of float, default=(0.2, 0.8)
        Rows below the first or above the second fraction are of high quality.
    names : sequence of str, default=None
        Names of the answers; None takes those of the columns of a DataFrame, or numbers.

    Returns
    -------
    DataFrame
        One row per answer, one column per entry of :func:`morphology_scores`.

    Raises
    ------
    ValueError
        As :func:`morphology_scores`; if shapes differ; if `min_votes` comes without `votes`.

    See Also
    --------
    morphology_scores : The metrics.

    References
    ----------
    Hayat et al. (2021), appendix C and figures 3, 11 and 12.

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
    names = _answer_names(fractions) if names is None else names
    fractions, predicted = _as_answers(fractions), _as_answers(predicted)
    if fractions.shape != predicted.shape:
        raise ValueError(f"fractions and predicted must have one shape; got {fractions.shape} and {predicted.shape}.")
    if len(names) != fractions.shape[1]:
        raise ValueError(f"names must hold one name for each of the {fractions.shape[1]} answers; got {len(names)}.")
    if min_votes > 0:
        fractions = np.where(_check_votes(votes, fractions.shape) >= min_votes, fractions, np.nan)
    rows = [morphology_scores(true, guess, high_quality) for true, guess in zip(fractions.T, predicted.T, strict=True)]
    return pd.DataFrame(rows, index=pd.Index(names))


def get_scorer(scoring: str | Callable[..., float] | None) -> Any:
    """Look a scorer up by name, ours first, then scikit-learn's.

    Parameters
    ----------
    scoring : str, callable or None
        A name of :func:`get_scorer_names`. A callable or None is given back.

    Returns
    -------
    callable
        ``scorer(estimator, X, y)``, greater is better: for the parameter `scoring` of
        :class:`~sklearn.model_selection.GridSearchCV` and its like.

    Raises
    ------
    ValueError
        If there is no scorer of that name.

    Notes
    -----
    ``"neg_photoz_bias"`` is minus the absolute value of the mean error. ``"neg_crps"`` is for regressors with
    ``pdf, edges = predict_pdf(X)``, alone, frozen, at the end of a pipeline or found by a search.

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
        return deepcopy(_SCORERS[scoring])  # what one user requests of a scorer is not asked of all
    if scoring in metrics.get_scorer_names():
        return metrics.get_scorer(scoring)
    raise ValueError(f"There is no scorer {scoring!r}; skastro.metrics.get_scorer_names() lists them.")


def get_scorer_names() -> list[str]:
    """List the names that :func:`get_scorer` knows.

    Returns
    -------
    list of str
        Ours and scikit-learn's, sorted.

    Examples
    --------
    >>> from skastro.metrics import get_scorer_names
    >>> {"neg_crps", "neg_sigma_mad", "r2"} <= set(get_scorer_names())
    True
    """
    return sorted({*_SCORERS, *metrics.get_scorer_names()})


def _check_columns(**columns: ArrayLike) -> list[np.ndarray]:
    """Finite numbers in columns of one length."""
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    for name, values in arrays.items():
        if values.ndim != 1 or not len(values):
            raise ValueError(f"{name} must be one-dimensional and not empty; its shape is {values.shape}.")
        _check_finite(name, values)
    _check_lengths(**arrays)
    return list(arrays.values())


def _check_finite(name: str, values: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{name} has {len(bad)} NaN or infinite values, the first in row {bad[0]}.")


def _check_lengths(**arrays: np.ndarray) -> None:
    lengths = [len(values) for values in arrays.values()]
    if len(set(lengths)) > 1:
        raise ValueError(f"{' and '.join(arrays)} must have one length; got {' and '.join(map(str, lengths))}.")


def _check_edges(name: str, edges: ArrayLike) -> np.ndarray:
    edges = np.asarray(edges, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all() or not np.all(np.diff(edges) > 0):
        raise ValueError(f"{name} must be at least two finite, ascending edges of bins.")
    return edges


def _check_densities(z_true: ArrayLike, pdf: ArrayLike, edges: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truths, rows that sum to 1, and edges."""
    (z_true,) = _check_columns(z_true=z_true)
    edges, pdf = _check_edges("edges", edges), np.asarray(pdf, dtype=np.float64)
    expected = (len(z_true), len(edges) - 1)
    if pdf.shape != expected:
        raise ValueError(
            f"pdf must have a row per redshift and a column per bin, {expected}; its shape is {pdf.shape}."
        )
    total = pdf.sum(axis=1)
    bad = np.flatnonzero(~(np.abs(total - 1) < 1e-3) | np.any(pdf < 0, axis=1))
    if len(bad):
        raise ValueError(f"pdf must be positive and sum to 1 in each row; row {bad[0]} does not.")
    return z_true, pdf / total[:, np.newaxis], edges


def _share_below(z: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Which part of each bin lies below each redshift: (n, n_bins), from 0 to 1."""
    return np.clip((z[:, np.newaxis] - edges[:-1]) / np.diff(edges), 0, 1)


def _integrate_scores(z_true: np.ndarray, pdf: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Integrate bin by bin, below and above the truth, and from the grid to a truth outside it."""
    share = _share_below(z_true, edges)
    upper = np.cumsum(pdf, axis=1)
    lower = upper - pdf
    at_truth = lower + pdf * share
    below = share * _mean_square(lower, at_truth)
    above = (1 - share) * _mean_square(1 - at_truth, 1 - upper)
    outside = np.abs(z_true - np.clip(z_true, edges[0], edges[-1]))
    return (below + above) @ np.diff(edges) + outside


def _mean_square(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Mean of the square along a line from start to end."""
    return (start * start + start * end + end * end) / 3


def _density_scores(
    z_true: np.ndarray, pdf: ArrayLike | None, edges: ArrayLike | None, levels: Sequence[float]
) -> pd.DataFrame:
    """What the densities are worth, object by object; no columns without densities."""
    if pdf is None and edges is None:
        return pd.DataFrame(index=range(len(z_true)))
    if pdf is None or edges is None:
        raise ValueError("pdf and edges belong together; one of them is missing.")
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must lie between 0 and 1; got {levels}.")
    off_centre = 2 * np.abs(pit(z_true, pdf, edges) - 0.5)
    covered = {f"coverage_{100 * level:g}": np.where(off_centre <= level, 1.0, 0.0) for level in levels}
    return pd.DataFrame({"crps": crps(z_true, pdf, edges)} | covered)


def _redshift_bins(z_true: np.ndarray, by: int | ArrayLike | None) -> dict[Any, np.ndarray]:
    """Which objects lie in each bin, by its interval."""
    if by is None:
        return {}
    edges = _equal_edges(z_true, int(by)) if isinstance(by, Integral) else _check_edges("by", by)
    intervals = list(pd.IntervalIndex.from_breaks(edges, closed="left"))
    intervals[-1] = pd.Interval(*edges[-2:], closed="both")
    place = np.searchsorted(edges, z_true, side="right") - 1 - (z_true == edges[-1])
    return {interval: place == i for i, interval in enumerate(intervals)}


def _equal_edges(z_true: np.ndarray, n_bins: int) -> np.ndarray:
    edges = np.quantile(z_true, np.linspace(0, 1, max(n_bins, 0) + 1))
    if n_bins < 1 or not np.all(np.diff(edges) > 0):
        raise ValueError(f"by={n_bins} is not a number of bins that {len(np.unique(z_true))} different z_true fill.")
    return edges


def _photoz_row(z_true: np.ndarray, z_pred: np.ndarray, per_object: pd.DataFrame, threshold: float) -> dict[str, float]:
    if not len(z_true):
        return {"n": 0}
    return {
        "n": len(z_true),
        "bias": photoz_bias(z_true, z_pred),
        "sigma_mad": sigma_mad(z_true, z_pred),
        "outliers": photoz_outliers(z_true, z_pred, threshold),
        **per_object.mean().to_dict(),
    }


def _check_high_quality(high_quality: tuple[float, float]) -> tuple[float, float]:
    limits = tuple(high_quality)
    if len(limits) != 2 or not 0 <= limits[0] <= 0.5 <= limits[1] <= 1:
        raise ValueError(f"high_quality must be one fraction up to 0.5 and one from there to 1; got {high_quality}.")
    return limits


def _check_fractions(fractions: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The rows where the question was asked."""
    fractions, predicted = np.asarray(fractions, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if fractions.ndim != 1 or predicted.ndim != 1:
        raise ValueError(f"fractions and predicted must be one-dimensional; got {fractions.shape}, {predicted.shape}.")
    _check_lengths(fractions=fractions, predicted=predicted)
    bad = np.flatnonzero((fractions < 0) | (fractions > 1))
    if len(bad):
        raise ValueError(f"fractions must lie between 0 and 1; row {bad[0]} has {fractions[bad[0]]:g}.")
    asked = ~np.isnan(fractions)
    _check_finite("predicted", np.where(asked, predicted, 0))
    return fractions[asked], predicted[asked]


def _binary_scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Scores of a yes or no; those that are not defined are NaN."""
    if not len(truth):
        return dict.fromkeys(["accuracy", "precision", "recall", "f1", "auc"], np.nan)
    yes = predicted > 0.5
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
    """Fraction of rows predicted with confidence to be what they are not."""
    opposite = ((fractions < low) & (predicted >= high)) | ((fractions > high) & (predicted <= low))
    return float(np.mean(opposite)) if len(opposite) else np.nan


def _answer_names(fractions: ArrayLike) -> Sequence[Any]:
    return list(fractions.columns if isinstance(fractions, pd.DataFrame) else range(_as_answers(fractions).shape[1]))


def _as_answers(values: ArrayLike) -> np.ndarray:
    """A column per answer."""
    values = np.asarray(values, dtype=np.float64)
    return values[:, np.newaxis] if values.ndim == 1 else values


def _check_votes(votes: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    if votes is None:
        raise ValueError("min_votes needs votes, the number of answers given.")
    votes = _as_answers(votes)
    if votes.shape not in (shape, (shape[0], 1)):
        raise ValueError(f"votes must have a number per row or the shape {shape} of fractions; got {votes.shape}.")
    return votes


def _absolute_bias(z_true: ArrayLike, z_pred: ArrayLike) -> float:
    return abs(photoz_bias(z_true, z_pred))


def _predict_pdf(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Densities of a regressor, alone, frozen, at the end of a pipeline or found by a search."""
    if isinstance(estimator, FrozenEstimator):
        return _predict_pdf(estimator.estimator, X)
    if hasattr(estimator, "best_estimator_"):
        return _predict_pdf(estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline):
        return _predict_pdf(estimator[-1], estimator[:-1].transform(X) if len(estimator) > 1 else X)
    if not hasattr(estimator, "predict_pdf"):
        raise TypeError(f"neg_crps needs a regressor with predict_pdf; {type(estimator).__name__} has none.")
    return estimator.predict_pdf(X)


def _neg_crps(estimator: Any, X: Any, y: ArrayLike) -> float:
    # A function: make_scorer would ask the pipeline for predict_pdf, and pipelines do not hand it on.
    return -float(np.mean(crps(y, *_predict_pdf(estimator, X))))


_SCORERS: dict[str, Any] = {
    "neg_crps": _neg_crps,
    "neg_photoz_bias": metrics.make_scorer(_absolute_bias, greater_is_better=False),
    "neg_photoz_outliers": metrics.make_scorer(photoz_outliers, greater_is_better=False),
    "neg_sigma_mad": metrics.make_scorer(sigma_mad, greater_is_better=False),
}
