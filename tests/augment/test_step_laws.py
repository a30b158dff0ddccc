"""What every augmentation step promises, written once."""

import pickle

import joblib
import pytest
import torch
from sklearn.base import clone

import skastro.augment
from skastro.augment import (
    Aperture,
    Augment,
    Background,
    BandDropout,
    ColorJitter,
    ContiguousMask,
    ContinuumTilt,
    Crop,
    Dihedral,
    Flip,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    HotPixels,
    InverseVarianceNoise,
    LogNormal,
    PSFBlur,
    Redden,
    Redshift,
    Rotate,
    SatelliteTrail,
    Shift,
    Uniform,
    Zoom,
)
from skastro.augment.geometry import GeometricStep
from skastro.augment.step import PixelStep, Step
from skastro.persistence import load, save
from skastro.surveys import Survey

STEPS = [
    Aperture(),
    Background(sigma=0.2),
    BandDropout(p=0.5),
    ColorJitter(p=1.0),
    ContiguousMask(n=2, length=3),
    ContinuumTilt(grid=1e-2),
    Crop(scale=(0.3, 0.9)),
    Dihedral(),
    Flip(p=0.7),
    GaussianBlur(),
    GaussianNoise(sigma=0.2),
    Grayscale(p=0.5),
    GaussianNoise(sigma=LogNormal(shape=0.5, loc=0.0, scale=0.2), true=Uniform(0.0, 0.1)),
    HotPixels(sigma=0.2, p=1.0),
    InverseVarianceNoise(ivar=25.0),
    PSFBlur(sigma=(0.2, 0.6)),
    PSFBlur(sigma=LogNormal(shape=0.5, loc=0.0, scale=1.0, high=3.0), true=(0.0, 0.5), unit="pixel"),
    Redden(ebv=(0.1, 0.5)),
    Redshift(grid=1e-2),
    Redshift(z=(-0.1, 0.1), grid=1e-2, fill=0.0),
    Rotate(),
    SatelliteTrail(sigma=0.2, p=1.0),
    Shift(pixels=3),
    Zoom(scale=(0.7, 1.4)),
]
PIXEL_STEPS = [step for step in STEPS if isinstance(step, PixelStep)]
# Images, and the window cut from them: odd sides, odd margins, one band and many, taller and wider.
SHAPES = [
    ((4, 1, 16, 16), (16, 16)),
    ((4, 3, 17, 17), (17, 17)),
    ((4, 5, 20, 20), (13, 13)),
    ((4, 2, 15, 24), (15, 24)),
    ((4, 3, 25, 18), (14, 11)),
]
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
    ),
]

each_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
each_pixel_step = pytest.mark.parametrize("step", PIXEL_STEPS, ids=lambda step: type(step).__name__)
each_shape = pytest.mark.parametrize(("shape", "size"), SHAPES, ids=str)


def survey_of(bands):
    """Invent a survey."""
    return Survey(
        tuple("rugiz")[:bands],
        pixel_scale=0.4,
        wavelengths=(6231, 3543, 4770, 7625, 9134)[:bands],
        extinction=(2.3, 4.2, 3.3, 1.7, 1.3)[:bands],
    )


def alone(step, bands, **settings):
    return Augment([("step", clone(step))], **settings).fit(None, survey=survey_of(bands))


def rows_of(drawn, rows):
    return [{name: tensor[rows] for name, tensor in drew.items()} for drew in drawn]


def test_every_public_step_is_under_these_laws():
    public = [getattr(skastro.augment, name) for name in skastro.augment.__all__]
    steps = {thing for thing in public if isinstance(thing, type) and issubclass(thing, Step)}
    assert steps == {type(step) for step in STEPS}


