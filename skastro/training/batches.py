"""Arrays of equal length, read and shuffled batch by batch."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from skastro.images import as_pixels

__all__ = ["ArrayDataset", "BatchSampler", "as_batch"]


def as_batch(arrays: Mapping[str, np.ndarray], rows: slice | np.ndarray, device: torch.device) -> dict[str, Tensor]:
    """Read some rows of arrays as tensors: 8 bits stay 8 bits, everything else becomes float32.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays of equal length, by name.
    rows : slice or ndarray of int
        Rows to read.
    device : torch.device
        Device of the tensors.

    Returns
    -------
    dict of str to Tensor

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skastro.training import as_batch
    >>> as_batch({"votes": np.arange(6).reshape(3, 2)}, np.array([2]), torch.device("cpu"))
    {'votes': tensor([[4., 5.]])}
    """
    return {name: torch.from_numpy(as_pixels(array[rows])).to(device) for name, array in arrays.items()}


class ArrayDataset(Dataset):
    """Arrays of equal length, indexed by a whole batch at once.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays that training takes, by name; 8 bits stay 8 bits, everything else becomes float32.
    device : torch.device
        Device of the training: the arrays move to a GPU once if they fit into half of its free memory, by way of a
        copy in host memory.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        self.arrays = arrays
        self.resident = None
        if device.type == "cuda":
            size = sum(a.size * (1 if a.dtype == np.uint8 else 4) for a in arrays.values())
            if size < torch.cuda.mem_get_info(device)[0] / 2:
                self.resident = as_batch(arrays, slice(None), device)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, rows: Tensor) -> tuple[dict[str, Tensor], int]:
        if self.resident is not None:
            return {name: tensor[rows.to(tensor.device)] for name, tensor in self.resident.items()}, 0
        return as_batch(self.arrays, rows.numpy(), torch.device("cpu")), 0


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
