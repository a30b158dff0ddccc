"""What a survey knows about its pixels: bands, wavelengths, pixel scale, and how dust dims them."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.utils import Tags, check_array
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["SURVEYS", "Deredden", "Survey", "get_survey"]


class Survey(BaseEstimator):
    r"""The physical meaning of an image's bands and pixels.

    Steps of an augmentation that are physics (reddening, seeing) read it, an embedder checks the number of
    bands against it, and a saved model tells it to whoever loads the file.

    Parameters
    ----------
    bands : sequence of str
        Band names, in the order of the image's second axis.
    pixel_scale : float, default=None
        Side of a pixel in arcseconds.
    wavelengths : sequence of float, default=None
        Effective wavelength of each band in Å.
    extinction : sequence of float, default=None
        Extinction coefficients :math:`R_b`, one per band, such that the extinction in magnitudes is
        :math:`A_b = R_b\,E(B-V)` with :math:`E(B-V)` on the scale of Schlegel, Finkbeiner & Davis (1998).

    Examples
    --------
    >>> from skastro.surveys import Survey
    >>> Survey(bands=("g", "r", "z"), pixel_scale=0.262).pixel_scale
    0.262
    """

    def __init__(
        self,
        bands: Sequence[str] = (),
        pixel_scale: float | None = None,
        wavelengths: Sequence[float] | None = None,
        extinction: Sequence[float] | None = None,
    ) -> None:
        self.bands = bands
        self.pixel_scale = pixel_scale
        self.wavelengths = wavelengths
        self.extinction = extinction

    def select(self, bands: Sequence[str]) -> "Survey":
        """Keep some of the bands, in the order given.

        Parameters
        ----------
        bands : sequence of str
            Names of the bands to keep; of names of one letter also a single string, ``"grz"``.

        Returns
        -------
        Survey
            With the same pixels, and the wavelengths and coefficients of those bands.

        Raises
        ------
        ValueError
            If the survey has no such band.

        Examples
        --------
        >>> from skastro.surveys import get_survey
        >>> get_survey("decam").select("zg").extinction
        (1.211, 3.214)
        """
        if unknown := [band for band in bands if band not in self.bands]:
            raise ValueError(f"Unknown band {unknown[0]!r}; the survey has {', '.join(self.bands)}.")
        places = [list(self.bands).index(band) for band in bands]
        kept = (values and tuple(values[place] for place in places) for values in (self.wavelengths, self.extinction))
        return Survey(tuple(bands), self.pixel_scale, *kept)


# Coefficients of all surveys but "sdss-sfd98" multiply E(B-V) of the map of Schlegel, Finkbeiner & Davis (1998) as it
# is; they already hold the recalibration of 2011. Never mix the families: two surveys that are compared, or dust that
# is put on with one and taken off with another, must use the same.
SURVEYS = {
    # Schlafly & Finkbeiner (2011), table 6, R_V = 3.1; effective wavelengths of the SDSS imager.
    "sdss": Survey(
        tuple("ugriz"), 0.396, (3543.0, 4770.0, 6231.0, 7625.0, 9134.0), (4.239, 3.303, 2.285, 1.698, 1.263)
    ),
    # Coefficients of the Legacy Surveys' documentation.
    "legacy": Survey(tuple("grz"), 0.262, (4770.0, 6231.0, 9134.0), (3.214, 2.165, 1.211)),
    "first": Survey(("1.4 GHz",), 1.8),
    # The older coefficients, of Schlegel, Finkbeiner & Davis (1998), as the code of Hayat et al. (2021) has them: about
    # a fifth more dust than "sdss" for the same E(B-V). They turn extinctions that were computed with them, as in the
    # SDSS catalogue that those authors used (data release 12), back into E(B-V); for images take "sdss".
    "sdss-sfd98": Survey(
        tuple("ugriz"), 0.396, (3543.0, 4770.0, 6231.0, 7625.0, 9134.0), (5.155, 3.793, 2.751, 2.086, 1.479)
    ),
    # Coefficients and pixels of the Legacy Surveys' documentation; effective wavelengths of the DECam filters as
    # sedpy's table of filters gives them.
    "decam": Survey(
        tuple("ugrizY"),
        0.262,
        (3809.0, 4771.0, 6392.0, 7789.0, 9149.0, 9885.0),
        (3.995, 3.214, 2.165, 1.592, 1.211, 1.064),
    ),
    # Schlafly & Finkbeiner (2011), table 6, R_V = 3.1: slightly other values than "decam" for the same filters. Pixels
    # of the coadded images: Abbott et al. (2018), "The Dark Energy Survey: Data Release 1".
    "des": Survey(tuple("grizY"), 0.263, (4771.0, 6392.0, 7789.0, 9149.0, 9885.0), (3.237, 2.176, 1.595, 1.217, 1.058)),
    # Schlafly & Finkbeiner (2011), table 6, R_V = 3.1, for the filters as planned then. Pixels: Ivezić et al. (2019).
    "lsst": Survey(tuple("ugrizy"), 0.2, None, (4.145, 3.237, 2.273, 1.684, 1.323, 1.088)),
    # Coefficients of the Legacy Surveys' documentation; isophotal wavelengths of Jarrett et al. (2011). Pixels differ
    # between products (1.375" in the Atlas images, 2.75" in unWISE), so there is no pixel scale.
    "wise": Survey(
        ("W1", "W2", "W3", "W4"), None, (33526.0, 46028.0, 115608.0, 220883.0), (0.184, 0.113, 0.0241, 0.00910)
    ),
}


def get_survey(survey: "str | Survey | None") -> Survey | None:
    """Look up a survey by name; a `Survey` or None passes through.

    Parameters
    ----------
    survey : str, Survey or None
        One of ``SURVEYS``, or what is already a survey.

    Returns
    -------
    Survey or None
        By name a fresh copy, never the object in the table.

    Raises
    ------
    ValueError
        If no survey has that name.

    Examples
    --------
    >>> from skastro.surveys import get_survey
    >>> get_survey("first").bands
    ('1.4 GHz',)
    """
    if not isinstance(survey, str):
        return survey
    if survey not in SURVEYS:
        raise ValueError(f"Unknown survey {survey!r}; known are {', '.join(SURVEYS)}, or give a Survey(...).")
    return clone(SURVEYS[survey])


class Deredden(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Undo the dimming of each band by the Milky Way's dust.

    A step before an embedder or a head, on images or on a table of fluxes:

    .. math:: F'_b = F_b \cdot 10^{R_b\, E(B-V) / 2.5}

    It needs `ebv` wherever it transforms. In a pipeline, after ``sklearn.set_config(enable_metadata_routing=True)``,
    ``pipe.fit(X, y, ebv=ebv)`` and ``pipe.predict(X, ebv=ebv)`` reach it without a request being set, and so do a
    search's ``fit(X, y, ebv=ebv)`` and ``cross_val_score(..., params={"ebv": ebv})`` with the pipeline's own score.

    Parameters
    ----------
    survey : str or Survey, default=None
        Has the extinction coefficients :math:`R_b`, by name or as a `Survey`. None leaves `X` as it is.

    Attributes
    ----------
    extinction_ : ndarray of shape (bands,) or None
        Coefficients in use.
    n_features_in_ : int
        Number of columns of a table; of images, the length of the second axis.
    feature_names_in_ : ndarray of shape (n_features,), str
        Names of the columns, if `X` had any.

    Notes
    -----
    A metric given by name (``scoring="r2"``) and :func:`~sklearn.model_selection.cross_val_predict` hand no metadata
    to `predict`: scikit-learn has no way yet. De-redden before them; no row learns from another, so nothing leaks.

    References
    ----------
    Schlafly & Finkbeiner (2011), "Measuring Reddening with Sloan Digital Sky Survey Stellar Spectra and Recalibrating
    SFD", table 6: :math:`R_b` of ugriz.

    Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", appendix E.2: images are
    de-reddened before a redshift is estimated.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.surveys import Deredden
    >>> Deredden("legacy").fit_transform(np.ones((2, 3)), ebv=[0.0, 0.1]).round(3)
    array([[1.   , 1.   , 1.   ],
           [1.344, 1.221, 1.118]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"survey": [str, Survey, None]}
    # On by default: unlike a weight, an ebv that is given can mean nothing else.
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
            As in `transform`, but only checked, and not needed.

        Returns
        -------
        Deredden
            Itself.

        Raises
        ------
        ValueError
            If the survey is unknown, has not one coefficient per band or other bands than `X`, or if `ebv` is wrong.
        """
        self._validate_params()
        extinction = _coefficients(get_survey(self.survey))
        X = self._check_fluxes(X, extinction, reset=True)
        if ebv is not None:
            _check_ebv(ebv, len(X), extinction)
        self.extinction_ = extinction
        return self

    def transform(self, X: Any, ebv: Any = None) -> np.ndarray:
        """Give each band back the light that the dust took.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, bands * k)
            Flux, not magnitudes, with the sky subtracted. NaN stays NaN.
        ebv : array-like of shape (n,), default=None
            :math:`E(B-V)` towards each object in magnitudes, on the scale of Schlegel, Finkbeiner & Davis (1998).
            Needed with a survey, refused without.

        Returns
        -------
        ndarray of the shape of X
            Of float64 if `X` is, else of float32.

        Raises
        ------
        ValueError
            If the bands are not the survey's, or `ebv` is missing, has no survey to go with, is not one value for
            each row, or has values that are NaN, infinite or negative.
        """
        check_is_fitted(self)
        X = self._check_fluxes(X, self.extinction_, reset=False)
        _check_ebv(ebv, len(X), self.extinction_)
        if self.extinction_ is None:
            return X
        factor = 10 ** (np.outer(ebv, self.extinction_) / 2.5)
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

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _check_fluxes(self, X: Any, extinction: np.ndarray | None, reset: bool) -> np.ndarray:
        fluxes = check_array(
            X,
            dtype=[np.float32, np.float64],
            allow_nd=True,
            ensure_all_finite=False,
            estimator=self,
            input_name="X",
        )
        if extinction is not None:
            _check_bands(fluxes.shape, len(extinction))
        validate_data(self, X, reset=reset, skip_check_array=True)
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
    values = np.asarray(ebv, dtype=np.float64)
    if values.shape != (n,):
        raise ValueError(f"ebv must have one value for each of the {n} rows of X; its shape is {values.shape}.")
    valid = np.isfinite(values) & (values >= 0)
    if not valid.all():
        raise ValueError(
            f"ebv must be finite and not negative; {np.sum(~valid)} of {n} values are not, the first in row "
            f"{np.argmin(valid)}."
        )
