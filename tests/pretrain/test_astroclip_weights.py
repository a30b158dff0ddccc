"""AstroCLIP from its checkpoint: both pools, what the image pool looks at, and the estimator around the whole."""

import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkpoints import checkpoint, difference, fixture, needs_fixtures, state_dict
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler
from small_networks import ShallowAstroDINO, SmallAstroCLIP
from torch.nn.functional import normalize

from skastro import AstroCLIPEmbedder, FixedImageEmbedder, FixedSpectrumEmbedder, ImageEncoder, SpecFormer, save
from skastro.encoders import AstroCLIPImageEncoder, AttentionPool
from skastro.losses import clip_loss
from skastro.pretrain import PooledEmbedder
from skastro.pretrained import astroclip
from skastro.weights import LAYOUTS, POOLS, Weights, find_layout, load_into

IMAGES = SmallAstroCLIP("test_vit")
SPECTRA = SpecFormer(width=48, depth=2, heads=4)
FAST = {"embedding_dim": 64, "batch_size": 2, "random_state": 0}


@pytest.fixture(scope="module")
def original():
    """What the original gave, and its checkpoint."""
    npz = fixture("astroclip_clip")
    return SimpleNamespace(npz=npz, weights=Weights("astroclip.ckpt", state_dict(npz)))


