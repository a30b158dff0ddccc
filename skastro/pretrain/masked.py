"""Masked spectra: a transformer fills in what was hidden of a spectrum, and so learns what spectra are."""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import Tags, _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from skastro.augment.spectra import segments
from skastro.base import BaseEmbedder, restored_on_error
from skastro.encoders.spectra import SpectrumEncoder, SpectrumTransformer, get_spectrum_encoder
from skastro.encoders.tokens import SpectrumTokens
from skastro.losses import masked_mse
from skastro.missing import scatter
from skastro.spectra import check_ivar, check_lengths, pixel_weights, spectrum_levels, standardize
from skastro.training import Monitor, Objective, Training, draw_seed, local_seed, resolve_device, train

__all__ = ["MaskedSpectrum", "MaskedSpectrumEmbedder", "Masks"]

CHUNK = 4096  # spectra standardized in one go


class Masks:
    """Draws what to hide of a batch of spectra: half of a spectrum at most.

    Parameters
    ----------
    count, length : int
        Number of segments, and the length of each in pixels; what would hide more than half is shortened, in length
        first and then in number.
    generator : torch.Generator
        Source of randomness, on the device of the spectra.
    """

    def __init__(self, count: int, length: int, generator: torch.Generator) -> None:
        self.count = count
        self.length = length
        self.generator = generator

    def __call__(self, flux: Tensor) -> list[Tensor]:
        """Give the spectra, and what to hide of them."""
        n, width = flux.shape
        length = max(1, min(self.length, width // 2))
        count = max(1, min(self.count, width // 2 // length))
        return [flux, segments(n, width, count, length, self.generator)]


class MaskedSpectrum(Objective):
    """The objective of masked modeling; see `skastro.losses.masked_mse`.

    Parameters
    ----------
    encoder : SpectrumTransformer
        From spectra to tokens; trained in place.
    decoder : nn.Module
        From the features of a token to its pixels; trained in place.
    """

    def __init__(self, encoder: SpectrumTransformer, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, flux: Tensor, hidden: Tensor, weights: Tensor, level: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        flux : Tensor of shape (n, n_wavelengths)
            Standardized spectra.
        hidden : Tensor of bool, shape (n, n_wavelengths)
            What to hide and to fill in.
        weights : Tensor of shape (n, n_wavelengths)
            Of the pixels; zero is missing.
        level : Tensor of shape (n, 2)
            What stands for each spectrum's mean and scale.

        Returns
        -------
        Tensor
            A scalar.
        """
        seen = (weights > 0) & ~hidden
        _, tokens = self.encoder(flux * seen, seen, level)
        split = self.encoder.split
        return masked_mse(self.decoder(tokens[:, 1:]), split(flux), split(weights * hidden))


class MaskedSpectrumEmbedder(BaseEmbedder):
    r"""Learn an embedding of spectra without labels, by filling in what is hidden of them.

    Each spectrum is standardized by its own mean and scale, which a token of its own tells the network; segments of it
    are hidden, and the network predicts them from the rest. A pixel that is NaN, or whose inverse variance is zero, is
    missing: the network is told so, and no loss is taken there. Zero is a value.

    Parameters
    ----------
    encoder : SpectrumEncoder, default=None
        Depth, width, heads and tokens of the transformer; None is a small one, ``SpectrumEncoder()``.
    n_masks : int, default=6
        Segments hidden of each spectrum, drawn anew for each batch; they never overlap.
    mask_length : int, default=60
        Length of each in pixels. Never more than half of a spectrum is hidden: masks are shortened first, and then
        fewer.
    floor : float, default=0.1
        Smallest scale that a spectrum is divided by, in units of the median of the training spectra: what is nearly
        constant is not blown up to noise.
    max_epochs : int or "auto", default="auto"
        Passes over the spectra; ``"auto"`` shows about 32,000, 0 leaves the encoder untrained.
    batch_size : int, default=64
        Largest batch, in training and at `transform`.
    lr : float, default=1e-3
        Peak learning rate.
    training : Training, default=None
        The rarer knobs: optimizer, schedules, precision, callbacks.
    device : str, default="auto"
        Torch device; ``"auto"`` is CUDA when there.
    verbose : int, default=0
        1 shows a progress bar with loss, learning rate, spectra per second and time left.
    random_state : int, RandomState instance or None, default=None
        An int makes `fit` repeat bit for bit on the same machine, versions, threads and precision.

    Attributes
    ----------
    encoder_ : SpectrumTransformer
        The trained encoder, on the CPU.
    decoder_ : nn.Module
        From a token's features to its pixels.
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` (about 1 when nothing is predicted but the mean), ``lr``, ``images_per_s`` (of spectra),
        ``embedding_std`` and ``effective_rank``.
    floor_ : float
        Smallest scale in the unit of the flux.
    level_ : ndarray of shape (2, 2)
        Mean and standard deviation over the training spectra of what stands for their levels: mean over scale, and the
        logarithm of the scale.
    provenance_ : dict
        Number and length of the training spectra, library versions.
    n_features_in_ : int
        Pixels of a spectrum.

    See Also
    --------
    skastro.augment.ContiguousMask : The same masks as a step of an augmentation.

    Notes
    -----
    The paper hides six runs of 30 tokens, 310 pixels each, but a token beside a run still shows half of the run's first
    token. Here the pixels themselves are hidden, from every token.

    References
    ----------
    Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
    <https://arxiv.org/abs/2310.03024>`_, sections 3.2 and 5.2 and appendix B2. Their configuration is
    ``skastro.published("parker2024-spectrum")``.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import MaskedSpectrumEmbedder, SpectrumEncoder
    >>> spectra = np.random.default_rng(0).normal(size=(8, 100))
    >>> spectra[2, :30] = np.nan  # not observed
    >>> embedder = MaskedSpectrumEmbedder(SpectrumEncoder(depth=1, width=16), max_epochs=1, random_state=0)
    >>> embedder.fit_transform(spectra).shape
    (8, 32)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "encoder": [SpectrumEncoder, None],
        "n_masks": [Interval(Integral, 1, None, closed="left")],
        "mask_length": [Interval(Integral, 1, None, closed="left")],
        "floor": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "training": [Training, None],
        "device": [str],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    _shorthand: ClassVar[dict[str, Any]] = BaseEmbedder._shorthand | {"encoder": get_spectrum_encoder}
    _networks: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    # On by default: an inverse variance that is given can mean nothing else.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"ivar": True}
    __metadata_request__transform: ClassVar[dict[str, bool]] = {"ivar": True}

    def __init__(
        self,
        encoder: SpectrumEncoder | None = None,
        *,
        n_masks: int = 6,
        mask_length: int = 60,
        floor: float = 0.1,
        max_epochs: int | str = "auto",
        batch_size: int = 64,
        lr: float = 1e-3,
        training: Training | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.encoder = encoder
        self.n_masks = n_masks
        self.mask_length = mask_length
        self.floor = floor
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.training = training
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, ivar: Any = None) -> Self:
        """Learn from spectra alone.

        Parameters
        ----------
        X : array-like of shape (n, n_wavelengths)
            Flux on one grid of wavelengths, in any unit; NaN is missing.
        y : ignored
            Present for scikit-learn.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance in the inverse square of the flux's unit; zero is missing. It weighs pixels against others
            of the same spectrum, in the loss and in the spectrum's mean and scale. None weighs all alike.

        Returns
        -------
        MaskedSpectrumEmbedder
            Itself. Ctrl-C keeps what was learned before it stops.

        Raises
        ------
        ValueError
            If a parameter, the spectra or `ivar` cannot be used; nothing has been trained then.
        """
        self._validate_params()
        self._training_config()
        device = resolve_device(self.device)
        with restored_on_error(self):
            flux, ivar = self._check_spectra(X, ivar, reset=True)
            self._learn_levels(flux, ivar)
            self._spec = clone(get_spectrum_encoder(self.encoder))
            self._spec.check()
            self._n_features_out = self._spec.width * (2 if self._spec.pool == "avgmax" else 1)
            seed = draw_seed(self.random_state)
            with local_seed(seed):
                encoder, decoder = self._build_encoder(), self._build_decoder()
                monitor = Monitor(encoder.pool)
                try:
                    self._train(MaskedSpectrum(encoder, decoder), flux, ivar, device, seed, monitor)
                finally:  # also when Ctrl-C interrupts: what was learned stays
                    self.encoder_, self.decoder_ = encoder.cpu().eval(), decoder.cpu().eval()
                    self.history_ = monitor.arrays()
        return self

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
        """
        check_is_fitted(self)
        flux, ivar = self._check_spectra(X, ivar, reset=False)
        return np.concatenate([rows.cpu().numpy() for rows, _ in self._run(flux, ivar)])

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

    def reconstruct(self, X: Any, ivar: Any = None) -> np.ndarray:
        """Fill in the missing pixels; to see what was learned, set a stretch to NaN.

        Parameters
        ----------
        X : array-like of shape (n, n_wavelengths)
            Flux; NaN is missing.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance; zero is missing.

        Returns
        -------
        ndarray of shape (n, n_wavelengths), float64
            `X` in the unit it came in, with its missing pixels predicted. Those at the end that belong to no token stay
            NaN if they are missing.

        Raises
        ------
        ValueError
            As in `transform`.
        """
        check_is_fitted(self)
        flux, ivar = self._check_spectra(X, ivar, reset=False)
        weights = pixel_weights(flux, ivar)
        mean, scale = self._levels(flux, weights)
        filled = np.full(flux.shape, np.nan)
        with torch.inference_mode():
            decoded = [self.encoder_.join(self.decoder_(tokens[:, 1:].cpu())) for _, tokens in self._run(flux, ivar)]
        predicted = torch.cat(decoded).numpy()[:, : flux.shape[1]]
        filled[:, : predicted.shape[1]] = mean[:, np.newaxis] + scale[:, np.newaxis] * predicted
        return np.where(weights > 0, flux, filled)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _check_spectra(self, X: Any, ivar: Any, reset: bool) -> tuple[np.ndarray, np.ndarray | None]:
        check_lengths(X)
        flux = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
        )
        ivar = check_ivar(ivar, flux.shape)
        pixel_weights(flux, ivar)
        return flux, ivar

    def _learn_levels(self, flux: np.ndarray, ivar: np.ndarray | None) -> None:
        """Learn what scale is too small to divide by, and how far the levels of spectra spread."""
        weights = pixel_weights(flux, ivar)
        _, std = spectrum_levels(flux, weights)
        if flux.shape[1] > 1 and not std.any():
            raise ValueError(f"All {len(flux)} spectra are constant: there is nothing to learn from.")
        self.floor_ = self.floor * float(np.median(std[std > 0])) if std.any() else 1.0
        levels = np.column_stack(as_level(*self._levels(flux, weights)))
        spread = levels.std(axis=0)
        self.level_ = np.stack([levels.mean(axis=0), np.where(spread > 1e-6, spread, 1.0)])
        self.provenance_ = {
            "n_spectra": len(flux),
            "n_wavelengths": flux.shape[1],
            "versions": {name: version(name) for name in ("skastro", "torch", "timm", "scikit-learn", "numpy")}
            | {"python": platform.python_version()},
        }

    def _levels(self, flux: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, std = spectrum_levels(flux, weights)
        return mean, np.maximum(std, self.floor_)

    def _arrays(self, flux: np.ndarray, ivar: np.ndarray | None) -> dict[str, np.ndarray]:
        """Turn spectra into what the objective takes."""
        weights = pixel_weights(flux, ivar)
        mean, scale = self._levels(flux, weights)
        level = (np.column_stack(as_level(mean, scale)) - self.level_[0]) / self.level_[1]
        return {
            "images": standardize(flux, weights, mean, scale),
            "weights": weights.astype(np.float32),
            "level": level.astype(np.float32),
        }

    def _all_arrays(self, flux: np.ndarray, ivar: np.ndarray | None) -> dict[str, np.ndarray]:
        chunks = [slice(start, start + CHUNK) for start in range(0, len(flux), CHUNK)]
        parts = [self._arrays(flux[rows], None if ivar is None else ivar[rows]) for rows in chunks]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _train(
        self,
        objective: Objective,
        flux: np.ndarray,
        ivar: np.ndarray | None,
        device: torch.device,
        seed: int,
        monitor: Monitor,
    ) -> None:
        if self.max_epochs == 0:
            return
        train(
            objective,
            Masks(self.n_masks, self.mask_length, torch.Generator(device).manual_seed(seed)),
            self._all_arrays(flux, ivar),
            monitor=monitor,
            training=self._training_config(),
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            device=device,
            verbose=self.verbose,
        )

    def _run(self, flux: np.ndarray, ivar: np.ndarray | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the encoder's rows and tokens batch by batch."""
        device = resolve_device(self.device)
        encoder = self._moved(self.encoder_)
        for start in range(0, len(flux), self.batch_size):
            rows = slice(start, start + self.batch_size)
            arrays = self._arrays(flux[rows], None if ivar is None else ivar[rows])
            pixels, weights, level = (torch.from_numpy(array).to(device) for array in arrays.values())
            with self._inference():
                embedded, tokens = encoder(pixels, weights > 0, level)
            yield embedded.float(), tokens.float()

    def _token_inputs(self, X: Any, there: np.ndarray, ivar: Any = None) -> list[np.ndarray]:
        """Check the spectra that are there, and give what `_token_network` takes of all."""
        rows = np.flatnonzero(there)
        ivar = None if ivar is None else _safe_indexing(ivar, rows)
        flux, ivar = self._check_spectra(_safe_indexing(X, rows), ivar, reset=False)
        return [scatter(array, there) for array in self._all_arrays(flux, ivar).values()]

    def _token_network(self) -> nn.Module:
        """Give the network from spectra to the tokens that attention pools."""
        return SpectrumTokens(self.encoder_)

    def _build_encoder(self) -> SpectrumTransformer:
        return self._spec.build(self.n_features_in_)

    def _build_decoder(self) -> nn.Module:
        return nn.Linear(self._spec.width, self._spec.token)


def as_level(mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Express a spectrum's mean and scale by two numbers of order one, from which both can be told."""
    return mean / scale, np.log(scale)
