"""AstroCLIP: the pool and the loss written slowly, two modalities in one space, and the promises of every embedder."""

import os
import pickle
import subprocess
import sys
from itertools import combinations
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skastro import (
    AstroCLIPEmbedder,
    BYOLEmbedder,
    DINOEmbedder,
    FixedImageEmbedder,
    ImageEncoder,
    MaskedSpectrumEmbedder,
    SpectrumEncoder,
    Training,
    load,
    save,
)
from skastro.augment import Augment, ContiguousMask, Flip, GaussianNoise
from skastro.devices import draw_seed
from skastro.encoders import AttentionPool
from skastro.losses import clip_loss
from skastro.metrics import retrieval_score
from skastro.pretrain import PooledEmbedder, towers
from skastro.pretrain.clip import CLIP
from skastro.training import hold_out

FAST = {"embedding_dim": 32, "max_epochs": 1, "batch_size": 8, "random_state": 0}
SMALL = SpectrumEncoder(depth=1, width=16)


@pytest.fixture(scope="module")
def sky():
    """Simulated: 24 blobs, whose size and brightness also shape a spectrum of 60 pixels and a table."""
    rng = np.random.default_rng(0)
    size, flux = rng.uniform(2, 8, 24), rng.uniform(1, 5, 24)
    radius = np.hypot(*np.indices((32, 32)) - 15.5)
    images = flux[:, None, None] * np.exp(-0.5 * (radius / size[:, None, None]) ** 2)
    images = np.stack([images, 2 * images], axis=1) + 0.1 * rng.normal(size=(24, 2, 32, 32))
    line = np.exp(-0.5 * ((np.arange(60) - 6 * size[:, None]) / 3) ** 2)
    spectra = flux[:, None] * (1 + line) + 0.05 * rng.normal(size=(24, 60))
    table = np.column_stack([np.log(flux), size, rng.normal(size=24)])
    return SimpleNamespace(
        images=images.astype(np.float32), spectra=spectra, ivar=np.full((24, 60), 400.0), table=table, size=size
    )


@pytest.fixture(scope="module")
def fitted(sky):
    """One embedder of each modality, fitted once."""
    byol = BYOLEmbedder("test_resnet", max_epochs=1, batch_size=8, hidden_dim=16, projection_dim=8, random_state=0)
    masked = MaskedSpectrumEmbedder(SMALL, max_epochs=1, random_state=0)
    return SimpleNamespace(image=byol.fit(sky.images), spectrum=masked.fit(sky.spectra))


@pytest.fixture
def frozen(fitted):
    return AstroCLIPEmbedder(FrozenEstimator(fitted.image), FrozenEstimator(fitted.spectrum), **FAST)


@pytest.fixture
def named():
    return AstroCLIPEmbedder("test_resnet", SMALL, **FAST)


# ---------------------------------------------------------------- the pool


def slow_pool(pool, tokens, mask):
    """The formula, head by head and token by token."""
    weight = {name: value.detach().double().numpy() for name, value in pool.named_parameters()}
    heads, part = weight["query"].shape
    rows, looks = [], np.zeros((len(tokens), heads, tokens.shape[1]))
    for i, object_tokens in enumerate(tokens.double().numpy()):
        pieces = []
        for head in range(heads):
            of_head = slice(head * part, (head + 1) * part)
            key, value = weight["key.weight"][of_head], weight["value.weight"][of_head]
            score = np.array([weight["query"][head] @ (key @ token) / np.sqrt(part) for token in object_tokens])
            score = np.where(mask[i], np.exp(score), 0.0)
            looks[i, head] = score / score.sum()
            pieces.append(sum(a * (value @ x) for a, x in zip(looks[i, head], object_tokens, strict=True)))
        z = weight["out.weight"] @ (np.concatenate(pieces) + weight["value.bias"]) + weight["out.bias"]
        normed = (z - z.mean()) / np.sqrt(z.var() + 1e-5) * weight["mlp.0.weight"] + weight["mlp.0.bias"]
        hidden = weight["mlp.1.weight"] @ normed + weight["mlp.1.bias"]
        erf = torch.erf(torch.tensor(hidden / np.sqrt(2))).numpy()
        rows.append(z + weight["mlp.3.weight"] @ (hidden * 0.5 * (1 + erf)) + weight["mlp.3.bias"])
    return np.array(rows), looks


@pytest.mark.parametrize(("width", "heads", "dim", "t"), [(6, 2, 8, 5), (1, 4, 8, 1), (7, 1, 3, 9)])
def test_the_pool_equals_the_formula(width, heads, dim, t):
    torch.manual_seed(0)
    pool, tokens = AttentionPool(width, heads, dim, hidden=11), torch.randn(3, t, width)
    torch.nn.init.normal_(pool.query)
    mask = torch.rand(3, t) > 0.4
    mask[:, 0] = True
    for counted in (None, mask):
        rows, looks = slow_pool(pool, tokens, np.ones((3, t), bool) if counted is None else counted.numpy())
        np.testing.assert_allclose(pool(tokens, counted).detach(), rows, atol=1e-5)
        np.testing.assert_allclose(pool.attention(tokens, counted).detach(), looks, atol=1e-6)
    alone = torch.cat([pool(tokens[[i]], mask[[i]]) for i in range(3)])
    torch.testing.assert_close(alone, pool(tokens, mask))


def test_the_pool_equals_torchs_attention():
    torch.manual_seed(0)
    pool, tokens = AttentionPool(6, heads=2, dim=8, hidden=4), torch.randn(3, 5, 6)
    torch.nn.init.normal_(pool.query)
    projected = (pool.key(tokens), pool.value(tokens))
    key, value = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in projected)
    query = pool.query[None, :, None].expand(3, -1, -1, -1)
    z = pool.out(torch.nn.functional.scaled_dot_product_attention(query, key, value).flatten(1))
    torch.testing.assert_close(pool(tokens), z + pool.mlp(z))


def test_masked_tokens_do_not_matter_and_order_does_not():
    torch.manual_seed(0)
    pool, tokens = AttentionPool(6, heads=2, dim=8, hidden=8), torch.randn(2, 5, 6)
    mask = torch.tensor([[1.0, 1, 0, 1, 0], [1, 0, 0, 0, 1]])
    other = torch.where(mask[:, :, None] > 0, tokens, 1e3)
    torch.testing.assert_close(pool(other, mask), pool(tokens, mask))
    turned = [0, 3, 1, 4, 2]
    torch.testing.assert_close(pool(tokens[:, turned], mask[:, turned]), pool(tokens, mask))
    assert (pool.attention(tokens, mask)[:, 0] > 0).eq(mask > 0).all()


