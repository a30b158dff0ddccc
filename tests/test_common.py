"""scikit-learn's own checks on every public estimator, with no failure excused, and what else is asked of all."""

import numpy as np
import pytest
from estimators import TINY
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.utils.estimator_checks import check_estimator

from skastro import AstroCLIPEmbedder, HybridBYOLEmbedder, Training, VoteEmbedder, load, save


# The checks feed constant rows, targets that are no redshifts, and no votes.
@pytest.mark.filterwarnings(
    "ignore:.*images are constant",
    "ignore:.*redshifts lie outside",
    "ignore:lbfgs failed to converge",
    "ignore:No image has a vote",
)
@pytest.mark.parametrize("name", TINY)
def test_check_estimator(name):
    results = check_estimator(TINY[name], on_skip=None, on_fail=None)
    passed = [row["check_name"] for row in results if row["status"] == "passed"]
    others = {row["check_name"]: row["exception"] for row in results if row["status"] != "passed"}
    # scikit-learn skips this one itself where the environment has not switched on SciPy's array API.
    others.pop("check_array_api_input", None)
    assert not others
    assert len(passed) >= 40


X = np.random.default_rng(0).normal(size=(20, 16))


def fit(name, **params):
    """Fit a tiny estimator to a table."""
    redshifts = np.random.default_rng(0).uniform(0.01, 0.39, 20)
    model = clone(TINY[name]).set_params(**params)
    if "random_state" in model.get_params():
        model.set_params(random_state=0)
    labels = np.arange(20) % 2
    if isinstance(model, AstroCLIPEmbedder):
        model.fit(X, X)
    elif isinstance(model, HybridBYOLEmbedder):
        model.fit(X, votes=labels)
    else:
        model.fit(X, labels if is_classifier(model) or isinstance(model, VoteEmbedder) else redshifts)
    return model


def answers(model):
    """Ask for all that a model answers, as arrays."""
    known = [method for method in ("transform", "predict", "kneighbors") if hasattr(model, method)]
    return [np.asarray(getattr(model, method)(X)) for method in known]


@pytest.mark.parametrize("name", [name for name in TINY if "UMAP" not in name])  # which compiles for many seconds
def test_tables_asked_for_everywhere_change_no_answer(name, tmp_path):
    plain = answers(fit(name))
    with config_context(transform_output="pandas"):
        model = fit(name)
        told = answers(model)
        save(model, tmp_path / "model.skastro")
    assert type(load(tmp_path / "model.skastro")) is type(model)
    for answer, expected in zip(told, plain, strict=True):
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("name", [name for name, model in TINY.items() if "training" in model.get_params()])
@pytest.mark.parametrize("params", [{"training": Training(betas=(1.5, 0.9))}, {"device": "abacus"}])
def test_no_fit_takes_settings_that_cannot_be(name, params):
    with pytest.raises(ValueError, match=r"betas|abacus"):
        fit(name, **params)
