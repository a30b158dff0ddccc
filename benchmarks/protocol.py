"""Does pretraining pay? Accuracy against optimizer steps and CPU minutes, beside the floors on the same folds.

python benchmarks/protocol.py [--data mirabest gz1] [--methods simclr byol] [--seeds 0 1 2] [--set lr=1e-3] [--table]

Every run goes into one tidy file as soon as it is scored, and one that is in it already is not repeated: stop when you
like, and start again. Embeddings see every image without its label, probes the labels of the training folds alone.
The published test batch of MiraBest stays closed, unless mirabest-published is named; settings are not chosen by it.
Half of the 10,758 galaxies are for choosing settings (galaxies-development); what is reported is measured on the labels
of the other half (galaxies, and galaxies-1000 and -3000 for embeddings that see fewer images).
"""

import argparse
import ast
import functools
import itertools
import json
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from machine import header
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV, RidgeCV
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skastro import (
    BarlowTwinsEmbedder,
    BYOLEmbedder,
    DINOEmbedder,
    FineTuneClassifier,
    MoCoEmbedder,
    SimCLREmbedder,
    VICRegEmbedder,
)
from skastro.datasets import load_galaxy_zoo1, load_hubble_deep_field, load_mirabest, make_survey
from skastro.metrics import sigma_mad
from skastro.training import ScheduleCallback

METHODS = {
    "byol": BYOLEmbedder,
    "moco": MoCoEmbedder,
    "simclr": SimCLREmbedder,
    "vicreg": VICRegEmbedder,
    "barlow": BarlowTwinsEmbedder,
    "dino": DINOEmbedder,
}
FLOORS = ("rings", "untrained", "supervised")
VIEWS = {"plain": None, "averaged": "dihedral"}
FRACTIONS = (0.1, 0.3, 1.0)  # of a run, where its weights are looked at
FOLDER = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data"))
KEYS = ["data", "method", "settings", "seed"]
COLUMNS = ["step", "cpu_minutes", "view", "task", "n_labels", "fold", "score"]


@dataclass
class Task:
    """A question about some of the images: its answers, and the score that counts."""

    rows: np.ndarray
    target: np.ndarray
    score: Any
    label_counts: tuple[int, ...] = ()
    is_test: np.ndarray | None = None  # of `rows`, where the split is given
    probe: str = "ridge"

    @property
    def is_regression(self) -> bool:
        return self.target.dtype.kind == "f"

    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """5 folds, twice, the same for every method, setting and seed; of a given split, 5 pieces of the test side."""
        kind = RepeatedKFold if self.is_regression else RepeatedStratifiedKFold
        folds = kind(n_splits=5, n_repeats=2, random_state=0)
        if self.is_test is None:
            return list(folds.split(self.rows, self.target))
        train, test = np.flatnonzero(~self.is_test), np.flatnonzero(self.is_test)
        return [(train, test[piece]) for _, piece in folds.split(test, self.target[test])]


@dataclass
class Data:
    """Images, of which embeddings see some (all, where None), and questions about them."""

    images: np.ndarray
    tasks: dict[str, Task]
    seen: np.ndarray | None = None


def mirabest(published: bool = False) -> Data:
    """Radio galaxies: the training side alone, or also the published test side, which embeddings do not see."""
    sources = load_mirabest(FOLDER, hybrids=True)
    is_test = sources.batch == "test_batch"
    kept = published | ~is_test
    rows = np.flatnonzero((sources.confident & (sources.target < 2))[kept])
    split = is_test[kept][rows] if published else None
    task = Task(rows, sources.target[kept][rows], accuracy_score, (36, 72, 145, 291), split)
    seen = np.flatnonzero(~is_test) if published else None
    return Data(sources.images[kept, :, 40:110, 40:110], {"FRI/FRII": task}, seen)


