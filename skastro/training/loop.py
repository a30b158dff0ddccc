"""The training loop: an objective, its views and an optimizer, run by skorch."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import GradientNormClipping
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from skastro import ranks
from skastro.training.batches import ArrayDataset, BatchSampler, load_batches
from skastro.training.callbacks import (
    EarlyStopping,
    Epochs,
    Monitor,
    Progress,
    ScheduleCallback,
    StopTraining,
    stopping,
)
from skastro.training.checkpoints import Checkpoint
from skastro.training.config import Training
from skastro.training.device import uses_bf16
from skastro.training.optimizer import make_optimizer
from skastro.training.process import Randomness, bfloat16, repeatable_cudnn
from skastro.training.tasks import Tasks
from skastro.training.validation import HeldOut, mean_loss

__all__ = ["AsGiven", "Learner", "LossAsGiven", "Objective", "auto_epochs", "ema_update", "train"]

# Aims of max_epochs="auto": total number of images shown, within this many steps, but at least this many epochs.
AUTO_IMAGES, AUTO_STEPS, AUTO_EPOCHS = 32_000, 1_000, 10


class Objective(nn.Module):
    """Base class of the objectives: modules that compute a loss from the views of a batch and from targets by name.

    Subclasses define ``forward``, and keep state between steps in buffers. For a loss of several parts, ``forward``
    stores each in ``parts``, by name, for the history.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, Tensor] = {}

    def schedule(self, step: int, steps: int) -> None:
        """Update schedules before a step. By default, nothing; objectives with schedules of their own override this.

        Parameters
        ----------
        step : int
            Number of the step, from 0.
        steps : int
            Total number of steps.
        """

    def update(self, rate: float) -> None:
        """Update the target network after a step. By default, nothing; objectives with a target network override this.

        Parameters
        ----------
        rate : float
            Fraction of the target to keep.
        """

    def lr_scales(self) -> dict[str, float]:
        """Return the factors on the learning rate of parameters, by name, where they are not 1.

        Returns
        -------
        dict
        """
        return {}


class Learner(nn.Module):
    """One step of training: draw views, run the objective, on this rank's rows of the batch.

    Parameters
    ----------
    objective : Objective
        Module from views (and targets by name) to a loss.
    views : callable
        Function from the arrays of the batch named by its ``inputs`` to a sequence of views.
    draws : Randomness
        Source of what the objective draws.
    bf16 : bool
        If True, run the objective under bfloat16 autocast.

    Attributes
    ----------
    rows : int
        Rows of the last batch, over all ranks.
    """

    def __init__(self, objective: Objective, views: Any, draws: Randomness, bf16: bool) -> None:
        super().__init__()
        self.objective = objective
        self.views = views
        self.draws = draws
        self.bf16 = bf16
        self.rows = 0
        self._spread: tuple[nn.Module, ...] = ()  # in a tuple, so that it is no part of this module

    def spread(self) -> None:
        """Let all ranks begin with the weights of the first, and take the mean of their gradients, if there are any."""
        if ranks.world_size() > 1:
            self._spread = (DistributedDataParallel(_Together(self.objective), find_unused_parameters=True),)

    def forward(self, **batch: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        **batch : Tensor
            Arrays by name: those for the views, and targets.

        Returns
        -------
        Tensor
            A scalar.
        """
        first = next(iter(batch.values()))
        device, own = first.device, len(first)
        taken = {name: batch.pop(name) for name in self.views.inputs if name in batch}
        with ranks.shared(own, device) if self._spread else nullcontext(), self.draws.installed():
            torch.clear_autocast_cache()  # within an autocast of the user's, it would outlive the step, weights and all
            with torch.no_grad():
                views = self.views(**taken)
            with bfloat16(device, self.bf16):
                loss = (*self._spread, self.objective)[0](*views, **batch)
            self.rows = ranks.whole(own)
            return self._of_all(loss) if self._spread else loss

    def _of_all(self, loss: Tensor) -> Tensor:
        """Let losses have the values of the whole batch; gradients are those of this rank."""
        self.objective.parts = {name: ranks.mean(part) for name, part in self.objective.parts.items()}
        return loss + (ranks.mean(loss) - loss.detach())


class _Together(nn.Module):
    """An objective of which some parameters may have no part in a step, beside one that never has."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        # Where all parameters have a part, torch advises the user to leave out the search for those that have none.
        self.idle = nn.Parameter(torch.zeros(1, device=next(objective.parameters()).device))

    def forward(self, *views: Tensor, **batch: Tensor) -> Tensor:
        return self.objective(*views, **batch)


class AsGiven(nn.Module):
    """Return the arrays of the batch as they are, for inputs that need no views.

    Parameters
    ----------
    *inputs : str
        Names of the arrays, in the order in which the network takes them; names that a batch lacks are skipped.
    """

    def __init__(self, *inputs: str) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, **batch: Tensor) -> list[Tensor]:
        """Return the arrays in order.

        Parameters
        ----------
        **batch : Tensor
            Arrays by name.

        Returns
        -------
        list of Tensor
        """
        return [batch[name] for name in self.inputs if name in batch]