def test_the_pool_sees_tokens_in_units_that_it_measured():
    torch.manual_seed(0)
    pool, tokens = AttentionPool(6, heads=2, dim=8, hidden=8), torch.randn(40, 5, 6)
    tokens[:, :, 2] = 3.0
    mask = torch.rand(40, 5) > 0.3
    other = torch.where(mask[:, :, None], 1e3 * tokens + torch.arange(6) * 1e4, 1e9)
    rows, units = [], ((tokens, 1.0), (other, 1e3))
    for seen, unit in units:
        pool.standardize(seen, mask)
        torch.testing.assert_close(pool.std[2], torch.tensor(1.0))
        torch.testing.assert_close(pool.std[0], unit * tokens[mask][:, 0].std(correction=0))
        rows.append(pool(seen, mask))
    torch.testing.assert_close(rows[0], rows[1], atol=1e-3, rtol=1e-3)


def test_units_of_what_a_frozen_embedder_gives_do_not_matter(sky):
    as_it_is = FrozenEstimator(FunctionTransformer().fit(sky.table))
    clip = AstroCLIPEmbedder(as_it_is, as_it_is, **FAST, training=Training(precision="fp32"))
    tables = sky.table, 1e3 * sky.table + 1e4
    rows = [clone(clip).fit(table, sky.spectra).transform(table) for table in tables]
    np.testing.assert_allclose(*rows, atol=1e-3)


def test_heads_must_divide_the_features():
    with pytest.raises(ValueError, match="heads=3 must divide the 8 features"):
        AttentionPool(6, heads=3, dim=8, hidden=8)


# ---------------------------------------------------------------- the loss


def slow_clip(first, second, scale):
    cosine = np.array([[x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for y in second] for x in first])
    n = len(first)
    forth = [np.exp(scale * cosine[i, i]) / sum(np.exp(scale * cosine[i, j]) for j in range(n)) for i in range(n)]
    back = [np.exp(scale * cosine[i, i]) / sum(np.exp(scale * cosine[j, i]) for j in range(n)) for i in range(n)]
    return -np.mean(np.log(forth)), -np.mean(np.log(back))


@pytest.mark.parametrize("scale", [0.5, 15.5])
def test_clip_loss_is_the_mean_of_both_directions(scale):
    first, second = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    forth, back = slow_clip(first.double().numpy(), second.double().numpy(), scale)
    assert abs(forth - back) > 1e-3
    assert clip_loss(first, second, scale).item() == pytest.approx((forth + back) / 2, abs=1e-5)
    torch.testing.assert_close(clip_loss(first, second, scale), clip_loss(second, first, scale))
    torch.testing.assert_close(clip_loss(3 * first, second / 7, scale), clip_loss(first, second, scale))


@pytest.mark.parametrize("n", [2, 5, 64])
def test_clip_loss_of_what_is_all_alike_is_ln_n(n):
    assert clip_loss(torch.ones(n, 3), torch.ones(n, 3), 15.5).item() == pytest.approx(np.log(n), abs=1e-5)


def test_clip_loss_teaches_both_sides_and_the_scale_in_float32():
    first, second = (rows.bfloat16().requires_grad_() for rows in torch.randn(2, 6, 5))
    scale = torch.tensor(2.0, requires_grad=True)
    loss = clip_loss(first, second, scale)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(tensor.grad.abs().max() > 0 for tensor in (first, second, scale))


# ---------------------------------------------------------------- tokens


def test_tokens_of_a_vit_are_its_class_and_patches_of_a_resnet_its_places(sky, fitted):
    vit = DINOEmbedder(ImageEncoder("test_vit", pool="avg", patch=8), max_epochs=0, random_state=0).fit(sky.images)
    rows, patches = {}, {"vit": 1 + 16, "resnet": 1}
    for name, embedder in {"vit": vit, "resnet": fitted.image}.items():
        pooled = PooledEmbedder(FrozenEstimator(embedder), embedding_dim=8, random_state=0).fit(sky.images)
        weights = pooled.attention(sky.images)
        assert weights.shape == (24, 4, patches[name])
        np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-5)
        rows[name] = embedder.transform(sky.images)
    with torch.no_grad():
        tokens, mask = vit.encoder_.tokens(*vit.view()(torch.from_numpy(sky.images)))
    assert mask is None
    np.testing.assert_allclose(tokens[:, 0], rows["vit"], atol=1e-5)


def test_tokens_of_a_resnet_are_those_it_pools(sky):
    encoder = ImageEncoder("test_resnet", stem="3x3", pool="avg").build(2, (32, 32)).eval()
    images = torch.from_numpy(sky.images)
    tokens, mask = encoder.tokens(images)
    assert mask is None
    assert tokens.shape[1] == 16
    torch.testing.assert_close(tokens.mean(dim=1), encoder(images))


@pytest.mark.filterwarnings("ignore:16 of 24 spectra have values")  # means without what all have in their middle
def test_tokens_of_a_spectrum_without_a_pixel_are_not_looked_at(sky, fitted):
    gap = sky.spectra.copy()
    gap[:, 20:45] = np.nan
    pooled = PooledEmbedder(FrozenEstimator(fitted.spectrum), embedding_dim=8, random_state=0).fit(sky.spectra)
    weights = pooled.attention(gap)
    assert weights.shape == (24, 4, 1 + 5)
    assert (weights[:, :, 3] == 0).all()
    assert (weights[:, :, [0, 1, 2, 4, 5]] > 0).all()


# ---------------------------------------------------------------- learning


def test_pairs_are_learned_by_heart():
    from skastro.datasets import make_survey

    sky = make_survey(64, bands="grz", size=32, random_state=0)
    wavelengths = np.linspace(4000, 9000, 100)
    line = np.exp(-0.5 * ((wavelengths - 5007 * (1 + sky.redshift[:, None])) / 80) ** 2)
    spectra = sky.magnitudes[:, :1] - 20 + line + 0.02 * np.random.default_rng(0).normal(size=(64, 100))
    image = BYOLEmbedder("test_resnet", max_epochs=0, random_state=0).fit(sky.images)
    clip = AstroCLIPEmbedder(
        FrozenEstimator(image), MaskedSpectrumEmbedder(SMALL, max_epochs=1), embedding_dim=64,
        max_epochs=60, batch_size=64, lr=1e-3, random_state=0,
    ).fit(sky.images, spectra)  # fmt: skip
    from_images, from_spectra = clip.transform(sky.images, spectra)
    assert clip.history_["loss"][-1] < 0.5 * clip.history_["loss"][0]
    for queries, gallery in ((from_images, from_spectra), (from_spectra, from_images)):
        assert retrieval_score(queries, gallery, k=1)["recall"] > 0.6  # chance is 1/64


