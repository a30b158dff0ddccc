"""Schedules against their formulas; then the loop on an objective small enough to follow by hand."""

import contextlib
import copy
import random
import warnings
from typing import ClassVar

import joblib
import numpy as np
import pytest
import skorch
import torch
from skorch.callbacks import Callback
from torch import nn

from skastro.devices import draw_seed, resolve_device, uses_bf16
from skastro.pretrain.byol import BYOL
from skastro.training import (
    HeldOut,
    Learner,
    Monitor,
    Objective,
    Randomness,
    Settings,
    Training,
    TrainingRows,
    callbacks,
    ema_update,
    get_training,
    hold_out,
    local_seed,
    loop,
    train,
)
from skastro.training.batches import ArrayDataset, BatchSampler
from skastro.training.callbacks import embedding_spread
from skastro.training.optimizer import make_optimizer
from skastro.training.validation import mean_loss

CPU = torch.device("cpu")


class Toy(Objective):
    """Pull the embedding of each image towards its first two pixels."""

    def __init__(self, pixels=6):
        super().__init__()
        self.encoder = nn.Linear(pixels, 2)
        self.rates = []

    def forward(self, rows):
        return ((self.encoder(rows) - rows[:, :2]) ** 2).mean()

    def update(self, rate):
        self.rates.append(rate)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(20, 1, 2, 3)).astype(np.float32)


@pytest.fixture
def toy():
    with local_seed(0):
        return Toy()


class AsRows(nn.Module):
    """A view that draws nothing: the pixels of each image in a row."""

    inputs = ("images",)

    def forward(self, images):
        return [images.flatten(1)]


def run(
    objective,
    images,
    views=None,
    monitor=None,
    held_out=None,
    rows=None,
    max_epochs=1,
    batch_size=8,
    lr=0.01,
    verbose=0,
    **settings,
):
    """Train with seed 0 and give the monitor."""
    arrays = images if isinstance(images, dict) else {"images": images}
    monitor = monitor or Monitor(objective.encoder, "images")
    training = Training(**{"precision": "fp32"} | settings)
    learner = Learner(objective, views or AsRows(), Randomness(0), uses_bf16(training.precision, CPU))
    how = Settings(training, max_epochs, batch_size, lr, CPU, verbose)
    train(learner, TrainingRows(arrays, rows, held_out), how, monitor)
    return monitor


# ---------------------------------------------------------------- schedules


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 0.0, 0.05, 0.5, 1.0, 1, 3, 10, 99])
@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (7, 7), (40, 10)])
def test_lr_rises_falls_and_never_exceeds_its_peak(schedule, warmup, steps, epochs):
    training = Training(warmup=warmup, schedule=schedule)
    factors = np.array([training.lr_factor(step, steps, epochs) for step in range(steps)])
    warm = min(steps, round(warmup * steps if isinstance(warmup, float) else warmup * steps / epochs))
    assert factors.max() == 1
    assert factors.min() > 0
    np.testing.assert_allclose(factors[:warm], np.arange(1, warm + 1) / max(warm, 1))
    after = np.arange(steps - warm)
    cosine = (1 + np.cos(np.pi * after / max(steps - warm, 1))) / 2
    np.testing.assert_allclose(factors[warm:], cosine if schedule == "cosine" else 1)


@pytest.mark.parametrize("milestones", [(0.6, 0.9), [0.5], (0.25, 0.5, 0.75), (0.9, 0.6), ()], ids=str)
@pytest.mark.parametrize("warmup", [0, 0.05, 2])
@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (7, 7), (100, 10)])
def test_each_milestone_divides_the_lr_by_ten(steps, epochs, warmup, milestones):
    training = Training(schedule="milestones", milestones=milestones, warmup=warmup)
    by_hand = np.ones(steps)
    for milestone in milestones:
        by_hand[round(milestone * steps) :] /= 10
    warm = min(steps, round(warmup * steps / (epochs if isinstance(warmup, int) else 1)))
    by_hand[:warm] = np.arange(1, warm + 1) / max(warm, 1)
    np.testing.assert_allclose([training.lr_factor(step, steps, epochs) for step in range(steps)], by_hand)


def test_ema_rate_rises_to_one():
    rates = [Training(ema=0.9).ema_rate(step, 50) for step in range(51)]
    assert rates[0] == pytest.approx(0.9)
    assert rates[25] == pytest.approx(0.95)
    assert rates[-1] == 1
    assert np.all(np.diff(rates) > 0)
    assert {Training(ema=0.9, ema_schedule="constant").ema_rate(step, 50) for step in range(51)} == {0.9}


