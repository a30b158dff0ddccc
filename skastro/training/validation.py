"""Rows held out of training, and the loss on them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import Dataset

__all__ = ["HeldOut", "hold_out", "mean_loss"]


@dataclass(frozen=True)
class HeldOut:
    """Rows to watch while others are trained on.

    Parameters
    ----------
    rows : ndarray of int
        Rows held out.
    views : callable
        From a batch to the view that nothing is drawn for.
    patience : int
        Epochs without a new lowest loss after which training ends.
    """

    rows: np.ndarray
    views: Callable[..., Sequence[Tensor]]
    patience: int


def hold_out(
    rows: np.ndarray, fraction: float, seed: int, *, classes: np.ndarray | None = None, fewest: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into those to train on and those to watch.

    Parameters
    ----------
    rows : ndarray of int
        Rows to split.
    fraction : float
        Share to watch.
    seed : int
        Seed of the split.
    classes : ndarray of shape (n_rows,), default=None
        Classes that both parts have in the same shares.
    fewest : int, default=1
        Rows to watch at least.

    Returns
    -------
    trained : ndarray of int
        Rows to train on.
    watched : ndarray of int
        Rows to watch.

    Raises
    ------
    ValueError
        If fewer than 2 rows are left to train on, or fewer than `fewest` to watch.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.training import hold_out
    >>> [len(part) for part in hold_out(np.arange(10), 0.2, seed=0)]
    [8, 2]
    """
    watched = math.ceil(len(rows) * fraction)
    if len(rows) - watched < 2 or watched < fewest:
        raise ValueError(
            f"validation_fraction={fraction} leaves {len(rows) - watched} of {len(rows)} rows to train on and "
            f"{watched} to watch; there must be at least 2 and {fewest}."
        )
    trained, watched_rows = train_test_split(rows, test_size=fraction, random_state=seed, stratify=classes)
    return trained, watched_rows


def mean_loss(learner: nn.Module, dataset: Dataset, rows: Tensor, batch_size: int, device: torch.device) -> float:
    """Compute the mean loss of rows that are not trained on, weighted where they have a ``weight``.

    Parameters
    ----------
    learner : Learner
        Objective and views; left in eval mode.
    dataset : ArrayDataset
        All rows.
    rows : Tensor of int
        Rows held out.
    batch_size : int
        Largest batch.
    device : torch.device
        Device of the learner.

    Returns
    -------
    float
    """
    learner.eval()
    total: Any = 0.0
    weights = 0.0
    with torch.no_grad():
        for chosen in rows.tensor_split(-(-len(rows) // batch_size)):
            batch = {name: array.to(device) for name, array in dataset[chosen][0].items()}
            weights += float(batch["weight"].sum()) if "weight" in batch else len(chosen)
            total += len(chosen) * float(learner(**batch))
    return total / max(weights, 1e-30)
