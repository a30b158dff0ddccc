"""Answers of classifiers: labels, or fractions of volunteers' votes with their Dirichlet distributions."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import betaincinv, xlogy
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from skastro.inputs import as_rows, as_table, as_target, as_weight
from skastro.metrics import dirichlet_nll, per_question, read_votes
from skastro.metrics.checks import order_columns
from skastro.votes import VoteSchema

__all__ = [
    "Answers",
    "ValueRegressorMixin",
    "VoteClassifierMixin",
    "check_soft_labels",
    "known_truth",
    "learn_answers",
    "refuse_several",
    "weigh_votes",
]

LEAST = np.finfo(np.float32).tiny  # probability, so that the log-likelihood of what came stays finite


class Answers(BaseEstimator):
    r"""The meaning of predicted columns, and what Dirichlet concentrations :math:`\alpha` say of them.

    Parameters
    ----------
    classes : ndarray of shape (n_answers,)
        The labels, or the names of the columns of votes.
    schema : VoteSchema or None, default=None
        The questions; None for labels.
    table : bool, default=False
        Whether votes came in a table of any library, so that answers are given in a DataFrame of pandas.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.downstream.answers import Answers
    >>> answers, alpha = Answers(np.array(["ring", "none"])), np.array([[3.0, 1.0]])
    >>> answers.fractions(alpha)
    array([[0.75, 0.25]])
    >>> answers.best(alpha)
    array(['ring'], dtype='<U4')
    """

    def __init__(self, classes: np.ndarray, *, schema: VoteSchema | None = None, table: bool = False) -> None:
        self.classes = classes
        self.schema = schema
        self.table = table

    @property
    def sizes(self) -> Sequence[int]:
        """Number of answers to each question; labels are the answers to one."""
        return [len(self.classes)] if self.schema is None else [len(a) for a in self.schema.questions.values()]

    def count(self, y: Any) -> np.ndarray:
        """Check votes, and put them in the order of the classes.

        Parameters
        ----------
        y : array-like or table of shape (n,) or (n, n_answers)
            Labels, one vote each, or votes.

        Returns
        -------
        ndarray of shape (n, n_answers), int

        Raises
        ------
        ValueError
            If a label is missing or none of the classes, or votes cannot be used.
        """
        if self.schema is None:
            labels = column_or_1d(as_target(y))
            known = labels[:, np.newaxis] == self.classes
            if not known.any(axis=1).all():
                unseen = labels.tolist()[known.any(axis=1).argmin()]
                raise ValueError(f"y has the label {unseen!r}, which was not seen in fit.")
            return known.astype(np.int64)
        if (table := as_table(y)) is not None:
            named = table.rename(columns=str)
            y = named[list(self.classes)].to_numpy() if set(named.columns) == set(self.classes) else named
        return self.schema.validate(y)

    def best(self, fractions: np.ndarray) -> np.ndarray:
        """Find the answer with the largest fraction.

        Parameters
        ----------
        fractions : ndarray of shape (n, n_answers)
            Of the answers to each question.

        Returns
        -------
        ndarray of shape (n,) or (n, n_questions)
            Labels; for votes the names of the answers, a column per question.
        """
        if self.schema is None:
            return self.classes[fractions.argmax(axis=1)]
        blocks = self.schema.by_question(fractions)
        return np.column_stack(
            [np.array(self.schema.questions[name])[block.argmax(axis=1)] for name, block in blocks.items()]
        )

    def fractions(self, concentrations: np.ndarray) -> np.ndarray:
        r"""Compute the expected fraction :math:`\alpha_a / \sum_{b \in q} \alpha_b` of each answer to its question.

        Parameters
        ----------
        concentrations : ndarray of shape (n, n_answers)
            :math:`\alpha`, more than 0.

        Returns
        -------
        ndarray of shape (n, n_answers)
        """
        return concentrations / per_question(concentrations, self.sizes)

    def shares(self, fractions: np.ndarray) -> np.ndarray:
        """Turn fractions of those who were asked into fractions of all, down the tree of questions.

        Parameters
        ----------
        fractions : ndarray of shape (n, n_answers)
            Of the answers to each question.

        Returns
        -------
        ndarray of shape (n, n_answers)
        """
        if self.schema is None:
            return fractions
        return fractions * np.repeat(self.schema.asked(fractions), self.sizes, axis=1)

    def interval(self, concentrations: np.ndarray, level: float) -> np.ndarray:
        r"""Compute the central interval of each fraction :math:`f_a`, which follows a beta distribution.

        .. math:: f_a \sim {\rm Beta}\Bigl(\alpha_a, \sum_{b \in q} \alpha_b - \alpha_a\Bigr)

        Parameters
        ----------
        concentrations : ndarray of shape (n, n_answers)
            :math:`\alpha`, more than 0.
        level : float
            Probability inside, more than 0 and less than 1.

        Returns
        -------
        ndarray of shape (n, n_answers, 2), float64

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1; got {level}.")
        others = np.maximum(per_question(concentrations, self.sizes) - concentrations, 1e-300)  # one class has none
        return np.stack([betaincinv(concentrations, others, (1 + side * level) / 2) for side in (-1, 1)], axis=-1)

    def sample(self, concentrations: np.ndarray, n_samples: int, random_state: Any) -> np.ndarray:
        """Draw fractions.

        Parameters
        ----------
        concentrations : ndarray of shape (n, n_answers)
            Of the distributions, more than 0.
        n_samples : int
            Draws for each row.
        random_state : int, RandomState instance or None
            Source of the draws.

        Returns
        -------
        ndarray of shape (n, n_samples, n_answers), float64
        """
        rng = check_random_state(random_state)
        alpha = np.repeat(concentrations, n_samples, axis=0)
        # Normalized gamma variates; by way of logarithms, because those of small concentrations underflow.
        log_gamma = np.log(rng.standard_gamma(alpha + 1)) + np.log(1 - rng.uniform(size=alpha.shape)) / alpha
        starts = np.cumsum([0, *self.sizes[:-1]])
        largest = np.repeat(np.maximum.reduceat(log_gamma, starts, axis=1), self.sizes, axis=1)
        gamma = np.exp(log_gamma - largest)
        return (gamma / per_question(gamma, self.sizes)).reshape(-1, n_samples, alpha.shape[1])

    def as_given(self, values: np.ndarray, X: Any, columns: Any = None) -> np.ndarray | pd.DataFrame:
        """Convert to a DataFrame where votes came in a table.

        Parameters
        ----------
        values : ndarray of shape (n, n_columns)
            Answers.
        X : array-like
            What they answer; a DataFrame hands on its index.
        columns : sequence of str, default=None
            Names of the columns; None is the classes.

        Returns
        -------
        ndarray or DataFrame of shape (n, n_columns)
        """
        if not self.table:
            return values
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(values, index=index, columns=self.classes if columns is None else columns)


