"""Kill a small fit at random moments, until it ends: does it end as one that nobody killed? What do checkpoints cost?

    python benchmarks/kill.py [--kills 100] [--seed 0] [--every 0.0]

A process fits BYOL on simulated galaxies, with a checkpoint after every step (``--every`` seconds apart), and is ended
by SIGKILL at a random time after it has begun to train; then the next one goes on. When one has ended by itself, its
embedding is compared with that of the unbroken fit, bit for bit, and all begins anew, until there were as many kills as
asked for. Then the time that a checkpoint of the default network takes, and its size.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from machine import header
from skorch.callbacks import Callback

from skastro import BYOLEmbedder, Training
from skastro.datasets import make_survey
from skastro.training import checkpoints

started = None  # event of this process: it trains


class Tell(Callback):
    def on_train_begin(self, net, **kwargs) -> None:
        if started is not None:
            started.set()


def embed(images: np.ndarray, out: Path, folder: Path | None, every: float, event=None) -> None:
    global started
    started = event
    torch.set_num_threads(1)
    training = Training(precision="fp32", threads=1, callbacks=[Tell()], checkpoint=folder, checkpoint_every=every)
    embedder = BYOLEmbedder("test_resnet", max_epochs=12, batch_size=16, training=training, random_state=0)
    np.save(out, embedder.fit_transform(images))


def cost(images: np.ndarray, folder: Path) -> None:
    seconds, sizes = [], []
    replacing = checkpoints.replacing

    @contextmanager
    def timed(path: Path) -> Iterator[Path]:
        start = time.perf_counter()
        with replacing(path) as partial:
            yield partial
        seconds.append(time.perf_counter() - start)
        sizes.append(path.stat().st_size)

    checkpoints.replacing = timed
    times = {}
    for place in (None, folder):
        training = Training(checkpoint=place, checkpoint_every=0)
        start = time.perf_counter()
        BYOLEmbedder(max_epochs=2, training=training, random_state=0).fit(images)
        times[place] = time.perf_counter() - start
    print(
        f"BYOLEmbedder(): {1000 * np.median(seconds):.0f} ms for a checkpoint of {sizes[0] / 1e6:.0f} MB "
        f"(median of {len(seconds)}); in ten minutes {np.median(seconds) / checkpoints.SELDOM:.3%}. "
        f"A fit of {len(seconds) - 1} steps takes {times[None]:.1f} s, "
        f"with a checkpoint after each {times[folder]:.1f} s."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=float, default=0.0)
    args = parser.parse_args()
    header("Killed fits")
    rng, context = np.random.default_rng(args.seed), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["skastro.pretrain.byol"])
    images = make_survey(64, random_state=0).images
    with tempfile.TemporaryDirectory() as place:
        folder, whole, out = Path(place) / "run", Path(place) / "whole.npy", Path(place) / "out.npy"
        start = time.perf_counter()
        embed(images, whole, None, 0.0)
        longest = time.perf_counter() - start
        kills = fits = begun = equal = torn = 0
        while kills < args.kills or begun:
            begins = context.Event()
            process = context.Process(target=embed, args=(images, out, folder, args.every, begins))
            process.start()
            begins.wait()
            process.join(rng.uniform(0, longest) if kills < args.kills else None)
            if process.is_alive():
                process.kill()
                process.join()
                kills, begun = kills + 1, begun + 1
                torn += any(folder.glob(".*.part"))
                continue
            fits += 1
            equal += process.exitcode == 0 and np.array_equal(np.load(out), np.load(whole))
            left = [path.name for path in folder.iterdir()]
            print(f"fit {fits}: {begun} kills, exit code {process.exitcode}, {equal} of {fits} equal, {left} left")
            begun = 0
        print(
            f"{kills} kills with seed {args.seed}, {torn} of them in the middle of writing: "
            f"{equal} of {fits} fits equal the unbroken one bit for bit"
        )
        cost(make_survey(512, random_state=0).images, folder)


if __name__ == "__main__":
    main()
