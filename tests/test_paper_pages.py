"""The pages of the papers run: what they name exists, their full-size estimators construct and take a step, and their
measurements are those on record.

A page's blocks run one after the other, on a few toy images of the shapes that it asks for. Whatever has epochs is cut
down when it is fitted, by `set_params`: one epoch, small batches. Numbers of labels and of settings are cut in the
text. EfficientNet-B0 and ResNet18 are full-size. What takes seconds for each of many fits is tiny here, and takes its
step at full size in tests/test_papers.py: the ResNet50 of Hayat et al. (2021), and of Parker et al. (2024) the ViT-L,
its views and prototypes, and the transformer of spectra.
"""

import functools
import inspect
import re
import textwrap
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context

from skastro._registry import EXPORTED
from skastro.papers import PUBLISHED
from skastro.pretrained import NETWORKS
from skastro.votes import get_schema

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "papers"
pytestmark = pytest.mark.skipif(not PAGES.exists(), reason="the pages are not part of an installed package")
each_page = pytest.mark.parametrize("name", ["walmsley2022", "hayat2021", "slijepcevic2023", "parker2024"])


def read(name):
    return (PAGES / f"{name}.rst").read_text()


def section(text, title):
    """The text under a heading, up to the next one."""
    return re.search(rf"^{title}\n=+\n(.*?)(?=^[^\n]+\n=+\n|\Z)", text, re.DOTALL | re.MULTILINE)[1]


# ---------------------------------------------------------------- what the pages say


@each_page
def test_a_page_has_its_sections(name):
    titles = re.findall(r"^(.+)\n=+$", read(name), re.MULTILINE)
    assert titles[1:] == [
        "What the paper did",
        "Its tables and figures",
        "The code at full size",
        "What we measured",
        "Where this differs",
        "Errata",
        "How to cite",
    ]
    assert f"   {name}\n" in read("index").partition(".. toctree::")[2]


@each_page
def test_what_a_page_names_exists(name):
    text = read(name)
    for target in re.findall(r":(?:func|class|meth|mod):`~?([\w.]+)`", text):
        resolve_name(target)
    names = {*re.findall(r'published\(\s*"([\w-]+)"', text)}
    assert names <= PUBLISHED.keys() | NETWORKS.keys()
    files = {*re.findall(r"`((?:examples|benchmarks)/[\w.]+)", text)}
    assert {file for file in files if not (ROOT / file).exists()} == set()
    assert any(file.startswith("examples/") for file in files)
    for function in (function for key, function in PUBLISHED.items() if key.startswith(name)):
        assert f":func:`~skastro.papers.{function.__name__}`" in text


@each_page
def test_every_measured_number_is_on_record(name):
    """In the sections of the record that the page links to; those of a row of a table stand in one line there."""
    measured = re.sub(r"``.*?``", "", section(read(name), "What we measured"), flags=re.DOTALL)
    linked = {" ".join(title.split()) for title in re.findall(r"<(?:measurements|pretraining):(.+?)>`", measured, re.S)}
    measured = re.sub(r":ref:`.*?`", "", measured, flags=re.DOTALL)
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    record = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", results, re.DOTALL | re.MULTILINE))
    pretraining = (ROOT / "docs" / "pretraining.rst").read_text()
    record |= {
        title: section(pretraining, re.escape(title)) for title in re.findall(r"^(Which.+)\n=", pretraining, re.M)
    }
    assert linked
    found = {title: record[title] for title in linked}
    lines = "\n".join(found.values()).splitlines()
    rows = [row for row in measured.splitlines() if "  " in row and not row.startswith("=")]
    prose = "\n".join(line for line in measured.splitlines() if line not in rows)
    assert len(numbers(prose)) > 5
    assert {number for number in numbers(prose) if not any(on(line, number) for line in lines)} == set()
    assert [row for row in rows if not any(all(on(line, number) for number in numbers(row)) for line in lines)] == []


def numbers(text):
    return re.findall(r"[−-]?\d+\.\d+", text)


def on(line, number):
    return re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", line)


# ---------------------------------------------------------------- what the pages do


def toy_images(n, bands, side):
    return np.random.default_rng(0).normal(size=(n, bands, side, side)).astype(np.float32)


def walmsley2022():
    columns = get_schema("gz_evo").columns
    votes = pd.DataFrame(np.ones((4, 206), dtype=int), columns=columns)
    votes.iloc[2:] = 0
    return {
        "images": toy_images(4, 3, 128),
        "votes": votes,
        "ring_images": toy_images(24, 3, 128),
        "is_ring": np.arange(24) % 2,
    }


def hayat2021():
    rng = np.random.default_rng(0)
    return {
        "images": toy_images(12, 5, 107),
        "galaxies": toy_images(6, 5, 107),
        "redshift": np.linspace(0.05, 0.3, 6),
        "ebv": np.full(6, 0.02),
        "is_test": np.arange(6) >= 4,
        "voted": toy_images(12, 5, 107),
        "fractions": rng.permutation(np.linspace(0, 1, 12)),
        "votes": np.arange(4, 16),
        "voted_is_test": np.arange(12) % 3 == 0,
    }


