"""Similarity search: exactness, queries per second and memory, beside scikit-learn and bare torch.

python benchmarks/search.py [--rows N] [--queries N] [--big N] [--folder FOLDER]

Rows are simulated: clusters on a sphere, as embeddings are. The large ones are written to a temporary file, 1 kB each.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from machine import header
from numpy.lib.format import open_memmap
from sklearn.neighbors import NearestNeighbors
from sources import Anonymous

from skastro import LookAlikes

K = 10


def simulate(rng, n, width, centers):
    """Draw rows about some of the centers, with a common mean, as pooled features have."""
    return (centers[rng.integers(len(centers), size=n)] + rng.normal(size=(n, width)) + 2).astype(np.float32)


def bare(rows, queries):
    """Compare by torch alone, with all rows at once and in single precision."""
    rows, queries = (torch.nn.functional.normalize(torch.from_numpy(some)) for some in (rows, queries))
    return [(some @ rows.T).topk(K).indices for some in queries.split(64)]


def timed(work, *args):
    start = time.perf_counter()
    result = work(*args)
    return result, time.perf_counter() - start


def compare(n, n_queries, folder):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(200, 128))
    rows, queries = simulate(rng, n, 128, centers), simulate(rng, n_queries, 128, centers)
    rival = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(rows)
    exact = LookAlikes(K).fit(rows)
    approximate, building = timed(LookAlikes(K, backend="usearch").fit, rows)
    work = {
        "scikit-learn, brute": rival.kneighbors,
        "torch, bare": lambda some: bare(rows, some),
        "LookAlikes": exact.kneighbors,
        'LookAlikes, "usearch"': approximate.kneighbors,
    }
    seconds = {name: [] for name in work}
    for _ in range(3):
        for name, run in work.items():
            result, spent = timed(run, queries)
            seconds[name].append(spent)
            if name != "torch, bare":
                work[name].__self__.found = result
    right = rival.found[1]
    for name, search in (("LookAlikes", exact), ('LookAlikes, "usearch"', approximate)):
        distances, numbers = search.found
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(numbers, right, strict=True)])
        print(
            f"{name}: recall@{K} {recall:.4f}, distances differ by {abs(distances - rival.found[0]).max():.1e} at most"
        )
    base = np.array(seconds["scikit-learn, brute"])
    for name, spent in seconds.items():
        ratio = base / np.array(spent)
        print(f"{name:24} {n_queries / np.median(spent):8.0f} queries/s, {np.median(ratio):5.2f} × scikit-learn "
              f"({ratio.min():.2f} to {ratio.max():.2f})")  # fmt: skip
    path = folder / "rows.usearch"
    approximate.write_index(path)
    _, opening = timed(approximate.open_index, path)
    print(
        f"index: built in {building:.0f} s, a file of {path.stat().st_size / 2**20:.0f} MB, opened in {opening:.3f} s"
    )


def from_disk(n, folder, width=512):
    """Search half-precision rows on disk, and watch the memory of the process that is no file's."""
    rng = np.random.default_rng(0)
    rows = open_memmap(folder / "rows.npy", mode="w+", dtype=np.float16, shape=(n, width))
    for start in range(0, n, 50_000):
        rows[start : start + 50_000] = rng.normal(size=(min(50_000, n - start), width)).astype(np.float16)
    rows.flush()
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    memory = Anonymous()
    search, fitting = timed(LookAlikes(K).fit, rows)
    for many in (1, 100):
        _, spent = timed(search.kneighbors_of, np.arange(many))
        print(f"{n:,} × {width} half-precision rows on disk: {many} queries in {spent:.1f} s", flush=True)
    print(
        f"fit (one pass) in {fitting:.1f} s; anonymous memory grew by {memory.growth() / 2**20:.0f} MB (target 1,000)",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=512)
    parser.add_argument("--big", type=int, default=1_000_000, help="rows on disk; 0 skips them")
    parser.add_argument("--folder", type=Path, default=None, help="for temporary files")
    args = parser.parse_args()
    header("Similarity search, simulated rows")
    print(f"{torch.get_num_threads()} threads, {args.rows:,} × 128, {args.queries} queries, k = {K}")
    with TemporaryDirectory(dir=args.folder) as place:
        if args.big:
            from_disk(args.big, Path(place))
        compare(args.rows, args.queries, Path(place))


if __name__ == "__main__":
    main()
