"""Arrays of equal length, read and shuffled batch by batch; sources on disk by blocks, ahead of their use."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from skastro import ranks
from skastro.images import as_pixels
from skastro.sources import Source

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "HeldBlocks",
    "ReadAhead",
    "Window",
    "as_batch",
    "held",
    "load_batches",
    "moved",
    "read_ahead",
    "reading_order",
    "source_of",
]

WINDOW_BYTES = 150_000_000  # rows of a source that are shuffled among each other, unless the user says how many
AHEAD = 3  # batches that wait for the network
PIECE_BYTES = 1 << 26  # moved to the device in one go


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


def source_of(arrays: Mapping[str, Any]) -> Source | None:
    """Find the source on disk that arrays are read from: that of the largest rows, if there are several.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays by name, or what stands for them.

    Returns
    -------
    Source or None
    """
    found = [source for array in arrays.values() if isinstance(source := _inner(array), Source)]
    return max(found, key=lambda source: source.nbytes, default=None)


def _inner(array: Any) -> Any:
    """Return what is read by what only wraps it."""
    return getattr(array, "images", array)


class HeldBlocks:
    """Rows of a source, of which each block is read once and kept while batches need it.

    Parameters
    ----------
    source : Source
        Rows on disk.
    batches : sequence of ndarray of int
        Rows that will be asked for, batch by batch.
    """

    def __init__(self, source: Source, batches: Sequence[np.ndarray]) -> None:
        self.source = source
        self.shape, self.dtype = source.shape, source.dtype
        rows, blocks = source.blocks(np.concatenate(batches))
        numbers, which = np.unique(blocks, return_inverse=True)
        order = np.argsort(which, kind="stable")
        # Arrays, where a dict of small ones would take some hundred bytes for each block, which may be a row.
        self._numbers, self._rows = numbers, rows[order]
        self._bounds = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=len(numbers)))])
        last = np.empty(len(numbers), dtype=np.int64)
        last[which] = np.repeat(np.arange(len(batches)), [len(batch) for batch in batches])
        self._leaving = numbers[np.argsort(last, kind="stable")]
        self._left = np.searchsorted(np.sort(last), np.arange(len(batches) + 1))
        self._blocks: dict[int, Future] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, numbers: slice | np.ndarray) -> np.ndarray:
        numbers = np.arange(*numbers.indices(len(self))) if isinstance(numbers, slice) else numbers
        rows, blocks = self.source.blocks(numbers)
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        order = np.argsort(blocks, kind="stable")
        bounds = np.flatnonzero(np.diff(blocks[order])) + 1
        for some in np.split(order, bounds):
            there, block = self._block(int(blocks[some[0]]))
            values[some] = block[np.searchsorted(there, rows[some])]
        return values

    def release(self, batch: int) -> None:
        """Forget the blocks that no later batch needs.

        Parameters
        ----------
        batch : int
            Number of a batch; all before it have been read.
        """
        for number in self._leaving[self._left[batch] : self._left[batch + 1]].tolist():
            self._blocks.pop(number, None)

    def _block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            mine = number not in self._blocks
            future = self._blocks.setdefault(number, Future())
        if mine:
            try:
                place = int(np.searchsorted(self._numbers, number))
                rows = np.unique(self._rows[self._bounds[place] : self._bounds[place + 1]])
                future.set_result((rows, self.source.read_sorted(rows)))
            except BaseException as error:
                future.set_exception(error)
        return future.result()


def held(arrays: Mapping[str, Any], batches: Sequence[np.ndarray]) -> tuple[dict[str, Any], list[HeldBlocks]]:
    """Let the sources among arrays keep their blocks while batches need them.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays by name, or what stands for them.
    batches : sequence of ndarray of int
        Rows that will be asked for, batch by batch.

    Returns
    -------
    arrays : dict of str to ndarray
    blocks : list of HeldBlocks
        Those that they read from.
    """
    kept, blocks = dict(arrays), []
    for name, array in arrays.items():
        source = _inner(array)
        if isinstance(source, Source) and not source.reader.direct:
            blocks.append(HeldBlocks(source, batches))
            kept[name] = blocks[-1] if array is source else array.over(blocks[-1])
    return kept, blocks


def reading_order(arrays: Mapping[str, Any], rows: np.ndarray) -> np.ndarray:
    """Choose in which order rows are read: as they lie on disk where keeping blocks until then would fill the memory.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays by name, or what stands for them.
    rows : ndarray of int
        Rows that will be asked for.

    Returns
    -------
    ndarray of int
        Places in `rows`.
    """
    source = source_of(arrays)
    if source is None or source.nbytes <= WINDOW_BYTES:
        return np.arange(len(rows))
    return np.argsort(source.blocks(rows)[0], kind="stable")


def read_ahead(
    read: Callable[[dict[str, Any], np.ndarray], Any],
    arrays: Mapping[str, Any],
    batches: Sequence[np.ndarray],
    workers: int,
) -> Iterator[Any]:
    """Read batches in their order, each block of a source once, by threads that are a few batches ahead.

    Parameters
    ----------
    read : callable
        From arrays by name and a batch of rows to what is read.
    arrays : mapping of str to ndarray
        Arrays by name, or what stands for them.
    batches : sequence of ndarray of int
        Batches of rows.
    workers : int
        Number of threads; 0 reads when asked.

    Yields
    ------
    any
        What `read` gave.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.training.batches import read_ahead
    >>> squares, batches = {"squares": np.arange(5) ** 2}, [np.array([3, 1]), np.array([4])]
    >>> list(read_ahead(lambda arrays, rows: arrays["squares"][rows].tolist(), squares, batches, workers=1))
    [[9, 1], [16]]
    """
    if not batches:  # of an epoch that a checkpoint has the last step of
        return
    kept, blocks = held(arrays, batches)
    for number, came in enumerate(_in_order(partial(read, kept), batches, workers)):
        for some in blocks:
            some.release(number)
        yield came


def _in_order(read: Callable[[Any], Any], batches: Iterable[Any], workers: int) -> Iterator[Any]:
    if workers == 0:
        yield from map(read, batches)
        return
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="skastro-reader") as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(read, batch))
                if len(waiting) > max(AHEAD, workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class ArrayDataset(Dataset):
    """Arrays of equal length, indexed by a whole batch at once.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays that training takes, by name; 8 bits stay 8 bits, everything else becomes float32.
    device : torch.device
        Device of the training: the arrays move to a GPU once if they fit into half of its free memory, by way of a
        copy in host memory; a source on disk moves in pieces.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        self.arrays = arrays
        self.resident = None
        if device.type == "cuda":
            size = sum(a.size * (1 if a.dtype == np.uint8 else 4) for a in arrays.values())
            if size < torch.cuda.mem_get_info(device)[0] / 2:
                self.resident = {name: moved(array, device) for name, array in arrays.items()}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, rows: Tensor) -> tuple[dict[str, Tensor], int]:
        if self.resident is not None:
            return {name: tensor[rows.to(tensor.device)] for name, tensor in self.resident.items()}, 0
        return as_batch(self.arrays, rows.numpy(), torch.device("cpu")), 0

    @property
    def source(self) -> Source | None:
        """The source on disk that batches are read from, if any."""
        return None if self.resident is not None else source_of(self.arrays)

    def window(self, length: int | str) -> "Window | None":
        """Choose how far rows are shuffled.

        Parameters
        ----------
        length : int or "auto"
            Rows of a window.

        Returns
        -------
        Window or None
            None is a full shuffle.
        """
        if self.source is None:
            return None
        row = max(1, self.source.nbytes // len(self))
        window = Window(self.source, max(1, WINDOW_BYTES // row) if isinstance(length, str) else length)
        return window if window.length < len(self) else None


def moved(array: Any, device: torch.device) -> Tensor:
    """Move an array to a device, a source on disk in pieces.

    Parameters
    ----------
    array : ndarray
        Array, or what stands for it.
    device : torch.device
        Where to.

    Returns
    -------
    Tensor
    """
    if not isinstance(_inner(array), Source):
        return as_batch({"": array}, slice(None), device)[""]
    first = as_batch({"": array}, slice(0, 1), device)[""]
    tensor = torch.empty((len(array), *first.shape[1:]), dtype=first.dtype, device=device)
    length = max(1, PIECE_BYTES // first.nbytes)
    for start in range(0, len(array), length):
        rows = slice(start, min(start + length, len(array)))
        tensor[rows] = as_batch({"": array}, rows, device)[""]
    return tensor


class Window:
    """An order of rows on disk that is nearly random, and reads each block of rows once.

    Blocks come in random order, one after the other; then each row moves back by up to the length of the window.

    Parameters
    ----------
    source : Source
        Where the rows lie.
    length : int
        Length of the window in rows.
    """

    def __init__(self, source: Source, length: int) -> None:
        self.source = source
        self.length = length

    def order(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Draw an order.

        Parameters
        ----------
        rows : Tensor of int
            Rows of the source.
        generator : torch.Generator
            Source of randomness.

        Returns
        -------
        Tensor of int
            Places in `rows`.
        """
        blocks = torch.from_numpy(self.source.blocks(rows.numpy())[1])
        numbers, which = torch.unique(blocks, return_inverse=True)
        stream = torch.argsort(torch.randperm(len(numbers), generator=generator)[which], stable=True)
        back = self.length * torch.rand(len(rows), generator=generator, dtype=torch.float64)
        return stream[torch.argsort(torch.arange(len(rows)) + back)]


class BatchSampler(Sampler):
    """Shuffled rows in batches of nearly equal size, never a batch of one; of each batch the part of this rank.

    Parameters
    ----------
    rows : int or Tensor of int
        Number of rows, or those to take.
    batch_size : int
        Largest batch; one row more where it is 2 and the number of rows is odd.
    generator : torch.Generator
        Order of the rows.
    window : Window, default=None
        How far rows on disk are shuffled; None is a full shuffle.
    """

    def __init__(
        self, rows: int | Tensor, batch_size: int, generator: torch.Generator, window: Window | None = None
    ) -> None:
        self.rows = torch.arange(rows) if isinstance(rows, int) else rows
        self.count = max(1, min(-(-len(self.rows) // batch_size), len(self.rows) // 2))
        self.generator = generator
        self.window = window

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        if self.window is None:
            order = torch.randperm(len(self.rows), generator=self.generator)
        else:
            order = self.window.order(self.rows, self.generator)
        return map(ranks.part, self.rows[order].tensor_split(self.count))


class ReadAhead:
    """Batches of a data set on disk, read by threads that are a few batches ahead; for skorch.

    Parameters
    ----------
    dataset : ArrayDataset
        All rows.
    sampler : BatchSampler
        Rows of each batch.
    generator : torch.Generator
        Order of the rows.
    pin_memory : bool
        Read into memory that a GPU copies fast.
    workers : int
        Number of threads.
    """

    def __init__(
        self, dataset: ArrayDataset, sampler: BatchSampler, generator: torch.Generator, pin_memory: bool, workers: int
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self.generator = generator
        self.pin_memory = pin_memory
        self.workers = workers

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], int]]:
        drawn = iter(self.sampler)
        # DataLoader draws a seed for each epoch, between the order and the first batch. Drawn here too, what follows is
        # the same from memory and from disk, and from a checkpoint, whose sampler sets generators at its first batch.
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        return read_ahead(self._read, self.dataset.arrays, [rows.numpy() for rows in drawn], self.workers)

    def _read(self, arrays: Mapping[str, Any], rows: np.ndarray) -> tuple[dict[str, Tensor], int]:
        batch = as_batch(arrays, rows, torch.device("cpu"))
        return {name: array.pin_memory() for name, array in batch.items()} if self.pin_memory else batch, 0


def load_batches(
    dataset: ArrayDataset,
    *,
    sampler: BatchSampler,
    generator: torch.Generator,
    pin_memory: bool,
    batch_size: None,
    workers: int,
) -> Any:
    """Make what skorch takes batches from.

    Parameters
    ----------
    dataset : ArrayDataset
        All rows.
    sampler : BatchSampler
        Rows of each batch.
    generator : torch.Generator
        Order of the rows.
    pin_memory : bool
        Read into memory that a GPU copies fast.
    batch_size : None
        The sampler gives batches.
    workers : int
        Threads that read a source on disk.

    Returns
    -------
    DataLoader or ReadAhead
    """
    if dataset.source is not None:
        return ReadAhead(dataset, sampler, generator, pin_memory, workers)
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler, generator=generator, pin_memory=pin_memory)
