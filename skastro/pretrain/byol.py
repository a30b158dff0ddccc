"""BYOL: two networks look at two views of an image, and one predicts what the other sees."""

import copy
from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from skastro._docs import documented
from skastro.base import constructed
from skastro.encoders import mlp
from skastro.losses import byol_loss
from skastro.modalities import ImageEmbedder
from skastro.ranks import gather
from skastro.training import Objective, ema_update

__all__ = ["BYOL", "BYOLEmbedder"]


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
    predictor_lr_factor : float, default=10.0
        Factor on the learning rate of the predictor over the encoder's.
    """

    def __init__(
        self, encoder: nn.Module, width: int, hidden: int, out: int, predictor_lr_factor: float = 10.0
    ) -> None:
        super().__init__()
        self.online = nn.Sequential(encoder, mlp(width, hidden, out))
        self.predictor = mlp(out, hidden, out)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.predictor_lr_factor = predictor_lr_factor

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
        """Compute the symmetric loss of a batch, and return what the encoder sees of the first view.

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
        forth = byol_loss(gather(self.predictor(projector(features))), gather(self.target(second)))
        back = byol_loss(gather(self.predictor(self.online(second))), gather(self.target(first)))
        return (forth + back) / 2, features

    def lr_scales(self) -> dict[str, float]:
        """Raise the learning rate of the predictor, so that it keeps up with what it predicts from.

        Returns
        -------
        dict
        """
        return {f"predictor.{name}": self.predictor_lr_factor for name, _ in self.predictor.named_parameters()}

    def update(self, rate: float) -> None:
        """Move the target network after a step.

        Parameters
        ----------
        rate : float
            Fraction of the target that stays.
        """
        ema_update(self.target, self.online, rate)


@documented
@constructed
class BYOLEmbedder(ImageEmbedder):
    r"""Learn an embedding of images without labels, by BYOL.

    Parameters
    ----------
    hidden_dim : int, default=1024
        Hidden width of projector and predictor.
    lr : float, default=1e-3
        Peak learning rate of encoder and projector.

    Attributes
    ----------
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` (from 0 to 4; 2 is chance, and a low loss does not foretell a good embedding, so it is never a
        score), ``lr``, ``images_per_s``, ``embedding_std`` and ``effective_rank`` (both fall if it collapses).

    See Also
    --------
    sklearn.frozen.FrozenEstimator : Reuse a fitted embedder in pipelines and searches without refitting.

    Notes
    -----
    By default the predictor learns ten times as fast as the rest: a predictor near its optimum is what keeps BYOL from
    collapse (Grill et al., section 5), and in a few hundred steps it gets there only in haste. Where steps are few,
    small batches and a target network that follows quickly gave the best embeddings of radio galaxies.

    The target network's rate, here from 0.97 to 1, and the schedules are parameters of `Training`. Its batch-norm
    statistics move with its weights. The published code for radio galaxies overshoots its warm-up and never shuffles;
    this does neither.

    References
    ----------
    Grill et al. (2020), "Bootstrap your own latent", `arXiv:2006.07733 <https://arxiv.org/abs/2006.07733>`_;
    Slijepcevic et al. (2023), "Radio Galaxy Zoo: towards building the first multipurpose foundation model for radio
    astronomy with self-supervised learning", `arXiv:2305.16127 <https://arxiv.org/abs/2305.16127>`_; Walmsley et al.
    (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning", `arXiv:2206.11927
    <https://arxiv.org/abs/2206.11927>`_.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import BYOLEmbedder
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> embedder = BYOLEmbedder("test_resnet", max_epochs=1, batch_size=4, random_state=0)
    >>> embedder.fit_transform(images).shape
    (8, 736)
    """

    hidden_dim: int = 1024
    projection_dim: int = 256
    predictor_lr_factor: float = 10.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageEmbedder._parameter_constraints | {
        "hidden_dim": [Interval(Integral, 1, None, closed="left")],
        "projection_dim": [Interval(Integral, 1, None, closed="left")],
        "predictor_lr_factor": [Interval(Real, 0, None, closed="neither")],
    }
    _auto: ClassVar[dict[str, Any]] = {"ema": 0.97}

    def _objective(self, encoder: nn.Module) -> Objective:
        return BYOL(encoder, self._n_features_out, self.hidden_dim, self.projection_dim, self.predictor_lr_factor)
