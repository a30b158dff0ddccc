"""Runs a fitted network over rows, batch by batch, without gradients."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import gen_batches
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from skastro.pixels import report
from skastro.training.batches import as_batch, read_ahead, reading_order, source_of
from skastro.training.process import bfloat16, own_state

__all__ = ["Inference"]

MEASURED = 4096  # rows on which batch norms are measured


@dataclass(frozen=True)
class Inference:
    """Where, how many rows at a time, and in which precision a fitted network runs.

    Parameters
    ----------
    device : torch.device
        Device to run on; networks that lie on the CPU are copied there.
    batch_size : int
        Rows per batch.
    bf16 : bool
        Run under bfloat16 autocast.
    threads : int, default=None
        Threads on the CPU; None is torch's number.
    workers : int, default=1
        Threads that read sources on disk ahead.
    """

    device: torch.device
    batch_size: int
    bf16: bool
    threads: int | None = None
    workers: int = 1

    def move(self, network: nn.Module) -> Any:
        """Put a network that lies on the CPU where it runs.

        Parameters
        ----------
        network : nn.Module
            Network on the CPU, in eval mode.

        Returns
        -------
        nn.Module
            The network itself, or a copy on another device.
        """
        network = network if self.device.type == "cpu" else copy.deepcopy(network)
        return network.to(self.device).to(memory_format=torch.channels_last)

    def __call__(
        self,
        network: nn.Module,
        views: Sequence[nn.Module],
        arrays: Mapping[str, np.ndarray],
        *,
        rows: np.ndarray | None = None,
        check: Callable[[dict[str, np.ndarray], np.ndarray], None] | None = None,
    ) -> Iterator[tuple[np.ndarray, list[Any]]]:
        """Run a network over the views of rows.

        Parameters
        ----------
        network : nn.Module
            Network from a view to outputs, on the CPU and in eval mode.
        views : sequence of nn.Module
            From a batch of `arrays` by name to what the network takes.
        arrays : mapping of str to ndarray
            Arrays of equal length.
        rows : ndarray of int, default=None
            Rows to look at; None is all.
        check : callable, default=None
            Receives each batch as arrays, and the numbers of its rows; refuses what cannot be embedded.

        Yields
        ------
        rows : ndarray of int
            Rows of a batch.
        outputs : list
            What the network gives for each view.
        """
        network, views = self.move(network), [self.move(view) for view in views]
        rows = np.arange(len(next(iter(arrays.values())))) if rows is None else rows
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        for chosen, few in self._read(arrays, batches):
            if check is not None:
                check(few, chosen)
            with own_state(self.threads), torch.inference_mode(), bfloat16(self.device, self.bf16):
                batch = as_batch(few, slice(None), self.device)
                outputs = [network(*view(**batch)) for view in views]
            yield chosen, outputs
        report(arrays)

    def _read(
        self, arrays: Mapping[str, np.ndarray], batches: list[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Read batches of rows, sources on disk ahead of their use."""
        if source_of(arrays) is None:
            return ((chosen, _some(arrays, chosen)) for chosen in batches)
        return zip(batches, read_ahead(_some, arrays, batches, self.workers), strict=True)

    def measure_norms(self, network: nn.Module, view: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
        """Measure the statistics of all batch norms anew, in place, on a sample of the rows.

        Parameters
        ----------
        network : nn.Module
            Network from a view to outputs, on the CPU; left there, in eval mode.
        view : nn.Module
            From a batch of `arrays` by name to what the network takes.
        arrays : mapping of str to ndarray
            Arrays of equal length.

        Raises
        ------
        ValueError
            If the network has no batch norm.
        """
        norms: list[Any] = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        if not norms:
            raise ValueError(f"{type(network).__name__} has no batch norm to measure.")
        n = len(next(iter(arrays.values())))
        rows = np.arange(0, n, -(-n // MEASURED))
        network.eval().to(self.device)
        view = self.move(view)
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
            norm.train()
        with own_state(self.threads), torch.no_grad():
            for batch in gen_batches(len(rows), max(2, self.batch_size), min_batch_size=2):
                network(*view(**as_batch(arrays, rows[batch], self.device)))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval().cpu()

    def mean(
        self,
        network: nn.Module,
        views: Sequence[nn.Module],
        arrays: Mapping[str, np.ndarray],
        *,
        rows: np.ndarray | None = None,
        check: Callable[[dict[str, np.ndarray], np.ndarray], None] | None = None,
    ) -> np.ndarray:
        """Average a network's outputs over the views of each row.

        Parameters
        ----------
        network : nn.Module
            Network from a view to a tensor of one entry per row.
        views : sequence of nn.Module
            Views of which the outputs are averaged.
        arrays : mapping of str to ndarray
            Arrays of equal length.
        rows : ndarray of int, default=None
            Rows to look at; None is all.
        check : callable, default=None
            Receives each batch as arrays, and the numbers of its rows.

        Returns
        -------
        ndarray of shape (n, ...), float32
        """
        rows = np.arange(len(next(iter(arrays.values())))) if rows is None else rows
        order = reading_order(arrays, rows)
        means, done = np.empty(0), 0
        for chosen, outputs in self(network, views, arrays, rows=rows[order], check=check):
            outputs = [output.float() for output in outputs]
            mean = (sum(outputs) / len(outputs)).cpu().numpy()
            if not done:
                means = np.empty((len(rows), *mean.shape[1:]), mean.dtype)
            means[order[done : done + len(chosen)]] = mean
            done += len(chosen)
        return means


def _some(arrays: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Read rows, as a slice where they follow one another."""
    rows = slice(chosen[0], chosen[-1] + 1) if (np.diff(chosen) == 1).all() else chosen
    return {name: array[rows] for name, array in arrays.items()}
