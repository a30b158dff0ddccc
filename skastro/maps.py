"""Maps of embeddings: a few coordinates in which neighbors stay neighbors, for looking at."""

import warnings
from importlib.util import find_spec
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skastro._extras import require
from skastro.inputs import check_rows, restored_on_failure

__all__ = ["EmbeddingMap"]

METHODS = ("auto", "umap", "tsne", "pca")
FEWEST = 4  # rows of a map
LOOKED_AT = 2000  # rows by which trustworthiness is judged: it compares all pairs
SPREAD = 10.0  # how far the components reach that UMAP starts from


class EmbeddingMap(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Map embeddings to two coordinates: scale, principal components, then UMAP, t-SNE or the components themselves.

    The maps of [1]_ (200 components, then UMAP) and [2]_. UMAP and t-SNE start from the first components, as [3]_
    advise, so that the rough order of a map repeats from seed to seed.

    Parameters
    ----------
    method : {"auto", "umap", "tsne", "pca"}, default="auto"
        UMAP, which needs umap-learn (``pip install skastro[maps]``); t-SNE, slow beyond some ten thousand rows; or the
        first principal components. ``"auto"`` is UMAP where it is installed, else the components.
    n_components : int, default=2
        Number of coordinates, from 1 to 3.
    pca_components : int, default=200
        Principal components that UMAP and t-SNE see; fewer where there are fewer rows or columns.
    n_neighbors : int, default=15
        Neighbors that UMAP keeps together, the perplexity of t-SNE, and the neighbors among which a new row is placed.
    min_dist : float, default=0.1
        How near to each other UMAP puts points.
    random_state : int, RandomState instance or None, default=None
        An int makes `fit` repeat, and UMAP run on one thread.
    verbose : int, default=0
        1 shows the progress of UMAP and t-SNE.

    Attributes
    ----------
    method_ : str
        The method in use.
    positions_ : ndarray of shape (n, n_components)
        The map of the rows of `fit`.
    rows_ : ndarray of shape (n, k)
        Their principal components, among which new rows find their neighbors.
    trustworthiness_ : float
        From 0 to 1: how far the neighbors in the map are neighbors in the embedding too, judged on up to 2,000 of the
        rows and 15 neighbors of each. 1 is a map that invents no neighbor.
    scaler_ : StandardScaler
        Mean and scale of each column.
    pca_ : PCA
        The principal components.
    n_features_in_ : int
        Number of columns.

    See Also
    --------
    skastro.plotting.EmbeddingMapDisplay : Draw a map.
    skastro.explorer.explore : Make a page to look around in one.

    Notes
    -----
    What a map is not. UMAP and t-SNE keep neighborhoods: distances between groups, their sizes and their densities mean
    little, and UMAP's map is another with another seed. Measure in the embedding, look at the map.

    t-SNE has no way to place a new row, and UMAP's own moves the new rows of a batch together, so that the place of a
    row depends on the others. Here `transform` puts a new row at the mean of its nearest neighbors in `fit`, weighted
    by one over their distance: alone or in a batch it gets the same place, a row of `fit` its own. What is like nothing
    in `fit` still lands among it.

    References
    ----------
    .. [1] Hayat et al. (2021), "Self-supervised representation learning for astronomical images",
       `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_.
    .. [2] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning", `arXiv:2305.16127
       <https://arxiv.org/abs/2305.16127>`_.
    .. [3] Kobak & Linderman (2021), "Initialization is critical for preserving global data structure in both t-SNE and
       UMAP", Nature Biotechnology 39, 156.
    .. [4] McInnes et al. (2018), "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction",
       `arXiv:1802.03426 <https://arxiv.org/abs/1802.03426>`_.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skastro import EmbeddingMap
    >>> digits = load_digits()
    >>> sky = EmbeddingMap(method="pca").fit(digits.data)
    >>> sky.transform(digits.data[:5]).shape, sky.method_
    ((5, 2), 'pca')
    >>> print(f"{sky.trustworthiness_:.2f}")
    0.82
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "method": [StrOptions(set(METHODS))],
        "n_components": [Interval(Integral, 1, 3, closed="both")],
        "pca_components": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 2, None, closed="left")],
        "min_dist": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        method: str = "auto",
        *,
        n_components: int = 2,
        pca_components: int = 200,
        n_neighbors: int = 15,
        min_dist: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.method = method
        self.n_components = n_components
        self.pca_components = pca_components
        self.n_neighbors = n_neighbors
        self.min_dist = min_dist
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the map of embeddings.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Embeddings, such as an embedder's `transform` gives. At least 4 rows.
        y : None
            Ignored.

        Returns
        -------
        EmbeddingMap
            Itself.

        Raises
        ------
        ValueError
            If a value is missing or infinite, there are too few rows or columns, or all rows are alike.
        ImportError
            If the method is UMAP and umap-learn is not installed.
        """
        self._validate_params()
        with restored_on_failure(self):
            X = self._check(X, reset=True)
            if X.shape[1] < self.n_components:
                raise ValueError(
                    f"A map of n_components={self.n_components} needs as many columns; X has n_features={X.shape[1]}."
                )
            if (X[0] == X).all():
                raise ValueError("All rows of X are alike: there is nothing to map.")
            self.method_ = method_of(self.method)
            random = check_random_state(self.random_state)
            self.scaler_ = StandardScaler().set_output(transform="default").fit(X)
            scaled = self.scaler_.transform(X)
            n_components = self.n_components if self.method_ == "pca" else max(self.pca_components, self.n_components)
            self.pca_ = PCA(min(n_components, *X.shape), random_state=random.randint(2**31 - 1))
            self.pca_.set_output(transform="default").fit(scaled)
            self.rows_ = self.pca_.transform(scaled)
            self.positions_ = self.rows_ if self.method_ == "pca" else self._learned(self.rows_, random).astype(X.dtype)
            self.trustworthiness_ = _trustworthiness(scaled, self.positions_, random)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Learn the map of embeddings and return it.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Embeddings.
        y : None
            Ignored.

        Returns
        -------
        ndarray of shape (n, n_components)
            ``positions_``.
        """
        return self.fit(X).positions_.copy()

    def transform(self, X: Any) -> np.ndarray:
        """Place embeddings in the map.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Embeddings, with the columns of `fit`.

        Returns
        -------
        ndarray of shape (n, n_components)
            Float32 if `X` is float32, else float64.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        rows = self.pca_.transform(self.scaler_.transform(X))
        if self.method_ == "pca":
            return rows
        # In float64, in which the distance of a row to itself is as good as none.
        neighbors = KNeighborsRegressor(min(self.n_neighbors, len(self.rows_)), weights="distance", algorithm="brute")
        neighbors.fit(self.rows_.astype(np.float64), self.positions_)
        return neighbors.predict(rows.astype(np.float64)).astype(X.dtype)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.positions_.shape[1]

    def _check(self, X: Any, reset: bool) -> np.ndarray:
        fewest = FEWEST if reset else 1
        return check_rows(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_samples=fewest)

    def _learned(self, rows: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        n_neighbors = min(self.n_neighbors, len(rows) - 1)
        start = rows[:, : self.n_components]
        start = start / max(np.abs(start).max(), np.finfo(rows.dtype).tiny)
        if self.method_ == "tsne":
            # Of a spread of 1e-4, as scikit-learn's own start has it.
            start = (1e-4 * start / max(start[:, 0].std(), 1e-12)).astype(np.float32)
            tsne = TSNE(
                self.n_components, perplexity=n_neighbors, init=start, verbose=int(self.verbose), random_state=random
            )
            return tsne.fit_transform(rows)
        seed = None if self.random_state is None else random.randint(2**31 - 1)
        reducer = _umap().UMAP(
            n_neighbors=n_neighbors,
            n_components=self.n_components,
            min_dist=self.min_dist,
            init=(SPREAD * start).astype(np.float32),
            random_state=seed,
            n_jobs=-1 if seed is None else 1,
            tqdm_kwds={"desc": "UMAP", "disable": not self.verbose},  # its own verbose also prints its parameters
        )
        return reducer.fit_transform(rows)


def method_of(method: str) -> str:
    """Tell which method is in use where a method is asked for, and refuse what is not there.

    Parameters
    ----------
    method : {"auto", "umap", "tsne", "pca"}
        As in `EmbeddingMap`.

    Returns
    -------
    str
        Never ``"auto"``.

    Raises
    ------
    ValueError
        If the method is another.
    ImportError
        If it is UMAP and umap-learn is not installed.

    Examples
    --------
    >>> from skastro.maps import method_of
    >>> method_of("tsne")
    'tsne'
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    if method == "auto":
        return "umap" if find_spec("umap") else "pca"
    if method == "umap":
        require('EmbeddingMap(method="umap")', "umap", extra="maps")
    return method


def _umap() -> Any:
    """Import umap-learn only when a map is made: it compiles for seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # that TensorFlow is not there
        import umap
    return umap


def _trustworthiness(rows: np.ndarray, positions: np.ndarray, random: np.random.RandomState) -> float:
    some = random.permutation(len(rows))[:LOOKED_AT]
    return float(trustworthiness(rows[some], positions[some], n_neighbors=min(15, (len(some) - 1) // 2)))
