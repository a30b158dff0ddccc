"""Reader of MiraBest, radio galaxies of the two Fanaroff-Riley classes, from local files."""

import re
from os import PathLike
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions, validate_params

from skastro.datasets.archives import read_npz, read_pickle

__all__ = ["load_mirabest"]

# The release's labels 0 to 9. Digits: class (1 FRI, 2 FRII, 3 hybrid), certainty (0 confident, 1 uncertain), shape (0
# standard, 1 double-double, 2 wide-angle tail, 4 head-tail).
_CODES = np.array([100, 102, 104, 110, 112, 200, 201, 210, 300, 310])
_NAMES = np.array(["FRI", "FRII", "hybrid"])
_LONGEST_NAME = 255  # letters of a file's name; in an array, every name takes the room of the longest
_FILENAME = re.compile(r"\d{3}_(\d+\.\d+)([+-]\d+\.\d+)_(\d+\.\d+)_(\d+\.\d+)")
_DESCR = """\
MiraBest
========
Radio galaxies of Fanaroff-Riley classes I and II from the FIRST survey at 1.4 GHz, 150 × 150 pixels of 1.8 arcsec, set
to zero below three times the noise and scaled to 8 bits one by one, so that brightness does not compare between images.
Labels are confident or uncertain; the batch `test_batch` is the published test set. File names hold the label: they
are no feature.

Credit: Porter & Scaife 2023 (RASTI 2, 293) after Miraghaei & Best 2017 (MNRAS 466, 4346); FIRST: Becker, White &
Helfand 1995 (ApJ 450, 559).
"""


@validate_params(
    {
        "path": [str, PathLike],
        "subset": [StrOptions({"all", "confident", "uncertain"})],
        "hybrids": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_mirabest(path: str | PathLike[str], *, subset: str = "all", hybrids: bool = False) -> Bunch:
    """Load the MiraBest radio galaxies.

    Parameters
    ----------
    path : str or path-like
        The folder of the original release (``data_batch_1`` … ``data_batch_7``, ``test_batch``) or one of these
        files, which are pickles and are read without running their code; or ``mirabest.npz`` or its folder.
    subset : {"all", "confident", "uncertain"}, default="all"
        Labels to keep.
    hybrids : bool, default=False
        If True, keep the sources that are FRI on one side and FRII on the other.

    Returns
    -------
    sklearn.utils.Bunch
        Dictionary with attributes, in the order of the files:

        images : ndarray of shape (n, 1, 150, 150), uint8
            Cutouts.
        target : ndarray of shape (n,), int
            0 for FRI, 1 for FRII, 2 for hybrid.
        target_names : ndarray of shape (2,) or (3,), str
            ``"FRI"``, ``"FRII"`` and, with `hybrids`, ``"hybrid"``.
        code : ndarray of shape (n,), int
            The full label: class, certainty and shape as three digits (102 is a confident wide-angle-tail FRI).
        confident : ndarray of shape (n,), bool
            True where the label is certain.
        redshift, las_arcsec, ra, dec : ndarrays of shape (n,), float
            Redshift of the host, largest angular size in arcseconds, position in degrees (J2000).
        batch : ndarray of shape (n,), str
            Name of the batch; ``"test_batch"`` is the published test set.
        filename : ndarray of shape (n,), str
            Name of the image in the release.
        bands : tuple of str
            ``("1.4 GHz",)``.
        pixel_scale : float
            1.8 arcseconds per pixel.
        DESCR : str
            Description and acknowledgments.

    Raises
    ------
    FileNotFoundError
        If the file does not exist, or a folder contains no batch.
    pickle.UnpicklingError
        If a batch contains anything other than arrays, is damaged, or is not a pickle. None of its code was run.
    ValueError
        If the archive is damaged or lacks an array, or a batch does not have the layout of MiraBest.

    References
    ----------
    Porter & Scaife 2023, RASTI 2, 293, `arXiv:2305.11108 <https://arxiv.org/abs/2305.11108>`_. Miraghaei & Best 2017,
    MNRAS 466, 4346.

    Examples
    --------
    A release of one source, written like the original:

    >>> import pickle
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from skastro.datasets import load_mirabest
    >>> batch = {
    ...     "data": np.zeros((1, 22500), np.uint8),
    ...     "labels": [5],
    ...     "filenames": ["200_118.875+052.081_0.1399_0023.82.png"],
    ... }
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "data_batch_1").write_bytes(pickle.dumps(batch))
    ...     mirabest = load_mirabest(folder)
    >>> mirabest.target_names[mirabest.target]
    array(['FRII'], dtype='<U6')
    """
    table = _table(Path(path))
    code = _CODES[table["label10"]]
    confident = code // 10 % 10 == 0
    kept = {"all": code > 0, "confident": confident, "uncertain": ~confident}[subset] & (hybrids | (code < 300))
    ra, dec, redshift, las_arcsec = _read_names(table["filename"][kept])
    return Bunch(
        images=table["images"][kept][:, None],
        target=code[kept] // 100 - 1,
        target_names=_NAMES[: 3 if hybrids else 2],
        code=code[kept],
        confident=confident[kept],
        redshift=redshift,
        las_arcsec=las_arcsec,
        ra=ra,
        dec=dec,
        batch=table["batch"][kept],
        filename=table["filename"][kept],
        bands=("1.4 GHz",),
        pixel_scale=1.8,
        DESCR=_DESCR,
    )


def _table(path: Path) -> dict[str, np.ndarray]:
    archive = path / "mirabest.npz" if path.is_dir() else path
    if archive.suffix == ".npz" and archive.exists():
        return read_npz(archive, "images", "label10", "batch", "filename")
    files = sorted([*path.glob("data_batch_*"), *path.glob("test_batch")]) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"{path} holds neither mirabest.npz nor the batches data_batch_* and test_batch.")
    batches = [_batch(file) for file in files]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _batch(file: Path) -> dict[str, np.ndarray]:
    """Read one pickled batch; its texts are bytes or strings, depending on the Python version that wrote it."""
    batch = read_pickle(file)
    try:
        content = {_text(key): batch[key] for key in batch}
        images = np.asarray(content["data"]).reshape(-1, 150, 150)
        labels = np.asarray(content["labels"], int)
        names = np.array(_short_names(content["filenames"]))
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise ValueError(f"{file} is not laid out as a batch of MiraBest: {error!r}.") from error
    if images.dtype != np.uint8:
        raise ValueError(f"{file} is not laid out as a batch of MiraBest: its pixels are {images.dtype}, not uint8.")
    if not len(images) == len(labels) == len(names) or not np.isin(labels, range(10)).all():
        raise ValueError(
            f"{file} is not laid out as a batch of MiraBest: {len(images)} images, {len(labels)} labels "
            f"(0 to 9 expected) and {len(names)} file names."
        )
    return {"images": images, "label10": labels, "batch": np.full(len(names), file.name), "filename": names}


def _short_names(values: list[str | bytes]) -> list[str]:
    names = [_text(value) for value in values]
    if any(len(name) > _LONGEST_NAME for name in names):
        raise ValueError(f"a file name has more than {_LONGEST_NAME} letters")
    return names


def _text(value: str | bytes) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _read_names(names: np.ndarray) -> np.ndarray:
    """Read right ascension, declination, redshift and angular size from file names: (4, n)."""
    matches = [_FILENAME.search(name) for name in names]
    if None in matches:
        raise ValueError(
            f"{names[matches.index(None)]} is no file name of MiraBest: it has no position, redshift and angular size."
        )
    return np.array([match.groups() for match in matches if match], float).reshape(-1, 4).T
