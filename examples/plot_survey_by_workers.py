"""
==================================
A survey, embedded by many workers
==================================

A catalog in the HATS format, which LSDB opens, with a cutout in each row. We learn from a random part of it, let two
workers of Dask embed all of it, kill one of them in the middle, count that nothing is lost and nothing is there twice,
and ask the result for look-alikes, in the whole sky and within a cone.

Ten thousand galaxies fit into any laptop. Nothing below would change with a hundred million but the address of the
scheduler, and the folders, which all workers must see.

.. figure:: /figures/survey_look_alikes.png
   :alt: Four galaxies, and the eight nearest to each in a catalog of 2,000.

   What it found at the end of a small run: one epoch over 600 of 2,000 galaxies.
"""

# sphinx_gallery_thumbnail_path = 'figures/survey_look_alikes.png'
import argparse
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import skastro
from skastro import SimCLREmbedder
from skastro.datasets import open_images
from skastro.survey import EmbeddingIndex, open_survey, search_catalog, write_embeddings

warnings.filterwarnings("ignore", "The inplace keyword in NestedFrame|The 'mode.chained_assignment' option")  # of lsdb
parser = argparse.ArgumentParser(description="A survey, embedded by many workers.")
parser.add_argument("--epochs", type=int, default=3, help="of pretraining; fifty are better")
parser.add_argument("--galaxies", type=int, default=10_758, help="to embed, at most")
parser.add_argument("--sample", type=int, default=3000, help="galaxies to learn from")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument(
    "--out", type=Path, default=Path("figures"), help="folder of the catalogs, the model and the figure"
)
args = parser.parse_args()

data = Path(os.environ.get("SKASTRO_DATA") or Path(__file__).parents[2] / "shared" / "data")
files = [data / "galaxies_gz1.npz", data / "galaxies_gz2kaggle.npz"]
if not all(file.exists() for file in files):
    sys.exit(f"This example needs {' and '.join(file.name for file in files)} in {data}: set SKASTRO_DATA.")
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about what lsdb calls
        import lsdb
    import pyarrow as pa
    from dask.distributed import Client, SubprocessCluster
except ImportError:
    sys.exit("This example needs the extra survey: pip install skastro[survey]")

# %%
# A catalog
# ---------
#
# 10,758 pictures of the SDSS, from Galaxy Zoo 1 and from the Kaggle challenge of Galaxy Zoo 2, three bands of 64 × 64
# pixels each. The files do not tell where on the sky the galaxies are. **The positions are invented**: drawn at random
# over a piece of the northern sky, so that a catalog can be made of them, and good for nothing else.
#
# A cutout is a list of 12,288 numbers in its row, all of one length. LSDB cuts the sky into partitions of at most 500
# rows; a partition is what a worker holds in memory.

args.out.mkdir(parents=True, exist_ok=True)
for name in ("galaxies", "embedded", "embedded.part"):
    shutil.rmtree(args.out / name, ignore_errors=True)
zoo, kaggle = (np.load(file) for file in files)
pixels = np.moveaxis(np.concatenate([zoo["images"], kaggle["images"]]), -1, 1)
names = np.concatenate([zoo["objid"], kaggle["galaxy_id"]])
classes = np.concatenate([zoo["label_names"][zoo["label"]], np.full(len(kaggle["images"]), "")])

rng = np.random.default_rng(args.seed)
chosen = np.sort(rng.permutation(len(pixels))[: args.galaxies])
pixels, names, classes = pixels[chosen], names[chosen], classes[chosen]
n, shape = len(pixels), pixels.shape[1:]
lists = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), int(np.prod(shape)))
frame = pd.DataFrame(
    {
        "number": np.arange(n),
        "name": names,
        "class": classes,
        "ra": rng.uniform(120, 240, n),
        "dec": np.degrees(np.arcsin(rng.uniform(0, np.sin(np.radians(60)), n))),
        "image": pd.Series(lists, dtype=pd.ArrowDtype(lists.type)),
    }
)
made = lsdb.from_dataframe(frame, catalog_name="galaxies", partition_rows=500)
made.write_catalog(args.out / "galaxies", as_collection=False, progress_bar=False)
print(f"{n:,} galaxies in {made.npartitions} partitions")

# %%
# Learn from a part of it
# -----------------------
#
# ``sample`` draws whole chunks of the files at random, so that what is not drawn is not read. In a HATS catalog a chunk
# is a piece of the sky: with partitions in plenty, the sample is spread over all of it.

images = open_images(args.out / "galaxies", "image", image_shape=shape)
print(images)
embedder = SimCLREmbedder("resnet10t", max_epochs=args.epochs, batch_size=128, verbose=1, random_state=args.seed)
embedder.fit(images.sample(args.sample, random_state=args.seed))
model = args.out / "galaxies.skastro"
skastro.save(embedder, model)