def learn_answers(y: Any, schema: str | VoteSchema | None = None) -> tuple[Answers, np.ndarray]:
    """Learn from labels or votes what is answered, and count the votes.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_answers)
        Labels, one vote each, or how many volunteers gave each answer.
    schema : str, VoteSchema or None, default=None
        The questions, by the name of a campaign or as a schema. None makes labels of a 1-D `y`; of a 2-D one it reads
        the questions off a table's columns ``question_answer``, and makes other columns the answers to one question.

    Returns
    -------
    answers : Answers
        What the columns of the counts stand for.
    votes : ndarray of shape (n, n_answers), int
        The counts.

    Raises
    ------
    ValueError
        If labels are continuous or missing, or votes are negative, fractional, NaN, or of other columns.

    Examples
    --------
    >>> from skastro.downstream.answers import learn_answers
    >>> answers, votes = learn_answers(["ring", "none", "ring"])
    >>> answers.classes.tolist(), votes.tolist()
    (['none', 'ring'], [[0, 1], [1, 0], [0, 1]])
    """
    given, y = y, as_rows(y, "y")
    if schema is None and (y.ndim < 2 or y.shape[1] == 1):
        labels = column_or_1d(check_array(as_target(y), ensure_2d=False, dtype=None, input_name="y"), warn=True)
        check_classification_targets(labels)
        classes, place = np.unique(labels, return_inverse=True)
        return Answers(classes), np.eye(len(classes), dtype=np.int64)[place]
    votes, questions = read_votes(y, schema)
    table = as_table(given)
    names = questions.columns if schema is not None else range(y.shape[1]) if table is None else table.columns
    return Answers(np.array([*map(str, names)]), schema=questions, table=table is not None), votes


