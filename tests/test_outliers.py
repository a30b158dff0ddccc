"""What is far outside, and what is told of it."""

import warnings

import numpy as np
import pytest
from estimators import tiny

from skastro import FineTuneRegressor, FlowPosterior
from skastro.outliers import limits, warn_of_far_targets


def test_limits_are_ten_times_what_95_percent_reach():
    usual, limit = limits(np.column_stack([np.arange(101.0), np.zeros(101)]))
    assert (usual.tolist(), limit.tolist()) == ([95, 0], [950, np.inf])


@pytest.mark.parametrize("outputs", [(), (1,), (3,)])
def test_targets_far_outside_are_told_by_count_and_first_row(outputs):
    y = np.random.default_rng(0).normal(size=(50, *outputs))
    with warnings.catch_warnings(action="error"):
        warn_of_far_targets(y)
    y[[8, 20]] = -9999.0
    with pytest.warns(
        UserWarning, match="2 of 50 targets lie more than 10 times .* the first is in row 8: is it a mark"
    ):
        warn_of_far_targets(y)


@pytest.mark.parametrize("cls", [FineTuneRegressor, FlowPosterior])
def test_regressors_tell_of_a_mark_for_missing(cls):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 16)), rng.uniform(size=40)
    y[5] = -9999.0
    with pytest.warns(UserWarning, match="1 of 40 targets"):
        tiny(cls, random_state=0).fit(X, y)
