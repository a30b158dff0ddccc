"""SimCLR: each view of an image finds the other among all views of the batch."""

from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from skastro._docs import documented
from skastro.base import constructed
from skastro.encoders import mlp
from skastro.losses import nt_xent
from skastro.modalities import ImageEmbedder
from skastro.ranks import gather
from skastro.training import Objective

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
        return nt_xent(gather(self.online(first)), gather(self.online(second)), self.temperature)


@documented
@constructed
class SimCLREmbedder(ImageEmbedder):
    r"""Learn an embedding of images without labels, by SimCLR.

    Parameters
    ----------
    temperature : float, default=0.1
        :math:`\tau` of the loss.
    batch_size : int, default=64
        Largest batch, in training and at `transform`; in training it is also the number of images that each is told
        apart from.

    Attributes
    ----------
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` (chance is ln(2n - 1) for batches of n; it depends on n and is never a score), ``lr``,
        ``images_per_s``, ``embedding_std`` and ``effective_rank`` (both fall if it collapses).

    See Also
    --------
    MoCoEmbedder : The same loss with a queue, for batches that are small beside the number of images.

    References
    ----------
    Chen, Kornblith et al. (2020), "A Simple Framework for Contrastive Learning of Visual Representations",
    `arXiv:2002.05709 <https://arxiv.org/abs/2002.05709>`_.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import SimCLREmbedder
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> embedder = SimCLREmbedder("test_resnet", max_epochs=1, batch_size=4, random_state=0)
    >>> embedder.fit_transform(images).shape
    (8, 736)
    """

    hidden_dim: int = 1024
    projection_dim: int = 128
    temperature: float = 0.1

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageEmbedder._parameter_constraints | {
        "hidden_dim": [Interval(Integral, 1, None, closed="left")],
        "projection_dim": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def _objective(self, encoder: nn.Module) -> Objective:
        return SimCLR(encoder, self._n_features_out, self.hidden_dim, self.projection_dim, self.temperature)
