"""Fine-tuning the last block of a ResNet18 against all of them, with and without augmentation.

python benchmarks/bench_finetune.py [--images 1024] [--epochs 5] [--rounds 3] [--device auto]
"""

import argparse
import time

import numpy as np
from machine import ENCODER, galaxies, header
from sklearn.frozen import FrozenEstimator

from skastro import BYOLEmbedder, FineTuneClassifier
from skastro.devices import resolve_device

WORK = {
    "all layers, augmented": {"n_layers": "all"},
    "one layer, augmented": {"n_layers": 1},
    "one layer, no augmentation": {"n_layers": 1, "augment": None},
    "head alone, no augmentation": {"n_layers": 0, "augment": None},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    header(f"fine-tune: ResNet18, batch 64, {chosen.epochs} epochs, {resolve_device(chosen.device)}")
    images = galaxies(chosen.images)
    labels = np.arange(len(images)) % 2
    frozen = FrozenEstimator(BYOLEmbedder(ENCODER, max_epochs=0, device=chosen.device, random_state=0).fit(images))
    seconds = {name: [] for name in WORK}
    for _ in range(chosen.rounds):
        for name, settings in WORK.items():
            model = FineTuneClassifier(frozen, **settings, max_epochs=chosen.epochs, device=chosen.device)
            start = time.perf_counter()
            model.fit(images, labels)
            seconds[name].append(time.perf_counter() - start)
    whole = np.median(seconds["all layers, augmented"])
    for name, times in seconds.items():
        saved = 100 * (1 - np.median(times) / whole)
        print(f"{name:28s} {np.median(times):7.1f} s ({min(times):.1f} to {max(times):.1f}), {saved:5.1f} % saved")


if __name__ == "__main__":
    main()
