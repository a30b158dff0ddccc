"""What `fit`, views, `transform` and reading from disk do on a GPU, a part at a time, into one table.

python benchmarks/gpu.py PART FOLDER [--toy]

benchmarks/gpu.sh runs all parts, each in a process of its own with a limit of time. A part adds rows to gpu.csv in
the folder; the part "table" writes gpu.md from them. Pixels and spectra are simulated, some hundred of them repeated
to the number that a row states; rates of training are measured once each. --toy takes small networks and a few
steps: it shows that all runs, also on the CPU.
"""

import argparse
import csv
import io
import tempfile
import traceback
from collections import Counter
from contextlib import redirect_stdout
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import ClassVar
from unittest.mock import patch

import bench_clip
import bench_transform
import numpy as np
import pandas as pd
import pytest
import torch
from bench_views import over
from machine import ENCODER, header, rates
from skorch.callbacks import Callback
from sources import write_hdf5
from torch import nn

from skastro import AstroCLIPEmbedder, BYOLEmbedder, published
from skastro.augment import get_recipe
from skastro.augment.views import Views
from skastro.datasets import make_radio_doubles, make_survey, open_images
from skastro.devices import resolve_device
from skastro.pixels import measure_bands
from skastro.surveys import get_survey
from skastro.training import as_batch
from skastro.training.callbacks import StopTraining

COLUMNS = ["part", "what", "value", "unit", "note"]
DEVICE = resolve_device("auto")
synchronize = torch.cuda.synchronize if DEVICE.type == "cuda" else lambda: None
FIRST = ("test_embedders.py", "test_clip.py")  # of the tests: that every method learns there
BY_HAND = {"": {}, ", deterministic": {"deterministic": True}, ", views ready": {"ready": True}}  # bare loops
PAPERS = [  # of each its images, its epochs, and where its rate stands
    ("Hayat et al. (2021)", 1_200_000, 50, "sources", "from HDF5, 1 reader"),
    ("the same, if all were on the GPU", 1_200_000, 50, "hayat2021", "fit"),
    ("Slijepcevic et al. (2023)", 69_015, 500, "slijepcevic2023", "fit"),
]


def repeated(array, n):
    return np.resize(array, (n, *array.shape[1:]))


def hayat2021(toy):
    """MoCo with a ResNet50, windows of 64² in five bands of 107²."""
    small = {"encoder__name": "test_resnet", "queue_length": 64, "batch_size": 8} if toy else {}
    images = make_survey(16 if toy else 256, bands="ugriz", size=107, random_state=0).images
    return published("hayat2021", **small), [repeated(images, 32 if toy else 4096)]


def slijepcevic2023(toy):
    """BYOL with a ResNet18, windows of 70² in one band of 150²."""
    small = {"encoder__name": "test_resnet", "batch_size": 8} if toy else {}
    images = make_radio_doubles(16 if toy else 256, size=150, random_state=0).images
    return published("slijepcevic2023", **small), [repeated(images, 32 if toy else 32_768)]


def parker2024_image(toy):
    """DINOv2 with a ViT-L of patches of 12, windows of 144² and 60² in three bands of 152²."""
    small = {"encoder__name": "test_vit", "prototypes": 64, "hidden_dim": 32, "batch_size": 4} if toy else {}
    images = make_survey(16 if toy else 128, bands="grz", size=152, random_state=0).images
    return published("parker2024-image", **{"batch_size": 72} | small), [repeated(images, 16 if toy else 720)]


def clip(toy):
    """Images and spectra in one space, with the networks of bench_clip.py, both trained."""
    sky = make_survey(32 if toy else 512, bands="grz", size=64, spectra=True, random_state=0)
    spectra, n = np.where(sky.ivar > 0, sky.spectra, 0).astype(np.float32), 32 if toy else 16_384
    embedder = AstroCLIPEmbedder(ENCODER, bench_clip.SPECTRUM, batch_size=8 if toy else bench_clip.BATCH)
    return embedder, [repeated(sky.images, n), repeated(spectra, n)]


IMAGE_MODELS = {"hayat2021": hayat2021, "slijepcevic2023": slijepcevic2023, "parker2024-image": parker2024_image}


class Stopwatch:
    """Objects per second, from the end of the first few steps until time is up."""

    def __init__(self, toy):
        self.warm, self.seconds = (2, 0.3) if toy else (8, 6.0)
        self.steps = self.objects = 0

    def tick(self, objects):
        """Count a step, and tell whether it was the last."""
        self.steps += 1
        if self.steps == self.warm:
            synchronize()
            self.start = perf_counter()
        if self.steps <= self.warm:
            return False
        self.objects += objects
        if perf_counter() - self.start < self.seconds:
            return False
        synchronize()
        self.rate = self.objects / (perf_counter() - self.start)
        return True


