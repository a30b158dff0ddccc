"""Reader of Galaxy Zoo 1, Sloan galaxies with classes from volunteers, from local files."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import validate_params

from skastro.datasets.archives import read_npz

__all__ = ["load_galaxy_zoo1"]

_CLASSES = {
    "elliptical": ("Elliptical",),
    "spiral": ("CW", "ACW"),
    "clockwise": ("CW",),
    "anticlockwise": ("ACW",),
    "edge-on": ("Edge",),
    "merger": ("Merger",),
    "don't know": ("DK",),
}
_DESCR = """\
Galaxy Zoo 1
============
Color cutouts of galaxies of the Sloan Digital Sky Survey, 64 × 64 pixels, with classes from the votes of volunteers.
The red, green and blue channels are the i, r and g bands after a stretch for display. The angular size of the pixels is
not recorded. At least one "don't know" picture is an error page of the image server, not a galaxy.

Credit: Lintott et al. 2008 (MNRAS 389, 1179) and 2011 (MNRAS 410, 166); images: Sloan Digital Sky Survey, CC-BY.
"""


@validate_params(
    {"path": [str, PathLike], "classes": ["array-like"], "unlabeled": ["boolean"]},
    prefer_skip_nested_validation=True,
)
def load_galaxy_zoo1(
    path: str | PathLike[str],
    *,
    classes: Sequence[str] = ("elliptical", "spiral", "edge-on", "merger"),
    unlabeled: bool = False,
) -> Bunch:
    """Load Sloan cutouts with the classes of Galaxy Zoo 1.

    Parameters
    ----------
    path : str or path-like
        ``gz1_sdss.npz``, or the folder that contains it.
    classes : sequence of str, default=("elliptical", "spiral", "edge-on", "merger")
        Classes to keep, in the order of their numbers in `target`; also ``"clockwise"`` and ``"anticlockwise"``
        (``"spiral"`` is both together) and ``"don't know"``. A mirror image of a clockwise galaxy is anticlockwise.
    unlabeled : bool, default=False
        If True, also load the unlabeled cutouts, from ``gz2_unlabelled.npz`` in the same folder.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary with attributes, in the order of the file:

        images : ndarray of shape (n, 3, 64, 64), uint8
            Display images.
        target : ndarray of shape (n,), int
            Index of the class in `target_names`.
        target_names : ndarray of shape (n_classes,), str
            The classes.
        objid : ndarray of shape (n,), str
            SDSS object identifiers.
        bands : tuple of str
            ``("red", "green", "blue")``.
        pixel_scale : None
            None, since the scale is not recorded.
        unlabeled_images : ndarray of shape (m, 3, 64, 64), uint8
            Only if `unlabeled` is True.
        DESCR : str
            Description and acknowledgments.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If a class is unknown or overlaps another, or an archive is damaged or lacks an array.

    References
    ----------
    Lintott et al. 2008, MNRAS 389, 1179, `arXiv:0804.4483 <https://arxiv.org/abs/0804.4483>`_. Lintott et al. 2011,
    MNRAS 410, 166, `arXiv:1007.3265 <https://arxiv.org/abs/1007.3265>`_.

    Examples
    --------
    An archive of two galaxies, made here:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from skastro.datasets import load_galaxy_zoo1
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(
    ...         Path(folder, "gz1_sdss.npz"),
    ...         images=np.zeros((2, 64, 64, 3), np.uint8),
    ...         label=[0, 1],
    ...         label_names=["ACW", "Merger"],
    ...         objid=["1", "2"],
    ...     )
    ...     zoo = load_galaxy_zoo1(folder)
    >>> zoo.target_names[zoo.target]
    array(['spiral', 'merger'], dtype='<U10')
    """
    path = Path(path)
    archive = path / "gz1_sdss.npz" if path.is_dir() else path
    members = _members(classes)
    table = read_npz(archive, "images", "label", "label_names", "objid")
    names = table["label_names"][table["label"]]
    is_class = np.array([np.isin(names, member) for member in members])
    kept = is_class.any(axis=0)
    zoo = Bunch(
        images=_channels_first(table["images"][kept]),
        target=is_class[:, kept].argmax(axis=0),
        target_names=np.array(classes),
        objid=table["objid"][kept],
        bands=("red", "green", "blue"),
        pixel_scale=None,
        DESCR=_DESCR,
    )
    if unlabeled:
        more = read_npz(archive.with_name("gz2_unlabelled.npz"), "images")
        zoo.unlabeled_images = _channels_first(more["images"])
    return zoo


def _members(classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the labels of the file that each class contains."""
    if not len(classes) or not set(classes) <= set(_CLASSES):
        raise ValueError(f"classes must be among {', '.join(_CLASSES)}; got {classes!r}.")
    members = [_CLASSES[name] for name in classes]
    labels = sum(members, ())
    if len(set(labels)) < len(labels):
        raise ValueError(f"classes must not overlap: spiral is clockwise and anticlockwise; got {classes!r}.")
    return members


def _channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(images, -1, 1))
