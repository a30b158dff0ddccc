"""Cutouts in files of their own: FITS, JPEG, PNG and TIFF."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from skastro.datasets.disk.opened import FileReader, opened
from skastro.datasets.files import list_files, load_one
from skastro.sources import Reader, Shelf

__all__ = ["CutoutReader", "Cutouts", "NameReader"]


class NameReader(FileReader):
    """Names of the files of a folder, or of a list.

    Parameters
    ----------
    path : str
        The folder.
    files : sequence of str, default=None
        Files of the list; None is all images of the folder.
    """

    def __init__(self, path: str, files: Sequence[str] | None = None) -> None:
        super().__init__(path, "filenames")
        self.files = files
        self.names = None if files is not None else opened(self)[1]
        self.shape, self.dtype = (len(self.paths()),), np.dtype(object)

    def paths(self) -> Sequence[str | Path]:
        """List the files.

        Returns
        -------
        sequence of path-like

        Raises
        ------
        ValueError
            If the folder holds other files than when it was opened first, perhaps in another process.
        """
        if self.files is not None:
            return self.files
        paths, names = opened(self)
        if names != self.names:
            raise ValueError(f"{self.path} holds other files than when it was opened: open it again.")
        return paths

    def open(self) -> tuple[list[Path], int]:  # noqa: D102
        paths = list_files(self.path)
        return paths, crc32("\n".join(path.name for path in paths).encode())

    def read(self, start: int, stop: int) -> np.ndarray:  # noqa: D102
        return np.array([Path(path).name for path in self.paths()[start:stop]], dtype=object)

    def get(self, file: Any, start: int, stop: int) -> np.ndarray:  # noqa: D102
        return self.read(start, stop)


class CutoutReader(NameReader):
    """Cutouts of one size, one per file.

    Parameters
    ----------
    path : str
        The folder.
    files : sequence of str or None
        Files of a list; None is all images of the folder.
    options : dict
        For `skastro.datasets.files.load_one`.
    """

    def __init__(self, path: str, files: Sequence[str] | None, options: dict[str, Any]) -> None:
        super().__init__(path, files)
        self.key, self.options = "images", options
        self.where = path
        first = load_one(Path(self.paths()[0]), **options, steady=True)
        self.shape, self.dtype = (*self.shape, *first.shape), first.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read consecutive cutouts; errors name the file.

        Parameters
        ----------
        start, stop : int
            First file, and the one after the last.

        Returns
        -------
        ndarray of shape (stop - start, bands, height, width)

        Raises
        ------
        ValueError
            If a file cannot be read, or is not like the first.
        """
        return np.stack([self._load(Path(path)) for path in self.paths()[start:stop]])

    def _load(self, file: Path) -> np.ndarray:
        image = load_one(file, **self.options, steady=True)
        if image.shape != self.shape[1:]:
            raise ValueError(
                f"{file} has shape {image.shape}, the first file {self.shape[1:]}: all must have the same bands, and "
                "size= keeps the center of each."
            )
        with np.errstate(invalid="ignore", over="ignore"):
            like = image.astype(self.dtype, copy=False)
        if not np.can_cast(image.dtype, self.dtype) and not np.array_equal(like, image):
            raise ValueError(f"{file} holds {image.dtype}, the first file {self.dtype}: open them apart.")
        return like


class Cutouts(Shelf):
    """A folder or a list of files with one cutout each.

    Parameters
    ----------
    path : str
        The folder; of a list, that of its first file.
    files : sequence of str or None
        The list; None is all images of the folder, in the order of their names.
    options : dict
        For `skastro.datasets.files.load_one`.
    """

    def __init__(self, path: str, files: Sequence[str] | None, options: dict[str, Any]) -> None:
        self.path = path
        self.files = files
        self.options = options

    def axes(self) -> dict[str, int]:  # noqa: D102
        return {"images": 4, "filenames": 1}

    def open(self, name: str) -> Reader:  # noqa: D102
        if name == "images":
            return CutoutReader(self.path, self.files, self.options)
        return NameReader(self.path, self.files)

    def narrowed(self, reader: Any, rows: range | np.ndarray) -> tuple[Shelf, Reader, range | np.ndarray]:
        """Leave out the files of a list that some rows do not need.

        Parameters
        ----------
        reader : NameReader
            Of one of the arrays.
        rows : range or ndarray of int
            Rows of it.

        Returns
        -------
        shelf : Cutouts
        reader : NameReader
        rows : range or ndarray of int
            The same rows, as that reader counts them.
        """
        if self.files is None or (isinstance(rows, range) and rows == range(len(self.files))):
            return self, reader, rows
        needed, places = np.unique(np.asarray(rows), return_inverse=True)
        files = [self.files[row] for row in needed]
        few = copy.copy(reader)
        few.files, few.shape = files, (len(files), *reader.shape[1:])
        in_order = np.array_equal(places, np.arange(len(files)))
        return Cutouts(self.path, files, self.options), few, range(len(files)) if in_order else places
