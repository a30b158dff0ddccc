"""DINO, iBOT and KoLeo written slowly, the objective followed by hand, and what the embedder settles."""

import math
import pickle

import numpy as np
import pytest
import torch
from learning import learn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn

import skastro
from skastro import DINOEmbedder, ImageEncoder, Training
from skastro.augment import MultiView, block_masks, get_recipe
from skastro.encoders import PrototypeHead, embed_patches, hidden_patches
from skastro.losses import dino_loss, ibot_loss, koleo_loss, sinkhorn
from skastro.pretrain.dino import DINO
from skastro.training import local_seed

PIXELS, K = 12, 7


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def double(tensor):
    return tensor.detach().double().numpy()


# ---------------------------------------------------------------- losses


def slow_dino(student, teacher, temperature):
    terms = []
    for t, said in enumerate(teacher):
        for s, guessed in enumerate(student):
            if s != t:
                terms += [-(p * np.log(softmax(g / temperature))).sum() for p, g in zip(said, guessed, strict=True)]
    return np.mean(terms)


def slow_ibot(student, teacher, mask, temperature):
    total, row = 0.0, 0
    for hidden in mask:
        for _ in range(hidden.sum()):
            total -= (teacher[row] * np.log(softmax(student[row] / temperature))).sum() / hidden.sum()
            row += 1
    return total / len(mask)


def slow_koleo(rows):
    rows = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
    terms = []
    for i, row in enumerate(rows):
        nearest = min(np.sqrt(((row - other) ** 2).sum()) for j, other in enumerate(rows) if j != i)
        terms.append(-np.log(nearest + 1e-8))
    return np.mean(terms)


def slow_sinkhorn(logits, temperature, iterations=3):
    matrix = np.exp(logits / temperature)
    for _ in range(iterations):
        matrix = matrix / matrix.sum(axis=0) / matrix.shape[1]
        matrix = matrix / matrix.sum(axis=1, keepdims=True) / matrix.shape[0]
    return matrix * matrix.shape[0]


MASK = torch.tensor([[True, False, True, False], [False] * 4, [True, True, False, True]])


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def dtype(request):
    return request.param


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize(("seen", "said"), [(2, 2), (10, 2), (3, 1)])
def test_dino_equals_the_formula_in_float32(seen, said, temperature, dtype):
    student, teacher = draw(seen, 5, K).to(dtype), draw(said, 5, K, seed=1).softmax(-1).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss = dino_loss(student, teacher, temperature)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        slow_dino(double(student.float()), double(teacher.float()), temperature), rel=1e-5
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_ibot_equals_the_formula_in_float32(temperature, dtype):
    student, teacher = draw(5, K).to(dtype), draw(5, K, seed=1).softmax(-1).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss = ibot_loss(student, teacher, MASK, temperature)
    assert loss.dtype == torch.float32
    slow = slow_ibot(double(student.float()), double(teacher.float()), MASK.numpy(), temperature)
    assert loss.item() == pytest.approx(slow, rel=1e-5)


@pytest.mark.parametrize(("n", "d"), [(2, 3), (6, 5), (64, 16)])
def test_koleo_equals_the_formula_in_float32(n, d, dtype):
    rows = draw(n, d).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss = koleo_loss(rows)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow_koleo(double(rows.float())), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_sinkhorn_equals_the_formula(iterations):
    logits = draw(6, K)
    slow = slow_sinkhorn(double(logits), 0.5, iterations)
    np.testing.assert_allclose(sinkhorn(logits, 0.5, iterations=iterations), slow, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("n", "k"), [(2, 2), (32, 7), (7, 32), (64, 64)])
def test_sinkhorn_rows_sum_to_one_and_columns_to_their_share(n, k):
    balanced = sinkhorn(draw(n, k), 1.0, iterations=200)
    torch.testing.assert_close(balanced.sum(dim=1), torch.ones(n))
    torch.testing.assert_close(balanced.sum(dim=0), torch.full((k,), n / k), rtol=1e-3, atol=1e-4)
    for rows in (sinkhorn(draw(n, k), 0.1), sinkhorn(1e3 * draw(n, k), 0.01)):
        assert rows.isfinite().all()
        torch.testing.assert_close(rows.sum(dim=1), torch.ones(n))


