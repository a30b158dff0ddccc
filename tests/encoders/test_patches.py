"""Patches of vision transformers: of any size, hidden from the encoder, and told apart."""

import pytest
import torch

from skastro.encoders import ImageEncoder, embed_patches, has_patches, hidden_patches, patch_grid

VITS = [("test_vit", 8), ("eva02_tiny_patch14_224", 8), ("deit_tiny_distilled_patch16_224", None)]
each_vit = pytest.mark.parametrize(("name", "patch"), VITS)


def built(name="test_vit", patch=None, bands=3, size=(32, 48), pool="stages"):
    torch.manual_seed(0)
    return ImageEncoder(name, patch=patch, pool=pool).build(bands, size).eval()


def images(n=2, bands=3, size=(32, 48)):
    return torch.randn(n, bands, *size, generator=torch.Generator().manual_seed(1))


def test_the_model_of_the_paper_is_one_line_of_303_million_weights():
    with torch.device("meta"):
        encoder = ImageEncoder("vit_large_patch14_dinov2", pool="avg", patch=12).build(bands=3, size=(144, 144))
        assert sum(weights.numel() for weights in encoder.parameters()) == pytest.approx(303e6, rel=0.02)
        for side, patches in [(144, 144), (60, 25)]:  # the paper's text has the two the wrong way round
            rows, tokens = embed_patches(encoder, torch.zeros(1, 3, side, side))
            assert rows.shape == (1, 1024)
            assert tokens.shape == (1, patches, 1024)
            assert patch_grid(encoder, (side, side)) == (patches**0.5, patches**0.5)


@each_vit
@pytest.mark.parametrize("pool", ["avg", "avgmax", "stages"])
def test_a_vit_takes_other_sizes_and_pads_each_to_whole_patches(name, patch, pool):
    encoder = built(name, patch, pool=pool)
    with torch.no_grad():
        widths = {encoder(images(size=size)).shape for size in [(32, 48), (16, 16), (5, 33), (64, 64)]}
    assert len(widths) == 1


@each_vit
def test_patches_are_those_of_the_network(name, patch):
    encoder = built(name, patch)
    with torch.no_grad():
        rows, patches = embed_patches(encoder, images())
        slow = encoder.network.forward_features(images())[:, encoder.network.num_prefix_tokens :]
        assert torch.equal(rows, encoder(images()))
    torch.testing.assert_close(patches, slow)
    side = patch or 16
    assert patch_grid(encoder, (32, 48)) == (32 // side, 48 // side)
    assert patches.shape[1] == (32 // side) * (48 // side)


@each_vit
@pytest.mark.parametrize("pool", ["avg", "stages"])
def test_what_is_under_the_mask_is_not_seen_and_all_else_is(name, patch, pool):
    encoder, side = built(name, patch, pool=pool), patch or 16
    grid = patch_grid(encoder, (32, 48))
    mask = torch.zeros(2, *grid, dtype=torch.bool)
    mask[0, 1, 0] = mask[1, 0, 1] = True
    token = torch.randn(encoder.network.num_features)
    pixels = mask.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None]
    with torch.no_grad():
        with hidden_patches(encoder, mask.flatten(1), token):
            seen = encoder(images())
            same = encoder(torch.where(pixels, 9.0, images()))
            other = encoder(torch.where(pixels, images(), images() + 1.0))
            another = encoder(images() + pixels.roll(side, 2))
        assert torch.equal(seen, same)
        assert not torch.allclose(seen, other, atol=1e-3)
        assert not torch.allclose(seen, another, atol=1e-3)
        assert not torch.allclose(encoder(images()), seen, atol=1e-3)  # the mask is gone with the block


def test_the_token_learns_and_hooks_are_taken_away():
    encoder, token = built(), torch.zeros(64, requires_grad=True)
    with hidden_patches(encoder, torch.ones(2, 6, dtype=torch.bool), token):
        embed_patches(encoder, images())[0].pow(2).sum().backward()
    assert token.grad.abs().max() > 0
    assert not any(module._forward_hooks for module in encoder.modules())


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit_relpos"])
def test_other_networks_have_no_patches(name):
    assert not has_patches(ImageEncoder(name).build(1, (32, 32)))
    assert not has_patches(torch.nn.Flatten())
    with pytest.raises(ValueError, match=rf"patch= is for ViTs; '{name}' .*: leave patch=None\.$"):
        ImageEncoder(name, patch=8).build(1, (32, 32))


@pytest.mark.parametrize("patch", [0, -3, 2.5, "8"])
def test_a_patch_is_a_number_of_pixels(patch):
    with pytest.raises(ValueError, match="The 'patch' parameter of ImageEncoder must be"):
        ImageEncoder("test_vit", patch=patch).build(1, (32, 32))