class LossAsGiven(nn.Module):
    """Criterion for skorch that returns the loss computed by the module."""

    def forward(self, loss: Tensor, _: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        loss : Tensor
            Output of the learner.
        _ : Tensor
            Target, which skorch passes and which is ignored.

        Returns
        -------
        Tensor
        """
        return loss


def ema_update(target: nn.Module, online: nn.Module, rate: float) -> None:
    """Move a target network towards the online one, including batch-norm statistics.

    Parameters
    ----------
    target : nn.Module
        Target network, changed in place.
    online : nn.Module
        A network of the same architecture.
    rate : float
        Fraction of the target to keep.

    Examples
    --------
    >>> import torch
    >>> from skastro.training import ema_update
    >>> target, online = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    >>> ema_update(target, online, 0.0)
    >>> bool((target.weight == online.weight).all())
    True
    """
    old, new = list(target.state_dict().values()), list(online.state_dict().values())
    get_ema_multi_avg_fn(rate)(
        [tensor for tensor in old if tensor.is_floating_point()],
        [tensor for tensor in new if tensor.is_floating_point()],
        None,
    )


def auto_epochs(images: int, steps: int) -> int:
    """Return the number of passes over the images: enough to show 32,000, within about 1,000 steps, but at least ten.

    Parameters
    ----------
    images, steps : int
        Number of images, and of steps in one pass.

    Returns
    -------
    int

    Examples
    --------
    >>> from skastro.training import auto_epochs
    >>> [auto_epochs(images, -(-images // 256)) for images in (100, 1_000, 10_000, 1_000_000)]
    [320, 32, 10, 10]
    """
    return max(AUTO_EPOCHS, min(-(-AUTO_IMAGES // images), -(-AUTO_STEPS // steps)))


def train(
    objective: Objective,
    views: Callable[..., Sequence[Tensor]],
    arrays: Mapping[str, np.ndarray],
    *,
    monitor: Monitor,
    rows: np.ndarray | None = None,
    held_out: HeldOut | None = None,
    draws: Randomness,
    training: Training,
    max_epochs: int | str,
    batch_size: int,
    lr: float,
    device: torch.device,
    verbose: int,
    checkpoint: Checkpoint | None = None,
    tasks: Tasks | None = None,
) -> None:
    """Train an objective in place.

    Parameters
    ----------
    objective : Objective
        Module from views, and targets by name, to a loss.
    views : callable
        Function from the arrays of a batch named by its ``inputs`` to a sequence of views.
    arrays : mapping of str to ndarray
        Arrays for the views, and any targets, of equal length. A ``weight`` weights rows that are held out.
    monitor : Monitor
        Monitor that receives the history, even if a fit is interrupted.
    rows : ndarray of int, default=None
        Rows to train on; None means all.
    held_out : HeldOut, default=None
        Rows to validate on: training stops early, and the best epoch is restored.
    draws : Randomness
        Order of the rows, and what the objective draws; alike on all ranks.
    training : Training
        Optimizer, schedules, precision, callbacks.
    max_epochs : int or "auto"
        Number of epochs; for ``"auto"`` see `auto_epochs`.
    batch_size : int
        Number of rows per step.
    lr : float
        Peak learning rate.
    device : torch.device
        Device to run on.
    verbose : int
        If above zero, show a progress bar.
    checkpoint : Checkpoint, default=None
        Where to save the state now and then, and what to go on from.
    tasks : Tasks, default=None
        Where scikit-learn's callbacks are told of each epoch.

    Raises
    ------
    ValueError
        If ranks train together and a batch has fewer rows than there are ranks, or the training is to be compiled.
    """
    dataset = ArrayDataset(arrays, device)
    chosen = len(dataset) if rows is None else torch.from_numpy(rows)
    sampler = BatchSampler(chosen, batch_size, draws.order, dataset.window(training.shuffle_window))
    _check_ranks(sampler, training)
    epochs = auto_epochs(len(sampler.rows), len(sampler)) if max_epochs == "auto" else int(max_epochs)
    callbacks = [monitor, ScheduleCallback(training, lr, epochs * len(sampler), epochs)]
    callbacks += [GradientNormClipping(training.clip)] if training.clip else []
    callbacks += [Progress(len(sampler.rows), epochs, monitor.unit)] if verbose and ranks.rank() == 0 else []
    callbacks += [stopping(callback) for callback in clone(training.callbacks or [], safe=False)]
    if held_out is not None:  # late, because it may end the epoch for the callbacks after it
        learner = Learner(objective, held_out.views, draws, bf16=False).to(device)
        evaluate = partial(mean_loss, learner, dataset, torch.from_numpy(held_out.rows), batch_size, device)
        callbacks += [EarlyStopping(evaluate, held_out.patience, monitor.history)]
    callbacks += [] if tasks is None else [Epochs(tasks, epochs)]  # later still: they may stop it too
    callbacks += [] if checkpoint is None else [checkpoint]  # after all others have begun, or ended a step
    net = NeuralNet(
        Learner(objective, views, draws, uses_bf16(training.precision, device)).to(memory_format=torch.channels_last),
        criterion=LossAsGiven,
        optimizer=make_optimizer,
        optimizer__name=training.optimizer,
        optimizer__weight_decay=training.weight_decay,
        optimizer__momentum=training.momentum,
        optimizer__betas=training.betas,
        optimizer__param_groups=[
            (f"*objective.{name}", {"lr_scale": scale}) for name, scale in objective.lr_scales().items()
        ],
        lr=lr,
        iterator_train=partial(load_batches, workers=training.workers),
        iterator_train__batch_size=None,
        iterator_train__sampler=sampler if checkpoint is None else checkpoint.resume(sampler, draws.order),
        iterator_train__generator=draws.order,
        iterator_train__pin_memory=device.type == "cuda" and dataset.resident is None,
        train_split=None,
        callbacks=callbacks,
        callbacks__print_log=None,
        device=device,
        compile=training.compile,
        verbose=0,
    )
    net.initialize()
    net.module_.spread()
    net.notify("on_train_begin", X=dataset, y=None)
    try:
        with repeatable_cudnn(), suppress(StopTraining):
            if checkpoint is None:
                net.fit_loop(dataset, epochs=epochs)
            else:
                checkpoint.run(net, dataset, epochs)
        monitor.history.update(ranks.agree(monitor.history))
    finally:
        net.notify("on_train_end", X=dataset, y=None)


def _check_ranks(sampler: BatchSampler, training: Training) -> None:
    """Refuse what ranks cannot share."""
    smallest, count = len(sampler.rows) // len(sampler), ranks.world_size()
    if smallest < count:
        raise ValueError(f"{count} processes cannot share a batch of {smallest}: start fewer, or take a larger batch.")
    if training.compile and count > 1:
        raise ValueError(f"compile=True is for one process, and {count} train together: set compile=False.")
