"""Finding on real data: duplicates, artifacts, what to look at next, the same field again, transfer.

python benchmarks/finding.py [PART ...] [--galaxies N] [--epochs N] [--seeds N]

Parts: duplicates artifacts active epochs transfer pretraining still; without any, all. Each needs the data folder.
"""

import argparse
import os
from functools import cache
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from machine import header
from scipy.ndimage import affine_transform
from scipy.spatial.distance import cdist
from scipy.stats import skew
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skastro import FixedImageEmbedder, LookAlikes, SimCLREmbedder
from skastro.augment import Dihedral, GaussianNoise, Rotate, SatelliteTrail, Shift
from skastro.metrics import retrieval_ranks
from skastro.model_selection import stationarity, transfer_matrix
from skastro.search import ActiveRanking, find_duplicates

FOLDER = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data"))


def show(title, table):
    print(f"\n{title}\n{table.to_string(index=False, float_format='%.3f')}", flush=True)


def read(name, n=None, labels=None):
    """Read clean cutouts, n of them at random, without objects that are there twice: images and one of the columns."""
    held = np.load(FOLDER / f"{name}.npz")
    clean = held["dup_group"] < 0
    for flag in ("flag",) if "flag" in held.files else ():
        clean &= held[flag] == 0
    rows = np.random.default_rng(0).permutation(np.flatnonzero(clean if labels is None else clean & labels(held)))[:n]
    return np.moveaxis(held["images"][rows], -1, 1), {
        key: held[key][rows]
        for key in held.files
        if len(held[key]) == len(clean) and key not in ("images", "images_96")
    }


def embed(images, seed=0, average="dihedral"):
    return FixedImageEmbedder(average=average, random_state=seed).fit(images).transform(images)


def transplant(image, rng, noise, shift=3.0):
    """Turn an image by any angle, shift it, and add noise, in 8 bits again."""
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (np.array(image.shape[1:]) - 1) / 2
    offset = middle - turn @ (middle + rng.uniform(-shift, shift, 2))
    moved = np.stack([affine_transform(band.astype(float), turn, offset, order=1, mode="reflect") for band in image])
    return np.clip(np.round(moved + rng.normal(0, noise, moved.shape)), 0, 255).astype(np.uint8)


