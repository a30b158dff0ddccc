"""Load damaged model files, each under limits: every one must end in a load or in one ValueError.

    python benchmarks/fuzz_models.py [--count 10000] [--seed 0] [--first 0] [--keep FOLDER]

Each file is one of `models`, saved and then changed by a generator of the seed and the number of the file: bits are
flipped, members swapped, cut, renamed, arrays enlarged or of another shape and type, numbers, types and loaders in the
tree of nodes exchanged, nodes nested, shared and dropped. Checksums are written anew: most changes get past them.

A process of its own loads the files one after the other, describes each, and lets what was loaded answer. RLIMIT_DATA,
which counts every private writable page that is asked for, also before it is touched, is 2 GB; an alarm rings when a
load takes 10 seconds, or an answer. An audit hook reports what is opened for writing, removed, started, connected to or
imported. A process that dies, or does not answer, counts as a failure of its file; the next one starts after it.
"""

import argparse
import contextlib
import copy
import io
import json
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from machine import header
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from skastro import (
    AstroCLIPEmbedder,
    DirichletClassifier,
    FineTuneClassifier,
    FixedImageEmbedder,
    FlowPosterior,
    ImageEncoder,
    MaskedSpectrumEmbedder,
    SimCLREmbedder,
    SpectrumEncoder,
    persistence,
)
from skastro._contents import nodes

MEMORY = 2 << 30
SECONDS = 10
PATIENCE = 30  # seconds after which a process that does not hear the alarm is ended
NUMBERS = [0, -1, 1, 2, 7, 1000, 10**6, 10**9, 2**31, 2**61, 2**63, 10**30, -(2**31), 0.5, 1e300, float("nan")]
PLAIN = [*NUMBERS, None, True, "", "x" * 5000, "cpu", "vit_giant_patch14_dinov2", "hf-hub:timm/test_vit", [], {}, [[1]]]
DTYPES = ["<f8", "<f4", ">i2", "|b1", "<c16", "<U3", "|S1", "|V8", "|O", "<U0", "<M8[s]", "<U100000000"]
NAMES = [(loader, *name.rsplit(".", 1)) for loader in persistence.TRUSTED for name in persistence.TRUSTED[loader]]
FOREIGN = [
    ("FunctionNode", "os", "system"),
    ("TypeNode", "subprocess", "Popen"),
    ("MethodNode", "builtins", "dict"),
    ("PartialNode", "functools", "partial"),
    ("ConstructorFromReduceNode", "pathlib", "Path"),
    ("ObjectNode", "sklearn.svm._classes", "SVC"),
    ("CachedNode", "builtins", "dict"),
]
WATCHED = re.compile(
    r"socket\.|subprocess\.|shutil\.|tempfile\.|urllib\.|ctypes\.|os\.(exec|fork|link|mkdir|posix_spawn|"
    r"putenv|remove|rename|rmdir|spawn|startfile|symlink|system|truncate|unlink|chmod|chown)|import$|exec$"
)


# The models