def galaxies(n_images: int | None = None, reported: bool = True) -> Data:
    """Ten thousand SDSS galaxies: five clean classes for some, Galaxy Zoo 1's four for others, and which are odd.

    One half, without near-duplicates of the other, is for development; the labels to learn from are always its own.
    """
    kaggle, zoo = np.load(FOLDER / "galaxies_gz2kaggle.npz"), np.load(FOLDER / "galaxies_gz1.npz")
    none = {name: np.full(len(table["images"]), -1) for name, table in (("kaggle", kaggle), ("zoo", zoo))}
    four = np.array([0, 1, 1, 2, -1, 3])[zoo["label"]]  # clockwise and anticlockwise are one, "don't know" is none
    labels = {
        "Kaggle, 5 classes": np.concatenate([np.maximum(kaggle["label5"], -1), none["zoo"]]),
        "GZ1, 4 classes": np.concatenate([none["kaggle"], four]),
        "odd or not": np.concatenate([kaggle["odd_spiral"], none["zoo"]]),
    }
    group = np.concatenate([kaggle["dup_group"], zoo["dup_group"]])
    alone = group < 0
    group[alone] = group.max() + 1 + np.arange(alone.sum())
    is_test = np.random.default_rng(0).random(group.max() + 1)[group] < 0.5
    broken = np.concatenate([kaggle["flag"], zoo["flag"]]) & 32 > 0
    tasks = {}
    for name, target in labels.items():
        rows = np.flatnonzero((target >= 0) & ~broken & (reported | ~is_test))
        split = is_test[rows] if reported else None
        tasks[name] = Task(rows, target[rows], balanced_accuracy_score, (20, 50, 100, 200, 500), split, "logistic")
    images = np.moveaxis(np.concatenate([kaggle["images"], zoo["images"]]), -1, 1)
    seen = np.random.default_rng(1).permutation(np.flatnonzero(~broken))[:n_images]
    return Data(images, tasks, np.sort(seen))


def gz1() -> Data:
    zoo = load_galaxy_zoo1(FOLDER, unlabeled=True)
    four, three = np.arange(len(zoo.images)), np.flatnonzero(zoo.target < 3)
    tasks = {
        "4 classes": Task(four, zoo.target, balanced_accuracy_score),
        "3 classes": Task(three, zoo.target[three], balanced_accuracy_score),
    }
    return Data(np.concatenate([zoo.images, zoo.unlabeled_images]), tasks)


def hubble() -> Data:
    field = load_hubble_deep_field()
    every = np.arange(len(field.images))
    names = ("color", "radius", "ellipticity")
    return Data(field.images, {name: Task(every, field.properties[name].to_numpy(), r2_score) for name in names})


def survey() -> Data:
    """Simulated: 10,000 galaxies, of which 2,000 have labels."""
    sky = make_survey(10_000, bands="grz", size=48, random_state=0)
    rows = np.arange(2_000)
    tasks = {
        "kind": Task(rows, sky.target[rows], balanced_accuracy_score),
        "redshift": Task(rows, sky.redshift[rows], r2_score),
    }
    return Data(sky.images, tasks)


def ugriz() -> Data:
    """Simulated, as the cutouts of Hayat et al. (2021): 107 pixels, so that windows of 64 can turn and shift."""
    sky = make_survey(2_000, size=107, random_state=0)
    every = np.arange(len(sky.images))
    return Data(sky.images, {"photo-z": Task(every, sky.redshift, negative_sigma_mad)})


def negative_sigma_mad(truth: np.ndarray, answers: np.ndarray) -> float:
    return -sigma_mad(truth, answers)


OPEN = {"mirabest": mirabest, "galaxies": galaxies, "hubble": hubble, "survey": survey}
DATA = OPEN | {
    "galaxies-1000": functools.partial(galaxies, 1_000),
    "galaxies-3000": functools.partial(galaxies, 3_000),
    "galaxies-development": functools.partial(galaxies, reported=False),
    "mirabest-published": functools.partial(mirabest, published=True),
    "gz1": gz1,
    "ugriz": ugriz,
}
load = functools.lru_cache(lambda name: DATA[name]())


class Checkpoints(Callback):
    """Writes weights at fractions of a run, and when: step, and CPU minutes without the writing."""

    def __init__(self, folder: str, fractions: Sequence[float]) -> None:
        self.folder = folder
        self.fractions = fractions

    def on_train_begin(self, net, **kwargs):
        self.step_, self.paused_, self.start_ = 0, 0.0, time.process_time()
        (steps,) = (callback.steps for _, callback in net.callbacks_ if isinstance(callback, ScheduleCallback))
        self.at_ = {max(1, round(fraction * steps)) for fraction in self.fractions}

    def on_batch_end(self, net, **kwargs):
        self.step_ += 1
        if self.step_ in self.at_:
            begun = time.process_time()
            encoder = net.module_.objective.online[0].state_dict()
            minutes = (begun - self.start_ - self.paused_) / 60
            torch.save(
                {"step": self.step_, "minutes": minutes, "encoder": encoder}, f"{self.folder}/{self.step_:06}.pt"
            )
            self.paused_ += time.process_time() - begun