def test_ema_update_equals_the_closed_form():
    with local_seed(0):
        target, online = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    for net, shift in ((target, 0.0), (online, 5.0)):
        net(torch.randn(16, 3, generator=torch.Generator().manual_seed(1)) + shift)
    online(torch.ones(4, 3))  # one batch more, for the counter
    start = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    for _ in range(7):
        ema_update(target, online, 0.8)
    for name, tensor in target.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, 0.8**7 * start[name] + (1 - 0.8**7) * online.state_dict()[name])
        else:
            assert torch.equal(tensor, start[name])
    assert not torch.equal(start["1.running_mean"], target.state_dict()["1.running_mean"])


@pytest.mark.parametrize(("name", "kind"), [("adamw", "AdamW"), ("adam", "Adam"), ("sgd", "SGD"), ("lars", "Lars")])
def test_optimizers_decay_kernels_only_and_leave_frozen_weights_out(name, kind):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3), nn.Linear(3, 3))
    net[4].requires_grad_(False)
    optimizer = make_optimizer([{"params": list(net.parameters())}], 0.1, name, 0.01)
    assert type(optimizer).__name__ == kind
    decayed, others = optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.01, 0)
    assert decayed["lr"] == others["lr"] == 0.1
    assert set(decayed["params"]) == {net[0].weight, net[3].weight}
    assert set(others["params"]) == {net[0].bias, net[1].weight, net[1].bias, net[3].bias}


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lars"])
def test_each_group_keeps_its_scale_and_its_decay(name):
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    groups = [{"params": list(first.parameters()), "lr_scale": 0.25}, {"params": list(second.parameters())}]
    made = make_optimizer(groups, 0.1, name, 0.01).param_groups
    kinds = {group["params"][0]: (group["lr_scale"], group["lr"], group["weight_decay"]) for group in made}
    assert {group: pytest.approx(kind) for group, kind in kinds.items()} == {
        first.weight: (0.25, 0.025, 0.01),
        first.bias: (0.25, 0.025, 0.0),
        second.weight: (1.0, 0.1, 0.01),
        second.bias: (1.0, 0.1, 0.0),
    }


def test_momentum_and_betas_reach_their_optimizers():
    groups = [{"params": [nn.Parameter(torch.ones(2, 2))]}]
    made = {
        name: make_optimizer(groups, 0.1, name, 0.01, 0.7, [0.8, 0.95]) for name in ("adamw", "adam", "sgd", "lars")
    }
    assert {name: made[name].param_groups[0]["betas"] for name in ("adamw", "adam")} == {
        "adamw": (0.8, 0.95),
        "adam": (0.8, 0.95),
    }
    assert made["sgd"].param_groups[0]["momentum"] == made["lars"].param_groups[0]["momentum"] == 0.7


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_one_step_equals_the_formula(name):
    """Adam and SGD decay through the gradient, AdamW beside it."""
    start, grad, lr, decay, (b1, b2) = np.array([[2.0, -3.0]]), np.array([[0.5, 0.1]]), 0.1, 0.2, (0.8, 0.95)
    weight = nn.Parameter(torch.tensor(start, dtype=torch.float32))
    weight.grad = torch.tensor(grad, dtype=torch.float32)
    make_optimizer([{"params": [weight]}], lr, name, decay, 0.9, (b1, b2)).step()
    inside = grad if name == "adamw" else grad + decay * start
    mean, square = (1 - b1) * inside / (1 - b1), (1 - b2) * inside**2 / (1 - b2)
    step = inside if name == "sgd" else mean / (np.sqrt(square) + 1e-8)
    expected = start * (1 - lr * decay if name == "adamw" else 1) - lr * step
    np.testing.assert_allclose(weight.detach(), expected, rtol=1e-5)


def test_the_cosine_may_end_above_zero():
    factors = [Training(warmup=0, lr_end=0.1).lr_factor(step, 1000, 10) for step in range(1000)]
    assert factors[0] == 1
    assert factors[500] == pytest.approx(0.55)
    assert factors[-1] == pytest.approx(0.1, abs=1e-4)
    for schedule in ("milestones", "constant"):
        both = [Training(schedule=schedule, lr_end=end).lr_factor(999, 1000, 10) for end in (0.0, 0.1)]
        assert both[0] == both[1]


