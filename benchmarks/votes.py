"""Do volunteers scatter more than dice? Votes on one question from the others: Dirichlet-multinomial or multinomial.

python benchmarks/votes.py [--questions smooth_or_features edgeon bar spiral] [--networks constant linear]

Real counts of Galaxy Zoo 2 in Stripe 82. Features are the fractions of the answers to the other questions, with the
mean where nobody was asked; galaxies have at least 10 answers to the question. A seed draws the third that is held out
and the first weights. The multinomial head is the same network with the same penalty, trained on single votes: each
answer of a galaxy is a row, weighted by its count. Every run goes into votes.csv as soon as it is scored, and one that
is in it already is not repeated.
"""

import argparse
import itertools
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from machine import header
from scipy.stats import multinomial
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split

from skastro import DirichletClassifier
from skastro.metrics import dirichlet_nll, vote_coverage, vote_fraction_rmse

FOLDER = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data"))
NUMBERS = {"smooth_or_features": 1, "edgeon": 2, "bar": 3, "spiral": 4}
NETWORKS = {"constant": None, "linear": (), "hidden": (16,)}
KEYS = ["question", "network", "head", "seed"]
LEVELS = (0.5, 0.68, 0.9)
FEWEST = 10  # answers to the question
SURE = 1e6  # concentrations in all of a distribution that is as good as one value


def load(question: str) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of the other questions' answers, and the votes on this one."""
    with np.load(FOLDER / "gz2_stripe82_votes.npz") as catalog:
        votes, numbers = catalog["votes"].astype(np.int64), catalog["question"]
    chosen = numbers == NUMBERS[question]
    votes = votes[votes[:, chosen].sum(axis=1) >= FEWEST]
    asked = np.stack([votes[:, numbers == number].sum(axis=1) for number in numbers], axis=1)
    fractions = np.where(asked > 0, votes / np.maximum(asked, 1), np.nan)
    return SimpleImputer().fit_transform(fractions[:, ~chosen]), votes[:, chosen]


def fit(head: str, model: DirichletClassifier, X: np.ndarray, votes: np.ndarray) -> DirichletClassifier:
    if head == "dirichlet":
        return model.fit(X, votes)
    galaxy, answer = np.nonzero(votes)
    return model.fit(X[galaxy], answer, sample_weight=votes[galaxy, answer])


def calibration(votes: np.ndarray, fractions: np.ndarray) -> float:
    """Mean absolute difference of predicted and counted fractions in tenths of the predictions, by volunteers."""
    total = np.broadcast_to(votes.sum(axis=1, keepdims=True), votes.shape).ravel()
    tenth = np.minimum((10 * fractions).astype(int), 9).ravel()
    excess = np.bincount(tenth, votes.ravel() - total * fractions.ravel())
    return np.abs(excess).sum() / total.sum()


def score(head: str, model: DirichletClassifier, X: np.ndarray, votes: np.ndarray) -> dict[str, float]:
    """Negative log-likelihood per galaxy, errors of fractions, and how often intervals of counts hold the counts."""
    fractions = np.asarray(model.predict_proba(X))
    if head == "dirichlet":
        concentrations = np.asarray(model.predict_concentrations(X))
        nll = dirichlet_nll(votes, concentrations)
    else:
        concentrations = SURE * fractions
        nll = -multinomial.logpmf(votes, votes.sum(axis=1), fractions).mean()
    covered = {f"coverage_{level:.0%}": vote_coverage(votes, concentrations, level=level) for level in LEVELS}
    errors = {"rmse": vote_fraction_rmse(votes, fractions), "calibration": calibration(votes, fractions)}
    return {"nll": nll} | errors | covered


def run(file: Path, question: str, network: str, head: str, seed: int) -> None:
    """Score a head and append its line, unless the file has it."""
    keys = [question, network, head, seed]
    if file.exists() and (pd.read_csv(file)[KEYS] == keys).all(axis=1).any():
        return
    X, votes = load(question)
    X = X if NETWORKS[network] is not None else np.zeros((len(X), 1))
    X_train, X_test, train, test = train_test_split(X, votes, test_size=1 / 3, random_state=seed)
    start = time.process_time()
    model = DirichletClassifier(hidden_layer_sizes=NETWORKS[network] or (), random_state=seed)
    fit(head, model, X_train, train)
    minutes = (time.process_time() - start) / 60
    line = dict(zip(KEYS, keys, strict=True)) | score(head, model, X_test, test)
    line |= {"galaxies": len(test), "cpu_minutes": minutes}
    pd.DataFrame([line]).round(5).to_csv(file, mode="a", header=not file.exists(), index=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", nargs="+", choices=NUMBERS, default=list(NUMBERS))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["constant", "linear"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--file", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    header("votes")
    every = itertools.product(chosen.questions, chosen.networks, ("multinomial", "dirichlet"), chosen.seeds)
    for question, network, head, seed in every:
        run(chosen.file, question, network, head, seed)
    table = pd.read_csv(chosen.file).drop(columns="seed")
    print(table.groupby(KEYS[:3], sort=False).agg(["mean", "sem"]).round(4).to_string())


if __name__ == "__main__":
    main()
