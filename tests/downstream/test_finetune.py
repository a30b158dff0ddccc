"""Fine-tuning on 4-D images: what is trained and how fast, what stays as it was, and what the targets mean."""

import io
import pickle
from collections import defaultdict
from functools import partial
from typing import ClassVar

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback
from torch import nn

from skastro import (
    BYOLEmbedder,
    FineTuneClassifier,
    FineTuneRegressor,
    FixedImageEmbedder,
    ImageEncoder,
    Training,
    label_sweep,
    load,
    save,
)
from skastro.augment import Augment, Flip
from skastro.devices import draw_seed
from skastro.downstream import RedshiftBins, SoftmaxHead
from skastro.downstream.tuning import FineTuning
from skastro.encoders import blocks
from skastro.training import hold_out

TINY = {"encoder": "test_resnet", "augment": None, "max_epochs": 1, "batch_size": 8, "lr": 1e-2, "random_state": 0}
TUNERS = {
    "softmax": FineTuneClassifier,
    "dirichlet": partial(FineTuneClassifier, head="dirichlet", dropout=0.0),
    "linear": FineTuneRegressor,
    "redshift-bins": partial(FineTuneRegressor, head=RedshiftBins(5)),
}
# SGD in full precision, because Adam divides by the gradient's size: there rounding can become a whole step.
EXACT = {"training": Training(optimizer="sgd", precision="fp32", warmup=0, weight_decay=0)}
NO_CHANGE = Augment([("flip", Flip(p=0))])  # a step, so that nothing is computed once, which does nothing

X = np.random.default_rng(0).normal(size=(12, 3, 36, 36)).astype(np.float32)
X[::2] += np.hanning(36).astype(np.float32)
LABELS = np.array(["bar", "ring"])[np.arange(12) % 2]
Z = np.linspace(0.01, 0.39, 12)
BYOL = {"encoder": "test_resnet", "batch_size": 8, "hidden_dim": 16, "projection_dim": 8, "random_state": 3}


def tiny(cls=FineTuneClassifier, **params):
    return cls(**TINY | params)


@pytest.fixture(params=TUNERS)
def tuner(request):
    return tiny(TUNERS[request.param])


def targets(model):
    return LABELS if isinstance(model, FineTuneClassifier) else Z


def answers(model, images=X):
    return model.predict_proba(images) if isinstance(model, FineTuneClassifier) else model.predict(images)


def weights(model):
    return {f"{part}.{name}": values for part in ("encoder_", "head_") for name, values in state(model, part).items()}


def state(model, part):
    return {name: tensor.numpy().copy() for name, tensor in getattr(model, part).state_dict().items()}


def assert_same(first, second, **tolerance):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], err_msg=name, **{"rtol": 0, "atol": 0} | tolerance)


@pytest.fixture(scope="module")
def embedder():
    return BYOLEmbedder(**BYOL, augment=None, max_epochs=1, size=32).fit(X)


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr("skastro.base.train", lambda *args, **kwargs: pytest.fail("training had started"))


# ---------------------------------------------------------------- rates


@pytest.mark.parametrize("encoder_lr", [None, 1e-4])
@pytest.mark.parametrize("n_layers", [0, 1, 3, "all"])
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "convnext_atto", "vit_tiny_patch16_224"])
def test_rates_fall_by_the_decay_from_the_head_down(name, n_layers, encoder_lr):
    encoder = ImageEncoder(name).build(3, (32, 32))
    model = FineTuneClassifier(name, n_layers=n_layers, layer_decay=0.5, encoder_lr=encoder_lr, lr=1e-3)
    names = list(blocks(encoder))[::-1]
    trained = names if n_layers == "all" else names[:n_layers]
    rates = model._trained(encoder)
    assert list(rates) == trained
    assert rates == pytest.approx({name: (encoder_lr or 1e-3) * 0.5**i for i, name in enumerate(trained)})


@pytest.mark.parametrize(
    ("params", "first", "decay"), [({}, 1e-2, 1), ({"layer_decay": 0.75, "encoder_lr": 1e-3}, 1e-3, 0.75)]
)
@pytest.mark.parametrize("frozen", [False, True])
def test_rates_do_not_depend_on_where_the_weights_come_from(embedder, frozen, params, first, decay):
    model = tiny(encoder=FrozenEstimator(embedder) if frozen else "test_resnet", **params).fit(X, LABELS)
    assert list(model.learning_rates_.values()) == pytest.approx([1e-2, *(first * decay**i for i in range(5))])


class Spy(Callback):
    """Keeps what the optimizer does and what the network is fed; sklearn clones it, so the class keeps it."""

    rates: ClassVar[dict] = {}
    rows: ClassVar[list] = []

    def on_batch_end(self, net, batch=None, **kwargs):
        names = {parameter: name for name, parameter in net.module_.named_parameters()}
        type(self).rates = {names[p]: g["lr"] for g in net.optimizer_.param_groups for p in g["params"]}
        type(self).rows.append(batch[0]["weight"].numpy().copy())


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setattr(Spy, "rates", {})
    monkeypatch.setattr(Spy, "rows", [])
    return {"training": Training(schedule="constant", warmup=0, callbacks=[Spy()])}


@pytest.mark.parametrize("augment", [None, "supervised"])
@pytest.mark.parametrize("n_layers", [0, 1, 3, "all"])
def test_the_optimizer_uses_the_rates_and_holds_nothing_frozen(n_layers, augment, spy):
    model = tiny(n_layers=n_layers, augment=augment, encoder_lr=1e-3, layer_decay=0.5, **spy).fit(X, LABELS)
    expected = {f"head.{name}": 1e-2 for name, _ in model.head_.named_parameters()}
    for block, names in blocks(model.encoder_).items():
        expected |= {name: model.learning_rates_[block] for name in names if block in model.learning_rates_}
    used = {name.replace("objective.", "").replace("encoder.", ""): rate for name, rate in Spy.rates.items()}
    assert used == pytest.approx(expected)