def test_a_student_that_tells_nothing_is_at_chance():
    teacher = draw(2, 5, K).softmax(-1)
    assert dino_loss(torch.ones(4, 5, K), teacher, 0.1).item() == pytest.approx(math.log(K), rel=1e-6)
    assert ibot_loss(torch.ones(5, K), teacher[0], MASK, 0.1).item() == pytest.approx(math.log(K) * 2 / 3, rel=1e-6)


def test_a_view_is_not_compared_with_itself_nor_with_another_image():
    teacher = torch.eye(4).repeat(2, 1, 1)  # each image has a prototype of its own
    student = 50 * torch.eye(4).repeat(5, 1, 1)
    assert dino_loss(student, teacher, 1.0).item() == pytest.approx(0, abs=1e-6)
    assert dino_loss(student[:, [1, 0, 2, 3]], teacher, 1.0).item() == pytest.approx(25, rel=1e-4)
    spoilt = dino_loss(torch.cat([student[:1].flip(1), student[1:]]), teacher, 1.0)  # only the second teacher asks it
    assert spoilt.item() == pytest.approx(50 / 8, rel=1e-4)


def test_images_may_be_shuffled_and_unmasked_ones_add_nothing():
    student, teacher, order = draw(4, 5, K), draw(2, 5, K, seed=1).softmax(-1), torch.randperm(5)
    torch.testing.assert_close(dino_loss(student[:, order], teacher[:, order], 0.1), dino_loss(student, teacher, 0.1))
    loss = ibot_loss(student[0], teacher[0], MASK, 0.1)
    torch.testing.assert_close(ibot_loss(student[0], teacher[0], MASK[[0, 2]], 0.1), 1.5 * loss)
    torch.testing.assert_close(koleo_loss(student[0][order]), koleo_loss(student[0]))


def test_losses_teach_the_student_alone():
    student, teacher = draw(2, 5, K).requires_grad_(), draw(2, 5, K, seed=1).requires_grad_()
    (dino_loss(student, teacher, 0.1) + ibot_loss(student[0], teacher[0], MASK, 0.1)).backward()
    assert teacher.grad is None
    assert student.grad.abs().amax(dim=2).min() > 0
    assert not sinkhorn(teacher[0], 0.1).requires_grad


def test_koleo_sees_directions_and_pushes_neighbors_apart():
    rows = draw(6, 4)
    torch.testing.assert_close(koleo_loss(rows * torch.logspace(-2, 2, 6)[:, None]), koleo_loss(rows))
    close = torch.tensor([[1.0, 0.1], [1.0, -0.1]], requires_grad=True)
    koleo_loss(close).backward()
    assert close.grad[0, 1] < 0 < close.grad[1, 1]


def test_koleo_of_equal_rows_is_finite():
    rows = torch.ones(4, 3, requires_grad=True)
    loss = koleo_loss(rows)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-8), rel=1e-4)
    assert rows.grad.isfinite().all()


# ---------------------------------------------------------------- the head