@pytest.mark.parametrize(("start", "end"), [(0.04, 0.4), (0.4, 0.04), (0.0, 0.1), (0.1, 0.0)])
def test_weight_decay_follows_half_a_cosine(start, end):
    decays = [Training(weight_decay=start, weight_decay_end=end).decay(step, 50) for step in range(51)]
    np.testing.assert_allclose(decays, end + (start - end) * (1 + np.cos(np.pi * np.arange(51) / 50)) / 2)
    assert {Training(weight_decay=start).decay(step, 50) for step in range(51)} == {start}


@pytest.mark.parametrize("end", [None, 0.3])
def test_each_step_has_the_weight_decay_of_the_schedule_and_biases_none(toy, images, end):
    seen = []

    class Look(Callback):
        def on_batch_end(self, net, **kwargs):
            seen.append([group["weight_decay"] for group in net.optimizer_.param_groups])

    training = Training(weight_decay=0.0 if end else 0.1, weight_decay_end=end)
    run(toy, images, max_epochs=2, callbacks=[Look()], weight_decay=training.weight_decay, weight_decay_end=end)
    assert len(seen) == 6
    for step, decays in enumerate(seen):
        assert decays == [pytest.approx(training.decay(step, 6)), 0.0]


def test_knobs_are_a_small_estimator():
    assert get_training(None).get_params() == Training().get_params()
    mine = Training(optimizer="sgd")
    assert get_training(mine) is mine
    assert joblib.hash(Training(optimizer="sgd")) == joblib.hash(mine) != joblib.hash(Training())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer", "rmsprop"),
        ("momentum", 1.0),
        ("betas", 0.9),
        ("weight_decay", -1e-4),
        ("weight_decay_end", -1e-4),
        ("warmup", -1),
        ("schedule", "linear"),
        ("milestones", 0.6),
        ("lr_end", 1.1),
        ("ema", 1.1),
        ("ema_schedule", "linear"),
        ("clip", 0.0),
        ("precision", "fp16"),
        ("compile", "yes"),
        ("callbacks", Callback),
    ],
)
def test_knobs_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter of Training must be"):
        Training(**{name: value})._validate_params()


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 1.0), (-0.1, 0.9), ("a", "b")], ids=str)
def test_betas_that_are_no_rates_are_refused(betas):
    with pytest.raises(ValueError, match="betas must be two numbers from 0, below 1; got"):
        Training(betas=betas).check()


@pytest.mark.parametrize("milestones", [(60, 90), ("a",), (0.5, 1.0), [0.0]], ids=str)
def test_milestones_that_are_no_fractions_are_refused(milestones):
    with pytest.raises(ValueError, match="milestones must be fractions"):
        Training(milestones=milestones).check()


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("n", [2, 3, 5, 9, 128, 129, 257])
@pytest.mark.parametrize("batch_size", [2, 3, 4, 128, 1000])
def test_batches_hold_each_row_once_and_never_a_single_one(n, batch_size):
    batches = BatchSampler(n, batch_size, torch.Generator().manual_seed(0))
    first, second = list(batches), list(batches)
    for epoch in (first, second):
        sizes = [len(rows) for rows in epoch]
        assert len(epoch) == len(batches)
        assert torch.cat(epoch).sort().values.tolist() == list(range(n))
        assert min(sizes) >= 2
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch_size + (batch_size == 2 and n % 2)
    if n > 5:
        assert torch.cat(first).tolist() != torch.cat(second).tolist()


@pytest.mark.parametrize("n", [2, 3, 9, 50])
@pytest.mark.parametrize("batch_size", [2, 8, 128])
def test_batches_of_a_subset_hold_its_rows_alone(n, batch_size):
    subset = torch.randperm(100, generator=torch.Generator().manual_seed(1))[:n]
    whole, part = (BatchSampler(rows, batch_size, torch.Generator().manual_seed(0)) for rows in (n, subset))
    assert len(part) == len(whole)
    for order, rows in zip(whole, part, strict=True):
        assert torch.equal(rows, subset[order])


def test_rows_are_8_bit_or_float_tensors_of_a_batch():
    images = np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2)
    rows = ArrayDataset({"images": images, "votes": np.arange(6, dtype=">f8")}, CPU)
    assert len(rows) == 6
    batch, _ = rows[torch.tensor([4, 1])]
    assert (batch["images"].dtype, batch["votes"].dtype) == (torch.uint8, torch.float32)
    np.testing.assert_array_equal(batch["images"], images[[4, 1]])
    assert batch["votes"].tolist() == [4, 1]


