"""Any timm network, any number of bands, any size: one row of features per image."""

import pickle
import socket

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from timm.layers import DropPath
from torch import nn

from skastro.encoders import ImageEncoder, get_encoder

# How the places of each network's feature map are read off: channels first, channels last, tokens after a class token.
PLACES = {
    "test_resnet": lambda f: f.reshape(*f.shape[:2], -1).swapaxes(1, 2),
    "test_convnext": lambda f: f.reshape(*f.shape[:2], -1).swapaxes(1, 2),
    "test_efficientnet": lambda f: f.reshape(*f.shape[:2], -1).swapaxes(1, 2),
    "test_mambaout": lambda f: f.reshape(len(f), -1, f.shape[-1]),
    "test_vit": lambda f: f[:, 1:],
    "test_vit_relpos": lambda f: f,
}
BANDS_AND_SIZES = [(1, (1, 3)), (3, (33, 40)), (5, (32, 32))]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("an encoder reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def built(name="test_resnet", bands=3, size=(32, 32), **params):
    torch.manual_seed(0)
    return ImageEncoder(name, **params).build(bands, size).eval()


def rows(encoder, n, bands, size):
    with torch.no_grad():
        return encoder(torch.randn(n, bands, *size, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("pool", ["avg", "avgmax", "stages"])
@pytest.mark.parametrize("name", PLACES)
def test_one_row_per_image_of_the_same_width_for_any_bands_and_size(name, pool):
    widths = set()
    for bands, size in BANDS_AND_SIZES:
        features = rows(built(name, bands, size, pool=pool), 3, bands, size)
        assert features.isfinite().all()
        assert features.std(dim=0).max() > 0
        widths.add(tuple(features.shape[1:]))
    assert len(widths) == 1
    assert len(widths.pop()) == 1


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_a_convolutional_network_takes_other_sizes_than_it_was_built_for(name):
    assert rows(built(name), 2, 3, (33, 48)).shape == rows(built(name), 2, 3, (32, 32)).shape


def test_rows_do_not_depend_on_their_neighbors():
    encoder, images = built("test_vit", pool="avgmax"), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images)[1:2], encoder(images[1:2]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PLACES)
def test_avgmax_is_mean_and_maximum_of_the_feature_map(name):
    encoder, images = built(name, size=(32, 64), pool="avgmax"), torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        places = PLACES[name](encoder.network.forward_features(images).numpy())
        came = encoder(images)
    slow = [[place.mean() for place in row.T] + [place.max() for place in row.T] for row in places]
    assert places.shape[1] > 1
    assert places.shape[2] == encoder.network.num_features
    np.testing.assert_allclose(came, slow, atol=1e-5)


@pytest.mark.parametrize("name", PLACES)
def test_stages_are_mean_and_maximum_of_the_last_four_feature_maps(name):
    encoder, images = built(name, size=(64, 96), pool="stages"), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = encoder.network.forward_intermediates(images, intermediates_only=True)[-4:]
        came = encoder(images)
    slow = [
        [value for band in row for value in (band.mean(axis=(1, 2)), band.max(axis=(1, 2)))]
        for row in zip(*(features.numpy() for features in maps), strict=True)
    ]
    assert len(maps) == 4
    np.testing.assert_allclose(came, [np.concatenate(row) for row in slow], atol=1e-5)


def test_small_images_are_padded_with_zeros_about_the_center():
    encoder, images = built(), torch.randn(2, 3, 9, 20)
    padded = torch.zeros(2, 3, 32, 32)
    padded[:, :, 11:20, 6:26] = images
    with torch.no_grad():
        assert torch.equal(encoder(images), encoder(padded))


def test_a_network_of_fixed_size_is_built_for_whole_patches():
    assert built("test_vit", size=(33, 40)).network.patch_embed.img_size == (48, 48)


# ---------------------------------------------------------------- stems and initialization


@pytest.mark.parametrize(
    ("stem", "kernel", "pool", "halved"), [("3x3", 3, False, 0), ("3x3-pool", 3, True, 1), ("7x7", 7, False, 0)]
)
def test_stems(stem, kernel, pool, halved):
    network = built(bands=5, stem=stem).network
    assert network.conv1.kernel_size == (kernel, kernel)
    assert network.conv1.stride == (1, 1)
    assert network.conv1.in_channels == 5
    assert isinstance(network.maxpool, nn.MaxPool2d) == pool
    seen = network.maxpool(network.bn1(network.conv1(torch.zeros(1, 5, 32, 32))))
    assert seen.shape[2:] == (32 >> halved, 32 >> halved)
    assert rows(built(bands=5, stem=stem), 2, 5, (32, 32)).shape == (2, 736)


def test_no_stem_is_the_networks_own():
    network = built(stem=None).network
    assert isinstance(network.maxpool, nn.MaxPool2d)
    resnet18 = ImageEncoder("resnet18").build(1, (32, 32)).network
    assert (resnet18.conv1.kernel_size, resnet18.conv1.stride) == ((7, 7), (2, 2))


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_a_stem_is_refused_on_other_networks(name):
    with pytest.raises(ValueError, match=f"stem= is for ResNets; '{name}'"):
        built(name, stem="3x3")


def test_kaiming_starts_all_norms_at_one_and_draws_by_he():
    def norms(encoder):
        return torch.cat([m.weight for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)])

    assert norms(built(init=None)).min() == 0  # timm's residual blocks start as the identity
    encoder = built(init="kaiming")
    assert (norms(encoder) == 1).all()
    for conv in (
        module for module in encoder.modules() if isinstance(module, nn.Conv2d) and module.weight.numel() > 500
    ):
        he = (2 / (conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1] / conv.groups)) ** 0.5
        assert abs(conv.weight.std() / he - 1) < 0.1