def embeddings(
    data: str,
    method: str,
    settings: dict[str, Any],
    seed: int,
    fractions: Sequence[float] = FRACTIONS,
    views: Sequence[str] = tuple(VIEWS),
):
    """Yield step, CPU minutes and the embeddings of the rows asked for, plain and averaged, at each checkpoint."""
    images, seen = load(data).images, load(data).seen
    labeled = images[asked(data)]
    if method == "rings":
        yield 0, 0.0, {"plain": rings(labeled)}
        return
    embedder = METHODS.get(method, SimCLREmbedder)(random_state=seed).set_params(**settings)
    if method == "untrained":
        embedder.set_params(max_epochs=0)
    with TemporaryDirectory() as folder:
        embedder.set_params(training__callbacks=[Checkpoints(folder, fractions)])
        embedder.fit(images if seen is None else images[seen])
        for path in sorted(Path(folder).iterdir()):
            kept = torch.load(path)
            embedder.encoder_.load_state_dict(kept["encoder"])
            yield kept["step"], kept["minutes"], looks(embedder, labeled, views)
    if method == "untrained":
        yield 0, 0.0, looks(embedder, labeled, views)


def asked(data: str) -> np.ndarray:
    """Rows that some task asks about."""
    return np.unique(np.concatenate([task.rows for task in load(data).tasks.values()]))


def looks(embedder: Any, images: np.ndarray, views: Sequence[str]) -> dict[str, np.ndarray]:
    return {view: embedder.set_params(average=VIEWS[view]).transform(images) for view in views}


