"""The protocol of a modality: what alignment, pooling and fine-tuning build on, for every registered embedder."""

import pickle
from inspect import signature
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, tiny
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler
from torch import nn

from skastro import (
    BYOLEmbedder,
    ConvSpectrumEncoder,
    FixedImageEmbedder,
    FixedSpectrumEmbedder,
    ImageEncoder,
    MaskedSpectrumEmbedder,
    SpectrumEncoder,
    Training,
    VoteEmbedder,
    load,
    save,
)
from skastro.augment import Augment, ContiguousMask, Flip, GaussianNoise
from skastro.modalities import (
    ImageModality,
    Modality,
    RowModality,
    SpectrumModality,
    as_embedder,
    as_modality,
    as_specification,
    check_all,
    feature_width,
    is_specification,
)
from skastro.training import as_batch

CPU = torch.device("cpu")
MODALITIES = [cls for cls in ESTIMATORS if issubclass(cls, Modality)]
IMAGES = [cls for cls in MODALITIES if issubclass(cls, ImageModality)]
SPECTRA = [cls for cls in MODALITIES if issubclass(cls, SpectrumModality)]
SMALL = SpectrumEncoder(depth=1, width=16)

# Without votes, which the protocol does not know.
pytestmark = pytest.mark.filterwarnings("ignore:No image has a vote")


def named(cls):
    return cls.__name__


@pytest.fixture(scope="module")
def sky():
    """24 images of 3 bands with two kinds of light, and spectra of 60 pixels with gaps."""
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    images = rng.normal(size=(24, 3, 36, 36)) + 5 * y[:, None, None, None] * np.hanning(36)
    spectra = 5 + rng.normal(size=(24, 60)) + y[:, None] * np.hanning(60)
    spectra[3, :20], spectra[4, 50:] = np.nan, np.nan
    return SimpleNamespace(images=images.astype(np.float32), spectra=spectra, ivar=rng.uniform(1, 4, (24, 60)), y=y)


@pytest.fixture
def rows(sky):
    def given(embedder):
        return sky.images if isinstance(embedder, ImageModality) else sky.spectra

    return given


def made(cls):
    return tiny(cls, batch_size=8, random_state=0, training=Training(precision="fp32"))


@pytest.fixture(params=MODALITIES, ids=named)
def embedder(request, sky, rows):
    model = made(request.param)
    return model.fit(rows(model), sky.y)


def through(embedder, arrays, view=None):
    """The flow of the protocol by hand: arrays, view, encoder."""
    with torch.no_grad():
        return embedder.encoder_(*(view or embedder.view())(**as_batch(arrays, slice(None), CPU))).numpy()


# ---------------------------------------------------------------- every embedder


def test_every_embedder_of_ours_is_of_a_modality():
    assert {"BYOLEmbedder", "MaskedSpectrumEmbedder", "FixedImageEmbedder"} <= set(map(named, MODALITIES))
    assert set(MODALITIES) == {*IMAGES, *SPECTRA}


def test_inputs_view_and_encoder_are_the_transform(embedder, rows):
    X = rows(embedder)
    arrays = embedder.inputs(X)
    assert {len(array) for array in arrays.values()} == {24}
    assert set(embedder.view().inputs) - {"precision"} <= set(arrays)  # which only comes with an inverse variance
    np.testing.assert_allclose(through(embedder, arrays), embedder.transform(X), rtol=1e-4, atol=1e-5)
    width = feature_width(embedder, embedder.encoder_, arrays)
    assert width == embedder.transform(X).shape[1] == len(embedder.get_feature_names_out())


def test_a_view_takes_what_else_is_in_a_batch(embedder, rows):
    arrays = embedder.inputs(rows(embedder))
    batch = as_batch({name: arrays[name] for name in embedder.view().inputs if name in arrays}, slice(0, 4), CPU)
    first, second = embedder.view()(**batch), embedder.view()(**batch)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))  # nothing is drawn
    assert {len(part) for part in first} == {4}


