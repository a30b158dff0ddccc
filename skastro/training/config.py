"""Settings of training that are rarely changed, and their schedules."""

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from skastro.training.process import free_threads

__all__ = ["Training", "get_training"]


class Training(BaseEstimator):
    r"""Settings of training that are rarely changed: optimizer, schedules, precision, callbacks.

    Parameters
    ----------
    optimizer : {"auto", "adamw", "adam", "sgd", "lars"}, default="auto"
        Optimizer by name. ``"auto"`` depends on the method: SGD for MoCo, AdamW for all others.
    momentum : float, default=0.9
        Momentum of SGD and LARS.
    betas : tuple of two float, default=(0.9, 0.999)
        Decay rates of the running means of the gradient and of its square, for AdamW and Adam.
    weight_decay : float, default=1e-4
        Weight decay at the start. Adam, SGD and LARS add it to the gradient, like a penalty on the squared weights;
        AdamW subtracts it from the weights. Norms and biases are not decayed.
    weight_decay_end : float, default=None
        Weight decay at the end, reached by half a cosine over all steps; None keeps it constant.
    warmup : float or int, default=0.05
        Linear warm-up: a fraction of all steps, or a number of epochs.
    schedule : {"cosine", "milestones", "constant"}, default="cosine"
        Learning rate after the warm-up, per step; ``"milestones"`` divides it by ten at each milestone.
    milestones : tuple of float, default=(0.6, 0.9)
        Fractions of all steps, for ``schedule="milestones"``.
    lr_end : float, default=0.0
        Final learning rate of the cosine, as a fraction of the peak.
    ema : float or "auto", default="auto"
        Rate :math:`m` of the target network, :math:`\xi \leftarrow m\xi + (1-m)\theta`, at the start. ``"auto"``
        depends on the method: 0.97 for BYOL and its hybrid, otherwise 0.99.
    ema_schedule : {"cosine", "constant"}, default="cosine"
        ``"cosine"`` raises the rate to 1: :math:`m_t = 1 - (1-m)(\cos(\pi t/T) + 1)/2`.
    clip : float, default=None
        Maximum norm of the gradient.
    precision : {"auto", "bf16", "fp32"}, default="auto"
        ``"auto"`` trains in bfloat16 if the processor computes in it, and transforms in float32.
    threads : int or "auto", default="auto"
        Threads on the CPU. ``"auto"`` is torch's number, at most the processors that affinity and quota allow, less
        those that other work keeps busy when the fit starts; the last digits of a fit depend on it.
    compile : bool, default=False
        Compile the objective with ``torch.compile``.
    callbacks : list of skorch callbacks, default=None
        Further callbacks; cloned for each fit. What they remember is not in a checkpoint.
    shuffle_window : int or "auto", default="auto"
        Rows among which those of a source on disk are shuffled, and which are held in memory: blocks of rows that lie
        together come in random order, and each row moves back by up to as many places. ``"auto"`` is as many as 150
        MB hold. From the number of rows on, and for arrays and memory maps always, the order is that of a full
        shuffle.
    workers : int, default=1
        Threads that read a source on disk ahead of the network; 0 reads between steps. The numbers do not depend on it.
    checkpoint : str or path-like, default=None
        Folder for checkpoints: a fit that was cut off, and is called again with the same parameters and data, goes on
        from there and ends as if it had not been cut off, bit for bit. It needs an int as ``random_state``. The
        checkpoints are removed when the fit ends. ``{fit}`` in the name stands for a word of its own for each fit, as
        a search needs; see :ref:`the guide <survive>`.
    checkpoint_every : float or "auto", default="auto"
        Seconds of training between two checkpoints; 0 is after every step. ``"auto"`` is ten minutes, or as long as
        writing stays below a hundredth of the time. One is also written when a training ends, on Ctrl-C and on
        SIGTERM.

    References
    ----------
    Grill et al. (2020), "Bootstrap your own latent", `arXiv:2006.07733 <https://arxiv.org/abs/2006.07733>`_, section
    3.2, for the cosine schedules; Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, for the
    milestones; Oquab et al. (2023), "DINOv2", `arXiv:2304.07193 <https://arxiv.org/abs/2304.07193>`_, for weight decay
    that rises.

    Examples
    --------
    >>> from skastro.training import Training
    >>> Training(optimizer="sgd", weight_decay=1.5e-6).get_params()["ema"]
    'auto'
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "optimizer": [StrOptions({"auto", "adamw", "adam", "sgd", "lars"})],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "betas": [tuple, list],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "weight_decay_end": [Interval(Real, 0, None, closed="left"), None],
        "warmup": [Interval(Real, 0, None, closed="left")],
        "schedule": [StrOptions({"cosine", "milestones", "constant"})],
        "milestones": [tuple, list],
        "lr_end": [Interval(Real, 0, 1, closed="both")],
        "ema": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "ema_schedule": [StrOptions({"cosine", "constant"})],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "precision": [StrOptions({"auto", "bf16", "fp32"})],
        "threads": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "compile": ["boolean"],
        "callbacks": [list, None],
        "shuffle_window": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "workers": [Interval(Integral, 0, None, closed="left")],
        "checkpoint": [str, os.PathLike, None],
        "checkpoint_every": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
    }

    def __init__(
        self,
        *,
        optimizer: str = "auto",
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-4,
        weight_decay_end: float | None = None,
        warmup: float = 0.05,
        schedule: str = "cosine",
        milestones: Sequence[float] = (0.6, 0.9),
        lr_end: float = 0.0,
        ema: float | str = "auto",
        ema_schedule: str = "cosine",
        clip: float | None = None,
        precision: str = "auto",
        threads: int | str = "auto",
        compile: bool = False,  # noqa: A002 the word of torch and skorch
        callbacks: list[Any] | None = None,
        shuffle_window: int | str = "auto",
        workers: int = 1,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float | str = "auto",
    ) -> None:
        self.optimizer = optimizer
        self.momentum = momentum
        self.betas = betas
        self.weight_decay = weight_decay
        self.weight_decay_end = weight_decay_end
        self.warmup = warmup
        self.schedule = schedule
        self.milestones = milestones
        self.lr_end = lr_end
        self.ema = ema
        self.ema_schedule = ema_schedule
        self.clip = clip
        self.precision = precision
        self.threads = threads
        self.compile = compile
        self.callbacks = callbacks
        self.shuffle_window = shuffle_window
        self.workers = workers
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every

    def check(self) -> None:
        """Raise an error if a setting is invalid.

        Raises
        ------
        ValueError
            If a setting is invalid; the error names it.
        """
        self._validate_params()
        if len(self.betas) != 2 or not all(isinstance(beta, Real) and 0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers from 0, below 1; got {self.betas}.")
        if not all(isinstance(milestone, Real) and 0 < milestone < 1 for milestone in self.milestones):
            raise ValueError(f"milestones must be fractions of all steps, between 0 and 1; got {self.milestones}.")

    def n_threads(self) -> int:
        """Count the threads that computing on the CPU takes now.

        Returns
        -------
        int
        """
        return free_threads() if isinstance(self.threads, str) else self.threads

    def lr_factor(self, step: int, steps: int, epochs: int) -> float:
        """Compute the learning rate of a step as a fraction of its peak, at most 1.

        Parameters
        ----------
        step : int
            Number of the step, from 0.
        steps : int
            Total number of steps.
        epochs : int
            Total number of epochs.

        Returns
        -------
        float

        Examples
        --------
        >>> from skastro.training import Training
        >>> [round(Training(warmup=2).lr_factor(step, 8, 8), 2) for step in range(8)]
        [0.5, 1.0, 1.0, 0.93, 0.75, 0.5, 0.25, 0.07]
        """
        fraction = self.warmup / epochs if isinstance(self.warmup, Integral) else self.warmup
        warm = min(steps, round(steps * fraction))
        if step < warm:
            return (step + 1) / warm
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "milestones":
            return 0.1 ** sum(step >= round(steps * milestone) for milestone in self.milestones)
        cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
        return self.lr_end + (1 - self.lr_end) * cosine

    def decay(self, step: int, steps: int) -> float:
        """Compute the weight decay of a step.

        Parameters
        ----------
        step : int
            Number of the step, from 0.
        steps : int
            Total number of steps.

        Returns
        -------
        float

        Examples
        --------
        >>> from skastro.training import Training
        >>> [round(Training(weight_decay=0.04, weight_decay_end=0.4).decay(step, 4), 3) for step in range(5)]
        [0.04, 0.093, 0.22, 0.347, 0.4]
        """
        if self.weight_decay_end is None:
            return self.weight_decay
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        return self.weight_decay_end + (self.weight_decay - self.weight_decay_end) * cosine

    def ema_rate(self, step: int, steps: int) -> float:
        """Compute the rate of the target network after a step.

        Parameters
        ----------
        step : int
            Number of the step, from 0.
        steps : int
            Total number of steps.

        Returns
        -------
        float

        Examples
        --------
        >>> from skastro.training import Training
        >>> [round(Training(ema=0.9).ema_rate(step, 4), 3) for step in range(5)]
        [0.9, 0.915, 0.95, 0.985, 1.0]
        """
        start = 0.99 if self.ema == "auto" else float(self.ema)
        if self.ema_schedule == "constant":
            return start
        return 1 - (1 - start) * (math.cos(math.pi * step / steps) + 1) / 2


def get_training(training: Training | None) -> Training:
    """Return the settings, or the default settings for None.

    Parameters
    ----------
    training : Training or None
        Settings, or None.

    Returns
    -------
    Training

    Examples
    --------
    >>> from skastro.training import get_training
    >>> get_training(None)
    Training()
    """
    return Training() if training is None else training