def slijepcevic2023():
    labels = np.array(["FRI", "FRII"] * 4)
    return {
        "images": toy_images(9, 1, 150),
        "extension": np.arange(15, 24),
        "sources": toy_images(8, 1, 150),
        "labels": labels,
        "is_test": np.arange(8) >= 4,
        "uncertain": toy_images(2, 1, 150),
        "uncertain_labels": labels[:2],
        "mightee": toy_images(8, 1, 150),
        "mightee_labels": labels,
        "hybrid": toy_images(9, 1, 150)[0],
    }


def parker2024():
    rng = np.random.default_rng(0)
    columns = ["redshift", "log_mass", "metallicity", "age", "log_ssfr"]
    spectra = rng.normal(size=(72, 7781)).astype(np.float32)
    schema = get_schema("gz_decals_dr5")
    counts = np.hstack([rng.multinomial(40, np.full(size, 1 / size), size=12) for size in schema.sizes])
    return {
        "images": toy_images(4, 3, 152),
        "spectra": spectra[:4],
        "ivar": np.ones((4, 7781)),
        "pair_images": toy_images(72, 3, 152),
        "pair_spectra": spectra,
        "pair_ivar": np.ones((72, 7781)),
        "photometry": rng.normal(size=(72, 3)),
        "properties": pd.DataFrame(rng.normal(size=(72, 5)), columns=columns),
        "is_test": np.arange(72) >= 66,
        "zoo_images": toy_images(12, 3, 152),
        "zoo_votes": pd.DataFrame(counts, columns=schema.columns),
        "zoo_is_test": np.arange(12) % 3 == 0,
    }


TOYS = {function.__name__: function for function in (walmsley2022, hayat2021, slijepcevic2023, parker2024)}

# Counts in the text, and those of the toys.
FEWER = {
    "walmsley2022": {"[761, 7_000, 37_000]": "[12]", "StratifiedKFold(5": "StratifiedKFold(2"},
    "hayat2021": {
        "[40_000, 80_000, 120_000, 400_000]": "[2]",
        "(256, 4_096, 65_536)": "(6,)",
        ":40_000]": ":2]",
        'kinds=["all", "without", "only", "pairs"]': 'kinds=["all"]',
    },
    "slijepcevic2023": {
        "[36, 72, 145, 291, 437, 583, 656, 729]": "[4]",
        "[72, 145, 291, 729]": "[4]",
        "n_repeats=10": "n_repeats=1",
        "StratifiedShuffleSplit(10": "StratifiedShuffleSplit(1",
        "range(1, 10)": "(1, 9)",
        'kinds=["all", "without", "only", "none"]': 'kinds=["none"]',
        "n_neighbors=8": "n_neighbors=4",
    },
    "parker2024": {},
}

# What a fit sets first, where the estimator has such a parameter and it is not None.
QUICK = {
    "walmsley2022": {"batch_size": 20},
    "hayat2021": {"batch_size": 2},
    "slijepcevic2023": {"batch_size": 4},
    "parker2024": {
        "batch_size": 40,
        "size": 36,
        "augment__local_size": 24,
        "prototypes": 256,
        "encoder__depth": 1,
        "encoder__width": 24,
    },
}
TINY = {"resnet50": "test_resnet", "vit_large_patch14_dinov2": "test_vit"}  # timm's


def cut_down(model, quick):
    """Set what is about to be fitted, and was made at full size, to one epoch of small batches."""
    words = model.get_params()
    quick = quick | {"max_epochs": 1, "encoder__name": TINY.get(words.get("encoder__name"), words.get("encoder__name"))}
    model.set_params(**{word: value for word, value in quick.items() if words.get(word) is not None})


def cutting_down(fit, quick):
    @functools.wraps(fit)
    def fit_toy(model, *args, **kwargs):
        cut_down(model, quick)
        return fit(model, *args, **kwargs)

    return fit_toy


@pytest.fixture
def toys(request, monkeypatch):
    """Let every `fit` that has epochs cut its estimator down first; give the names that a page asks for."""
    name = request.param
    classes = [getattr(import_module(module), cls) for module, names in EXPORTED.items() for cls in names.split()]
    owners = {
        next(owner for owner in cls.__mro__ if "fit" in vars(owner))
        for cls in classes
        if "max_epochs" in inspect.signature(cls).parameters
    }
    for owner in owners:
        monkeypatch.setattr(owner, "fit", cutting_down(owner.fit, QUICK[name]))
    return name, TOYS[name]()


@pytest.mark.parametrize("toys", TOYS, indirect=True)
@pytest.mark.filterwarnings("ignore:.*can reach 2 pixels beyond the cutouts")  # as in Hayat et al. (2021)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_page_runs(toys):
    name, names = toys
    pytest.importorskip("matplotlib").use("Agg")
    code = "\n".join(
        textwrap.dedent(block) for block in re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", read(name))
    )
    for text, fewer in FEWER[name].items():
        assert text in code
        code = code.replace(text, fewer)
    with config_context(enable_metadata_routing=False):
        exec(compile(code, f"{name}.rst", "exec"), names)
    import_module("matplotlib.pyplot").close("all")
