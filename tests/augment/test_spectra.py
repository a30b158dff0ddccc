"""What happens to a spectrum, against the formulas in slow NumPy, and on real quasars."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skastro.augment import (
    Augment,
    ContiguousMask,
    ContinuumTilt,
    Flip,
    GaussianNoise,
    InverseVarianceNoise,
    Redshift,
    Rotate,
)
from skastro.augment.spectra import segments
from skastro.pixels import Pixels

EVEN = 1e-3
LOG = 10 ** (3.6 + EVEN * np.arange(200))
LINEAR = np.linspace(4000, 6300, 200)
UNEVEN = LINEAR + 20 * np.sin(LINEAR / 90)
GRIDS = {"one step": (EVEN, LOG), "even in log": (LOG, LOG), "linear": (LINEAR, LINEAR), "uneven": (UNEVEN, UNEVEN)}
each_grid = pytest.mark.parametrize(("grid", "wavelengths"), GRIDS.values(), ids=GRIDS)


def bumps(wavelengths, *lines, width=60.0):
    """Emission lines on nothing, as (1, 1, 1, width)."""
    flux = sum(np.exp(-0.5 * ((wavelengths - line) / width) ** 2) for line in lines)
    return torch.as_tensor(flux, dtype=torch.float32)[None, None, None]


# ---------------------------------------------------------------- segments


@pytest.mark.parametrize(("width", "count", "length"), [(10, 1, 10), (10, 5, 2), (40, 3, 7), (777, 6, 30), (5, 2, 1)])
def test_segments_are_as_many_and_as_long_as_asked(width, count, length, seeded):
    inside = segments(50, width, count, length, seeded())
    assert inside.shape == (50, width)
    assert (inside.sum(dim=1) == count * length).all()
    for row in inside.numpy():
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int)))
        assert all((stop - start) % length == 0 for start, stop in edges.reshape(-1, 2))  # two may touch


def test_every_placement_is_as_likely(seeded):
    """Two segments of two in six pixels: six placements, counted by hand."""
    rows, counts = segments(60_000, 6, 2, 2, seeded()).unique(dim=0, return_counts=True)
    assert len(rows) == 6
    torch.testing.assert_close(counts / 60_000, torch.full((6,), 1 / 6), rtol=0.03, atol=0)


# ---------------------------------------------------------------- InverseVarianceNoise


@pytest.mark.parametrize("shape", [(3000, 1, 1, 30), (3000, 2, 5, 3)], ids=["spectra", "images"])
@pytest.mark.parametrize("brought", ["by the batch", "by the step"])
def test_noise_follows_the_inverse_variance_of_each_pixel(shape, brought, seeded):
    ivar = 10 ** np.random.default_rng(0).uniform(-2, 2, shape[1:])
    ivar.flat[4] = 0.0
    batch = torch.as_tensor(ivar, dtype=torch.float32).expand(shape)
    if brought == "by the batch":
        augment = Augment([("noise", InverseVarianceNoise(scale=(0.5, 0.5)))]).fit(None)
        seen = augment(torch.ones(shape), shape[2:], seeded(), ivar=batch)
    else:
        augment = Augment([("noise", InverseVarianceNoise(scale=(0.5, 0.5), ivar=ivar))]).fit(np.ones(shape))
        seen = augment(torch.ones(shape), shape[2:], seeded())
    good = ivar > 0
    np.testing.assert_allclose(seen.std(dim=0).numpy()[good], 0.5 / np.sqrt(ivar[good]), rtol=0.06)
    assert (seen[:, torch.as_tensor(~good)] == 1).all()


def test_each_row_has_its_own_inverse_variance_and_multiple(seeded):
    ivar = torch.tensor([1.0, 100.0])[:, None, None, None].expand(2, 1, 1, 5000)
    step = InverseVarianceNoise(scale=(1.0, 3.0))
    noise = step.draw((2, 1, 1, 5000), seeded(), ivar=ivar)["noise"].std(dim=3).flatten()
    multiples = noise * torch.tensor([1.0, 10.0])
    assert ((multiples > 0.95) & (multiples < 3.1)).all()
    assert abs(multiples[0] - multiples[1]) > 0.1


def test_what_comes_with_the_batch_reaches_the_steps_that_know_it(noise, seeded):
    spectra, ivar = noise(4, 1, 1, 50), noise(4, 1, 1, 50).abs() + 1
    both = Augment([("white", GaussianNoise(sigma=0.1)), ("noise", InverseVarianceNoise()), ("flip", Flip())])
    drawn = both.fit(spectra.numpy()).draw(spectra, (1, 50), seeded(), ivar=ivar)
    view = both.apply(spectra, drawn, (1, 50))
    assert torch.equal(view, both(spectra, (1, 50), seeded(), ivar=ivar))
    assert torch.equal(view, both.apply(spectra, drawn, (1, 50)))


def test_missing_inverse_variance_is_refused(noise, seeded):
    spectra, augment = noise(4, 1, 1, 50), Augment([("noise", InverseVarianceNoise())])
    with pytest.raises(ValueError, match=r"needs the inverse variance of each row: give ivar= to fit, or to the call"):
        augment(spectra, (1, 50), seeded())
    with pytest.raises(ValueError, match=r"ivar of shape \(4, 50\) goes with images of shape \(4, 1, 1, 50\)"):
        augment(spectra, (1, 50), seeded(), ivar=torch.ones(4, 50))
    after = Augment([("rotate", Rotate()), ("noise", InverseVarianceNoise())])
    with pytest.raises(ValueError, match=r"ivar of shape .* goes with images of shape \(4, 1, 1, 20\)"):
        after(spectra, (1, 20), seeded(), ivar=torch.ones(4, 1, 1, 50))


@pytest.mark.parametrize("ivar", [[1.0, -1.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_impossible_inverse_variance_is_refused(ivar):
    with pytest.raises(ValueError, match="ivar of InverseVarianceNoise must be finite and not negative"):
        InverseVarianceNoise(ivar=ivar).fit(None)


@pytest.mark.parametrize("shape", [(7,), (2, 1, 9), (1, 1, 1, 9)])
def test_inverse_variance_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"InverseVarianceNoise has ivar of shape .* the images have \(1, 1, 9\)"):
        InverseVarianceNoise(ivar=np.ones(shape)).fit(np.zeros((4, 1, 1, 9)))


# ---------------------------------------------------------------- Redshift


@each_grid
@pytest.mark.parametrize("z", [-0.08, 0.0, 0.013, 0.15])
def test_a_redshift_equals_linear_interpolation_in_numpy(grid, wavelengths, z, noise):
    spectra = noise(1, 1, 1, 200)
    truth = np.interp(wavelengths / (1 + z), wavelengths, spectra.flatten()) / (1 + z)
    if grid is EVEN:  # between two pixels log λ is what is linear
        truth = np.interp(np.log(wavelengths / (1 + z)), np.log(wavelengths), spectra.flatten()) / (1 + z)
    step = Redshift(grid=grid).fit(np.zeros((2, 1, 1, 200)))
    seen = step.apply(spectra, z=torch.tensor([z]))
    np.testing.assert_allclose(seen.flatten(), truth, atol=1e-3)


@each_grid
@pytest.mark.parametrize("z", [-0.1, 0.05, 0.15])
def test_a_line_lands_at_its_wavelength_and_keeps_its_flux(grid, wavelengths, z):
    spectra = bumps(wavelengths, 5000.0)
    seen = Redshift(grid=grid).apply(spectra, z=torch.tensor([z])).flatten().double().numpy()
    flux = np.trapezoid(seen, wavelengths)
    assert np.trapezoid(seen * wavelengths, wavelengths) / flux == pytest.approx(5000 * (1 + z), abs=2)
    assert flux == pytest.approx(np.trapezoid(spectra.flatten(), wavelengths), rel=0.01)


def test_on_a_grid_even_in_log_wavelength_a_redshift_is_a_shift(noise):
    spectra = noise(2, 1, 1, 200)
    z = torch.tensor([10 ** (7 * EVEN) - 1, 10 ** (-12 * EVEN) - 1])
    seen = Redshift(grid=EVEN, fill=0.0).apply(spectra, z=z) * (1 + z)[:, None, None, None]
    torch.testing.assert_close(seen[0, ..., 8:], spectra[0, ..., 1:-7], rtol=0, atol=1e-3)
    torch.testing.assert_close(seen[1, ..., :-13], spectra[1, ..., 12:-1], rtol=0, atol=1e-3)


def test_two_redshifts_multiply():
    spectra = bumps(LOG, 4800.0, 5200.0)
    step = Redshift(grid=EVEN)
    twice = step.apply(step.apply(spectra, z=torch.tensor([0.05])), z=torch.tensor([0.04]))
    once = step.apply(spectra, z=torch.tensor([1.05 * 1.04 - 1]))
    torch.testing.assert_close(twice, once, rtol=0, atol=2e-3)


@each_grid
@pytest.mark.parametrize(("fill", "low", "high"), [("edge", 1.0, 2.0), (0.0, 0.0, 0.0), (np.nan, np.nan, np.nan)])
def test_what_comes_in_from_beyond_the_grid(grid, wavelengths, fill, low, high):
    spectra = torch.ones(2, 1, 1, 200)
    spectra[..., 100:] = 2
    z = torch.tensor([0.2, -0.2])
    seen = Redshift(grid=grid, fill=fill).apply(spectra, z=z) * (1 + z)[:, None, None, None]
    np.testing.assert_allclose(seen[0, 0, 0, 0], low)
    np.testing.assert_allclose(seen[1, 0, 0, -1], high)
    np.testing.assert_allclose([seen[0, 0, 0, -1], seen[1, 0, 0, 0]], [2.0, 1.0], rtol=1e-5)


@each_grid
def test_a_missing_pixel_stays_one_and_spoils_its_neighbors_only(grid, wavelengths):
    spectra = torch.ones(1, 1, 1, 200)
    spectra[..., 90] = torch.nan
    step = Redshift(grid=grid)
    assert torch.equal(step.apply(spectra, z=torch.zeros(1)).isnan(), spectra.isnan())
    assert 1 <= step.apply(spectra, z=torch.tensor([0.013])).isnan().sum() <= 4


def test_redshifts_are_drawn_within_their_limits(seeded):
    z = Redshift(z=(-0.5, 2.0)).draw((4000, 1, 1, 9), seeded())["z"]
    assert -0.5 <= z.min() < -0.49
    assert 1.99 < z.max() <= 2.0


def test_a_redshift_of_minus_one_is_refused():
    with pytest.raises(ValueError, match="The 'z' parameter of Redshift must be a pair"):
        Redshift(z=(-1.0, 0.0)).fit(None)


# ---------------------------------------------------------------- grids


@pytest.mark.parametrize("cls", [Redshift, ContinuumTilt])
@pytest.mark.parametrize(
    "grid", [[3.0, 2.0, 1.0], [0.0, 1.0, 2.0], [1.0, np.nan, 2.0], [1.0, 1.0, 2.0], np.ones((3, 3))]
)
def test_wavelengths_that_do_not_rise_are_refused(cls, grid):
    with pytest.raises(ValueError, match=f"grid of {cls.__name__} must be one step of log λ, or positive wavelengths"):
        cls(grid=grid).fit(None)


@pytest.mark.parametrize("cls", [Redshift, ContinuumTilt])
def test_wavelengths_of_other_spectra_are_refused(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__} has a grid of 200 pixels, the spectra have 100"):
        cls(grid=LINEAR).fit(np.zeros((2, 1, 1, 100)))


@pytest.mark.parametrize("cls", [Redshift, ContinuumTilt])
@pytest.mark.parametrize("width", [1, 2])
def test_spectra_of_one_or_two_pixels(cls, width, seeded):
    spectra = torch.ones(3, 1, 1, width)
    for grid in (1e-4, LOG[:width]):
        step = cls(grid=grid).fit(spectra.numpy())
        assert step.apply(spectra, **step.draw(spectra.shape, seeded())).isfinite().all()


# ---------------------------------------------------------------- ContinuumTilt


@each_grid
@pytest.mark.parametrize("slope", [-2.0, 0.0, 0.3])
def test_a_tilt_equals_the_power_law(grid, wavelengths, slope, noise):
    spectra = noise(1, 2, 1, 200)
    pivot = np.sqrt(wavelengths[0] * wavelengths[-1])
    seen = ContinuumTilt(grid=grid).apply(spectra, slope=torch.tensor([slope]))
    np.testing.assert_allclose(seen, spectra.numpy() * (wavelengths / pivot) ** slope, rtol=1e-4)


# ---------------------------------------------------------------- ContiguousMask


@pytest.mark.parametrize("fill", [0.0, -1.5, np.nan])
def test_a_mask_fills_its_segments_in_all_bands_and_keeps_the_rest(fill, noise, seeded):
    spectra = noise(20, 3, 1, 100) + 2
    step = ContiguousMask(n=4, length=9, fill=fill).fit(spectra.numpy())
    drawn = step.draw(spectra.shape, seeded())
    seen = step.apply(spectra, **drawn)
    masked = drawn["masked"][:, None, None].expand(spectra.shape)
    assert torch.equal(seen[~masked], spectra[~masked])
    np.testing.assert_array_equal(seen[masked], fill)
    assert (masked.sum(dim=3) == 36).all()


def test_a_mask_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="3 segments of 30 pixels: nothing would be left of spectra of 90"):
        ContiguousMask().fit(np.zeros((2, 1, 1, 90)))


# ---------------------------------------------------------------- real spectra


@pytest.fixture(scope="module")
def quasars(shared_data):
    with np.load(shared_data / "sdss_qso_epochs.npz") as data:
        return {name: data[name] for name in ("flux", "ivar", "loglam", "redshift", "is_rm017")}


def test_noise_of_real_spectra_has_their_errors(quasars, seeded):
    flux, ivar = (torch.as_tensor(quasars[name])[:, None, None] for name in ("flux", "ivar"))
    augment = Augment([("noise", InverseVarianceNoise(scale=(1.0, 1.0)))]).fit(flux.numpy())
    added = augment(flux, (1, 4600), seeded(), ivar=ivar) - flux
    assert (added[ivar == 0] == 0).all()
    pulls = (added * ivar.sqrt())[ivar > 0]
    assert pulls.std().item() == pytest.approx(1, abs=0.01)
    assert pulls.mean().item() == pytest.approx(0, abs=0.01)


def test_the_oxygen_line_of_a_real_quasar_comes_to_rest(quasars):
    """[O III] 5008.24 Å in vacuum, of a quasar at redshift 0.456."""
    mine = quasars["is_rm017"]
    good = quasars["ivar"][mine] > 0
    flux = np.where(good, quasars["flux"][mine], np.nan)
    z = torch.as_tensor(1 / (1 + quasars["redshift"][mine]) - 1, dtype=torch.float32)
    wavelengths = 10 ** quasars["loglam"]
    near = (wavelengths > 4975) & (wavelengths < 5045)
    for grid in (1e-4, wavelengths):
        rest = Redshift(grid=grid, fill=np.nan).apply(torch.as_tensor(flux)[:, None, None], z=z)
        median = np.nanmedian(rest[:, 0, 0, near].numpy(), axis=0)
        assert wavelengths[near][median.argmax()] == pytest.approx(5008.24, abs=3)


@pytest.mark.parametrize("step", [ContiguousMask(n=1, length=20, fill=500.0), Redshift((0.4, 0.5), fill=500.0)])
def test_a_fill_is_in_the_unit_of_the_flux(step):
    flux = (5 + np.random.default_rng(0).normal(size=(6, 200))) * np.logspace(0, 2, 6)[:, np.newaxis]
    unit = torch.from_numpy(np.linspace(3, 9, 6, dtype="f4")[:, np.newaxis])
    scaled = torch.from_numpy(flux.astype("f4"))[:, None, None] / unit[:, :, None, None]
    seen = Augment([("step", step)])(scaled, (1, 200), torch.Generator().manual_seed(0), unit=unit)
    values = seen[:, 0, 0] * unit
    assert ((values - 500).abs() < 1e-3).sum(dim=1).min() >= 10
    learned = {"unit": [1e10], "center": [0.0], "bound": [np.inf], "limit": [np.inf]}
    learned = {name: np.array(value) for name, value in learned.items()}
    pixels = Pixels((1e10 * flux)[:, np.newaxis, np.newaxis], learned)
    augment = Augment([("step", clone(step).set_params(fill=5e12))]).fit(pixels)
    seen = augment(torch.from_numpy(flux.astype("f4"))[:, None, None], (1, 200), torch.Generator().manual_seed(0))
    assert ((seen - 500).abs() < 1e-3).sum(dim=3).min() >= 10


def test_a_fine_grid_is_not_rounded():
    grid = 5000 + 0.002 * np.arange(2000)
    ramp = torch.arange(2000.0).view(1, 1, 1, -1)
    z = torch.tensor([2 * 0.002 / grid[1000]], dtype=torch.float32)
    seen = Redshift(grid=grid).fit(None).apply(ramp, z=z)[0, 0, 0] * (1 + z)
    expected = np.interp(grid / (1 + z.item()), grid, np.arange(2000.0))
    np.testing.assert_allclose(seen[100:-100], expected[100:-100], atol=1e-3)
