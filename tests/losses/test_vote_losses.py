"""The losses of votes against their formulas, written slowly, and the laws that they keep."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import log_softmax, rel_entr

from skastro.encoders import VoteHead
from skastro.losses import (
    byol_loss,
    dirichlet_multinomial_nll,
    hybrid_loss,
    multinomial_nll,
    soft_label_cross_entropy,
)

SIZES = (2, 3, 6)
GOLDEN = [
    ((2, 5), (3, 1), -2.3513752572),
    ((1, 1, 1), (4, 0, 0), -2.7080502011),
    ((100, 1, 1), (4, 0, 0), -0.0780605465),
    ((101, 1), (40, 0), -0.3336393735),
    ((1, 101), (40, 0), -81.4939182501),
    ((50.5, 50.5, 50.5), (10, 20, 10), -5.8857496376),
    ((7, 3), (0, 0), 0.0),
]


def blocks(rows):
    return np.split(np.asarray(rows), np.cumsum(SIZES)[:-1], axis=-1)


def slow_dirichlet_multinomial(alpha, k):
    return -stats.dirichlet_multinomial.logpmf(k.astype(int), alpha, int(k.sum()))


def slow_multinomial(logits, k):
    return -stats.multinomial.logpmf(k.astype(int), int(k.sum()), np.exp(log_softmax(logits)))


def slow_cross_entropy(logits, k):
    shares = k / k.sum()
    return rel_entr(shares, np.exp(log_softmax(logits))).sum() + stats.entropy(shares)


# Each loss, its slow formula for one question, and outputs of a network as it wants them.
LOSSES = {
    "dirichlet-multinomial": (dirichlet_multinomial_nll, slow_dirichlet_multinomial, lambda x: 1 + 100 * x.sigmoid()),
    "multinomial": (multinomial_nll, slow_multinomial, lambda x: x),
    "cross-entropy": (soft_label_cross_entropy, slow_cross_entropy, lambda x: x),
}


@pytest.fixture(params=LOSSES)
def family(request):
    return LOSSES[request.param]


@pytest.fixture
def votes():
    """Seven galaxies: some questions unasked, two galaxies without a vote."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(5, size=(7, sum(SIZES)))
    counts[0, :2] = counts[1, 2:5] = counts[2, 5:] = counts[4] = counts[6] = 0
    return torch.from_numpy(counts)


def outputs(positive, n=7, seed=1, dtype=torch.float64):
    raw = torch.randn(n, sum(SIZES), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return positive(raw).to(dtype)


def slow_terms(slow, given, votes):
    questions = zip(blocks(given), blocks(votes), strict=True)
    return np.array([[slow(g, k) if k.any() else 0.0 for g, k in zip(*q, strict=True)] for q in questions]).T


# ---------------------------------------------------------------- formulas


@pytest.mark.parametrize(("alpha", "k", "log_p"), GOLDEN)
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_dirichlet_multinomial_has_the_golden_values(alpha, k, log_p, dtype, rel):
    loss = dirichlet_multinomial_nll(torch.tensor([alpha], dtype=dtype), torch.tensor([k]), (len(k),))
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(-log_p, rel=rel, abs=0)


def test_each_term_equals_the_formula(family, votes):
    loss, slow, positive = family
    given = outputs(positive)
    terms = loss(given, votes, SIZES, reduction="none")
    assert terms.shape == (7, 3)
    np.testing.assert_allclose(terms, slow_terms(slow, given, votes), rtol=1e-9)


def test_reductions_are_over_questions_then_over_labeled_galaxies(family, votes):
    loss, slow, positive = family
    given = outputs(positive)
    total = slow_terms(slow, given, votes).sum()
    assert loss(given, votes, SIZES).item() == pytest.approx(total / 5)
    assert loss(given, votes, SIZES, reduction="mean").item() == pytest.approx(total / 5 / 3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e2, 1e4])
def test_dirichlet_multinomial_is_accurate_whatever_the_concentrations(scale, votes):
    alpha = scale * outputs(LOSSES["dirichlet-multinomial"][2], dtype=torch.float32) / 50
    terms = dirichlet_multinomial_nll(alpha, votes, SIZES, reduction="none")
    slow = slow_terms(slow_dirichlet_multinomial, alpha.double(), votes)
    np.testing.assert_allclose(terms, slow, rtol=1e-5, atol=1e-7)


def test_dirichlet_multinomial_becomes_multinomial_when_sure(votes):
    logits = outputs(lambda x: x)
    alpha = torch.cat([1e7 * question.softmax(dim=1) for question in logits.split(SIZES, dim=1)], dim=1)
    sure = dirichlet_multinomial_nll(alpha, votes, SIZES, reduction="none")
    np.testing.assert_allclose(sure, multinomial_nll(logits, votes, SIZES, reduction="none"), rtol=1e-4)


