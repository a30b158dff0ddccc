"""Expected information gain: which objects volunteers should be shown."""

from functools import cache
from math import comb
from typing import Any

import numpy as np
from scipy.special import entr, gammaln

from skastro.inputs import as_array, column_names
from skastro.metrics.checks import order_columns
from skastro.search.exact import parts
from skastro.votes import VoteSchema, get_schema

__all__ = ["expected_information_gain"]

OUTCOMES = 50_000  # of a question; more take minutes per thousand galaxies
HELD = 1 << 22  # probabilities in memory at a time


def expected_information_gain(
    concentrations: Any, schema: str | VoteSchema | None = None, *, n_volunteers: int = 10, question: str | None = None
) -> np.ndarray:
    r"""Compute how much the votes on each galaxy would tell about which of several models is right.

    The models' predictions differ where the data so far do not settle them. What counts is not that votes are
    uncertain, which they also are where volunteers will never agree, but that the models disagree on them:

    .. math:: I = H\left[\frac{1}{M} \sum_m p(k \mid \alpha_m)\right] - \frac{1}{M} \sum_m H[p(k \mid \alpha_m)],

    where H is the entropy over all possible counts k, and p the Dirichlet-multinomial distribution.

    Parameters
    ----------
    concentrations : array-like of shape (n_models, n, n_answers)
        Predicted by each of at least two models, as by ``DirichletClassifier.predict_concentrations``. They may be
        fitted to bootstraps of the galaxies, with other seeds or to other embeddings.
    schema : str, VoteSchema or None, default=None
        The questions; None reads them off a table's columns ``question_answer``, and makes other columns the answers to
        one question.
    n_volunteers : int, default=10
        Number of volunteers who answer the first question. Later ones have as many as are expected to come to them,
        rounded.
    question : str, default=None
        The one question that counts; None sums over all.

    Returns
    -------
    ndarray of shape (n,), float64
        In nats. ``np.argsort(-gain)`` ranks the galaxies.

    Raises
    ------
    ValueError
        If there are less than two models, columns are not the schema's answers, a concentration is not above 0, the
        question is unknown, or so many volunteers can answer one in too many ways.

    References
    ----------
    Walmsley et al. (2020), "Galaxy Zoo: probabilistic morphology through Bayesian CNNs and active learning",
    `arXiv:1905.07424 <https://arxiv.org/abs/1905.07424>`_, section 4. Their votes are binomial; here they are as this
    package's models predict them.

    Examples
    --------
    >>> from skastro.search import expected_information_gain
    >>> one = [[50.0, 50.0], [90.0, 10.0], [1.0, 1.0]]                      # agreed: even; smooth; nobody knows
    >>> other = [[50.0, 50.0], [10.0, 90.0], [1.0, 1.0]]
    >>> expected_information_gain([one, other], n_volunteers=5).round(2)
    array([0.  , 0.66, 0.  ])
    """
    models = list(concentrations)
    table = next(filter(column_names, models), None)
    schema = _questions_of(table) if schema is None else get_schema(schema)
    alphas = _check(models, schema.columns if schema else column_names(table), schema, question, n_volunteers)
    if schema is None:
        return _gain(alphas, np.full(alphas.shape[1], n_volunteers))
    blocks = schema.by_question(alphas)
    means = np.concatenate([(block / block.sum(-1, keepdims=True)).mean(axis=0) for block in blocks.values()], axis=1)
    coming = np.rint(n_volunteers * schema.asked(means)).astype(np.int64)
    gains = {name: _gain(block, n) for (name, block), n in zip(blocks.items(), coming.T, strict=True)}
    return np.sum([*gains.values()], axis=0) if question is None else gains[question]


def _questions_of(table: Any) -> VoteSchema | None:
    """Read the questions off the names of a table's columns; None where these tell none."""
    try:
        return None if table is None else VoteSchema.from_columns(table)
    except ValueError:
        return None


def _check(
    models: list[Any], columns: list[Any], schema: VoteSchema | None, question: str | None, n_volunteers: int
) -> np.ndarray:
    ordered = [as_array(order_columns("concentrations", model, columns), "concentrations") for model in models]
    alphas = np.stack([np.asarray(model, dtype=np.float64) for model in ordered])
    if alphas.ndim != 3 or len(alphas) < 2:
        raise ValueError(
            "concentrations must be those of two or more models, (n_models, n, n_answers); their shape is "
            f"{alphas.shape}."
        )
    if not np.isfinite(alphas).all() or alphas.min(initial=1) <= 0:
        raise ValueError("concentrations must be above 0, and finite.")
    sizes = (alphas.shape[2],) if schema is None else schema.sizes
    if sum(sizes) != alphas.shape[2]:
        raise ValueError(f"concentrations must have {sum(sizes)} columns, the schema's answers; got {alphas.shape[2]}.")
    if question is not None and (schema is None or question not in schema.questions):
        raise ValueError(
            f"There is no question {question!r}; there are {list(schema.questions) if schema else 'none'}."
        )
    if n_volunteers < 1:
        raise ValueError(f"n_volunteers must be 1 or more; got {n_volunteers}.")
    if (ways := comb(n_volunteers + max(sizes) - 1, max(sizes) - 1)) > OUTCOMES:
        raise ValueError(
            f"{n_volunteers} volunteers can answer a question of {max(sizes)} answers in {ways:,} ways, more than "
            f"{OUTCOMES:,}: take fewer n_volunteers."
        )
    return alphas


def _gain(alphas: np.ndarray, volunteers: np.ndarray) -> np.ndarray:
    """Compute the gain of one question, answered by a number of volunteers of each galaxy's own."""
    gain = np.zeros(alphas.shape[1])
    for n in np.unique(volunteers[volunteers > 0]):
        rows = np.flatnonzero(volunteers == n)
        counts = _outcomes(int(n), alphas.shape[2])
        step = max(1, HELD // (len(alphas) * len(counts)))
        for some in parts(len(rows), step):
            p = _probabilities(alphas[:, rows[some]], counts)
            gain[rows[some]] = entr(p.mean(axis=0)).sum(axis=-1) - entr(p).sum(axis=-1).mean(axis=0)
    return np.maximum(gain, 0)  # but for rounding


@cache
def _outcomes(n: int, answers: int) -> np.ndarray:
    """List all ways in which n votes fall on some answers, (ways, answers)."""
    if answers == 1:
        return np.array([[n]])
    shorter = [np.pad(_outcomes(n - k, answers - 1), ((0, 0), (1, 0)), constant_values=k) for k in range(n + 1)]
    return np.concatenate(shorter)


def _probabilities(alphas: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute the Dirichlet-multinomial probability of all outcomes, (models, galaxies, ways)."""
    n, total = counts[0].sum(), alphas.sum(axis=-1, keepdims=True)
    votes = np.arange(n + 1)
    terms = gammaln(alphas[..., np.newaxis] + votes) - gammaln(alphas)[..., np.newaxis] - gammaln(votes + 1)
    answers = np.arange(counts.shape[1])
    log_p = sum(terms[..., answer, counts[:, answer]] for answer in answers)
    return np.exp(log_p + gammaln(total) + gammaln(n + 1) - gammaln(total + n))
