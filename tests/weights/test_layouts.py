"""What each layout takes of a file, under which names: small files with the names of the published ones."""

import pytest
import torch

from skastro.weights import LAYOUTS, Weights, find_layout

KERNEL = torch.arange(2.0 * 5 * 9).view(2, 5, 3, 3)
ONE, OTHER = torch.ones(1), torch.zeros(1)
FILES = {
    "rgz-byol": {
        "state_dict/dummy_param": OTHER,
        "state_dict/encoder.layers.0.0.weight": ONE,
        "state_dict/encoder.layers.8.bn2.bias": ONE,
        "state_dict/encoder.finetuning_layers.0.0.0.weight": OTHER,
        "state_dict/encoder_momentum.layers.0.0.weight": OTHER,
        "state_dict/projection_head.0.weight": OTHER,
    },
    "hayat": {
        "state_dict/module.queue": OTHER,
        "state_dict/module.encoder_q.conv1.weight": KERNEL,
        "state_dict/module.encoder_q.fc.0.weight": OTHER,
        "state_dict/module.encoder_k.conv1.weight": OTHER,
    },
    "stein": {
        "state_dict/queue": OTHER,
        "state_dict/encoder_q.conv1.weight": KERNEL,
        "state_dict/encoder_q.fc.2.bias": OTHER,
        "state_dict/encoder_k.conv1.weight": OTHER,
    },
    "astrodino": {
        "teacher/backbone.blocks.1.6.norm1.bias": ONE,
        "teacher/backbone.mask_token": OTHER,
        "teacher/dino_head.mlp.0.weight": OTHER,
    },
    "astroclip": {
        "state_dict/image_encoder.backbone.blocks.1.6.norm1.bias": ONE,
        "state_dict/image_encoder.mlp.encoder.bias": OTHER,
        "state_dict/spectrum_encoder.backbone.blocks.0.layernorm1.bias": OTHER,
    },
    "zoobot": {"state_dict/encoder._orig_mod.conv_stem.weight": KERNEL, "state_dict/head.1.0.bias": OTHER},
    "timm": {"stem.conv.weight": ONE},
    "zoobot-encoder": {"stem.conv.weight": ONE},
}
TAKEN = {
    "rgz-byol": {"conv1.weight", "layer4.1.bn2.bias"},
    "hayat": {"conv1.weight"},
    "stein": {"conv1.weight"},
    "astrodino": {"blocks.6.norm1.bias"},
    "astroclip": {"blocks.6.norm1.bias"},
    "zoobot": {"conv_stem.weight"},
    "timm": {"stem.conv.weight"},
    "zoobot-encoder": {"stem.conv.weight"},
}


def test_every_layout_is_here():
    assert list(FILES) == list(TAKEN) == list(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_takes_the_encoder_and_nothing_else(name):
    taken = LAYOUTS[name].select(FILES[name])
    assert set(taken) == TAKEN[name]
    assert all(tensor.any() for tensor in taken.values())


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "zoobot-encoder"])
def test_a_layout_is_found_by_the_names(name):
    assert find_layout(Weights("file.ckpt", FILES[name])).name == name


@pytest.mark.parametrize("name", LAYOUTS)
def test_kernels_are_transposed_where_images_were(name):
    for tensor in LAYOUTS[name].select(FILES[name]).values():
        if tensor.ndim == 4:
            assert torch.equal(tensor, KERNEL.mT if name in ("hayat", "stein") else KERNEL)
