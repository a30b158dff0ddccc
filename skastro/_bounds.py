"""Networks that are built within bounds: before a tensor is made, its size is compared with what a file holds."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["Bounds"]

# Building takes more than is kept: mostly twice the elements and 15 operations for each array of a timm network, more
# where tables that are not saved grow with the image, as in Swin's windows.
ELEMENTS, SPARE_ELEMENTS = 16, 1 << 24
STEPS, SPARE_STEPS = 64, 1 << 12


class Bounds(TorchDispatchMode):
    """While a network is built, refuse tensors and layers that the arrays of its file cannot account for.

    The size of every tensor is found on torch's meta device before it is made, and each operation is counted.

    Parameters
    ----------
    arrays : iterable of ndarray
        The weights that the file holds.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skastro._bounds import Bounds
    >>> with Bounds([np.ones((3, 2))]):
    ...     nn.Linear(2, 1_000_000_000)
    Traceback (most recent call last):
    ...
    ValueError: a network is larger than its weights in the file
    """

    def __init__(self, arrays: Iterable[np.ndarray]) -> None:
        super().__init__()
        sizes = [array.size for array in arrays]
        self.elements = SPARE_ELEMENTS + ELEMENTS * sum(sizes)
        self.steps = SPARE_STEPS + STEPS * len(sizes)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.steps -= 1
        self.elements -= _made(func, args, kwargs)
        if self.elements < 0 or self.steps < 0:
            raise ValueError("a network is larger than its weights in the file")
        return func(*args, **kwargs)


def _made(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Count the elements that an operation of torch will make, without making them."""
    schema = func._schema
    if any(result.alias_info or str(result.type) != "Tensor" for result in schema.returns):
        return 0  # a view, a change in place, or a number
    given = {} if all(argument.name != "device" for argument in schema.arguments) else {"device": "meta"}
    sketched = tree_map_only(Tensor, lambda tensor: torch.empty_like(tensor, device="meta"), (args, kwargs))
    try:
        outputs = func(*sketched[0], **{**sketched[1], **given})
    except NotImplementedError:  # it depends on the values, of which it chooses some
        outputs = sketched
    return sum(leaf.numel() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor))
