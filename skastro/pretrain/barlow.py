"""Barlow Twins: each feature of one view goes with the same feature of the other view, and with no other one."""

from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from skastro._docs import documented
from skastro.base import constructed
from skastro.encoders import expander
from skastro.losses import barlow_twins_loss
from skastro.modalities import ImageEmbedder
from skastro.ranks import gather
from skastro.training import Objective

__all__ = ["BarlowTwins", "BarlowTwinsEmbedder"]


class BarlowTwins(Objective):
    """The objective of Barlow Twins: one network sees both views; see `skastro.losses.barlow_twins_loss`.

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
    weight : float
        Of the correlations between different features.
    """

    def __init__(self, encoder: nn.Module, width: int, hidden: int, out: int, weight: float) -> None:
        super().__init__()
        self.online = nn.Sequential(encoder, expander(width, hidden, out))
        self.weight = weight

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Compute the loss of a batch, and leave its two parts.

        Parameters
        ----------
        first, second : Tensor of shape (n, bands, height, width)
            Two views of the same images.

        Returns
        -------
        Tensor
            A scalar.
        """
        first, second = gather(self.online(first)), gather(self.online(second))
        loss, self.parts = barlow_twins_loss(first, second, self.weight)
        return loss


@documented
@constructed
class BarlowTwinsEmbedder(ImageEmbedder):
    r"""Learn an embedding of images without labels, by Barlow Twins.

    Parameters
    ----------
    off_diagonal_weight : float, default=0.005
        :math:`\lambda` of the loss: how much features must not go with each other.

    Attributes
    ----------
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` (never a score), its parts ``on_diagonal_loss`` (1 for each feature of the projection where the views
        have nothing in common) and ``off_diagonal_loss`` before it is weighted, ``lr``, ``images_per_s``,
        ``embedding_std`` and ``effective_rank`` (both fall if it collapses).

    See Also
    --------
    VICRegEmbedder : Decorrelate the features of each view on its own.

    Notes
    -----
    The paper's projector is 8,192 wide, its batches have 2,048 images and its optimizer is LARS; its code has 0.0051
    for :math:`\lambda`.

    References
    ----------
    Zbontar et al. (2021), "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
    https://arxiv.org/abs/2103.03230.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import BarlowTwinsEmbedder
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> embedder = BarlowTwinsEmbedder("test_resnet", max_epochs=1, batch_size=4, random_state=0)
    >>> embedder.fit_transform(images).shape
    (8, 736)
    """

    hidden_dim: int = 1024
    projection_dim: int = 1024
    off_diagonal_weight: float = 0.005

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageEmbedder._parameter_constraints | {
        "hidden_dim": [Interval(Integral, 1, None, closed="left")],
        "projection_dim": [Interval(Integral, 1, None, closed="left")],
        "off_diagonal_weight": [Interval(Real, 0, None, closed="left")],
    }

    def _objective(self, encoder: nn.Module) -> Objective:
        widths = self._n_features_out, self.hidden_dim, self.projection_dim
        return BarlowTwins(encoder, *widths, self.off_diagonal_weight)
