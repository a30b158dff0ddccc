"""Questions about images, with the splits of their answers: the data sets of the protocol.

Half of the 10,758 galaxies are for choosing settings; the labels of the other half are for what is reported.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold

from skastro.datasets import load_galaxy_zoo1, load_hubble_deep_field, load_mirabest, make_survey
from skastro.metrics import sigma_mad

FOLDER = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data"))


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
    draw = np.random.default_rng(0)
    is_test = draw.random(len(four) + len(kaggle["images"])) >= 0.5
    group = np.concatenate([kaggle["dup_group"], zoo["dup_group"]])
    for one in np.unique(group[group >= 0]):
        is_test[group == one] = draw.random() >= 0.5
    broken = np.concatenate([kaggle["flag"], zoo["flag"]]) & 32 > 0
    tasks = {}
    for name, target in labels.items():
        rows = np.flatnonzero((target >= 0) & ~broken & (reported | ~is_test))
        split = is_test[rows] if reported else None
        tasks[name] = Task(rows, target[rows], balanced_accuracy_score, (20, 50, 100, 200, 500), split, "logistic")
    images = np.moveaxis(np.concatenate([kaggle["images"], zoo["images"]]), -1, 1)
    some = tasks["Kaggle, 5 classes"]
    for name, values in properties(images[some.rows]).items():
        tasks[name] = Task(some.rows, values, r2_score, (), some.is_test)
    seen = np.random.default_rng(1).permutation(np.flatnonzero(~broken))[:n_images]
    return Data(images, tasks, np.sort(seen))


def properties(images: np.ndarray) -> dict[str, np.ndarray]:
    """Measure what an embedding may keep or lose: moments of what stands above the sky, and the sky itself."""
    light = images.mean(axis=1)
    side = light.shape[-1]
    y, x = np.indices((side, side)) - (side - 1) / 2
    radius = np.hypot(x, y)
    sky = np.median(light[:, radius > side / 2 - 2], axis=1)
    noise = 1.4826 * np.median(np.abs(light[:, radius > side / 2 - 2] - sky[:, None]), axis=1)
    above = (light - (sky + 2 * noise + 2)[:, None, None]).clip(0) * (radius < 0.6 * side / 2)
    flux = above.sum(axis=(1, 2)) + 1e-6
    center = [(above * axis).sum(axis=(1, 2)) / flux for axis in (x, y)]
    x, y = (axis - mean[:, None, None] for axis, mean in zip((x, y), center, strict=True))
    xx, yy, xy = ((above * product).sum(axis=(1, 2)) / flux for product in (x * x, y * y, x * y))
    core = radius < side / 8
    measured = {
        "color": (images[:, 0].astype(float) - images[:, -1])[:, core].mean(axis=1),
        "brightness": light[:, core].mean(axis=1),
        "size": np.sqrt(xx + yy),
        "ellipticity": np.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-6),
        "concentration": above[:, radius < side / 16].sum(axis=1) / flux,
        "offset": np.hypot(*center),
        "neighbors": (light[:, radius > 0.7 * side / 2] > (sky + 25)[:, None]).mean(axis=1),
        "sky": sky,
        "noise": noise,
    }
    return {name: values.clip(*np.percentile(values, [1, 99])) for name, values in measured.items()}


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
FEWER = {f"galaxies-{n}": functools.partial(galaxies, n) for n in (60, 300, 1_000, 3_000)}
OTHERS = {
    "galaxies-development": functools.partial(galaxies, reported=False),
    "mirabest-published": functools.partial(mirabest, published=True),
    "gz1": gz1,
    "ugriz": ugriz,
}
DATA = OPEN | FEWER | OTHERS
load = functools.lru_cache(lambda name: DATA[name]())
