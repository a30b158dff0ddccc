"""Named steps composed like a Pipeline."""

import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone

from skastro.augment import (
    Augment,
    Background,
    BandDropout,
    ColorJitter,
    Crop,
    Dihedral,
    Flip,
    GaussianBlur,
    GaussianNoise,
    HalfNormal,
    HotPixels,
    LogNormal,
    PSFBlur,
    Redden,
    Rotate,
    SatelliteTrail,
    Shift,
    Uniform,
    Zoom,
)
from skastro.augment.step import PixelStep


@pytest.fixture
def augment():
    return Augment([("noise", GaussianNoise(sigma=0.1)), ("rotate", Rotate()), ("blur", GaussianBlur())], edge="zeros")


def test_parameters_are_reached_by_name(augment):
    params = augment.get_params()
    assert params["edge"] == "zeros"
    assert params["rotate"] is augment.steps[1][1]
    assert params["rotate__degrees"] == 180
    assert set(augment.get_params(deep=False)) == {"steps", "edge", "interpolation"}
    assert augment.set_params(rotate__degrees=10, noise=Flip(), edge="border") is augment
    params = augment.get_params()
    assert (params["rotate__degrees"], params["edge"]) == (10, "border")
    assert [type(step) for _, step in augment.steps] == [Flip, Rotate, GaussianBlur]


def test_a_replaced_step_takes_its_parameters_in_the_same_call(augment):
    augment.set_params(noise=GaussianBlur(), noise__radius=5, steps=augment.steps[:2])
    assert [name for name, _ in augment.steps] == ["noise", "rotate"]
    assert augment.get_params()["noise__radius"] == 5


@pytest.mark.parametrize("name", ["nose", "rotate__degree", "color__p"])
def test_unknown_parameters_are_refused(augment, name):
    with pytest.raises(ValueError, match="Invalid parameter"):
        augment.set_params(**{name: 1})


def test_clone_is_deep_and_unfitted(augment):
    augment.fit(None)
    copy = clone(augment)
    copy.set_params(rotate__degrees=1)
    assert augment.get_params()["rotate__degrees"] == 180
    assert not hasattr(copy.steps[0][1], "sigma_")


def test_setting_a_step_leaves_a_list_given_elsewhere(augment):
    steps = augment.steps
    augment.set_params(noise="passthrough")
    assert isinstance(steps[0][1], GaussianNoise)


def test_equal_recipes_hash_alike(augment):
    assert joblib.hash(clone(augment)) == joblib.hash(augment)
    assert joblib.hash(clone(augment).set_params(blur__p=0.5)) != joblib.hash(augment)
    assert joblib.hash(clone(augment).set_params(edge="border")) != joblib.hash(augment)


def test_pickle_keeps_what_was_learned(augment, noise, seeded):
    images = noise(3, 2, 12, 12)
    augment.set_params(noise__sigma=None).fit(images.numpy())
    again = pickle.loads(pickle.dumps(augment))
    assert torch.equal(again(images, (9, 9), seeded()), augment(images, (9, 9), seeded()))


def test_passthrough_removes_a_step(augment, noise, seeded):
    images = noise(4, 2, 12, 12)
    without = Augment([augment.steps[0], augment.steps[2]]).fit(None)
    view = augment.fit(None).set_params(rotate="passthrough")(images, (12, 12), seeded())
    assert torch.equal(view, without(images, (12, 12), seeded()))
    nothing = augment.set_params(noise="passthrough", blur="passthrough")
    assert torch.equal(nothing(images, (12, 12), seeded()), images)