@pytest.mark.parametrize(("name", "same"), [("test_resnet", "kaiming"), ("test_convnext", None), ("test_vit", None)])
def test_auto_is_kaiming_for_resnets_only(name, same):
    ours, theirs = built(name), built(name, init=same)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_weights_come_from_the_global_generator():
    first, same = built(stem="3x3"), built(stem="3x3")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    other = ImageEncoder("test_resnet", stem="3x3").build(3, (32, 32))
    assert not torch.equal(first.network.conv1.weight, other.network.conv1.weight)


# ---------------------------------------------------------------- the specification


def test_a_specification_is_plain_values():
    spec = ImageEncoder("test_resnet", stem="3x3", pool="avgmax")
    for copy in (clone(spec), pickle.loads(pickle.dumps(spec)), ImageEncoder("test_resnet", stem="3x3", pool="avgmax")):
        assert joblib.hash(copy) == joblib.hash(spec)
    assert joblib.hash(clone(spec).set_params(pool="avg")) != joblib.hash(spec)


def test_get_encoder():
    assert get_encoder("resnet18").get_params() == ImageEncoder("resnet18").get_params()
    for given in (ImageEncoder("test_vit"), nn.Flatten()):
        assert get_encoder(given) is given


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "efficientnet_b0", "eva02_tiny_patch14_224"])
def test_blocks_are_skipped_in_training_alone(name):
    encoder = built(name, drop_path=0.5)
    rates = [module.drop_prob for module in encoder.modules() if isinstance(module, DropPath)]
    assert rates == sorted(rates)
    assert 0.4 < rates[-1] <= 0.5
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(encoder(images), encoder(images))
        encoder.train()
        assert not torch.equal(encoder(images), encoder(images))
    assert not any(isinstance(module, DropPath) for module in built(name).modules())


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"name": "resnet81"}, r"Unknown encoder 'resnet81': timm has no such model; close: .*resnet18"),
        ({"name": "qqqqqqqq"}, r"Unknown encoder 'qqqqqqqq': timm has no such model\.$"),
        ({"name": "hf-hub:someone/resnet"}, "Unknown encoder 'hf-hub:someone/resnet'"),
        ({"name": "hf_hub:timm/resnet18.a1_in1k"}, "Unknown encoder 'hf_hub:timm/"),
        ({"name": "local-dir:/tmp/model"}, "Unknown encoder 'local-dir:/tmp/model'"),
        ({"stem": "5x5"}, r"The 'stem' parameter of ImageEncoder must be"),
        ({"pool": "max"}, r"The 'pool' parameter of ImageEncoder must be"),
        ({"init": "xavier"}, r"The 'init' parameter of ImageEncoder must be"),
        ({"drop_path": 1.0}, r"The 'drop_path' parameter of ImageEncoder must be"),
        ({"drop_path": "0.1"}, r"The 'drop_path' parameter of ImageEncoder must be"),
        ({"name": "vgg11", "drop_path": 0.1}, r"drop_path= skips residual blocks; 'vgg11' has none to skip"),
    ],
)
def test_refusals(params, sentence):
    with pytest.raises(ValueError, match=sentence):
        built(**{"name": "test_resnet"} | params)
