"""The training loop: an objective, its views and an optimizer, run by skorch."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import GradientNormClipping
from torch import Tensor, nn

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
from skastro.training.objectives import Learner
from skastro.training.optimizer import make_optimizer
from skastro.training.process import repeatable_cudnn
from skastro.training.tasks import Tasks
from skastro.training.validation import HeldOut, mean_loss

__all__ = ["LossAsGiven", "Settings", "TrainingRows", "auto_epochs", "train"]

# Aims of max_epochs="auto": total number of images shown, within this many steps, but at least this many epochs.
AUTO_IMAGES, AUTO_STEPS, AUTO_EPOCHS = 32_000, 1_000, 10


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
    >>> from skastro.training.loop import auto_epochs
    >>> [auto_epochs(images, -(-images // 256)) for images in (100, 1_000, 10_000, 1_000_000)]
    [320, 32, 10, 10]
    """
    return max(AUTO_EPOCHS, min(-(-AUTO_IMAGES // images), -(-AUTO_STEPS // steps)))


@dataclass(frozen=True)
class TrainingRows:
    """What is learned from.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays for the views, and any targets, of equal length. A ``weight`` weights rows that are held out.
    chosen : ndarray of int, default=None
        Rows to train on; None means all.
    held_out : HeldOut, default=None
        Rows to validate on: training stops early, and the best epoch is restored.
    """

    arrays: Mapping[str, np.ndarray]
    chosen: np.ndarray | None = None
    held_out: HeldOut | None = None


@dataclass(frozen=True)
class Settings:
    """How an objective is trained.

    Parameters
    ----------
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
    verbose : int, default=0
        If above zero, show a progress bar.
    """

    training: Training
    max_epochs: int | str
    batch_size: int
    lr: float
    device: torch.device
    verbose: int = 0


def train(
    learner: Learner,
    data: TrainingRows,
    settings: Settings,
    monitor: Monitor,
    checkpoint: Checkpoint | None = None,
    tasks: Tasks | None = None,
) -> None:
    """Train an objective in place.

    Parameters
    ----------
    learner : Learner
        Objective, views, and the source of what they draw: alike on all ranks.
    data : TrainingRows
        What is learned from.
    settings : Settings
        How.
    monitor : Monitor
        Monitor that receives the history, even if a fit is interrupted.
    checkpoint : Checkpoint, default=None
        Where to save the state now and then, and what to go on from.
    tasks : Tasks, default=None
        Where scikit-learn's callbacks are told of each epoch.

    Raises
    ------
    ValueError
        If ranks train together and a batch has fewer rows than there are ranks, or the training is to be compiled.
    """
    training, device, order = settings.training, settings.device, learner.draws.order
    dataset = ArrayDataset(data.arrays, device)
    chosen = len(dataset) if data.chosen is None else torch.from_numpy(data.chosen)
    sampler = BatchSampler(chosen, settings.batch_size, order, dataset.window(training.shuffle_window))
    _check_ranks(sampler, training)
    auto = settings.max_epochs == "auto"
    epochs = auto_epochs(len(sampler.rows), len(sampler)) if auto else int(settings.max_epochs)
    callbacks = [monitor, ScheduleCallback(training, settings.lr, epochs * len(sampler), epochs)]
    callbacks += [GradientNormClipping(training.clip)] if training.clip else []
    shown = settings.verbose and ranks.rank() == 0
    callbacks += [Progress(len(sampler.rows), epochs, monitor.unit)] if shown else []
    callbacks += [stopping(callback) for callback in clone(training.callbacks or [], safe=False)]
    if data.held_out is not None:  # late, because it may end the epoch for the callbacks after it
        callbacks += [_early_stopping(learner, dataset, data.held_out, settings, monitor)]
    callbacks += [] if tasks is None else [Epochs(tasks, epochs)]  # later still: they may stop it too
    callbacks += [] if checkpoint is None else [checkpoint]  # after all others have begun, or ended a step
    net = NeuralNet(
        learner.to(memory_format=torch.channels_last),
        criterion=LossAsGiven,
        optimizer=make_optimizer,
        optimizer__name=training.optimizer,
        optimizer__weight_decay=training.weight_decay,
        optimizer__momentum=training.momentum,
        optimizer__betas=training.betas,
        optimizer__param_groups=[
            (f"*objective.{name}", {"lr_scale": scale}) for name, scale in learner.objective.lr_scales().items()
        ],
        lr=settings.lr,
        iterator_train=partial(load_batches, workers=training.workers),
        iterator_train__batch_size=None,
        iterator_train__sampler=sampler if checkpoint is None else checkpoint.resume(sampler, order),
        iterator_train__generator=order,
        iterator_train__pin_memory=device.type == "cuda" and dataset.resident is None,
        train_split=None,
        callbacks=callbacks,
        callbacks__print_log=None,
        device=device,
        compile=training.compile,
        verbose=0,
    )
    net.initialize()
    net.module_.distribute()
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


def _early_stopping(
    learner: Learner, dataset: ArrayDataset, held_out: HeldOut, settings: Settings, monitor: Monitor
) -> EarlyStopping:
    """Watch the loss of rows that are held out, as they are: without what training draws, in full precision."""
    plain = Learner(learner.objective, held_out.views, learner.draws, bf16=False).to(settings.device)
    rows = torch.from_numpy(held_out.rows)
    evaluate = partial(mean_loss, plain, dataset, rows, settings.batch_size, settings.device)
    return EarlyStopping(evaluate, held_out.patience, monitor.history)


def _check_ranks(sampler: BatchSampler, training: Training) -> None:
    """Refuse what ranks cannot share."""
    smallest, count = len(sampler.rows) // len(sampler), ranks.world_size()
    if smallest < count:
        raise ValueError(f"{count} processes cannot share a batch of {smallest}: start fewer, or take a larger batch.")
    if training.compile and count > 1:
        raise ValueError(f"compile=True is for one process, and {count} train together: set compile=False.")