def test_the_head_compares_directions():
    head, rows = PrototypeHead(PIXELS, 16, 5, K), draw(6, PIXELS)
    bottleneck, prototypes = double(head.mlp(rows)), double(head.prototypes)
    slow = [[b @ v / np.linalg.norm(b) / np.linalg.norm(v) for v in prototypes] for b in bottleneck]
    np.testing.assert_allclose(head(rows).detach(), slow, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(rows).dtype == torch.float32


def test_a_head_without_norm_sees_each_row_alone():
    rows = draw(6, PIXELS)
    for norm in (True, False):
        head = PrototypeHead(PIXELS, 16, 5, K, norm=norm)
        assert torch.allclose(head(rows)[:2], head(rows[:2]), atol=1e-6) != norm
        assert any(isinstance(layer, nn.BatchNorm1d) for layer in head.mlp) == norm
        assert [layer.bias is None for layer in head.mlp if isinstance(layer, nn.Linear)] == [norm, norm, False]


# ---------------------------------------------------------------- the objective


def make(encoder=None, width=PIXELS, centering="centering", ibot=0.0, koleo=0.0, temperatures=(0.04, 0.07), **words):
    """Make DINO on an encoder of a few linear weights, so that no row depends on another, unless one is given."""
    with local_seed(0):
        encoder = encoder or nn.Sequential(nn.AdaptiveAvgPool2d((3, 4)), nn.Flatten(), nn.Linear(PIXELS, PIXELS))
        generator = torch.Generator().manual_seed(7)
        return DINO(encoder, width, 16, K, centering, temperatures, ibot, koleo, generator, **words)


def make_vit(drop_path=0.0, **kwargs):
    with local_seed(0):
        encoder = ImageEncoder("test_vit", pool="avg", patch=8, drop_path=drop_path).build(1, (32, 32))
    return make(encoder, width=64, **kwargs)


def views(n, local=0, side=6):
    return [draw(n, 1, side, side, seed=1), draw(n, 1, side, side, seed=2)] + [
        draw(n, 1, side // 2, side // 2, seed=3 + number) for number in range(local)
    ]


def shake(network):
    with torch.no_grad():
        for tensor in filter(torch.is_floating_point, network.state_dict().values()):
            tensor.add_(0.3 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1)))


def unlike(objective):
    """Let student, teacher and centers differ, as they do in training."""
    shake(objective.online)
    with torch.no_grad():
        objective.centers.copy_(0.1 * draw(*objective.centers.shape, seed=9))
    return objective


def teach(logits, center, temperature, centering):
    if centering == "sinkhorn":
        return slow_sinkhorn(logits, temperature)
    return softmax((logits - center) / temperature)


@pytest.mark.parametrize("local", [0, 1, 4])
@pytest.mark.parametrize("centering", ["centering", "sinkhorn"])
def test_the_loss_equals_the_formula(centering, local):
    dino, seen = unlike(make(centering=centering, koleo=0.3)), views(5, local)
    with torch.no_grad():
        rows = [dino.online[0](view) for view in seen]
        student = double(dino.online[1](torch.cat(rows)).unflatten(0, (len(seen), 5)))
        logits = double(dino.target[1](torch.cat([dino.target[0](view) for view in seen[:2]])))
    teacher = teach(logits, double(dino.centers[0]), 0.04, centering).reshape(2, 5, K)
    parts = {
        "dino_loss": slow_dino(student, teacher, 0.1),
        "koleo_loss": sum(slow_koleo(double(row)) for row in rows[:2]),
    }
    loss = dino(*seen)
    assert {name: part.item() for name, part in dino.parts.items()} == pytest.approx(parts, rel=1e-4)
    assert loss.item() == pytest.approx(parts["dino_loss"] + 0.3 * parts["koleo_loss"], rel=1e-4)


@pytest.mark.parametrize("centering", ["centering", "sinkhorn"])
def test_ibot_hides_patches_from_the_student_and_asks_for_them(centering):
    dino, seen = unlike(make_vit(centering=centering, ibot=0.5)), torch.cat(views(3, side=32))
    mask = block_masks(6, (4, 4), torch.Generator().manual_seed(7))
    with torch.no_grad():
        with hidden_patches(dino.online[0], mask, dino.mask_token):
            rows, patches = embed_patches(dino.online[0], seen)
        student, guessed = double(dino.online[1](rows)), double(dino.online[2](patches[mask]))
        rows, patches = embed_patches(dino.target[0], seen)
        logits, said = double(dino.target[1](rows)), double(dino.target[2](patches[mask]))
    teacher = teach(logits, double(dino.centers[0]), 0.04, centering).reshape(2, 3, K)
    parts = {
        "dino_loss": slow_dino(student.reshape(2, 3, K), teacher, 0.1),
        "ibot_loss": slow_ibot(guessed, teach(said, double(dino.centers[1]), 0.04, centering), mask.numpy(), 0.1),
    }
    loss = dino(seen[:3], seen[3:])
    assert {name: part.item() for name, part in dino.parts.items()} == pytest.approx(parts, rel=1e-3)
    assert loss.item() == pytest.approx(parts["dino_loss"] + 0.5 * parts["ibot_loss"], rel=1e-3)