def test_build_encoder_makes_the_same_architecture_anew(embedder):
    fresh = embedder.build_encoder()
    ours, others = embedder.encoder_.state_dict(), fresh.state_dict()
    assert {name: array.shape for name, array in ours.items()} == {name: array.shape for name, array in others.items()}
    assert not any(a is b for a, b in zip(fresh.parameters(), embedder.encoder_.parameters(), strict=True))


def test_the_encoder_rests_on_the_cpu_in_eval_mode(embedder):
    assert {parameter.device for parameter in embedder.encoder_.parameters()} == {CPU}
    assert not any(module.training for module in embedder.encoder_.modules())
    fresh = embedder.build_encoder().train()
    assert embedder.adopt(fresh) is embedder
    assert embedder.encoder_ is fresh
    assert not fresh.training


def test_rows_that_are_missing_are_not_looked_at(embedder, rows):
    X, gone = rows(embedder).copy(), np.zeros(24, bool)
    gone[[2, 9]] = True
    whole = through(embedder, embedder.inputs(X))
    X[gone] = np.nan
    mask = embedder.present(X)
    assert (mask == ~gone).all()
    arrays = embedder.inputs(X, mask)
    assert {len(array) for array in arrays.values()} == {24}
    check_all(embedder, arrays, np.flatnonzero(mask))
    np.testing.assert_allclose(through(embedder, arrays)[mask], whole[mask], rtol=1e-4, atol=1e-5)


def test_one_orientation_unless_averages_are_asked_for(embedder, rows):
    (view,) = embedder.orientations(None)
    arrays = embedder.inputs(rows(embedder))
    np.testing.assert_array_equal(through(embedder, arrays, view), through(embedder, arrays))
    if isinstance(embedder, ImageModality):
        assert len(embedder.orientations("dihedral")) == 8
        assert len(embedder.orientations(3)) == 3
    else:
        with pytest.raises(ValueError, match=f"average=3 is for images, which {named(type(embedder))} does not embed"):
            embedder.orientations(3)


def test_the_protocol_after_a_pickle_and_a_file(embedder, rows, tmp_path):
    arrays = embedder.inputs(rows(embedder))
    save(embedder, tmp_path / "embedder.skops")
    for again in (pickle.loads(pickle.dumps(embedder)), load(tmp_path / "embedder.skops")):
        np.testing.assert_array_equal(through(again, again.inputs(rows(embedder))), through(embedder, arrays))


@pytest.mark.parametrize("cls", IMAGES, ids=named)
def test_images_are_images(cls):
    model = made(cls)
    assert (model.unit, model.metadata, model.takes_gaps) == ("images", (), False)


@pytest.mark.parametrize("cls", SPECTRA, ids=named)
def test_spectra_are_samples_with_inverse_variances(cls):
    model = made(cls)
    assert (model.unit, model.metadata, model.takes_gaps) == ("samples", ("ivar",), True)


@pytest.mark.parametrize("cls", IMAGES, ids=named)
def test_pixels_that_are_no_numbers_are_refused_with_the_numbers_of_their_rows(cls, sky):
    model = made(cls).fit(sky.images, sky.y)
    images = sky.images.copy()
    images[5, 0, 3, 3] = np.nan
    arrays = model.inputs(images)
    with pytest.raises(ValueError, match="X has 1 NaN or infinite pixels in images 4 to 9, the first in image 5"):
        arrays["images"][np.array([4, 5, 9])]
    assert arrays["images"][4:5].shape == (1, *images.shape[1:])
    with pytest.raises(ValueError, match="the first in image 5"):
        check_all(model, model.inputs(images), np.arange(24))
    check_all(model, model.inputs(images), np.delete(np.arange(24), 5))


def test_images_to_learn_from_must_not_be_constant(sky):
    model = FixedImageEmbedder("test_resnet").fit(sky.images)
    with pytest.raises(ValueError, match="All 3 images are constant: there is nothing to learn from"):
        model.check_training(model.inputs(np.ones_like(sky.images[:3])))
    with pytest.warns(UserWarning, match="1 of 24 images are constant"):
        model.check_training(model.inputs(np.concatenate([sky.images[:23], np.ones_like(sky.images[:1])])))


# ---------------------------------------------------------------- augmentation


