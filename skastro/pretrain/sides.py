"""The sides of an alignment: what is given of each modality, and what embeds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length, has_fit_parameter

from skastro.inputs import as_rows
from skastro.missing import RAGGED
from skastro.modalities import as_modality

__all__ = ["Side", "as_sides"]


@dataclass(frozen=True)
class Side:
    """One modality of the objects.

    Parameters
    ----------
    recipe : transformer
        What embeds it, frozen or to be fitted.
    rows : array-like of shape (n, ...)
        What is given of it.
    metadata : dict
        Metadata that go with the rows, such as ``ivar``.
    mask : ndarray of bool of shape (n,)
        The rows that are present.
    """

    recipe: Any
    rows: Any
    metadata: dict[str, Any]
    mask: np.ndarray


def as_sides(recipes: Sequence[Any], X: Any, y: Any, ivar: Any) -> list[Side]:
    """Bring together what is given of each modality and what embeds it.

    Parameters
    ----------
    recipes : sequence of transformer
        What embeds the first modality, the second, and further ones.
    X, y, ivar : array-like
        As in `skastro.AstroCLIPEmbedder.fit`.

    Returns
    -------
    list of Side

    Raises
    ------
    ValueError
        If there are not as many modalities, or not as many rows of each, or `ivar` goes with none or with several.
    """
    modalities = [as_modality(embedder_of(recipe)) for recipe in recipes]
    given, metadata = as_modalities(X, y, len(recipes)), route_ivar(modalities, ivar)
    return [
        Side(recipe, rows, known, modality.present(rows, name, **known))
        for recipe, modality, (name, rows), known in zip(recipes, modalities, given, metadata, strict=True)
    ]


def as_modalities(X: Any, y: Any, count: int) -> list[tuple[str, Any]]:
    """List the modalities with their names in errors."""
    if count == 2:
        parts = [("X", as_rows(X, "X", RAGGED)), ("y", as_columns(y, "y"))]
    elif not isinstance(y, list | tuple) or len(y) != count - 1:
        raise ValueError(f"y must be a list of {count - 1} modalities, for second= and others=.")
    else:
        others = [(f"y[{place}]", part) for place, part in enumerate(y)]
        parts = [("X", as_rows(X, "X", RAGGED)), *((name, as_columns(part, name)) for name, part in others)]
    check_consistent_length(*(rows for _, rows in parts))
    return parts


def as_columns(y: Any, name: str) -> Any:
    """Make spectra of one pixel of a single column."""
    rows = as_rows(y, name, RAGGED)
    return rows[:, np.newaxis] if rows.ndim == 1 else rows


def embedder_of(recipe: Any) -> Any:
    """Return the embedder inside a FrozenEstimator, or the embedder itself."""
    return recipe.estimator if isinstance(recipe, FrozenEstimator) else recipe


def count_shared(masks: np.ndarray) -> np.ndarray:
    """Count the objects that two modalities share, each with each other."""
    together = masks.T.astype(int) @ masks
    np.fill_diagonal(together, 0)
    return together


def check_pairs(masks: np.ndarray, name: str) -> None:
    """Refuse modalities that no two objects share with another."""
    together = count_shared(masks)
    if (together.max(axis=0) < 2).any():
        count = int(np.count_nonzero(masks.sum(axis=1) > 1)) if masks.shape[1] == 2 else int(together.max(axis=0).min())
        kind = "both modalities" if masks.shape[1] == 2 else "one of the modalities and another"
        raise ValueError(f"Found {count} sample{'' if count == 1 else 's'} with {kind}; {name} needs at least 2.")


def route_ivar(modalities: Sequence[Any], ivar: Any) -> list[dict[str, Any]]:
    """Route the inverse variance to the one modality that takes it."""
    takers = [place for place, modality in enumerate(modalities) if "ivar" in modality.metadata]
    if ivar is not None and len(takers) != 1:
        raise ValueError(
            f"ivar goes with one modality that takes it, such as spectra; {len(takers)} of those given do. For a "
            "modality alone ask its own embedder, in embedders_."
        )
    return [{"ivar": ivar if place in takers else None} for place in range(len(modalities))]


def untrained(recipe: Any) -> Any:
    """Copy an embedder without its training, to check the data first: it refuses what it cannot use."""
    if isinstance(recipe, FrozenEstimator) or not recipe.get_params().get("max_epochs"):
        return recipe
    sketch = clone(recipe).set_params(max_epochs=0)
    return sketch.set_callbacks() if hasattr(sketch, "set_callbacks") else sketch  # no fit to tell of


def fit_present(recipe: Any, side: Side) -> FrozenEstimator:
    """Fit what is not frozen to the rows of its modality that are present."""
    if isinstance(recipe, FrozenEstimator):
        return recipe
    rows = np.flatnonzero(side.mask)
    known = {
        name: _safe_indexing(value, rows)
        for name, value in side.metadata.items()
        if value is not None and has_fit_parameter(recipe, name)
    }
    return FrozenEstimator(recipe.fit(side.rows if side.mask.all() else _safe_indexing(side.rows, rows), **known))