def test_masks_are_drawn_anew_from_the_objectives_own_generator():
    dino, seen, before = make_vit(ibot=1.0), views(3, side=32), torch.random.get_rng_state()
    first, second, again = dino(*seen), dino(*seen), make_vit(ibot=1.0)(*seen)
    assert first != second
    assert first == again
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_weight_of_zero_leaves_the_part_out_bit_for_bit():
    seen = views(3, local=2, side=32)
    plain, full = make_vit(), make_vit(ibot=1.0, koleo=0.1)
    state = plain.generator.get_state()
    loss = plain(*seen)
    loss.backward()
    full(*seen)
    assert plain.parts.keys() == {"dino_loss"}
    assert full.parts.keys() == {"dino_loss", "ibot_loss", "koleo_loss"}
    assert torch.equal(loss, plain.parts["dino_loss"])
    assert torch.equal(plain.generator.get_state(), state)  # no mask was drawn
    assert plain.mask_token is None
    assert (len(plain.online), len(full.online)) == (2, 3)
    start = make_vit(ibot=1.0, koleo=0.1).state_dict()  # the parts that both have begin alike
    assert all(torch.equal(value, start[name]) for name, value in make_vit().state_dict().items() if name != "centers")
    koleo = make_vit(koleo=1e-30)
    koleo(*seen).backward()
    for one, other in zip(plain.online.parameters(), koleo.online.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)


@pytest.mark.parametrize("local", [0, 4])
def test_the_teacher_sees_the_global_views_alone(local):
    dino, sides = make(), {"online": [], "target": []}
    for name, seen in sides.items():
        dino.get_submodule(name)[0].register_forward_pre_hook(
            lambda module, inputs, seen=seen: seen.append((len(inputs[0]), inputs[0].shape[-1]))
        )
    dino(*views(5, local))
    assert sides["target"] == [(10, 6)]
    assert sides["online"] == [(5 * local, 3)] * bool(local) + [(10, 6)]


def test_only_the_student_is_taught_and_the_mask_token_too():
    dino = unlike(make_vit(ibot=1.0, koleo=0.1))
    dino(*views(3, local=2, side=32)).backward()
    assert all(p.grad is None and not p.requires_grad for p in dino.target.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in dino.online.parameters())
    assert dino.mask_token.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_the_student_skips_blocks_and_the_teacher_none(name):
    with local_seed(0):
        encoder = ImageEncoder(name, pool="avg", drop_path=0.9).build(1, (32, 32))
        dino = make(encoder, width=encoder(torch.zeros(2, 1, 32, 32)).shape[1])
    seen = draw(8, 1, 32, 32)
    assert dino.training
    assert dino.target.training  # its batch norms use the statistics of the batch
    for part, repeats in ((dino.online, False), (dino.target, True)):
        first, second = (part[0](seen).detach() for _ in range(2))
        assert torch.equal(first, second) == repeats
    with local_seed(0):
        plain = ImageEncoder(name, pool="avg").build(1, (32, 32))
    plain.load_state_dict(dino.target[0].state_dict())
    torch.testing.assert_close(dino.target[0](seen), plain(seen))


def test_the_teacher_is_in_training_mode_throughout():
    dino, seen = unlike(make(nn.Sequential(nn.Flatten(), nn.Linear(36, PIXELS), nn.BatchNorm1d(PIXELS)))), views(5)
    before = dino.target[0][2].running_mean.clone()
    dino(*seen)
    rows = dino.target[0][1](torch.cat(seen).flatten(1)).detach()
    torch.testing.assert_close(dino.target[0][2].running_mean, 0.9 * before + 0.1 * rows.mean(dim=0))


