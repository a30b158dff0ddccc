"""Block-wise masks over the patches of images."""

import math

import torch
from torch import Tensor

__all__ = ["block_masks"]

BLOCKS = 8  # rectangles drawn for each image; only as many are used as needed
SMALLEST = 4  # patches in a block, unless fewer are to be hidden
WIDEST = 1 / 0.3  # largest ratio of a block's sides


def block_masks(
    n: int,
    grid: tuple[int, int],
    generator: torch.Generator,
    *,
    share: float = 0.5,
    ratio: tuple[float, float] = (0.1, 0.5),
) -> Tensor:
    """Draw masks that hide, in a share of the images, a fraction of the patches in rectangular blocks.

    All images are drawn at once. Each gets rectangles of random area, shape and place. Patches are taken from the first
    rectangle, then from the next, until there are enough. Blocks lie within the image, so the middle is hidden more
    often than the corners.

    Parameters
    ----------
    n : int
        Number of images.
    grid : tuple of int
        Number of patches down and across an image.
    generator : torch.Generator
        Source of randomness; the masks are drawn on its device.
    share : float, default=0.5
        Fraction of the images that are masked, drawn without replacement; at least one is.
    ratio : tuple of float, default=(0.1, 0.5)
        Limits of the fraction of hidden patches, drawn uniformly for each masked image; at least one patch is hidden.

    Returns
    -------
    Tensor of bool of shape (n, patches)

    References
    ----------
    Bao et al. (2022), "BEiT", `arXiv:2106.08254 <https://arxiv.org/abs/2106.08254>`_, algorithm 1, for the blocks;
    Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, section 5.1, for the fractions.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment import block_masks
    >>> masks = block_masks(8, (12, 12), torch.Generator().manual_seed(0))
    >>> masks.shape, masks.any(dim=1).sum().item()
    (torch.Size([8, 144]), 4)
    """
    rows, columns = grid

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float32, device=generator.device)

    masked = uniform(0, 1, n).argsort() < max(1, round(n * share))
    count = (uniform(*ratio, n) * rows * columns).round().clamp(min=1)[:, None]
    area = SMALLEST + uniform(0, 1, n, BLOCKS) * (count - SMALLEST).clamp(min=0)
    stretch = uniform(-math.log(WIDEST), math.log(WIDEST), n, BLOCKS).exp()
    down = _inside(rows, (area * stretch).sqrt(), uniform(0, 1, n, BLOCKS))
    across = _inside(columns, (area / stretch).sqrt(), uniform(0, 1, n, BLOCKS))
    inside = down[..., :, None] & across[..., None, :]
    number = torch.arange(BLOCKS, device=inside.device)[:, None, None]
    first = torch.where(inside, number, BLOCKS).amin(dim=1).flatten(1)
    rank = (first + uniform(0, 1, *first.shape)).argsort(dim=1).argsort(dim=1)
    return (rank < count) & masked[:, None]


def _inside(length: int, side: Tensor, place: Tensor) -> Tensor:
    """Return the patches along one axis that lie within each block, as (n, blocks, length)."""
    side = side.round().clamp(1, length)
    start = (place * (length - side + 1)).floor()
    axis = torch.arange(length, device=side.device)
    return (axis >= start[..., None]) & (axis < (start + side)[..., None])
