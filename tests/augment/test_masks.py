"""Masks in blocks: how many images, how many patches, and that they hang together."""

import pytest
import torch

from skastro.augment import block_masks

GRIDS = [(1, 1), (1, 7), (2, 2), (5, 5), (12, 12), (4, 9)]


def masks(n, grid, seed=0, **kwargs):
    return block_masks(n, grid, torch.Generator().manual_seed(seed), **kwargs)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize(("n", "share", "masked"), [(1, 0.5, 1), (2, 0.5, 1), (7, 1.0, 7), (64, 0.25, 16)])
def test_so_many_images_are_masked_and_each_within_the_limits(n, share, masked, grid):
    patches = grid[0] * grid[1]
    counts = masks(n, grid, share=share, ratio=(0.2, 0.4)).sum(dim=1)
    assert (counts > 0).sum() == masked
    assert counts[counts > 0].min() >= max(1, round(0.2 * patches))
    assert counts.max() <= max(1, round(0.4 * patches))


def test_fractions_are_drawn_evenly_and_every_patch_may_be_hidden():
    drawn = masks(4000, (12, 12), share=1.0).float()
    fractions = drawn.mean(dim=1)
    assert fractions.mean() == pytest.approx(0.3, abs=0.01)
    assert fractions.std() == pytest.approx(0.4 / 12**0.5, abs=0.01)
    assert 0.02 < drawn.mean(dim=0).min() < drawn.mean(dim=0).max() < 0.6  # blocks lie within the image: fewer corners


def test_patches_hang_together():
    drawn = masks(500, (12, 12), share=1.0).float()
    scattered = drawn[:, torch.randperm(144, generator=torch.Generator().manual_seed(0))]

    def neighbors(mask):
        side_by_side = mask.view(-1, 12, 12)
        return (side_by_side[:, :, 1:] * side_by_side[:, :, :-1]).sum() / mask.sum()

    assert neighbors(drawn) > 1.8 * neighbors(scattered)


def test_the_generator_alone_decides():
    assert torch.equal(masks(8, (5, 5)), masks(8, (5, 5)))
    assert not torch.equal(masks(8, (5, 5)), masks(8, (5, 5), seed=1))
