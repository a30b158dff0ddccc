"""
================================
One space for images and spectra
================================

A galaxy's image and its spectrum are two accounts of one thing. AstroCLIP (Parker et al. 2024) teaches a network for
each, without labels, and then brings their accounts together: the two embeddings of one galaxy point the same way,
those of different galaxies do not. Then an image finds its spectrum among all others, and neighbors in the space tell
redshift and mass, of images alone.

Here all of it happens on a *simulated* survey of a few thousand galaxies: images in g, r and z, and spectra of the same
galaxies. The paper had 197,632 pairs of real ones and far larger networks. At the end stand 39 real pairs.

.. code-block:: bash

    python plot_astroclip.py                  # one seed
    python plot_astroclip.py --seeds 3        # what was done is in a file, and not repeated

.. plot:: figures/pairs.py
   :alt: After alignment neighbors tell redshift, mass, age, metallicity and star formation better than before.

   What three seeds found, before the alignment and after it:
   :ref:`measured <measurements:2026-11-21, one space for images and spectra>`.
"""

# sphinx_gallery_thumbnail_path = 'generated/pairs.png'
import argparse
import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import PredefinedSplit
from sklearn.preprocessing import StandardScaler

from skastro import (
    AstroCLIPEmbedder,
    DINOEmbedder,
    FineTuneRegressor,
    FlowPosterior,
    ImageEncoder,
    MaskedSpectrumEmbedder,
    SimCLREmbedder,
    SpectrumEncoder,
)
from skastro.datasets import load_deimos_pairs, make_survey
from skastro.metrics import retrieval_table
from skastro.model_selection import property_scores
from skastro.plotting import CoverageDisplay

parser = argparse.ArgumentParser(description="One space for images and spectra.")
parser.add_argument("--pairs", type=int, default=5000, help="simulated galaxies, of which a fifth is held out")
parser.add_argument("--images", choices=["dino", "simclr"], default="dino", help="what learns the images")
parser.add_argument("--epochs", type=int, default=8, help="of each network, before the alignment")
parser.add_argument("--align", type=int, default=40, help="epochs of the alignment")
parser.add_argument("--seeds", type=int, default=1)
parser.add_argument("--first-seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figures and tables")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)

# %%
# Pairs
# -----
#
# Each simulated galaxy is one row of a table of physical properties; its image and its spectrum both follow from it,
# each with noise of its own.

PROPERTIES = ["redshift", "log_mass", "age", "metallicity", "log_ssfr"]


def simulate(seed):
    """Images, spectra without their lost pixels, inverse variance, colors and what is true."""
    sky = make_survey(args.pairs, bands="grz", size=48, spectra=True, random_state=seed)
    sky.truth = sky.properties.assign(redshift=sky.redshift)[PROPERTIES]
    sky.photometry = np.column_stack([sky.magnitudes, -np.diff(sky.magnitudes, axis=1)])
    sky.is_test = np.arange(args.pairs) % 5 == 0
    return sky


# %%
# Two networks, and their alignment
# ---------------------------------
#
# First each network learns from its own modality, as in the paper: images by views of themselves (DINO, here of a small
# ResNet: a vision transformer wants far more images), spectra by filling in what was hidden. Then both are frozen, and
# only what pools their tokens is trained, on the pairs. Galaxies held out are seen by none of them.


def learn_images(sky, seed):
    settings = {"max_epochs": args.epochs, "normalize": "asinh", "random_state": seed, "verbose": 1}
    if args.images == "dino":
        dino = DINOEmbedder("resnet10t", augment="galaxy-crops", prototypes=256, batch_size=64, lr=1e-3, **settings)
        return dino.fit(sky.images[~sky.is_test])
    return SimCLREmbedder(**settings).fit(sky.images[~sky.is_test])


def learn_spectra(sky, seed):
    embedder = MaskedSpectrumEmbedder(
        SpectrumEncoder(depth=3, width=96, heads=4), max_epochs=args.epochs, random_state=seed, verbose=1
    )
    return embedder.fit(sky.spectra[~sky.is_test], ivar=sky.ivar[~sky.is_test])


