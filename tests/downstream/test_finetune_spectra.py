"""Fine-tuning on spectra: what is missing, what is trained, and metadata, with the same promises as for images."""

import pickle
from functools import partial

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

from skastro import (
    AstroCLIPEmbedder,
    BYOLEmbedder,
    ConvSpectrumEncoder,
    FineTuneClassifier,
    FineTuneRegressor,
    FixedSpectrumEmbedder,
    HybridBYOLEmbedder,
    MaskedSpectrumEmbedder,
    SpecFormer,
    SpectrumEncoder,
    Training,
    VoteEmbedder,
    load,
    save,
)
from skastro.augment import Augment, ContiguousMask, Flip
from skastro.downstream import RedshiftBins, SoftmaxHead, tuning
from skastro.encoders import blocks
from skastro.persistence import describe

SMALL = SpectrumEncoder(depth=2, width=16)
TINY = {"max_epochs": 1, "batch_size": 8, "lr": 1e-2, "random_state": 0}
EXACT = {"training": Training(optimizer="sgd", precision="fp32", warmup=0, weight_decay=0)}
NO_CHANGE = Augment([("flip", Flip(p=0))])  # a step, so that nothing is computed once, which does nothing
MASK = Augment([("mask", ContiguousMask(n=2, length=10, fill=np.nan))])

RNG = np.random.default_rng(0)
LABELS = np.array(["broad", "narrow"])[np.arange(24) % 2]
Z = np.linspace(0.01, 0.39, 24)
X = 5 + 0.1 * RNG.normal(size=(24, 60))
X[::2] += np.hanning(60)
IVAR = RNG.uniform(50, 150, X.shape)
X[3, :25], X[4, 40:], X[5, ::2] = np.nan, np.nan, np.nan  # of the first two whole tokens are missing
SEEN = ~np.isnan(X)

TUNERS = {
    "softmax": FineTuneClassifier,
    "dirichlet": partial(FineTuneClassifier, head="dirichlet", dropout=0.0),
    "linear": FineTuneRegressor,
    "redshift-bins": partial(FineTuneRegressor, head=RedshiftBins(5)),
}
MASKED = MaskedSpectrumEmbedder(SMALL, n_masks=2, mask_length=10, max_epochs=1, batch_size=8, random_state=3)
SOURCES = {
    "transformer": SMALL,
    "conv-attention": "conv-attention",
    "convolutions": ConvSpectrumEncoder(),
    "specformer": SpecFormer(width=16, depth=2, heads=2),
    "frozen": FrozenEstimator(clone(MASKED).fit(X, ivar=IVAR)),
    "bare": MASKED,
    "untrained": FixedSpectrumEmbedder(SMALL, random_state=3),
}
each_source = pytest.mark.parametrize("source", SOURCES)


def tiny(source="transformer", cls=FineTuneClassifier, **params):
    return cls(SOURCES[source], **TINY | params)


@pytest.fixture(params=TUNERS)
def tuner(request):
    return TUNERS[request.param](SMALL, **TINY)


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr("skastro.base.train", lambda *args, **kwargs: pytest.fail("training had started"))


def targets(model):
    return LABELS if isinstance(model, FineTuneClassifier) else Z


def answers(model, flux=X, ivar=None):
    return (model.predict_proba if isinstance(model, FineTuneClassifier) else model.predict)(flux, ivar=ivar)


def weights(network):
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


def by_block(encoder):
    values = weights(encoder)
    return {block: {name: values[name] for name in names} for block, names in blocks(encoder).items()}


def assert_same(first, second, **tolerance):
    for part in ("encoder_", "head_"):
        ours, others = weights(getattr(first, part)), weights(getattr(second, part))
        assert ours.keys() == others.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], others[name], err_msg=name, **{"rtol": 0, "atol": 0} | tolerance)


# ---------------------------------------------------------------- any source, any head


