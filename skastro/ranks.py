"""Several processes, one training: each computes its rows of a batch, and all draw what one alone would draw.

Processes that torchrun starts are called ranks, as in torch. A batch is cut among them. What is drawn for it is drawn
for the whole of it on every rank, of which each keeps its own rows; what looks at other rows (a contrastive loss, a
batch norm) first gathers them, and gradients flow back to where they came from. So the weights after a step are those
of one process with the whole batch, but for rounding.
"""

import atexit
import multiprocessing
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = [
    "BatchNormOverRanks",
    "agree",
    "alone",
    "dealt",
    "drawn",
    "everyones",
    "gather",
    "join",
    "logsumexp",
    "mean",
    "mean_row",
    "part",
    "rank",
    "shared",
    "sharing",
    "total",
    "wait",
    "weight",
    "whole",
    "world_size",
]

_sizes: list[int] = []  # rows of each rank in the step that is being shared, if one is


def join() -> None:
    """Join the other ranks, if torchrun started this process and nobody has joined them yet."""
    launched = distributed.is_available() and distributed.is_torchelastic_launched()
    started_by_rank = multiprocessing.current_process().name != "MainProcess"  # a worker of joblib, which is alone
    if not launched or started_by_rank or distributed.is_initialized() or int(os.environ["WORLD_SIZE"]) == 1:
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group()
    atexit.register(distributed.destroy_process_group)


def world_size() -> int:
    """Count the ranks that train together; 1 is this process alone.

    Returns
    -------
    int

    Examples
    --------
    >>> from skastro import ranks
    >>> ranks.world_size(), ranks.rank()
    (1, 0)
    """
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this rank, from 0, which writes the files.

    Returns
    -------
    int
    """
    return distributed.get_rank() if world_size() > 1 else 0


def part(rows: Tensor) -> Tensor:
    """Take this rank's part of a batch.

    Parameters
    ----------
    rows : Tensor of shape (n, ...)
        The batch.

    Returns
    -------
    Tensor
    """
    return rows.tensor_split(world_size())[rank()]


def agree(value: Any) -> Any:
    """Let all ranks have what the first one has.

    Parameters
    ----------
    value : any
        Something that pickles.

    Returns
    -------
    any
    """
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def everyones(value: Any) -> list[Any]:
    """List what all ranks have.

    Parameters
    ----------
    value : any
        Something that pickles.

    Returns
    -------
    list
        The values in the order of the ranks.
    """
    values = [value] * world_size()
    if len(values) > 1:
        distributed.all_gather_object(values, value)
    return values


def wait() -> None:
    """Wait until all ranks are here."""
    everyones(None)


@contextmanager
def shared(n: int, device: torch.device) -> Iterator[None]:
    """Share a step among the ranks inside a block: a batch norm sees all rows, and `gather` gathers.

    Parameters
    ----------
    n : int
        Rows of this rank.
    device : torch.device
        Device of the step.
    """
    global _sizes
    if world_size() == 1:
        yield
        return
    sizes = torch.zeros(world_size(), dtype=torch.long, device=device)
    sizes[rank()] = n
    before, _sizes = _sizes, _sum(sizes).tolist()
    try:
        with BatchNormOverRanks():
            yield
    finally:
        _sizes = before


@contextmanager
def alone() -> Iterator[None]:
    """Compute on this rank's rows alone inside a block of a step that is shared."""
    global _sizes
    before, _sizes = _sizes, []
    try:
        yield
    finally:
        _sizes = before


def sharing() -> bool:
    """Find whether a step is being shared.

    Returns
    -------
    bool
    """
    return bool(_sizes)


def whole(n: int) -> int:
    """Count the rows of all ranks in the step that is being shared.

    Parameters
    ----------
    n : int
        This rank's.

    Returns
    -------
    int
    """
    return sum(_sizes) if _sizes else n


def gather(rows: Tensor) -> Tensor:
    """Gather the rows of all ranks; the gradient of each row is the sum of what it is asked for on every rank.

    Parameters
    ----------
    rows : Tensor of shape (n, ...)
        This rank's rows of the batch.

    Returns
    -------
    Tensor of shape (rows of all ranks, ...)
        The rows as they are where no step is being shared.
    """
    if not _sizes:
        return rows
    before, after = (rows.new_zeros(sum(some), *rows.shape[1:]) for some in (_sizes[: rank()], _sizes[rank() + 1 :]))
    return _Sum.apply(torch.cat([before, rows, after]))