# ---------------------------------------------------------------- what is watched


@pytest.mark.parametrize("k", [1, 3, 8])
def test_effective_rank_is_the_dimension_of_a_subspace(k):
    basis = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0))).Q[:k]
    std, rank = embedding_spread(7 * torch.cat([basis, -basis]))
    assert rank == pytest.approx(k, abs=1e-3)
    assert std > 0.5
    assert embedding_spread(torch.cat([basis, -basis]) + 5)[1] == pytest.approx(k, abs=1e-3)


def test_spread_of_all_directions_and_of_one_point():
    embedding = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    std, rank = embedding_spread(embedding)
    assert std == pytest.approx(1, abs=0.02)
    assert rank == pytest.approx(16, abs=0.1)
    direction = embedding / embedding.norm(dim=1, keepdim=True)
    assert std == pytest.approx(np.std(direction.numpy(), axis=0, ddof=1).mean() * 4, abs=1e-5)
    assert embedding_spread(embedding[:1].expand(50, -1))[0] == pytest.approx(0, abs=1e-5)
    assert np.isfinite(embedding_spread(torch.zeros(50, 16))).all()


# ---------------------------------------------------------------- device, precision, seeds


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == CPU
    with pytest.raises(ValueError, match="device='cuda:1' was asked for, but torch finds no CUDA device here"):
        resolve_device("cuda:1")
    with pytest.raises(ValueError, match="Unknown device 'gpu'; use 'auto', 'cpu', 'cuda'"):
        resolve_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("able", [True, False])
def test_auto_precision_is_bf16_where_the_processor_has_it(able, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    for device in (CPU, torch.device("cuda")):
        assert uses_bf16("auto", device) == able
        assert uses_bf16("bf16", device)
        assert not uses_bf16("fp32", device)


def test_local_seed_repeats_and_restores_also_after_an_error():
    before = torch.get_rng_state()
    with local_seed(3):
        first = torch.rand(4)
    with contextlib.suppress(RuntimeError), local_seed(3):
        assert torch.equal(torch.rand(4), first)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_is_drawn_as_in_scikit_learn():
    before = repr(np.random.get_state())  # noqa: NPY002
    seeds = [draw_seed(state) for state in range(50)]
    assert seeds == [draw_seed(np.random.RandomState(state)) for state in range(50)]
    assert len(set(seeds)) == 50
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
    assert repr(np.random.get_state()) == before  # noqa: NPY002
    one = np.random.RandomState(0)
    assert [draw_seed(one), draw_seed(one)] == np.random.RandomState(0).randint(2**31 - 1, size=2).tolist()


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_the_objective_runs_in_the_precision_asked_and_weights_stay_float32(precision, dtype, toy, images):
    seen = []
    toy.encoder.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    run(toy, images, precision=precision)
    assert set(seen) == {(torch.float32, dtype)}
    assert {p.dtype for p in toy.parameters()} == {torch.float32}


# ---------------------------------------------------------------- the loop


@pytest.mark.parametrize(
    ("optimizer", "lr", "left"),
    [
        ("adamw", 0.1, 0.1),
        ("adam", 0.1, 0.1),
        ("sgd", 0.1, 0.1),
        ("lars", 1.0, 0.6),
    ],  # a step of LARS is a thousandth of the weights
)
def test_every_optimizer_lowers_the_loss(optimizer, lr, left, toy, images):
    loss = run(toy, images, optimizer=optimizer, lr=lr, max_epochs=40).history["loss"]
    assert loss[-1] < left * loss[0]


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ("sgd", {"momentum": 0.7}),
        ("lars", {"momentum": 0.7}),
        ("adam", {"betas": (0.8, 0.95)}),
        ("adamw", {"betas": (0.8, 0.95)}),
        ("auto", {"betas": (0.8, 0.95)}),
    ],
)
def test_words_of_the_optimizer_reach_it(optimizer, words, toy, images):
    groups = []

    class Look(Callback):
        def on_train_begin(self, net, **kwargs):
            groups.extend(net.optimizer_.param_groups)

    run(toy, images, optimizer=optimizer, callbacks=[Look()], **words)
    for name, given in words.items():
        assert {group[name] for group in groups} == {given}


