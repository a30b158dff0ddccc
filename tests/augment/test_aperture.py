"""What an aperture keeps and what it hides, against its formula in slow NumPy."""

import numpy as np
import pytest
import torch

from skastro.augment import Aperture


@pytest.mark.parametrize("shape", [(3, 2, 16, 16), (3, 1, 15, 22)])
def test_the_aperture_equals_the_formula(shape, noise, seeded):
    images, step = noise(*shape), Aperture(radius=(0.3, 1.2), p=0.7).fit(None)
    radius = step.draw(shape, seeded(4))["radius"]
    seen = step.apply(images, radius)
    height, width = shape[2:]
    for i, r in enumerate(radius.double().tolist()):
        for image, view in zip(images[i].double().numpy(), seen[i], strict=True):
            outside = np.empty((height, width))
            for row in range(height):
                for column in range(width):
                    d = np.hypot(row - (height - 1) / 2, column - (width - 1) / 2) / (min(height, width) / 2)
                    outside[row, column] = 1 - np.clip((r - d) / 0.1 + 0.5, 0, 1)
            mean = (outside * image).sum() / max(outside.sum(), 1e-6)
            np.testing.assert_allclose(view, image + outside * (mean - image), rtol=0, atol=1e-5)


def test_the_center_stays_and_a_neighbor_goes():
    images = torch.zeros(1, 1, 33, 33)
    images[0, 0, 16, 16], images[0, 0, 3, 3] = 7.0, 100.0
    seen = Aperture().apply(images, torch.tensor([0.6]))
    assert seen[0, 0, 16, 16] == 7
    assert seen[0, 0, 3, 3] < 1


def test_radii_are_drawn_within_their_limits(seeded):
    radius = Aperture(radius=(0.4, 0.9), p=1.0).draw((20_000, 1, 1, 1), seeded())["radius"]
    assert 0.4 <= radius.min() < 0.401
    assert 0.899 < radius.max() <= 0.9


@pytest.mark.parametrize("radius", [(0.0, 1.0), (1.0, 0.5), 0.5])
def test_radii_that_cannot_be_are_refused(radius):
    with pytest.raises(ValueError, match="The 'radius' parameter of Aperture must be a pair"):
        Aperture(radius=radius).fit(None)
