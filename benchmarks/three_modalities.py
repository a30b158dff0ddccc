"""Align images, spectra and magnitudes of simulated galaxies, and look each up in each of the others.

python benchmarks/three_modalities.py [--objects 3000] [--epochs 15] [--seeds 1]

Three alignments: of images and spectra alone, of all three, and of all three where a fifth of the training objects
lacks each modality. Recall at 10 is measured among held-out objects, a fifth, which have all.
"""

import argparse
from itertools import permutations

import numpy as np
import pandas as pd
from machine import header
from sklearn.preprocessing import StandardScaler

from skastro import AstroCLIPEmbedder, SpectrumEncoder, Training
from skastro.datasets import make_survey
from skastro.metrics import retrieval_score

NAMES = ("image", "spectrum", "magnitudes")
SETTINGS = {"embedding_dim": 128, "batch_size": 128, "lr": 1e-3, "training": Training(precision="fp32")}


def without(rows: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Rows of which some are missing."""
    rows = np.array(rows, dtype=np.float64)
    rows[missing] = np.nan
    return rows


def recall(clip: AstroCLIPEmbedder, parts: list[np.ndarray]) -> dict[str, float]:
    """Recall at 10 in all directions."""
    y = parts[1] if len(parts) == 2 else parts[1:]
    rows = dict(zip(NAMES, clip.transform(parts[0], y), strict=False))
    return {f"{a} → {b}": retrieval_score(rows[a], rows[b], k=10)["recall"] for a, b in permutations(rows, 2)}


def run(n: int, epochs: int, seed: int) -> dict[str, dict[str, float]]:
    sky = make_survey(n, bands="grz", size=48, spectra=True, random_state=seed)
    spectra = np.where(sky.ivar > 0, sky.spectra, np.nan)
    parts = [np.arcsinh(sky.images / np.median(np.abs(sky.images))), spectra, sky.magnitudes]
    held_out = np.arange(n) % 5 == 0
    train, test = [part[~held_out] for part in parts], [part[held_out] for part in parts]
    missing = np.random.default_rng(seed).random((3, len(train[0]))) < 0.2
    gaps = [without(part, lost) for part, lost in zip(train, missing, strict=True)]
    encoders = ("resnet10t", SpectrumEncoder(depth=2, width=64))
    two = AstroCLIPEmbedder(*encoders, max_epochs=epochs, random_state=seed, **SETTINGS)
    three = AstroCLIPEmbedder(*encoders, others=[StandardScaler()], max_epochs=epochs, random_state=seed, **SETTINGS)
    return {
        "two": recall(two.fit(train[0], train[1]), test[:2]),
        "three": recall(three.fit(train[0], train[1:]), test),
        "three, a fifth of each missing": recall(three.fit(gaps[0], gaps[1:]), test),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    header(f"three modalities of {chosen.objects} simulated objects, {chosen.epochs} epochs")
    tables = [pd.DataFrame(run(chosen.objects, chosen.epochs, seed)) for seed in range(chosen.seeds)]
    print(pd.concat(tables).groupby(level=0, sort=False).mean().round(3).to_string())
    print(f"chance {10 / np.ceil(chosen.objects / 5):.3f}")


if __name__ == "__main__":
    main()
