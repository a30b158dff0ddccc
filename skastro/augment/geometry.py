"""Augmentations that move pixels: each step is a 3×3 matrix, and one resampling applies them all."""

import math
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from skastro.augment.step import PROBABILITY, Limits, Step, chosen, uniform
from skastro.images import center_crop

__all__ = ["Crop", "Dihedral", "Flip", "GeometricStep", "Rotate", "Shift", "Zoom", "resample"]


class GeometricStep(Step):
    """Base class of the steps that move pixels by an affine map.

    The matrix maps a position in the output image to the position in the input image, in pixels (x, y) from the center
    of the window. A row that was not chosen has the identity.
    """

    @abstractmethod
    def matrix(self, *args: Any, **drawn: Any) -> Tensor:
        """Turn drawn parameters into matrices.

        Parameters
        ----------
        *args, **drawn : Tensor
            Output of `draw`, by name.

        Returns
        -------
        Tensor of shape (n, 3, 3)
        """

    def reach(self, x: float, y: float) -> tuple[float, float]:
        """Return how far from the center pixels may come from, for a window of these half sides.

        Parameters
        ----------
        x, y : float
            Half width and half height of the output window, in pixels.

        Returns
        -------
        tuple of float
            Half width and half height of the input region; unchanged for steps that stay inside.
        """
        return x, y


def affine(xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Stack the entries of affine maps into matrices.

    Parameters
    ----------
    xx, xy, yx, yy : Tensor of shape (n,)
        The linear part, by rows.
    x, y : Tensor of shape (n,)
        The translation in pixels.

    Returns
    -------
    Tensor of shape (n, 3, 3)

    Examples
    --------
    >>> import torch
    >>> from skastro.augment.geometry import affine
    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> bool((affine(one, zero, zero, one, zero, zero) == torch.eye(3)).all())
    True
    """
    zero = torch.zeros_like(xx)
    return torch.stack([xx, xy, x, yx, yy, y, zero, zero, zero + 1], dim=-1).view(-1, 3, 3)


def resample(
    images: Tensor,
    matrices: Tensor,
    size: tuple[int, int],
    *,
    edge: str = "reflection",
    interpolation: str = "bilinear",
) -> Tensor:
    """Move pixels through a chain of affine maps and cut the central window, interpolating once.

    Parameters
    ----------
    images : Tensor of shape (n, bands, height, width)
        Images in flux.
    matrices : Tensor of shape (n_steps, n, 3, 3)
        One map per step and image, from output to input, in the order in which the steps act.
    size : tuple of int
        Height and width of the window.
    edge : {"reflection", "border", "zeros"}
        How to fill pixels outside the cutout.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Interpolation mode.

    Returns
    -------
    Tensor of shape (n, bands, size[0], size[1])
        Images with only identity maps are cropped exactly, without interpolation.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment.geometry import resample
    >>> images = torch.arange(16.0).view(1, 1, 4, 4)
    >>> resample(images, torch.eye(3).expand(1, 1, 3, 3), (2, 2)).flatten().tolist()
    [5.0, 6.0, 9.0, 10.0]
    """
    total = matrices[0]
    for matrix in matrices[1:]:
        total = total @ matrix
    cropped = center_crop(images, size)
    grid = affine_grid(
        normalized(total, (images.shape[2], images.shape[3]), size), [len(images), 1, *size], align_corners=False
    )
    moved = grid_sample(images, grid, interpolation, edge, align_corners=False)
    still = (total == torch.eye(3, device=total.device)).flatten(1).all(dim=1)
    if images.device.type == "cpu" and not still.any():  # the usual case; on a GPU, the check would force a wait
        return moved
    return torch.where(still[:, None, None, None], cropped, moved)


def normalized(matrices: Tensor, frame: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Convert affine maps in pixels to torch's maps between coordinates from -1 to 1.

    Parameters
    ----------
    matrices : Tensor of shape (n, 3, 3)
        Maps in pixels from the window's center.
    frame : tuple of int
        Height and width of the input images.
    size : tuple of int
        Height and width of the window.

    Returns
    -------
    Tensor of shape (n, 2, 3)
    """
    (height, width), (rows, columns) = frame, size
    window = matrices.new_tensor([columns / 2, rows / 2])
    # An odd margin leaves the central crop half a pixel off the center of the frame.
    center = matrices.new_tensor([-((width - columns) % 2) / 2, -((height - rows) % 2) / 2])
    scale = matrices.new_tensor([2 / width, 2 / height])
    linear = matrices[:, :2, :2] * window * scale[:, None]
    translation = (matrices[:, :2, 2] + center) * scale
    return torch.cat([linear, translation[:, :, None]], dim=2)


class Rotate(GeometricStep):
    """Rotation about the center by an angle drawn uniformly from ±`degrees`.

    Parameters
    ----------
    degrees : float, default=180
        Largest angle; 180 allows any orientation, since no direction on the sky is preferred.
    p : float, default=1.0
        Probability that an image is rotated.

    References
    ----------
    Slijepcevic et al. (2023), `arXiv:2305.16127 <https://arxiv.org/abs/2305.16127>`_, table 1; Hayat et al. (2021),
    `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, section 3.

    Examples
    --------
    >>> from skastro.augment import Rotate
    >>> Rotate(degrees=45).degrees
    45
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "degrees": [Interval(Real, 0, 180, closed="both")],
        "p": [PROBABILITY],
    }

    def __init__(self, degrees: float = 180.0, p: float = 1.0) -> None:
        self.degrees = degrees
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n = shape[0]
        degrees = uniform(n, -self.degrees, self.degrees, generator)
        return {"degrees": torch.where(chosen(n, self.p, generator), degrees, 0.0)}

    def matrix(self, degrees: Tensor) -> Tensor:  # noqa: D102
        sine, cosine = torch.sin(torch.deg2rad(degrees)), torch.cos(torch.deg2rad(degrees))
        zero = torch.zeros_like(sine)
        return affine(cosine, -sine, sine, cosine, zero, zero)

    def reach(self, x: float, y: float) -> tuple[float, float]:  # noqa: D102
        far, largest = math.hypot(x, y), math.radians(self.degrees)
        across, down = (max(0.0, corner - largest) for corner in (math.atan2(y, x), math.atan2(x, y)))
        return far * math.cos(across), far * math.cos(down)


class Flip(GeometricStep):
    """Mirror images: left-right and up-down, each with probability `p`.

    Parameters
    ----------
    p : float, default=0.5
        Probability of each of the two flips.

    Examples
    --------
    >>> from skastro.augment import Flip
    >>> Flip(p=1.0).p
    1.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"p": [PROBABILITY]}

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n = shape[0]
        return {"across": chosen(n, self.p, generator), "down": chosen(n, self.p, generator)}

    def matrix(self, across: Tensor, down: Tensor) -> Tensor:  # noqa: D102
        x, y = 1.0 - 2.0 * across, 1.0 - 2.0 * down
        zero = torch.zeros_like(x)
        return affine(x, zero, zero, y, zero, zero)


