"""A small sample of benchmarks/fuzz_models.py: changed model files end in a load or in one clear ValueError."""

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import FlowPosterior, MaskedSpectrumEmbedder, SpectrumEncoder
from skastro.persistence import describe, load, save

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def fuzz():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("fuzz_models", BENCHMARKS / "fuzz_models.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.fixture(scope="module")
def models():
    rng = np.random.default_rng(0)
    table, spectra = rng.random((40, 4)), rng.random((9, 40)) + 1
    masked = MaskedSpectrumEmbedder(SpectrumEncoder(depth=1, width=8, heads=2), max_epochs=1, batch_size=8)
    flow = FlowPosterior(2, n_transforms=1, hidden_dim=8, max_epochs=1)
    return {
        "spectra": make_pipeline(FrozenEstimator(masked.fit(spectra)), StandardScaler()).fit(spectra),
        "flow": flow.fit(table, table[:, :2]),
        "forest": RandomForestClassifier(2, random_state=0).fit(table, np.arange(40) % 2),
        "neighbors": KNeighborsClassifier(algorithm="kd_tree").fit(table, np.arange(40) % 2),
    }


@pytest.mark.parametrize("name", ["spectra", "flow", "forest", "neighbors"])
def test_a_changed_file_is_loaded_or_refused_in_one_sentence(fuzz, models, name, tmp_path):
    path = tmp_path / "model.skastro"
    save(models[name], path)
    content, ends = path.read_bytes(), []
    for number in range(30):
        path.write_bytes(fuzz.changed(np.random.default_rng(number), content))
        for read in (lambda file: json.dumps(describe(file)), load):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of a changed number of a version, and the like
                    read(path)
                ends.append("read")
            except ValueError as error:
                ends.append(fuzz.refusal(error, path))
    assert not [end for end in ends if "FAILED" in end]
    assert {"read", "refused: is damaged"} <= set(ends)
