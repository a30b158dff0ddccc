"""MoCo's queue, keys and key network followed by hand; SimCLR's one network; what their embedders settle."""

from collections import deque

import numpy as np
import pytest
import torch
from learning import learn
from torch import nn

from skastro import BYOLEmbedder, HybridBYOLEmbedder, ImageEncoder, MoCoEmbedder, SimCLREmbedder, Training
from skastro.encoders import get_encoder
from skastro.losses import info_nce, nt_xent
from skastro.pretrain.byol import BYOL
from skastro.pretrain.moco import MoCo
from skastro.pretrain.simclr import SimCLR
from skastro.training import local_seed

PIXELS, OUT = 12, 5


def make(kind, encoder=None, length=64, symmetric=False):
    """Make an objective on an encoder of a few linear weights, so that no row depends on another."""
    with local_seed(0):
        encoder = encoder or nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, PIXELS))
        if kind is MoCo:
            return MoCo(encoder, PIXELS, OUT, length, 0.1, symmetric, torch.Generator().manual_seed(0))
        return kind(encoder, PIXELS, 16, OUT, *((0.1,) if kind is SimCLR else ()))


def views(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 1, 3, 4, generator=generator) for _ in range(2)]


def keys_of(moco, images):
    with torch.no_grad():
        return nn.functional.normalize(moco.target(images), dim=1)


def by_age(moco):
    """Give the queue, the oldest key first."""
    return moco.queue.roll(-int(moco.place), dims=0)


def shake(network):
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1)))


# ---------------------------------------------------------------- the queue


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("sizes", [[32] * 8, [33, 32] * 4, [2, 7, 33, 64, 3, 100]], ids=str)
@pytest.mark.parametrize("length", [7, 64, 100])
def test_the_queue_is_a_list_whose_oldest_leave(length, sizes, symmetric):
    moco = make(MoCo, length=length, symmetric=symmetric)
    by_hand = deque(moco.queue.clone(), maxlen=length)
    for step, n in enumerate(sizes):
        first, second = views(n, seed=step)
        by_hand.extend(keys_of(moco, second))  # of one view only, also when the loss is symmetric
        moco(first, second)
        moco.update(0.9)
        shake(moco.online)
        torch.testing.assert_close(by_age(moco), torch.stack(list(by_hand)))


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_loss_is_taken_before_the_queue_moves_and_only_update_moves_it(symmetric):
    moco = make(MoCo, symmetric=symmetric)
    shake(moco.online)
    first, second = views(32)
    before = {name: tensor.clone() for name, tensor in moco.state_dict().items()}
    forth = info_nce(moco.online(first), keys_of(moco, second), before["queue"], 0.1)
    back = info_nce(moco.online(second), keys_of(moco, first), before["queue"], 0.1)
    for _ in range(2):
        torch.testing.assert_close(moco(first, second), (forth + back) / 2 if symmetric else forth)
    assert all(torch.equal(tensor, before[name]) for name, tensor in moco.state_dict().items())
    moco.update(1.0)
    assert torch.equal((moco.queue != before["queue"]).any(dim=1), torch.arange(64) < 32)
    assert moco.place == 32


def test_training_moves_the_queue_once_per_step():
    moco = make(MoCo, length=100)
    images = np.random.default_rng(0).normal(size=(20, 1, 3, 4)).astype(np.float32)
    learn(moco, AndNoisy(), images, epochs=3)  # of 7, 7 and 6 images
    assert moco.place == 60
    start = make(MoCo, length=100).queue
    assert torch.equal(moco.queue[60:], start[60:])
    assert (moco.queue[:60] != start[:60]).any(dim=1).all()


def test_the_queue_starts_as_unit_vectors_of_the_seed():
    first, second = (make(MoCo, length=1000).queue for _ in range(2))
    torch.testing.assert_close(first.norm(dim=1), torch.ones(1000))
    assert torch.equal(first, second)
    assert first.mean(dim=0).norm() < 0.1  # in all directions


# ---------------------------------------------------------------- the key network


@pytest.mark.parametrize("kind", [BYOL, MoCo])
@pytest.mark.parametrize(("rate", "steps"), [(0.99, 5), (0.5, 8), (0.0, 1), (1.0, 3)])
def test_momentum_weights_and_buffers_equal_the_closed_form(kind, rate, steps):
    objective = make(kind, nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, PIXELS), nn.BatchNorm1d(PIXELS)))
    objective(*views(8))
    shake(objective.online)
    start = {name: tensor.clone() for name, tensor in objective.target.state_dict().items()}
    for _ in range(steps):
        objective.update(rate)
    share = rate**steps
    online = objective.online.state_dict()
    for name, tensor in objective.target.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, share * start[name] + (1 - share) * online[name])
    assert {"0.2.running_mean", "0.2.running_var", "0.1.weight"} <= online.keys()


