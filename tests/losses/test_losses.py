"""Each loss against its formula, written slowly."""

import math

import numpy as np
import pytest
import torch

from skastro.losses import byol_loss, dino_loss, info_nce, masked_mse, nt_xent, vicreg_loss


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 5, generator=generator), torch.randn(6, 5, generator=generator)


def slow_byol(prediction, target):
    distances = []
    for p, z in zip(prediction.double().numpy(), target.double().numpy(), strict=True):
        p, z = p / np.sqrt((p**2).sum()), z / np.sqrt((z**2).sum())
        distances.append(((p - z) ** 2).sum())
    return np.mean(distances)


def test_byol_equals_the_formula(pair):
    assert byol_loss(*pair).item() == pytest.approx(slow_byol(*pair), abs=1e-6)


@pytest.mark.parametrize(("factor", "loss"), [(1, 0), (7.5, 0), (-1, 4), (-0.1, 4)])
def test_byol_runs_from_0_to_4_whatever_the_length(pair, factor, loss):
    assert byol_loss(pair[0], factor * pair[0]).item() == pytest.approx(loss, abs=1e-6)
    assert byol_loss(3 * pair[0], 0.2 * pair[1]).item() == pytest.approx(byol_loss(*pair).item(), abs=1e-6)


def test_byol_of_unrelated_directions_is_2():
    generator = torch.Generator().manual_seed(1)
    p, z = (torch.randn(4000, 64, generator=generator) for _ in range(2))
    assert byol_loss(p, z).item() == pytest.approx(2, abs=0.02)


def test_byol_teaches_the_prediction_and_not_the_target(pair):
    prediction, target = (tensor.requires_grad_() for tensor in pair)
    byol_loss(prediction, target).backward()
    assert target.grad is None
    assert prediction.grad.abs().max() > 0
    # Only the direction matters, so the gradient is across it.
    torch.testing.assert_close((prediction.grad * prediction).sum(dim=1), torch.zeros(6), rtol=0, atol=1e-6)


def test_byol_computes_in_float32_from_bfloat16(pair):
    half = [tensor.bfloat16() for tensor in pair]
    loss = byol_loss(*half)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow_byol(*half), abs=1e-6)


def test_byol_of_a_zero_vector_is_finite(pair):
    zero = torch.zeros_like(pair[0]).requires_grad_()
    loss = byol_loss(zero, pair[1])
    loss.backward()
    assert loss.item() == 2
    assert zero.grad.isfinite().all()


# ---------------------------------------------------------------- contrastive


def unit(tensor):
    rows = tensor.detach().double().numpy()
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def slow_info_nce(query, key, queue, temperature):
    losses = []
    for q, k in zip(unit(query), unit(key), strict=True):
        own = np.exp(q @ k / temperature)
        losses.append(-np.log(own / (own + sum(np.exp(q @ other / temperature) for other in unit(queue)))))
    return np.mean(losses)


def slow_nt_xent(first, second, temperature):
    views, n = np.concatenate([unit(first), unit(second)]), len(first)
    losses = []
    for i, view in enumerate(views):
        similar = {j: np.exp(view @ other / temperature) for j, other in enumerate(views) if j != i}
        losses.append(-np.log(similar[(i + n) % (2 * n)] / sum(similar.values())))
    return np.mean(losses)


# Each loss, its formula, how many tensors it takes (the first two are of a length), and what chance is for n, K rows.
CONTRASTIVE = {
    "info_nce": (info_nce, slow_info_nce, 3, lambda n, k: math.log(k + 1)),
    "nt_xent": (nt_xent, slow_nt_xent, 2, lambda n, k: math.log(2 * n - 1)),
}


@pytest.fixture(params=CONTRASTIVE)
def contrastive(request):
    return CONTRASTIVE[request.param]


def draw(count, n=6, k=11, d=5):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, d, generator=generator) for rows in (n, n, k)[:count]]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.07, 0.1, 0.5, 2.0])
def test_contrastive_equals_the_formula_in_float32(contrastive, temperature, dtype, autocast):
    loss, slow, count, _ = contrastive
    tensors = [tensor.to(dtype) for tensor in draw(count)]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = loss(*tensors, temperature)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(slow(*tensors, temperature), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 7), (5, 64), (33, 1000)])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_contrastive_of_one_point_is_chance(contrastive, n, k, temperature):
    loss, _, count, chance = contrastive
    same = [torch.ones_like(tensor) for tensor in draw(count, n, k)]
    assert loss(*same, temperature).item() == pytest.approx(chance(n, k), rel=1e-6, abs=1e-6)


def test_contrastive_of_any_point_nears_chance_as_the_temperature_rises(contrastive):
    loss, _, count, chance = contrastive
    assert loss(*draw(count), temperature=1e6).item() == pytest.approx(chance(6, 11), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5])
