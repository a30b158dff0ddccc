"""MoCo v2: each view of an image finds the other among a queue of views of other images."""

import copy
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from skastro import ranks
from skastro._docs import documented
from skastro.base import constructed
from skastro.devices import own_generator
from skastro.encoders import mlp
from skastro.losses import info_nce
from skastro.modalities import ImageEmbedder
from skastro.training import Objective, ema_update

__all__ = ["MoCo", "MoCoEmbedder"]

GROUP = 32  # keys or a few more share batch-norm statistics
LONGEST = 65_536  # of the queues that "auto" chooses


class MoCo(Objective):
    r"""The objective of MoCo v2.

    The query network (encoder and projector) sees one view, the key network (a slowly moving copy) the other. The
    loss asks each query for its own key among the K keys of earlier images that wait in a queue; see
    `skastro.losses.info_nce`. After each step the batch's keys take the place of the oldest.

    Were query and key normalized with the statistics of the same batch, those would betray which belong together.
    So keys are encoded in random groups of about 32 images, at least two, each with its own statistics, as on the
    paper's eight GPUs.

    Parameters
    ----------
    encoder : nn.Module
        From images to rows of `width` features; trained in place.
    width : int
        Its features, and the hidden width of the projector.
    out : int
        Width of the projection.
    length : int
        Length K of the queue.
    temperature : float
        Of the loss.
    symmetric : bool
        Average the loss over both assignments of views to networks.
    generator : torch.Generator
        Source of the groups, on the device of the training.
    """

    queue: Tensor
    place: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        out: int,
        length: int,
        temperature: float,
        symmetric: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.online = nn.Sequential(encoder, mlp(width, width, out, norm=False))
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.temperature = temperature
        self.symmetric = symmetric
        self.register_buffer("queue", nn.functional.normalize(torch.randn(length, out), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Compute the loss of a batch, and remember its keys for `update`.

        Parameters
        ----------
        first, second : Tensor of shape (n, bands, height, width)
            Two views of the same images.

        Returns
        -------
        Tensor
            A scalar.
        """
        self.keys = self._keys(second)
        loss = info_nce(ranks.gather(self.online(first)), self.keys, self.queue, self.temperature)
        if not self.symmetric:
            return loss
        back = info_nce(ranks.gather(self.online(second)), self._keys(first), self.queue, self.temperature)
        return (loss + back) / 2

    def update(self, rate: float) -> None:
        """After a step, move the key network and let the batch's keys replace the oldest of the queue.

        Parameters
        ----------
        rate : float
            Fraction of the key network that stays.
        """
        ema_update(self.target, self.online, rate)
        newest = self.keys[-len(self.queue) :]
        places = (self.place + torch.arange(len(newest), device=self.place.device)) % len(self.queue)
        self.queue[places] = newest
        self.place.copy_((places[-1] + 1) % len(self.queue))

    @torch.no_grad()
    def _keys(self, views: Tensor) -> Tensor:
        """Encode in random groups of the rows of all ranks, of which each takes some, and give all keys in order."""
        views = ranks.gather(views)
        order = torch.randperm(len(views), generator=self.generator, device=views.device)
        groups = order.tensor_split(max(1, min(2, len(views) // 2), len(views) // GROUP))
        keys = views.new_zeros(len(views), self.queue.shape[1], dtype=self.queue.dtype)
        own = ranks.dealt(groups)
        with ranks.alone():
            for group in own:
                keys[group] = self.target(views[group]).to(keys.dtype)
        return nn.functional.normalize(ranks.total(keys), dim=1)


@documented
@constructed
class MoCoEmbedder(ImageEmbedder):
    r"""Learn an embedding of images without labels, by MoCo v2.

    Parameters
    ----------
    queue_length : int or "auto", default="auto"
        Keys of earlier images among which each view finds its own. ``"auto"`` is the paper's twentieth of the
        images, at most 65,536 and at least one batch; a shorter one than that is refused.
    temperature : float, default=0.1
        :math:`\tau` of the loss.
    symmetric : bool, default=False
        Average the loss over both assignments of views to networks: twice the work of a step.
    training : Training, default=None
        Optimizer (``"auto"`` is SGD with momentum 0.9, as in MoCo v2), schedules, rate of the key network (the
        paper's constant 0.999 suits some 10,000 steps or more), precision, callbacks: the settings that are rarely
        changed.

    Attributes
    ----------
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` (chance is ln(K + 1) for a queue of K; it depends on K and is never a score), ``lr``,
        ``images_per_s``, ``embedding_std`` and ``effective_rank`` (both fall if it collapses).
    queue_length_ : int
        Length of the queue in use.

    See Also
    --------
    SimCLREmbedder : The same loss with the batch in the place of the queue.

    Notes
    -----
    ``skastro.published("hayat2021")`` is the configuration of Hayat et al. (2021), whose encoder is a ResNet50 with a
    7×7 stem of stride 1 and no max-pool; `skastro.papers.hayat2021` says what of it differs.

    Keys are normalized in random groups of about 32 images, so that batch-norm statistics do not betray which query
    belongs to which key (shuffled batch norm on one device). The queue starts as random directions; it is updated once
    per step, after the loss, with one view's keys only, also when the loss is symmetric.

    References
    ----------
    He et al. (2020), "Momentum Contrast for Unsupervised Visual Representation Learning", `arXiv:1911.05722
    <https://arxiv.org/abs/1911.05722>`_; Chen, Fan et al. (2020), "Improved Baselines with Momentum Contrastive
    Learning", `arXiv:2003.04297 <https://arxiv.org/abs/2003.04297>`_; Hayat et al. (2021), "Self-supervised
    Representation Learning for Astronomical Images", `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import MoCoEmbedder
    >>> images = np.random.default_rng(0).normal(size=(8, 5, 32, 32))
    >>> embedder = MoCoEmbedder("test_resnet", survey="sdss", max_epochs=1, batch_size=4, random_state=0)
    >>> embedder.fit_transform(images).shape
    (8, 736)
    """

    projection_dim: int = 128
    queue_length: int | str = "auto"
    temperature: float = 0.1
    symmetric: bool = False
    batch_size: int = 128
    lr: float = 0.03

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageEmbedder._parameter_constraints | {
        "projection_dim": [Interval(Integral, 1, None, closed="left")],
        "queue_length": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "symmetric": ["boolean"],
    }
    _auto: ClassVar[dict[str, Any]] = {"optimizer": "sgd"}

    def _objective(self, encoder: nn.Module) -> Objective:
        self.queue_length_ = self._length(self.provenance_["n_images"])
        return MoCo(
            encoder,
            self._n_features_out,
            self.projection_dim,
            self.queue_length_,
            self.temperature,
            self.symmetric,
            own_generator(self.device),
        )

    def _length(self, n_images: int) -> int:
        batch = min(max(self.batch_size, 2 + n_images % 2), n_images)
        if isinstance(self.queue_length, str):
            return max(min(n_images // 20, LONGEST), batch)
        if self.queue_length < batch:
            raise ValueError(
                f"queue_length={self.queue_length} is shorter than a batch of {batch}: the keys of one step would "
                "push each other out. Make it longer, or use SimCLREmbedder, which needs no queue."
            )
        return self.queue_length
