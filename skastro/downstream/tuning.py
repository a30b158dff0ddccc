"""Fine-tuning: an encoder, pretrained or not, and a head, trained together as far as asked."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from inspect import signature
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _num_samples, check_consistent_length, check_is_fitted, has_fit_parameter
from torch import Tensor, nn

from skastro._docs import FINE_TUNING, documented
from skastro.augment import Augment, one_recipe
from skastro.base import BaseModel, constructed, fitting, take_names
from skastro.devices import draw_seed, resolve_device
from skastro.downstream.heads import Head
from skastro.encoders import blocks, split
from skastro.inputs import as_weight, column_names
from skastro.modalities import (
    IMAGE_CONSTRAINTS,
    SPECTRUM_ENCODERS,
    as_embedder,
    as_specification,
    feature_width,
    is_specification,
    warn_of_fitted,
)
from skastro.ranks import gather
from skastro.surveys import Survey, get_survey
from skastro.training import (
    AsGiven,
    HeldOut,
    Monitor,
    Objective,
    Randomness,
    Training,
    as_batch,
    copy_fitted,
    describe_arrays,
    hold_out,
    is_compared,
    own_state,
    tell_inner_fit,
    tell_trainings,
)

__all__ = ["FineTuner", "FineTuning"]

CACHE_BYTES = 1 << 31  # of the frozen part's output, above which it is computed anew in each epoch
NORMS: dict[str | None, Callable[[int], nn.Module]] = {
    "layer": nn.LayerNorm,
    "batch": nn.BatchNorm1d,
    None: nn.Identity,
}
IMAGES_ALONE = ("survey", "size", "image_shape", "bands_axis", "normalize")  # say how images come in


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

    def forward(self, *view: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        *view : Tensor
            One view of each row, or what enters the first trained block.
        target : Tensor of shape (n,) or (n, n_outputs)
            What the head should say.
        weight : Tensor of shape (n,)
            Weight of each row.

        Returns
        -------
        Tensor
            A scalar.
        """
        losses = self.loss(self.head(self.encoder(*view)).float(), target)
        return torch.mean(gather(weight * losses))

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


