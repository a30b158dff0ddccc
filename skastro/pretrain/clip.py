"""AstroCLIP: embeds modalities of the same objects, images and spectra say, into one space."""

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from itertools import combinations
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, get_tags
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skastro import ranks
from skastro._docs import ALIGNMENT, documented
from skastro.augment import Augment
from skastro.base import BaseEmbedder, fitting, take_names
from skastro.devices import draw_seed, resolve_device
from skastro.encoders import ImageEncoder
from skastro.losses import clip_loss
from skastro.modalities import (
    SPECTRUM_ENCODERS,
    as_embedder,
    as_modality,
    as_specification,
    is_specification,
    warn_of_fitted,
)
from skastro.pretrain.pooled import PooledEmbedder, published_pool
from skastro.pretrain.sides import (
    Side,
    as_modalities,
    as_sides,
    check_pairs,
    count_shared,
    embedder_of,
    fit_present,
    route_ivar,
    untrained,
)
from skastro.pretrain.towers import Tower, build_tower
from skastro.training import (
    AsGiven,
    HeldOut,
    Monitor,
    Objective,
    Randomness,
    Training,
    copy_fitted,
    describe_arrays,
    hold_out,
    is_compared,
    tell_inner_fit,
    tell_trainings,
)

__all__ = ["CLIP", "AstroCLIPEmbedder"]

LARGEST = 100.0  # of a scale that is learned, as in CLIP


SIDE = [
    str,
    ImageEncoder,
    *SPECTRUM_ENCODERS,
    nn.Module,
    HasMethods(["fit", "transform"]),
    None,
]


class CLIP(Objective):
    """The objective of CLIP, over all pairs of modalities; see `skastro.losses.clip_loss`.

    Parameters
    ----------
    towers : sequence of Tower
        From the arrays of each modality to rows of equal width; trained in place.
    scale : float
        Factor on the cosines.
    learn_scale : bool
        Whether it is only where to start; it never exceeds 100.
    """

    def __init__(self, towers: Sequence[Tower], scale: float, learn_scale: bool) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log(), requires_grad=learn_scale)
        self.update(0.0)

    @property
    def scale(self) -> Tensor:
        """Factor in use."""
        return self.log_scale.exp()

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """After a step, bring a scale that is learned back to where it may go: its gradient never ends.

        Parameters
        ----------
        rate : float
            Of no use here.
        """
        if self.log_scale.requires_grad:
            self.log_scale.clamp_(max=math.log(LARGEST))

    def forward(self, present: Tensor | None = None, **arrays: Tensor) -> Tensor:
        """Compute the loss of a batch, the mean over the pairs of modalities that two objects or more have.

        Parameters
        ----------
        present : Tensor of shape (n, n_modalities), default=None
            Zero where an object lacks a modality; None where all have all.
        **arrays : Tensor
            Arrays of the towers, by the names that these have for them.

        Returns
        -------
        Tensor
            A scalar.
        """
        if present is None:
            pairs = combinations([ranks.gather(tower(**arrays)) for tower in self.towers], 2)
            return torch.stack([clip_loss(first, second, self.scale) for first, second in pairs]).mean()
        own, mask = present.bool().T, ranks.gather(present).bool().T
        rows = [ranks.gather(self._embed(*each, arrays)) for each in zip(self.towers, own, mask, strict=True)]
        losses = []
        for (first, one), (second, other) in combinations(zip(rows, mask, strict=True), 2):
            both = one & other
            if both.sum() > 1:
                losses.append(clip_loss(first[both], second[both], self.scale))
        if losses:
            return torch.stack(losses).mean()
        return 0.0 * torch.stack([parameter.sum() for parameter in self.parameters()]).sum()  # still has gradients

    @staticmethod
    def _embed(tower: nn.Module, own: Tensor, seen: Tensor, arrays: dict[str, Tensor]) -> Tensor:
        """Embed the objects that have a modality, if any rank sees a pair; the others' rows are zeros."""
        if seen.all():
            return tower(**arrays)
        if seen.sum() < 2:  # a batch norm takes no single row
            return torch.zeros(len(own), 1, device=own.device)
        with ranks.shared(int(own.sum()), own.device) if ranks.sharing() else nullcontext():
            rows = tower(**{name: array[own] for name, array in arrays.items()})
        return rows.new_zeros(len(own), rows.shape[1]).index_put((own.nonzero()[:, 0],), rows)