def models():
    """Fit one estimator of each kind, at toy size; give each its rows."""
    rng = np.random.default_rng(0)
    images = rng.random((24, 3, 16, 16), dtype=np.float32)
    spectra = rng.random((24, 40)) + 1
    table, classes = rng.random((60, 4)), np.arange(60) % 3
    short = SpectrumEncoder(depth=1, width=8, heads=2)
    encoder = ImageEncoder("test_resnet", pool="avg")
    embedder = SimCLREmbedder(encoder, max_epochs=0, random_state=0).fit(images)
    search = GridSearchCV(
        make_pipeline(FrozenEstimator(embedder), LogisticRegression()), {"logisticregression__C": [1, 2]}
    )
    tuner = FineTuneClassifier(encoder, max_epochs=1, augment=None, random_state=0)
    clip = AstroCLIPEmbedder(StandardScaler(), short, embedding_dim=8, max_epochs=1, random_state=0)
    return {
        "embedder": (embedder, images),
        "transformer": (FixedImageEmbedder("test_vit", random_state=0).fit(images), images),
        "search": (search.set_params(cv=2).fit(images, np.arange(24) % 2), images),
        "fine-tuner": (tuner.fit(images, np.arange(24) % 2), images),
        "flow": (
            FlowPosterior(2, n_transforms=1, hidden_dim=8, max_epochs=1, random_state=0).fit(table, table[:, :2]),
            table,
        ),
        "spectra": (MaskedSpectrumEmbedder(short, max_epochs=1, random_state=0).fit(spectra), spectra),
        "clip": (clip.fit(table[:24], spectra), table[:24]),
        "votes": (
            DirichletClassifier(hidden_layer_sizes=(8,), random_state=0).fit(table, rng.integers(0, 9, (60, 3))),
            table,
        ),
        "forest": (
            make_pipeline(StandardScaler(), RandomForestClassifier(3, random_state=0)).fit(table, classes),
            table,
        ),
        "isolation": (IsolationForest(n_estimators=3, random_state=np.random.RandomState(0)).fit(table), table),
        "ball tree": (KNeighborsClassifier(algorithm="ball_tree").fit(table, classes), table),
        "kd tree": (
            make_pipeline(
                QuantileTransformer(n_quantiles=9, random_state=0), KNeighborsRegressor(algorithm="kd_tree")
            ).fit(table, table),
            table,
        ),
    }


# The changes


def members_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def renumbered(content):
    """Number identities, which are addresses in memory, by their order: so files are the same in every run."""
    members = dict(members_of(content))
    found = dict.fromkeys(re.findall(rb'"__id__": (\d+)', members["schema.json"]))
    places = {old: b"%d" % number for number, old in enumerate(found, start=1)}
    schema = re.sub(rb'("__id__": |"file": ")(\d+)', lambda match: match[1] + places[match[2]], members["schema.json"])
    named = {f"{old.decode()}.npy": f"{new.decode()}.npy" for old, new in places.items()}
    members = [(named.get(name, name), schema if name == "schema.json" else part) for name, part in members.items()]
    return archive_of(members)