# %%
# Two workers, one of which is killed
# -----------------------------------
#
# Workers get the model by its path, and read it once. ``open_survey`` opens no more columns than are needed. While they
# are at work, a third of the partitions written, we kill one of them in the hardest way. Dask starts it again, and its
# partition is done anew. Had this script itself been killed, the same call would go on with what is missing.
#
# On a cluster, the client is given the address of its scheduler, or ``dask_jobqueue`` asks Slurm for workers.

embedded_path = args.out / "embedded"


def kill_one(pids, share):
    """Kill a worker when some of the partitions are done."""
    while len([*(args.out / "embedded.part").glob("*/*_done")]) < share:
        time.sleep(0.01)
    os.kill(pids[0], signal.SIGKILL)


with (
    SubprocessCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
    Client(cluster) as client,
):
    client.wait_for_workers(2)
    workers = client.run(os.getpid)
    killer = threading.Thread(target=kill_one, args=([*workers.values()], made.npartitions // 3), daemon=True)
    killer.start()
    catalog = open_survey(args.out / "galaxies", "image")
    write_embeddings(catalog, model, "image", out=embedded_path)
    killer.join()
    client.wait_for_workers(2)
    gone = {*workers.values()} - {*client.run(os.getpid).values()}
print(f"{len(gone)} of {len(workers)} workers was killed, another took its place")

# %%
# Nothing is lost, nothing is there twice, and each row is what the model gives here. Not to the last bit: batches are
# cut at other rows, and a matrix product sums in another order for another number of rows.

embedded = lsdb.open_catalog(embedded_path)
table = embedded.compute(progress_bar=False)
assert sorted(table["number"]) == list(range(n))
rows = np.empty((n, len(table["embedding"].iloc[0])), np.float32)
rows[np.asarray(table["number"])] = np.stack(table["embedding"])
some = rng.choice(n, 500, replace=False)
difference = np.abs(rows[some] - embedder.transform(pixels[some])).max()
print(f"{len(table):,} rows, each number once; largest difference to transform: {difference:.1e}")
assert difference < 1e-4

# %%
# Look-alikes
# -----------
#
# ``search_catalog`` compares a query with every row, partition by partition. What it gives first is the query itself.
# Of a catalog that was cut to a cone, only the partitions there are read. (The cone is as invented as the positions.)

labeled = np.flatnonzero(classes == "Edge")[:40:10]
found = search_catalog(embedded, rows[labeled], k=9)
near = embedded.cone_search(180.0, 30.0, radius_arcsec=20 * 3600)
within = search_catalog(near, rows[labeled[0]], k=9)
print(within[["similarity", "name", "class", "ra", "dec"]].to_string())

figure, axes = plt.subplots(len(labeled), 9, figsize=(9, 1.1 * len(labeled)), layout="constrained")
for ax, number in zip(axes.flat, found["number"], strict=True):
    ax.imshow(np.moveaxis(pixels[number], 0, -1))
    ax.set_axis_off()
figure.suptitle("Nearest of the whole catalog; the first of a line is the query")
figure.savefig(args.out / "survey_look_alikes.png", dpi=150)

# %%
# How often is a look-alike of the same class? The colors of a picture alone tell much, and a minute of pretraining is
# short: the number is there to be beaten.

zoo_rows = np.flatnonzero(classes == "Edge")[:200]
answers = search_catalog(embedded, rows[zoo_rows], k=11)
others = answers[(answers["class"] != "") & (answers["number"].to_numpy() != zoo_rows[answers["query"]])]
alike = (others["class"] == "Edge").mean()
print(f"look-alikes of {len(zoo_rows)} edge-on galaxies, where Galaxy Zoo 1 has a class: {alike:.0%} edge-on, ")
print(f"among all that have one: {(classes[classes != ''] == 'Edge').mean():.0%}")

# %%
# For the same question again and again there is an index, built partition by partition, in a file that is mapped
# rather than read. It is approximate: now and then it misses one.

try:
    index = EmbeddingIndex(n_neighbors=11).fit(embedded, ids="number")
except ImportError as error:
    sys.exit(str(error))
index.save(args.out / "galaxies.usearch")
mapped = EmbeddingIndex.load(args.out / "galaxies.usearch", n_neighbors=11)
start = time.perf_counter()
approximate = mapped.kneighbors(rows[zoo_rows], return_distance=False)
seconds = time.perf_counter() - start
exact = answers["number"].to_numpy().reshape(-1, 11)
recall = np.mean([np.isin(a, b).mean() for a, b in zip(exact, approximate, strict=True)])
print(f"index: {len(zoo_rows)} queries in {1000 * seconds:.0f} ms, {recall:.1%} of the exact look-alikes")
