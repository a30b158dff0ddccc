"""Views of a batch of images: random ones for training, and the symmetries of the sky to average over."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from skastro.augment.base import Augment
from skastro.augment.geometry import Rotate, resample
from skastro.images import center_crop

__all__ = ["OneView", "Views", "draw_view", "orientations"]


class Views(nn.Module):
    """Draw normalized random views of a batch.

    Parameters
    ----------
    views : sequence of (Augment, tuple of int)
        A fitted recipe for each view, and the view's height and width.
    normalizer : nn.Module
        Module applied after the augmentation, which works on flux.
    generator : torch.Generator
        Source of randomness, on the device of the images.

    Attributes
    ----------
    inputs : tuple of str
        ``"images"``, and the names of the arrays that the recipes take beside them, one row per image.
    """

    def __init__(
        self,
        views: Sequence[tuple[Augment, tuple[int, int]]],
        normalizer: nn.Module,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.views = views
        self.normalizer = normalizer
        self.generator = generator
        self.inputs = ("images", *sorted(set().union(*(recipe.metadata for recipe, _ in views))))

    def forward(self, images: Tensor, **metadata: Tensor) -> list[Tensor]:
        """Draw the views of a batch.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Raw images.
        **metadata : Tensor
            Arrays that the recipes take beside the images.

        Returns
        -------
        list of Tensor
        """
        views = (recipe(images, size, self.generator, **metadata) for recipe, size in self.views)
        return [self.normalizer(view).contiguous(memory_format=torch.channels_last) for view in views]


class OneView(nn.Module):
    """Return the images in one fixed orientation, without random draws.

    Parameters
    ----------
    orientation : callable
        Function from raw images to their central windows, in some orientation.
    normalizer : nn.Module
        Module applied after that.
    """

    inputs = ("images",)

    def __init__(self, orientation: Callable[[Tensor], Tensor], normalizer: nn.Module) -> None:
        super().__init__()
        self.orientation = orientation
        self.normalizer = normalizer

    def forward(self, images: Tensor, **_: Tensor) -> list[Tensor]:
        """Return the view of a batch.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Raw images.
        **_ : Tensor
            Other arrays of the batch, which are ignored.

        Returns
        -------
        list of Tensor
            One view.
        """
        return [self.normalizer(self.orientation(images)).contiguous(memory_format=torch.channels_last)]


def draw_view(recipe: Augment, images: np.ndarray, size: tuple[int, int], generator: torch.Generator) -> np.ndarray:
    """Draw a view of each image as an array, of 8 bits where the images are.

    Parameters
    ----------
    recipe : Augment
        Fitted.
    images : ndarray of shape (n, bands, height, width), uint8 or float32
        Raw images.
    size : tuple of int
        Height and width of the views.
    generator : torch.Generator
        Source of randomness, on the CPU.

    Returns
    -------
    ndarray of shape (n, bands, *size), of the dtype of the images

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skastro.augment import Augment, Flip
    >>> from skastro.augment.views import draw_view
    >>> images = np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2)
    >>> recipe = Augment([("flip", Flip(p=0))]).fit(images)
    >>> bool((draw_view(recipe, images, (2, 2), torch.Generator()) == images).all())
    True
    """
    views = recipe(torch.from_numpy(images), size, generator).numpy()
    return np.clip(views.round(), 0, 255).astype(np.uint8) if images.dtype == np.uint8 else views


def orientations(
    size: tuple[int, int], average: str | int | None, edge: str = "reflection"
) -> list[Callable[[Tensor], Tensor]]:
    """List the functions that return the central window in each orientation to average over.

    Parameters
    ----------
    size : tuple of int
        Height and width of the window.
    average : {"dihedral"}, int or None
        The eight flips and quarter turns (for a window that is not square, the four that keep its shape), that many
        rotations, or the window as it is.
    edge : {"reflection", "border", "zeros"}, default="reflection"
        How to fill pixels outside the cutout, for rotations other than quarter turns.

    Returns
    -------
    list of callable

    Examples
    --------
    >>> from skastro.augment.views import orientations
    >>> len(orientations((6, 6), "dihedral"))
    8
    """
    if average is None:
        return [partial(center_crop, shape=size)]
    if isinstance(average, str):
        turns = (0, 1, 2, 3) if size[0] == size[1] else (0, 2)
        return [partial(turned, size=size, turns=turn, flip=flip) for flip in (False, True) for turn in turns]
    return [partial(rotated, size=size, turn=turn / average, edge=edge) for turn in range(average)]


def turned(images: Tensor, size: tuple[int, int], turns: int, flip: bool) -> Tensor:
    """Turn the central window of images by quarter turns, and flip it.

    Parameters
    ----------
    images : Tensor of shape (n, bands, height, width)
        Raw images.
    size : tuple of int
        Height and width of the window.
    turns : int
        Quarter turns.
    flip : bool
        If True, flip left and right after that.

    Returns
    -------
    Tensor of shape (n, bands, size[0], size[1]), or with its sides exchanged
    """
    view = torch.rot90(center_crop(images, size), turns, (2, 3))
    return view.flip(3) if flip else view


def rotated(images: Tensor, size: tuple[int, int], turn: float, edge: str) -> Tensor:
    """Rotate images about the center of their window, exactly for quarter turns.

    Parameters
    ----------
    images : Tensor of shape (n, bands, height, width)
        Raw images.
    size : tuple of int
        Height and width of the window.
    turn : float
        Fraction of a full turn.
    edge : {"reflection", "border", "zeros"}
        How to fill the corners.

    Returns
    -------
    Tensor of shape (n, bands, size[0], size[1])
    """
    square = size[0] == size[1]
    if (4 * turn).is_integer() and (square or (2 * turn).is_integer()):
        return turned(images, size, int(4 * turn), flip=False)
    degrees = torch.full((len(images),), 360 * turn, device=images.device)
    return resample(images.float(), Rotate().matrix(degrees)[None], size, edge=edge)