def test_more_layers_than_the_encoder_has_are_refused_with_their_number(tuner, no_training):
    with pytest.raises(ValueError, match=r"n_layers=6, but the encoder has 5 blocks \(network.conv1, "):
        tuner.set_params(n_layers=6).fit(X, targets(tuner))


# ---------------------------------------------------------------- frozen


def by_block(encoder):
    """Sort parameters and batch-norm statistics by block."""
    owner = {name.rpartition(".")[0]: block for block, names in blocks(encoder).items() for name in names}
    values = defaultdict(dict)
    for name, tensor in encoder.state_dict().items():
        values[owner[name.rpartition(".")[0]]][name] = tensor.numpy().copy()
    return values


@pytest.mark.parametrize("augment", [None, "supervised"])
@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_frozen_blocks_stay_bit_for_bit_and_trained_ones_change(tuner, n_layers, augment):
    tuner.set_params(n_layers=n_layers, augment=augment, max_epochs=2)
    y = targets(tuner)
    before = by_block(clone(tuner).set_params(max_epochs=0).fit(X, y).encoder_)
    after = by_block(tuner.fit(X, y).encoder_)
    for block, values in before.items():
        changed = [name for name in values if not np.array_equal(values[name], after[block][name])]
        assert bool(changed) == (block in tuner.learning_rates_), changed
        assert changed in ([], list(values))


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_batch_norm_in_training_moves_frozen_statistics_and_no_weight(n_layers):
    model = tiny(n_layers=n_layers, batch_norm="train")
    before = by_block(clone(model).set_params(max_epochs=0).fit(X, LABELS).encoder_)
    after = by_block(model.fit(X, LABELS).encoder_)
    for block in before.keys() - model.learning_rates_.keys():
        for name, values in before[block].items():
            is_statistic = "running" in name or "tracked" in name
            assert np.array_equal(values, after[block][name]) != is_statistic, name


def test_nothing_stays_frozen_after_the_fit():
    model = tiny(n_layers=1).fit(X, LABELS)
    assert all(parameter.requires_grad for parameter in model.encoder_.parameters())
    assert not any(module.training for module in (*model.encoder_.modules(), *model.head_.modules()))


class Counted(nn.Conv2d):
    """A layer that remembers how many rows came each time."""

    seen: ClassVar[list] = []

    def forward(self, images):
        type(self).seen.append(len(images))
        return super().forward(images)


