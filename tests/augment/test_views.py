"""Random views to learn from, and the symmetries of the sky to average over."""

import pytest
import torch
from torch import nn

from skastro.augment import Augment, Flip, Rotate
from skastro.augment.views import Views, orientations


def as_set(views):
    """Views of one image as a set of its orientations."""
    return {view.numpy().tobytes() for view in views}


# ---------------------------------------------------------------- views


def test_one_view_per_recipe_each_normalized_after_the_augmentation(noise, seeded):
    images = noise(4, 3, 16, 16)
    recipes = [Augment([("rotate", Rotate())]), Augment([("flip", Flip(p=1.0))]), Augment()]

    class Tenfold(nn.Module):
        def forward(self, x):
            return 10 * x

    sizes = [(8, 8), (8, 8), (5, 6)]
    views = Views(list(zip(recipes, sizes, strict=True)), Tenfold(), seeded())(images)
    generator = seeded()
    for recipe, size, view in zip(recipes, sizes, views, strict=True):
        torch.testing.assert_close(view, 10 * recipe(images, size, generator), rtol=0, atol=1e-6)
        assert view.is_contiguous(memory_format=torch.channels_last)


def test_two_views_of_one_recipe_differ(noise, seeded):
    recipe = Augment([("rotate", Rotate())])
    first, second = Views(recipe.views((16, 16)), nn.Identity(), seeded())(noise(4, 1, 16, 16))
    assert not torch.allclose(first, second, atol=0.1)


# ---------------------------------------------------------------- symmetries


def symmetries(images, size, average, edge="reflection"):
    return [orientation(images) for orientation in orientations(size, average, edge)]


@pytest.mark.parametrize("size", [12, 13, 9])
def test_dihedral_views_are_the_eight_orientations(size, noise):
    images = noise(1, 2, 13, 13)
    window = symmetries(images, (size, size), average=None)[0]
    views = symmetries(images, (size, size), average="dihedral")
    assert torch.equal(views[0], window)
    truth = [torch.rot90(mirrored, turn, (2, 3)) for mirrored in (window, window.mT) for turn in range(4)]
    assert len(as_set(views)) == 8
    assert as_set(views) == as_set(truth)


def test_average_over_them_ignores_flips_and_quarter_turns(noise, seeded):
    images, weights = noise(3, 2, 12, 12), noise(2, 12, 12)

    def averaged(x):
        return torch.stack(
            [(view * weights).sum(dim=(1, 2, 3)).tanh() for view in symmetries(x, (12, 12), average="dihedral")]
        )

    truth = averaged(images).mean(dim=0)
    assert averaged(images).std(dim=0).min() > 0.1
    for turned in (images.flip(2), images.flip(3), images.mT, *(torch.rot90(images, k, (2, 3)) for k in (1, 2, 3))):
        torch.testing.assert_close(averaged(turned).mean(dim=0), truth, rtol=0, atol=1e-6)


def test_a_window_that_is_not_square_keeps_its_shape(noise):
    images = noise(1, 1, 12, 15)
    views = symmetries(images, (8, 11), average="dihedral")
    assert {view.shape[2:] for view in views} == {(8, 11)}
    window = images[:, :, 2:10, 2:13]
    assert as_set(views) == as_set([window, window.flip(2), window.flip(3), window.flip(2, 3)])
    assert {view.shape[2:] for view in symmetries(images, (8, 11), average=4)} == {(8, 11)}


@pytest.mark.parametrize(("n", "exact"), [(1, 1), (2, 2), (4, 4), (8, 4), (6, 2)])
def test_n_rotations_hold_the_quarter_turns_exactly(n, exact, noise):
    images = noise(1, 2, 15, 15)
    window = images[:, :, 2:13, 2:13]
    views = symmetries(images, (11, 11), average=n)
    assert len(views) == n
    quarters = as_set(torch.rot90(window, turn, (2, 3)) for turn in range(4))
    assert len(as_set(views) & quarters) == exact


@pytest.mark.parametrize("n", [3, 8])
def test_rotations_are_evenly_spaced_and_in_order(n, blob):
    views = symmetries(blob((41, 41), 10.0, 0.0), (41, 41), average=n, edge="zeros")
    down, across = (torch.arange(41) - 20.0)[:, None], torch.arange(41) - 20.0
    points = torch.tensor([[(view * across).sum() / view.sum(), -(view * down).sum() / view.sum()] for view in views])
    angle = 2 * torch.pi * torch.arange(n) / n
    truth = 10 * torch.stack([angle.cos(), angle.sin()], dim=1)  # counter-clockwise, y up
    torch.testing.assert_close(points, truth, rtol=0, atol=0.05)


def test_8_bit_images_are_turned_too(seeded):
    images = torch.randint(0, 256, (2, 3, 9, 9), generator=seeded(), dtype=torch.uint8)
    eight, floats = symmetries(images, (9, 9), average=8), symmetries(images.float(), (9, 9), average=8)
    assert all(torch.equal(a.float(), b) for a, b in zip(eight, floats, strict=True))


@pytest.mark.parametrize("edge", ["zeros", "reflection"])
def test_rotations_see_what_lies_outside_the_window(edge, noise):
    """The corners of a rotated window come from the cutout around it, and only beyond that from the edge rule."""
    images = noise(1, 1, 30, 30)
    views = [symmetries(images, (14, 14), average=8, edge=fill)[1] for fill in (edge, "border")]
    torch.testing.assert_close(*views, rtol=0, atol=1e-5)
    cut = [symmetries(images[:, :, 8:22, 8:22], (14, 14), average=8, edge=fill)[1] for fill in (edge, "border")]
    assert not torch.allclose(*cut, atol=0.1)
    assert not torch.allclose(cut[0], views[0], atol=0.1)
