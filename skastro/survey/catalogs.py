"""Catalogs of LSDB with what a model says of each row as further columns, lazily."""

import os
import shutil
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from skastro._extras import require
from skastro.datasets.disk.opened import stamp
from skastro.survey.cutouts import BesideRows, InRows, find_column, find_cutouts, open_beside, plain_columns
from skastro.survey.models import METHODS, SavedModel, check_workers, labeled, one_at_a_time, saved_model
from skastro.unfinished import Unfinished

__all__ = ["Embed", "embed_catalog", "is_survey", "open_survey", "write_embeddings"]

PREFIX = "hats://"
PROPERTIES = ("hats.properties", "properties", "collection.properties")
LAST = "hats.properties"  # what LSDB writes when all else is there
# LSDB's own level of compression, 15, takes a seventh of the time of a small network, and saves 0.2 % of the bytes.
WRITING = {"compression_level": 3}


@dataclass(frozen=True)
class Embed:
    """What is done with each partition: a callable that pickles small.

    Parameters
    ----------
    model : SavedModel
        Who answers.
    cutouts : InRows or BesideRows
        Where the images are.
    methods : dict of str to str
        What the model is asked for, and the names of the columns.
    schema : tuple of (str, pyarrow.DataType)
        Columns that are added.
    keep : tuple of str
        Columns that go along.
    """

    model: SavedModel
    cutouts: InRows | BesideRows
    methods: dict[str, str]
    schema: tuple[tuple[str, Any], ...]
    keep: tuple[str, ...]

    def __call__(self, frame: Any) -> Any:
        """Add the columns.

        Parameters
        ----------
        frame : DataFrame
            The partition; of no rows, it gives the types of the columns.

        Returns
        -------
        DataFrame
        """
        columns = dict.fromkeys(name for name, _ in self.schema) if not len(frame) else self._answers(frame)
        return frame[[*self.keep]].assign(
            **{name: _series(columns[name], kind, frame.index) for name, kind in self.schema}
        )

    def _answers(self, frame: Any) -> dict[str, np.ndarray]:
        images = self.cutouts(frame)
        try:
            return answers(self.model, self.methods, images)
        except ValueError as error:
            wrong = np.flatnonzero(~np.isfinite(images).reshape(len(images), -1).all(axis=1))
            if not len(wrong):
                raise
            raise ValueError(
                f"{error} It is of {_called(frame[[*self.keep]], int(wrong[0]))}. fill= of embed_catalog replaces such "
                "pixels."
            ) from error


def _called(frame: Any, row: int) -> str:
    """Tell which object a row is, by its index and its first columns."""
    values = {str(frame.index.name or "index"): frame.index[row]} | {name: frame[name].iloc[row] for name in frame}
    plain = [f"{name} {value}" for name, value in values.items() if np.ndim(value) == 0]
    return ", ".join(plain[:4])


def answers(model: SavedModel, methods: dict[str, str], X: Any) -> dict[str, np.ndarray]:
    """Ask a model for several things, and name the columns.

    Parameters
    ----------
    model : SavedModel
        Who answers.
    methods : dict of str to str
        What it is asked for, and the names of the columns.
    X : array-like of shape (n, ...)
        What the model takes.

    Returns
    -------
    dict of str to ndarray
    """
    columns: dict[str, np.ndarray] = {}
    for method, values in model.ask([*methods], X).items():
        columns |= labeled(method, methods[method], values, model.load())
    return columns