class Dihedral(GeometricStep):
    """One of the eight combinations of flips and quarter turns, all equally likely.

    For a frame that is not square, only the four that keep its shape.

    Parameters
    ----------
    p : float, default=1.0
        Probability that an image is turned.

    References
    ----------
    Dieleman, Willett & Dambre (2015), "Rotation-invariant convolutional neural networks for galaxy morphology
    prediction", `arXiv:1503.07077 <https://arxiv.org/abs/1503.07077>`_, where the network sees all of them.

    Examples
    --------
    >>> from skastro.augment import Dihedral
    >>> Dihedral().p
    1.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"p": [PROBABILITY]}

    def __init__(self, p: float = 1.0) -> None:
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n, _, height, width = shape
        turns = torch.randint(4, (n,), generator=generator, device=generator.device)
        turned = chosen(n, self.p, generator)
        return {
            "turns": torch.where(turned, turns if height == width else 2 * (turns // 2), 0),
            "flipped": turned & chosen(n, 0.5, generator),
        }

    def matrix(self, turns: Tensor, flipped: Tensor) -> Tensor:  # noqa: D102
        cosine, sine = (1.0 - turns) * (turns % 2 == 0), (2.0 - turns) * (turns % 2)  # of whole quarter turns: exact
        mirror, zero = 1.0 - 2.0 * flipped, torch.zeros_like(cosine)
        return affine(mirror * cosine, -sine, mirror * sine, cosine, zero, zero)


class Shift(GeometricStep):
    """Move the object off the center by up to `pixels` along each axis.

    Parameters
    ----------
    pixels : int, default=4
        Largest shift; whole pixels are drawn uniformly from -`pixels` to `pixels`, both included.
    p : float, default=1.0
        Probability that an image is shifted.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, section 3, "jitter": 7 pixels of 107.

    Examples
    --------
    >>> from skastro.augment import Shift
    >>> Shift(pixels=7).pixels
    7
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "pixels": [Interval(Integral, 0, None, closed="left")],
        "p": [PROBABILITY],
    }

    def __init__(self, pixels: int = 4, p: float = 1.0) -> None:
        self.pixels = pixels
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n = shape[0]
        pixels = torch.randint(
            -self.pixels, self.pixels + 1, (n, 2), generator=generator, device=generator.device
        ).float()
        return {"pixels": torch.where(chosen(n, self.p, generator)[:, None], pixels, 0.0)}

    def matrix(self, pixels: Tensor) -> Tensor:  # noqa: D102
        x, y = pixels.unbind(dim=1)
        one, zero = torch.ones_like(x), torch.zeros_like(x)
        return affine(one, zero, zero, one, x, y)

    def reach(self, x: float, y: float) -> tuple[float, float]:  # noqa: D102
        return x + self.pixels, y + self.pixels