@pytest.mark.parametrize("cls", [FixedImageEmbedder, BYOLEmbedder], ids=named)
def test_a_view_of_images_with_a_recipe_draws(cls, sky):
    model = made(cls).fit(sky.images)
    arrays = model.inputs(sky.images)
    recipe = model.fit_recipe("auto", arrays)
    assert repr(recipe) == repr(model.fit_recipe("supervised", arrays))
    drawn = [through(model, arrays, model.view(recipe, torch.Generator().manual_seed(seed))) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2], atol=1e-3)
    flip = model.fit_recipe(Augment([("flip", Flip(p=0))]), arrays)
    np.testing.assert_allclose(through(model, arrays, model.view(flip)), through(model, arrays), rtol=1e-4, atol=1e-4)


def shown(model, X, recipe=None, seed=0):
    batch = as_batch(model.inputs(X), slice(None), CPU)
    return model.view(recipe, torch.Generator().manual_seed(seed))(**batch)


@pytest.mark.parametrize("cls", SPECTRA, ids=named)
def test_what_a_recipe_of_spectra_masks_is_not_seen(cls, sky):
    model = made(cls).fit(sky.spectra)
    arrays = model.inputs(sky.spectra)
    assert model.fit_recipe("auto", arrays) is model.fit_recipe(None, arrays) is None
    recipe = model.fit_recipe(Augment([("mask", ContiguousMask(n=2, length=7, fill=np.nan))]), arrays)
    flux, seen, level = shown(model, sky.spectra)
    less, fewer, same = shown(model, sky.spectra, recipe)
    hidden = seen & ~fewer
    assert torch.equal(level, same)
    assert not (fewer & ~seen).any()  # what is missing stays missing
    assert (hidden.sum(dim=1)[[0, 1, 2]] == 14).all()
    torch.testing.assert_close(less[fewer], flux[fewer])
    assert (less[~fewer] == 0).all()
    assert not torch.equal(fewer, shown(model, sky.spectra, recipe, seed=1)[1])


def test_recipes_of_spectra_work_in_units_of_their_scale_and_see_the_mean(sky):
    class Double(nn.Module):
        def forward(self, spectra, size, generator, **known):
            assert spectra.shape == (24, 1, 1, 60)
            self.got = spectra
            return 2 * spectra

    model, recipe = FixedSpectrumEmbedder(SMALL).fit(sky.spectra), Double()
    flux, seen, _ = shown(model, sky.spectra)
    doubled, same, _ = shown(model, sky.spectra, recipe)
    mean, std = np.nanmean(sky.spectra, axis=1), np.nanstd(sky.spectra, axis=1)
    np.testing.assert_allclose(recipe.got[:, 0, 0], sky.spectra / std[:, None], rtol=1e-4)
    truth = 2 * flux + torch.from_numpy(mean / std).float()[:, None]
    torch.testing.assert_close(doubled[seen], truth[seen], rtol=1e-4, atol=1e-4)
    assert torch.equal(seen, same)


def test_options_of_images_are_refused_by_others_before_anything_is_fitted():
    noise = Augment([("noise", GaussianNoise())])
    others = as_modality(StandardScaler()), MaskedSpectrumEmbedder()
    for modality, name in zip(others, ("StandardScaler", "MaskedSpectrumEmbedder"), strict=True):
        modality.check_options()
        modality.check_options(None)
        for options in ({"augment": "supervised"}, {"average": "dihedral"}, {"average": 3}):
            with pytest.raises(
                ValueError, match=f"{next(iter(options))}=.* is for images, which {name} does not embed"
            ):
                modality.check_options(**options)
    others[1].check_options(noise)
    with pytest.raises(ValueError, match="is for images, which StandardScaler does not embed"):
        others[0].check_options(noise)
    BYOLEmbedder().check_options("supervised", average="dihedral")
    with pytest.raises(ValueError, match="galaxies"):
        BYOLEmbedder().check_options("galaxies")


# ---------------------------------------------------------------- rows of numbers


