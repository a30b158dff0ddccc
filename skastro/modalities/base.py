"""The protocol between an embedder and whoever builds on it: alignment, pooling, fine-tuning."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils import _safe_indexing, check_array, get_tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skastro.augment import Augment
from skastro.base import BaseEmbedder
from skastro.devices import draw_seed, resolve_device
from skastro.inputs import as_rows
from skastro.missing import present, scatter
from skastro.training import AsGiven, Monitor, Objective, Randomness, as_batch

__all__ = ["Modality", "RowModality", "TrainedModality", "as_modality", "check_all", "feature_width"]

CHUNK = 1024  # rows checked in one go


class Modality(ABC):
    """The protocol of an embedder: how its rows become arrays, views and features.

    Alignment, pooling and fine-tuning ask an embedder for nothing else, so that whatever fulfills it, images, spectra,
    light curves, can be aligned with anything and fine-tuned. Data flow::

        rows, metadata ── inputs ──> arrays by name ── view ──> tensors ── encoder_ ──> features
                                                                        └─ encoder_.tokens ──> tokens, mask

    A concrete one has `inputs`, `view`, `build_encoder` and ``encoder_``. The encoder takes the tensors of a view and
    gives one row of features for each; if it has a method ``tokens`` that takes the same, and gives tokens (n, t,
    width) and a mask (n, t) of those that count or None, attention can look at the parts of a row, else at its
    features as the only part.

    Attributes
    ----------
    encoder_ : nn.Module
        From the tensors of a view to (n, d), on the CPU and in eval mode.
    unit : str
        What a row is, in the plural, for the history and the progress bar.
    metadata : tuple of str
        Names of the metadata that `inputs` takes, such as ``"ivar"``.
    """

    unit: ClassVar[str] = "samples"
    metadata: ClassVar[tuple[str, ...]] = ()

    encoder_: nn.Module

    @abstractmethod
    def inputs(
        self, X: Any, mask: np.ndarray | None = None, *, reset: bool = False, **metadata: Any
    ) -> dict[str, np.ndarray]:
        """Check rows, and convert them to the arrays that views take.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Rows.
        mask : ndarray of bool of shape (n,), default=None
            True for the rows that are present; what stands in the others is not looked at. None is all.
        reset : bool, default=False
            Learn shape and statistics from these rows, and refuse what cannot be learned from, rather than ask that
            they are like those learned.
        **metadata : array-like
            Metadata that is named in `metadata`, or None.

        Returns
        -------
        dict of str to ndarray of shape (n, ...)
            Arrays by name; anything finite in rows that are not present.

        Raises
        ------
        ValueError
            If the rows or their metadata cannot be used.
        """

    @abstractmethod
    def view(self, recipe: Augment | None = None, generator: torch.Generator | None = None) -> nn.Module:
        """Make the module from a batch of arrays to what the encoder takes.

        Parameters
        ----------
        recipe : Augment, default=None
            Fitted by `fit_recipe`; None draws nothing.
        generator : torch.Generator, default=None
            Source of randomness of the recipe, on the device of the batch.

        Returns
        -------
        nn.Module
            From arrays by name to a list of tensors; its ``inputs`` names the arrays that it takes.
        """

    @abstractmethod
    def build_encoder(self) -> nn.Module:
        """Make the encoder with fresh weights from torch's global generator, for rows like those learned.

        A model that is read again builds its network so, and fills in its own numbers.

        Returns
        -------
        nn.Module
        """

    def start_encoder(self) -> nn.Module:
        """Make the encoder that training starts from: one with fresh weights, unless others are given.

        Returns
        -------
        nn.Module
        """
        return self.build_encoder()

    def check_values(self, batch: dict[str, np.ndarray], rows: np.ndarray) -> None:  # noqa: B027 nothing to refuse
        """Refuse values that cannot be embedded, batch by batch as they are read.

        Parameters
        ----------
        batch : dict of str to ndarray
            Some rows of what `inputs` gave.
        rows : ndarray of int
            Their numbers.
        """

    def check_training(self, arrays: dict[str, np.ndarray]) -> None:
        """Refuse rows that cannot be learned from, which `inputs` did not learn from.

        Parameters
        ----------
        arrays : dict of str to ndarray
            What `inputs` gave.
        """
        check_all(self, arrays, np.arange(len(next(iter(arrays.values())))))

    def present(self, X: Any, name: str = "X", **metadata: Any) -> np.ndarray:
        """Find the rows that are present: not NaN throughout.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Rows.
        name : str, default="X"
            Name of the rows in errors.
        **metadata : array-like
            Metadata that is named in `metadata`, or None.

        Returns
        -------
        ndarray of bool of shape (n,)
        """
        return present(X, metadata.get("ivar"), name)

    def check_options(self, augment: Any = "auto", average: str | int | None = None) -> None:
        """Refuse an augmentation or an averaging that the modality does not have; nothing needs to be fitted.

        Parameters
        ----------
        augment : str, Augment or None, default="auto"
            Recipe that the user gave; ``"auto"`` is the modality's own.
        average : str, int or None, default=None
            Symmetries to average over.

        Raises
        ------
        ValueError
            If the modality takes no such augmentation, or has no such symmetries.
        """
        for name, value, default in (("augment", augment, "auto"), ("average", average, None)):
            if value not in (default, None):
                raise ValueError(f"{name}={value!r} is for images, which {self._owner()} does not embed.")

    def orientations(self, average: str | int | None, recipe: Augment | None = None) -> list[nn.Module]:
        """List the views over which outputs are averaged.

        Parameters
        ----------
        average : str, int or None
            Symmetries to average over; None is the one view that draws nothing.
        recipe : Augment, default=None
            Recipe of the training.

        Returns
        -------
        list of nn.Module

        Raises
        ------
        ValueError
            If the modality has no such symmetries.
        """
        self.check_options(average=average)
        return [self.view()]

    def fit_recipe(self, augment: Any, arrays: dict[str, np.ndarray]) -> Augment | None:
        """Fit an augmentation to what `inputs` gave.

        Parameters
        ----------
        augment : str, Augment or None
            Recipe that the user gave; ``"auto"`` is the modality's own.
        arrays : dict of str to ndarray
            Training rows.

        Returns
        -------
        Augment or None

        Raises
        ------
        ValueError
            If the modality takes no augmentation.
        """
        self.check_options(augment)
        return None

    @property
    def takes_gaps(self) -> bool:
        """Whether a row may be missing in part."""
        return get_tags(self).input_tags.allow_nan

    def adopt(self, encoder: nn.Module) -> Self:
        """Keep a network as the encoder, on the CPU and in eval mode.

        Parameters
        ----------
        encoder : nn.Module
            Of the architecture that `build_encoder` makes.

        Returns
        -------
        Modality
            Itself.
        """
        self.encoder_ = encoder.cpu().eval()
        return self

    def _owner(self) -> str:
        """Name what embeds, for errors."""
        return type(self).__name__


class TrainedModality(BaseEmbedder, Modality):
    """Base of every embedder that trains its encoder.

    A concrete one has the hook `_objective`; its ``fit`` checks the rows by `inputs` and calls `_learn`.
    """

    history_: dict[str, np.ndarray]

    @abstractmethod
    def _objective(self, encoder: nn.Module) -> Objective:
        """Wrap the encoder into the module that turns views, and targets by name, into a loss."""

    def _watched(self, encoder: nn.Module) -> nn.Module:
        """Choose the part of the encoder whose outputs the history watches."""
        return encoder

    def _keep(self, objective: Any) -> None:
        """Keep what else was trained, beside the encoder."""

    def _learn(
        self, arrays: dict[str, np.ndarray], views: Callable[[torch.Generator], Any], **targets: np.ndarray
    ) -> Self:
        """Train a fresh encoder on what `inputs` gave, with views that draw from a generator."""
        draws = Randomness(draw_seed(self.random_state), resolve_device(self.device))
        with draws.installed():
            encoder = self.start_encoder()
            self._n_features_out = feature_width(self, encoder, arrays)
            monitor, objective = Monitor(self._watched(encoder), self.unit), self._objective(encoder)
        try:
            self._train(objective, views(draws.views), {**arrays, **targets}, monitor, draws=draws)
        finally:  # also when Ctrl-C interrupts: what was learned stays
            self.adopt(encoder)._keep(objective)
            self.history_ = monitor.arrays()
        return self


class RowModality(Modality):
    """The protocol for any other transformer: a row of numbers, which is its only token.

    Parameters
    ----------
    transformer : transformer
        Fitted, to rows of numbers.
    """

    takes_gaps = False

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer
        self.encoder_ = nn.Identity()

    def inputs(  # noqa: D102
        self, X: Any, mask: np.ndarray | None = None, *, reset: bool = False, **metadata: Any
    ) -> dict[str, np.ndarray]:
        check_is_fitted(self.transformer)
        few = as_rows(X)
        few = few if mask is None or mask.all() else _safe_indexing(few, np.flatnonzero(mask))
        rows = check_array(
            self.transformer.transform(few),
            dtype=np.float32,
            input_name=f"what {type(self.transformer).__name__} gives",
        )
        return {"rows": rows if mask is None else scatter(rows, mask)}

    def view(  # noqa: D102
        self, recipe: Augment | None = None, generator: torch.Generator | None = None
    ) -> AsGiven:
        return AsGiven("rows")

    def build_encoder(self) -> nn.Module:  # noqa: D102
        return nn.Identity()

    def _owner(self) -> str:
        return type(self.transformer).__name__


def as_modality(transformer: Any) -> Modality:
    """Find the protocol that a transformer fulfills: its own, or that of rows of numbers.

    Parameters
    ----------
    transformer : transformer
        Any of scikit-learn's kind.

    Returns
    -------
    Modality

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skastro import BYOLEmbedder
    >>> from skastro.modalities import as_modality
    >>> as_modality(BYOLEmbedder()).unit, as_modality(StandardScaler()).unit
    ('images', 'samples')
    """
    return transformer if isinstance(transformer, Modality) else RowModality(transformer)


def feature_width(modality: Modality, encoder: nn.Module, arrays: dict[str, np.ndarray]) -> int:
    """Count the features that an encoder gives for one row.

    Parameters
    ----------
    modality : Modality
        Whose views the encoder takes.
    encoder : nn.Module
        Network on the CPU; left in eval mode.
    arrays : dict of str to ndarray
        Rows, of which the first is looked at.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If it does not give one row of features per row.
    """
    with torch.no_grad():
        rows = encoder.eval()(*modality.view()(**as_batch(arrays, slice(0, 1), torch.device("cpu"))))
    if not isinstance(rows, Tensor) or rows.ndim != 2:
        raise ValueError(
            f"The encoder must give one row of features for each of the {modality.unit}, (n, d); "
            f"it gave {tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__}."
        )
    return rows.shape[1]


def check_all(modality: Modality, arrays: dict[str, np.ndarray], rows: np.ndarray) -> None:
    """Refuse values that cannot be embedded before any work starts.

    Parameters
    ----------
    modality : Modality
        Checks them.
    arrays : dict of str to ndarray
        What its `inputs` gave.
    rows : ndarray of int
        Rows to check, in ascending order.

    Raises
    ------
    ValueError
        From the modality.
    """
    for chosen in np.split(rows, range(CHUNK, len(rows), CHUNK)):
        modality.check_values({name: array[chosen] for name, array in arrays.items()}, chosen)