def drawn(draw: Callable[[int], Any], n: int, cut: Callable[[Any, slice], Any] = operator.getitem) -> Any:
    """Draw for the whole batch, and keep what is for this rank's rows.

    Parameters
    ----------
    draw : callable
        From a number of rows to what is drawn for as many.
    n : int
        This rank's rows.
    cut : callable, default=operator.getitem
        From what was drawn and a slice of rows to what is for these.

    Returns
    -------
    any
        What `draw` gave, of the rows.

    Examples
    --------
    >>> import torch
    >>> from skastro import ranks
    >>> ranks.drawn(torch.arange, 3)
    tensor([0, 1, 2])
    """
    if not _sizes:
        return draw(n)
    begin = sum(_sizes[: rank()])
    return cut(draw(sum(_sizes)), slice(begin, begin + n))


def dealt(tasks: Sequence[Any]) -> Sequence[Any]:
    """Deal tasks to the ranks that share a step, one by one.

    Parameters
    ----------
    tasks : sequence
        The same on each.

    Returns
    -------
    sequence
        This rank's.
    """
    return tasks[rank() :: world_size()] if _sizes else tasks


def weight(n: int) -> float:
    """Return the factor that makes the mean over this rank's rows its share of the mean over all.

    The loss of a shared step is the mean of what the ranks return, and so are gradients. A loss of gathered rows is the
    same on all ranks, so it needs no factor.

    Parameters
    ----------
    n : int
        This rank's rows.

    Returns
    -------
    float
    """
    return n * len(_sizes) / sum(_sizes) if _sizes else 1.0


def total(value: Tensor) -> Tensor:
    """Sum over the ranks, without gradient.

    Parameters
    ----------
    value : Tensor
        The same shape on each.

    Returns
    -------
    Tensor
        The value as it is where no step is being shared.
    """
    return _sum(value.detach()) if _sizes else value.detach()


def mean(value: Tensor) -> Tensor:
    """Take the mean over the ranks, without gradient.

    Parameters
    ----------
    value : Tensor
        The same shape on each.

    Returns
    -------
    Tensor
    """
    return total(value) / max(1, len(_sizes))


def mean_row(rows: Tensor) -> Tensor:
    """Take the mean over the rows of all ranks, however many each has, without gradient.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        This rank's.

    Returns
    -------
    Tensor of shape (d,)
    """
    if not _sizes:
        return rows.mean(dim=0)
    return total(rows.float().sum(dim=0)) / total(torch.tensor(float(len(rows)), device=rows.device))


def logsumexp(rows: Tensor) -> Tensor:
    """Compute the logarithm of the sum over the rows of all ranks of exponentials, without gradient.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        This rank's.

    Returns
    -------
    Tensor of shape (1, d)

    Examples
    --------
    >>> import torch
    >>> from skastro import ranks
    >>> ranks.logsumexp(torch.tensor([[0.0], [0.0]]))
    tensor([[0.6931]])
    """
    own = rows.logsumexp(dim=0, keepdim=True)
    if not _sizes:
        return own
    everyone = own.new_zeros(len(_sizes), own.shape[1])
    everyone[rank()] = own
    return total(everyone).logsumexp(dim=0, keepdim=True)


def _sum(value: Tensor) -> Tensor:
    """Sum a tensor over all ranks."""
    result = value.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(result)
    return result


class _Sum(torch.autograd.Function):
    """The sum over all ranks; since each of them goes on with it, so does the gradient sum over all."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _sum(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient)


class BatchNormOverRanks(TorchFunctionMode):
    """Let every batch norm inside a block, of whatever library, see the rows of all ranks while a step is shared."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return (_batch_norm if func is functional.batch_norm and _sizes else func)(*args, **kwargs)


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Stand in for torch's function of the same name."""
    if not training:
        return functional.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    if x.device.type == "cuda":
        return _sync_batch_norm(x, running_mean, running_var, weight, bias, momentum, eps)
    axes, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
    count = x.new_tensor([x.numel() / x.shape[1]], dtype=torch.float32)
    sums = _Sum.apply(torch.cat([x.float().sum(axes), count]))
    average, count = sums[:-1] / sums[-1], sums[-1].detach()
    centered = x.float() - average.view(shape)
    variance = _Sum.apply((centered**2).sum(axes)) / count
    with torch.no_grad():
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(average.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
    scale = torch.rsqrt(variance + eps) * (1.0 if weight is None else weight)
    return (centered * scale.view(shape) + (0.0 if bias is None else bias.view(shape))).to(x.dtype)


def _sync_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Compute by torch's layer for several GPUs, as a function."""
    tracked, affine = running_mean is not None, weight is not None
    layer = nn.SyncBatchNorm(x.shape[1], eps, momentum, affine, tracked, device=x.device)
    known = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    return functional_call(layer, {name: value for name, value in known.items() if value is not None}, (x,))
