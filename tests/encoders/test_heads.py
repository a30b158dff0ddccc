import numpy as np
import pytest
import torch
from torch import nn

from skastro.encoders import Normalizer, expander, mlp
from skastro.pixels import measure_bands

STRETCHES = {
    "standard": lambda x, m: (x - m["mean"]) / m["std"],
    "asinh": lambda x, m: (np.arcsinh(x / m["softening"]) - m["mean"]) / m["std"],
    None: lambda x, m: x,
}


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("stretch", STRETCHES)
def test_normalizer_equals_the_formula(stretch, dtype):
    images = np.abs(np.random.default_rng(0).normal(40, 10, size=(6, 3, 8, 8)) * [[[1]], [[2]], [[3]]]).astype(dtype)
    measured = measure_bands(images, stretch)
    came = Normalizer(measured)(torch.from_numpy(images))
    wide = {name: value[:, None, None] for name, value in measured.items()}
    truth = STRETCHES[stretch](images.astype(float), wide)
    assert came.dtype == torch.float32
    np.testing.assert_allclose(came, truth, rtol=1e-5, atol=1e-5)
    if stretch is not None:
        np.testing.assert_allclose(came.mean(dim=(0, 2, 3)), 0, atol=1e-4)
        np.testing.assert_allclose(came.std(dim=(0, 2, 3)), 1, rtol=0.01)


def test_normalizer_learns_nothing_but_moves_with_its_numbers():
    normalizer = Normalizer(measure_bands(np.random.default_rng(0).normal(size=(4, 2, 5, 5)), "asinh"))
    assert not list(normalizer.parameters())
    assert set(normalizer.state_dict()) == {"mean", "std", "softening"}


def test_expander_is_the_head_of_vicreg():
    head = expander(5, 7, 3)
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert [type(layer) for layer in head] == [*block, *block, nn.Linear]
    assert head(torch.randn(4, 5)).shape == (4, 3)
    assert sum(p.numel() for p in head.parameters()) == 5 * 7 + 2 * 7 + 7 * 7 + 2 * 7 + 7 * 3


def test_mlp_is_the_head_of_byol():
    head = mlp(5, 7, 3)
    assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert head[0].bias is None
    assert head(torch.randn(4, 5)).shape == (4, 3)
    assert sum(p.numel() for p in head.parameters()) == 5 * 7 + 2 * 7 + 7 * 3 + 3
