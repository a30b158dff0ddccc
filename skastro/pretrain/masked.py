"""Masked spectra: a transformer fills in what was hidden of a spectrum, and so learns what spectra are."""

from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skastro import ranks
from skastro._docs import SPECTRA, documented
from skastro.augment.spectra import segments
from skastro.base import fitting
from skastro.encoders import SpectrumEncoder, SpectrumTransformer, Tokens
from skastro.losses import masked_mse
from skastro.missing import refuse_ivar_as_y
from skastro.modalities import SpectrumModality, TrainedModality
from skastro.spectra import pixel_weights
from skastro.training import Objective, Training, own_state

__all__ = ["MaskedSpectrum", "MaskedSpectrumEmbedder", "Masks"]


class Masks:
    """Draw what to hide of a batch of spectra: half of a spectrum at most.

    Parameters
    ----------
    count, length : int
        Number of segments, and the length of each in pixels; what would hide more than half is shortened, in length
        first and then in number.
    generator : torch.Generator
        Source of randomness, on the device of the spectra.
    """

    inputs = ("flux",)

    def __init__(self, count: int, length: int, generator: torch.Generator) -> None:
        self.count = count
        self.length = length
        self.generator = generator

    def __call__(self, flux: Tensor) -> list[Tensor]:
        """Return the spectra, and what to hide of them."""
        n, width = flux.shape
        length = max(1, min(self.length, width // 2))
        count = max(1, min(self.count, width // 2 // length))
        return [flux, ranks.drawn(lambda rows: segments(rows, width, count, length, self.generator), n)]


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

    def forward(self, flux: Tensor, hidden: Tensor, pixel_weights: Tensor, level: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        flux : Tensor of shape (n, n_wavelengths)
            Standardized spectra.
        hidden : Tensor of bool, shape (n, n_wavelengths)
            What to hide and to fill in.
        pixel_weights : Tensor of shape (n, n_wavelengths)
            Weights of the pixels; zero is missing.
        level : Tensor of shape (n, 2)
            What stands for each spectrum's mean and scale.

        Returns
        -------
        Tensor
            A scalar.
        """
        seen = (pixel_weights > 0) & ~hidden
        tokens, mask = self.encoder.tokens(flux * seen, seen, level)
        with torch.no_grad():  # the embedding that the history watches
            self.encoder.pool(tokens, mask)
        split = self.encoder.split
        whole = (self.decoder(tokens[:, 1:]), split(flux), split(pixel_weights * hidden))
        return masked_mse(*(ranks.gather(part) for part in whole))


@partial(documented, words=SPECTRA)
class MaskedSpectrumEmbedder(SpectrumModality, TrainedModality):
    r"""Learn an embedding of spectra without labels, by filling in what is hidden of them.

    Each spectrum is standardized by its own mean and scale, which the network sees as a token of their own; segments of
    it are hidden, and the network predicts them from the rest. A pixel that is NaN, or whose inverse variance is zero,
    is missing: the network knows, and no loss is taken there. Zero is a value.

    Parameters
    ----------
    n_masks : int, default=6
        Segments hidden of each spectrum, drawn anew for each batch; they never overlap.
    mask_length : int, default=60
        Length of each in pixels. Never more than half of a spectrum is hidden: masks are shortened first, and then
        fewer.

    Attributes
    ----------
    encoder_ : SpectrumTransformer
        The trained encoder, on the CPU.
    decoder_ : nn.Module
        From a token's features to its pixels.
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` (about 1 when nothing is predicted but the mean), ``lr``, ``samples_per_s``,
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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = SpectrumModality._parameter_constraints | {
        "encoder": [SpectrumEncoder, None],
        "n_masks": [Interval(Integral, 1, None, closed="left")],
        "mask_length": [Interval(Integral, 1, None, closed="left")],
    }
    _networks: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

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
            Present for scikit-learn; refused if it looks like an inverse variance.
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
        self._check_params()
        refuse_ivar_as_y(y, X)
        with fitting(self):
            arrays = self.inputs(X, reset=True, ivar=ivar)
            arrays.pop("precision", None)  # which only a recipe would ask for
            return self._learn(arrays, lambda generator: Masks(self.n_masks, self.mask_length, generator))

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
        inference, network, predicted = self._inference(), Tokens(self.encoder_), []
        encoder: Any = self.encoder_
        for arrays in self._chunks(flux, ivar):
            for _, ((tokens, _),) in inference(network, [self.view()], arrays):
                predicted.append(encoder.join(self._decode(tokens[:, 1:].float().cpu())))
        standard = torch.cat(predicted).numpy()[:, : flux.shape[1]]
        filled = np.full(flux.shape, np.nan)
        filled[:, : standard.shape[1]] = mean[:, np.newaxis] + scale[:, np.newaxis] * standard
        return np.where(weights > 0, flux, filled)

    def build_decoder(self) -> nn.Module:
        """Make the decoder with fresh weights.

        Returns
        -------
        nn.Module
        """
        return nn.Linear(self._spec.width, self._spec.token)

    def _objective(self, encoder: Any) -> Objective:
        return MaskedSpectrum(encoder, self.build_decoder())

    def _watched(self, encoder: Any) -> nn.Module:
        return encoder.pool

    def _keep(self, objective: Any) -> None:
        self.decoder_ = objective.decoder.cpu().eval()

    def _decode(self, tokens: Tensor) -> Tensor:
        with own_state(), torch.inference_mode():
            return self.decoder_(tokens)