@each_source
def test_any_source_is_used_and_stays_as_it_was(tuner, source):
    before = joblib.hash(SOURCES[source])
    tuner.set_params(encoder=SOURCES[source]).fit(X, targets(tuner), ivar=IVAR)
    answer = answers(tuner, ivar=IVAR)
    assert len(answer) == 24
    assert np.isfinite(answer).all()
    assert joblib.hash(SOURCES[source]) == before
    assert tuner.encoder is SOURCES[source]
    assert tuner.n_features_in_ == 60
    assert {"loss", "lr", "samples_per_s", "embedding_std", "effective_rank"} == tuner.history_.keys()


def test_a_line_is_learned():
    model = tiny(max_epochs=40, lr=3e-3).fit(X, LABELS, ivar=IVAR)
    assert model.score(X, LABELS) > 0.9
    assert model.history_["loss"][-1] < 0.5 * model.history_["loss"][0]


def test_scores_know_the_inverse_variance(tuner):
    y = np.eye(2, dtype=int)[np.arange(24) % 2] if isinstance(tuner, FineTuneClassifier) else Z  # shares, or votes
    hidden = np.arange(60) < 15
    ivar, other = np.where(hidden, 0.0, IVAR), np.where(hidden, 7.0, X)
    tuner.fit(X, y, ivar=IVAR)
    told = tuner.score(X, y, ivar=ivar)
    assert told == pytest.approx(tuner.score(other, y, ivar=ivar), rel=1e-6)
    assert told != pytest.approx(tuner.score(other, y), rel=1e-6)
    with sklearn.config_context(enable_metadata_routing=True):
        assert tuner.get_metadata_routing().score.requests["ivar"] is True


def test_a_frozen_embedder_is_where_the_weights_come_from():
    embedder = SOURCES["frozen"].estimator
    model = tiny("frozen", n_layers=0).fit(X, LABELS, ivar=IVAR)
    np.testing.assert_array_equal(model.embedder_.transform(X, ivar=IVAR), embedder.transform(X, ivar=IVAR))
    tuned = tiny("frozen").fit(X, LABELS, ivar=IVAR)
    assert not np.allclose(tuned.embedder_.transform(X, ivar=IVAR), embedder.transform(X, ivar=IVAR), atol=1e-3)
    np.testing.assert_array_equal(tuned.embedder_.level_, embedder.level_)


def test_a_bare_embedder_is_fitted_with_the_inverse_variance_first():
    alone = clone(MASKED).fit(X, ivar=IVAR)
    model = tiny("bare", n_layers=0).fit(X, LABELS, ivar=IVAR)
    np.testing.assert_array_equal(model.embedder_.transform(X), alone.transform(X))
    without = tiny("bare", n_layers=0).fit(X, LABELS)
    assert not np.allclose(without.embedder_.transform(X), alone.transform(X), atol=1e-4)


def test_a_specification_learns_the_levels_of_the_spectra_it_is_tuned_on():
    model = tiny(max_epochs=0).fit(X, LABELS, ivar=IVAR)
    level = FixedSpectrumEmbedder(SMALL).fit(X, ivar=IVAR).level_
    np.testing.assert_array_equal(model.embedder_.level_, level)


# ---------------------------------------------------------------- what is missing


@each_source
def test_missing_is_missing_however_it_is_said(source):
    """NaN, an inverse variance of zero, or both; what stands there then does not matter."""
    zero, garbage = np.where(SEEN, IVAR, 0.0), np.where(SEEN, X, 1e9)
    first, *others = (
        tiny(source).fit(flux, LABELS, ivar=ivar) for flux, ivar in ((X, IVAR), (X, zero), (garbage, zero))
    )
    for other in others:
        assert_same(first, other)
    rows = first.predict_proba(X, ivar=IVAR)
    for flux, ivar in ((X, zero), (garbage, zero)):
        np.testing.assert_array_equal(first.predict_proba(flux, ivar=ivar), rows)
    assert not np.allclose(first.predict_proba(np.nan_to_num(X), ivar=IVAR), rows, atol=1e-4)  # zero is a value


