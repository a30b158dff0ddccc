"""Metrics of redshifts and their probability densities, and a table of them.

The order of arguments is scikit-learn's, truth first.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import gen_batches

from skastro.metrics.checks import as_numbers, check_finite, check_lengths

__all__ = ["crps", "delta_z", "photoz_bias", "photoz_outliers", "photoz_table", "pit", "sigma_mad"]


def delta_z(z_true: ArrayLike, z_pred: ArrayLike) -> np.ndarray:
    r"""Compute the redshift error of each object, relative to 1 plus the true redshift.

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
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, section 3.3.

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
    r"""Compute the mean redshift error :math:`\langle \Delta z \rangle`, with its sign.

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
        As in :func:`delta_z`.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, figure 4.

    Examples
    --------
    >>> from skastro.metrics import photoz_bias
    >>> photoz_bias([0.0, 0.25], [0.01, 0.20])
    -0.015
    """
    return float(np.mean(delta_z(z_true, z_pred)))


def sigma_mad(z_true: ArrayLike, z_pred: ArrayLike) -> float:
    r"""Compute the spread of the redshift errors, robust to outliers; the :math:`\sigma` of Gaussian errors.

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
        As in :func:`delta_z`.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, section 3.3.

    Examples
    --------
    >>> from skastro.metrics import sigma_mad
    >>> sigma_mad([0.0, 0.0, 0.0], [0.01, 0.02, 0.30])
    0.014826
    """
    delta = delta_z(z_true, z_pred)
    return 1.4826 * float(np.median(np.abs(delta - np.median(delta))))


def photoz_outliers(z_true: ArrayLike, z_pred: ArrayLike, *, threshold: float = 0.05) -> float:
    r"""Compute the fraction :math:`\eta` of objects with :math:`|\Delta z|` above a threshold.

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
        As in :func:`delta_z`.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, section 3.3.

    Examples
    --------
    >>> from skastro.metrics import photoz_outliers
    >>> photoz_outliers([0.0, 0.1, 0.2, 0.3], [0.01, 0.1, 0.3, 0.3])
    0.25
    """
    return float(np.mean(np.abs(delta_z(z_true, z_pred)) > threshold))


def crps(z_true: ArrayLike, pdf: ArrayLike, edges: ArrayLike) -> np.ndarray:
    r"""Compute the continuous ranked probability score of each object, in redshift: 0 is best.

    .. math:: {\rm CRPS} = \int_{-\infty}^{\infty} \left(F(z) - \mathbf 1[z \ge z_s]\right)^2 dz

    Parameters
    ----------
    z_true : array-like of shape (n,)
        Spectroscopic redshifts :math:`z_s`. The distance to those outside the grid counts in full.
    pdf : array-like of shape (n, n_bins)
        Probability in each bin. Rows sum to 1; small deviations from rounding are divided out.
    edges : array-like of shape (n_bins + 1,)
        Edges of the bins, ascending.

    Returns
    -------
    ndarray of shape (n,)
        0 for a certain and right prediction; smaller is better.

    Raises
    ------
    ValueError
        If redshifts or edges are not finite, edges do not ascend, shapes do not match, or a row is not a probability
        distribution.

    See Also
    --------
    pit : Probability integral transform, which tests whether the densities are as wide as the errors.

    Notes
    -----
    The density is constant within a bin, so :math:`F` is linear in each bin and the integral is exact:
    :math:`w (a^2 + ab + b^2) / 3` for a line from a to b over a width w. For a certain prediction the score is
    the absolute error.

    References
    ----------
    Gneiting & Raftery (2007), `doi:10.1198/016214506000001437 <https://doi.org/10.1198/016214506000001437>`_, equation
    20, with the sign reversed.

    Examples
    --------
    >>> from skastro.metrics import crps
    >>> crps([0.5, 2.0], [[1.0], [1.0]], edges=[0.0, 1.0])
    array([0.083, 1.333])
    """
    z_true, pdf, edges = _check_densities(z_true, pdf, edges)
    batches = gen_batches(len(z_true), 1000)  # temporary arrays of this size stay in the processor's cache
    return np.concatenate([_integrate_scores(z_true[rows], pdf[rows], edges) for rows in batches])


