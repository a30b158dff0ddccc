"""What is masked modeling worth on spectra of supernovae and on light curves of transients?

python benchmarks/sequences.py [--data supernovae transients] [--seeds 0 1 2] [--quick] [--table]

Floors: features that astronomers compute with a forest, and the same network with random weights. Then the network
after masked modeling of everything without labels, with linear probes and forests on its embedding, alone and beside
the features; and trained on the labels, from random weights and from masked modeling. Balanced accuracy of the
pooled answers of five folds, which keep each supernova together; transients are those of CRTS alone, whose survey
does not tell the class. A quick run leaves out what takes long: forests on embeddings, and fine-tuning. Scores go
into one tidy file as they come, and one that is in it already is not taken again.
"""

import argparse
import copy
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import header
from scipy.stats import skew
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import FineTuneClassifier, MaskedSpectrumEmbedder, SpectrumEncoder, Training
from skastro.datasets import load_supernovae
from skastro.encoders.spectra import MaskedPool

sys.path.append(str(Path(__file__).parents[1] / "examples"))
from light_curves import LightCurveEmbedder

FOLDER = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data"))
FAST = Training(precision="fp32")
KINDS = ("AGN", "Blazar", "CV", "SN")  # of which CRTS has twenty or more
WAVELENGTHS = {"u": 3543, "g": 4770, "r": 6231, "R": 6436, "i": 7625, "z": 9134, "clear": 5500}  # Å, effective
COLUMNS = ["data", "task", "method", "seed", "score"]
POINTS = 64  # of a light curve that the network sees


def in_bins(spectra: np.ndarray, n_bins: int = 64) -> np.ndarray:
    """Mean and slope of the flux in bins of wavelength."""
    blocks = np.nan_to_num(spectra).reshape(len(spectra), n_bins, -1)
    return np.hstack([blocks.mean(axis=2), blocks[:, :, -1] - blocks[:, :, 0]])


def nights(stored: dict[str, np.ndarray]) -> pd.DataFrame:
    """Weighted means of what was observed of one object in one night and band."""
    points = pd.DataFrame({name: stored[name].astype(float) for name in ("time", "mag", "magerr")})
    points["wavelength"] = [float(WAVELENGTHS[name.split(":")[1]]) for name in stored["band_names"][stored["band"]]]
    points["curve"] = np.repeat(np.arange(len(stored["cls"])), np.diff(stored["offset"]))
    points["night"], points["weight"] = points["time"].round(), points["magerr"] ** -2
    points[["time", "mag"]] = points[["time", "mag"]].mul(points["weight"], axis=0)
    means = points.groupby(["curve", "night", "wavelength"])[["time", "mag", "weight"]].sum().reset_index()
    means[["time", "mag"]] = means[["time", "mag"]].div(means["weight"], axis=0)
    return means.assign(magerr=means["weight"] ** -0.5)


def as_curves(means: pd.DataFrame) -> np.ndarray:
    """Light curves of equally many points: longer ones are thinned evenly, shorter ones end in NaN."""
    groups = means.groupby("curve")[["time", "mag", "magerr", "wavelength"]]
    curves = np.full((groups.ngroups, POINTS, 4), np.nan)
    for place, (_, points) in enumerate(groups):
        kept = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int))
        curves[place, : len(kept)] = points.to_numpy()[kept]
    return curves


def features(curve: pd.DataFrame) -> dict[str, float]:
    """Numbers that astronomers compute of a light curve."""
    mag, time = curve["mag"].to_numpy(), curve["time"].to_numpy()
    low, middle, high = np.quantile(mag, [0.05, 0.5, 0.95])
    step = np.abs(np.diff(mag)) if len(mag) > 1 else np.zeros(1)
    return {
        "points": len(mag), "span": np.ptp(time), "mean": np.average(mag, weights=curve["weight"]), "std": mag.std(),
        "amplitude": np.ptp(mag), "middle range": high - low, "skew": skew(mag) if mag.std() > 1e-6 else 0.0,
        "error": curve["magerr"].median(), "faint side": high - middle, "step": np.median(step), "largest": step.max(),
        "over error": np.mean(((mag - middle) / curve["magerr"]) ** 2), "brightest at": time[mag.argmin()] - time[0],
    }  # fmt: skip


