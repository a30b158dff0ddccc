"""The decision tree of a campaign: questions, their answers, and the conditions under which each is asked."""

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from scipy import special
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import UNUSED

from skastro._warning import warn
from skastro.inputs import as_array, as_table

__all__ = ["VoteSchema"]

# In Galaxy Zoo 2, 0.6 % of the rows have more votes for a question than led to it.
SWOLLEN, FEWEST = 0.1, 20  # share of the rows that were asked, and how many these have to be

Pair = tuple[str, str]
Branch = tuple[str, list["Branch"]]


class VoteSchema(BaseEstimator):
    r"""Decision tree of a campaign: questions to volunteers about an object, and when each is asked.

    Votes are counts, with a row per object and a column per answer, named ``question_answer``. Counts are zero for a
    question that was not asked, and for all questions about an object that was not shown to anyone.

    Parameters
    ----------
    questions : mapping of str to sequence of str
        The answers to each question, in the order of the columns.
    dependencies : mapping of str to tuple or list of tuple, default=None
        Answers after which a question is asked: ``(parent, answer)``, or a list of such pairs, any one of which
        suffices. A question that is not among the keys is a root, asked first. None means that all questions are roots.

    Attributes
    ----------
    columns : list of str
        Names of the columns, ``question_answer``.
    sizes : tuple of int
        Number of answers to each question.
    n_questions : int
        Number of questions.
    n_answers : int
        Number of answers to all questions, equal to the number of columns.
    parents : dict of str to list of tuple
        The pairs ``(parent, answer)`` that lead to each question, none for a root. Parents precede the questions that
        depend on them.
    roots : list of str
        Questions that are asked of every object shown.

    See Also
    --------
    skastro.votes.get_schema : Return the schema of a Galaxy Zoo campaign by name.

    Notes
    -----
    The constructor only stores its arguments. All methods first call `check`, which raises an error for a malformed
    schema.

    Schemas with no common question can be added: ``first + second`` has the columns of the first, then those of the
    second.
    An object of one campaign has zeros in the other's columns.

    References
    ----------
    Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning", `arXiv:2206.11927
    <https://arxiv.org/abs/2206.11927>`_, section 3.1: one row of counts for all campaigns, with zeros for the questions
    of the others.

    Examples
    --------
    >>> from skastro import VoteSchema
    >>> schema = VoteSchema(
    ...     {"shape": ["smooth", "featured"], "bar": ["yes", "no"], "merging": ["yes", "no"]},
    ...     {"bar": ("shape", "featured")},
    ... )
    >>> schema
    VoteSchema of 3 questions with 6 answers
    shape: smooth, featured
      bar, if featured: yes, no
    merging: yes, no
    >>> schema.columns
    ['shape_smooth', 'shape_featured', 'bar_yes', 'bar_no', 'merging_yes', 'merging_no']
    >>> votes = [[2, 8, 6, 2, 0, 10], [0, 0, 0, 0, 0, 0]]
    >>> schema.fractions(votes)
    array([[0.2 , 0.8 , 0.75, 0.25, 0.  , 1.  ],
           [ nan,  nan,  nan,  nan,  nan,  nan]])
    """

    # `split` is not a method that routes metadata here.
    __metadata_request__split: ClassVar[dict[str, str]] = {"values": UNUSED}

    def __init__(
        self,
        questions: Mapping[str, Sequence[str]],
        dependencies: Mapping[str, Pair | Sequence[Pair]] | None = None,
    ) -> None:
        self.questions = questions
        self.dependencies = dependencies

    @classmethod
    def from_columns(cls, columns: Any, dependencies: Mapping[str, Pair | Sequence[Pair]] | None = None) -> Self:
        """Create a schema from the names of columns.

        Parameters
        ----------
        columns : iterable of str, or table
            Names ``question_answer``, or a table with such columns and no others. Each is split at its last underscore,
            so questions may contain underscores and answers may not. For answers with underscores, use the constructor.
        dependencies : mapping of str to tuple or list of tuple, default=None
            As in the constructor: names alone do not show when a question is asked.

        Returns
        -------
        VoteSchema
            Schema with these columns, in this order; those of a table, which are found by name, by question.

        Raises
        ------
        ValueError
            If a name has no underscore, if named columns of a question are not adjacent, or if the schema is malformed:
            for an answer with an underscore, the part before it would be a question with a single answer.

        Examples
        --------
        >>> from skastro import VoteSchema
        >>> VoteSchema.from_columns(["has_arms_yes", "has_arms_no"]).questions
        {'has_arms': ['yes', 'no']}
        """
        table = as_table(columns)
        names = list(columns if table is None else table.columns)
        if plain := [name for name in names if not isinstance(name, str) or "_" not in name]:
            raise ValueError(f"columns must be named question_answer; {plain[0]!r} has no underscore.")
        questions: dict[str, list[str]] = {}
        for name in names:
            question, _, answer = name.rpartition("_")
            questions.setdefault(question, []).append(answer)
        if single := [question for question, answers in questions.items() if len(answers) < 2]:
            raise ValueError(
                f"Question {single[0]!r} has one answer, {questions[single[0]][0]!r}: names are split at the last "
                "underscore. Give VoteSchema(questions=...) where answers hold underscores."
            )
        schema = cls(questions, dependencies)
        schema.check()
        if table is None and schema.columns != names:
            raise ValueError("The columns of a question must stand side by side.")
        return schema

    @property
    def columns(self) -> list[str]:
        """Names of the columns, ``question_answer``."""
        self.check()
        return self._columns()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of answers to each question."""
        self.check()
        return tuple(len(answers) for answers in self.questions.values())

    @property
    def n_questions(self) -> int:
        """Number of questions."""
        return len(self.sizes)

    @property
    def n_answers(self) -> int:
        """Number of answers to all questions."""
        return sum(self.sizes)

    @property
    def parents(self) -> dict[str, list[Pair]]:
        """The pairs that lead to each question, parents first."""
        self.check()
        return self._parents()

    @property
    def roots(self) -> list[str]:
        """Questions that are asked of every object shown."""
        parents = self.parents
        return [question for question in self.questions if not parents[question]]

    def check(self) -> None:
        """Raise an error if the schema is malformed.

        Raises
        ------
        ValueError
            If there is no question, a question has fewer than two answers or one of them twice, two columns have the
            same name, a dependency is for an unknown question or on an unknown answer, or questions depend on each
            other.
        """
        _check_questions(self.questions)
        if twice := _repeated(self._columns()):
            raise ValueError(f"Two answers have the same column name, {twice!r}.")
        _check_dependencies(self.questions, self.dependencies)
        try:
            self._parents()
        except CycleError as error:
            raise ValueError(f"Questions depend on each other in a circle: {' → '.join(error.args[1])}.") from None

    def validate(self, votes: Any, n: int | None = None) -> np.ndarray:
        """Convert a table of votes to an array of counts, and check it.

        Parameters
        ----------
        votes : array-like or table of shape (n, n_answers)
            Counts. The columns of a table (of pandas, polars, pyarrow, astropy or a structured array) are found by
            name, in any order; those of an array are in the schema's order.
        n : int, default=None
            Expected number of objects; None accepts any number of rows.

        Returns
        -------
        ndarray of shape (n, n_answers), int64
            The counts, in the schema's order.

        Raises
        ------
        ValueError
            If columns are missing or unknown, the shape is wrong, or a count is NaN, infinite, negative or fractional.

        Warns
        -----
        UserWarning
            If questions have votes where none of the answers that lead to them has any: one warning, with their number.
            Or if a question has more votes than the answers that lead to it, in more than a tenth of the rows.

        Examples
        --------
        >>> from skastro import VoteSchema
        >>> schema = VoteSchema({"bar": ["yes", "no"]})
        >>> schema.validate([[3.0, 7.0]])
        array([[3, 7]])
        >>> schema.validate([[0.3, 0.7]])
        Traceback (most recent call last):
        ...
        ValueError: votes must be whole numbers; 2 of 2 are not, the first in row 0, column 'bar_yes'.
        """
        counts = self._counts(votes, n)
        self._warn_of_mismatch(counts)
        return counts

    def totals(self, votes: Any) -> np.ndarray | pd.DataFrame:
        """Count the votes for each question.

        Parameters
        ----------
        votes : array-like or table of shape (n, n_answers)
            Counts, as in `validate`.

        Returns
        -------
        ndarray or DataFrame of shape (n, n_questions), int64
            Number of volunteers who answered; a DataFrame if votes are a table, with the index of pandas.
        """
        return _as_given(self._totals(self._counts(votes)), votes, list(self.questions))

    def fractions(self, votes: Any) -> np.ndarray | pd.DataFrame:
        """Compute the fraction of the votes for each question that each answer received.

        Parameters
        ----------
        votes : array-like or table of shape (n, n_answers)
            Counts, as in `validate`.

        Returns
        -------
        ndarray or DataFrame of shape (n, n_answers), float64
            Fractions that sum to 1 over each question; NaN where nobody was asked.
        """
        return _as_given(self._fractions(self._counts(votes)), votes, self.columns)

    def entropy(self, votes: Any) -> np.ndarray | pd.DataFrame:
        r"""Compute the entropy of the votes for each question, a measure of disagreement.

        .. math:: H_q = -\sum_{a \in q} f_a \ln f_a

        Parameters
        ----------
        votes : array-like or table of shape (n, n_answers)
            Counts, as in `validate`.

        Returns
        -------
        ndarray or DataFrame of shape (n, n_questions), float64
            Entropy in nats: 0 if all agree, the logarithm of the number of answers if votes are spread evenly; NaN
            where nobody was asked.
        """
        terms = special.entr(self._fractions(self._counts(votes)))
        return _as_given(np.add.reduceat(terms, self._starts(), axis=1), votes, list(self.questions))

    def labeled(self, votes: Any) -> np.ndarray:
        """Return the mask of objects that have any vote.

        Parameters
        ----------
        votes : array-like or table of shape (n, n_answers)
            Counts, as in `validate`.

        Returns
        -------
        ndarray of shape (n,), bool
            Mask of rows, for images as well as votes.
        """
        return self._counts(votes).sum(axis=1) > 0

    def asked(self, fractions: Any) -> np.ndarray | pd.DataFrame:
        r"""Compute the probability that a volunteer is asked each question.

        Roots are always asked; other questions if one of the answers that lead to them is given:

        .. math:: P(q) = \min\Bigl(1, \sum_{(p, a) \to q} P(p)\, f_{p, a}\Bigr)

        Parameters
        ----------
        fractions : array-like or table of shape (n, n_answers)
            Observed or predicted fractions of each question; what is missing counts as 0.

        Returns
        -------
        ndarray or DataFrame of shape (n, n_questions), float64
            Probabilities, given that the object is shown; a DataFrame if fractions are a table.

        Raises
        ------
        ValueError
            If columns are missing or unknown, the shape is wrong, or a fraction is not between 0 and 1.

        Notes
        -----
        The sum is exact if no volunteer can give two of the answers that lead to a question, as with answers to one
        question or in branches that exclude each other. Otherwise it counts some volunteers twice, and P is an upper
        bound.

        References
        ----------
        Walmsley et al. (2023), "Galaxy Zoo DESI": its catalog lists the proportion of volunteers asked beside each
        predicted fraction.

        Examples
        --------
        >>> from skastro import VoteSchema
        >>> schema = VoteSchema({"shape": ["smooth", "disc"], "bar": ["yes", "no"]}, {"bar": ("shape", "disc")})
        >>> schema.asked([[0.2, 0.8, 0.75, 0.25]])
        array([[1. , 0.8]])
        """
        shares = np.nan_to_num(self._table(fractions, "fractions"))
        _refuse((shares < 0) | (shares > 1 + 1e-6), "fractions must lie between 0 and 1", self.columns)
        share = dict(zip(self.columns, shares.T, strict=True))
        probability: dict[str, np.ndarray] = {}
        for question, pairs in self.parents.items():
            terms = [probability[parent] * share[f"{parent}_{answer}"] for parent, answer in pairs]
            probability[question] = np.minimum(sum(terms), 1) if terms else np.ones(len(shares))
        columns = list(self.questions)
        return _as_given(np.stack([probability[question] for question in columns], axis=1), fractions, columns)

    def by_question(self, values: Any) -> dict[str, Any]:
        """Split a table with a column per answer into one block per question.

        Parameters
        ----------
        values : table, array or tensor of shape (..., n_answers)
            Votes, fractions or other values with a column per answer.

        Returns
        -------
        dict of str to DataFrame, array or tensor
            Blocks by question; views, if slices of `values` are.

        Raises
        ------
        ValueError
            If columns are missing or unknown, or their number is wrong.
        """
        table, shape = as_table(values), np.shape(values)
        if table is not None:
            values = self._named(table, "values").iloc
        elif not shape or shape[-1] != self.n_answers:
            raise ValueError(f"values must have {self.n_answers} columns; the shape is {tuple(shape)}.")
        starts = self._starts()
        blocks = [slice(start, start + size) for start, size in zip(starts, self.sizes, strict=True)]
        return {question: values[..., block] for question, block in zip(self.questions, blocks, strict=True)}

    def __add__(self, other: "VoteSchema") -> "VoteSchema":
        if not isinstance(other, VoteSchema):
            return NotImplemented
        self.check()
        other.check()
        if shared := [question for question in self.questions if question in other.questions]:
            raise ValueError(f"Schemas that are added must not share a question; both have {shared[0]!r}.")
        dependencies = {**(self.dependencies or {}), **(other.dependencies or {})}
        return VoteSchema({**self.questions, **other.questions}, dependencies)

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        try:
            return "\n".join([self._title(), *_indented(self._tree())])
        except ValueError:  # malformed: shown as given
            return super().__repr__(N_CHAR_MAX)

    def _repr_html_(self) -> str:
        try:
            return _unfolding(self._title(), self._tree())
        except ValueError:
            return f"<pre>{html.escape(repr(self))}</pre>"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def __getstate__(self) -> dict[str, Any]:
        # As pairs: joblib.hash, and so Pipeline(memory=), ignores the order of a dictionary, which here is the order of
        # the columns.
        return super().__getstate__() | {"questions": list(self.questions.items())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state | {"questions": dict(state["questions"])})

    def _columns(self) -> list[str]:
        return [f"{question}_{answer}" for question, answers in self.questions.items() for answer in answers]

    def _parents(self) -> dict[str, list[Pair]]:
        given = self.dependencies or {}
        pairs = {question: _pairs(given.get(question, [])) for question in self.questions}
        graph = {question: [parent for parent, _ in pairs[question]] for question in pairs}
        return {question: pairs[question] for question in TopologicalSorter(graph).static_order()}

    def _title(self) -> str:
        return f"VoteSchema of {self.n_questions} questions with {self.n_answers} answers"

    def _tree(self, above: str | None = None) -> list[Branch]:
        """Return the questions below one, each under the first question that leads to it."""
        parents = self._parents()
        first = {question: pairs[0][0] if pairs else None for question, pairs in parents.items()}
        below = [question for question in self.questions if first[question] == above]
        return [(self._label(question, parents[question], above), self._tree(question)) for question in below]

    def _label(self, question: str, pairs: list[Pair], above: str | None) -> str:
        causes = " or ".join(answer if parent == above else f"{parent} = {answer}" for parent, answer in pairs)
        return f"{question}{causes and f', if {causes}'}: {', '.join(self.questions[question])}"

    def _starts(self) -> np.ndarray:
        """Return the number of the first column of each question."""
        return np.cumsum([0, *self.sizes[:-1]])

    def _named(self, frame: pd.DataFrame, name: str) -> pd.DataFrame:
        """Return the columns in the schema's order."""
        columns = self.columns
        missing = [column for column in columns if column not in frame.columns]
        extra = [column for column in frame.columns if column not in set(columns)]
        if missing or extra:
            lists = [f"{what} {_listed(these)}" for what, these in (("without", missing), ("with", extra)) if these]
            raise ValueError(f"{name} must have the schema's columns; they came {' and '.join(lists)}.")
        if twice := _repeated(frame.columns):
            raise ValueError(f"{name} has the column {twice!r} twice.")
        return frame[columns]

    def _table(self, values: Any, name: str) -> np.ndarray:
        """Check numbers with a column per answer, NaN allowed."""
        table = as_table(values)
        values = values if table is None else self._named(table, name)
        try:
            array = np.asarray(as_array(values, name), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be a table of numbers: {error}.") from None
        if array.ndim != 2 or array.shape[1] != self.n_answers:
            raise ValueError(
                f"{name} must have {self.n_answers} columns, one per answer of the schema; the shape is {array.shape}."
            )
        return array

    def _counts(self, votes: Any, n: int | None = None) -> np.ndarray:
        counts = self._table(votes, "votes")
        if n is not None and len(counts) != n:
            raise ValueError(f"votes must have a row for each of the {n} objects; they have {len(counts)} rows.")
        _refuse(~np.isfinite(counts), "votes must be finite, and zero where nobody was asked", self.columns)
        _refuse(counts < 0, "votes must be at least 0", self.columns)
        _refuse(counts != np.floor(counts), "votes must be whole numbers", self.columns)
        return counts.astype(np.int64)

    def _totals(self, counts: np.ndarray) -> np.ndarray:
        return np.add.reduceat(counts, self._starts(), axis=1)

    def _fractions(self, counts: np.ndarray) -> np.ndarray:
        totals = np.repeat(self._totals(counts), self.sizes, axis=1)
        return np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)

    def _warn_of_mismatch(self, counts: np.ndarray) -> None:
        """Warn of questions with votes, or with more of them, than the answers that lead to them."""
        column, total = (
            dict(zip(names, values.T, strict=True))
            for names, values in ((self.columns, counts), (self.questions, self._totals(counts)))
        )
        orphans, swollen = {}, {}
        for question, pairs in self.parents.items():
            if not pairs:
                continue
            led, asked = sum(column[f"{parent}_{answer}"] for parent, answer in pairs), total[question] > 0
            if len(rows := np.flatnonzero(asked & (led == 0))):
                orphans[question] = rows
            if asked.sum() >= FEWEST and np.mean(total[question][asked] > led[asked]) > SWOLLEN:
                swollen[question] = np.flatnonzero(total[question] > led)
        if orphans:
            question, rows = next(iter(orphans.items()))
            warn(
                f"{sum(map(len, orphans.values()))} times a question has votes though none of the answers that lead to "
                f"it has any; the first is {question!r} in row {rows[0]}. Do dependencies and columns match?"
            )
        elif swollen:
            question, rows = next(iter(swollen.items()))
            warn(
                f"{question!r} has more votes than the answers that lead to it in {len(rows)} rows, the first is row "
                f"{rows[0]}. Do dependencies and columns match?"
            )