def weigh_votes(votes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Set the weight of rows without any vote to zero.

    Parameters
    ----------
    votes : ndarray of shape (n, n_answers)
        Counts.
    weight : ndarray of shape (n,)
        Of each row.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If no weight is left.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.downstream.answers import weigh_votes
    >>> weigh_votes(np.array([[3, 1], [0, 0]]), np.ones(2))
    array([1., 0.])
    """
    weight = weight * votes.any(axis=1)
    if not weight.any():
        raise ValueError("No row of y has both votes and a weight: there is nothing to learn from.")
    return weight


def known_truth(y: Any, sample_weight: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert the truth to score by, and weights if there are any, to plain arrays without missing values.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_outputs)
        True labels or values.
    sample_weight : array-like of shape (n,), default=None
        Weight of each row.

    Returns
    -------
    y : ndarray of shape (n,) or (n, n_outputs)
    sample_weight : ndarray of shape (n,) or None

    Raises
    ------
    ValueError
        If something is missing: how many, and the first row.

    Examples
    --------
    >>> from skastro.downstream.answers import known_truth
    >>> known_truth([0.1, None])
    Traceback (most recent call last):
    ...
    ValueError: y has 1 missing values, the first in row 1: leave such rows out.
    """
    truth = as_target(y)
    return truth, None if sample_weight is None else as_weight(sample_weight, len(truth))


def check_soft_labels(y: Any) -> np.ndarray:
    """Scale rows of shares to sum to 1.

    Parameters
    ----------
    y : array-like of shape (n, n_classes)
        Shares, such as votes; none negative, and some in each row.

    Returns
    -------
    ndarray of shape (n, n_classes), float64

    Raises
    ------
    ValueError
        Naming the first row that has a negative share, or none.
    """
    shares = check_array(as_target(y), dtype=np.float64, input_name="y")
    bad = (shares < 0).any(axis=1) | (shares.sum(axis=1) == 0)
    if bad.any():
        raise ValueError(
            f"Soft labels are rows of shares, none negative and some in each row; {bad.sum()} rows of y are not, "
            f"the first is row {bad.argmax()}."
        )
    return shares / shares.sum(axis=1, keepdims=True)


def refuse_several(shares: np.ndarray, columns: Sequence[Any]) -> None:
    """Raise an error if rows that were given as shares of one whole are flags, or answers to several questions.

    Parameters
    ----------
    shares : ndarray of shape (n, n_classes)
        As they came, at any scale.
    columns : sequence
        Names of the columns, where there are any.

    Raises
    ------
    ValueError
        If values are 0 or 1 throughout and a row has several of them, or the columns are named ``question_answer`` for
        more than one question and rows do not sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.downstream.answers import refuse_several
    >>> refuse_several(np.array([[1, 1, 0], [0, 1, 0]]), ["ring", "bar", "dust"])
    Traceback (most recent call last):
    ...
    ValueError: y has several classes in row 0, and is 0 or 1 throughout: ... fit one classifier for each flag.
    """
    sums = shares.sum(axis=1)
    several = sums > 1
    if several.any() and np.isin(shares, (0, 1)).all():
        raise ValueError(
            f"y has several classes in row {several.argmax()}, and is 0 or 1 throughout: soft labels are shares of one "
            "whole; fit one classifier for each flag."
        )
    try:
        questions = list(VoteSchema.from_columns(columns).questions)
    except ValueError:  # names that tell no questions
        return
    if len(questions) > 1 and not np.allclose(sums, 1, atol=1e-3):
        raise ValueError(
            f"y has columns of {len(questions)} questions ({', '.join(questions[:3])} ...), and soft labels are shares "
            'of one, whose rows sum to 1: head="dirichlet" takes votes.'
        )


class ValueRegressorMixin(RegressorMixin):
    """The score of regressors: refused where the truth is missing, with the columns of a table found by name."""

    _target_names: Sequence[Any] = ()  # of a table in fit

    def score(self, X: Any, y: Any, sample_weight: Any = None, **metadata: Any) -> float:
        """Compute the coefficient of determination R² of the predictions.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        y : array-like of shape (n,) or (n, n_outputs)
            True values; those of a table with the names seen in `fit` are found by name.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row.
        **metadata : array-like
            Metadata of `X` that the model takes, such as ``ivar``.

        Returns
        -------
        float
            At most 1, which is best.

        Raises
        ------
        ValueError
            If a true value or a weight is missing: how many, and the first row.
        """
        truth, weight = known_truth(order_columns("y", y, self._target_names), sample_weight)
        return float(r2_score(truth, self.predict(X, **metadata), sample_weight=weight))


def _tells_concentrations(model: Any) -> bool:
    return hasattr(model, "predict_concentrations")


class VoteClassifierMixin(ClassifierMixin):
    r"""Answers that classifiers of labels and of votes derive from what they predict.

    A concrete one has `answers_`, once fitted, and two methods of its own: `predict_proba`, and
    `predict_concentrations` where it knows the Dirichlet concentrations :math:`\alpha`. Without that there are no
    intervals and no draws. Where votes came in a table of any library, answers are DataFrames of pandas; else they are
    arrays in the order of `classes_`.
    """

    @property
    @abstractmethod
    def answers_(self) -> Answers:
        """Meaning of the columns of `predict_proba`, an :class:`Answers`; refused before `fit`."""

    @property
    def classes_(self) -> np.ndarray:
        """The labels, or the names of the columns of votes, which of an array are its numbers as text: (n_answers,)."""
        return self.answers_.classes

    @property
    def schema_(self) -> VoteSchema | None:
        """The questions in use; None for labels."""
        return self.answers_.schema

    @abstractmethod
    def predict_proba(self, X: Any, asked: bool = False) -> np.ndarray | pd.DataFrame:
        r"""Predict the expected fraction of each answer among those to its question, or the probability of each class.

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

    @abstractmethod
    def predict_concentrations(self, X: Any) -> np.ndarray | pd.DataFrame:
        r"""Predict the Dirichlet concentrations :math:`\alpha`, from which everything else follows.

        Parameters
        ----------
        X : array-like
            As in `fit`.

        Returns
        -------
        ndarray or DataFrame of shape (n, n_answers), float64
        """

    def predict(self, X: Any, **metadata: Any) -> np.ndarray | pd.DataFrame:
        """Predict the answer expected to have most votes.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        **metadata : array-like
            Metadata of `X` that the classifier takes, such as ``ivar``.

        Returns
        -------
        ndarray of shape (n,), or ndarray or DataFrame of shape (n, n_questions)
            Labels, where labels were learned; for votes, the names of the answers, a column per question.
        """
        best = self.answers_.best(np.asarray(self.predict_proba(X, **metadata)))
        return best if self.schema_ is None else self.answers_.as_given(best, X, list(self.schema_.questions))

    @available_if(_tells_concentrations)
    def predict_interval(self, X: Any, level: float = 0.9, **metadata: Any) -> np.ndarray:
        r"""Predict the central interval of each fraction, which follows a beta distribution.

        .. math:: f_a \sim {\rm Beta}\Bigl(\alpha_a, \sum_{b \in q} \alpha_b - \alpha_a\Bigr)

        Parameters
        ----------
        X : array-like
            As in `fit`.
        level : float, default=0.9
            Probability inside, more than 0 and less than 1.
        **metadata : array-like
            Metadata of `X` that the classifier takes, such as ``ivar``.

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
        return self.answers_.interval(np.asarray(self.predict_concentrations(X, **metadata)), level)

    @available_if(_tells_concentrations)
    def sample(self, X: Any, n_samples: int = 1, random_state: Any = None, **metadata: Any) -> np.ndarray:
        """Draw fractions from the distributions.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        n_samples : int, default=1
            Draws for each row.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.
        **metadata : array-like
            Metadata of `X` that the classifier takes, such as ``ivar``.

        Returns
        -------
        ndarray of shape (n, n_samples, n_answers), float64
            The fractions of each question sum to 1; questions are drawn independently of each other.
        """
        return self.answers_.sample(np.asarray(self.predict_concentrations(X, **metadata)), n_samples, random_state)

    def score(self, X: Any, y: Any, sample_weight: Any = None, **metadata: Any) -> float:
        r"""Score labels by the accuracy, soft labels and votes by their mean log-likelihood.

        For soft labels :math:`t` it is :math:`\sum_k t_k \ln p_k`, averaged over the rows; for votes
        :math:`\sum_q \ln p(k_q \mid \alpha_q)`, averaged over the galaxies with any vote.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        y : array-like
            Labels, soft labels or votes, as in `fit`.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row.
        **metadata : array-like
            Metadata of `X` that the classifier takes, such as ``ivar``.

        Returns
        -------
        float
            Greater is better; a log-likelihood is at most 0.
        """
        if self.schema_ is None:
            truth, weight = known_truth(order_columns("y", y, self.classes_), sample_weight)
            if truth.ndim == 1 or truth.shape[1] == 1:
                return float(accuracy_score(truth, self.predict(X, **metadata), sample_weight=weight))
            told = np.asarray(self.predict_proba(X, **metadata)).clip(LEAST)
            return float(np.average(xlogy(check_soft_labels(truth), told).sum(axis=1), weights=weight))
        alpha = np.asarray(self.predict_concentrations(X, **metadata))
        return -dirichlet_nll(self.count_votes(y), alpha, self.schema_, sample_weight=sample_weight)

    @available_if(_tells_concentrations)
    def count_votes(self, y: Any) -> np.ndarray:
        """Check votes, and put them in the order of the columns of `predict_proba`.

        Parameters
        ----------
        y : array-like or table of shape (n,) or (n, n_answers)
            Labels, one vote each, or votes, as in `fit`.

        Returns
        -------
        ndarray of shape (n, n_answers), int

        Raises
        ------
        ValueError
            If a label was not seen in `fit`, or votes cannot be used.
        """
        return self.answers_.count(y)
