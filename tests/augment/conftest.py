import random

import numpy as np
import pytest
import torch


@pytest.fixture
def seeded():
    """Make a generator from a seed."""
    return lambda seed=0, device="cpu": torch.Generator(device).manual_seed(seed)


@pytest.fixture
def noise(seeded):
    """Make white noise of a shape, from -0.5 to 0.5."""
    return lambda *shape: torch.rand(shape, generator=seeded(99)) - 0.5


@pytest.fixture
def blob():
    """Draw a Gaussian of unit height at (x, y) pixels from the center of a frame, as (1, 1, height, width)."""

    def draw(frame, x=0.0, y=0.0, sigma=(2.0, 2.0)):
        height, width = frame
        down = (torch.arange(height) - (height - 1) / 2 - y)[:, None] / sigma[1]
        across = (torch.arange(width) - (width - 1) / 2 - x) / sigma[0]
        return torch.exp(-0.5 * (across**2 + down**2))[None, None]

    return draw


@pytest.fixture
def global_generators_stay():
    """Fail the test if it moves a generator that belongs to the user."""

    def states():
        return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002

    before = states()
    yield
    assert states() == before
