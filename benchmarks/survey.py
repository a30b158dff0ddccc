"""What does embedding a catalog by workers cost: throughput, overhead, memory, many partitions, and a survey on paper?

python benchmarks/survey.py [workers overhead memory partitions search paper] [--n 12000] [--side 64]
    [--partitions 50] [--encoder resnet18] [--rounds 3] [--gpu-rate 3000] [--folder FOLDER]

Catalogs of simulated cutouts in three bands, float32, written in the HATS format into a folder that is removed
afterwards; an encoder with random weights; one thread per worker. Run it as OMP_NUM_THREADS=1 and alone on the machine:
processor seconds say what seconds would be where other work is going on, and are printed beside them.

workers     the same catalog by one worker and by two, turn and turn about
overhead    by one worker, beside a bare loop in a process of its own: read a file, transform, write
memory      of the worker, after each fifth of the partitions
partitions  catalogs of 250, 500 and 1,000 partitions of ten rows: seconds and memory for each
search      exact look-alikes, those within a cone, and the index
paper       what 76 million cutouts of 152² and a billion of 64² cost, from pieces measured here
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from machine import header
from sources import pieces

BANDS = 3
TINY = 10  # rows of a tiny partition
AS_WRITTEN = {"compression": "zstd", "compression_level": 3, "use_dictionary": False, "use_byte_stream_split": True}
KEEP = ["object_id"]
OF_FIXED_COST = 0.01  # what the fixed cost of a partition may be of the work on its rows
READS = {"a disk or a link of 1 Gb/s": 0.125, "10 Gb/s": 1.25, "a parallel file system, 10 GB/s": 10.0}  # GB/s
SURVEYS = {"76 million, 152², float32": (76e6, 152, 4), "1 billion, 64², float32": (1e9, 64, 4)}


def cut_catalog(path, n, side, partitions, order):
    """Write a catalog of simulated cutouts, equally many in each partition."""
    import lsdb
    import pyarrow as pa
    from cdshealpix.nested import healpix_to_lonlat

    rows = np.arange(n)
    lon, lat = healpix_to_lonlat(rows % partitions, order)
    flat = np.concatenate([images for _, images in pieces(n, (BANDS, side, side))])
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), BANDS * side * side)
    cutouts = pd.Series(column, dtype=pd.ArrowDtype(column.type))
    frame = pd.DataFrame({"object_id": rows, "ra": lon.deg, "dec": lat.deg, "image": cutouts})
    catalog = lsdb.from_dataframe(frame, catalog_name="sky", lowest_order=order, highest_order=order)
    catalog.write_catalog(path, as_collection=False, progress_bar=False)
    assert lsdb.open_catalog(path).npartitions == partitions
    return path


def saved(path, side, encoder):
    """Save an encoder with random weights."""
    from skastro import FixedImageEmbedder, save

    embedder = FixedImageEmbedder(encoder, device="cpu", random_state=0)
    embedder.set_params(training__precision="fp32")
    save(embedder.fit(next(pieces(64, (BANDS, side, side)))[1]), path)
    return path


def files_of(catalog):
    return sorted(Path(catalog, "dataset").rglob("Npix=*.parquet"))


def bare(catalog, model, out, queue):
    """Do the same work by hand: read a file, transform, write."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    import skastro

    model = skastro.load(model)
    shape = model.image_shape_
    model.transform(np.zeros((1, *shape), np.float32))
    out.mkdir()
    start, cpu = time.perf_counter(), time.process_time()
    for number, file in enumerate(files_of(catalog)):
        table = pq.read_table(file, columns=["image", *KEEP, "ra", "dec"], partitioning=None)
        cutouts = table["image"].combine_chunks().flatten().to_numpy().reshape(-1, *shape)
        rows = model.transform(cutouts)
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
        pq.write_table(table.drop_columns("image").append_column("embedding", column), out / f"{number}.parquet")
    queue.put((time.perf_counter() - start, time.process_time() - cpu))


def spent():
    return time.process_time()


