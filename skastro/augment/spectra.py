"""Augmentations of spectra: noise of known variance, redshift, tilted continuum, masked segments.

A spectrum is stored as an image of one line, (n, 1, 1, width), and all steps here work along the last axis.
"""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from skastro.augment.step import NOT_NEGATIVE, PROBABILITY, Limits, PixelStep, chosen, uniform
from skastro.pixels import unit_of
from skastro.surveys import Survey

__all__ = ["ContiguousMask", "ContinuumTilt", "GridStep", "InverseVarianceNoise", "Redshift", "segments"]


def per_row(values: Tensor) -> Tensor:
    """Reshape one line of values per row, (n, width), to that of an image, (n, 1, 1, width)."""
    return values[:, None, None]


def segments(n: int, width: int, count: int, length: int, generator: torch.Generator) -> Tensor:
    """Draw segments that do not overlap for a whole batch at once, all placements equally likely.

    Parameters
    ----------
    n : int
        Number of rows.
    width : int
        Length of a row.
    count, length : int
        Number of segments in a row, and the length of each; in total at most `width`. Two may touch.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    Tensor of bool, shape (n, width)
        True inside the segments.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment.spectra import segments
    >>> segments(2, 100, count=6, length=5, generator=torch.Generator()).sum(dim=1).tolist()
    [30, 30]
    """
    # Shrink each segment to a point, draw distinct points, and grow the segments again, which moves the later ones on.
    places = torch.rand(
        n, width - count * (length - 1), generator=generator, dtype=torch.float32, device=generator.device
    )
    starts = places.topk(count).indices.sort(dim=1).values
    starts = starts + (length - 1) * torch.arange(count, device=generator.device)
    inside = torch.zeros(n, width, dtype=torch.bool, device=generator.device)
    covered = starts[:, :, None] + torch.arange(length, device=generator.device)
    return inside.scatter(1, covered.flatten(1), True)


