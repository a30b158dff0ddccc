"""DINO: a student sees crops of an image and predicts what a slow teacher says of the whole; with iBOT and KoLeo."""

import copy
from contextlib import nullcontext
from dataclasses import field
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from timm.layers import DropPath
from torch import Tensor, nn

from skastro import ranks
from skastro._docs import documented
from skastro.augment import block_masks
from skastro.base import constructed
from skastro.devices import own_generator
from skastro.encoders import ImageEncoder, PrototypeHead, blocks, embed_patches, has_patches, hidden_patches, patch_grid
from skastro.losses import dino_loss, ibot_loss, koleo_loss, sinkhorn
from skastro.modalities import ImageEmbedder
from skastro.training import Objective, ema_update

__all__ = ["DINO", "DINOEmbedder", "see"]

BOTTLENECK = 256  # features that are compared with the prototypes
STUDENT = 0.1  # temperature of the student
CENTER = 0.9  # of the centers that stays at each step
WARM = 0.15  # of all steps, in which the teacher's temperature rises
PATCHES = "online.0.network.patch_embed."  # what the names of a ViT's patch embedding begin with
FROZEN = 0.01  # of all steps, in which the prototypes stand still: one epoch of the papers' hundred


class DINO(Objective):
    r"""The objective of DINO, with the parts that make it DINOv2.

    Student and teacher (a slowly moving copy) are each an encoder and a head that compares its rows with K prototypes.
    The teacher sees two global views, the student these and any local ones. From each view the student predicts what
    the teacher says of each other global view, see `skastro.losses.dino_loss`. So that the teacher does not say the
    same of all images, its logits are centered, :math:`p = \mathrm{softmax}((\ell - c) / \tau_t)` with a running mean
    :math:`c`, or balanced by `skastro.losses.sinkhorn`.

    Two parts may be added. iBOT hides patches of the global views from the student, and a second head predicts what the
    teacher says of them. KoLeo spreads the student's rows of each global view.

    .. math:: L = L_\mathrm{DINO} + w_\mathrm{iBOT} L_\mathrm{iBOT}
              + w_\mathrm{KoLeo} (L_\mathrm{KoLeo}^{(1)} + L_\mathrm{KoLeo}^{(2)})

    A weight of zero leaves the part out altogether.

    Parameters
    ----------
    encoder : nn.Module
        From images to rows of `width` features; trained in place.
    width : int
        Its features.
    hidden : int
        Hidden width of the heads.
    prototypes : int
        K.
    centering : {"centering", "sinkhorn"}
        What keeps the teacher from saying the same of all images.
    temperatures : tuple of float
        :math:`\tau_t` at the start, and when it has risen.
    ibot : float
        Weight of iBOT; the encoder must have patches.
    koleo : float
        Weight of KoLeo.
    generator : torch.Generator
        Source of the masks, on the device of the images.
    head_norm : bool, default=True
        Whether the heads have a batch norm.
    layer_decay : float, default=1.0
        The i-th block of the encoder from the head, from 1, learns at the rate times this to the power of i.
    patch_lr_factor : float, default=1.0
        Further factor on the rate of a ViT's patch embedding.

    Notes
    -----
    The teacher takes part in training mode: where there is a batch norm, it uses the statistics of its own batch. It
    never skips a block, whatever the student's ``drop_path``.
    """

    centers: Tensor
    temperature: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        hidden: int,
        prototypes: int,
        centering: str,
        temperatures: tuple[float, float],
        ibot: float,
        koleo: float,
        generator: torch.Generator,
        head_norm: bool = True,
        layer_decay: float = 1.0,
        patch_lr_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.online = nn.ModuleList([encoder, PrototypeHead(width, hidden, BOTTLENECK, prototypes, head_norm)])
        self.mask_token = None
        if ibot:
            network: Any = encoder.network
            self.online.append(PrototypeHead(network.num_features, hidden, BOTTLENECK, prototypes, head_norm))
            self.mask_token = nn.Parameter(torch.zeros(network.num_features))
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        for module in self.target.modules():
            if isinstance(module, DropPath):
                module.drop_prob = 0.0
        # Put back after each step, as under a rate of zero, so that the optimizer knows their gradients from the start.
        self.still: list[Tensor] = []
        self.centering = centering
        self.temperatures = temperatures
        self.weights = {"dino_loss": 1.0, "ibot_loss": ibot, "koleo_loss": koleo}
        self.generator = generator
        self.layer_decay = layer_decay
        self.patch_lr_factor = patch_lr_factor
        self.register_buffer("centers", torch.zeros(len(self.online) - 1, prototypes))
        self.register_buffer("temperature", torch.tensor(float(temperatures[0])))

    def forward(self, first: Tensor, second: Tensor, *local: Tensor) -> Tensor:
        """Compute the loss of a batch, and remember the means of the teacher's logits for `update`.

        Parameters
        ----------
        first, second : Tensor of shape (n, bands, height, width)
            Two global views of the same images.
        *local : Tensor of shape (n, bands, local height, local width)
            Local views of them, all of one size.

        Returns
        -------
        Tensor
            A scalar; its parts are in ``parts``.
        """
        views = torch.cat([first, second])
        mask = self._mask(views) if self.weights["ibot_loss"] else None
        small = [self.online[0](torch.cat(local))] if local else []
        rows, hidden = see(self.online[0], views, mask, self.mask_token)
        with torch.no_grad():
            target_rows, target_hidden = see(self.target[0], views, mask)
        student = self.online[1](torch.cat([rows, *small])).unflatten(0, (-1, len(first)))
        self.means: list[Tensor] = []
        teacher = self._teach(self.target[1](target_rows)).unflatten(0, (2, -1))
        share = ranks.weight(len(first))
        parts = {"dino_loss": share * dino_loss(student, teacher, STUDENT)}
        if mask is not None:
            teacher = self._teach(self.target[2](target_hidden))
            parts["ibot_loss"] = share * ibot_loss(self.online[2](hidden), teacher, mask, STUDENT)
        if self.weights["koleo_loss"]:
            parts["koleo_loss"] = torch.stack([koleo_loss(ranks.gather(seen)) for seen in rows.tensor_split(2)]).sum()
        self.parts = {name: part.detach() for name, part in parts.items()}
        return torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()

    def lr_scales(self) -> dict[str, float]:
        """Lower the learning rates of early blocks and of the patch embedding; the mask token goes with the first.

        Returns
        -------
        dict
        """
        groups = list(blocks(self.online[0]).values())
        depths = {name: len(groups) - place for place, group in enumerate(groups) for name in group}
        scales = {f"online.0.{name}": self.layer_decay**depth for name, depth in depths.items()}
        if self.mask_token is not None:
            scales["mask_token"] = self.layer_decay ** len(groups)
        for name in scales:
            if name.startswith(PATCHES):
                scales[name] *= self.patch_lr_factor
        return {name: scale for name, scale in scales.items() if scale != 1}

    def schedule(self, step: int, steps: int) -> None:
        """Before a step, set the teacher's temperature, and let the prototypes learn or stand still.

        Parameters
        ----------
        step : int
            From 0.
        steps : int
            Steps in all.
        """
        start, end = self.temperatures
        self.temperature.fill_(start + (end - start) * min(1.0, step / (WARM * steps)))
        heads: Any = self.online[1:] if step < FROZEN * steps else []
        self.still = [head.prototypes.detach().clone() for head in heads]

    def update(self, rate: float) -> None:
        """After a step, put back what stands still, move the teacher, and the centers towards the means of its logits.

        Parameters
        ----------
        rate : float
            Fraction of the teacher that stays.
        """
        for head, prototypes in zip(self.online[1:], self.still, strict=False):
            head.prototypes.data.copy_(prototypes)  # type: ignore[operator]
        ema_update(self.target, self.online, rate)
        self.centers.lerp_(torch.stack(self.means), 1 - CENTER)

    def _mask(self, views: Tensor) -> Tensor:
        grid = patch_grid(self.online[0], (views.shape[2], views.shape[3]))

        def draw(n: int) -> Tensor:
            return block_masks(2 * n, grid, self.generator).unflatten(0, (2, -1))

        return ranks.drawn(draw, len(views) // 2, lambda masks, rows: masks[:, rows]).flatten(0, 1)

    def _teach(self, logits: Tensor) -> Tensor:
        """Turn the teacher's logits into probabilities that are not the same for all."""
        center = self.centers[len(self.means)]
        self.means.append(ranks.mean_row(logits.detach()))
        if self.centering == "sinkhorn":
            return sinkhorn(logits, self.temperature)
        return torch.softmax((logits - center) / self.temperature, dim=-1)


def see(
    encoder: nn.Module, views: Tensor, mask: Tensor | None, token: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Embed views, and those of their patches that the mask chooses, hidden behind a token or not.

    Parameters
    ----------
    encoder : nn.Module
        Of the student or the teacher.
    views : Tensor of shape (n, bands, height, width)
        Normalized images.
    mask : Tensor of bool of shape (n, patches), or None
        Without it there are no patches.
    token : Tensor of shape (width,), default=None
        What the encoder sees in the place of the chosen patches; None shows them.

    Returns
    -------
    rows : Tensor of shape (n, d)
        What the encoder gives.
    patches : Tensor of shape (m, width), or None
        The m chosen patches of all images.
    """
    if mask is None:
        return encoder(views), None
    with nullcontext() if token is None else hidden_patches(encoder, mask, token):
        rows, patches = embed_patches(encoder, views)
    return rows, patches[mask]


@documented
@constructed
class DINOEmbedder(ImageEmbedder):
    r"""Learn an embedding of images without labels, by DINO, or with all parts on by DINOv2.

    Parameters
    ----------
    encoder : str, ImageEncoder or nn.Module, default="vit_tiny_patch16_224"
        A timm model name, a specification with patch and pooling, or a module from images to rows of features.
        Weights are random; nothing is downloaded.
    augment : str, Augment, MultiView or None, default="galaxy"
        Recipe of the views, applied to raw flux: ``"galaxy"``, ``"radio"`` or your own for two global views,
        ``"galaxy-crops"`` or ``"astrodino"`` for local ones too.
    hidden_dim : int, default=1024
        Hidden width of the heads.
    head_norm : bool, default=True
        Have a batch norm in the heads. DINOv2 has none; without, a short training stays at chance.
    prototypes : int, default=4096
        Directions with which each head compares; 65,536 for tens of millions of images.
    centering : {"centering", "sinkhorn"}, default="centering"
        What keeps the teacher from saying the same of all images: its logits less their running mean, or
        Sinkhorn's balance within the batch.
    teacher_temperature : tuple of float, default=(0.04, 0.07)
        :math:`\tau_t` at the start, and after the first 15 % of the steps, in which it rises linearly. The student's
        is 0.1.
    ibot_weight : float, default=0.0
        Weight of iBOT, for vision transformers: 1 in DINOv2; 0 leaves it out.
    koleo_weight : float, default=0.0
        Weight of KoLeo: 0.1 in DINOv2; 0 leaves it out.
    layer_decay : float, default=1.0
        :math:`\rho`: the i-th block of the encoder from the head, from 1, learns at `lr` times :math:`\rho^i`, so that
        the first blocks are the slowest: 0.9 in DINOv2.
    patch_lr_factor : float, default=1.0
        Further factor on the learning rate of a vision transformer's patch embedding: 0.2 in DINOv2.

    Attributes
    ----------
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` (the weighted sum, never a score), its parts ``dino_loss`` (chance is ln K), ``ibot_loss`` and
        ``koleo_loss`` where they are on, ``lr``, ``images_per_s``, ``embedding_std`` and ``effective_rank`` (both
        fall if it collapses).

    See Also
    --------
    sklearn.frozen.FrozenEstimator : Reuse a fitted embedder in pipelines and searches without refitting.

    Notes
    -----
    The heads read what `transform` gives. With ``pool="avg"`` that is a ViT's class token, as in the papers; the
    default ``"stages"`` is the mean and the maximum of the patches after each of the last four blocks. iBOT reads the
    patches of the last block in any case.

    ``skastro.published("parker2024-image")`` is the model of Parker et al. (2024), a ViT-L for cutouts of 152 pixels in
    g, r and z; `skastro.papers.parker2024_image` says what of it differs.

    In the first hundredth of the steps the prototypes stand still. iBOT hides patches of half of the global views,
    10 to 50 % of each, in blocks. Sinkhorn runs within a batch, so it wants one that is not small.

    References
    ----------
    Caron et al. (2021), "Emerging Properties in Self-Supervised Vision Transformers", `arXiv:2104.14294
    <https://arxiv.org/abs/2104.14294>`_; Zhou et al. (2021), "iBOT: Image BERT Pre-Training with Online Tokenizer",
    `arXiv:2111.07832 <https://arxiv.org/abs/2111.07832>`_; Oquab et al. (2023), "DINOv2: Learning Robust Visual
    Features without Supervision", `arXiv:2304.07193 <https://arxiv.org/abs/2304.07193>`_; Parker et al. (2024),
    "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import DINOEmbedder
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> embedder = DINOEmbedder(
    ...     "test_vit", augment="galaxy-crops", prototypes=64, ibot_weight=1.0, koleo_weight=0.1, max_epochs=1
    ... )
    >>> embedder.fit_transform(images).shape
    (8, 512)
    >>> sorted(name for name in embedder.history_ if name.endswith("loss"))
    ['dino_loss', 'ibot_loss', 'koleo_loss', 'loss']
    """

    encoder: str | ImageEncoder | nn.Module = field(default="vit_tiny_patch16_224", kw_only=False)
    hidden_dim: int = 1024
    head_norm: bool = True
    prototypes: int = 4096
    centering: str = "centering"
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    ibot_weight: float = 0.0
    koleo_weight: float = 0.0
    layer_decay: float = 1.0
    patch_lr_factor: float = 1.0
    batch_size: int = 128
    lr: float = 3e-4

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageEmbedder._parameter_constraints | {
        "hidden_dim": [Interval(Integral, 1, None, closed="left")],
        "head_norm": ["boolean"],
        "prototypes": [Interval(Integral, 2, None, closed="left")],
        "centering": [StrOptions({"centering", "sinkhorn"})],
        "teacher_temperature": [tuple, list],
        "ibot_weight": [Interval(Real, 0, None, closed="left")],
        "koleo_weight": [Interval(Real, 0, None, closed="left")],
        "layer_decay": [Interval(Real, 0, 1, closed="right")],
        "patch_lr_factor": [Interval(Real, 0, None, closed="neither")],
    }
    _n_views: ClassVar[int | None] = None

    def _objective(self, encoder: nn.Module) -> Objective:
        if self.ibot_weight and not has_patches(encoder):
            raise ValueError(
                f"ibot_weight={self.ibot_weight} hides patches of a vision transformer, and the encoder is none: "
                "set ibot_weight=0, or take a ViT such as encoder='vit_tiny_patch16_224'."
            )
        if self.patch_lr_factor != 1 and not has_patches(encoder):
            raise ValueError(
                f"patch_lr_factor={self.patch_lr_factor} is for the patch embedding of a vision transformer, and the "
                "encoder is none: leave patch_lr_factor=1."
            )
        return DINO(
            encoder,
            self._n_features_out,
            self.hidden_dim,
            self.prototypes,
            self.centering,
            self._temperatures(),
            self.ibot_weight,
            self.koleo_weight,
            own_generator(self.device),
            self.head_norm,
            self.layer_decay,
            self.patch_lr_factor,
        )

    def _temperatures(self) -> tuple[float, float]:
        pair = tuple(self.teacher_temperature)
        if len(pair) != 2 or not all(isinstance(value, Real) and value > 0 for value in pair):
            raise ValueError(f"teacher_temperature must be two numbers above 0, start and end; got {pair}.")
        return pair
