"""An encoder in blocks: every parameter in one of them, input first; cut at any of them, both parts are the whole."""

import numpy as np
import pytest
import torch
from torch import nn

from skastro.encoders import ImageEncoder, SpectrumEncoder, Tail, Trunk, blocks, split

# Side of the images, and stem and blocks of the published networks.
PUBLISHED = {
    "resnet18": (32, 1 + 8),
    "efficientnet_b0": (32, 1 + 16),
    "convnext_atto": (32, 1 + 12),
    "vit_tiny_patch16_224": (32, 1 + 12),
    "densenet121": (32, 1 + 58),
}
SMALL = ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_mambaout"]
NEVER_RUN = ("network.head", "avgmax")  # the hidden layer of MambaOut's head lies behind its own pooling
each_network = pytest.mark.parametrize("name", [*PUBLISHED, *SMALL])


def built(name, pool="avg"):
    torch.manual_seed(0)
    return ImageEncoder(name, pool=pool).build(3, (32, 32)).eval()


def images(n=3):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def straight():
    """A user's network of three blocks, none of which timm knows."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    ).eval()


class Around(nn.Module):
    """A network with a path around its second block."""

    def __init__(self, join):
        super().__init__()
        self.join = join
        self.one, self.two, self.three = nn.Linear(3, 6), nn.Linear(6, 6), nn.LazyLinear(6)
        self.forward(torch.zeros(1, 3, 32, 32))

    def forward(self, images):
        first = self.one(images.mean(dim=(2, 3)))
        return self.three(self.join(first, self.two(first).relu()))


class Headed(nn.Module):
    """A user's network that holds another under the name that timm encoders use here."""

    def __init__(self):
        super().__init__()
        self.network = straight()
        self.projection = nn.Linear(5, 4)

    def forward(self, images):
        return self.projection(self.network(images))


class Scaled(nn.Module):
    """A user's network with parameters of its own beside its modules."""

    def __init__(self):
        super().__init__()
        self.gain, self.offset = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))
        self.network = straight()

    def forward(self, images):
        return self.network(self.gain * images + self.offset)


# ---------------------------------------------------------------- blocks


@each_network
def test_every_parameter_is_in_exactly_one_block(name):
    encoder = built(name)
    sorted_in = [parameter for block in blocks(encoder).values() for parameter in block]
    assert sorted(sorted_in) == sorted(parameter for parameter, _ in encoder.named_parameters())


@pytest.mark.parametrize("make", [straight, Headed, Scaled, lambda: Around(torch.add)])
def test_every_parameter_of_a_users_module_is_in_exactly_one_block(make):
    encoder = make()
    sorted_in = [parameter for block in blocks(encoder).values() for parameter in block]
    assert sorted(sorted_in) == sorted(parameter for parameter, _ in encoder.named_parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_a_stem_and_their_blocks(name):
    assert len(blocks(built(name))) == PUBLISHED[name][1]


@each_network
def test_blocks_run_in_order_and_each_has_parameters(name):
    encoder = built(name)
    place = {parameter: i for i, names in enumerate(blocks(encoder).values()) for parameter in names}
    order = []
    for path, module in encoder.named_modules():
        own = [f"{path}.{parameter}" for parameter, _ in module.named_parameters(recurse=False)]
        if own:
            module.register_forward_pre_hook(lambda module, inputs, i=place[own[0]]: order.append(i))
    with torch.no_grad():
        encoder(images(2))
    assert order == sorted(order)
    assert set(order) == set(range(len(blocks(encoder))))


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("vit_tiny_patch16_224", "network.norm.weight"),
        ("convnext_atto", "network.head.norm.weight"),
        ("densenet121", "network.features.norm5.weight"),
    ],
)
def test_a_last_norm_belongs_to_the_block_before_it(name, norm):
    last = list(blocks(built(name)).values())[-1]
    assert norm in last
    assert any(parameter.endswith("weight") and parameter != norm for parameter in last)


