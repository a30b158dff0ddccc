"""
=======================================
Redshifts from images, with few spectra
=======================================

A spectrum tells a galaxy's distance and takes an hour; five images take a minute and come by the million. Hayat et al.
(2021) let MoCo look at the million first. Here is their paper in miniature, on a *simulated* survey in ugriz: pretrain
without redshifts, then ask four questions of the same labels. How good are the redshifts of a network trained from
scratch, of one fine-tuned, of a head on the frozen embedding, and of catalog colors? How wide should the error bars
be? And how well are the kinds of galaxy told apart?

.. code-block:: bash

    python plot_photometric_redshifts.py                  # small, for a laptop
    python plot_photometric_redshifts.py --full           # ResNet-50, 64 pixels, 100,000 galaxies: for a GPU
    python plot_photometric_redshifts.py --only redshift --seeds 3 --counts 600

.. plot:: figures/photometric_redshifts.py
   :alt: Errors of five methods: 0.0127 fine-tuned, 0.0135 supervised, 0.0196 by neighbors on colors.

   What the last of these found, mean of three seeds of labels and weights:
   :ref:`measured <measurements:2026-11-20, redshifts on a simulated survey>`.
"""

# sphinx_gallery_thumbnail_path = 'generated/photometric_redshifts.png'
import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import set_config
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import (
    FineTuneClassifier,
    FineTuneRegressor,
    ImageEncoder,
    MoCoEmbedder,
    PhotoZRegressor,
    Training,
    label_sweep,
)
from skastro.augment import Augment, Flip, GaussianNoise, Rotate, Shift
from skastro.datasets import make_survey
from skastro.metrics import photoz_table
from skastro.plotting import LabelSweepDisplay, PhotoZDisplay
from skastro.preprocessing import Deredden

parser = argparse.ArgumentParser(description="Redshifts from images, with few spectra.")
parser.add_argument("--full", action="store_true", help="sizes for a GPU")
parser.add_argument("--only", choices=("redshift", "morphology"), nargs="+", default=("redshift", "morphology"))
parser.add_argument("--counts", type=int, nargs="+", help="numbers of labels")
parser.add_argument("--seeds", type=int, default=1)
parser.add_argument("--first-seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figures and tables")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)

# %%
# The survey
# ----------
#
# The Milky Way reddens each galaxy by an amount that dust maps know, E(B−V). `Deredden` undoes it before anything else
# sees the pixels: a step of a pipeline, to which metadata routing brings each galaxy's value at ``fit`` and at
# ``predict``.

set_config(enable_metadata_routing=True)
n_train, n_test, side, window = (100_000, 20_000, 107, 64) if args.full else (6_000, 3_000, 40, 32)
sky = make_survey(n_train + n_test, size=side, random_state=0)
redshift, kind = sky.redshift, sky.target
ebv = sky.properties["ebv"].to_numpy()
train, test = np.arange(n_train), np.arange(n_train, n_train + n_test)

deredden = Deredden("sdss")  # asks for ebv by itself
clean = deredden.fit_transform(sky.images, ebv=ebv)

# %%
# Pretraining
# -----------
#
# The recipe changes what says nothing about a redshift: orientation, position, noise. (The paper reddens its views
# too.) The paper's encoder, a ResNet-50 with a stem for small images, is one line.