def _indented(tree: list[Branch], depth: int = 0) -> Iterator[str]:
    for label, below in tree:
        yield "  " * depth + label
        yield from _indented(below, depth + 1)


def _unfolding(label: str, tree: list[Branch]) -> str:
    """Return the HTML of a tree with branches that open and close."""
    if not tree:
        return html.escape(label)
    items = "".join(f"<li>{_unfolding(*branch)}</li>" for branch in tree)
    return f"<details open><summary>{html.escape(label)}</summary><ul>{items}</ul></details>"


def _pairs(given: Any) -> list[Pair]:
    """Return one pair or several as a list."""
    return [(parent, answer) for parent, answer in ([given] if _is_pair(given) else given)]


def _check_questions(questions: Any) -> None:
    if not isinstance(questions, Mapping) or not questions:
        raise ValueError(f"questions must be a mapping from at least one question to its answers; got {questions!r}.")
    for question, answers in questions.items():
        names = [] if isinstance(answers, str) or not isinstance(answers, Iterable) else list(answers)
        if not all(isinstance(name, str) for name in [question, *names]):
            raise ValueError(f"Questions and answers must be strings; got {question!r} with {answers!r}.")
        if len(names) < 2:
            raise ValueError(f"Question {question!r} must have a list of at least two answers; got {answers!r}.")
        if twice := _repeated(names):
            raise ValueError(f"Question {question!r} has the answer {twice!r} twice.")


