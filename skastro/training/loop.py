"""The loop: an objective, its views and an optimizer, run by skorch."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import GradientNormClipping
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from skastro.training.batches import ArrayDataset, BatchSampler
from skastro.training.callbacks import EarlyStopping, Monitor, Progress, ScheduleCallback, StopTraining
from skastro.training.config import Training
from skastro.training.device import uses_bf16
from skastro.training.optimizer import make_optimizer

__all__ = ["Learner", "LossAsGiven", "Objective", "auto_epochs", "ema_update", "train"]

# What max_epochs="auto" aims at: images shown in all, within so many steps, but no fewer passes than this.
AUTO_IMAGES, AUTO_STEPS, AUTO_EPOCHS = 32_000, 1_000, 10


class Objective(nn.Module):
    """What turns the views of a batch, and targets by name, into a loss.

    A concrete one has a ``forward``; what it keeps between steps are buffers. A loss of several parts leaves each in
    ``parts``, by name, for the history.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, Tensor] = {}

    def schedule(self, step: int, steps: int) -> None:
        """Do nothing before a step; objectives with schedules of their own follow them.

        Parameters
        ----------
        step : int
            From 0.
        steps : int
            Steps in all.
        """

    def update(self, rate: float) -> None:
        """Do nothing after a step; objectives with a target network move it.

        Parameters
        ----------
        rate : float
            Fraction of the target that stays.
        """

    def lr_scales(self) -> dict[str, float]:
        """Give the factor on the learning rate of each parameter, by name, where it is not 1.

        Returns
        -------
        dict
        """
        return {}


class Learner(nn.Module):
    """What a step of training does: draw views, run the objective.

    Parameters
    ----------
    objective : Objective
        From views (and targets by name) to a loss.
    views : callable
        From raw images, and those further arrays that its ``metadata`` names, to a sequence of normalized views.
    bf16 : bool
        Run the objective under bfloat16 autocast.
    """

    def __init__(self, objective: Objective, views: Callable[..., Sequence[Tensor]], bf16: bool) -> None:
        super().__init__()
        self.objective = objective
        self.views = views
        self.bf16 = bf16

    def forward(self, images: Tensor, **targets: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Raw pixels.
        **targets : Tensor
            Further arrays of the batch.

        Returns
        -------
        Tensor
            A scalar.
        """
        metadata = {name: targets.pop(name) for name in getattr(self.views, "metadata", ()) if name in targets}
        with torch.no_grad():
            views = self.views(images, **metadata)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            return self.objective(*views, **targets)


class LossAsGiven(nn.Module):
    """The criterion that skorch asks for, when the module has computed the loss already."""

    def forward(self, loss: Tensor, _: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        loss : Tensor
            What the learner gave.
        _ : Tensor
            The target that skorch asks for; there is none.

        Returns
        -------
        Tensor
        """
        return loss


def ema_update(target: nn.Module, online: nn.Module, rate: float) -> None:
    """Move a target network towards the online one, its batch-norm statistics included.

    Parameters
    ----------
    target : nn.Module
        Changed in place.
    online : nn.Module
        A network of the same architecture.
    rate : float
        Fraction of the target that stays.

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
    """Choose the passes over the images: enough to show 32,000, within about 1,000 steps, but at least ten.

    Parameters
    ----------
    images, steps : int
        Images and steps in one pass.

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
    best: EarlyStopping | None = None,
    subset: np.ndarray | None = None,
    training: Training,
    max_epochs: int | str,
    batch_size: int,
    lr: float,
    device: torch.device,
    verbose: int,
) -> None:
    """Train an objective in place, with torch's global generators as the source of randomness.

    Parameters
    ----------
    objective : Objective
        From views to a loss.
    views : callable
        From raw images on the device, and those further arrays that its ``metadata`` names, to a sequence of normalized
        views.
    arrays : mapping of str to ndarray
        ``images``, what the views take beside them, and any targets, of equal length.
    monitor : Monitor
        Receives the history, also of a fit that is interrupted.
    best : EarlyStopping, default=None
        Ends training early and restores the best epoch.
    subset : ndarray of int, default=None
        Rows to train on; None is all.
    training : Training
        The rare knobs.
    max_epochs : int or "auto"
        Epochs; for ``"auto"`` see `auto_epochs`.
    batch_size : int
        Images per step.
    lr : float
        Peak learning rate.
    device : torch.device
        Where to run.
    verbose : int
        Above zero, show a progress bar.
    """
    rows = ArrayDataset(arrays, device)
    chosen = len(rows) if subset is None else torch.from_numpy(subset)
    sampler = BatchSampler(chosen, batch_size, torch.default_generator)
    epochs = auto_epochs(len(sampler.rows), len(sampler)) if max_epochs == "auto" else int(max_epochs)
    callbacks = [monitor, ScheduleCallback(training, lr, epochs * len(sampler), epochs)]
    callbacks += [GradientNormClipping(training.clip)] if training.clip else []
    callbacks += [Progress(len(sampler.rows), epochs)] if verbose else []
    callbacks += clone(training.callbacks or [], safe=False)
    callbacks += [best] if best else []  # last, because it may end the epoch for those after it
    net = NeuralNet(
        Learner(objective, views, uses_bf16(training.precision, device)).to(memory_format=torch.channels_last),
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
        iterator_train=DataLoader,
        iterator_train__batch_size=None,
        iterator_train__sampler=sampler,
        iterator_train__pin_memory=device.type == "cuda" and rows.resident is None,
        train_split=None,
        callbacks=callbacks,
        callbacks__print_log=None,
        device=device,
        compile=training.compile,
        verbose=0,
    )
    net.initialize()
    net.notify("on_train_begin", X=rows, y=None)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True), suppress(StopTraining):
            net.fit_loop(rows, epochs=epochs)
    finally:
        net.notify("on_train_end", X=rows, y=None)
