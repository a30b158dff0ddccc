"""The page: what it holds, and how it is put together. Nothing in it is fetched, and no text of data is run."""

import json
import os
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from skastro._extras import require
from skastro.datasets import open_spectra
from skastro.embedding import WRITERS
from skastro.explorer.thumbnails import PER_SIDE, lines, pictured, sheets, side_of
from skastro.inputs import as_array, as_column, as_table, in_unit
from skastro.maps import EmbeddingMap, method_of
from skastro.persistence import load
from skastro.plotting.pictures import check_bands, check_images
from skastro.plotting.style import are_classes
from skastro.sources import Source
from skastro.unfinished import check_folder

__all__ = ["explore"]

DIMENSIONS = 32  # of the embeddings in the page: enough for look-alikes
KEYS = 9  # labels that have a key
PART = 4096  # rows that a model is shown in one go
# In the order in which they run.
SCRIPTS = ("data", "view", "colors", "thumbnails", "drawing", "objects", "search", "labels", "controls")


def explore(
    embedding: Any,
    images: Any = None,
    *,
    ids: Any = None,
    ra: Any = None,
    dec: Any = None,
    columns: Any = None,
    positions: Any = None,
    times: Any = None,
    labels: Sequence[str] = (),
    bands: Sequence[int] | None = None,
    title: str = "Explorer",
    method: str = "auto",
    thumbnail_size: int | None = None,
    max_thumbnails: int = 50_000,
    random_state: int | np.random.RandomState | None = 0,
    verbose: int = 0,
    path: str | os.PathLike[str] = "explorer.html",
) -> Path:
    """Make one page to look around in a map: zoom, hover, color, lasso, look-alikes, search, and labels by hand.

    The page opens from disk in Chromium and Firefox, and fetches nothing. What is labeled or selected there is saved as
    a table with the columns ``row``, ``id``, ``ra``, ``dec`` and ``label``, which ``pandas.read_csv`` reads:
    ``clf.fit(X[table["row"]], table["label"])``.

    Parameters
    ----------
    embedding : array-like of shape (n, d), estimator, str or path-like
        Output of an embedder's `transform`, or the file (``.npy``, ``.zarr``, ``.parquet``) that `skastro.embed` wrote;
        or a fitted embedder, or the file of one, which embeds `images`. Of a pipeline that ends in a classifier or
        regressor, the steps before it.
    images : array-like or Source, default=None
        Thumbnails: images of shape (n, height, width) or (n, bands, height, width), 8-bit or flux; or spectra or light
        curves of shape (n, n_points), shown as lines, NaN where missing.
    ids : array-like of shape (n,), default=None
        Names of the objects, to search for; ``None`` takes the numbers of the rows. Several objects may have one name:
        labels are saved with the row beside it.
    ra, dec : array-like of shape (n,), default=None
        Positions on the sky in degrees, or angles with a unit of astropy, to search for by cone; NaN is found by none.
    columns : mapping of str to array-like of shape (n,), or table, default=None
        What points can be colored by: classes (strings, booleans, or up to 12 distinct integers), or values (other
        numbers, kept in float32). Missing values are gray.
    positions : array-like of shape (n, 2), default=None
        Places in the map; ``None`` makes one by :class:`~skastro.maps.EmbeddingMap`.
    times : array-like of shape (n_points,) or (n, n_points), default=None
        Where the points of spectra or light curves are; ``None`` puts them at equal distances.
    labels : sequence of str, default=()
        Names of the labels on the keys 1 to 9; they can be changed in the page.
    bands : sequence of one or three int, default=None
        Bands to show of images: one in gray, or three as red, green and blue. ``None`` shows one or three bands as they
        are, and the mean of any other number of bands.
    title : str, default="Explorer"
        Title of the page.
    method : {"auto", "umap", "tsne", "pca"}, default="auto"
        Of :class:`~skastro.maps.EmbeddingMap`.
    thumbnail_size : int, default=None
        Side of the thumbnails in pixels; ``None`` is 48, and 32 for more than 20,000.
    max_thumbnails : int, default=50_000
        Of more objects, a random sample has thumbnails, and the page says so.
    random_state : int, RandomState instance or None, default=0
        Of the map.
    verbose : int, default=0
        1 shows how far the embedding, the map and the thumbnails are.
    path : str or path-like, default="explorer.html"
        File to write; one that is there is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If the arrays differ in length, have other shapes, values that are missing where none may be, or positions that
        are not on the sky.
    FileNotFoundError
        If its folder is not there.
    ImportError
        If there are images and pillow is not installed, or the method is UMAP and umap-learn is not.

    See Also
    --------
    skastro.plotting.EmbeddingMapDisplay : Draw a map with thumbnails.

    Notes
    -----
    Look-alikes are found in the page by the cosine between embeddings about their mean, reduced to 32 principal
    components and rounded to 8 bits: the order of close look-alikes may differ from that of the whole embedding.
    Columns are taken as they are: scale those of different units first, by ``StandardScaler``.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_digits
    >>> import skastro
    >>> digits = load_digits()
    >>> with TemporaryDirectory() as folder:
    ...     page = skastro.explore(
    ...         digits.data,
    ...         digits.images,
    ...         columns={"digit": digits.target},
    ...         method="pca",
    ...         path=f"{folder}/digits.html",
    ...     )
    ...     page.name, page.stat().st_size < 1_000_000
    ('digits.html', True)
    """
    path = Path(path)
    check_folder(path)
    if len(labels) > KEYS:
        raise ValueError(f"labels go on the keys 1 to {KEYS}; got {len(labels)}.")
    if (ra is None) != (dec is None):
        raise ValueError("ra and dec go together: give both or neither.")
    images = _checked_images(images, times)
    if bands is not None and images is not None and images.ndim == 4:
        check_bands(bands, images.shape[1])
    model, rows = _model_or_rows(embedding, images)
    n = len(images) if rows is None else len(rows)
    arrays = {
        "positions": None if positions is None else _positions(positions, n),
        "ra": None if ra is None else _degrees("ra", ra, n, (-360, 360)),
        "dec": None if dec is None else _degrees("dec", dec, n, (-90, 90)),
    }
    about: dict[str, Any] = {
        "n": n,
        "title": title,
        "ids": None if ids is None else _names(_one_each("ids", as_column(ids, "ids"), n)),
        "labels": [str(label) for label in labels],
        "columns": [
            _described(str(name), _column(str(name), values, n), f"column-{number}", arrays)
            for number, (name, values) in enumerate(_pairs(columns))
        ],
    }
    if positions is None:
        method = method_of(method)  # refuses now what is not installed
    if rows is None:
        rows = _finite(_transformed(model, images, verbose))
    if positions is None:
        embedding_map = EmbeddingMap(method, random_state=random_state, verbose=verbose)
        arrays["positions"] = _positions(embedding_map.fit_transform(rows), n)
    arrays["vectors"] = _vectors(rows)
    about["thumbnails"], drawn = _thumbnails(images, times, bands, thumbnail_size, max_thumbnails, verbose)
    path.write_text(_page(title, about, arrays | drawn), encoding="utf-8")
    return path


