"""
==============================
Finding the odd ones, together
==============================

A survey has more galaxies than anybody can look at. Some are there twice, some are not galaxies but trails of
satellites, and a few are what one has been waiting for. This example goes looking: for copies, for artifacts, and, with
a person who says of some galaxies "odd" or "not odd", for mergers and dust lanes among spirals. The person is simulated
by the answers of Galaxy Zoo's volunteers.

.. code-block:: bash

    python plot_finding.py
    python plot_finding.py --epochs 1 --galaxies 300            # to see it run
"""

# sphinx_gallery_thumbnail_number = 2
import argparse
import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import ActiveRanking, LookAlikes, SimCLREmbedder
from skastro.augment import SatelliteTrail
from skastro.plotting import LookAlikesDisplay, RankingDisplay
from skastro.search import find_duplicates

parser = argparse.ArgumentParser(description="Finding the odd ones, together.")
parser.add_argument("--epochs", default="auto", help="passes over the images; auto shows 32,000")
parser.add_argument("--galaxies", type=int, default=1500)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figures")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)

# %%
# The galaxies
# ------------
#
# Color cutouts of the Sloan Digital Sky Survey, from the Galaxy Zoo challenge on Kaggle, of 64 pixels. To have
# something to find, ten of them get the trail of a satellite, and ten others are there a second time, turned by a
# quarter and with other noise.

data = Path(os.environ.get("SKASTRO_DATA") or Path(__file__).parents[2] / "shared" / "data")
if not (data / "galaxies_gz2kaggle.npz").exists():
    sys.exit(
        f"This example needs galaxies_gz2kaggle.npz, and {data} has none: set SKASTRO_DATA to the folder that does."
    )

rng = np.random.default_rng(args.seed)
held = np.load(data / "galaxies_gz2kaggle.npz")
chosen = rng.permutation(np.flatnonzero((held["odd_spiral"] >= 0) & (held["flag"] == 0) & (held["dup_group"] < 0)))
chosen = chosen[: args.galaxies]
images, odd = np.moveaxis(held["images"][chosen], -1, 1), held["odd_spiral"][chosen] == 1

trails, originals = np.split(rng.choice(len(images), 20, replace=False), 2)
step, pixels = SatelliteTrail(p=1.0), torch.from_numpy(images[trails]).float()
step.fit(pixels.numpy(), survey=None, noise=np.full(3, 6.0))
drawn = step.draw(tuple(pixels.shape), torch.Generator().manual_seed(args.seed))
images[trails] = step.apply(pixels, **drawn).numpy().clip(0, 255).astype(np.uint8)
copies = np.rot90(images[originals], axes=(2, 3)) + rng.normal(0, 4, images[originals].shape)
images = np.concatenate([images, copies.clip(0, 255).astype(np.uint8)])

# %%
# Twice the same
# --------------
#
# No network is needed for that: a fingerprint of the pixels, which turns and shifts leave alone, proposes pairs, and
# laying one over the other decides.

pairs = find_duplicates(images)
planted = pairs["second"] - (len(images) - 10) == [np.flatnonzero(originals == first).sum() for first in pairs["first"]]
print(f"{len(pairs)} pairs are found, {planted.sum()} of the 10 that were made among them")
print(pairs.drop(columns="separation").round(2).to_string(index=False))
images = images[: len(chosen)]

# %%
# Look-alikes
# -----------
#
# SimCLR learns from the images alone. Averaged over flips and quarter turns, its embedding does not mind how a galaxy
# lies.

embedder = SimCLREmbedder(
    average="dihedral",
    max_epochs=args.epochs if args.epochs == "auto" else int(args.epochs),
    verbose=1,
    random_state=args.seed,
)
rows = embedder.fit(images).transform(images)
display = LookAlikesDisplay.from_embedding(images, rows, queries=[trails[0], *np.flatnonzero(odd)[:3]])
display.figure_.savefig(args.out / "look_alikes.png", dpi=150)

# %%
# More like this one
# ------------------
#
# One trail was noticed. What else is like it? A linear classifier, fitted on the spot, ranks all galaxies.

search = LookAlikes().fit(rows)
scores = search.more_like(trails[0])
is_trail = np.isin(np.arange(len(images)), trails)
others = np.arange(len(images)) != trails[0]
n_first, area = is_trail[np.argsort(-scores)[:24]].sum() - 1, roc_auc_score(is_trail[others], scores[others])
print(f"of the 9 other trails {n_first} are among the first 24; area under the ROC curve {area:.3f}")
display = RankingDisplay.from_scores(images, scores)
display.figure_.savefig(args.out / "trails.png", dpi=150)

# %%
# What to look at next
# --------------------
#
# Spirals that volunteers called odd are sought. A person looks at twenty galaxies at a time and scores each, 5 if it is
# odd and 0 if not; the ranking learns, and says which twenty are next.

compact = make_pipeline(StandardScaler(), PCA(16, random_state=0)).fit_transform(rows)
looked = {"next by ActiveRanking": [], "at random": list(rng.permutation(len(images)))}
opinions = np.full(len(images), np.nan)
while len(looked["next by ActiveRanking"]) < len(images) // 2:
    following = ActiveRanking(random_state=args.seed).fit(compact, opinions).ranking_[:20]
    opinions[following] = 5 * odd[following]
    looked["next by ActiveRanking"].extend(following)

figure, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
for name, order in looked.items():
    found = np.cumsum(odd[order]) / odd.sum()
    ax.plot(np.arange(1, len(found) + 1), found, label=name)
    print(f"{name}: {found[len(images) // 4 - 1]:.0%} of the odd ones after looking at a quarter of all")
ax.set(xlabel="Galaxies looked at", ylabel="Odd ones found", ylim=(0, 1), xlim=(0, len(images) // 2))
ax.legend(frameon=False)
figure.savefig(args.out / "looks.png", dpi=150)