class InverseVarianceNoise(PixelStep):
    r"""Gaussian noise in each pixel, proportional to the noise that its inverse variance states.

    .. math:: x'_i = x_i + \frac{u}{\sqrt{w_i}}\,\epsilon_i,
        \qquad u \sim U(\mathrm{scale}), \quad \epsilon_i \sim N(0, 1)

    The variance becomes :math:`1 + u^2` times the original. A pixel of inverse variance :math:`w_i = 0` is missing and
    stays as it is. The step works on spectra and images.

    Parameters
    ----------
    scale : tuple of float, default=(0.0, 1.0)
        Limits of the multiple :math:`u`, drawn once per row.
    ivar : float or array-like, default=None
        Inverse variance of all rows, in the inverse square of the flux's unit: one number, one per pixel of a spectrum,
        (width,), or a map (bands, height, width). None takes that of each row, which comes with the batch:
        ``augment(images, size, generator, ivar=ivar)`` with `ivar` of the images' shape.
    p : float, default=1.0
        Probability that a row receives noise.

    Raises
    ------
    ValueError
        If `ivar` is negative or not finite, does not match the images, or is given neither here nor with the batch.

    Notes
    -----
    An inverse variance belongs to the pixels as observed, so place this step before any step that moves pixels.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment import Augment, InverseVarianceNoise
    >>> spectra, ivar = torch.ones(2, 1, 1, 4), torch.tensor([0.0, 4.0, 4.0, 100.0]).expand(2, 1, 1, 4)
    >>> augment = Augment([("noise", InverseVarianceNoise())])
    >>> noisy = augment(spectra, (1, 4), torch.Generator().manual_seed(0), ivar=ivar)
    >>> (noisy != spectra)[0].flatten().tolist()
    [False, True, True, True]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "scale": [NOT_NEGATIVE],
        "ivar": [Interval(Real, 0, None, closed="left"), "array-like", None],
        "p": [PROBABILITY],
    }
    metadata: ClassVar[tuple[str, ...]] = ("ivar", "unit")
    unit_ = 1.0

    def __init__(
        self,
        scale: tuple[float, float] = (0.0, 1.0),
        *,
        ivar: float | Sequence[float] | np.ndarray | None = None,
        p: float = 1.0,
    ) -> None:
        self.scale = scale
        self.ivar = ivar
        self.p = p

    def learn(self, images: np.ndarray, survey: Survey | None, noise: np.ndarray | None) -> None:  # noqa: D102
        self.unit_ = unit_of(images)
        if self.ivar is None:
            return
        ivar = np.asarray(self.ivar, dtype=float)
        if not np.isfinite(ivar).all() or (ivar < 0).any():
            raise ValueError("The ivar of InverseVarianceNoise must be finite and not negative; 0 is a missing pixel.")
        shape = ivar.shape if images is None else images.shape[1:]
        if ivar.ndim > 3 or any(a not in (1, b) for a, b in zip(ivar.shape[::-1], shape[::-1], strict=False)):
            raise ValueError(f"InverseVarianceNoise has ivar of shape {ivar.shape}, the images have {tuple(shape)}.")

    def draw(  # noqa: D102
        self,
        shape: tuple[int, ...],
        generator: torch.Generator,
        ivar: Tensor | None = None,
        unit: Tensor | None = None,
    ) -> dict[str, Tensor]:
        if self.ivar is not None:
            stated = np.asarray(self.ivar, dtype=float)
            spread = np.divide(1, np.sqrt(stated) * self.unit_, out=np.zeros_like(stated), where=stated > 0)
            deviation = torch.as_tensor(spread, dtype=torch.float32, device=generator.device).expand(shape)
            deviation = deviation if unit is None else deviation / unit.to(generator.device)[:, :, None, None]
        elif ivar is None:
            raise ValueError(
                "InverseVarianceNoise needs the inverse variance of each row: give ivar= to fit, or to the call of an "
                "Augment; or one for all rows, InverseVarianceNoise(ivar=...)."
            )
        elif tuple(ivar.shape) != tuple(shape):
            raise ValueError(f"ivar of shape {tuple(ivar.shape)} goes with images of shape {tuple(shape)}.")
        else:
            given = ivar.to(generator.device, torch.float32)
            deviation = torch.where(given > 0, given, torch.inf).rsqrt()
        multiple = uniform(shape[0], *self.scale, generator) * chosen(shape[0], self.p, generator)
        field = torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)
        return {"noise": multiple[:, None, None, None] * deviation * field}

    def apply(self, images: Tensor, noise: Tensor) -> Tensor:  # noqa: D102
        return images + noise


class FilledStep(PixelStep):
    """Base class of the steps that put a value, the parameter `fill`, where they leave no flux."""

    fill: Any

    metadata: ClassVar[tuple[str, ...]] = ("unit",)
    unit_ = 1.0

    def learn(self, images: np.ndarray, survey: Survey | None, noise: np.ndarray | None) -> None:
        super().learn(images, survey, noise)
        self.unit_ = unit_of(images)

    def _filling(self, n: int, device: torch.device, unit: Tensor | None = None) -> Tensor:
        """Return the value for each spectrum, (n, 1), in the unit that its flux has come in."""
        value = torch.full((n, 1), self.fill / self.unit_, dtype=torch.float32, device=device)
        return value if unit is None else value / unit.to(device)


class GridStep(PixelStep):
    """Base class of the steps that need the wavelength of each pixel.

    The parameter `grid` holds the wavelengths: the step of log₁₀ λ from pixel to pixel if that is constant, otherwise
    the wavelengths themselves.
    """

    grid: Any

    def learn(self, images: np.ndarray, survey: Survey | None, noise: np.ndarray | None) -> None:  # noqa: D102
        name, grid = type(self).__name__, np.asarray(self.grid, dtype=float)
        if grid.ndim == 0:
            return
        if grid.ndim > 1 or not np.isfinite(grid).all() or not (np.diff(grid, prepend=0) > 0).all():
            raise ValueError(f"The grid of {name} must be one step of log λ, or positive wavelengths that rise.")
        if images is not None and len(grid) != images.shape[3]:
            raise ValueError(f"{name} has a grid of {len(grid)} pixels, the spectra have {images.shape[3]}.")

    def log_wavelengths(self, width: int, device: torch.device) -> Tensor:
        """Return ln λ of each pixel, relative to the midpoint between the first and the last.

        Parameters
        ----------
        width : int
            Number of pixels.
        device : torch.device
            Device of the result.

        Returns
        -------
        Tensor of shape (width,)
        """
        grid = np.asarray(self.grid, dtype=float)
        logs = np.log(grid) if grid.ndim else np.log(10) * grid * np.arange(width)
        return torch.as_tensor(logs - (logs[0] + logs[-1]) / 2, dtype=torch.float32, device=device)


GRID = [Interval(Real, 0, None, closed="neither"), "array-like"]


class Redshift(FilledStep, GridStep):
    r"""Shift a spectrum to another redshift, resampled linearly on its own grid.

    .. math:: F'(\lambda) = \frac{1}{1 + z}\,F\!\left(\frac{\lambda}{1 + z}\right), \qquad z \sim U(\mathrm{limits})

    A flux density per wavelength so keeps its integral. On a grid that is uniform in log λ this is a shift by
    :math:`\log_{10}(1 + z)` divided by the step. A spectrum at :math:`z_0` moves to :math:`(1 + z_0)(1 + z) - 1`.

    Parameters
    ----------
    z : tuple of float, default=(-0.01, 0.01)
        Limits of the redshift :math:`z`, relative to that of the spectrum; above -1.
    grid : float or array-like of shape (width,), default=1e-4
        Step of log₁₀ λ from pixel to pixel, if it is constant (1e-4 in SDSS), or the increasing wavelengths in any
        unit.
    fill : "edge" or float, default="edge"
        Values where the grid reaches beyond the spectrum: its last value on that side, a flux, or NaN for estimators
        that treat NaN as missing.
    p : float, default=1.0
        Probability that a spectrum is moved.

    Raises
    ------
    ValueError
        If wavelengths do not increase or are not one per pixel, or a parameter is out of range.

    Notes
    -----
    In linear resampling, a missing pixel (NaN) also invalidates its neighbor on either side.

    References
    ----------
    Hogg (1999), "Distance measures in cosmology", `arXiv:astro-ph/9905116 <https://arxiv.org/abs/astro-ph/9905116>`_,
    section 7, for the factor of a flux per wavelength.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment import Redshift
    >>> step = Redshift(grid=torch.tensor([1.0, 2.0, 3.0, 4.0]).tolist())
    >>> step.apply(torch.tensor([[[[0.0, 8.0, 0.0, 0.0]]]]), z=torch.tensor([1.0])).flatten().tolist()  # 2 → 4
    [0.0, 0.0, 2.0, 4.0]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "z": [Limits(Real, -1, None, closed="neither")],
        "grid": GRID,
        "fill": [StrOptions({"edge"}), Real],
        "p": [PROBABILITY],
    }

    def __init__(
        self,
        z: tuple[float, float] = (-0.01, 0.01),
        *,
        grid: float | Sequence[float] | np.ndarray = 1e-4,
        fill: str | float = "edge",
        p: float = 1.0,
    ) -> None:
        self.z = z
        self.grid = grid
        self.fill = fill
        self.p = p

    def draw(  # noqa: D102
        self, shape: tuple[int, ...], generator: torch.Generator, unit: Tensor | None = None
    ) -> dict[str, Tensor]:
        n = shape[0]
        drawn = {"z": torch.where(chosen(n, self.p, generator), uniform(n, *self.z, generator), 0.0)}
        return drawn if self.fill == "edge" else drawn | {"fill": self._filling(n, generator.device, unit)}

    def apply(self, images: Tensor, z: Tensor, fill: Tensor | None = None) -> Tensor:  # noqa: D102
        last = images.shape[3] - 1
        place = self._places(z, last + 1)
        left = place.floor().clamp(0, last)
        share = (place - left).clamp(0, 1).to(images.dtype)
        below, above = (
            images.gather(3, per_row(index.long()).expand(images.shape)) for index in (left, (left + 1).clamp(max=last))
        )
        # A pixel that is hit exactly ignores its neighbor, which may be missing.
        moved = torch.where(per_row(share) > 0, torch.lerp(below, above, per_row(share)), below)
        moved = moved / (1 + z)[:, None, None, None]
        if self.fill == "edge":
            return moved
        beyond = self._filling(len(z), z.device) if fill is None else fill
        return torch.where(per_row((place >= 0) & (place <= last)), moved, per_row(beyond))

    def _places(self, z: Tensor, width: int) -> Tensor:
        """Return the position in pixels, (n, width), that each pixel of the shifted spectrum comes from."""
        shift = torch.log1p(z)[:, None]
        if np.ndim(self.grid) == 0:
            return torch.arange(width, device=z.device) - shift / float(np.log(10) * self.grid)
        # On a fine grid single precision would be a part of a pixel, but MPS has no other.
        dtype = torch.float32 if z.device.type == "mps" else torch.float64
        wavelengths = torch.as_tensor(np.asarray(self.grid), dtype=dtype, device=z.device)
        wanted = wavelengths / (1 + z.to(dtype))[:, None]
        left = (torch.searchsorted(wavelengths, wanted, right=True) - 1).clamp(0, max(0, width - 2))
        spacing = wavelengths.diff(append=wavelengths[-1:] + 1)
        return left + (wanted - wavelengths[left]) / spacing[left]