def test_early_blocks_and_patches_learn_more_slowly():
    dino = make_vit(ibot=1.0, layer_decay=0.9, patch_lr_factor=0.2)
    depth = len(dino.online[0].network.blocks)
    scales = dino.lr_scales()
    for name, _ in dino.named_parameters():
        if name.startswith("online.0.network.blocks."):
            expected = 0.9 ** (depth - int(name.split(".")[4]))
        elif name.startswith("online.0.network.norm."):
            expected = 0.9
        elif name.startswith("online.0.network.patch_embed."):
            expected = 0.2 * 0.9 ** (depth + 1)
        elif name == "mask_token" or name.startswith("online.0."):
            expected = 0.9 ** (depth + 1)
        else:
            expected = 1.0
        assert scales.get(name, 1.0) == pytest.approx(expected), name
    assert make_vit(ibot=1.0).lr_scales() == {}
    assert set(make_vit(patch_lr_factor=0.2).lr_scales().values()) == {0.2}
    assert set(make(layer_decay=0.5).lr_scales().values()) == {0.5}  # any encoder: here of one block


@pytest.mark.parametrize(("rate", "steps"), [(0.99, 5), (0.5, 8), (0.0, 1), (1.0, 3)])
def test_teacher_and_centers_equal_the_closed_form(rate, steps):
    dino, seen = unlike(make()), views(5, local=2)
    with torch.no_grad():
        mean = dino.target[1](dino.target[0](torch.cat(seen[:2]))).mean(dim=0)
    start = {name: tensor.clone() for name, tensor in dino.state_dict().items()}
    dino(*seen)
    moved = {name for name, tensor in dino.state_dict().items() if not torch.equal(tensor, start[name])}
    assert {name.rpartition(".")[2] for name in moved} == {"running_mean", "running_var", "num_batches_tracked"}
    start = {name: tensor.clone() for name, tensor in dino.state_dict().items()}
    for _ in range(steps):
        dino.update(rate)
    torch.testing.assert_close(dino.centers[0], 0.9**steps * start["centers"][0] + (1 - 0.9**steps) * mean)
    floating = {name: tensor for name, tensor in dino.target.state_dict().items() if tensor.is_floating_point()}
    for name, tensor in floating.items():
        expected = rate**steps * start[f"target.{name}"] + (1 - rate**steps) * start[f"online.{name}"]
        torch.testing.assert_close(tensor, expected)


def test_the_teachers_temperature_rises_linearly_and_the_prototypes_wait():
    dino = make(temperatures=(0.02, 0.08))
    seen = {}
    for step in range(200):
        dino.schedule(step, 200)
        seen[step] = dino.temperature.item(), not dino.still
    assert [seen[step][0] for step in (0, 15, 30, 199)] == pytest.approx([0.02, 0.05, 0.08, 0.08])
    assert [step for step in seen if not seen[step][1]] == [0, 1]


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_prototypes_that_wait_keep_their_directions(optimizer):
    dino, seen = make(), views(5)
    step = optimizer(dino.online.parameters(), lr=0.1, weight_decay=0.1)
    start = dino.online[1].prototypes.detach().clone()
    for number in (0, 50):
        dino.schedule(number, 100)
        step.zero_grad()
        dino(*seen).backward()
        step.step()
        dino.update(0.9)
        assert torch.equal(dino.online[1].prototypes, start) == (number == 0)
        assert dino.online[1].prototypes.grad.any()  # which an optimizer that averages would miss when they are let go


# ---------------------------------------------------------------- learning


class NoisyAndLocal(nn.Module):
    """Two noisy views of each image, and its inner part."""

    inputs = ("images",)

    def forward(self, images):
        noisy = [images + 0.1 * torch.randn(images.shape) for _ in range(2)]
        return [*noisy, images[:, :, 1:-1, 1:-1]]


