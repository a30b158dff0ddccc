"""Given weights of small networks: every way in, other bands and sizes, what is refused, and nothing read twice."""

import argparse
import json
import pickle
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

import skastro
from skastro import FineTuneClassifier, FixedImageEmbedder, ImageEncoder, SimCLREmbedder
from skastro.downstream import DirichletHead
from skastro.stretches import Lupton, PercentileStretch, Standardize
from skastro.weights import Weights, adapt_bands, find_layout, read_weights


def network(name="test_resnet", seed=0, **kwargs):
    torch.manual_seed(seed)
    made = timm.create_model(name, num_classes=10, **kwargs)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    return made.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    state = network().state_dict()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": "test_resnet", "license": "bsd"}))
    torch.save(state, folder / "flat.pth")
    torch.save({"epoch": 3, "optimizer": {"state": {0: torch.ones(3)}}, "state_dict": state}, folder / "levels.pt")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, folder / "parallel.ckpt")
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save(half, folder / "half.pth")
    save_file(network("test_vit").state_dict(), folder / "vit.safetensors")
    return folder


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)


def embed(images, **kwargs):
    return FixedImageEmbedder(ImageEncoder("test_resnet", pool="avg", **kwargs), normalize=None).fit_transform(images)


@pytest.mark.parametrize("name", ["", "model.safetensors", "flat.pth", "levels.pt", "parallel.ckpt"])
def test_every_way_in_gives_the_network_that_was_saved(folder, images, name):
    made = network()
    made.reset_classifier(0)
    with torch.no_grad():
        wanted = made(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(embed(images, weights=str(folder / name)), wanted, rtol=1e-4, atol=1e-6)


def test_numbers_of_half_precision_are_read_too(folder, images):
    found = embed(images, weights=folder / "half.pth")
    np.testing.assert_allclose(found, embed(images, weights=folder / "flat.pth"), rtol=0.02, atol=0.02)


def test_provenance_tells_where_the_weights_came_from(folder, images):
    encoder = ImageEncoder("test_resnet", weights=str(folder))
    told = FixedImageEmbedder(encoder).fit(images).provenance_["weights"]
    assert told == {"source": folder.name, "layout": "timm", "left": 2, "license": "bsd"}  # two of the classifier
    assert "weights" not in FixedImageEmbedder("test_resnet").fit(images).provenance_


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
@pytest.mark.parametrize("how", ["repeat", "mean"])
def test_a_gray_image_gives_in_any_bands_what_it_gave_in_three(folder, images, bands, how):
    gray = images[:, :1]
    wanted = embed(np.repeat(gray, 3, axis=1), weights=str(folder))
    found = embed(np.repeat(gray, bands, axis=1), weights=str(folder), bands=how)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_channels_read_the_bands_that_are_named(folder, images):
    five = np.random.default_rng(1).normal(size=(8, 5, 32, 32)).astype(np.float32)
    five[:, [4, 2, 0]] = images
    found = embed(five, weights=str(folder), bands=(4, 2, 0))
    np.testing.assert_allclose(found, embed(images, weights=str(folder)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bands", [(0, 1), (0, 1, 5), (0, 1, -1)])
def test_a_band_is_named_for_each_channel(folder, images, bands):
    with pytest.raises(ValueError, match="must name one of the 3 bands of the images for each of the 3 channels"):
        embed(images, weights=str(folder), bands=bands)


def test_repeated_bands_share_a_channel_evenly():
    kernel = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    assert adapt_bands(kernel, 3, "repeat", "").flatten().tolist() == [0.5, 2.0, 0.5]
    assert adapt_bands(kernel, 1, "repeat", "").flatten().tolist() == [3.0]


@pytest.mark.parametrize(("size", "patch"), [(40, None), (64, None), (32, 8)])
def test_a_vit_of_another_size_interpolates_its_positions(folder, size, patch):
    images = np.random.default_rng(0).normal(size=(4, 3, size, size)).astype(np.float32)
    encoder = ImageEncoder("test_vit", pool="avg", patch=patch, weights=str(folder / "vit.safetensors"))
    rows = FixedImageEmbedder(encoder, normalize=None).fit_transform(images)
    assert np.isfinite(rows).all()
    assert rows.std() > 0.1


def test_an_encoder_resizes_the_window(images):
    large = torch.nn.functional.interpolate(torch.from_numpy(images), (64, 64), mode="bilinear", antialias=True)
    wanted = FixedImageEmbedder("test_resnet", normalize=None, random_state=0).fit_transform(large.numpy())
    for encoder, survey in (
        (ImageEncoder("test_resnet", resize=64), None),
        (ImageEncoder("test_resnet", pixel_scale=0.131), skastro.Survey("grz", pixel_scale=0.262)),
    ):
        embedder = FixedImageEmbedder(encoder, survey=survey, normalize=None, random_state=0)
        np.testing.assert_allclose(embedder.fit_transform(images), wanted, rtol=1e-4, atol=1e-5)


def test_a_smaller_view_is_resized_by_the_same_factor():
    encoder = ImageEncoder("test_vit", resize=64, patch=16).build(3, (32, 32))
    assert skastro.encoders.patch_grid(encoder, (16, 16)) == (2, 2)
    assert encoder.tokens(torch.zeros(1, 3, 16, 16))[0].shape[1] == 4 + encoder.network.num_prefix_tokens


def attack(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(1)}, "args": argparse.Namespace(lr=1)}, tmp_path / "attack.ckpt")
    return tmp_path / "attack.ckpt"


def short(tmp_path, folder, name):
    content = (folder / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    return tmp_path / name


def test_objects_are_refused_with_the_way_to_convert_them(tmp_path, images):
    with pytest.raises(
        ValueError, match=r"\(argparse.Namespace\), which only code can build; none was run.*torch.save"
    ):
        embed(images, weights=str(attack(tmp_path)))


@pytest.mark.parametrize("name", ["model.safetensors", "flat.pth"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, folder, images, name):
    with pytest.raises(ValueError, match="is cut short"):
        embed(images, weights=str(short(tmp_path, folder, name)))


def test_weights_of_another_network_are_refused_by_name(folder, images):
    with pytest.raises(ValueError, match=r"are not those of this ResNet: \d+ missing \((\S+, ){5}…\); \d+ unknown"):
        embed(images, weights=str(folder / "vit.safetensors"))
    with pytest.raises(ValueError, match="is for 'test_resnet', this encoder is 'test_vit'"):
        FixedImageEmbedder(ImageEncoder("test_vit", weights=str(folder))).fit(images)
    with pytest.raises(ValueError, match=r"1 missing \(conv1.weight\); 13 unknown"):
        embed(images, weights=str(folder), stem="3x3")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"weights": "nowhere.pt"}, FileNotFoundError, "There is no file of weights nowhere.pt"),
        ({"weights": "{folder}", "layout": "stein"}, ValueError, "is not laid out as 'stein'"),
        ({"weights": "{folder}", "layout": "steim"}, ValueError, "Unknown layout 'steim'; known are"),
        ({"layout": "stein"}, ValueError, "give weights= too"),
        ({"weights": "{folder}", "bands": "all"}, ValueError, "The 'bands' parameter of ImageEncoder must be"),
        ({"resize": 0}, ValueError, "The 'resize' parameter of ImageEncoder must be"),
        ({"resize": 64, "pixel_scale": 0.2}, ValueError, "not both"),
        ({"pixel_scale": 0.2}, ValueError, "survey= that has a pixel scale"),
    ],
)
def test_bad_settings_get_one_sentence(folder, images, settings, error, message):
    settings = {name: str(folder) if value == "{folder}" else value for name, value in settings.items()}
    with pytest.raises(error, match=message):
        embed(images, **settings)