@pytest.fixture(scope="module")
def path(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "astroclip.ckpt"
    torch.save({"epoch": 3, "optimizer_states": [{"state": torch.ones(3)}], **checkpoint(original.npz)}, path)
    return str(path)


@pytest.fixture
def whole(path):
    """The published model, unfitted: each side made as it is, and nothing trained."""
    return AstroCLIPEmbedder(
        FixedImageEmbedder(clone(IMAGES).set_params(weights=path), normalize=None),
        FixedSpectrumEmbedder(clone(SPECTRA).set_params(weights=path)),
        weights=path,
        max_epochs=0,
        **FAST,
    )


@pytest.fixture
def both(original):
    return original.npz["input"], original.npz["input_spectrum"]


def pool_of(original, kind, shortcut="as published"):
    """One of the pools in double precision."""
    width, published = {"image": 64, "spectrum": 48}[kind], POOLS[kind]
    shortcut = published.shortcut if shortcut == "as published" else shortcut
    pool = AttentionPool(width, heads=4, dim=64, hidden=256, shortcut=shortcut).double().eval()
    pool.load_state_dict(published.select(original.weights, width, dim=64, heads=4))
    return pool


def double(array):
    return torch.from_numpy(array).double()


def image_encoder(original, spec=IMAGES):
    encoder = clone(spec).build(3, (48, 48))
    load_into(encoder.network, find_layout(original.weights, "astroclip").select(original.weights.tensors), "file")
    return encoder.double().eval()


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# ---------------------------------------------------------------- the parts


@needs_fixtures
@torch.no_grad()
def test_the_image_side_gives_what_the_original_gave(original):
    encoder, pool, npz = image_encoder(original), pool_of(original, "image"), original.npz
    tokens, mask = encoder.tokens(double(npz["input"]))
    assert mask is None
    assert difference(tokens, npz["image_tokens"]) < 1e-6
    pooled = []
    with pool.mlp[0].register_forward_hook(lambda module, inputs, output: pooled.append(output)):
        rows = pool(tokens)
    assert difference(pooled[0], npz["image_pooled"]) < 1e-6
    assert difference(rows, npz["output64"]) < 1e-9
    assert difference(pool.float()(tokens.float()), npz["output"]) < 1e-5


@needs_fixtures
@torch.no_grad()
def test_the_spectrum_side_gives_what_the_original_gave(original, path):
    npz, pool = original.npz, pool_of(original, "spectrum")
    network = clone(SPECTRA).set_params(weights=path).build(405).double()
    tokens, _ = network.tokens(double(npz["input_spectrum"]))
    assert difference(tokens, npz["spectrum_tokens"]) < 1e-6
    pooled = []
    with pool.mlp[0].register_forward_hook(lambda module, inputs, output: pooled.append(output)):
        rows = pool(tokens)
    assert difference(pooled[0], npz["spectrum_pooled"]) < 1e-6
    assert difference(rows, npz["output_spectrum64"]) < 1e-9
    assert difference(pool.float()(tokens.float()), npz["output_spectrum"]) < 1e-5


@needs_fixtures
@torch.no_grad()
def test_both_sides_together_give_the_loss_of_the_original(original):
    npz = original.npz
    first, second = double(npz["output64"]), double(npz["output_spectrum64"])
    scale = float(npz["scale"])
    logits = scale * normalize(first, dim=1) @ normalize(second, dim=1).T
    assert difference(logits, npz["logits"]) < 1e-9
    assert clip_loss(first, second, scale).item() == pytest.approx(float(npz["loss"]), rel=1e-6)


@needs_fixtures
@torch.no_grad()
def test_patches_alone_differ_from_the_tokens_of_astrodino():
    npz = fixture("astrodino")
    tensors = state_dict(npz, only="backbone")
    encoder = ShallowAstroDINO("test_vit").build(3, (144, 144))
    load_into(encoder.network, LAYOUTS["astrodino"].select(tensors), "astrodino.ckpt")
    images, shown = double(npz["input"]), npz["shown"]
    encoder = encoder.double().eval()
    assert difference(encoder.tokens(images)[0][:, shown], npz["bare_patch_tokens"]) < 1e-6
    assert difference(encoder(images), npz["output64"]) < 1e-9  # features are the class token all the same
    whole = encoder.network.forward_features(images)
    assert difference(whole[:, 1:][:, shown], npz["patch_tokens"]) < 1e-6
    assert difference(whole[:, 1:].mean(dim=1), npz["patch_mean"]) < 1e-6
    embedded = []
    with encoder.network.blocks[0].register_forward_hook(lambda module, inputs, output: embedded.append(inputs[0])):
        encoder(images)
    assert difference(embedded[0][:, [0, *(1 + shown)]], npz["embedded"]) < 1e-6


@needs_fixtures
@torch.no_grad()
def test_other_readings_are_told_from_the_original(original):
    npz, encoder = original.npz, image_encoder(original)
    images = double(npz["input"])
    tokens = encoder.tokens(images)[0]
    for shortcut in ("norm", "attention"):  # the image pool given a residual
        assert difference(pool_of(original, "image", shortcut)(tokens), npz["output64"]) > 0.1
    pool = pool_of(original, "image")
    whole = super(type(encoder), encoder).tokens(images)[0]
    for seen in (whole, whole[:, 1:]):  # with positions, and the class token kept or not
        assert difference(pool(seen), npz["output64"]) > 0.01
    spectra = double(npz["spectrum_tokens"])
    for shortcut in (None, "attention"):
        assert difference(pool_of(original, "spectrum", shortcut)(spectra), npz["output_spectrum64"]) > 0.1
    pool = pool_of(original, "spectrum")
    assert difference(pool(spectra[:, 1:]), npz["output_spectrum64"]) > 1e-3  # without the first token
    for name in ("query", "value.bias"):  # a bias left out
        state = pool.state_dict()
        bias = original.weights.tensors["state_dict/spectrum_encoder.cross_attention.multihead_attn.in_proj_bias"]
        taken = bias.double().chunk(3)[0 if name == "query" else 2].view(state[name].shape)
        pool.load_state_dict(state | {name: state[name] - taken})
        assert difference(pool(spectra), npz["output_spectrum64"]) > 1e-4
        pool.load_state_dict(state)


@torch.no_grad()
def test_patches_alone_know_neither_class_token_nor_positions():
    encoder = AstroCLIPImageEncoder("test_vit").build(3, (48, 36)).eval()
    images = torch.rand(2, 3, 48, 36)
    tokens, features = encoder.tokens(images)[0], encoder(images)
    assert tokens.shape == (2, 12, 64)
    torch.nn.init.normal_(encoder.network.cls_token)
    torch.nn.init.normal_(encoder.network.pos_embed)
    torch.testing.assert_close(encoder.tokens(images)[0], tokens, rtol=0, atol=0)
    assert not torch.allclose(encoder(images), features, atol=1e-3)


@pytest.mark.parametrize("width", [8, 5])
def test_a_pool_equals_torchs_attention_with_all_its_biases(width):
    """Where tokens are as wide as the pool torch has one matrix for three, else three."""
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(8, 2, kdim=width, vdim=width, batch_first=True).double()
    torch.nn.init.normal_(attention.in_proj_bias)
    torch.nn.init.normal_(attention.out_proj.bias)
    parts = {"layernorm": torch.nn.LayerNorm(8), "encoder": torch.nn.Linear(8, 32), "decoder": torch.nn.Linear(32, 8)}
    places = {"layernorm": "cross_attention.layernorm", "encoder": "mlp.encoder", "decoder": "mlp.decoder"}
    query = torch.randn(1, 1, 8)
    tensors = {"cross_attention.query": query}
    tensors |= {f"cross_attention.multihead_attn.{name}": value for name, value in attention.state_dict().items()}
    for name, part in parts.items():
        tensors |= {f"{places[name]}.{key}": value for key, value in part.double().state_dict().items()}
    weights = Weights("a.ckpt", {f"state_dict/spectrum_encoder.{name}": value for name, value in tensors.items()})
    pool = AttentionPool(width, heads=2, dim=8, hidden=32, shortcut="norm").double()
    pool.load_state_dict(POOLS["spectrum"].select(weights, width, dim=8, heads=2))
    tokens = torch.randn(3, 6, width, dtype=torch.float64)
    out, looks = attention(query.double().expand(3, -1, -1), tokens, tokens, average_attn_weights=False)
    normed = parts["layernorm"](out[:, 0])
    rows = normed + parts["decoder"](torch.nn.functional.gelu(parts["encoder"](normed)))
    torch.testing.assert_close(pool(tokens), rows, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pool.attention(tokens), looks[:, :, 0], rtol=1e-12, atol=1e-12)


def test_the_shortcut_is_one_of_three():
    with pytest.raises(ValueError, match="shortcut must be one of"):
        AttentionPool(6, heads=2, dim=8, hidden=8, shortcut="none")


def test_patches_alone_are_of_a_vision_transformer():
    with pytest.raises(ValueError, match="has a vision transformer; 'resnet18' is another network"):
        AstroCLIPImageEncoder("resnet18").build(3, (32, 32))


# ---------------------------------------------------------------- the whole


@needs_fixtures
def test_the_estimator_gives_what_the_original_gave(original, whole, both):
    npz, rows = original.npz, whole.fit(*both).transform(*both)
    for ours, wanted in zip(rows, (npz["output64"], npz["output_spectrum64"]), strict=True):
        assert difference(ours, unit(wanted)) < 1e-5
    weights = [side.embedder.estimator.provenance_["weights"] for side in whole.embedders_]
    assert [facts["layout"] for facts in weights] == ["astroclip", "astroclip"]
    images = PooledEmbedder(whole.embedders_[0].embedder, weights=whole.weights, **FAST)  # without a spectrum
    np.testing.assert_array_equal(images.fit(both[0]).transform(both[0]), rows[0])
    assert images.attention(both[0]).shape == (2, 4, 16)


@needs_fixtures
def test_either_side_comes_first_and_others_join(whole, both):
    rows = whole.fit(*both).transform(*both)
    turned = clone(whole).set_params(first=whole.second, second=whole.first).fit(*both[::-1])
    for ours, others in zip(turned.transform(*both[::-1]), rows[::-1], strict=True):
        np.testing.assert_array_equal(ours, others)
    table = np.arange(6.0).reshape(2, 3)
    three = clone(whole).set_params(others=[StandardScaler()]).fit(both[0], [both[1], table])
    for ours, others in zip(three.transform(both[0], [both[1], table]), rows, strict=False):
        np.testing.assert_array_equal(ours, others)


@needs_fixtures
def test_it_is_read_again_without_the_checkpoint(original, tmp_path, both):
    path = tmp_path / "astroclip.ckpt"
    torch.save(checkpoint(original.npz), path)
    clip = AstroCLIPEmbedder(
        clone(IMAGES).set_params(weights=str(path)),
        clone(SPECTRA).set_params(weights=str(path)),
        weights=str(path),
        max_epochs=0,
        **FAST,
    )
    clip.set_params(first=FixedImageEmbedder(clip.first, normalize=None)).fit(*both)
    name = f"{SmallAstroCLIP.__module__}.{SmallAstroCLIP.__name__}"
    save(clip, tmp_path / "clip.skastro", trusted=[name])
    np.savez(tmp_path / "rows.npz", *clip.transform(*both), *both)
    path.unlink()
    for ours, others in zip(pickle.loads(pickle.dumps(clip)).transform(*both), clip.transform(*both), strict=True):
        np.testing.assert_array_equal(ours, others)
    script = f"""
import numpy as np
from skastro import load
*rows, images, spectra = np.load({str(tmp_path / "rows.npz")!r}).values()
clip = load({str(tmp_path / "clip.skastro")!r}, trusted=[{name!r}])
print([np.array_equal(*pair) for pair in zip(clip.transform(images, spectra), rows)])
"""
    found = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": found}
    )
    assert run.stdout == "[True, True]\n", run.stderr


