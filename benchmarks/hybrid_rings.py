"""Rings, which nobody was asked about, from old votes, from images and from both: where do images without votes help?

python benchmarks/hybrid_rings.py [--real] [--methods votes cosine] [--passes 6] [--voted 100 300] [--seeds 0 1]

Every run goes into one tidy file as soon as it is scored, and one that is in it already is not repeated. `--passes` are
those over the galaxies with votes: of "votes", which learn from these alone, of BYOL, SimCLR and the hybrids ("cosine"
and "loss", their scalings; "light", a tenth of the weight), which see the others as often; "often" sees those six
times. "scored" is SimCLR of the very galaxies that are scored, without their labels. `--steps` gives "votes" the steps
of a BYOL of `--passes`.

Simulated: 2,000 galaxies of 32 pixels, some shown to 5 to 10 volunteers, with questions that do not give rings away;
scored on 1,500 others of the same sky, of which 1,000 are never trained on. Real (`--real`): SDSS galaxies, whose
classes are votes of two campaigns, then rings among DECaLS galaxies, `--voted` of 0 meaning all that have a class.
With `--galaxies FOLDER` it tells how many of these would show a difference of the measured size at two standard errors.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import header
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import (
    BYOLEmbedder,
    FineTuneClassifier,
    FixedImageEmbedder,
    HybridBYOLEmbedder,
    SimCLREmbedder,
    VoteEmbedder,
    VoteSchema,
)
from skastro.datasets import make_survey

SIMULATED = VoteSchema(
    {
        "smooth-or-featured-first": ["smooth", "featured"],
        "how-rounded-first": ["round", "in-between", "cigar"],
        "disk-edge-on-first": ["yes", "no"],
        "smooth-or-featured-second": ["smooth", "featured"],
        "disk-edge-on-second": ["yes", "no"],
        "bar-second": ["yes", "no"],
        "merging-second": ["yes", "no"],
    },
    {
        "how-rounded-first": ("smooth-or-featured-first", "smooth"),
        "disk-edge-on-first": ("smooth-or-featured-first", "featured"),
        "disk-edge-on-second": ("smooth-or-featured-second", "featured"),
        "bar-second": ("disk-edge-on-second", "no"),
    },
)
SLOAN = VoteSchema(
    {
        "shape-kaggle": ["round", "in-between", "cigar", "edge-on", "spiral"],
        "shape-gz1": ["elliptical", "spiral", "edge-on", "merger"],
    }
)
GZ1_ANSWER = np.array([0, 1, 1, 2, -1, 3])  # elliptical, clockwise, anticlockwise, edge-on, don't know, merger
N_SIMULATED, N_SCORED, N_TESTED = 2000, 1500, 1000
FOLDER = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data"))
METHODS = ("untrained", "direct", "votes", "byol", "simclr", "scored", "cosine", "loss", "light", "often")
IMAGES_ALONE = {"byol": BYOLEmbedder, "simclr": SimCLREmbedder, "scored": SimCLREmbedder}
HYBRIDS = ("cosine", "loss", "light", "often")
OFTEN_EPOCHS = 6
KEYS = ["data", "encoder", "method", "passes", "voted", "seed"]


@dataclass
class Sky:
    """Galaxies to learn from, and others with the answer to a new question."""

    images: np.ndarray
    votes: np.ndarray
    schema: VoteSchema
    scored: np.ndarray
    target: np.ndarray
    settings: dict[str, Any]


def simulate(n_voted: int, seed: int) -> Sky:
    survey = {"n_samples": N_SIMULATED + N_SCORED, "bands": "grz", "size": 32, "pixel_scale": 0.594}
    sky = make_survey(schema=SIMULATED, n_volunteers=(5, 10), random_state=seed, **survey)
    rings = make_survey(schema="gz_rings", n_volunteers=10, random_state=seed, **survey).votes
    votes = sky.votes.to_numpy()[:N_SIMULATED]
    votes[np.random.default_rng(seed).permutation(N_SIMULATED)[n_voted:]] = 0
    target = (rings["ring_yes"] > rings["ring_no"]).to_numpy()
    return Sky(
        sky.images[:N_SIMULATED],
        votes,
        SIMULATED,
        sky.images[N_SIMULATED:],
        target[N_SIMULATED:],
        {"normalize": "asinh", "batch_size": 64},
    )


def load_real(n_voted: int, n_images: int, seed: int) -> Sky:
    kaggle, gz1, rings = (np.load(FOLDER / f"galaxies_{name}.npz") for name in ("gz2kaggle", "gz1", "decals_rings"))
    images = np.concatenate([kaggle["images"], gz1["images"]])
    votes = np.zeros((len(images), SLOAN.n_answers), dtype=int)
    known, of_gz1 = np.flatnonzero(kaggle["label5"] >= 0), GZ1_ANSWER[gz1["label"]]
    votes[known, kaggle["label5"][known]] = 1
    votes[len(kaggle["images"]) + np.flatnonzero(of_gz1 >= 0), 5 + of_gz1[of_gz1 >= 0]] = 1
    flag, group = (np.concatenate([kaggle[name], gz1[name]]) for name in ("flag", "dup_group"))
    first = np.isin(np.arange(len(group)), np.unique(group, return_index=True)[1]) | (group < 0)
    usable = first & (flag & 32 == 0) & ~np.isin(group, rings["dup_group"][rings["dup_group"] >= 0])
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(usable))[: n_images or None]
    images, votes = images[chosen], votes[chosen]
    if n_voted:
        votes[np.flatnonzero(votes.any(axis=1))[n_voted:]] = 0
    settings = {"normalize": "standard", "batch_size": 64, "size": 48, "average": "dihedral", "bands_axis": -1}
    return Sky(images, votes, SLOAN, rings["images"], rings["ring"] == 1, settings)


def pretrain(method: str, sky: Sky, passes: float, encoder: str, seed: int) -> Any:
    """An embedder that never heard of the new question."""
    settings = {**sky.settings, "random_state": seed}
    if method == "untrained":
        return FixedImageEmbedder(encoder, **settings).fit(sky.images)
    settings["max_epochs"] = round(passes)
    if method == "votes":
        voted = sky.votes.any(axis=1)
        embedder = VoteEmbedder(encoder, schema=sky.schema, **settings)
        return embedder.fit(sky.images[voted], votes=sky.votes[voted])
    if method in IMAGES_ALONE:
        return IMAGES_ALONE[method](encoder, **settings).fit(sky.scored if method == "scored" else sky.images)
    rows = np.arange(len(sky.images))
    if method == "light":
        settings["vote_weight"], method = 0.1, "cosine"
    if method == "often":
        settings["max_epochs"], method = OFTEN_EPOCHS, "cosine"
        rows = np.repeat(rows, np.where(sky.votes.any(axis=1), round(passes / OFTEN_EPOCHS), 1))
    embedder = HybridBYOLEmbedder(encoder, schema=sky.schema, vote_scaling=method, **settings)
    return embedder.fit(sky.images[rows], votes=sky.votes[rows])


def draws(sky: Sky, real: bool, counts: list[int], repeats: int, seed: int) -> Iterator[tuple[int, int, Any, Any]]:
    """Numbers of labels, and rows to train and to test on; the same for every method."""
    for count in counts:
        if real:  # the same for every seed too, which is of the pretraining alone
            cut = StratifiedShuffleSplit(repeats, train_size=count, random_state=count)
            for repeat, (train, test) in enumerate(cut.split(sky.scored, sky.target)):
                yield count, repeat, train, test
            continue
        pool, test = train_test_split(np.arange(N_SCORED), test_size=N_TESTED, stratify=sky.target, random_state=seed)
        cut = StratifiedShuffleSplit(repeats, train_size=count, random_state=seed)
        for repeat, (train, _) in enumerate(cut.split(pool, sky.target[pool])):
            yield count, repeat, pool[train], test


def probe() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))


def direct(sky: Sky, encoder: str, n_labels: int, seed: int) -> FineTuneClassifier:
    """A network from random weights; with few labels it looks at each more often."""
    epochs = max(10, round(4000 / n_labels))
    settings = {**sky.settings, "batch_size": 32, "max_epochs": epochs, "lr": 1e-3}
    return FineTuneClassifier(encoder, class_weight="balanced", random_state=seed, **settings)


def score(method: str, sky: Sky, run: dict[str, Any], args: argparse.Namespace) -> tuple[pd.DataFrame, np.ndarray]:
    """Scores of one run, a row per draw, and for each count of labels how often each galaxy was told right."""
    encoder, seed = run["encoder"], run["seed"]
    if method != "direct":
        rows = pretrain(method, sky, run["passes"], encoder, seed).transform(sky.scored)
    table, right, asked = [], *np.zeros((2, len(args.counts), len(sky.target)))
    for count, repeat, train, test in draws(sky, args.real, args.counts, args.repeats, seed):
        if method == "direct":
            model = direct(sky, encoder, count, seed).fit(sky.scored[train], sky.target[train])
            sure = model.predict_proba(sky.scored[test])[:, 1]
        else:
            sure = probe().fit(rows[train], sky.target[train]).predict_proba(rows[test])[:, 1]
        correct = (sure > 0.5) == sky.target[test]
        right[args.counts.index(count), test] += correct
        asked[args.counts.index(count), test] += 1
        table.append((count, repeat, round(roc_auc_score(sky.target[test], sure), 4), round(correct.mean(), 4)))
    frame = pd.DataFrame(table, columns=["n_labels", "repeat", "roc_auc", "accuracy"])
    return frame, np.divide(right, asked, out=np.full_like(right, np.nan), where=asked > 0)


def differences(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Each hybrid minus each other way: mean over seeds, standard error and how many, over seeds that both have."""
    by = ["data", "encoder", "voted", "n_labels", "seed"]
    means = table.groupby([*by, "method", "passes"])[metric].mean().reset_index()
    hybrids, others = (means[means["method"].isin(names)] for names in (HYBRIDS, METHODS))
    spread = means["voted"].unique()
    common = others[others["voted"] == -1]
    others = pd.concat([others[others["voted"] != -1], *(common.assign(voted=voted) for voted in spread if voted >= 0)])
    pairs = hybrids.merge(others, on=by, suffixes=("", "_other"))
    pairs["difference"] = pairs[metric] - pairs[f"{metric}_other"]
    keys = ["data", "encoder", "voted", "n_labels", "method", "passes", "method_other", "passes_other"]
    return pairs.groupby(keys)["difference"].agg(["mean", "sem", "count"]).query("mean != 0").reset_index()