def test_steps_act_in_their_order(noise, seeded):
    images, jitter, blur = noise(4, 2, 12, 12), ColorJitter(p=1.0), GaussianBlur(sigma=(1.0, 2.0))
    recipe = Augment([("color", jitter), ("blur", blur)])
    drawn = recipe.draw(images, (12, 12), seeded())
    view = recipe.apply(images, drawn, (12, 12))
    torch.testing.assert_close(view, blur.apply(jitter.apply(images, **drawn[0]), **drawn[1]))
    noisy = Augment([("blur", blur), ("noise", GaussianNoise(sigma=1.0))]).fit(None)
    noisy_first = Augment(noisy.steps[::-1])
    # Blurred noise is smoother.
    rough, smooth = (r(0 * images, (12, 12), seeded()).diff(dim=3).std() for r in (noisy, noisy_first))
    assert rough > 1.5 * smooth


def test_every_step_learns_from_the_images():
    images = np.random.default_rng(0).normal(size=(5, 2, 8, 8))
    augment = Augment([("one", GaussianNoise()), ("off", "passthrough"), ("two", GaussianNoise())])
    assert augment.fit(images, noise=np.array([1.0, 2.0])) is augment
    assert [step.sigma_.tolist() for _, step in augment.steps if step != "passthrough"] == [[1.0, 2.0]] * 2


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": [("flip", "gone")]}, r"Step 'flip' must be an augmentation step or 'passthrough'; got 'gone'\.$"),
        ({"steps": [("flip", Flip)]}, "Step 'flip' must be an augmentation step"),
        ({"steps": [("flip", None)]}, "Step 'flip' must be an augmentation step"),
        ({"steps": [("a", Flip()), ("a", Rotate())]}, r"need distinct names; got \['a', 'a'\]\.$"),
        ({"edge": "mirror"}, r"edge must be one of .*'reflection'.*; got 'mirror'\.$"),
        ({"interpolation": "cubic"}, r"interpolation must be one of .*'bicubic'.*; got 'cubic'\.$"),
    ],
)
def test_refusals(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Augment(**settings).fit(None)


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (
            GaussianNoise(scale=(3.0, 1.0)),
            r"The 'scale' parameter of GaussianNoise must be a pair \(low, high\) with low",
        ),
        (GaussianNoise(scale=2.0), "The 'scale' parameter of GaussianNoise"),
        (GaussianNoise(scale=(-1.0, 1.0)), "The 'scale' parameter of GaussianNoise"),
        (GaussianNoise(sigma=-1.0), r"The 'sigma' .* a float in the range \[0.0, inf\), or one for each band"),
        (GaussianNoise(sigma=(0.1, np.nan)), "The 'sigma' parameter of GaussianNoise"),
        (GaussianNoise(true="mesured"), "The 'true' parameter of GaussianNoise must be a str among {'measured'}"),
        (GaussianNoise(sigma=HalfNormal(-1.0)), "The 'scale' parameter of HalfNormal must be a float in the range"),
        (GaussianNoise(true=LogNormal(scale=(1.0, 0.0))), "The 'scale' parameter of LogNormal"),
        (
            GaussianNoise(sigma=LogNormal(low=2.0, high=(3.0, 1.0))),
            "low limit of LogNormal must not exceed the high one",
        ),
        (
            GaussianNoise(sigma=LogNormal(shape=(1.0, 1.0), loc=(0.0, 0.0, 0.0))),
            r"must be for the same bands; they have \[2, 3\]",
        ),
        (GaussianNoise(sigma=Uniform(2.0, 1.0)), "low limit of Uniform must not exceed the high one; got 2.0, 1.0"),
        (Background(scale=(1.0, np.inf)), "The 'scale' parameter of Background"),
        (Background(sigma="one"), "The 'sigma' parameter of Background"),
        (BandDropout(p=2), "The 'p' parameter of BandDropout"),
        (ColorJitter(contrast=-0.1), "The 'contrast' parameter of ColorJitter"),
        (Crop(scale=(0.5, 1.1)), r"The 'scale' parameter of Crop must be a pair \(low, high\) .* \(0.0, 1.0\]"),
        (Crop(ratio=(0.0, 1.0)), "The 'ratio' parameter of Crop"),
        (Dihedral(p=-0.1), "The 'p' parameter of Dihedral"),
        (GaussianBlur(sigma=(2.0, 1.0)), "The 'sigma' parameter of GaussianBlur"),
        (GaussianBlur(radius=1.5), "The 'radius' parameter of GaussianBlur must be an int"),
        (HotPixels(n=-1), "The 'n' parameter of HotPixels must be an int"),
        (HotPixels(brightness=(5.0,)), "The 'brightness' parameter of HotPixels"),
        (PSFBlur(sigma=(-0.1, 0.1)), "The 'sigma' parameter of PSFBlur"),
        (PSFBlur(unit="arcmin"), "The 'unit' parameter of PSFBlur must be a str among"),
        (PSFBlur(true=0.3), "The 'true' parameter of PSFBlur"),
        (Redden(ebv=(-0.1, 0.5)), r"The 'ebv' parameter of Redden must be a pair \(low, high\) .* \[0.0, inf\)"),
        (Redden(ebv=(0.5, 0.1)), "The 'ebv' parameter of Redden"),
        (Redden(extinction=(3.2, -1.0)), "The 'extinction' parameter of Redden"),
        (
            SatelliteTrail(width=0.0),
            r"The 'width' parameter of SatelliteTrail must be a float in the range \(0.0, inf\)",
        ),
        (Rotate(degrees=360), r"The 'degrees' parameter of Rotate must be a float in the range \[0.0, 180.0\]"),
        (Shift(pixels=1.5), "The 'pixels' parameter of Shift must be an int"),
        (Zoom(scale=(1.1, 0.9)), "The 'scale' parameter of Zoom"),
        (SatelliteTrail(brightness=(10.0, 2.0)), "The 'brightness' parameter of SatelliteTrail"),
    ],
)
def test_parameters_out_of_range_are_refused_before_anything_is_learned(step, sentence):
    first = GaussianNoise()
    with pytest.raises(ValueError, match=sentence):
        Augment([("first", first), ("step", step)]).fit(np.ones((2, 2, 8, 8)))
    assert not hasattr(first, "sigma_")
    with pytest.raises(ValueError, match=sentence):
        step.fit(np.ones((2, 2, 8, 8)))