class Watch(Callback):
    """Time a fit and end it; the loop by hand goes on with its network, views and optimizer."""

    last: ClassVar["Watch"]  # each fit trains with a copy, which is found here

    def __init__(self, toy):
        self.toy = toy

    def on_train_begin(self, net, X=None, **_):
        Watch.last = self
        self.learner, self.optimizer, self.dataset = net.module_, net.optimizer_, X
        self.stopwatch, self.begun = Stopwatch(self.toy), perf_counter()

    def on_batch_end(self, net, **_):
        if self.stopwatch.tick(net.history[-1, "batches", -1, "train_batch_size"]):
            raise StopTraining


def timed_fit(embedder, data, toy, **params):
    """Fit for some seconds; give the watch, and the seconds before the first step."""
    embedder.set_params(max_epochs=10_000, random_state=0, training__callbacks=[Watch(toy)], **params)
    start = perf_counter()
    embedder.fit(*data)
    return Watch.last, Watch.last.begun - start


def bare(watch, batch_size, clip, ready=False, deterministic=False):
    """Time the loop that one writes by hand, with all rows on the device, and if `ready` their views too."""
    learner, optimizer = watch.learner, watch.optimizer
    objective = learner.objective.to(DEVICE).train()
    data = watch.dataset.resident or as_batch(watch.dataset.arrays, slice(None), DEVICE)

    @torch.no_grad()
    def draw(rows):
        batch = {name: array[rows] for name, array in data.items()}
        taken = {name: batch.pop(name) for name in learner.views.inputs if name in batch}
        return len(rows), learner.views(**taken), batch

    order = torch.randperm(len(watch.dataset), device=DEVICE).split(batch_size)
    drawn = cycle([draw(rows) for rows in order]) if ready else map(draw, cycle(order))
    stopwatch = Stopwatch(watch.toy)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=deterministic):
        for size, views, rest in drawn:
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=learner.bf16):
                loss = objective(*views, **rest)
            optimizer.zero_grad()
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(objective.parameters(), clip)
            optimizer.step()
            objective.update(0.99)
            loss.item()
            if stopwatch.tick(size):
                break
    return stopwatch.rate


class Tally:
    """Outcomes of tests, with a row for each of the first that fail."""

    def __init__(self, add):
        self.add, self.counts = add, Counter()

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or not report.passed:
            self.counts[report.outcome] += 1
        self.pytest_collectreport(report)

    def pytest_collectreport(self, report):
        if report.failed and self.counts["failed"] <= 10:
            why = [line[1:] for line in report.longreprtext.splitlines() if line.startswith("E ")]
            self.add("error", note=f"{report.nodeid}: {' '.join(why)}")


