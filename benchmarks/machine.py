"""What every benchmark prints first, and how it compares: turn and turn about, median of the ratios."""

import os
import platform
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from skastro.encoders import ImageEncoder

ENCODER = ImageEncoder("resnet18", pool="avg")  # the network that peers train


def header(title: str) -> None:
    versions = ", ".join(f"{name} {version(name)}" for name in ("skastro", "torch", "timm", "skorch"))
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    print(f"{title}\n{date.today()}, {processor()}, {os.cpu_count()} cores{gpu}")
    print(f"Python {platform.python_version()}, {versions}")


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return model + (" (AVX512-BF16)" if torch.cpu._is_avx512_bf16_supported() else "")


def rates(work: dict[str, Callable[[], None]], images: int, rounds: int) -> dict[str, np.ndarray]:
    """Time each piece of work in turn, `rounds` times after a warm-up, in images per second."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: images / np.array(values) for name, values in seconds.items()}


def compare(rates: dict[str, np.ndarray], ours: str, rival: str, target: float) -> None:
    ratio = rates[ours] / rates[rival]
    print(
        f"{ours}: {np.median(rates[ours]):.0f} images/s; {rival}: {np.median(rates[rival]):.0f} images/s; "
        f"ratio {np.median(ratio):.3f} (from {ratio.min():.3f} to {ratio.max():.3f}; target {target})"
    )


def adamw(module: torch.nn.Module, lr: float, decay: float) -> torch.optim.AdamW:
    """Make the optimizer of the bare loops, which decays matrices and kernels only."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def galaxies(n: int) -> np.ndarray:
    """Real 64 × 64 color galaxies, repeated to `n`, where the data folder is there; else simulated ones."""
    from skastro.datasets import load_galaxy_zoo1, make_survey

    folder = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if (folder / "gz1_sdss.npz").exists():
        zoo = load_galaxy_zoo1(folder, unlabeled=True)
        images = np.concatenate([zoo.images, zoo.unlabeled_images])
        print(f"Real pixels: {len(images)} SDSS cutouts, 3 × 64 × 64, 8 bit.")
    else:
        images = make_survey(n, bands="gri", size=64, random_state=0).images
        print("Simulated pixels: the data folder is absent.")
    return np.resize(images, (n, *images.shape[1:]))