def duplicates(args):
    """Plant copies of a tenth of the galaxies, turned, shifted by up to 3 pixels, with other noise."""
    lines = []
    for name, noise, seed in product(("gz2kaggle", "gz1"), (0.0, 4.0, 7.0, 10.0), range(args.seeds)):
        images, _ = read(f"galaxies_{name}", args.galaxies)
        rng = np.random.default_rng(seed)
        originals = rng.choice(len(images), len(images) // 10, replace=False)
        copies = np.stack([transplant(images[row], rng, noise) for row in originals])
        start = perf_counter()
        found = find_duplicates(np.concatenate([images, copies]))
        seconds = perf_counter() - start
        planted = {(row, len(images) + number) for number, row in enumerate(originals)}
        right = np.array([pair in planted for pair in zip(found["first"], found["second"], strict=True)])
        sure = right & (found["correlation"] >= 0.88)
        shares = sure.sum() / len(planted), right.sum() / len(planted), (~right).sum() / max(len(right), 1)
        lines.append((name, noise, *shares, seconds))
    columns = ["galaxies", "noise added", "above the limit", "found", "false among found", "seconds"]
    table = pd.DataFrame(lines, columns=columns).groupby(columns[:2], as_index=False).mean()
    show(f"Duplicates: {len(originals)} planted among {len(images)} galaxies, mean of {args.seeds} seeds", table)
    sets = [np.load(FOLDER / f"galaxies_{name}.npz") for name in ("gz1", "gz2kaggle")]
    images = np.concatenate([np.moveaxis(held["images"], -1, 1) for held in sets])
    group = np.concatenate([held["dup_group"] for held in sets])
    same = [np.flatnonzero(group == number) for number in np.unique(group[group >= 0])]
    known = {(a, b) for rows in same for a in rows for b in rows if a < b}
    start = perf_counter()
    found = find_duplicates(images)
    pairs = set(zip(found["first"], found["second"], strict=True))
    print(
        f"Galaxy Zoo 1 and 2, {len(images)} cutouts: of {len(known)} pairs listed as near-identical "
        f"{len(known & pairs)} are found, and {len(pairs - known)} others, in {perf_counter() - start:.0f} s"
    )


def artifacts(args):
    """Plant satellite trails and lost quadrants in a hundredth of the galaxies; rank all by how strange they are."""
    images, _ = read("galaxies_gz2kaggle", args.galaxies)
    lines = []
    for kind in ("trail", "lost quadrant", "wrong band"):
        for seed in range(args.seeds):
            rng = np.random.default_rng(seed)
            planted = np.zeros(len(images), dtype=bool)
            planted[rng.choice(len(images), max(10, len(images) // 100), replace=False)] = True
            spoiled = images.copy()
            spoiled[planted] = spoil(images[planted], kind, seed)
            rows = embed(spoiled, average=None)
            compact = PCA(32, random_state=0).fit_transform(StandardScaler().fit_transform(rows))
            search = LookAlikes().fit(rows)
            examples = rng.choice(np.flatnonzero(planted), 3, replace=False)
            others = np.setdiff1d(np.arange(len(images)), examples)
            scores = {
                "IsolationForest": -IsolationForest(random_state=0).fit(compact).score_samples(compact),
                "LocalOutlierFactor": -LocalOutlierFactor(20).fit(compact).negative_outlier_factor_,
                "distance to neighbors": LookAlikes(5, metric="euclidean").fit(compact).kneighbors()[0].mean(axis=1),
                "more_like three examples": search.more_like(examples),
            }
            for name, score in scores.items():
                lines.append((kind, name, roc_auc_score(planted[others], score[others])))
    table = pd.DataFrame(lines, columns=["artifact", "score", "AUC"]).groupby(["artifact", "score"], as_index=False)
    show(
        f"Artifacts: {planted.sum()} planted among {len(images)} galaxies, {args.seeds} seeds",
        table["AUC"].agg(["mean", "min"]),
    )


def spoil(images, kind, seed):
    if kind == "lost quadrant":
        lost = images.copy()
        lost[:, :, :32, :32] = 0
        return lost
    if kind == "wrong band":
        return np.stack([images[:, 0], images[:, 0], 255 - images[:, 2]], axis=1)
    pixels, generator = torch.from_numpy(images).float(), torch.Generator().manual_seed(seed)
    step = SatelliteTrail(p=1.0)
    step.fit(images, survey=None, noise=np.full(3, 6.0))
    views = step.apply(pixels, **step.draw(tuple(pixels.shape), generator))
    return views.numpy().clip(0, 255).round().astype(np.uint8)


def looks(rows, wanted, choose, seed, batch=10, most=None):
    """Count the looks until half of what is wanted was seen, by a person who scores 5 or 0 and is never wrong."""
    rng, scores, half = np.random.default_rng(seed), np.full(len(rows), np.nan), wanted.sum() / 2
    while np.sum(wanted[~np.isnan(scores)]) < half:
        chosen = choose(rows, scores, rng, seed)[:batch]
        for row in chosen:
            scores[row] = 5.0 * wanted[row]
            if np.sum(wanted[~np.isnan(scores)]) >= half:
                break
    return int(np.sum(~np.isnan(scores)))


def at_random(rows, scores, rng, seed):
    return rng.permutation(np.flatnonzero(np.isnan(scores)))


def by_ranking(rows, scores, rng, seed):
    return ActiveRanking(random_state=seed).fit(rows, scores).ranking_


def by_formula(rows, scores, rng, seed, alpha=1.0):
    """Rank as Lochner & Bassett (2021): outlier scores, lowered by the scores of what is near."""
    seen = ~np.isnan(scores)
    strange = ActiveRanking(random_state=seed).fit(rows).scores_
    if not seen.any():
        return np.argsort(-strange, kind="stable")
    worth = RandomForestRegressor(random_state=seed).fit(rows[seen], scores[seen]).predict(rows) / 5
    far = cdist(rows, rows[seen]).min(axis=1)
    trust = np.tanh(np.expm1(alpha * far / far.mean()) + np.arctanh(0.1 + 0.85 * worth))
    order = np.argsort(-strange * trust, kind="stable")
    return order[~seen[order]]


def by_strangeness(rows, scores, rng, seed):
    order = strangest(rows.tobytes(), len(rows), seed)
    return order[np.isnan(scores[order])]


@cache
def strangest(rows, n, seed):
    return ActiveRanking(random_state=seed).fit(np.frombuffer(rows).reshape(n, -1)).ranking_


def by_examples(rows, scores, rng, seed):
    """Rank by a linear classifier, from the first find on."""
    liked, disliked = np.flatnonzero(scores > 0), np.flatnonzero(scores == 0)
    if not len(liked):
        return by_strangeness(rows, scores, rng, seed)
    order = np.argsort(-LookAlikes(1).fit(rows).more_like(liked, disliked), kind="stable")
    return order[np.isnan(scores[order])]


CHOICES = {
    "random": at_random,
    "IsolationForest alone": by_strangeness,
    "ActiveRanking": by_ranking,
    "formula of 2021": by_formula,
    "more_like": by_examples,
}


def curve_features():
    """Summarize the light curves of CRTS: numbers that astronomers compute, and the classes."""
    held = np.load(FOLDER / "lightcurves.npz")
    rows = np.flatnonzero(held["survey"] == "CRTS")
    table = []
    for start, stop in zip(held["offset"][rows], held["offset"][rows + 1], strict=True):
        time, mag, error = (held[name][start:stop].astype(float) for name in ("time", "mag", "magerr"))
        low, middle, high = np.quantile(mag, [0.05, 0.5, 0.95])
        steps = np.abs(np.diff(mag)) if len(mag) > 1 else np.zeros(1)
        table.append([
            len(mag), np.ptp(time), middle, mag.std(), high - low, skew(mag) if mag.std() > 1e-6 else 0.0,
            np.median(error), middle - mag.min(), np.median(steps),
            np.log(np.mean(((mag - middle) / error) ** 2) + 1e-3),
        ])  # fmt: skip
    return StandardScaler().fit_transform(table), held["cls"][rows]


def active(args):
    images, columns = read("galaxies_gz2kaggle", args.galaxies, labels=lambda held: held["odd_spiral"] >= 0)
    galaxies = StandardScaler().fit_transform(embed(images))
    curves, classes = curve_features()
    compact = np.ascontiguousarray(PCA(16, random_state=0).fit_transform(galaxies), dtype=float)
    tasks = {"odd spirals": (compact, columns["odd_spiral"] == 1)}
    tasks |= {
        f"CRTS {name}": (curves, np.char.rstrip(classes, "?") == name) for name in ("AGN", "Blazar", "Flare", "HPM")
    }
    lines = []
    for task, (rows, wanted) in tasks.items():
        for name, choose in CHOICES.items():
            found = [looks(rows, wanted, choose, seed, batch=max(10, len(rows) // 20)) for seed in range(args.seeds)]
            lines.append((task, len(rows), wanted.sum(), name, np.mean(found), min(found), max(found)))
            print(*lines[-1], flush=True)
    columns = ["what", "objects", "wanted", "choice", "looks to half of them", "least", "most"]
    show(f"Active ranking, {args.seeds} seeds", pd.DataFrame(lines, columns=columns))


def epochs(args):
    """Find the same field at another epoch, as it is and turned by a quarter or more."""
    held = np.load(FOLDER / "radio_vlass_epochs.npz")
    images, field = held["images"], held["position_id"]
    rng = np.random.default_rng(0)
    turned = np.stack([transplant(image[np.newaxis], rng, 0.0, shift=0.0)[0] for image in images])
    fitted = {
        f"{label}, seed {seed}": SimCLREmbedder(
            augment="radio", size=64, average="dihedral", max_epochs=passes, random_state=seed
        ).fit(images)
        for seed in range(args.seeds)
        for label, passes in (("untrained ×8", 0), ("SimCLR, radio recipe, ×8", args.epochs))
    }
    lines = []
    for name, rows in {"as they are": images, "each turned by any angle": turned}.items():
        embeddings = {"pixels": rows[:, 35:-36, 35:-36].reshape(len(rows), -1).astype(float)}
        embeddings |= {label: embedder.transform(rows) for label, embedder in fitted.items()}
        for label, embedding in embeddings.items():
            ranks = retrieval_ranks(embedding - embedding.mean(axis=0), labels=field)
            ranks = ranks[~np.isnan(ranks)]
            lines.append((name, label, len(ranks), np.mean(ranks == 1), np.mean(ranks <= 10), np.median(ranks)))
        start = perf_counter()
        pairs = find_duplicates(rows, min_correlation=0.3, max_shift=8)
        same = field[pairs["first"]] == field[pairs["second"]]
        best = max(pairs["correlation"][~same], default=0)
        sure = same & (pairs["correlation"] > best)
        print(
            f"find_duplicates, {name}: {sum(sure)} pairs of one field correlate more than any two of others "
            f"({best:.2f}), {perf_counter() - start:.0f} s"
        )
    columns = ["cutouts", "embedding", "queries", "recall@1", "recall@10", "median rank"]
    show("VLASS: the same field at another epoch among 459 cutouts", pd.DataFrame(lines, columns=columns))


def head():
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))


def frozen(embedder):
    return make_pipeline(FrozenEstimator(embedder), *(step for _, step in head().steps))


def flat(images):
    return images.reshape(len(images), -1).astype(np.float32)


def shapes(args):
    """Read Galaxy Zoo 1 and Kaggle's challenge with the classes that both have."""
    kaggle = read("galaxies_gz2kaggle", args.galaxies, labels=lambda held: np.isin(held["label5"], [0, 1, 3, 4]))
    gz1 = read("galaxies_gz1", args.galaxies, labels=lambda held: np.isin(held["label"], [0, 1, 2, 3]))
    return {
        "Kaggle": (kaggle[0], np.array(["smooth", "smooth", "", "edge-on", "spiral"])[kaggle[1]["label5"]]),
        "GZ1": (gz1[0], np.array(["smooth", "spiral", "spiral", "edge-on"])[gz1[1]["label"]]),
    }


def transfer(args):
    """Train a probe on the shapes of one survey's galaxies, and ask the other's."""
    sets = shapes(args)
    pixels = make_pipeline(FunctionTransformer(flat), PCA(64, random_state=0), *(step for _, step in head().steps))
    fixed = FixedImageEmbedder(average="dihedral", random_state=0).fit(sets["GZ1"][0])
    methods = {"pixels, PCA": pixels, "untrained ×8": frozen(fixed)}
    table = transfer_matrix(methods, sets, scoring="balanced_accuracy")
    keys = ["method", "train", "test"]
    table = table.groupby(keys, sort=False, as_index=False)[["n_train", "score", "shift"]].mean()
    show("Transfer of probes: smooth, spiral, edge-on; balanced accuracy, 5 folds", table)


def pretraining(args):
    """Pretrain on one set, ask another: a probe of galaxies' shapes and rings, of radio classes; fields of VLASS."""
    rings, mirabest, vlass = (
        np.load(FOLDER / f"{name}.npz") for name in ("galaxies_decals_rings", "mirabest", "radio_vlass_epochs")
    )
    galaxies = shapes(args) | {"DECaLS rings": (np.moveaxis(rings["images"], -1, 1), rings["ring"])}
    sure = mirabest["confident"] & (mirabest["fr_class"] < 2)
    radio = {
        "MiraBest": (mirabest["images"][sure, 27:-27, 27:-27], mirabest["fr_class"][sure]),
        "VLASS": (vlass["images"][:, 19:-20, 19:-20], vlass["position_id"]),
    }
    lines = []
    for sets, augment in ((galaxies, "galaxy"), (radio, "radio")):
        for trained, (images, _) in sets.items():
            for label, epochs in (("untrained", 0), ("SimCLR", args.epochs)):
                simclr = SimCLREmbedder(augment=augment, average="dihedral", max_epochs=epochs, random_state=0).fit(
                    images
                )
                for asked, (others, labels) in sets.items():
                    rows = simclr.transform(others)
                    lines.append((label, trained, asked, answer(asked, rows, labels)))
    show("Pretrained on, asked of", pd.DataFrame(lines, columns=["embedder", "pretrained on", "asked of", "score"]))


def answer(asked, rows, labels):
    """Score the field's other epoch by recall@1, every class by balanced accuracy."""
    if asked == "VLASS":
        ranks = retrieval_ranks(rows - rows.mean(axis=0), labels=labels)
        return np.mean(ranks[~np.isnan(ranks)] == 1)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return cross_val_score(head(), rows, labels, cv=folds, scoring="balanced_accuracy").mean()


def still(args):
    """Move galaxies as figure 9 of Hayat et al. (2021) does, within DECaLS cutouts of 96 pixels."""
    held = np.load(FOLDER / "galaxies_decals_rings.npz")
    images = np.moveaxis(held["images_96"], -1, 1)
    steps = {"rotation": Rotate(), "quarter turns": Dihedral(), "shift by 7": Shift(7), "noise": GaussianNoise((0, 3))}
    embedders = {
        "pixels": FunctionTransformer(flat).fit(images),
        "untrained": FixedImageEmbedder(size=64, random_state=0).fit(images),
        "untrained ×8": FixedImageEmbedder(size=64, average="dihedral", random_state=0).fit(images),
        "SimCLR ×8": SimCLREmbedder(size=64, average="dihedral", max_epochs=args.epochs, random_state=0).fit(images),
    }
    table = stationarity(embedders, images, steps, size=64, n_views=2, random_state=0)
    show("Stationarity: distance moved, in units of the distance to the nearest neighbor", table)


PARTS = {part.__name__: part for part in (duplicates, artifacts, active, epochs, transfer, pretraining, still)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--galaxies", type=int, default=1200, help="number of galaxies of a set")
    parser.add_argument("--epochs", type=int, default=20, help="passes of SimCLR")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    header("Finding")
    for part in args.parts:
        PARTS[part](args)


if __name__ == "__main__":
    main()
