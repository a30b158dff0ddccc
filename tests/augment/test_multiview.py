"""A recipe for each view: two global ones that may differ, and local ones."""

import numpy as np
import pytest
from estimators import IMAGE_EMBEDDERS
from sklearn.base import clone

import skastro
from skastro import BYOLEmbedder
from skastro.augment import Augment, Flip, GaussianNoise, MultiView, Rotate, get_recipe

IMAGES = np.random.default_rng(0).normal(size=(6, 2, 36, 36)).astype("float32")
TOY = {"encoder": "test_resnet", "max_epochs": 1, "batch_size": 6, "random_state": 0}
FIRST, SECOND = Augment([("rotate", Rotate())]), Augment([("flip", Flip()), ("noise", GaussianNoise())])

pytestmark = pytest.mark.filterwarnings("ignore:No image has a vote")
each_embedder = pytest.mark.parametrize("embedder", [cls for cls in IMAGE_EMBEDDERS if cls._n_views == 2])


def test_views_are_first_second_and_local_ones():
    small = Augment()
    views = MultiView(FIRST, SECOND, local=small, n_local=3, local_size=20).views((32, 30))
    assert views == [(FIRST, (32, 30)), (SECOND, (32, 30))] + 3 * [(small, (20, 20))]


def test_what_is_not_given_is_the_first():
    assert MultiView(FIRST, n_local=1, local_size=9).views((32, 32)) == 2 * [(FIRST, (32, 32))] + [(FIRST, (9, 9))]
    assert [recipe.steps for recipe, _ in MultiView().views((32, 32))] == [(), ()]


@each_embedder
def test_the_same_recipe_twice_is_the_recipe(embedder):
    one, two = (embedder(augment=augment, **TOY).fit(IMAGES) for augment in (FIRST, MultiView(FIRST, clone(FIRST))))
    np.testing.assert_array_equal(one.transform(IMAGES), two.transform(IMAGES))


@each_embedder
def test_each_recipe_makes_its_view_and_is_fitted_on_a_copy(embedder):
    recipe = MultiView(FIRST, SECOND)
    fitted = embedder(augment=recipe, **TOY).fit(IMAGES)
    assert fitted.augment_.second.steps[1][1].sigma_.shape == (2,)
    assert not hasattr(SECOND.steps[1][1], "sigma_")
    for other in (FIRST, MultiView(SECOND, FIRST)):
        found = embedder(augment=other, **TOY).fit(IMAGES).transform(IMAGES)
        assert not np.array_equal(found, fitted.transform(IMAGES))


@each_embedder
def test_local_views_are_refused_by_methods_that_compare_two(embedder):
    with pytest.raises(ValueError, match=rf"{embedder.__name__} compares two views; augment= makes 4: set n_local=0"):
        embedder(augment=MultiView(FIRST, n_local=2, local_size=20), **TOY).fit(IMAGES)


@pytest.mark.parametrize(("side", "small"), [(32, 16), (33, 16), (1, 1)])
def test_a_local_size_below_one_is_a_fraction_of_the_global(side, small):
    recipe = MultiView(FIRST, n_local=1, local_size=0.5)
    assert recipe.views((side, side + 4))[2] == (FIRST, (small, (side + 4) // 2))
    assert recipe.fit(IMAGES) is recipe


@pytest.mark.parametrize("size", [None, 0, 37, -0.5])
def test_local_views_need_a_size_that_fits(size):
    with pytest.raises(ValueError, match=rf"local_size={size} cannot be cut from images of 36 × 36 pixels"):
        MultiView(FIRST, n_local=1, local_size=size).fit(IMAGES)


@pytest.mark.parametrize("role", ["first", "second", "local"])
def test_a_recipe_is_an_augment(role):
    with pytest.raises(ValueError, match=f"{role} must be an Augment, as get_recipe"):
        MultiView(**{role: "galaxy"}).fit(IMAGES)


def test_nested_parameters_reach_each_recipe_and_files_keep_them(tmp_path):
    embedder = BYOLEmbedder(augment=MultiView(get_recipe("galaxy"), Augment(edge="zeros")), **TOY)
    embedder.set_params(augment__first__rotate__degrees=12, augment__second__edge="border")
    skastro.save(embedder.fit(IMAGES), tmp_path / "model.skastro")
    again = skastro.load(tmp_path / "model.skastro")
    assert again.get_params()["augment__first__rotate__degrees"] == 12
    assert again.augment_.second.edge == "border"
    np.testing.assert_array_equal(again.transform(IMAGES), embedder.transform(IMAGES))
