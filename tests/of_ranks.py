"""What processes that train together compute, for test_ranks.py: torchrun of_ranks.py PART FOLDER.

Each process writes a file of its own. ``pieces`` are those of `skastro.ranks`; ``fits`` are of every method that looks
at several samples of a batch, in double precision, and ``manners`` what users meet.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch.nn import functional

import skastro
from skastro import ranks
from skastro.encoders import SpectrumEncoder
from skastro.training import Randomness, Training, loop

IMAGES = np.random.default_rng(0).normal(1.0, 1.0, (23, 3, 32, 32)).astype(np.float32)  # batches of 8, 8 and 7
SPECTRA = np.random.default_rng(1).normal(1.0, 1.0, (23, 64)).astype(np.float32)
VOTES = np.random.default_rng(2).integers(0, 5, (23, 3)) * (np.arange(23) % 3 > 0)[:, None]
TABLE = np.random.default_rng(3).normal(size=(23, 4))
TABLE[[1, 2, 5, 11, 17]] = np.nan
SMALL = {"hidden_dim": 16, "projection_dim": 8}
VOTED = {"schema": skastro.VoteSchema({"smooth": ["yes", "no", "artifact"]})}
COMMON = {
    "batch_size": 8,
    "max_epochs": 2,
    "lr": 0.01,
    "random_state": 0,
    "training": Training(optimizer="sgd", precision="fp32", threads=1),
}
NETWORK = SpectrumEncoder(depth=1, width=8, heads=2)
FLOAT = torch.Tensor.float
ALL_PARTS = {"hidden_dim": 16, "prototypes": 8, "ibot_weight": 1.0, "koleo_weight": 0.1}


def fine_tuner(**settings):
    return skastro.FineTuneClassifier("test_resnet", **settings, **COMMON).fit(IMAGES, np.arange(23) % 3)


def aligned(first, second, X, y, **settings):
    return skastro.AstroCLIPEmbedder(first, second, embedding_dim=8, **settings, **COMMON).fit(X, y)


METHODS = {
    "byol": lambda: skastro.BYOLEmbedder("test_resnet", **SMALL, **COMMON).fit(IMAGES),
    "moco": lambda: skastro.MoCoEmbedder("test_resnet", projection_dim=8, symmetric=True, **COMMON).fit(IMAGES),
    "simclr": lambda: skastro.SimCLREmbedder("test_resnet", **SMALL, **COMMON).fit(IMAGES),
    "vicreg": lambda: skastro.VICRegEmbedder("test_resnet", **SMALL, **COMMON).fit(IMAGES),
    "barlow": lambda: skastro.BarlowTwinsEmbedder("test_resnet", **SMALL, **COMMON).fit(IMAGES),
    "dino": lambda: skastro.DINOEmbedder("test_vit2", **ALL_PARTS, **COMMON).fit(IMAGES),
    "dino, sinkhorn": lambda: skastro.DINOEmbedder(
        "test_vit2", augment="galaxy-crops", centering="sinkhorn", **ALL_PARTS, **COMMON
    ).fit(IMAGES),
    "votes": lambda: skastro.VoteEmbedder("test_resnet", **VOTED, **COMMON).fit(IMAGES, votes=VOTES),
    "hybrid": lambda: skastro.HybridBYOLEmbedder("test_resnet", **VOTED, **SMALL, **COMMON).fit(IMAGES, votes=VOTES),
    "masked": lambda: skastro.MaskedSpectrumEmbedder(NETWORK, mask_length=6, **COMMON).fit(SPECTRA),
    "clip": lambda: aligned("test_resnet", NETWORK, IMAGES, SPECTRA, learn_scale=True),
    "clip, gaps": lambda: aligned("test_resnet", StandardScaler(), IMAGES, TABLE),
    "fine-tuning": lambda: fine_tuner(n_layers="all", class_weight="balanced"),
    "flows": lambda: skastro.FlowPosterior(2, n_transforms=1, hidden_dim=8, **COMMON).fit(
        IMAGES[:, 0, 0, :4], VOTES[:, 0]
    ),
}


def in_double_precision(objective):
    """Let an objective compute in float64, also what it computes in float32 on purpose, from views as they are."""

    def begin(module, views, batch):
        torch.set_default_dtype(torch.float64)
        torch.Tensor.float = torch.Tensor.double
        return [doubled(view) for view in views], {name: doubled(array) for name, array in batch.items()}

    def end(module, views, loss):
        torch.set_default_dtype(torch.float32)
        torch.Tensor.float = FLOAT

    objective.double()
    objective.register_forward_pre_hook(begin, with_kwargs=True)
    objective.register_forward_hook(end, always_call=True)


def doubled(tensor):
    return tensor.double() if tensor.is_floating_point() else tensor


def fit(method):
    """Fit, and return the history and the weights of whatever was trained, heads and projectors too."""
    trained = []
    make = loop.Learner.__init__

    def made(learner, objective, *args, **kwargs):
        make(learner, objective, *args, **kwargs)
        if objective not in trained:
            trained.append(objective)
            in_double_precision(objective)

    loop.Learner.__init__ = made
    try:
        model = METHODS[method]()
    finally:
        loop.Learner.__init__ = make
    weights = {f"{i} {name}": p.detach() for i, each in enumerate(trained) for name, p in each.named_parameters()}
    return {"weights": weights, "history": model.history_}


class Stop(Callback):
    """Ask one process to end, as a scheduler of jobs does."""

    def on_batch_end(self, net, **kwargs):
        if ranks.rank() == ranks.world_size() - 1 and len(net.history[-1, "batches"]) == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def stopped(folder):
    """Fit until told to stop, and go on in a second fit."""
    training = Training(checkpoint=folder / f"run of {ranks.world_size()}", checkpoint_every=3600, threads=1)
    model = skastro.BYOLEmbedder("test_resnet", **SMALL, **{**COMMON, "training": training})
    code = until_told(model)
    left = len(list(training.checkpoint.iterdir()))
    resumed = model.fit(IMAGES).transform(IMAGES)
    unbroken = model.set_params(training__checkpoint=None).fit(IMAGES).transform(IMAGES)
    return {"code": code, "files": left, "same": bool((resumed == unbroken).all())}


def until_told(model):
    """Fit until told to stop, and give the exit code."""
    try:
        clone(model).set_params(training__callbacks=[Stop()]).fit(IMAGES)
    except SystemExit as end:
        return end.code


def refusals(folder):
    """List what is refused, in one sentence."""
    simclr = skastro.SimCLREmbedder("test_resnet", **SMALL, **COMMON)
    own = clone(simclr).set_params(training__checkpoint=folder / f"own {ranks.rank()}")
    until_told(own)
    tries = {
        "compile": lambda: clone(simclr).set_params(training__compile=True).fit(IMAGES),
        "data": lambda: clone(simclr).fit(IMAGES + ranks.rank()),
        "parameters": lambda: clone(simclr).set_params(lr=0.1 + ranks.rank()).fit(IMAGES),
        "folders": lambda: own.fit(IMAGES),
    }
    found = {}
    for name, attempt in tries.items():
        try:
            attempt()
        except ValueError as error:
            found[name] = str(error)
    return found


def embedded(folder):
    """Embed into a file, which one process writes."""
    model = skastro.FixedImageEmbedder("test_resnet", random_state=0).fit(IMAGES)
    skastro.embed(model, IMAGES, folder / "rows.npy", verbose=0)
    ranks.wait()
    return bool((np.load(folder / "rows.npy") == model.transform(IMAGES)).all())


def ordinary():
    """Fit as users do: no seed, bfloat16 where there is some, early stopping; embed on every rank."""
    settings = {**COMMON, "random_state": None, "training": Training(threads=1)}
    pretrained = skastro.BYOLEmbedder("test_resnet", **SMALL, **settings).fit(IMAGES)
    tuned = skastro.FineTuneClassifier(
        "test_resnet", validation_fraction=0.3, n_iter_no_change=1, **{**settings, "max_epochs": 20}
    ).fit(IMAGES, np.arange(23) % 2)
    return {
        "embedding": pretrained.transform(IMAGES),
        "buffers": dict(pretrained.encoder_.named_buffers()),
        "history": pretrained.history_,
        "classes": tuned.predict_proba(IMAGES),
    }


def pieces():
    """Compute what is shared among ranks on rows of each, of which the last has fewer, and what one alone computes."""
    ranks.join()
    draws = np.random.default_rng(0)
    rows, targets = (torch.from_numpy(draws.normal(size=(5, 3, 2, 2))) for _ in range(2))
    own, target = (ranks.part(each).clone().requires_grad_() for each in (rows, targets))
    weight, bias = (torch.full((3,), value, dtype=torch.float64, requires_grad=True) for value in (2.0, 1.0))
    mean, variance = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    found = {}
    with ranks.shared(len(own), own.device):
        found["gathered"] = ranks.gather(own.detach())
        normal = functional.batch_norm(own, mean, variance, weight, bias, training=True)
        # A loss that is the same on all ranks has on each the gradients that it has on one alone, times the ranks.
        loss = (ranks.gather(normal) * ranks.gather(target)).pow(2).sum() / ranks.world_size()
        loss.backward()
        found["mean row"] = ranks.mean_row(own.detach()[:, 0, 0])
        found["logsumexp"] = ranks.logsumexp(own.detach()[:, 0, 0])
        found["dealt"] = ranks.dealt(range(5))
        found["drawn"] = ranks.drawn(torch.arange, len(own))
        found["weight"] = ranks.weight(len(own))
        found["total"] = ranks.total(own.detach().sum())
        draws = Randomness(0)
        with draws.installed():
            found["of a network"] = torch.rand(3)
        found["order after"] = torch.rand(3, generator=draws.order)
        with ranks.alone():
            found["alone"] = ranks.gather(own.detach())
    gradients = {"rows": own.grad, "targets": target.grad, "weight": weight.grad, "bias": bias.grad}
    return found | {"own": own.detach(), "loss": loss.detach(), "running": (mean, variance), "gradients": gradients}


def fits():
    return {method: fit(method) for method in METHODS}


def manners(folder):
    return {
        "ordinary": ordinary(),
        "stopped": stopped(folder),
        "refusals": refusals(folder),
        "embedded": embedded(folder),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    if sys.argv[1] == "pieces":
        torch.Tensor.float = torch.Tensor.double  # also what is computed in float32 on purpose
        results = pieces()
    else:
        results = {"fits": fits(), "manners": manners(folder)}
    torch.save(results, folder / f"{ranks.rank()}.pt")
