"""An augmentation that hides what lies around an object."""

from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from skastro.augment.step import PROBABILITY, Limits, PixelStep, chosen, uniform

__all__ = ["Aperture"]

EDGE = 0.1  # width over which an aperture fades, as a fraction of half the side


class Aperture(PixelStep):
    r"""Keep what lies within a circle about the center; what lies outside becomes its own mean, band by band.

    .. math:: x'_b = m_b + w\,(x_b - m_b), \qquad m_b = \frac{\sum (1 - w)\,x_b}{\sum (1 - w)}, \qquad
        w = \operatorname{clip}\left(\frac{r - d}{0.1} + \frac12,\ 0,\ 1\right)

    with :math:`d` the distance of a pixel from the center and :math:`r \sim U(\mathrm{radius})`. Neighbors in the field
    tell two objects apart, and say nothing about either: with them hidden, a contrastive task is about the object.

    Parameters
    ----------
    radius : tuple of float, default=(0.5, 1.0)
        Limits of the radius, as a fraction of half the shorter side, drawn once per image. The corners are at 1.41.
    p : float, default=0.8
        Probability that an image is seen through an aperture.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment import Aperture
    >>> pixels = torch.tensor([[[[9.0, 0.0, 9.0], [0.0, 5.0, 0.0], [1.0, 0.0, 1.0]]]])
    >>> Aperture().apply(pixels, radius=torch.tensor([0.5]))
    tensor([[[[2.5000, 2.5000, 2.5000],
              [2.5000, 5.0000, 2.5000],
              [2.5000, 2.5000, 2.5000]]]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "radius": [Limits(Real, 0, None, closed="neither")],
        "p": [PROBABILITY],
    }

    def __init__(self, radius: tuple[float, float] = (0.5, 1.0), *, p: float = 0.8) -> None:
        self.radius = radius
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n = shape[0]
        hidden = chosen(n, self.p, generator)
        return {"radius": torch.where(hidden, uniform(n, *self.radius, generator), torch.inf)}

    def apply(self, images: Tensor, radius: Tensor) -> Tensor:  # noqa: D102
        height, width = images.shape[2:]
        down = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
        across = torch.arange(width, device=images.device) - (width - 1) / 2
        distance = torch.hypot(down, across) / (min(height, width) / 2)
        outside = ((distance - radius[:, None, None, None]) / EDGE + 0.5).clamp(0, 1)
        mean = (outside * images).sum(dim=(2, 3), keepdim=True) / outside.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
        return images + outside * (mean - images)
