"""Recipes by name: one vocabulary, the papers' numbers, never the shared object."""

import joblib
import pytest
import torch

from skastro import FineTuneClassifier
from skastro.augment import RECIPES, Augment, Flip, get_recipe, one_recipe
from skastro.images import center_crop
from skastro.plotting import AugmentationDisplay
from skastro.surveys import get_survey

VOCABULARY = {
    "aperture",
    "background",
    *("extinction", "psf", "noise", "rotate", "flip", "shift", "zoom"),
    *("crop", "color", "grayscale", "blur", "aperture", "background", "artifact", "bands"),
}
SURVEYS = {"sdss": "sdss", "sdss-all": "sdss", "legacy": "legacy", "astrodino": "legacy"}
each_recipe = pytest.mark.parametrize("name", RECIPES)


def active(params):
    return [name for name, step in params["steps"] if step != "passthrough"]


@each_recipe
def test_every_recipe_speaks_the_vocabulary_and_holds_a_place_for_noise(name):
    for recipe, _ in RECIPES[name].views((32, 32)):
        names = [step for step, _ in recipe.steps]
        assert set(names) <= VOCABULARY
        assert "noise" in names


@each_recipe
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_every_recipe_makes_views(name, bands, noise, seeded):
    survey = get_survey(SURVEYS.get(name))
    bands = len(survey.bands) if survey else bands
    images = noise(6, bands, 152, 152)
    fitted = get_recipe(name).fit(images.numpy(), survey)
    for recipe, size in fitted.views((96, 96)):
        views = recipe(images, size, seeded())
        assert views.shape == (6, bands, *size)
        assert views.isfinite().all()
        assert not torch.allclose(views, center_crop(images, size), atol=1e-3)


@each_recipe
def test_the_object_in_the_table_is_never_handed_out(name):
    before = joblib.hash(RECIPES[name])
    copy = get_recipe(name)
    assert joblib.hash(copy) == before
    copy, _ = copy.views((32, 32))[0]
    copy.set_params(rotate__p=0.1, noise=Flip(), edge="border")
    copy.steps[-1][1].p = 0.123
    assert joblib.hash(RECIPES[name]) == before


def test_table_1_of_slijepcevic_2023():
    params = get_recipe("radio").get_params()
    assert active(params) == ["rotate", "crop", "flip", "color", "blur"]
    assert (params["rotate__degrees"], params["rotate__p"]) == (180, 1)  # 0 to 360
    assert params["crop__scale"] == (0.8, 1.0)
    assert params["flip__p"] == 0.5
    assert params["color__p"] == 0.8
    assert params["color__brightness"] == params["color__contrast"] == 0.8 * 0.5  # s = 0.5
    assert (params["blur__p"], params["blur__sigma"], params["blur__radius"]) == (0.1, (0.1, 2.0), 3)
    assert params["edge"] == "zeros"


def test_table_2_of_slijepcevic_2023():
    params = get_recipe("radio-finetune").get_params()
    assert active(params) == ["rotate", "crop", "flip"]
    assert params["rotate__degrees"] == 180
    assert params["crop__scale"] == (0.9, 1.0)
    assert params["flip__p"] == 0.5


@pytest.mark.parametrize(("name", "seeing"), [("sdss", []), ("sdss-all", ["psf"])])
def test_section_3_of_hayat_2021(name, seeing):
    params = get_recipe(name).get_params()
    assert active(params) == [*seeing, "rotate", "shift", "extinction", "noise"]
    assert params["extinction__ebv"] == (0, 0.5)
    assert (params["rotate__degrees"], params["shift__pixels"]) == (180, 7)
    assert params["noise__scale"] == (1, 3)
    if seeing:
        assert (params["psf__sigma__scale"], params["psf__unit"], params["psf__reference"]) == (0.13, "arcsec", "r")


