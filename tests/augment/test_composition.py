"""Named steps composed like a Pipeline."""

import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone

from skastro.augment import Augment, ColourJitter, Flip, GaussianBlur, GaussianNoise, Rotate


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


@pytest.mark.parametrize("name", ["nose", "rotate__degree", "colour__p"])
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
    images, jitter, blur = noise(4, 2, 12, 12), ColourJitter(p=1.0), GaussianBlur(sigma=(1.0, 2.0))
    recipe = Augment([("colour", jitter), ("blur", blur)])
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


def test_without_steps_it_is_the_central_window_as_float(seeded):
    images = torch.arange(50, dtype=torch.uint8).view(2, 1, 5, 5)
    view = Augment().fit(None)(images, (3, 3), seeded())
    assert torch.equal(view, images[:, :, 1:4, 1:4].float())
