"""What a survey knows about its pixels: bands, wavelengths, pixel scale and extinction coefficients."""

from collections.abc import Sequence

from sklearn.base import BaseEstimator, clone

__all__ = ["SURVEYS", "Survey", "get_survey"]


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


SURVEYS = {
    # Schlafly & Finkbeiner (2011), table 6, R_V = 3.1; effective wavelengths of the SDSS imager.
    "sdss": Survey(
        tuple("ugriz"), 0.396, (3543.0, 4770.0, 6231.0, 7625.0, 9134.0), (4.239, 3.303, 2.285, 1.698, 1.263)
    ),
    # Coefficients of the Legacy Surveys' documentation.
    "legacy": Survey(tuple("grz"), 0.262, (4770.0, 6231.0, 9134.0), (3.214, 2.165, 1.211)),
    "first": Survey(("1.4 GHz",), 1.8),
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