def counting(*between, last=6):
    torch.manual_seed(0)
    return nn.Sequential(
        Counted(3, 4, 5, stride=4), *between, nn.ReLU(), nn.Conv2d(4, last, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


@pytest.mark.parametrize("n_layers", [0, 1])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_without_augmentation_the_frozen_part_runs_once_per_image(n_layers, early_stopping, monkeypatch):
    monkeypatch.setattr(Counted, "seen", [])
    model = tiny(encoder=counting(), n_layers=n_layers, max_epochs=5, batch_size=6, early_stopping=early_stopping)
    model.set_params(validation_fraction=0.5).fit(X, LABELS)
    assert [rows for rows in Counted.seen if rows > 2] == [6, 6]


@pytest.mark.parametrize(("augment", "batch_norm"), [("supervised", "eval"), (NO_CHANGE, "eval"), (None, "train")])
def test_otherwise_it_runs_in_each_epoch(augment, batch_norm, monkeypatch):
    monkeypatch.setattr(Counted, "seen", [])
    model = tiny(encoder=counting(), n_layers=1, max_epochs=5, batch_size=6, augment=augment, batch_norm=batch_norm)
    model.fit(X, LABELS)
    assert [rows for rows in Counted.seen if rows > 2] == [6, 6] * 5


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("encoder", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_computed_once_is_the_same_as_computed_each_time(encoder, n_layers, early_stopping):
    params = {"n_layers": n_layers, "early_stopping": early_stopping, "validation_fraction": 0.3, "size": 32, **EXACT}
    once, each = (tiny(**{"encoder": encoder, "augment": a}, max_epochs=2, **params) for a in (None, NO_CHANGE))
    assert_same(weights(once.fit(X, LABELS)), weights(each.fit(X, LABELS)), atol=1e-5)
    np.testing.assert_allclose(once.history_["loss"], each.history_["loss"], atol=1e-5)


class Short(nn.Module):
    """A network in which the image takes a way around the second block."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(36, 6), nn.Linear(6, 6)

    def forward(self, images):
        rows = images.mean(dim=(1, 2))
        return self.two(self.one(rows)) + rows[:, :6]


FLAT = {
    "a path around the cut": Short(),
    "a batch norm without parameters": counting(nn.BatchNorm2d(4, affine=False)),
    "dropout": counting(nn.Dropout(0.5)),
}


@pytest.mark.parametrize("encoder", FLAT.values(), ids=FLAT)
def test_computed_once_is_the_same_for_a_users_module(encoder):
    twins = np.concatenate([X[:1], X[:1], X[2:]])  # alike in the first rows, which tell nothing of a path around
    params = {"encoder": encoder, "n_layers": 1, "max_epochs": 2, **EXACT}
    once, each = (tiny(**params | {"augment": augment}).fit(twins, LABELS) for augment in (None, NO_CHANGE))
    assert_same(weights(once), weights(each), atol=1e-5)


def test_a_frozen_batch_norm_without_parameters_keeps_its_statistics():
    model = tiny(encoder=counting(nn.BatchNorm2d(4, affine=False)), n_layers=1).fit(X, LABELS)
    assert int(model.encoder_[1].num_batches_tracked) == 0


# ---------------------------------------------------------------- where the weights come from

SOURCES = {
    "name": "test_resnet",
    "specification": ImageEncoder("test_resnet", stem="3x3"),
    "module": counting(),
    "bare": BYOLEmbedder(**BYOL, max_epochs=1),
    "untrained": BYOLEmbedder(**BYOL, max_epochs=0),
}


@pytest.mark.parametrize("source", SOURCES)
def test_any_source_is_used_and_stays_as_it_was(tuner, source):
    given = SOURCES[source]
    before = pickle.dumps(given)
    assert np.isfinite(answers(tuner.set_params(encoder=given).fit(X, targets(tuner)))).all()
    assert pickle.dumps(given) == before
    assert tuner.encoder is given


class Weighing(FixedImageEmbedder):
    """A modality whose array has the name that fine-tuning has for the weights of rows."""

    def inputs(self, X, mask=None, *, reset=False, **metadata):
        arrays = super().inputs(X, mask, reset=reset, **metadata)
        return arrays | {"weight": np.ones(len(arrays["images"]))}


def test_arrays_of_a_modality_do_not_take_the_names_of_the_targets(tuner):
    with pytest.raises(ValueError, match="Weighing calls an array 'weight', fine-tuning's own name"):
        tuner.set_params(encoder=FrozenEstimator(Weighing("test_resnet").fit(X))).fit(X, targets(tuner))


def test_a_frozen_embedder_is_used_and_never_touched(tuner, embedder):
    before = joblib.hash(embedder)
    tuner.set_params(encoder=FrozenEstimator(embedder), max_epochs=2).fit(X, targets(tuner))
    assert joblib.hash(embedder) == before
    assert tuner.embedder_.size_ == embedder.size_ == (32, 32)
    tuned, given = by_block(tuner.encoder_), by_block(embedder.encoder_)
    assert all(not np.array_equal(tuned[block][name], given[block][name]) for block in given for name in given[block])


def test_a_probe_of_a_frozen_embedder_is_its_head_on_what_the_embedder_gives(embedder):
    model = tiny(encoder=FrozenEstimator(embedder), n_layers=0).fit(X, LABELS)
    assert_same(state(model, "encoder_"), state(embedder, "encoder_"))
    with torch.no_grad():
        rows = model.head_(torch.from_numpy(embedder.transform(X))).numpy()
    np.testing.assert_allclose(model.predict_proba(X), softmax(rows, axis=1), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*validation")
def test_a_bare_embedder_that_was_trained_is_told():
    trained = BYOLEmbedder(**BYOL, max_epochs=1).fit(X)
    with pytest.warns(UserWarning, match=r"^encoder is fitted, and is fitted anew .* FrozenEstimator\(encoder\) keeps"):
        tiny(encoder=trained, n_layers=0).fit(X, LABELS)
    for start in (clone(trained), FrozenEstimator(trained), FixedImageEmbedder("test_resnet").fit(X)):
        tiny(encoder=start, n_layers=0).fit(X, LABELS)


def test_a_bare_embedder_is_fitted_on_the_images_first():
    bare = BYOLEmbedder(**BYOL, max_epochs=1)
    model = tiny(encoder=bare, n_layers=0).fit(X, LABELS)
    assert not hasattr(bare, "encoder_")
    assert_same(state(model, "encoder_"), state(clone(bare).fit(X), "encoder_"))


def test_a_module_is_trained_from_its_own_weights():
    module = counting()
    model = tiny(encoder=module, n_layers=1).fit(X, LABELS)
    np.testing.assert_array_equal(model.encoder_[0].weight.detach(), module[0].weight.detach())
    assert not torch.equal(model.encoder_[2].weight, module[2].weight)


@pytest.mark.parametrize("params", [{"survey": "sdss"}, {"size": 20}, {"normalize": "asinh"}, {"normalize": None}])
@pytest.mark.parametrize("wrap", [FrozenEstimator, clone])
def test_what_an_embedder_brings_cannot_be_set_beside_it(tuner, embedder, wrap, params, no_training):
    with pytest.raises(ValueError, match=f"{next(iter(params))}=.* cannot be set beside an embedder"):
        tuner.set_params(encoder=wrap(embedder), **params).fit(X, targets(tuner))


@pytest.mark.parametrize(
    ("encoder", "error", "sentence"),
    [
        (FrozenEstimator(BYOLEmbedder()), NotFittedError, r"BYOLEmbedder instance is not fitted"),
        (FrozenEstimator(LogisticRegression()), TypeError, r"encoder holds a LogisticRegression, which is no embedder"),
        (LogisticRegression(), ValueError, r"The 'encoder' parameter of FineTune\w+ must be"),
    ],
)
def test_what_is_no_fitted_embedder_is_refused(tuner, encoder, error, sentence, no_training):
    with pytest.raises(error, match=sentence):
        tuner.set_params(encoder=encoder).fit(X, targets(tuner))


@pytest.mark.parametrize("wrap", [FrozenEstimator, clone])
def test_some_constant_images_warn_with_a_count_whatever_the_encoder(embedder, wrap):
    images = np.concatenate([X[:-1], np.ones_like(X[:1])])
    with pytest.warns(UserWarning, match="1 of 12 images are constant"):
        tiny(encoder=wrap(embedder)).fit(images, LABELS)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (np.ones_like, r"All 12 images are constant: there is nothing to learn from"),
        (lambda X: X[:, :2], r"X has 2 bands, but 3 were learned in fit"),
        (lambda X: X[..., :20], r"Images of 36 × 20 pixels are smaller than the window of 32 × 32"),
        (lambda X: np.where(np.arange(36) == 3, np.nan, X), r"X has 1296 NaN or infinite pixels"),
    ],
)
def test_images_unlike_a_frozen_embedders_are_refused(tuner, embedder, change, sentence, no_training):
    with pytest.raises(ValueError, match=sentence):
        tuner.set_params(encoder=FrozenEstimator(embedder)).fit(change(X), targets(tuner))


@pytest.mark.parametrize("frozen", [False, True])
def test_one_image_is_refused(tuner, embedder, frozen, no_training):
    with pytest.raises(ValueError, match="1 sample"):
        tuner.set_params(encoder=FrozenEstimator(embedder) if frozen else "test_resnet").fit(X[:1], targets(tuner)[:1])


# ---------------------------------------------------------------- targets

SHARES = np.random.default_rng(1).dirichlet([1, 1, 1], size=12)


def slow_cross_entropy(logits, shares, smoothing=0.0):
    """Sum over classes of share times -log softmax, for labels smoothed towards all classes alike."""
    k = logits.shape[1]
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -(((1 - smoothing) * shares + smoothing / k) * log_p).sum(axis=1)


def test_the_objective_is_the_weighted_mean_over_the_batch():
    head = nn.Linear(4, 3)
    objective = FineTuning(nn.Identity(), head, SoftmaxHead().loss, {}, "eval")
    rows, weight = torch.randn(12, 4), torch.rand(12)
    with torch.no_grad():
        logits = head(rows).numpy()
        came = objective(rows, target=torch.from_numpy(SHARES).float(), weight=weight)
    np.testing.assert_allclose(came, (weight.numpy() * slow_cross_entropy(logits, SHARES)).mean(), rtol=1e-5)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("class_weight", [None, "balanced", {"bar": 3.0}], ids=lambda given: type(given).__name__)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_history_tells_the_weighted_loss(soft, class_weight, smoothing):
    label = np.array([0] * 4 + [1] * 8)
    shares = np.where(label[:, None] == [0, 1], 0.8, 0.2) if soft else np.eye(2)[label]
    y = pd.DataFrame(shares, columns=["bar", "ring"]) if soft else np.array(["bar", "ring"])[label]
    weight = np.random.default_rng(3).uniform(0, 2, size=12)
    model = tiny(class_weight=class_weight, label_smoothing=smoothing, lr=1e-12, batch_size=12, n_layers=0, **EXACT)
    model.fit(X, y, sample_weight=weight)
    slow = slow_cross_entropy(np.log(model.predict_proba(X)), shares, smoothing)
    balance = {name: weight.sum() / 2 / weight[label == place].sum() for place, name in enumerate(("bar", "ring"))}
    factors = balance if class_weight == "balanced" else class_weight or {}
    expected = np.average(slow, weights=weight * [factors.get(name, 1) for name in np.array(["bar", "ring"])[label]])
    assert model.history_["loss"][0] == pytest.approx(expected, rel=1e-4)


def test_soft_labels_that_are_certain_are_hard_labels():
    hard, soft = (tiny(max_epochs=2, **EXACT) for _ in range(2))
    y = np.arange(12) % 3
    assert_same(weights(hard.fit(X, y)), weights(soft.fit(X, np.eye(3)[y])), atol=1e-6)


def test_soft_labels_are_shares_at_any_scale():
    one, votes = tiny().fit(X, SHARES), tiny().fit(X, SHARES * 40)
    assert_same(weights(one), weights(votes), atol=1e-6)
    assert one.classes_.tolist() == [0, 1, 2]
    np.testing.assert_allclose(one.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


def test_soft_labels_are_scored_by_their_likelihood():
    model = tiny().fit(X, SHARES)
    expected = (SHARES / SHARES.sum(axis=1, keepdims=True) * np.log(model.predict_proba(X))).sum(axis=1)
    assert model.score(X, 5 * SHARES) == pytest.approx(expected.mean())
    assert model.score(X, SHARES, np.arange(12)) == pytest.approx(np.average(expected, weights=np.arange(12)))
    named = pd.DataFrame(SHARES, columns=["smooth", "disc", "star"])
    assert tiny().fit(X, named).score(X, named[["star", "smooth", "disc"]]) == pytest.approx(expected.mean())


def test_soft_labels_in_a_table_name_the_classes():
    model = tiny().fit(X, pd.DataFrame(SHARES, columns=["smooth", "disc", "star"]))
    assert model.classes_.tolist() == ["smooth", "disc", "star"]
    assert set(model.predict(X)) <= {"smooth", "disc", "star"}


@pytest.mark.parametrize("labels", [LABELS, LABELS == "bar", np.arange(12) % 4, pd.Series(LABELS), list(LABELS)])
def test_labels_of_any_kind_come_back(labels):
    model = tiny(max_epochs=0).fit(X, labels)
    assert model.classes_.tolist() == sorted(set(labels))
    best = model.classes_[model.predict_proba(X).argmax(axis=1)]
    np.testing.assert_array_equal(model.predict(X), best)


def probe(cls, **params):
    """A linear probe whose numbers depend on the weighted rows only."""
    encoder = ImageEncoder("test_resnet", pool="avg", init=None)  # small features, so that no step is a large one
    return tiny(cls, encoder=encoder, n_layers=0, normalize=None, batch_size=64, max_epochs=5, **EXACT, **params)


@pytest.mark.parametrize("name", TUNERS)
def test_weight_0_is_a_row_removed_and_weight_2_a_row_repeated(name):
    model = probe(TUNERS[name])
    y, count = targets(model), np.arange(12) % 3
    rows = np.repeat(np.arange(12), count)
    weighted, repeated = clone(model).fit(X, y, sample_weight=count), clone(model).fit(X[rows], y[rows])
    assert_same(weights(weighted), weights(repeated), atol=1e-5)
    np.testing.assert_allclose(answers(weighted), answers(repeated), rtol=1e-4)
    assert not np.allclose(answers(weighted), answers(clone(model).fit(X, y)), atol=1e-4)


@pytest.mark.parametrize("name", TUNERS)
def test_only_ratios_of_weights_matter(name):
    model = probe(TUNERS[name])
    one, ten = (clone(model).fit(X, targets(model), sample_weight=np.full(12, w)) for w in (1.0, 10.0))
    assert_same(weights(one), weights(ten), atol=1e-6)
    assert_same(weights(one), weights(clone(model).fit(X, targets(model))), atol=1e-6)


def test_class_weights_are_sample_weights():
    y = np.array(["bar"] * 3 + ["ring"] * 9)
    for class_weight, each in [
        ("balanced", (12 / 6, 12 / 18)),
        ({"bar": 5.0, "ring": 1.0}, (5, 1)),
        ({"ring": 2}, (1, 2)),
    ]:
        by_class = probe(FineTuneClassifier, class_weight=class_weight).fit(X, y)
        by_row = probe(FineTuneClassifier).fit(X, y, sample_weight=np.where(y == "bar", *each))
        assert_same(weights(by_class), weights(by_row), atol=1e-6)


def test_classes_may_be_balanced_where_a_soft_one_never_has_the_largest_share():
    shares = np.where(LABELS[:, None] == "bar", [0.6, 0.3, 0.1], [0.3, 0.6, 0.1])
    by_class, by_row = probe(FineTuneClassifier, class_weight="balanced"), probe(FineTuneClassifier)
    assert_same(weights(by_class.fit(X, shares)), weights(by_row.fit(X, shares)), atol=1e-6)


def test_weights_travel_by_routing():
    count = np.arange(12) % 3
    with config_context(enable_metadata_routing=True):
        model = probe(FineTuneClassifier).set_fit_request(sample_weight=True)
        pipe = Pipeline([("same", FunctionTransformer()), ("tune", model)]).fit(X, LABELS, sample_weight=count)
    assert_same(weights(pipe["tune"]), weights(probe(FineTuneClassifier).fit(X, LABELS, count)))


def spoilt(array, row, value):
    array = np.array(array)
    array[row] = value
    return array


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        (Z, r"Unknown label type: continuous"),
        (spoilt(Z, 3, np.nan), r"y has 1 missing values, the first in row 3"),
        (spoilt(LABELS.astype(object), 3, np.nan), r"y has 1 missing values, the first in row 3"),
        (spoilt(SHARES, 3, np.nan), r"y has 3 missing values, the first in row 3"),
        (spoilt(SHARES, (3, 1), -0.1), r"1 rows of y are not, the first is row 3"),
        (spoilt(SHARES, [5, 7], 0), r"2 rows of y are not, the first is row 5"),
        (LABELS[:-1], r"inconsistent numbers of samples: \[12, 11\]"),
        (None, r"requires y to be passed, but the target y is None"),
    ],
)
def test_labels_that_are_none_are_refused(y, sentence, no_training):
    with pytest.raises(ValueError, match=sentence):
        tiny().fit(X, y)


@pytest.mark.parametrize("head", ["linear", "redshift-bins"])
@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        (spoilt(Z, 3, np.nan), r"y has 1 missing values, the first in row 3"),
        (spoilt(Z, 3, np.inf), r"Input y contains infinity|1 of 12 redshifts are NaN or infinite, the first in row 3"),
        (np.ones((12, 2, 2)), r"Found array with dim 3|y should be a 1d array"),
        (Z[:-1], r"inconsistent numbers of samples: \[12, 11\]"),
        (LABELS, r"could not convert string to float"),
        (None, r"requires y to be passed, but the target y is None"),
    ],
)
def test_values_that_are_none_are_refused(head, y, sentence, no_training):
    with pytest.raises(ValueError, match=sentence):
        tiny(FineTuneRegressor, head=head).fit(X, y)


@pytest.mark.parametrize(
    ("weight", "sentence"),
    [
        (np.zeros(12), r"All rows have sample_weight 0|must contain at least one non-zero number"),
        (spoilt(np.ones(12), 3, -1), r"Negative values in data passed to `sample_weight`"),
        (spoilt(np.ones(12), 3, np.nan), r"sample_weight has 1 missing values, the first in row 3"),
        (np.ones(11), r"sample_weight.shape == \(11,\), expected \(12,\)"),
    ],
)
def test_weights_that_are_none_are_refused(tuner, weight, sentence, no_training):
    with pytest.raises(ValueError, match=sentence):
        tuner.fit(X, targets(tuner), sample_weight=weight)


def test_class_weights_that_leave_nothing_are_refused(no_training):
    with pytest.raises(ValueError, match="nothing to learn from"):
        tiny(class_weight={"bar": 0, "ring": 0}).fit(X, LABELS)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"n_layers": -1}, "n_layers"),
        ({"n_layers": "most"}, "n_layers"),
        ({"layer_decay": 0.0}, "layer_decay"),
        ({"layer_decay": 1.5}, "layer_decay"),
        ({"encoder_lr": 0.0}, "encoder_lr"),
        ({"batch_norm": "freeze"}, "batch_norm"),
        ({"head": "sigmoid"}, "head"),
        ({"early_stopping": True, "validation_fraction": 1.0}, "validation_fraction"),
        ({"n_iter_no_change": 0}, "n_iter_no_change"),
    ],
)
def test_parameters_out_of_range_are_named(tuner, params, name, no_training):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of FineTune"):
        tuner.set_params(**params).fit(X, targets(tuner))


# ---------------------------------------------------------------- values and redshifts


def test_values_come_back_in_their_own_unit():
    near, far = (tiny(FineTuneRegressor, **EXACT).fit(X, y).predict(X) for y in (Z, 1e3 * Z - 7e2))
    np.testing.assert_allclose(far, 1e3 * near - 7e2, rtol=1e-4, atol=1e-2)
    assert near.dtype == np.float64


def test_several_values_are_told_each_in_its_own_unit():
    units, zeros = np.array([1.0, 1e3, 1e-3]), np.array([0.0, -7e2, 5.0])
    model = tiny(FineTuneRegressor, **EXACT)
    alone = model.fit(X, Z).predict(X)
    plain = model.fit(X, np.column_stack([Z, -Z, Z**2])).predict(X)
    scaled = model.fit(X, np.column_stack([Z, -Z, Z**2]) * units + zeros).predict(X)
    np.testing.assert_allclose(scaled, plain * units + zeros, rtol=1e-4, atol=1e-2)
    assert plain.shape == (12, 3)
    assert np.ptp(plain, axis=0).min() > 0
    assert model.fit(X, Z[:, np.newaxis]).predict(X).shape == (12, 1)
    np.testing.assert_allclose(model.predict(X)[:, 0], alone, rtol=1e-6)


def test_of_several_values_one_may_be_the_same_for_all():
    predicted = tiny(FineTuneRegressor).fit(X, np.column_stack([Z, np.full(12, 3.0)])).predict(X)
    assert np.isfinite(predicted).all()


def test_redshift_bins_take_one_value():
    with pytest.raises(ValueError, match="1d array"):
        binned().fit(X, np.column_stack([Z, Z]))


def test_equal_values_are_learned():
    np.testing.assert_allclose(
        tiny(FineTuneRegressor, n_layers=0, max_epochs=30).fit(X, np.full(12, 5.0)).predict(X), 5, atol=0.3
    )


def binned(**params):
    return tiny(FineTuneRegressor, **{"head": "redshift-bins"} | params)


def test_a_redshift_is_the_mean_of_its_distribution():
    model = binned(lr=3e-3).fit(X, Z)
    pdf, edges = model.predict_pdf(X)
    np.testing.assert_allclose(edges, np.linspace(0, 0.4, 181))
    np.testing.assert_allclose(pdf.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(model.predict(X), pdf @ ((edges[:-1] + edges[1:]) / 2), rtol=1e-6)


def test_intervals_are_nested():
    model = binned().fit(X, Z)
    narrow, usual, wide = model.predict_interval(X, 0.3), model.predict_interval(X), model.predict_interval(X, 0.95)
    np.testing.assert_array_equal(usual, model.predict_interval(X, 0.68))
    for inner, outer in [(narrow, usual), (usual, wide)]:
        assert (outer[:, 0] < inner[:, 0]).all()
        assert (inner[:, 0] < inner[:, 1]).all()
        assert (inner[:, 1] < outer[:, 1]).all()


def test_bins_are_set_through_the_shorthand():
    model = binned().set_params(head__n_bins=90, head__point="mode").fit(X, Z)
    pdf, edges = model.predict_pdf(X)
    assert pdf.shape == (12, 90)
    assert len(edges) == 91
    np.testing.assert_allclose(model.predict(X), (edges[:-1] + 0.4 / 180)[pdf.argmax(axis=1)], rtol=1e-5)


def test_redshifts_outside_the_bins_are_clipped_with_one_warning():
    outside = spoilt(Z, [2, 5, 7], [-0.1, 0.5, 9.0])
    with pytest.warns(UserWarning, match=r"3 of 12 redshifts lie outside \[0.0, 0.4\]") as caught:
        far = binned(**EXACT).fit(X, outside)
    assert len(caught) == 1
    assert_same(weights(far), weights(binned(**EXACT).fit(X, outside.clip(0, 0.4))))


def test_impossible_bins_are_refused(no_training):
    with pytest.raises(ValueError, match=r"low must be less than high; got low=0.5 and high=0.4"):
        binned().set_params(head__low=0.5).fit(X, Z)


def test_only_bins_have_a_distribution():
    assert not hasattr(FineTuneRegressor(), "predict_pdf")
    assert not hasattr(FineTuneRegressor(), "predict_interval")
    assert hasattr(FineTuneRegressor(head="redshift-bins"), "predict_pdf")
    assert hasattr(FineTuneRegressor(head=RedshiftBins(4)), "predict_interval")


def test_a_refit_with_the_other_head_forgets_the_first():
    model = binned().fit(X, Z).set_params(head="linear").fit(X, Z)
    np.testing.assert_array_equal(model.predict(X), tiny(FineTuneRegressor).fit(X, Z).predict(X))
    again = model.set_params(head="redshift-bins").fit(X, Z)
    np.testing.assert_array_equal(again.predict(X), binned().fit(X, Z).predict(X))


# ---------------------------------------------------------------- early stopping


def stopped(cls=FineTuneClassifier, **params):
    early = {"early_stopping": True, "validation_fraction": 0.5, "n_iter_no_change": 2, "max_epochs": 12, "lr": 0.05}
    return tiny(cls, **early | EXACT | params)


NOISE = np.random.default_rng(5).permutation(LABELS)


@pytest.mark.parametrize("augment", [None, "supervised"])
@pytest.mark.parametrize("n_layers", [0, 1, "all"])
def test_early_stopping_restores_the_best_epoch(n_layers, augment):
    model = stopped(n_layers=n_layers, augment=augment).fit(X, NOISE)
    losses, label = model.history_["validation_loss"], np.searchsorted(model.classes_, NOISE)
    _, held_out = hold_out(np.arange(12), 0.5, draw_seed(0), classes=label)
    now = -np.log(model.predict_proba(X[held_out])[range(len(held_out)), label[held_out]]).mean()
    assert now == pytest.approx(losses.min(), rel=1e-4)
    assert len(losses) == len(model.history_["loss"]) == min(12, losses.argmin() + 1 + 2)
    assert losses.argmin() < len(losses) - 1


def test_the_held_out_loss_is_weighted():
    weight = np.random.default_rng(4).uniform(0, 3, size=12)
    model = stopped(max_epochs=1).fit(X, NOISE, sample_weight=weight)
    label = np.searchsorted(model.classes_, NOISE)
    _, rows = hold_out(np.arange(12), 0.5, draw_seed(0), classes=label)
    slow = -np.log(model.predict_proba(X[rows])[range(len(rows)), label[rows]])
    assert model.history_["validation_loss"][0] == pytest.approx(np.average(slow, weights=weight[rows]), rel=1e-4)


@pytest.mark.parametrize("name", TUNERS)
def test_rows_held_out_are_never_trained_on(name, spy):
    y = targets(tiny(TUNERS[name]))
    weight = 1 + np.arange(12) / 100  # tells the rows apart
    tiny(TUNERS[name], early_stopping=True, validation_fraction=0.25, max_epochs=3, **spy).fit(X, y, weight)
    seen = np.unique(np.concatenate(Spy.rows).round(4))
    assert len(seen) == 9


def test_rows_held_out_keep_the_proportions_of_classes(spy):
    label, few = np.repeat([0, 1, 2], [6, 3, 3]), {"early_stopping": True, "validation_fraction": 1 / 3}
    for seed in range(5):
        Spy.rows.clear()
        tiny(**few | {"random_state": seed}, **spy).fit(X, label, 1 + np.arange(12) / 100)  # tells the rows apart
        trained = np.unique(np.round(100 * (np.concatenate(Spy.rows) * 1.055 - 1)).astype(int))
        assert np.bincount(label[trained]).tolist() == [4, 2, 2]


def test_holding_out_all_rows_but_one_is_refused(no_training):
    with pytest.raises(ValueError, match=r"validation_fraction=0.5 leaves 1 of 3 rows to train on"):
        tiny(FineTuneRegressor, early_stopping=True, validation_fraction=0.5).fit(X[:3], Z[:3])


def test_what_cannot_be_held_out_is_refused_before_a_bare_embedder_is_trained(no_training):
    with pytest.raises(ValueError, match="least populated class"):
        tiny(encoder=BYOLEmbedder(**BYOL), early_stopping=True).fit(X, np.repeat(["bar", "ring"], [11, 1]))


@pytest.mark.parametrize("params", [{}, {"n_layers": 0}, {"augment": "supervised"}])
def test_all_tuners_stop_early(tuner, params):
    tuner.set_params(early_stopping=True, validation_fraction=0.3, max_epochs=2, **params).fit(X, targets(tuner))
    assert np.isfinite(tuner.history_["validation_loss"]).all()
    assert "validation_loss" not in clone(tuner).set_params(early_stopping=False).fit(X, targets(tuner)).history_


# ---------------------------------------------------------------- numbers


def test_same_seed_same_numbers_and_the_users_generators_stay(tuner):
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    tuner.set_params(augment="supervised")
    first, second = (clone(tuner).fit(X, targets(tuner)) for _ in range(2))
    assert_same(weights(first), weights(second))
    other = clone(tuner).set_params(random_state=1).fit(X, targets(tuner))
    assert not np.array_equal(answers(first), answers(other))
    assert torch.equal(states[0], torch.random.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("n_layers", [0, 2, "all"])
@pytest.mark.parametrize("copy", ["pickle", "joblib", "file"])
def test_a_copy_answers_the_same(tuner, n_layers, copy, embedder, tmp_path):
    tuner.set_params(encoder=FrozenEstimator(embedder), n_layers=n_layers).fit(X, targets(tuner))
    if copy == "pickle":
        again = pickle.loads(pickle.dumps(tuner))
    elif copy == "joblib":
        joblib.dump(tuner, file := io.BytesIO())
        again = joblib.load(file)
    else:
        save(tuner, tmp_path / "tuned.skastro")
        again = load(tmp_path / "tuned.skastro")
    np.testing.assert_array_equal(answers(again), answers(tuner))
    assert again.learning_rates_ == tuner.learning_rates_
    assert joblib.hash(pickle.loads(pickle.dumps(tuner))) == joblib.hash(tuner)


@pytest.mark.gpu
@pytest.mark.parametrize("n_layers", [0, 2, "all"])
def test_cuda_learns_and_its_state_answers_the_same_on_the_cpu(tuner, n_layers):
    tuner.set_params(n_layers=n_layers, device="cuda").fit(X, targets(tuner))
    moved = pickle.loads(pickle.dumps(tuner)).set_params(device="cpu")
    np.testing.assert_allclose(answers(moved), answers(tuner), atol=1e-4)


def test_state_is_numbers(tuner):
    state = tuner.fit(X, targets(tuner)).__getstate__()
    leaves = [leaf for value in state.values() for leaf in (value.values() if isinstance(value, dict) else [value])]
    assert not any(isinstance(leaf, torch.Tensor | nn.Module) for leaf in leaves)


@pytest.mark.parametrize("pickled", [False, True])
def test_parameters_set_after_fit_do_not_touch_what_was_learned(tuner, pickled):
    before = answers(tuner.fit(X, targets(tuner)))
    other = {"softmax": {}, "linear": {"head": "redshift-bins"}}.get(tuner.head, {"head": "linear"})
    tuner.set_params(encoder="test_vit", augment="radio", size=20, normalize=None, n_layers=1, lr=1.0, **other)
    np.testing.assert_array_equal(answers(pickle.loads(pickle.dumps(tuner)) if pickled else tuner), before)


def test_rows_do_not_depend_on_their_neighbors(tuner):
    whole = answers(tuner.fit(X, targets(tuner)))
    alone = np.concatenate([answers(tuner, row[None]) for row in X])
    np.testing.assert_allclose(alone, whole, atol=1e-5)


def test_dihedral_average_does_not_see_orientation(tuner):
    tuner.set_params(average="dihedral").fit(X, targets(tuner))
    turned = np.rot90(X, axes=(2, 3))[..., ::-1].copy()
    np.testing.assert_allclose(answers(tuner), answers(tuner, turned), rtol=1e-4, atol=1e-5)
    assert not np.allclose(answers(tuner.set_params(average=None)), answers(tuner, turned), rtol=1e-4, atol=1e-5)


def test_rotations_to_average_over_are_filled_as_the_recipe_says(tuner):
    """Zeros beyond a cutout are zeros around it: in a frame of them, the same weights give the same answers."""
    tuner.set_params(average=8, normalize=None, max_epochs=0, size=36)

    def told(images, edge):
        return answers(clone(tuner).set_params(augment=Augment(edge=edge)).fit(images, targets(tuner)), images)

    zeros, framed = told(X, "zeros"), np.pad(X, [(0, 0), (0, 0), (10, 10), (10, 10)])
    np.testing.assert_allclose(told(framed, "border"), zeros, rtol=1e-4, atol=1e-6)
    assert not np.allclose(told(X, "border"), zeros, rtol=1e-3, atol=1e-5)


def test_shapes_learn():
    y = np.arange(32) % 2
    x = np.linspace(-1, 1, 32)
    shapes = np.stack([np.exp(-8 * (x**2 + x[:, None] ** 2)), np.exp(-8 * x**2 - 80 * x[:, None] ** 2)])
    sky = shapes[y][:, None] + 0.05 * np.random.default_rng(0).normal(size=(32, 1, 32, 32))
    for n_layers in (1, "all"):
        model = tiny(n_layers=n_layers, max_epochs=12, batch_size=4).fit(sky[:16], y[:16])
        assert model.score(sky[16:], y[16:]) == 1


def test_an_untrained_model_answers_and_says_so_in_its_history(tuner):
    tuner.set_params(max_epochs=0).fit(X, targets(tuner))
    assert len(tuner.predict(X)) == 12
    assert len(tuner.history_["loss"]) == 0


# ---------------------------------------------------------------- composition


def test_grid_search_over_what_is_trained(tuner):
    grid = {"n_layers": [0, 2], "layer_decay": [0.5, 1.0], "encoder__stem": [None, "3x3"]}
    search = GridSearchCV(tuner, grid, cv=2).fit(X, targets(tuner))
    assert len(search.cv_results_["params"]) == 8
    assert tuner.encoder == "test_resnet"


def test_grid_search_reaches_into_a_bare_embedder():
    model = tiny(encoder=BYOLEmbedder(**BYOL, max_epochs=1))
    search = GridSearchCV(model, {"encoder__lr": [1e-3, 1e-2], "encoder__augment__noise": ["passthrough"]}, cv=2)
    assert search.fit(X, LABELS).best_estimator_.predict(X).shape == (12,)
    assert model.encoder.augment == BYOLEmbedder().augment


def test_cross_validation_of_a_pipeline(tuner, embedder):
    before = joblib.hash(embedder)
    pipe = Pipeline(
        [("flux", FunctionTransformer(np.abs)), ("tune", tuner.set_params(encoder=FrozenEstimator(embedder)))]
    )
    scores = cross_val_score(pipe, X, targets(tuner), cv=2)
    assert np.isfinite(scores).all()
    assert joblib.hash(embedder) == before


def test_label_sweep_with_a_frozen_embedder_inside(embedder):
    methods = {"tuned": tiny(encoder=FrozenEstimator(embedder), n_layers=1), "direct": tiny()}
    sweep = label_sweep(methods, X, LABELS, label_counts=[2, 4], cv=2, random_state=0)
    assert len(sweep) == 2 * 2 * 2
    assert sweep.score.between(0, 1).all()


@pytest.mark.parametrize("shape", [(12, 3, 36, 36), (12, 36, 36), (12, 1296)], ids=["bands", "one band", "rows"])
def test_input_of_any_dimensions(tuner, shape):
    images = X if len(shape) == 4 else X[:, 0].reshape(shape)
    if len(shape) == 2:
        tuner.set_params(image_shape=(1, 36, 36))
    assert len(tuner.fit(images, targets(tuner)).predict(images)) == 12


# ---------------------------------------------------------------- interrupted and refused


def test_interrupt_keeps_what_was_learned(tuner, monkeypatch):
    from skastro.training import callbacks

    def stop(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.ScheduleCallback, "on_epoch_begin", stop)
    for n_layers in (0, "all"):
        with pytest.raises(KeyboardInterrupt):
            tuner.set_params(max_epochs=5, n_layers=n_layers).fit(X, targets(tuner))
        assert len(tuner.history_["loss"]) == 1
        assert len(tuner.predict(X)) == 12
        assert all(parameter.requires_grad for parameter in tuner.encoder_.parameters())


@pytest.mark.parametrize("n_layers", [0, "all"])
def test_interrupt_in_the_first_epoch_keeps_its_steps_though_early_stopping_has_measured_nothing(n_layers, monkeypatch):
    from skastro.training import callbacks

    def stop(self, net, **kwargs):
        record(self, net, **kwargs)
        if steps.append(1) or len(steps) == 2:
            raise KeyboardInterrupt

    steps, record = [], callbacks.Monitor.on_batch_end
    start = stopped(n_layers=n_layers, max_epochs=0).fit(X, NOISE)
    monkeypatch.setattr(callbacks.Monitor, "on_batch_end", stop)
    model = stopped(n_layers=n_layers, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, NOISE)
    assert not np.allclose(answers(model), answers(start), atol=1e-6)


def test_a_refused_refit_loses_nothing(tuner, embedder):
    before, y = answers(tuner.fit(X, targets(tuner))), targets(tuner)
    fitted = joblib.hash(tuner)
    for params, images, target in [
        ({"encoder": "resnet81"}, X, y),
        ({"encoder": FrozenEstimator(embedder)}, X[:, :2], y),
        ({"n_layers": 9}, X[:, :2], np.roll(y, 1)),
        ({}, X, y[:5]),
    ]:
        with pytest.raises(ValueError, match=r"Unknown encoder|bands|n_layers=9|inconsistent"):
            tuner.set_params(**params).fit(images, target)
        np.testing.assert_array_equal(answers(tuner), before)
        tuner.set_params(encoder="test_resnet", n_layers="all")
    assert joblib.hash(tuner) == fitted


def test_a_state_of_another_kind_of_fit_is_not_mixed_in(embedder):
    model = tiny(survey=None, image_shape=X.shape[1:])
    model.fit(pd.DataFrame(X.reshape(12, -1)).rename(columns=str), LABELS).set_params(image_shape=None)
    model.set_params(encoder=FrozenEstimator(embedder)).fit(X, LABELS)
    assert not hasattr(model, "feature_names_in_")
