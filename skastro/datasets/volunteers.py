r"""Simulated volunteers, who answer questions about simulated galaxies.

    P(answer) = (1 − c) · P(answer | the galaxy, seen perfectly) + c / number of answers

The confusion c grows with redshift and faintness. Volunteers walk down the tree of a schema: only those who gave an
answer that leads to a question are asked it.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from skastro.datasets import galaxies as universe
from skastro.surveys import SURVEYS
from skastro.votes import VoteSchema

__all__ = ["cast_votes", "vote_probabilities"]

DESCR = """
The votes are simulated too: no person saw these galaxies. Each simulated volunteer answers at random, with the
probabilities in `vote_probabilities`: those that follow from the galaxy's shape (bulge, arms, bar, ring, axis ratio,
companion), mixed with pure guessing. The share of guessing grows with redshift and faintness, from 5 % for near and
bright galaxies to 50 % for far and faint ones. Volunteers are independent of each other and equally good. Each galaxy
is shown in one campaign, drawn at random; the questions of the others have zeros.

The six kinds are simpler than the sky. Every disc that is not seen edge-on has arms or a ring, and rings go with larger
bulges than arms do. So the answers to "simulated" give rings away, though no question asks for them.
"""


def vote_probabilities(galaxies: pd.DataFrame, schema: VoteSchema) -> pd.DataFrame:
    r"""Compute the probability of each answer from a volunteer who is asked.

    .. math:: p_a = (1 - c)\, t_a + c / k, \quad c = 0.05 + 0.45\, \sigma\bigl((r - 18) / 0.8 + (z - 0.1) / 0.05\bigr)

    with the probabilities t of the answers for a perfectly seen galaxy, the number k of answers, the logistic function
    σ, and the galaxy's redshift z and magnitude r in the r band.

    Parameters
    ----------
    galaxies : DataFrame of n rows
        Galaxies, as returned by `skastro.datasets.galaxies.population`.
    schema : VoteSchema
        Questions of the schema ``"simulated"`` or ``"gz_rings"``. The part of a question's name after a hyphen is the
        campaign: ``"bar-second"``.

    Returns
    -------
    DataFrame of shape (n, n_answers)
        Probabilities that sum to 1 over each question, including questions that nobody is asked.

    Raises
    ------
    ValueError
        If the schema has a question or answers that the simulated volunteers do not know.

    Examples
    --------
    >>> from skastro.datasets.galaxies import population
    >>> from skastro.datasets.volunteers import vote_probabilities
    >>> from skastro.votes import get_schema
    >>> vote_probabilities(population(2, seed=0), get_schema("gz_rings")).round(2)
       ring_yes  ring_no
    0      0.07     0.93
    1      0.95     0.05
    """
    columns, confusion = schema.columns, _confusion(galaxies)[:, np.newaxis]
    blocks = [
        (1 - confusion) * _truth(question, answers, galaxies) + confusion / len(answers)
        for question, answers in schema.questions.items()
    ]
    return pd.DataFrame(np.hstack(blocks), columns=columns, index=galaxies.index)


def cast_votes(
    probabilities: pd.DataFrame, schema: VoteSchema, n_volunteers: int | Sequence[int], seed: int
) -> pd.DataFrame:
    """Send volunteers down the tree of questions. Row i is the same for any number of rows.

    Parameters
    ----------
    probabilities : DataFrame of shape (n, n_answers)
        Probability of each answer, if asked; as returned by `vote_probabilities`.
    schema : VoteSchema
        Tree of questions. Each galaxy is shown in one of its campaigns.
    n_volunteers : int or tuple of two int
        Number of volunteers who see each galaxy; or the minimum and the maximum, all numbers between being equally
        likely.
    seed : int
        Random seed.

    Returns
    -------
    DataFrame of shape (n, n_answers), int64
        Number of volunteers who gave each answer.

    Raises
    ------
    ValueError
        If `n_volunteers` is not a number, or two in ascending order, from 0.
    """
    fewest, most = _limits(n_volunteers)
    # One generator per question, so that more rows do not shift the numbers drawn for the first rows.
    turnout, choice, *others = np.random.default_rng(seed).spawn(2 + schema.n_questions)
    campaigns = list(dict.fromkeys(_split(root)[1] for root in schema.roots))
    people = turnout.integers(fewest, most, size=len(probabilities), endpoint=True)
    campaign = choice.integers(len(campaigns), size=len(probabilities))
    votes = pd.DataFrame(0, index=probabilities.index, columns=schema.columns)
    shares = schema.by_question(probabilities)
    for (question, pairs), rng in zip(schema.parents.items(), others, strict=True):
        if pairs:
            asked = votes[[f"{parent}_{answer}" for parent, answer in pairs]].sum(axis=1).clip(upper=people).to_numpy()
        else:
            asked = people * (campaign == campaigns.index(_split(question)[1]))
        votes[shares[question].columns] = rng.multinomial(asked, shares[question].to_numpy())
    return votes


def _confusion(galaxies: pd.DataFrame) -> np.ndarray:
    """Return the fraction of the answers that are guessed."""
    r = SURVEYS["sdss"].select("r")
    flux = universe.fluxes(galaxies, np.array(r.wavelengths), np.array(r.extinction)).sum(axis=(0, 2))
    magnitude = 22.5 - 2.5 * np.log10(flux)
    return 0.05 + 0.45 * special.expit((magnitude - 18) / 0.8 + (galaxies["redshift"].to_numpy() - 0.1) / 0.05)


def _truth(question: str, answers: Sequence[str], galaxies: pd.DataFrame) -> np.ndarray:
    """Return the probabilities of the answers for a perfectly seen galaxy."""
    known, describe = _QUESTIONS[_split(question)[0]]
    truth = dict(zip(known.split(), describe(galaxies), strict=True))
    if set(answers) != set(truth):
        raise ValueError(f"Simulated volunteers answer {question!r} with {', '.join(truth)}; got {', '.join(answers)}.")
    return np.stack([truth[answer] for answer in answers], axis=1)


def _split(question: str) -> tuple[str, str]:
    """Split a name into the question and its campaign."""
    for name in _QUESTIONS:
        if question == name or question.startswith(name + "-"):
            return name, question.removeprefix(name)
    raise ValueError(f"Simulated volunteers cannot answer {question!r}; they know {', '.join(_QUESTIONS)}.")


def _limits(n_volunteers: int | Sequence[int]) -> tuple[int, int]:
    limits = np.atleast_1d(n_volunteers)
    if limits.dtype.kind not in "iu" or limits.shape not in {(1,), (2,)} or not 0 <= limits[0] <= limits[-1]:
        raise ValueError(f"n_volunteers must be a whole number or two in ascending order, from 0; got {n_volunteers}.")
    return limits[0], limits[-1]


def _either(yes: Any) -> list[np.ndarray]:
    yes = np.asarray(yes, dtype=np.float64)
    return [yes, 1 - yes]


def _graded(values: pd.Series, limits: Sequence[float], width: float) -> list[np.ndarray]:
    """Return the probabilities of values to lie below, between and above noisy limits."""
    above = [1.0, *(special.expit((values.to_numpy() - limit) / width) for limit in limits), 0.0]
    return [np.asarray(upper - lower) for upper, lower in pairwise(above)]


def _counted(values: pd.Series, numbers: Sequence[int]) -> list[np.ndarray]:
    """Return certainty where there is something to count, and equal probabilities where there is nothing."""
    return [np.where(values > 0, values == number, 1 / len(numbers)) for number in numbers]


# Each question that the simulation can answer, with its answers and the quantities that decide between them.
_QUESTIONS: dict[str, tuple[str, Callable[[pd.DataFrame], list[np.ndarray]]]] = {
    "smooth-or-featured": ("featured smooth", lambda g: _graded(g["bulge_fraction"], [0.5], 0.08)),
    "how-rounded": ("round in-between cigar", lambda g: _graded(g["ellipticity"], [0.25, 0.7], 0.05)),
    "disk-edge-on": ("no yes", lambda g: _graded(g["ellipticity"], [0.7], 0.05)),
    "has-spiral-arms": ("yes no", lambda g: _either(g["n_arms"] > 0)),
    "spiral-arm-count": ("1 2 3 4", lambda g: _counted(g["n_arms"], [1, 2, 3, 4])),
    "bar": ("yes no", lambda g: _either(g["bar"] > 0)),
    "bulge-size": ("small moderate dominant", lambda g: _graded(g["bulge_fraction"], [0.12, 0.3], 0.03)),
    "merging": ("yes no", lambda g: _either(g["ratio"] > 0)),
    "ring": ("yes no", lambda g: _either(g["ring"] > 0)),
}
