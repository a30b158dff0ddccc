"""Arrays in HDF5: of one file, of its numbered groups, or of a folder of files of one kind."""

import re
from typing import Any, ClassVar

import numpy as np

from skastro._extras import require
from skastro.datasets.disk.opened import GAP, FileReader, Parts, files_of, opened
from skastro.sources import Reader, Shelf

__all__ = ["HDF5Files", "HDF5Reader"]

NUMBERED = re.compile(r"(\d+)/(.+)")


class HDF5Reader(FileReader):
    """Reader of one data set of an HDF5 file.

    Parameters
    ----------
    path : str
        The file.
    key : str
        Name of the data set.
    """

    def __init__(self, path: str, key: str) -> None:
        super().__init__(path, key)
        data = opened(self)[key]
        self.shape, self.dtype = data.shape, data.dtype
        self.chunk = data.chunks[0] if data.chunks else 1
        self.gap = 0 if data.chunks else GAP

    def open(self) -> Any:  # noqa: D102
        return open_file(self.path)

    def get(self, file: Any, start: int, stop: int) -> np.ndarray:  # noqa: D102
        return file[self.key][start:stop]


class HDF5Files(Shelf):
    """Data sets of one HDF5 file or of a folder of them; those of groups ``0``, ``1``, … follow one another.

    Parameters
    ----------
    path : str
        A file, or a folder with files of the same data sets, which are taken in the order of their names.
    """

    endings: ClassVar[tuple[str, ...]] = (".h5", ".hdf5", ".hdf", ".he5")

    def __init__(self, path: str) -> None:
        self.path = path

    def axes(self) -> dict[str, int]:  # noqa: D102
        return {name: ndim for name, (ndim, _) in self._names(self._files()[0]).items()}

    def open(self, name: str) -> Reader:  # noqa: D102
        readers = []
        for file in self._files():
            names = self._names(file)
            if name not in names:
                raise KeyError(f"There is no {name!r} in {file}; there are {', '.join(sorted(names))}.")
            readers += [HDF5Reader(file, key) for key in names[name][1]]
        return readers[0] if len(readers) == 1 else Parts(readers)

    def _files(self) -> list[str]:
        return files_of(self.path, self.endings)

    def _names(self, file: str) -> dict[str, tuple[int, list[str]]]:
        """List data sets by name without the group's number, each with its axes and its keys."""
        found: dict[str, int] = {}

        def note(key: str, item: Any) -> None:
            if getattr(item, "shape", ()):
                found[key] = len(item.shape)

        opened(_Listing(file, "")).visititems(note)
        names: dict[str, tuple[int, list[str]]] = {}
        for key in sorted(found, key=_by_number):
            numbered = NUMBERED.fullmatch(key)
            names.setdefault(numbered[2] if numbered else key, (found[key], []))[1].append(key)
        return names


class _Listing(HDF5Reader):
    """The file alone, of which the data sets are not known yet."""

    def __init__(self, path: str, key: str) -> None:
        FileReader.__init__(self, path, key)


def open_file(path: str) -> Any:
    """Open an HDF5 file to read.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    h5py.File

    Raises
    ------
    ImportError
        If h5py is not installed.
    """
    require("Reading HDF5", "h5py", extra="hdf5")
    import h5py

    return h5py.File(path, "r")


def _by_number(key: str) -> tuple[int, str]:
    numbered = NUMBERED.fullmatch(key)
    return (int(numbered[1]), key) if numbered else (-1, key)