@each_shape
@pytest.mark.parametrize("edge", ["reflection", "border", "zeros"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic"])
@each_step
def test_p_0_is_the_exact_central_window(step, shape, size, edge, interpolation, noise, seeded):
    images = noise(*shape)
    top, left = (shape[2] - size[0]) // 2, (shape[3] - size[1]) // 2
    augment = alone(clone(step).set_params(p=0.0), shape[1], edge=edge, interpolation=interpolation)
    view = augment(images, size, seeded())
    assert torch.equal(view, images[:, :, top : top + size[0], left : left + size[1]])


@each_step
def test_p_is_the_share_of_images_changed(step, noise, seeded):
    images = noise(400, 2, 8, 8)
    view = alone(clone(step).set_params(p=0.3), 2)(images, (8, 8), seeded())
    share = (view != images).flatten(1).any(dim=1).float().mean()
    twice, moved = 1 - 0.7**2, 0.3 * (1 - 1 / 49)
    expected = {Flip: twice, BandDropout: twice, Shift: moved}.get(type(step), 0.3)
    assert abs(share - expected) < 0.07  # three standard errors


@each_shape
@pytest.mark.parametrize("device", DEVICES)
@each_step
def test_shape_dtype_and_device_are_kept_and_nothing_is_nan(step, shape, size, device, noise, seeded):
    images = noise(*shape).to(device)
    view = alone(step, shape[1])(images, size, seeded(device=device))
    assert view.shape == (*shape[:2], *size)
    assert view.dtype == torch.float32
    assert view.device.type == device
    assert view.isfinite().all()


@each_step
@pytest.mark.parametrize("value", [0.0, 1e6])
def test_constant_images_make_no_nan(step, value, seeded):
    assert alone(step, 2)(torch.full((4, 2, 12, 12), value), (12, 12), seeded()).isfinite().all()


@each_step
def test_8_bit_pixels_are_taken_as_numbers(step, noise, seeded):
    images = (noise(3, 2, 16, 16).abs() * 500).to(torch.uint8)
    view = alone(step, 2)(images, (12, 12), seeded())
    assert torch.equal(view, alone(step, 2)(images.float(), (12, 12), seeded()))


@each_shape
@each_step
def test_rows_do_not_depend_on_their_neighbors(step, shape, size, noise, seeded):
    images, augment = noise(*shape), alone(step, shape[1])
    drawn = augment.draw(images, size, seeded())
    rows = torch.tensor([2, 0])
    some = augment.apply(images[rows], rows_of(drawn, rows), size)
    torch.testing.assert_close(some, augment.apply(images, drawn, size)[rows], rtol=0, atol=1e-6)


@each_step
def test_each_image_has_its_own_draw(step, noise, seeded):
    images = noise(1, 2, 16, 16).expand(12, -1, -1, -1)
    views = alone(step, 2)(images, (16, 16), seeded())
    assert len(torch.unique(views, dim=0)) > 1


@each_step
def test_the_seed_decides(step, noise, seeded):
    images, augment = noise(6, 2, 16, 16), alone(step, 2)
    view = augment(images, (12, 12), seeded(1))
    assert torch.equal(view, augment(images, (12, 12), seeded(1)))
    assert not torch.equal(view, augment(images, (12, 12), seeded(2)))


@each_step
def test_drawn_parameters_replay(step, noise, seeded):
    images, augment = noise(6, 2, 16, 16), alone(step, 2)
    drawn = augment.draw(images, (12, 12), seeded(1))
    view = augment.apply(images, drawn, (12, 12))
    assert torch.equal(view, augment.apply(images, drawn, (12, 12)))
    assert torch.equal(view, augment(images, (12, 12), seeded(1)))


@each_step
def test_images_drawn_parameters_and_global_generators_stay(step, noise, seeded, global_generators_stay):
    images, augment = noise(4, 2, 16, 16), alone(step, 2)
    drawn = augment.draw(images, (16, 16), seeded())
    before = images.clone(), [{name: tensor.clone() for name, tensor in drew.items()} for drew in drawn]
    augment.apply(images, drawn, (16, 16))
    assert torch.equal(images, before[0])
    for drew, kept in zip(drawn, before[1], strict=True):
        assert all(torch.equal(drew[name], kept[name]) for name in kept)


@each_step
def test_a_step_works_without_a_recipe(step, noise, seeded):
    images, step = noise(4, 2, 16, 16), clone(step).fit(None, survey=survey_of(2))
    drawn = step.draw(tuple(images.shape), seeded(3))
    assert all(len(tensor) == 4 for tensor in drawn.values())
    recipe = Augment([("step", step)])
    if isinstance(step, GeometricStep):
        assert step.matrix(**drawn).shape == (4, 3, 3)
    else:
        assert torch.equal(step.apply(images, **drawn), recipe(images, (16, 16), seeded(3)))


@each_step
def test_a_step_is_a_small_estimator(step, noise, seeded):
    copy = clone(step)
    assert copy is not step
    assert repr(copy) == repr(step)
    assert joblib.hash(copy) == joblib.hash(step)
    assert joblib.hash(copy.set_params(p=0.123)) != joblib.hash(step)
    images, fitted = noise(2, 2, 9, 9), alone(step, 2)
    again = pickle.loads(pickle.dumps(fitted))
    assert torch.equal(again(images, (9, 9), seeded()), fitted(images, (9, 9), seeded()))


@each_step
def test_a_file_keeps_a_step_and_what_it_learned(step, noise, seeded, tmp_path):
    images, fitted = noise(2, 2, 9, 9), alone(step, 2)
    save(fitted, tmp_path / "step.skastro")
    again = load(tmp_path / "step.skastro")
    assert torch.equal(again(images, (9, 9), seeded()), fitted(images, (9, 9), seeded()))


@each_pixel_step
def test_gradients_are_what_a_change_of_the_image_does(step, noise, seeded):
    """Every step that changes pixels is a linear map and an offset, once its parameters are drawn."""
    images, augment = noise(3, 2, 12, 12).requires_grad_(), alone(step, 2)
    drawn = augment.draw(images, (12, 12), seeded())
    weight, change = noise(3, 2, 12, 12).roll(3, 0), 0.1 * noise(3, 2, 12, 12).flip(2)
    (weight * augment.apply(images, drawn, (12, 12))).sum().backward()
    difference = augment.apply(images + change, drawn, (12, 12)) - augment.apply(images, drawn, (12, 12))
    torch.testing.assert_close((images.grad * change).sum(), (weight * difference).sum(), rtol=1e-3, atol=1e-4)


@each_pixel_step
@pytest.mark.parametrize("p", [-0.1, 1.5, "often"])
def test_what_is_no_probability_is_refused(step, p):
    name = type(step).__name__
    with pytest.raises(ValueError, match=rf"The 'p' parameter of {name} must be a float in the range \[0.0, 1.0\]"):
        alone(clone(step).set_params(p=p), 2)


@each_pixel_step
def test_setting_one_step_leaves_another_that_shares_its_distributions(step):
    nested = [name for name in step.get_params() if "__" in name]
    other, before = type(step)(**step.get_params(deep=False)), joblib.hash(step)
    other.set_params(**dict.fromkeys(nested, 0.25))
    assert joblib.hash(step) == before
    assert [other.get_params()[name] for name in nested] == [0.25] * len(nested)