def embed_catalog(
    catalog: Any,
    model: str | os.PathLike[str],
    column: str | None = None,
    *,
    method: str | Sequence[str] = "transform",
    name: str | None = None,
    keep: Sequence[str] | None = None,
    images: Any = None,
    ids: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    bands: Sequence[int | str] | None = None,
    bands_axis: int | None = None,
    fill: float | str | None = None,
    missing: float | Sequence[float] | None = None,
    trusted: Collection[str] = (),
) -> Any:
    """Add what a saved model says of each row to a catalog, lazily.

    Nothing is computed here but the answer for one blank image, which tells the columns. Each worker reads the model
    from its path, once. ``write_catalog(resume=True)`` of what is returned writes it, partition by partition.

    Parameters
    ----------
    catalog : lsdb.Catalog
        The catalog.
    model : str or path-like
        File that `skastro.save` wrote, or ``"hf-hub:owner/name"``; where every worker finds it.
    column : str or None, default=None
        Column of the images: lists of one size, or a struct with lists in it such as Multimodal Universe's ``"image"``
        (its field ``"image.flux"`` is found). None takes the only one that looks like images. With `images`, the column
        that tells which image is a row's.
    method : {"transform", "predict", "predict_proba", "predict_interval"} or sequence of these, default="transform"
        What the model is asked for. Of several, a pipeline embeds once.
    name : str or None, default=None
        Name of the new column, or what the names of several begin with; None is ``"embedding"``, ``"prediction"``,
        ``"probability"`` or ``"interval"``, by the method. Embeddings are one column of lists of float32 of one size;
        ``predict_proba`` gives a column for each class or answer, such as ``"probability_FRI"``, and
        ``predict_interval`` those of both ends.
    keep : sequence of str or None, default=None
        Columns that go along, beside the positions; None takes all but that of the images.
    images : str, path-like, Source or None, default=None
        Images beside the catalog: a file that `skastro.datasets.open_images` opens, or what it gave.
    ids : str or None, default=None
        Array of the images' file that holds the values of `column`, read once per worker; None if the column has the
        numbers of the images' rows.
    image_shape : tuple of int, default=None
        ``(bands, height, width)`` of images that are lists of numbers; None takes the shape that the model was trained
        on.
    bands : sequence of int or str, default=None
        Bands to take, in this order, by number or, where the struct has ``band``, by name. None takes those that the
        model was trained on by name where both know names, and else all.
    bands_axis : {1, -1} or None, default=None
        Where the bands are on disk; None goes by the shape, as `skastro.datasets.open_images` does.
    fill : float, "median" or None, default=None
        Value for pixels that are NaN, infinite or named by `missing`: a number, or the median of the other pixels of
        the same image and band. None leaves them, and the model refuses such an image.
    missing : float, sequence of float or None, default=None
        Numbers that stand for missing pixels, such as -9999.
    trusted : collection of str, default=()
        As for `skastro.load`.

    Returns
    -------
    lsdb.Catalog
        With the same partitions, rows and positions.

    Raises
    ------
    FileNotFoundError
        If there is no such model, here or for a worker of the current client.
    ImportError
        If lsdb is not installed; the error names skastro's extra. If a worker lacks skastro.
    KeyError
        If there is no such column; the error lists those that there are.
    TypeError
        If `model` is no path.
    ValueError
        If the images are of other bands than those of the model, or smaller; if the model has no such method. In a
        worker: if a row's image is of another size or of other bands than the first row's, or has missing pixels; if
        an identifier is that of no image, or of two.

    See Also
    --------
    write_embeddings : Write it under its name once it is whole.
    skastro.embedding.embed : Embed images of one machine.
    """
    require("embed_catalog", "lsdb", "distributed", extra="survey")
    methods = _methods(method, name)
    saved = saved_model(model, trusted)
    found = find_cutouts(
        catalog,
        column,
        saved.load(),
        images=images,
        ids=ids,
        image_shape=image_shape,
        bands=bands,
        bands_axis=bands_axis,
        fill=fill,
        missing=missing,
    )
    along = _along(catalog, keep, found.taken)
    check_workers(saved)
    task = Embed(saved, found, methods, _schema(saved, methods, found), along)
    if taken := sorted({name for name, _ in task.schema} & {*along}):
        raise ValueError(
            f"The catalog has a column {taken[0]!r} already: give another name=, or leave it out by keep=."
        )
    return catalog.map_partitions(task, meta=task(catalog.meta))


