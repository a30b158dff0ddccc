"""Where pixels go: each step against its formula, and all of them in one resampling."""

import re
import warnings
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats

from skastro.augment import Augment, Crop, Dihedral, Flip, GaussianNoise, Rotate, Shift, Zoom

# Where a step moves a point (x, y from the center, y down), from the parameters that it drew.
LANDS = {
    "rotate": lambda x, y, degrees: turned(x, y, torch.deg2rad(degrees)),
    "flip": lambda x, y, across, down: (torch.where(across, -x, x), torch.where(down, -y, y)),
    "shift": lambda x, y, pixels: (x - pixels[:, 0], y - pixels[:, 1]),
    "zoom": lambda x, y, scale: (x * scale, y * scale),
    "crop": lambda x, y, sides, center: ((x - center[:, 0]) / sides[:, 0], (y - center[:, 1]) / sides[:, 1]),
}
STEPS = {
    "rotate": Rotate(),
    "flip": Flip(),
    "shift": Shift(pixels=3),
    "zoom": Zoom(scale=(0.8, 1.2)),
    "crop": Crop(scale=(0.8, 1.0)),
}


def turned(x, y, angle):
    """Counter-clockwise on a picture whose y points down."""
    return torch.cos(angle) * x + torch.sin(angle) * y, torch.cos(angle) * y - torch.sin(angle) * x


def centroid(images):
    height, width = images.shape[-2:]
    flux = images.sum(dim=(1, 2, 3))
    x = (images * (torch.arange(width) - (width - 1) / 2)).sum(dim=(1, 2, 3)) / flux
    y = (images * (torch.arange(height) - (height - 1) / 2)[:, None]).sum(dim=(1, 2, 3)) / flux
    return x, y


def moved(images, size, edge="zeros", **drawn):
    """Apply steps by name with parameters given by hand for every image."""
    rows = {
        name: {
            key: torch.as_tensor(value).expand(len(images), *torch.as_tensor(value).shape) for key, value in d.items()
        }
        for name, d in drawn.items()
    }
    return Augment([(name, STEPS[name]) for name in rows], edge=edge).apply(images, list(rows.values()), size)


# ---------------------------------------------------------------- one step


@pytest.mark.parametrize(("frame", "size"), [((20, 20), (20, 20)), ((21, 21), (14, 14)), ((19, 26), (12, 15))])
@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("down", [True, False])
def test_flip_equals_torch_flip(frame, size, across, down, noise):
    images = noise(2, 2, *frame)
    window = moved(images, size, flip={"across": False, "down": False})
    axes = [axis for axis, flipped in ((3, across), (2, down)) if flipped]
    view = moved(images, size, flip={"across": across, "down": down})
    torch.testing.assert_close(view, window.flip(axes), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("frame", "size"), [(20, 20), (21, 14), (40, 33)])
