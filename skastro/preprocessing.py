"""Transformers to apply before an embedder, which correct for effects between the object and the telescope."""

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skastro._warning import warn
from skastro.inputs import as_array, as_rows, check_rows
from skastro.surveys import Survey, get_survey

__all__ = ["Deredden"]

MAGNITUDES = 8, 35  # between which those of galaxies are, in any band; fluxes of that many objects spread further
FEWEST = 10  # objects without which nothing is said of that
THICK = 5  # E(B-V) that only the plane of the Milky Way has, where no galaxy is seen


def _gives_rows(estimator: Any) -> bool:
    """Whether it may be asked for a table: unless it has been fitted to images."""
    return getattr(estimator, "n_axes_", 2) == 2


class Deredden(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Undo the dimming of each band by the Milky Way's dust.

    A step before an embedder or a head, for images or for a table of fluxes:

    .. math:: F'_b = F_b \cdot 10^{R_b\, E(B-V) / 2.5}

    `transform` needs `ebv`. In a pipeline, after ``sklearn.set_config(enable_metadata_routing=True)``,
    ``pipe.fit(X, y, ebv=ebv)`` and ``pipe.predict(X, ebv=ebv)`` route it without a request, and so do a search's
    ``fit(X, y, ebv=ebv)`` and ``cross_val_score(..., params={"ebv": ebv})`` with the pipeline's own score.

    Parameters
    ----------
    survey : str or Survey, default=None
        Survey with the extinction coefficients :math:`R_b`, by name or as a `Survey`. None leaves `X` unchanged.

    Attributes
    ----------
    extinction_ : ndarray of shape (bands,) or None
        Coefficients in use.
    n_axes_ : int
        Number of axes of `X`: 2 for a table, 3 or 4 for images.
    n_features_in_ : int
        Number of columns of a table; for images, of bands.
    feature_names_in_ : ndarray of shape (n_features,), str
        Names of the columns, if `X` has any.

    Notes
    -----
    A metric given by name (``scoring="r2"``) and :func:`~sklearn.model_selection.cross_val_predict` pass no metadata to
    `predict`: scikit-learn does not support it yet. Deredden before them. Rows are independent, so nothing leaks.

    References
    ----------
    Schlafly & Finkbeiner (2011), "Measuring Reddening with Sloan Digital Sky Survey Stellar Spectra and Recalibrating
    SFD", `doi:10.1088/0004-637X/737/2/103 <https://doi.org/10.1088/0004-637X/737/2/103>`_, table 6: :math:`R_b` of
    ugriz.

    Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", `arXiv:2012.13083
    <https://arxiv.org/abs/2012.13083>`_, appendix E.2: images are de-reddened before a redshift is estimated.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.preprocessing import Deredden
    >>> Deredden("legacy").fit_transform(np.ones((2, 3)), ebv=[0.0, 0.1]).round(3)
    array([[1.   , 1.   , 1.   ],
           [1.344, 1.221, 1.118]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"survey": [str, Survey, None]}
    # Requested by default: unlike a weight, an ebv has only one possible use.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"ebv": True}
    __metadata_request__transform: ClassVar[dict[str, bool]] = {"ebv": True}

    def __init__(self, survey: str | Survey | None = None) -> None:
        self.survey = survey

    def fit(self, X: Any, y: Any = None, ebv: Any = None) -> Self:
        """Look up the coefficients and check the bands; nothing is learned from the fluxes.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, bands * k)
            Images, images in one band, or rows with all values of the first band first.
        y : None
            Ignored.
        ebv : array-like of shape (n,), default=None
            As in `transform`, but only checked and not required.

        Returns
        -------
        Deredden
            Itself.

        Raises
        ------
        ValueError
            If the survey is unknown, lacks one coefficient per band, has other bands than `X`, or if `ebv` is invalid.

        Warns
        -----
        UserWarning
            If a table of ten objects or more holds nothing but values that magnitudes have.
        """
        self._validate_params()
        extinction = _coefficients(get_survey(self.survey))
        X = self._check_fluxes(X, extinction, reset=True)
        if extinction is not None:
            _warn_of_magnitudes(X, len(extinction))
        if ebv is not None:
            _check_ebv(ebv, len(X), extinction)
        self.extinction_ = extinction
        self.n_axes_ = X.ndim
        return self

    def transform(self, X: Any, ebv: Any = None) -> np.ndarray:
        """Correct the flux in each band for extinction by dust.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, bands * k)
            Flux, not magnitudes, with the sky subtracted. NaN stays NaN.
        ebv : array-like of shape (n,), default=None
            :math:`E(B-V)` towards each object in magnitudes, on the scale of Schlegel, Finkbeiner & Davis (1998).
            Required with a survey, refused without.

        Returns
        -------
        ndarray of the shape of X
            Float64 if `X` is float64, otherwise float32.

        Raises
        ------
        ValueError
            If the bands are not the survey's, or if `ebv` is missing, is given without a survey, is not one value for
            each row, or has values that are NaN, infinite or negative.

        Warns
        -----
        UserWarning
            If `ebv` is above 5, as an extinction may be.
        """
        check_is_fitted(self)
        X = self._check_fluxes(X, self.extinction_, reset=False)
        _check_ebv(ebv, len(X), self.extinction_)
        if self.extinction_ is None:
            return X
        _warn_of_thick(as_array(ebv))
        factor = 10 ** (np.outer(as_array(ebv), self.extinction_) / 2.5)
        bands = X.reshape(*factor.shape, -1)
        return (bands * factor[:, :, np.newaxis].astype(X.dtype)).reshape(X.shape)

    def fit_transform(self, X: Any, y: Any = None, ebv: Any = None) -> np.ndarray:
        """Fit, then transform with the same `ebv`.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, bands * k)
            Flux, not magnitudes, with the sky subtracted.
        y : None
            Ignored.
        ebv : array-like of shape (n,), default=None
            :math:`E(B-V)` towards each object in magnitudes.

        Returns
        -------
        ndarray of the shape of X
        """
        return self.fit(X, y, ebv=ebv).transform(X, ebv=ebv)

    @available_if(_gives_rows)
    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns, which are those that came.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names, if `X` had none.

        Returns
        -------
        ndarray of str
            Not there once fitted to images, which have no columns.
        """
        return super().get_feature_names_out(input_features)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Choose the container that rows come in; images stay arrays.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None, default=None
            As in scikit-learn.

        Returns
        -------
        Deredden
            Itself.
        """
        if _gives_rows(self):
            return super().set_output(transform=transform)
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _check_fluxes(self, X: Any, extinction: np.ndarray | None, reset: bool) -> np.ndarray:
        rows, kinds = as_rows(X), [np.float32, np.float64]
        if getattr(rows, "dtype", None) == np.dtype(np.float64).newbyteorder():  # of FITS
            kinds = [np.float64]
        if extinction is not None and np.ndim(rows) > 1:
            _check_bands(np.shape(rows), len(extinction))
        fluxes = check_rows(self, rows, reset=reset, dtype=kinds, allow_nd=True, ensure_all_finite=False)
        if not reset and (fluxes.ndim == 2) != (self.n_axes_ == 2):
            raise ValueError(
                f"Deredden was fitted to {'rows' if self.n_axes_ == 2 else 'images'}: X is something else."
            )
        if fluxes.ndim > 2:
            of_bands = fluxes[:, :, 0, 0] if fluxes.ndim == 4 else fluxes[:, 0, :1]
            validate_data(self, of_bands, reset=reset, skip_check_array=True)
        return fluxes


def _coefficients(survey: Survey | None) -> np.ndarray | None:
    if survey is None:
        return None
    given = 0 if survey.extinction is None else len(survey.extinction)
    if given == 0 or given != len(survey.bands):
        raise ValueError(
            f"De-reddening needs one extinction coefficient per band; the survey has {given} for "
            f"{len(survey.bands)} bands ({', '.join(survey.bands)})."
        )
    return np.array(survey.extinction, dtype=np.float64)


def _check_bands(shape: tuple[int, ...], bands: int) -> None:
    if len(shape) == 2:
        if shape[1] % bands:
            raise ValueError(f"The survey has {bands} bands, and rows of {shape[1]} values do not divide into them.")
        return
    came = 1 if len(shape) == 3 else shape[1]
    if came != bands:
        hint = " Its last axis looks like the bands: give np.moveaxis(X, -1, 1)." if shape[-1] == bands else ""
        raise ValueError(f"The survey has {bands} bands, X of shape {shape} has {came}.{hint}")


def _check_ebv(ebv: Any, n: int, extinction: np.ndarray | None) -> None:
    if extinction is None:
        if ebv is not None:
            raise ValueError('ebv was given, but there is no survey to say what it does: give Deredden(survey="sdss").')
        return
    if ebv is None:
        raise ValueError(
            "Deredden needs the E(B-V) of each object, ebv=; a pipeline hands it on once metadata routing is on: "
            "sklearn.set_config(enable_metadata_routing=True)."
        )
    values = np.asarray(as_array(ebv, "ebv"), dtype=np.float64)
    if values.shape != (n,):
        raise ValueError(f"ebv must have one value for each of the {n} rows of X; its shape is {values.shape}.")
    valid = np.isfinite(values) & (values >= 0)
    if not valid.all():
        raise ValueError(
            f"ebv must be finite and not negative; {np.sum(~valid)} of {n} values are not, the first in row "
            f"{np.argmin(valid)}."
        )


def _warn_of_magnitudes(X: np.ndarray, bands: int) -> None:
    if X.shape[1:] != (bands,) or len(X) < FEWEST:
        return
    low, high = MAGNITUDES
    if (np.isnan(X) | (low <= X) & (high >= X)).all() and not np.isnan(X).all():
        warn("X looks like magnitudes, and Deredden takes flux: of magnitudes subtract extinction x ebv, band by band.")


def _warn_of_thick(ebv: np.ndarray) -> None:
    if (ebv > THICK).any():
        warn(
            f"ebv is {ebv.max():.3g} in row {ebv.argmax()}, more than galaxies are seen through: is it an extinction "
            "in magnitudes? Deredden takes E(B-V)."
        )