def test_two_steps_of_sgd_have_its_momentum(toy, images):
    """A step goes on with 0.9 of the one before: torch's SGD, and that of MoCo."""
    start, gradients = toy.encoder.weight.detach().clone(), []

    class Look(Callback):
        def on_grad_computed(self, net, **kwargs):
            gradients.append(toy.encoder.weight.grad.clone())

    settings = {"schedule": "constant", "warmup": 0, "weight_decay": 0.0}
    run(toy, images, optimizer="sgd", callbacks=[Look()], batch_size=20, max_epochs=2, **settings)
    first, second = gradients
    torch.testing.assert_close(toy.encoder.weight.detach(), start - 0.01 * (first + (second + 0.9 * first)))


def test_history_holds_one_value_per_epoch_and_follows_the_schedules(toy, images):
    history = run(toy, images, max_epochs=4, lr=0.3, warmup=1, ema=0.9).history
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(
        ("loss", "lr", "images_per_s", "embedding_std", "effective_rank"), 4
    )
    assert all(np.isfinite(values).all() for values in history.values())
    training = Training(warmup=1, ema=0.9)  # 3 steps an epoch
    np.testing.assert_allclose(history["lr"], [0.3 * training.lr_factor(step, 12, 4) for step in (2, 5, 8, 11)])
    np.testing.assert_allclose(toy.rates, [training.ema_rate(step, 12) for step in range(12)])
    assert min(history["images_per_s"]) > 0


def test_the_loss_of_an_epoch_is_the_mean_over_images_whatever_the_batches(toy, images):
    rows = torch.from_numpy(images[:5]).flatten(1)
    truth = toy(rows).item()
    loss = run(toy, images[:5], batch_size=2, lr=1e-12).history["loss"]  # batches of 3 and 2
    assert loss == pytest.approx([truth], rel=1e-5)


def test_the_monitor_measures_what_the_encoder_gave(toy, images):
    history = run(toy, images, lr=1e-12, max_epochs=1).history
    std, rank = embedding_spread(toy.encoder(torch.from_numpy(images).flatten(1)).detach())
    assert history["embedding_std"] == pytest.approx([std], rel=1e-4)
    assert history["effective_rank"] == pytest.approx([rank], rel=1e-4)


def test_targets_travel_with_their_images(images):
    class Follow(Toy):
        def forward(self, rows, votes):
            assert torch.equal(rows[:, 0], votes)
            return super().forward(rows)

    objective = Follow()
    run(objective, {"images": images, "votes": images[:, 0, 0, 0]}, max_epochs=2)
    assert len(objective.rates) == 6


def test_only_the_subset_is_trained_on(images, capfd):
    class Seen(Toy):
        def forward(self, rows, row):
            self.rates.extend(row.int().tolist())
            return super().forward(rows)

        def update(self, rate):
            pass

    objective, subset = Seen(), np.array([17, 3, 4, 11, 8])
    run(objective, {"images": images, "row": np.arange(20)}, rows=subset, max_epochs=2, batch_size=2, verbose=1)
    first, second = objective.rates[:5], objective.rates[5:]
    assert sorted(first) == sorted(second) == sorted(subset)
    assert first != second
    assert "10.0/10.0" in capfd.readouterr().err


class Scaled(Toy):
    """A toy whose weights and biases have learning rates of their own."""

    scales: ClassVar = {}

    def lr_scales(self):
        return self.scales


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("schedule", ["cosine", "milestones", "constant"])
@pytest.mark.parametrize(
    "scales",
    [{}, {"encoder.weight": 0.1}, {"encoder.weight": 0.1, "encoder.bias": 0.5}, {"encoder.bias": 3.0}],
    ids=str,
)
def test_each_parameter_has_its_own_lr_at_every_step(scales, schedule, optimizer, images):
    class Watch(Callback):
        def on_grad_computed(self, net, **kwargs):
            for group in net.optimizer_.param_groups:
                for parameter in group["params"]:
                    lrs.setdefault(parameter, []).append(group["lr"])

    lrs, objective = {}, Scaled()
    objective.scales = scales
    settings = {"schedule": schedule, "warmup": 1, "optimizer": optimizer}
    history = run(objective, images, max_epochs=4, lr=0.3, callbacks=[Watch()], **settings).history
    by_hand = 0.3 * np.array([Training(**settings).lr_factor(step, 12, 4) for step in range(12)])
    factors = {name: scales.get(name, 1.0) for name, _ in objective.named_parameters()}
    for name, parameter in objective.named_parameters():
        np.testing.assert_allclose(lrs[parameter], factors[name] * by_hand)
    np.testing.assert_allclose(history["lr"], by_hand[2::3])


