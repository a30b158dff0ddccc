"""SpecFormer: what its original gave, its preprocessing, missing pixels, and the embedder around it."""

import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from checkpoints import checkpoint, difference, fixture, needs_fixtures, state_dict
from sklearn.base import clone

from skastro import FineTuneRegressor, FixedSpectrumEmbedder, MaskedSpectrumEmbedder, load, save
from skastro.augment import Augment, ContiguousMask
from skastro.encoders import SpecFormer, blocks, split
from skastro.encoders.specformer import bridge
from skastro.training import as_batch

PUBLISHED = SpecFormer(width=64, depth=2, heads=4)
TINY = SpecFormer(width=8, depth=2, heads=2)


@pytest.fixture(scope="module")
def original():
    return fixture("astroclip_spectrum")


@pytest.fixture(scope="module")
def published(original, tmp_path_factory):
    """A checkpoint as Lightning writes it, with more than weights beside them."""
    path = tmp_path_factory.mktemp("weights") / "specformer.ckpt"
    torch.save({"epoch": 3, "hyper_parameters": {"num_heads": 4}, **checkpoint(original)}, path)
    return str(path)


@pytest.fixture
def network(published):
    return clone(PUBLISHED).set_params(weights=published).build(7781).double().eval()


def double(array):
    return torch.from_numpy(array).double()


# ---------------------------------------------------------------- the original


@needs_fixtures
@torch.no_grad()
def test_all_that_the_original_gave(original, network):
    flux, shown = double(original["input"]), original["shown"]
    tokens, mask = network.tokens(flux)
    assert mask is None
    assert tokens.shape[1] == original["n_tokens"] == 1 + PUBLISHED.n_tokens(7781)
    assert difference(network.preprocess(flux)[:, shown], original["tokens"]) < 1e-6
    assert difference(tokens[:, shown], original["output64"]) < 1e-9
    assert difference(network(flux), original["output_mean"]) < 1e-9
    head = {name: double(tensor.numpy()) for name, tensor in state_dict(original, only="/head").items()}
    filled = tokens[:, shown] @ head["state_dict/head.weight"].T + head["state_dict/head.bias"]
    assert difference(filled, original["reconstructions"]) < 1e-6
    assert difference(network.float().tokens(flux.float())[0][:, shown], original["output"]) < 1e-5


@needs_fixtures
@pytest.mark.parametrize("pixels", [80, 85, 90])
@torch.no_grad()
def test_spectra_of_few_pixels(pixels, original, network):
    """At 80 pixels a whole window is dropped, at 85 half a one; one of these spectra is constant."""
    flux = double(original[f"flux{pixels}"])
    assert flux.std(dim=1).min() == 0 or pixels != 80
    assert difference(network.preprocess(flux), original[f"tokens{pixels}"]) < 1e-6
    assert difference(network.tokens(flux)[0], original[f"embedding{pixels}"]) < 1e-6


@needs_fixtures
@torch.no_grad()
def test_other_readings_are_told_from_the_original(original, network):
    flux, shown = double(original["input"]), original["shown"]
    tokens = network.tokens(flux)[0]
    assert difference(tokens[:, 1:].mean(dim=1), original["output_mean"]) > 1e-4  # without the first token
    pieces = network.preprocess(flux)
    wrong = {
        "zeros behind the pixels": pieces.roll(-2, dims=2),
        "the first token left empty": torch.cat([torch.zeros_like(pieces[:, :1]), pieces[:, 1:]], dim=1),
        "deviations of n": torch.cat([pieces[:, :1], pieces[:, 1:] * (7781 / 7780) ** 0.5], dim=1),
    }
    for name, read in wrong.items():
        embedded = network.data_embed(read) + network.position_embed.weight[: read.shape[1]]
        rows = network.final_layernorm(network.blocks(embedded))
        assert difference(rows[:, shown], original["output64"]) > 1e-6, name
    network.final_layernorm.eps = 1e-6
    assert difference(network.tokens(flux)[0][:, shown], original["output64"]) > 1e-7


@needs_fixtures
@torch.no_grad()
def test_the_same_network_lies_in_the_checkpoint_of_astroclip(tmp_path):
    npz = fixture("astroclip_clip")
    torch.save(checkpoint(npz), tmp_path / "astroclip.ckpt")
    encoder = SpecFormer(width=48, depth=2, heads=4, weights=tmp_path / "astroclip.ckpt")
    network = encoder.build(405)
    assert difference(network.double().tokens(double(npz["input_spectrum"]))[0], npz["spectrum_tokens"]) < 1e-6
    facts = encoder.load(network.float())
    assert (facts["source"], facts["layout"], facts["license"]) == ("astroclip.ckpt", "astroclip", "MIT")
    assert facts["left"] == len(npz["keys"]) - len(network.state_dict())


