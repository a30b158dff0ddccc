"""BYOLEmbedder.transform against a bare inference loop of the same network and precision.

python benchmarks/bench_transform.py [--images 4096] [--rounds 5] [--device auto]
"""

import argparse

import numpy as np
import torch
from machine import ENCODER, compare, galaxies, header, rates

from skastro import BYOLEmbedder
from skastro.devices import resolve_device
from skastro.encoders import Normalizer


def bare(embedder: BYOLEmbedder, images: np.ndarray, device: torch.device, bf16: bool) -> np.ndarray:
    encoder = embedder.encoder_.to(device).to(memory_format=torch.channels_last).eval()
    normalizer = Normalizer(embedder.normalizer_).to(device)
    rows = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(images), 128):
            batch = torch.from_numpy(images[start : start + 128]).to(device)
            view = normalizer(batch).contiguous(memory_format=torch.channels_last)
            rows.append(encoder(view).float().cpu())
    embedder.encoder_.cpu()
    return torch.cat(rows).numpy()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    device = resolve_device(chosen.device)
    header(f"transform: ResNet18, 64², batch 128, {device}")
    images = galaxies(chosen.images)
    embedder = BYOLEmbedder(ENCODER, max_epochs=0, device=chosen.device, random_state=0).fit(images[:256])
    for precision in ("fp32", "bf16"):
        embedder.set_params(training__precision=precision)
        work = {
            f"skastro {precision}": lambda: embedder.transform(images),
            f"bare loop {precision}": lambda bf16=precision == "bf16": bare(embedder, images, device, bf16),
        }
        compare(rates(work, len(images), chosen.rounds), *work, 0.95)


if __name__ == "__main__":
    main()
