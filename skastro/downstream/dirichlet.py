"""Votes with error bars: for every galaxy a Dirichlet distribution over the answers to each question."""

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from scipy.special import betaincinv
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted, validate_data
from torch import Tensor

from skastro.base import restored_on_error
from skastro.losses import dirichlet_multinomial_nll
from skastro.metrics import dirichlet_nll, per_question, read_votes
from skastro.votes import VoteSchema

__all__ = ["DirichletClassifier", "VoteClassifierMixin"]

LIMIT = 12.0  # of the logarithm of a concentration: beyond, log-gammas lose their digits

Layer = tuple[Tensor, Tensor]


def predicts_votes(model: BaseEstimator) -> bool:
    """Tell whether a classifier's head gives concentrations; once fitted, whether the head in use does.

    Parameters
    ----------
    model : VoteClassifierMixin
        Fitted or not.

    Returns
    -------
    bool
    """
    return getattr(model, "_head", getattr(model, "head", "dirichlet")) == "dirichlet"


class VoteClassifierMixin(ClassifierMixin):
    r"""What classifiers of votes answer, once they have the Dirichlet concentrations :math:`\alpha` of a galaxy.

    A concrete one has the parameter `schema`, calls `_learn_votes` in its fit, and has the hooks `_concentrations` and
    `_fractions`. Where votes came in a DataFrame, answers are DataFrames.
    """

    schema: str | VoteSchema | None
    schema_: VoteSchema | None
    classes_: np.ndarray

    @abstractmethod
    def _concentrations(self, X: Any) -> np.ndarray:
        """Give the concentrations, (n, n_answers), float64."""

    @abstractmethod
    def _fractions(self, X: Any) -> np.ndarray:
        """Give the expected fraction of each answer, or the probability of each class."""

    def predict(self, X: Any) -> np.ndarray | pd.DataFrame:
        """Give the answer expected to have most votes.

        Parameters
        ----------
        X : array-like
            As in `fit`.

        Returns
        -------
        ndarray of shape (n,), or ndarray or DataFrame of shape (n, n_questions)
            Labels, where labels were learned; for votes, the names of the answers, a column per question.
        """
        fractions = self._fractions(X)
        if self.schema_ is None:
            return self.classes_[fractions.argmax(axis=1)]
        blocks = self.schema_.by_question(fractions)
        best = [np.array(self.schema_.questions[name])[block.argmax(axis=1)] for name, block in blocks.items()]
        return self._as_given(np.column_stack(best), X, list(blocks))

    def predict_proba(self, X: Any, asked: bool = False) -> np.ndarray | pd.DataFrame:
        r"""Give the expected fraction of each answer among those to its question, or the probability of each class.

        .. math:: \hat f_a = \alpha_a / \sum_{b \in q} \alpha_b

        Parameters
        ----------
        X : array-like
            As in `fit`.
        asked : bool, default=False
            Multiply by the probability that a volunteer comes to the question, which turns shares of those who were
            asked into shares of all; see :meth:`skastro.votes.VoteSchema.asked`. Labels are one question, always
            asked.

        Returns
        -------
        ndarray or DataFrame of shape (n, n_answers)
        """
        fractions = self._fractions(X)
        if asked and self.schema_ is not None:
            fractions = fractions * np.repeat(self.schema_.asked(fractions), self.schema_.sizes, axis=1)
        return self._as_given(fractions, X, self.classes_)

    @available_if(predicts_votes)
    def predict_concentrations(self, X: Any) -> np.ndarray | pd.DataFrame:
        r"""Give the Dirichlet concentrations :math:`\alpha`, from which all else follows.

        Parameters
        ----------
        X : array-like
            As in `fit`.

        Returns
        -------
        ndarray or DataFrame of shape (n, n_answers), float64
        """
        return self._as_given(self._concentrations(X), X, self.classes_)

    @available_if(predicts_votes)
    def predict_interval(self, X: Any, level: float = 0.9) -> np.ndarray:
        r"""Give the central interval of each fraction, which follows a beta distribution.

        .. math:: f_a \sim {\rm Beta}\Bigl(\alpha_a, \sum_{b \in q} \alpha_b - \alpha_a\Bigr)

        Parameters
        ----------
        X : array-like
            As in `fit`.
        level : float, default=0.9
            Probability inside, more than 0 and less than 1.

        Returns
        -------
        ndarray of shape (n, n_answers, 2), float64
            Lower and upper end. It is the fraction among endlessly many volunteers that lies inside; the fraction
            among a few scatters more.

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1; got {level}.")
        alpha = self._concentrations(X)
        others = np.maximum(per_question(alpha, self._sizes) - alpha, 1e-300)  # a single class has none
        return np.stack([betaincinv(alpha, others, (1 + side * level) / 2) for side in (-1, 1)], axis=-1)

    @available_if(predicts_votes)
    def sample(self, X: Any, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw fractions from the distributions.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        n_samples : int, default=1
            Draws for each row.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.

        Returns
        -------
        ndarray of shape (n, n_samples, n_answers), float64
            The fractions of each question sum to 1; questions are drawn independently of each other.
        """
        rng = check_random_state(random_state)
        alpha = np.repeat(self._concentrations(X), n_samples, axis=0)
        # Normalized gamma variates; by way of logarithms, because those of small concentrations underflow.
        log_gamma = np.log(rng.standard_gamma(alpha + 1)) + np.log(1 - rng.uniform(size=alpha.shape)) / alpha
        starts = np.cumsum([0, *self._sizes[:-1]])
        largest = np.repeat(np.maximum.reduceat(log_gamma, starts, axis=1), self._sizes, axis=1)
        gamma = np.exp(log_gamma - largest)
        return (gamma / per_question(gamma, self._sizes)).reshape(-1, n_samples, alpha.shape[1])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        r"""Score labels by the accuracy, votes by their mean log-likelihood.

        For votes it is :math:`\sum_q \ln p(k_q \mid \alpha_q)`, averaged over the galaxies with any vote.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        y : array-like
            Labels or votes, as in `fit`.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row.

        Returns
        -------
        float
            Greater is better; a log-likelihood is at most 0.
        """
        check_is_fitted(self)
        if self.schema_ is None:
            return super().score(X, y, sample_weight)
        return -dirichlet_nll(self.count_votes(y), self._concentrations(X), self.schema_, sample_weight=sample_weight)

    @available_if(predicts_votes)
    def count_votes(self, y: Any) -> np.ndarray:
        """Check votes, and put them in the order of the columns of `predict_proba`.

        Parameters
        ----------
        y : array-like of shape (n,), or (n, n_answers), or DataFrame
            Labels, one vote each, or votes, as in `fit`.

        Returns
        -------
        ndarray of shape (n, n_answers), int

        Raises
        ------
        ValueError
            If a label was not seen in `fit`, or votes cannot be used.
        """
        check_is_fitted(self)
        if self.schema_ is None:
            labels = column_or_1d(y)
            known = labels[:, np.newaxis] == self.classes_
            if not known.any(axis=1).all():
                raise ValueError(f"y has the label {labels[known.any(axis=1).argmin()]!r}, which was not seen in fit.")
            return known.astype(np.int64)
        if isinstance(y, pd.DataFrame):
            y = y.rename(columns=str)
            y = y[list(self.classes_)].to_numpy() if set(y.columns) == set(self.classes_) else y
        return self.schema_.validate(y)

    def _learn_votes(self, y: Any) -> np.ndarray:
        """Learn what is asked, and give the counts."""
        y = y if isinstance(y, pd.DataFrame) else np.asarray(y)
        if self.schema is None and (y.ndim < 2 or y.shape[1] == 1):
            labels = column_or_1d(check_array(y, ensure_2d=False, dtype=None, input_name="y"), warn=True)
            check_classification_targets(labels)
            self.schema_, self._is_table = None, False
            self.classes_, place = np.unique(labels, return_inverse=True)
            self._sizes: Sequence[int] = (len(self.classes_),)
            return np.eye(len(self.classes_), dtype=np.int64)[place]
        votes, self.schema_ = read_votes(y, self.schema)
        self._sizes, self._is_table = self.schema_.sizes, isinstance(y, pd.DataFrame)
        names = self.schema_.columns if self.schema is not None else self.schema_.questions["votes"]
        self.classes_ = np.array(names)
        return votes

    def _weigh_votes(self, votes: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Give rows without any vote no weight."""
        weight = weight * votes.any(axis=1)
        if not weight.any():
            raise ValueError("No row of y has both votes and a weight: there is nothing to learn from.")
        return weight

    def _expected(self, concentrations: np.ndarray) -> np.ndarray:
        return concentrations / per_question(concentrations, self._sizes)

    def _as_given(self, values: np.ndarray, X: Any, columns: Any) -> np.ndarray | pd.DataFrame:
        """A table where votes came in one, with the index of X if that is one too."""
        if not self._is_table:
            return values
        return pd.DataFrame(values, index=X.index if isinstance(X, pd.DataFrame) else None, columns=columns)


class DirichletClassifier(VoteClassifierMixin, BaseEstimator):
    r"""Predict how volunteers vote, with error bars, from rows of numbers such as embeddings.

    Each galaxy gets a Dirichlet distribution over the answers to each question, from a linear model or a small network
    of its standardized features,

    .. math:: \ln \alpha = W x + b.

    What is minimized is the weighted sum of the negative log-likelihoods of the votes under the Dirichlet-multinomial
    distribution, with a penalty,

    .. math:: L = -\sum_i w_i \sum_q \ln p(k_{iq} \mid \alpha_{iq}) + \frac{\lambda d}{2} \lVert W \rVert^2,

    for d features. So many volunteers count more than few, a question that was not asked costs nothing, and a galaxy
    without any vote is ignored. Plain labels are one vote each; then this is multinomial logistic regression.

    Parameters
    ----------
    schema : str, VoteSchema or None, default=None
        The questions, by the name of a campaign or as a schema. None makes labels of a 1-D ``y``, and the answers to
        one question of the columns of a 2-D one.
    hidden_layer_sizes : tuple of int, default=()
        Units of each hidden layer, with tanh between; none is the linear model.
    alpha : float, default=1.0
        Strength :math:`\lambda` of the penalty on the weights of each layer, not on its :math:`b`: before any vote is
        seen, :math:`\ln \alpha` is expected to vary by :math:`1/\sqrt\lambda` from galaxy to galaxy. Worth a search
        where features are many and galaxies few.
    max_iter : int, default=1000
        Largest number of iterations of L-BFGS.
    tol : float, default=1e-5
        Stop where no element of the gradient of L, divided by the sum of weights, is larger.
    random_state : int, RandomState instance or None, default=None
        Source of the first weights of hidden layers; the linear model draws nothing.

    Attributes
    ----------
    classes_ : ndarray of shape (n_answers,)
        The labels, or the names of the columns of votes: what the columns of `predict_proba` are.
    schema_ : VoteSchema or None
        The questions in use; None for labels.
    coefs_, intercepts_ : list of ndarray
        Weights (n_in, n_out) and biases (n_out,) of each layer, in float64.
    scaler_ : StandardScaler
        Mean and scale of the features of the rows with votes.
    loss_ : float
        L, divided by the sum of weights.
    n_iter_ : int
        Iterations done.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features,), str
        Their names, if `X` had any.

    See Also
    --------
    FineTuneClassifier : The same end to end, from images, with ``head="dirichlet"``.
    skastro.metrics.make_vote_scorer : Scorers of predicted votes.

    Notes
    -----
    The paper's head keeps concentrations between 1 and 101 by a sigmoid; ``FineTuneClassifier`` has that. The
    exponential has no such bounds (:math:`\ln \alpha` stays within ±12), so questions on which nobody agrees, or all
    do, come out right.

    How wide a distribution is, is learned from how the votes on like galaxies differ. One vote per galaxy tells nothing
    of it: with labels, use the fractions and not the intervals.

    References
    ----------
    Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning", section 3 and
    equations 1 and 2; Walmsley et al. (2020), section 3.2, for the loss of one question.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skastro import DirichletClassifier
    >>> from skastro.votes import VoteSchema
    >>> schema = VoteSchema({"shape": ["smooth", "disc"], "bar": ["yes", "no"]}, {"bar": ("shape", "disc")})
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 1))                                       # simulated
    >>> smooth = rng.binomial(20, 1 / (1 + np.exp(X[:, 0])))
    >>> bar = rng.binomial(20 - smooth, 0.3)
    >>> votes = pd.DataFrame(np.c_[smooth, 20 - smooth, bar, 20 - smooth - bar], columns=schema.columns)
    >>> model = DirichletClassifier(schema).fit(X, votes)
    >>> model.predict_proba([[0.0], [2.0]]).round(1)
       shape_smooth  shape_disc  bar_yes  bar_no
    0           0.5         0.5      0.3     0.7
    1           0.1         0.9      0.3     0.7
    >>> model.predict([[0.0], [2.0]])["bar"].tolist()
    ['no', 'no']
    >>> model.predict_interval([[2.0]], level=0.5).shape
    (1, 4, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "schema": [str, VoteSchema, None],
        "hidden_layer_sizes": [tuple, list],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        schema: str | VoteSchema | None = None,
        *,
        hidden_layer_sizes: Sequence[int] = (),
        alpha: float = 1.0,
        max_iter: int = 1000,
        tol: float = 1e-5,
        random_state: Any = None,
    ) -> None:
        self.schema = schema
        self.hidden_layer_sizes = hidden_layer_sizes
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from votes or labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Embeddings or other numbers.
        y : array-like of shape (n,) or (n, n_answers)
            Labels, or how many volunteers gave each answer: an array with the columns of the schema in its order, or a
            DataFrame with these columns in any order. Zeros where nobody was asked.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row. Volunteers count by themselves.

        Returns
        -------
        DirichletClassifier
            Itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, lengths differ, features are NaN or infinite, votes are negative,
            fractional or NaN, columns are missing or unknown, or no row has a vote.

        Warns
        -----
        UserWarning
            If there are votes for a question whose parent nobody answered so: how many.
        ConvergenceWarning
            If `max_iter` iterations were not enough.
        """
        self._validate_params()
        if y is None:
            raise ValueError("DirichletClassifier requires y to be passed, but the target y is None.")
        if not all(isinstance(units, Integral) and units > 0 for units in self.hidden_layer_sizes):
            raise ValueError(f"hidden_layer_sizes must be whole numbers above 0; got {self.hidden_layer_sizes}.")
        with restored_on_error(self):
            X = validate_data(self, X, dtype=np.float64)
            check_consistent_length(X, y)
            votes = self._learn_votes(y)
            weight = self._weigh_votes(votes, _check_sample_weight(sample_weight, X, ensure_non_negative=True))
            rows = np.flatnonzero(weight)
            self.scaler_ = StandardScaler().fit(X[rows], sample_weight=weight[rows])
            self._minimize(self.scaler_.transform(X[rows]), votes[rows], weight[rows])
        return self

    def _concentrations(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = self.scaler_.transform(validate_data(self, X, dtype=np.float64, reset=False))
        arrays = zip(self.coefs_, self.intercepts_, strict=True)
        layers = [(torch.from_numpy(weights), torch.from_numpy(bias)) for weights, bias in arrays]
        return concentrations(torch.from_numpy(X), layers).numpy()

    def _fractions(self, X: Any) -> np.ndarray:
        return self._expected(self._concentrations(X))

    def _minimize(self, X: np.ndarray, votes: np.ndarray, weight: np.ndarray) -> None:
        """Find the layers by L-BFGS over all rows at once."""
        widths = [X.shape[1], *self.hidden_layer_sizes, votes.shape[1]]
        rows, counts, total = torch.from_numpy(X), torch.from_numpy(votes), weight.sum()
        share = torch.from_numpy(weight / total)

        def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            parameters = torch.tensor(flat, requires_grad=True)
            layers = unpack(parameters, widths)
            terms = dirichlet_multinomial_nll(concentrations(rows, layers), counts, self._sizes, reduction="none")
            penalty = sum(len(weights) * torch.sum(weights**2) for weights, _ in layers)
            loss = share @ terms.sum(dim=1) + self.alpha / (2 * total) * penalty
            (gradient,) = torch.autograd.grad(loss, parameters)
            return loss.item(), gradient.numpy()

        options = {"maxiter": self.max_iter, "maxfun": np.inf, "maxls": 50, "gtol": self.tol, "ftol": 1e-15}
        found = minimize(loss_and_gradient, self._first(widths), jac=True, method="L-BFGS-B", options=options)
        if found.nit >= self.max_iter:
            warnings.warn(
                f"L-BFGS has not converged after max_iter={self.max_iter} iterations; more of them, or a larger alpha, "
                "may help.",
                ConvergenceWarning,
                stacklevel=3,
            )
        layers = unpack(torch.from_numpy(found.x), widths)
        self.coefs_ = [weights.numpy().copy() for weights, _ in layers]
        self.intercepts_ = [bias.numpy().copy() for _, bias in layers]
        self.loss_, self.n_iter_ = float(found.fun), int(found.nit)

    def _first(self, widths: Sequence[int]) -> np.ndarray:
        """Begin hidden layers as Glorot & Bengio (2010) do, and the last at zero: all concentrations are 1."""
        rng = check_random_state(self.random_state)
        parts = []
        for n_in, n_out in pairwise(widths[:-1]):
            limit = np.sqrt(6 / (n_in + n_out))
            parts += [rng.uniform(-limit, limit, n_in * n_out), np.zeros(n_out)]
        return np.concatenate([*parts, np.zeros((widths[-2] + 1) * widths[-1])])


def unpack(parameters: Tensor, widths: Sequence[int]) -> list[Layer]:
    """Cut a long vector into weights and biases.

    Parameters
    ----------
    parameters : Tensor of shape (n_parameters,)
        All weights and biases, layer by layer.
    widths : sequence of int
        Features that enter each layer, and those that leave the last.

    Returns
    -------
    list of tuple of Tensor
        Weights (n_in, n_out) and biases (n_out,) of each layer: views.
    """
    layers, start = [], 0
    for n_in, n_out in pairwise(widths):
        middle, end = start + n_in * n_out, start + (n_in + 1) * n_out
        layers.append((parameters[start:middle].view(n_in, n_out), parameters[middle:end]))
        start = end
    return layers


def concentrations(rows: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Run rows of features through the layers, to the exponential.

    Parameters
    ----------
    rows : Tensor of shape (n, n_features)
        Standardized features.
    layers : sequence of tuple of Tensor
        Weights and biases.

    Returns
    -------
    Tensor of shape (n, n_answers)
        Concentrations, positive.
    """
    *hidden, (weights, bias) = layers
    for inner, shift in hidden:
        rows = torch.tanh(rows @ inner + shift)
    return torch.exp(torch.clamp(rows @ weights + bias, -LIMIT, LIMIT))