def align(image, spectrum, sky, seed):
    clip = AstroCLIPEmbedder(
        FrozenEstimator(image),
        FrozenEstimator(spectrum),
        embedding_dim=128,
        max_epochs=args.align,
        random_state=seed,
        verbose=1,
    )
    train = ~sky.is_test
    return clip.fit(sky.images[train], sky.spectra[train], ivar=sky.ivar[train])


def supervised(encoder, rows, sky, seed, ivar=None, **settings):
    """A network trained on the properties themselves: its answers are the features."""
    model = FineTuneRegressor(encoder, random_state=seed, **settings)
    train = ~sky.is_test
    model.fit(rows[train], sky.truth[train], ivar=None if ivar is None else ivar[train])
    return model.predict(rows, ivar=ivar)


def describe(sky, seed):
    """Every way to tell of a galaxy in numbers, by modality and name; and the alignment."""
    image, spectrum = learn_images(sky, seed), learn_spectra(sky, seed)
    clip = align(image, spectrum, sky, seed)
    by_image, by_spectrum = clip.transform(sky.images, sky.spectra, ivar=sky.ivar)
    pixels = np.arcsinh(sky.images.reshape(args.pairs, -1) / image.normalizer_["noise"].repeat(48 * 48))
    known = np.where(sky.ivar > 0, sky.spectra, 0)
    return clip, {
        "image: aligned": by_image,
        "image: alone": image.transform(sky.images),
        "image: components": PCA(64, random_state=0).fit(pixels[~sky.is_test]).transform(pixels),
        "image: supervised": supervised(
            "resnet18", sky.images, sky, seed, normalize="asinh", max_epochs=args.epochs, lr=5e-4
        ),
        "photometry": sky.photometry,
        "spectrum: aligned": by_spectrum,
        "spectrum: alone": spectrum.transform(sky.spectra, ivar=sky.ivar),
        "spectrum: components": PCA(64, random_state=0).fit(known[~sky.is_test]).transform(known),
        "spectrum: supervised": supervised(
            "conv-attention", sky.spectra, sky, seed, ivar=sky.ivar, max_epochs=5 * args.epochs, lr=1e-3
        ),
    }


# %%
# What the embeddings know
# ------------------------
#
# Redshift and four properties, told by 64 neighbors or by a small network: the layout of the paper's table 2. All
# heads learn from four fifths of the galaxies and answer for the rest. Beside the embeddings stand principal
# components, magnitudes and colors, and what two networks answer that were trained on the properties themselves: a
# ResNet18 and, for spectra, the paper's convolutions with attention.

sizes = f"{args.pairs} pairs, {args.images}, {args.epochs} and {args.align} epochs"
files = {kind: args.out / f"astroclip_{kind}.csv" for kind in ("properties", "retrieval")}


def known(kind):
    """What the file holds of these sizes."""
    return pd.read_csv(files[kind]).query("sizes == @sizes") if files[kind].exists() else pd.DataFrame({"seed": []})


def keep(kind, table, seed):
    table.assign(seed=seed, sizes=sizes).to_csv(files[kind], mode="a", header=not files[kind].exists(), index=False)


seeds = range(args.first_seed, args.first_seed + args.seeds)
for seed in [seed for seed in seeds if seed not in set(known("retrieval")["seed"])] or seeds[:1]:
    start = time.process_time()
    sky = simulate(seed)
    clip, rows = describe(sky, seed)
    aligned = {name: rows[f"{name}: aligned"][sky.is_test] for name in ("image", "spectrum")}
    if seed not in set(known("retrieval")["seed"]):
        folds = PredefinedSplit(np.where(sky.is_test, 0, -1))
        keep("properties", property_scores(rows, sky.truth, cv=folds), seed)
        keep("retrieval", retrieval_table(aligned).reset_index(), seed)
    print(f"seed {seed}: {(time.process_time() - start) / 60:.1f} CPU minutes", flush=True)