@needs_fixtures
@pytest.mark.parametrize("how", ["pools", "backbones", "specifications", "augmented"])
def test_training_goes_on_from_it(how, whole, both, path):
    images, spectra = (np.concatenate([part, part[::-1] + 0.1]) for part in both)
    clip = clone(whole).set_params(max_epochs=2, batch_size=4, lr=1e-4)
    if how == "specifications":
        clip.set_params(first=whole.first.encoder, second=whole.second.encoder)
    clip.set_params(train_backbones=how == "backbones", augment=("supervised", None) if how == "augmented" else None)
    start, end = clone(clip).set_params(max_epochs=0).fit(images, spectra), clip.fit(images, spectra)
    assert np.isfinite(end.history_["loss"]).all()
    for before, after in zip(start.embedders_, end.embedders_, strict=True):
        ours, given = after.head_.state_dict(), before.head_.state_dict()
        assert torch.equal(ours["mean"], torch.zeros_like(ours["mean"]))
        assert torch.equal(ours["std"], torch.ones_like(ours["std"]))
        steps = {name: float((ours[name] - given[name]).abs().max()) for name in ours}
        assert 0 < steps["query"] < 1e-3  # it moved, and from where it was given
        encoders = (side.embedder.estimator.encoder_.state_dict().values() for side in (before, after))
        moved = not all(torch.equal(one, other) for one, other in zip(*encoders, strict=True))
        assert moved == (how in ("backbones", "specifications"))
    for rows in end.transform(images, spectra):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@needs_fixtures
