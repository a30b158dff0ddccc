"""Readers of arrays on disk, one file per format: each opens its file once per process, and pickles small."""

from skastro.datasets.disk.arrow import ArrowFolder, ParquetFiles
from skastro.datasets.disk.files import Cutouts
from skastro.datasets.disk.hdf5 import HDF5Files
from skastro.datasets.disk.npy import NpyFile
from skastro.datasets.disk.zarrs import ZarrStore

__all__ = ["ArrowFolder", "Cutouts", "HDF5Files", "NpyFile", "ParquetFiles", "ZarrStore"]