@partial(documented, words=ALIGNMENT)
class AstroCLIPEmbedder(BaseEmbedder):
    r"""Embed two or more modalities of the same objects, such as images and spectra, into one space.

    Each modality has an embedder, whose tokens a learned query pools by attention; all are trained so that the rows of
    one object point the same way, and those of different objects do not. As with scikit-learn's canonical correlation
    analysis, ``fit(images, spectra)`` takes both, and `transform` one or both; `fit_transform` gives the rows of the
    first alone, as a step of a pipeline has to. With `others` there are more: ``fit(images, [spectra, magnitudes])``.

    Parameters
    ----------
    first : str, specification, nn.Module, transformer or FrozenEstimator, default="resnet10t"
        What embeds ``X``. ``FrozenEstimator(embedder)`` is a fitted embedder, used as it is and never changed; a bare
        embedder is cloned and fitted on its own modality first; a timm name, a specification or a module is an
        encoder with random weights (a module: with its own, a specification with ``weights=``: with those), which the
        alignment trains. Any other transformer, such as ``StandardScaler()`` for a table of magnitudes, makes a row of
        numbers, which is one token.
    second : specification, transformer, FrozenEstimator or None, default=None
        What embeds ``y``, likewise; None is ``SpectrumEncoder()``, a spectrum encoder with random weights.
    others : sequence, default=()
        What embeds further modalities, likewise. All pairs of modalities are aligned. ``y`` is then a list, which
        scikit-learn's searches and cross-validation cannot cut into folds.
    embedding_dim : int, default=512
        Features of the common space.
    heads : int, default=4
        Attention heads of each pool; they divide `embedding_dim`.
    scale : float, default=15.5
        Factor :math:`\sigma` on the cosines in the loss, an inverse temperature.
    learn_scale : bool, default=False
        Learn the factor, from `scale` on.
    train_backbones : bool, default=False
        Train frozen and bare embedders too (copies of them), not the pools alone.
    augment : sequence of str, Augment or None, default=None
        Augmentation of each modality during the alignment, in their order, such as ``("supervised", None)`` for images
        and spectra; None is none at all. Tokens of what is augmented are computed anew in each epoch.
    weights : str, path-like or None, default=None
        Checkpoint ``astroclip.ckpt``, whose pools are those of the embedders of images and of spectra, before any
        training: with ``embedding_dim=1024`` and ``heads=4``, as these have. None draws them. See
        `skastro.pretrained.astroclip` for the whole of the published model.
    early_stopping : bool, default=False
        Hold out some pairs, stop when their loss no longer falls, and restore the best epoch: a few hundred pairs are
        soon learned by heart.
    validation_fraction : float, default=0.1
        Share of the objects that early stopping holds out.

    Attributes
    ----------
    embedders_ : list of PooledEmbedder
        One for each modality, a fitted transformer of that alone.
    scale_ : float
        Factor in use at the end.
    n_pairs_ : int
        Objects with two modalities or more, which were aligned.
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` (chance is ln n for batches of n; it depends on n and on the scale and is never a score), ``lr``,
        ``samples_per_s``, ``embedding_std`` and ``effective_rank`` of the first modality, and
        ``validation_loss`` under early stopping.
    n_features_in_ : int
        As the embedder of ``X`` has it.

    See Also
    --------
    PooledEmbedder : One modality, its tokens and where its attention looks.
    skastro.metrics.retrieval_score : How well one modality finds the object in the other.
    sklearn.cross_decomposition.CCA : The linear way, between two tables.

    Notes
    -----
    Tokens of an embedder that is not trained are computed once per fit, in eval mode and without augmentation, if they
    take at most 2 GiB for each modality, and else anew in each epoch. A ViT has its class token and its patches, any
    other image encoder the places of its last feature map. The embedder's own pooling and averaging do not count here.

    A row that is NaN throughout is a missing modality (of spectra, also where ``ivar`` is zero throughout). An object
    takes part in the pairs of modalities that it has; bare embedders learn from all rows that have their modality.

    ``skastro.published("parker2024")`` is the alignment of Parker et al. (2024); `skastro.papers.parker2024` says what
    of it differs. Their loss has one direction in print and both in the code, as here.

    References
    ----------
    Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
    <https://arxiv.org/abs/2310.03024>`_, sections 3.3 and 5.3 and appendix B3; Radford et al. (2021), "Learning
    Transferable Visual Models From Natural Language Supervision", `arXiv:2103.00020
    <https://arxiv.org/abs/2103.00020>`_.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skastro import AstroCLIPEmbedder, SpectrumEncoder
    >>> rng = np.random.default_rng(0)
    >>> images, spectra = rng.normal(size=(8, 3, 32, 32)), rng.normal(size=(8, 100))
    >>> spectra[2] = np.nan  # never observed
    >>> clip = AstroCLIPEmbedder(
    ...     "test_resnet", SpectrumEncoder(depth=1, width=16), embedding_dim=32, max_epochs=1, random_state=0
    ... )
    >>> from_images, from_spectra = clip.fit(images, spectra).transform(images, spectra)
    >>> from_images.shape, from_spectra.shape, clip.n_pairs_
    ((8, 32), (8, 32), 7)
    >>> bool(np.isnan(from_spectra[2]).all())
    True
    >>> clip.embedders_[0].attention(images).shape
    (8, 4, 1)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = BaseEmbedder._parameter_constraints | {
        "first": SIDE,
        "second": SIDE,
        "others": ["array-like"],
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "heads": [Interval(Integral, 1, None, closed="left")],
        "scale": [Interval(Real, 0, None, closed="neither")],
        "learn_scale": ["boolean"],
        "train_backbones": ["boolean"],
        "augment": [tuple, list, None],
        "weights": [str, os.PathLike, None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    }
    _shorthand: ClassVar[dict[str, Any]] = BaseEmbedder._shorthand | {
        "first": as_specification,
        "second": as_specification,
    }
    # On by default: an inverse variance that is given can mean nothing else.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"ivar": True}
    __metadata_request__transform: ClassVar[dict[str, bool]] = {"ivar": True}

    def __init__(
        self,
        first: Any = "resnet10t",
        second: Any = None,
        *,
        others: Sequence[Any] = (),
        embedding_dim: int = 512,
        heads: int = 4,
        scale: float = 15.5,
        learn_scale: bool = False,
        train_backbones: bool = False,
        augment: Sequence[str | Augment | None] | None = None,
        weights: str | os.PathLike[str] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        max_epochs: int | str = "auto",
        batch_size: int = 256,
        lr: float = 5e-4,
        training: Training | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.first = first
        self.second = second
        self.others = others
        self.embedding_dim = embedding_dim
        self.heads = heads
        self.scale = scale
        self.learn_scale = learn_scale
        self.train_backbones = train_backbones
        self.augment = augment
        self.weights = weights
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.training = training
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any, ivar: Any = None) -> Self:
        """Learn from objects with two modalities or more.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Raw images, or what else `first` takes; a row all NaN is missing.
        y : array-like of shape (n, n_wavelengths), (n,) or (n, ...), or list of those
            Spectra of the same objects, or what else `second` takes; a row all NaN is missing. One column is a
            spectrum of one pixel. With `others` a list: what `second` takes, and what each of the others takes.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance for the one modality that takes it, as spectra do; zero is missing.

        Returns
        -------
        AstroCLIPEmbedder
            Itself. Ctrl-C keeps what was learned before it stops.

        Raises
        ------
        ValueError
            If a parameter or the data cannot be used (two lengths, fewer than two objects with two modalities, images
            that are NaN in part, a frozen embedder of other bands or wavelengths); nothing has been trained then.

        Warns
        -----
        UserWarning
            If an embedder has been trained already and is not frozen, so that it is trained anew.
        """
        self._check_params()
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        with fitting(self):
            seed = draw_seed(self.random_state)
            sides = as_sides(self._recipes(seed), X, y, ivar)
            self._tell_fitted()
            masks = np.column_stack([side.mask for side in sides])
            aligned = np.flatnonzero(masks.sum(axis=1) > 1)
            check_pairs(masks, type(self).__name__)
            trained, watched = aligned, aligned[:0]
            if self.early_stopping:
                trained, watched = hold_out(aligned, self.validation_fraction, seed, fewest=2)
                if count_shared(masks[watched]).max() < 2:
                    raise ValueError(
                        f"validation_fraction={self.validation_fraction} watches {len(watched)} objects, of which no "
                        "two have the same two modalities: watch more."
                    )
            self._align(self._start(sides, seed), sides, trained, watched, seed)
        return self

    def transform(self, X: Any, y: Any = None, ivar: Any = None) -> Any:
        """Embed objects, each on its own, by one modality or by all.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images, or what else `first` takes; a row all NaN is missing.
        y : array-like of shape (n, n_wavelengths), (n,) or (n, ...), or list of those, default=None
            Spectra of the same objects, or what else `second` takes; with `others` a list. For spectra alone, ask
            ``embedders_[1]``.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance for the one modality that takes it; zero is missing.

        Returns
        -------
        ndarray of shape (n, embedding_dim), float32
            Of length 1; NaN where the modality is missing. With `y` a tuple of one for each modality. As with ``CCA``,
            `set_output` makes a table of the first alone.

        Raises
        ------
        ValueError
            If the data are not like those learned from, or are NaN in part where the embedder takes none.
        """
        check_is_fitted(self)
        if X is None:
            raise ValueError("X is None: to embed another modality alone, ask its own embedder, in embedders_.")
        inference = self._inference()
        given = [("X", X)] if y is None else as_modalities(X, y, len(self.embedders_))
        sides = self.embedders_[: len(given)]
        metadata = route_ivar([as_modality(side.embedder.estimator) for side in sides], ivar)
        parts = [
            side.embed(rows, inference, **known) for side, (_, rows), known in zip(sides, given, metadata, strict=True)
        ]
        return parts[0] if y is None else tuple(parts)

    def fit_transform(self, X: Any, y: Any = None, ivar: Any = None) -> np.ndarray:
        """Fit to all modalities, then transform `X` alone, as a step of a pipeline does.

        Parameters
        ----------
        X, y : array-like of shape (n, ...)
            As in `fit`.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance for the one modality that takes it; zero is missing.

        Returns
        -------
        ndarray of shape (n, embedding_dim), float32
        """
        side = self.fit(X, y, ivar=ivar).embedders_[0]
        takes_ivar = "ivar" in as_modality(side.embedder.estimator).metadata
        return side.transform(X, ivar=ivar if takes_ivar else None)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        first = as_embedder(self.first)
        tags.input_tags.allow_nan = as_modality(embedder_of(first)).takes_gaps
        tags.input_tags.three_d_array = get_tags(first).input_tags.three_d_array
        return tags

    def _recipes(self, seed: int) -> list[Any]:
        """Turn what the user gave into transformers, frozen or to be fitted."""
        sides = (self.first, self.second, *self.others)
        if self.augment is not None and len(self.augment) != len(sides):
            raise ValueError(
                f"augment must have one entry for each of {len(sides)} modalities; got {len(self.augment)}."
            )
        recipes = [as_embedder(side, device=self.device, random_state=seed + place) for place, side in enumerate(sides)]
        for recipe, augment in zip(recipes, self.augment or [None] * len(sides), strict=True):
            as_modality(embedder_of(recipe)).check_options(augment)
        if self.weights is not None and not any(published_pool(embedder_of(recipe)) for recipe in recipes):
            raise ValueError(f"weights={self.weights!r} has pools for images and for spectra, and there are neither.")
        return recipes

    def _tell_fitted(self) -> None:
        others = {f"others[{place}]": side for place, side in enumerate(self.others)}
        for name, side in {"first": self.first, "second": self.second, **others}.items():
            warn_of_fitted(side, name)

    def _start(self, sides: list[Side], seed: int) -> list[PooledEmbedder]:
        """Fit all embedders and make their pools; first all untrained, which refuses what cannot be used."""
        sketches = [untrained(side.recipe) for side in sides]
        pools = [self._pool(sketch, side, seed) for sketch, side in zip(sketches, sides, strict=True)]
        waiting = [sketch is not side.recipe for sketch, side in zip(sketches, sides, strict=True)]
        tell_trainings(self, 1 + sum(waiting))
        return [
            self._pool(side.recipe, side, seed) if waits else pool
            for waits, pool, side in zip(waiting, pools, sides, strict=True)
        ]

    def _pool(self, recipe: Any, side: Side, seed: int) -> PooledEmbedder:
        with tell_inner_fit(self, recipe):
            fitted = fit_present(recipe, side)
        return PooledEmbedder(
            fitted,
            embedding_dim=self.embedding_dim,
            heads=self.heads,
            weights=self.weights if published_pool(embedder_of(recipe)) else None,
            batch_size=self.batch_size,
            training=Training(precision=self._training_config().precision),
            device=self.device,
            random_state=seed,
        ).fit(side.rows, **side.metadata)

    def _align(
        self, pools: list[PooledEmbedder], sides: list[Side], trained: np.ndarray, watched: np.ndarray, seed: int
    ) -> None:
        """Train what is not frozen of all sides."""
        given = (self.first, self.second, *self.others)
        frozen = [not (self.train_backbones or is_specification(side)) for side in given]
        augment, both = self.augment or [None] * len(sides), np.union1d(trained, watched)
        masks = np.column_stack([side.mask for side in sides])
        towers: list[Tower] = []
        arrays: dict[str, np.ndarray] = {}
        made_of = describe_arrays({"present modalities": masks})
        compared = is_compared()
        for place, (pool, side, still) in enumerate(zip(pools, sides, frozen, strict=True)):
            if not still and isinstance(given[place], FrozenEstimator):  # theirs is never changed
                pool.set_params(embedder=FrozenEstimator(copy_fitted(pool.embedder.estimator)))
            known, _ = pool.arrays(side.rows, **side.metadata)
            run = self._inference(), still, augment[place], seed + place, self.max_epochs != 0
            tower, more = build_tower(pool, known, both[side.mask[both]], *run)
            about = describe_arrays(known) if compared else {}
            made_of |= {f"{name} ({place})": value for name, value in about.items()}
            towers.append(tower.set_prefix(f"{place}."))
            arrays |= {f"{place}.{name}": array for name, array in more.items()}
        if not masks[both].all():
            arrays["present"] = masks.astype(np.float32)
        objective, monitor, view = CLIP(towers, self.scale, self.learn_scale), Monitor(towers[0].head), AsGiven()
        held_out = HeldOut(watched, view, self.n_iter_no_change) if len(watched) else None
        draws = Randomness(seed, resolve_device(self.device))
        try:
            self._train(objective, view, arrays, monitor, draws=draws, rows=trained, held_out=held_out, data=made_of)
        finally:  # also when Ctrl-C interrupts: what was learned stays
            objective.cpu().eval()
            self.embedders_ = pools
            self.scale_, self.n_pairs_, self.history_ = float(objective.scale.detach()), len(both), monitor.arrays()
            self._n_features_out = self.embedding_dim
            take_names(self, pools[0])
