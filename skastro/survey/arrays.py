"""Arrays of Dask, and images on disk, embedded chunk by chunk into Zarr by many processes."""

import os
import shutil
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from skastro._extras import require
from skastro.datasets.disk.opened import absolute
from skastro.persistence import parts
from skastro.sources import Source
from skastro.survey.models import (
    METHODS,
    SavedModel,
    check_workers,
    current_client,
    one_at_a_time,
    saved_model,
)
from skastro.unfinished import Unfinished, as_written, sampled

__all__ = ["Chunk", "embed_array"]

LOOKED_AT = 8  # chunks of a Dask array, which may cost what computing them does


@dataclass(frozen=True)
class Chunk:
    """What is done with a chunk of rows: embedded, written, and marked as done once it is on the disk.

    Parameters
    ----------
    model : SavedModel
        Who answers.
    method : str
        What it is asked for.
    out : str
        Zarr group to write to.
    marks : str
        Folder of the marks.
    start : int
        Number of the first row.
    """

    model: SavedModel
    method: str
    out: str
    marks: str
    start: int

    def __call__(self, X: Any) -> int:
        """Embed and write.

        Parameters
        ----------
        X : array-like of shape (m, ...)
            The rows.

        Returns
        -------
        int
            How many they are.
        """
        import zarr

        rows = as_written(self.model.ask([self.method], X)[self.method])
        array: Any = zarr.open_group(self.out, mode="r+")["embedding"]
        array[self.start : self.start + len(rows)] = rows
        Path(self.marks, f"{self.start}").touch()
        return len(rows)


def embed_array(
    X: Any,
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    method: str = "transform",
    part: int = 16_384,
    trusted: Collection[str] = (),
    verbose: int = 1,
) -> Path:
    """Embed an array of Dask, or images on disk, by the workers of Dask into Zarr; run again, it goes on.

    Each chunk of rows is one task, which writes its rows and then a mark. A chunk of a worker that is killed is done
    again by another; if the driver is killed, the next call does the chunks without a mark.

    Parameters
    ----------
    X : dask.array.Array or Source of shape (n, ...)
        What the model takes. The chunks of rows of a Dask array are equal, but the last.
    model : str or path-like
        File that `skastro.save` wrote, or ``"hf-hub:owner/name"``; where every worker finds it.
    out : str or path-like
        Zarr group to write, where every worker finds it: ``embedding`` of shape (n, d). Under its name it is always
        whole: what is unfinished has ``.part`` behind it.
    method : {"transform", "predict", "predict_proba", "predict_interval"}, default="transform"
        What the model is asked for; the answers must be numbers.
    part : int, default=16384
        Rows of a chunk of a source; a Dask array has its own.
    trusted : collection of str, default=()
        As for `skastro.load`.
    verbose : int, default=1
        1 shows a progress bar.

    Returns
    -------
    Path
        The group.

    Raises
    ------
    FileExistsError
        If the group is there already.
    FileNotFoundError
        If there is no such model, here or for a worker of the current client, or no folder to write to.
    ImportError
        If dask or zarr is not installed; the error names skastro's extra. If a worker lacks skastro.
    TypeError
        If `model` is no path, or `X` neither an array of Dask nor a source.
    ValueError
        If the images are not like those that the model was trained on, chunks are unequal, the answers are no numbers,
        what is unfinished was begun with another model or other objects, or another process writes it now.

    See Also
    --------
    embed_catalog : The same for a catalog of LSDB.
    """
    require("embed_array", "dask", "zarr", extra="survey")
    import dask

    unfinished = Unfinished(Path(absolute(out)))
    if method not in METHODS:
        raise ValueError(f"method must be among {', '.join(METHODS)}; got {method!r}.")
    saved = saved_model(model, trusted)
    starts, blocks = _blocks(X, part)
    identity = {"model": saved.digest, "objects": _objects(X, starts), "method": method}
    blank = _blank(X, saved, method)
    check_workers(saved)
    with unfinished.claim(identity):
        marks = unfinished.path.with_suffix(".part.done")
        if not (unfinished.path.exists() and marks.exists()):
            shutil.rmtree(marks, ignore_errors=True)
            _begin(unfinished.path, len(X), starts, blank)
            marks.mkdir()
        done = {int(mark.name) for mark in marks.iterdir()}
        tasks = [
            dask.delayed(Chunk(saved, method, str(unfinished.path), str(marks), start), traverse=False)(block)
            for start, block in zip(starts, blocks, strict=True)
            if start not in done
        ]
        _compute(tasks, verbose)
        out = unfinished.finish()
        shutil.rmtree(marks)
    return out


def _compute(tasks: list[Any], verbose: int) -> None:
    """Have tasks done by the workers, or one after the other where there are none."""
    import dask

    client = current_client()
    bar = {"total": len(tasks), "unit": " chunks", "disable": not verbose}
    if client is None:
        from tqdm.dask import TqdmCallback

        with one_at_a_time(), TqdmCallback(**bar):
            dask.compute(*tasks)
        return
    from distributed import as_completed

    for future in tqdm(as_completed(client.compute(tasks)), **bar):
        future.result()


def _blocks(X: Any, part: int) -> tuple[list[int], list[Any]]:
    """Cut rows into chunks: the number of each one's first row, and what gives it in a worker."""
    if isinstance(X, Source):
        starts = list(range(0, len(X), part))
        return starts, [X[start : start + part] for start in starts]
    if not hasattr(X, "to_delayed") or not hasattr(X, "chunks"):
        raise TypeError(f"X must be an array of Dask or what open_images gave, not a {type(X).__name__}.")
    lengths = X.chunks[0]
    if any(np.isnan(lengths)):
        raise ValueError("The array's chunks have no known length: call compute_chunk_sizes() first.")
    if len({*lengths[:-1]}) > 1 or lengths[-1] > lengths[0]:
        raise ValueError(f"The array's chunks have {lengths} rows: rechunk it so that all but the last are equal.")
    whole = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
    return np.cumsum([0, *lengths[:-1]]).tolist(), whole.to_delayed().ravel().tolist()


def _objects(X: Any, starts: list[int]) -> str:
    """Describe rows, so that others are told apart: by a sample, of a Dask array the first rows of some chunks."""
    about = sha256(repr((tuple(X.shape), str(X.dtype), starts)).encode())
    some = sampled(X) if isinstance(X, Source) else np.asarray(X[starts[:: -(-len(starts) // LOOKED_AT)]])
    about.update(np.ascontiguousarray(some).tobytes())
    return about.hexdigest()


def _blank(X: Any, model: SavedModel, method: str) -> np.ndarray:
    """Find what an answer looks like, by that for one blank row; refuses rows of another shape than the model's."""
    known = next((part for part in parts(model.load()) if hasattr(part, "image_shape_")), None)
    if known is not None and X.ndim == 4 and getattr(known, "bands_axis", None) != -1:
        from skastro.survey.cutouts import check_images

        check_images(known, X.shape[1:], "the array")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is no image
        return as_written(model.ask([method], np.zeros((1, *X.shape[1:]), X.dtype))[method])


def _begin(unfinished: Path, n: int, starts: list[int], blank: np.ndarray) -> None:
    import zarr

    rows = starts[1] if len(starts) > 1 else n
    group: Any = zarr.open_group(str(unfinished), mode="w")
    group.create_array("embedding", shape=(n, blank.shape[1]), chunks=(rows, blank.shape[1]), dtype=blank.dtype)
