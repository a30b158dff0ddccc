"""
====================================
Light curves: a modality of your own
====================================

A light curve is neither an image nor a spectrum: points at irregular times, in several bands, each with an error. Its
embedder stands beside this script, in ``light_curves.py``: less than 200 lines that fulfill
`skastro.modalities.Modality`. That is enough for it to be aligned with a table, fine-tuned to classes, searched,
pickled and saved, without a line changed in skastro. Here it learns from 2,291 real light curves of three surveys
without labels, and is then asked for the redshifts of supernovae and the classes of transients, beside features and a
forest.

.. code-block:: bash

    python plot_light_curves.py
    python plot_light_curves.py --epochs 1                         # to see it run
"""

import argparse
import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from light_curves import LightCurveEmbedder
from scipy.stats import skew
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skastro
from skastro import AstroCLIPEmbedder, FineTuneClassifier, Training
from skastro.metrics import retrieval_score

parser = argparse.ArgumentParser(description="Light curves: a modality of your own.")
parser.add_argument("--epochs", type=int, default=40, help="passes over the light curves")
parser.add_argument("--tuning-epochs", type=int, default=40, help="passes of each fine-tuning")
parser.add_argument("--seeds", type=int, default=1, help="of the network's weights and of what is hidden")
parser.add_argument("--points", type=int, default=64, help="of a light curve that the network sees")
parser.add_argument("--trees", type=int, default=500, help="of the forests")
parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figures and tables")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)

# %%
# The light curves
# ----------------
#
# Type Ia supernovae of ZTF, RR Lyrae stars of SDSS Stripe 82, and transients of CRTS. What was observed in one night
# and band is one point, their weighted mean. A curve of more points is thinned evenly; a shorter one ends in NaN.

WAVELENGTHS = {"u": 3543, "g": 4770, "r": 6231, "R": 6436, "i": 7625, "z": 9134, "clear": 5500}  # Å; effective, rounded

data = Path(os.environ.get("SKASTRO_DATA") or Path(__file__).parents[2] / "shared" / "data")
if not (data / "lightcurves.npz").exists():
    sys.exit(f"This example needs lightcurves.npz, and {data} has none: set SKASTRO_DATA to the folder that does.")
with np.load(data / "lightcurves.npz") as file:
    stored = {name: file[name] for name in file.files}
survey, classes = stored["survey"], stored["cls"]
points = pd.DataFrame({name: stored[name].astype(float) for name in ("time", "mag", "magerr")})
points["wavelength"] = [float(WAVELENGTHS[name.split(":")[1]]) for name in stored["band_names"][stored["band"]]]
points["curve"] = np.repeat(np.arange(len(survey)), np.diff(stored["offset"]))
points["night"] = points["time"].round().astype(int)

points["weight"] = points["magerr"] ** -2
for name in ("time", "mag"):
    points[name] *= points["weight"]
nights = points.groupby(["curve", "night", "wavelength"])[["time", "mag", "weight"]].sum().reset_index()
for name in ("time", "mag"):
    nights[name] /= nights["weight"]
nights["magerr"] = nights["weight"] ** -0.5

curves = np.full((len(survey), args.points, 4), np.nan)
for place, curve in nights.groupby("curve"):
    rows = curve[["time", "mag", "magerr", "wavelength"]].to_numpy()
    kept = np.unique(np.linspace(0, len(rows) - 1, args.points).round().astype(int))
    curves[place, : len(kept)] = rows[kept]
print(f"{len(curves):,} light curves, {(~np.isnan(curves[:, :, 0])).sum(axis=1).mean():.0f} points each on average")

# %%
# Features are the rival: of all bands together, and of the colors of those that there are, from all nights.


def features(curve):
    """Numbers that astronomers compute of a light curve."""
    mag, time = curve["mag"].to_numpy(), curve["time"].to_numpy()
    low, middle, high = np.quantile(mag, [0.05, 0.5, 0.95])
    step = np.abs(np.diff(mag)) if len(mag) > 1 else np.zeros(1)
    numbers = {
        "points": len(mag), "span": np.ptp(time), "mean": np.average(mag, weights=curve["weight"]), "std": mag.std(),
        "amplitude": np.ptp(mag), "middle range": high - low, "skew": skew(mag) if mag.std() > 1e-6 else 0.0,
        "error": curve["magerr"].median(), "faint side": high - middle, "step": np.median(step), "largest": step.max(),
        "over error": np.mean(((mag - middle) / curve["magerr"]) ** 2), "brightest at": time[mag.argmin()] - time[0],
    }  # fmt: skip
    for wavelength, band in curve.groupby("wavelength"):
        summary = {"points": len(band), "mean": band.mag.mean(), "std": band.mag.std(ddof=0), "peak": band.mag.min()}
        numbers |= {f"{name} at {wavelength}": value for name, value in summary.items()}
    return numbers


table = pd.DataFrame([features(curve) for _, curve in nights.groupby("curve")]).fillna(99.0)

# %%
# Filling in
# ----------
#
# Of each curve a run of 30 % is hidden and filled in from the rest. All curves are shown, also those that will be asked
# for their class, but no class. The network is small, and float32 is faster for it than bfloat16.

fast = Training(precision="fp32")
masked = LightCurveEmbedder(max_epochs=args.epochs, training=fast, verbose=1)
embedders = [clone(masked).set_params(random_state=seed).fit(curves) for seed in range(args.seeds)]
untrained = [clone(e).set_params(max_epochs=0).fit(curves) for e in embedders]
print(f"what is hidden is missed by {embedders[0].history_['loss'][-1] ** 0.5:.2f} of the scatter of a magnitude")

