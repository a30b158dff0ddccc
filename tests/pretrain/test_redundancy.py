"""Losses that keep features varied and different, against their formulas written slowly; their objectives."""

import numpy as np
import pytest
import torch
from learning import learn
from torch import nn

from skastro import BarlowTwinsEmbedder, VICRegEmbedder
from skastro.losses import barlow_twins_loss, vicreg_loss
from skastro.pretrain.barlow import BarlowTwins
from skastro.pretrain.vicreg import VICReg
from skastro.training import local_seed


def slow_vicreg(first, second, weights=(25.0, 25.0, 1.0)):
    """The paper's equations, with the distance divided by d and the hinges halved, as in its code."""
    n, d = first.shape
    first, second = first.double().numpy(), second.double().numpy()
    invariance = sum(np.sum((z - other) ** 2) for z, other in zip(first, second, strict=True)) / n / d
    variance = covariance = 0.0
    for view in (first, second):
        rows = view - view.mean(axis=0)
        for j in range(d):
            variance += max(0.0, 1 - np.sqrt(sum(row[j] ** 2 for row in rows) / (n - 1) + 1e-4)) / d / 2
            for k in range(d):
                covariance += 0.0 if j == k else (sum(row[j] * row[k] for row in rows) / (n - 1)) ** 2 / d
    return weights[0] * invariance + weights[1] * variance + weights[2] * covariance


def slow_barlow_twins(first, second, weight=5e-3):
    n, d = first.shape
    first, second = first.double().numpy(), second.double().numpy()
    first, second = ((view - view.mean(axis=0)) / np.sqrt(view.var(axis=0) + 1e-5) for view in (first, second))
    loss = 0.0
    for j in range(d):
        for k in range(d):
            correlation = sum(first[i, j] * second[i, k] for i in range(n)) / n
            loss += (1 - correlation) ** 2 if j == k else weight * correlation**2
    return loss


LOSSES = {
    "barlow_twins": (barlow_twins_loss, slow_barlow_twins, 0.3),
    "vicreg": (vicreg_loss, slow_vicreg, (3.0, 5.0, 7.0)),
}
OBJECTIVES = {"barlow_twins": (BarlowTwins, 5e-3), "vicreg": (VICReg, (25.0, 25.0, 1.0))}
PARTS = {
    "barlow_twins": {"on_diagonal_loss", "off_diagonal_loss"},
    "vicreg": {"invariance_loss", "variance_loss", "covariance_loss"},
}


@pytest.fixture(params=LOSSES)
def method(request):
    return request.param


def draw(n=7, d=5, seed=0, scale=0.6):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(n, d, generator=generator) + torch.arange(d) for _ in range(2)]


# ---------------------------------------------------------------- both losses


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("n", "d"), [(2, 3), (7, 5), (4, 9)])
def test_the_loss_equals_its_formula_in_float32(method, n, d, dtype, autocast):
    loss, slow, weights = LOSSES[method]
    views = [view.to(dtype) for view in draw(n, d)]
    for given in ((), (weights,)):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value, _ = loss(*views, *given)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(slow(*views, *given), rel=1e-4, abs=1e-5)


def test_the_loss_does_not_see_the_order_of_images_features_and_views_nor_their_mean(method):
    loss, (first, second) = LOSSES[method][0], draw()
    value = loss(first, second)[0].item()
    rows, columns = torch.randperm(7), torch.randperm(5)
    for same in (
        (first[rows], second[rows]),
        (first[:, columns], second[:, columns]),
        (second, first),
        (first + 3, second + 3),
    ):
        assert loss(*same)[0].item() == pytest.approx(value, rel=1e-4)
    assert loss(first[rows], second)[0].item() != pytest.approx(value, rel=1e-3)
    assert loss(first[:, columns], second)[0].item() != pytest.approx(value, rel=1e-3)


def test_the_loss_teaches_both_views_and_its_parts_teach_nothing(method):
    views = [view.requires_grad_() for view in draw()]
    value, parts = LOSSES[method][0](*views)
    value.backward()
    assert all(view.grad.isfinite().all() and view.grad.abs().amax(dim=1).min() > 0 for view in views)
    assert parts.keys() == PARTS[method]
    assert not any(part.requires_grad for part in parts.values())


@pytest.mark.parametrize("n", [2, 8])
def test_the_gradient_of_collapsed_views_is_finite(method, n):
    views = [torch.ones(n, 4).requires_grad_() for _ in range(2)]
    value, _ = LOSSES[method][0](*views)
    value.backward()
    assert all(view.grad.isfinite().all() for view in views)


def spread_apart(n=64, d=4):
    """Rows whose features have mean 0 and variance 1 (over n - 1) and are not correlated."""
    rows = np.random.default_rng(0).normal(size=(n, d))
    basis, _ = np.linalg.qr(rows - rows.mean(axis=0))
    return torch.from_numpy(basis * np.sqrt(n - 1)).float()