def test_no_token_is_computed_for_a_training_that_is_none(whole, both, monkeypatch):
    seen, tokens = [], PooledEmbedder.tokens

    def spy(self, arrays, rows, inference):
        seen.append(len(rows))
        return tokens(self, arrays, rows, inference)

    monkeypatch.setattr(PooledEmbedder, "tokens", spy)
    whole.fit(*both)
    assert seen == [1, 1, 1, 1]  # an example for each pool, and one to tell how many bytes they are


# ---------------------------------------------------------------- what is refused


@needs_fixtures
@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"embedding_dim": 512}, r"The pools of .*astroclip.ckpt have 64 features: give embedding_dim=64, not 512"),
        ({"heads": 3}, "heads=3 must divide the 64 features"),
        ({"weights": "nowhere.ckpt"}, r"no file of weights nowhere.ckpt"),
        ({"weights": 3}, "The 'weights' parameter of AstroCLIPEmbedder"),
        (
            {"first": StandardScaler(), "second": StandardScaler()},
            "has pools for images and for spectra, and there are neither",
        ),
        (
            {"second": SpecFormer(width=16, depth=1, heads=2)},
            r"not those of this pool of tokens of 16 features: .*k_proj_weight \(64, 48\) in place of \(64, 16\)",
        ),
        (
            {"first": FixedImageEmbedder(ImageEncoder("test_resnet", pool="avg"))},
            r"pool of tokens of 96 features: .*q_proj_weight.* unknown \(.*in_proj_weight\)",
        ),
    ],
)
def test_what_does_not_go_with_the_pools_is_refused(params, sentence, whole, both):
    X, y = both
    if isinstance(params.get("first"), StandardScaler):
        X = X.reshape(2, -1)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        whole.set_params(**params).fit(X, y)
    assert not hasattr(whole, "embedders_")


