"""One augmentation step: parameters that are stored, learned numbers, a draw, and a pure application."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from skastro.surveys import Survey

__all__ = ["PixelStep", "Step", "chosen", "uniform"]


class Step(BaseEstimator, ABC):
    """Base of all steps.

    A step draws its parameters for a whole batch at once, on the batch's device; applying them takes no further
    randomness and treats each row independently.
    """

    def fit(self, images: np.ndarray, survey: Survey | None = None, noise: np.ndarray | None = None) -> Self:
        """Learn nothing; steps that need numbers from the training images say so.

        Parameters
        ----------
        images : ndarray of shape (n, bands, height, width)
            Training images.
        survey : Survey, default=None
            What their bands and pixels mean.
        noise : ndarray of shape (bands,), default=None
            Noise of each band.

        Returns
        -------
        Step
            Itself.
        """
        return self

    @abstractmethod
    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
        """Draw parameters for a batch.

        Parameters
        ----------
        shape : tuple of int
            ``(n, bands, height, width)`` of the batch that the step will be applied to.
        generator : torch.Generator
            Source of randomness; the draw lives on its device.

        Returns
        -------
        dict of Tensor
            What to apply, first axis of length `n`.
        """


class PixelStep(Step):
    """A step that changes the values of pixels and leaves them where they are."""

    @abstractmethod
    def apply(self, images: Tensor, *args: Any, **drawn: Any) -> Tensor:
        """Apply drawn parameters.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Images in flux.
        *args, **drawn : Tensor
            What `draw` gave, by name.

        Returns
        -------
        Tensor
            Images of the same shape.
        """


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw `n` numbers evenly between two limits, on the generator's device.

    Parameters
    ----------
    n : int
        How many.
    low, high : float
        Limits.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    Tensor of shape (n,)

    Examples
    --------
    >>> import torch
    >>> from skastro.augment.step import uniform
    >>> bool(uniform(5, 2.0, 3.0, torch.Generator()).min() >= 2)
    True
    """
    return torch.rand(n, generator=generator, device=generator.device) * (high - low) + low


def chosen(n: int, p: float, generator: torch.Generator) -> Tensor:
    """Choose each of `n` rows with probability `p`.

    Parameters
    ----------
    n : int
        How many rows.
    p : float
        Probability.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    Tensor of bool, shape (n,)

    Examples
    --------
    >>> import torch
    >>> from skastro.augment.step import chosen
    >>> chosen(3, 0.0, torch.Generator()).any().item()
    False
    """
    return torch.rand(n, generator=generator, device=generator.device) < p