def power(folder: Path, table: pd.DataFrame, counts: list[int]) -> pd.DataFrame:
    """Differences of accuracy, their standard error over galaxies, and the galaxies that would make it half of them."""
    runs = table[KEYS].drop_duplicates()
    told = {}
    for way, group in runs.groupby(["method", "voted", "passes"]):
        files = [folder / ("_".join(map(str, run)) + ".npy") for run in group[KEYS].itertuples(index=False)]
        told[way] = np.mean([np.load(file) for file in files if file.exists()] or [np.nan], axis=0)
    lines = []
    for way, other in product(told, told):
        if way[0] in HYBRIDS and way != other and other[1] in (-1, way[1]):
            for count, rows in zip(counts, told[way] - told[other], strict=True):
                mean, error = np.nanmean(rows), np.nanstd(rows) / np.isfinite(rows).sum() ** 0.5
                lines.append((*way, *other, count, mean, error, round(len(rows) * (2 * error / mean) ** 2)))
    other = ["method_other", "voted_other", "passes_other", "n_labels", "difference", "error", "needed"]
    return pd.DataFrame(lines, columns=["method", "voted", "passes", *other])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--encoder", default=None, help="test_resnet on simulated galaxies, resnet10t on real ones")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--passes", type=int, nargs="+", default=[6])
    parser.add_argument("--steps", action="store_true", help="votes: as many steps as BYOL takes in those passes")
    parser.add_argument("--voted", type=int, nargs="+", default=None)
    parser.add_argument("--images", type=int, default=0, help="real ones to pretrain on; 0 is all")
    parser.add_argument("--counts", type=int, nargs="+", default=None, help="numbers of labels")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--galaxies", type=Path, help="folder for how often each galaxy was told right")
    parser.add_argument("--table", action="store_true", help="only print what is in the file")
    args = parser.parse_args()
    args.counts = args.counts or ([40, 80, 160, 264] if args.real else [60, 240])
    encoder = args.encoder or ("resnet10t" if args.real else "test_resnet")
    data = (f"real {args.images}" if args.images else "real") if args.real else "simulated"
    voted = args.voted or ([0] if args.real else [300])
    header("rings")
    for seed in args.seeds * (not args.table):
        for method in args.methods:
            apart = method in ("untrained", "direct", *IMAGES_ALONE)  # learn of no votes
            for n_voted in voted[:1] if apart else voted:
                sky = load_real(n_voted, args.images, seed) if args.real else simulate(n_voted, seed)
                for passes in args.passes[:1] if method in ("untrained", "direct") else args.passes:
                    if method == "votes" and args.steps:
                        passes = round(passes * len(sky.images) / sky.votes.any(axis=1).sum())
                    run = dict(zip(KEYS, (data, encoder, method, passes, n_voted, seed), strict=True))
                    run |= {"voted": -1} if apart else {}
                    run |= {"passes": 0} if method in ("untrained", "direct") else {}
                    known = pd.read_csv(args.out)[KEYS] if args.out.exists() else pd.DataFrame(columns=KEYS)
                    if (known == pd.Series(run)).all(axis=1).any():
                        continue
                    start = time.process_time()
                    frame, right = score(method, sky, run, args)
                    minutes = round((time.process_time() - start) / 60, 2)
                    frame = pd.DataFrame([run]).merge(frame.assign(cpu_minutes=minutes), how="cross")
                    frame.to_csv(args.out, mode="a", header=not args.out.exists(), index=False)
                    if args.galaxies:
                        args.galaxies.mkdir(parents=True, exist_ok=True)
                        np.save(args.galaxies / ("_".join(map(str, run.values())) + ".npy"), right)
                    means = frame.groupby("n_labels")[["roc_auc", "accuracy"]].mean().round(3)
                    print(run, means.to_dict(), f"{minutes} CPU minutes", flush=True)
    table = pd.read_csv(args.out)
    table = table[(table["data"] == data) & (table["encoder"] == encoder)]
    for metric in ("roc_auc", "accuracy") if args.real else ("roc_auc",):
        means = table.groupby(["method", "voted", "passes", "n_labels"])[metric].mean().unstack("n_labels").round(3)
        means["seeds"] = table.groupby(["method", "voted", "passes"])["seed"].nunique()
        means["cpu_minutes"] = table.groupby(["method", "voted", "passes"])["cpu_minutes"].mean().round(2)
        print(metric, means.to_string(), differences(table, metric).round(4).to_string(index=False), sep="\n")
    if args.galaxies:
        print(power(args.galaxies, table, args.counts).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
