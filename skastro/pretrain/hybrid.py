"""Hybrid BYOL: one encoder learns from all images as BYOL does, and from volunteers' votes where there are any."""

from collections.abc import Callable, Sequence
from dataclasses import field
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _num_samples
from torch import Tensor, nn

from skastro._docs import documented
from skastro._warning import warn
from skastro.base import constructed, fitting
from skastro.losses import dirichlet_multinomial_nll, hybrid_loss
from skastro.missing import refuse_ivar_as_y
from skastro.modalities import ImageEmbedder
from skastro.pretrain.byol import BYOL, BYOLEmbedder
from skastro.pretrain.votes import as_votes, make_vote_head
from skastro.ranks import gather
from skastro.training import Objective
from skastro.votes import VoteSchema, get_schema

__all__ = ["HybridBYOL", "HybridBYOLEmbedder"]


class HybridBYOL(Objective):
    """The objective of hybrid BYOL; see `skastro.losses.hybrid_loss`.

    Parameters
    ----------
    byol : BYOL
        The contrastive half.
    head : nn.Module
        From what BYOL's encoder sees of the first view to the concentrations of all answers.
    sizes : sequence of int
        Answers of each question.
    weight : float
        Of the supervised half.
    scaling : {"cosine", "loss"}, default="cosine"
        What sets the size of the supervised half.
    """

    def __init__(
        self, byol: BYOL, head: nn.Module, sizes: Sequence[int], weight: float, scaling: str = "cosine"
    ) -> None:
        super().__init__()
        self.byol = byol
        self.head = head.requires_grad_(weight > 0)
        self.sizes = sizes
        self.weight = weight
        self.scaling = scaling

    def forward(self, first: Tensor, second: Tensor, votes: Tensor) -> Tensor:
        """Compute the loss of a batch, and leave its two parts.

        Parameters
        ----------
        first, second : Tensor of shape (n, bands, height, width)
            Two views of the same images.
        votes : Tensor of shape (n, n_answers)
            Counts; zeros for an image without labels.

        Returns
        -------
        Tensor
            A scalar.
        """
        contrastive, features = self.byol.compare(first, second)
        votes = gather(votes)
        supervised = dirichlet_multinomial_nll(gather(self.head(features)), votes, self.sizes)
        self.parts = {
            "contrastive_loss": contrastive.detach(),
            "vote_loss": torch.where((votes > 0).any(), supervised.detach(), torch.nan),
        }
        return hybrid_loss(contrastive, supervised, self.weight, scaling=self.scaling)

    def lr_scales(self) -> dict[str, float]:  # noqa: D102
        return {f"byol.{name}": scale for name, scale in self.byol.lr_scales().items()}

    def update(self, rate: float) -> None:  # noqa: D102
        self.byol.update(rate)