def _checked_images(images: Any, times: Any) -> Any:
    if images is None:
        return None
    images = images if isinstance(images, Source) else as_array(images, "images", cure="cut them to one size")
    if images.ndim != 2:
        require("Thumbnails of images", "PIL", extra="files")
        check_images(images.shape)
        if times is not None:
            raise ValueError("times go with spectra or light curves, and these are images.")
    elif times is not None and np.shape(as_array(times)) not in (images.shape, images.shape[1:]):
        raise ValueError(f"times of shape {np.shape(times)} do not go with images of shape {images.shape}.")
    return images


def _model_or_rows(embedding: Any, images: Any) -> tuple[Any, np.ndarray | None]:
    """Return the transformer that is to embed the images, or the embeddings that were given."""
    model = embedding
    if isinstance(embedding, str | os.PathLike):
        written = Path(embedding).suffix in WRITERS
        model = open_spectra(embedding)[:] if written else load(embedding)
    if not hasattr(model, "fit"):
        rows = _finite(as_array(model, "embedding"))
        if images is not None and len(images) != len(rows):
            raise ValueError(f"There are {len(rows)} embeddings, but the shape of images is {images.shape}.")
        return None, rows
    if images is None:
        raise ValueError("A model needs images to embed: give explore(model, images).")
    check_is_fitted(model)
    if isinstance(model, Pipeline) and not hasattr(model, "transform"):
        model = model[:-1]
    if not hasattr(model, "transform"):
        raise ValueError(f"{type(model).__name__} has no transform: give an embedder, or a pipeline that has one.")
    return model, None


def _transformed(model: Any, images: Any, verbose: int) -> np.ndarray:
    starts = tqdm(range(0, len(images), PART), "embedding", unit_scale=PART, unit=" rows", disable=not verbose)
    return np.concatenate([as_array(model.transform(images[start : start + PART])) for start in starts])


def _finite(rows: np.ndarray) -> np.ndarray:
    if rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise ValueError(f"embedding must be rows of numbers, of shape (n, d); its shape is {rows.shape}.")
    if not np.isfinite(rows).all():
        first = int(np.argwhere(~np.isfinite(rows))[0, 0])
        raise ValueError(f"embedding has NaN or infinite values, the first in row {first}: leave such rows out.")
    if (rows == rows[:1]).all():
        raise ValueError("All rows of embedding are alike: there is nothing to explore.")
    return rows