name = "light_curves.LightCurveEmbedder"  # a class of one's own is saved and loaded by its full name
skastro.save(embedders[0], args.out / "light_curves.skastro", trusted=[name])
again = skastro.load(args.out / "light_curves.skastro", trusted=[name])
assert (again.transform(curves[:9]) == embedders[0].transform(curves[:9])).all()

# %%
# Aligned with a table
# --------------------
#
# The supernovae of ZTF have a redshift and a magnitude at their peak in the catalog. Light curves and these two numbers
# are aligned on three quarters of them; objects without are rows of NaN, and take no part. Of the others, the curve
# looks for its row of the catalog, and its neighbors tell the redshift.

catalog = np.column_stack([np.log10(stored["redshift"]), stored["peakmag"]]).astype(float)
catalog[~np.isfinite(catalog).all(axis=1) | (survey != "ZTF")] = np.nan
known = np.flatnonzero(~np.isnan(catalog[:, 0]))
train, test = train_test_split(known, random_state=0)
shown = catalog.copy()
shown[test] = np.nan
neighbors = make_pipeline(StandardScaler(), KNeighborsRegressor(16, weights="distance"))
lines = []


def redshift_from(name, seed, rows, model=neighbors):
    told = model.fit(rows[train], catalog[train, 0]).predict(rows[test])
    lines.append(["redshift: R² of its logarithm", name, seed, r2_score(catalog[test, 0], told)])


for seed, (learned, floor) in enumerate(zip(embedders, untrained, strict=True)):
    clip = AstroCLIPEmbedder(
        FrozenEstimator(learned), StandardScaler(), embedding_dim=64, max_epochs=100, early_stopping=True, lr=1e-3,
        training=fast, random_state=seed,
    ).fit(curves, shown)  # fmt: skip
    found = retrieval_score(*clip.transform(curves[test], catalog[test]), k=10)
    print(
        f"{clip.n_pairs_} pairs; of {len(test)} other curves {found['recall']:.0%} have their own row among ten nearest"
    )
    redshift_from("untrained, neighbors", seed, floor.transform(curves))
    redshift_from("masked modeling, neighbors", seed, learned.transform(curves))
    redshift_from("aligned with the catalog, neighbors", seed, clip.transform(curves))
redshift_from("features, forest", 0, table.to_numpy(), RandomForestRegressor(args.trees, random_state=0))

# %%
# Fine-tuned to the class
# -----------------------
#
# Survey and class go together, so the classes are asked within CRTS alone: those whose class is sure, of kinds with
# twenty objects or more. Five stratified folds, balanced accuracy. Fine-tuning starts from what was learned or from the
# same random weights; everything else is the same.

kinds = ["AGN", "Blazar", "CV", "SN"]
asked = np.flatnonzero((survey == "CRTS") & np.isin(classes, kinds))
print(", ".join(f"{np.sum(classes[asked] == kind)} {kind}" for kind in kinds))
folds = StratifiedKFold(5, shuffle=True, random_state=0)
scores = []


def class_from(name, seed, model, rows):
    folded = cross_val_score(model, rows[asked], classes[asked], cv=folds, scoring="balanced_accuracy")
    scores.append(folded)
    lines.append(["class within CRTS: balanced accuracy", name, seed, folded.mean()])


probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
forest = RandomForestClassifier(args.trees, class_weight="balanced", random_state=0)
for seed, (learned, floor) in enumerate(zip(embedders, untrained, strict=True)):
    class_from("untrained, logistic regression", seed, probe, floor.transform(curves))
    class_from("masked modeling, logistic regression", seed, probe, learned.transform(curves))
    for name, start in {"random weights, fine-tuned": floor, "masked modeling, fine-tuned": learned}.items():
        tuned = FineTuneClassifier(
            FrozenEstimator(start), class_weight="balanced", max_epochs=args.tuning_epochs, batch_size=32, lr=1e-3,
            training=fast, random_state=seed,
        )  # fmt: skip
        class_from(name, seed, tuned, curves)
    gain = scores[-1] - scores[-2]
    print(f"what masked modeling gains in fine-tuning: {gain.mean():+.3f} ± {gain.std(ddof=1) / 5**0.5:.3f}")
class_from("features, forest", 0, forest, table.to_numpy())

results = pd.DataFrame(lines, columns=["question", "method", "seed", "score"])
results.to_csv(args.out / "light_curves.csv", index=False)
print(results.groupby(["question", "method"], sort=False)["score"].agg(["mean", "sem"]).round(3).to_string())

# %%
# What the curves look like, one of each class: the points that the network sees.

figure, axes = plt.subplots(len(kinds), figsize=(8, 6), layout="constrained")
for ax, kind in zip(axes, kinds, strict=True):
    row = curves[asked[classes[asked] == kind][3]]
    ax.errorbar(
        row[:, 0] - np.nanmin(row[:, 0]), row[:, 1], row[:, 2], fmt="o", color="black", markersize=3, linewidth=0.8
    )
    ax.invert_yaxis()
    ax.set_ylabel(kind)
    ax.spines[["top", "right"]].set_visible(False)
axes[-1].set_xlabel("days since the first point")
axes[0].set_title("Four transients of CRTS, magnitude against time", fontsize="medium")
figure.savefig(args.out / "light_curves.png", dpi=110)