def test_inverse_variance_weighs_the_pixels_of_all_answers():
    ivar = RNG.uniform(0.01, 100, X.shape)
    model = tiny("transformer", FineTuneRegressor, head=RedshiftBins(5), max_epochs=3).fit(X, Z, ivar=ivar)
    pdf, edges = model.predict_pdf(X, ivar=ivar)
    assert not np.allclose(pdf, model.predict_pdf(X)[0], atol=1e-5)
    np.testing.assert_allclose(model.predict(X, ivar=ivar), pdf @ ((edges[:-1] + edges[1:]) / 2), rtol=1e-6)
    narrow = model.predict_interval(X, 0.3, ivar=ivar)
    assert (narrow[:, 0] < narrow[:, 1]).all()
    votes = tiny("transformer", head="dirichlet").fit(X, LABELS, ivar=ivar)
    told = votes.predict_concentrations(X, ivar=ivar)
    np.testing.assert_allclose(told / told.sum(axis=1, keepdims=True), votes.predict_proba(X, ivar=ivar), rtol=1e-6)
    np.testing.assert_array_equal(votes.classes_[told.argmax(axis=1)], votes.predict(X, ivar=ivar))


def test_rows_do_not_depend_on_their_neighbors():
    model = tiny().fit(X, LABELS, ivar=IVAR)
    whole = model.predict_proba(X, ivar=IVAR)
    single = [model.predict_proba(X[[row]], ivar=IVAR[[row]]) for row in range(24)]
    np.testing.assert_allclose(np.concatenate(single), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ivar": IVAR[:, :30]}, r"ivar of shape \(24, 30\) does not go with X of shape \(24, 60\)"),
        ({"ivar": -IVAR}, r"ivar has 1440 values that are negative"),
        ({"ivar": 0 * IVAR}, r"24 of 24 spectra have nothing but missing"),
        ({"X": np.where(np.arange(24)[:, None] == 7, np.nan, X)}, r"1 of 24 spectra have nothing but missing"),
        ({"X": np.where(np.arange(60) == 7, np.inf, X)}, r"Input X contains infinity"),
    ],
)
@each_source
def test_spectra_that_cannot_be_used_are_refused_before_training(source, change, sentence, no_training):
    given = {"X": X, "ivar": IVAR} | change
    with pytest.raises(ValueError, match=sentence):
        tiny(source).fit(given["X"], LABELS, ivar=given["ivar"])
    good = (
        tiny(source, max_epochs=0).set_params(**{"encoder__max_epochs": 0} if source == "bare" else {}).fit(X, LABELS)
    )
    with pytest.raises(ValueError, match=sentence):
        good.predict(given["X"], ivar=given["ivar"])


def test_spectra_of_another_length_are_refused():
    model = tiny(max_epochs=0).fit(X, LABELS)
    with pytest.raises(ValueError, match="X has 50 features, but FixedSpectrumEmbedder is expecting 60"):
        model.predict(X[:, :50])
    with pytest.raises(ValueError, match="X has 50 features, but MaskedSpectrumEmbedder is expecting 60"):
        tiny("frozen").fit(X[:, :50], LABELS)


# ---------------------------------------------------------------- what is trained


@pytest.mark.parametrize("n_layers", [0, 1, 2, 3, "all"])
@pytest.mark.parametrize("source", ["transformer", "frozen", "bare"])
def test_blocks_of_the_transformer_are_its_stem_and_its_blocks(source, n_layers):
    model = tiny(source, n_layers=n_layers, layer_decay=0.5, encoder_lr=1e-3).fit(X, LABELS, ivar=IVAR)
    names = ["blocks.1", "blocks.0", "embed"][: 3 if n_layers == "all" else n_layers]
    rates = {"head": 1e-2} | {name: 1e-3 * 0.5**place for place, name in enumerate(names)}
    assert model.learning_rates_ == pytest.approx(rates)
    assert list(model.learning_rates_) == list(rates)


