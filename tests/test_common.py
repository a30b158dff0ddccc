"""scikit-learn's own checks on every public estimator: all of them, with no failure excused."""

import pytest
from sklearn.utils.estimator_checks import check_estimator

from skastro import BYOLEmbedder

TINY = {
    "BYOLEmbedder": BYOLEmbedder("test_resnet", max_epochs=1, batch_size=32, hidden_dim=16, projection_dim=8),
}


@pytest.mark.parametrize("name", TINY)
def test_check_estimator(name):
    results = check_estimator(TINY[name], on_skip=None, on_fail=None)
    passed = [row["check_name"] for row in results if row["status"] == "passed"]
    others = {row["check_name"]: row["exception"] for row in results if row["status"] != "passed"}
    # scikit-learn skips this one itself where the environment has not switched on SciPy's array API.
    others.pop("check_array_api_input", None)
    assert not others
    assert len(passed) >= 40
