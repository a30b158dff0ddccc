"""Views per second against kornia, torchvision and scikit-image at the same work, and what views cost in a BYOL step.

The work is that of Hayat et al. (2021), section 3: cutouts of 107² in five bands are rotated by any angle, shifted by
up to 7 pixels, cut to 64², reddened and given noise. On the processor each has one thread: code for single images is
spread over the cores by the processes of a loader, code for batches by threads, so the rates are compared core by
core. On a GPU code for single images is not timed. A BYOL step has as many threads as torch takes.

python benchmarks/bench_views.py [--images 1024] [--batch 256] [--rounds 5] [--step-images 256] [--device auto]
"""

import argparse
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from machine import ENCODER, compare, galaxies, header, rates
from torch import Tensor

from skastro.augment import get_recipe
from skastro.augment.views import Views
from skastro.datasets import make_survey
from skastro.devices import resolve_device, uses_bf16
from skastro.encoders import Normalizer
from skastro.pixels import measure_bands
from skastro.pretrain.byol import BYOL
from skastro.surveys import get_survey

FRAME, SIZE, JITTER, EBV, NOISE = 107, 64, 7, 0.5, (1.0, 3.0)
EXTINCTION = get_survey("sdss").extinction
STEP_BATCH = 128

Work = Callable[[Tensor], Tensor]


def ours(images: np.ndarray, device: torch.device) -> Work:
    recipe = get_recipe("sdss").fit(images, survey=get_survey("sdss"))
    generator = torch.Generator(device).manual_seed(0)
    return lambda batch: recipe(batch, (SIZE, SIZE), generator)


def kornia(level: np.ndarray, device: torch.device) -> Work:
    from kornia.augmentation import CenterCrop, RandomAffine

    shift = (JITTER / FRAME, JITTER / FRAME)
    move = torch.nn.Sequential(RandomAffine(180.0, translate=shift, p=1.0), CenterCrop(SIZE))
    redden_and_add_noise = dust_and_noise(level, device)
    return lambda batch: redden_and_add_noise(move(batch))


def torchvision(level: np.ndarray, device: torch.device) -> Work:
    from torchvision.transforms import v2

    shift = (JITTER / FRAME, JITTER / FRAME)
    affine = v2.RandomAffine(180, translate=shift, interpolation=v2.InterpolationMode.BILINEAR)
    view = v2.Compose([affine, v2.CenterCrop(SIZE), dust_and_noise(level, device)])
    return lambda batch: torch.stack([view(image) for image in batch])


def dust_and_noise(level: np.ndarray, device: torch.device) -> Work:
    """What the libraries lack, as their users would write it: of one image or a batch, in the window alone."""
    extinction = torch.tensor(EXTINCTION, device=device)
    noise = torch.as_tensor(level, dtype=torch.float32, device=device)

    def redden_and_add_noise(images: Tensor) -> Tensor:
        one_each = (*images.shape[:-3], 1)
        ebv = torch.empty(one_each, device=device).uniform_(0, EBV)
        sigma = torch.empty(one_each, device=device).uniform_(*NOISE) * noise
        transmission = 10 ** (-0.4 * ebv * extinction)
        return images * transmission[..., None, None] + sigma[..., None, None] * torch.randn_like(images)

    return redden_and_add_noise


def scikit_image(level: np.ndarray, device: torch.device) -> Work:
    """The order of the code of Hayat et al. (2021), which has the bands last and one image at a time."""
    from skimage.transform import rotate

    rng = np.random.default_rng(0)
    noise, extinction = np.float32(level), np.float32(EXTINCTION)
    first = (FRAME - SIZE) // 2 - JITTER

    def view(image: np.ndarray) -> np.ndarray:
        turned = rotate(image, rng.uniform(0, 360), order=1, mode="constant", cval=0, preserve_range=True)
        top, left = first + rng.integers(2 * JITTER + 1, size=2)
        window = turned[top : top + SIZE, left : left + SIZE]
        reddened = window * 10 ** (np.float32(-0.4 * rng.uniform(0, EBV)) * extinction)
        field = rng.standard_normal(window.shape, dtype=np.float32)
        return reddened + np.float32(rng.uniform(*NOISE)) * noise * field

    def views(batch: Tensor) -> Tensor:
        pictures = batch.permute(0, 2, 3, 1).numpy()
        return torch.stack([torch.from_numpy(view(picture)).permute(2, 0, 1) for picture in pictures])

    return views


# Each with the least ratio that is aimed at.
RIVALS = {"kornia": (kornia, 2), "torchvision": (torchvision, 2), "scikit-image": (scikit_image, 4)}


