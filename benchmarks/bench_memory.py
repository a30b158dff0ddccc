"""Anonymous memory while transforming a memory map larger than one would load: 52,000 × 5 × 64 × 64 float32, 4.3 GB.

    python benchmarks/bench_memory.py [--images 52000] [--folder FOLDER]

The map is filled with simulated noise; the memory counted is RssAnon of this process, not the page cache.
"""

import argparse
import re
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from machine import ENCODER, header

from skastro import BYOLEmbedder


def anonymous() -> float:
    """Anonymous resident memory in MB."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=52_000)
    parser.add_argument("--folder", type=Path, default=None)
    chosen = parser.parse_args()
    header(f"memory: transform of a mapped {chosen.images} × 5 × 64 × 64 float32 array")
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        shape = (chosen.images, 5, 64, 64)
        path = Path(folder, "sky.npy")
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        rng = np.random.default_rng(0)
        for start in range(0, chosen.images, 1000):
            mapped[start : start + 1000] = rng.normal(size=mapped[start : start + 1000].shape)
        del mapped
        mapped = np.load(path, mmap_mode="r")
        embedder = BYOLEmbedder(ENCODER, max_epochs=0, random_state=0).fit(mapped[:1000])
        embedder.transform(mapped[:1000])
        before, peak, done = anonymous(), [0.0], threading.Event()

        def watch() -> None:
            while not done.is_set():
                peak[0] = max(peak[0], anonymous())
                time.sleep(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        rows = embedder.transform(mapped)
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    growth = peak[0] - before - rows.nbytes / 2**20
    print(
        f"{mapped.nbytes / 1e9:.1f} GB mapped, {len(rows) / seconds:.0f} images/s; anonymous memory grew by "
        f"{growth:.0f} MB beside the output of {rows.nbytes / 2**20:.0f} MB (target 500)"
    )


if __name__ == "__main__":
    main()
