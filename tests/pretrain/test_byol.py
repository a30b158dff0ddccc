"""BYOL's two crossed terms, written slowly in NumPy: the tests of the hybrid compare BYOL with itself."""

import numpy as np
import pytest
import torch
from torch import nn

from skastro.pretrain.byol import BYOL
from skastro.training import local_seed


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def byol():
    """BYOL on a linear encoder, whose target network differs from the online one, as it does in training."""
    with local_seed(0):
        byol = BYOL(nn.Sequential(nn.Flatten(), nn.Linear(12, 8)), 8, 16, 5).double()
    for place, tensor in enumerate(filter(torch.is_floating_point, byol.target.state_dict().values())):
        tensor.add_(0.3 * draw(*tensor.shape, seed=place))
    return byol


def numbers(network):
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def slow_mlp(rows, network):
    """A layer, a norm over the batch, a ReLU, and a layer: Grill et al. (2020), section 3.3."""
    weight = numbers(network)
    hidden = rows @ weight["0.weight"].T
    hidden = (hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + 1e-5)
    return np.maximum(hidden * weight["1.weight"] + weight["1.bias"], 0) @ weight["3.weight"].T + weight["3.bias"]


def slow_projection(images, network):
    weight = numbers(network[0])
    return slow_mlp(images.flatten(1).numpy() @ weight["1.weight"].T + weight["1.bias"], network[1])


def slow_term(byol, online, target):
    """Equation 2: the online network predicts from one view what the target network sees of the other."""
    predicted = slow_mlp(slow_projection(online, byol.online), byol.predictor)
    distances = []
    for q, z in zip(predicted, slow_projection(target, byol.target), strict=True):
        distances.append(((q / np.sqrt(q @ q) - z / np.sqrt(z @ z)) ** 2).sum())
    return np.mean(distances)


def test_the_loss_is_the_mean_of_both_crossed_terms(byol):
    """Grill et al. (2020), section 3.1: each view in turn goes to the online network, the other to the target."""
    first, second = draw(6, 3, 2, 2, seed=5), draw(6, 3, 2, 2, seed=105)
    forth, back = slow_term(byol, first, second), slow_term(byol, second, first)
    assert byol(first, second).item() == pytest.approx((forth + back) / 2, rel=1e-5)
    alone = [slow_term(byol, view, view) for view in (first, second)]
    assert min(abs(crossed - itself) for crossed in (forth, back) for itself in alone) > 0.3


def test_the_gradient_is_that_of_a_target_that_stands_still(byol):
    """Of the loss by finite differences of its formula, in a direction through all weights of the online side."""
    first, second = draw(6, 3, 2, 2, seed=5), draw(6, 3, 2, 2, seed=105)
    byol(first, second).backward()
    learning = [*byol.online.parameters(), *byol.predictor.parameters()]
    direction = [draw(*parameter.shape, seed=place) for place, parameter in enumerate(learning)]
    slope = sum((parameter.grad * way).sum() for parameter, way in zip(learning, direction, strict=True)).item()
    losses = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, way in zip(learning, direction, strict=True):
                parameter.add_(step * way)
        losses.append((slow_term(byol, first, second) + slow_term(byol, second, first)) / 2)
    assert slope == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-3)