@needs_fixtures
def test_the_published_size_has_the_published_tensors(original):
    with torch.device("meta"):
        own = SpecFormer().architecture(7781).state_dict()
    real = dict(zip(original["real_keys"].tolist(), original["real_shapes"].tolist(), strict=True))
    real = {name.removeprefix("state_dict/"): shape for name, shape in real.items() if "/head." not in name}
    assert {name: ",".join(map(str, tensor.shape)) for name, tensor in own.items()} == real


# ---------------------------------------------------------------- what is refused


@needs_fixtures
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda tensors: tensors.pop("blocks.1.mlp.decoder.bias"),
            r"not those of this SpecFormer: 1 missing \(blocks.1.mlp.decoder.bias\)",
        ),
        (lambda tensors: tensors.update(more=torch.ones(1)), r"1 unknown \(more\)"),
        (
            lambda tensors: tensors.update({"data_embed.bias": torch.ones(3)}),
            r"bias \(3,\) in place of \(64,",
        ),
        (
            lambda tensors: tensors.pop("data_embed.weight") is tensors.pop("data_embed.bias"),
            "is not laid out as any of astroclip, specformer; its tensors",
        ),
    ],
)
def test_weights_of_another_network_are_refused_by_name(change, sentence, original, tmp_path):
    nested = checkpoint(original, only="^$")
    change(nested["state_dict"])
    torch.save(nested, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=sentence):
        clone(PUBLISHED).set_params(weights=str(tmp_path / "other.ckpt")).build(100)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"width": 10, "heads": 4}, "width=10, which must be divisible by heads=4"),
        ({"depth": 0}, "The 'depth' parameter of SpecFormer must be an int"),
        ({"weights": 3}, "The 'weights' parameter of SpecFormer"),
        ({"max_tokens": 9}, "max_tokens=9 positions; a spectrum of 110 pixels makes 10 tokens"),
    ],
)
def test_settings_that_make_no_network_are_refused(params, sentence):
    with pytest.raises(ValueError, match=sentence):
        clone(TINY).set_params(**params).build(110)


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(FileNotFoundError, match=re.escape("no file of weights nowhere.ckpt")):
        clone(TINY).set_params(weights="nowhere.ckpt").build(100)


# ---------------------------------------------------------------- missing pixels


def test_gaps_are_bridged_by_straight_lines():
    rng = np.random.default_rng(0)
    flux, seen = rng.normal(size=(50, 30)), rng.random((50, 30)) > 0.7
    seen[:, 3] = True
    places = np.arange(30)
    lines = [np.interp(places, places[row], pixels[row]) for pixels, row in zip(flux, seen, strict=True)]
    filled = bridge(torch.from_numpy(np.where(seen, flux, 0)), torch.from_numpy(seen))
    np.testing.assert_allclose(filled, lines, atol=1e-12)
    assert torch.equal(filled[torch.from_numpy(seen)], torch.from_numpy(flux[seen]))
    assert bridge(torch.zeros(1, 30), torch.zeros(1, 30, dtype=torch.bool)).isfinite().all()


@pytest.fixture
def spectra():
    return 5 + np.random.default_rng(0).normal(size=(24, 60)) + np.arange(24)[:, None] % 2 * np.hanning(60)


def test_a_missing_pixel_is_nan_or_without_inverse_variance(spectra):
    embedder = FixedSpectrumEmbedder(TINY, random_state=0).fit(spectra)
    gap, ivar = spectra.copy(), np.ones_like(spectra)
    gap[:, 20:24], ivar[:, 20:24] = np.nan, 0
    lines = spectra.copy()
    lines[:, 20:24] = np.linspace(spectra[:, 19], spectra[:, 24], 6, axis=1)[:, 1:-1]
    rows = embedder.transform(lines)
    np.testing.assert_allclose(embedder.transform(gap), rows, atol=1e-6)
    np.testing.assert_allclose(embedder.transform(spectra, ivar=ivar), rows, atol=1e-6)
    assert not np.allclose(embedder.transform(spectra), rows, atol=1e-4)


# ---------------------------------------------------------------- the embedder


@needs_fixtures
def test_an_embedder_gives_the_means_of_the_original_and_keeps_its_numbers(original, published, tmp_path):
    path = tmp_path / "specformer.ckpt"
    shutil.copy(published, path)
    encoder = clone(PUBLISHED).set_params(weights=str(path))
    embedder = FixedSpectrumEmbedder(encoder).fit(original["input"])
    rows = embedder.transform(original["input"])
    assert difference(rows, original["output_mean"]) < 1e-5
    assert embedder.provenance_["weights"]["layout"] == "specformer"
    assert str(tmp_path) not in str(embedder.provenance_)
    save(embedder, tmp_path / "embedder.skastro")
    path.unlink()
    for again in (pickle.loads(pickle.dumps(embedder)), load(tmp_path / "embedder.skastro")):
        np.testing.assert_array_equal(again.transform(original["input"]), rows)
    with pytest.raises(FileNotFoundError):
        clone(embedder).fit(original["input"])


