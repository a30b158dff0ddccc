"""Embedders whose encoder is used as it is, with random or published weights, behind the same door as all others."""

from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from skastro._docs import SPECTRA, documented
from skastro._warning import warn
from skastro.base import BaseEmbedder, fitting
from skastro.devices import draw_seed
from skastro.encoders import (
    ConvSpectrumEncoder,
    ImageEncoder,
    SpecFormer,
    SpectrumEncoder,
    get_encoder,
    get_spectrum_encoder,
)
from skastro.missing import refuse_ivar_as_y
from skastro.modalities.base import Modality, feature_width
from skastro.modalities.images import ImageModality
from skastro.modalities.spectra import SpectrumModality
from skastro.surveys import Survey
from skastro.training import Training, local_seed

__all__ = [
    "SPECTRUM_ENCODERS",
    "FixedImageEmbedder",
    "FixedSpectrumEmbedder",
    "as_embedder",
    "as_specification",
    "is_specification",
    "warn_of_fitted",
]

SPECTRUM_ENCODERS = (SpectrumEncoder, ConvSpectrumEncoder, SpecFormer)


class Fixed(BaseEmbedder, Modality):
    """Base of embedders that make their encoder and do not train it."""

    device: str
    random_state: Any
    batch_norm: str = "given"

    def _make(self, X: Any, **metadata: Any) -> Self:
        self._check_params()
        with fitting(self):
            arrays = self.inputs(X, reset=True, **metadata)
            with local_seed(draw_seed(self.random_state)):
                encoder = self.start_encoder()
            if self.batch_norm == "measured":
                self._inference().measure_norms(encoder, self.view(), arrays)
            self.adopt(encoder)
            self._n_features_out = feature_width(self, self.encoder_, arrays)
        return self


@documented
class FixedImageEmbedder(Fixed, ImageModality):
    """Embed images by an encoder as it is: of published weights, or of random ones, the floor that training must beat.

    The band statistics are learned from the images, unless ``normalize=`` is a fixed stretch; the weights are those
    that the encoder names, random ones, or those of the module given.

    Parameters
    ----------
    batch_norm : {"given", "measured"}, default="given"
        Statistics of the encoder's batch norms: as the weights bring them, or measured on the images of `fit`, which
        are of another sky.

    Attributes
    ----------
    encoder_ : nn.Module
        The encoder, on the CPU.
    normalizer_ : dict of ndarray of shape (bands,)
        Measured noise, mean, standard deviation, and softening of the asinh.
    survey_ : Survey or None
        The survey in use.
    image_shape_, size_ : tuple of int
        Shape of the images seen in `fit`; height and width that the encoder sees.
    provenance_ : dict
        Number and shape of the images, survey, library versions; of given weights source, layout and what to cite.
    n_features_in_ : int
        Number of columns of 2-D rows, else of bands.

    See Also
    --------
    skastro.papers.published : Published networks by name, with their weights and how images are shown to them.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import FixedImageEmbedder
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> FixedImageEmbedder("test_resnet", average="dihedral", random_state=0).fit_transform(images).shape
    (8, 736)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageModality._parameter_constraints | {
        "batch_norm": [StrOptions({"given", "measured"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        encoder: str | ImageEncoder | nn.Module = "resnet10t",
        *,
        survey: str | Survey | None = None,
        size: int | None = None,
        image_shape: tuple[int, int, int] | None = None,
        bands_axis: int | None = None,
        normalize: str | None = "standard",
        average: str | int | None = None,
        batch_norm: str = "given",
        batch_size: int = 256,
        training: Training | None = None,
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.encoder = encoder
        self.survey = survey
        self.size = size
        self.image_shape = image_shape
        self.bands_axis = bands_axis
        self.normalize = normalize
        self.average = average
        self.batch_norm = batch_norm
        self.batch_size = batch_size
        self.training = training
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the band statistics, and make the encoder.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images, flux or 8-bit.
        y : ignored
            Present for scikit-learn.

        Returns
        -------
        FixedImageEmbedder
            Itself.

        Raises
        ------
        ValueError
            If a parameter, the images or the weights cannot be used.
        """
        return self._make(X)


