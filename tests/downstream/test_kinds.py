"""Every supervised estimator learns the same from data of every kind, and refuses targets that are missing."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from astropy.table import MaskedColumn
from estimators import tiny
from kinds import COLUMNS, TABLES, gap
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone

from skastro import DirichletClassifier, FineTuneClassifier, FineTuneRegressor, FlowPosterior, PhotoZRegressor
from skastro.downstream import RedshiftBins
from skastro.votes import VoteSchema

RNG = np.random.default_rng(0)
N = 16
ROWS = RNG.normal(size=(N, 3))
IMAGES = RNG.normal(size=(N, 1, 32, 32)).astype(np.float32)
Z = np.linspace(0.01, 0.39, N)
LABELS = np.array(["FRI", "FRII"])[np.arange(N) % 2]
SCHEMA = VoteSchema({"shape": ["smooth", "disc"], "bar": ["yes", "no"]}, {"bar": ("shape", "disc")})
DISC = RNG.integers(5, 20, N)
VOTES = dict(zip(SCHEMA.columns, [30 - DISC, DISC, DISC // 3, DISC - DISC // 3], strict=True))
DISORDERED = {name: VOTES[name] for name in SCHEMA.columns[::-1]}

REGRESSORS = {
    "values": (tiny(FineTuneRegressor, random_state=0), IMAGES),
    "redshift bins, images": (tiny(FineTuneRegressor, head=RedshiftBins(4), random_state=0), IMAGES),
    "redshift bins, rows": (PhotoZRegressor(n_bins=4), ROWS),
    "posterior": (tiny(FlowPosterior, random_state=0), ROWS),
}
CLASSIFIERS = {
    "softmax": (tiny(FineTuneClassifier, random_state=0), IMAGES),
    "labels as votes, images": (tiny(FineTuneClassifier, head="dirichlet", dropout=0.0, random_state=0), IMAGES),
    "labels as votes, rows": (DirichletClassifier(), ROWS),
}
OF_VOTES = {
    "votes, images": (tiny(FineTuneClassifier, head="dirichlet", schema=SCHEMA, random_state=0), IMAGES),
    "votes, rows": (DirichletClassifier(SCHEMA, tol=0.01), ROWS),
}
OF_ROWS = {"redshift bins": (PhotoZRegressor(n_bins=4), Z), "posterior": (REGRESSORS["posterior"][0], Z)} | {
    "labels": (DirichletClassifier(), LABELS)
}
# Labels of which the fourth is missing.
GAPS = {
    "None": lambda: [None if i == 3 else label for i, label in enumerate(LABELS)],
    "NaN": lambda: [np.nan if i == 3 else label for i, label in enumerate(LABELS.tolist())],
    "masked array": lambda: np.ma.masked_array(LABELS, gap(LABELS, 3)),
    "astropy": lambda: MaskedColumn(LABELS, mask=gap(LABELS, 3)),
    "pandas": lambda: pd.Series(LABELS, index=np.zeros(N, int)).mask(gap(LABELS, 3)),
    "categories": lambda: pd.Series(LABELS, dtype="category").mask(gap(LABELS, 3)),
    "polars": lambda: pl.Series(GAPS["None"]()),
}
each_column = pytest.mark.parametrize("kind", COLUMNS)
each_table = pytest.mark.parametrize("kind", TABLES)
each_regressor = pytest.mark.parametrize("name", REGRESSORS)
each_classifier = pytest.mark.parametrize("name", CLASSIFIERS)
refused = pytest.raises(ValueError, match=r"^y has 1 missing values, the first in row 3: leave such rows out\.$")


@pytest.fixture(scope="module")
def fitted():
    """Each estimator fitted to plain arrays."""
    targets = {**dict.fromkeys(REGRESSORS, Z), **dict.fromkeys(CLASSIFIERS, LABELS)}
    return {name: clone(model).fit(X, targets[name]) for name, (model, X) in (REGRESSORS | CLASSIFIERS).items()}


# Targets


@each_column
@each_regressor
def test_values_of_any_kind_are_refused_where_missing(name, kind, fitted):
    model, X = REGRESSORS[name]
    with refused:
        clone(model).fit(X, COLUMNS[kind](Z, gap(Z, 3)))
    with refused:
        fitted[name].score(X, COLUMNS[kind](Z, gap(Z, 3)))
    assert fitted[name].score(X, COLUMNS[kind](Z, gap(Z, -1))) == pytest.approx(fitted[name].score(X, Z))


@each_regressor
@pytest.mark.parametrize("kind", ["masked array", "polars", "pandas, index in disorder"])
def test_values_of_any_kind_are_learned(name, kind, fitted):
    model, X = REGRESSORS[name]
    found = clone(model).fit(X, COLUMNS[kind](Z, gap(Z, -1)))
    assert_array_equal(found.predict(X), fitted[name].predict(X))


@each_classifier
@pytest.mark.parametrize("kind", GAPS)
def test_labels_of_any_kind_are_refused_where_missing(name, kind, fitted):
    model, X = CLASSIFIERS[name]
    with refused:
        clone(model).fit(X, GAPS[kind]())
    with refused:
        fitted[name].score(X, GAPS[kind]())


@each_classifier
@pytest.mark.parametrize("kind", [np.ma.masked_array, pl.Series, lambda y: pd.Series(y, index=N * [0]), list])
def test_labels_of_any_kind_are_learned(name, kind, fitted):
    model, X = CLASSIFIERS[name]
    found = clone(model).fit(X, kind(LABELS))
    assert_array_equal(found.classes_, ["FRI", "FRII"])
    assert_array_equal(found.predict_proba(X), fitted[name].predict_proba(X))
    assert found.score(X, kind(LABELS)) == fitted[name].score(X, LABELS)


@each_column
@pytest.mark.parametrize("name", ["softmax", "labels as votes, rows", "values", "redshift bins, images"])
def test_weights_are_refused_where_missing(name, kind):
    model, X = (REGRESSORS | CLASSIFIERS)[name]
    y = Z if name in REGRESSORS else LABELS
    with pytest.raises(ValueError, match="sample_weight has 1 missing values, the first in row 3"):
        clone(model).fit(X, y, sample_weight=COLUMNS[kind](np.ones(N), gap(Z, 3)))


def test_float32_weights_weigh():
    weight = RNG.integers(1, 4, N)
    single, double = (
        DirichletClassifier().fit(ROWS, LABELS, weight.astype(t)).coefs_[0] for t in (np.float32, np.float64)
    )
    assert_array_equal(single, double)


# Tables


@each_table
@pytest.mark.parametrize("name", OF_VOTES)
def test_votes_in_any_table_are_found_by_name(name, kind):
    model, X = OF_VOTES[name]
    expected = clone(model).fit(X, np.column_stack(list(VOTES.values())))
    found = clone(model).fit(X, TABLES[kind](DISORDERED))
    assert_array_equal(np.asarray(found.predict_proba(X)), expected.predict_proba(X))
    assert isinstance(expected.predict_proba(X), np.ndarray)
    for answers in (found.predict_proba(X), found.predict_concentrations(X)):
        assert list(answers.columns) == SCHEMA.columns
    assert list(found.predict(X).columns) == list(SCHEMA.questions)
    score = expected.score(X, np.column_stack(list(VOTES.values())))
    assert expected.score(X, TABLES[kind](DISORDERED)) == found.score(X, TABLES[kind](VOTES)) == score


@each_table
def test_without_a_schema_votes_have_the_names_of_their_columns(kind):
    model = DirichletClassifier().fit(ROWS, TABLES[kind]({"ring": DISC, "none": 30 - DISC}))
    assert_array_equal(model.classes_, ["ring", "none"])
    assert_array_equal(model.count_votes(TABLES[kind]({"none": 30 - DISC, "ring": DISC})), np.c_[DISC, 30 - DISC])


@each_table
def test_soft_labels_in_any_table_name_the_classes(kind):
    model, X = CLASSIFIERS["softmax"]
    expected = clone(model).fit(X, np.c_[DISC, 30 - DISC] / 30)
    found = clone(model).fit(X, TABLES[kind]({"FRI": DISC / 30, "FRII": 1 - DISC / 30}))
    assert_array_equal(found.classes_, ["FRI", "FRII"])
    assert_allclose(found.predict_proba(X), expected.predict_proba(X), rtol=1e-5)


@each_table
@pytest.mark.parametrize("name", ["values", "posterior"])
def test_several_values_in_a_table_are_found_by_name(name, kind):
    model, X = REGRESSORS[name]
    mass = 10 + Z**2
    found, expected = (
        clone(model).fit(X, y) for y in (TABLES[kind]({"z": Z, "mass": mass}), np.column_stack([Z, mass]))
    )
    assert_array_equal(found.predict(X), expected.predict(X))
    score = pytest.approx(expected.score(X, np.column_stack([Z, mass])))
    assert found.score(X, TABLES[kind]({"mass": mass, "z": Z})) == score
    with pytest.raises(ValueError, match="y must have the columns z, mass; got z, age"):
        found.score(X, TABLES[kind]({"z": Z, "age": mass}))


@each_table
@pytest.mark.parametrize("name", OF_ROWS)
def test_rows_in_any_table_are_features_with_names(name, kind):
    model, y = OF_ROWS[name]
    table = TABLES[kind]({"u-g": ROWS[:, 0], "g-r": ROWS[:, 1], "r-i": ROWS[:, 2]})
    expected, found = clone(model).fit(ROWS, y), clone(model).fit(table, y)
    assert_array_equal(found.feature_names_in_, ["u-g", "g-r", "r-i"])
    assert_array_equal(found.predict(table), expected.predict(ROWS))
    with pytest.raises(ValueError, match="feature names should match"):
        found.predict(TABLES[kind]({"g-r": ROWS[:, 1], "u-g": ROWS[:, 0], "r-i": ROWS[:, 2]}))


@pytest.mark.parametrize("name", OF_ROWS)
@pytest.mark.parametrize("hide", [np.ma.masked_less, lambda X, low: pd.DataFrame(X).convert_dtypes().mask(low > X)])
def test_features_that_are_missing_are_refused(name, hide):
    model, y = OF_ROWS[name]
    with pytest.raises(ValueError, match="Input X contains NaN"):
        clone(model).fit(hide(ROWS, -1.0), y)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        clone(model).fit(ROWS, y).predict(hide(ROWS, -1.0))


# What scikit-learn is told for the whole process


@pytest.mark.parametrize("output", ["pandas", "polars"])
@pytest.mark.parametrize("name", OF_ROWS)
def test_the_output_of_transformers_is_of_no_concern(name, output):
    model, y = OF_ROWS[name]
    expected = clone(model).fit(ROWS, y)
    with config_context(transform_output=output):
        found = clone(model).fit(ROWS, y)
        assert_array_equal(found.predict(ROWS), expected.predict(ROWS))
        assert found.score(ROWS, y) == expected.score(ROWS, y)
        assert_array_equal(expected.predict(ROWS), found.predict(ROWS))


def test_tensors_are_read_while_arrays_of_any_library_are_dispatched():
    code = """
import numpy as np, sklearn, torch
from skastro import DirichletClassifier, FlowPosterior, PhotoZRegressor, label_sweep
from skastro.metrics import photoz_bias
sklearn.set_config(array_api_dispatch=True)
X, z = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.linspace(0.01, 0.39, 20)
flow = FlowPosterior(1, n_transforms=1, hidden_dim=8, max_epochs=1, random_state=0)
for model, y in ((flow, z), (PhotoZRegressor(n_bins=4), z), (DirichletClassifier(), torch.arange(20) % 2)):
    fitted = model.fit(X, y)
    found, score = fitted.predict(X), fitted.score(X, y)
    again = model.fit(X.numpy(), y.numpy())
    np.testing.assert_allclose(found, again.predict(X.numpy()), rtol=1e-6)
    np.testing.assert_allclose(score, again.score(X.numpy(), y.numpy()))
for rows, target in ((X, y), (X.numpy(), y.numpy())):
    sweep = label_sweep({"votes": DirichletClassifier()}, rows, target, label_counts=[8], cv=2, random_state=0)
    print(sweep["score"].tolist())
assert photoz_bias(z, z) == 0
"""
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    told = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True)
    of_tensors, of_arrays = told.stdout.splitlines()
    assert of_tensors == of_arrays
