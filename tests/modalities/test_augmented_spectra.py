"""Augmented spectra: what a user states of them is in the unit of the flux, whatever each is divided by."""

import numpy as np
import pytest
import torch

from skastro import FixedSpectrumEmbedder, SpecFormer, SpectrumEncoder
from skastro.augment import (
    Augment,
    Background,
    GaussianNoise,
    HotPixels,
    InverseVarianceNoise,
    SatelliteTrail,
    Uniform,
)
from skastro.training import as_batch

N, WIDTH = 40, 600
RNG = np.random.default_rng(0)
FLUX = RNG.uniform(5, 50, (N, 1)) * (1 + 0.3 * np.sin(np.arange(WIDTH) / 9)) + RNG.normal(size=(N, WIDTH))
FLUX[0, :30] = np.nan
IVAR = RNG.uniform(0.2, 4, (N, WIDTH))
ENCODERS = {
    "its own": SpectrumEncoder(depth=1, width=8, heads=2),
    "one that standardizes": SpecFormer(width=8, depth=1, heads=2),
}
STATED = {  # in units of the flux
    "inverse variance of each row": lambda unit: InverseVarianceNoise((1, 1)),
    "one inverse variance": lambda unit: InverseVarianceNoise((1, 1), ivar=4 / unit**2),
    "inverse variance of each pixel": lambda unit: InverseVarianceNoise((1, 1), ivar=IVAR[0] / unit**2),
    "noise": lambda unit: GaussianNoise((1, 1), sigma=0.5 * unit),
    "noise missing to a level": lambda unit: GaussianNoise((1, 1), sigma=2 * unit, true=unit),
    "noise of drawn levels": lambda unit: GaussianNoise(sigma=Uniform(0.5 * unit, unit)),
    "background": lambda unit: Background(sigma=unit),
    "trail": lambda unit: SatelliteTrail(sigma=unit, p=1),
    "hot pixels": lambda unit: HotPixels(sigma=unit, p=1),
    "measured noise": lambda unit: GaussianNoise((1, 1)),
}


def added(step, encoder, unit=1.0):
    """What a step adds to spectra, in the flux's first unit."""
    embedder = FixedSpectrumEmbedder(encoder, random_state=0).fit(FLUX * unit, ivar=IVAR / unit**2)
    arrays = embedder.inputs(FLUX * unit, ivar=IVAR / unit**2)
    recipe = embedder.fit_recipe(Augment([("step", step)]), arrays)
    batch = as_batch(arrays, slice(None), torch.device("cpu"))
    pick = lambda view: {name: batch[name] for name in view.inputs if name in batch}  # noqa: E731
    plain, drawn = embedder.view(), embedder.view(recipe, torch.Generator().manual_seed(0))
    spread = embedder.level_[1, 1] if "level" in batch else 0
    scale = torch.exp(batch["level"][:, 1:] * spread + embedder.level_[0, 1]) if spread else 1
    return ((drawn(**pick(drawn))[0] - plain(**pick(plain))[0]) * scale).numpy() / unit


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", STATED)
def test_the_unit_of_the_flux_changes_nothing(name, encoder):
    first = added(STATED[name](1.0), ENCODERS[encoder])
    assert np.abs(first).max() > 0.1
    for unit in (1e-2, 1e3) if encoder == "one that standardizes" else (1e-17, 1e3):
        np.testing.assert_allclose(added(STATED[name](unit), ENCODERS[encoder], unit), first, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_noise_is_of_the_stated_strength(encoder):
    there = np.isfinite(FLUX)
    of_rows = added(InverseVarianceNoise((1, 1)), ENCODERS[encoder]) * np.sqrt(IVAR)
    assert of_rows[there].std() == pytest.approx(1, rel=0.02)
    assert np.abs(of_rows.std(axis=1) - 1).max() < 0.2
    assert (of_rows[~there] == 0).all()
    of_all = added(GaussianNoise((1, 1), sigma=0.5), ENCODERS[encoder])
    assert of_all[there].std() == pytest.approx(0.5, rel=0.02)
    assert np.abs(of_all[1:].std(axis=1) - 0.5).max() < 0.1


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_measured_noise_is_no_brightness_and_no_gap(encoder):
    embedder = FixedSpectrumEmbedder(ENCODERS[encoder], random_state=0)
    gaps = np.where(RNG.random(FLUX.shape) < 0.6, np.nan, FLUX)
    arrays = embedder.fit(gaps).inputs(gaps)
    recipe = embedder.fit_recipe(Augment([("noise", GaussianNoise())]), arrays)
    assert recipe.steps[0][1].sigma_ == pytest.approx(np.median(1 / np.nanstd(gaps, axis=1)), rel=0.25)
