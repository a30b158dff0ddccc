"""Arrays in Zarr stores of versions 2 and 3."""

import math
import os
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from skastro._extras import require
from skastro._warning import warn
from skastro.datasets.disk.opened import FileReader, open_whole, opened
from skastro.sources import Shelf

__all__ = ["ZarrReader", "ZarrStore"]


class ZarrReader(FileReader):
    """Reader of one array of a Zarr store.

    Parameters
    ----------
    path : str
        Folder of the store.
    key : str
        Path of the array in it; empty for a store that is one array.
    """

    def __init__(self, path: str, key: str) -> None:
        super().__init__(path, key, _metadata(Path(path, key)))
        array = self._array(opened(self))
        self.shape, self.dtype = array.shape, np.dtype(array.dtype)
        self.chunk = array.chunks[0] if array.chunks else 1
        written, all_of_them = _count_chunks(array, Path(path, key))
        if written < all_of_them:
            warn(
                f"{self.where} has {written} of {all_of_them} chunks, and the others read as {array.fill_value}: "
                "they hold nothing else, or the store is not whole."
            )

    def open(self) -> Any:  # noqa: D102
        return open_store(self.path)

    def get(self, file: Any, start: int, stop: int) -> np.ndarray:  # noqa: D102
        return np.asarray(self._array(file)[start:stop])

    def _array(self, file: Any) -> Any:
        return file[self.key] if self.key else file


class ZarrStore(Shelf):
    """Arrays of a Zarr store, those of groups in it too.

    Parameters
    ----------
    path : str
        Folder of the store.
    """

    described: ClassVar[tuple[str, ...]] = ("zarr.json", ".zarray", ".zgroup")  # files of which each store has one

    def __init__(self, path: str) -> None:
        self.path = path

    def _open(self) -> Any:
        return open_whole(partial(open_store, self.path), self.path)

    def axes(self) -> dict[str, int]:  # noqa: D102
        arrays = _arrays(self._open())
        return {key or "array": len(array.shape) for key, array in arrays.items()}

    def open(self, name: str) -> ZarrReader:  # noqa: D102
        alone = "" in _arrays(self._open())
        return ZarrReader(self.path, "" if alone else name)


def open_store(path: str) -> Any:
    """Open a Zarr store to read.

    Parameters
    ----------
    path : str
        Its folder.

    Returns
    -------
    zarr.Group or zarr.Array

    Raises
    ------
    ImportError
        If zarr is not installed.
    """
    require("Reading Zarr", "zarr", extra="zarr")
    import zarr

    return zarr.open(path, mode="r")


def _arrays(node: Any, key: str = "") -> dict[str, Any]:
    if hasattr(node, "shape"):
        return {key: node}
    found: dict[str, Any] = {}
    for name in sorted(node.keys()):
        found |= _arrays(node[name], f"{key}/{name}" if key else name)
    return found


def _count_chunks(array: Any, folder: Path) -> tuple[int, int]:
    """Count the files of chunks, or of shards, that are there, and that there are to be; zarr takes minutes for it."""
    sides = getattr(array, "shards", None) or array.chunks
    names = (name for _, _, files in os.walk(folder) for name in files)
    written = sum(not name.startswith(".") and name not in ZarrStore.described for name in names)
    return written, math.prod(-(-length // side) for length, side in zip(array.shape, sides, strict=True))


def _metadata(folder: Path) -> str | None:
    """Find the file that is written anew when the array is."""
    return next((str(folder / name) for name in ZarrStore.described if (folder / name).is_file()), None)