def test_other_bands_ask_for_a_choice(folder, images):
    with pytest.raises(ValueError, match=r'are for 3 bands, the images have 1: choose .*bands="repeat"'):
        embed(images[:, :1], weights=str(folder))


def test_an_empty_folder_and_a_file_without_tensors_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has neither model\.safetensors nor"):
        read_weights(tmp_path)
    torch.save({"epoch": 1}, tmp_path / "empty.pt")
    with pytest.raises(ValueError, match="holds no tensors"):
        read_weights(tmp_path / "empty.pt")
    with pytest.raises(FileNotFoundError, match="timm has no weights for 'test_nothing'"):
        read_weights("timm", "test_nothing")


def test_a_layout_that_nobody_knows_is_refused_with_the_names():
    with pytest.raises(ValueError, match=r"not laid out as any of rgz-byol, .*; its tensors begin with deep/er/name"):
        find_layout(Weights("x.pt", {"deep/er/name": torch.zeros(1)}))


def test_moco_on_images_of_three_bands_is_not_taken_for_hayat():
    weights = Weights("moco.pt", {"state_dict/module.encoder_q.conv1.weight": torch.zeros(64, 3, 7, 7)})
    with pytest.raises(ValueError, match="not laid out as 'hayat'"):
        find_layout(weights, "hayat")


