"""The scikit-learn contract of every estimator that trains a network, written once."""

import copy
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from numbers import Integral, Real
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from torch import Tensor

from skastro import ranks
from skastro._bounds import Bounds
from skastro._registry import FORMAT
from skastro.devices import resolve_device, uses_bf16
from skastro.inputs import restored_on_failure
from skastro.pixels import report
from skastro.training import (
    CallbackSupport,
    HeldOut,
    Inference,
    Learner,
    Monitor,
    NotBegun,
    Objective,
    Randomness,
    Settings,
    Tasks,
    Training,
    TrainingRows,
    current_run,
    describe_arrays,
    describe_fit,
    differences,
    get_training,
    is_compared,
    local_seed,
    own_state,
    resumable,
    tell_fit,
    train,
)

__all__ = ["BaseEmbedder", "BaseModel", "constructed", "fitting", "provenance", "take_names"]

T = TypeVar("T")


@contextmanager
def fitting(estimator: BaseEstimator) -> Iterator[None]:
    """Run a fit apart from torch's global state, and restore the estimator if it fails.

    Parameters
    ----------
    estimator : BaseEstimator
        Being fitted inside the block. Ctrl-C is no failure once training has begun: what was learned stays.
    """
    history = vars(estimator).get("history_")

    def learned(error: BaseException) -> bool:
        return not isinstance(error, Exception | NotBegun) and vars(estimator).get("history_") is not history

    with restored_on_failure(estimator, unless=learned):
        ranks.join()
        with own_state(), resumable(estimator), tell_fit(estimator):
            yield


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
def constructed(kind: type[T]) -> type[T]:
    """Make the constructor of an estimator, which only stores, from the parameters that its class annotates.

    Parameters
    ----------
    kind : type
        Its annotated attributes, and those of its bases that are so constructed, are the parameters, with their
        defaults; they are given by name, unless they are ``field(kw_only=False)``. What `fit` learns is annotated as
        ``field(init=False)``, or not at all.

    Returns
    -------
    type
        The class itself.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator
    >>> from skastro.base import constructed
    >>> @constructed
    ... class Constant(BaseEstimator):
    ...     value: float = 0.0
    >>> Constant(value=1.0).get_params()
    {'value': 1.0}
    """
    return dataclass(eq=False, repr=False, kw_only=True)(kind)


def provenance(**facts: Any) -> dict[str, Any]:
    """Describe what a model was trained on, and by which versions.

    Parameters
    ----------
    **facts : dict
        Plain values.

    Returns
    -------
    dict
    """
    versions = {name: version(name) for name in ("skastro", "torch", "timm", "scikit-learn", "numpy")}
    return {**facts, "versions": versions | {"python": platform.python_version()}}


def take_names(estimator: BaseEstimator, source: Any) -> None:
    """Take over number and names of the columns from an estimator fitted to the same rows.

    Parameters
    ----------
    estimator : BaseEstimator
        Being fitted.
    source : estimator
        Fitted to the same rows.
    """
    for name in ("n_features_in_", "feature_names_in_"):
        estimator.__dict__.pop(name, None)
        if hasattr(source, name):
            setattr(estimator, name, getattr(source, name))


def _compare(fits: Sequence[Mapping[str, str]]) -> None:
    """Refuse processes that would train together on other data, or under other parameters."""
    for fit in fits:
        if fit != fits[0]:
            raise ValueError(
                f"Processes that train together need the same data and parameters: {differences(fits[0], fit)}."
            )


USED = ("average", "batch_size", "training")  # parameters that count after `fit` too


class BaseModel(CallbackSupport, BaseEstimator):
    """Base of every estimator that trains a network: parameters with shorthands, and a fitted state of numbers.

    The fitted state is plain values and arrays but for networks, which are kept as arrays and built again: the network
    ``encoder_`` by the hook ``build_encoder``, and so each other that `_networks` names.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "training": [Training, None],
        "device": [str],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

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
        weights = {name: state.pop(f"{name}_") for name in self._networks if f"{name}_" in state}
        written = state.pop("_format", 1 if weights else FORMAT)  # one never fitted has none
        if written > FORMAT:
            raise ValueError(f"This {type(self).__name__} was saved by a newer skastro; upgrade to load it.")
        if written < FORMAT:
            raise ValueError(
                f"This {type(self).__name__} was saved by an earlier, unreleased skastro: "
                "fit again and save with this version, or load it with the version that saved it."
            )
        super().__setstate__(state)
        with local_seed(0):
            for name, arrays in weights.items():
                with Bounds(arrays.values()):  # by the class's hook: a state may hold all else of its name
                    network = getattr(type(self), f"build_{name}")(self).eval()
                network.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()})
                setattr(self, f"{name}_", network)

    def _check_params(self) -> None:
        """Refuse parameters, settings of the training and devices that cannot be, before anything is computed."""
        self._validate_params()
        self._training_config()
        resolve_device(self.device)

    def _training_config(self) -> Training:
        """Return the configuration in use, with the method's own values where it says "auto"."""
        training = copy.copy(get_training(self.training))
        training.check()
        return training.set_params(**{k: v for k, v in self._auto.items() if getattr(training, k) == "auto"})

    def _inference(self) -> Inference:
        """Return where, how many rows at a time and in which precision networks run, as the parameters now say."""
        used = {name: value for name, value in self.get_params(deep=False).items() if name in USED}
        validate_parameter_constraints(self._parameter_constraints, used, type(self).__name__)
        training = self._training_config()
        bf16, threads = training.precision == "bf16", training.n_threads()
        return Inference(resolve_device(self.device), self.batch_size, bf16, threads, training.workers)

    def _train(
        self,
        objective: Objective,
        views: Callable[..., Sequence[Tensor]],
        arrays: Mapping[str, np.ndarray],
        monitor: Monitor,
        *,
        draws: Randomness,
        rows: np.ndarray | None = None,
        held_out: HeldOut | None = None,
        data: Mapping[str, str] | None = None,
    ) -> None:
        """Train under the parameters of this estimator.

        Where arrays are computed and their last digits may differ the next time, `data` describes what they are
        computed from.
        """
        if self.max_epochs == 0:
            return
        with monitor.interruptible():
            training, device = self._training_config(), resolve_device(self.device)
            checkpoint, run = None, current_run()
            if is_compared():
                chosen = {"rows trained on": rows, "rows watched": None if held_out is None else held_out.rows}
                more = describe_arrays({name: part for name, part in chosen.items() if part is not None})
                about = describe_fit(self, training, draws.seed, device, {**(data or describe_arrays(arrays)), **more})
                _compare(ranks.everyones(about))
                checkpoint = None if run is None else run.open(about)
            with own_state(training.n_threads()), Tasks(self, "epoch") as tasks:
                learner = Learner(objective, views, draws, uses_bf16(training.precision, device))
                settings = Settings(training, self.max_epochs, self.batch_size, self.lr, device, self.verbose)
                train(learner, TrainingRows(arrays, rows, held_out), settings, monitor, checkpoint, tasks)
        report(arrays)


class BaseEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseModel):
    """Base of every embedder: a transformer that trains an encoder and keeps it."""

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features, which are those of the class, numbered.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns, or the one of a column of images or spectra; they only must be as many as came.

        Returns
        -------
        ndarray of str
        """
        column = input_features is not None and len(input_features) == 1
        return super().get_feature_names_out(None if column else input_features)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