def check(name: str, work: Work, level: np.ndarray, device: torch.device) -> None:
    """Look for each part of the work in views of a sky bright in its upper half, with a star in the middle."""
    sky = torch.zeros(256, len(level), FRAME, FRAME)
    sky[:, :, : FRAME // 2] = 200
    sky[:, :, FRAME // 2, FRAME // 2] = 2000
    unit = torch.as_tensor(level, dtype=torch.float32)[:, None, None]
    views = work((sky * unit).to(device)).cpu() / unit
    assert views.shape == (256, len(level), SIZE, SIZE), f"{name}: {tuple(views.shape)}"
    assert views.dtype == torch.float32, f"{name}: {views.dtype}"
    # Jitter: the star lies anywhere within 7 pixels of the middle, to a pixel: an odd frame has no middle window.
    star = views[:, -1].flatten(1).argmax(dim=1)
    shift = torch.stack([star // SIZE, star % SIZE]) - SIZE // 2
    reach = torch.cat([-shift.amin(dim=1), shift.amax(dim=1)])
    assert ((reach - JITTER).abs() <= 1).all(), f"{name}: jitter of {reach.tolist()} pixels"
    # Rotation: each corner pixel is bright in half of the views.
    bright = (views[:, -1, :: SIZE - 1, :: SIZE - 1] > 50).float().mean(dim=0)
    assert ((bright - 0.5).abs() < 0.15).all(), f"{name}: corners bright in {bright.tolist()} of the views"
    # Reddening: the mean flux falls, in each band by the mean transmission.
    expected = (10 ** (-0.4 * np.linspace(0, EBV, 1001)[:, None] * EXTINCTION)).mean(axis=0)
    seen = views.mean(dim=(0, 2, 3)).numpy() / 100
    assert np.allclose(seen, expected, atol=0.08), f"{name}: transmission {seen}, not {expected}"
    # Noise: where the sky is flat, neighbors differ by √2 of it; drawn from 1 to 3 levels, in each band.
    noise = 1.4826 * views.diff(dim=3).abs().flatten(2).median(dim=2).values / 2**0.5
    limits = torch.stack([noise.amin(dim=0), noise.amax(dim=0)], dim=1)
    assert ((limits - torch.tensor(NOISE)).abs() < 0.4).all(), f"{name}: noise of {limits.tolist()} levels"


def compare_views(images: np.ndarray, batch: int, rounds: int, device: torch.device) -> None:
    """Time our recipe and all rivals that are there; on a GPU only what takes batches."""
    level = measure_bands(images)["noise"]
    work = {"skastro": ours(images, device)}
    for name in RIVALS if device.type == "cpu" else ["kornia"]:
        try:
            work[name] = RIVALS[name][0](level, device)
            print(f"{name} {version(name)}")
        except ImportError:
            print(f"{name} is not installed and left out.")
    for name, views in work.items():
        check(name, views, level, device)
    data = torch.from_numpy(images).to(device)
    measured = rates({name: over(data, batch, views) for name, views in work.items()}, len(data), rounds)
    for name in list(work)[1:]:
        compare(measured, "skastro", name, RIVALS[name][1])


def over(data: Tensor, batch: int, work: Callable[[Tensor], object]) -> Callable[[], None]:
    """All images in batches, until the GPU, if there is one, has finished."""

    def run() -> None:
        for rows in data.split(batch):
            work(rows)
        if data.is_cuda:
            torch.cuda.synchronize()

    return run


def share_of_step(images: np.ndarray, augment: str, survey: str | None, rounds: int, device: torch.device) -> None:
    """Time whole BYOL steps (two views, forward, backward, optimizer, target network) and their views alone."""
    bands, size = measure_bands(images, "standard"), (SIZE, SIZE)
    recipe = get_recipe(augment).fit(images, survey=get_survey(survey), noise=bands["noise"])
    draw = Views(recipe.views(size), Normalizer(bands).to(device), torch.Generator(device).manual_seed(0))
    objective = BYOL(ENCODER.build(images.shape[1], size), 512, 1024, 256).to(device).train()
    objective.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], fused=True)
    bf16 = uses_bf16("auto", device)

    def step(batch: Tensor) -> None:
        with torch.no_grad():
            pair = draw(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = objective(*pair)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.update(0.99)
        loss.item()

    data = torch.from_numpy(images).to(device)
    work = {"step": over(data, STEP_BATCH, step), "views": over(data, STEP_BATCH, draw)}
    measured = rates(work, len(data), rounds)
    share, (step_rate, view_rate) = measured["step"] / measured["views"], map(np.median, measured.values())
    print(
        f"{augment}, {' × '.join(map(str, images.shape[1:]))} to {SIZE}², {'bf16' if bf16 else 'fp32'}: "
        f"step {step_rate:.0f} images/s; views alone {view_rate:.0f} images/s; "
        f"share {np.median(share):.1%} (from {share.min():.1%} to {share.max():.1%}; target at most 5 %)"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step-images", type=int, default=256)
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    device, threads = resolve_device(chosen.device), torch.get_num_threads()
    header(f"views: rotate, jitter, crop, redden, noise; 5 × {FRAME}² to 5 × {SIZE}², batch {chosen.batch}")
    torch.manual_seed(0)
    sky = make_survey(256, bands="ugriz", size=FRAME, random_state=0).images
    images = np.resize(sky, (chosen.images, *sky.shape[1:]))
    print("Simulated pixels, one view of each image.")
    for place in dict.fromkeys((torch.device("cpu"), device)):
        print(f"On {place}:" if place.type == "cuda" else "On one thread:")
        torch.set_num_threads(1)
        compare_views(images, chosen.batch, chosen.rounds, place)
    torch.set_num_threads(threads)
    print(
        f"Share of a BYOL step, ResNet18, batch {STEP_BATCH}, two views of each image, on {device}, threads: {threads}"
    )
    share_of_step(galaxies(chosen.step_images), "galaxy", None, chosen.rounds, device)
    share_of_step(np.resize(sky, (chosen.step_images, *sky.shape[1:])), "sdss", "sdss", chosen.rounds, device)


if __name__ == "__main__":
    main()
