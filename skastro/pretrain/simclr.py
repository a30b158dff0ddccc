"""SimCLR: each view of an image finds the other among all views of the batch."""

from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from skastro.augment import Augment, MultiView
from skastro.base import ImageEmbedder
from skastro.encoders import ImageEncoder, mlp
from skastro.losses import nt_xent
from skastro.surveys import Survey
from skastro.training import Objective, Training

__all__ = ["SimCLR", "SimCLREmbedder"]


class SimCLR(Objective):
    """The objective of SimCLR: one network sees both views; see `skastro.losses.nt_xent`.

    Parameters
    ----------
    encoder : nn.Module
        From images to rows of `width` features; trained in place.
    width : int
        Its features.
    hidden : int
        Hidden width of the projector.
    out : int
        Width of the projection.
    temperature : float
        Of the loss.
    """

    def __init__(self, encoder: nn.Module, width: int, hidden: int, out: int, temperature: float) -> None:
        super().__init__()
        self.online = nn.Sequential(encoder, mlp(width, hidden, out))
        self.temperature = temperature

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        first, second : Tensor of shape (n, bands, height, width)
            Two views of the same images.

        Returns
        -------
        Tensor
            A scalar.
        """
        return nt_xent(self.online(first), self.online(second), self.temperature)


class SimCLREmbedder(ImageEmbedder):
    r"""Learn an embedding of images without labels, by SimCLR.

    Parameters
    ----------
    encoder : str, ImageEncoder or nn.Module, default="resnet10t"
        A timm model name, a specification with stem and pooling, or a module from images to rows of features.
        Weights are random; nothing is downloaded.
    augment : str, Augment, MultiView or None, default="galaxy"
        Recipe of the views, applied to raw flux: ``"galaxy"``, ``"radio"``, ``"radio-finetune"`` or your own.
    survey : str, Survey or None, default=None
        What the bands and pixels mean; checked against the images and kept with the fitted estimator.
    size : int, default=None
        Side in pixels of the central window that the encoder sees; None is the whole cutout.
    image_shape : tuple of int, default=None
        ``(bands, height, width)`` of 2-D rows; None makes a row an image of one line.
    normalize : {"standard", "asinh"} or None, default="standard"
        Per band, learned in `fit`, applied after augmentation: standardize; divide by the noise, take asinh, then
        standardize; or neither.
    average : {"dihedral"}, int or None, default=None
        Average the embedding over the eight flips and quarter turns, or over that many rotations, at `transform`.
    hidden_dim : int, default=1024
        Hidden width of the projector.
    projection_dim : int, default=128
        Width of the projection in which the loss is taken.
    temperature : float, default=0.1
        :math:`\tau` of the loss.
    max_epochs : int or "auto", default="auto"
        Passes over the images; ``"auto"`` shows about 32,000 images, 0 leaves the encoder untrained.
    batch_size : int, default=256
        Largest batch, in training and at `transform`; in training it is also the number of images that each is told
        apart from.
    lr : float, default=1e-3
        Peak learning rate.
    training : Training, default=None
        The rarer knobs: optimizer, schedules, precision, callbacks.
    device : str, default="auto"
        Torch device; ``"auto"`` is CUDA when there.
    verbose : int, default=0
        1 shows a progress bar with loss, learning rate, images per second and time left.
    random_state : int, RandomState instance or None, default=None
        An int makes `fit` repeat bit for bit on the same machine, versions, threads and precision.

    Attributes
    ----------
    encoder_ : nn.Module
        The trained encoder, on the CPU.
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` (chance is ln(2n - 1) for batches of n; it depends on n and is never a score), ``lr``,
        ``images_per_s``, ``embedding_std`` and ``effective_rank`` (both fall if it collapses).
    normalizer_ : dict of ndarray of shape (bands,)
        Measured noise, mean, standard deviation, and softening of the asinh.
    augment_ : Augment
        The recipe in use.
    survey_ : Survey or None
        The survey in use.
    image_shape_ : tuple of int
        ``(bands, height, width)`` seen in `fit`.
    size_ : tuple of int
        Height and width that the encoder sees.
    provenance_ : dict
        Number and shape of the training images, survey, bands, pixel scale (arcsec), library versions.
    n_features_in_ : int
        Number of columns of 2-D rows, else of bands.

    See Also
    --------
    MoCoEmbedder : The same loss with a queue, for batches that are small beside the number of images.

    References
    ----------
    Chen, Kornblith et al. (2020), "A Simple Framework for Contrastive Learning of Visual Representations".

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import SimCLREmbedder
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> embedder = SimCLREmbedder("test_resnet", max_epochs=1, batch_size=4, random_state=0)
    >>> embedder.fit_transform(images).shape
    (8, 736)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageEmbedder._parameter_constraints | {
        "hidden_dim": [Interval(Integral, 1, None, closed="left")],
        "projection_dim": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        encoder: str | ImageEncoder | nn.Module = "resnet10t",
        *,
        augment: str | Augment | MultiView | None = "galaxy",
        survey: str | Survey | None = None,
        size: int | None = None,
        image_shape: tuple[int, int, int] | None = None,
        normalize: str | None = "standard",
        average: str | int | None = None,
        hidden_dim: int = 1024,
        projection_dim: int = 128,
        temperature: float = 0.1,
        max_epochs: int | str = "auto",
        batch_size: int = 256,
        lr: float = 1e-3,
        training: Training | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.encoder = encoder
        self.augment = augment
        self.survey = survey
        self.size = size
        self.image_shape = image_shape
        self.normalize = normalize
        self.average = average
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.temperature = temperature
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.training = training
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def _objective(self, encoder: nn.Module) -> Objective:
        return SimCLR(encoder, self._n_features_out, self.hidden_dim, self.projection_dim, self.temperature)