class Outputs(nn.Module):
    """From a view to outputs: encoder, head, and a last function.

    Parameters
    ----------
    encoder : nn.Module
        From the tensors of a view to features.
    *parts : nn.Module
        What follows.
    """

    def __init__(self, encoder: nn.Module, *parts: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.parts = nn.Sequential(*parts)

    def forward(self, *view: Tensor) -> Tensor:
        """Compute the outputs of a batch.

        Parameters
        ----------
        *view : Tensor
            What the encoder takes.

        Returns
        -------
        Tensor
        """
        return self.parts(self.encoder(*view))


@partial(documented, words=FINE_TUNING)
@constructed
class FineTuner(BaseModel, ABC):
    """Base of both fine-tuners: where the encoder comes from, what of it is trained, and how fast.

    A concrete one has the parameters of its head, and the hook `_make_head`.

    Parameters
    ----------
    head : str or Head
        What the network ends in.
    """

    encoder: Any = field(default="resnet18", kw_only=False)
    head: Any
    head_norm: str | None = "layer"
    n_layers: int | str = "all"
    layer_decay: float = 1.0
    encoder_lr: float | None = None
    batch_norm: str = "eval"
    augment: str | Augment | None = "auto"
    survey: str | Survey | None = None
    size: int | None = None
    image_shape: tuple[int, int, int] | None = None
    bands_axis: int | None = None
    normalize: str | None = "standard"
    average: str | int | None = None
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    max_epochs: int | str = "auto"
    batch_size: int = 64
    lr: float = 2.5e-4
    training: Training | None = None
    device: str = "auto"
    verbose: int = 0
    random_state: Any = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseModel._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "encoder": [
            *IMAGE_CONSTRAINTS["encoder"],
            *SPECTRUM_ENCODERS,
            HasMethods(["fit", "inputs", "view"]),
            FrozenEstimator,
        ],
        "augment": [str, Augment, None],
        "n_layers": [Interval(Integral, 0, None, closed="left"), StrOptions({"all"})],
        "layer_decay": [Interval(Real, 0, 1, closed="right")],
        "encoder_lr": [Interval(Real, 0, None, closed="neither"), None],
        "batch_norm": [StrOptions({"eval", "train"})],
        "head_norm": [StrOptions({"layer", "batch"}), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    }
    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = BaseModel._shorthand | {
        "encoder": as_specification,
        "augment": one_recipe,
        "survey": get_survey,
    }
    _networks: ClassVar[tuple[str, ...]] = ("head",)
    # On by default: an inverse variance that is given can mean nothing else.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"ivar": True}
    __metadata_request__predict: ClassVar[dict[str, bool]] = {"ivar": True}
    __metadata_request__predict_proba: ClassVar[dict[str, bool]] = {"ivar": True}
    __metadata_request__score: ClassVar[dict[str, bool]] = {"ivar": True}

    embedder_: Any = field(init=False)
    fitted_head_: Any = field(init=False)

    @abstractmethod
    def _make_head(self) -> Head:
        """Make the head from the parameters, unfitted."""

    @property
    def encoder_(self) -> nn.Module:
        """The tuned encoder, on the CPU."""
        return self.embedder_.encoder_

    def _fit(self, X: Any, y: Any, sample_weight: Any, **metadata: Any) -> Self:
        self._check_params()
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        metadata = {name: value for name, value in metadata.items() if value is not None}
        with fitting(self):
            check_consistent_length(X, y, *metadata.values())
            weight = as_weight(sample_weight, _num_samples(y))
            if not weight.any():
                raise ValueError("All rows have sample_weight 0: there is nothing to learn from.")
            self._target_names: Sequence[Any] = column_names(y)
            self.fitted_head_ = self._make_head()
            target, weight = self.fitted_head_.encode(y, weight)
            if np.count_nonzero(weight) < 2:  # a batch norm learns nothing from one
                raise ValueError(f"Found 1 sample with a label and a weight; {type(self).__name__} needs at least 2.")
            self._divide(target, weight, seed=0)  # what cannot be divided is refused before a bare embedder is trained
            self.embedder_, fresh = self._start(X, metadata)
            known = {name: metadata[name] for name in self.embedder_.metadata if name in metadata}
            arrays = self.embedder_.inputs(X, reset=fresh, **known)
            if taken := arrays.keys() & {"target", "weight"}:
                raise ValueError(
                    f"{type(self.embedder_).__name__} calls an array {min(taken)!r}, fine-tuning's own name."
                )
            if not fresh:
                self.embedder_.check_training(arrays)
            take_names(self, self.embedder_)
            self.augment_ = self.embedder_.fit_recipe(self.augment, arrays)
            draws = Randomness(draw_seed(self.random_state), resolve_device(self.device))
            with draws.installed():
                encoder = self.embedder_.start_encoder() if fresh else self.embedder_.encoder_
                width = self.embedder_._n_features_out = feature_width(self.embedder_, encoder, arrays)
                self._head_shape = (width, self.head_norm)
                targets = {"target": target, "weight": weight / weight[weight > 0].mean()}
                head = self.build_head()
                if self.fitted_head_.start(head[-1]) and self.head_norm is not None:
                    raise ValueError("A head with given weights takes features as they are: set head_norm=None.")
            self._tune(encoder, head, arrays, targets, draws)
        return self

    def _start(self, X: Any, metadata: dict[str, Any]) -> tuple[Any, bool]:
        """Take a copy of an embedder, fitted first if it is bare, or one whose encoder is yet to be made."""
        frozen = isinstance(self.encoder, FrozenEstimator)
        embedder: Any = self.encoder.estimator if frozen else as_embedder(self.encoder)
        if not hasattr(embedder, "build_encoder"):
            raise TypeError(f"encoder holds a {type(embedder).__name__}, which is no embedder with an encoder to tune.")
        self._refuse_words(embedder)
        if is_specification(self.encoder):
            self._refuse_metadata(metadata, embedder.metadata)
            known = embedder.get_params().keys() & {*IMAGES_ALONE}
            return embedder.set_params(**{name: getattr(self, name) for name in known}), True
        if frozen:
            check_is_fitted(embedder)
            self._refuse_metadata(metadata, embedder.metadata)
            return copy_fitted(embedder), False
        warn_of_fitted(self.encoder, "encoder")
        taken = [name for name in metadata if has_fit_parameter(embedder, name)]
        self._refuse_metadata(metadata, (*taken, *embedder.metadata))
        if self.n_layers != "all":
            self._refuse_depth(clone(embedder), X)
        tell_trainings(self, 2)
        with tell_inner_fit(self, embedder):
            return embedder.fit(X, **{name: metadata[name] for name in taken}), False

    def _refuse_words(self, embedder: Any) -> None:
        """Refuse what another modality does not have, and what an embedder brings itself."""
        embedder.check_options(self.augment, self.average)
        for name in self._changed(*IMAGES_ALONE):
            value = getattr(self, name)
            if name not in embedder.get_params():
                raise ValueError(f"{name}={value!r} is for images, which {type(embedder).__name__} does not embed.")
            if not is_specification(self.encoder):
                raise ValueError(f"{name}={value!r} cannot be set beside an embedder, which brings its own.")

    def _changed(self, *names: str) -> list[str]:
        """List those of the parameters that are not left as they are unless set."""
        known = signature(type(self)).parameters
        return [name for name in names if getattr(self, name) != known[name].default]

    def _refuse_depth(self, embedder: Any, X: Any) -> None:
        """Refuse more blocks than a bare embedder's encoder will have, before it is trained."""
        embedder.inputs(X, reset=True)
        with Randomness(0, torch.device("cpu")).installed():
            self._trained(embedder.build_encoder())

    def _refuse_metadata(self, metadata: dict[str, Any], taken: Any) -> None:
        for name in metadata:
            if name not in taken:
                raise ValueError(f"{name} is given, but the encoder of this {type(self).__name__} takes none.")

    def _tune(
        self,
        encoder: nn.Module,
        head: nn.Module,
        arrays: dict[str, np.ndarray],
        targets: dict[str, np.ndarray],
        draws: Randomness,
    ) -> None:
        """Train the head and what is not frozen of the encoder."""
        trained = self._trained(encoder)
        self.learning_rates_ = {"head": float(self.lr), **trained}
        data = describe_arrays({**arrays, **targets}) if is_compared() else None
        with own_state():
            part, arrays, still = self._unfrozen(encoder, list(trained), arrays)
        drawn = self.embedder_.view(self.augment_, draws.views) if part is encoder and self.augment_ else still
        members, parameters = blocks(encoder), dict(encoder.named_parameters())
        scales = {parameters[name]: lr / self.lr for block, lr in trained.items() for name in members[block]}
        objective = FineTuning(part, head, self.fitted_head_.loss, scales, self.batch_norm)
        monitor = Monitor(part, self.embedder_.unit)
        rows, watched = self._divide(**targets, seed=draws.seed)
        held_out = None if watched is None else HeldOut(watched, still, self.n_iter_no_change)
        try:
            self._train(
                objective,
                drawn,
                {**arrays, **targets},
                monitor,
                draws=draws,
                rows=rows,
                held_out=held_out,
                data=data,
            )
        finally:  # also when Ctrl-C interrupts: what was learned stays
            self.embedder_.adopt(encoder.requires_grad_(True))
            self.head_ = head.cpu().eval()
            self.history_ = monitor.arrays()

    def _divide(self, target: np.ndarray, weight: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Choose the rows to train on, and those that early stopping watches."""
        rows = np.flatnonzero(weight)
        if not self.early_stopping:
            return rows, None
        return hold_out(rows, self.validation_fraction, seed, classes=self.fitted_head_.strata(target[rows]))

    def _trained(self, encoder: nn.Module) -> dict[str, float]:
        """List the blocks that are trained, from the head down, and their learning rates."""
        names = list(blocks(encoder))[::-1]
        count = len(names) if isinstance(self.n_layers, str) else self.n_layers
        if count > len(names):
            raise ValueError(f"n_layers={count}, but the encoder has {len(names)} blocks ({', '.join(names[::-1])}).")
        first = self.lr if self.encoder_lr is None else self.encoder_lr
        return {name: float(first * self.layer_decay**place) for place, name in enumerate(names[:count])}

    def _unfrozen(
        self, encoder: nn.Module, trained: list[str], arrays: dict[str, np.ndarray]
    ) -> tuple[nn.Module, dict[str, np.ndarray], Any]:
        """Cut off the frozen part where its output never changes, compute that once, and give the plain view."""
        view = self.embedder_.view()
        augmented = self.augment_ is not None and any(not isinstance(step, str) for _, step in self.augment_.steps)
        if augmented or self.batch_norm == "train" or len(trained) == len(blocks(encoder)):
            return encoder, arrays, view
        trunk: nn.Module = encoder
        tail: nn.Module = nn.Identity()
        if trained:
            few = [noisy(part) for part in view(**as_batch(arrays, slice(0, 2), torch.device("cpu")))]
            parts = split(encoder.eval(), trained[-1], *few)
            n = len(next(iter(arrays.values())))
            if parts is None or parts[0](*(part[:1] for part in few)).nbytes * n > CACHE_BYTES:
                return encoder, arrays, view
            trunk, tail = parts
        return tail, {"features": self._inference().mean(trunk, [view], arrays)}, AsGiven("features")

    def _outputs(self, X: Any, **metadata: Any) -> np.ndarray:
        """Run encoder and head over rows, averaged over their symmetries when asked."""
        check_is_fitted(self)
        metadata = {name: value for name, value in metadata.items() if value is not None}
        self._refuse_metadata(metadata, self.embedder_.metadata)
        arrays = self.embedder_.inputs(X, **metadata)
        network = Outputs(self.encoder_, self.head_, self.fitted_head_.activation())
        views = self.embedder_.orientations(self.average, self.augment_)
        return self._inference().mean(network, views, arrays, check=self.embedder_.check_values)

    def build_head(self) -> nn.Sequential:
        """Make the head with fresh weights.

        Returns
        -------
        nn.Module
        """
        width, norm = self._head_shape
        return nn.Sequential(NORMS[norm](width), self.fitted_head_.build(width))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        encoder = self.encoder.estimator if isinstance(self.encoder, FrozenEstimator) else self.encoder
        modality = as_embedder(encoder) if is_specification(encoder) else encoder
        if isinstance(modality, BaseEstimator):  # else fit refuses it
            taken = modality.__sklearn_tags__().input_tags
            tags.input_tags.allow_nan, tags.input_tags.three_d_array = taken.allow_nan, taken.three_d_array
        return tags


def noisy(part: Tensor) -> Tensor:
    """Disturb what an encoder takes: two rows that happen to be alike would hide a path around a cut.

    What says whether something is seen becomes false throughout the first row, and true in the others.

    Parameters
    ----------
    part : Tensor of shape (n, ...)
        Of a few rows.

    Returns
    -------
    Tensor
        Of the same shape and dtype.
    """
    if part.dtype == torch.bool:
        return torch.arange(len(part)).reshape(-1, *(1,) * (part.ndim - 1)).expand_as(part) > 0
    return part + torch.randn(part.shape, generator=torch.Generator().manual_seed(0))