def test_probabilities_of_all_possible_votes_sum_to_one():
    n = 6
    votes = torch.tensor([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)])
    for loss, given in [(dirichlet_multinomial_nll, (0.3, 4.0, 60.0)), (multinomial_nll, (-1.0, 0.0, 2.0))]:
        rows = torch.tensor([given], dtype=torch.float64).expand(len(votes), 3)
        assert loss(rows, votes, (3,), reduction="none").neg().exp().sum().item() == pytest.approx(1)


def test_cross_entropy_of_one_vote_each_is_that_of_hard_labels():
    logits = outputs(lambda x: x)[:, :3]
    labels = torch.tensor([0, 1, 2, 2, 1, 0, 1])
    votes = torch.nn.functional.one_hot(labels)
    hard = torch.nn.functional.cross_entropy(logits, labels)
    for loss in (soft_label_cross_entropy, multinomial_nll):
        torch.testing.assert_close(loss(logits, votes, (3,)), hard)


def test_cross_entropy_does_not_see_how_many_voted_and_the_likelihoods_do(votes):
    logits = outputs(lambda x: x)
    once, thrice = (soft_label_cross_entropy(logits, factor * votes, SIZES) for factor in (1, 3))
    torch.testing.assert_close(once, thrice)
    torch.testing.assert_close(soft_label_cross_entropy(logits, votes / 7, SIZES), once)
    assert multinomial_nll(logits, 3 * votes, SIZES) > 2 * multinomial_nll(logits, votes, SIZES)


# ---------------------------------------------------------------- unasked


def test_an_unasked_question_costs_and_teaches_exactly_nothing(family, votes):
    loss, _, positive = family
    given = outputs(positive, dtype=torch.float32).requires_grad_()
    terms = loss(given, votes, SIZES, reduction="none")
    terms.sum().backward()
    asked = np.stack([block.any(axis=1) for block in blocks(votes)], axis=1)
    assert (terms.detach().numpy()[~asked] == 0).all()
    assert (terms.detach().numpy()[asked] > 0).all()
    for question, gradient in enumerate(blocks(given.grad)):
        assert (gradient[~asked[:, question]] == 0).all()
        assert np.abs(gradient[asked[:, question]]).max(axis=1).min() > 0


def test_a_batch_without_labels_is_exactly_zero(family):
    loss, _, positive = family
    given = outputs(positive).requires_grad_()
    for reduction in ("sum", "mean"):
        value = loss(given, torch.zeros(7, 11), SIZES, reduction=reduction)
        value.backward()
        assert value.item() == 0
        assert not given.grad.any()


def test_rows_without_labels_change_nothing(family, votes):
    loss, _, positive = family
    given = outputs(positive)
    labeled = votes.any(dim=1)
    torch.testing.assert_close(loss(given, votes, SIZES), loss(given[labeled], votes[labeled], SIZES))


# ---------------------------------------------------------------- laws


def test_gradients_are_those_of_the_formula(family, votes):
    loss, _, positive = family
    for reduction in ("sum", "mean", "none"):
        given = outputs(positive).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, how=reduction: loss(x, votes, SIZES, reduction=how), given)


def test_the_order_of_answers_and_of_questions_does_not_matter(family, votes):
    loss, _, positive = family
    given = outputs(positive)
    terms = loss(given, votes, SIZES, reduction="none")
    turned = loss(given.flip(1), votes.flip(1), SIZES[::-1], reduction="none")
    torch.testing.assert_close(turned.flip(1), terms)


def test_logits_may_be_shifted_question_by_question(votes):
    logits = outputs(lambda x: x)
    shift = torch.repeat_interleave(torch.tensor([5.0, -300.0, 1000.0]), torch.tensor(SIZES))
    for loss in (multinomial_nll, soft_label_cross_entropy):
        torch.testing.assert_close(loss(logits + shift, votes, SIZES), loss(logits, votes, SIZES))


def test_no_votes_for_the_impossible_cost_nothing():
    logits = torch.tensor([[0.0, -torch.inf, 0.0]], requires_grad=True)
    for loss in (multinomial_nll, soft_label_cross_entropy):
        value = loss(logits, torch.tensor([[1, 0, 0]]), (3,))
        value.backward()
        assert value.item() == pytest.approx(math.log(2))
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_taken_as_it_is_and_computed_in_double(family, votes, autocast):
    loss, slow, positive = family
    half = outputs(positive, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        terms = loss(half, votes, SIZES, reduction="none")
    assert terms.dtype == torch.float32
    np.testing.assert_allclose(terms, slow_terms(slow, half.double(), votes), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"sizes": (2, 3)},
            r"sizes tells of 5 answers, .* outputs of shape \(7, 11\) and votes of shape \(7, 11\)",
        ),
        ({"votes": torch.ones(7, 10)}, r"sizes tells of 11 answers, .* votes of shape \(7, 10\)"),
        ({"votes": torch.ones(11)}, r"votes of shape \(11,\)"),
        ({"reduction": "median"}, r"reduction must be 'sum', 'mean' or 'none'; got 'median'"),
    ],
)
def test_what_does_not_fit_is_refused(family, votes, change, sentence):
    loss, _, positive = family
    with pytest.raises(ValueError, match=sentence):
        loss(outputs(positive), **{"votes": votes, "sizes": SIZES, **change})


