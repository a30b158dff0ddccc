"""One side of an alignment: a fitted embedder whose tokens attention pools into one row."""

import copy
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, _safe_indexing, check_array
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn.functional import normalize

from skastro.base import BaseEmbedder, BaseModel, ImageEmbedder, restored_on_error
from skastro.encoders import AttentionPool, CachedTokens, RowToken
from skastro.images import as_pixels
from skastro.missing import present, scatter
from skastro.pretrain.masked import MaskedSpectrumEmbedder
from skastro.pretrain.sides import takes_gaps
from skastro.training import Training, draw_seed, local_seed, resolve_device

__all__ = ["PooledEmbedder", "Tower"]

MEASURED = 64  # rows whose tokens set the units of a pool
CACHE_BYTES = 1 << 31  # of the tokens of a frozen embedder, above which they are computed anew in each epoch


class Tower(nn.Module):
    """From the inputs of an embedder to a row: its tokens, pooled.

    Parameters
    ----------
    backbone : nn.Module
        From inputs to tokens, and a mask of those that count or None.
    head : AttentionPool
        Pools them.
    frozen : bool
        Leave the backbone as it is: in eval mode, without gradients.
    """

    def __init__(self, backbone: nn.Module, head: AttentionPool, frozen: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.frozen = frozen

    def forward(self, *inputs: Tensor) -> Tensor:
        """Embed a batch.

        Parameters
        ----------
        *inputs : Tensor
            What the backbone takes.

        Returns
        -------
        Tensor of shape (n, dim)
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            tokens = self.backbone(*inputs)
        return self.head(*tokens)

    def train(self, mode: bool = True) -> Self:  # noqa: D102
        super().train(mode)
        self.backbone.train(mode and not self.frozen)
        return self


class PooledEmbedder(BaseEmbedder):
    """Embed by attention over the tokens of a fitted embedder: one side of :class:`AstroCLIPEmbedder`.

    A ViT has its class token and its patches as tokens, any other timm network the places of its last feature map, a
    spectrum its pieces, and any other transformer one token, its row. Rows come out with length 1.

    Parameters
    ----------
    embedder : FrozenEstimator
        A fitted embedder of images or spectra, or any fitted transformer to rows of numbers.
    embedding_dim : int, default=512
        Features that come out.
    heads : int, default=4
        Attention heads; they divide `embedding_dim`.
    batch_size : int, default=256
        Largest batch.
    training : Training, default=None
        Of its knobs, the precision.
    device : str, default="auto"
        Torch device; ``"auto"`` is CUDA when there.
    random_state : int, RandomState instance or None, default=None
        Seed of the first weights.

    Attributes
    ----------
    head_ : AttentionPool
        The pool, on the CPU.
    n_features_in_ : int
        As the embedder has it.

    See Also
    --------
    AstroCLIPEmbedder : Trains two of these, so that both sides of an object agree.

    Notes
    -----
    ``average=`` of an embedder of images has no effect here, nor has its way of pooling. The alignment of a frozen
    embedder measures mean and standard deviation of the tokens of some rows, and the pool sees them in these units.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skastro.pretrain import PooledEmbedder
    >>> photometry = np.random.default_rng(0).normal(size=(6, 5))
    >>> frozen = FrozenEstimator(StandardScaler().fit(photometry))
    >>> PooledEmbedder(frozen, embedding_dim=16).fit_transform(photometry).shape
    (6, 16)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "embedder": [FrozenEstimator],
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "heads": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "training": [Training, None],
        "device": [str],
        "random_state": ["random_state"],
    }
    _networks: ClassVar[tuple[str, ...]] = ("head",)
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"ivar": True}
    __metadata_request__transform: ClassVar[dict[str, bool]] = {"ivar": True}

    def __init__(
        self,
        embedder: FrozenEstimator,
        *,
        embedding_dim: int = 512,
        heads: int = 4,
        batch_size: int = 256,
        training: Training | None = None,
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.embedder = embedder
        self.embedding_dim = embedding_dim
        self.heads = heads
        self.batch_size = batch_size
        self.training = training
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, ivar: Any = None) -> Self:
        """Make the pool, with random weights.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the embedder takes.
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
            If a parameter or the data cannot be used.
        """
        self._validate_params()
        self._training_config()
        embedder = self.embedder.estimator
        check_is_fitted(embedder)
        with restored_on_error(self):
            there = present(X, ivar)
            if not there.any():
                raise ValueError(f"All {len(there)} rows are missing: there is nothing to learn from.")
            inputs = token_inputs(embedder, X, there, ivar)
            _, (tokens, _) = next(self._tokens(inputs, np.flatnonzero(there)[:1], self))
            self._head_shape = (tokens.shape[2], self.heads, self.embedding_dim, self.embedding_dim)
            self._n_features_out = self.embedding_dim
            take_names(self, embedder)
            with local_seed(draw_seed(self.random_state)):
                self.head_ = self._build_head().eval()
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
        return self._embed(X, ivar, self)

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
        """Tell where each head looks.

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
            token, or that of a spectrum's mean and scale; patches and places follow row by row from the upper left.
        """
        check_is_fitted(self)
        there = present(X, ivar)
        if not there.any():
            raise ValueError(f"All {len(there)} rows are missing: there is nothing to look at.")
        return scatter(np.concatenate([*self._look(X, ivar, there, self, attention=True)]), there, np.nan)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = takes_gaps(self.embedder)
        return tags

    def _embed(self, X: Any, ivar: Any, how: BaseModel) -> np.ndarray:
        """Transform with the batch size, the device and the precision that an estimator asks for."""
        check_is_fitted(self)
        there = present(X, ivar)
        none = np.empty((0, self._n_features_out), dtype=np.float32)
        return scatter(np.concatenate([none, *self._look(X, ivar, there, how)]), there, np.nan)

    def _look(
        self, X: Any, ivar: Any, there: np.ndarray, how: BaseModel, attention: bool = False
    ) -> Iterator[np.ndarray]:
        """Give the rows, or the weights of the tokens, of what is there, batch by batch."""
        if not there.any():
            return
        head = how._moved(self.head_)
        inputs = token_inputs(self.embedder.estimator, X, there, ivar)
        for _, tokens in self._tokens(inputs, np.flatnonzero(there), how):
            with how._inference():
                answer = head.attention(*tokens) if attention else normalize(head(*tokens).float(), dim=1)
            yield answer.float().cpu().numpy()

    def _tokens(
        self, inputs: list[np.ndarray], rows: np.ndarray, how: BaseModel
    ) -> Iterator[tuple[np.ndarray, tuple[Tensor, Tensor | None]]]:
        """Give the tokens of some rows, batch by batch."""
        network = how._moved(token_network(self.embedder.estimator))
        for start in range(0, len(rows), how.batch_size):
            chosen = rows[start : start + how.batch_size]
            with how._inference():
                batch = [torch.from_numpy(as_pixels(array[chosen])).to(resolve_device(how.device)) for array in inputs]
                tokens = network(*batch)
            yield chosen, tokens

    def _tower(
        self, X: Any, ivar: Any, there: np.ndarray, pairs: np.ndarray, how: BaseModel, frozen: bool
    ) -> tuple[Tower, list[np.ndarray]]:
        """Give what is trained, and what it takes: where only the pool is, the tokens, unless they are too many."""
        inputs = token_inputs(self.embedder.estimator, X, there, ivar)
        if not frozen:
            self.embedder = FrozenEstimator(copy.deepcopy(self.embedder.estimator))
            return Tower(token_network(self.embedder.estimator), self.head_, frozen), inputs
        tokens = self._standardize(inputs, pairs[:: -(-len(pairs) // MEASURED)], how)
        if len(pairs) * sum(part[:1].nbytes for part in tokens) > CACHE_BYTES:
            network = copy.deepcopy(token_network(self.embedder.estimator)).requires_grad_(False)
            return Tower(network, self.head_, frozen), inputs
        kept = [np.zeros((len(there), *part.shape[1:]), dtype=np.float32) for part in tokens]
        for chosen, batch in self._tokens(inputs, pairs, how):
            for array, part in zip(kept, filter(torch.is_tensor, batch), strict=True):
                array[chosen] = part.float().cpu().numpy()
        return Tower(CachedTokens(), self.head_, frozen), kept

    def _standardize(self, inputs: list[np.ndarray], rows: np.ndarray, how: BaseModel) -> list[Tensor]:
        """Let the pool measure the tokens of some rows, and give these."""
        batches = [[part for part in batch if part is not None] for _, batch in self._tokens(inputs, rows, how)]
        tokens = [torch.cat(parts).cpu() for parts in zip(*batches, strict=True)]
        self.head_.standardize(*tokens)
        return tokens

    def _build_head(self) -> AttentionPool:
        return AttentionPool(*self._head_shape)


def take_names(estimator: BaseEmbedder, source: Any) -> None:
    """Take over what the columns are, as a fitted estimator knows it.

    Parameters
    ----------
    estimator : BaseEmbedder
        Being fitted.
    source : estimator
        Fitted to the same rows.
    """
    for name in ("n_features_in_", "feature_names_in_"):
        estimator.__dict__.pop(name, None)
        if hasattr(source, name):
            setattr(estimator, name, getattr(source, name))


def token_inputs(embedder: Any, X: Any, there: np.ndarray, ivar: Any = None) -> list[np.ndarray]:
    """Check the rows that are there, and make what `token_network` takes.

    Parameters
    ----------
    embedder : transformer
        Fitted.
    X : array-like of shape (n, ...)
        What it takes.
    there : ndarray of bool of shape (n,)
        Rows that are not missing; one at least.
    ivar : array-like of shape (n, n_wavelengths), default=None
        Inverse variance of spectra.

    Returns
    -------
    list of ndarray of shape (n, ...)
        Anything in the rows that are missing.

    Raises
    ------
    ValueError
        If the rows are not like those that the embedder was fitted on, or `ivar` comes with other things than spectra.
    """
    if isinstance(embedder, MaskedSpectrumEmbedder):
        return embedder._token_inputs(X, there, ivar)
    if ivar is not None:
        raise ValueError(f"ivar is the inverse variance of spectra; {type(embedder).__name__} takes none.")
    if isinstance(embedder, ImageEmbedder):
        return embedder._token_inputs(X, there)
    rows = embedder.transform(X if there.all() else _safe_indexing(X, np.flatnonzero(there)))
    return [scatter(check_array(rows, dtype=np.float32, input_name=f"what {type(embedder).__name__} gives"), there)]


def token_network(embedder: Any) -> nn.Module:
    """Make the network from what `token_inputs` gives to tokens, and to a mask of those that count or None.

    Parameters
    ----------
    embedder : transformer
        Fitted.

    Returns
    -------
    nn.Module
        Around the embedder's own encoder. What is no embedder of images or spectra has its row for a token.
    """
    known = isinstance(embedder, ImageEmbedder | MaskedSpectrumEmbedder)
    return embedder._token_network() if known else RowToken()