def test_the_fits_of_stein_2021():
    """Medians in g, r, z: noise and seeing that images of the Legacy Surveys have."""
    params = get_recipe("legacy").get_params()
    for step, medians in {"noise": [0.0031, 0.0044, 0.0117], "psf": [2.396, 2.156, 2.016]}.items():
        assert params[f"{step}__true"] is not None
        found = [s + x for s, x in zip(params[f"{step}__sigma__scale"], params[f"{step}__sigma__loc"], strict=True)]
        assert found == pytest.approx(medians, abs=6e-4)
    assert params["extinction__ebv__scale"] + params["extinction__ebv__loc"] == pytest.approx(0.0345, abs=1e-4)
    assert (params["zoom__scale"], params["shift__pixels"], params["flip__p"]) == ((0.9, 1.1), 7, 0.5)


def test_the_views_of_parker_2024():
    recipe = get_recipe("astrodino")
    views = recipe.views((144, 144))
    assert [size for _, size in views] == 2 * [(144, 144)] + 8 * [(60, 60)]
    assert [view.get_params()["noise__p"] for view, _ in views] == [1.0, 0.1] + 8 * [0.5]
    assert [view.get_params()["psf__p"] for view, _ in views] == [1.0, 0.1] + 8 * [0.5]
    for view, (size, _) in views:  # a crop reaches every corner of a cutout of 152 pixels, and no farther
        assert size / 2 + view.get_params()["shift__pixels"] == 76


def test_the_view_in_the_code_of_walmsley_2022():
    params = get_recipe("galaxy-zoo").get_params()
    assert active(params) == ["rotate", "crop", "flip", "color", "grayscale"]
    assert (params["crop__scale"], params["crop__ratio"]) == ((0.3, 0.85), (0.8, 1.2))
    assert (params["color__brightness"], params["color__p"], params["grayscale__p"]) == (0.8 * 0.5, 0.8, 0.3)


def test_views_of_the_default_recipe_see_half_of_a_galaxy_or_more():
    """What is learned depends on the crop more than on any other step."""
    recipe = get_recipe("galaxy")
    params = recipe.get_params()
    moved, changed = ["rotate", "shift", "crop", "flip"], ["color", "grayscale", "blur", "aperture", "background"]
    assert active(params) == ["noise", *moved, *changed]
    assert (params["crop__scale"], params["crop__ratio"]) == ((0.5, 1.0), (1.0, 1.0))
    assert (params["noise__scale"], params["rotate__degrees"], params["shift__pixels"]) == ((0.0, 2.0), 180, 2)
    assert [params[f"{name}__p"] for name in ("flip", *changed)] == [0.5, 0.8, 0.3, 0.5, 0.8, 1.0]
    assert (params["color__brightness"], params["color__contrast"], params["color__saturation"]) == (0.6, 0.6, 0.8)
    assert (params["blur__sigma"], params["aperture__radius"]) == ((0.1, 1.5), (0.5, 1.0))
    assert params["background__scale"] == (-1.0, 1.0)
    first, second, *local = get_recipe("galaxy-crops").views((32, 32))
    assert [size for _, size in local] == [(16, 16)] * 4
    for view, _ in (first, second):
        assert joblib.hash(view) == joblib.hash(recipe)
    params = local[0][0].get_params()
    assert (params["zoom__scale"], params["crop__scale"]) == ((0.5, 0.5), (0.1, 0.5))
    assert active(params) == ["noise", "rotate", "zoom", "crop", "flip", "color", "grayscale", "blur", "background"]


def test_views_to_learn_labels_from_keep_the_flux():
    params = get_recipe("supervised").get_params()
    assert active(params) == ["rotate", "shift", "flip"]
    assert (params["rotate__degrees"], params["shift__pixels"], params["flip__p"]) == (180, 2, 0.5)


def test_several_kinds_of_view_are_refused_where_one_recipe_is_needed(noise):
    images = noise(4, 3, 64, 64).numpy()
    for refused in (
        lambda: one_recipe("astrodino"),
        lambda: FineTuneClassifier("test_resnet", augment="astrodino").fit(images, [0, 1, 0, 1]),
        lambda: AugmentationDisplay.from_recipe(images, "astrodino"),
    ):
        with pytest.raises(ValueError, match="augment='astrodino' has a recipe for each view; here one is needed"):
            refused()


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
