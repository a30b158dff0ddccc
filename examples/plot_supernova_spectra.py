"""
==================================
Supernovae, by filling in the gaps
==================================

A spectrum of a supernova holds broad lines that overlap, a sky that was not always dark, and a class that experts argue
about. Can a network learn what such spectra look like without being told their types? It is shown spectra of which
pieces are hidden, and fills them in. Its embedding is then asked for the type, and the network itself is fine-tuned to
tell it, beside the same network from random weights, AstroCLIP's supervised network, and two humble rivals: principal
components, and a forest on the mean and slope of the flux in bins.

.. code-block:: bash

    python plot_supernova_spectra.py
"""

# sphinx_gallery_thumbnail_number = 1
import argparse
import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skastro import FineTuneClassifier, MaskedSpectrumEmbedder, SpectrumEncoder, Training
from skastro.datasets import load_supernovae

parser = argparse.ArgumentParser(description="Supernovae, by filling in the gaps.")
parser.add_argument("--epochs", type=int, default=100, help="passes over the spectra")
parser.add_argument("--seeds", type=int, default=1, help="of the network's weights and masks")
parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figures")
args = parser.parse_args()

# %%
# The spectra
# -----------
#
# 835 spectra of 90 supernovae whose outer layers were stripped away before they burst, each at rest and without its
# continuum. Most supernovae were observed many times, and spectra of one look alike: folds keep a supernova together,
# or every method would seem far better than it is.

data = Path(os.environ.get("SKASTRO_DATA") or Path(__file__).parents[2] / "shared" / "data")
if not (data / "sn_spectra.npz").exists():
    sys.exit(f"This example needs sn_spectra.npz, and {data} has none: set SKASTRO_DATA to the folder that does.")
supernovae = load_supernovae(data)
spectra, types, objects = supernovae.spectra, supernovae.target, supernovae.groups
print(f"{len(spectra)} spectra of {len(np.unique(objects))} supernovae, {np.isnan(spectra).mean():.0%} of it missing")

# %%
# Filling in
# ----------
#
# Missing pixels are NaN, and the network is told which. It sees every spectrum and no type.

embedder = MaskedSpectrumEmbedder(
    SpectrumEncoder(depth=2, width=64, heads=4, token=32, stride=32),
    max_epochs=args.epochs,
    training=Training(precision="fp32"),
    verbose=1,
)
embedders = [clone(embedder).set_params(random_state=seed).fit(spectra) for seed in range(args.seeds)]
learned = [fitted.transform(spectra) for fitted in embedders]

hidden = spectra[::120].copy()
hidden[:, 500:560] = np.nan
filled = embedders[0].reconstruct(hidden)
figure, axes = plt.subplots(len(hidden), figsize=(8, 1.6 * len(hidden)), sharex=True, layout="constrained")
for ax, row, seen, guess in zip(axes, spectra[::120], hidden, filled, strict=True):
    gap = slice(495, 565)
    ax.plot(supernovae.wavelengths, row, color="0.7", linewidth=0.8)
    ax.plot(supernovae.wavelengths, seen, color="black", linewidth=0.8)
    ax.plot(supernovae.wavelengths[gap], guess[gap], color="#D55E00", linewidth=1.2)
    ax.spines[["top", "right"]].set_visible(False)
axes[-1].set_xlabel("rest wavelength (Å)")
axes[0].set_title("Gray: what was hidden. Orange: what the network put there.", fontsize="medium")
args.out.mkdir(parents=True, exist_ok=True)
figure.savefig(args.out / "supernovae_filled_in.png", dpi=110)

# %%
# Which type?
# -----------
#
# Five folds, out-of-fold answers pooled. Balanced accuracy is the mean over types of the share found; two supernovae of
# type Ibn weigh as much there as the 23 of Ib, so the table also shows the figure without them.


def in_bins(spectra, n_bins=64):
    """Mean and slope of the flux in bins of wavelength."""
    blocks = np.nan_to_num(spectra).reshape(len(spectra), n_bins, -1)
    return np.hstack([blocks.mean(axis=2), np.diff(blocks[:, :, [0, -1]], axis=2)[:, :, 0]])


def fine_tuned(encoder, seed, epochs):
    """A network trained on the types, all of it, with rare types weighing more."""
    return FineTuneClassifier(
        encoder,
        class_weight="balanced",
        augment=None,
        max_epochs=epochs,
        lr=1e-3,
        training=Training(weight_decay=0.05, precision="fp32"),
        random_state=seed,
    )


seeds, tuned = range(args.seeds), 30 if args.epochs >= 30 else args.epochs
logistic = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
forests = [RandomForestClassifier(500, class_weight="balanced", random_state=seed) for seed in seeds]
components = make_pipeline(FunctionTransformer(np.nan_to_num), PCA(50), StandardScaler(), logistic)
contenders = {
    "components + logistic": [(components, spectra)],
    "bins + forest": [(make_pipeline(FunctionTransformer(in_bins), forest), spectra) for forest in forests],
    "filled in + logistic": [(make_pipeline(StandardScaler(), logistic), rows) for rows in learned],
    "filled in + forest": list(zip(forests, learned, strict=True)),
    "filled in, fine-tuned": [(fine_tuned(FrozenEstimator(embedders[seed]), seed, tuned), spectra) for seed in seeds],
    "random weights, trained": [(fine_tuned(embedder.encoder, seed, tuned), spectra) for seed in seeds],
    "conv-attention, trained": [(fine_tuned("conv-attention", seed, args.epochs), spectra) for seed in seeds],
}
folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
common = supernovae.target_names != "Ibn"
lines = []
for name, models in contenders.items():
    for seed, (model, rows) in enumerate(models):
        answers = cross_val_predict(model, rows, types, groups=objects, cv=folds)
        found = recall_score(types, answers, average=None)
        lines.append([name, seed, found.mean(), found[common].mean()])
        print(f"{name}, seed {seed}: {found.mean():.3f}, without Ibn {found[common].mean():.3f}", flush=True)
table = pd.DataFrame(lines, columns=["method", "seed", "six types", "without Ibn"])
table.to_csv(args.out / "supernovae.csv", index=False)
print(table.groupby("method", sort=False)[["six types", "without Ibn"]].agg(["mean", "sem"]).round(3).to_string())