def test_a_smaller_scale_moves_a_parameter_less(toy, images):
    objective = Scaled()
    objective.load_state_dict(toy.state_dict())
    objective.scales = {"encoder.weight": 0.1}
    before = copy.deepcopy(toy.state_dict())
    settings = {"optimizer": "sgd", "weight_decay": 0.0, "warmup": 0, "batch_size": 20}
    for model in (toy, objective):
        run(model, images, **settings)
    moved, less = (model.encoder.weight - before["encoder.weight"] for model in (toy, objective))
    torch.testing.assert_close(less, 0.1 * moved, rtol=1e-3, atol=1e-7)
    assert torch.equal(toy.encoder.bias, objective.encoder.bias)


def test_the_seed_decides_and_the_users_generators_stay(toy, images):
    states = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002
    twin = copy.deepcopy(toy)
    for objective in (toy, twin):
        run(objective, images, max_epochs=3)
    assert torch.equal(toy.encoder.weight, twin.encoder.weight)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (repr(np.random.get_state()), random.getstate()) == states[1:]  # noqa: NPY002


def test_auto_epochs_aim_at_a_number_of_steps(toy, images, monkeypatch):
    monkeypatch.setattr(loop, "AUTO_STEPS", 10)
    monkeypatch.setattr(loop, "AUTO_EPOCHS", 1)
    assert len(run(toy, images, max_epochs="auto").history["loss"]) == 4  # 3 steps an epoch
    assert len(toy.rates) == 12


def test_a_callback_that_stops_as_skorch_does_ends_the_training(toy, images):
    stop = skorch.callbacks.EarlyStopping("train_loss", patience=2, threshold=10.0, threshold_mode="abs")
    assert len(run(toy, images, max_epochs=9, callbacks=[stop]).history["loss"]) == 3
    assert len(run(toy, images, max_epochs=9, callbacks=[("stop", stop)]).history["loss"]) == 3


def test_a_loss_that_is_no_number_is_told(toy, images):
    with pytest.raises(ValueError, match=r"The loss is (nan|inf) in epoch \d+: nothing more can be learned"):
        run(toy, images, max_epochs=50, lr=1e30, optimizer="sgd")


def test_cudnn_repeats_itself_and_the_precision_stays_the_users(toy, images, monkeypatch):
    seen = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    before = torch.backends.cudnn.deterministic

    class Look(Callback):
        def on_batch_end(self, net, **kwargs):
            seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic))

    run(toy, images, callbacks=[Look()])
    assert set(seen) == {(False, True)}
    assert torch.backends.cudnn.deterministic == before


def test_what_is_held_out_is_seen_on_the_device(toy, images, monkeypatch):
    moved, watched = [], AsRows()

    def to(self, *args, **kwargs):
        moved.append((self.views, args))
        return nn.Module.to(self, *args, **kwargs)

    monkeypatch.setattr(Learner, "to", to)
    run(toy, images, held_out=HeldOut(np.arange(4), watched, 3))
    assert (watched, (CPU,)) in moved


def test_a_step_of_lars_is_a_thousandth_of_the_weights_whatever_decays(toy, images):
    def moved(weight_decay):
        objective = copy.deepcopy(toy)
        run(objective, images, batch_size=20, lr=1.0, optimizer="lars", weight_decay=weight_decay, warmup=0)
        return ((objective.encoder.weight - toy.encoder.weight).norm() / toy.encoder.weight.norm()).item()

    assert moved(0.0) == pytest.approx(moved(1e-6), rel=1e-3)


def test_clip_limits_the_gradient(toy, images):
    def moved(clip):
        objective = copy.deepcopy(toy)
        run(objective, images, batch_size=20, lr=1.0, optimizer="sgd", weight_decay=0.0, warmup=0, clip=clip)
        pairs = zip(objective.parameters(), toy.parameters(), strict=True)
        return torch.cat([(new - old).detach().flatten() for new, old in pairs]).norm().item()

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(None) == pytest.approx(moved(1e6), rel=1e-6)
    assert moved(None) > 0.1