@pytest.mark.parametrize("centering", ["centering", "sinkhorn"])
def test_the_objective_is_learned(centering):
    images = draw(120, 1, 6, 6).numpy()
    learned, still = (
        learn(make(centering=centering), NoisyAndLocal(), images, 6, lr)["dino_loss"][-1] for lr in (0.01, 1e-12)
    )
    assert learned < 0.95 * still


def test_parts_are_in_the_history_and_add_up():
    history = learn(make(koleo=0.1), NoisyAndLocal(), draw(20, 1, 6, 6).numpy(), epochs=3)
    assert len(history["dino_loss"]) == len(history["koleo_loss"]) == 3
    total = np.array(history["dino_loss"]) + 0.1 * np.array(history["koleo_loss"])
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5)


# ---------------------------------------------------------------- the embedder

TOY = {"hidden_dim": 16, "prototypes": 8, "max_epochs": 1, "batch_size": 8, "random_state": 0}
FULL = {"encoder": "test_vit", "augment": "galaxy-crops", "ibot_weight": 1.0, "koleo_weight": 0.1}


@pytest.fixture
def sky():
    return draw(24, 2, 36, 36).numpy()


@pytest.fixture
def asked(monkeypatch):
    """What the embedder asks of training, which does not run."""
    calls = []
    monkeypatch.setattr("skastro.base.train", lambda *args: calls.append(args))
    return calls


@pytest.mark.parametrize("centering", ["centering", "sinkhorn"])
@pytest.mark.parametrize("augment", ["galaxy", "galaxy-crops", None])
@pytest.mark.parametrize("encoder", ["test_vit", ImageEncoder("test_vit", patch=12, pool="avg")])
def test_dinov2_runs_and_repeats(sky, encoder, augment, centering):
    embedder = DINOEmbedder(**TOY | FULL | {"encoder": encoder, "augment": augment, "centering": centering})
    rows = embedder.fit_transform(sky)
    assert np.isfinite(rows).all()
    assert {"dino_loss", "ibot_loss", "koleo_loss"} <= embedder.history_.keys()
    np.testing.assert_array_equal(rows, clone(embedder).fit_transform(sky))
    np.testing.assert_array_equal(rows, pickle.loads(pickle.dumps(embedder)).transform(sky))


def test_dinov2_runs_on_a_vit_with_rotary_positions(sky):
    rows = DINOEmbedder(**TOY | FULL | {"encoder": "eva02_tiny_patch14_224"}).fit_transform(sky[:4])
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("encoder", ["test_resnet", "test_convnext", "test_vit_relpos", nn.Sequential(nn.Flatten())])
def test_other_encoders_do_without_ibot_and_are_told_so(sky, encoder, asked):
    embedder = DINOEmbedder(**TOY | {"encoder": encoder, "augment": "galaxy", "koleo_weight": 0.1}).fit(sky)
    assert len(asked) == 1
    with pytest.raises(
        ValueError, match=r"^ibot_weight=0.5 hides patches of a vision transformer, .* set ibot_weight=0"
    ):
        clone(embedder).set_params(ibot_weight=0.5).fit(sky)
    assert len(asked) == 1


def test_the_rate_of_patches_is_for_encoders_that_have_them(sky, asked):
    DINOEmbedder("test_vit", patch_lr_factor=0.2).fit(sky)
    with pytest.raises(ValueError, match=r"^patch_lr_factor=0.2 is for the patch embedding of a vision transformer"):
        DINOEmbedder("test_resnet", patch_lr_factor=0.2).fit(sky)
    assert len(asked) == 1


@pytest.mark.parametrize("pair", [(0.04,), (0.0, 0.07), (0.04, -1), (0.04, 0.05, 0.06), ("low", "high")])
def test_temperatures_are_two_numbers_above_zero(sky, pair, asked):
    with pytest.raises(ValueError, match="teacher_temperature must be two numbers above 0, start and end; got"):
        DINOEmbedder("test_vit", teacher_temperature=pair).fit(sky)
    assert not asked


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prototypes", 1),
        ("hidden_dim", 0),
        ("head_norm", "batch"),
        ("centering", "none"),
        ("ibot_weight", -1.0),
        ("koleo_weight", -0.1),
        ("layer_decay", 0.0),
        ("layer_decay", 1.1),
        ("patch_lr_factor", 0.0),
    ],
)
def test_own_words_out_of_range_are_refused_by_name(sky, name, value, asked):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of DINOEmbedder must be"):
        DINOEmbedder("test_vit", **{name: value}).fit(sky)
    assert not asked


