"""Real weights: ImageNet's, of a package on the index, on real galaxies."""

import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import FixedImageEmbedder, ImageEncoder
from skastro.datasets import load_galaxy_zoo1
from skastro.stretches import Standardize

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from imagenet import NETWORK, PACKAGE, convert


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    try:
        files(PACKAGE)
    except PackageNotFoundError:
        pytest.skip(f"needs the weights of the package {PACKAGE}")
    return str(convert(tmp_path_factory.mktemp("imagenet") / "lite0.safetensors"))


def probe(encoder, images, target):
    embedder = FixedImageEmbedder(encoder, size=64, normalize=Standardize(127.5, 127.5), random_state=0)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced"))
    return cross_val_score(head, embedder.fit_transform(images), target, scoring="balanced_accuracy").mean()


def test_they_know_more_of_galaxies_than_random_ones(path, shared_data):
    zoo = load_galaxy_zoo1(shared_data)
    images, target = zoo.images[:600], zoo.target[:600]
    given = probe(ImageEncoder(NETWORK, weights=path), images, target)
    assert given > probe(ImageEncoder(NETWORK), images, target) + 0.02


@pytest.mark.parametrize(("bands", "how"), [(1, "repeat"), (3, None), (5, (3, 2, 1))])
def test_they_take_any_bands(path, bands, how):
    images = np.random.default_rng(0).normal(size=(4, bands, 64, 64))
    rows = FixedImageEmbedder(ImageEncoder(NETWORK, weights=path, bands=how)).fit_transform(images)
    assert np.isfinite(rows).all()
