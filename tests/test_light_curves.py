"""The example of a modality of one's own keeps its promises, and its script runs, on simulated light curves."""

import pickle
import runpy
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import skastro
from skastro import AstroCLIPEmbedder, FineTuneClassifier

EXAMPLES = Path(__file__).parents[1] / "examples"
NAME = "light_curves.LightCurveEmbedder"
pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not part of an installed package")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


def simulate(n, n_points=12, seed=0):
    """Curves that rise and fade, or do not: points in two bands, fewer of the later ones, and what they are."""
    rng = np.random.default_rng(seed)
    transient = rng.random(n) < 0.5
    curves = np.full((n, n_points, 4), np.nan)
    for row, fades in zip(curves, transient, strict=True):
        count = rng.integers(3, n_points + 1)
        time = np.sort(rng.uniform(0, 60, count))
        shape = ((time - 20) / 15) ** 2 if fades else np.zeros(count)
        mag = 18 + rng.normal() + np.minimum(shape, 3) + 0.1 * rng.normal(size=count)
        row[:count] = np.column_stack([57000 + time, mag, np.full(count, 0.1), rng.choice([4770, 6231], count)])
    return curves, transient


def embedder(**params):
    small = {"width": 16, "depth": 1, "heads": 2, "max_epochs": 1, "batch_size": 16, "random_state": 0}
    return import_module("light_curves").LightCurveEmbedder(**(small | params))


def test_it_takes_at_most_200_lines():
    assert len((EXAMPLES / "light_curves.py").read_text().splitlines()) <= 200


def test_it_passes_the_checks_of_scikit_learn():
    results = check_estimator(embedder(width=8), on_skip=None, on_fail=None)
    assert [row for row in results if row["status"] == "failed"] == []
    assert sum(row["status"] == "passed" for row in results) >= 40


def test_a_curve_is_embedded_alone_in_whatever_order_and_form_it_comes():
    curves, _ = simulate(20)
    fitted = embedder().fit(curves)
    rows = fitted.transform(curves)
    assert rows.shape == (20, 32)
    assert (embedder().fit(curves).transform(curves) == rows).all()
    np.testing.assert_allclose(fitted.transform(curves[3:4]), rows[3:4], atol=1e-6)
    np.testing.assert_allclose(fitted.transform(curves[:, ::-1].reshape(20, -1)), rows, atol=1e-5)
    later = curves + np.array([500.0, 0, 0, 0])  # nobody knows when the first point was
    np.testing.assert_allclose(fitted.transform(later), rows, atol=1e-4)


def test_it_learns_to_fill_in():
    curves, _ = simulate(200)
    history = embedder(max_epochs=20, lr=3e-3).fit(curves).history_
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert len(history["curves_per_s"]) == 20


def test_pickle_and_files_keep_it(tmp_path):
    curves, _ = simulate(20)
    fitted = embedder().fit(curves)
    fitted.set_params(width=24)  # takes effect in the next fit
    skastro.save(fitted, tmp_path / "curves.skastro", trusted=[NAME])
    for again in (
        skastro.load(tmp_path / "curves.skastro", trusted=[NAME]),
        pickle.loads(pickle.dumps(fitted)),
    ):
        assert (again.transform(curves) == fitted.transform(curves)).all()
    with pytest.raises(ValueError, match="does not trust"):
        skastro.load(tmp_path / "curves.skastro")


@pytest.mark.parametrize("train_backbones", [False, True])
def test_it_is_aligned_with_a_table(train_backbones):
    curves, transient = simulate(40)
    table = np.column_stack([transient, np.nanmean(curves[:, :, 1], axis=1)])
    table[2], curves[5] = np.nan, np.nan
    clip = AstroCLIPEmbedder(
        embedder(),
        StandardScaler(),
        embedding_dim=16,
        train_backbones=train_backbones,
        max_epochs=2,
        random_state=0,
    ).fit(curves, table)
    from_curves, from_table = clip.transform(curves, table)
    assert clip.n_pairs_ == 38
    assert np.isnan(from_curves[:, 0]).nonzero()[0].tolist() == [5]
    assert np.isnan(from_table[:, 0]).nonzero()[0].tolist() == [2]
    weights = clip.embedders_[0].attention(curves[:5])  # of the level, and of each point
    assert weights.shape == (5, 4, 13)
    assert (weights[:, :, 1:] > 0).any(axis=1).tolist() == (~np.isnan(curves[:5, :, 0])).tolist()


@pytest.mark.parametrize("n_layers", [0, 1, "all"])
def test_it_is_fine_tuned(n_layers):
    curves, transient = simulate(40)
    frozen = embedder(max_epochs=2).fit(curves)
    before = frozen.transform(curves)
    tuned = FineTuneClassifier(FrozenEstimator(frozen), n_layers=n_layers, max_epochs=40, lr=3e-3, random_state=0)
    assert tuned.fit(curves, transient).score(curves, transient) > 0.7
    assert (frozen.transform(curves) == before).all()
    assert FineTuneClassifier(embedder(), max_epochs=1).fit(curves, transient).predict_proba(curves).shape == (40, 2)


def test_the_script_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib").use("Agg")
    curves, _ = simulate(64, seed=1)
    points = curves[~np.isnan(curves[:, :, 0])]
    ztf, crts = np.full(36, "ZTF"), np.full(28, "CRTS")
    np.savez(
        tmp_path / "lightcurves.npz",
        **dict(zip(("time", "mag", "magerr"), points.T[:3], strict=True)),
        band=np.where(points[:, 3] == 4770, 0, 1).astype(np.uint8),
        band_names=np.array(["ZTF:g", "ZTF:R"]),
        offset=np.concatenate([[0], (~np.isnan(curves[:, :, 0])).sum(axis=1).cumsum()]),
        survey=np.concatenate([ztf, crts]),
        cls=np.concatenate([np.full(36, "SN Ia"), np.repeat(["AGN", "Blazar", "CV", "SN"], 7)]),
        redshift=np.concatenate([np.geomspace(0.01, 0.1, 36), np.full(28, np.nan)]),
        peakmag=np.concatenate([np.linspace(15, 19, 36), np.full(28, np.nan)]),
    )
    monkeypatch.setenv("SKASTRO_DATA", str(tmp_path))
    short = ["--epochs", "1", "--tuning-epochs", "1", "--trees", "5", "--points", "8", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["plot_light_curves.py", *short])
    names = runpy.run_path(str(EXAMPLES / "plot_light_curves.py"), run_name="__main__")
    assert len(names["results"]) == 9
    assert (tmp_path / "light_curves.png").exists()
