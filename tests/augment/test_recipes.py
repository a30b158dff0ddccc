"""Recipes by name: one vocabulary, the papers' numbers, never the shared object."""

import joblib
import pytest
import torch

from skastro.augment import RECIPES, Augment, Flip, get_recipe

VOCABULARY = {
    *("extinction", "psf", "noise", "rotate", "flip", "shift", "zoom"),
    *("crop", "colour", "blur", "background", "artefact", "bands"),
}
each_recipe = pytest.mark.parametrize("name", RECIPES)


def active(params):
    return [name for name, step in params["steps"] if step != "passthrough"]


@each_recipe
def test_every_recipe_speaks_the_vocabulary_and_holds_a_place_for_noise(name):
    names = [step for step, _ in RECIPES[name].steps]
    assert set(names) <= VOCABULARY
    assert "noise" in names


@each_recipe
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_every_recipe_makes_views(name, bands, noise, seeded):
    images = noise(6, bands, 36, 33)
    views = get_recipe(name).fit(images.numpy())(images, (24, 24), seeded())
    assert views.shape == (6, bands, 24, 24)
    assert views.isfinite().all()
    assert not torch.allclose(views, images[:, :, 6:30, 4:28], atol=1e-3)


@each_recipe
def test_the_object_in_the_table_is_never_handed_out(name):
    before = joblib.hash(RECIPES[name])
    copy = get_recipe(name)
    assert joblib.hash(copy) == before
    copy.set_params(rotate__degrees=1, noise=Flip(), edge="border")
    copy.steps[1][1].p = 0.5
    assert joblib.hash(RECIPES[name]) == before


def test_table_1_of_slijepcevic_2023():
    params = get_recipe("radio").get_params()
    assert active(params) == ["rotate", "crop", "flip", "colour", "blur"]
    assert (params["rotate__degrees"], params["rotate__p"]) == (180, 1)  # 0 to 360
    assert params["crop__scale"] == (0.8, 1.0)
    assert params["flip__p"] == 0.5
    assert params["colour__p"] == 0.8
    assert params["colour__brightness"] == params["colour__contrast"] == 0.8 * 0.5  # s = 0.5
    assert (params["blur__p"], params["blur__sigma"], params["blur__radius"]) == (0.1, (0.1, 2.0), 3)
    assert params["edge"] == "zeros"


def test_table_2_of_slijepcevic_2023():
    params = get_recipe("radio-finetune").get_params()
    assert active(params) == ["rotate", "crop", "flip"]
    assert params["rotate__degrees"] == 180
    assert params["crop__scale"] == (0.9, 1.0)
    assert params["flip__p"] == 0.5


def test_none_is_the_recipe_without_steps_and_ones_own_is_copied():
    assert list(get_recipe(None).steps) == []
    mine = Augment([("flip", Flip())])
    copy = get_recipe(mine)
    assert joblib.hash(copy) == joblib.hash(mine)
    assert copy is not mine
    assert copy.steps[0][1] is not mine.steps[0][1]


@pytest.mark.parametrize(("name", "hint"), [("radoi", "Did you mean 'radio'?"), ("zzz", "")])
def test_an_unknown_recipe_is_refused_with_the_list(name, hint):
    with pytest.raises(ValueError, match=f"Unknown augmentation recipe '{name}'") as refusal:
        get_recipe(name)
    assert ", ".join(RECIPES) in str(refusal.value)
    assert str(refusal.value).endswith(hint or ".")