class Negative(PixelStep):
    """A step of the user's, without constraints."""

    def __init__(self, p=7):
        self.p = p

    def draw(self, shape, generator):
        return {}

    def apply(self, images):
        return -images


def test_a_step_without_constraints_takes_anything(noise, seeded):
    images = noise(2, 1, 8, 8)
    assert torch.equal(Augment([("mine", Negative())]).fit(None)(images, (8, 8), seeded()), -images)


def test_parameters_of_distributions_are_reached_by_name():
    augment = Augment(
        [("psf", PSFBlur()), ("noise", GaussianNoise(sigma=LogNormal(shape=(0.2, 0.3), loc=0.0, scale=(1.0, 2.0))))]
    )
    augment.set_params(psf__sigma__scale=0.2, noise__sigma__high=5.0)
    assert augment.get_params()["psf__sigma__scale"] == 0.2
    assert augment.get_params()["noise__sigma__high"] == 5.0
    assert PSFBlur().sigma.scale == 0.13
    assert joblib.hash(clone(augment)) == joblib.hash(augment)


def test_without_steps_it_is_the_central_window_as_float(seeded):
    images = torch.arange(50, dtype=torch.uint8).view(2, 1, 5, 5)
    view = Augment().fit(None)(images, (3, 3), seeded())
    assert torch.equal(view, images[:, :, 1:4, 1:4].float())


@pytest.mark.parametrize("name", ["edge", "steps", "a__b"])
def test_names_that_no_parameter_could_be_reached_by_are_refused(name):
    with pytest.raises(ValueError, match=f"No step may be called '{name}'"):
        Augment([(name, Flip())]).fit(None)