@pytest.mark.parametrize("kind", [BYOL, MoCo])
def test_only_the_online_network_is_taught(kind):
    objective = make(kind)
    objective(*views(8)).backward()
    assert all(p.grad is None and not p.requires_grad for p in objective.target.parameters())
    assert all(p.grad.abs().max() > 0 for p in objective.online.parameters())


# ---------------------------------------------------------------- keys in groups


@pytest.fixture
def normed():
    """MoCo whose key network is one batch norm."""
    moco = MoCo(nn.Flatten(), PIXELS, PIXELS, 64, 0.1, False, torch.Generator().manual_seed(0))
    moco.target = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(PIXELS))
    return moco


@pytest.mark.parametrize(("n", "groups"), [(2, 1), (4, 2), (31, 2), (63, 2), (64, 2), (65, 2), (100, 3), (128, 4)])
def test_keys_are_normalized_in_groups_of_their_own(normed, n, groups):
    first, second = views(n)
    normed.generator.manual_seed(7)
    normed(torch.zeros_like(first), second)  # keys do not depend on the queries
    order = torch.randperm(n, generator=torch.Generator().manual_seed(7)).numpy()
    rows, by_hand = second.flatten(1).double().numpy(), np.empty((n, PIXELS))
    for group in np.array_split(order, groups):
        by_hand[group] = (rows[group] - rows[group].mean(axis=0)) / np.sqrt(rows[group].var(axis=0) + 1e-5)
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(normed.keys, by_hand, atol=1e-5)


def test_an_image_touches_the_keys_of_its_group_alone_and_groups_are_drawn_anew(normed):
    def touched(seed):
        first, second = views(128)
        keys = []
        for _ in range(2):
            normed.generator.manual_seed(seed)
            normed(first, second)
            keys.append(normed.keys)
            second[5] += 3
        return (keys[0] != keys[1]).any(dim=1)

    group, another = touched(0), touched(1)
    assert group.sum() == another.sum() == 32
    assert group[5]
    assert not torch.equal(group, another)


@pytest.mark.parametrize("n", [2, 33, 64, 100])
def test_keys_come_in_the_order_of_images(n):
    moco = make(MoCo)
    first, second = views(n)
    moco(first, second)
    torch.testing.assert_close(moco.keys, keys_of(moco, second))


@pytest.mark.parametrize(("symmetric", "views_each"), [(False, 1), (True, 2)])
def test_the_symmetric_loss_is_twice_the_work(symmetric, views_each):
    moco, seen = make(MoCo, symmetric=symmetric), {"online": 0, "target": 0}
    for name in seen:
        moco.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: seen[name] + len(inputs[0])})
        )
    moco(*views(100))
    assert set(seen.values()) == {100 * views_each}


# ---------------------------------------------------------------- SimCLR


def test_simclr_is_one_network_that_learns_from_both_views():
    simclr = make(SimCLR)
    first, second = (view.requires_grad_() for view in views(8))
    loss = simclr(first, second)
    torch.testing.assert_close(loss, nt_xent(simclr.online(first), simclr.online(second), 0.1))
    loss.backward()
    assert all(view.grad.abs().amax(dim=(1, 2, 3)).min() > 0 for view in (first, second))
    assert all(p.grad.abs().max() > 0 for p in simclr.parameters())
    assert {name.partition(".")[0] for name, _ in simclr.named_parameters()} == {"online"}


# ---------------------------------------------------------------- learning


class AndNoisy(nn.Module):
    """Two views of each image: as it is, and with noise."""

    inputs = ("images",)

    def forward(self, images):
        return [images, images + 0.1 * torch.randn(images.shape)]


@pytest.mark.parametrize("kind", [BYOL, MoCo, SimCLR])
def test_every_objective_is_learned(kind):
    images = np.random.default_rng(0).normal(size=(200, 1, 3, 4)).astype(np.float32)
    # Against networks that stand still: MoCo's queue of random directions is easier than one of keys.
    learned, still = (learn(make(kind), AndNoisy(), images, epochs=10, lr=lr)["loss"][-1] for lr in (0.01, 1e-12))
    assert learned < 0.7 * still


# ---------------------------------------------------------------- the embedders


