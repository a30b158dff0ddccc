"""The network for spectra: the paper written slowly, any length, and where it may be used."""

import numpy as np
import pytest
import torch

from skastro import FineTuneRegressor, ImageEncoder, load, save
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
    encoder = ConvAttention(1)
    fast = encoder(torch.from_numpy(ROWS[:3, None, None])).detach().numpy()
    np.testing.assert_allclose(fast, [slow(encoder, row[None]) for row in ROWS[:3]], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 7, 999, 1000, 7781])
@pytest.mark.parametrize("bands", [1, 2])
def test_any_length(length, bands):
    encoder = ImageEncoder("conv-attention").build(bands, (1, length))
    spectra = torch.randn(2, bands, 1, length, requires_grad=True)
    rows = encoder(spectra)
    rows.sum().backward()
    assert rows.shape == (2, 32)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    torch.testing.assert_close(encoder(spectra[:1]), rows[:1])


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


@pytest.mark.parametrize("setting", [{"stem": "3x3"}, {"patch": 8}, {"drop_path": 0.1}])
def test_settings_of_other_networks_are_refused(setting):
    with pytest.raises(ValueError, match="stem=, patch= and drop_path= are for timm's networks"):
        ImageEncoder("conv-attention", **setting).build(1, (1, 300))


def test_is_not_for_images():
    with pytest.raises(ValueError, match="images of one line; these are 32 high"):
        FineTuneRegressor("conv-attention").fit(np.random.default_rng(0).normal(size=(4, 1, 32, 32)), range(4))
