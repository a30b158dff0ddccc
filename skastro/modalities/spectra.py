"""Spectra as a modality: how flux and inverse variance come in, standardized spectrum by spectrum."""

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import Tags, _safe_indexing, assert_all_finite, gen_batches
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skastro._warning import warn
from skastro.augment import Augment
from skastro.base import BaseEmbedder, provenance
from skastro.encoders import get_spectrum_encoder
from skastro.inputs import as_rows, check_rows
from skastro.missing import RAGGED, check_ivar, filled_ivar, scatter
from skastro.modalities.base import Modality
from skastro.outliers import limits, warn_of_far
from skastro.pixels import SAMPLE_VALUES
from skastro.spectra import peak_shares, pixel_noise, pixel_weights, spectrum_levels, standardize

__all__ = ["FluxView", "SpectrumModality", "SpectrumView"]

CHUNK = 4096  # spectra standardized in one go
STRUCK = 0.9  # share of a spectrum's variance in one pixel; a line that the grid resolves has less
# Limits of flux that is not standardized beforehand: below, no spectrum of a survey is; above, squares overflow.
FAINT, BRIGHT = 1e-3, 1e15


class SpectrumView(nn.Module):
    """From the arrays of spectra to what a spectrum encoder takes.

    Parameters
    ----------
    level : ndarray of shape (2, 2)
        Mean and standard deviation of the numbers that stand for a spectrum's level.
    recipe : Augment or None
        Fitted augmentation of flux in units of each spectrum's scale; what it turns to NaN is hidden.
    generator : torch.Generator or None
        Source of randomness of the recipe.
    """

    inputs = ("flux", "pixel_weights", "level", "precision")

    def __init__(self, level: np.ndarray, recipe: Augment | None, generator: torch.Generator | None) -> None:
        super().__init__()
        (self.mean, self.log_scale), (self.std, self.log_spread) = level.tolist()
        self.recipe = recipe
        self.generator = generator or torch.default_generator

    def forward(
        self, flux: Tensor, pixel_weights: Tensor, level: Tensor, precision: Tensor | None = None
    ) -> list[Tensor]:
        """Show a batch.

        Parameters
        ----------
        flux : Tensor of shape (n, n_wavelengths)
            Standardized flux, zero where a pixel is missing.
        pixel_weights : Tensor of shape (n, n_wavelengths)
            Weights of the pixels; zero is missing.
        level : Tensor of shape (n, 2)
            Numbers that stand for each spectrum's mean and scale.
        precision : Tensor of shape (n, 1), default=None
            Mean inverse variance of each spectrum in units of its scale, for a recipe.

        Returns
        -------
        list of Tensor
            Flux, what is seen of it, and level.
        """
        seen = pixel_weights > 0
        if self.recipe is None:
            return [flux, seen, level]
        mean = level[:, :1] * self.std + self.mean  # over scale: recipes work in flux that has not lost its mean
        scale = torch.exp(level[:, 1:] * self.log_spread + self.log_scale)
        whole = torch.where(seen, flux + mean, torch.nan)
        whole = augmented(self.recipe, whole, self.generator, pixel_weights, scale, precision)
        seen = ~whole.isnan()
        return [torch.where(seen, whole - mean, 0.0), seen, level]


class FluxView(nn.Module):
    """From the arrays of spectra to what an encoder takes that standardizes flux itself.

    Parameters
    ----------
    recipe : Augment or None
        Fitted augmentation of flux in units of each spectrum's scale; what it turns to NaN is hidden.
    generator : torch.Generator or None
        Source of randomness of the recipe.
    """

    inputs = ("flux", "pixel_weights", "scale", "precision")

    def __init__(self, recipe: Augment | None, generator: torch.Generator | None) -> None:
        super().__init__()
        self.recipe = recipe
        self.generator = generator or torch.default_generator

    def forward(
        self, flux: Tensor, pixel_weights: Tensor, scale: Tensor, precision: Tensor | None = None
    ) -> list[Tensor]:
        """Show a batch.

        Parameters
        ----------
        flux : Tensor of shape (n, n_wavelengths)
            Flux in its own unit, zero where a pixel is missing.
        pixel_weights : Tensor of shape (n, n_wavelengths)
            Weights of the pixels; zero is missing.
        scale : Tensor of shape (n, 1)
            Scale of each spectrum.
        precision : Tensor of shape (n, 1), default=None
            Mean inverse variance of each spectrum in units of its scale, for a recipe.

        Returns
        -------
        list of Tensor
            Flux, and what is seen of it.
        """
        seen = pixel_weights > 0
        if self.recipe is None:
            return [flux, seen]
        whole = torch.where(seen, flux / scale, torch.nan)
        whole = augmented(self.recipe, whole, self.generator, pixel_weights, scale, precision)
        seen = ~whole.isnan()
        return [torch.where(seen, whole * scale, 0.0), seen]


