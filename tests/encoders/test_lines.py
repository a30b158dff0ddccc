"""The network for spectra: the paper written slowly, any length, and where it may be used."""

import numpy as np
import pytest
import torch

from skastro import ConvSpectrumEncoder, FineTuneRegressor, ImageEncoder, load, save
from skastro.encoders import ConvAttention

ROWS = np.random.default_rng(0).normal(size=(12, 300)).astype(np.float32)


def slow(encoder, row):
    """One spectrum, stage by stage."""
    signal = row.astype(float)
    for stage, kept in zip(encoder.stages, (5, 10, 20, None), strict=True):
        kernel, bias = (p.detach().double().numpy() for p in (stage[0].weight, stage[0].bias))
        slope = stage[1].weight.detach().double().numpy()[:, None]
        width = kernel.shape[2]
        padded = np.pad(signal, ((0, 0), (width // 2, width // 2)))
        places = padded.shape[1] - width + 1
        found = [np.tensordot(kernel, padded[:, t : t + width], axes=2) + bias for t in range(places)]
        signal = np.stack(found, axis=1)
        signal = np.where(signal > 0, signal, slope * signal)
        if kept:
            signal = np.stack([signal[:, t : t + kept].max(axis=1) for t in range(0, places, kept)], axis=1)
    values, scores = signal[:16], signal[16:]
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    features = (weights * values).sum(axis=1)
    for layer, act in (encoder.mlp[:2], encoder.mlp[2:]):
        features = layer.weight.detach().double().numpy() @ features + layer.bias.detach().double().numpy()
        features = np.where(features > 0, features, act.weight.detach().double().numpy() * features)
    return features


def test_is_the_equation():
    torch.manual_seed(0)
    encoder = ConvAttention()
    flux, seen, level = torch.from_numpy(ROWS[:3]), torch.rand(3, 300) > 0.3, torch.randn(3, 2)
    fast = encoder(flux, seen, level).detach().numpy()
    for i, row in enumerate(ROWS[:3]):
        mean, scale = (np.full(300, number) for number in level[i].tolist())
        truth = slow(encoder, np.stack([row, seen[i].numpy(), mean, scale]))
        np.testing.assert_allclose(fast[i], truth, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 7, 999, 1000, 7781])
def test_any_length(length):
    encoder = ConvSpectrumEncoder().build(length)
    spectra = torch.randn(2, length), torch.rand(2, length) > 0.2, torch.randn(2, 2)
    rows = encoder(*spectra)
    rows.sum().backward()
    assert rows.shape == (2, 32)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    torch.testing.assert_close(encoder(*(part[:1] for part in spectra)), rows[:1])


def test_what_is_not_seen_is_told_from_a_zero():
    torch.manual_seed(0)
    encoder, seen, level = ConvAttention(), torch.ones(1, 300, dtype=torch.bool), torch.zeros(1, 2)
    flux, hidden = torch.from_numpy(ROWS[:1]).clone(), seen.clone()
    flux[:, 40:60], hidden[:, 40:60] = 0.0, False
    assert not torch.allclose(encoder(flux, seen, level), encoder(flux, hidden, level), atol=1e-4)


def test_learns_a_line_and_is_kept(tmp_path):
    height = np.linspace(0, 1, len(ROWS))
    lines = 0.1 * ROWS
    lines[:, 100:110] += 5 * height[:, None]
    model = FineTuneRegressor(
        "conv-attention", augment=None, early_stopping=False, max_epochs=60, lr=3e-3, batch_size=4, random_state=0
    ).fit(lines, height)
    assert model.score(lines, height) > 0.5
    save(model, tmp_path / "model.skops")
    np.testing.assert_array_equal(load(tmp_path / "model.skops").predict(lines), model.predict(lines))


@pytest.mark.parametrize("setting", [{}, {"stem": "3x3"}, {"patch": 8}, {"drop_path": 0.1}])
def test_is_no_encoder_of_images(setting):
    with pytest.raises(ValueError, match="Unknown encoder 'conv-attention'"):
        ImageEncoder("conv-attention", **setting).build(1, (1, 300))


def test_is_not_for_images():
    with pytest.raises(ValueError, match="Found array with dim 4, while dim <= 2 is required"):
        FineTuneRegressor("conv-attention").fit(np.random.default_rng(0).normal(size=(4, 1, 32, 32)), range(4))
