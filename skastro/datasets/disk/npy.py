"""Arrays in NumPy's own files."""

from typing import Any, ClassVar

import numpy as np

from skastro.datasets.disk.opened import GAP, FileReader, opened
from skastro.sources import Shelf

__all__ = ["NpyFile", "NpyReader"]


class NpyReader(FileReader):
    """Reader of a ``.npy`` file.

    Parameters
    ----------
    path : str
        The file.
    """

    direct = True
    gap = GAP

    def __init__(self, path: str) -> None:
        super().__init__(path, "")
        array = opened(self)
        self.shape, self.dtype = array.shape, array.dtype

    def open(self) -> np.ndarray:  # noqa: D102
        return np.load(self.path, mmap_mode="r", allow_pickle=False)

    def get(self, file: Any, start: int, stop: int) -> np.ndarray:  # noqa: D102
        return np.array(file[start:stop])


class NpyFile(Shelf):
    """The one array of a ``.npy`` file.

    Parameters
    ----------
    path : str
        The file.
    """

    endings: ClassVar[tuple[str, ...]] = (".npy",)

    def __init__(self, path: str) -> None:
        self.path = path

    def axes(self) -> dict[str, int]:  # noqa: D102
        return {"array": len(NpyReader(self.path).shape)}

    def open(self, name: str) -> NpyReader:  # noqa: D102
        return NpyReader(self.path)