def test_callbacks_are_cloned_and_called(toy, images):
    class Count(Callback):
        calls = 0

        def on_batch_end(self, net, **kwargs):
            Count.calls += 1
            self.seen = True

    callback = Count()
    run(toy, images, max_epochs=2, callbacks=[callback])
    assert Count.calls == 6
    assert vars(callback) == {}


# ---------------------------------------------------------------- the best epoch


class Script:
    """Says held-out losses by rote (an exception is raised) and notes the weights that it was asked about."""

    def __init__(self, losses):
        self.losses = iter(losses)
        self.weights = []

    def __call__(self, learner, dataset, rows, batch_size, device):
        assert (rows.tolist(), batch_size, device) == ([5, 2], 8, CPU)
        self.weights.append(learner.objective.encoder.weight.detach().clone())
        loss = next(self.losses)
        if isinstance(loss, BaseException):
            raise loss
        return loss


@pytest.fixture
def best_of(toy, monkeypatch):
    def make(losses, patience):
        script = Script(losses)
        monkeypatch.setattr(loop, "mean_loss", script)
        return Monitor(toy.encoder), script, HeldOut(np.array([5, 2]), AsRows(), patience)

    return make


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([5, 4, 3, 2, 1, 0], 1, 6, 5),
        ([3, 4, 2, 1, 0, 0], 1, 2, 0),
        ([3, 4, 2, 5, 6, 7], 2, 5, 2),
        ([3, 4, 2, 5, 6, 1], 3, 6, 5),
        ([2, 3, 3, 3, 3, 3], 9, 6, 0),
        ([1, 1, 1, 1, 1, 1], 2, 3, 0),  # equal is not better
        ([-1, -2, 0, 0, 0, 0], 2, 4, 1),
        ([3, 2, float("nan"), 1.5, 1, 0.5], 2, 6, 5),
    ],
)
def test_training_ends_after_patience_and_restores_the_best_epoch(losses, patience, epochs, best, best_of, toy, images):
    monitor, script, watch = best_of(losses, patience)
    run(toy, images, monitor=monitor, held_out=watch, max_epochs=6, warmup=0)
    assert monitor.history["validation_loss"] == losses[:epochs]
    assert {len(values) for values in monitor.history.values()} == {epochs}
    assert torch.equal(toy.encoder.weight, script.weights[best])
    assert len({weight.sum().item() for weight in script.weights}) == epochs  # training went on
    assert not toy.encoder._forward_hooks


class Interrupted(AsRows):
    """Ctrl-C comes after so many steps of an objective."""

    def __init__(self, objective, steps):
        super().__init__()
        self.rates = objective.rates
        self.steps = steps

    def forward(self, images):
        if len(self.rates) == self.steps:
            raise KeyboardInterrupt
        return super().forward(images)


@pytest.mark.parametrize(("epoch", "best"), [(0, None), (1, 0), (4, 2)])
def test_ctrl_c_restores_the_best_epoch_too(epoch, best, best_of, toy, images):
    start = toy.encoder.weight.detach().clone()
    monitor, script, watch = best_of([3, 4, 2, 5, 6, 7], patience=9)
    with pytest.raises(KeyboardInterrupt):  # in the second of three steps
        run(toy, images, views=Interrupted(toy, 3 * epoch + 1), monitor=monitor, held_out=watch, max_epochs=6, warmup=0)
    assert {len(values) for values in monitor.history.values()} == {epoch}
    kept = toy.encoder.weight
    assert not torch.equal(kept, start) if best is None else torch.equal(kept, script.weights[best])


def test_an_error_on_held_out_rows_is_not_taken_for_the_end(best_of, toy, images):
    monitor, script, watch = best_of([3, ArithmeticError("held out")], patience=1)
    with pytest.raises(ArithmeticError, match="held out"):
        run(toy, images, monitor=monitor, held_out=watch, max_epochs=6, warmup=0)
    assert torch.equal(toy.encoder.weight, script.weights[0])


def test_rows_are_held_out_once_each_by_class_and_never_too_few():
    rows, label = np.arange(100, 200), np.repeat([0, 1, 2], [60, 30, 10])
    for seed in range(5):
        trained, watched = hold_out(rows, 0.1, seed, classes=label)
        assert np.bincount(label[watched - 100]).tolist() == [6, 3, 1]
        assert sorted([*trained, *watched]) == rows.tolist()
    assert len(hold_out(rows, 0.901, 0)[1]) == 91
    for few, fraction, fewest, sentence in (
        (rows[:3], 0.5, 1, "validation_fraction=0.5 leaves 1 of 3 rows to train on and 2 to watch"),
        (rows[:9], 0.1, 2, "leaves 8 of 9 rows to train on and 1 to watch; there must be at least 2 and 2"),
    ):
        with pytest.raises(ValueError, match=sentence):
            hold_out(few, fraction, 0, fewest=fewest)


