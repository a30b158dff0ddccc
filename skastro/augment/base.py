"""A composition of augmentation steps: draw the parameters of a whole batch, then apply them deterministically."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import gen_batches
from torch import Tensor

from skastro import ranks
from skastro._warning import warn
from skastro.augment.geometry import GeometricStep, resample
from skastro.augment.step import Step
from skastro.images import center_crop
from skastro.surveys import Survey

__all__ = ["Augment"]

Drawn = list[dict[str, Tensor]]

# Number of images that pass through all steps together on the CPU: few enough to stay in its cache.
CHUNK = 32


class Augment(BaseEstimator):
    """Apply named augmentation steps, in order, to a batch of images on its own device.

    All geometric steps act together, in one resampling, at the place of the first of them. The steps before it see the
    whole cutout, those after it see the window that the encoder sees. A step set to ``"passthrough"`` is skipped.
    An image that no geometric step moved is cropped exactly, not interpolated.

    Parameters
    ----------
    steps : list of (str, step) tuples
        Names and steps. ``name__parameter`` addresses a parameter of a step, ``name`` the whole step.
    edge : {"reflection", "border", "zeros"}, default="reflection"
        How to fill the corners that a rotation, shift or zoom brings in from outside the cutout.
    interpolation : {"bilinear", "nearest", "bicubic"}, default="bilinear"
        Interpolation mode of the resampling.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment import Augment, Flip, Rotate
    >>> augment = Augment([("rotate", Rotate(degrees=180)), ("flip", Flip())])
    >>> augment.set_params(rotate__degrees=10).get_params()["rotate__degrees"]
    10
    >>> generator = torch.Generator().manual_seed(0)
    >>> augment(torch.rand(4, 3, 32, 32), size=(24, 24), generator=generator).shape
    torch.Size([4, 3, 24, 24])
    """

    def __init__(
        self,
        steps: Sequence[tuple[str, Any]] = (),
        *,
        edge: str = "reflection",
        interpolation: str = "bilinear",
    ) -> None:
        self.steps = steps
        self.edge = edge
        self.interpolation = interpolation

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the composition and, if `deep`, those of its steps.

        Parameters
        ----------
        deep : bool, default=True
            Include the steps by name.

        Returns
        -------
        dict
            Names and values.
        """
        params = super().get_params(deep=False)
        for name, step in self.steps if deep else ():
            params[name] = step
            if isinstance(step, Step):
                params |= {f"{name}__{key}": value for key, value in step.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the composition, replace steps by name, or set parameters of steps.

        Parameters
        ----------
        **params : dict
            Names as `get_params` returns them.

        Returns
        -------
        Augment
            Itself.
        """
        if "steps" in params:
            self.steps = params.pop("steps")
        names = {name for name, _ in self.steps}
        replaced = {name: params.pop(name) for name in list(params) if name in names}
        self.steps = [(name, replaced.get(name, step)) for name, step in self.steps]
        super().set_params(**params)
        return self

    def fit(
        self,
        images: np.ndarray,
        survey: Survey | None = None,
        noise: np.ndarray | None = None,
        size: tuple[int, int] | None = None,
    ) -> Self:
        """Fit the steps on the training images.

        Parameters
        ----------
        images : ndarray of shape (n, bands, height, width)
            Training images.
        survey : Survey, default=None
            Meaning of their bands and pixels.
        noise : ndarray of shape (bands,), default=None
            Noise of each band in the images' units.
        size : tuple of int, default=None
            Height and width of the window that will be cut out.

        Returns
        -------
        Augment
            Itself.

        Raises
        ------
        ValueError
            If a step is neither a step nor ``"passthrough"``, two steps share a name, a setting is unknown, or a
            parameter of a step is out of range.

        Warns
        -----
        UserWarning
            If the cutouts leave a margin around the window, but moving the window can still reach beyond the margin.
        """
        self._check()
        if size is not None:
            self._look_beyond((images.shape[2], images.shape[3]), size)
        for _, step in self._active():
            step.fit(images, survey=survey, noise=noise)
        return self

    @property
    def metadata(self) -> set[str]:
        """Names of what steps take beside the images, one row per image, if it comes: ``ivar``, ``unit``."""
        return {name for _, step in self._active() for name in step.metadata}

    def views(self, size: tuple[int, int]) -> list[tuple["Augment", tuple[int, int]]]:
        """List the recipe and the size of each view: two views, both of this recipe.

        Parameters
        ----------
        size : tuple of int
            Height and width of a view.

        Returns
        -------
        list of (Augment, tuple of int)
        """
        return [(self, size), (self, size)]

    def draw(self, images: Tensor, size: tuple[int, int], generator: torch.Generator, **metadata: Tensor) -> Drawn:
        """Draw the parameters of every step for a batch.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            The batch; only its shape and device matter.
        size : tuple of int
            Height and width of the output.
        generator : torch.Generator
            On the images' device.
        **metadata : Tensor
            Arrays that come with the batch, one row per image, by name: ``ivar``, and ``unit`` of shape (n, 1), by
            which each image was divided. Each step takes those it uses.

        Returns
        -------
        list of dict of Tensor
            One dictionary per active step, to pass to `apply`.
        """
        drawn, shape = [], tuple(images.shape)
        for _, step in self._active():
            if isinstance(step, GeometricStep):
                shape = (*shape[:2], *size)
            known = {name: metadata[name] for name in step.metadata if name in metadata}
            drawn.append(step.draw(shape, generator, **known))
        return drawn

    def apply(self, images: Tensor, drawn: Drawn, size: tuple[int, int]) -> Tensor:
        """Apply drawn parameters. The same draw gives the same views.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            The batch, in flux.
        drawn : list of dict of Tensor
            Output of `draw`.
        size : tuple of int
            Height and width of the output.

        Returns
        -------
        Tensor of shape (n, bands, size[0], size[1])
        """
        if images.device.type != "cpu":
            return self._apply(images, drawn, size)
        chunks = gen_batches(len(images), CHUNK)
        return torch.cat([self._apply(images[rows], _rows_of(drawn, rows), size) for rows in chunks])

    def __call__(self, images: Tensor, size: tuple[int, int], generator: torch.Generator, **metadata: Tensor) -> Tensor:
        """Draw and apply; of a batch that ranks share, draw for all of it."""
        known = {name: ranks.gather(array) for name, array in metadata.items()}

        def draw(n: int) -> Drawn:
            return self.draw(images[:1].expand(n, -1, -1, -1), size, generator, **known)

        return self.apply(images, ranks.drawn(draw, len(images), _rows_of), size)

    def _apply(self, images: Tensor, drawn: Drawn, size: tuple[int, int]) -> Tensor:
        images = images.float()
        matrices = [step.matrix(**drew) for step, drew in self._pairs(drawn) if isinstance(step, GeometricStep)]
        framed = False
        for step, drew in self._pairs(drawn):
            if not isinstance(step, GeometricStep):
                images = step.apply(images, **drew)
            elif not framed:
                images = resample(images, torch.stack(matrices), size, edge=self.edge, interpolation=self.interpolation)
                framed = True
        return images if framed else center_crop(images, size)

    def _active(self) -> Iterator[tuple[str, Step]]:
        return ((name, step) for name, step in self.steps if not isinstance(step, str))

    def _look_beyond(self, frame: tuple[int, int], size: tuple[int, int]) -> None:
        """Warn if the cutouts leave a margin that does not suffice. Without a margin, filled corners are expected."""
        y, x = (side / 2 for side in size)
        for _, step in reversed(list(self._active())):
            if isinstance(step, GeometricStep):
                x, y = step.reach(x, y)
        beyond = max(x - frame[1] / 2, y - frame[0] / 2)
        if size[0] < frame[0] and size[1] < frame[1] and beyond > 1e-6:
            warn(
                f"The window of {size[0]} × {size[1]} pixels can reach {math.ceil(beyond)} pixels beyond the cutouts "
                f"({frame[0]} × {frame[1]}) when it is moved: there edge={self.edge!r} fills it. "
                "Less of shift or zoom, a smaller size or larger cutouts avoid that."
            )

    def _pairs(self, drawn: Drawn) -> Iterator[tuple[Step, dict[str, Tensor]]]:
        return zip((step for _, step in self._active()), drawn, strict=True)

    def _check(self) -> None:
        names = [name for name, _ in self.steps]
        if len(set(names)) < len(names):
            raise ValueError(f"The steps of an Augment need distinct names; got {names}.")
        taken = [name for name in names if "__" in name or name in self._get_param_names()]
        if taken:
            raise ValueError(f"No step may be called {taken[0]!r}: it is a parameter's name, or holds '__'.")
        for name, step in self.steps:
            if not isinstance(step, Step) and step != "passthrough":
                raise ValueError(f"Step {name!r} must be an augmentation step or 'passthrough'; got {step!r}.")
        for _, step in self._active():
            step.check()
        for name, choices in {
            "edge": ("reflection", "border", "zeros"),
            "interpolation": ("bilinear", "nearest", "bicubic"),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}; got {getattr(self, name)!r}.")


def _rows_of(drawn: Drawn, rows: slice) -> Drawn:
    return [{name: tensor[rows] for name, tensor in drew.items()} for drew in drawn]