def test_any_other_transformer_is_rows_of_numbers(sky):
    table = np.random.default_rng(0).normal(size=(24, 4))
    table[7] = np.nan
    scaler = StandardScaler().fit(table)
    modality = as_modality(scaler)
    assert isinstance(modality, RowModality)
    assert (modality.unit, modality.metadata, modality.takes_gaps) == ("samples", (), False)
    mask = modality.present(table)
    assert np.flatnonzero(~mask).tolist() == [7]
    arrays = modality.inputs(table, mask)
    np.testing.assert_allclose(through(modality, arrays)[mask], scaler.transform(table)[mask], rtol=1e-5)
    assert feature_width(modality, modality.encoder_, arrays) == 4
    with pytest.raises(ValueError, match="what StandardScaler gives contains NaN"):
        modality.inputs(table)
    embedder = BYOLEmbedder()
    assert as_modality(embedder) is embedder


def test_an_encoder_must_give_rows(sky):
    model = FixedImageEmbedder(nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match=r"one row of features for each of the images, .* it gave \(1, 4, 34, 34\)"):
        model.fit(sky.images)


# ---------------------------------------------------------------- encoders that are not trained


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("resnet18", ImageEncoder("resnet18")),
        (None, SpectrumEncoder()),
        ("conv-attention", ConvSpectrumEncoder()),
        (SMALL, SMALL),
    ],
    ids=str,
)
def test_names_stand_for_specifications(given, meant):
    assert repr(as_specification(given)) == repr(meant)
    assert is_specification(given)
    kind = FixedImageEmbedder if isinstance(meant, ImageEncoder) else FixedSpectrumEmbedder
    embedder = as_embedder(given, random_state=3, device="cpu")
    assert type(embedder) is kind
    assert (embedder.random_state, embedder.device) == (3, "cpu")


def test_a_module_is_an_encoder_of_images_and_an_embedder_is_none():
    module = nn.Flatten()
    assert is_specification(module)
    assert as_embedder(module).encoder is module
    for other in (BYOLEmbedder(), FrozenEstimator(BYOLEmbedder()), StandardScaler()):
        assert not is_specification(other)


def test_a_seed_is_given_to_what_has_none_of_its_own():
    assert as_embedder(BYOLEmbedder(), random_state=3).random_state == 3
    assert as_embedder(BYOLEmbedder(random_state=4), random_state=3).random_state == 4
    bare = BYOLEmbedder()
    assert as_embedder(bare) is not bare
    assert as_embedder(bare).random_state is None

    class Strict(TransformerMixin, BaseEstimator):
        """A transformer that refuses parameters that it does not have, as StandardScaler does."""

    for transformer in (StandardScaler(), Strict()):
        assert "random_state" not in as_embedder(transformer, random_state=3).get_params()
    frozen = FrozenEstimator(BYOLEmbedder())
    assert as_embedder(frozen, random_state=3) is frozen