class Zoom(GeometricStep):
    """Enlarge or shrink about the center, as if the object were nearer or farther.

    Parameters
    ----------
    scale : tuple of float, default=(0.9, 1.1)
        Limits of the factor by which the object's size is multiplied; the logarithm is drawn uniformly.
    p : float, default=1.0
        Probability that an image is zoomed.

    Examples
    --------
    >>> from skastro.augment import Zoom
    >>> Zoom(scale=(0.8, 1.25)).scale
    (0.8, 1.25)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "scale": [Limits(Real, 0, None, closed="neither")],
        "p": [PROBABILITY],
    }

    def __init__(self, scale: tuple[float, float] = (0.9, 1.1), p: float = 1.0) -> None:
        self.scale = scale
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n = shape[0]
        low, high = torch.tensor(self.scale).log().tolist()
        return {"scale": torch.where(chosen(n, self.p, generator), torch.exp(uniform(n, low, high, generator)), 1.0)}

    def matrix(self, scale: Tensor) -> Tensor:  # noqa: D102
        zero = torch.zeros_like(scale)
        return affine(1 / scale, zero, zero, 1 / scale, zero, zero)

    def reach(self, x: float, y: float) -> tuple[float, float]:  # noqa: D102
        farthest = max(1.0, 1 / self.scale[0])
        return x * farthest, y * farthest


class Crop(GeometricStep):
    """Random resized crop: a window somewhere inside the frame, enlarged to fill it.

    Parameters
    ----------
    scale : tuple of float, default=(0.8, 1.0)
        Limits of the window's area as a fraction of that of the frame.
    ratio : tuple of float, default=(3 / 4, 4 / 3)
        Limits of the window's aspect ratio (width over height, in units of the frame's); the logarithm is drawn
        uniformly.
    p : float, default=1.0
        Probability that an image is cropped.

    Notes
    -----
    An aspect ratio that would make a side longer than the frame's is narrowed to fit, which keeps the area. So no
    window is rejected, and the whole batch is drawn at once.

    References
    ----------
    Slijepcevic et al. (2023), `arXiv:2305.16127 <https://arxiv.org/abs/2305.16127>`_, table 1: 80 to 100 %; table 2: 90
    to 100 %.

    Examples
    --------
    >>> from skastro.augment import Crop
    >>> Crop(scale=(0.3, 0.85)).scale
    (0.3, 0.85)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "scale": [Limits(Real, 0, 1, closed="right")],
        "ratio": [Limits(Real, 0, None, closed="neither")],
        "p": [PROBABILITY],
    }

    def __init__(
        self,
        scale: tuple[float, float] = (0.8, 1.0),
        *,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        p: float = 1.0,
    ) -> None:
        self.scale = scale
        self.ratio = ratio
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n, _, height, width = shape
        low, high = torch.tensor(self.ratio).log().tolist()
        area = uniform(n, *self.scale, generator)
        aspect = torch.exp(uniform(n, low, high, generator)).clamp(min=area, max=1 / area)
        sides = torch.stack([area * aspect, area / aspect], dim=1).sqrt().clamp(max=1.0)
        place = torch.stack([uniform(n, -1, 1, generator), uniform(n, -1, 1, generator)], dim=1)
        margin = (1 - sides) * sides.new_tensor([width / 2, height / 2])
        cropped = chosen(n, self.p, generator)[:, None]
        return {
            "sides": torch.where(cropped, sides, 1.0),
            "center": torch.where(cropped, place * margin, 0.0),
        }

    def matrix(self, sides: Tensor, center: Tensor) -> Tensor:  # noqa: D102
        (x_side, y_side), (x, y) = sides.unbind(dim=1), center.unbind(dim=1)
        zero = torch.zeros_like(x)
        return affine(x_side, zero, zero, y_side, x, y)
