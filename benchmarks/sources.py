"""How fast does `fit` run from disk, or `embed`, and how much memory does it take?

python benchmarks/sources.py [--n 50000] [--side 64] [--bands 3] [--batch-size 256] [--steps 24] [--window auto]
    [--workers 1] [--encoder resnet10t] [--embed] [--formats memory hdf5-100 ...] [--folder FOLDER]

BYOL, over a ResNet10-t unless told otherwise, on simulated noise with a bright middle, from memory and each format;
each fit runs in a process of its own, which ends it after some steps. Rates are images per second after the first four
steps, with what batches were read ahead of them. Memory is what the process has beside mapped files, at its peak, above
what it had before.
With --embed all images are embedded into a file instead, by the encoder with random weights.
"""

import argparse
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import psutil
from machine import header
from skorch.callbacks import Callback

from skastro import BYOLEmbedder, FixedImageEmbedder, Training, embed
from skastro.datasets import open_images
from skastro.training.callbacks import StopTraining

PIECE = 1000  # images written at a time
WARM = 4  # steps that are not timed


def pieces(n, shape):
    """Simulate images, some at a time."""
    height, width = shape[1:]
    y, x = np.mgrid[:height, :width]
    glow = np.exp(-((y - height / 2) ** 2 + (x - width / 2) ** 2) / (height / 6) ** 2).astype(np.float32)
    for start in range(0, n, PIECE):
        rng = np.random.default_rng(start)
        rows = min(PIECE, n - start)
        noise = rng.normal(size=(rows, *shape)).astype(np.float32)
        yield start, noise + rng.lognormal(size=(rows, shape[0], 1, 1)).astype(np.float32) * glow


def write_npy(path, n, shape):
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, *shape))
    for start, images in pieces(n, shape):
        array[start : start + len(images)] = images


def write_hdf5(path, n, shape, chunk, compression):
    import h5py

    with h5py.File(path, "w") as file:
        chunks = None if chunk is None else (min(chunk, n), *shape)
        data = file.create_dataset("images", (n, *shape), "f4", chunks=chunks, compression=compression)
        for start, images in pieces(n, shape):
            data[start : start + len(images)] = images


def write_zarr(path, n, shape):
    import zarr

    array = zarr.create_array(str(path), shape=(n, *shape), chunks=(min(100, n), *shape), dtype="f4")
    for start, images in pieces(n, shape):
        array[start : start + len(images)] = images


def write_parquet(path, n, shape):
    import pyarrow as pa
    import pyarrow.parquet as pq

    width = int(np.prod(shape))
    schema = pa.schema({"image": pa.list_(pa.float32(), width)})
    with pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=False) as writer:
        for _, images in pieces(n, shape):
            column = pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), width)
            writer.write_table(pa.table([column], schema=schema), row_group_size=100)


FORMATS = {
    "memory": ("sky.npy", write_npy, {}),
    "npy map": ("sky.npy", write_npy, {}),
    "npy": ("sky.npy", write_npy, {}),
    "hdf5-100": ("sky-100.h5", write_hdf5, {"chunk": 100, "compression": None}),
    "hdf5-100-lzf": ("sky-100-lzf.h5", write_hdf5, {"chunk": 100, "compression": "lzf"}),
    "hdf5-1": ("sky-1.h5", write_hdf5, {"chunk": 1, "compression": None}),
    "hdf5-1-lzf": ("sky-1-lzf.h5", write_hdf5, {"chunk": 1, "compression": "lzf"}),
    "hdf5-contiguous": ("sky.h5", write_hdf5, {"chunk": None, "compression": None}),
    "zarr": ("sky.zarr", write_zarr, {}),
    "parquet": ("sky.parquet", write_parquet, {}),
}


def opened(name, path, shape):
    """Give what is fitted."""
    if name == "memory":
        return np.load(path)
    if name == "npy map":
        return np.load(path, mmap_mode="r")
    return open_images(path, image_shape=shape if name == "parquet" else None)


class Anonymous:
    """Watch the memory of this process that no file stands behind."""

    def __init__(self):
        self.start = self.peak = self.now()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def now(self):
        memory = psutil.Process().memory_info()
        return memory.rss - getattr(memory, "shared", 0)

    def watch(self):
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.now())

    def growth(self):
        self.done.set()
        self.thread.join()
        return self.peak - self.start


class Some(Callback):
    """End a fit after some steps, and note when each ended."""

    ends: ClassVar[list[float]] = []  # a fit trains with a copy

    def __init__(self, steps):
        self.steps = steps

    def on_batch_begin(self, net, **_):
        if not self.ends:
            self.ends.append(time.perf_counter())

    def on_batch_end(self, net, **_):
        self.ends.append(time.perf_counter())
        if len(self.ends) > self.steps:
            raise StopTraining


def measure(name, path, shape, options, queue):
    """Fit for some steps, and tell rate and memory."""
    images = opened(name, path, shape)
    training = Training(shuffle_window=options.window, workers=options.workers, callbacks=[Some(options.steps)])
    settings = {"max_epochs": 100, "batch_size": options.batch_size, "random_state": 0}
    emb = BYOLEmbedder(options.encoder, training=training, **settings)
    memory, start = Anonymous(), time.perf_counter()
    emb.fit(images)
    first, *ends = Some.ends
    queue.put(
        {
            "format": name,
            "images/s": options.batch_size * (len(ends) - WARM) / (ends[-1] - ends[WARM - 1]),
            "before the first step, s": first - start,
            "memory, MB": memory.growth() / 1e6,
        }
    )


def measure_embedding(name, path, shape, options, queue):
    """Embed all into a file, and tell rate and memory."""
    images = opened(name, path, shape)
    training = Training(workers=options.workers)
    emb = FixedImageEmbedder(options.encoder, batch_size=options.batch_size, training=training, random_state=0)
    emb.fit(images[:1000])
    memory, start = Anonymous(), time.perf_counter()
    embed(emb, images, path.with_name(f"{name}.npy"), verbose=0)
    seconds = time.perf_counter() - start
    path.with_name(f"{name}.npy").unlink()
    queue.put({"format": name, "images/s": len(images) / seconds, "memory, MB": memory.growth() / 1e6})


def window(text):
    return text if text == "auto" else int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--bands", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--window", type=window, default="auto")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--encoder", default="resnet10t", help="a small one, such as test_resnet, waits for the disk")
    parser.add_argument("--embed", action="store_true")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    shape = (options.bands, options.side, options.side)
    context, rows = multiprocessing.get_context("spawn"), []
    what = "embed" if options.embed else "BYOL"
    header(
        f"{what} from disk: {options.n} × {options.bands} × {options.side}² float32, batches of {options.batch_size}"
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name in options.formats:
            path, write, how = Path(folder, FORMATS[name][0]), *FORMATS[name][1:]
            if not path.exists():
                write(path, options.n, shape, **how)
            queue = context.Queue()
            process = context.Process(
                target=measure_embedding if options.embed else measure, args=(name, path, shape, options, queue)
            )
            process.start()
            rows.append(queue.get())
            process.join()
            print(rows[-1], flush=True)
    frame = pd.DataFrame(rows).set_index("format")
    frame.insert(1, "of the first", frame["images/s"] / frame["images/s"].iloc[0])
    print(frame.round(3).to_string())


if __name__ == "__main__":
    main()