def test_untrained_is_untrained(sky):
    """The weights are those that the seed draws, and equal a pretrainer's that takes no step."""
    untrained = FixedImageEmbedder("test_resnet", random_state=0).fit(sky.images)
    still = BYOLEmbedder("test_resnet", max_epochs=0, random_state=0).fit(sky.images)
    np.testing.assert_array_equal(untrained.transform(sky.images), still.transform(sky.images))
    turned = clone(untrained).set_params(average="dihedral").fit(sky.images)
    flipped = turned.transform(sky.images[..., ::-1])
    np.testing.assert_allclose(flipped, turned.transform(sky.images), rtol=1e-3, atol=1e-4)
    spectrum = FixedSpectrumEmbedder(SMALL, random_state=0).fit(sky.spectra, ivar=sky.ivar)
    masked = MaskedSpectrumEmbedder(SMALL, max_epochs=0, random_state=0).fit(sky.spectra, ivar=sky.ivar)
    rows = spectrum.transform(sky.spectra, ivar=sky.ivar)
    np.testing.assert_array_equal(rows, masked.transform(sky.spectra, ivar=sky.ivar))
    other = clone(spectrum).set_params(random_state=1).fit_transform(sky.spectra, ivar=sky.ivar)
    assert not np.allclose(rows, other, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_batch_may_be_of_one_row_where_nothing_is_trained(batch_size, sky):
    for model, X in (
        (FixedImageEmbedder("test_resnet"), sky.images),
        (FixedSpectrumEmbedder(SMALL), sky.spectra),
    ):
        rows = model.set_params(random_state=0).fit_transform(X)
        some = clone(model).set_params(batch_size=batch_size).fit_transform(X)
        np.testing.assert_allclose(some, rows, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (FixedSpectrumEmbedder("resnet18"), "Unknown encoder of spectra 'resnet18'"),
        (FixedSpectrumEmbedder(SpectrumEncoder(heads=3)), "divisible by heads=3"),
        (FixedSpectrumEmbedder(3), "The 'encoder' parameter of FixedSpectrumEmbedder"),
        (FixedSpectrumEmbedder(floor=0.0), "The 'floor' parameter of FixedSpectrumEmbedder"),
        (FixedSpectrumEmbedder(device="abacus"), "Unknown device 'abacus'"),
        (FixedImageEmbedder("resnet81"), "Unknown encoder 'resnet81'"),
        (FixedImageEmbedder(SMALL), "The 'encoder' parameter of FixedImageEmbedder"),
        (FixedImageEmbedder("test_resnet", survey="sdss"), "The survey has 5 bands"),
        (FixedImageEmbedder(batch_size=0), "The 'batch_size' parameter of FixedImageEmbedder"),
    ],
)
def test_what_cannot_be_used_is_refused_and_a_refused_refit_loses_nothing(model, sentence, sky):
    good = clone(model).set_params(encoder="test_resnet" if isinstance(model, FixedImageEmbedder) else SMALL)
    X = sky.images if isinstance(model, FixedImageEmbedder) else sky.spectra
    good.set_params(device="auto", batch_size=8, random_state=0)
    good.set_params(**({"survey": None} if isinstance(model, FixedImageEmbedder) else {"floor": 0.1}))
    rows = good.fit(X).transform(X)
    params = {name: value for name, value in model.get_params(deep=False).items() if name != "random_state"}
    with pytest.raises(ValueError, match=sentence):
        good.set_params(**params).fit(X)
    good.set_params(device="auto", batch_size=8)
    np.testing.assert_array_equal(good.transform(X), rows)


@pytest.mark.parametrize("cls", SPECTRA, ids=named)
def test_spectra_of_another_unit_are_told(cls, sky):
    model = tiny(cls, random_state=0).fit(sky.spectra)
    for unit, words in (
        (1e-17, "and look alike: are these in another unit"),
        (1e6, "24 of 24 spectra have values more"),
    ):
        with pytest.warns(UserWarning, match=words):
            model.transform(sky.spectra * unit)


TAKES_IVAR = [cls for cls in MODALITIES if "ivar" in signature(cls.fit).parameters]


@pytest.mark.parametrize("cls", [cls for cls in TAKES_IVAR if cls is not VoteEmbedder], ids=named)
def test_an_inverse_variance_in_the_place_of_y_is_refused_unless_it_cannot_be_one(cls, sky, rows):
    model = made(cls).set_params(**({"max_epochs": 0} if "max_epochs" in signature(cls).parameters else {}))
    X = rows(model)
    with pytest.raises(ValueError, match="y has the shape of X, and is ignored: give the inverse variance as ivar="):
        model.fit(X, np.ones_like(X))
    for y in (sky.y, sky.y[:, np.newaxis], np.full_like(X, -1.0), np.ones((24, 2))):
        model.fit(X, y)


@pytest.mark.parametrize("cls", SPECTRA, ids=named)
def test_spectra_without_the_inverse_variance_that_fit_had_are_told(cls, sky):
    whole = np.nan_to_num(sky.spectra, nan=5.0)
    model = made(cls).fit(whole, ivar=sky.ivar)
    for fitted in (model, pickle.loads(pickle.dumps(model))):
        with pytest.warns(UserWarning, match="fit had ivar, and these spectra have none") as told:
            fitted.transform(whole)
        assert len(told) == 1
        fitted.transform(whole, ivar=sky.ivar)
        fitted.transform(sky.spectra)  # whose bad pixels are NaN
    model.fit(whole).transform(whole)