@pytest.mark.parametrize("learn", [False, True])
def test_the_scale_is_fixed_or_learned(sky, frozen, learn):
    frozen.set_params(learn_scale=learn, scale=3.0, max_epochs=3).fit(sky.images, sky.spectra)
    assert (frozen.scale_ == pytest.approx(3.0)) != learn


def test_backbones_learn_only_where_they_should(sky, fitted, frozen, named):
    def weights(clip, side):
        return pickle.dumps(clip.embedders_[side].embedder.estimator.encoder_.state_dict())

    before = joblib.hash(fitted.image), joblib.hash(fitted.spectrum)
    frozen.fit(sky.images, sky.spectra)
    assert frozen.embedders_[0].embedder.estimator is fitted.image
    trained = clone(frozen).set_params(train_backbones=True).fit(sky.images, sky.spectra)
    assert all(weights(trained, side) != weights(frozen, side) for side in (0, 1))
    still, moved = (clone(named).set_params(max_epochs=n).fit(sky.images, sky.spectra) for n in (0, 1))
    assert all(weights(still, side) != weights(moved, side) for side in (0, 1))
    assert (joblib.hash(fitted.image), joblib.hash(fitted.spectrum)) == before  # given, and never changed


@pytest.mark.parametrize(("place", "name"), [(0, "first"), (1, "second"), (2, r"others\[0\]")])
def test_a_bare_embedder_that_was_trained_is_told(place, name, sky, fitted):
    sides = [FrozenEstimator(fitted.image), FrozenEstimator(fitted.spectrum), FrozenEstimator(fitted.spectrum)]
    sides[place] = sides[place].estimator
    clip = AstroCLIPEmbedder(*sides[:2], others=sides[2:], **FAST).set_params(max_epochs=0)
    with pytest.warns(UserWarning, match=f"^{name} is fitted, and is fitted anew"):
        clip.fit(sky.images, [sky.spectra, sky.spectra])


def test_bare_embedders_are_cloned_and_fitted_to_their_modality(sky, fitted):
    recipes = clone(fitted.image).set_params(random_state=3), clone(fitted.spectrum).set_params(random_state=4)
    images, spectra, ivar = sky.images.copy(), sky.spectra.copy(), sky.ivar
    images[2], spectra[5] = np.nan, np.nan
    clip = AstroCLIPEmbedder(*recipes, **FAST).fit(images, spectra, ivar=ivar)
    assert not any(hasattr(recipe, "encoder_") for recipe in recipes)
    alone = clone(recipes[0]).fit(np.delete(images, 2, axis=0))
    there = np.delete(np.arange(24), 5)
    masked = clone(recipes[1]).fit(spectra[there], ivar=ivar[there])
    inner = clip.embedders_[0].embedder.estimator, clip.embedders_[1].embedder.estimator
    np.testing.assert_array_equal(inner[0].transform(sky.images), alone.transform(sky.images))
    embedded = (model.transform(sky.spectra, ivar=ivar) for model in (inner[1], masked))
    np.testing.assert_array_equal(*embedded)


def test_tokens_are_computed_once_or_anew_with_the_same_result(sky, frozen, monkeypatch):
    frozen.set_params(training=Training(precision="fp32"), max_epochs=3)
    seen = []
    original = PooledEmbedder.tokens

    def spy(self, arrays, rows, inference):
        seen.append(len(rows))
        return original(self, arrays, rows, inference)

    monkeypatch.setattr(PooledEmbedder, "tokens", spy)
    rows = clone(frozen).fit(sky.images, sky.spectra)
    assert seen == [1, 1, 24, 24, 24, 24]  # an example for each pool, then for each side some to measure, and all
    monkeypatch.setattr("skastro.pretrain.towers.CACHE_BYTES", 0)
    anew = clone(frozen).fit(sky.images, sky.spectra)
    assert seen[6:] == [1, 1, 24, 24]
    pairs = anew.transform(sky.images, sky.spectra), rows.transform(sky.images, sky.spectra)
    for ours, others in zip(*pairs, strict=True):
        np.testing.assert_allclose(ours, others, atol=1e-4)


