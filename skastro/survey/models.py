"""A saved model in the workers: read from its path once per process, on the worker's share of the machine."""

import os
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import file_digest
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from skastro.datasets.disk.opened import absolute
from skastro.hub import PREFIX, local_path
from skastro.persistence import load, parts

__all__ = [
    "CLUSTER",
    "METHODS",
    "SavedModel",
    "check_workers",
    "current_client",
    "labeled",
    "one_at_a_time",
    "saved_model",
    "settle",
]

METHODS = {
    "transform": "embedding",
    "predict": "prediction",
    "predict_proba": "probability",
    "predict_interval": "interval",
}
# What Dask should know before workers start: to keep no profile of them, which grows unread, and to leave memory that a
# network's next batch takes again with the process; to hand it back costs a sixth of the time of a small network.
CLUSTER = {
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
KEPT = 2  # models that a process keeps loaded

_models: OrderedDict[str, Any] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class SavedModel:
    """A model by the path of its file, which is all that travels to the workers.

    Parameters
    ----------
    path : str
        File that `skastro.save` wrote, or ``"hf-hub:owner/name"``; at the same place for every worker.
    digest : str
        SHA-256 of the file: another file under the same path is refused.
    trusted : tuple of str, default=()
        As for `skastro.load`.
    """

    path: str
    digest: str
    trusted: tuple[str, ...] = ()

    def load(self) -> Any:
        """Read the model, or find it read in this process.

        Returns
        -------
        estimator

        Raises
        ------
        ValueError
            If the file has changed.
        """
        with _lock:
            if self.digest not in _models:
                if _digest(self.path) != self.digest:
                    raise ValueError(f"{self.path} has changed since, or is another file on this worker.")
                _models[self.digest] = settle(load(self.path, trusted=self.trusted))
                while len(_models) > KEPT:
                    _models.popitem(last=False)
            _models.move_to_end(self.digest)
            return _models[self.digest]

    def ask(self, methods: Sequence[str], X: Any) -> dict[str, Any]:
        """Ask the model; what a pipeline does before its last step is done once for all methods.

        Parameters
        ----------
        methods : sequence of str
            Among `METHODS`.
        X : array-like of shape (n, ...)
            What the model takes.

        Returns
        -------
        dict of str to ndarray or DataFrame
            The answer of each method.

        Raises
        ------
        ValueError
            If the model has no such method; the error lists those that it has.
        """
        model = self.load()
        last = model[-1] if isinstance(model, Pipeline) else model
        for method in methods:
            if not hasattr(last, method):
                there = ", ".join(name for name in METHODS if hasattr(last, name))
                raise ValueError(f"{self.path} holds a {type(last).__name__}, which has no {method}; it has {there}.")
        if last is not model and len(model) > 1:
            X = model[:-1].transform(X)
        return {method: getattr(last, method)(X) for method in methods}


def saved_model(path: Any, trusted: Collection[str] = ()) -> SavedModel:
    """Take a model by its path.

    Parameters
    ----------
    path : str or path-like
        File that `skastro.save` wrote, or ``"hf-hub:owner/name"``.
    trusted : collection of str, default=()
        As for `skastro.load`.

    Returns
    -------
    SavedModel

    Raises
    ------
    TypeError
        If it is a model and no path.
    FileNotFoundError
        If there is no such file.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"model must be a path, not a {type(path).__name__}: save it by skastro.save, so that each worker reads "
            "it once."
        )
    place = str(path) if str(path).startswith(PREFIX) else absolute(path)
    return SavedModel(place, _digest(place), tuple(trusted))


def _digest(path: str) -> str:
    path = os.fspath(local_path(path))
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no model {path}.")
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def settle(model: Any) -> Any:
    """Give a model the threads and the GPU of this worker: a share of the processors, and a GPU of its own.

    Parameters
    ----------
    model : estimator
        Just loaded; changed in place.

    Returns
    -------
    estimator
        The model. Outside of a worker nothing is changed.
    """
    import torch

    from skastro.base import BaseModel

    worker = _worker()
    if worker is None:
        return model
    gpus, at_once = torch.cuda.device_count(), worker.state.nthreads
    for part in parts(model):
        if isinstance(part, BaseModel):
            if at_once > 1:
                part.set_params(training__threads=max(1, torch.get_num_threads() // at_once))
            if gpus > 1 and part.device in ("auto", "cuda"):
                part.set_params(device=f"cuda:{_number(worker.name) % gpus}")
    return model


def _worker() -> Any:
    """Find the worker of distributed that this thread works for."""
    try:
        from distributed import get_worker

        return get_worker()
    except (ImportError, ValueError):
        return None


def _number(name: Any) -> int:
    """Read the number of a worker, the last in a name such as ``"SLURMCluster-3"``."""
    digits = "".join(letter if letter.isdigit() else " " for letter in str(name)).split()
    return int(digits[-1]) if digits else 0


def labeled(method: str, name: str, values: Any, model: Any) -> dict[str, np.ndarray]:
    """Split an answer into columns.

    Parameters
    ----------
    method : str
        What the model was asked for.
    name : str
        Name of the column, or what the names of several begin with.
    values : ndarray or DataFrame of shape (n,), (n, m) or (n, m, 2)
        The answer.
    model : estimator
        Who gave it, and knows its classes.

    Returns
    -------
    dict of str to ndarray
        Embeddings as one column of shape (n, d), all else as columns of shape (n,).

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.survey.models import labeled
    >>> [*labeled("predict_interval", "redshift", np.zeros((5, 2)), None)]
    ['redshift_low', 'redshift_high']
    """
    if method == "transform":
        return {name: np.asarray(values, dtype=np.float32).reshape(len(values), -1)}
    named = [*values.columns] if isinstance(values, pd.DataFrame) else None
    values = np.asarray(values)
    if values.ndim == 1:
        return {name: values}
    ends = ["low", "high"] if method == "predict_interval" else [""]
    cube = values.reshape(len(values), -1, len(ends))
    classes = getattr(model, "classes_", range(cube.shape[1]))
    labels = named or (classes if len(classes) == cube.shape[1] else range(cube.shape[1]))
    middle = [""] if len(labels) == 1 and len(ends) == 2 else labels
    return {
        "_".join(str(word) for word in (name, label, end) if word != ""): cube[:, i, j]
        for i, label in enumerate(middle)
        for j, end in enumerate(ends)
    }


def check_workers(model: SavedModel) -> None:
    """Refuse workers of the current client that lack skastro or the model's file.

    Parameters
    ----------
    model : SavedModel
        What they are to load.

    Raises
    ------
    ModuleNotFoundError
        If a worker lacks skastro.
    FileNotFoundError
        If a worker finds no file where the model is here.
    """
    client = current_client()
    if client is None:
        return
    if lacking := [address for address, spec in client.run(find_spec, "skastro").items() if spec is None]:
        raise ModuleNotFoundError(f"{len(lacking)} workers lack skastro, the first is {lacking[0]}: install it there.")
    if model.path.startswith(PREFIX):
        return
    if blind := [address for address, there in client.run(os.path.isfile, model.path).items() if not there]:
        raise FileNotFoundError(
            f"{len(blind)} workers find no {model.path}, the first is {blind[0]}: put the model where all see it."
        )


def current_client() -> Any:
    """Find the client of distributed that computations would go to.

    Returns
    -------
    distributed.Client or None
    """
    try:
        from distributed import get_client

        return get_client()
    except (ImportError, ValueError):
        return None


def one_at_a_time() -> AbstractContextManager[Any]:
    """Let Dask do one task after the other where it has no workers: the model uses all threads of the process itself.

    Returns
    -------
    context manager
        It changes nothing where there is a client, or a scheduler was chosen.
    """
    import dask

    if current_client() is not None or dask.config.get("scheduler", None) is not None:
        return nullcontext()
    return dask.config.set(scheduler="synchronous")