@pytest.mark.parametrize("turns", [1, 2, -1])
def test_rotate_by_quarter_turns_equals_rot90(frame, size, turns, noise):
    images = noise(2, 2, frame, frame)
    window = moved(images, (size, size), rotate={"degrees": 0.0})
    view = moved(images, (size, size), rotate={"degrees": 90.0 * turns})
    torch.testing.assert_close(view, torch.rot90(window, turns, (2, 3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("frame", [(8, 8), (9, 9), (8, 11)])
def test_dihedral_turns_and_flips_exactly_and_all_of_them(frame, noise, seeded):
    images = noise(1, 2, *frame).expand(200, -1, -1, -1)
    views = Augment([("turn", Dihedral())])(images, frame, seeded())
    turns = (0, 1, 2, 3) if frame[0] == frame[1] else (0, 2)
    turned = [torch.rot90(images[0], turn, (1, 2)) for turn in turns]
    expected = torch.stack(turned + [view.flip(2) for view in turned])
    apart = (views[:, None] - expected).abs().amax(dim=(2, 3, 4))
    assert apart.amin(dim=1).max() < 1e-6
    assert set(apart.argmin(dim=1).tolist()) == set(range(2 * len(turns)))


@pytest.mark.parametrize(("x", "y"), [(3, 0), (0, -4), (-2, 5)])
def test_shift_by_whole_pixels_equals_a_window_of_a_larger_frame(x, y, noise):
    images = noise(2, 3, 26, 24)
    view = moved(images, (12, 11), shift={"pixels": [float(x), float(y)]})
    top, left = (26 - 12) // 2 + y, (24 - 11) // 2 + x
    torch.testing.assert_close(view, images[:, :, top : top + 12, left : left + 11], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [0.7, 1.3])
def test_zoom_multiplies_the_size_of_the_object(scale, blob):
    view = moved(blob((40, 40), 2.0, -1.0, (5.0, 6.0)), (32, 32), zoom={"scale": scale})
    truth = blob((32, 32), 2.0 * scale, -scale, (5.0 * scale, 6.0 * scale))
    torch.testing.assert_close(view, truth, rtol=0, atol=0.01)


def test_crop_fills_the_frame_with_the_window(blob):
    view = moved(blob((40, 30), 3.0, 2.0, (5.0, 5.0)), (40, 30), crop={"sides": [0.5, 0.8], "center": [4.0, -1.0]})
    truth = blob((40, 30), (3.0 - 4.0) / 0.5, (2.0 + 1.0) / 0.8, (5.0 / 0.5, 5.0 / 0.8))
    torch.testing.assert_close(view, truth, rtol=0, atol=0.01)


# ---------------------------------------------------------------- draws


def test_draws_stay_within_their_limits_and_reach_them(seeded):
    shape = (2000, 1, 30, 20)
    degrees = Rotate(degrees=30).draw(shape, seeded())["degrees"]
    assert 29 < degrees.abs().max() <= 30
    pixels = Shift(pixels=2).draw(shape, seeded())["pixels"]
    assert pixels.unique().tolist() == [-2, -1, 0, 1, 2]
    scale = Zoom(scale=(0.5, 2.0)).draw(shape, seeded())["scale"]
    assert 0.5 <= scale.min() < 0.51
    assert 1.96 < scale.max() <= 2.0
    assert abs(scale.log().mean()) < 0.03  # as often nearer as farther


@pytest.mark.parametrize("scale", [(0.3, 0.5), (0.8, 1.0)])
@pytest.mark.parametrize("ratio", [(1.0, 1.0), (3 / 4, 4 / 3)])
def test_crop_windows_have_the_area_asked_and_lie_inside(scale, ratio, seeded):
    drawn = Crop(scale=scale, ratio=ratio).draw((4000, 1, 30, 20), seeded())
    area, aspect = drawn["sides"].prod(dim=1), drawn["sides"][:, 0] / drawn["sides"][:, 1]
    assert scale[0] - 1e-6 <= area.min() < scale[0] + 0.01
    assert scale[1] - 0.01 < area.max() <= scale[1] + 1e-6
    assert ratio[0] - 1e-6 <= aspect.min() <= aspect.max() <= ratio[1] + 1e-6
    half = torch.tensor([10.0, 15.0])
    reach = drawn["center"].abs() + drawn["sides"] * half
    assert (reach <= half + 1e-4).all()
    assert (reach.amax(dim=0) > half - 0.1).all()


EVEN = {
    "angles": (Rotate(), lambda degrees: (degrees + 180) / 360),
    "smaller angles": (Rotate(degrees=30), lambda degrees: (degrees + 30) / 60),
    "shifts": (Shift(pixels=500), lambda pixels: (pixels + 500.5) / 1001),
    "zooms": (Zoom(scale=(0.5, 2.0)), lambda scale: torch.log2(scale) / 2 + 0.5),
    "areas": (Crop(scale=(0.3, 0.7)), lambda sides, center: (sides.prod(dim=1) - 0.3) / 0.4),
    "aspects": (
        Crop(scale=(0.2, 0.4), ratio=(0.5, 2.0)),
        lambda sides, center: torch.log2(sides[:, 0] / sides[:, 1]) / 2 + 0.5,
    ),
    "windows": (Crop(scale=(0.2, 0.6)), lambda sides, center: center / (1 - sides) / torch.tensor([20.0, 30.0]) + 0.5),
}


@pytest.mark.parametrize(("step", "share"), EVEN.values(), ids=EVEN)
def test_amounts_are_drawn_evenly_and_along_each_axis_for_itself(step, share, seeded):
    """As a share of what is allowed, each is uniform from 0 to 1: both ways round, and anywhere in the frame."""
    columns = share(**step.draw((4000, 1, 30, 20), seeded())).reshape(4000, -1).double().numpy()
    for column in columns.T:
        assert stats.kstest(column, "uniform").pvalue > 0.01
    assert np.abs(np.corrcoef(columns.T) - np.eye(columns.shape[1])).max() < 0.05


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_both_flips_happen_as_often_as_asked_and_each_for_itself(p, seeded):
    drawn = Flip(p=p).draw((4000, 1, 8, 8), seeded())
    across, down = drawn["across"].double(), drawn["down"].double()
    for share, expected in ((across, p), (down, p), (across * down, p * p)):
        assert share.mean().item() == pytest.approx(expected, abs=0.025)  # three standard errors


def test_all_orientations_are_equally_likely(seeded):
    drawn = Dihedral().draw((4000, 1, 8, 8), seeded())
    counts = np.bincount(drawn["turns"] + 4 * drawn["flipped"].int(), minlength=8)
    assert stats.chisquare(counts).pvalue > 0.01


# ---------------------------------------------------------------- composition


@pytest.mark.parametrize("names", list(permutations(STEPS))[::17], ids=lambda names: "-".join(names))
def test_any_order_lands_where_the_formulas_say(names, blob, seeded):
    x, y = 3.0, -2.0
    images = blob((41, 41), x, y).expand(16, -1, -1, -1)
    augment = Augment([(name, STEPS[name]) for name in names], edge="zeros")
    drawn = augment.draw(images, (41, 41), seeded())
    truth = torch.full((16,), x), torch.full((16,), y)
    for name, drew in zip(names, drawn, strict=True):
        truth = LANDS[name](*truth, **drew)
    found = centroid(augment.apply(images, drawn, (41, 41)))
    torch.testing.assert_close(torch.stack(found), torch.stack(truth), rtol=0, atol=0.05)


def test_order_matters(blob):
    image, turn, step = blob((31, 31)), {"degrees": 90.0}, {"pixels": [5.0, 0.0]}
    after = moved(image, (31, 31), rotate=turn, shift=step)
    before = moved(image, (31, 31), shift=step, rotate=turn)
    torch.testing.assert_close(torch.stack(centroid(after)), torch.tensor([[-5.0], [0.0]]), rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.stack(centroid(before)), torch.tensor([[0.0], [5.0]]), rtol=0, atol=1e-3)


def test_a_chain_interpolates_once(noise):
    images = noise(2, 1, 24, 24)
    there, back = Rotate(), Rotate()
    chain = Augment([("there", there), ("back", back)], edge="zeros")
    angle = torch.full((2,), 33.0)
    once = chain.apply(images, [{"degrees": angle}, {"degrees": -angle}], (24, 24))
    torch.testing.assert_close(once, images, rtol=0, atol=1e-4)
    twice = moved(moved(images, (24, 24), rotate={"degrees": 33.0}), (24, 24), rotate={"degrees": -33.0})
    assert twice[:, :, 8:16, 8:16].var() < 0.8 * images[:, :, 8:16, 8:16].var()


@pytest.mark.parametrize("names", list(permutations(["rotate", "zoom", "crop"])), ids="-".join)
def test_three_steps_lose_no_more_sharpness_than_one(names, noise, seeded):
    """Of white noise, one bilinear interpolation leaves 4/9 of the variance: a mean over places between two pixels."""
    images, inner = noise(12, 1, 64, 64), (slice(None), slice(None), slice(22, 42), slice(22, 42))
    chain = Augment([(name, STEPS[name]) for name in names])
    drawn = chain.draw(images, (64, 64), seeded())

    def kept(view):
        return (view[inner].var() / images.var()).item()

    alone = [Augment([step]).apply(images, [drew], (64, 64)) for step, drew in zip(chain.steps, drawn, strict=True)]
    three = chain.apply(images, drawn, (64, 64))
    assert kept(three) == pytest.approx(4 / 9, rel=0.07)
    assert kept(three) > 0.9 * min(map(kept, alone))
    one_by_one = images
    for step, drew in zip(chain.steps, drawn, strict=True):
        one_by_one = Augment([step]).apply(one_by_one, [drew], (64, 64))
    assert kept(one_by_one) < 0.75 * kept(three)


@pytest.mark.parametrize("name", ["rotate", "flip", "shift"])
def test_flux_of_a_compact_source_is_kept(name, blob, seeded):
    images = blob((32, 32), sigma=(1.5, 1.5)).expand(50, -1, -1, -1)
    views = Augment([(name, STEPS[name])])(images, (32, 32), seeded())
    torch.testing.assert_close(views.sum(dim=(1, 2, 3)), images.sum(dim=(1, 2, 3)), rtol=0.01, atol=0)


def test_steps_before_the_geometry_see_the_cutout_and_those_after_it_the_window(noise, seeded):
    augment = Augment([("before", GaussianNoise(sigma=1.0)), ("flip", Flip()), ("after", GaussianNoise(sigma=1.0))])
    drawn = augment.draw(noise(2, 1, 20, 18), (10, 12), seeded())
    assert [drew["field"].shape[2:] for drew in (drawn[0], drawn[2])] == [(20, 18), (10, 12)]


# ---------------------------------------------------------------- edges


@pytest.mark.parametrize(("edge", "filled"), [("zeros", [0, 0, 0]), ("border", [5, 5, 5]), ("reflection", [5, 4, 3])])
def test_what_comes_in_from_outside(edge, filled):
    image = torch.arange(6.0).expand(1, 1, 6, 6)
    view = moved(image, (6, 6), edge=edge, shift={"pixels": [3.0, 0.0]})
    torch.testing.assert_close(view[0, 0, 2], torch.tensor([3.0, 4.0, 5.0, *filled]), rtol=0, atol=1e-5)


def test_a_window_of_70_in_150_never_sees_the_edge(noise, seeded):
    """Corners reach 49.5 pixels of 75; in a frame of 80 they reach past its 40."""
    steps = [("rotate", Rotate()), ("crop", Crop()), ("flip", Flip())]
    for frame, clean in ((150, True), (80, False)):
        views = [
            Augment(steps, edge=edge)(noise(12, 1, frame, frame), (70, 70), seeded())
            for edge in ("zeros", "border", "reflection")
        ]
        assert all(torch.allclose(views[0], view, rtol=0, atol=1e-4) for view in views[1:]) == clean


def test_nearest_makes_no_new_values(seeded):
    images = torch.randint(0, 2, (8, 1, 20, 20), generator=seeded()).float()
    views = Augment([("rotate", Rotate())], interpolation="nearest")(images, (20, 20), seeded())
    assert views.unique().tolist() == [0, 1]
    assert len(Augment([("rotate", Rotate())])(images, (20, 20), seeded()).unique()) > 2


# ---------------------------------------------------------------- beyond the cutout


@pytest.mark.parametrize(
    "step", [Rotate(), Rotate(degrees=20), Flip(), Dihedral(), Shift(pixels=3), Zoom((0.7, 1.2)), Crop()], ids=str
)
@pytest.mark.parametrize("half", [(7.0, 7.0), (4.0, 9.0), (9.0, 4.0)])
def test_a_step_reaches_as_far_as_it_says_and_hardly_farther(step, half, seeded):
    width, height = (int(2 * side) for side in half)
    matrices = step.matrix(**step.draw((5000, 1, height, width), seeded()))
    corners = torch.tensor([[x, y, 1.0] for x in (-half[0], half[0]) for y in (-half[1], half[1])])
    farthest = (matrices[:, :2] @ corners.T).abs().amax(dim=(0, 2))
    said = torch.tensor(step.reach(*half))
    assert (farthest <= said + 1e-4).all()
    assert (farthest >= 0.97 * said).all()


@pytest.mark.parametrize(("pixels", "beyond"), [(7, 2), (6, 1), (5, 0), (0, 0)])
def test_a_margin_that_does_not_suffice_is_told(pixels, beyond, noise):
    """Windows of 64² in cutouts of 107²: Hayat et al. (2021) shift by 7 pixels, and 5 would stay inside."""
    recipe = Augment([("rotate", Rotate()), ("shift", Shift(pixels=pixels))], edge="zeros")
    images = noise(2, 1, 107, 107).numpy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recipe.fit(images, size=(64, 64))
        recipe.fit(images, size=(107, 107))  # without a margin everyone knows
    told = rf"64 × 64 pixels can reach {beyond} pixels beyond the cutouts \(107 × 107\).*edge='zeros'"
    assert [bool(re.search(told, str(warning.message))) for warning in caught] == [True] * (beyond > 0)