def test_resnet18_by_name():
    names = list(blocks(built("resnet18")))
    assert names == ["network.conv1", *(f"network.layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1))]
    assert blocks(built("resnet18"))["network.conv1"] == [
        "network.conv1.weight",
        "network.bn1.weight",
        "network.bn1.bias",
    ]


def test_a_bare_timm_network_has_the_same_blocks():
    encoder = built("test_resnet")
    bare = {f"network.{name}": [f"network.{p}" for p in names] for name, names in blocks(encoder.network).items()}
    assert bare == blocks(encoder)


def test_blocks_of_the_transformer_of_spectra_are_its_stem_and_its_blocks():
    encoder = SpectrumEncoder(depth=3, width=16).build(60)
    sorted_in = blocks(encoder)
    assert list(sorted_in) == ["embed", "blocks.0", "blocks.1", "blocks.2"]
    assert {"embed.weight", "level.bias", "positions"} < set(sorted_in["embed"])
    assert {"norm.weight", "norm.bias"} < set(sorted_in["blocks.2"])
    everything = [name for names in sorted_in.values() for name in names]
    assert sorted(everything) == sorted(name for name, _ in encoder.named_parameters())


def test_a_mask_that_goes_around_the_cut_is_no_cut():
    torch.manual_seed(0)
    encoder = SpectrumEncoder(depth=2, width=16).build(60).eval()
    seen = torch.ones(2, 60, dtype=torch.bool)
    few = torch.randn(2, 60), seen, torch.randn(2, 2)
    alike = split(encoder, "blocks.1", *few)  # where no token is missing there is one
    torch.testing.assert_close(alike[1](alike[0](*few)), encoder(*few))
    seen[0, :30] = False
    assert split(encoder, "blocks.1", *few) is None


def test_blocks_of_any_other_module_are_its_children():
    assert blocks(straight()) == {
        "0": ["0.weight", "0.bias"],
        "2": ["2.weight", "2.bias"],
        "5": ["5.weight", "5.bias"],
    }


# ---------------------------------------------------------------- two parts


@pytest.mark.parametrize("pool", ["avg", "avgmax"])
@pytest.mark.parametrize("name", SMALL)
def test_cut_at_any_block_both_parts_are_the_whole(name, pool):
    encoder, seen = built(name, pool), images()
    with torch.no_grad():
        whole = encoder(seen)
        assert whole.std(dim=0).max() > 1e-3
        for block in [block for block in list(blocks(encoder))[1:] if (block, pool) != NEVER_RUN]:
            trunk, tail = split(encoder, block, seen[:2])
            torch.testing.assert_close(tail(trunk(seen)), whole, rtol=1e-5, atol=1e-6)


def test_cut_a_users_module():
    encoder, seen = straight(), images()
    for block in ("2", "5"):
        trunk, tail = split(encoder, block, seen)
        torch.testing.assert_close(tail(trunk(seen)), encoder(seen))


@pytest.mark.parametrize("name", SMALL)
def test_a_trunk_runs_nothing_behind_the_cut(name):
    encoder = built(name)
    names = list(blocks(encoder).items())
    for i, (block, _) in enumerate(names[1:], start=1):
        behind = {parameter.rpartition(".")[0] for _, rest in names[i:] for parameter in rest}
        hooks = [encoder.get_submodule(path).register_forward_hook(lambda *_: pytest.fail("it ran")) for path in behind]
        with torch.no_grad():
            assert Trunk(encoder, block)(images()).shape[0] == 3
        for hook in hooks:
            hook.remove()


def test_both_parts_leave_no_hook_behind():
    encoder, seen = built("test_resnet"), images()
    whole = encoder(seen)
    trunk, tail = split(encoder, "network.layer3.0", seen)
    tail(trunk(seen))
    assert not any(module._forward_pre_hooks for module in encoder.modules())
    assert torch.equal(encoder(seen), whole)


def test_gradients_reach_the_tail_and_only_it():
    encoder, seen = built("test_resnet"), images()
    *_, third, fourth = blocks(encoder).items()
    trunk, tail = split(encoder, third[0], seen)
    tail(trunk(seen).detach()).square().sum().backward()
    touched = {name for name, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert touched <= {*third[1], *fourth[1]}
    assert {name.split(".")[1] for name in touched} == {"layer3", "layer4"}


def test_the_parts_hold_the_encoders_own_parameters_and_keep_no_image():
    encoder = built("test_resnet")
    trunk, tail = split(encoder, "network.layer4.0", images())
    own = {id(parameter) for parameter in encoder.parameters()}
    assert {id(parameter) for part in (trunk, tail) for parameter in part.parameters()} == own
    assert not any("blank" in name for name in tail.state_dict())


@pytest.mark.parametrize("join", [torch.add, lambda first, second: torch.cat([first, second], dim=1)])
def test_a_path_around_the_cut_is_no_cut(join):
    encoder = Around(join).eval()
    assert split(encoder, "two", images()) is None
    assert split(encoder, "three", images()) is not None


class Long(nn.Module):
    """A network whose second part also sees the image itself."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.one, self.two = nn.Linear(3, 6), nn.Linear(6, 6)

    def forward(self, images):
        bands = images.mean(dim=(2, 3))
        return self.scale * (self.two(self.one(bands)) + bands.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_an_image_that_goes_around_the_cut_is_no_cut_at_any_scale(scale):
    torch.manual_seed(0)
    assert split(Long(scale).eval(), "two", images()) is None


def test_a_densely_connected_network_cannot_be_cut_inside_a_dense_block():
    encoder = built("densenet121")
    assert split(encoder, "network.features.denseblock4.denselayer16", images()) is None
    assert split(encoder, "network.features.denseblock2.denselayer3", images()) is None


def test_a_block_without_a_module_or_one_that_never_runs_is_no_cut():
    encoder = Scaled().eval()
    assert split(encoder, "offset", images()) is None
    encoder.idle = nn.Linear(2, 2)
    assert split(encoder, "idle", images()) is None
    with pytest.raises(RuntimeError, match="never ran its block 'idle'"):
        Trunk(encoder, "idle")(images())


def test_a_block_that_runs_twice_is_no_cut():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(3, 6), nn.Linear(6, 6)

        def forward(self, images):
            return self.two(self.two(self.one(images.mean(dim=(2, 3)))).relu())

    torch.manual_seed(0)
    assert split(Twice().eval(), "two", images()) is None


def test_a_tail_equals_the_slow_way():
    encoder, seen = straight(), images()
    tail = Tail(encoder, "5", seen[:1])
    features = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    slow = features @ encoder[5].weight.detach().numpy().T + encoder[5].bias.detach().numpy()
    np.testing.assert_allclose(tail(torch.from_numpy(features)).detach(), slow, atol=1e-6)
