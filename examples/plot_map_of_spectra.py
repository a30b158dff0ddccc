"""
====================================
Maps of spectra and of light curves
====================================

A map is as good for spectra and light curves as it is for images: its thumbnails are small lines. We map supernovae by
their spectra, with the embedding of a network that learned to fill in gaps, and variable sources by features of their
light curves, each with a page to walk around in.

.. code-block:: bash

    python plot_map_of_spectra.py
"""

# sphinx_gallery_thumbnail_number = 1
import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from skastro import EmbeddingMap, MaskedSpectrumEmbedder, SpectrumEncoder, explore
from skastro.datasets import load_supernovae
from skastro.plotting import EmbeddingMapDisplay

parser = argparse.ArgumentParser(description="Maps of spectra and of light curves.")
parser.add_argument("--epochs", type=int, default=50, help="passes over the spectra")
parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figures and the pages")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)

data = Path(os.environ.get("SKASTRO_DATA") or Path(__file__).parents[2] / "shared" / "data")
if not (data / "sn_spectra.npz").exists() or not (data / "lightcurves.npz").exists():
    sys.exit(f"This example needs sn_spectra.npz and lightcurves.npz, and {data} has none: set SKASTRO_DATA.")

# %%
# Supernovae
# ----------
#
# Most were observed several times, so a small group may be one supernova: color by its name in the page, or search for
# it. Spectra are NaN where they have no data, and lines are not drawn there.

supernovae = load_supernovae(data)
embedder = MaskedSpectrumEmbedder(
    SpectrumEncoder(depth=2, width=64, heads=4, token=32, stride=32), max_epochs=args.epochs, verbose=1, random_state=0
)
embedding = embedder.fit_transform(supernovae.spectra)
types = np.array(supernovae.target_names)[supernovae.target]
display = EmbeddingMapDisplay.from_embedding(embedding, color=types, thumbnails=supernovae.spectra, color_name="type")
display.figure_.savefig(args.out / "map_of_supernovae.png", dpi=150)

page = explore(
    embedding,
    supernovae.spectra,
    ids=supernovae.groups,
    positions=display.positions,
    columns={"type": types, "supernova": supernovae.groups},
    title="Spectra of supernovae",
    path=args.out / "supernovae.html",
)
print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")

# %%
# Light curves
# ------------
#
# Of CRTS, in one band, at irregular times, ten points at least; a curve ends where its row is NaN. Nothing is learned
# here: the map is that of a dozen features, for any rows of numbers will do.

stored = np.load(data / "lightcurves.npz")
ends = stored["offset"]
lengths = np.diff(ends)
crts = np.flatnonzero((stored["survey"] == "CRTS") & (lengths >= 10))
times, magnitudes = np.full((2, len(crts), lengths[crts].max()), np.nan)
for row, curve in enumerate(crts):
    points = slice(ends[curve], ends[curve + 1])
    times[row, : lengths[curve]], magnitudes[row, : lengths[curve]] = stored["time"][points], stored["mag"][points]

levels = np.nanpercentile(magnitudes, [1, 5, 25, 50, 75, 95, 99], axis=1)
steps = np.diff(magnitudes, axis=1)
features = np.column_stack(
    [
        *(levels - levels[3])[[0, 1, 2, 4, 5, 6]],
        levels[3],
        np.nanstd(magnitudes, axis=1),
        np.nanstd(steps, axis=1),
        np.nanmax(times, axis=1) - np.nanmin(times, axis=1),
        pd.DataFrame(magnitudes).skew(axis=1),
    ]
)
classes = stored["cls"][crts]
classes = np.where(np.isin(classes, ["AGN", "Blazar", "CV", "SN"]), classes, "other or uncertain")
features = StandardScaler().fit_transform(features)  # or look-alikes would go by the column of the largest numbers
curve_map = EmbeddingMap(random_state=0).fit(features)
display = EmbeddingMapDisplay(curve_map.positions_, color=classes, thumbnails=-magnitudes, times=times)
display.plot(color_name="class").figure_.savefig(args.out / "map_of_light_curves.png", dpi=150)

page = explore(
    features,
    -magnitudes,
    times=times,
    positions=curve_map.positions_,
    columns={"class": classes, "median magnitude": levels[3]},
    title="Light curves of CRTS",
    path=args.out / "light_curves.html",
)
print(f"{page}: {len(features):,} light curves, {page.stat().st_size / 1e6:.1f} MB")
