"""Published networks, rebuilt from their checkpoints: each equals what its original code gave."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from checkpoints import checkpoint, difference, fixture, needs_fixtures, state_dict
from safetensors.torch import save_file

from skastro import FixedImageEmbedder, ImageEncoder, published
from skastro.images import center_crop
from skastro.preprocessing import Deredden
from skastro.pretrained import NETWORKS
from skastro.stretches import Lupton, Standardize
from skastro.surveys import SURVEYS, get_survey
from skastro.weights import LAYOUTS, Weights, find_layout, load_into

pytestmark = needs_fixtures

# Layout, encoder, and what of the checkpoint must be filled; the rest may stay zero, for a loader leaves it.
PUBLISHED = {
    "rgz_byol": ("rgz-byol", ImageEncoder("resnet18", stem="3x3-pool", pool="avg"), r"/encoder\.layers"),
    "hayat_moco": ("hayat", ImageEncoder("resnet50", stem="7x7", pool="avg"), r"encoder_q"),
    "hayat_photoz": ("hayat", ImageEncoder("resnet50", stem="7x7", pool="avg"), r""),
    "stein_moco": ("stein", ImageEncoder("resnet50", pool="avg"), r"encoder_q"),
    "zoobot_encoder": ("timm", ImageEncoder("convnext_nano", pool="avg"), r""),
    "zoobot_tree": ("zoobot", ImageEncoder("efficientnet_b0", pool="avg"), r""),
}


def written(name, folder, only=""):
    """Write a checkpoint as its project does."""
    npz = fixture(name)
    if name == "zoobot_encoder":
        save_file(state_dict(npz), folder / "model.safetensors")
        (folder / "config.json").write_text(str(npz["config"]))
        return folder
    torch.save({"epoch": 3, **checkpoint(npz, only=only)}, folder / "published.ckpt")
    return folder / "published.ckpt"


def seen_by(layout, images):
    """Undo the transposition that a layout makes up for: fixtures hold images as the original network takes them."""
    return np.ascontiguousarray(images.swapaxes(2, 3)) if LAYOUTS[layout].transposed else images


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_encoder_gives_what_the_original_gave(name, tmp_path):
    layout, encoder, only = PUBLISHED[name]
    npz, path = fixture(name), str(written(name, tmp_path, only))
    images = seen_by(layout, npz["input"])
    network = encoder.set_params(weights=path).build(images.shape[1], images.shape[2:]).double().eval()
    features = {"hayat_photoz": "pdf", "zoobot_tree": "features"}.get(name, "output64")
    with torch.no_grad():
        rows = network(torch.from_numpy(images).double())
        if name == "hayat_photoz":
            state = state_dict(npz, only="fc")
            logits = rows @ state["model_state/module.fc.weight"].double().T + state["model_state/module.fc.bias"]
            assert difference(logits, npz["output64"]) < 1e-9
            rows = logits.softmax(dim=1)
    assert difference(rows, npz[features]) < (1e-9 if npz[features].dtype == np.float64 else 1e-5)
    facts = encoder.load(network.float())
    assert facts["layout"] == layout


@pytest.mark.parametrize("name", ["rgz_byol", "stein_moco", "zoobot_encoder"])
def test_an_embedder_of_these_weights_gives_what_the_original_gave(name, tmp_path):
    layout, encoder, only = PUBLISHED[name]
    npz, path = fixture(name), str(written(name, tmp_path, only))
    embedder = FixedImageEmbedder(encoder.set_params(weights=path), normalize=None).fit(npz["input"])
    assert difference(embedder.transform(seen_by(layout, npz["input"])), npz["output"]) < 1e-5
    weights = embedder.provenance_["weights"]
    assert weights["layout"] == layout
    assert str(tmp_path) not in str(weights)


@pytest.mark.parametrize(("tag", "depth"), [("", 4), ("12", 12)])
def test_the_teacher_of_astrodino(tag, depth):
    npz = fixture("astrodino")
    tensors = state_dict(npz, tag, "backbone")
    chosen = find_layout(Weights("astrodino.ckpt", tensors)).select(tensors)
    encoder = ImageEncoder("vit_small_patch14_dinov2", pool="avg", patch=12).build(3, (144, 144))
    if depth == 4:
        size = {"patch_size": 12, "img_size": 144, "depth": 4, "num_classes": 0}
        encoder.network = timm.create_model("vit_small_patch14_dinov2", **size)
    load_into(encoder.network, chosen, "astrodino.ckpt")
    with torch.no_grad():
        rows = encoder.double().eval()(torch.from_numpy(npz["input"]).double())
    assert difference(rows, npz["output12_64" if tag else "output64"]) < 1e-9


def test_one_band_is_the_mean_of_three(tmp_path):
    npz = fixture("zoobot_encoder")
    gray = npz["input"].mean(axis=1, keepdims=True, dtype=np.float64)
    for how in ("mean", "repeat", (0, 0, 0)):
        encoder = PUBLISHED["zoobot_encoder"][1].set_params(weights=str(written("zoobot_encoder", tmp_path)), bands=how)
        with torch.no_grad():
            rows = encoder.build(1, (64, 64)).double().eval()(torch.from_numpy(gray))
        encoder.set_params(bands=None)
        assert difference(rows, npz["output_grey"]) < 1e-6


MOMENTUM = {
    "rgz_byol": ("state_dict/encoder_momentum.", "state_dict/encoder."),
    "hayat_moco": ("module.encoder_k.", "module.encoder_q."),
    "stein_moco": ("encoder_k.", "encoder_q."),
}


@pytest.mark.parametrize("name", MOMENTUM)
def test_the_momentum_network_is_another(name):
    layout, encoder, _ = PUBLISHED[name]
    slow, online = MOMENTUM[name]
    npz = fixture(name)
    tensors = {key.replace(slow, online): value for key, value in state_dict(npz, only=slow).items() if slow in key}
    images = seen_by(layout, npz["input"])
    network = encoder.set_params(weights=None).build(images.shape[1], images.shape[2:]).double().eval()
    load_into(network.network, LAYOUTS[layout].select(tensors), name)
    with torch.no_grad():
        rows = network.double()(torch.from_numpy(images).double())
    assert difference(rows, npz["output64"]) > 0.01


def test_names_that_repeat_others_are_no_part_of_an_encoder():
    tensors = state_dict(fixture("rgz_byol"), only="^$")
    network = PUBLISHED["rgz_byol"][1].set_params(weights=None).build(1, (70, 70)).network
    greedy = replace(LAYOUTS["rgz-byol"], left="(?!)")
    with pytest.raises(ValueError, match=r"unknown \(finetuning_layers"):
        load_into(network, greedy.select(tensors), "byol.ckpt")


def test_axes_that_lie_otherwise_give_other_features():
    npz = fixture("stein_moco")
    tensors = state_dict(npz, only="encoder_q")
    network = PUBLISHED["stein_moco"][1].set_params(weights=None).build(3, (96, 96))
    load_into(network.network, replace(LAYOUTS["stein"], transposed=False).select(tensors), "stein.ckpt")
    with torch.no_grad():
        rows = network.double().eval()(torch.from_numpy(seen_by("stein", npz["input"])).double())
    assert difference(rows, npz["output64"]) > 0.01


def test_colors_are_those_of_stein_and_of_the_viewer():
    crop = slice(3, 19)
    for name, stretch in {"stein_moco": Lupton(formula="stein"), "astrodino": Lupton()}.items():
        npz = fixture(name)
        shown = stretch.module(bands=3)(torch.from_numpy(npz["raw"]).double())[..., crop, crop].numpy()
        transposed = shown.swapaxes(2, 3) if name == "stein_moco" else shown
        assert difference(transposed, npz["raw_processed"]) < 1e-6


def test_radio_images_are_standardized_by_the_numbers_of_the_paper():
    npz = fixture("rgz_byol")
    shown = Standardize(255 * 0.008008896, 255 * 0.05303395).module(bands=1)(torch.from_numpy(npz["raw"][:, None]))
    assert difference(shown[..., 40:110, 40:110].numpy(), npz["input"]) < 1e-5


def test_the_embedder_by_name_is_the_whole_pipeline_of_the_paper(tmp_path):
    npz, path = fixture("rgz_byol"), str(written("rgz_byol", tmp_path, r"/encoder\.layers"))
    embedder = published("rgz-byol", encoder__weights=path).fit(npz["raw"])
    assert difference(embedder.transform(npz["raw"]), npz["output"]) < 1e-5
    assert embedder.provenance_["weights"]["citation"] == "Slijepcevic et al. (2023), arXiv:2305.16127"


def test_flux_is_dereddened_and_cut_as_for_hayat():
    npz = fixture("hayat_moco")
    coefficients = np.array(SURVEYS["sdss-sfd98"].extinction)
    ebv = (npz["raw_extinction"] / coefficients).mean(axis=1)
    flux = center_crop(Deredden("sdss").fit_transform(npz["raw"], ebv=ebv), (32, 32))
    assert difference(flux.swapaxes(2, 3), npz["raw_processed"]) < 1e-6


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_by_name_says_where_its_weights_are_missing(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    embedder = published(name)
    bands = len(get_survey(embedder.survey).bands) if embedder.survey else 3
    images = np.random.default_rng(0).integers(0, 255, (2, bands, 152, 152))
    with pytest.raises(FileNotFoundError, match=r"There is no file of weights .*: give its path"):
        embedder.set_params(encoder__name="test_vit", encoder__stem=None, encoder__weights="x.pt").fit(images)
