"""The alignment of images and spectra against a bare torch loop of the same networks and precision.

python benchmarks/bench_clip.py [--pairs 512] [--epochs 8] [--rounds 5] [--device auto]

Both networks are trained: a ResNet18 on 3 × 64², a transformer of 3 blocks on spectra of 800 pixels. Simulated pairs.
"""

import argparse

import numpy as np
import torch
from machine import ENCODER, adamw, compare, header, rates
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from skastro import AstroCLIPEmbedder, SpectrumEncoder
from skastro.devices import resolve_device, uses_bf16
from skastro.encoders import AttentionPool

BATCH, LR, DECAY, DIM, HEADS, SCALE = 128, 5e-4, 1e-4, 512, 4, 15.5
SPECTRUM = SpectrumEncoder(depth=3, width=96, heads=4)


def ours(images: np.ndarray, spectra: np.ndarray, epochs: int, device: str, precision: str) -> None:
    clip = AstroCLIPEmbedder(ENCODER, SPECTRUM, embedding_dim=DIM, batch_size=BATCH, device=device, random_state=0)
    clip.set_params(max_epochs=epochs, training__precision=precision, training__optimizer="adamw").fit(images, spectra)


class Bare(nn.Module):
    """Both networks, their pools, and the loss."""

    def __init__(self, images: np.ndarray, spectra: np.ndarray) -> None:
        super().__init__()
        self.image = ENCODER.build(images.shape[1], images.shape[2:])
        self.spectrum = SPECTRUM.build(spectra.shape[1])
        self.pools = nn.ModuleList([AttentionPool(width, HEADS, DIM, DIM) for width in (512, SPECTRUM.width)])

    def forward(self, images: Tensor, flux: Tensor, level: Tensor) -> Tensor:
        first = self.pools[0](*self.image.tokens(images))
        second = self.pools[1](*self.spectrum.tokens(flux, torch.ones_like(flux, dtype=torch.bool), level))
        first, second = (normalize(rows.float(), dim=1) for rows in (first, second))
        likeness = SCALE * first @ second.T
        own = torch.arange(len(images), device=images.device)
        return (cross_entropy(likeness, own) + cross_entropy(likeness.T, own)) / 2


def bare(images: np.ndarray, spectra: np.ndarray, epochs: int, device: torch.device, bf16: bool) -> None:
    """The loop that one writes by hand when in a hurry and good at it."""
    torch.manual_seed(0)
    pixels, rows = torch.from_numpy(images), torch.from_numpy(spectra)
    mean, std = pixels.mean((0, 2, 3), keepdim=True).to(device), pixels.std((0, 2, 3), keepdim=True).to(device)
    scale, level = torch.std_mean(rows, dim=1, keepdim=True)
    data = pixels.to(device), ((rows - level) / scale).to(device), torch.cat([level / scale, scale.log()], 1).to(device)
    model = Bare(images, spectra).to(device).train().to(memory_format=torch.channels_last)
    optimizer = adamw(model, LR, DECAY)
    steps = -(-len(images) // BATCH)
    for chosen in (rows for _ in range(epochs) for rows in torch.randperm(len(images)).tensor_split(steps)):
        batch, *rest = (part[chosen.to(device)] for part in data)
        batch = ((batch - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = model(batch, *rest)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def main() -> None:
    from skastro.datasets import make_survey

    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    chosen = parser.parse_args()
    device = resolve_device(chosen.device)
    bf16 = uses_bf16(chosen.precision, device)
    header(f"alignment: batch {BATCH}, {'bf16' if bf16 else 'fp32'}, {device}, simulated pairs")
    sky = make_survey(chosen.pairs, bands="grz", size=64, spectra=True, random_state=0)
    spectra = np.where(sky.ivar > 0, sky.spectra, 0).astype(np.float32)
    work = {
        "skastro": lambda: ours(sky.images, spectra, chosen.epochs, chosen.device, chosen.precision),
        "bare loop": lambda: bare(sky.images, spectra, chosen.epochs, device, bf16),
    }
    compare(rates(work, chosen.pairs * chosen.epochs, chosen.rounds), "skastro", "bare loop", 0.95)


if __name__ == "__main__":
    main()
