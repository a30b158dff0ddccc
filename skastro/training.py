"""Runs an objective: batches, precision, optimiser, schedules, history, progress. The only importer of skorch."""

import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from skastro.images import as_pixels
from skorch import NeuralNet
from skorch.callbacks import Callback, GradientNormClipping
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import Interval, StrOptions
from timm.optim import Lars
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm.auto import tqdm

__all__ = ["Monitor", "Training", "ema_update", "get_training", "local_seed", "resolve_device", "train", "uses_bf16"]

AUTO_STEPS = 1000  # what max_epochs="auto" aims at
MONITORED = 256  # embeddings looked at after each epoch


class Training(BaseEstimator):
    r"""The knobs of training that are rarely turned.

    Parameters
    ----------
    optimizer : {"adamw", "sgd", "lars"}, default="adamw"
        Optimiser by name; SGD and LARS with momentum 0.9. Norms and biases are not decayed.
    weight_decay : float, default=1e-4
        Weight decay.
    warmup : float or int, default=0.05
        Linear warm-up: a fraction of all steps, or a number of epochs.
    schedule : {"cosine", "constant"}, default="cosine"
        Learning rate after the warm-up, per step.
    ema : float, default=0.99
        Rate :math:`m` of the target network, :math:`\xi \leftarrow m\xi + (1-m)\theta`, at the start.
    ema_schedule : {"cosine", "constant"}, default="cosine"
        Whether the rate rises to 1: :math:`m_t = 1 - (1-m)(\cos(\pi t/T) + 1)/2`.
    clip : float, default=None
        Largest norm of the gradient.
    precision : {"auto", "bf16", "fp32"}, default="auto"
        ``"auto"`` trains in bfloat16 where the processor computes in it and transforms in float32.
    compile : bool, default=False
        Compile the objective with ``torch.compile``.
    callbacks : list of skorch callbacks, default=None
        Further callbacks; cloned for each fit.

    References
    ----------
    Grill et al. (2020), section 3.2, for the schedules.

    Examples
    --------
    >>> from skastro.training import Training
    >>> Training(optimizer="sgd", weight_decay=1.5e-6).get_params()["ema"]
    0.99
    """

    _parameter_constraints = {  # noqa: RUF012
        "optimizer": [StrOptions({"adamw", "sgd", "lars"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup": [Interval(Real, 0, None, closed="left")],
        "schedule": [StrOptions({"cosine", "constant"})],
        "ema": [Interval(Real, 0, 1, closed="both")],
        "ema_schedule": [StrOptions({"cosine", "constant"})],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "precision": [StrOptions({"auto", "bf16", "fp32"})],
        "compile": ["boolean"],
        "callbacks": [list, None],
    }

    def __init__(
        self,
        optimizer: str = "adamw",
        weight_decay: float = 1e-4,
        warmup: float = 0.05,
        schedule: str = "cosine",
        ema: float = 0.99,
        ema_schedule: str = "cosine",
        clip: float | None = None,
        precision: str = "auto",
        compile: bool = False,  # noqa: A002 the word of torch and skorch
        callbacks: list[Any] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.schedule = schedule
        self.ema = ema
        self.ema_schedule = ema_schedule
        self.clip = clip
        self.precision = precision
        self.compile = compile
        self.callbacks = callbacks

    def lr_factor(self, step: int, steps: int, epochs: int) -> float:
        """Give the learning rate of a step as a fraction of its peak, which it never exceeds.

        Parameters
        ----------
        step : int
            From 0.
        steps : int
            Steps in all.
        epochs : int
            Epochs in all.

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
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    def ema_rate(self, step: int, steps: int) -> float:
        """Give the rate of the target network after a step.

        Parameters
        ----------
        step : int
            From 0.
        steps : int
            Steps in all.

        Returns
        -------
        float

        Examples
        --------
        >>> from skastro.training import Training
        >>> [round(Training(ema=0.9).ema_rate(step, 4), 3) for step in range(5)]
        [0.9, 0.915, 0.95, 0.985, 1.0]
        """
        if self.ema_schedule == "constant":
            return self.ema
        return 1 - (1 - self.ema) * (math.cos(math.pi * step / steps) + 1) / 2


def get_training(training: Training | None) -> Training:
    """Turn None into the default knobs.

    Parameters
    ----------
    training : Training or None
        What the user gave.

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


def resolve_device(device: str) -> torch.device:
    """Choose the device of this moment; nothing stores it.

    Parameters
    ----------
    device : str
        ``"auto"`` (CUDA when there) or a torch device.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If torch knows no such device, or CUDA is asked for and absent.

    Examples
    --------
    >>> from skastro.training import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"Unknown device {device!r}; use 'auto', 'cpu', 'cuda' or another of torch's."
        ) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r} was asked for, but torch finds no CUDA device here.")
    return chosen


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Decide whether training runs in bfloat16.

    Parameters
    ----------
    precision : {"auto", "bf16", "fp32"}
        What was asked for.
    device : torch.device
        Where it runs.

    Returns
    -------
    bool

    Examples
    --------
    >>> import torch
    >>> from skastro.training import uses_bf16
    >>> uses_bf16("fp32", torch.device("cpu"))
    False
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


@contextmanager
def local_seed(seed: int) -> Iterator[None]:
    """Seed torch inside, and leave the user's generators as they were.

    Parameters
    ----------
    seed : int
        Seed of torch's global generators inside the block.

    Examples
    --------
    >>> import torch
    >>> from skastro.training import local_seed
    >>> before = torch.random.get_rng_state()
    >>> with local_seed(0):
    ...     noise = torch.rand(2)
    >>> bool((torch.random.get_rng_state() == before).all())
    True
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


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


class Rows(Dataset):
    """Arrays of equal length, indexed by a whole batch at once.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        What the learner's forward takes, by name; ``images`` keep 8-bit pixels, all else becomes float32.
    device : torch.device
        Where training runs: the arrays move to a GPU once if they fit into half of its free memory.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        self.arrays = arrays
        self.resident = None
        if device.type == "cuda":
            size = sum(a.size * (1 if a.dtype == np.uint8 else 4) for a in arrays.values())
            if size < torch.cuda.mem_get_info(device)[0] / 2:
                self.resident = {k: torch.from_numpy(as_pixels(a)).to(device) for k, a in arrays.items()}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, rows: Tensor) -> tuple[dict[str, Tensor], int]:
        if self.resident is not None:
            return {name: tensor[rows.to(tensor.device)] for name, tensor in self.resident.items()}, 0
        return {
            name: torch.from_numpy(as_pixels(array[rows.numpy()])) for name, array in self.arrays.items()
        }, 0


class Batches(Sampler):
    """Shuffled rows in batches of nearly equal size, never a batch of one.

    Parameters
    ----------
    n : int
        Number of rows.
    batch_size : int
        Largest batch.
    generator : torch.Generator
        Order of the rows.
    """

    def __init__(self, n: int, batch_size: int, generator: torch.Generator) -> None:
        self.n = n
        self.count = max(1, min(-(-n // batch_size), n // 2))
        self.generator = generator

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.randperm(self.n, generator=self.generator).tensor_split(self.count))


class Learner(nn.Module):
    """What a step of training does: draw views, run the objective.

    Parameters
    ----------
    objective : nn.Module
        From views (and targets by name) to a loss.
    views : callable
        From raw images to a sequence of normalised views.
    bf16 : bool
        Run the objective under bfloat16 autocast.
    """

    def __init__(
        self, objective: nn.Module, views: Callable[[Tensor], Sequence[Tensor]], bf16: bool
    ) -> None:
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
        with torch.no_grad():
            views = self.views(images)
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

        Returns
        -------
        Tensor
        """
        return loss


class Clock(Callback):
    """Sets the learning rate before each step and moves the objective's target network after it.

    Parameters
    ----------
    training : Training
        Schedules.
    lr : float
        Peak learning rate.
    steps, epochs : int
        Steps and epochs in all.
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
            group["lr"] = self.lr * self.training.lr_factor(self.step_, self.steps, self.epochs)

    def on_batch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        net.module_.objective.update(self.training.ema_rate(self.step_, self.steps))
        self.step_ += 1


class Monitor(Callback):
    """Keeps the history of a fit and warns when the embedding collapses.

    Parameters
    ----------
    encoder : nn.Module
        The network whose outputs are watched.

    Attributes
    ----------
    history : dict of list of float
        One value per finished epoch: ``loss``, ``lr`` (of the last step), ``images_per_s``, ``embedding_std``
        (of L2-normalised embeddings times √d: about 1 when they point everywhere, 0 when they are all the same)
        and ``effective_rank`` (exponential of the entropy of the normalised singular values).

    References
    ----------
    Roy & Vetterli (2007) for the effective rank.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder
        self.history: dict[str, list[float]] = {
            name: [] for name in ("loss", "lr", "images_per_s", "embedding_std", "effective_rank")
        }

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.recent_: deque[Tensor] = deque(maxlen=8)
        self.hook_ = self.encoder.register_forward_hook(
            lambda module, inputs, output: self.recent_.append(output.detach())
        )

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.started_ = time.perf_counter()

    def on_epoch_end(self, net: NeuralNet, dataset_train: Dataset, **kwargs: Any) -> None:  # noqa: D102
        seconds = time.perf_counter() - self.started_
        sizes, losses = zip(*net.history[-1, "batches", :, ("train_batch_size", "train_loss")], strict=True)
        std, rank = spread(torch.cat(list(self.recent_))[-MONITORED:].float())
        values = {
            "loss": float(np.average(losses, weights=sizes)),
            "lr": net.optimizer_.param_groups[0]["lr"],
            "images_per_s": len(dataset_train) / seconds,
            "embedding_std": std,
            "effective_rank": rank,
        }
        for name, value in values.items():
            self.history[name].append(value)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.hook_.remove()
        rows = sum(map(len, self.recent_))
        if rows >= 32 and len(self.history["loss"]) >= 3 and self.history["embedding_std"][-1] < 0.02:
            warnings.warn(
                "The embedding has collapsed: nearly all images map to the same point "
                f"(embedding_std {self.history['embedding_std'][-1]:.1e}). Try a smaller lr, a larger batch or "
                "weaker augmentation.",
                UserWarning,
                stacklevel=2,
            )


class Progress(Callback):
    """A bar over all epochs: loss, learning rate, objects per second, time left.

    Parameters
    ----------
    n : int
        Images per epoch.
    epochs : int
        Epochs in all.
    """

    def __init__(self, n: int, epochs: int) -> None:
        self.n = n
        self.epochs = epochs

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.bar_ = tqdm(total=self.n * self.epochs, unit=" images", unit_scale=True, dynamic_ncols=True)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.bar_.set_description(f"epoch {len(net.history)}/{self.epochs}")

    def on_batch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        loss, size = net.history[-1, "batches", -1, ("train_loss", "train_batch_size")]
        self.bar_.set_postfix(loss=f"{loss:.3f}", lr=f"{net.optimizer_.param_groups[0]['lr']:.1e}")
        self.bar_.update(size)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.bar_.close()


def spread(embedding: Tensor) -> tuple[float, float]:
    """Measure how much of its space a set of embeddings uses.

    Parameters
    ----------
    embedding : Tensor of shape (n, d)
        Embeddings.

    Returns
    -------
    std : float
        Mean standard deviation of the L2-normalised embeddings, times √d.
    effective_rank : float
        From 1 to min(n, d).

    Examples
    --------
    >>> import torch
    >>> from skastro.training import spread
    >>> std, rank = spread(torch.eye(4).repeat(2, 1))
    >>> round(rank, 3)
    3.0
    """
    direction = nn.functional.normalize(embedding, dim=1)
    std = direction.std(dim=0).mean() * embedding.shape[1] ** 0.5
    singular = torch.linalg.svdvals((embedding - embedding.mean(dim=0)).double())
    weight = singular / singular.sum().clamp(min=1e-30)
    return float(std), float(torch.exp(-torch.special.xlogy(weight, weight).sum()))


def make_optimizer(
    groups: Sequence[Mapping[str, Any]], lr: float, name: str, weight_decay: float
) -> torch.optim.Optimizer:
    """Make an optimiser by name that decays matrices and kernels only.

    Parameters
    ----------
    groups : sequence of mapping
        Parameter groups.
    lr : float
        Learning rate.
    name : {"adamw", "sgd", "lars"}
        Which.
    weight_decay : float
        Weight decay of parameters with at least two axes.

    Returns
    -------
    torch.optim.Optimizer
    """
    params = [p for group in groups for p in group["params"] if p.requires_grad]
    split = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if name == "adamw":
        return torch.optim.AdamW(split, lr=lr, fused=True)
    if name == "sgd":
        return torch.optim.SGD(split, lr=lr, momentum=0.9, fused=True)
    return Lars(split, lr=lr, momentum=0.9)


def train(
    objective: nn.Module,
    views: Callable[[Tensor], Sequence[Tensor]],
    arrays: Mapping[str, np.ndarray],
    *,
    monitor: Monitor,
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
    objective : nn.Module
        From views to a loss; its ``update(rate)`` is called after each step.
    views : callable
        From raw images on the device to a sequence of normalised views.
    arrays : mapping of str to ndarray
        ``images`` and any targets, of equal length.
    monitor : Monitor
        Receives the history, also of a fit that is interrupted.
    training : Training
        The rare knobs.
    max_epochs : int or "auto"
        Epochs; ``"auto"`` makes about 1,000 steps.
    batch_size : int
        Images per step.
    lr : float
        Peak learning rate.
    device : torch.device
        Where to run.
    verbose : int
        Above zero, show a progress bar.
    """
    rows = Rows(arrays, device)
    sampler = Batches(len(rows), batch_size, torch.default_generator)
    epochs = -(-AUTO_STEPS // len(sampler)) if max_epochs == "auto" else int(max_epochs)
    callbacks = [monitor, Clock(training, lr, epochs * len(sampler), epochs)]
    callbacks += [GradientNormClipping(training.clip)] if training.clip else []
    callbacks += [Progress(len(rows), epochs)] if verbose else []
    callbacks += clone(training.callbacks or [], safe=False)
    net = NeuralNet(
        Learner(objective, views, uses_bf16(training.precision, device)).to(memory_format=torch.channels_last),
        criterion=LossAsGiven,
        optimizer=make_optimizer,
        optimizer__name=training.optimizer,
        optimizer__weight_decay=training.weight_decay,
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
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            net.fit_loop(rows, epochs=epochs)
    finally:
        net.notify("on_train_end", X=rows, y=None)
