"""Metrics of predicted votes in a tree of questions. Questions that were not asked are ignored.

The order of arguments is scikit-learn's, truth first.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import betabinom, dirichlet_multinomial

from skastro.inputs import as_array, as_table, as_weight
from skastro.metrics.checks import as_numbers, check_shares, order_columns
from skastro.metrics.morphology import morphology_table
from skastro.votes import VoteSchema, get_schema

__all__ = [
    "dirichlet_nll",
    "interval_coverage",
    "per_question",
    "read_votes",
    "vote_coverage",
    "vote_fraction_rmse",
    "vote_scores",
    "vote_table",
]


def dirichlet_nll(
    votes: ArrayLike,
    concentrations: ArrayLike,
    schema: str | VoteSchema | None = None,
    *,
    question: str | None = None,
    min_volunteers: int = 1,
    min_asked: float = 0.0,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Compute the negative log-likelihood of each galaxy's counts, averaged over galaxies.

    .. math:: L = -\frac{1}{n} \sum_{i=1}^{n} \sum_q \ln p(k_{iq} \mid \alpha_{iq}), \qquad
              p(k \mid \alpha) = \int {\rm Multi}(k \mid \rho, N)\, {\rm Dir}(\rho \mid \alpha)\, d\rho

    Parameters
    ----------
    votes : array-like of shape (n, n_answers)
        Counts, as in :func:`read_votes`. Galaxies without any vote are left out.
    concentrations : array-like of shape (n, n_answers)
        :math:`\alpha`, greater than 0.
    schema : str, VoteSchema or None, default=None
        The questions; None reads them off a table's columns ``question_answer``, and makes other columns the answers to
        one question.
    question : str, default=None
        The one question to score; None scores all.
    min_volunteers : int, default=1
        Galaxies shown to fewer volunteers are left out. The number of a galaxy is that of its most answered question.
    min_asked : float, default=0.0
        Questions that a smaller fraction of a galaxy's volunteers answered are left out for that galaxy.
    sample_weight : array-like of shape (n,), default=None
        Weight of each galaxy.

    Returns
    -------
    float
        In nats; smaller is better.

    Raises
    ------
    ValueError
        If votes or schema are invalid, shapes differ, a concentration is not above 0, or no vote is left.

    See Also
    --------
    skastro.losses.dirichlet_multinomial_nll : Compute it on torch tensors, for training.

    References
    ----------
    Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning", `arXiv:2206.11927
    <https://arxiv.org/abs/2206.11927>`_, equations 1 and 2. The integral is over the fractions :math:`\rho`, and the
    logarithms are summed; the paper prints :math:`d\alpha` and a sum of likelihoods.

    Examples
    --------
    >>> from skastro.metrics import dirichlet_nll
    >>> dirichlet_nll([[4, 0, 0], [0, 0, 0]], [[1.0, 1.0, 1.0], [9.0, 1.0, 1.0]])  # ln 15
    2.708
    """
    votes, schema = _chosen(votes, schema, question, min_volunteers, min_asked)
    concentrations = _check_concentrations(concentrations, votes, schema)
    blocks = zip(schema.by_question(votes).values(), schema.by_question(concentrations).values(), strict=True)
    log_p = sum(dirichlet_multinomial.logpmf(k, a, k.sum(axis=1)) for k, a in blocks)
    weight = as_weight(sample_weight, len(votes)) * votes.any(axis=1)
    if not weight.any():
        raise ValueError("No galaxy has both votes and a weight: there is nothing to measure.")
    return -float(np.average(log_p, weights=weight))