class Supernovae:
    """Spectra, whose lines stay in their places: regions are kept apart, and the usual pooling stands beside."""

    def __init__(self) -> None:
        supernovae = load_supernovae(FOLDER)
        self.rows, self.target, self.groups = supernovae.spectra, supernovae.target, supernovae.groups
        self.asked = np.arange(len(self.rows))
        self.features = in_bins(self.rows)
        self.folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
        spec = SpectrumEncoder(depth=2, width=64, token=32, stride=32, pool="regions")
        self.embedder = MaskedSpectrumEmbedder(spec, max_epochs=60, training=FAST)
        self.tuning = {"max_epochs": 12, "lr": 5e-4}
        self.pool = MaskedPool(maximum=True)
        self.parts = {"six types": slice(None), "without Ibn": supernovae.target_names != "Ibn"}


class Transients:
    """Light curves; masked modeling has the other surveys too."""

    def __init__(self) -> None:
        with np.load(FOLDER / "lightcurves.npz") as file:
            stored = {name: file[name] for name in file.files}
        means = nights(stored)
        self.rows = as_curves(means)
        self.asked = np.flatnonzero((stored["survey"] == "CRTS") & np.isin(stored["cls"], KINDS))
        self.target, self.groups = stored["cls"][self.asked], None
        curves = dict(list(means.groupby("curve")))
        self.features = pd.DataFrame([features(curves[place]) for place in self.asked]).to_numpy()
        self.folds = StratifiedKFold(5, shuffle=True, random_state=0)
        self.embedder = LightCurveEmbedder(max_epochs=25, training=FAST)
        self.tuning = {"max_epochs": 40, "lr": 1e-3}
        self.pool = None
        self.parts = {"four classes": slice(None)}


DATA = {"supernovae": Supernovae, "transients": Transients}


def probe(rows: np.ndarray) -> Any:
    """Make a logistic regression, with more of a penalty on many features."""
    penalty = 100 if rows.shape[1] < 500 else 1000
    logistic = LogisticRegression(C=1 / penalty, class_weight="balanced", max_iter=2000)
    return make_pipeline(StandardScaler(), logistic)


def contenders(data: Any, seed: int, quick: bool) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Yield name, model and rows of everything that is compared."""
    forest = RandomForestClassifier(200, class_weight="balanced", random_state=seed)
    yield "features + forest", forest, data.features
    yield "features + logistic", probe(data.features), data.features
    masked = clone(data.embedder).set_params(random_state=seed).fit(data.rows)
    untrained = clone(masked).set_params(max_epochs=0).fit(data.rows)
    starts = {"untrained": untrained, "masked": masked}
    rows = {name: start.transform(data.rows[data.asked]) for name, start in starts.items()}
    for name, start in starts.items():
        if data.pool is not None:
            pooled = copy.deepcopy(start)
            pooled.encoder_.pool = data.pool  # which takes no part in masked modeling
            means = pooled.transform(data.rows[data.asked])
            yield f"{name}, mean and maximum + logistic", probe(means), means
        yield f"{name} + logistic", probe(rows[name]), rows[name]
    both = np.hstack([data.features, rows["masked"]])
    yield "features, masked + logistic", probe(both), both
    if quick:
        return
    yield "masked + forest", forest, rows["masked"]
    yield "features, masked + forest", forest, both
    for name, start in starts.items():
        tuned = FineTuneClassifier(
            FrozenEstimator(start),
            class_weight="balanced",
            batch_size=32,
            training=FAST,
            random_state=seed,
            **data.tuning,
        )
        yield f"{name}, fine-tuned", tuned, data.rows[data.asked]


def run(file: Path, name: str, seed: int, quick: bool) -> None:
    """Score everything with one seed, except what the file knows."""
    known = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=COLUMNS)
    known = set(known.loc[(known["data"] == name) & (known["seed"] == seed), "method"])
    data = DATA[name]()
    for method, model, rows in contenders(data, seed, quick):
        if method in known:
            continue
        answers = cross_val_predict(model, rows, data.target, groups=data.groups, cv=data.folds)
        found = recall_score(data.target, answers, average=None)
        lines = [[name, task, method, seed, found[part].mean()] for task, part in data.parts.items()]
        print(*lines[0], flush=True)
        table = pd.DataFrame(lines, columns=COLUMNS).round(4)
        table.to_csv(file, mode="a", header=not file.exists(), index=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--file", type=Path, default=Path(__file__).with_name("sequences.csv"))
    parser.add_argument("--quick", action="store_true", help="linear probes, and the floor of features")
    parser.add_argument("--table", action="store_true", help="only print what the file holds")
    chosen = parser.parse_args()
    header("sequences")
    for name in () if chosen.table else chosen.data:
        for seed in chosen.seeds:
            run(chosen.file, name, seed, chosen.quick)
    scores = pd.read_csv(chosen.file).groupby(["data", "task", "method"], sort=False)["score"]
    print(scores.agg(["mean", "sem", "count"]).round(3).to_string())


if __name__ == "__main__":
    main()