@needs_fixtures
def test_a_pool_that_is_not_whole_or_not_there_is_refused(original, whole, both, tmp_path):
    broken, without = checkpoint(original.npz), checkpoint(fixture("astroclip_spectrum"))
    del broken["state_dict"]["spectrum_encoder.cross_attention.layernorm.bias"]
    for name, nested in {"broken.ckpt": broken, "specformer.ckpt": without}.items():
        torch.save(nested, tmp_path / name)
    with pytest.raises(ValueError, match=r"1 missing \(cross_attention.layernorm.bias\)"):
        clone(whole).set_params(weights=str(tmp_path / "broken.ckpt")).fit(*both)
    with pytest.raises(ValueError, match=r"has no pool state_dict/image_encoder.cross_attention.\*; its tensors begin"):
        clone(whole).set_params(weights=str(tmp_path / "specformer.ckpt")).fit(*both)
    scaler = FrozenEstimator(StandardScaler().fit(np.eye(3)))
    with pytest.raises(ValueError, match="weights= has pools for images and for spectra, and StandardScaler embeds"):
        PooledEmbedder(scaler, weights=whole.weights).fit(np.eye(3))


# ---------------------------------------------------------------- the published size


@needs_fixtures
def test_the_published_size_has_the_published_tensors(original):
    """All 446 tensors of the checkpoint go somewhere, but for the mask token and the head that fills in spectra."""
    shapes = zip(original.npz["real_keys"].tolist(), original.npz["real_shapes"].tolist(), strict=True)
    shapes = {name: tuple(int(n) for n in shape.split(",") if n) for name, shape in shapes}
    weights = Weights("astroclip.ckpt", {name: torch.empty(size, device="meta") for name, size in shapes.items()})
    clip = astroclip("astroclip.ckpt")
    image, spectrum = clip.first, clip.second
    with torch.device("meta"):
        built = image.encoder.architecture(3, (image.size, image.size)).network
        tokens = {"image": built.num_features, "spectrum": spectrum.encoder.width}
        assert {name: tensor.shape for name, tensor in built.state_dict().items()} == {
            name: tensor.shape for name, tensor in LAYOUTS["astroclip"].select(weights.tensors).items()
        }
        count = len(built.state_dict()) + len(spectrum.encoder.architecture(7781).state_dict())
        for kind, width in tokens.items():
            chosen = POOLS[kind].select(weights, width, clip.embedding_dim, clip.heads)
            pool = AttentionPool(width, clip.heads, clip.embedding_dim, 4 * clip.embedding_dim, POOLS[kind].shortcut)
            assert {name: tensor.shape for name, tensor in chosen.items()} == {
                name: tensor.shape for name, tensor in pool.state_dict().items()
            }
            count += sum(f"/{kind}_encoder.{part}" in name for name in shapes for part in ("cross_attention", "mlp."))
    assert count == len(shapes) - 3
    assert clip.embedding_dim == 1024
    assert clip.max_epochs == 0


def test_the_published_model_is_one_function():
    clip = astroclip("somewhere.ckpt", max_epochs=5, second__floor=0.5)
    assert clip.weights == clip.first.encoder.weights == clip.second.encoder.weights == "somewhere.ckpt"
    assert (clip.max_epochs, clip.second.floor, clip.first.size) == (5, 0.5, 144)
    assert astroclip().weights == "hf-hub:polymathic-ai/astroclip/astroclip.ckpt"