def augmented(
    recipe: Augment,
    flux: Tensor,
    generator: torch.Generator,
    weights: Tensor,
    scale: Tensor,
    precision: Tensor | None = None,
) -> Tensor:
    """Augment flux in units of each spectrum's scale; the levels that a user states are in the flux's own unit."""
    known = {"unit": scale}
    if precision is not None:
        known["ivar"] = (weights * precision)[:, None, None]
    return recipe(flux[:, None, None], (1, flux.shape[1]), generator, **known)[:, 0, 0]


class SpectrumModality(BaseEmbedder, Modality):
    """Base of every estimator that embeds spectra: flux on one grid of wavelengths in, one row of features out.

    Its parameters are ``encoder`` and ``floor``.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = BaseEmbedder._parameter_constraints | {
        "floor": [Interval(Real, 0, None, closed="neither")],
    }
    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = BaseEmbedder._shorthand | {"encoder": get_spectrum_encoder}
    # On by default: an inverse variance that is given can mean nothing else.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"ivar": True}
    __metadata_request__transform: ClassVar[dict[str, bool]] = {"ivar": True}
    unit: ClassVar[str] = "samples"
    metadata: ClassVar[tuple[str, ...]] = ("ivar",)

    encoder: Any
    floor: float
    _had_ivar: bool = False

    def transform(self, X: Any, ivar: Any = None) -> np.ndarray:
        """Embed spectra, each on its own.

        Parameters
        ----------
        X : array-like of shape (n, n_wavelengths)
            Flux on the grid and in the unit of the training spectra; NaN is missing.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance; zero is missing.

        Returns
        -------
        ndarray of shape (n, d), float32

        Raises
        ------
        ValueError
            If the spectra have another length than those learned, or have no pixel, or `ivar` does not suit them.

        Warns
        -----
        UserWarning
            If `fit` had an inverse variance, and these spectra have neither one nor NaN. If all are flat beside those
            learned from, or some far outside.
        """
        check_is_fitted(self)
        flux, ivar = self._check_spectra(X, ivar, reset=False)
        inference, views = self._inference(), [self.view()]
        return np.concatenate([inference.mean(self.encoder_, views, arrays) for arrays in self._chunks(flux, ivar)])

    def fit_transform(self, X: Any, y: Any = None, ivar: Any = None) -> np.ndarray:
        """Fit, then transform with the same `ivar`.

        Parameters
        ----------
        X : array-like of shape (n, n_wavelengths)
            Flux; NaN is missing.
        y : ignored
            Present for scikit-learn.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance; zero is missing.

        Returns
        -------
        ndarray of shape (n, d), float32
        """
        return self.fit(X, y, ivar=ivar).transform(X, ivar=ivar)

    def inputs(
        self, X: Any, mask: np.ndarray | None = None, *, reset: bool = False, **metadata: Any
    ) -> dict[str, np.ndarray]:
        """Check spectra, and standardize each by its own mean and scale.

        Parameters
        ----------
        X : array-like of shape (n, n_wavelengths)
            Flux; NaN is missing.
        mask : ndarray of bool of shape (n,), default=None
            True for the spectra that are present.
        reset : bool, default=False
            Learn the number of pixels and the spread of the levels from these spectra.
        **metadata : array-like
            ``ivar`` of shape (n, n_wavelengths), or None.

        Returns
        -------
        dict of str to ndarray
            ``flux`` and ``pixel_weights`` of shape (n, n_wavelengths), ``level`` of shape (n, 2), and with `ivar` its
            mean in units of each spectrum's scale, ``precision`` of shape (n, 1). For an encoder that standardizes flux
            itself this is in its own unit, and in place of the level is ``scale`` of shape (n, 1).

        Raises
        ------
        ValueError
            If the spectra or `ivar` cannot be used, or are not like those learned.
        """
        ivar = metadata.get("ivar")
        if mask is not None and not mask.all():
            present = np.flatnonzero(mask)
            X = _safe_indexing(as_rows(X, cure=RAGGED), present)
            ivar = None if ivar is None else _safe_indexing(filled_ivar(ivar), present)
        flux, ivar = self._check_spectra(X, ivar, reset)
        if reset:
            self._learn_levels(flux, ivar)
        parts = list(self._chunks(flux, ivar, told=reset))
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return arrays if mask is None else {name: scatter(array, mask) for name, array in arrays.items()}

    def view(  # noqa: D102
        self, recipe: Augment | None = None, generator: torch.Generator | None = None
    ) -> SpectrumView | FluxView:
        return FluxView(recipe, generator) if self._spec.standardizes else SpectrumView(self.level_, recipe, generator)

    def check_options(self, augment: Any = "auto", average: Any = None) -> None:
        """Refuse the name of a recipe and an averaging, which are for images.

        Parameters
        ----------
        augment : str, Augment or None, default="auto"
            Recipe that the user gave.
        average : str, int or None, default=None
            Symmetries to average over.
        """
        super().check_options("auto" if isinstance(augment, Augment) else augment, average)

    def fit_recipe(self, augment: Any, arrays: dict[str, np.ndarray]) -> Augment | None:
        """Fit an augmentation of spectra, whose steps see flux in units of each spectrum's scale.

        A level of noise that the user states is in the unit of the flux; that which is measured is the median, over all
        spectra, of the noise from pixel to pixel in units of the scale.

        Parameters
        ----------
        augment : Augment or None
            Recipe; ``"auto"`` is none.
        arrays : dict of str to ndarray
            Training spectra.

        Returns
        -------
        Augment or None

        Raises
        ------
        ValueError
            If it is the name of a recipe, which is for images.
        """
        if not isinstance(augment, Augment):
            return super().fit_recipe(augment, arrays)
        flux = arrays["flux"] / arrays["scale"] if self._spec.standardizes else arrays["flux"]
        some = slice(None, None, -(-flux.size // SAMPLE_VALUES))
        noise = pixel_noise(flux[some], arrays["pixel_weights"][some])
        return clone(augment).fit(flux[:, np.newaxis, np.newaxis], noise=np.array([noise]))

    def build_encoder(self) -> nn.Module:
        """Make the encoder for spectra of the length learned, with random weights.

        Returns
        -------
        nn.Module
        """
        return self._spec.architecture(self.n_features_in_)

    def start_encoder(self) -> nn.Module:
        """Make the encoder that training starts from, with the weights that its specification names.

        Returns
        -------
        nn.Module
        """
        encoder = self.build_encoder()
        if weights := self._spec.load(encoder):
            self.provenance_["weights"] = weights
        return encoder

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _check_spectra(self, X: Any, ivar: Any, reset: bool) -> tuple[np.ndarray, np.ndarray | None]:
        flux = check_rows(
            self,
            X,
            reset=reset,
            cure=RAGGED,
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,
            ensure_min_samples=2 if reset else 1,
        )
        ivar = check_ivar(ivar, flux.shape)
        if reset:
            self._had_ivar = ivar is not None
        elif ivar is None and self._had_ivar and not np.isnan(flux).any():
            warn(
                "fit had ivar, and these spectra have none: bad pixels count as data. Give ivar=, or NaN where a pixel "
                "is bad."
            )
        if ivar is not None:
            flux = np.where(ivar > 0, flux, np.nan)
        assert_all_finite(flux, allow_nan=True, estimator_name=type(self).__name__, input_name="X")
        pixel_weights(flux, ivar)
        return flux, ivar

    def _learn_levels(self, flux: np.ndarray, ivar: np.ndarray | None) -> None:
        """Learn what scale is too small to divide by, and how far the levels of spectra spread."""
        weights = pixel_weights(flux, ivar)
        mean, std = spectrum_levels(flux, weights)
        if flux.shape[1] > 1 and not std.any():
            raise ValueError(f"All {len(flux)} spectra are constant: there is nothing to learn from.")
        struck = np.flatnonzero(
            (peak_shares(flux, weights, mean, std) > STRUCK) & (np.count_nonzero(weights, axis=1) >= 20)
        )
        if len(struck):
            warn(
                f"{len(struck)} of {len(flux)} spectra have one pixel that holds nearly all of their variance; the "
                f"first is row {struck[0]}. The rest is flat beside it: mark it as missing, if it is a cosmic ray."
            )
        self.floor_ = self.floor * float(np.median(std[std > 0])) if std.any() else 1.0
        self.provenance_ = provenance(n_spectra=len(flux), n_wavelengths=flux.shape[1])
        self._spec = clone(get_spectrum_encoder(self.encoder))
        self._spec.check()
        for name in ("level_", "level_range_"):
            self.__dict__.pop(name, None)  # of an earlier fit of another encoder
        if not self._spec.standardizes:
            self._learn_range(mean, std)
        elif 0 < std.max() < FAINT:
            warn(
                f"The scale of all {len(flux)} spectra is below {std.max():.0e}, and SpecFormer divides by 0.2 at "
                "least: it takes flux in 1e-17 erg/s/cm²/Å."
            )

    def _learn_range(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Learn how far the levels of spectra spread, and which are usual."""
        levels = np.column_stack(as_level(mean, self._scale(std)))
        center = np.median(levels, axis=0)
        reach = np.abs(levels - center)
        _, limit = limits(reach)
        far = (reach > limit).any(axis=1)
        if far.any():
            warn_of_far(np.flatnonzero(far), len(mean), "spectra", "most others")
        usual = levels[~far]
        self.level_range_ = np.stack([center, limit, reach[~far].max(axis=0)])
        spread = usual.std(axis=0)
        self.level_ = np.stack([usual.mean(axis=0), np.where(spread > 1e-6, spread, 1.0)])

    def _levels(self, flux: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, std = spectrum_levels(flux, weights)
        return mean, self._scale(std)

    def _scale(self, std: np.ndarray) -> np.ndarray:
        """Choose what spectra of these standard deviations are divided by."""
        return np.maximum(std, self.floor_)

    def _bounded(self, levels: np.ndarray) -> np.ndarray:
        """Bound levels that are far outside those learned from."""
        center, limit, bound = self.level_range_
        return np.where(np.abs(levels - center) > limit, np.clip(levels, center - bound, center + bound), levels)

    def _chunks(self, flux: np.ndarray, ivar: np.ndarray | None, told: bool = False) -> Any:
        """Standardize some thousand spectra at a time, unless the encoder does so; then tell what is far outside."""
        far, widest = [], 0.0
        for rows in gen_batches(len(flux), CHUNK):
            weights = pixel_weights(flux[rows], None if ivar is None else ivar[rows])
            mean, std = spectrum_levels(flux[rows], weights)
            scale, widest = self._scale(std), max(widest, float(std.max()))
            chunk = {"pixel_weights": weights.astype(np.float32)}
            if ivar is not None:
                chunk["precision"] = mean_precision(ivar[rows], weights, scale).astype(np.float32)
            if self._spec.standardizes:
                seen = np.where(weights > 0, flux[rows], 0.0)
                check_bright(seen, rows.start)
                yield {"flux": seen.astype(np.float32), "scale": scale[:, np.newaxis].astype(np.float32), **chunk}
                continue
            levels = np.column_stack(as_level(mean, scale))
            bounded = self._bounded(levels)
            far += (rows.start + np.flatnonzero((bounded != levels).any(axis=1))).tolist()
            yield {
                "flux": standardize(flux[rows], weights, mean, scale),
                "level": ((bounded - self.level_[0]) / self.level_[1]).astype(np.float32),
                **chunk,
            }
        if 0 < widest < self.floor_ and not told:
            warn("All spectra are flat beside those learned from, and look alike: are these in another unit?")
        elif far and not told:
            warn_of_far(np.array(far), len(flux), "spectra", "those learned from")


def check_bright(flux: np.ndarray, first: int) -> None:
    """Refuse flux whose square is no number in single precision."""
    peak = np.abs(flux).max(axis=1)
    if (peak > BRIGHT).any():
        row = int(np.argmax(peak > BRIGHT))
        raise ValueError(
            f"Flux of {peak[row]:.0e} in row {first + row} is too large: SpecFormer takes it in 1e-17 erg/s/cm²/Å."
        )


def mean_precision(ivar: np.ndarray, weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Average the inverse variance of each spectrum over the pixels that are there, in units of its scale, (n, 1)."""
    there = weights > 0
    scaled = np.where(there, np.sqrt(ivar) * scale[:, np.newaxis], 0.0) ** 2  # neither factor overflows alone
    return scaled.sum(axis=1, keepdims=True) / there.sum(axis=1, keepdims=True)


def as_level(mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Express a spectrum's mean and scale by two numbers of order one, from which both can be recovered."""
    return mean / scale, np.log(scale)
