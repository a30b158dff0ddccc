"""The scikit-learn contract of every embedder, written once."""

import copy
import platform
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils import Tags, check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from skastro.augment import Augment, MultiView, get_recipe, one_recipe
from skastro.augment.views import Views, symmetries
from skastro.encoders import ImageEncoder, ImageTokens, Normalizer, get_encoder
from skastro.images import as_pixels, check_finite, check_pixels, check_shape, chunks, fold, fold_ivar, measure_bands
from skastro.surveys import Survey, get_survey
from skastro.training import (
    Monitor,
    Objective,
    Training,
    draw_seed,
    get_training,
    local_seed,
    resolve_device,
    train,
)

__all__ = ["BaseEmbedder", "BaseModel", "ImageEmbedder", "ImageModel"]

FORMAT = 1  # of the fitted state


@contextmanager
def restored_on_error(estimator: BaseEstimator) -> Iterator[None]:
    """Leave an estimator as it was if its fit fails: a refused refit loses nothing.

    Parameters
    ----------
    estimator : BaseEstimator
        Being fitted inside the block. Ctrl-C is no failure.
    """
    before = dict(vars(estimator))
    try:
        yield
    except Exception:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class BaseModel(BaseEstimator):
    """What every estimator that trains a network is: parameters with shorthands, and a fitted state of numbers.

    What is fitted is plain values and arrays but for its networks, which the state keeps as arrays and builds again:
    the network ``encoder_`` by the hook ``_build_encoder``, and so each other that `_networks` names.
    """

    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = {"training": get_training}
    _networks: ClassVar[tuple[str, ...]] = ("encoder",)
    _auto: ClassVar[dict[str, Any]] = {}

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a nested one first replaces a shorthand by what it stands for.

        Parameters
        ----------
        **params : dict
            ``augment__noise="passthrough"`` works on ``augment="radio"``, ``encoder__stem="3x3"`` on
            ``encoder="resnet18"``, ``training__clip=1.0`` on ``training=None``.

        Returns
        -------
        BaseModel
            Itself.
        """
        super().set_params(**{key: value for key, value in params.items() if "__" not in key})
        nested = {key: value for key, value in params.items() if "__" in key}
        for name in {key.partition("__")[0] for key in nested} & self._shorthand.keys():
            setattr(self, name, self._shorthand[name](getattr(self, name)))
        return super().set_params(**nested)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        for network in state.keys() & {f"{name}_" for name in self._networks}:
            weights = state[network].state_dict().items()
            state[network] = {key: tensor.numpy().copy(order="C") for key, tensor in weights}
            state["_format"] = FORMAT
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if state.pop("_format", FORMAT) > FORMAT:
            raise ValueError(f"This {type(self).__name__} was saved by a newer skastro; upgrade to load it.")
        weights = {name: state.pop(f"{name}_") for name in self._networks if f"{name}_" in state}
        super().__setstate__(state)
        for name, arrays in weights.items():
            with local_seed(0):
                network = getattr(self, f"_build_{name}")().eval()
            network.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()})
            setattr(self, f"{name}_", network)

    def _training_config(self) -> Training:
        """Give the knobs in use, with what suits the method where they say "auto"."""
        training = copy.copy(get_training(self.training))
        training.check()
        return training.set_params(**{k: v for k, v in self._auto.items() if getattr(training, k) == "auto"})

    def _moved(self, network: nn.Module) -> Any:
        """Put a network that lies on the CPU where it shall run: a copy, if that is elsewhere."""
        device = resolve_device(self.device)
        network = network if device.type == "cpu" else copy.deepcopy(network)
        return network.to(device).to(memory_format=torch.channels_last)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Compute without gradients, in the precision asked for."""
        bf16 = self._training_config().precision == "bf16"
        with torch.inference_mode(), torch.autocast(resolve_device(self.device).type, torch.bfloat16, enabled=bf16):
            yield


