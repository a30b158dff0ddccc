"""Warnings blame the line of the user's that led to them."""

import warnings

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skastro import (
    FineTuneRegressor,
    FixedImageEmbedder,
    FixedSpectrumEmbedder,
    HybridBYOLEmbedder,
    SpectrumEncoder,
    embed,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(12, 3, 16, 16)).astype("f4")
CONSTANT = np.concatenate([IMAGES, np.ones((1, 3, 16, 16), "f4")])
FLUX = 1 + 0.1 * RNG.normal(size=(12, 60))
ONCE = {"max_epochs": 1, "batch_size": 6, "random_state": 0}
EMBEDDER = FixedImageEmbedder("test_resnet", random_state=0).fit(IMAGES)
SPECTRA = FixedSpectrumEmbedder(SpectrumEncoder(depth=1, width=16)).fit(FLUX, ivar=np.ones_like(FLUX))
FAR = np.r_[np.linspace(0, 1, 11), -9999.0]
CALLS = {
    "fit": lambda folder: FixedImageEmbedder("test_resnet").fit(CONSTANT),
    "fit_transform": lambda folder: FixedImageEmbedder("test_resnet").fit_transform(CONSTANT),
    "transform": lambda folder: EMBEDDER.transform(1e6 * IMAGES),
    "transform to a table": lambda folder: EMBEDDER.set_output(transform="pandas").transform(1e6 * IMAGES),
    "spectra": lambda folder: SPECTRA.transform(FLUX),
    "hybrid": lambda folder: HybridBYOLEmbedder("test_resnet", **ONCE).fit(IMAGES),
    "fine-tuning": lambda folder: FineTuneRegressor(FrozenEstimator(EMBEDDER), n_layers=0, augment=None, **ONCE).fit(
        IMAGES, FAR
    ),
    "embed": lambda folder: embed(EMBEDDER, 1e6 * IMAGES, folder / "rows.npy", verbose=0),
    "pipeline": lambda folder: make_pipeline(FunctionTransformer(), FixedImageEmbedder("test_resnet")).fit(CONSTANT),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_line_that_called_is_blamed(name, tmp_path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        CALLS[name](tmp_path)
    assert told
    assert {warning.filename for warning in told} == {__file__}