@pytest.mark.parametrize("method", [SimCLREmbedder, FixedImageEmbedder])
def test_a_fitted_model_never_reads_its_weights_again(folder, images, tmp_path, method):
    copied = tmp_path / "model.safetensors"
    copied.write_bytes((folder / "model.safetensors").read_bytes())
    encoder = ImageEncoder("test_resnet", weights=str(copied))
    training = {"max_epochs": 1, "batch_size": 4} if method is SimCLREmbedder else {}
    embedder = method(encoder, random_state=0, **training).fit(images)
    wanted = embedder.transform(images)
    skastro.save(embedder, tmp_path / "model.skastro")
    pickled = pickle.dumps(embedder)
    copied.unlink()
    np.testing.assert_array_equal(pickle.loads(pickled).transform(images), wanted)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "wanted.npy", wanted)
    code = """
        import socket, sys
        import numpy as np
        def refuse(*args, **kwargs):
            raise OSError("no network here")
        socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
        import skastro
        folder = sys.argv[1]
        rows = skastro.load(folder + "/model.skastro").transform(np.load(folder + "/images.npy"))
        np.testing.assert_array_equal(rows, np.load(folder + "/wanted.npy"))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True)


def test_a_search_chooses_among_weights(folder, images):
    pipe = Pipeline([("emb", FixedImageEmbedder("test_resnet", random_state=0)), ("clf", LogisticRegression())])
    choices = {"emb__encoder__weights": [None, str(folder), str(folder / "flat.pth")]}
    search = GridSearchCV(pipe, choices, cv=2).fit(images, np.arange(8) % 2)
    assert len(search.cv_results_["params"]) == 3


def test_training_goes_on_from_given_weights(folder, images):
    encoder = ImageEncoder("test_resnet", weights=str(folder))
    still = FixedImageEmbedder(encoder).fit(images).encoder_.state_dict()
    for trained in (
        SimCLREmbedder(encoder, max_epochs=1, batch_size=4, lr=1e-9, random_state=0).fit(images),
        FineTuneClassifier(encoder, max_epochs=1, lr=1e-9, random_state=0).fit(images, np.arange(8) % 2),
    ):
        for name, value in trained.encoder_.state_dict().items():
            if "running" not in name and "num_batches" not in name:
                torch.testing.assert_close(value, still[name], rtol=1e-4, atol=1e-5)


def test_fine_tuning_takes_an_embedder_with_given_weights(folder, images):
    frozen = FrozenEstimator(FixedImageEmbedder(ImageEncoder("test_resnet", weights=str(folder))).fit(images))
    model = FineTuneClassifier(frozen, max_epochs=1, random_state=0).fit(images, np.arange(8) % 2)
    assert model.embedder_.provenance_["weights"]["layout"] == "timm"


@pytest.mark.parametrize("stretch", [Standardize(2.0, (1.0, 2.0, 4.0)), Lupton(), PercentileStretch()])
def test_a_fixed_stretch_learns_nothing_and_is_kept(images, tmp_path, stretch):
    embedder = FixedImageEmbedder("test_resnet", normalize=stretch, random_state=0).fit(images)
    again = FixedImageEmbedder("test_resnet", normalize=stretch, random_state=0).fit(images[:3])
    np.testing.assert_allclose(again.transform(images), embedder.transform(images), rtol=1e-4, atol=1e-5)
    wanted = embedder.transform(images)
    skastro.save(embedder, tmp_path / "model.skastro")
    np.testing.assert_array_equal(skastro.load(tmp_path / "model.skastro").transform(images), wanted)


def test_a_fixed_stretch_is_of_pixels_in_their_own_unit(images):
    tiny = images.astype(np.float64) * 1e-30
    wanted = FixedImageEmbedder("test_resnet", normalize=Standardize(0, 1), random_state=0).fit_transform(images)
    found = FixedImageEmbedder("test_resnet", normalize=Standardize(0, 1e-30), random_state=0).fit_transform(tiny)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("stretch", "message"),
    [
        (Standardize(0, (1.0, 2.0)), "std for 2 bands, the images have 3"),
        (Lupton((1.0, 2.0)), "scales for 2 bands"),
        (Lupton(formula="steim"), "formula"),
        (PercentileStretch(99, 1), "low < high"),
        (Standardize(std=0), "std"),
    ],
)
def test_a_stretch_that_does_not_suit_is_refused(images, stretch, message):
    with pytest.raises(ValueError, match=message):
        FixedImageEmbedder("test_resnet", normalize=stretch).fit(images)


def test_percentiles_are_those_of_numpy():
    images = np.random.default_rng(0).gamma(1, size=(3, 2, 9, 9))
    low, high = np.percentile(images.reshape(3, -1), [1, 99.5], axis=1)[..., None, None, None]
    wanted = np.arcsinh(np.clip((images - low) / (high - low), 0, 1) / 0.1) / np.arcsinh(10)
    found = PercentileStretch().module(bands=2)(torch.from_numpy(images))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)


def test_batch_norms_are_measured_on_request(folder, images):
    shifted = 5 + 3 * images
    shifted[4:] += 7
    encoder = ImageEncoder("test_resnet", weights=str(folder))
    given, measured = (
        FixedImageEmbedder(encoder, normalize=None, batch_norm=how, batch_size=4).fit(shifted)
        for how in ("given", "measured")
    )
    convolved = []
    first, norm = measured.encoder_.network.conv1[:2]
    first.register_forward_hook(lambda module, inputs, outputs: convolved.append(outputs.float()))
    measured.transform(shifted)
    means, variances = (
        [part(dim=(0, 2, 3)) for part in parts]
        for parts in zip(*((one.mean, one.var) for one in convolved), strict=True)
    )
    torch.testing.assert_close(torch.stack(means).mean(0), norm.running_mean, rtol=0.01, atol=0.02)
    torch.testing.assert_close(torch.stack(variances).mean(0), norm.running_var, rtol=0.05, atol=0.02)
    assert not np.allclose(given.transform(shifted), measured.transform(shifted), rtol=0.1)
    assert all(
        module.momentum == 0.1 for module in measured.encoder_.modules() if isinstance(module, torch.nn.BatchNorm2d)
    )


def test_a_network_without_batch_norms_has_none_to_measure(images):
    with pytest.raises(ValueError, match="has no batch norm to measure"):
        FixedImageEmbedder("test_vit", batch_norm="measured").fit(images)


@pytest.mark.parametrize("weights", ["timm", "hf-hub:owner/galaxies", "hf-hub:owner/galaxies/model.ckpt@v1"])
def test_the_hub_offline_is_one_sentence_at_once(images, monkeypatch, tmp_path, weights):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=r"connect once, or give a local file\.$") as told:
        FixedImageEmbedder(ImageEncoder("resnet10t", weights=weights)).fit(images)
    assert time.monotonic() - start < 5
    assert "\n" not in str(told.value)


def test_a_path_object_is_kept_by_pickle_and_refused_by_save_with_the_cure(folder, images, tmp_path):
    embedder = FixedImageEmbedder(ImageEncoder("test_resnet", weights=folder)).fit(images)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embedder)).transform(images), embedder.transform(images))
    with pytest.raises(TypeError, match=r"save cannot keep encoder__weights, a .*: give a path as a str"):
        skastro.save(embedder, tmp_path / "model.skastro")


@pytest.mark.parametrize("formula", ["viewer", "stein"])
def test_colors_are_those_of_the_papers(formula):
    flux = np.random.default_rng(0).normal(0.02, 0.03, size=(2, 3, 4, 4))
    flux[0, :, 0, 0] = -1.0  # no light in any band
    shown = Lupton(formula=formula).module(bands=3)(torch.from_numpy(flux)).numpy()
    for image, colors in zip(flux, shown, strict=True):
        for row in range(4):
            for column in range(4):
                scaled = [s * x + 0.03 for s, x in zip((6.0, 3.4, 2.2), image[:, row, column], strict=True)]
                light = sum(max(0.0, value) for value in scaled) / 3 or 1e-6
                stretched = np.arcsinh(20 * light) / 20**0.5
                for band, (s, x) in enumerate(zip((6.0, 3.4, 2.2), image[:, row, column], strict=True)):
                    viewer = (s * x + 0.03) * stretched / light
                    wanted = viewer if formula == "viewer" else x * (s + 0.03 * stretched / light)
                    assert colors[2 - band, row, column] == pytest.approx(min(1.0, max(0.0, wanted)))


def test_a_head_is_started_from_given_weights_for_the_same_answers(folder, images, tmp_path):
    width = FixedImageEmbedder("test_resnet").fit(images).transform(images).shape[1]
    head = {"head.1.0.weight": torch.zeros(2, width), "head.1.0.bias": torch.tensor([0.0, 2.0])}
    told = {"question_answer_pairs": {"ring": ["_yes", "_no"]}}
    torch.save({"state_dict": head, "hyper_parameters": told}, tmp_path / "head.ckpt")
    given = DirichletHead("gz_rings", weights=str(tmp_path / "head.ckpt"))
    votes = np.full((8, 2), 3)
    model = FineTuneClassifier("test_resnet", head=given, head_norm=None, max_epochs=0).fit(images, votes)
    wanted = 1 + 100 / (1 + np.exp(-np.array([0.0, 2.0])))
    np.testing.assert_allclose(model.predict_concentrations(images), np.tile(wanted, (8, 1)), rtol=1e-6)
    told["question_answer_pairs"]["ring"].reverse()
    torch.save({"state_dict": head, "hyper_parameters": told}, tmp_path / "head.ckpt")
    with pytest.raises(ValueError, match=r"gives 2 answers \(ring_no, ring_yes, …\), the votes are for 2 \(ring_yes"):
        model.fit(images, votes)