def write_embeddings(
    catalog: Any,
    model: str | os.PathLike[str],
    column: str | None = None,
    *,
    out: str | os.PathLike[str],
    verbose: int = 1,
    **options: Any,
) -> Path:
    """Embed a catalog into a folder; run again after an interruption, it goes on with the partitions that are missing.

    Parameters
    ----------
    catalog : lsdb.Catalog
        The catalog.
    model : str or path-like
        As for `embed_catalog`.
    column : str or None, default=None
        As for `embed_catalog`.
    out : str or path-like
        Folder of the new catalog. Under its name it is always whole: what is unfinished has ``.part`` behind it.
    verbose : int, default=1
        1 shows a progress bar.
    **options : dict
        Further parameters of `embed_catalog`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileExistsError
        If the folder is there already.
    FileNotFoundError
        If there is no folder to write to.
    ValueError
        If what is unfinished was begun with another model, another catalog or cut of it, other images or other options,
        if another process writes it now, and what `embed_catalog` refuses.
    """
    unfinished, images = Unfinished(Path(out)), None
    if options.get("images") is not None:
        told = {name: options.pop(name) for name in ("bands", "bands_axis", "fill", "missing") if name in options}
        images = options["images"] = open_beside(options["images"], **told)
    embedded = embed_catalog(catalog, model, column, **options)
    identity = {
        "model": saved_model(model).digest,
        "catalog": _identity(catalog),
        "images": images and joblib.hash((images.reader, images.rows, images.steps)),
        "columns": {name: str(kind) for name, kind in embedded.dtypes.items()},
        "options": {name: joblib.hash(value) for name, value in {**options, "column": column, "images": None}.items()},
    }
    with unfinished.claim(identity):
        _mend(unfinished.path)
        if not (unfinished.path / LAST).exists():
            with one_at_a_time():
                embedded.write_catalog(
                    unfinished.path,
                    resume=True,
                    as_collection=False,
                    progress_bar=bool(verbose),
                    write_table_kwargs=WRITING,
                )
        return unfinished.finish()


def _identity(catalog: Any) -> list[Any]:
    """Describe a catalog so that another process knows it again: its files, its pixels, what is done with them."""
    from dask.tokenize import normalize_token
    from hats.catalog import TableProperties

    # It holds a set, whose order is another in each process; Dask would take it for another table then.
    normalize_token.register(TableProperties, str)
    about = catalog.hc_structure
    files = [] if about.catalog_path is None else [about.catalog_path / name for name in (LAST, "dataset/_metadata")]
    return [
        str(about.catalog_path),
        about.catalog_name,
        [[*stamp(str(file))] for file in files if file.is_file() and "://" not in str(file)],
        joblib.hash([str(pixel) for pixel in catalog.get_healpix_pixels()]),
        *{str(part.key[0]) for part in catalog.to_delayed()},
    ]


def is_survey(path: Any) -> bool:
    """Tell a catalog in the HATS format.

    Parameters
    ----------
    path : str or path-like
        A path, or ``"hats://..."``, which is a catalog's by its name.

    Returns
    -------
    bool

    Examples
    --------
    >>> from skastro.survey.catalogs import is_survey
    >>> is_survey("hats://sky"), is_survey("sky.h5")
    (True, False)
    """
    return str(path).startswith(PREFIX) or any(Path(path, name).is_file() for name in PROPERTIES)


