"""What may stand for one side of an alignment: a frozen embedder, a bare one, an encoder, or any transformer."""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing
from torch import nn

from skastro.base import BaseEmbedder
from skastro.encoders import ImageEncoder, SpectrumEncoder, get_encoder, get_spectrum_encoder
from skastro.pretrain.byol import BYOLEmbedder
from skastro.pretrain.masked import MaskedSpectrumEmbedder

__all__ = ["as_embedder", "as_specification", "fit_there", "is_named", "takes_gaps", "untrained"]


def as_specification(side: Any) -> Any:
    """Turn a name and None into the encoders that they stand for; anything else passes through.

    Parameters
    ----------
    side : str, None, or anything else
        What the user gave.

    Returns
    -------
    ImageEncoder, SpectrumEncoder, or what came

    Examples
    --------
    >>> from skastro.pretrain.sides import as_specification
    >>> as_specification(None), as_specification("resnet10t")
    (SpectrumEncoder(), ImageEncoder())
    """
    encoder: Any = get_encoder(side)
    return get_spectrum_encoder(encoder)


def is_named(side: Any) -> bool:
    """Tell whether a side is an encoder and no more, so that only the alignment can train it.

    Parameters
    ----------
    side : str, ImageEncoder, SpectrumEncoder, nn.Module, None, transformer or FrozenEstimator
        What the user gave.

    Returns
    -------
    bool
    """
    return isinstance(as_specification(side), ImageEncoder | SpectrumEncoder | nn.Module)


def takes_gaps(side: Any) -> bool:
    """Tell whether a row may be NaN in part: only a spectrum may.

    Parameters
    ----------
    side : str, ImageEncoder, SpectrumEncoder, nn.Module, None, transformer or FrozenEstimator
        What the user gave.

    Returns
    -------
    bool
    """
    side = side.estimator if isinstance(side, FrozenEstimator) else as_specification(side)
    return isinstance(side, MaskedSpectrumEmbedder | SpectrumEncoder)


def as_embedder(side: Any, device: str, seed: int) -> Any:
    """Make a transformer of what the user gave: a frozen one, or one to be fitted.

    Parameters
    ----------
    side : str, ImageEncoder, SpectrumEncoder, nn.Module, None, transformer or FrozenEstimator
        What the user gave; an encoder becomes an untrained embedder.
    device : str
        Of that.
    seed : int
        Its ``random_state``, and that of a transformer whose own is None.

    Returns
    -------
    FrozenEstimator or transformer
    """
    side = as_specification(side)
    if isinstance(side, FrozenEstimator):
        return side
    if is_named(side):
        nothing: dict[str, Any] = {"max_epochs": 0, "device": device, "random_state": seed}
        if isinstance(side, SpectrumEncoder):
            return MaskedSpectrumEmbedder(side, **nothing)
        return BYOLEmbedder(side, augment=None, **nothing)
    own = clone(side)
    return own.set_params(random_state=seed) if own.get_params().get("random_state", seed) is None else own


def untrained(embedder: Any) -> Any:
    """Give an embedder that would train without its training, which still refuses what it cannot use.

    Parameters
    ----------
    embedder : FrozenEstimator or transformer
        From `as_embedder`.

    Returns
    -------
    FrozenEstimator or transformer
        What came, where `fit` trains no network.
    """
    if not isinstance(embedder, BaseEmbedder) or not embedder.get_params().get("max_epochs"):
        return embedder
    return clone(embedder).set_params(max_epochs=0)


def fit_there(embedder: Any, X: Any, ivar: Any, there: np.ndarray) -> FrozenEstimator:
    """Fit what is not frozen to the rows of its modality that are there.

    Parameters
    ----------
    embedder : FrozenEstimator or transformer
        From `as_embedder`.
    X : array-like of shape (n, ...)
        What it takes.
    ivar : array-like of shape (n, n_wavelengths) or None
        Inverse variance of spectra.
    there : ndarray of bool of shape (n,)
        Rows that are not missing.

    Returns
    -------
    FrozenEstimator
    """
    if isinstance(embedder, FrozenEstimator):
        return embedder
    rows = np.flatnonzero(there)
    spectra = isinstance(embedder, MaskedSpectrumEmbedder) and ivar is not None
    metadata = {"ivar": _safe_indexing(ivar, rows)} if spectra else {}
    return FrozenEstimator(embedder.fit(X if there.all() else _safe_indexing(X, rows), **metadata))
