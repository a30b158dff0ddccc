"""BYOL: two networks look at two views of an image, and one predicts what the other sees."""

import copy
from numbers import Integral
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from skastro.augment import Augment, MultiView
from skastro.base import ImageEmbedder
from skastro.encoders import ImageEncoder, mlp
from skastro.losses import byol_loss
from skastro.surveys import Survey
from skastro.training import Objective, Training, ema_update

__all__ = ["BYOL", "BYOLEmbedder"]

PREDICTOR_LR_FACTOR = 10.0  # of the predictor's learning rate over the encoder's


class BYOL(Objective):
    r"""The objective of BYOL.

    The online network (encoder, projector, predictor :math:`q`) sees one view, the target network (a slowly moving
    copy of encoder and projector) the other, and both ways round are averaged:

    .. math:: L = \tfrac12\left[\ell(q(z_1), z'_2) + \ell(q(z_2), z'_1)\right], \qquad
              \ell(p, z') = 2 - 2\cos(p, z'), \qquad 0 \le L \le 4.

    Parameters
    ----------
    encoder : nn.Module
        From images to rows of `width` features; trained in place.
    width : int
        Its features.
    hidden : int
        Hidden width of projector and predictor.
    out : int
        Width of the projection.
    """

    def __init__(self, encoder: nn.Module, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.online = nn.Sequential(encoder, mlp(width, hidden, out))
        self.predictor = mlp(out, hidden, out)
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Compute the symmetric loss of a batch.

        Parameters
        ----------
        first, second : Tensor of shape (n, bands, height, width)
            Two views of the same images.

        Returns
        -------
        Tensor
            A scalar from 0 to 4.
        """
        return self.compare(first, second)[0]

    def compare(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the symmetric loss of a batch, and tell what the encoder sees of the first view.

        Parameters
        ----------
        first, second : Tensor of shape (n, bands, height, width)
            Two views of the same images.

        Returns
        -------
        loss : Tensor
            A scalar from 0 to 4.
        features : Tensor of shape (n, width)
            The encoder's, of the first view, for a head beside the projector.
        """
        encoder, projector = self.online
        features = encoder(first)
        forth = byol_loss(self.predictor(projector(features)), self.target(second))
        back = byol_loss(self.predictor(self.online(second)), self.target(first))
        return (forth + back) / 2, features

    def lr_scales(self) -> dict[str, float]:
        """Let the predictor learn ten times as fast, so that it keeps up with what it predicts from.

        Returns
        -------
        dict
        """
        return {f"predictor.{name}": PREDICTOR_LR_FACTOR for name, _ in self.predictor.named_parameters()}

    def update(self, rate: float) -> None:
        """Move the target network after a step.

        Parameters
        ----------
        rate : float
            Fraction of the target that stays.
        """
        ema_update(self.target, self.online, rate)


class BYOLEmbedder(ImageEmbedder):
    r"""Learn an embedding of images without labels, by BYOL.

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
        Hidden width of projector and predictor.
    projection_dim : int, default=256
        Width of the projection in which the loss is taken.
    max_epochs : int or "auto", default="auto"
        Passes over the images; ``"auto"`` shows about 32,000 images, 0 leaves the encoder untrained.
    batch_size : int, default=64
        Largest batch, in training and at `transform`.
    lr : float, default=1e-3
        Peak learning rate of encoder and projector; the predictor's is ten times that.
    training : Training, default=None
        The rarer knobs: optimizer, schedules, rate of the target network, precision, callbacks.
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
        ``loss`` (from 0 to 4; 2 is chance, and a low loss does not foretell a good embedding, so it is never a
        score), ``lr``, ``images_per_s``, ``embedding_std`` and ``effective_rank`` (both fall if it collapses).
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
    sklearn.frozen.FrozenEstimator : Reuse a fitted embedder in pipelines and searches without refitting.

    Notes
    -----
    The predictor learns ten times as fast as the rest: a predictor near its optimum is what keeps BYOL from collapse
    (Grill et al., section 5), and in a few hundred steps it gets there only in haste. Where steps are few, small
    batches and a target network that follows quickly gave the best embeddings of radio galaxies.

    The target network's rate, here from 0.97 to 1, and the schedules are parameters of `Training`. Its batch-norm
    statistics move with its weights. The published code for radio galaxies overshoots its warm-up and never shuffles;
    this does neither.

    References
    ----------
    Grill et al. (2020), "Bootstrap your own latent"; Slijepcevic et al. (2023), "Radio Galaxy Zoo: towards building
    the first multipurpose foundation model for radio astronomy with self-supervised learning"; Walmsley et al.
    (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning".

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import BYOLEmbedder
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> embedder = BYOLEmbedder("test_resnet", max_epochs=1, batch_size=4, random_state=0)
    >>> embedder.fit_transform(images).shape
    (8, 736)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageEmbedder._parameter_constraints | {
        "hidden_dim": [Interval(Integral, 1, None, closed="left")],
        "projection_dim": [Interval(Integral, 1, None, closed="left")],
    }
    _auto: ClassVar[dict[str, Any]] = {"ema": 0.97}

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
        projection_dim: int = 256,
        max_epochs: int | str = "auto",
        batch_size: int = 64,
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
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.training = training
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def _objective(self, encoder: nn.Module) -> Objective:
        return BYOL(encoder, self._n_features_out, self.hidden_dim, self.projection_dim)