def vote_fraction_rmse(
    votes: ArrayLike,
    predicted: ArrayLike,
    schema: str | VoteSchema | None = None,
    *,
    question: str | None = None,
    min_volunteers: int = 1,
    min_asked: float = 0.0,
) -> float:
    r"""Compute the root-mean-square error of the vote fractions, over all answers to questions that were asked.

    Parameters
    ----------
    votes : array-like of shape (n, n_answers)
        Counts, as in :func:`read_votes`.
    predicted : array-like of shape (n, n_answers)
        Predicted fractions.
    schema : str, VoteSchema or None, default=None
        The questions; None reads them off a table's columns ``question_answer``, and makes other columns the answers to
        one question.
    question : str, default=None
        The one question to score; None scores all.
    min_volunteers : int, default=1
        Galaxies shown to fewer volunteers are left out. The number of a galaxy is that of its most answered question.
    min_asked : float, default=0.0
        Questions that a smaller fraction of a galaxy's volunteers answered are left out for that galaxy.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If votes or schema are invalid, shapes differ, a prediction is not finite where the question was asked, or no
        vote is left.

    Notes
    -----
    Fractions of few volunteers scatter by :math:`\sqrt{f (1 - f) / N}`; `min_volunteers` excludes them.

    Examples
    --------
    >>> from skastro.metrics import vote_fraction_rmse
    >>> vote_fraction_rmse([[10, 10], [5, 15], [0, 0]], [[0.6, 0.4], [0.25, 0.75], [0.9, 0.1]])
    0.071
    """
    votes, schema = _chosen(votes, schema, question, min_volunteers, min_asked)
    asked = _check_asked(per_question(votes, schema.sizes) > 0)
    predicted = _per_answer("predicted", predicted, votes, schema)
    error = (schema.fractions(votes) - predicted)[asked]
    if not np.isfinite(error).all():
        raise ValueError("predicted has NaN or infinite values where a question was asked.")
    check_shares("predicted", np.where(asked, predicted, 0))
    return float(np.sqrt(np.mean(error**2)))


def vote_table(
    votes: ArrayLike,
    predicted: ArrayLike,
    schema: str | VoteSchema | None = None,
    *,
    question: str | None = None,
    min_volunteers: int = 1,
    min_asked: float = 0.0,
    high_quality: tuple[float, float] = (0.2, 0.8),
) -> pd.DataFrame:
    """Compute metrics of predicted vote fractions, answer by answer, each as a binary classification.

    Parameters
    ----------
    votes : array-like of shape (n, n_answers)
        Counts, as in :func:`read_votes`.
    predicted : array-like of shape (n, n_answers)
        Predicted fractions.
    schema : str, VoteSchema or None, default=None
        The questions; None reads them off a table's columns ``question_answer``, and makes other columns the answers to
        one question.
    question : str, default=None
        The one question to score, with the others treated as not asked; None scores all.
    min_volunteers : int, default=1
        Galaxies shown to fewer volunteers are left out. The number of a galaxy is that of its most answered question.
    min_asked : float, default=0.0
        Questions that a smaller fraction of a galaxy's volunteers answered are left out for that galaxy.
    high_quality : tuple of float, default=(0.2, 0.8)
        Galaxies with a fraction below the first or above the second are of high quality.

    Returns
    -------
    DataFrame
        One row per question and answer, one column per entry of :func:`morphology_scores`.

    Raises
    ------
    ValueError
        If votes or schema are invalid, or as in :func:`morphology_table`.

    See Also
    --------
    vote_scores : Compute a row per question.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, appendix C and figures 3, 11 and 12.

    Examples
    --------
    >>> from skastro.metrics import vote_table
    >>> from skastro.votes import VoteSchema
    >>> schema = VoteSchema({"bar": ["yes", "no"]})
    >>> vote_table([[9, 1], [2, 18], [0, 7]], [[0.7, 0.3], [0.6, 0.4], [0.1, 0.9]], schema)[["n", "accuracy"]]
                     n  accuracy
    question answer
    bar      yes     3     0.667
             no      3     0.667
    """
    votes, schema = _chosen(votes, schema, question, min_volunteers, min_asked)
    return _answer_table(votes, _per_answer("predicted", predicted, votes, schema), schema, high_quality)