@pytest.mark.parametrize("batch_size", [2, 3, 100])
def test_the_loss_of_rows_held_out_is_weighted_and_does_not_depend_on_the_batches(batch_size):
    class Weighted(Toy):
        def forward(self, rows, weight=None):
            loss = ((self.encoder(rows) - rows[:, :2]) ** 2).mean(dim=1)
            return loss.mean() if weight is None else (weight * loss).mean()

    rng, watched = np.random.default_rng(0), torch.tensor([3, 1, 4, 15, 9])
    images, weight = rng.normal(size=(20, 1, 2, 3)).astype(np.float32), rng.uniform(0, 3, 20).astype(np.float32)
    learner = Learner(Weighted().train(), AsRows(), Randomness(0), bf16=False)
    rows = torch.from_numpy(images)[watched].flatten(1)
    each = ((learner.objective.encoder(rows) - rows[:, :2]) ** 2).mean(dim=1).detach().numpy()
    for more, slow in (({}, each.mean()), ({"weight": weight}, np.average(each, weights=weight[watched]))):
        dataset = ArrayDataset({"images": images} | more, CPU)
        assert mean_loss(learner, dataset, watched, batch_size, CPU) == pytest.approx(slow, rel=1e-5)
        assert not learner.objective.training


# ---------------------------------------------------------------- collapse, progress, Ctrl-C


def collapsed():
    objective = Toy()
    nn.init.zeros_(objective.encoder.weight)
    nn.init.ones_(objective.encoder.bias)
    return objective


def test_a_collapsed_embedding_warns_once(images):
    with pytest.warns(UserWarning, match=r"The embedding has collapsed.*\(embedding_std .*\)") as caught:
        run(collapsed(), np.tile(images, (2, 1, 1, 1)), max_epochs=3, lr=1e-9)
    assert len(caught) == 1


@pytest.mark.parametrize(("make", "rows", "epochs"), [(Toy, 40, 3), (collapsed, 40, 2), (collapsed, 16, 3)])
def test_spread_embeddings_few_epochs_and_few_rows_do_not_warn(make, rows, epochs, images):
    with warnings.catch_warnings(action="error"):
        run(make(), np.tile(images, (2, 1, 1, 1))[:rows], max_epochs=epochs, lr=1e-9, batch_size=max(2, rows // 8))


def test_progress_shows_loss_lr_and_speed_on_stderr(toy, images, capfd):
    run(toy, images, max_epochs=2, verbose=1)
    out, err = capfd.readouterr()
    assert out == ""
    for word in ("epoch 2/2", "loss=", "lr=", "images/s", "100%", "40.0/40.0"):
        assert word in err
    run(toy, images)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("after", [0, 2, 4])
def test_ctrl_c_keeps_what_was_learned_and_leaves_no_trace(after, toy, images, monkeypatch):
    bars = []

    class Bar(callbacks.tqdm):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            bars.append(self)

    monkeypatch.setattr(callbacks, "tqdm", Bar)
    monitor, before = Monitor(toy.encoder, "images"), toy.encoder.weight.detach().clone()
    with pytest.raises(KeyboardInterrupt):
        run(toy, images, views=Interrupted(toy, after), monitor=monitor, max_epochs=3, warmup=0, verbose=1)
    assert {len(values) for values in monitor.history.values()} == {after // 3}
    assert torch.equal(toy.encoder.weight, before) == (after == 0)
    assert not toy.encoder._forward_hooks
    assert [bar.disable for bar in bars] == [True]  # closed


@pytest.mark.parametrize(("given", "factor"), [({}, 10.0), ({"predictor_lr_factor": 3.0}, 3.0)])
def test_the_predictor_of_byol_learns_faster_and_nothing_else(given, factor):
    objective = BYOL(nn.Linear(3, 4), width=4, hidden=5, out=2, **given)
    slow = {name for name, _ in objective.named_parameters() if name not in objective.lr_scales()}
    assert set(objective.lr_scales().values()) == {factor}
    assert slow == {name for name, _ in objective.named_parameters() if not name.startswith("predictor.")}
