"""Each loss against its formula, written slowly."""

import numpy as np
import pytest
import torch

from skastro.losses import byol_loss


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