table = known("properties").pivot_table("score", ["head", "embedding"], "property", aggfunc=["mean", "sem"])
print("R² of held-out galaxies, mean over seeds and its standard error:")
print(table.round(3).to_string())
print(f"Retrieval among {sky.is_test.sum():,} held-out galaxies, mean over seeds:")
print(
    known("retrieval")
    .groupby(["query", "gallery"])
    .mean(numeric_only=True)
    .drop(columns="seed")
    .dropna()  # one modality alone holds an object once, and so no answer
    .round(3)
    .to_string()
)

# %%
# An image looks for its spectrum
# -------------------------------
#
# The nearest of all held-out spectra to six images, and the one that belongs to it.

chosen = np.flatnonzero(sky.is_test)[:6]
likeness = aligned["image"][:6] @ aligned["spectrum"].T
found = np.flatnonzero(sky.is_test)[likeness.argmax(axis=1)]
figure, axes = plt.subplots(6, 2, figsize=(9, 9), width_ratios=[1, 5], layout="constrained")
for (left, right), query, answer in zip(axes, chosen, found, strict=True):
    left.imshow(np.arcsinh(sky.images[query, ::-1] * 20).clip(0, 3).transpose(1, 2, 0) / 3, origin="lower")
    left.axis("off")
    for row, color in ((query, "0.6"), (answer, "#D55E00")):
        seen = sky.ivar[row] > 0
        right.plot(sky.wavelengths[seen], sky.spectra[row][seen], color=color, linewidth=0.6)
    right.set_title(f"true z = {sky.redshift[query]:.3f}, found z = {sky.redshift[answer]:.3f}", fontsize="small")
    right.spines[["top", "right"]].set_visible(False)
axes[-1, 1].set_xlabel("wavelength (Å); gray: its own spectrum, orange: the nearest")
figure.savefig(args.out / "astroclip_search.png", dpi=110)

# %%
# A posterior, and whether to believe it
# --------------------------------------
#
# From the aligned embedding of an image alone: redshift and mass with their joint distribution, by an ensemble of
# flows. It learns from the training galaxies; the test of coverage is on those held out.

both = sky.truth[["redshift", "log_mass"]].to_numpy()
features = StandardScaler().fit(rows["image: aligned"][~sky.is_test]).transform(rows["image: aligned"])
posterior = FlowPosterior(n_estimators=3, random_state=seed).fit(features[~sky.is_test], both[~sky.is_test])
print(f"Mean log-probability of the truth: {posterior.score(features[sky.is_test], both[sky.is_test]):.2f}")
display = CoverageDisplay.from_estimator(posterior, features[sky.is_test], both[sky.is_test], n_samples=200)
display.figure_.savefig(args.out / "astroclip_coverage.png", dpi=110)

# %%
# Real pairs
# ----------
#
# 39 galaxies with an image by the Hubble Space Telescope and a spectrum by Keck. They are far too few to align two
# networks; what can be shown is that real files go the same way: bad pixels, other bands, other wavelengths. Of the ten
# held out, an image finds its own spectrum among the first three by chance in 30 % of cases.

data = Path(os.environ.get("SKASTRO_DATA") or Path(__file__).parents[2] / "shared" / "data")
if (data / "deimos_pairs.npz").exists():
    pairs = load_deimos_pairs(data)
    real = AstroCLIPEmbedder(
        ImageEncoder("resnet10t"), SpectrumEncoder(depth=2, width=64), embedding_dim=64, max_epochs=30, random_state=0
    )
    fitted = real.fit(pairs.images[:29], pairs.spectra[:29], ivar=pairs.ivar[:29])
    for name, part in (("seen", slice(29)), ("held out", slice(29, None))):
        image, spectrum = fitted.transform(pairs.images[part], pairs.spectra[part], ivar=pairs.ivar[part])
        print(f"Real pairs, {name}:")
        print(retrieval_table({"image": image, "spectrum": spectrum}, k=[1, 3]).round(2).to_string())