def _thumbnails(
    images: Any, times: Any, bands: Sequence[int] | None, side: int | None, most: int, verbose: int
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Draw thumbnails: what the page is told of them, and their arrays."""
    if images is None:
        return None, {}
    rows = pictured(len(images), most)
    arrays: dict[str, Any] = {} if len(rows) == len(images) else {"pictured": rows.astype("<u4")}
    if images.ndim == 2:
        arrays["lines"] = lines(images, rows, None if times is None else as_array(times))
        return {"kind": "lines"}, arrays
    side = side_of(len(rows), images.shape) if side is None else side
    drawn = sheets(images, rows, side, bands, verbose)
    arrays |= {f"sheet-{number}": sheet for number, sheet in enumerate(drawn)}
    return {"kind": "pictures", "side": side, "per_side": PER_SIDE}, arrays


def _column(name: str, values: Any, n: int) -> np.ndarray:
    return _one_each(name, np.asarray(as_array(values, name)), n)


def _one_each(name: str, array: Any, n: int) -> Any:
    if array.shape != (n,):
        raise ValueError(f"{name} must have one value for each of the {n} objects; its shape is {array.shape}.")
    return array


def _pairs(columns: Any) -> list[tuple[Any, Any]]:
    if columns is None:
        return []
    if isinstance(columns, Mapping):
        return list(columns.items())
    table = as_table(columns)
    if table is None:
        raise ValueError("columns must be a table, or a mapping of names to values.")
    return [(name, table[name]) for name in table.columns]


def _degrees(name: str, values: Any, n: int, limits: tuple[int, int]) -> np.ndarray:
    degrees = _column(name, in_unit(values, "deg", name), n)
    if degrees.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be numbers, in degrees; got {degrees.dtype}.")
    wrong = (degrees < limits[0]) | (degrees > limits[1])
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{name} must lie from {limits[0]} to {limits[1]} degrees; row {row} has {degrees[row]}.")
    return degrees.astype("<f8")


def _names(values: Any) -> list[str]:
    missing = pd.isna(values)
    return ["" if gone else str(value) for value, gone in zip(values.tolist(), missing, strict=True)]


def _positions(positions: Any, n: int) -> np.ndarray:
    positions = np.asarray(as_array(positions, "positions"))
    if positions.shape != (n, 2) or not np.isfinite(positions).all():
        raise ValueError(f"positions must be finite and of shape ({n}, 2); their shape is {positions.shape}.")
    return positions.astype("<f4")


def _vectors(rows: np.ndarray) -> np.ndarray:
    """Reduce embeddings to directions of 8 bits, whose cosines are nearly those about the mean."""
    centered = (rows - rows.mean(axis=0)).astype(np.float32)
    scale = max(np.abs(centered).max(), np.finfo(np.float32).tiny)
    pca = PCA(min(DIMENSIONS, *rows.shape), random_state=0).set_output(transform="default")
    reduced = pca.fit_transform(centered / scale)
    largest = np.abs(reduced).max(axis=1, keepdims=True)
    return np.round(127 * reduced / np.where(largest > 0, largest, 1)).astype(np.int8)


def _described(name: str, values: np.ndarray, key: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """Put a column into the arrays, and tell what it is."""
    if are_classes(values):
        if values.dtype == object:  # of several types, which have no order
            values = np.array([None if pd.isna(value) else str(value) for value in values], dtype=object)
        codes, classes = pd.factorize(values, sort=True)
        arrays[key] = codes.astype("<i4")
        return {"name": name, "key": key, "classes": [str(label) for label in classes.tolist()]}
    with np.errstate(over="ignore"):
        arrays[key] = values.astype("<f4")
    return {"name": name, "key": key}


def _page(title: str, about: dict[str, Any], arrays: dict[str, Any]) -> str:
    template = files("skastro.explorer").joinpath("template")
    style = template.joinpath("page.css").read_text("utf-8")
    script = "\n".join(template.joinpath(f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    # No "<" of the data is left to end its element.
    told = json.dumps(about, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    data = [f'<script type="application/json" id="about">{told}</script>'] + [
        f'<script type="text/plain" id="{key}">{_text(array)}</script>'
        for key, array in arrays.items()
        if array is not None
    ]
    # The browser runs this one script, and fetches nothing, whatever else the page may hold.
    policy = f"default-src 'none'; script-src {_hashed(script)}; style-src {_hashed(style)}; form-action 'none'"
    parts = {"policy": policy, "title": escape(title), "style": style, "script": script, "data": "\n".join(data)}
    page = template.joinpath("page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def _text(array: Any) -> str:
    return b64encode(array if isinstance(array, bytes) else array.tobytes()).decode("ascii")


def _hashed(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}'"
