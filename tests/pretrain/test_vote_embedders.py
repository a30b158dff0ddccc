"""What is learned from votes, alone and beside BYOL: the laws of the hybrid loss, routing, files, refusals."""

import pickle
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback
from torch import nn

import skastro
from skastro import BYOLEmbedder, HybridBYOLEmbedder, Training, VoteEmbedder, VoteSchema, label_sweep
from skastro.augment import MultiView, get_recipe
from skastro.encoders import VoteHead
from skastro.pretrain.byol import BYOL
from skastro.pretrain.hybrid import HybridBYOL
from skastro.pretrain.votes import VotePretraining, as_votes, make_vote_head

TINY = {"encoder": "test_resnet", "max_epochs": 1, "batch_size": 8, "random_state": 0}
SCHEMA = VoteSchema({"shape": ["round", "barred"], "bar": ["strong", "weak", "none"]}, {"bar": ("shape", "barred")})
COLUMNS = ["shape_round", "shape_barred", "bar_strong", "bar_weak", "bar_none"]


@pytest.fixture(scope="module")
def sky():
    """Blobs and bars, 24 images of 36 pixels a side, with ten volunteers each; nobody saw the last eight."""
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    x = np.linspace(-1, 1, 36)
    shapes = np.stack([np.exp(-8 * (x**2 + x[:, None] ** 2)), np.exp(-8 * x**2 - 80 * x[:, None] ** 2)])
    X = shapes[y][:, None] * [[[[1.0]], [[2.0]], [[3.0]]]] + 0.05 * rng.normal(size=(24, 3, 36, 36))
    barred = 1 + 8 * y
    votes = np.stack([10 - barred, barred, barred // 2, barred - barred // 2, 0 * y], axis=1)
    votes[16:] = 0
    return SimpleNamespace(X=X.astype(np.float32), y=y, votes=votes)


@pytest.fixture(
    params=[HybridBYOLEmbedder(**TINY, hidden_dim=32, projection_dim=16), VoteEmbedder(**TINY)],
    ids=lambda embedder: type(embedder).__name__,
)
def embedder(request):
    return clone(request.param).set_params(schema=clone(SCHEMA))


@pytest.fixture
def hybrid():
    return HybridBYOLEmbedder(**TINY, schema=clone(SCHEMA), hidden_dim=32, projection_dim=16)


@pytest.fixture
def byol():
    return BYOLEmbedder(**TINY, hidden_dim=32, projection_dim=16)


def table(votes):
    return pd.DataFrame(votes, columns=COLUMNS)


def assert_same_fit(first, second):
    assert first.encoder_.state_dict().keys() == second.encoder_.state_dict().keys()
    for name, weight in first.encoder_.state_dict().items():
        assert torch.equal(weight, second.encoder_.state_dict()[name]), name
    for name in ("loss", "lr", "embedding_std", "effective_rank"):
        np.testing.assert_array_equal(first.history_[name], second.history_[name])


# ---------------------------------------------------------------- the limits of the hybrid


SCALINGS = {"cosine": lambda contrastive: abs(2 - contrastive), "loss": abs}


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("training", [None, Training(clip=0.1), Training(optimizer="sgd", precision="fp32")])
def test_weight_0_is_byol_bit_for_bit(hybrid, byol, sky, training, scaling):
    hybrid.set_params(vote_weight=0.0, vote_scaling=scaling, training=training, max_epochs=2)
    hybrid.fit(sky.X, votes=sky.votes)
    assert_same_fit(hybrid, byol.set_params(training=training, max_epochs=2).fit(sky.X))
    np.testing.assert_array_equal(hybrid.transform(sky.X), byol.transform(sky.X))
    np.testing.assert_array_equal(hybrid.history_["contrastive_loss"], byol.history_["loss"])


@pytest.mark.parametrize("how", ["absent", "zero", "zero table"])
def test_without_votes_it_is_byol_bit_for_bit_and_warns(hybrid, byol, sky, how):
    votes = {"absent": None, "zero": 0 * sky.votes, "zero table": table(0 * sky.votes)}[how]
    with pytest.warns(UserWarning, match="No image has a vote: HybridBYOLEmbedder learns as BYOLEmbedder does"):
        hybrid.fit(sky.X, sky.y, votes=votes)
    assert_same_fit(hybrid, byol.fit(sky.X))
    assert hybrid.history_.keys() == byol.history_.keys()
    assert hybrid.schema_ is None


def test_votes_in_the_place_of_y_are_told(hybrid, sky):
    hybrid.set_params(max_epochs=0)
    with pytest.warns(UserWarning, match=r"No image has a vote: .*\. y is not read: give votes=\.$"):
        hybrid.fit(sky.X, sky.votes)
    with pytest.warns(UserWarning, match=r"learns as BYOLEmbedder does\.$"):
        hybrid.fit(sky.X)


def test_any_weight_moves_the_encoder(hybrid, byol, sky):
    hybrid.fit(sky.X, votes=sky.votes)
    assert not np.allclose(hybrid.transform(sky.X), byol.fit(sky.X).transform(sky.X))


@pytest.fixture
def objectives():
    """Hybrid, BYOL and supervised objectives with the same smooth encoder, and one batch."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh())
    byol = BYOL(encoder, 8, 16, 4)
    head = VoteHead(8, 5, torch.Generator().manual_seed(1), dropout=0.0)
    first, second = torch.randn(2, 6, 3, 2, 2)
    votes = torch.tensor([[6, 4, 1, 2, 1], [0, 0, 0, 0, 0], [9, 1, 0, 0, 1]] * 2)
    return SimpleNamespace(
        encoder=encoder,
        byol=byol,
        hybrid=lambda weight, *scaling: HybridBYOL(byol, head, (2, 3), weight, *scaling),
        supervised=VotePretraining(encoder, head, (2, 3)),
        first=first,
        second=second,
        votes=votes,
    )


def gradient(objective, encoder, *views, **targets):
    encoder.zero_grad()
    objective(*views, **targets).backward()
    return torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()])


def test_a_large_weight_teaches_in_the_direction_of_the_votes(objectives):
    o = objectives
    supervised = gradient(o.supervised, o.encoder, o.first, votes=o.votes)
    angles = [
        torch.cosine_similarity(gradient(o.hybrid(w), o.encoder, o.first, o.second, votes=o.votes), supervised, dim=0)
        for w in (0.0, 1.0, 1e7)
    ]
    assert abs(angles[0]) < 0.9
    assert angles[0] < angles[1] < angles[2]
    assert angles[2].item() == pytest.approx(1, abs=1e-5)


def test_the_loss_is_that_of_the_formula(objectives):
    o = objectives
    contrastive = o.byol(o.first, o.second).item()
    for weight, scaling in product((0.0, 0.3, 10.0), SCALINGS):
        hybrid = o.hybrid(weight, scaling)
        expected = contrastive + weight * SCALINGS[scaling](contrastive)
        assert hybrid(o.first, o.second, votes=o.votes).item() == pytest.approx(expected)
        assert hybrid.parts["contrastive_loss"].item() == pytest.approx(contrastive)
        assert hybrid.parts["vote_loss"].item() == pytest.approx(o.supervised(o.first, o.votes).item())


def test_a_batch_without_labels_is_one_of_byol(objectives):
    o = objectives
    alone = gradient(o.byol, o.encoder, o.first, o.second)
    hybrid = o.hybrid(1e6)
    assert torch.equal(gradient(hybrid, o.encoder, o.first, o.second, votes=0 * o.votes), alone)
    assert hybrid.parts["vote_loss"].isnan()


def test_the_votes_are_told_from_the_first_view_alone(objectives):
    o = objectives
    hybrid = o.hybrid(1.0)
    hybrid(o.first, o.second, votes=o.votes)
    once = hybrid.parts["vote_loss"]
    hybrid(o.first, 2 * o.second, votes=o.votes)
    assert torch.equal(hybrid.parts["vote_loss"], once)


def test_comparing_is_the_forward_of_byol_with_the_features(objectives):
    o = objectives
    loss, features = o.byol.compare(o.first, o.second)
    assert torch.equal(loss, o.byol(o.first, o.second))
    assert torch.equal(features, o.encoder(o.first))


# ---------------------------------------------------------------- what is learned


@pytest.mark.parametrize("scaling", SCALINGS)
def test_history_tells_both_halves(hybrid, sky, scaling):
    votes = np.tile(sky.votes[:2], (12, 1))
    hybrid.set_params(vote_weight=0.5, vote_scaling=scaling, max_epochs=3, batch_size=24).fit(sky.X, votes=votes)
    history = hybrid.history_
    expected = history["contrastive_loss"] + 0.5 * SCALINGS[scaling](history["contrastive_loss"])
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    assert history["vote_loss"].shape == (3,)
    assert (history["vote_loss"] > 0).all()


def test_batches_without_labels_do_not_count_in_the_history(hybrid, sky):
    losses = []

    class Look(Callback):
        def on_batch_end(self, net, **kwargs):
            losses.append(net.module_.objective.parts["vote_loss"].item())

    votes = 0 * sky.votes
    votes[3] = sky.votes[3]
    history = hybrid.set_params(training=Training(callbacks=[Look()])).fit(sky.X, votes=votes).history_
    (known,) = (loss for loss in losses if not np.isnan(loss))
    assert len(losses) == 3
    assert history["vote_loss"] == pytest.approx([known], rel=1e-6)  # not a third of it


def test_the_likelihood_of_the_votes_rises(embedder, sky):
    embedder.set_params(max_epochs=12, lr=1e-3, augment=None).fit(sky.X, votes=sky.votes)
    loss = embedder.history_["vote_loss" if isinstance(embedder, HybridBYOLEmbedder) else "loss"]
    assert loss[-1] < 0.8 * loss[0]


def test_votes_are_told_from_features_of_any_size():
    """The pooled features of a trained network reach 140: as they are, they end the learning of the head."""
    torch.manual_seed(0)
    head = make_vote_head(64, 5).eval()
    rows = torch.randn(32, 64)
    torch.testing.assert_close(head(140 * rows + 30), head(rows), rtol=1e-3, atol=1e-2)
    logits = torch.logit((head(140 * rows) - 1) / 100)
    assert logits.abs().max() < 5


def test_the_order_of_a_tables_columns_does_not_matter(embedder, sky):
    order = np.random.default_rng(1).permutation(5)
    shuffled = clone(embedder).fit(sky.X, votes=table(sky.votes).iloc[:, order])
    assert_same_fit(embedder.fit(sky.X, votes=sky.votes), shuffled)


def test_votes_may_be_lists_tables_and_of_any_type(embedder, sky):
    embedder.fit(sky.X, votes=sky.votes)
    for votes in (sky.votes.tolist(), sky.votes.astype("f4"), table(sky.votes), table(sky.votes).astype("u1")):
        assert_same_fit(clone(embedder).fit(sky.X, votes=votes), embedder)


def test_a_table_names_its_questions_and_labels_are_one(sky):
    schema, counts = as_votes(table(sky.votes), None, 24)
    assert schema.questions == {"shape": ["round", "barred"], "bar": ["strong", "weak", "none"]}
    np.testing.assert_array_equal(counts, sky.votes)
    for labels in (sky.y, sky.y.reshape(-1, 1), sky.y.tolist(), pd.Series(sky.y)):
        schema, counts = as_votes(labels, None, 24)
        assert schema.questions == {"label": ["0", "1"]}
        np.testing.assert_array_equal(counts, np.eye(2)[sky.y])


def test_labels_are_one_vote_each(sky):
    plain = VoteEmbedder(**TINY).fit(sky.X, sky.y)
    schema = VoteSchema({"label": ["0", "1"]})
    assert_same_fit(plain, VoteEmbedder(**TINY, schema=schema).fit(sky.X, votes=np.eye(2)[sky.y]))
    assert_same_fit(plain, VoteEmbedder(**TINY, schema=schema).fit(sky.X, np.eye(2)[sky.y]))


def test_a_campaign_goes_by_name(embedder, sky):
    embedder.set_params(schema="gz2")
    votes = np.zeros((24, 30), dtype=int)
    votes[:, 0] = 5
    embedder.fit(sky.X, votes=votes)
    assert embedder.schema_.n_questions == 10
    assert embedder.schema == "gz2"


def test_what_was_learned_keeps_its_own_schema(embedder, sky):
    given = embedder.schema
    embedder.fit(sky.X, votes=sky.votes)
    given.set_params(dependencies=None)
    assert embedder.schema_.dependencies == SCHEMA.dependencies
    embedder.set_params(schema__dependencies=None)
    assert embedder.get_params()["schema__dependencies"] is None


def test_same_seed_same_numbers_and_the_users_generators_stay(embedder, sky):
    before = torch.random.get_rng_state()
    first, second = (clone(embedder).fit(sky.X, votes=sky.votes) for _ in range(2))
    assert_same_fit(first, second)
    other = clone(embedder).set_params(random_state=1).fit(sky.X, votes=sky.votes)
    assert not np.array_equal(first.transform(sky.X), other.transform(sky.X))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_view_of_each_image_and_no_recipe_for_several(sky, monkeypatch):
    seen = []
    forward = VotePretraining.forward
    spy = lambda self, *views, votes: seen.append(len(views)) or forward(self, *views, votes)  # noqa: E731
    monkeypatch.setattr(VotePretraining, "forward", spy)
    VoteEmbedder(**TINY).fit(sky.X, sky.y)
    assert set(seen) == {1}
    with pytest.raises(ValueError, match="has a recipe for each view"):
        VoteEmbedder(**TINY, augment="astrodino").fit(sky.X, sky.y)
    with pytest.raises(ValueError, match="The 'augment' parameter"):
        VoteEmbedder(**TINY, augment=MultiView()).fit(sky.X, sky.y)


def test_the_hybrid_takes_a_recipe_for_each_of_two_views(hybrid, sky):
    hybrid.set_params(augment=MultiView(get_recipe("galaxy"), get_recipe("supervised"))).fit(sky.X, votes=sky.votes)
    assert len(hybrid.history_["loss"]) == 1
    with pytest.raises(ValueError, match="compares two views; augment= makes 3"):
        hybrid.set_params(augment=MultiView(n_local=1, local_size=16)).fit(sky.X, votes=sky.votes)


def test_untrained_embedder_embeds(embedder, sky):
    embedder.set_params(max_epochs=0).fit(sky.X, votes=sky.votes)
    assert embedder.transform(sky.X).shape == (24, 736)


# ---------------------------------------------------------------- composition


def head():
    return LogisticRegression(max_iter=1000)


@pytest.fixture
def routed(embedder):
    with config_context(enable_metadata_routing=True):
        yield Pipeline([("emb", embedder.set_fit_request(votes=True)), ("clf", head())])


@pytest.fixture
def seen(monkeypatch):
    """The votes of every fit."""
    fits = []
    validate = VoteSchema.validate
    monkeypatch.setattr(
        VoteSchema, "validate", lambda self, votes, n=None: fits.append(np.asarray(votes)) or validate(self, votes, n)
    )
    return fits


def test_a_pipeline_hands_on_the_votes(routed, sky, seen):
    routed.fit(sky.X, sky.y, votes=sky.votes)
    assert len(seen) == 1
    assert routed.predict(sky.X).shape == (24,)
    alone = clone(routed["emb"]).fit(sky.X, votes=sky.votes)
    np.testing.assert_array_equal(routed["emb"].transform(sky.X), alone.transform(sky.X))


@pytest.mark.parametrize("kind", [np.asarray, table])
def test_a_search_cuts_the_votes_as_it_cuts_the_images(routed, sky, seen, kind):
    search = GridSearchCV(routed, {"emb__lr": [1e-4, 1e-3]}, cv=2, error_score="raise")
    search.fit(sky.X, sky.y, votes=kind(sky.votes))
    halves = [train for train, _ in StratifiedKFold(2).split(sky.X, sky.y)]
    assert [len(votes) for votes in seen] == [12, 12, 12, 12, 24]
    assert sorted(votes.tolist() for votes in seen[:4]) == sorted(sky.votes[rows].tolist() for rows in 2 * halves)


def test_label_sweep_pretrains_with_the_votes_of_the_fold(routed, sky, seen):
    scores = label_sweep({"hybrid": routed}, sky.X, sky.y, label_counts=[4], cv=2, params={"votes": sky.votes})
    assert len(scores) == 2
    assert [len(votes) for votes in seen] == [12, 12]


def test_frozen_pickled_and_saved_it_answers_the_same(embedder, sky, tmp_path):
    embedder.fit(sky.X, votes=sky.votes)
    rows = embedder.transform(sky.X)
    again = pickle.loads(pickle.dumps(embedder))
    skastro.save(Pipeline([("emb", embedder), ("clf", head().fit(rows, sky.y))]), tmp_path / "votes.skastro")
    loaded = skastro.load(tmp_path / "votes.skastro")["emb"]
    for other in (again, loaded, FrozenEstimator(embedder)):
        np.testing.assert_array_equal(other.transform(sky.X), rows)
    for other in (again, loaded):
        assert other.schema_.columns == COLUMNS
        assert other.schema_.dependencies == embedder.schema_.dependencies
        assert_same_fit(other, embedder)


# ---------------------------------------------------------------- refusals


def changed(row, column, value):
    def change(votes):
        votes = votes.astype(float)
        votes[row, column] = value
        return votes

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (changed(3, 1, -1), r"votes must be at least 0; .*row 3, column 'shape_barred'"),
        (changed(3, 1, 0.5), r"votes must be whole numbers; .*row 3, column 'shape_barred'"),
        (changed(3, 1, np.nan), r"votes must be finite, and zero where nobody was asked; .*row 3"),
        (changed(3, 1, np.inf), r"votes must be finite"),
        (lambda votes: votes[:-1], r"votes must have a row for each of the 24 objects; they have 23 rows"),
        (lambda votes: votes[:, :-1], r"votes must have 5 columns"),
        (lambda votes: votes[:, 0], r"votes must have 5 columns"),
        (
            lambda votes: table(votes).iloc[:, 1:],
            r"the schema's columns; they came without shape_round",
        ),
        (lambda votes: table(votes).assign(ring_yes=0), r"they came with ring_yes"),
        (lambda votes: table(votes).rename(columns={"bar_none": "bar_no"}), r"without bar_none and with bar_no"),
    ],
)
def test_bad_votes_are_one_sentence_before_training(embedder, sky, change, sentence, monkeypatch):
    monkeypatch.setattr("skastro.base.train", lambda *args, **kwargs: pytest.fail("training had started"))
    with pytest.raises(ValueError, match=sentence):
        embedder.fit(sky.X, votes=change(sky.votes))


@pytest.mark.parametrize(
    ("params", "votes", "sentence"),
    [
        ({"schema": "gz3"}, np.ones((24, 5)), r"Unknown schema 'gz3'; known are gz2"),
        ({"schema": 5}, np.ones((24, 5)), r"Unknown schema 5"),
        ({"schema": VoteSchema({"shape": ["round"]})}, np.ones((24, 1)), r"at least two answers"),
        ({"schema": None}, np.ones((24, 5)), r"votes of 5 columns need schema="),
        ({"schema": None}, np.arange(23), r"There must be a label for each of the 24 images; got 23"),
        ({"schema": None}, np.ones(24), r"All labels are of one class, .*1.0"),
        ({"schema": None}, np.full(24, np.nan), r"votes has 24 missing values, the first in row 0"),
        ({"lr": -1.0}, np.tile([1, 1, 1, 0, 0], (24, 1)), r"The 'lr' parameter"),
    ],
)
def test_bad_parameters_are_one_sentence(embedder, sky, params, votes, sentence):
    with pytest.raises(ValueError, match=sentence):
        embedder.set_params(**params).fit(sky.X, votes=votes)


def test_votes_for_a_question_that_was_never_reached_warn(embedder, sky):
    votes = sky.votes.copy()
    votes[2, 1] = 0
    with pytest.warns(UserWarning, match=r"none of the answers that lead to it has any; the first is 'bar' in row 2"):
        embedder.fit(sky.X, votes=votes)


def test_votes_alone_need_a_vote(sky):
    embedder = VoteEmbedder(**TINY, schema=SCHEMA)
    with pytest.raises(ValueError, match="votes are zero in all 24 rows: there is nothing to learn from"):
        embedder.fit(sky.X, votes=0 * sky.votes)
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None, and so are votes"):
        embedder.fit(sky.X)


@pytest.mark.parametrize("weight", [-1.0, np.nan, "much"])
def test_the_weight_is_a_number_from_0(hybrid, sky, weight):
    with pytest.raises(ValueError, match="The 'vote_weight' parameter"):
        hybrid.set_params(vote_weight=weight).fit(sky.X, votes=sky.votes)


def test_the_scaling_goes_by_name(hybrid, sky):
    with pytest.raises(ValueError, match="The 'vote_scaling' parameter"):
        hybrid.set_params(vote_scaling="votes").fit(sky.X, votes=sky.votes)


def test_a_refused_refit_loses_nothing(embedder, sky):
    rows = embedder.fit(sky.X, votes=sky.votes).transform(sky.X)
    for X, votes in [(sky.X, -sky.votes), (np.nan * sky.X, sky.votes), (sky.X, sky.votes[:5])]:
        with pytest.raises(ValueError, match=r"votes|pixels"):
            embedder.fit(X, votes=votes)
        np.testing.assert_array_equal(embedder.transform(sky.X), rows)
        assert embedder.schema_.columns == COLUMNS


@pytest.mark.gpu
def test_cuda_learns_the_same_twice_and_weight_0_is_byol_there(hybrid, byol, sky):
    first, second = (clone(hybrid).set_params(device="cuda").fit(sky.X, votes=sky.votes) for _ in range(2))
    assert_same_fit(first, second)
    hybrid.set_params(device="cuda", vote_weight=0.0).fit(sky.X, votes=sky.votes)
    assert_same_fit(hybrid, byol.set_params(device="cuda").fit(sky.X))


@pytest.mark.parametrize("kind", [VoteEmbedder, HybridBYOLEmbedder])
def test_values_are_no_votes(kind):
    images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        kind("test_resnet", max_epochs=1).fit(images, votes=np.linspace(0, 1, 8))
