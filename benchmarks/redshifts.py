"""Photometric redshifts of three real catalogs, with their distributions, beside extra-trees on the same features.

python benchmarks/redshifts.py [--data boss main jwst] [--methods trees flow] [--seeds 0 1 2] [--part held-out]

A third of each catalog is for training, a third for choosing settings (``--part development``), and a third is held
back: for its figures methods are fitted to the other two. Every run goes into redshifts.csv as soon as it is scored,
and one that is in it already is not repeated. Features are magnitudes and the colors of neighboring bands; missing ones
have the median, and a column that says so. All methods learn ln(1 + z). The trees of extra-trees are its draws, and its
point is their mean, or their median. Of the flows there are two, to save time.
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from machine import header
from sklearn.ensemble import ExtraTreesRegressor, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from skastro import FlowPosterior, PhotoZRegressor
from skastro.metrics import crps, photoz_outliers, pit, sigma_mad

FOLDER = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data"))
PARTS = {"held-out": ([0, 1], 2), "development": ([0], 1)}  # thirds to fit to, and the one to score
LEVELS = (0.5, 0.68, 0.9)
KEYS = ["data", "part", "method", "seed"]
DRAWS = 500  # of a flow
EDGES = np.linspace(-0.1, 3.0, 3101)  # fine bins of ln(1 + z), in which every distribution is scored


def load(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, redshifts, and to which third each object belongs: rows of one position to the same."""
    with np.load(FOLDER / "photoz.npz") as catalog:
        z, place = catalog[f"{name}_z"].astype(float), np.arange(len(catalog[f"{name}_z"]))
        if name == "jwst":
            flux = np.where(catalog["jwst_flux"] == -99, np.nan, catalog["jwst_flux"])
            softening = np.nanpercentile(np.abs(flux), 5, axis=0)
            bands = -2.5 / np.log(10) * np.arcsinh(flux / (2 * softening))  # defined for fluxes below zero too
            position = np.column_stack([catalog["jwst_ra"], catalog["jwst_dec"]]).round(4)
            place = np.unique(position, axis=0, return_inverse=True)[1].ravel()
        else:
            bands = catalog[f"{name}_mag"]
    features = np.column_stack([bands, -np.diff(bands, axis=1)])
    thirds = np.random.default_rng(0).permutation(place.max() + 1)[place] % 3
    return SimpleImputer(strategy="median", add_indicator=True).fit_transform(features), z, thirds


def trees(
    X: np.ndarray, y: np.ndarray, unseen: np.ndarray, seed: int, point: Callable[..., np.ndarray] = np.mean
) -> tuple[np.ndarray, np.ndarray]:
    """Point estimates, and the distribution over fine bins."""
    model = ExtraTreesRegressor(200, random_state=seed).fit(X, y)
    draws = np.stack([tree.predict(unseen) for tree in model.estimators_], axis=1)
    return point(draws, axis=1), histogram(draws)


def bins(
    X: np.ndarray, y: np.ndarray, unseen: np.ndarray, seed: int, cv: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Median and distribution over fine bins, of three small networks that classify into coarser bins."""
    settings = {"hidden_layer_sizes": (64, 64), "alpha": 0.1, "batch_size": 128, "learning_rate_init": 2e-3}
    networks = [MLPClassifier(**settings, max_iter=120, random_state=3 * seed + number) for number in range(3)]
    ensemble = VotingClassifier(
        [(f"network {number}", network) for number, network in enumerate(networks)], voting="soft"
    )
    model = PhotoZRegressor(ensemble, low=y.min(), high=y.max(), point="median", cv=cv)
    scaler = StandardScaler().fit(X)
    model.fit(scaler.transform(X), y)
    unseen = scaler.transform(unseen)
    pdf, edges = model.predict_pdf(unseen)
    cumulative = np.pad(pdf.cumsum(axis=1), ((0, 0), (1, 0)))
    fine = np.diff([np.interp(EDGES, edges, below) for below in cumulative], axis=1)
    return model.predict(unseen), fine


def flow(X: np.ndarray, y: np.ndarray, unseen: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draws = FlowPosterior(2, random_state=seed).fit(X, y).sample(unseen, DRAWS)[:, :, 0]
    return np.median(draws, axis=1), histogram(draws)


METHODS = {
    "trees": trees,
    "trees, median": partial(trees, point=np.median),
    "bins": bins,
    "bins, recalibrated": partial(bins, cv=5),
    "flow": flow,
}


def histogram(draws: np.ndarray) -> np.ndarray:
    return np.stack([np.histogram(row, EDGES)[0] for row in draws.clip(EDGES[0], EDGES[-1])]) / draws.shape[1]


def scores(z: np.ndarray, point: np.ndarray, pdf: np.ndarray) -> dict[str, float]:
    """Of redshifts: σ_MAD, outliers; of ln(1 + z): CRPS, and how often central intervals hold the truth."""
    y, z_pred = np.log1p(z), np.expm1(point)
    below = pit(y, pdf, EDGES)
    return {
        "sigma_mad": sigma_mad(z, z_pred),
        "outliers_0.05": photoz_outliers(z, z_pred),
        "outliers_0.15": photoz_outliers(z, z_pred, threshold=0.15),
        "crps": crps(y, pdf, EDGES).mean(),
        **{f"coverage_{level:.0%}": np.mean(np.abs(below - 0.5) <= level / 2) for level in LEVELS},
        "pit_mean": below.mean(),
    }


def run(file: Path, data: str, part: str, method: str, seed: int) -> None:
    """Score a method and append its line, unless the file has it."""
    keys = [data, part, method, seed]
    if file.exists() and (pd.read_csv(file)[KEYS] == keys).all(axis=1).any():
        return
    X, z, thirds = load({"main": "mgs"}.get(data, data))
    fitted, scored = np.isin(thirds, PARTS[part][0]), thirds == PARTS[part][1]
    start = time.process_time()
    point, pdf = METHODS[method](X[fitted], np.log1p(z[fitted]), X[scored], seed)
    line = dict(zip(KEYS, keys, strict=True)) | scores(z[scored], point, pdf)
    line |= {"cpu_minutes": (time.process_time() - start) / 60}
    pd.DataFrame([line]).round(5).to_csv(file, mode="a", header=not file.exists(), index=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="+", choices=["boss", "main", "jwst"], default=["boss", "main", "jwst"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--part", choices=PARTS, default="held-out")
    parser.add_argument("--file", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    header(f"redshifts, {chosen.part}")
    for data, method, seed in itertools.product(chosen.data, chosen.methods, chosen.seeds):
        run(chosen.file, data, chosen.part, method, seed)
    table = pd.read_csv(chosen.file).drop(columns="seed")
    print(table.groupby(["data", "part", "method"], sort=False).agg(["mean", "sem"]).round(4).to_string())


if __name__ == "__main__":
    main()
