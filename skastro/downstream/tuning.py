"""What fine-tuning is: an encoder, pretrained or not, and a head, trained together as far as asked."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted
from torch import Tensor, nn

from skastro.augment import Augment
from skastro.augment.views import Views
from skastro.base import ImageEmbedder, ImageModel, restored_on_error
from skastro.downstream.heads import Head
from skastro.encoders import Normalizer, blocks, get_encoder, split
from skastro.images import check_pixels
from skastro.training import ArrayDataset, EarlyStopping, Monitor, Objective, draw_seed, local_seed, resolve_device

__all__ = ["FineTuner", "FineTuning", "HeldOut"]

CACHE_BYTES = 1 << 31  # of the frozen part's output, above which it is computed anew in each epoch

LEARNED = (  # what a fitted embedder knows of its images
    "image_shape_",
    "size_",
    "survey_",
    "normalizer_",
    "provenance_",
    "n_features_in_",
    "feature_names_in_",
    "_spec",
)


class FineTuning(Objective):
    r"""The objective of fine-tuning: the mean over a batch of :math:`w_i\,\ell(h(f(x_i)), t_i)`.

    Parameters
    ----------
    encoder : nn.Module
        :math:`f`, from a view to rows of features.
    head : nn.Module
        :math:`h`, from features to outputs.
    loss : callable
        :math:`\ell`, from outputs and targets to one loss per row.
    scales : mapping of Parameter to float
        Factor on the learning rate of each of the encoder's parameters that is trained; the others are frozen.
    batch_norm : {"eval", "train"}
        Whether frozen modules keep their batch-norm statistics and use them, or go on updating them.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        scales: Mapping[nn.Parameter, float],
        batch_norm: str,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.loss = loss
        self.scales = scales
        for parameter in encoder.parameters():
            parameter.requires_grad_(parameter in scales)
        self.still = frozen_modules(encoder) if batch_norm == "eval" else []

    def forward(self, view: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        view : Tensor of shape (n, bands, height, width)
            One view of each image, or what enters the first trained block.
        target : Tensor of shape (n,) or (n, n_outputs)
            What the head should say.
        weight : Tensor of shape (n,)
            Weight of each row.

        Returns
        -------
        Tensor
            A scalar.
        """
        return torch.mean(weight * self.losses(view, target))

    def losses(self, view: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of each row, without weights.

        Parameters
        ----------
        view, target : Tensor
            As in `forward`.

        Returns
        -------
        Tensor of shape (n,)
        """
        return self.loss(self.head(self.encoder(view)).float(), target)

    def lr_scales(self) -> dict[str, float]:  # noqa: D102
        return {name: self.scales[p] for name, p in self.named_parameters() if p in self.scales}

    def train(self, mode: bool = True) -> Self:  # noqa: D102
        super().train(mode)
        for module in self.still:
            module.eval()
        return self


def frozen_modules(encoder: nn.Module) -> list[nn.Module]:
    """List the modules of which nothing is trained.

    Parameters
    ----------
    encoder : nn.Module
        Whose frozen parameters ask for no gradient.

    Returns
    -------
    list of nn.Module
        Those whose parameters are all frozen, and those without parameters that come after frozen ones, or first of
        all if anything is frozen.
    """
    frozen, trained = [], all(parameter.requires_grad for parameter in encoder.parameters())
    for module in encoder.modules():
        trained = any([p.requires_grad for p in module.parameters(recurse=False)] or [trained])
        if not any([p.requires_grad for p in module.parameters()] or [trained]):
            frozen.append(module)
    return frozen


def as_kept(features: Tensor) -> list[Tensor]:
    """Take what the frozen part gave for the view: nothing is drawn.

    Parameters
    ----------
    features : Tensor of shape (n, ...)
        Of a batch.

    Returns
    -------
    list of Tensor
    """
    return [features]


class HeldOut:
    """The weighted mean loss on rows that are not trained on.

    Parameters
    ----------
    objective : FineTuning
        In training.
    views : callable
        From images to one view that nothing was drawn for.
    arrays : mapping of str to ndarray
        ``images``, ``target`` and ``weight`` of all rows.
    rows : ndarray of int
        Those held out.
    batch_size : int
        Rows looked at in one go.
    device : torch.device
        Where training runs.
    """

    def __init__(
        self,
        objective: FineTuning,
        views: Callable[[Tensor], Sequence[Tensor]],
        arrays: Mapping[str, np.ndarray],
        rows: np.ndarray,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.objective = objective
        self.views = views
        self.arrays = ArrayDataset(arrays, torch.device("cpu"))
        self.rows = torch.from_numpy(rows).split(batch_size)
        self.device = device

    def __call__(self) -> float:
        """Compute it now."""
        self.objective.eval()
        total = weights = 0.0
        with torch.no_grad():
            for rows in self.rows:
                batch = {name: array.to(self.device) for name, array in self.arrays[rows][0].items()}
                (view,) = self.views(batch["images"])
                total += float(batch["weight"] @ self.objective.losses(view, batch["target"]))
                weights += float(batch["weight"].sum())
        return total / max(weights, 1e-30)


class FineTuner(ImageModel, ABC):
    """What both fine-tuners share: where the encoder comes from, what of it is trained, and how fast.

    A concrete one has a constructor that only stores, and the hook `_make_head`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageModel._parameter_constraints | {
        "encoder": [*ImageModel._parameter_constraints["encoder"], ImageEmbedder, FrozenEstimator],
        "head_norm": [StrOptions({"layer", "batch"}), None],
        "n_layers": [Interval(Integral, 0, None, closed="left"), StrOptions({"all"})],
        "layer_decay": [Interval(Real, 0, 1, closed="right")],
        "encoder_lr": [Interval(Real, 0, None, closed="neither"), None],
        "batch_norm": [StrOptions({"eval", "train"})],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    }
    _networks: ClassVar[tuple[str, ...]] = ("encoder", "head")

    fitted_head_: Any

    @abstractmethod
    def _make_head(self) -> Head:
        """Make the head that the parameters ask for, not fitted."""

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        self._validate_params()
        self._training_config()
        resolve_device(self.device)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        with restored_on_error(self):
            check_consistent_length(X, y)
            weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
            if not weight.any():
                raise ValueError("All rows have sample_weight 0: there is nothing to learn from.")
            self.fitted_head_ = self._make_head()
            target, weight = self.fitted_head_.encode(y, weight)
            if np.count_nonzero(weight) < 2:  # a batch norm learns nothing from one
                raise ValueError(f"Found 1 sample with a label and a weight; {type(self).__name__} needs at least 2.")
            images, encoder = self._start(X)
            self._learn_steps(images)
            seed = draw_seed(self.random_state)
            with local_seed(seed):
                encoder = self._build_encoder() if encoder is None else copy.deepcopy(encoder)
                self._head_shape = (self._width(encoder), self.head_norm)
                arrays = {"images": images, "target": target, "weight": weight / weight[weight > 0].mean()}
                self._tune(encoder, self._build_head(), arrays, seed)
        return self

    def _start(self, X: Any) -> tuple[np.ndarray, nn.Module | None]:
        """Check the images, and take what an embedder has learned, or learn what the pixels are."""
        if not isinstance(self.encoder, ImageEmbedder | FrozenEstimator):
            images = self._check_images(X, reset=True)
            self._learn_pixels(images)
            self._spec = clone(get_encoder(self.encoder), safe=False)
            return images, None
        for name in ("survey", "size", "image_shape"):
            if (value := getattr(self, name)) is not None:
                raise ValueError(f"{name}={value!r} cannot be set beside an embedder, which brings its own.")
        frozen = isinstance(self.encoder, FrozenEstimator)
        embedder = self.encoder.estimator if frozen else clone(self.encoder).fit(X)
        if not isinstance(embedder, ImageEmbedder):
            raise TypeError(f"encoder holds a frozen {type(embedder).__name__}, which is no embedder of images.")
        check_is_fitted(embedder)
        for name in LEARNED:
            self.__dict__.pop(name, None)
            if hasattr(embedder, name):
                setattr(self, name, copy.copy(getattr(embedder, name)))
        images = self._check_images(X, reset=False)
        if len(images) < 2:
            raise ValueError(f"Found 1 sample in X; {type(self).__name__} needs at least 2.")
        check_pixels(images)
        return images, embedder.encoder_

    def _tune(self, encoder: nn.Module, head: nn.Module, arrays: dict[str, np.ndarray], seed: int) -> None:
        """Train the head and what is not frozen of the encoder."""
        trained = self._trained(encoder)
        self.learning_rates_ = {"head": float(self.lr), **trained}
        part, arrays["images"] = self._unfrozen(encoder, list(trained), arrays["images"])
        recipes = (self.augment_, Augment())
        views, still = (self._view(recipe, seed) if part is encoder else as_kept for recipe in recipes)
        members, parameters = blocks(encoder), dict(encoder.named_parameters())
        scales = {parameters[name]: lr / self.lr for block, lr in trained.items() for name in members[block]}
        objective = FineTuning(part, head, self.fitted_head_.loss, scales, self.batch_norm)
        monitor, best, rows = Monitor(part), None, np.flatnonzero(arrays["weight"])
        if self.early_stopping:
            strata = self.fitted_head_.strata(arrays["target"][rows])
            rows, held_out = self._hold_out(rows, strata, seed)
            evaluate = HeldOut(objective, still, arrays, held_out, self.batch_size, resolve_device(self.device))
            best = EarlyStopping(evaluate, self.n_iter_no_change, monitor.history)
        try:
            self._train(objective, views, arrays, monitor, best=best, subset=rows)
        finally:  # also when Ctrl-C interrupts: what was learned stays
            self.encoder_, self.head_ = encoder.cpu().eval().requires_grad_(True), head.cpu().eval()
            self.history_ = monitor.arrays()

    def _trained(self, encoder: nn.Module) -> dict[str, float]:
        """List the blocks that are trained, from the head down, and their learning rates."""
        names = list(blocks(encoder))[::-1]
        count = len(names) if self.n_layers == "all" else self.n_layers
        if count > len(names):
            raise ValueError(f"n_layers={count}, but the encoder has {len(names)} blocks ({', '.join(names[::-1])}).")
        first = self.lr if self.encoder_lr is None else self.encoder_lr
        return {name: float(first * self.layer_decay**place) for place, name in enumerate(names[:count])}

    def _unfrozen(self, encoder: nn.Module, trained: list[str], images: np.ndarray) -> tuple[nn.Module, np.ndarray]:
        """Cut off the frozen part where its output never changes, and compute that once."""
        augmented = any(not isinstance(step, str) for _, step in self.augment_.steps)
        if augmented or self.batch_norm == "train" or len(trained) == len(blocks(encoder)):
            return encoder, images
        trunk: nn.Module = encoder
        tail: nn.Module = nn.Identity()
        if trained:
            # Noise, because two images that happen to be alike would hide a path around the cut.
            few = torch.randn(2, self.image_shape_[0], *self.size_, generator=torch.Generator().manual_seed(0))
            parts = split(encoder.eval(), trained[-1], few)
            if parts is None or parts[0](few[:1]).nbytes * len(images) > CACHE_BYTES:
                return encoder, images
            trunk, tail = parts
        return tail, self._run(trunk, images)

    def _view(self, recipe: Augment, seed: int) -> Callable[[Tensor], list[Tensor]]:
        """Draw one normalized view of each image."""
        device = resolve_device(self.device)
        generator = torch.Generator(device).manual_seed(seed)
        return Views([(recipe, self.size_)], Normalizer(self.normalizer_).to(device), generator)

    def _hold_out(self, rows: np.ndarray, strata: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Choose rows to train on and rows to watch, by class where there are classes."""
        fraction = self.validation_fraction
        chosen, held_out = train_test_split(rows, test_size=fraction, random_state=seed, stratify=strata)
        if len(chosen) < 2:
            raise ValueError(f"validation_fraction={fraction} leaves one of {len(rows)} rows to train on.")
        return chosen, held_out

    def _outputs(self, X: Any) -> np.ndarray:
        """Run encoder, head and activation over images, averaged over their symmetries when asked."""
        check_is_fitted(self)
        network = nn.Sequential(self.encoder_, self.head_, self.fitted_head_.activation())
        return self._run(network, self._check_images(X, reset=False), self.average)

    def _build_head(self) -> nn.Module:
        width, norm = self._head_shape
        before = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d, None: nn.Identity}[norm](width)
        return nn.Sequential(before, self.fitted_head_.build(width))