def archive_of(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members of one name
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def changed(rng, content):
    """Change the bytes of a model file."""
    members = members_of(content)
    for _ in range(pick(rng, [1, 1, 1, 2, 3])):
        kind = pick(rng, [in_tree] * 7 + [in_array] * 4 + [in_members, in_bits])
        if members:
            members = kind(rng, members) or members
    content = archive_of(members)
    if rng.random() < 0.05:
        content = flipped(rng, content)
    if rng.random() < 0.03:
        content = content[: int(rng.integers(len(content) + 1))]
    return content


def flipped(rng, content):
    changed = bytearray(content)
    for place in rng.integers(len(changed), size=int(rng.integers(1, 17))) if changed else []:
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def in_bits(rng, members):
    """Flip bits of one member, in its first bytes as often as anywhere."""
    place = int(rng.integers(len(members)))
    name, content = members[place]
    few = 128 if rng.random() < 0.5 else len(content)
    members[place] = name, flipped(rng, content[:few]) + content[few:]


def in_members(rng, members):
    """Swap, cut, drop, double or rename members."""
    a, b = rng.integers(len(members), size=2)
    (name, content), (other, others) = members[a], members[b]
    edits = {
        "swap": [(a, (name, others)), (b, (other, content))],
        "cut": [(a, (name, content[: int(rng.integers(len(content) + 1))]))],
        "longer": [(a, (name, content + bytes(int(rng.integers(1, 9999)))))],
        "rename": [(a, (other, content))],
        "outside": [(a, (f"../../tmp/{name}", content))],
    }
    for place, member in edits[pick(rng, list(edits))]:
        members[place] = member
    if rng.random() < 0.2:
        del members[a]


def in_array(rng, members):
    """Change one array, or what its header says."""
    places = [place for place, (name, _) in enumerate(members) if name.endswith(".npy")]
    if not places:
        return
    place = pick(rng, places)
    name, content = members[place]
    with contextlib.suppress(Exception):  # changed before
        members[place] = name, pick(rng, [with_header, with_array, with_array])(rng, content)


def with_header(rng, content):
    file = io.BytesIO(content)
    np.lib.format.read_magic(file)
    shape, order, dtype = np.lib.format.read_array_header_1_0(file)
    shape = list(shape)
    edit = int(rng.integers(4))
    if edit == 0 and shape:
        shape[int(rng.integers(len(shape)))] = pick(rng, [0, -1, 10**6, 10**9, 2**62, 10**30])
    if edit == 1:
        shape = pick(rng, [[], [-1, -1], [0], [2**31, 2**31], [1] * 70, [10**5] * 4, [*shape, 1]])
    descr = pick(rng, DTYPES) if edit == 2 else np.lib.format.dtype_to_descr(dtype)
    new = io.BytesIO()
    described = {"shape": tuple(shape), "fortran_order": order != (edit == 3), "descr": descr}
    np.lib.format.write_array_header_1_0(new, described)
    return new.getvalue() + content[file.tell() :]


def with_array(rng, content):
    array = np.load(io.BytesIO(content))
    edits = [
        lambda: array.reshape(-1)[0],
        lambda: array[..., np.newaxis],
        lambda: array.reshape(-1),
        lambda: np.resize(array, (*array.shape[:-1], 2 * array.shape[-1] + 1)),
        lambda: np.resize(array, 10**6),
        lambda: array[:0],
        lambda: array.T,
        lambda: array.astype(pick(rng, ["<f4", "<i8", "<c16", "<U9", "?"])),
        lambda: np.full_like(array, pick(rng, [np.nan, np.inf, -1, 1e9])),
        lambda: np.zeros(3, [("left", "<i8"), ("right", "<i8")]),
    ]
    file = io.BytesIO()
    np.save(file, pick(rng, edits)(), allow_pickle=False)
    return file.getvalue()


def in_tree(rng, members):
    """Change the tree of nodes, or at times the statement of the format."""
    named = dict(members)
    name = "skastro.json" if rng.random() < 0.03 else "schema.json"
    with contextlib.suppress(Exception):  # changed before
        tree = json.loads(named[name])
        if rng.random() < 0.8:
            separate(tree)
        pick(rng, [set_number] * 4 + [set_name, set_field, swap_nodes, share, nest, drop])(rng, tree)
        new = json.dumps(tree).encode()
        return [(key, new if key == name else content) for key, content in members]


def separate(tree):
    """Give equal plain values an identity each, so that one can change without the others."""
    for number, node in enumerate(nodes(tree), start=1):
        if "__id__" in node and "file" not in node:
            node["__id__"] = number


def slots(tree):
    """List every place in the tree, as a container and a key."""
    found, waiting = [], [tree]
    while waiting:
        part = waiting.pop()
        keys = part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else []
        found += [(part, key) for key in keys]
        waiting += [part[key] for key in keys]
    return found


def set_number(rng, tree):
    """Put another plain value in the place of one; numbers that count something as often as all others."""
    plain = [node for node in nodes(tree) if node["__loader__"] == "JsonNode"]
    whole = [node for node in plain if node["content"].isdigit()]
    node = pick(rng, whole if whole and rng.random() < 0.5 else plain)
    node["content"] = json.dumps(pick(rng, NUMBERS if rng.random() < 0.7 else PLAIN))


def set_name(rng, tree):
    names = FOREIGN if rng.random() < 0.2 else NAMES
    found = dict(zip(("__loader__", "__module__", "__class__"), pick(rng, names), strict=True))
    node = pick(rng, list(nodes(tree)))
    kept = [name for name in found if rng.random() < 0.3]
    node.update({name: value for name, value in found.items() if name not in kept})


def set_field(rng, tree):
    container, key = pick(rng, slots(tree))
    container[key] = pick(rng, PLAIN)


def swap_nodes(rng, tree):
    (one, here), (other, there) = pick(rng, slots(tree)), pick(rng, slots(tree))
    one[here], other[there] = copy.deepcopy(other[there]), copy.deepcopy(one[here])


def share(rng, tree):
    """Give a node the identity of another, or name nodes again and again, twice at each level."""
    found = list(nodes(tree))
    if rng.random() < 0.5:
        pick(rng, found)["__id__"] = pick(rng, found)["__id__"]
        return
    node = pick(rng, found)
    inner = copy.deepcopy(node)
    for level in range(1, int(rng.integers(2, 60))):
        inner = listed(
            [inner, {"__id__": inner.get("__id__", level)} | pick(rng, [{}, {"__loader__": "ListNode"}])], level
        )
    node.clear()
    node.update(inner)


def nest(rng, tree):
    container, key = pick(rng, slots(tree))
    for level in range(int(rng.choice([1, 3, 100, 300]))):
        container[key] = listed([container[key]], level) if rng.random() < 0.8 else [container[key]]


def listed(content, level):
    kind = {"__loader__": "ListNode", "__module__": "builtins", "__class__": "list"}
    return {**kind, "content": content, "__id__": 10**9 + level}


def drop(rng, tree):
    container, key = pick(rng, slots(tree))
    del container[key]


def make(folder, seed, number):
    """Make one changed file: the name of its model, and its bytes."""
    rng = np.random.default_rng([seed, number])
    path = pick(rng, sorted(folder.glob("*.skastro")))
    return path.stem, changed(rng, path.read_bytes())


# The loads


class TooSlowError(BaseException):
    """Not an Exception, so that nothing takes it for a refusal."""


def ring(*_):
    raise TooSlowError


def refusal(error, path):
    """Classify a refusal: its kind if it is one clear ValueError, or else what is wrong with it."""
    text = str(error)
    if not isinstance(error, ValueError) or isinstance(error, UnicodeError) or not text.startswith(str(path)):
        return f"FAILED: {type(error).__name__} {text[:200]}"
    if "\n" in text or len(text) > 1000 or not text.endswith("."):
        return f"FAILED: unclear message {text[:200]}"
    kinds = [
        "MemoryError",
        "cut short",
        "which load does not trust",
        "earlier, unreleased",
        "newer skastro",
        "is damaged",
    ]
    return "refused: " + next((kind for kind in kinds if kind in text), "FAILED: unknown message")


def outcomes(path, rows, watch):
    """Describe a file, load it, and let it answer; what came of each."""
    described, loaded, answers, model = "described", "loaded", "", None
    signal.alarm(SECONDS)
    with watch.armed() as noted:
        try:
            json.dumps(persistence.describe(path))
        except Exception as error:
            described = refusal(error, path)
        try:
            model = persistence.load(path)
        except Exception as error:
            loaded = refusal(error, path)
    if noted:
        loaded = f"FAILED: {noted[0]}"
    signal.alarm(SECONDS)
    if loaded == "loaded":
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                (model.predict if hasattr(model, "predict") else model.transform)(rows)
            answers = "answers"
        except (Exception, TooSlowError) as error:
            answers = f"answers with {type(error).__name__}"
    signal.alarm(0)
    return described, loaded, answers


class Watch:
    """While armed, note what code from a file might do to the machine."""

    def __init__(self):
        self.noted = None
        sys.addaudithook(self.hook)

    def hook(self, event, args):
        if self.noted is None or (event == "ctypes.dlopen" and "libnvidia-ml" in str(args[0])):
            return  # torch looks for a GPU
        if event == "open":
            writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if writes or (args[1] and set(args[1]) & set("wax+")):
                self.noted.append(f"open {args[0]}")
        elif WATCHED.match(event) and not (event == "import" and args[0] in sys.modules):
            self.noted.append(f"{event} {str(args)[:100]}")

    @contextlib.contextmanager
    def armed(self):
        self.noted = noted = []
        try:
            yield noted
        finally:
            self.noted = None


def limit_memory():
    import resource  # here, as only Unix has it, and tests use the changes alone

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with contextlib.suppress(MemoryError):
        np.empty(MEMORY, np.uint8)
        raise RuntimeError("The limit of memory has no effect here.")


def work(folder, seed, numbers, results):
    """In a process of its own: load file after file."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = np.load(folder / "rows.npy", allow_pickle=True).item()
    path, watch = folder / f"{os.getpid()}.model", Watch()
    signal.signal(signal.SIGALRM, ring)
    for name in rows:  # what is imported late is imported now
        path.write_bytes((folder / f"{name}.skastro").read_bytes())
        persistence.load(path)
        result = outcomes(path, rows[name], watch)
        assert result == ("described", "loaded", "answers"), (name, result)
    limit_memory()
    for number in numbers:
        name, content = make(folder, seed, number)
        path.write_bytes(content)
        results.send((number, name, None, 0.0))
        start = time.perf_counter()
        try:
            result = outcomes(path, rows[name], watch)
        except TooSlowError:
            result = ("", f"FAILED: more than {SECONDS} s", "")
        results.send((number, name, result, time.perf_counter() - start))


def run(folder, seed, first, count):
    """Load files in a process that is started anew when it dies; yield number, model, outcomes, seconds."""
    context, end = multiprocessing.get_context("spawn"), first + count
    while first < end:
        results, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(folder, seed, range(first, end), sender), daemon=True)
        process.start()
        sender.close()
        name, started = "", False
        while first < end:
            try:
                if not results.poll(PATIENCE if started else 600):
                    break
                number, name, result, seconds = results.recv()
            except EOFError:
                break
            started = True
            if result is not None:
                first = number + 1
                yield number, name, result, seconds
        if first < end:
            assert started, "The process could not start."
            process.kill()
            process.join()
            ended = f"FAILED: the process ended with {process.exitcode}"
            yield first, name, ("", ended, ""), 0.0
            first += 1
        process.join()


def save_models(folder):
    fitted = models()
    for name, (model, _) in fitted.items():
        path = folder / f"{name}.skastro"
        persistence.save(model, path)
        path.write_bytes(renumbered(path.read_bytes()))
    np.save(folder / "rows.npy", {name: rows for name, (_, rows) in fitted.items()}, allow_pickle=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="folder for the files that fail")
    chosen = parser.parse_args()
    header(f"fuzz: {chosen.count} changed model files from number {chosen.first}, seed {chosen.seed}")
    start, slowest, failures = time.perf_counter(), 0.0, []
    loads, described, answers = Counter(), Counter(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        save_models(Path(folder))
        for number, name, result, seconds in run(Path(folder), chosen.seed, chosen.first, chosen.count):
            failed = [part for part in result if "FAILED" in part]
            for counter, part in zip((described, loads, answers), result, strict=True):
                counter["failed" if "FAILED" in part else part] += 1
            if failed:
                failures.append(number)
                if chosen.keep is not None:
                    (chosen.keep / f"{number}.{name}").write_bytes(make(Path(folder), chosen.seed, number)[1])
                print(f"  number {number}, {name}: {failed[0]}", flush=True)
            slowest = max(slowest, seconds)
    for title, counter in (("load", loads), ("describe", described), ("what was loaded", answers)):
        print(f"\n{title}")
        for part, count in counter.most_common():
            if part:
                print(f"{count:7d}  {part}")
    print(f"\n{len(failures)} failures; slowest file {slowest:.1f} s; {time.perf_counter() - start:.0f} s in all")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