# ---------------------------------------------------------------- both halves


SCALINGS = {"cosine": lambda contrastive: abs(2 - contrastive), "loss": abs}


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("contrastive", [3.5, 2.0, 0.1, -0.7, 0.0])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1e3])
def test_the_supervised_half_has_the_size_that_the_contrastive_one_sets(contrastive, weight, scaling):
    size = SCALINGS[scaling](contrastive)
    point = torch.tensor([0.3, -1.2], dtype=torch.float64, requires_grad=True)
    first, second = contrastive + point[0] - 0.3, 40 + 7 * point[1] ** 2
    loss = hybrid_loss(first, second, weight, scaling=scaling)
    assert loss.item() == pytest.approx(contrastive + weight * size)
    loss.backward()
    # No gradient flows through the ratio: the first half teaches as it does alone, the second in its own direction.
    assert point.grad[0].item() == 1
    assert point.grad[1].item() == pytest.approx(weight * size / second.item() * 14 * -1.2)


def slow_cosine(p, z):
    return sum(a * b for a, b in zip(p, z, strict=True)) / math.sqrt(sum(a * a for a in p) * sum(b * b for b in z))


@pytest.mark.parametrize("agreement", [-0.8, 0.0, 0.3, 5.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 10.0])
def test_the_hybrid_equals_the_formula_of_either_scaling(agreement, weight):
    """Of the published code it is twice the loss, plus 2: minus the mean cosine and, of its size, the votes."""
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(2, 5, 4))
    predictions = agreement * targets + rng.normal(size=(2, 5, 4))
    cosine = np.mean(
        [[slow_cosine(*pair) for pair in zip(p, z, strict=True)] for p, z in zip(predictions, targets, strict=True)]
    )
    forth, back = (byol_loss(*pair) for pair in zip(torch.tensor(predictions), torch.tensor(targets), strict=True))
    contrastive, supervised = (forth + back) / 2, torch.tensor(7.0)
    published = -cosine + weight * abs(cosine)
    cosine_loss = hybrid_loss(contrastive, supervised, weight, scaling="cosine")
    assert cosine_loss.item() == pytest.approx(2 * published + 2, rel=1e-5)
    loss = hybrid_loss(contrastive, supervised, weight, scaling="loss")
    assert loss.item() == pytest.approx((1 + weight) * (2 - 2 * cosine), rel=1e-5)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_without_labels_the_contrastive_half_stands_alone(scaling):
    point = torch.tensor(0.5, requires_grad=True)
    loss = hybrid_loss(2 * point, 0 * point, weight=1e6, scaling=scaling)
    loss.backward()
    assert (loss.item(), point.grad.item()) == (1.0, 2.0)


def test_an_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match="scaling must be 'cosine' or 'loss'; got 'votes'"):
        hybrid_loss(torch.tensor(1.0), torch.tensor(1.0), 1.0, scaling="votes")


# ---------------------------------------------------------------- head


def head(dropout=0.2, seed=0):
    return VoteHead(50, 206, torch.Generator().manual_seed(seed), dropout)


def test_concentrations_lie_between_1_and_101():
    extremes = torch.tensor([[-1e4], [0.0], [1e4]]).expand(3, 50)
    model = head().eval()
    with torch.no_grad():
        model.linear.weight.fill_(1.0)
        model.linear.bias.zero_()
    assert model(extremes)[:, 0].tolist() == [1.0, 51.0, 101.0]


def test_the_head_draws_from_its_own_generator_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, second, other = head(), head(), head(seed=1)
    features = torch.ones(8, 50)
    torch.testing.assert_close(first(features), second(features), rtol=0, atol=0)
    assert not torch.equal(first(features), first(features))
    assert not torch.equal(first.linear.weight, other.linear.weight)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.testing.assert_close(first.eval()(features), first(features), rtol=0, atol=0)


def test_the_head_begins_as_a_linear_layer_of_torch():
    for parameter in head().linear.parameters():
        assert parameter.abs().max() <= 50**-0.5
        assert parameter.std().item() == pytest.approx((3 * 50) ** -0.5, rel=0.15)


@pytest.mark.parametrize("dropout", [0.0, 0.2, 0.5])
def test_dropout_keeps_its_share_and_the_mean(dropout):
    model = VoteHead(1, 1, torch.Generator().manual_seed(0), dropout)
    seen = []
    model.linear.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model(torch.ones(20_000, 1))
    assert (seen[0] == 0).float().mean().item() == pytest.approx(dropout, abs=0.01)
    assert seen[0].mean().item() == pytest.approx(1, abs=0.02)