def open_survey(
    path: str | os.PathLike[str], column: str | None = None, *, keep: Sequence[str] | None = None, beside: bool = False
) -> Any:
    """Open a HATS catalog with no more columns than embedding needs: what is not opened is not read.

    Parameters
    ----------
    path : str or path-like
        The catalog; ``"hats://"`` in front is taken off.
    column : str or None, default=None
        Column of the images, as for `embed_catalog`.
    keep : sequence of str or None, default=None
        Columns that go along; None takes all that are no lists.
    beside : bool, default=False
        Whether the images are beside the catalog, and the column tells which.

    Returns
    -------
    lsdb.Catalog

    Raises
    ------
    FileNotFoundError
        If there is no such catalog.
    ImportError
        If lsdb is not installed; the error names skastro's extra.
    KeyError
        If there is no such column; the error lists those that there are.
    """
    require("open_survey", "lsdb", extra="survey")
    import lsdb

    place = str(path).removeprefix(PREFIX)
    if "://" not in place and not is_survey(place):
        raise FileNotFoundError(f"There is no HATS catalog {place}: it has no {' and no '.join(PROPERTIES)}.")
    catalog = lsdb.open_catalog(place)
    images = column if beside else find_column(catalog, column)
    if absent := [name for name in [images, *(keep or ())] if name not in catalog.columns and "." not in str(name)]:
        raise KeyError(f"The catalog has no column {absent[0]!r}; it has {', '.join(catalog.columns)}.")
    top, _, field = str(images).partition(".")
    names = [f"{top}.band"] if field and f"{top}.band" in catalog.exploded_columns else []
    about = catalog.hc_structure.catalog_info
    along = plain_columns(catalog) if keep is None else [about.ra_column, about.dec_column, *keep]
    return lsdb.open_catalog(place, columns=[*dict.fromkeys([*along, str(images), *names])])


def _mend(unfinished: Path) -> None:
    """Forget partitions that were cut off between the two marks that LSDB makes of each: it would refuse to resume."""
    done = {file.name.removesuffix("_done") for file in unfinished.glob("*/*_done")}
    for file in unfinished.glob("*/*_histogram.npz"):
        if file.name.removesuffix("_histogram.npz") not in done:
            file.unlink()
    if not done and not (unfinished / LAST).exists():
        shutil.rmtree(unfinished, ignore_errors=True)


def _methods(method: str | Sequence[str], name: str | None) -> dict[str, str]:
    asked = [method] if isinstance(method, str) else [*method]
    if not asked or (unknown := [other for other in asked if other not in METHODS]):
        raise ValueError(f"method must be among {', '.join(METHODS)}; got {unknown[0] if asked else asked!r}.")
    if name is not None and len(asked) > 1:
        raise ValueError(f"name= names the answers of one method; got {len(asked)} methods.")
    return {method: name or METHODS[method] for method in asked}


def _along(catalog: Any, keep: Sequence[str] | None, taken: str | None) -> tuple[str, ...]:
    """List the columns that go along: positions always, images not."""
    if keep is None:
        return tuple(name for name in catalog.columns if name != taken)
    if absent := [name for name in keep if name not in catalog.columns]:
        raise KeyError(f"The catalog has no column {absent[0]!r}; it has {', '.join(catalog.columns)}.")
    about = catalog.hc_structure.catalog_info
    wanted = {*keep, about.ra_column, about.dec_column}
    return tuple(name for name in catalog.columns if name in wanted)


def _schema(model: SavedModel, methods: dict[str, str], cutouts: InRows | BesideRows) -> tuple[tuple[str, Any], ...]:
    """Find the columns by the answer for one blank image."""
    if isinstance(cutouts, InRows):
        blank = cutouts.arrange(np.zeros((1, *cutouts.raw), np.float32))
    else:
        blank = cutouts.arrange(np.zeros((1, *cutouts.source.shape[1:]), cutouts.source.dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is no image
        columns = answers(model, methods, blank)
    return tuple((name, _type(values)) for name, values in columns.items())


def _type(values: np.ndarray) -> Any:
    import pyarrow as pa

    kind = pa.string() if values.dtype.kind in "OU" else pa.from_numpy_dtype(values.dtype)
    if values.ndim == 1:
        return kind
    return pa.list_(pa.field("element", kind), values.shape[1])  # as a list is called that Parquet gives back


def _series(values: np.ndarray | None, kind: Any, index: Any) -> Any:
    """Make a column of exactly one type, of no rows too."""
    import pandas as pd
    import pyarrow as pa

    if values is None:
        array = pa.array([], kind)
    elif values.ndim == 2:
        array = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1]).cast(kind)
    else:
        array = pa.array(values.astype(object) if values.dtype.kind == "U" else values, kind)
    return pd.Series(array, index=index, dtype=pd.ArrowDtype(kind))