@pytest.mark.parametrize(
    ("sides", "data"),
    [
        ((StandardScaler(), StandardScaler()), ("table", "spectra")),
        ((SMALL, StandardScaler()), ("spectra", "table")),
        (("test_resnet", "test_vit2"), ("images", "images")),
        ((make_pipeline(StandardScaler()), SMALL), ("table", "spectra")),
    ],
    ids=["tables", "spectra-table", "images", "pipeline"],
)
def test_any_two_modalities(sky, sides, data):
    first, second = (getattr(sky, name) for name in data)
    clip = AstroCLIPEmbedder(*sides, **FAST).fit(first, second)
    for rows in clip.transform(first, second):
        assert rows.shape == (24, 32)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_early_stopping_restores_the_best_epoch_on_pairs_it_never_trains_on(sky, frozen):
    early = {"early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 2, "max_epochs": 200, "lr": 0.03}
    clip = frozen.set_params(**early, training=Training(precision="fp32")).fit(sky.images, sky.spectra)
    losses = clip.history_["validation_loss"]
    assert len(losses) == len(clip.history_["loss"]) == losses.argmin() + 1 + 2 < 200
    _, held_out = hold_out(np.arange(24), 0.25, draw_seed(0))
    rows = (torch.from_numpy(side[held_out]) for side in clip.transform(sky.images, sky.spectra))
    assert len(held_out) == 6
    assert float(clip_loss(*rows, clip.scale_)) == pytest.approx(losses.min(), rel=1e-4)
    replaced = np.array(sky.spectra)
    replaced[held_out] = replaced[held_out[::-1]]
    again = clone(clip).set_params(n_iter_no_change=200, max_epochs=2).fit(sky.images, replaced)
    same = clone(clip).set_params(n_iter_no_change=200, max_epochs=2).fit(sky.images, sky.spectra)
    np.testing.assert_allclose(again.history_["loss"], same.history_["loss"], rtol=1e-4)
    assert (again.history_["validation_loss"] != same.history_["validation_loss"]).any()


def test_a_plain_column_is_a_spectrum_of_one_pixel(sky, named):
    column = clone(named).fit(sky.images, sky.size)
    matrix = named.fit(sky.images, sky.size[:, None])
    assert matrix.embedders_[1].n_features_in_ == 1
    for y in (sky.size, pd.Series(sky.size), list(sky.size)):
        pair = column.transform(sky.images, y)
        for ours, others in zip(pair, matrix.transform(sky.images, sky.size[:, None]), strict=True):
            np.testing.assert_array_equal(ours, others)


# ---------------------------------------------------------------- augmentation


def test_augmentation_changes_what_is_learned_draws_nothing_later_and_caches_nothing(sky, frozen, monkeypatch):
    seen = []
    original = towers.cache
    monkeypatch.setattr(towers, "cache", lambda side, *rest: seen.append(side) or original(side, *rest))
    plain = clone(frozen).set_params(max_epochs=2).fit(sky.images, sky.spectra)
    assert seen == plain.embedders_
    drawn = clone(plain).set_params(augment=("supervised", None)).fit(sky.images, sky.spectra)
    assert seen[2:] == drawn.embedders_[1:]
    rows = drawn.transform(sky.images, sky.spectra)
    assert not np.allclose(rows[0], plain.transform(sky.images), atol=1e-3)
    for again in (drawn, pickle.loads(pickle.dumps(drawn)), clone(drawn).fit(sky.images, sky.spectra)):
        for ours, others in zip(again.transform(sky.images, sky.spectra), rows, strict=True):
            np.testing.assert_array_equal(ours, others)
    none = clone(plain).set_params(augment=(None, None)).fit(sky.images, sky.spectra)
    np.testing.assert_array_equal(none.transform(sky.images), plain.transform(sky.images))


def test_spectra_are_augmented_by_a_mask(sky, frozen):
    mask = Augment([("mask", ContiguousMask(n=2, length=10, fill=np.nan))])
    plain, drawn = (
        clone(frozen).set_params(augment=augment, max_epochs=2).fit(sky.images, sky.spectra, ivar=sky.ivar)
        for augment in (None, (None, mask))
    )
    assert not np.allclose(drawn.transform(sky.images), plain.transform(sky.images), atol=1e-4)
    assert not hasattr(mask.steps[0][1], "noise_")  # given, and never fitted


@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_held_out_are_seen_as_they_are(sky, frozen, early_stopping, monkeypatch):
    drawn = []

    class Counted(Flip):
        def draw(self, *args, **kwargs):
            drawn.append(args[0][0])
            return super().draw(*args, **kwargs)

    augment = Augment([("flip", Counted())])
    frozen.set_params(augment=(augment, None), early_stopping=early_stopping, validation_fraction=0.25, batch_size=24)
    frozen.set_params(max_epochs=3).fit(sky.images, sky.spectra)
    assert drawn == [18 if early_stopping else 24] * 3


# ---------------------------------------------------------------- three modalities


def test_a_learned_scale_never_exceeds_100_and_can_come_back():
    clip = CLIP([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)], 150.0, learn_scale=True)
    assert clip.scale.item() == pytest.approx(100, rel=1e-6)
    clip.scale.backward()
    assert clip.log_scale.grad > 0
    with torch.no_grad():
        clip.log_scale += 1
    clip.update(0.0)
    assert clip.scale.item() == pytest.approx(100, rel=1e-6)
    assert CLIP([torch.nn.Linear(2, 2)], 150.0, learn_scale=False).scale.item() == pytest.approx(150, rel=1e-6)


