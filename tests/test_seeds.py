"""What `random_state` decides, estimator by estimator: first weights, the order of rows, views, and rows held out."""

import numpy as np
import pytest
import torch
from estimators import TINY
from sklearn.base import clone
from skorch.callbacks import Callback

from skastro import AstroCLIPEmbedder, FlowPosterior, HybridBYOLEmbedder, ImageEncoder, MaskedSpectrumEmbedder, Training
from skastro.augment import Augment, ContiguousMask, block_masks
from skastro.encoders import VoteHead

N = 12
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(N, 2, 32, 32)).astype(np.float32)
SPECTRA = RNG.normal(size=(N, 60))
LABELS = np.arange(N) % 2
VALUES = RNG.uniform(0.01, 0.39, N)
# Every tiny estimator that trains a network, but for tables, whose rows are of no use to the recipes.
TRAINED = [name for name in TINY if "max_epochs" in TINY[name].get_params() and "tables" not in name]
DRAWING = [name for name in TRAINED if not isinstance(TINY[name], FlowPosterior)]
HOLDING = [name for name in TRAINED if "validation_fraction" in TINY[name].get_params()]


def make(name, **params):
    """Make an estimator that trains all of its network and draws views."""
    estimator = clone(TINY[name]).set_params(batch_size=4, **params)
    known = estimator.get_params()
    if "n_layers" in known:
        estimator.set_params(encoder=ImageEncoder("test_resnet"), n_layers="all", augment="supervised")
    if isinstance(estimator, AstroCLIPEmbedder):
        masks = Augment([("mask", ContiguousMask(n=2, length=10))])
        estimator.set_params(augment=("supervised", masks))
    return estimator


def data(estimator, rows):
    """Give what an estimator learns from."""
    images, spectra = IMAGES[rows], SPECTRA[rows]
    if isinstance(estimator, AstroCLIPEmbedder):
        return {"X": images, "y": spectra}
    if isinstance(estimator, MaskedSpectrumEmbedder):
        return {"X": spectra}
    if isinstance(estimator, FlowPosterior):
        return {"X": spectra[:, :3], "y": VALUES}
    if isinstance(estimator, HybridBYOLEmbedder):
        return {"X": images, "votes": LABELS}
    return {"X": images, "y": VALUES if "Regressor" in type(estimator).__name__ else LABELS}


def watched(name, seed, rows=slice(None), **params):
    """Fit, and tell the first weights, the rows of each batch by a sum, and what the networks are fed."""
    weights, batches, fed = [], [], []

    class Watch(Callback):
        def on_train_begin(self, net, **kwargs):
            objective = net.module_.objective
            weights.append({key: value.clone() for key, value in objective.named_parameters() if value.ndim > 1})
            for place in getattr(objective, "towers", [objective]):
                part = getattr(place, "tokens", place)
                part.register_forward_pre_hook(lambda module, args: fed.append([part.clone() for part in args]))

        def on_batch_end(self, net, batch, **kwargs):
            batches.append(next(iter(batch[0].values())).flatten(1).double().sum(dim=1).tolist())

    estimator = make(name, random_state=seed, training=Training(precision="fp32", callbacks=[Watch()]), **params)
    estimator.fit(**data(estimator, np.arange(N)[rows]))
    return weights, batches, fed


@pytest.mark.parametrize("name", TRAINED)
def test_the_seed_decides_first_weights_and_the_order_of_rows(name):
    (one, rows, _), (same, again, _), (other, others, _) = (watched(name, seed) for seed in (0, 0, 1))
    assert rows == again
    assert rows[:3] != others[:3]
    for first, second, third in zip(one, same, other, strict=True):
        random = [key for key in first if first[key].detach().std() > 0 and "positions" not in key]  # those are waves
        assert random
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not [key for key in random if torch.equal(first[key], third[key])]


@pytest.mark.parametrize("name", DRAWING)
def test_the_seed_decides_what_is_drawn_for_views(name):
    """Rows are all alike, so that their order does not matter."""
    fed, again, others = (watched(name, seed, rows=[3] * N)[2] for seed in (0, 0, 1))
    for first, same, other in zip(fed, again, others, strict=True):
        assert all(torch.equal(*pair) for pair in zip(first, same, strict=True))
        assert not all(torch.equal(*pair) for pair in zip(first, other, strict=True))


def assert_of_the_seed(drawn):
    """Of three fits the first two have one seed, the third another."""
    same, again, other = np.split(np.stack(drawn), 3)
    assert np.array_equal(same, again)
    assert not any(map(np.array_equal, same, other))


def test_the_seed_decides_which_patches_are_hidden(monkeypatch):
    hidden = []
    monkeypatch.setattr(
        "skastro.pretrain.dino.block_masks", lambda *args: hidden.append(block_masks(*args)) or hidden[-1]
    )
    for seed in (0, 0, 1):
        watched("DINOEmbedder, all parts", seed)
    assert_of_the_seed(hidden)


@pytest.mark.parametrize("name", ["VoteEmbedder", "HybridBYOLEmbedder", "FineTuneClassifier, votes"])
def test_the_seed_decides_what_a_head_of_votes_drops(name, monkeypatch):
    """Of features that are all 1, so that what is 0 was dropped."""
    dropped, forward = [], VoteHead.forward

    def noted(head, features):
        hook = head.linear.register_forward_pre_hook(lambda module, args: dropped.append(args[0].detach() == 0))
        outputs = forward(head, 0 * features + 1)
        hook.remove()
        return outputs

    monkeypatch.setattr(VoteHead, "forward", noted)
    for seed in (0, 0, 1):
        watched(name, seed, **({"dropout": 0.5} if "FineTune" in name else {}))
    assert_of_the_seed(dropped)


@pytest.mark.parametrize("name", HOLDING)
def test_the_seed_decides_which_rows_are_held_out_and_they_stay_out(name):
    early = {} if "FlowPosterior" in name else {"early_stopping": True}
    parts = []
    for seed in (0, 0, 1):
        _, batches, _ = watched(name, seed, validation_fraction=0.25, max_epochs=3, **early)
        fits = np.array_split(batches, len(batches) // 9)  # 3 epochs of 3 batches: of each member of an ensemble
        parts.append([frozenset(fit.ravel()) for fit in fits])
    same, again, other = parts
    assert {len(part) for part in same + other} == {9}
    assert same == again
    assert len({*same, *other}) == len(same) + len(other)
