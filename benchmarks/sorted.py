"""Does a file sorted by class train as well, shuffled within a window, as one shuffled throughout?

python benchmarks/sorted.py [--windows 500 1000 2000] [--seeds 0 1 2]

SimCLR on the real galaxies of Galaxy Zoo 1, written to HDF5 one class after the other in chunks of 100; then a linear
probe of the four classes on folds that are the same for all, and the difference to the full shuffle, seed by seed.
"""

import argparse
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from machine import header
from questions import FOLDER
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import SimCLREmbedder
from skastro.datasets import open_images

CLASSES = np.array([0, 1, 1, 2, -1, 3])  # elliptical, two ways to turn, edge-on, don't know, merger


def write(path: Path) -> np.ndarray:
    """Write the galaxies sorted by class, and give their classes."""
    zoo = np.load(FOLDER / "galaxies_gz1.npz")
    label = CLASSES[zoo["label"]]
    rows = np.argsort(label, kind="stable")
    with h5py.File(path, "w") as file:
        images = np.moveaxis(zoo["images"][rows], -1, 1)
        file.create_dataset("images", data=images, chunks=(100, *images.shape[1:]))
    return label[rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max-epochs", type=int, default=4)
    options = parser.parse_args()
    header("a file sorted by class")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", tol=1e-3))
    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        label = write(path := Path(folder, "sorted.h5"))
        asked = np.flatnonzero(label >= 0)
        images, folds = open_images(path), RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0)
        for seed in options.seeds:
            for window in ["all", *options.windows]:
                width = len(images) if window == "all" else window
                embedder = SimCLREmbedder(size=48, max_epochs=options.max_epochs, random_state=seed)
                rows = embedder.set_params(training__shuffle_window=width).fit(images).transform(images[asked])
                found = cross_val_score(probe, rows, label[asked], cv=folds, scoring="balanced_accuracy")
                scores[seed, window] = found.mean()
                print(seed, window, round(found.mean(), 4), flush=True)
    table = pd.Series(scores).unstack()
    difference = table.drop(columns="all").sub(table["all"], axis=0)
    print(f"{len(images)} galaxies", table.mean().round(4).to_string(), sep="\n")
    print("less a full shuffle", difference.agg(["mean", "sem"]).round(4).to_string(), sep="\n")


if __name__ == "__main__":
    main()
