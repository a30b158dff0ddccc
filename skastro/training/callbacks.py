"""Callbacks of training: schedules, history, warning of collapse, early stopping, progress bar."""

import copy
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn
from tqdm.auto import tqdm

from skastro import ranks
from skastro._warning import warn
from skastro.training.config import Training
from skastro.training.tasks import Tasks

__all__ = [
    "EarlyStopping",
    "Epochs",
    "Monitor",
    "NotBegun",
    "Progress",
    "ScheduleCallback",
    "StopTraining",
    "base_lr",
    "embedding_spread",
    "stopping",
]

MONITORED = 256  # number of embeddings measured after each epoch


class ScheduleCallback(Callback):
    """Set the rates of a step before it, pass the step to the objective, and update its target network after it.

    Parameters
    ----------
    training : Training
        Settings with the schedules.
    lr : float
        Peak learning rate.
    steps, epochs : int
        Total number of steps and of epochs.
    """

    def __init__(self, training: Training, lr: float, steps: int, epochs: int) -> None:
        self.training = training
        self.lr = lr
        self.steps = steps
        self.epochs = epochs

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.step_ = 0

    def on_batch_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        for group in net.optimizer_.param_groups:
            group["lr"] = self.lr * group["lr_scale"] * self.training.lr_factor(self.step_, self.steps, self.epochs)
            group["weight_decay"] = group["decay_scale"] * self.training.decay(self.step_, self.steps)
        net.module_.objective.schedule(self.step_, self.steps)

    def on_batch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        net.module_.objective.update(self.training.ema_rate(self.step_, self.steps))
        self.step_ += 1


class Monitor(Callback):
    """Record the history of a fit and warn if the embedding collapses.

    Parameters
    ----------
    encoder : nn.Module, default=None
        Network whose outputs are monitored; None if the trained network has no embedding.
    unit : str, default="samples"
        Name of the rows, in the plural.

    Attributes
    ----------
    history : dict of list of float
        One value per finished epoch: ``loss`` and the objective's parts of it (each the mean over the batches where it
        is not NaN), ``lr`` (of the last step), and ``images_per_s`` or another unit per second. With an encoder also
        ``embedding_std`` (of L2-normalized embeddings times √d: about 1 if they point in all directions, 0 if they are
        all the same) and ``effective_rank`` (exponential of the entropy of the normalized singular values), NaN until
        it has embedded a batch.

    References
    ----------
    Roy & Vetterli (2007), "The effective rank: A measure of effective dimensionality", for the effective rank.
    """

    def __init__(self, encoder: nn.Module | None = None, unit: str = "samples") -> None:
        self.encoder = encoder
        self.unit = unit
        self._stepped = False
        watched = ("embedding_std", "effective_rank") if encoder is not None else ()
        self.history: dict[str, list[float]] = {name: [] for name in ("loss", "lr", f"{unit}_per_s", *watched)}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the history as arrays.

        Returns
        -------
        dict of ndarray of shape (n_epochs,)
        """
        finished = min(map(len, self.history.values()))  # Ctrl-C may have come between two callbacks
        return {name: np.asarray(values[:finished]) for name, values in self.history.items()}

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.recent_: deque[Tensor] = deque(maxlen=8)
        if self.encoder is not None:
            self.hook_ = self.encoder.register_forward_hook(
                lambda module, inputs, output: self.recent_.append(output.detach())
            )

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.started_ = time.perf_counter()

    @property
    def begun(self) -> bool:
        """Whether there was a step, here or before what goes on was broken off."""
        return self._stepped or bool(self.history["loss"])

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Tell an interrupt that comes before the first step, by its type, from one that leaves something learned."""
        try:
            yield
        except KeyboardInterrupt as interrupt:
            if self.begun:
                raise
            raise NotBegun from interrupt

    def on_batch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self._stepped = True
        net.history.record_batch("rows", net.module_.rows)
        for name, part in net.module_.objective.parts.items():
            net.history.record_batch(name, part.item())

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        seconds = time.perf_counter() - self.started_
        sizes, losses = zip(*net.history[-1, "batches", :, ("rows", "train_loss")], strict=True)
        values = {
            "loss": float(np.average(losses, weights=sizes)),
            "lr": base_lr(net),
            f"{self.unit}_per_s": sum(sizes) / seconds,
        }
        if not np.isfinite(values["loss"]):
            raise ValueError(
                f"The loss is {values['loss']} in epoch {len(net.history)}: nothing more can be learned. Take a "
                "smaller lr, or bound the gradients by Training(clip=1.0)."
            )
        if self.encoder is not None:
            seen = torch.cat(list(self.recent_))[-MONITORED:].float() if self.recent_ else None
            std, rank = (np.nan, np.nan) if seen is None else embedding_spread(seen)
            values |= {"embedding_std": std, "effective_rank": rank}
        for name in net.module_.objective.parts:
            known = np.ma.masked_invalid(net.history[-1, "batches", :, name])
            values[name] = float(np.ma.filled(np.ma.average(known, weights=sizes), np.nan))
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        if self.encoder is None:
            return
        self.hook_.remove()
        rows = sum(map(len, self.recent_))
        if rows >= 32 and len(self.history["loss"]) >= 3 and self.history["embedding_std"][-1] < 0.02:
            warn(
                f"The embedding has collapsed: nearly all {self.unit} map to the same point "
                f"(embedding_std {self.history['embedding_std'][-1]:.1e}). Try a smaller lr, a larger batch or "
                "weaker augmentation."
            )