def _check_dependencies(questions: Mapping[str, Sequence[str]], dependencies: Any) -> None:
    if dependencies is not None and not isinstance(dependencies, Mapping):
        raise ValueError(f"dependencies must be a mapping from questions to (parent, answer); got {dependencies!r}.")
    for question, given in (dependencies or {}).items():
        if question not in questions:
            raise ValueError(f"dependencies has {question!r}, which is not a question.")
        if not (_is_pair(given) or (isinstance(given, list | tuple) and given and all(map(_is_pair, given)))):
            raise ValueError(
                f"The dependency of {question!r} must be (parent, answer) or a list of them; got {given!r}."
            )
        for parent, answer in _pairs(given):
            if parent not in questions:
                raise ValueError(f"Question {question!r} depends on {parent!r}, which is not a question.")
            if answer not in questions[parent]:
                raise ValueError(f"Question {question!r} depends on {answer!r}, which is not an answer to {parent!r}.")


def _is_pair(given: Any) -> bool:
    return isinstance(given, list | tuple) and len(given) == 2 and all(isinstance(name, str) for name in given)


def _repeated(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _listed(names: Sequence[Any]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(str, names[:3])) + more


def _refuse(bad: np.ndarray, rule: str, columns: Sequence[str]) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{rule}; {bad.sum()} of {bad.size} are not, the first in row {row}, column {columns[column]!r}."
        )


def _as_given(values: np.ndarray, given: Any, columns: Sequence[str]) -> np.ndarray | pd.DataFrame:
    """Return a DataFrame for a table, with its index if it has one, an array for everything else."""
    table = as_table(given)
    return values if table is None else pd.DataFrame(values, index=table.index, columns=columns)