@pytest.mark.filterwarnings("ignore:.*have values more than 10 times as far out")
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_the_type_of_the_same_numbers_changes_nothing(dtype, sky):
    bright = np.clip(np.round(40 + 40 * np.abs(sky.images)), 0, 255)
    model = FixedImageEmbedder("test_resnet", random_state=0).fit(sky.images)
    np.testing.assert_array_equal(model.transform(bright.astype(dtype)), model.transform(bright.astype(np.float64)))


@pytest.mark.parametrize(
    ("convert", "words"),
    [
        (lambda pixels: pixels / 255, "between 0 and 1, and those learned from had 8 bits"),
        (lambda pixels: pixels.astype("u2") * 257, "from 0 to 6.5.*, and those learned from had 8 bits, of 0 to 255"),
        (lambda pixels: pixels * 4.0, "from 0 to 1020, and those learned from had 8 bits, of 0 to 255"),
        (lambda pixels: pixels / 127.5 - 1, "from -1 to 1, and those learned from had 8 bits, of 0 to 255"),
    ],
)
def test_another_unit_where_8_bits_were_learned_is_told(convert, words, sky):
    bright = np.clip(np.round(40 + 80 * np.abs(sky.images)), 0, 255).astype(np.uint8)
    bright[:, 0, 0, 0] = 0
    model = FixedImageEmbedder("test_resnet", random_state=0).fit(bright)
    with pytest.warns(UserWarning, match=words):
        model.transform(convert(bright))
    model.transform(bright.astype(float))


@pytest.mark.parametrize("bands_axis", [None, -1])
def test_a_shape_of_rows_with_its_bands_last_is_refused(bands_axis, sky):
    model = FixedImageEmbedder("test_resnet", image_shape=(32, 32, 3), bands_axis=bands_axis)
    with pytest.raises(ValueError, match=r"looks to have its bands last: say \(3, 32, 32\)"):
        model.fit(np.moveaxis(sky.images, 1, -1).reshape(24, -1))


@pytest.mark.parametrize(
    ("length", "shape"), [(3072, "3, 32, 32"), (256, "1, 16, 16"), (1024, "1, 32, 32"), (5120, "5, 32, 32")]
)
def test_rows_as_long_as_a_square_image_are_told(length, shape, sky):
    rows = np.random.default_rng(0).normal(size=(4, length))
    model = FixedImageEmbedder("test_resnet", random_state=0)
    with pytest.warns(UserWarning, match=rf"image_shape=\({shape}\) folds them, \(1, 1, {length}\) says") as told:
        model.fit(rows)
    assert told[0].filename == __file__
    model.transform(rows)
    model.set_params(image_shape=(1, 1, length)).fit(rows)
    model.set_params(image_shape=None).fit(rows[:, :225])
    model.fit(rows[:, : length - 1])


def test_rows_of_pixels_pass_where_a_stack_was_learned(sky):
    model = FixedImageEmbedder("test_resnet", random_state=0).fit(sky.images)
    np.testing.assert_array_equal(model.transform(sky.images.reshape(24, -1)), model.transform(sky.images))
    last = np.moveaxis(sky.images, 1, -1)
    other = FixedImageEmbedder("test_resnet", bands_axis=-1, random_state=0).fit(last)
    np.testing.assert_array_equal(other.transform(last.reshape(24, -1)), model.transform(sky.images))
    with pytest.raises(ValueError, match=r"X of shape \(24, 60\) holds no images like those learned"):
        model.transform(sky.spectra)


@pytest.mark.parametrize("params", [{"average": "rotations"}, {"average": 0}, {"batch_size": -1}, {"device": "abacus"}])
def test_parameters_set_after_fit_are_checked(params, sky):
    model = FixedImageEmbedder("test_resnet", random_state=0).fit(sky.images)
    with pytest.raises(ValueError, match=next(iter(params.keys() - {"device"}), "abacus")):
        model.set_params(**params).transform(sky.images)


def test_nothing_in_a_list_of_rows_is_missing(sky):
    rows = [None, *sky.spectra[1:]]
    embedder = FixedSpectrumEmbedder(SMALL, random_state=0).fit(sky.spectra)
    assert embedder.present(rows, "y").tolist() == [False, *[True] * 23]