def test_the_unit_of_images_reaches_the_steps_of_their_augmentation(sky):
    losses, table = [], sky.table.copy()
    table[3] = np.nan  # so that not all images take part
    for unit in (1.0, 1e-20):
        images = sky.images.astype(np.float64) * unit
        noisy = Augment([("noise", GaussianNoise((1, 1), sigma=5 * unit))])
        frozen = FrozenEstimator(FixedImageEmbedder("test_resnet", random_state=0).fit(images))
        clip = AstroCLIPEmbedder(
            frozen, FrozenEstimator(StandardScaler().fit(sky.table)), augment=[noisy, None], **FAST
        )
        losses.append(clip.fit(images, table).history_["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.fixture
def three():
    return AstroCLIPEmbedder("test_resnet", SMALL, others=[StandardScaler()], **FAST)


@pytest.fixture
def gaps(sky):
    """Rows missing of each modality; object 10 has none but its image."""
    images, spectra, table, ivar = sky.images.copy(), sky.spectra.copy(), sky.table.copy(), sky.ivar.copy()
    images[3], spectra[[5, 10]], ivar[6], table[[8, 9, 10]] = np.nan, np.nan, 0.0, np.nan
    missing = [3], [5, 6, 10], [8, 9, 10]
    return SimpleNamespace(images=images, spectra=spectra, table=table, ivar=ivar, missing=missing)


def test_three_modalities_come_out_as_three_with_nan_where_they_are_missing(gaps, three, tmp_path):
    parts = [gaps.spectra, gaps.table]
    clip = three.fit(gaps.images, parts, ivar=gaps.ivar)
    rows = clip.transform(gaps.images, parts, ivar=gaps.ivar)
    assert isinstance(rows, tuple)
    assert [side.shape for side in rows] == [(24, 32)] * 3
    assert clip.n_pairs_ == 23
    for side, missing in zip(rows, gaps.missing, strict=True):
        assert np.flatnonzero(np.isnan(side).all(axis=1)).tolist() == missing
        assert np.flatnonzero(np.isnan(side).any(axis=1)).tolist() == missing
        np.testing.assert_allclose(np.linalg.norm(np.delete(side, missing, axis=0), axis=1), 1, atol=1e-5)
    alone = ((gaps.images, None), (gaps.spectra, gaps.ivar), (gaps.table, None))
    for embedder, (X, ivar), side in zip(clip.embedders_, alone, rows, strict=True):
        np.testing.assert_array_equal(embedder.transform(X, ivar=ivar), side)
    np.testing.assert_array_equal(clip.transform(gaps.images), rows[0])
    assert [embedder.n_features_in_ for embedder in clip.embedders_] == [2, 60, 3]
    save(clip, tmp_path / "clip.skastro")
    same = clone(clip).fit(gaps.images, parts, ivar=gaps.ivar)
    for again in (same, pickle.loads(pickle.dumps(clip)), load(tmp_path / "clip.skastro")):
        for ours, others in zip(again.transform(gaps.images, tuple(parts), ivar=gaps.ivar), rows, strict=True):
            np.testing.assert_array_equal(ours, others)


def test_a_third_modality_changes_what_is_learned_of_the_others(sky, three):
    with_table = three.fit(sky.images, [sky.spectra, sky.table]).transform(sky.images)
    without = clone(three).set_params(others=()).fit(sky.images, sky.spectra).transform(sky.images)
    assert not np.allclose(with_table, without, atol=1e-4)


def test_three_modalities_are_learned_by_heart(sky):
    scalers = [StandardScaler() for _ in range(3)]
    views = [sky.table @ np.random.default_rng(seed).normal(size=(3, 4)) for seed in range(3)]
    for view, missing in zip(views, ([0, 1], [2, 3], [4, 5]), strict=True):
        view[missing] = np.nan
    clip = AstroCLIPEmbedder(
        *scalers[:2], others=scalers[2:], embedding_dim=32, max_epochs=200, batch_size=24, lr=3e-3, random_state=0
    ).fit(views[0], views[1:])
    rows = clip.transform(views[0], views[1:])
    assert clip.history_["loss"][-1] < 0.3 * clip.history_["loss"][0]
    for first, second in combinations(rows, 2):
        assert retrieval_score(first, second, k=1)["recall"] > 0.6  # chance is 1/20


class Linear(torch.nn.Module):
    """A tower of one layer, which counts the rows that it sees and takes no single one."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.layer = torch.nn.Linear(4, 5)
        self.seen = []

    def forward(self, **arrays):
        rows = arrays[self.name]
        self.seen.append(len(rows))
        assert len(rows) > 1
        assert rows.isfinite().all()
        return self.layer(rows)


MASKS = {
    "all": np.ones((7, 3), bool),
    "some": np.random.default_rng(0).random((7, 3)) < 0.6,
    "a modality that nothing has": np.column_stack([np.ones((7, 2), bool), np.zeros(7, bool)]),
    "a modality that one object has": np.column_stack([np.ones((7, 2), bool), np.arange(7) == 3]),
    "a pair that one object has": np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1], [0, 1, 1]], bool),
    "no pair": np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], bool),
    "nothing twice": np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("learn", [False, True])
def test_the_loss_is_the_mean_over_pairs_of_modalities_on_the_objects_that_have_both(mask, learn):
    torch.manual_seed(0)
    n, count = mask.shape
    parts = [Linear(str(place)) for place in range(count)]
    clip, rows = CLIP(parts, 7.0, learn), {str(place): torch.randn(n, 4) for place in range(count)}
    slow = []
    for first, second in combinations(range(count), 2):
        both = mask[:, first] & mask[:, second]
        if both.sum() > 1:
            sides = (parts[place].layer(rows[str(place)][both]) for place in (first, second))
            slow.append(clip_loss(*sides, 7.0).item())
    poisoned = {name: torch.where(torch.from_numpy(mask[:, [int(name)]]), row, torch.nan) for name, row in rows.items()}
    loss = clip(present=torch.from_numpy(mask).float(), **poisoned)
    assert loss.item() == pytest.approx(np.mean(slow) if slow else 0.0, abs=1e-5)
    loss.backward()  # also where there is nothing to learn
    assert all(p.grad is None or p.grad.isfinite().all() for p in clip.parameters())
    assert [part.seen for part in parts] == [[k] if (k := mask[:, place].sum()) > 1 else [] for place in range(count)]
    if mask.all():
        assert clip(**rows).item() == pytest.approx(loss.item(), abs=1e-6)


def test_two_towers_are_one_pair():
    torch.manual_seed(0)
    parts, rows = [Linear("0"), Linear("1")], {name: torch.randn(6, 4) for name in "01"}
    loss = clip_loss(*(part.layer(rows[part.name]) for part in parts), 15.5)
    clip = CLIP(parts, 15.5, learn_scale=False)
    torch.testing.assert_close(clip(**rows), loss)
    torch.testing.assert_close(clip(present=torch.ones(6, 2), **rows), loss)


@pytest.mark.parametrize(("given", "used"), [(15.5, 15.5), (99.0, 99.0), (250.0, 100.0)])
def test_a_learned_scale_ends_at_100(given, used):
    """Radford et al. (2021), section 2.5; one that is fixed is as it was given."""
    torch.manual_seed(0)
    parts, rows = [Linear("0"), Linear("1")], {name: torch.randn(6, 4) for name in "01"}
    for learn, scale in ((True, used), (False, given)):
        clip = CLIP(parts, given, learn)
        assert clip.scale.item() == pytest.approx(scale, rel=1e-5)
        torch.testing.assert_close(clip(**rows), clip_loss(*(part.layer(rows[part.name]) for part in parts), scale))


def test_pairs_held_out_are_judged_as_they_will_be_embedded(sky, named):
    """By networks in eval mode, batch norms and all: the lowest loss is that of what the best epoch embeds."""
    named.set_params(early_stopping=True, validation_fraction=0.25, max_epochs=3, training=Training(precision="fp32"))
    named.fit(sky.images, sky.spectra)
    _, held_out = hold_out(np.arange(24), 0.25, draw_seed(0))
    rows = (torch.from_numpy(side[held_out]) for side in named.transform(sky.images, sky.spectra))
    lowest = named.history_["validation_loss"].min()
    assert float(clip_loss(*rows, named.scale_)) == pytest.approx(lowest, rel=1e-4)


def test_a_modality_that_few_objects_have_is_trained_on_where_there_is_a_pair(sky, three):
    """Batches hold one image, or none: a batch norm, and the spread in the history, can do without."""
    images = changed(sky.images, np.nan, slice(2, 24))
    clip = three.set_params(max_epochs=3, batch_size=3).fit(images, [sky.spectra, sky.table])
    assert all(np.isfinite(side).all() for side in clip.transform(images, [sky.spectra, sky.table])[1:])
    assert np.isfinite(clip.history_["loss"]).all()
    assert len(clip.history_["embedding_std"]) == 3


WRONG = [
    (lambda s: s.spectra, "y must be a list of 2 modalities, for second= and others="),
    (lambda s: [s.spectra], "y must be a list of 2 modalities"),
    (lambda s: [s.spectra, s.table, s.table], "y must be a list of 2 modalities"),
    (lambda s: [s.spectra, s.table[:20]], "inconsistent numbers of samples"),
    (lambda s: [s.spectra, changed(s.table, np.nan, (5, 1))], "StandardScaler gives contains NaN"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_what_are_no_three_modalities_is_refused_in_one_sentence(sky, three, change, sentence, monkeypatch):
    three.set_params(max_epochs=0).fit(sky.images, [sky.spectra, sky.table])
    with pytest.raises(ValueError, match=sentence):
        three.transform(sky.images, change(sky))
    monkeypatch.setattr("skastro.base.train", lambda *args, **kwargs: pytest.fail("training had started"))
    with pytest.raises(ValueError, match=sentence):
        three.set_params(max_epochs=1).fit(sky.images, change(sky))


@pytest.mark.parametrize(
    ("params", "parts", "sentence"),
    [
        ({"augment": ("supervised", None)}, {}, "augment must have one entry for each of 3 modalities; got 2"),
        ({"others": [SMALL]}, {"table": "spectra", "ivar": "ivar"}, "ivar goes with one modality .* 2 of those given"),
        ({}, {"table": "nothing"}, "Found 0 samples with one of the modalities and another"),
        ({"others": 3}, {}, "The 'others' parameter of AstroCLIPEmbedder"),
    ],
)
def test_settings_of_three_modalities_that_do_not_go_are_refused(sky, three, params, parts, sentence, monkeypatch):
    monkeypatch.setattr("skastro.base.train", lambda *args, **kwargs: pytest.fail("training had started"))
    given = vars(sky) | {"nothing": np.full_like(sky.table, np.nan)}
    y, ivar = [sky.spectra, given[parts.get("table", "table")]], given.get(parts.get("ivar"))
    with pytest.raises(ValueError, match=sentence):
        three.set_params(**params).fit(sky.images, y, ivar=ivar)


# ---------------------------------------------------------------- what is missing


def test_missing_modalities_take_no_part_and_come_out_as_nan(sky, frozen):
    images, spectra, ivar = sky.images.copy(), sky.spectra.copy(), sky.ivar.copy()
    images[3], spectra[[5, 6]], ivar[7] = np.nan, np.nan, 0.0
    there = np.delete(np.arange(24), [3, 5, 6, 7])
    clip = clone(frozen).fit(images, spectra, ivar=ivar)
    assert clip.n_pairs_ == 20
    fewer = clone(frozen).fit(images[there], spectra[there], ivar=ivar[there])
    from_images, from_spectra = clip.transform(images, spectra, ivar=ivar)
    assert np.flatnonzero(np.isnan(from_images).any(axis=1)).tolist() == [3]
    assert np.flatnonzero(np.isnan(from_spectra).any(axis=1)).tolist() == [5, 6, 7]
    same = fewer.transform(images[there], spectra[there], ivar=ivar[there])
    np.testing.assert_allclose(from_images[there], same[0], atol=1e-5)
    np.testing.assert_allclose(from_spectra[there], same[1], atol=1e-5)
    assert retrieval_score(from_images, from_spectra)["n_missing"] == 4
    assert np.isnan(clip.transform(np.full_like(images, np.nan))).all()
    assert np.isnan(clip.embedders_[0].attention(images)[3]).all()


def test_missing_rows_of_a_table(sky):
    table = pd.DataFrame(sky.table, columns=["flux", "size", "noise"])
    table.iloc[4] = np.nan
    clip = AstroCLIPEmbedder(StandardScaler(), SMALL, **FAST).fit(table, sky.spectra)
    assert np.flatnonzero(np.isnan(clip.transform(table)[:, 0])).tolist() == [4]
    assert list(clip.feature_names_in_) == ["flux", "size", "noise"]
    table.iloc[7, 1] = np.nan
    with pytest.raises(ValueError, match="what StandardScaler gives contains NaN"):
        clip.transform(table)


def test_inverse_variance_reaches_the_spectra(sky, frozen):
    ivar = sky.ivar * np.random.default_rng(0).uniform(0.1, 2, sky.ivar.shape)
    clip = frozen.fit(sky.images, sky.spectra, ivar=ivar)
    rows = clip.transform(sky.images, sky.spectra, ivar=ivar)[1]
    np.testing.assert_array_equal(clip.embedders_[1].transform(sky.spectra, ivar=ivar), rows)
    assert not np.allclose(clip.embedders_[1].transform(sky.spectra), rows, atol=1e-4)
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(FrozenEstimator(clip.embedders_[1]), KNeighborsRegressor(3))
        assert pipe.fit(sky.spectra, sky.size).predict(sky.spectra).shape == (24,)


# ---------------------------------------------------------------- composition


def test_sides_are_transformers_for_pipelines(sky, frozen):
    clip = frozen.fit(sky.images, sky.spectra)
    both = clip.transform(sky.images, sky.spectra)
    for embedder, X, rows in zip(clip.embedders_, (sky.images, sky.spectra), both, strict=True):
        np.testing.assert_array_equal(embedder.transform(X), rows)
        pipe = make_pipeline(FrozenEstimator(embedder), KNeighborsRegressor(3)).fit(X, sky.size)
        direct = KNeighborsRegressor(3).fit(rows, sky.size).predict(rows)
        np.testing.assert_array_equal(clone(pipe).fit(X, sky.size).predict(X), direct)
        assert clone(embedder).fit(X).transform(X).shape == rows.shape  # untrained, on the same embedder


def test_a_search_over_the_scale(sky, frozen):
    def recall(clip, X, y):
        return retrieval_score(*clip.transform(X, y), k=3)["recall"]

    search = GridSearchCV(frozen, {"scale": [1.0, 15.5], "training__weight_decay": [0.0]}, scoring=recall, cv=2)
    search.fit(sky.images, sky.spectra)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_nested_parameters_reach_the_encoders():
    clip = AstroCLIPEmbedder().set_params(first__stem="3x3", second__depth=6)
    assert clip.first.stem == "3x3"
    assert clip.second.depth == 6
    assert AstroCLIPEmbedder().second is None


def test_outputs(sky, frozen):
    rows = clone(frozen).fit_transform(sky.images, sky.spectra)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(frozen.fit(sky.images, sky.spectra).transform(sky.images), rows)
    frame = frozen.set_output(transform="pandas").transform(sky.images)
    assert frame.shape == (24, 32)
    assert frame.columns[0] == "astroclipembedder0"


def test_rows_do_not_depend_on_their_neighbors(sky, frozen):
    whole = frozen.fit(sky.images, sky.spectra).transform(sky.images, sky.spectra)
    for rows in ([[i] for i in range(24)], [range(7), range(7, 24)]):
        parts = [frozen.transform(sky.images[list(r)], sky.spectra[list(r)]) for r in rows]
        for ours, all_rows in zip(map(np.concatenate, zip(*parts, strict=True)), whole, strict=True):
            np.testing.assert_allclose(ours, all_rows, atol=1e-5)
    again = frozen.set_params(batch_size=5).transform(sky.images)
    np.testing.assert_allclose(again, whole[0], atol=1e-5)


def test_a_memory_map_is_read_in_place(sky, frozen, tmp_path):
    np.save(tmp_path / "sky.npy", sky.images)
    mapped = np.load(tmp_path / "sky.npy", mmap_mode="r")
    rows = clone(frozen).fit(mapped, sky.spectra).transform(mapped)
    np.testing.assert_array_equal(rows, frozen.fit(sky.images, sky.spectra).transform(sky.images))


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("kind", ["frozen", "named", "bare"])
def test_same_seed_same_numbers_and_the_users_generators_stay(sky, fitted, kind, request):
    bare = [clone(fitted.image).set_params(random_state=None), MaskedSpectrumEmbedder(SMALL, max_epochs=1)]
    clip = AstroCLIPEmbedder(*bare, **FAST) if kind == "bare" else request.getfixturevalue(kind)
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (clone(clip).fit(sky.images, sky.spectra) for _ in range(2))
    rows = first.transform(sky.images, sky.spectra)
    for ours, others in zip(rows, second.transform(sky.images, sky.spectra), strict=True):
        np.testing.assert_array_equal(ours, others)
    other = clone(clip).set_params(random_state=1).fit(sky.images, sky.spectra)
    assert not np.array_equal(other.transform(sky.images), rows[0])
    assert torch.equal(states[0], torch.random.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("kind", ["frozen", "named"])
def test_state_is_numbers_and_files_and_pickles_answer_the_same(sky, kind, request, tmp_path):
    clip = request.getfixturevalue(kind).fit(sky.images, sky.spectra)
    rows = clip.transform(sky.images, sky.spectra)
    assert {type(value) for value in clip.embedders_[0].__getstate__()["head_"].values()} == {np.ndarray}
    save(clip, tmp_path / "clip.skastro")
    save(clip.embedders_[0], tmp_path / "images.skastro")
    for again in (pickle.loads(pickle.dumps(clip)), load(tmp_path / "clip.skastro")):
        for ours, others in zip(again.transform(sky.images, sky.spectra), rows, strict=True):
            np.testing.assert_array_equal(ours, others)
    np.testing.assert_array_equal(load(tmp_path / "images.skastro").transform(sky.images), rows[0])
    if kind == "frozen":  # a history without epochs hashes otherwise once pickled
        assert joblib.hash(pickle.loads(pickle.dumps(clip))) == joblib.hash(clip)


def test_pickle_answers_the_same_in_a_new_process_on_other_threads(sky, frozen, tmp_path):
    joblib.dump((frozen.fit(sky.images, sky.spectra), sky.images), tmp_path / "model.pkl")
    code = (
        "import sys, joblib, numpy as np; clip, X = joblib.load(sys.argv[1] + '/model.pkl');"
        "np.save(sys.argv[1] + '/rows.npy', clip.transform(X))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"OMP_NUM_THREADS": "2"}, check=True, timeout=300
    )
    np.testing.assert_allclose(np.load(tmp_path / "rows.npy"), frozen.transform(sky.images), atol=1e-5)


def test_parameters_set_after_fit_do_not_touch_what_was_learned(sky, named):
    rows = named.fit(sky.images, sky.spectra).transform(sky.images, sky.spectra)
    named.set_params(first="test_vit", second=SpectrumEncoder(width=32), others=[SMALL], embedding_dim=8, heads=1)
    for again in (named, pickle.loads(pickle.dumps(named))):
        for ours, others in zip(again.transform(sky.images, sky.spectra), rows, strict=True):
            np.testing.assert_array_equal(ours, others)


def test_history_has_one_value_per_epoch_and_none_untrained(sky, frozen):
    history = frozen.set_params(max_epochs=3).fit(sky.images, sky.spectra).history_
    assert {"loss", "lr", "samples_per_s", "embedding_std", "effective_rank"} <= history.keys()
    assert all(len(values) == 3 and np.isfinite(values).all() for values in history.values())
    assert len(frozen.set_params(max_epochs=0).fit(sky.images, sky.spectra).history_["loss"]) == 0
    assert frozen.transform(sky.images).shape == (24, 32)


def test_interrupt_keeps_what_was_learned(sky, named, monkeypatch):
    from skastro.training import callbacks

    def stop(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.ScheduleCallback, "on_epoch_begin", stop)
    with pytest.raises(KeyboardInterrupt):
        named.set_params(max_epochs=5).fit(sky.images, sky.spectra)
    assert len(named.history_["loss"]) == 1
    assert named.transform(sky.images).shape == (24, 32)


def test_defaults(sky):
    clip = AstroCLIPEmbedder(max_epochs=1, random_state=0).fit(sky.images, sky.spectra)
    assert clip.transform(sky.images).shape == (24, 512)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["frozen", "named"])
def test_cuda_learns_and_its_state_answers_the_same_on_the_cpu(sky, kind, request):
    clip = request.getfixturevalue(kind).set_params(device="cuda").fit(sky.images, sky.spectra)
    rows = clip.transform(sky.images)
    np.testing.assert_allclose(clip.set_params(device="cpu").transform(sky.images), rows, atol=1e-3)


# ---------------------------------------------------------------- refusals


def changed(array, value, where=(5, 3)):
    array = array.copy()
    array[where] = value
    return array


REFUSALS = [
    (lambda s: (s.images[:20], s.spectra, None), "inconsistent numbers of samples"),
    (lambda s: (changed(s.images, np.nan, (5, 0, 3, 3)), s.spectra, None), "X has 1 NaN .* the first in image 5"),
    (lambda s: (changed(s.images, np.inf, (5, 0, 3, 3)), s.spectra, None), "X has 1 NaN .* the first in image 5"),
    (lambda s: (s.images, changed(s.spectra, np.inf), None), "infinity"),
    (lambda s: (s.images, s.spectra, s.ivar[:, :30]), r"ivar of shape \(24, 30\) does not go with X"),
    (lambda s: (s.images, s.spectra, changed(s.ivar, -1.0)), "ivar has 1 values that are negative"),
    (
        lambda s: (s.images, [*s.spectra[:23], s.spectra[0, :40]], None),
        r"y has rows of several shapes, such as \(40,\) and \(60,\): resample",
    ),
    (lambda s: (s.images[:, :1], s.spectra, None), "X has 1 bands, but 2 were learned"),
    (lambda s: (s.images, s.spectra[:, :40], None), "X has 40 features, but MaskedSpectrumEmbedder is expecting 60"),
]
UNFIT = [
    (lambda s: (s.images[:1], s.spectra[:1], None), "Found 1 sample with both modalities"),
    (lambda s: (changed(s.images, np.nan, slice(0, 12)), changed(s.spectra, np.nan, slice(12, 24)), None), "Found 0"),
    (lambda s: (changed(s.images, np.nan, slice(0, 23)), s.spectra, None), "Found 1 sample with both modalities"),
    (lambda s: (s.images, None, None), "requires y to be passed"),
]  # fmt: skip
PARAMS = [
    ({"heads": 3}, "heads=3 must divide the 32 features"),
    ({"scale": 0.0}, "The 'scale' parameter of AstroCLIPEmbedder"),
    ({"first": 3}, "The 'first' parameter of AstroCLIPEmbedder"),
    ({"first": "resnet_10"}, "Unknown encoder 'resnet_10'"),
    ({"second": SpectrumEncoder(heads=3)}, "divisible by heads=3"),
    ({"device": "abacus"}, "Unknown device 'abacus'"),
    ({"early_stopping": True, "validation_fraction": 0.02}, "leaves 23 of 24 rows to train on and 1 to watch"),
    ({"training": Training(clip=-1.0)}, "The 'clip' parameter of Training"),
    ({"second": StandardScaler(), "ivar": True}, "ivar goes with one modality that takes it, .* 0 of those given do"),
    ({"augment": ("supervised",)}, "augment must have one entry for each of 2 modalities; got 1"),
    ({"augment": ("supervised", "supervised")}, "augment='supervised' is for images, which FixedSpectrumEmbedder"),
    ({"augment": (None, "dihedral"), "second": StandardScaler()}, "is for images, which StandardScaler does not embed"),
    ({"augment": ("galaxies", None)}, "galaxies"),
    ({"augment": ("astrodino", None)}, "has a recipe for each view; here one is needed"),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSALS + UNFIT)
def test_bad_input_is_one_sentence_before_training(sky, frozen, change, sentence, monkeypatch):
    monkeypatch.setattr("skastro.base.train", lambda *args, **kwargs: pytest.fail("training had started"))
    X, y, ivar = change(sky)
    with pytest.raises(ValueError, match=sentence):
        frozen.fit(X, y, ivar=ivar)


@pytest.mark.parametrize(("params", "sentence"), PARAMS)
def test_bad_parameters_are_one_sentence_before_training(sky, fitted, params, sentence, monkeypatch):
    """Even what only the second side shows is refused before the first, bare, has been trained."""
    monkeypatch.setattr("skastro.base.train", lambda *args, **kwargs: pytest.fail("training had started"))
    params = dict(params)
    ivar = sky.ivar if params.pop("ivar", False) else None
    with pytest.raises(ValueError, match=sentence):
        AstroCLIPEmbedder(**{"first": clone(fitted.image), "second": SMALL} | FAST | params).fit(
            sky.images, sky.spectra, ivar=ivar
        )


def test_inverse_variance_of_images_is_refused(sky, fitted):
    both = AstroCLIPEmbedder(clone(fitted.image), clone(fitted.image), **FAST)
    with pytest.raises(ValueError, match="ivar goes with one modality that takes it"):
        both.fit(sky.images, sky.images, ivar=np.ones_like(sky.images))
    alone = PooledEmbedder(FrozenEstimator(fitted.image), embedding_dim=8)
    with pytest.raises(ValueError, match=r"ivar goes with a modality that takes it, .* BYOLEmbedder takes none"):
        alone.fit(sky.images, ivar=np.ones_like(sky.images))


@pytest.mark.parametrize(("change", "sentence"), REFUSALS)
def test_bad_input_after_fit(sky, frozen, change, sentence):
    X, y, ivar = change(sky)
    with pytest.raises(ValueError, match=sentence):
        frozen.fit(sky.images, sky.spectra).transform(X, y, ivar=ivar)


def test_inverse_variance_without_spectra_is_refused_and_a_refused_refit_loses_nothing(sky, frozen):
    rows = frozen.fit(sky.images, sky.spectra).transform(sky.images)
    with pytest.raises(ValueError, match=r"ivar goes with one modality that takes it, .* ask its own embedder"):
        frozen.transform(sky.images, ivar=sky.ivar)
    with pytest.raises(ValueError, match="inconsistent"):
        frozen.fit(sky.images, sky.spectra[:5])
    np.testing.assert_array_equal(frozen.transform(sky.images), rows)


# ---------------------------------------------------------------- the paper's sizes


def test_the_published_sizes():
    """Constructed without memory, as the docstrings tell; pools by the sum over their layers."""
    with torch.device("meta"):
        image = ImageEncoder("vit_large_patch14_dinov2", pool="avg", patch=12).build(3, (144, 144))
        spectrum = SpectrumEncoder(depth=6, width=768, heads=6).build(7781)
        pools = [AttentionPool(width, heads=4, dim=512, hidden=512) for width in (1024, 768)]
    counts = [sum(p.numel() for p in network.parameters()) for network in (image, spectrum, *pools)]
    assert counts[0] == pytest.approx(303e6, rel=0.02)
    assert counts[0] == pytest.approx(307e6, rel=0.02)  # of the print
    assert counts[1] == pytest.approx(43.2e6, rel=0.02)
    for width, count in zip((1024, 768), counts[2:], strict=True):
        attention = 512 + 512 * width + 512 * (width + 1) + 512 * 513
        assert count == attention + 2 * 512 + 2 * 512 * 513


def test_another_modality_alone_is_asked_of_its_own_embedder(frozen, sky):
    with pytest.raises(ValueError, match="X is None: to embed another modality alone, ask its own embedder"):
        frozen.fit(sky.images, sky.spectra).transform(None, sky.spectra)