def pit(z_true: ArrayLike, pdf: ArrayLike, edges: ArrayLike) -> np.ndarray:
    r"""Compute the probability integral transform: the cumulative probability of each object's density at the truth.

    .. math:: {\rm PIT} = F(z_s) = \int_{-\infty}^{z_s} p(z)\, dz

    Parameters
    ----------
    z_true : array-like of shape (n,)
        Spectroscopic redshifts :math:`z_s`. Below the grid the transform is 0, above it 1.
    pdf : array-like of shape (n, n_bins)
        Probability in each bin, the density constant within it. Rows sum to 1; small deviations from rounding are
        divided out.
    edges : array-like of shape (n_bins + 1,)
        Edges of the bins, ascending.

    Returns
    -------
    ndarray of shape (n,)
        Transforms, uniform from 0 to 1 if the densities are calibrated.

    Raises
    ------
    ValueError
        As in :func:`crps`.

    See Also
    --------
    crps : Score of calibration and sharpness in one number.

    References
    ----------
    Gneiting, Balabdaoui & Raftery (2007), `doi:10.1111/j.1467-9868.2007.00587.x
    <https://doi.org/10.1111/j.1467-9868.2007.00587.x>`_, equation 1.

    Examples
    --------
    >>> from skastro.metrics import pit
    >>> pit([0.1, 0.3], [[0.5, 0.5], [0.0, 1.0]], edges=[0.0, 0.2, 0.4])
    array([0.25, 0.5 ])
    """
    z_true, pdf, edges = _check_densities(z_true, pdf, edges)
    # Rounding must not take a truth above the grid past 1, outside histograms from 0 to 1.
    return np.minimum(np.sum(pdf * _share_below(z_true, edges), axis=1), 1)


def photoz_table(
    z_true: ArrayLike,
    z_pred: ArrayLike,
    *,
    pdf: ArrayLike | None = None,
    edges: ArrayLike | None = None,
    by: int | ArrayLike | None = None,
    threshold: float = 0.05,
    levels: Sequence[float] = (0.5, 0.68, 0.9),
) -> pd.DataFrame:
    """Compute metrics of photometric redshifts in bins of the true redshift.

    Parameters
    ----------
    z_true : array-like of shape (n,)
        Spectroscopic redshifts.
    z_pred : array-like of shape (n,)
        Photometric redshifts.
    pdf : array-like of shape (n, n_bins), default=None
        Probability in each bin of `edges`, as in :func:`crps`.
    edges : array-like of shape (n_bins + 1,), default=None
        Edges of the bins of `pdf`.
    by : int or array-like, default=None
        Rows of the table: edges of bins of the true redshift, or the number of equally filled bins; None is no binning.
        A bin includes its lower edge, and the last one its upper edge too.
    threshold : float, default=0.05
        Errors larger than this are outliers.
    levels : sequence of float, default=(0.5, 0.68, 0.9)
        Probabilities of the central intervals for which to compute the coverage.

    Returns
    -------
    DataFrame
        One row per bin, labeled by its interval, and a last row "all", which also includes objects outside the bins.
        Columns are ``n``, ``bias``, ``sigma_mad`` and ``outliers``. With a pdf there are also ``crps``, the mean score,
        and ``coverage_50`` …, the fraction of objects with the truth inside the central interval of that probability. A
        bin without objects has NaN.

    Raises
    ------
    ValueError
        As in :func:`delta_z` and :func:`crps`; if one of `pdf` and `edges` is missing; if `by` is neither ascending
        edges nor a number of bins that the redshifts fill; if a level is not between 0 and 1.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, section 3.3 and figure 4.

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


def _check_columns(**columns: ArrayLike) -> list[np.ndarray]:
    """Check columns of finite numbers of one length."""
    arrays = {name: as_numbers(name, values) for name, values in columns.items()}
    for name, values in arrays.items():
        if values.ndim != 1 or not len(values):
            raise ValueError(f"{name} must be one-dimensional and not empty; its shape is {values.shape}.")
        check_finite(name, values)
    check_lengths(**arrays)
    return list(arrays.values())


def _check_edges(name: str, edges: ArrayLike) -> np.ndarray:
    edges = as_numbers(name, edges)
    if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all() or not np.all(np.diff(edges) > 0):
        raise ValueError(f"{name} must be at least two finite, ascending edges of bins.")
    return edges


def _check_densities(z_true: ArrayLike, pdf: ArrayLike, edges: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check true redshifts, rows that sum to 1, and edges."""
    (z_true,) = _check_columns(z_true=z_true)
    edges, pdf = _check_edges("edges", edges), as_numbers("pdf", pdf)
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
    """Return the fraction of each bin that lies below each redshift: (n, n_bins), from 0 to 1."""
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
    """Return the mean of the square along a line from start to end."""
    return (start * start + start * end + end * end) / 3


def _density_scores(
    z_true: np.ndarray, pdf: ArrayLike | None, edges: ArrayLike | None, levels: Sequence[float]
) -> pd.DataFrame:
    """Compute the scores of the densities, object by object; no columns without densities."""
    if pdf is None and edges is None:
        return pd.DataFrame(index=range(len(z_true)))
    if pdf is None or edges is None:
        raise ValueError("pdf and edges belong together; one of them is missing.")
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must lie between 0 and 1; got {levels}.")
    off_center = 2 * np.abs(pit(z_true, pdf, edges) - 0.5)
    covered = {f"coverage_{100 * level:g}": np.where(off_center <= level, 1.0, 0.0) for level in levels}
    return pd.DataFrame({"crps": crps(z_true, pdf, edges)} | covered)


def _redshift_bins(z_true: np.ndarray, by: int | ArrayLike | None) -> dict[Any, np.ndarray]:
    """Return the objects in each bin, by its interval."""
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
        "outliers": photoz_outliers(z_true, z_pred, threshold=threshold),
        **per_object.mean().to_dict(),
    }
