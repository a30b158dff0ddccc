"""Votes with error bars: for every galaxy a Dirichlet distribution over the answers to each question."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
from torch import Tensor

from skastro._warning import warn
from skastro.base import fitting
from skastro.downstream.answers import Answers, VoteClassifierMixin, learn_answers, weigh_votes
from skastro.inputs import as_rows, as_weight
from skastro.losses import dirichlet_multinomial_nll
from skastro.training import CallbackSupport, Tasks, free_threads, own_state
from skastro.votes import VoteSchema

__all__ = ["DirichletClassifier"]

LIMIT = 12.0  # of the logarithm of a concentration: beyond, log-gammas lose their digits

Layer = tuple[Tensor, Tensor]


class DirichletClassifier(CallbackSupport, VoteClassifierMixin, BaseEstimator):
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
        The questions, by the name of a campaign or as a schema. None makes labels of a 1-D ``y``; of
        a 2-D one it reads the questions off a table's columns ``question_answer``, and makes other columns the answers
        to one question.
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
    answers_ : Answers
        Both, and what concentrations say of them; see `skastro.downstream.answers.Answers`.
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

    How wide a distribution is, is learned from how the votes on like galaxies differ. One vote per galaxy says nothing
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
            table with these columns in any order. Zeros where nobody was asked.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row. Volunteers count by themselves.

        Returns
        -------
        DirichletClassifier
            Itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, lengths differ, features are missing or infinite, votes are negative,
            fractional or missing, columns are missing or unknown, or no row has a vote.

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
        with fitting(self):
            X = validate_data(self, as_rows(X), dtype=np.float64, order="C")
            check_consistent_length(X, y)
            self._answers, votes = learn_answers(y, self.schema)
            weight = weigh_votes(votes, as_weight(sample_weight, len(X)))
            rows = np.flatnonzero(weight)
            self.scaler_ = StandardScaler().set_output(transform="default").fit(X[rows], sample_weight=weight[rows])
            self._minimize(self.scaler_.transform(X[rows]), votes[rows], weight[rows])
        return self

    @property
    def answers_(self) -> Answers:  # noqa: D102
        check_is_fitted(self)
        return self._answers

    def predict_proba(self, X: Any, asked: bool = False) -> np.ndarray | pd.DataFrame:  # noqa: D102
        fractions = self.answers_.fractions(self._concentrations(X))
        return self.answers_.as_given(self.answers_.shares(fractions) if asked else fractions, X)

    def predict_concentrations(self, X: Any) -> np.ndarray | pd.DataFrame:  # noqa: D102
        return self.answers_.as_given(self._concentrations(X), X)

    def _concentrations(self, X: Any) -> np.ndarray:
        X = self.scaler_.transform(validate_data(self, as_rows(X), dtype=np.float64, order="C", reset=False))
        arrays = zip(self.coefs_, self.intercepts_, strict=True)
        layers = [(torch.tensor(weights), torch.tensor(bias)) for weights, bias in arrays]  # copies, of read-only files
        return concentrations(torch.from_numpy(X), layers).numpy()

    def _minimize(self, X: np.ndarray, votes: np.ndarray, weight: np.ndarray) -> None:
        """Find the layers by L-BFGS over all rows at once."""
        widths = [X.shape[1], *self.hidden_layer_sizes, votes.shape[1]]
        rows, counts, total = torch.from_numpy(X), torch.from_numpy(votes), weight.sum()
        share, sizes = torch.from_numpy(weight / total), self._answers.sizes

        def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            parameters = torch.tensor(flat, requires_grad=True)
            layers = unpack(parameters, widths)
            terms = dirichlet_multinomial_nll(concentrations(rows, layers), counts, sizes, reduction="none")
            penalty = sum(len(weights) * torch.sum(weights**2) for weights, _ in layers)
            loss = share @ terms.sum(dim=1) + self.alpha / (2 * total) * penalty
            (gradient,) = torch.autograd.grad(loss, parameters)
            return loss.item(), gradient.numpy()

        options = {
            "maxiter": self.max_iter,
            "maxfun": np.inf,
            "maxls": 50,
            "gtol": self.tol,
            "ftol": 1e-15,
            "maxcor": 30,  # of 10 it ends before the gradient is small
        }
        with own_state(free_threads()), Tasks(self, "iteration") as tasks:
            tasks.start(self.max_iter)
            tasks.begin()
            first, method = self._first(widths), "L-BFGS-B"
            found = minimize(loss_and_gradient, first, jac=True, method=method, options=options, callback=tasks.next)
        if found.nit >= self.max_iter:
            warn(
                f"L-BFGS has not converged after max_iter={self.max_iter} iterations; more of them, or a larger alpha, "
                "may help.",
                ConvergenceWarning,
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