@contextmanager
def cluster(workers, warm, model, folder):
    """Start workers that have imported all, and loaded the model, as the command line does."""
    import dask
    from distributed import Client, LocalCluster

    from skastro.survey.models import CLUSTER

    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with dask.config.set(CLUSTER), LocalCluster(**options) as started, Client(started) as client:
        client.run(write, warm, model, Path(folder, "warm"), True)
        yield client


def write(catalog, model, out, each=False):
    """Embed a catalog by the workers, or within one of them."""
    import dask

    from skastro.survey import open_survey, write_embeddings

    out = Path(f"{out}-{os.getpid()}" if each else out)
    with dask.config.set(scheduler="synchronous" if each else None):
        catalog = open_survey(catalog, "image", keep=KEEP)
        write_embeddings(catalog, model, "image", out=out, keep=KEEP, verbose=0)
    shutil.rmtree(out)


def run(client, catalog, model, folder):
    """Embed a catalog, and give the seconds, those of the workers' processors, and those of the driver's."""
    before, own = client.run(spent), time.process_time()
    start = time.perf_counter()
    write(catalog, model, Path(folder, "out"))
    seconds = time.perf_counter() - start
    after = client.run(spent)
    return seconds, sum(after[name] - before[name] for name in after), time.process_time() - own


def show(rows, index):
    print(pd.DataFrame(rows).set_index(index).to_string(float_format="{:.4g}".format), "\n", flush=True)


def measure_workers(options, folder, catalog, model, warm):
    rows = []
    for _ in range(options.rounds):
        for workers in (1, 2):
            with cluster(workers, warm, model, folder) as client:
                seconds, cpu, driver = run(client, catalog, model, folder)
            rows.append({"workers": workers, "seconds": seconds, "their CPU s": cpu, "driver's CPU s": driver})
    frame = pd.DataFrame(rows).groupby("workers").median()
    frame["cutouts/s"] = options.n / frame["seconds"]
    frame["ratio"] = frame["cutouts/s"] / frame["cutouts/s"][1]
    frame["ratio by CPU"] = frame.index * frame["their CPU s"][1] / frame["their CPU s"]
    print(f"{options.n} cutouts in {options.partitions} partitions, median of {options.rounds}; target 1.8")
    show(frame.reset_index(), "workers")


def measure_overhead(options, folder, catalog, model, warm):
    context, rows = multiprocessing.get_context("spawn"), []
    for turn in range(options.rounds):
        queue = context.Queue()
        process = context.Process(target=bare, args=(catalog, model, Path(folder, f"bare-{turn}"), queue))
        process.start()
        seconds, cpu = queue.get()
        process.join()
        with cluster(1, warm, model, folder) as client:
            ours, worker, driver = run(client, catalog, model, folder)
        rows.append(
            {"loop s": seconds, "worker s": ours, "loop CPU s": cpu, "worker CPU s": worker, "driver CPU s": driver}
        )
        rows[-1] |= {"overhead": ours / seconds - 1, "overhead by CPU": (worker + driver) / cpu - 1}
    print(f"{options.n} cutouts in {options.partitions} partitions; target of the overhead 0.1")
    show(pd.DataFrame(rows).rename_axis("round").reset_index(), "round")


class Watched:
    """Watch the memory of processes that no file stands behind, in MB, beside the number of partitions done."""

    def __init__(self, out, processes):
        self.out, self.processes, self.seen, self.done = out, processes, [], threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def watch(self):
        finished = 0
        while not self.done.wait(0.2):
            with suppress(FileNotFoundError):  # the marks go when all is done
                finished = max(finished, sum(1 for _ in self.out.glob("*/*_done")))
            memory = [process.memory_info() for process in self.processes]
            self.seen.append((finished, *((info.rss - info.shared) / 1e6 for info in memory)))


def watched(catalog, model, folder, warm):
    """Embed a catalog by one worker, and give seconds and a table of the memory seen."""
    with cluster(1, warm, model, folder) as client:
        processes = [psutil.Process(), *map(psutil.Process, client.run(os.getpid).values())]
        before = [(process.memory_info().rss - process.memory_info().shared) / 1e6 for process in processes]
        with Watched(Path(folder, "out.part"), processes) as watch:
            result = run(client, catalog, model, folder)
    return *result, before, pd.DataFrame(watch.seen, columns=["partitions", "driver", "worker"])