class StopTraining(Exception):  # noqa: N818 not an error, but the way to leave the loop
    """Raised by `EarlyStopping` and `Epochs` to end training early; `train` catches it."""


class NotBegun(KeyboardInterrupt):
    """An interrupt before the first step: nothing was learned."""


def stopping(callback: Any) -> Any:
    """Let a callback of skorch's stop the training: the KeyboardInterrupt that it raises becomes `StopTraining`.

    Parameters
    ----------
    callback : skorch Callback, or tuple of a name and one
        Changed in place.

    Returns
    -------
    Callback or tuple
        The same.
    """
    given = callback[1] if isinstance(callback, tuple) else callback
    ended = given.on_epoch_end

    def end(*args: Any, **kwargs: Any) -> None:
        try:
            ended(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            raise StopTraining from interrupt

    given.on_epoch_end = end
    return callback


class EarlyStopping(Callback):
    """Measure the loss on held-out rows, stop training when it no longer falls, and restore the best epoch.

    Parameters
    ----------
    evaluate : callable
        Function that returns the loss on the held-out rows.
    patience : int
        Number of epochs without a new lowest loss after which training ends.
    history : dict of list
        Dictionary that receives ``validation_loss``, one value per epoch.
    """

    def __init__(self, evaluate: Callable[[], float], patience: int, history: dict[str, list[float]]) -> None:
        self.evaluate = evaluate
        self.patience = patience
        self.history = history

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.losses_: list[float] = self.history.setdefault("validation_loss", [])
        self.weights_ = copy.deepcopy(net.module_.objective.state_dict())
        self.lowest_, self.since_ = float("inf"), 0

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.losses_.append(ranks.agree(self.evaluate()))
        self.since_ += 1
        if self.losses_[-1] < self.lowest_:  # False for NaN
            self.lowest_, self.since_ = self.losses_[-1], 0
            self.weights_ = copy.deepcopy(net.module_.objective.state_dict())
        if self.since_ >= self.patience:
            raise StopTraining

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        if self.losses_:  # else an interrupt came first, and the weights of the start are no better
            net.module_.objective.load_state_dict(self.weights_)


class Epochs(Callback):
    """Tell scikit-learn's callbacks of each epoch, and stop training when one of them asks for it.

    Parameters
    ----------
    tasks : Tasks
        Where they are told.
    epochs : int
        Total number of epochs.
    """

    def __init__(self, tasks: Tasks, epochs: int) -> None:
        self.tasks = tasks
        self.epochs = epochs

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.tasks.start(self.epochs)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        for _ in range(self.tasks.begun, len(net.history) - 1):  # those before a checkpoint
            self.tasks.begin()
            self.tasks.end()
        self.tasks.begin()

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        if any(ranks.everyones(self.tasks.end())):
            raise StopTraining


class Progress(Callback):
    """Progress bar over all epochs: loss, learning rate, rows per second, time left.

    Parameters
    ----------
    n : int
        Number of rows per epoch.
    epochs : int
        Total number of epochs.
    unit : str
        Name of the rows, in the plural.
    """

    def __init__(self, n: int, epochs: int, unit: str) -> None:
        self.n = n
        self.epochs = epochs
        self.unit = unit

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.bar_ = tqdm(total=self.n * self.epochs, unit=f" {self.unit}", unit_scale=True, dynamic_ncols=True)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.bar_.set_description(f"epoch {len(net.history)}/{self.epochs}")

    def on_batch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        loss, size = net.history[-1, "batches", -1, ("train_loss", "rows")]
        self.bar_.set_postfix(loss=f"{loss:.3f}", lr=f"{base_lr(net):.1e}")
        self.bar_.update(size)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.bar_.close()


def base_lr(net: NeuralNet) -> float:
    """Return the current learning rate, before the factors of single parameters.

    Parameters
    ----------
    net : NeuralNet
        Network in training.

    Returns
    -------
    float
    """
    group = net.optimizer_.param_groups[0]
    return group["lr"] / group["lr_scale"]


def embedding_spread(embedding: Tensor) -> tuple[float, float]:
    """Compute how spread out a set of embeddings is: mean standard deviation and effective rank.

    Parameters
    ----------
    embedding : Tensor of shape (n, d)
        Embeddings.

    Returns
    -------
    std : float
        Mean standard deviation of the L2-normalized embeddings, times √d.
    effective_rank : float
        Effective rank, from 1 to min(n, d).

    Examples
    --------
    >>> import torch
    >>> from skastro.training.callbacks import embedding_spread
    >>> std, rank = embedding_spread(torch.eye(4).repeat(2, 1))
    >>> round(rank, 3)
    3.0
    """
    direction = nn.functional.normalize(embedding, dim=1)
    std = direction.std(dim=0).mean() * embedding.shape[1] ** 0.5
    centered = (embedding - embedding.mean(dim=0)).double()
    gram = centered @ centered.T if len(centered) < embedding.shape[1] else centered.T @ centered
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()  # several times as fast as the singular values
    weight = singular / singular.sum().clamp(min=1e-30)
    return float(std), float(torch.exp(-torch.special.xlogy(weight, weight).sum()))
