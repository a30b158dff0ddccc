"""VICReg: two views of an image look alike, while features vary over the batch and do not repeat each other."""

from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from skastro._docs import documented
from skastro.base import constructed
from skastro.encoders import expander
from skastro.losses import vicreg_loss
from skastro.modalities import ImageEmbedder
from skastro.ranks import gather
from skastro.training import Objective

__all__ = ["VICReg", "VICRegEmbedder"]


class VICReg(Objective):
    """The objective of VICReg: one network sees both views; see `skastro.losses.vicreg_loss`.

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
    weights : tuple of float
        Of invariance, variance and covariance.
    """

    def __init__(
        self, encoder: nn.Module, width: int, hidden: int, out: int, weights: tuple[float, float, float]
    ) -> None:
        super().__init__()
        self.online = nn.Sequential(encoder, expander(width, hidden, out))
        self.weights = weights

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Compute the loss of a batch, and leave its three parts.

        Parameters
        ----------
        first, second : Tensor of shape (n, bands, height, width)
            Two views of the same images.

        Returns
        -------
        Tensor
            A scalar.
        """
        loss, self.parts = vicreg_loss(gather(self.online(first)), gather(self.online(second)), self.weights)
        return loss


@documented
@constructed
class VICRegEmbedder(ImageEmbedder):
    r"""Learn an embedding of images without labels, by VICReg.

    Parameters
    ----------
    invariance_weight : float, default=25.0
        :math:`\lambda` of the loss: how much both views of an image must look alike.
    variance_weight : float, default=25.0
        :math:`\mu`: how much each feature must vary over the batch, which is what prevents collapse.
    covariance_weight : float, default=1.0
        :math:`\nu`: how much features must not repeat each other.

    Attributes
    ----------
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` (the weighted sum, never a score), its parts ``invariance_loss``, ``variance_loss`` (0.99 if all images
        map to one point, 0 if each feature's standard deviation is 1) and ``covariance_loss``, ``lr``,
        ``images_per_s``, ``embedding_std`` and ``effective_rank`` (both fall if it collapses).

    See Also
    --------
    SimCLREmbedder : Tell images apart, in the place of keeping features varied.

    Notes
    -----
    The paper's projector is 8,192 wide, its batches have 2,048 images and its optimizer is LARS. Paper and code differ
    in factors of the loss; see `skastro.losses.vicreg_loss`.

    References
    ----------
    Bardes, Ponce and LeCun (2022), "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
    Learning", https://arxiv.org/abs/2105.04906.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import VICRegEmbedder
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> embedder = VICRegEmbedder("test_resnet", max_epochs=1, batch_size=4, random_state=0)
    >>> embedder.fit_transform(images).shape
    (8, 736)
    """

    hidden_dim: int = 1024
    projection_dim: int = 1024
    invariance_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 1.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageEmbedder._parameter_constraints | {
        "hidden_dim": [Interval(Integral, 1, None, closed="left")],
        "projection_dim": [Interval(Integral, 1, None, closed="left")],
        "invariance_weight": [Interval(Real, 0, None, closed="left")],
        "variance_weight": [Interval(Real, 0, None, closed="left")],
        "covariance_weight": [Interval(Real, 0, None, closed="left")],
    }

    def _objective(self, encoder: nn.Module) -> Objective:
        weights = self.invariance_weight, self.variance_weight, self.covariance_weight
        return VICReg(encoder, self._n_features_out, self.hidden_dim, self.projection_dim, weights)
