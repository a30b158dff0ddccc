"""Laws of the expected information gain."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import dirichlet_multinomial, entropy

from skastro.search import expected_information_gain
from skastro.votes import VoteSchema

RNG = np.random.default_rng(0)
SCHEMA = VoteSchema({"shape": ["smooth", "disc"], "arms": ["1", "2", "many"]}, {"arms": ("shape", "disc")})


def gain_by_hand(alphas, n):
    """As the paper has it, outcome by outcome."""
    outcomes = [counts for counts in product(range(n + 1), repeat=alphas.shape[1]) if sum(counts) == n]
    p = np.array([[dirichlet_multinomial.pmf(counts, alpha, n) for counts in outcomes] for alpha in alphas])
    return entropy(p.mean(axis=0)) - np.mean([entropy(row) for row in p])


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("answers", [2, 3])
def test_the_gain_is_that_of_the_paper(n, answers):
    alphas = RNG.gamma(2, 2, size=(3, 5, answers))
    expected = [gain_by_hand(alphas[:, row], n) for row in range(5)]
    assert_allclose(expected_information_gain(alphas, n_volunteers=n), expected, atol=1e-10)


def test_models_that_agree_are_told_nothing_and_more_volunteers_tell_more():
    one = RNG.gamma(2, 2, size=(4, 3))
    assert_allclose(expected_information_gain([one, one]), 0, atol=1e-10)
    other = RNG.gamma(2, 2, size=(4, 3))
    gains = [expected_information_gain([one, other], n_volunteers=n) for n in (1, 2, 5, 20)]
    assert (np.diff(gains, axis=0) > 0).all()
    assert np.max(gains) < np.log(2)  # which of two models is right, is one bit


def test_later_questions_have_those_volunteers_who_come_to_them():
    alphas = RNG.gamma(2, 2, size=(2, 6, 5))
    alphas[:, :, :2] = [[1.0, 1.0]]
    both = expected_information_gain(alphas, SCHEMA, n_volunteers=8)
    arms = expected_information_gain(alphas, SCHEMA, n_volunteers=8, question="arms")
    assert_allclose(arms, expected_information_gain(alphas[:, :, 2:], n_volunteers=4))
    assert_allclose(both, arms + expected_information_gain(alphas[:, :, :2], n_volunteers=8), atol=1e-12)
    alphas[:, :, :2] = [[1000.0, 1.0]]
    assert_array_equal(expected_information_gain(alphas, SCHEMA, n_volunteers=8, question="arms"), 0)


def test_columns_of_tables_are_found_by_name():
    alphas = RNG.gamma(2, 2, size=(2, 6, 5))
    tables = [pd.DataFrame(alpha, columns=SCHEMA.columns) for alpha in alphas]
    turned = [table[SCHEMA.columns[::-1]] for table in tables]
    assert_array_equal(expected_information_gain(turned, SCHEMA), expected_information_gain(alphas, SCHEMA))


WRONG = {
    "two or more models": lambda: expected_information_gain(np.ones((1, 4, 2))),
    "above 0": lambda: expected_information_gain(np.zeros((2, 4, 2))),
    "5 columns": lambda: expected_information_gain(np.ones((2, 4, 2)), SCHEMA),
    "no question 'bar'": lambda: expected_information_gain(np.ones((2, 4, 5)), SCHEMA, question="bar"),
    "there are none": lambda: expected_information_gain(np.ones((2, 4, 5)), question="bar"),
    "1 or more": lambda: expected_information_gain(np.ones((2, 4, 2)), n_volunteers=0),
    "take fewer": lambda: expected_information_gain(np.ones((2, 4, 8)), n_volunteers=40),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_refused_in_a_sentence(sentence):
    with pytest.raises(ValueError, match=sentence):
        WRONG[sentence]()


def test_questions_are_read_off_the_names_of_columns_in_any_order():
    columns = ["shape_smooth", "shape_disc", "bar_yes", "bar_no"]
    models = [pd.DataFrame(RNG.uniform(1, 20, (3, 4)), columns=columns) for _ in range(2)]
    expected = expected_information_gain(models, VoteSchema.from_columns(columns), n_volunteers=6)
    turned = [models[0].iloc[:, [0, 2, 1, 3]], models[1].iloc[:, ::-1]]
    assert_allclose(expected_information_gain(turned, n_volunteers=6), expected)
    assert_allclose(expected_information_gain([models[0].to_numpy(), models[1]], n_volunteers=6), expected)
    same = pd.DataFrame([[30.0, 2.0]], columns=["smooth", "disc"])
    assert_allclose(expected_information_gain([same, same[["disc", "smooth"]]]), 0, atol=1e-10)
