"""What a fit depends on, in words that another process repeats: by these fits are told apart."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from textwrap import shorten
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from skastro._registry import CALLBACKS
from skastro.training.config import Training

__all__ = ["describe", "describe_arrays", "describe_fit", "differences", "digest"]

WHOLE = 1 << 26  # bytes of an array up to which all of it is hashed
SAMPLED = 32  # rows hashed of a larger one
SHOWN = 3  # differences named when a checkpoint is refused
# What does not change the numbers of a fit, or only in the last digits.
IGNORED = {"callbacks", "checkpoint", "checkpoint_every", "device", "n_jobs", "threads", "verbose", "workers"}


def describe_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Describe arrays by shape, dtype and a hash of their values: of some rows where they are large.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays by name.

    Returns
    -------
    dict of str to str
    """
    about = {}
    for name, array in arrays.items():
        size = math.prod(array.shape) * array.dtype.itemsize
        rows = np.arange(len(array))
        if size > WHOLE:
            rows = np.unique(np.linspace(0, len(array) - 1, SAMPLED).astype(int))
        about[f"shape of {name}"] = f"{tuple(array.shape)} {array.dtype}"
        about[f"values of {name}"] = _hash(np.asarray(array[rows]).tobytes())
    return about


def describe_fit(
    estimator: BaseEstimator, training: Training, seed: int, device: torch.device, data: Mapping[str, str]
) -> dict[str, str]:
    """Describe a training by all that its numbers depend on.

    Parameters
    ----------
    estimator : BaseEstimator
        Being fitted.
    training : Training
        Settings in use.
    seed : int
        Seed in use.
    device : torch.device
        Device of the training, of which the kind counts: its generators are its own.
    data : mapping of str to str
        What `describe_arrays` says of the data.

    Returns
    -------
    dict of str to str
    """
    parameters = estimator.get_params(deep=False) | {"training": training, "random_state": seed}
    about = {"estimator": type(estimator).__name__, "kind of device": device.type}
    for name in sorted(parameters.keys() - IGNORED):
        about |= dict(describe(name, parameters[name]))
    return about | dict(data)


def describe(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Describe a parameter, and those inside it, in a way that another process repeats.

    Parameters
    ----------
    name : str
        Its name.
    value : any
        Its value.

    Yields
    ------
    tuple of str
        Name and description: of itself, then of what is inside.
    """
    if isinstance(value, BaseEstimator):
        parameters = value.get_params(deep=False)
        state, skipped = value.__getstate__().items(), parameters.keys() | CALLBACKS
        learned = {key: part for key, part in state if key not in skipped and not key.startswith("history")}
        yield name, f"{type(value).__name__} {_stable(learned)}" if learned else type(value).__name__
        for key in sorted(parameters.keys() - IGNORED):
            yield from describe(f"{name}__{key}", parameters[key])
    elif isinstance(value, list | tuple):
        yield name, f"a {type(value).__name__} of {len(value)}"
        for place, part in enumerate(value):
            yield from describe(f"{name}[{place}]", part)
    elif isinstance(value, nn.Module):
        yield (
            name,
            f"{type(value).__name__} {_stable({k: t.cpu().float().numpy() for k, t in value.state_dict().items()})}",
        )
    elif value is None or isinstance(value, bool | int | float | str):
        yield name, repr(value)
    else:
        yield name, f"{type(value).__name__} {_stable(value)}"


def _stable(value: Any) -> str:
    try:
        return str(joblib.hash(value))
    except Exception:  # what cannot be pickled, such as a lambda, counts by its type
        return ""


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def digest(about: Mapping[str, str]) -> str:
    """Shorten a description to a hash.

    Parameters
    ----------
    about : mapping of str to str
        What `describe_fit` says.

    Returns
    -------
    str
    """
    return _hash(json.dumps(dict(about), sort_keys=True).encode())


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Say in what two fits differ.

    Parameters
    ----------
    there, here : mapping of str to str
        What `describe_fit` says of each.

    Returns
    -------
    str
    """
    found = []
    for name in (name for name in {**there, **here} if there.get(name) != here.get(name)):
        if name.startswith("values of "):
            found.append(f"the {name} differ")
        else:
            one, other = (shorten(about.get(name, "missing"), 60) for about in (there, here))
            found.append(f"{name} is {one} there and {other} here")
    more = [f"{len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return ", ".join(found[:SHOWN] + more)
