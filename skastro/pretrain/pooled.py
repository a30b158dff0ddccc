"""One side of an alignment: a fitted embedder whose tokens attention pools into one row."""

import os
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, get_tags
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn.functional import normalize

from skastro._docs import documented
from skastro.base import BaseEmbedder, fitting, take_names
from skastro.devices import draw_seed
from skastro.encoders import AttentionPool, Tokens
from skastro.missing import scatter
from skastro.modalities import ImageModality, Modality, SpectrumModality, as_modality, check_all
from skastro.training import Inference, Training, local_seed
from skastro.weights import POOLS, PublishedPool, Weights, read_weights

__all__ = ["Attention", "Pooled", "PooledEmbedder", "published_pool"]


class Pooled(nn.Module):
    """From a view to a row of length 1: the tokens of an encoder, pooled.

    Parameters
    ----------
    tokens : nn.Module
        From a view to tokens, and a mask of those that count or None.
    head : AttentionPool
        Pools them.
    """

    def __init__(self, tokens: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.tokens = tokens
        self.head = head

    def forward(self, *view: Tensor) -> Tensor:
        """Embed a batch.

        Parameters
        ----------
        *view : Tensor
            What the encoder takes.

        Returns
        -------
        Tensor of shape (n, dim)
        """
        return normalize(self.head(*self.tokens(*view)).float(), dim=1)


class Attention(Pooled):
    """From a view to the weights that each head of a pool gives to the tokens.

    Parameters
    ----------
    tokens : nn.Module
        From a view to tokens, and a mask of those that count or None.
    head : AttentionPool
        Weighs them.
    """

    def forward(self, *view: Tensor) -> Tensor:
        """Weigh the tokens of a batch.

        Parameters
        ----------
        *view : Tensor
            What the encoder takes.

        Returns
        -------
        Tensor of shape (n, heads, t)
        """
        head: Any = self.head
        return head.attention(*self.tokens(*view)).float()


@documented
class PooledEmbedder(BaseEmbedder):
    """Embed by attention over the tokens of a fitted embedder: one side of :class:`AstroCLIPEmbedder`.

    A ViT has its class token and its patches as tokens, any other timm network the places of its last feature map, a
    spectrum its pieces, and any other transformer one token, its row. Rows come out with length 1.

    Parameters
    ----------
    embedder : FrozenEstimator
        A fitted embedder of any modality, or any fitted transformer to rows of numbers.
    embedding_dim : int, default=512
        Features that come out.
    heads : int, default=4
        Attention heads; they divide `embedding_dim`.
    weights : str, path-like or None, default=None
        Checkpoint ``astroclip.ckpt``, whose pool of images or of spectra is used, with ``embedding_dim=1024`` and
        ``heads=4``. None draws the pool.

    Attributes
    ----------
    head_ : AttentionPool
        The pool, on the CPU.
    n_features_in_ : int
        As the embedder has it.

    See Also
    --------
    AstroCLIPEmbedder : Trains several of these, so that all sides of an object agree.

    Notes
    -----
    ``average=`` of an embedder of images has no effect here, nor has its way of pooling. The alignment of a frozen
    embedder measures mean and standard deviation of the tokens of some rows, and the pool sees them in these units.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.frozen import FrozenEstimator
    >>> from skastro import BYOLEmbedder
    >>> from skastro.pretrain import PooledEmbedder
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> byol = BYOLEmbedder("test_resnet", max_epochs=1, batch_size=4, random_state=0).fit(images)
    >>> pooled = PooledEmbedder(FrozenEstimator(byol), embedding_dim=32, random_state=0).fit(images)
    >>> pooled.transform(images).shape, pooled.attention(images).shape
    ((8, 32), (8, 4, 1))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = BaseEmbedder._parameter_constraints | {
        "embedder": [FrozenEstimator],
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "heads": [Interval(Integral, 1, None, closed="left")],
        "weights": [str, os.PathLike, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }
    _networks: ClassVar[tuple[str, ...]] = ("head",)
    # On by default: an inverse variance that is given can mean nothing else.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"ivar": True}
    __metadata_request__transform: ClassVar[dict[str, bool]] = {"ivar": True}

    def __init__(
        self,
        embedder: FrozenEstimator,
        *,
        embedding_dim: int = 512,
        heads: int = 4,
        weights: str | os.PathLike[str] | None = None,
        batch_size: int = 256,
        training: Training | None = None,
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.embedder = embedder
        self.embedding_dim = embedding_dim
        self.heads = heads
        self.weights = weights
        self.batch_size = batch_size
        self.training = training
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, ivar: Any = None) -> Self:
        """Make the pool, with random weights or those given.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the embedder takes; a row all NaN is missing.
        y : ignored
            Present for scikit-learn.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance of spectra.

        Returns
        -------
        PooledEmbedder
            Itself.

        Raises
        ------
        ValueError
            If a parameter or the data cannot be used, or weights are not those of such a pool.
        FileNotFoundError, ConnectionError
            If weights are not where they should be.
        """
        self._check_params()
        check_is_fitted(self.embedder.estimator)
        given = None if self.weights is None else self._read(self.weights)
        with fitting(self):
            arrays, mask = self.arrays(X, ivar=ivar)
            if not mask.any():
                raise ValueError(f"All {len(mask)} rows are missing: there is nothing to learn from.")
            check_all(self.modality, arrays, np.flatnonzero(mask))
            _, tokens, _ = next(self.tokens(arrays, np.flatnonzero(mask)[:1], self._inference()))
            width, dim = tokens.shape[2], int(self.embedding_dim)
            hidden, shortcut = (dim, "attention") if given is None else (given[0].hidden * dim, given[0].shortcut)
            self._head_shape = (width, int(self.heads), dim, hidden, shortcut)
            self._n_features_out = self.embedding_dim
            take_names(self, self.embedder.estimator)
            with local_seed(draw_seed(self.random_state)):
                self.head_ = self.build_head().eval()
            if given is not None:
                pool, weights = given
                self.head_.load_state_dict(pool.select(weights, width, dim, self.heads))
        return self

    def transform(self, X: Any, ivar: Any = None) -> np.ndarray:
        """Embed rows, each on its own.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the embedder takes; a row all NaN is missing.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance of spectra; zero is missing.

        Returns
        -------
        ndarray of shape (n, embedding_dim), float32
            Of length 1; NaN where the row is missing.

        Raises
        ------
        ValueError
            If the data are not like those that the embedder learned from, or a row is NaN in part where the embedder
            takes none.
        """
        check_is_fitted(self)
        return self.embed(X, self._inference(), ivar=ivar)

    def fit_transform(self, X: Any, y: Any = None, ivar: Any = None) -> np.ndarray:
        """Fit, then transform with the same `ivar`.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the embedder takes.
        y : ignored
            Present for scikit-learn.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance of spectra; zero is missing.

        Returns
        -------
        ndarray of shape (n, embedding_dim), float32
        """
        return self.fit(X, y, ivar=ivar).transform(X, ivar=ivar)

    def attention(self, X: Any, ivar: Any = None) -> np.ndarray:
        """Compute where each head looks.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the embedder takes; a row all NaN is missing.
        ivar : array-like of shape (n, n_wavelengths), default=None
            Inverse variance of spectra; zero is missing.

        Returns
        -------
        ndarray of shape (n, heads, t), float32
            Weights of the t tokens, which sum to 1; NaN where the row is missing. The first token is a ViT's class
            token, or that of a spectrum's mean and scale; patches and places follow row by row from the upper left. An
            `AstroCLIPImageEncoder` has patches alone.

        Raises
        ------
        ValueError
            If all rows are missing, or the data are not like those learned from.
        """
        check_is_fitted(self)
        arrays, mask = self.arrays(X, ivar=ivar)
        if not mask.any():
            raise ValueError(f"All {len(mask)} rows are missing: there is nothing to look at.")
        return scatter(self._run(Attention, arrays, mask, self._inference()), mask, np.nan)

    def embed(self, X: Any, inference: Inference, **metadata: Any) -> np.ndarray:
        """Transform on the device, and with the batch size and the precision, that somebody else asks for.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the embedder takes; a row all NaN is missing.
        inference : Inference
            Where and how to run.
        **metadata : array-like
            Metadata that the embedder's modality takes, or None.

        Returns
        -------
        ndarray of shape (n, embedding_dim), float32
        """
        arrays, mask = self.arrays(X, **metadata)
        if not mask.any():
            return np.full((len(mask), self._n_features_out), np.nan, dtype=np.float32)
        return scatter(self._run(Pooled, arrays, mask, inference), mask, np.nan)

    @property
    def modality(self) -> Modality:
        """Modality of the embedder."""
        return as_modality(self.embedder.estimator)

    def arrays(self, X: Any, name: str = "X", **metadata: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Check rows, and convert those that are present to what the embedder's views take.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the embedder takes; a row all NaN is missing.
        name : str, default="X"
            Name of the rows in errors.
        **metadata : array-like
            Metadata that the embedder's modality takes, or None.

        Returns
        -------
        arrays : dict of str to ndarray
            Empty if no row is present.
        mask : ndarray of bool of shape (n,)
            True for rows that are present.

        Raises
        ------
        ValueError
            If metadata comes that the modality does not take, or the rows cannot be used.
        """
        modality = self.modality
        for word, value in metadata.items():
            if value is not None and word not in modality.metadata:
                owner = type(self.embedder.estimator).__name__
                raise ValueError(f"{word} goes with a modality that takes it, such as spectra; {owner} takes none.")
        mask = modality.present(X, name, **metadata)
        return modality.inputs(X, mask, **metadata) if mask.any() else {}, mask

    def tokens(
        self, arrays: dict[str, np.ndarray], rows: np.ndarray, inference: Inference
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor | None]]:
        """Compute the tokens of some rows, batch by batch.

        Parameters
        ----------
        arrays : dict of str to ndarray
            What `arrays` gave.
        rows : ndarray of int
            Rows to look at.
        inference : Inference
            Where and how to run.

        Yields
        ------
        rows : ndarray of int
            Rows of a batch.
        tokens : Tensor of shape (n, t, width)
        mask : Tensor of shape (n, t), or None
        """
        modality = self.modality
        network, views = Tokens(modality.encoder_), [modality.view()]
        for chosen, ((tokens, mask),) in inference(network, views, arrays, rows=rows, check=modality.check_values):
            yield chosen, tokens, mask

    def _read(self, source: str | os.PathLike[str]) -> tuple[PublishedPool, Weights]:
        """Find which of the published pools is the embedder's, and read the file."""
        pool = published_pool(self.embedder.estimator)
        if pool is None:
            name = type(self.embedder.estimator).__name__
            raise ValueError(f"weights= has pools for images and for spectra, and {name} embeds neither.")
        return pool, read_weights(source)

    def _run(
        self, kind: type[Pooled], arrays: dict[str, np.ndarray], mask: np.ndarray, inference: Inference
    ) -> np.ndarray:
        """Run tokens and pool over the rows that are present."""
        modality = self.modality
        network = kind(Tokens(modality.encoder_), self.head_)
        return inference.mean(
            network, [modality.view()], arrays, rows=np.flatnonzero(mask), check=modality.check_values
        )

    def build_head(self) -> nn.Module:
        """Make the pool with fresh weights.

        Returns
        -------
        AttentionPool
        """
        return AttentionPool(*self._head_shape)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if isinstance(self.embedder, FrozenEstimator):  # else fit refuses it
            tags.input_tags.allow_nan = self.modality.takes_gaps
            tags.input_tags.three_d_array = get_tags(self.embedder.estimator).input_tags.three_d_array
        return tags


def published_pool(embedder: Any) -> PublishedPool | None:
    """Find AstroCLIP's pool for an embedder: that of images or that of spectra.

    Parameters
    ----------
    embedder : transformer
        Fitted or not.

    Returns
    -------
    PublishedPool or None
        None if it embeds neither.

    Examples
    --------
    >>> from skastro import BYOLEmbedder, MaskedSpectrumEmbedder
    >>> from skastro.pretrain.pooled import published_pool
    >>> [published_pool(embedder()).shortcut for embedder in (BYOLEmbedder, MaskedSpectrumEmbedder)]
    [None, 'norm']
    """
    kinds = {ImageModality: "image", SpectrumModality: "spectrum"}
    return next((POOLS[name] for kind, name in kinds.items() if isinstance(embedder, kind)), None)
