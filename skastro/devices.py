"""Device, precision and seed of whatever torch computes."""

from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from skastro import ranks

__all__ = ["draw_seed", "own_generator", "resolve_device", "uses_bf16"]


def resolve_device(device: str) -> torch.device:
    """Return the device to use now; it is not stored.

    Parameters
    ----------
    device : str
        ``"auto"`` (CUDA if available) or a torch device.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If torch has no such device, or CUDA is requested and not available.
    RuntimeError
        If this is a forked child of a process that had used CUDA.

    Examples
    --------
    >>> from skastro.devices import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"Unknown device {device!r}; use 'auto', 'cpu', 'cuda' or another of torch's.") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r} was asked for, but torch finds no CUDA device here.")
    if chosen.type == "cuda" and torch.cuda._is_in_bad_fork():
        raise RuntimeError(
            "This process was forked from one that had used CUDA, which CUDA does not survive: start processes by "
            "joblib, or multiprocessing.get_context('spawn')."
        )
    return chosen


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Return whether training runs in bfloat16.

    Parameters
    ----------
    precision : {"auto", "bf16", "fp32"}
        Requested precision.
    device : torch.device
        Device of the training.

    Returns
    -------
    bool

    Examples
    --------
    >>> import torch
    >>> from skastro.devices import uses_bf16
    >>> uses_bf16("fp32", torch.device("cpu"))
    False
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def draw_seed(random_state: Any) -> int:
    """Draw the seed of a fit, on which all ranks agree.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        Random state, as in scikit-learn.

    Returns
    -------
    int

    Examples
    --------
    >>> from skastro.devices import draw_seed
    >>> draw_seed(0) == draw_seed(0)
    True
    """
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    return seed if isinstance(random_state, Integral) else ranks.agree(seed)


def own_generator(device: str) -> torch.Generator:
    """Make a generator for what an objective draws, seeded by torch's global one, but unlike that of the views.

    Parameters
    ----------
    device : str
        Device of the training, as for `resolve_device`.

    Returns
    -------
    torch.Generator

    Examples
    --------
    >>> from skastro.devices import own_generator
    >>> own_generator("cpu").device
    device(type='cpu')
    """
    return torch.Generator(resolve_device(device)).manual_seed(torch.initial_seed() + 1)