def measure_memory(options, folder, catalog, model, warm):
    *_, seen = watched(catalog, model, folder, warm)
    fifth = np.ceil(seen["partitions"] * 5 / options.partitions).clip(1, 5).astype(int)
    size = sum(file.stat().st_size for file in files_of(catalog)) / options.partitions / 1e6
    print(f"Worker's memory, MB, in each fifth of {options.partitions} partitions of {size:.0f} MB")
    table = seen.groupby(fifth.rename("fifth"))["worker"].agg(["median", "max"])
    show(table.reset_index(), "fifth")


def measure_partitions(options, folder, catalog, model, warm):
    rows = []
    for count in (250, 500, 1000):
        many = cut_catalog(Path(folder, f"sky-{count}"), TINY * count, 16, count, 4)
        small = saved(Path(folder, "small.skastro"), 16, "test_resnet")
        seconds, worker, driver, before, seen = watched(many, small, folder, many)
        rows.append(
            {
                "partitions": count,
                "seconds": seconds,
                "ms each": 1000 * seconds / count,
                "worker CPU ms each": 1000 * worker / count,
                "driver CPU ms each": 1000 * driver / count,
                "task, bytes": task_bytes(many, small),
                "driver +MB": seen["driver"].max() - before[0],
                "worker +MB": seen["worker"].max() - before[1],
            }
        )
        shutil.rmtree(many)
    print(f"Partitions of {TINY} rows, a toy network: what a partition costs beside its rows")
    show(rows, "partitions")
    return rows[-1]


def task_bytes(catalog, model):
    """Measure what travels to a worker with a partition."""
    import cloudpickle

    from skastro.survey import embed_catalog, open_survey

    embedded = embed_catalog(open_survey(catalog, "image", keep=KEEP), model, "image", keep=KEEP)
    return max(len(cloudpickle.dumps(task)) for task in dict(embedded.partitions[0].to_dask_dataframe().dask).values())


def measure_search(options, folder, catalog, model, warm):
    import lsdb

    from skastro.survey import EmbeddingIndex, open_survey, search_catalog, write_embeddings

    opened = open_survey(catalog, "image", keep=KEEP)
    out = write_embeddings(opened, model, "image", out=Path(folder, "found"), keep=KEEP, verbose=0)
    embedded, rows = lsdb.open_catalog(out), []

    def timed(what, work):
        start = time.perf_counter()
        result = work()
        rows.append({"what": what, "seconds": time.perf_counter() - start})
        return result

    some = embedded.partitions[0].compute(progress_bar=False)
    queries = np.stack(some["embedding"])[:100]
    exact = timed(f"exact, {len(queries)} queries", lambda: search_catalog(embedded, queries, 10))
    timed("exact, 1 query", lambda: search_catalog(embedded, queries[0], 10))
    cone = embedded.cone_search(*some[["ra", "dec"]].iloc[0], 3600)
    timed("exact, 1 query, a cone of a degree", lambda: search_catalog(cone, queries[0], 10))
    index = timed("index, building", lambda: EmbeddingIndex(10).fit(embedded, ids="object_id"))
    found = timed(f"index, {len(queries)} queries", lambda: index.kneighbors(queries, return_distance=False))
    index.save(Path(folder, "sky.usearch"))
    truth = np.asarray(exact["object_id"]).reshape(len(queries), -1)
    recall = np.mean([len({*a} & {*b}) / len(a) for a, b in zip(truth, found, strict=True)])
    size = Path(folder, "sky.usearch").stat().st_size
    print(
        f"{options.n} embeddings of {queries.shape[1]}; recall of the index {recall:.3f}, "
        f"{size / options.n:.0f} bytes a row"
    )
    show(rows, "what")