def rings(images: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and maximum of each band in each ring of one pixel."""
    side = images.shape[-1]
    radius = np.hypot(*(np.indices((side, side)) - (side - 1) / 2)).astype(int)
    pixels = [images[:, :, radius == r].astype(float) for r in range(side // 2)]
    return np.concatenate([np.concatenate([p.mean(2), p.std(2), p.max(2)], axis=1) for p in pixels], axis=1)


def make_probe(method: str, task: Task) -> Any:
    """A forest for rings; for embeddings ridge regression, whose penalty the training labels choose by themselves.

    Of galaxies logistic regression, which knew more of embeddings, trained or not, on the development side.
    """
    if method == "rings":
        if task.is_regression:
            return RandomForestRegressor(200, max_features=0.33, random_state=0)
        return RandomForestClassifier(500, class_weight="balanced", random_state=0)
    if task.probe == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", tol=1e-3))
    penalties = np.logspace(1, 5, 9)
    head = RidgeCV(penalties) if task.is_regression else RidgeClassifierCV(penalties, class_weight="balanced")
    return make_pipeline(StandardScaler(), head)


def make_network(seed: int) -> FineTuneClassifier:
    """The network of the embeddings, trained from scratch with the labels alone."""
    return FineTuneClassifier("resnet10t", average="dihedral", class_weight="balanced", random_state=seed)


def score(method: str, task: Task, features: np.ndarray, count: int | None) -> list[float]:
    """Score each fold of a task, with so many of its labels, drawn once per fold for all methods."""
    found = []
    for fold, (train, test) in enumerate(task.folds()):
        if count:
            train = train_test_split(train, train_size=count, stratify=task.target[train], random_state=fold)[0]
        probe = make_probe(method, task)
        with warnings.catch_warnings():  # at this tolerance the last steps of a logistic regression change nothing
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(features[train], task.target[train])
        answers = probe.predict(features[test])
        if task.is_regression:  # one image unlike all others must not decide: no answer beyond those seen
            answers = answers.clip(task.target[train].min(), task.target[train].max())
        found.append(round(task.score(task.target[test], answers), 4))
    return found


def supervised(task: Task, images: np.ndarray, seed: int, count: int | None) -> list[float]:
    """Score the network that learns from labels alone, on five folds: those of a given split share one network.

    It is dear, so that it sees one draw of the labels.
    """
    found, fitted = [], {}
    for fold, (train, test) in enumerate(task.folds()[:5]):
        if count:
            train = train_test_split(train, train_size=count, stratify=task.target[train], random_state=0)[0]
        key = train.tobytes()
        if key not in fitted:
            fitted[key] = make_network(seed).fit(images[task.rows[train]], task.target[train])
        found.append(round(task.score(task.target[test], fitted[key].predict(images[task.rows[test]])), 4))
    return found


def run(file: Path, data: str, method: str, settings: dict[str, Any], seed: int, brief: bool = False) -> None:
    """Score one run at its checkpoints, and its end with fewer labels, unless the file knows it.

    A brief look is at the end alone, plain, with all labels.
    """
    key = [data, method, json.dumps(settings, sort_keys=True), seed]
    if file.exists() and (pd.read_csv(file)[KEYS] == key).all(axis=1).any():
        return
    if method == "supervised":
        append(file, key, supervised_rows(data, seed))
        return
    looked = list(embeddings(data, method, settings, seed, *(((1.0,), ("plain",)) if brief else ())))
    rows = []
    for step, minutes, views in looked:
        for view, (name, task) in itertools.product(views, load(data).tasks.items()):
            features = views[view][np.searchsorted(asked(data), task.rows)]
            for count in (None, *task.label_counts) if step == looked[-1][0] and not brief else (None,):
                found = score(method, task, features, count)
                rows += [[step, round(minutes, 2), view, name, count, *scored] for scored in enumerate(found)]
    append(file, key, rows)


def supervised_rows(data: str, seed: int) -> list[list[Any]]:
    rows = []
    for name, task in load(data).tasks.items():
        for count in (None, *task.label_counts[-2:-1]):
            start = time.process_time()
            found = supervised(task, load(data).images, seed, count)
            minutes = round((time.process_time() - start) / 60, 2)
            rows += [[0, minutes, "averaged", name, count, *scored] for scored in enumerate(found)]
    return rows


def append(file: Path, key: list[Any], rows: list[list[Any]]) -> None:
    """Append scored folds to the tidy file."""
    table = pd.DataFrame([[*key, *row] for row in rows], columns=[*KEYS, *COLUMNS]).astype({"n_labels": "Int64"})
    table.to_csv(file, mode="a", header=not file.exists(), index=False)


def compare(scores: pd.DataFrame, floor: pd.DataFrame) -> tuple[float, float]:
    """Mean of the paired differences, and its standard error.

    A seed is paired with itself, for it begins with the same weights (rings have none). The ten folds are the same
    images twice, so they count as five; seeds count by themselves.
    """
    scores, floor = (rows.pivot(index="seed", columns="fold", values="score") for rows in (scores, floor))
    paired = (scores - (floor if len(floor) > 1 else floor.mean())).dropna()
    squared = paired.mean().var() / 5 + (paired.mean(axis=1).var() / len(paired) if len(paired) > 1 else 0.0)
    return paired.to_numpy().mean(), squared**0.5


def report(table: pd.DataFrame) -> pd.DataFrame:
    """One line per task, method, setting and view: score, cost, and gain over the best floor, or the best of all."""
    lines = []
    for (data, name, count), part in table.groupby(["data", "task", "n_labels"], dropna=False, sort=False):
        part = part[part["step"] == part.groupby(KEYS)["step"].transform("max")]
        contenders = dict(list(part.groupby(["method", "settings", "view"], sort=False)))
        floors = [rows for (method, _, _), rows in contenders.items() if method in FLOORS]
        best = max(floors or contenders.values(), key=lambda rows: rows["score"].mean())
        for (method, settings, view), rows in contenders.items():
            seeds, means = rows["seed"].nunique(), rows[["cpu_minutes", "score"]].mean()
            lines.append([data, name, count, method, settings, view, seeds, *means, *compare(rows, best)])
    names = ["data", "task", "n_labels", "method", "settings", "view", "seeds", "cpu_minutes", "score", "gain", "error"]
    return pd.DataFrame(lines, columns=names).round(3)


def value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(OPEN))
    parser.add_argument("--methods", nargs="+", choices=[*FLOORS, *METHODS], default=[*FLOORS, *METHODS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters other than the defaults")
    parser.add_argument("--file", type=Path, default=Path(__file__).with_name("protocol.csv"))
    parser.add_argument("--table", action="store_true", help="only print what the file holds")
    chosen = parser.parse_args()
    header("protocol")
    settings = {name: value(text) for name, _, text in (pair.partition("=") for pair in chosen.set)}
    for data, method, seed in itertools.product(chosen.data, chosen.methods, chosen.seeds):
        if not chosen.table and (method != "rings" or seed == 0):
            run(chosen.file, data, method, settings if method in METHODS else {}, seed)
    table = pd.read_csv(chosen.file, dtype={"n_labels": "Int64"})
    print(report(table[table["data"].isin(chosen.data)]).to_string(index=False))


if __name__ == "__main__":
    main()
