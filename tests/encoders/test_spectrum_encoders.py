"""The transformer over tokens of a spectrum."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skastro.encoders import SpectrumEncoder


def small(**params):
    return SpectrumEncoder(**({"depth": 2, "width": 16} | params))


def inputs(n, width, missing=0.2):
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand(n, width, generator=generator) > missing
    return torch.randn(n, width, generator=generator) * seen, seen, torch.randn(n, 2, generator=generator)


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    ("pixels", "tokens"), [(7781, 777), (7780, 777), (7779, 776), (30, 2), (29, 1), (20, 1), (19, 1), (1, 1)]
)
def test_tokens_are_as_many_as_the_formula_says(pixels, tokens):
    """⌊(T - B) / A⌋ + 1 of length 20 every 10 pixels, and one in front; a short spectrum is padded to one token."""
    encoder = small(depth=1)
    assert encoder.n_tokens(pixels) == tokens
    network = encoder.build(pixels)
    seen, mask = network.tokens(*inputs(2, pixels))
    assert network(*inputs(2, pixels)).shape == (2, 32)
    assert seen.shape == (2, tokens + 1, 16)
    assert mask.shape == (2, tokens + 1)


@pytest.mark.parametrize(("token", "stride"), [(20, 10), (20, 20), (7, 3), (4, 1)])
@pytest.mark.parametrize("width", [3, 20, 64, 101])
def test_tokens_are_the_pieces_of_the_spectrum_and_join_to_it(token, stride, width):
    network = small(token=token, stride=stride).build(width)
    pixels = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    pieces = network.split(pixels)
    padded = np.pad(pixels, [(0, 0), (0, max(0, token - width))])
    for k in range(pieces.shape[1]):
        np.testing.assert_array_equal(pieces[:, k], padded[:, k * stride : k * stride + token])
    joined = network.join(pieces)
    np.testing.assert_allclose(joined, padded[:, : joined.shape[1]], atol=1e-6)
    assert width - joined.shape[1] < stride


def test_the_size_of_the_paper_has_its_parameters():
    """43.2 million: all of the encoder with its 778 positions, and the linear decoder from features to pixels."""
    encoder = SpectrumEncoder(depth=6, width=768, heads=6).build(7781)
    decoder = nn.Linear(768, 20)
    count = sum(weights.numel() for network in (encoder, decoder) for weights in network.parameters())
    assert count == pytest.approx(43.2e6, rel=0.02)


# ---------------------------------------------------------------- the network


def test_blocks_start_with_the_spread_of_the_paper():
    network = SpectrumEncoder(depth=6, width=64).build(200)
    for name, weights in network.blocks.named_parameters():
        if name.endswith("weight") and weights.ndim == 2:
            assert weights.std().item() == pytest.approx((2 * weights.shape[1] * 6) ** -0.5, rel=0.05)


def test_what_is_not_seen_is_told_from_a_zero():
    network = small().build(60).eval()
    flux, seen, level = inputs(1, 60, missing=0.0)
    flux[:, 30] = 0.0
    hidden = seen.clone()
    hidden[:, 30] = False
    assert not torch.allclose(network(flux, seen, level), network(flux, hidden, level), atol=1e-4)


@pytest.mark.parametrize("pool", ["avg", "avgmax"])
def test_tokens_that_hold_nothing_do_not_count_in_the_pool(pool):
    def pooled(tokens):
        rows = [tokens.mean(dim=1), tokens.amax(dim=1)]
        return torch.cat(rows[: 1 + (pool == "avgmax")], dim=1)

    network = small(pool=pool).build(60).eval()
    flux, seen, level = inputs(2, 60, missing=0.0)
    seen[:, 30:] = False
    for shown, counted in ((seen, [0, 1, 2, 3]), (seen & False, [0])):
        rows, (tokens, mask) = network(flux * shown, shown, level), network.tokens(flux * shown, shown, level)
        torch.testing.assert_close(rows, pooled(tokens[:, counted]))
        assert [row.nonzero()[:, 0].tolist() for row in mask] == [counted] * 2


@pytest.mark.parametrize(("pixels", "regions"), [(20, 1), (60, 5), (330, 32), (1000, 32)])
def test_regions_keep_their_places(pixels, regions):
    """The token in front, then means of stretches in order; none is longer than another by more than a token."""
    network = small(pool="regions").build(pixels).eval()
    arrays = inputs(3, pixels)
    rows, (tokens, _) = network(*arrays).reshape(3, 1 + regions, 16), network.tokens(*arrays)
    torch.testing.assert_close(rows[:, 0], tokens[:, 0])
    stretches = np.array_split(tokens[:, 1:].detach().numpy(), regions, axis=1)
    np.testing.assert_allclose(rows[:, 1:].detach(), np.stack([part.mean(axis=1) for part in stretches], 1), atol=1e-6)


def test_a_region_without_pixels_is_told_from_the_others():
    network = small(pool="regions").build(80).eval()
    flux, seen, level = inputs(2, 80, missing=0.0)
    seen[:, 40:] = False
    brighter = flux.clone()
    brighter[:, :40] += 1
    dark, bright = (network(pixels * seen, seen, level).reshape(2, 8, 16)[:, -1] for pixels in (flux, brighter))
    assert not torch.allclose(dark, bright, atol=1e-4)


@pytest.mark.parametrize("pool", ["avgmax", "regions"])
def test_rows_do_not_depend_on_their_neighbors(pool):
    network = small(pool=pool).build(80).eval()
    flux, seen, level = inputs(5, 80)
    rows = network(flux, seen, level)
    some = torch.tensor([3, 1])
    torch.testing.assert_close(network(flux[some], seen[some], level[some]), rows[some], rtol=0, atol=1e-6)


def test_the_level_changes_the_embedding():
    network = small().build(80).eval()
    flux, seen, level = inputs(2, 80)
    assert not torch.allclose(network(flux, seen, level), network(flux, seen, level + 1), atol=1e-4)


def test_a_specification_is_a_small_estimator():
    assert repr(clone(small(token=10, stride=5))) == "SpectrumEncoder(depth=2, stride=5, token=10, width=16)"


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"depth": 0}, "The 'depth' parameter of SpectrumEncoder must be an int"),
        ({"pool": "last"}, "The 'pool' parameter of SpectrumEncoder"),
        ({"width": 30, "heads": 4}, "width=30, which must be even and divisible by heads=4"),
        ({"width": 9, "heads": 3}, "width=9, which must be even"),
        ({"token": 5, "stride": 6}, "stride=6 above token=5"),
    ],
)
def test_settings_that_make_no_network_are_refused(params, sentence):
    with pytest.raises(ValueError, match=sentence):
        SpectrumEncoder(**params).build(100)
