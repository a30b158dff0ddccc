"""The classes of the page that tells how to write one's own keep their promises, once they stand in a module."""

import doctest
import pickle
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

import skastro
from skastro.augment import Augment

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "write_your_own.rst"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the pages are not part of an installed package")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A module of the page's imports and classes."""
    folder = tmp_path_factory.mktemp("own")
    blocks = [example.source for example in doctest.DocTestParser().get_examples(PAGE.read_text())]
    kept = [block for block in blocks if block.startswith(("@", "class ", "from ", "import "))]
    (folder / "mine.py").write_text("\n".join(kept))
    sys.path.insert(0, str(folder))
    yield import_module("mine")
    sys.path.remove(str(folder))
    del sys.modules["mine"]


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(16, 3, 32, 32)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:.*images are constant")
@pytest.mark.parametrize("name", ["SimSiamEmbedder", "TableEmbedder"])
def test_they_pass_the_checks_of_scikit_learn(own, name):
    estimators = {
        "SimSiamEmbedder": {
            "encoder": "test_resnet",
            "max_epochs": 1,
            "batch_size": 32,
            "hidden_dim": 16,
            "projection_dim": 8,
        },
        "TableEmbedder": {"width": 16, "max_epochs": 1},
    }
    results = check_estimator(getattr(own, name)(**estimators[name]), on_skip=None, on_fail=None)
    failed = {row["check_name"]: row["exception"] for row in results if row["status"] == "failed"}
    assert not failed
    assert sum(row["status"] == "passed" for row in results) >= 40


def test_a_method_with_a_step_is_saved_and_read_by_their_names(own, images, tmp_path):
    recipe = Augment([("saturate", own.Saturate(low=0.5))])
    small = {"max_epochs": 1, "batch_size": 8, "hidden_dim": 16, "projection_dim": 8, "random_state": 0}
    fitted = own.SimSiamEmbedder("test_resnet", augment=recipe, **small).fit(images)
    names = ["mine.SimSiamEmbedder", "mine.Saturate"]
    skastro.save(fitted, tmp_path / "own.skastro", trusted=names)
    for again in (skastro.load(tmp_path / "own.skastro", trusted=names), pickle.loads(pickle.dumps(fitted))):
        assert (again.transform(images) == fitted.transform(images)).all()
        brightest = again.augment_.get_params()["saturate"].brightest_
        np.testing.assert_array_equal(brightest, images.max(axis=(0, 2, 3)))
    with pytest.raises(ValueError, match=r"mine\.Saturate"):
        skastro.load(tmp_path / "own.skastro", trusted=names[:1])


def test_a_modality_embeds_rows_alone_and_refuses_before_training(own):
    rows = np.random.default_rng(0).normal(size=(32, 5))
    rows[::4, 2] = np.nan
    fitted = own.TableEmbedder(max_epochs=2, random_state=0).fit(rows)
    whole = fitted.transform(rows)
    np.testing.assert_allclose(fitted.transform(rows[3:4]), whole[3:4], atol=1e-6)
    with pytest.raises(ValueError, match="infinity"):
        fitted.fit(np.full((4, 5), np.inf))
    assert (fitted.transform(rows) == whole).all()
