"""Rows of arrays, shuffled into batches."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from skastro.images import as_pixels

__all__ = ["ArrayDataset", "BatchSampler"]


class ArrayDataset(Dataset):
    """Arrays of equal length, indexed by a whole batch at once.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        What the learner's forward takes, by name; 8 bits stay 8 bits, all else becomes float32.
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
        return {name: torch.from_numpy(as_pixels(array[rows.numpy()])) for name, array in self.arrays.items()}, 0


class BatchSampler(Sampler):
    """Shuffled rows in batches of nearly equal size, never a batch of one.

    Parameters
    ----------
    rows : int or Tensor of int
        Number of rows, or those to take.
    batch_size : int
        Largest batch; one row more where it is 2 and the number of rows is odd.
    generator : torch.Generator
        Order of the rows.
    """

    def __init__(self, rows: int | Tensor, batch_size: int, generator: torch.Generator) -> None:
        self.rows = torch.arange(rows) if isinstance(rows, int) else rows
        self.count = max(1, min(-(-len(self.rows) // batch_size), len(self.rows) // 2))
        self.generator = generator

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self.rows), generator=self.generator)
        return iter(self.rows[order].tensor_split(self.count))