def measure_paper(options, folder, catalog, model, warm):
    """Work out a survey from pieces: reading, decoding, the network, writing, and what a partition costs."""
    fixed = measure_partitions(options, folder, catalog, model, warm)
    fixed = (fixed["worker CPU ms each"] + fixed["driver CPU ms each"]) / 1000
    rows = []
    for what, (n, side, width) in SURVEYS.items():
        some = cut_catalog(Path(folder, f"sky-{side}"), 1000, side, 4, 2)
        network = saved(Path(folder, f"{side}.skastro"), side, options.encoder)
        cpu = pieces_of(files_of(some), network)
        stamp = BANDS * side * side * width
        rate = options.gpu_rate * (64 / side) ** 2
        fit = np.ceil(fixed * rate / OF_FIXED_COST)
        rows.append(
            {
                "survey": what,
                "TB": n * stamp / 1e12,
                "decode, CPU h": n * cpu["decode"] / 3600,
                "network, CPU h": n * cpu["network"] / 3600,
                "write, CPU h": n * cpu["write"] / 3600,
                "out, GB": n * cpu["bytes"] / 1e9,
                "GPU h, assumed": n / rate / 3600,
                "GB/s a GPU eats": rate * stamp / 1e9,
                "decoders a GPU": rate * cpu["decode"],
                "rows a partition": fit,
                "MB a partition": fit * stamp / 1e6,
            }
            | {f"h, {name}": n * stamp / speed / 1e9 / 3600 for name, speed in READS.items()}
        )
    print(
        f"On paper. CPU hours are measured here on one thread, files in the page cache, {options.encoder}; the GPU's "
        f"{options.gpu_rate:g} cutouts/s of 64² are assumed, and fewer for larger ones by their pixels.\n"
        f"A partition has rows enough that its fixed cost, {1000 * fixed:.0f} ms, is {OF_FIXED_COST:.0%} of the GPU's "
        "work on them."
    )
    print(pd.DataFrame(rows).set_index("survey").T.to_string(float_format="{:.4g}".format), "\n")


def pieces_of(files, model):
    """Measure processor seconds a cutout takes to decode, to embed, and to write."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    import skastro

    model = skastro.load(model)
    shape, work = model.image_shape_, {"decode": 0.0, "network": 0.0, "write": 0.0}
    target, n, size = files[0].with_suffix(".out"), 0, 0
    for turn in range(2):  # the first warms up
        work, n, size = dict.fromkeys(work, 0.0), 0, 0
        for file in files if turn else files[:1]:
            marks = [time.process_time()]
            table = pq.read_table(file, columns=["image"], partitioning=None)
            cutouts = table["image"].combine_chunks().flatten().to_numpy().reshape(-1, *shape)
            marks.append(time.process_time())
            rows = model.transform(cutouts)
            marks.append(time.process_time())
            column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
            pq.write_table(pa.table({"embedding": column}), target, **AS_WRITTEN)
            marks.append(time.process_time())
            for name, seconds in zip(work, np.diff(marks), strict=True):
                work[name] += seconds
            n, size = n + len(cutouts), size + rows.nbytes
    return {name: seconds / n for name, seconds in work.items()} | {"bytes": size / n}


PARTS = {
    "workers": measure_workers,
    "overhead": measure_overhead,
    "memory": measure_memory,
    "partitions": measure_partitions,
    "search": measure_search,
    "paper": measure_paper,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--n", type=int, default=12_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--partitions", type=int, default=50)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpu-rate", type=float, default=3000, help="cutouts of 64² a GPU embeds in a second: assumed")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    if unknown := {*options.parts} - {*PARTS}:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    warnings.filterwarnings("ignore", "The inplace keyword|The 'mode.chained")
    header(f"Surveys: {options.n} × {BANDS} × {options.side}² float32, simulated, {options.encoder}")
    print(f"Load of the machine: {os.getloadavg()[0]:.1f} processes on {os.cpu_count()} cores\n")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        catalog = cut_catalog(Path(folder, "sky"), options.n, options.side, options.partitions, 2)
        warm = cut_catalog(Path(folder, "warm-sky"), 4, options.side, 2, 2)
        model = saved(Path(folder, "model.skastro"), options.side, options.encoder)
        for part in options.parts:
            PARTS[part](options, folder, catalog, model, warm)


if __name__ == "__main__":
    main()