@documented
@constructed
class HybridBYOLEmbedder(ImageEmbedder):
    r"""Learn an embedding of images by BYOL and, where there are votes, from them too.

    BYOL compares two views of every image. Beside its projector, a second head predicts the votes from what the encoder
    sees of the first view, as in `VoteEmbedder`. One loss holds both; see `skastro.losses.hybrid_loss`:

    .. math:: L = L_c + \lambda\,\frac{\operatorname{sg} s}{\operatorname{sg} L_s}\,L_s, \qquad
              L_c = 2 - 2\cos, \qquad s = 2\,|\cos| \text{ or } L_c

    Parameters
    ----------
    augment : str, Augment, MultiView or None, default="galaxy"
        Recipe of the views, applied to raw flux: ``"galaxy"``, ``"galaxy-zoo"`` (the paper's) or your own.
    schema : str, VoteSchema or None, default=None
        The questions: a campaign's name, such as ``"gz_evo"``, or your own. None reads them off the names of a
        table's columns, and makes plain labels one question with one vote each.
    vote_weight : float, default=1.0
        :math:`\lambda` of the loss. Neither the paper nor its code states the value that was used; search it by
        factors. 0 is BYOL, bit for bit.
    vote_scaling : {"cosine", "loss"}, default="cosine"
        What sets the size :math:`s` of the votes' half: ``"cosine"``, as in the paper's code, lets them count the more
        the better the views agree, from 0 at first; ``"loss"`` lets them fade as the views come to agree.
    hidden_dim : int, default=1024
        Hidden width of projector and predictor.
    projection_dim : int, default=256
        Width of the projection in which BYOL's loss is taken.
    lr : float, default=1e-3
        Peak learning rate of encoder, projector and the head for votes.

    Attributes
    ----------
    schema_ : VoteSchema or None
        The questions in use; None if there was no vote to learn from.
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` and, if there were votes, its parts: ``contrastive_loss`` (from 0 to 4; 2 is chance, and a low one
        does not foretell a good embedding) and ``vote_loss`` (negative log-likelihood in nats, summed over the
        questions of a galaxy; the mean over the batches that have votes, NaN for an epoch without); ``lr``,
        ``images_per_s``, ``embedding_std`` and ``effective_rank`` (both fall if it collapses).

    See Also
    --------
    BYOLEmbedder : Learn without votes.
    VoteEmbedder : Learn from votes alone.

    Notes
    -----
    The mean of the supervised loss is over the labeled rows of a batch. The published code divides by their number
    twice, and by zero where there is none; a batch without labels is one of BYOL here.

    References
    ----------
    Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning", `arXiv:2206.11927
    <https://arxiv.org/abs/2206.11927>`_, equation 3 and its code; Grill et al. (2020), "Bootstrap your own latent",
    `arXiv:2006.07733 <https://arxiv.org/abs/2006.07733>`_.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import HybridBYOLEmbedder, VoteSchema
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> votes = np.array([[9, 1], [2, 8], [0, 0], [0, 0]] * 2)       # four images without a vote
    >>> schema = VoteSchema({"shape": ["smooth", "featured"]})
    >>> embedder = HybridBYOLEmbedder("test_resnet", schema=schema, max_epochs=1, batch_size=4, random_state=0)
    >>> embedder.fit(images, votes=votes).transform(images).shape
    (8, 736)
    >>> bool(embedder.history_["loss"][0] > embedder.history_["contrastive_loss"][0])
    True
    """

    schema: str | VoteSchema | None = None
    vote_weight: float = 1.0
    vote_scaling: str = "cosine"
    hidden_dim: int = 1024
    projection_dim: int = 256
    predictor_lr_factor: float = 10.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageEmbedder._parameter_constraints | {
        "schema": [str, VoteSchema, None],
        "vote_weight": [Interval(Real, 0, None, closed="left")],
        "vote_scaling": [StrOptions({"cosine", "loss"})],
        "hidden_dim": [Interval(Integral, 1, None, closed="left")],
        "projection_dim": [Interval(Integral, 1, None, closed="left")],
        "predictor_lr_factor": [Interval(Real, 0, None, closed="neither")],
    }
    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = ImageEmbedder._shorthand | {"schema": get_schema}

    schema_: VoteSchema | None = field(init=False)

    _auto: ClassVar[dict[str, Any]] = BYOLEmbedder._auto

    def fit(self, X: Any, y: Any = None, ivar: Any = None, votes: Any = None) -> Self:
        """Learn from images, and from votes where there are any.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images, flux or 8-bit; a memory map is read batch by batch.
        y : ignored
            Present for scikit-learn; refused if it looks like an inverse variance.
        ivar : array-like of the shape of X, default=None
            Inverse variance of each pixel, in the inverse square of the flux's unit; 0 is a missing pixel. For the
            `skastro.augment.InverseVarianceNoise` of a recipe.
        votes : array-like of shape (n, n_answers), default=None
            Counts under `schema`, zeros where nobody was asked and in all columns for an image without labels; a
            table's columns are found by name. In a pipeline or a search, ask for them by
            ``set_fit_request(votes=True)``.

        Returns
        -------
        self
            Ctrl-C keeps what was learned before it stops.

        Raises
        ------
        ValueError
            If a parameter, the images or the votes cannot be used (negative, fractional, of other columns than the
            schema's); nothing has been trained then.

        Warns
        -----
        UserWarning
            If there are no votes, or none that is not zero: this is then BYOL, bit for bit.
        """
        refuse_ivar_as_y(y, X)
        with fitting(self):
            self.schema_ = None
            if votes is not None:
                schema, counts = as_votes(votes, self.schema, _num_samples(X))
                if counts.any():
                    self.schema_ = schema
                    return self._pretrain(X, ivar, votes=counts)
            why = " y is not read: give votes=." if votes is None and y is not None else ""
            warn(f"No image has a vote: HybridBYOLEmbedder learns as BYOLEmbedder does.{why}")
            return self._pretrain(X, ivar)

    def _objective(self, encoder: nn.Module) -> Objective:
        byol = BYOL(encoder, self._n_features_out, self.hidden_dim, self.projection_dim, self.predictor_lr_factor)
        if self.schema_ is None:
            return byol
        head = make_vote_head(self._n_features_out, self.schema_.n_answers)
        return HybridBYOL(byol, head, self.schema_.sizes, self.vote_weight, self.vote_scaling)