def vote_scores(
    votes: ArrayLike,
    predicted: ArrayLike,
    schema: str | VoteSchema | None = None,
    *,
    question: str | None = None,
    min_volunteers: int = 1,
    min_asked: float = 0.0,
    high_quality: tuple[float, float] = (0.2, 0.8),
) -> pd.DataFrame:
    """Compute metrics of predicted vote fractions, question by question.

    Parameters
    ----------
    votes : array-like of shape (n, n_answers)
        Counts, as in :func:`read_votes`.
    predicted : array-like of shape (n, n_answers)
        Predicted fractions.
    schema : str, VoteSchema or None, default=None
        The questions; None reads them off a table's columns ``question_answer``, and makes other columns the answers to
        one question.
    question : str, default=None
        The one question to score, with the others treated as not asked; None scores all.
    min_volunteers : int, default=1
        Galaxies shown to fewer volunteers are left out. The number of a galaxy is that of its most answered question.
    min_asked : float, default=0.0
        Questions that a smaller fraction of a galaxy's volunteers answered are left out for that galaxy.
    high_quality : tuple of float, default=(0.2, 0.8)
        The volunteers agree on a galaxy if one answer has more than the second fraction. For one answer as a binary
        classification, galaxies below the first fraction count too.

    Returns
    -------
    DataFrame
        One row per question: ``n``, the number of galaxies asked, and ``n_high_quality``, the number among them on
        which the volunteers agree. On the latter: ``accuracy``, how often the predicted answer is theirs;
        ``precision``, ``recall``, ``f1``, ``auc`` and ``outliers``, means over the answers, each as a binary
        classification as in :func:`vote_table`. ``rmse`` is over all answers of all galaxies asked. Undefined values
        are NaN.

    Raises
    ------
    ValueError
        If votes or schema are invalid, or as in :func:`morphology_table`.

    See Also
    --------
    vote_table : Compute a row per answer. For a yes-no question, the paper's numbers are those of the yes.

    References
    ----------
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, appendix C, for two answers; Parker et
    al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, section 4.2.3, for ``min_volunteers=35`` and
    ``min_asked=0.5``.

    Examples
    --------
    >>> from skastro.metrics import vote_scores
    >>> from skastro.votes import VoteSchema
    >>> schema = VoteSchema({"bar": ["yes", "no"]})
    >>> vote_scores([[9, 1], [1, 18], [0, 7]], [[0.7, 0.3], [0.6, 0.4], [0.1, 0.9]], schema)[["n", "accuracy", "rmse"]]
              n  accuracy   rmse
    question
    bar       3     0.667  0.342
    """
    votes, schema = _chosen(votes, schema, question, min_volunteers, min_asked)
    predicted = _per_answer("predicted", predicted, votes, schema)
    answers = _answer_table(votes, predicted, schema, high_quality).groupby(level="question", sort=False)
    table = answers.mean().assign(n=answers["n"].first(), rmse=np.sqrt(answers["rmse"].agg(lambda r: np.mean(r**2))))
    truth, guess = schema.by_question(schema.fractions(votes)), schema.by_question(predicted)
    for question in schema.questions:
        agreed = np.any(truth[question] > high_quality[1], axis=1)
        right = truth[question][agreed].argmax(axis=1) == guess[question][agreed].argmax(axis=1)
        table.loc[question, "n_high_quality"] = len(right)
        table.loc[question, "accuracy"] = right.mean() if len(right) else np.nan
    return table.astype({"n_high_quality": int})