class ImageModel(BaseModel):
    """What every estimator that takes images is: the meaning of its words, and how pixels come in."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "encoder": [str, ImageEncoder, nn.Module],
        "augment": [str, Augment, None],
        "survey": [str, Survey, None],
        "size": [Interval(Integral, 1, None, closed="left"), None],
        "image_shape": [tuple, list, None],
        "normalize": [StrOptions({"standard", "asinh"}), None],
        "average": [StrOptions({"dihedral"}), Interval(Integral, 1, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "training": [Training, None],
        "device": [str],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = BaseModel._shorthand | {
        "encoder": get_encoder,
        "augment": one_recipe,
        "survey": get_survey,
    }

    image_shape: tuple[int, int, int] | None
    image_shape_: tuple[int, int, int]
    size_: tuple[int, int]
    provenance_: dict[str, Any]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _run(self, network: nn.Module, images: np.ndarray, average: str | int | None = None) -> np.ndarray:
        """Run a network over checked images batch by batch, averaged over their symmetries when asked."""
        device = resolve_device(self.device)
        network, normalizer = self._moved(network), Normalizer(self.normalizer_).to(device)
        out = np.empty(0, dtype=np.float32)
        with self._inference():
            for start in range(0, len(images), self.batch_size):
                batch = as_pixels(images[start : start + self.batch_size])
                check_finite(batch, start)
                raw = torch.from_numpy(batch).to(device)
                rows = [
                    network(normalizer(view).contiguous(memory_format=torch.channels_last)).float()
                    for view in symmetries(raw, self.size_, average=average, edge=self.augment_.edge)
                ]
                mean = (sum(rows) / len(rows)).cpu().numpy()
                if start == 0:
                    out = np.empty((len(images), *mean.shape[1:]), dtype=np.float32)
                out[start : start + len(batch)] = mean
        return out

    def _check_images(self, X: Any, reset: bool) -> np.ndarray:
        """Fold and check images: at first sight (reset) they are learned from, later they must be alike."""
        array = check_array(
            X,
            dtype="numeric",
            allow_nd=True,
            ensure_all_finite=False,
            ensure_min_samples=2 if reset else 1,
            estimator=self,
            input_name="X",
        )
        if array.ndim == 2:
            validate_data(self, X, reset=reset, skip_check_array=True)
        images = fold(array, self.image_shape if reset else self.image_shape_)
        if not reset:
            check_shape(images.shape, self.image_shape_[0], self.size_)
            return images
        size = images.shape[2:] if self.size is None else (self.size, self.size)
        check_shape(images.shape, None, size)
        check_pixels(images)
        self.image_shape_, self.size_ = images.shape[1:], size
        if array.ndim > 2:
            self.n_features_in_ = images.shape[1]
            self.__dict__.pop("feature_names_in_", None)  # of an earlier fit to a table
        return images

    def _learn_pixels(self, images: np.ndarray) -> None:
        """Learn what the pixels are: survey, normalization, and where they came from."""
        self.survey_ = get_survey(self.survey)
        bands = list(self.survey_.bands) if self.survey_ else None
        if bands is not None and len(bands) != images.shape[1]:
            raise ValueError(f"The survey has {len(bands)} bands ({', '.join(bands)}), X has {images.shape[1]}.")
        self.normalizer_ = measure_bands(images, self.normalize)
        self.provenance_ = {
            "n_images": len(images),
            "image_shape": list(self.image_shape_),
            "size": list(self.size_),
            "bands": bands,
            "survey": self.survey if isinstance(self.survey, str) else None,
            "pixel_scale": self.survey_.pixel_scale if self.survey_ else None,
            "versions": {name: version(name) for name in ("skastro", "torch", "timm", "scikit-learn", "numpy")}
            | {"python": platform.python_version()},
        }

    def _learn_steps(self, images: np.ndarray) -> None:
        """Let the augmentation learn what its steps need."""
        self.augment_ = self._shorthand["augment"](self.augment).fit(
            images, self.survey_, self.normalizer_["noise"], self.size_
        )

    def _train(
        self,
        objective: Objective,
        views: Callable[..., Sequence[Tensor]],
        arrays: Mapping[str, np.ndarray],
        monitor: Monitor,
        **kwargs: Any,
    ) -> None:
        """Train under the parameters of this estimator."""
        if self.max_epochs != 0:
            train(
                objective,
                views,
                arrays,
                monitor=monitor,
                training=self._training_config(),
                max_epochs=self.max_epochs,
                batch_size=self.batch_size,
                lr=self.lr,
                device=resolve_device(self.device),
                verbose=self.verbose,
                **kwargs,
            )

    def _build_encoder(self) -> nn.Module:
        """Make the encoder with fresh weights for images of the shape learned."""
        if isinstance(self._spec, nn.Module):
            return copy.deepcopy(self._spec)
        return self._spec.build(self.image_shape_[0], self.size_)

    def _width(self, encoder: nn.Module) -> int:
        """Count the features that the encoder gives for one image."""
        blank = torch.zeros(1, self.image_shape_[0], *self.size_)
        with torch.no_grad():
            rows = encoder.eval()(blank)
        if not isinstance(rows, Tensor) or rows.ndim != 2:
            raise ValueError(
                "The encoder must give one row of features per image, (n, d); "
                f"it gave {tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__}."
            )
        return rows.shape[1]


class BaseEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseModel):
    """What every embedder is: a transformer that trains an encoder and keeps it."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class ImageEmbedder(BaseEmbedder, ImageModel, ABC):
    """What every image embedder is: pixels in, one row of features per image out.

    A concrete one has a constructor that only stores and the hook `_objective`; one that learns from more than images
    has a ``fit`` of its own, with that metadata, which calls `_pretrain`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageModel._parameter_constraints | {
        "augment": [str, Augment, MultiView, None],
    }
    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = ImageModel._shorthand | {"augment": get_recipe}
    _n_views: ClassVar[int | None] = 2  # None: as many as the recipe makes
    # On by default: an inverse variance that is given can mean nothing else.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"ivar": True}

    # Those annotated here and above are described by `skastro._docs.documented`.
    encoder_: nn.Module
    normalizer_: dict[str, np.ndarray]
    augment_: Augment
    survey_: Survey | None
    n_features_in_: int

    def fit(self, X: Any, y: Any = None, ivar: Any = None) -> Self:
        """Learn from images alone.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images, flux or 8-bit; a memory map is read batch by batch.
        y : ignored
            Present for scikit-learn.
        ivar : array-like of the shape of X, default=None
            Inverse variance of each pixel, in the inverse square of the flux's unit; 0 is a missing pixel. For the
            `skastro.augment.InverseVarianceNoise` of a recipe.

        Returns
        -------
        self
            Ctrl-C keeps what was learned before it stops.

        Raises
        ------
        ValueError
            If a parameter or the images cannot be used; nothing has been trained then.
        """
        return self._pretrain(X, ivar)

    def transform(self, X: Any) -> np.ndarray:
        """Embed images, each row on its own.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images; a memory map is read batch by batch.

        Returns
        -------
        ndarray of shape (n, d), float32

        Raises
        ------
        ValueError
            If the bands are not those learned, the images are smaller than what the encoder sees, or pixels are
            NaN or infinite.
        """
        check_is_fitted(self)
        return self._run(self.encoder_, self._check_images(X, reset=False), self.average)

    def _token_inputs(self, X: Any, there: np.ndarray) -> list[np.ndarray]:
        """Check the images that are there, and give what `_token_network` takes of all."""
        images = self._check_images(X, reset=False)
        for start, chunk in chunks(images):
            chunk[~there[start : start + len(chunk)]] = 0
            check_finite(chunk, start)
        return [images]

    def _token_network(self) -> nn.Module:
        """Give the network from images to the tokens that attention pools."""
        return ImageTokens(self.encoder_, Normalizer(self.normalizer_), self.size_)

    @abstractmethod
    def _objective(self, encoder: nn.Module) -> Objective:
        """Wrap the encoder into the module that turns views, and targets by name, into a loss."""

    def _views(self) -> list[tuple[Augment, tuple[int, int]]]:
        """List the fitted recipe and the size of each view: two, unless a method compares more or looks at one."""
        views = self.augment_.views(self.size_)
        if self._n_views and len(views) != 2:
            raise ValueError(f"{type(self).__name__} compares two views; augment= makes {len(views)}: set n_local=0.")
        return views[: self._n_views]

    def _pretrain(self, X: Any, ivar: Any, **targets: np.ndarray) -> Self:
        """Fit on images, their inverse variance if the recipe takes it, and targets that go with them row by row."""
        self._validate_params()
        self._training_config()
        device = resolve_device(self.device)
        with restored_on_error(self):
            images = self._check_images(X, reset=True)
            self._learn_pixels(images)
            self._learn_steps(images)
            seed = draw_seed(self.random_state)
            generator = torch.Generator(device).manual_seed(seed)
            views = Views(self._views(), Normalizer(self.normalizer_).to(device), generator)
            if ivar is not None:
                targets |= self._check_ivar(ivar, images, views)
            # Kept, because the parameter may be set anew before this fit is pickled.
            self._spec = clone(get_encoder(self.encoder), safe=False)
            with local_seed(seed):
                encoder = self._build_encoder()
                self._n_features_out = self._width(encoder)
                monitor = Monitor(encoder)
                try:
                    self._train(self._objective(encoder), views, {"images": images, **targets}, monitor)
                finally:  # also when Ctrl-C interrupts: what was learned stays
                    self.encoder_ = encoder.cpu().eval()
                    self.history_ = monitor.arrays()
        return self

    def _check_ivar(self, ivar: Any, images: np.ndarray, views: Views) -> dict[str, np.ndarray]:
        """Give the inverse variance a name if a step of the recipe takes it, and warn if none does."""
        folded = fold_ivar(ivar, images, self.image_shape)
        if "ivar" in views.metadata:
            return {"ivar": folded}
        warnings.warn("ivar is given, but no step of augment= takes it: see InverseVarianceNoise.", stacklevel=4)
        return {}
