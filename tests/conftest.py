import os
from pathlib import Path

import pytest
import scipy.linalg  # noqa: F401 loads its BLAS, which then is told
import sklearn.linear_model  # noqa: F401 loads its OpenMP
import torch
from filelock import FileLock
from threadpoolctl import threadpool_limits

if "PYTEST_XDIST_WORKER" in os.environ:  # processes side by side: a thread each
    torch.set_num_threads(1)
    threadpool_limits(1)


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the real data that the project does not carry."""
    folder = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the real data of the environment variable SKASTRO_DATA: no folder {folder}")
    return folder


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Compute something long once for all test processes: those that come later wait, and read it."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def read(name, compute):
        path = folder / f"{name}.pt"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                torch.save(compute(), path)
        return torch.load(path, weights_only=False)

    return read


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