def test_the_level_is_neither_learned_nor_bounded(spectra):
    embedder = FixedSpectrumEmbedder(TINY, random_state=0).fit(spectra)
    assert not hasattr(embedder, "level_")
    with torch.no_grad():
        rows = embedder.encoder_(torch.from_numpy(100 * spectra).float())
    np.testing.assert_allclose(embedder.transform(100 * spectra), rows, atol=1e-5)
    again = embedder.set_params(encoder=None).fit(spectra)
    assert again.level_.shape == (2, 2)
    assert not hasattr(again.set_params(encoder=TINY).fit(spectra), "level_")


def test_a_recipe_works_in_units_of_the_scale_and_hides_what_it_masks(spectra):
    embedder = FixedSpectrumEmbedder(TINY, random_state=0).fit(spectra)
    arrays = embedder.inputs(spectra)
    recipe = embedder.fit_recipe(Augment([("mask", ContiguousMask(n=2, length=7, fill=np.nan))]), arrays)
    batch = as_batch(arrays, slice(None), torch.device("cpu"))
    flux, seen = embedder.view()(**batch)
    less, fewer = embedder.view(recipe, torch.Generator().manual_seed(0))(**batch)
    assert seen.all()
    assert ((~fewer).sum(dim=1) == 14).all()
    torch.testing.assert_close(less[fewer], flux[fewer])
    assert (less[~fewer] == 0).all()
    np.testing.assert_allclose(batch["scale"][:, 0], spectra.std(axis=1), rtol=1e-5)


def test_flux_of_another_unit_is_told(spectra):
    with pytest.warns(UserWarning, match=r"all 24 spectra is below .*e-17.*it takes flux in 1e-17 erg/s/cm²/Å"):
        FixedSpectrumEmbedder(TINY).fit(1e-17 * spectra)
    with pytest.raises(ValueError, match=r"Flux of .e\+20 in row 0 is too large"):
        FixedSpectrumEmbedder(TINY).fit(1e20 * spectra)


@pytest.mark.parametrize("pixels", [1, 2, 9, 20, 21, 40])
def test_spectra_without_a_window_have_a_level(pixels):
    flux = 5 + np.random.default_rng(0).normal(size=(4, pixels))
    rows = FixedSpectrumEmbedder(TINY, random_state=0).fit_transform(flux)
    assert np.isfinite(rows).all()
    assert TINY.n_tokens(pixels) == max(0, -(-(pixels - 10) // 10) - 1)


def test_rows_do_not_depend_on_their_neighbors(spectra):
    embedder = FixedSpectrumEmbedder(TINY, random_state=0).fit(spectra)
    some = [3, 1]
    np.testing.assert_allclose(embedder.transform(spectra[some]), embedder.transform(spectra)[some], atol=1e-6)


# ---------------------------------------------------------------- training on


def test_its_blocks_are_the_stem_and_the_blocks_and_it_can_be_cut_between():
    network = TINY.build(60).eval()
    names = blocks(network)
    assert list(names) == ["data_embed", "blocks.0", "blocks.1"]
    assert {"final_layernorm.weight", "blocks.1.mlp.decoder.bias"} <= {*names["blocks.1"]}
    view = torch.randn(3, 60), torch.rand(3, 60) > 0.2
    trunk, tail = split(network, "blocks.1", *view)
    torch.testing.assert_close(tail(trunk(*view)), network(*view))


@needs_fixtures
@pytest.mark.parametrize("n_layers", [0, 1, "all"])
def test_fine_tuning_starts_from_the_weights_given(n_layers, original, published):
    flux = np.tile(original["flux90"], (4, 1)) + np.random.default_rng(0).normal(size=(12, 90))
    encoder = clone(PUBLISHED).set_params(weights=published)
    still = FixedSpectrumEmbedder(encoder).fit(flux)
    model = FineTuneRegressor(encoder, n_layers=n_layers, max_epochs=1, lr=1e-3, batch_size=4, random_state=0)
    model.fit(flux, np.arange(12.0))
    ours, given = (network.state_dict() for network in (model.encoder_, still.encoder_))
    moved = {name for name in given if not torch.equal(ours[name], given[name])}
    assert ("blocks.1.mlp.encoder.weight" in moved) == (n_layers != 0)
    assert ("data_embed.weight" in moved) == (n_layers == "all")
    assert all((ours[name] - given[name]).abs().max() < 0.1 for name in given)
    assert np.isfinite(model.predict(flux)).all()


def test_what_fills_in_hidden_pixels_has_an_encoder_of_its_own():
    with pytest.raises(ValueError, match="The 'encoder' parameter of MaskedSpectrumEmbedder"):
        MaskedSpectrumEmbedder(TINY).fit(np.random.default_rng(0).normal(size=(8, 60)))
