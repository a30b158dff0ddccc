"""
====================================
A map of galaxies, and a walk in it
====================================

An embedding has hundreds of columns; a map has two, and shows what the network takes for alike. We map the galaxies of
the Kaggle challenge of Galaxy Zoo, look at thumbnails where they fall, ask what the map keeps of the embedding and what
it loses, and make a page to walk around in: it opens from disk, finds look-alikes, and takes labels by hand.

.. code-block:: bash

    pip install skastro[plot,maps,files]
    python plot_map_of_galaxies.py
"""

# sphinx_gallery_thumbnail_number = 1
import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import EmbeddingMap, SimCLREmbedder, explore
from skastro.plotting import EmbeddingMapDisplay

parser = argparse.ArgumentParser(description="A map of galaxies, and a walk in it.")
parser.add_argument("--epochs", type=int, default=10, help="passes over the galaxies; 0 leaves the network untrained")
parser.add_argument("--galaxies", type=int, default=2500, help="of the galaxies in a clean class, at most")
parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figures and the page")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)

# %%
# The galaxies
# ------------
#
# Those on whose shape volunteers agreed: smooth (round, in between, or like a cigar), edge-on disks, spirals. The
# network learns from the pixels alone.

data = Path(os.environ.get("SKASTRO_DATA") or Path(__file__).parents[2] / "shared" / "data")
if not (data / "galaxies_gz2kaggle.npz").exists():
    sys.exit(f"This example needs galaxies_gz2kaggle.npz, and {data} has none: set SKASTRO_DATA to the folder.")
stored = np.load(data / "galaxies_gz2kaggle.npz")
chosen = np.flatnonzero(stored["label5"] >= 0)[: args.galaxies]
images = np.moveaxis(stored["images"][chosen], -1, 1)
shapes = stored["label5_names"][stored["label5"][chosen]]
print(f"{len(images):,} galaxies:", pd.Series(shapes).value_counts().to_dict())

embedder = SimCLREmbedder(
    "resnet10t", average="dihedral", max_epochs=args.epochs, verbose=int(args.epochs > 0), random_state=0
)
embedding = embedder.fit_transform(images)

# %%
# The map
# -------
#
# Scaled columns, up to 200 principal components, then UMAP, which starts from the first two. On the right, of each cell
# the galaxy nearest to its middle. Neighbors mean something; how far apart groups are, and how large, does not.

galaxy_map = EmbeddingMap(random_state=0).fit(embedding)
display = EmbeddingMapDisplay(galaxy_map.positions_, color=shapes, thumbnails=images).plot(color_name="shape")
display.figure_.savefig(args.out / "map_of_galaxies.png", dpi=150)

brightness = images.mean(axis=(1, 2, 3))
display = EmbeddingMapDisplay(galaxy_map.positions_, color=brightness).plot(color_name="mean of the pixels")
display.figure_.savefig(args.out / "map_of_brightness.png", dpi=150)

# %%
# What a map keeps
# ----------------
#
# Fifteen neighbors vote on the shape, in the embedding and in three maps of it (five folds; a map is made of all
# galaxies and sees no label). ``trustworthiness_`` asks without labels: are neighbors in the map neighbors in the
# embedding?

votes = KNeighborsClassifier(15)
rows = {"embedding": [cross_val_score(votes, StandardScaler().fit_transform(embedding), shapes).mean(), 1.0]}
for method in dict.fromkeys([galaxy_map.method_, "tsne", "pca"]):
    made = galaxy_map if method == galaxy_map.method_ else EmbeddingMap(method, random_state=0).fit(embedding)
    rows[method] = [cross_val_score(votes, made.positions_, shapes).mean(), made.trustworthiness_]
print(pd.DataFrame(rows, index=["accuracy of 15 neighbors", "trustworthiness"]).T.round(3).to_string())

# %%
# A walk
# ------
#
# One file with thumbnails and embeddings in it: open it in a browser. Hover, zoom, color by a column, draw a lasso,
# click for look-alikes, search by name, and put labels on with the keys 1 to 9. Nothing leaves the page.

page = explore(
    embedding,
    images,
    ids=stored["galaxy_id"][chosen],
    columns={"shape": shapes, "brightness": brightness, "odd": stored["odd_spiral"][chosen]},
    positions=galaxy_map.positions_,
    labels=["ring", "merger", "artifact"],
    title="Galaxies of the Kaggle challenge",
    path=args.out / "galaxies.html",
)
print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")

# %%
# Labels come back as a table that pandas reads, with the rows they belong to. Here is one such as the page saves, of
# the first 60 galaxies, as if somebody had labeled them, and what a probe makes of it.

table = pd.DataFrame({"row": np.arange(60), "id": stored["galaxy_id"][chosen][:60], "label": shapes[:60]})
table.to_csv(args.out / "labels.csv", index=False)

table = pd.read_csv(args.out / "labels.csv")
probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
probe.fit(embedding[table["row"]], table["label"])
print(f"Accuracy on the others, of {len(table)} labels: {probe.score(embedding[60:], shapes[60:]):.2f}")