class ContinuumTilt(GridStep):
    r"""Tilt the continuum by a power law, like an error of the flux calibration or another slope.

    .. math:: F'(\lambda) = F(\lambda)\,(\lambda / \lambda_0)^{\gamma}, \qquad \gamma \sim U(\mathrm{slope})

    with :math:`\lambda_0` the geometric mean of the first and the last wavelength, where the flux does not change.

    Parameters
    ----------
    slope : tuple of float, default=(-0.5, 0.5)
        Limits of the exponent :math:`\gamma`, drawn once per spectrum.
    grid : float or array-like of shape (width,), default=1e-4
        Step of log₁₀ λ from pixel to pixel, if it is constant (1e-4 in SDSS), or the increasing wavelengths in any
        unit.
    p : float, default=1.0
        Probability that a spectrum is tilted.

    Raises
    ------
    ValueError
        If wavelengths do not increase or are not one per pixel, or a parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment import ContinuumTilt
    >>> step = ContinuumTilt(grid=[1000.0, 2000.0, 4000.0])
    >>> step.apply(torch.ones(1, 1, 1, 3), slope=torch.tensor([1.0])).flatten().tolist()
    [0.5, 1.0, 2.0]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "slope": [Limits(Real, None, None, closed="neither")],
        "grid": GRID,
        "p": [PROBABILITY],
    }

    def __init__(
        self,
        slope: tuple[float, float] = (-0.5, 0.5),
        *,
        grid: float | Sequence[float] | np.ndarray = 1e-4,
        p: float = 1.0,
    ) -> None:
        self.slope = slope
        self.grid = grid
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: D102
        n = shape[0]
        return {"slope": torch.where(chosen(n, self.p, generator), uniform(n, *self.slope, generator), 0.0)}

    def apply(self, images: Tensor, slope: Tensor) -> Tensor:  # noqa: D102
        return images * per_row(torch.exp(slope[:, None] * self.log_wavelengths(images.shape[3], images.device)))


class ContiguousMask(FilledStep):
    """Mask a few contiguous segments of a spectrum, which do not overlap, the same in all bands.

    Parameters
    ----------
    n : int, default=3
        Number of segments.
    length : int, default=30
        Length of each in pixels.
    fill : float, default=0.0
        Flux inside the segments; NaN for estimators that treat NaN as missing.
    p : float, default=1.0
        Probability that a spectrum is masked.

    Raises
    ------
    ValueError
        If the segments would cover a whole spectrum, or a parameter is out of range.

    References
    ----------
    Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, section 5.2, mask six segments of a
    spectrum for a transformer to reconstruct: :class:`~skastro.pretrain.MaskedSpectrumEmbedder`.

    Examples
    --------
    >>> import torch
    >>> from skastro.augment import Augment, ContiguousMask
    >>> augment = Augment([("mask", ContiguousMask(n=2, length=10))])
    >>> int(augment(torch.ones(1, 1, 1, 100), (1, 100), torch.Generator()).sum())
    80
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n": [Interval(Integral, 1, None, closed="left")],
        "length": [Interval(Integral, 1, None, closed="left")],
        "fill": [Real],
        "p": [PROBABILITY],
    }

    def __init__(self, n: int = 3, *, length: int = 30, fill: float = 0.0, p: float = 1.0) -> None:
        self.n = n
        self.length = length
        self.fill = fill
        self.p = p

    def learn(self, images: np.ndarray, survey: Survey | None, noise: np.ndarray | None) -> None:  # noqa: D102
        super().learn(images, survey, noise)
        if images is not None and self.n * self.length >= images.shape[3]:
            raise ValueError(
                f"ContiguousMask blanks {self.n} segments of {self.length} pixels: nothing would be left of spectra of "
                f"{images.shape[3]}."
            )

    def draw(  # noqa: D102
        self, shape: tuple[int, ...], generator: torch.Generator, unit: Tensor | None = None
    ) -> dict[str, Tensor]:
        masked = segments(shape[0], shape[3], self.n, self.length, generator)
        masked &= chosen(shape[0], self.p, generator)[:, None]
        return {"masked": masked, "fill": self._filling(shape[0], generator.device, unit)}

    def apply(self, images: Tensor, masked: Tensor, fill: Tensor | None = None) -> Tensor:  # noqa: D102
        inside = self._filling(len(images), images.device) if fill is None else fill
        return torch.where(per_row(masked), per_row(inside), images)