def test_contrastive_of_perfect_alignment(temperature):
    n, k = 4, 7
    axes = torch.eye(n + k)
    apart = info_nce(axes[:n], axes[:n], axes[n:], temperature)
    assert apart.item() == pytest.approx(math.log1p(k * math.exp(-1 / temperature)), abs=1e-6)
    apart = nt_xent(axes[:n], axes[:n], temperature)
    assert apart.item() == pytest.approx(math.log1p((2 * n - 2) * math.exp(-1 / temperature)), abs=1e-6)


def test_contrastive_sees_directions_only(contrastive):
    loss, _, count, _ = contrastive
    tensors = draw(count)
    scaled = [tensor * torch.logspace(-2, 2, len(tensor))[:, None] for tensor in tensors]
    assert loss(*scaled, 0.1).item() == pytest.approx(loss(*tensors, 0.1).item(), rel=1e-5)


def test_contrastive_does_not_see_the_order_of_images_queue_and_views(contrastive):
    loss, _, count, _ = contrastive
    first, second, *queue = draw(count)
    order = torch.randperm(len(first), generator=torch.Generator().manual_seed(1))
    turned = loss(first[order], second[order], *(keys.flip(0) for keys in queue), 0.1)
    assert turned.item() == pytest.approx(loss(first, second, *queue, 0.1).item(), rel=1e-6)
    assert loss(first[order], second, *queue, 0.1).item() != pytest.approx(turned.item(), rel=1e-3)
    if not queue:
        assert loss(second, first, 0.1).item() == pytest.approx(turned.item(), rel=1e-6)


def test_info_nce_teaches_the_query_and_neither_key_nor_queue():
    query, key, queue = (tensor.requires_grad_() for tensor in draw(3))
    info_nce(query, key, queue, 0.1).backward()
    assert key.grad is None
    assert queue.grad is None
    assert query.grad.abs().max() > 0
    torch.testing.assert_close((query.grad * query).sum(dim=1), torch.zeros(6), rtol=0, atol=1e-5)


def test_nt_xent_teaches_both_views():
    first, second = (tensor.requires_grad_() for tensor in draw(2))
    nt_xent(first, second, 0.1).backward()
    for view in (first, second):
        assert view.grad.abs().amax(dim=1).min() > 0
        torch.testing.assert_close((view.grad * view).sum(dim=1), torch.zeros(6), rtol=0, atol=1e-5)


def test_contrastive_of_a_zero_vector_is_finite(contrastive):
    loss, _, count, chance = contrastive
    zeros = [torch.zeros_like(tensor).requires_grad_() for tensor in draw(count)]
    value = loss(*zeros, 0.1)
    value.backward()
    assert value.item() == pytest.approx(chance(6, 11), rel=1e-6)
    assert zeros[0].grad.isfinite().all()


# ---------------------------------------------------------------- masked_mse


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masked_mse_equals_its_formula(dtype):
    generator = torch.Generator().manual_seed(0)
    prediction, target, weights = (torch.rand(3, 4, 5, generator=generator).to(dtype) for _ in range(3))
    weights[0] = 0
    p, x, w = (tensor.double().numpy() for tensor in (prediction, target, weights))
    loss = masked_mse(prediction, target, weights)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(np.sum(w * (p - x) ** 2) / np.sum(w), rel=1e-5)
    assert masked_mse(prediction, target, 8 * weights).item() == pytest.approx(loss.item(), rel=1e-5)


def test_masked_mse_does_not_see_what_has_no_weight():
    prediction = torch.ones(2, 3, requires_grad=True)
    weights = torch.tensor([[1.0, 0.0, 0.0]] * 2)
    masked_mse(prediction, torch.zeros(2, 3), weights).backward()
    torch.testing.assert_close(prediction.grad, weights)  # 2 (1 - 0) of a mean of two


def test_masked_mse_of_nothing_is_zero():
    prediction = torch.ones(2, 3, requires_grad=True)
    loss = masked_mse(prediction, torch.zeros(2, 3), torch.zeros(2, 3))
    loss.backward()
    assert loss.item() == 0
    assert (prediction.grad == 0).all()


def test_what_is_unknown_may_be_missing():
    truth = torch.tensor([1.0, 2.0, float("nan")])
    assert masked_mse(torch.zeros(3), truth, torch.tensor([1.0, 1.0, 0.0])).item() == 2.5


def test_one_row_alone_and_one_view_alone_are_refused():
    with pytest.raises(ValueError, match="two images at least"):
        vicreg_loss(torch.zeros(1, 4), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="two at least"):
        dino_loss(torch.zeros(1, 3, 4), torch.full((1, 3, 4), 0.25), 0.1)