@pytest.mark.parametrize("augment", [None, MASK])
@pytest.mark.parametrize(
    ("source", "n_layers"), [("transformer", 0), ("transformer", 2), ("frozen", 1), ("conv-attention", 1)]
)
def test_frozen_blocks_stay_bit_for_bit_and_trained_ones_change(source, n_layers, augment):
    model = tiny(source, n_layers=n_layers, augment=augment, max_epochs=2)
    before = by_block(clone(model).set_params(max_epochs=0).fit(X, LABELS, ivar=IVAR).encoder_)
    after = by_block(model.fit(X, LABELS, ivar=IVAR).encoder_)
    for block, values in before.items():
        changed = any(not np.array_equal(values[name], after[block][name]) for name in values)
        assert changed == (block in model.learning_rates_), block
    assert all(parameter.requires_grad for parameter in model.encoder_.parameters())


def test_more_layers_than_the_encoder_has_are_refused_with_their_number(no_training):
    with pytest.raises(ValueError, match=r"n_layers=4, but the encoder has 3 blocks \(embed, blocks.0, blocks.1\)"):
        tiny(n_layers=4).fit(X, LABELS)
    with pytest.raises(ValueError, match=r"n_layers=3, but the encoder has 2 blocks \(stages, mlp\)"):
        tiny("conv-attention", n_layers=3).fit(X, LABELS)
    with pytest.raises(ValueError, match="n_layers=4, but the encoder has 3 blocks"):
        tiny("bare", n_layers=4).fit(X, LABELS)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_layers", [0, 1, 2])
@pytest.mark.parametrize("source", ["transformer", "conv-attention"])
def test_computed_once_is_the_same_as_computed_each_time(source, n_layers, early_stopping):
    """Also where tokens are missing: what pools them asks which, and that goes around every cut."""
    params = {"n_layers": n_layers, "early_stopping": early_stopping, "validation_fraction": 0.3, "max_epochs": 2}
    once, each = (tiny(source, augment=augment, **params, **EXACT) for augment in (None, NO_CHANGE))
    assert_same(once.fit(X, LABELS), each.fit(X, LABELS), atol=1e-5)
    np.testing.assert_allclose(once.history_["loss"], each.history_["loss"], atol=1e-5)


@pytest.mark.parametrize(
    ("source", "n_layers", "tail"), [("transformer", 0, True), ("conv-attention", 1, True), ("transformer", 1, False)]
)
def test_what_is_frozen_is_computed_once_where_no_mask_goes_around_it(source, n_layers, tail, monkeypatch):
    fed = []
    forward = tuning.FineTuning.forward
    monkeypatch.setattr(
        tuning.FineTuning, "forward", lambda self, *view, **rest: fed.append(len(view)) or forward(self, *view, **rest)
    )
    tiny(source, n_layers=n_layers).fit(X, LABELS)
    assert set(fed) == {1 if tail else 3}  # features alone, or flux, mask and level


def test_early_stopping_watches_and_restores():
    model = tiny(early_stopping=True, validation_fraction=0.25, n_iter_no_change=2, max_epochs=20, lr=0.05, **EXACT)
    losses = model.fit(X, np.random.default_rng(5).permutation(LABELS)).history_["validation_loss"]
    assert len(losses) == min(20, losses.argmin() + 1 + 2)


# ---------------------------------------------------------------- augmentation


@each_source
def test_masks_are_drawn_in_training_and_never_after(source):
    plain, masked, again = (
        tiny(source, augment=augment, max_epochs=2).fit(X, LABELS) for augment in (None, MASK, MASK)
    )
    assert_same(masked, again)
    assert any(not np.array_equal(value, weights(masked.head_)[name]) for name, value in weights(plain.head_).items())
    np.testing.assert_array_equal(masked.predict_proba(X), masked.predict_proba(X))
    assert repr(masked.augment_) == repr(MASK)
    assert plain.augment_ is None
    assert tiny(source).fit(X, LABELS).augment_ is None  # augment="auto"


