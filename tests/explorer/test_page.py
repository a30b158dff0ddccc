"""What the explorer's page holds is what was given, and what cannot be shown is refused before work starts."""

import json
import re
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from io import BytesIO

import astropy.units as u
import numpy as np
import pytest
from kinds import COLUMNS, TABLES, gap
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skastro import EmbeddingMap, FixedImageEmbedder, explore, save
from skastro.datasets import open_images
from skastro.plotting.pictures import picture, small_line

RNG = np.random.default_rng(0)
N = 70
ROWS = RNG.normal(size=(N, 8)).astype(np.float32) + 3
IMAGES = RNG.uniform(size=(N, 3, 4, 4)).repeat(6, axis=2).repeat(6, axis=3).astype(np.float32)
PLACES = RNG.normal(size=(N, 2)).astype(np.float32)


class Elements(HTMLParser):
    """The text of each script, by its id, and all attributes."""

    def __init__(self, page):
        super().__init__()
        self.scripts, self.attributes, self.inside = {}, [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        self.inside = dict(attributes).get("id", "script") if tag == "script" else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside is not None:
            self.scripts[self.inside] = self.scripts.get(self.inside, "") + data


@pytest.fixture
def made(tmp_path):
    """Makes a page and reads it: what it is told, and an array by its name and type."""

    def make(*args, **settings):
        path = tmp_path / "page.html"
        assert explore(*args, **{"method": "pca", "path": path} | settings) == path
        scripts = Elements(path.read_text(encoding="utf-8")).scripts
        return json.loads(scripts["about"]), lambda key, dtype: np.frombuffer(b64decode(scripts[key]), dtype)

    return make


def test_a_page_holds_what_was_given(made):
    ra, dec = RNG.uniform(0, 360, N), RNG.uniform(-90, 90, N)
    dec[3] = np.nan
    columns = {"kind": np.array(["ring", None, "disk"], dtype=object)[np.arange(N) % 3], "z": ra / 10}
    about, array = made(ROWS, ids=np.arange(N) + 10**15, ra=ra, dec=dec, columns=columns, positions=PLACES, labels="ab")
    assert (about["n"], about["title"], about["labels"], about["thumbnails"]) == (N, "Explorer", ["a", "b"], None)
    assert about["ids"][1] == "1000000000000001"
    assert_array_equal(array("positions", "<f4").reshape(N, 2), PLACES)
    assert_array_equal(array("ra", "<f8"), ra)
    assert_array_equal(array("dec", "<f8"), dec)
    kind, z = about["columns"]
    assert (kind["name"], kind["classes"], z["name"]) == ("kind", ["disk", "ring"], "z")
    assert_array_equal(array(kind["key"], "<i4"), np.array([1, -1, 0])[np.arange(N) % 3])
    assert_allclose(array(z["key"], "<f4"), ra / 10, rtol=1e-6)


def test_names_are_whole_where_some_are_missing(made):
    about, _ = made(ROWS, ids=[None, *(np.arange(1, N) + 2**60).tolist()], positions=PLACES)
    assert about["ids"] == ["", *(str(2**60 + row) for row in range(1, N))]


def test_without_positions_the_map_is_made(made):
    _, array = made(ROWS)
    assert_allclose(array("positions", "<f4").reshape(N, 2), EmbeddingMap("pca", random_state=0).fit_transform(ROWS))


def test_cosines_in_the_page_are_those_about_the_mean(made):
    _, array = made(ROWS, positions=PLACES)
    found = cosine_similarity(array("vectors", "i1").reshape(N, -1).astype(float))
    assert_allclose(found, cosine_similarity(ROWS - ROWS.mean(axis=0)), atol=0.02)


def test_long_embeddings_keep_their_first_components(made):
    wide = RNG.normal(size=(N, 5)) @ RNG.normal(size=(5, 300)) + 1e-3 * RNG.normal(size=(N, 300))
    _, array = made(wide, positions=PLACES)
    vectors = array("vectors", "i1").reshape(N, 32).astype(float)
    assert_allclose(cosine_similarity(vectors), cosine_similarity(PCA(32).fit_transform(wide)), atol=0.02)


@pytest.mark.parametrize("kind", TABLES)
def test_columns_of_any_table(made, kind):
    about, array = made(ROWS, positions=PLACES, columns=TABLES[kind]({"z": ROWS[:, 0], "bar": np.arange(N) % 2}))
    assert [column["name"] for column in about["columns"]] == ["z", "bar"]
    assert about["columns"][1]["classes"] == ["0", "1"]
    assert_array_equal(array("column-0", "<f4"), ROWS[:, 0])
    assert_array_equal(array("column-1", "<i4"), np.arange(N) % 2)


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_and_positions_on_the_sky_of_any_kind(made, kind):
    values = COLUMNS[kind](np.linspace(0, 1, N), gap(np.zeros(N), 3))
    _, array = made(ROWS, positions=PLACES, ra=values, dec=values, columns={"z": values})
    expected = np.where(gap(np.zeros(N), 3), np.nan, np.linspace(0, 1, N))
    assert_array_equal(array("ra", "<f8"), expected)
    assert_allclose(array("column-0", "<f4"), expected, rtol=1e-6)


def test_angles_of_any_unit_are_in_degrees(made):
    ra, dec = RNG.uniform(0, 360, N) * u.deg, RNG.uniform(-90, 90, N) * u.deg
    _, array = made(ROWS, positions=PLACES, ra=ra.to(u.hourangle), dec=dec.to(u.rad))
    assert_allclose(array("ra", "<f8"), ra.value)
    assert_allclose(array("dec", "<f8"), dec.value)


def gray(image):
    return image.mean(axis=2) if image.ndim == 3 else image


def tiles(array, side, n):
    """Thumbnails from their sheet."""
    sheet = np.asarray(Image.open(BytesIO(array("sheet-0", "u1").tobytes())).convert("RGB"))
    lines = sheet.reshape(sheet.shape[0] // side, side, sheet.shape[1] // side, side, 3).swapaxes(1, 2)
    return lines.reshape(-1, side, side, 3)[:n].astype(float)


@pytest.mark.parametrize(
    "images", [IMAGES, (255 * IMAGES).astype(np.uint8), IMAGES[:, 0]], ids=["flux", "8-bit", "gray"]
)
def test_thumbnails_stand_in_the_order_of_the_rows(made, images):
    about, array = made(ROWS, images, positions=PLACES)
    assert about["thumbnails"] == {"kind": "pictures", "side": 24, "per_side": 64}
    shown = [picture(image) for image in images]
    drawn = np.stack([gray(thumbnail) * (1 if thumbnail.dtype == np.uint8 else 255) for thumbnail in shown])
    found = np.stack([gray(tile) for tile in tiles(array, 24, N)])
    assert np.abs(found - drawn).mean() < 10
    assert_array_equal(np.corrcoef(found.reshape(N, -1), drawn.reshape(N, -1))[:N, N:].argmax(axis=1), np.arange(N))


def test_thumbnails_are_shrunk_and_their_shape_kept(made):
    _, array = made(ROWS[:5], np.full((5, 20, 40), 255, np.uint8), positions=PLACES[:5], thumbnail_size=10)
    for tile in tiles(array, 10, 5):
        assert (tile[3:7] > 200).all()
        assert (tile[[0, 9]] < 50).all()


def test_of_many_objects_a_sample_has_thumbnails(made):
    _, array = made(ROWS, IMAGES, positions=PLACES, max_thumbnails=10)
    rows = array("pictured", "<u4")
    assert len(rows) == len(np.unique(rows)) == 10
    for row, tile in zip(rows, tiles(array, 24, 10), strict=True):
        assert np.corrcoef(tile.ravel(), picture(IMAGES[row]).ravel())[0, 1] > 0.7


@pytest.mark.parametrize(
    "times", [None, np.arange(100.0) ** 2, RNG.uniform(size=(N, 100))], ids=["none", "one", "each"]
)
def test_spectra_and_light_curves_are_lines(made, times):
    spectra = RNG.normal(size=(N, 100))
    spectra[:, 40:60] = np.nan
    about, array = made(ROWS, spectra, times=times, positions=PLACES)
    assert about["thumbnails"] == {"kind": "lines"}
    lines = array("lines", "u1").reshape(N, 64)
    for row in range(N):
        expected = small_line(spectra[row], times[row] if np.ndim(times) == 2 else times)
        assert_array_equal(lines[row] == 255, np.isnan(expected))
        assert_allclose(lines[row][lines[row] < 255] / 254, expected[np.isfinite(expected)], atol=0.002)


def test_a_model_its_file_and_images_on_disk_give_one_page(tmp_path):
    embedder = FixedImageEmbedder("test_resnet", random_state=0).fit(IMAGES)
    pipeline = make_pipeline(embedder, StandardScaler(), LogisticRegression()).fit(IMAGES, np.arange(N) % 2)
    save(pipeline, tmp_path / "model.skastro")
    np.save(tmp_path / "sky.npy", IMAGES)
    givens = [
        (pipeline[:-1].transform(IMAGES), IMAGES),
        (pipeline, IMAGES),
        (tmp_path / "model.skastro", open_images(tmp_path / "sky.npy")),
    ]
    pages = [explore(*given, method="pca", path=tmp_path / f"{k}.html").read_text() for k, given in enumerate(givens)]
    assert pages[0] == pages[1] == pages[2]


def test_rows_that_are_embedded_in_parts_keep_their_order(made, monkeypatch):
    monkeypatch.setattr("skastro.explorer.page.PART", 16)
    flat = FunctionTransformer(lambda images: images.reshape(len(images), -1)[:, :8]).fit(IMAGES)
    _, array = made(flat, IMAGES)
    expected = EmbeddingMap("pca", random_state=0).fit_transform(IMAGES.reshape(N, -1)[:, :8])
    assert_allclose(array("positions", "<f4").reshape(N, 2), expected)


EVIL = "</script><script src=//evil.example>alert(1)</script><!--<img src=x onerror=alert(1)>"


def test_no_word_of_the_data_becomes_part_of_the_page(made, tmp_path):
    about, _ = made(
        ROWS,
        positions=PLACES,
        ids=[EVIL] * N,
        title=EVIL,
        labels=[EVIL],
        columns={EVIL: np.where(np.arange(N) % 2, EVIL, "\u2028")},
    )
    assert about["ids"][0] == about["title"] == about["labels"][0] == about["columns"][0]["classes"][0] == EVIL
    elements = Elements((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert set(elements.scripts) == {"about", "positions", "vectors", "column-0", "script"}
    assert not {name for name, _ in elements.attributes} & {"src", "href", "srcset", "action", "onerror", "style"}


def test_the_page_runs_its_own_script_alone_and_reaches_nothing(made, tmp_path):
    made(ROWS, IMAGES, positions=PLACES)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    elements = Elements(page)
    (policy,) = [value for _, value in elements.attributes if value and value.startswith("default-src")]
    digest = b64encode(sha256(elements.scripts["script"].encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'sha256-")
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest|innerHTML|WebSocket", page)


def test_the_same_seed_makes_the_same_page(tmp_path):
    pages = [explore(ROWS, IMAGES, method="tsne", path=tmp_path / f"{k}.html").read_bytes() for k in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"path": "nowhere/page.html"}, FileNotFoundError, "There is no folder nowhere to write page.html to"),
        ({"labels": list("abcdefghij")}, ValueError, "labels go on the keys 1 to 9; got 10"),
        ({"ra": np.zeros(N)}, ValueError, "ra and dec go together"),
        ({"ra": np.zeros(N), "dec": np.full(N, 91.0)}, ValueError, "dec must lie from -90 to 90 degrees; row 0 has 91"),
        ({"ra": ["10h"] * N, "dec": np.zeros(N)}, ValueError, "ra must be numbers, in degrees"),
        ({"ra": np.zeros(N) * u.m, "dec": np.zeros(N)}, ValueError, "ra has the unit m, which cannot be converted"),
        ({"ids": [1, 2]}, ValueError, r"ids must have one value for each of the 70 objects; its shape is \(2,\)"),
        ({"columns": {"z": [0.1]}}, ValueError, "z must have one value for each of the 70 objects"),
        ({"columns": 3}, ValueError, "columns must be a table, or a mapping of names to values"),
        ({"positions": np.zeros((N, 3))}, ValueError, r"positions must be finite and of shape \(70, 2\)"),
        ({"images": IMAGES[:5]}, ValueError, "There are 70 embeddings, but the shape of images is"),
        ({"images": np.moveaxis(IMAGES, 1, -1)}, ValueError, "look channels-last"),
        ({"images": IMAGES, "times": np.zeros(24)}, ValueError, "times go with spectra or light curves"),
        ({"images": np.zeros((N, 9)), "times": np.zeros(8)}, ValueError, r"times of shape \(8,\) do not go with"),
        (
            {"embedding": np.where(gap(ROWS, 4)[:, np.newaxis], np.nan, ROWS)},
            ValueError,
            "NaN or infinite values, the first in row 4",
        ),
        ({"embedding": ROWS[0]}, ValueError, "embedding must be rows of numbers"),
        ({"embedding": np.ones((9, 3))}, ValueError, "All rows of embedding are alike"),
        ({"embedding": StandardScaler().fit(ROWS)}, ValueError, "A model needs images to embed"),
        (
            {"embedding": LogisticRegression().fit(ROWS, np.arange(N) % 2), "images": ROWS},
            ValueError,
            "has no transform",
        ),
        ({"method": "umpa"}, ValueError, "method must be one of auto, umap, tsne, pca; got 'umpa'"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_work_starts(given, error, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("skastro.explorer.page.EmbeddingMap", None)
    monkeypatch.setattr("skastro.explorer.page.sheets", None)
    with pytest.raises(error, match=message):
        explore(**{"embedding": ROWS} | given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("library", "extra"), [("umap", "maps"), ("PIL", "files")])
def test_a_missing_library_is_named_with_its_extra(library, extra, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"pip install skastro\[{extra}\]"):
        explore(ROWS, IMAGES, method="umap", path=tmp_path / "page.html")