def vote_coverage(
    votes: ArrayLike,
    concentrations: ArrayLike,
    schema: str | VoteSchema | None = None,
    *,
    question: str | None = None,
    min_volunteers: int = 1,
    min_asked: float = 0.0,
    level: float = 0.9,
) -> float:
    r"""Compute how often counts lie in the central interval predicted for them; `level` if the intervals are right.

    The number of volunteers out of N who give an answer follows a beta-binomial distribution with :math:`\alpha_a` and
    :math:`\sum \alpha - \alpha_a`. Counts are discrete, so a count k stands for the whole step of the cumulative
    distribution, from :math:`F(k - 1)` to :math:`F(k)`, and is covered by the fraction of the step inside the interval.
    The mean over galaxies that follow the prediction is then `level`, for any N.

    Parameters
    ----------
    votes : array-like of shape (n, n_answers)
        Counts, as in :func:`read_votes`.
    concentrations : array-like of shape (n, n_answers)
        :math:`\alpha`, greater than 0.
    schema : str, VoteSchema or None, default=None
        The questions; None reads them off a table's columns ``question_answer``, and makes other columns the answers to
        one question.
    question : str, default=None
        The one question to score; None scores all.
    min_volunteers : int, default=1
        Galaxies shown to fewer volunteers are left out. The number of a galaxy is that of its most answered question.
    min_asked : float, default=0.0
        Questions that a smaller fraction of a galaxy's volunteers answered are left out for that galaxy.
    level : float, default=0.9
        Probability inside the interval, between 0 and 1.

    Returns
    -------
    float
        From 0 to 1: less than `level` if intervals are too short, more if they are too long.

    Raises
    ------
    ValueError
        If votes or schema are invalid, shapes differ, a concentration is not above 0, no vote is left, or `level` is
        not between 0 and 1.

    See Also
    --------
    interval_coverage : Compute the coverage where the fractions themselves are known, as in a simulation.

    References
    ----------
    Czado, Gneiting & Held (2009), "Predictive Model Assessment for Count Data", `doi:10.1111/j.1541-0420.2009.01191.x
    <https://doi.org/10.1111/j.1541-0420.2009.01191.x>`_, section 2, for the step of a count.

    Examples
    --------
    >>> from skastro.metrics import vote_coverage
    >>> vote_coverage([[20, 20], [0, 0], [40, 0]], [[50.0, 50.0], [1.0, 1.0], [50.0, 50.0]])
    0.5
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1; got {level}.")
    votes, schema = _chosen(votes, schema, question, min_volunteers, min_asked)
    concentrations = _check_concentrations(concentrations, votes, schema)
    n, total = per_question(votes, schema.sizes), per_question(concentrations, schema.sizes)
    asked = _check_asked(n > 0)
    k, n, a, b = votes[asked], n[asked], concentrations[asked], (total - concentrations)[asked]
    step = betabinom.pmf(k, n, a, b)
    start = sum(np.where(j < k, betabinom.pmf(j, n, a, b), 0) for j in range(max(k.max(), 1)))
    inside = np.minimum(start + step, (1 + level) / 2) - np.maximum(start, (1 - level) / 2)
    return float(np.mean(np.maximum(inside, 0) / np.maximum(step, 1e-300)))


def interval_coverage(fractions: ArrayLike, intervals: ArrayLike) -> float:
    """Compute how often fractions lie in their intervals.

    Parameters
    ----------
    fractions : array-like of shape (n, n_answers)
        The fractions themselves, known for simulated galaxies. NaN, where the question was not asked, is left out.
    intervals : array-like of shape (n, n_answers, 2)
        Lower and upper ends, as returned by ``predict_interval``.

    Returns
    -------
    float
        From 0 to 1; the level of the intervals if they are right.

    Raises
    ------
    ValueError
        If shapes do not match, all fractions are NaN, or an interval is NaN where the fraction is known.

    See Also
    --------
    vote_coverage : Compute the coverage of counts. The fraction among a few volunteers scatters about the fraction
        itself, so intervals for the one are too short for the other.

    Examples
    --------
    >>> from skastro.metrics import interval_coverage
    >>> interval_coverage([[0.3, float("nan")], [0.9, 0.1]], [[[0.2, 0.4], [0.0, 1.0]], [[0.5, 0.8], [0.0, 0.2]]])
    0.667
    """
    fractions, intervals = as_numbers("fractions", fractions), as_numbers("intervals", intervals)
    if intervals.shape != (*fractions.shape, 2):
        raise ValueError(
            f"intervals must have the shape {(*fractions.shape, 2)}, two ends each; got {intervals.shape}."
        )
    known = ~np.isnan(fractions)
    if not known.any():
        raise ValueError("All fractions are NaN: there is nothing to measure.")
    if np.isnan(intervals[known]).any():
        raise ValueError("intervals has NaN where a fraction is known.")
    inside = (intervals[..., 0] <= fractions) & (fractions <= intervals[..., 1])
    return float(np.mean(inside[known]))


def read_votes(votes: Any, schema: str | VoteSchema | None = None) -> tuple[np.ndarray, VoteSchema]:
    """Check counts of votes and order their columns.

    Parameters
    ----------
    votes : array-like of shape (n, n_answers)
        Number of volunteers who gave each answer; 0 where none was asked. An array has the columns of the schema in its
        order, a table has them by name in any order.
    schema : str, VoteSchema or None, default=None
        The questions; None reads them off a table's columns ``question_answer``, each with two answers or more, and
        makes other columns the answers to one question, "votes".

    Returns
    -------
    votes : ndarray of shape (n, n_answers), int
        Columns in the schema's order.
    schema : VoteSchema
        The schema.

    Raises
    ------
    ValueError
        As in :meth:`skastro.votes.VoteSchema.validate`: if votes are negative, fractional, NaN, or have other columns.

    Warns
    -----
    UserWarning
        If there are votes for a question whose parent answer nobody gave; the warning states how many galaxies.

    Examples
    --------
    >>> from skastro.metrics import read_votes
    >>> votes, schema = read_votes([[3, 1], [0, 0]])
    >>> schema.columns
    ['votes_0', 'votes_1']
    """
    if schema is not None:
        known = get_schema(schema)
    elif (table := as_table(votes)) is None:
        votes = as_array(votes, "votes")
        known = _one_question(range(votes.shape[1] if votes.ndim == 2 else 0))
    else:
        try:
            known = VoteSchema.from_columns(table)
        except ValueError:  # names that tell no questions
            votes, known = as_array(votes, "votes"), _one_question(table.columns)
    return known.validate(votes), known


def _one_question(columns: Iterable[Any]) -> VoteSchema:
    return VoteSchema({"votes": [str(column) for column in columns]})


def per_question(values: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Sum over the answers to each question, and repeat the sum for each answer.

    Parameters
    ----------
    values : ndarray of shape (n, n_answers)
        Counts or concentrations. Divided by their sums, they are fractions.
    sizes : sequence of int
        Number of answers to each question.

    Returns
    -------
    ndarray of shape (n, n_answers)

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.metrics import per_question
    >>> per_question(np.array([[3, 1, 5, 5]]), (2, 2))
    array([[ 4,  4, 10, 10]])
    """
    starts = np.cumsum([0, *sizes[:-1]])
    return np.repeat(np.add.reduceat(values, starts, axis=1), sizes, axis=1)