def test_a_mask_too_long_for_the_spectra_is_refused(no_training):
    with pytest.raises(ValueError, match="nothing would be left of spectra of 60"):
        tiny(augment=Augment([("mask", ContiguousMask(n=2, length=30))])).fit(X, LABELS)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"survey": "sdss"}, "survey='sdss'"),
        ({"size": 20}, "size=20"),
        ({"image_shape": (1, 6, 10)}, r"image_shape=\(1, 6, 10\)"),
        ({"normalize": "asinh"}, "normalize='asinh'"),
        ({"average": "dihedral"}, "average='dihedral'"),
        ({"average": 3}, "average=3"),
        ({"augment": "supervised"}, "augment='supervised'"),
    ],
)
@each_source
def test_words_of_images_are_refused_before_anything_is_trained(tuner, source, params, sentence, no_training):
    tuner.set_params(encoder=SOURCES[source], **params)
    with pytest.raises(ValueError, match=f"{sentence} is for images, which .*SpectrumEmbedder does not embed"):
        tuner.fit(X, targets(tuner))


def test_an_average_set_after_the_fit_is_refused_too():
    model = tiny(max_epochs=0).fit(X, LABELS).set_params(average="dihedral")
    with pytest.raises(ValueError, match="average='dihedral' is for images"):
        model.predict(X)


# ---------------------------------------------------------------- metadata


def images(n=24):
    return np.random.default_rng(0).normal(size=(n, 2, 32, 32)).astype(np.float32)


def test_metadata_that_the_encoder_does_not_take_are_refused(no_training):
    ivar, votes = np.ones_like(images()), np.ones((24, 2))
    byol = BYOLEmbedder("test_resnet", max_epochs=0, random_state=0).fit(images())
    for encoder, metadata in (
        ("test_resnet", {"ivar": ivar}),
        (FrozenEstimator(byol), {"ivar": ivar}),
        (clone(byol), {"votes": votes}),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(metadata))} is given, but the encoder .* takes none"):
            FineTuneClassifier(encoder, **TINY).fit(images(), LABELS, **metadata)
    for source in SOURCES:
        with pytest.raises(ValueError, match="votes is given, but the encoder of this FineTuneClassifier takes none"):
            tiny(source).fit(X, LABELS, votes=votes)
    model = FineTuneClassifier("test_resnet", **TINY | {"max_epochs": 0}).fit(images(), LABELS)
    with pytest.raises(ValueError, match="ivar is given, but the encoder of this FineTuneClassifier takes none"):
        model.predict(images(), ivar=ivar)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        tiny().fit(X, LABELS, ivar=IVAR[:7])


@pytest.mark.parametrize("cls", [HybridBYOLEmbedder, VoteEmbedder])
def test_votes_reach_a_bare_embedder_that_learns_from_them(cls):
    votes = np.random.default_rng(1).integers(0, 9, size=(24, 2))
    settings = {"hidden_dim": 16, "projection_dim": 8} if cls is HybridBYOLEmbedder else {}
    bare = cls("test_resnet", schema="gz_rings", max_epochs=1, batch_size=8, random_state=3, **settings)
    alone = clone(bare).fit(images(), votes=votes)
    model = FineTuneClassifier(bare, n_layers=0, **TINY).fit(images(), LABELS, votes=votes)
    assert not hasattr(bare, "encoder_")
    np.testing.assert_array_equal(model.embedder_.transform(images()), alone.transform(images()))
    regressor = FineTuneRegressor(bare, n_layers=0, **TINY).fit(images(), Z, votes=votes)
    np.testing.assert_array_equal(regressor.embedder_.transform(images()), alone.transform(images()))
    assert model.predict(images()).shape == (24,)


def test_votes_matter_to_a_hybrid():
    votes = np.random.default_rng(1).integers(0, 9, size=(24, 2))
    bare = HybridBYOLEmbedder(
        "test_resnet", schema="gz_rings", hidden_dim=16, projection_dim=8, max_epochs=1, batch_size=8, random_state=3
    )
    rows = [
        FineTuneClassifier(bare, n_layers=0, **TINY).fit(images(), LABELS, votes=given).embedder_.transform(images())
        for given in (votes, votes[::-1])
    ]
    assert not np.allclose(*rows, atol=1e-4)


