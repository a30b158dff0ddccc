"""Views of a batch: random ones to learn from, and the symmetries of the sky to average over."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skastro.augment.base import Augment
from skastro.augment.geometry import Rotate, resample
from skastro.images import center_crop

__all__ = ["Views", "symmetries"]


class Views:
    """Draws normalized views of a batch.

    Parameters
    ----------
    views : sequence of (Augment, tuple of int)
        A fitted recipe for each view, and its height and width.
    normalizer : nn.Module
        Applied after the augmentation, which works in flux.
    generator : torch.Generator
        Source of randomness, on the device of the images.

    Attributes
    ----------
    metadata : set of str
        What the recipes take beside the images, row by row.
    """

    def __init__(
        self,
        views: Sequence[tuple[Augment, tuple[int, int]]],
        normalizer: nn.Module,
        generator: torch.Generator,
    ) -> None:
        self.views = views
        self.normalizer = normalizer
        self.generator = generator
        self.metadata = set().union(*(recipe.metadata for recipe, _ in views))

    def __call__(self, images: Tensor, **metadata: Tensor) -> list[Tensor]:
        """Draw the views of a batch."""
        views = (recipe(images, size, self.generator, **metadata) for recipe, size in self.views)
        return [self.normalizer(view).contiguous(memory_format=torch.channels_last) for view in views]


def symmetries(
    images: Tensor, size: tuple[int, int], *, average: str | int | None, edge: str = "reflection"
) -> list[Tensor]:
    """Show the central window in every orientation that the sky might have given it.

    Parameters
    ----------
    images : Tensor of shape (n, bands, height, width)
        Raw images.
    size : tuple of int
        Height and width of the window.
    average : {"dihedral"}, int or None
        The eight flips and quarter turns (the four that keep its shape, for a window that is not square), that
        many rotations, or the window as it is.
    edge : {"reflection", "border", "zeros"}, default="reflection"
        What a rotation that is no quarter turn brings in from outside the cutout.

    Returns
    -------
    list of Tensor of shape (n, bands, size[0], size[1])
        Flips and quarter turns are exact.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment.views import symmetries
    >>> len(symmetries(torch.rand(2, 1, 8, 8), (6, 6), average="dihedral"))
    8
    """
    window = center_crop(images, size)
    if average is None:
        return [window]
    if isinstance(average, str):
        turns = (0, 1, 2, 3) if size[0] == size[1] else (0, 2)
        turned = [torch.rot90(window, turn, (2, 3)) for turn in turns]
        return turned + [view.flip(3) for view in turned]
    return [rotated(images, window, turn / average, edge) for turn in range(average)]


def rotated(images: Tensor, window: Tensor, turn: float, edge: str) -> Tensor:
    """Rotate images about the center of their window: exactly, if by a quarter turn.

    Parameters
    ----------
    images : Tensor of shape (n, bands, height, width)
        Raw images.
    window : Tensor
        Their central window.
    turn : float
        Fraction of a full turn.
    edge : {"reflection", "border", "zeros"}
        What fills the corners.

    Returns
    -------
    Tensor
        Of the window's shape.
    """
    square = window.shape[2] == window.shape[3]
    if (4 * turn).is_integer() and (square or (2 * turn).is_integer()):
        return torch.rot90(window, int(4 * turn), (2, 3))
    degrees = torch.full((len(images),), 360 * turn, device=images.device)
    return resample(images.float(), Rotate().matrix(degrees)[None], (window.shape[2], window.shape[3]), edge=edge)