@partial(documented, words=SPECTRA)
class FixedSpectrumEmbedder(Fixed, SpectrumModality):
    """Embed spectra by an encoder that is not trained: the floor that pretraining has to beat.

    The spread of the spectra's levels is learned from the data; the weights are random, or those published that a
    :class:`~skastro.encoders.SpecFormer` names.

    Parameters
    ----------
    encoder : SpectrumEncoder, ConvSpectrumEncoder, SpecFormer, "conv-attention" or None, default=None
        Specification of the network; None is ``SpectrumEncoder()``.

    Attributes
    ----------
    encoder_ : nn.Module
        The encoder, on the CPU.
    floor_ : float
        Smallest scale in the unit of the flux.
    level_ : ndarray of shape (2, 2)
        Mean and standard deviation over the training spectra of what stands for their levels; `SpecFormer` has none.
    provenance_ : dict
        Number and length of the spectra, library versions.
    n_features_in_ : int
        Pixels of a spectrum.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import SpectrumEncoder, FixedSpectrumEmbedder
    >>> spectra = np.random.default_rng(0).normal(size=(8, 100))
    >>> FixedSpectrumEmbedder(SpectrumEncoder(depth=1, width=16), random_state=0).fit_transform(spectra).shape
    (8, 32)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = SpectrumModality._parameter_constraints | {
        "encoder": [*SPECTRUM_ENCODERS, str, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        encoder: Any = None,
        *,
        floor: float = 0.1,
        batch_size: int = 64,
        training: Training | None = None,
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.encoder = encoder
        self.floor = floor
        self.batch_size = batch_size
        self.training = training
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, ivar: Any = None) -> Self:
        """Learn the spread of the levels, and make the encoder.

        Parameters
        ----------
        X : array-like of shape (n, n_wavelengths)
            Flux; NaN is missing.
        y : ignored
            Present for scikit-learn; refused if it looks like an inverse variance.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance; zero is missing.

        Returns
        -------
        FixedSpectrumEmbedder
            Itself.

        Raises
        ------
        ValueError
            If a parameter, the spectra or `ivar` cannot be used.
        """
        refuse_ivar_as_y(y, X)
        return self._make(X, ivar=ivar)


def as_specification(encoder: Any) -> Any:
    """Turn a name and None into the encoders that they stand for; anything else passes through.

    Parameters
    ----------
    encoder : str, None, or anything else
        What the user gave.

    Returns
    -------
    ImageEncoder, SpectrumEncoder, ConvSpectrumEncoder, or what came

    Examples
    --------
    >>> from skastro.modalities import as_specification
    >>> as_specification(None), as_specification("resnet10t"), as_specification("conv-attention")
    (SpectrumEncoder(), ImageEncoder(), ConvSpectrumEncoder())
    """
    if encoder is None or encoder == "conv-attention":
        return get_spectrum_encoder(encoder)
    return get_encoder(encoder)


def is_specification(encoder: Any) -> bool:
    """Find whether what the user gave is an encoder and no more, which only a later training can train.

    Parameters
    ----------
    encoder : str, specification, nn.Module, None, transformer or FrozenEstimator
        What the user gave.

    Returns
    -------
    bool
    """
    return isinstance(as_specification(encoder), (ImageEncoder, *SPECTRUM_ENCODERS, nn.Module))


def as_embedder(encoder: Any, **params: Any) -> Any:
    """Make a transformer of what the user gave: a frozen one, or one to be fitted.

    Parameters
    ----------
    encoder : str, specification, nn.Module, None, transformer or FrozenEstimator
        What the user gave; an encoder becomes an embedder that is not trained.
    **params : dict
        Parameters of that; ``random_state`` also of a transformer whose own is None.

    Returns
    -------
    FrozenEstimator or transformer

    Examples
    --------
    >>> from skastro.modalities import as_embedder
    >>> as_embedder("resnet18", size=64)
    FixedImageEmbedder(encoder=ImageEncoder(name='resnet18'), size=64)
    """
    encoder = as_specification(encoder)
    if isinstance(encoder, FrozenEstimator):
        return encoder
    if isinstance(encoder, SPECTRUM_ENCODERS):
        return FixedSpectrumEmbedder(encoder, **params)
    if is_specification(encoder):
        return FixedImageEmbedder(encoder, **params)
    own = clone(encoder)
    known = own.get_params()
    if "random_state" in known and known["random_state"] is None:
        own.set_params(random_state=params.get("random_state"))
    return own


def warn_of_fitted(encoder: Any, name: str) -> None:
    """Warn of an embedder that has been trained, and is to be trained anew because it is not frozen.

    Parameters
    ----------
    encoder : any
        What the user gave.
    name : str
        Of the parameter.

    Warns
    -----
    UserWarning
        With how to keep what it learned.

    Examples
    --------
    >>> from skastro import BYOLEmbedder
    >>> from skastro.modalities import warn_of_fitted
    >>> warn_of_fitted(BYOLEmbedder(), "encoder")  # a recipe
    """
    if hasattr(encoder, "fit") and hasattr(encoder, "history_") and not isinstance(encoder, FrozenEstimator):
        warn(f"{name} is fitted, and is fitted anew on these rows: FrozenEstimator({name}) keeps what it learned.")