def test_inverse_variances_travel_by_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(FunctionTransformer(), tiny()).fit(X, LABELS, ivar=IVAR)
        rows = pipe.predict_proba(X, ivar=IVAR)
        scores = cross_val_score(tiny(), X, LABELS, cv=2, params={"ivar": IVAR})
    direct = tiny().fit(X, LABELS, ivar=IVAR)
    assert_same(pipe[-1], direct)
    np.testing.assert_array_equal(rows, direct.predict_proba(X, ivar=IVAR))
    assert scores.shape == (2,)


# ---------------------------------------------------------------- composition


@pytest.mark.parametrize(
    ("source", "grid"),
    [
        ("transformer", {"encoder__depth": [1, 2], "encoder__pool": ["avg"]}),
        ("bare", {"encoder__n_masks": [1, 2], "encoder__encoder__width": [8]}),
        ("untrained", {"encoder__encoder__stride": [5, 20]}),
        ("conv-attention", {"encoder": ["conv-attention", SMALL], "head": [SoftmaxHead()]}),
    ],
)
def test_a_search_over_the_encoder(source, grid):
    search = GridSearchCV(tiny(source), grid, cv=2, error_score="raise").fit(X, LABELS)
    assert len(search.cv_results_["params"]) == 2
    best = search.best_estimator_.get_params()
    assert all(repr(best[name]) == repr(value) for name, value in search.best_params_.items())
    assert search.predict(X).shape == (24,)


def test_nested_parameters_reach_a_shorthand():
    assert FineTuneClassifier("resnet18").set_params(encoder=None, encoder__depth=6).encoder.depth == 6


@each_source
def test_files_and_pickles_answer_the_same(tuner, source, tmp_path):
    tuner.set_params(encoder=SOURCES[source]).fit(X, targets(tuner), ivar=IVAR)
    rows = answers(tuner, ivar=IVAR)
    save(tuner, tmp_path / "model.skastro")
    for again in (pickle.loads(pickle.dumps(tuner)), load(tmp_path / "model.skastro")):
        np.testing.assert_array_equal(answers(again, ivar=IVAR), rows)
        assert_same(again, tuner)
    told = describe(tmp_path / "model.skastro")["provenance"]
    assert [(known["n_spectra"], known["n_wavelengths"]) for known in told][:1] == [(24, 60)]


def test_parameters_set_after_fit_do_not_touch_what_was_learned():
    model = tiny().fit(X, LABELS)
    rows = model.predict_proba(X)
    model.set_params(encoder="resnet18", n_layers=1, augment="supervised", head_norm=None)
    for again in (model, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.predict_proba(X), rows)


@each_source
def test_same_seed_same_numbers(source):
    first, second = (tiny(source).fit(X, LABELS) for _ in range(2))
    assert_same(first, second)
    other = tiny(source, random_state=1).fit(X, LABELS)
    assert not np.allclose(other.predict_proba(X), first.predict_proba(X), atol=1e-5)


@each_source
def test_tags_tell_what_the_rows_are(source):
    tags = get_tags(tiny(source)).input_tags
    assert (tags.allow_nan, tags.three_d_array) == (True, False)
    tags = get_tags(FineTuneClassifier("resnet18")).input_tags
    assert (tags.allow_nan, tags.three_d_array) == (False, True)


def test_a_refused_refit_loses_nothing():
    model = tiny().fit(X, LABELS)
    rows = model.predict_proba(X)
    with pytest.raises(ValueError, match="nothing but missing"):
        model.fit(np.full_like(X, np.nan), LABELS)
    np.testing.assert_array_equal(model.predict_proba(X), rows)


def test_what_has_no_encoder_to_tune_is_refused(no_training):
    clip = FrozenEstimator(AstroCLIPEmbedder())
    with pytest.raises(TypeError, match="encoder holds a AstroCLIPEmbedder, which is no embedder with an encoder"):
        FineTuneClassifier(clip, **TINY).fit(X, LABELS)


def test_the_tuned_embedder_is_an_embedder():
    model = tiny().fit(X, LABELS, ivar=IVAR)
    frame = model.embedder_.set_output(transform="pandas").transform(X, ivar=IVAR)
    assert frame.shape == (24, 32)
    assert clone(model).fit(X, LABELS, ivar=IVAR).embedder_.get_feature_names_out().shape == (32,)
