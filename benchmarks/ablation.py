"""Which augmentation is worth its place? The studies of two papers, through the protocol, at a size for two cores.

python benchmarks/ablation.py [--studies "table 10" "figure 13"] [--method simclr] [--seeds 0] [--table]

Slijepcevic et al. (2023), table 10 and figures 9 to 11: BYOL on the radio galaxies of MiraBest, accuracy of a linear
probe. Hayat et al. (2021), figure 13: MoCo on simulated galaxies in ugriz, spread of the redshifts of a linear probe
(the paper fine-tunes). Encoders are small and passes few. A gain is the paired difference to the first setting of the
study on the same folds; of table 10 the paper's own difference stands beside it.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
from machine import header
from protocol import KEYS, METHODS, compare, run

PASSES = 8
RADIO = ("rotate", "crop", "flip", "color", "blur")
SKY = ("extinction", "psf", "rotate", "shift", "noise")
# The steps that are on, and the paper's error of the linear evaluation with its standard error, in per cent.
TABLE_10 = {
    RADIO: (8.33, 0.40),
    ("crop", "flip", "color", "blur"): (6.44, 0.64),
    ("rotate", "flip", "color", "blur"): (13.46, 0.64),
    ("rotate", "crop", "color", "blur"): (7.40, 0.64),
    ("rotate", "crop", "flip", "blur"): (8.37, 0.35),
    ("rotate", "crop", "flip", "color"): (8.08, 0.60),
    ("rotate", "crop", "blur"): (9.81, 0.28),
    ("rotate", "flip", "blur"): (12.86, 0.30),
    ("crop", "flip", "blur"): (6.63, 0.64),
    ("rotate",): (8.85, 0.51),
    ("crop",): (8.94, 0.25),
    ("flip",): (23.75, 0.35),
    ("color",): (18.06, 0.68),
    ("blur",): (20.96, 0.81),
    (): (24.52, 0.58),
}


def only(recipe: str, steps: tuple[str, ...], on: tuple[str, ...]) -> dict[str, Any]:
    """Settings of a recipe with these of its steps on."""
    return {"augment": recipe, **{f"augment__{step}": "passthrough" for step in steps if step not in on}}


ALL, UNBLURRED = only("radio", RADIO, RADIO), only("radio", RADIO, RADIO[:-1])

# Study: data, method, and settings by name, the reference first. Figures 9 and 10 are without blur, as in the paper.
STUDIES = {
    "table 10": ("mirabest", "byol", {" ".join(on) or "none": only("radio", RADIO, on) for on in TABLE_10}),
    "figure 9": (
        "mirabest",
        "byol",
        {"center 70": UNBLURRED} | {f"center {side}": UNBLURRED | {"size": side} for side in (60, 50, 40, 30, 20)},
    ),
    "figure 10": (
        "mirabest",
        "byol",
        {"crops from 0.8": UNBLURRED}
        | {f"crops from {low}": UNBLURRED | {"augment__crop__scale": (low, 1.0)} for low in (0.6, 0.4, 0.2, 0.08)},
    ),
    "figure 11": (
        "mirabest",
        "byol",
        {"blur p = 0.1": ALL, "blur p = 0": UNBLURRED}
        | {f"blur p = {p}": ALL | {"augment__blur__p": p} for p in (0.3, 0.6, 1.0)},
    ),
    "figure 13": (
        "ugriz",
        "moco",
        {
            " ".join(on) or "none": only("sdss-all", SKY, on) | {"survey": "sdss", "size": 64}
            for on in (SKY, *itertools.combinations(SKY, 4), *itertools.combinations(SKY, 1), ())
        },
    ),
}


def report(table: pd.DataFrame, study: str, method: str) -> pd.DataFrame:
    """Score and gain over the reference of each setting, at the end of its runs."""
    data, _, named = STUDIES[study]
    part = table[(table["data"] == data) & (table["method"] == method) & table["n_labels"].isna()]
    part = part[part["step"] == part.groupby(KEYS)["step"].transform("max")]
    lines = []
    for (task, view), rows in part.groupby(["task", "view"], sort=False):
        runs = dict(list(rows.groupby("settings")))
        reference = runs[as_text(next(iter(named.values())))]
        for name, settings in named.items():
            if as_text(settings) in runs:
                found = runs[as_text(settings)]
                lines.append(
                    [
                        study,
                        task,
                        view,
                        name,
                        found["seed"].nunique(),
                        found["score"].mean(),
                        *compare(found, reference),
                    ]
                )
    lines = pd.DataFrame(lines, columns=["study", "task", "view", "setting", "seeds", "score", "gain", "error"])
    if study == "table 10":
        error, first = pd.DataFrame(TABLE_10.values(), index=list(named)) / 100, TABLE_10[RADIO]
        lines["paper"] = lines["setting"].map(first[0] / 100 - error[0])
        lines["paper_error"] = lines["setting"].map((error[1] ** 2 + (first[1] / 100) ** 2) ** 0.5)
    return lines.round(4)


def as_text(settings: dict[str, Any]) -> str:
    return json.dumps(settings | {"max_epochs": PASSES}, sort_keys=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--method", choices=METHODS, help="in place of the papers' own")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--file", type=Path, default=Path(__file__).with_name("ablation.csv"))
    parser.add_argument("--table", action="store_true", help="only print what the file holds")
    chosen = parser.parse_args()
    header(f"ablation, {PASSES} passes")
    for study, seed in itertools.product(chosen.studies, chosen.seeds):
        data, method, named = STUDIES[study]
        for settings in () if chosen.table else named.values():
            run(chosen.file, data, chosen.method or method, settings | {"max_epochs": PASSES}, seed, brief=True)
    table = pd.read_csv(chosen.file, dtype={"n_labels": "Int64"})
    for study in chosen.studies:
        print(report(table, study, chosen.method or STUDIES[study][1]).to_string(index=False))


if __name__ == "__main__":
    main()