name, stem = ("resnet50", "7x7") if args.full else ("resnet18", None)
encoder = ImageEncoder(name, stem=stem, pool="avg", init=None)
views = Augment(
    [
        ("noise", GaussianNoise(scale=(0.0, 2.0))),
        ("rotate", Rotate(degrees=180)),
        ("shift", Shift(pixels=(side - window) // 2)),
        ("flip", Flip()),
    ]
)
looks = {"survey": "sdss", "size": window, "normalize": "asinh"}
training = Training(ema=0.999 if args.full else 0.99, ema_schedule="constant")
embedder = MoCoEmbedder(
    encoder, augment=views, **looks, max_epochs=50 if args.full else 12, training=training, verbose=1
)

# %%
# The contenders
# --------------
#
# Catalog magnitudes are measured on the images, in two circles. Networks end in a softmax over bins of redshift, and
# what they predict is a distribution.


def magnitudes(images):
    """Inverse hyperbolic sine magnitudes within 4 and 12 pixels of the center."""
    radius = np.hypot(*(np.indices((side, side)) - (side - 1) / 2))
    flux = np.stack([images[:, :, radius < r].sum(axis=2) for r in (4, 12)], axis=1)
    return -2.5 / np.log(10) * np.arcsinh(flux / 0.5)


def colors(images):
    """Four colors and the r magnitude, within 12 pixels."""
    outer = magnitudes(images)[:, 1]
    return np.column_stack([outer[:, :-1] - outer[:, 1:], outer[:, 2]])


tuning = {"lr": 1e-3, "augment": "supervised", "max_epochs": 100 if args.full else 60, "verbose": 1}


def contenders(pretrained, seed):
    """Redshift estimators by name, and what they take of a galaxy."""
    neighbors = make_pipeline(StandardScaler(), KNeighborsRegressor(10, weights="distance"))
    trees = HistGradientBoostingRegressor(random_state=seed)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    own = {"head": "redshift-bins", "random_state": seed}
    return {
        "neighbors on colors": (neighbors, colors),
        "trees on magnitudes": (trees, lambda images: magnitudes(images).reshape(len(images), -1)),
        "linear probe": (PhotoZRegressor(probe, n_bins=60), pretrained.transform),
        "supervised": (FineTuneRegressor(encoder, **own, **looks, **tuning), np.asarray),
        "fine-tuned": (FineTuneRegressor(FrozenEstimator(pretrained), **own, **tuning), np.asarray),
    }


# %%
# Redshifts
# ---------
#
# Bias, scatter and the fraction of outliers of Δz = (z_p − z_s) / (1 + z_s), and how many truths lie within the central
# intervals of 50, 68 and 90 %.


if "redshift" in args.only:
    rows = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        pretrained = clone(embedder).set_params(random_state=seed).fit(clean[train])
        for n_labels in args.counts or [n_train // 10]:
            chosen = np.random.default_rng(seed).permutation(train)[:n_labels]
            for method, (model, take) in contenders(pretrained, seed).items():
                model.fit(take(clean[chosen]), redshift[chosen])
                unseen = take(clean[test])
                point = model.predict(unseen)
                pdf, edges = model.predict_pdf(unseen) if hasattr(model, "predict_pdf") else (None, None)
                scores = photoz_table(redshift[test], point, pdf=pdf, edges=edges).iloc[-1]
                rows.append({"seed": seed, "method": method, "n_labels": n_labels, **scores})
                print(*rows[-1].values(), flush=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(args.out / f"photometric_redshifts_{args.first_seed}.csv", index=False)
    print(frame.groupby(["n_labels", "method"], sort=False).mean().drop(columns=["seed", "n"]).round(4))
    display = PhotoZDisplay.from_predictions(redshift[test], point)
    display.figure_.savefig(args.out / "photometric_redshifts.png", dpi=150)
    if frame["n_labels"].nunique() > 1:
        metrics = {"bias": "bias", "sigma_mad": "σ_MAD", "outliers": "η"}
        display = LabelSweepDisplay.from_frame(frame, metrics=metrics)
        display.figure_.savefig(args.out / "photometric_redshifts_labels.png", dpi=150)

# %%
# The whole of it as one estimator: raw images and dust in, redshift out. This is what one saves and shares.

if "redshift" in args.only:
    model = make_pipeline(deredden, model).fit(sky.images[chosen], redshift[chosen], ebv=ebv[chosen])
    raw = model.predict(sky.images[test], ebv=ebv[test])
    print("same answers from raw images:", np.allclose(raw, point, atol=1e-3))

# %%
# Morphology
# ----------
#
# The kind of galaxy, of six, against the number of labels. Here dust and brightness matter less, and shape more.

if "morphology" in args.only:
    pretrained = clone(embedder).set_params(random_state=args.first_seed).fit(clean[train])
    head = LogisticRegression(C=0.01, max_iter=500)
    sweep = label_sweep(
        {
            "linear probe": make_pipeline(FrozenEstimator(pretrained), StandardScaler(), head),
            "supervised": FineTuneClassifier(encoder, **looks, **tuning),
            "fine-tuned": FineTuneClassifier(FrozenEstimator(pretrained), **tuning),
        },
        clean,
        kind,
        label_counts=args.counts or [n_train // 20, n_train // 10],
        cv=PredefinedSplit(np.where(np.arange(len(clean)) < n_train, -1, 0)),
        n_repeats=args.seeds,
        scoring=["accuracy", "f1_macro"],
        random_state=args.first_seed,
    )
    sweep.to_csv(args.out / f"photometric_morphology_{args.first_seed}.csv", index=False)
    print(sweep.groupby(["n_labels", "method"], sort=False)[["accuracy", "f1_macro"]].mean().round(3))
    display = LabelSweepDisplay.from_frame(sweep, metrics={"accuracy": "accuracy", "f1_macro": "F1"})
    display.figure_.savefig(args.out / "photometric_morphology.png", dpi=150)