def _chosen(
    votes: ArrayLike, schema: str | VoteSchema | None, question: str | None, min_volunteers: int, min_asked: float
) -> tuple[np.ndarray, VoteSchema]:
    """Return the selected votes; those for other questions, or of too few volunteers, are set to 0."""
    votes, schema = read_votes(votes, schema)
    if question is not None and question not in schema.questions:
        raise ValueError(f"There is no question {question!r}; the schema has {', '.join(schema.questions)}.")
    if not 0 <= min_asked <= 1:
        raise ValueError(f"min_asked must be a share from 0 to 1; got {min_asked}.")
    totals = schema.totals(votes)
    volunteers = totals.max(axis=1, keepdims=True)  # everyone is asked the first question
    kept = (volunteers >= min_volunteers) & (totals >= min_asked * volunteers)
    kept &= np.array([question in (None, name) for name in schema.questions])
    return np.where(np.repeat(kept, schema.sizes, axis=1), votes, 0), schema


def _check_asked(asked: np.ndarray) -> np.ndarray:
    if not asked.any():
        raise ValueError("No question was asked of any galaxy: there is nothing to measure.")
    return asked


def _answer_table(
    votes: np.ndarray, predicted: np.ndarray, schema: VoteSchema, high_quality: tuple[float, float]
) -> pd.DataFrame:
    table = morphology_table(schema.fractions(votes), predicted, high_quality=high_quality)
    pairs = [(question, answer) for question, answers in schema.questions.items() for answer in answers]
    return table.set_index(pd.MultiIndex.from_tuples(pairs, names=["question", "answer"]))


def _per_answer(name: str, values: ArrayLike, votes: np.ndarray, schema: VoteSchema) -> np.ndarray:
    """Check numbers of the shape of the votes; a table with the schema's columns may have them in any order."""
    values = order_columns(name, values, schema.columns)
    if schema.n_questions == 1:  # without a schema, votes and predictions have the names of answers alone
        (answers,) = schema.questions.values()
        values = order_columns(name, values, answers)
    values = as_numbers(name, values)
    if values.shape != votes.shape:
        raise ValueError(f"{name} must have the shape {votes.shape} of the votes; got {values.shape}.")
    return values


def _check_concentrations(concentrations: ArrayLike, votes: np.ndarray, schema: VoteSchema) -> np.ndarray:
    concentrations = _per_answer("concentrations", concentrations, votes, schema)
    bad = np.flatnonzero(~np.all((concentrations > 0) & np.isfinite(concentrations), axis=1))
    if len(bad):
        raise ValueError(f"concentrations must be finite and more than 0; row {bad[0]} has others.")
    return concentrations
