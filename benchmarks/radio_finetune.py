"""From random weights or from SimCLR? Radio galaxies of MiraBest, on the published split.

python benchmarks/radio_finetune.py [--side development] [--counts 72 145 291 729] [--seeds 0 1 2 3 4] [--table]

A network is trained on labels of FRI and FRII, and one that SimCLR pretrained, without labels, on all images outside
the test side. Beside them are linear probes of the pretrained network and of one with random weights. Images are the
central 72 pixels shrunk to 48, and one short SimCLR is for all; methods with "-70" see the central 70 pixels as they
are, and have a SimCLR of their own, of nothing but defaults. Answers are given plain, averaged over flips and quarter
turns, and averaged over seeds too, as an ensemble. On the development side, batches 6 and 7 of the training side are
tested on and kept from all training; settings are chosen there.

Probabilities go into one tidy file as soon as a run is finished, and a run that is in it already is not repeated.
"""

import argparse
import itertools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from machine import header
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import interpolate

import skastro
from skastro import FineTuneClassifier, SimCLREmbedder, Training
from skastro.augment import get_recipe
from skastro.datasets import load_mirabest

FOLDER = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data"))
SIDES = {"development": ("data_batch_6", "data_batch_7"), "published": ("test_batch",)}
METHODS = ("untrained", "probe", "supervised", "fine-tuned", "supervised-70", "fine-tuned-70")
VIEWS = {"plain": None, "averaged": "dihedral"}
KEYS = ["side", "method", "n_labels", "seed"]
IMAGES = {"encoder": "resnet10t", "normalize": "standard"}
PRETRAINING = SimCLREmbedder(
    **IMAGES, augment=get_recipe("radio").set_params(crop__scale=(0.5, 1.0)), max_epochs=25, random_state=0
)
TUNING = {
    "augment": "radio-finetune",
    "label_smoothing": 0.1,
    "lr": 1e-3,
    "training": Training(weight_decay=0.05),
}


class Sources:
    """The images of MiraBest, and which of them are tested on, give labels, and are seen without labels."""

    def __init__(self, side: str, shrunk: bool) -> None:
        sources = load_mirabest(FOLDER, hybrids=True)
        self.images = sources.images[:, :, 40:110, 40:110]
        if shrunk:
            window = torch.from_numpy(sources.images[:, :, 39:111, 39:111].astype(np.float32))
            self.images = interpolate(window, size=(48, 48), mode="bilinear", antialias=True).numpy()
        self.target = sources.target
        sure = sources.confident & (sources.target < 2)
        tested = np.isin(sources.batch, SIDES[side])
        self.seen = np.flatnonzero(~tested & (sources.batch != "test_batch"))
        self.labeled = self.seen[sure[self.seen]]
        self.test = np.flatnonzero(tested & sure)

    def drawn(self, count: int | None, seed: int) -> np.ndarray:
        """Draw labeled sources, of each class its share."""
        if count is None or count >= len(self.labeled):
            return self.labeled
        kinds = self.target[self.labeled]
        return train_test_split(self.labeled, train_size=count, stratify=kinds, random_state=seed)[0]


def pretrained(embedder: Any, sources: Sources, file: Path) -> Any:
    """Pretrain once; later runs take what the file holds."""
    if not file.exists():
        skastro.save(embedder.fit(sources.images[sources.seen]), file)
    return skastro.load(file)


def probed(embedder: Any, sources: Sources, train: np.ndarray) -> dict[str, np.ndarray]:
    """Probability of FRII by logistic regression on the embedding."""
    answers = {}
    for name, average in VIEWS.items():
        rows = embedder.set_params(average=average).transform(sources.images)
        head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        answers[name] = head.fit(rows[train], sources.target[train]).predict_proba(rows[sources.test])[:, 1]
    return answers


def tuned(embedder: Any, sources: Sources, train: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Probability of FRII by a network trained on the labels; few labels are looked at more often."""
    start = IMAGES if embedder is None else {"encoder": FrozenEstimator(embedder)}
    model = FineTuneClassifier(**start, **TUNING, max_epochs=round(1080 / len(train) ** 0.5), random_state=seed)
    model.fit(sources.images[train], sources.target[train])
    answers = {}
    for name, average in VIEWS.items():
        answers[name] = model.set_params(average=average).predict_proba(sources.images[sources.test])[:, 1]
    return answers


def run(file: Path, weights: Path, side: str, method: str, count: int | None, seed: int) -> None:
    """Train and ask one model, unless the file knows it."""
    sources = Sources(side, shrunk=not method.endswith("-70"))
    train = sources.drawn(count, seed)
    key = [side, method, len(train), seed]
    if file.exists() and (pd.read_csv(file)[KEYS] == key).all(axis=1).any():
        return
    embedder = None
    if method == "untrained":
        embedder = SimCLREmbedder(**IMAGES, max_epochs=0, random_state=seed).fit(sources.images[sources.seen])
    elif method == "fine-tuned-70":
        own = SimCLREmbedder(random_state=seed)
        embedder = pretrained(own, sources, weights.with_suffix(f".{side}.{seed}.skastro"))
    elif not method.startswith("supervised"):
        embedder = pretrained(PRETRAINING, sources, weights.with_suffix(f".{side}.skastro"))
    begun = time.process_time()
    if method in ("untrained", "probe"):
        answers = probed(embedder, sources, train)
    else:
        answers = tuned(embedder, sources, train, seed)
    table = pd.DataFrame(dict(zip(KEYS, key, strict=True)) | {"source": sources.test, **answers}).round(4)
    table["is_frii"] = sources.target[sources.test]
    table["cpu_minutes"] = round((time.process_time() - begun) / 60, 2)
    table.to_csv(file, mode="a", header=not file.exists(), index=False)


def report(table: pd.DataFrame) -> pd.DataFrame:
    """Error in percent: mean over seeds and its standard error, and of the mean of their probabilities."""
    lines = []
    for (side, method, count), part in table.groupby(["side", "method", "n_labels"], sort=False):
        for view in VIEWS:
            wrong = 100 * ((part[view] > 0.5) != part["is_frii"]).groupby(part["seed"]).mean()
            together = part.groupby("source")[[view, "is_frii"]].mean()
            ensemble = 100 * ((together[view] > 0.5) != together["is_frii"]).mean()
            lines.append([side, method, count, view, len(wrong), wrong.mean(), wrong.sem(), ensemble])
    names = ["side", "method", "n_labels", "view", "seeds", "error", "standard_error", "ensemble"]
    return pd.DataFrame(lines, columns=names).round(2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=SIDES, default="published")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--counts", nargs="+", type=int, default=[None], help="numbers of labels; all without it")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--file", type=Path, default=Path(__file__).with_name("radio_finetune.csv"))
    parser.add_argument(
        "--weights", type=Path, default=Path("radio_finetune"), help="where the pretrained network is kept"
    )
    parser.add_argument("--table", action="store_true", help="only print what the file holds")
    chosen = parser.parse_args()
    header("radio_finetune")
    for count, seed, method in itertools.product(chosen.counts, chosen.seeds, chosen.methods):
        if not chosen.table:
            run(chosen.file, chosen.weights, chosen.side, method, count, seed)
    print(report(pd.read_csv(chosen.file)).to_string(index=False))


if __name__ == "__main__":
    main()