@pytest.mark.parametrize("batch_size", [2, 128, 1024])
def test_auto_queue_is_a_twentieth_between_a_batch_and_65536(batch_size):
    counts = [*np.geomspace(2, 1_000_000, 60).astype(int).tolist(), 1_310_719, 1_310_720, 10**7]
    lengths = [MoCoEmbedder(batch_size=batch_size)._length(n) for n in counts]
    for n, length in zip(counts, lengths, strict=True):
        largest = min(max(batch_size, 2 + n % 2), n)  # two rows a batch and an odd number make one of three
        assert length == max(min(n // 20, 65_536), largest)
    assert MoCoEmbedder(batch_size=batch_size)._length(1_200_000) == 60_000


@pytest.fixture
def sky():
    return np.random.default_rng(0).normal(size=(24, 2, 32, 32)).astype(np.float32)


@pytest.fixture
def asked(monkeypatch):
    """What the embedder asks of training, which does not run."""
    calls = []
    monkeypatch.setattr("skastro.base.train", lambda learner, data, settings, *args: calls.append(settings))
    return calls


@pytest.mark.parametrize(("length", "batch_size"), [(1, 8), (7, 8), (23, 128)])
def test_a_queue_shorter_than_a_batch_is_refused_before_training(length, batch_size, sky, asked):
    moco = MoCoEmbedder("test_resnet", queue_length=length, batch_size=batch_size)
    sentence = f"queue_length={length} is shorter than a batch of {min(batch_size, 24)}: .* or use SimCLREmbedder"
    with pytest.raises(ValueError, match=sentence):
        moco.fit(sky)
    assert not asked
    assert not hasattr(moco, "encoder_")


@pytest.mark.parametrize(("given", "used"), [("auto", 8), (8, 8), (9, 9), (500, 500)])
def test_the_length_in_use_is_told(given, used, sky, asked):
    moco = MoCoEmbedder("test_resnet", queue_length=given, batch_size=8).fit(sky)
    assert moco.queue_length_ == used
    assert moco.queue_length == given


@pytest.mark.parametrize("name", ["queue_length", "temperature", "projection_dim"])
def test_own_words_out_of_range_are_refused_by_name(name, sky, asked):
    for embedder in (MoCoEmbedder, SimCLREmbedder):
        if name in embedder().get_params():
            with pytest.raises(ValueError, match=f"The '{name}' parameter of {embedder.__name__} must be"):
                embedder("test_resnet", **{name: 0}).fit(sky)
    assert not asked


@pytest.mark.parametrize(("kind", "targets"), [(BYOLEmbedder, {}), (HybridBYOLEmbedder, {"votes": ["a", "b"] * 12})])
def test_the_factor_reaches_the_predictor(kind, targets, sky, monkeypatch):
    factors = []

    def note(learner, *args):
        factors.extend(learner.objective.lr_scales().values())

    monkeypatch.setattr("skastro.base.train", note)
    for given in ({}, {"predictor_lr_factor": 3.0}):
        kind("test_resnet", **given).fit(sky, **targets)
    assert sorted(set(factors)) == [3.0, 10.0]
    with pytest.raises(ValueError, match="The 'predictor_lr_factor' parameter of"):
        kind("test_resnet", predictor_lr_factor=0).fit(sky, **targets)


def configuration(training):
    return training.get_params()


def test_default_optimizers(sky, asked):
    for embedder in (MoCoEmbedder, SimCLREmbedder, BYOLEmbedder):
        embedder("test_resnet").fit(sky)
    moco, simclr, byol = (configuration(settings.training) for settings in asked)
    assert moco == configuration(Training(optimizer="sgd"))
    assert simclr == configuration(Training())
    assert byol == configuration(Training(ema=0.97))


def test_a_nested_setting_keeps_the_others_of_moco(sky, asked):
    moco = MoCoEmbedder("test_resnet").set_params(training__ema=0.999).fit(sky)
    assert configuration(asked[0].training) == configuration(Training(optimizer="sgd", ema=0.999))
    moco.set_params(training=Training(optimizer="lars")).fit(sky)
    assert configuration(asked[1].training) == configuration(Training(optimizer="lars"))


def test_the_encoder_of_the_paper_is_one_line():
    encoder = get_encoder(ImageEncoder("resnet50", stem="7x7", pool="avg")).build(bands=5, size=(64, 64))
    conv = encoder.network.conv1
    assert (conv.in_channels, conv.kernel_size, conv.stride) == (5, (7, 7), (1, 1))
    assert not [module for module in encoder.modules() if isinstance(module, nn.MaxPool2d)]
    sides = []
    encoder.network.layer1.register_forward_pre_hook(lambda module, inputs: sides.append(inputs[0].shape[2:]))
    with torch.no_grad():
        assert encoder.eval()(torch.zeros(1, 5, 64, 64)).shape == (1, 2048)
    assert sides == [(64, 64)]