def tests(add, toy):
    files = sorted(path for path in Path("tests").rglob("test_*.py") if "mark.gpu" in path.read_text())
    files.sort(key=lambda path: path.name not in FIRST)
    tally = Tally(add)
    here = ["-o", "addopts=--import-mode=importlib", "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # one process
    told = ["-m", "gpu", "-rfEs", "--durations=5", "--continue-on-collection-errors"]
    pytest.main([*here, *told, *map(str, files)], plugins=[tally])
    for outcome in ("passed", "failed", "skipped"):
        add(outcome, tally.counts[outcome], "tests", "-m gpu")


def steps(make, add, toy):
    embedder, data = make(toy)
    watch, before = timed_fit(embedder, data, toy)
    rate, batch_size = watch.stopwatch.rate, embedder.batch_size
    precision = "bf16" if watch.learner.bf16 else "fp32"
    add("fit", rate, "objects/s", f"batches of {batch_size} of {len(data[0])}, {precision}")
    add("before the first step", before, "s")
    if DEVICE.type == "cuda":
        add("peak GPU memory", torch.cuda.max_memory_allocated() / 1e9, "GB", "images included, where they fit")
    for name, how in BY_HAND.items():
        by_hand = bare(watch, batch_size, embedder.training.clip, **how)
        add(f"bare loop{name}", by_hand, "objects/s")
        add(f"fit / bare loop{name}", rate / by_hand, "ratio", "" if how else "target 0.95")


def views(add, toy):
    for name, make in IMAGE_MODELS.items():
        embedder, (images,) = make(toy)
        few, survey = images[:128], get_survey(embedder.survey)
        recipe = get_recipe(embedder.augment).fit(few, survey=survey, noise=measure_bands(few)["noise"])
        draw = Views(recipe.views((embedder.size,) * 2), nn.Identity(), torch.Generator(DEVICE).manual_seed(0))
        data = torch.from_numpy(images[:4096]).to(DEVICE)
        count = len(data) * len(draw.views)
        measured = rates({"views": over(data, 256, draw)}, count, 1 if toy else 5)["views"]
        add(name, np.median(measured), "views/s", f"{len(draw.views)} of each of {len(data)} images, batches of 256")


def transform(add, toy):
    n, rounds = (64, 1) if toy else (8192, 3)
    images = repeated(make_survey(64, bands="gri", size=64, random_state=0).images, n)
    embedder = BYOLEmbedder(ENCODER, max_epochs=0, random_state=0).fit(images[:64])
    paper, (cutouts,) = hayat2021(toy)
    paper.set_params(max_epochs=0).fit(cutouts[:64])
    for precision in ("fp32", "bf16"):
        embedder.set_params(training__precision=precision)
        loop = partial(bench_transform.bare, embedder, images, DEVICE, precision == "bf16")
        measured = rates({"ours": partial(embedder.transform, images), "bare": loop}, n, rounds)
        ours, share = np.median(measured["ours"]), np.median(measured["ours"] / measured["bare"])
        add(f"ResNet18 on 3 × 64², {precision}", ours, "objects/s", f"{n} images")
        add(f"the same / bare loop, {precision}", share, "ratio", "target 0.95")
        paper.set_params(training__precision=precision)
        measured = rates({"ours": partial(paper.transform, cutouts)}, len(cutouts), rounds)
        add(f"hayat2021, {precision}", np.median(measured["ours"]), "objects/s", f"{len(cutouts)} images")


def sources(add, toy):
    """Where the images of hayat2021 lie; the file was just written, so the system may still have it in memory."""
    n, shape, room = 32 if toy else 8192, (5, 107, 107), torch.cuda.mem_get_info
    with tempfile.TemporaryDirectory() as folder:
        write_hdf5(path := Path(folder, "sky.h5"), n, shape, chunk=100, compression=None)
        disk = open_images(path)
        memory = np.asarray(disk)
        for name, images, readers in [
            ("all on the GPU", memory, 1),
            ("from memory", memory, 1),
            ("from HDF5, 1 reader", disk, 1),
            ("from HDF5, 4 readers", disk, 4),
        ]:
            # Told that the GPU is full, fit moves rows to it batch by batch, as those of a survey larger than it.
            free = room if name == "all on the GPU" else lambda *_: (0, 0)
            with patch.object(torch.cuda, "mem_get_info", free):
                watch, before = timed_fit(hayat2021(toy)[0], [images], toy, training__workers=readers)
            note = f"{n} images of 5 × 107² in float32; {before:.1f} s before the first step"
            add(name, watch.stopwatch.rate, "objects/s", note)


def hours(add, path):
    known = pd.read_csv(path).set_index(["part", "what"])["value"].to_dict()
    for paper, images, epochs, *where in PAPERS:
        rate, note = known.get(tuple(where), np.nan), f"{images:,} images, {epochs} epochs, at {', '.join(where)}"
        add(paper, images * epochs / rate / 3600, "h", note)


def table(path, toy):
    """Write all rows, and what is on the machine."""
    with redirect_stdout(io.StringIO()) as head:
        header(f"GPU day{', toy size, of which no figure means anything' * toy}: simulated pixels and spectra")
    rows = pd.read_csv(path, keep_default_na=False, dtype=str)
    rows["value"] = [f"{float(value):,.4g}" if value else "" for value in rows["value"]]
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows.to_numpy().tolist()]
    text = head.getvalue() + "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
    path.with_suffix(".md").write_text(text + "\n")
    print(text)


PARTS = {"tests": tests} | {name: partial(steps, make) for name, make in {**IMAGE_MODELS, "clip": clip}.items()}
PARTS |= {"views": views, "transform": transform, "sources": sources}


def append(path, part, what, value="", unit="", note=""):
    with path.open("a", newline="") as file:
        csv.writer(file).writerow([part, what, value, unit, " ".join(note.replace("|", "/").split())[:300]])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["machine", *PARTS, "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--toy", action="store_true")
    chosen = parser.parse_args()
    path = chosen.folder / "gpu.csv"
    if chosen.part == "machine":
        header(f"GPU day on {DEVICE}")
        path.write_text(",".join(COLUMNS) + "\n")
    elif chosen.part == "table":
        hours(partial(append, path, "hours"), path)
        table(path, chosen.toy)
    else:
        add = partial(append, path, chosen.part)
        try:
            PARTS[chosen.part](add, chosen.toy)
        except Exception as error:
            traceback.print_exc()
            add("error", note=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