def test_the_words_reach_the_objective(sky, asked):
    words = {"centering": "sinkhorn", "teacher_temperature": (0.03, 0.05), "hidden_dim": 24, "prototypes": 40}
    words |= {"head_norm": False, "layer_decay": 0.9, "patch_lr_factor": 0.2}
    DINOEmbedder(**FULL, **words, random_state=0).fit(sky)
    learner, _, settings, *_ = asked[0]
    objective, drawn = learner.objective, learner.views
    assert objective.weights == {"dino_loss": 1.0, "ibot_loss": 1.0, "koleo_loss": 0.1}
    assert objective.centering == "sinkhorn"
    assert objective.temperatures == (0.03, 0.05)
    assert objective.online[1].prototypes.shape == objective.online[2].prototypes.shape == (40, 256)
    assert objective.online[1].mlp[0].out_features == 24
    assert not any(isinstance(layer, nn.BatchNorm1d) for head in objective.online[1:] for layer in head.mlp)
    assert (objective.layer_decay, objective.patch_lr_factor) == (0.9, 0.2)
    assert [size for _, size in drawn.views] == [(36, 36)] * 2 + [(18, 18)] * 4
    assert objective.generator.initial_seed() != drawn.generator.initial_seed()
    assert settings.training.get_params() == Training().get_params()


def test_all_of_dinov2_runs_and_repeats(sky):
    words = {"head_norm": False, "layer_decay": 0.9, "patch_lr_factor": 0.2}
    encoder = ImageEncoder("test_vit", pool="avg", patch=12, drop_path=0.3)
    embedder = DINOEmbedder(**TOY | FULL | words | {"encoder": encoder})
    rows = embedder.fit_transform(sky)
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows, clone(embedder).fit_transform(sky))
    np.testing.assert_array_equal(rows, pickle.loads(pickle.dumps(embedder)).transform(sky))


@pytest.mark.parametrize("n", [2, 3, 9])
def test_few_images_are_enough(sky, n):
    rows = DINOEmbedder(**TOY | FULL | {"batch_size": 2}).fit_transform(sky[:n])
    assert np.isfinite(rows).all()


def test_local_views_of_the_paper(asked):
    sky = draw(4, 3, 152, 152).numpy()
    DINOEmbedder("test_vit", augment="astrodino", size=144).fit(sky)
    assert [size for _, size in asked[0][0].views.views] == [(144, 144)] * 2 + [(60, 60)] * 8


def test_searches_and_files_reach_every_word(sky, tmp_path):
    recipe = MultiView(get_recipe("supervised"), n_local=1, local_size=0.5)
    embedder = DINOEmbedder(**TOY | FULL | {"augment": recipe, "encoder": ImageEncoder("test_vit", patch=12)})
    grid = {"emb__ibot_weight": [0.0, 1.0], "emb__augment__first__rotate__degrees": [90], "emb__encoder__patch": [18]}
    search = GridSearchCV(Pipeline([("emb", embedder), ("clf", LogisticRegression())]), grid, cv=2)
    best = search.fit(sky, np.arange(24) % 2).best_estimator_["emb"]
    assert best.augment_.get_params()["first__rotate__degrees"] == 90
    assert best.encoder_.network.patch_embed.patch_size == (18, 18)
    skastro.save(best, tmp_path / "model.skastro")
    again = skastro.load(tmp_path / "model.skastro")
    assert again.get_params()["teacher_temperature"] == (0.04, 0.07)
    np.testing.assert_array_equal(again.transform(sky), best.transform(sky))
