"""Descriptions of surveys: bands, wavelengths, pixel scales, and extinction coefficients."""

from collections.abc import Sequence

from sklearn.base import BaseEstimator, clone

__all__ = ["SURVEYS", "Survey", "get_survey"]


class Survey(BaseEstimator):
    r"""Bands and pixels of a survey: names, wavelengths, pixel scale, extinction.

    Augmentation steps based on physics (reddening, seeing) use it, an embedder checks the number of bands against it,
    and a saved model contains it.

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
        *,
        pixel_scale: float | None = None,
        wavelengths: Sequence[float] | None = None,
        extinction: Sequence[float] | None = None,
    ) -> None:
        self.bands = bands
        self.pixel_scale = pixel_scale
        self.wavelengths = wavelengths
        self.extinction = extinction

    def select(self, bands: Sequence[str]) -> "Survey":
        """Select some of the bands, in the given order.

        Parameters
        ----------
        bands : sequence of str
            Names of the bands to keep; for names of one letter also a single string, ``"grz"``.

        Returns
        -------
        Survey
            Survey with the same pixels, and the wavelengths and coefficients of those bands.

        Raises
        ------
        ValueError
            If the survey has no band of that name.

        Examples
        --------
        >>> from skastro.surveys import get_survey
        >>> get_survey("decam").select("zg").extinction
        (1.211, 3.214)
        """
        if unknown := [band for band in bands if band not in self.bands]:
            raise ValueError(f"Unknown band {unknown[0]!r}; the survey has {', '.join(self.bands)}.")
        places = [list(self.bands).index(band) for band in bands]
        wavelengths, extinction = (
            values and tuple(values[place] for place in places) for values in (self.wavelengths, self.extinction)
        )
        return Survey(tuple(bands), pixel_scale=self.pixel_scale, wavelengths=wavelengths, extinction=extinction)


# The coefficients of all surveys but "sdss-sfd98" multiply E(B-V) of the map of Schlegel, Finkbeiner & Davis (1998) as
# published; they already include the recalibration of 2011. Never mix the two families: surveys that are compared, or
# reddening and dereddening of the same images, must use the same one.
SURVEYS = {
    # Schlafly & Finkbeiner (2011), table 6, R_V = 3.1; effective wavelengths of the SDSS imager.
    "sdss": Survey(
        tuple("ugriz"),
        pixel_scale=0.396,
        wavelengths=(3543.0, 4770.0, 6231.0, 7625.0, 9134.0),
        extinction=(4.239, 3.303, 2.285, 1.698, 1.263),
    ),
    # Coefficients of the Legacy Surveys' documentation; effective wavelengths of DECam, which saw most of them.
    "legacy": Survey(
        tuple("grz"), pixel_scale=0.262, wavelengths=(4771.0, 6392.0, 9149.0), extinction=(3.214, 2.165, 1.211)
    ),
    "first": Survey(("1.4 GHz",), pixel_scale=1.8),
    # The older coefficients, of Schlegel, Finkbeiner & Davis (1998), as in the code of Hayat et al. (2021): about a
    # fifth more dust than "sdss" for the same E(B-V). Use them to convert extinctions that were computed with them, as
    # in the SDSS catalog of those authors (data release 12), back to E(B-V); for images use "sdss".
    "sdss-sfd98": Survey(
        tuple("ugriz"),
        pixel_scale=0.396,
        wavelengths=(3543.0, 4770.0, 6231.0, 7625.0, 9134.0),
        extinction=(5.155, 3.793, 2.751, 2.086, 1.479),
    ),
    # Coefficients and pixels of the Legacy Surveys' documentation; effective wavelengths of the DECam filters from
    # sedpy's table of filters.
    "decam": Survey(
        tuple("ugrizY"),
        pixel_scale=0.262,
        wavelengths=(3809.0, 4771.0, 6392.0, 7789.0, 9149.0, 9885.0),
        extinction=(3.995, 3.214, 2.165, 1.592, 1.211, 1.064),
    ),
    # Schlafly & Finkbeiner (2011), table 6, R_V = 3.1: slightly different from "decam" for the same filters. Pixels
    # of the coadded images: Abbott et al. (2018), "The Dark Energy Survey: Data Release 1".
    "des": Survey(
        tuple("grizY"),
        pixel_scale=0.263,
        wavelengths=(4771.0, 6392.0, 7789.0, 9149.0, 9885.0),
        extinction=(3.237, 2.176, 1.595, 1.217, 1.058),
    ),
    # Schlafly & Finkbeiner (2011), table 6, R_V = 3.1, for the filters as planned at the time. Pixels: Ivezić et al.
    # (2019).
    "lsst": Survey(
        tuple("ugrizy"), pixel_scale=0.2, wavelengths=None, extinction=(4.145, 3.237, 2.273, 1.684, 1.323, 1.088)
    ),
    # Coefficients of the Legacy Surveys' documentation; isophotal wavelengths of Jarrett et al. (2011). Pixels differ
    # between products (1.375" in the Atlas images, 2.75" in unWISE), so there is no pixel scale.
    "wise": Survey(
        ("W1", "W2", "W3", "W4"),
        pixel_scale=None,
        wavelengths=(33526.0, 46028.0, 115608.0, 220883.0),
        extinction=(0.184, 0.113, 0.0241, 0.00910),
    ),
}


def get_survey(survey: "str | Survey | None") -> Survey | None:
    """Return a survey by name; a `Survey` or None is returned unchanged.

    Parameters
    ----------
    survey : str, Survey or None
        One of ``SURVEYS``, a survey, or None.

    Returns
    -------
    Survey or None
        For a name, a fresh copy, never the object in the table.

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