def test_views_that_agree_with_features_of_their_own_have_no_loss(method):
    views = spread_apart()
    assert LOSSES[method][0](views, views)[0].item() == pytest.approx(0, abs=0.01)


def test_what_collapses_or_repeats_itself_has_a_high_loss(method):
    loss, views = LOSSES[method][0], spread_apart()
    apart = loss(views, views)[0].item()
    assert loss(torch.ones_like(views), torch.ones_like(views))[0].item() > apart + 1
    repeated = views[:, :1].expand(-1, 4)
    assert loss(repeated, repeated)[0].item() > apart + 0.01
    assert loss(views, views.flip(0))[0].item() > apart + 1


# ---------------------------------------------------------------- VICReg


def test_vicreg_of_a_point_is_its_variance_term_alone():
    value, parts = vicreg_loss(torch.ones(9, 5), torch.ones(9, 5), (25.0, 4.0, 1.0))
    assert value.item() == pytest.approx(4 * 0.99, rel=1e-6)
    assert {name: round(part.item(), 6) for name, part in parts.items()} == {
        "invariance_loss": 0,
        "variance_loss": 0.99,
        "covariance_loss": 0,
    }


def test_vicreg_weighs_its_parts():
    _, parts = vicreg_loss(*draw())
    for i, part in enumerate(parts.values()):
        weights = tuple(2.0 * (i == j) for j in range(3))
        assert vicreg_loss(*draw(), weights)[0].item() == pytest.approx(2 * part.item(), rel=1e-5)


# ---------------------------------------------------------------- Barlow Twins


def test_barlow_twins_does_not_see_the_scale_of_features():
    first, second = draw(n=64)
    scale = torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0])
    value = barlow_twins_loss(first, second)[0].item()
    assert barlow_twins_loss(first * scale, second * scale.flip(0))[0].item() == pytest.approx(value, rel=1e-3)


def test_barlow_twins_runs_to_4_per_feature_and_is_1_per_feature_for_a_point():
    views = spread_apart()
    assert barlow_twins_loss(views, -views)[0].item() == pytest.approx(4 * 4, rel=1e-3)
    assert barlow_twins_loss(torch.ones(9, 4), torch.ones(9, 4))[0].item() == 4


# ---------------------------------------------------------------- the objectives


def make(method):
    kind, weights = OBJECTIVES[method]
    with local_seed(0):
        return kind(nn.Sequential(nn.Flatten(), nn.Linear(12, 8)), 8, 16, 6, weights)


def test_the_objective_is_one_network_that_learns_from_both_views(method):
    objective, (first, second) = make(method), torch.randn(2, 16, 1, 3, 4)
    value = objective(first, second)
    rows = objective.online(first), objective.online(second)
    torch.testing.assert_close(value, LOSSES[method][0](*rows)[0])
    assert objective.parts.keys() == PARTS[method]
    value.backward()
    assert all(p.grad.abs().max() > 0 for p in objective.online[1].parameters())
    assert {name.partition(".")[0] for name, _ in objective.named_parameters()} == {"online"}


class AndNoisy:
    """Two views of each image: as it is, and with noise."""

    inputs = ("images",)

    def __call__(self, images):
        return [images, images + 0.1 * torch.randn(images.shape)]


def test_the_objective_is_learned(method):
    images = np.random.default_rng(0).normal(size=(200, 1, 3, 4)).astype(np.float32)
    learned, still = (
        learn(make(method), AndNoisy(), images, 10, lr, batch_size=40)["loss"][-1] for lr in (0.01, 1e-12)
    )
    assert learned < 0.7 * still


# ---------------------------------------------------------------- the embedders


@pytest.fixture
def sky():
    return np.random.default_rng(0).normal(size=(24, 2, 32, 32)).astype(np.float32)


def test_vicreg_keeps_its_parts_and_weighs_them(sky):
    weights = {"invariance_weight": 3.0, "variance_weight": 5.0, "covariance_weight": 7.0}
    embedder = VICRegEmbedder("test_resnet", max_epochs=2, batch_size=8, random_state=0, **weights).fit(sky)
    parts = [weight * embedder.history_[name.replace("weight", "loss")] for name, weight in weights.items()]
    np.testing.assert_allclose(embedder.history_["loss"], sum(parts), rtol=1e-5)


def test_barlow_twins_keeps_its_parts_and_weighs_them(sky):
    kwargs = {"max_epochs": 2, "batch_size": 8, "random_state": 0}
    history = BarlowTwinsEmbedder("test_resnet", off_diagonal_weight=0.3, **kwargs).fit(sky).history_
    weighed = history["on_diagonal_loss"] + 0.3 * history["off_diagonal_loss"]
    np.testing.assert_allclose(history["loss"], weighed, rtol=1e-5)
