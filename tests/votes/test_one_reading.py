"""A table of votes means the same to whoever reads it."""

import numpy as np
import pandas as pd
import pytest

from skastro import DirichletClassifier, FineTuneClassifier, VoteEmbedder
from skastro.metrics import read_votes

RNG = np.random.default_rng(0)
COLUMNS = ["shape_smooth", "shape_disc", "bar_yes", "bar_no"]
VOTES = pd.DataFrame(RNG.integers(0, 9, (12, 4)), columns=COLUMNS)
IMAGES = RNG.normal(size=(12, 1, 32, 32))
QUESTIONS = {"shape": ["smooth", "disc"], "bar": ["yes", "no"]}
TINY = {"max_epochs": 1, "batch_size": 4, "random_state": 0}


def test_names_of_columns_tell_the_questions_to_all_who_read_votes():
    rows = RNG.normal(size=(12, 3))
    models = [
        DirichletClassifier().fit(rows, VOTES),
        VoteEmbedder("test_resnet", **TINY).fit(IMAGES, VOTES),
        FineTuneClassifier("test_resnet", head="dirichlet", **TINY).fit(IMAGES, VOTES),
    ]
    for schema in [read_votes(VOTES)[1], *(model.schema_ for model in models)]:
        assert dict(schema.questions) == QUESTIONS
    fractions = models[0].predict_proba(rows)
    assert fractions.columns.tolist() == models[0].classes_.tolist() == COLUMNS
    np.testing.assert_allclose(fractions.to_numpy().reshape(12, 2, 2).sum(axis=2), 1)


@pytest.mark.parametrize("columns", [["smooth", "disc", "star"], ["spiral_arms", "no_arms", "star"], [0, 1, 2]])
def test_columns_that_tell_no_questions_answer_one(columns):
    votes = pd.DataFrame(RNG.integers(0, 9, (12, 3)), columns=columns)
    model = DirichletClassifier().fit(RNG.normal(size=(12, 3)), votes)
    assert model.classes_.tolist() == [str(column) for column in columns]
    assert [*model.schema_.questions] == ["votes"]
