"""Embeddings written part by part: the numbers of `transform`, in every format, and whole after every interruption."""

import copy
import errno
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skastro
from skastro import FixedImageEmbedder, embed
from skastro.datasets import open_images

try:
    import resource
except ImportError:  # Windows
    resource = None

FORMATS = (".npy", ".parquet", ".zarr")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(23, 1, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def embedder(images):
    return FixedImageEmbedder("test_resnet", random_state=0).fit(images)


@pytest.fixture
def columns():
    return {"object_id": np.array([f"J{row:04}" for row in range(23)]), "ra": np.linspace(0, 360, 23)}


def read(path):
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".parquet":
        return np.stack(pd.read_parquet(path)["embedding"])
    zarr = pytest.importorskip("zarr", reason="needs the extra zarr")
    return zarr.open_group(str(path), mode="r")["embedding"][:]


def read_columns(path):
    if path.suffix == ".npy":
        return pd.read_csv(path.with_suffix(".csv"))
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    zarr = pytest.importorskip("zarr", reason="needs the extra zarr")
    group = zarr.open_group(str(path), mode="r")
    return {name: group[name][:] for name in group if name != "embedding"}


class Dies(BaseEstimator):
    """A model that is interrupted at its n-th answer; how many are left is no part of it."""

    def __init__(self, embedder, after):
        self.embedder = embedder
        self.after = after
        self.left = after

    def __getstate__(self):
        return {"embedder": self.embedder}

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        self.left -= 1
        if self.left == -1:
            self.end()
        return self.embedder.transform(X)

    def end(self):
        raise KeyboardInterrupt


class Fills(Dies):
    """A model at whose n-th answer the disk is full."""

    def end(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_holds_the_rows_of_transform(embedder, images, columns, tmp_path, suffix):
    if suffix == ".zarr":
        pytest.importorskip("zarr", reason="needs the extra zarr")
    path = embed(embedder, images, tmp_path / f"rows{suffix}", columns=columns, part=5, verbose=0)
    np.testing.assert_allclose(read(path), embedder.transform(images), rtol=1e-4, atol=1e-5)
    along = read_columns(path)
    assert list(along["object_id"]) == list(columns["object_id"])
    np.testing.assert_allclose(along["ra"], columns["ra"])
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_run_goes_on_where_it_stopped(embedder, images, columns, tmp_path, suffix, after):
    if suffix == ".zarr":
        pytest.importorskip("zarr", reason="needs the extra zarr")
    out = tmp_path / f"rows{suffix}"
    with pytest.raises(KeyboardInterrupt):
        embed(Dies(embedder, after), images, out, columns=columns, part=5, verbose=0)
    assert not out.exists()
    again = Dies(embedder, 5 - after)
    path = embed(again, images, out, columns=columns, part=5, verbose=0)
    assert again.left == 0  # no part was done twice
    np.testing.assert_allclose(read(path), embedder.transform(images), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(resource is None, reason="limits the size of files by POSIX")
@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("after", [0, 2])
def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(embedder, images, columns, tmp_path, suffix, after):
    if suffix == ".zarr":
        pytest.importorskip("zarr", reason="needs the extra zarr")
    out, before = tmp_path / f"rows{suffix}", resource.getrlimit(resource.RLIMIT_FSIZE)
    if before[1] != resource.RLIM_INFINITY:
        pytest.skip("the size of files is limited already")
    try:
        with pytest.raises(OSError, match=f"could not be written .*: make room .* after {5 * after} of 23 rows"):
            embed(Fills(embedder, after), images, out, columns=columns, part=5, verbose=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    again = Fills(embedder, 9)
    embed(again, images, out, columns=columns, part=5, verbose=0)
    assert again.left == 9 - (5 - after)
    np.testing.assert_allclose(read(out), embedder.transform(images), rtol=1e-4, atol=1e-5)


def test_what_another_began_is_refused(embedder, images, columns, tmp_path):
    out = tmp_path / "rows.npy"
    with pytest.raises(KeyboardInterrupt):
        embed(Dies(embedder, 2), images, out, columns=columns, part=5, verbose=0)
    for model, X, along, word in (
        (embedder, images, columns, "another model"),
        (Dies(embedder, 9), images + 1, columns, "other objects"),
        (Dies(embedder, 9), images, {}, "other columns"),
    ):
        with pytest.raises(ValueError, match=f"was begun with {word}: remove it"):
            embed(model, X, out, columns=along, verbose=0)
    assert json.loads((tmp_path / "rows.npy.part.json").read_text())["done"] == 10


def test_what_changes_no_answer_may_change_before_the_next_run(embedder, images, tmp_path):
    out, other = tmp_path / "rows.npy", copy.deepcopy(embedder)
    other.set_params(batch_size=3, device="cpu", training__threads=1)
    with pytest.raises(KeyboardInterrupt):
        embed(Dies(embedder, 2), images, out, part=5, verbose=0)
    again = Dies(other, 9)
    embed(again, images, out, part=5, verbose=0)
    assert again.left == 6
    assert (other.batch_size, other.device, other.training.threads) == (3, "cpu", 1)
    assert embedder.training is None


@pytest.mark.parametrize("record", ["", '{"done": 1', "7"])
def test_a_damaged_record_is_named(embedder, images, tmp_path, record):
    with pytest.raises(KeyboardInterrupt):
        embed(Dies(embedder, 2), images, tmp_path / "rows.npy", part=5, verbose=0)
    (tmp_path / "rows.npy.part.json").write_text(record)
    with pytest.raises(ValueError, match=r"rows.npy.part.json is damaged: remove it and .*rows.npy.part\."):
        embed(Dies(embedder, 2), images, tmp_path / "rows.npy", part=5, verbose=0)


class Again(Dies):
    """A model at whose n-th answer another is to write the same file."""

    def end(self):
        with pytest.raises(ValueError, match=r"Another process is writing .*rows.npy.part: wait for it"):
            embed(self.embedder, np.zeros((4, 1, 32, 32)), self.out, verbose=0)


@pytest.mark.skipif(resource is None, reason="locks files by POSIX")
def test_two_do_not_write_one_file(embedder, images, tmp_path):
    model = Again(embedder, 1)
    model.out = tmp_path / "rows.npy"
    (tmp_path / "rows.npy.part.lock").touch()  # as one that was killed leaves it
    np.testing.assert_allclose(
        np.load(embed(model, images, model.out, part=5, verbose=0)), embedder.transform(images), rtol=1e-4, atol=1e-5
    )
    assert [*tmp_path.iterdir()] == [model.out]


def test_columns_are_whole_under_their_name(embedder, images, columns, tmp_path, monkeypatch):
    def full(table, path, **options):
        Path(path).write_text("object_id,ra\nJ00")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", full)
        with pytest.raises(OSError, match=r"No space left .*: make room and run again, it goes on after 23 of 23"):
            embed(embedder, images, tmp_path / "rows.npy", columns=columns, verbose=0)
    assert not (tmp_path / "rows.csv").exists()
    path = embed(embedder, images, tmp_path / "rows.npy", columns=columns, verbose=0)
    assert list(read_columns(path)["object_id"]) == list(columns["object_id"])
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_objects_that_are_refused_become_nan(embedder, images, tmp_path, suffix):
    if suffix == ".zarr":
        pytest.importorskip("zarr", reason="needs the extra zarr")
    broken, wrong, out = images.copy(), [0, 11, 12, 17], tmp_path / f"rows{suffix}"
    broken[wrong, 0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="first in image 0"):
        embed(embedder, broken, out, part=5, verbose=0)
    with pytest.warns(UserWarning, match=r"^4 of 23 rows are NaN, the first are 0, 11, 12, 17\. Row 0: .*NaN"):
        rows = read(embed(embedder, broken, out, part=5, invalid="nan", verbose=0))
    assert np.isnan(rows[wrong]).all()
    right = np.setdiff1d(np.arange(23), wrong)
    np.testing.assert_allclose(rows[right], embedder.transform(images[right]), rtol=1e-4, atol=1e-5)
    broken[5:10] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        embed(embedder, broken, tmp_path / f"no{suffix}", part=5, invalid="nan", verbose=0)


def test_a_broken_file_is_one_row(images, tmp_path):
    folder = tmp_path / "cutouts"
    folder.mkdir()
    for row, image in enumerate((10 * images[:9, 0] + 128).clip(0, 255).astype(np.uint8)):
        Image.fromarray(image).save(folder / f"{row}.png")
    source = open_images(folder)
    embedder = FixedImageEmbedder("test_resnet", random_state=0).fit(source)
    whole = embedder.transform(source)
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
    (folder / "7.png").unlink()
    out = tmp_path / "rows.npy"
    with pytest.raises((ValueError, FileNotFoundError)):
        embed(embedder, source, out, verbose=0)
    with pytest.warns(UserWarning, match=r"2 of 9 rows are NaN, the first are 3, 7\. Row 3: .*3\.png"):
        rows = np.load(embed(embedder, source, out, invalid="nan", verbose=0))
    assert np.flatnonzero(np.isnan(rows).any(axis=1)).tolist() == [3, 7]
    with pytest.raises(KeyboardInterrupt):
        embed(Dies(embedder, 1), source, tmp_path / "again.npy", part=2, invalid="nan", verbose=0)
    with pytest.raises(ValueError, match="was begun with other objects"):
        embed(Dies(embedder, 9), source[::-1], tmp_path / "again.npy", part=2, invalid="nan", verbose=0)
    np.testing.assert_allclose(rows[[0, 8]], whole[[0, 8]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_somebody_else_put_there_stays(embedder, images, tmp_path, suffix):
    (part := tmp_path / f"rows{suffix}.part").mkdir()
    (part / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"part is there, and not begun by skastro: remove it, or give another name"):
        embed(Dies(embedder, 0), images, tmp_path / f"rows{suffix}", verbose=0)
    assert [*tmp_path.rglob("*")] == [part, part / "mine.txt"]


def test_a_saved_pipeline_predicts_by_its_path(embedder, images, tmp_path):
    pipe = make_pipeline(embedder, LogisticRegression()).fit(images, np.arange(23) % 2)
    skastro.save(pipe, tmp_path / "pipe.skastro")
    path = embed(tmp_path / "pipe.skastro", images, tmp_path / "p.npy", method="predict_proba", part=7, verbose=0)
    np.testing.assert_allclose(np.load(path), pipe.predict_proba(images), rtol=1e-4)
    path = embed(str(tmp_path / "pipe.skastro"), images, tmp_path / "c.npy", method="predict", verbose=0)
    assert np.load(path)[:, 0].tolist() == pipe.predict(images).tolist()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"out": "rows.fits"}, ValueError, r"must end in \.npy, \.zarr, \.parquet"),
        ({"out": "there.npy"}, FileExistsError, "is there already: remove it, or give another name"),
        ({"columns": {"ra": [1.0]}}, ValueError, r"'ra' of shape \(1,\); there are 23 objects"),
        ({"columns": {"votes": np.ones((23, 2))}}, ValueError, r"'votes' of shape \(23, 2\); there are 23 objects"),
        ({"columns": {"embedding": np.ones(23)}}, ValueError, "'embedding', which is the name of what is written"),
        ({"columns": {"ra": np.ones(23)}, "out": "table.npy"}, FileExistsError, r"table\.csv is there already"),
        ({"out": "nowhere/rows.npy"}, FileNotFoundError, "There is no folder .*nowhere to write"),
        ({"method": "guess"}, ValueError, "method must be 'transform'"),
        ({"part": 0}, ValueError, "part must be a number of rows"),
    ],
)
def test_bad_words_are_refused_before_work_starts(embedder, images, tmp_path, settings, error, message):
    (tmp_path / "there.npy").touch()
    (tmp_path / "table.csv").touch()
    settings = {"out": "rows.npy", "verbose": 0} | settings
    settings["out"] = tmp_path / settings["out"]
    with pytest.raises(error, match=message):
        embed(Dies(embedder, 0), images, **settings)


def test_a_path_is_not_what_it_holds(embedder, tmp_path):
    with pytest.raises(ValueError, match=r"X is the path 'sky\.h5': open it by skastro\.datasets\.open_images"):
        embed(embedder, "sky.h5", tmp_path / "rows.npy")


def test_a_table_goes_along(embedder, images, columns, tmp_path):
    path = embed(embedder, images, tmp_path / "rows.npy", columns=pd.DataFrame(columns), verbose=0)
    pd.testing.assert_frame_equal(pd.DataFrame(read_columns(path)), pd.DataFrame(columns))


def test_nothing_to_embed_is_refused(embedder, images, tmp_path):
    with pytest.raises(ValueError, match="There are no objects to embed"):
        embed(embedder, images[:0], tmp_path / "rows.npy")


@pytest.mark.parametrize("kind", ["S", object])
@pytest.mark.parametrize("suffix", FORMATS)
def test_bytes_are_written_as_text(embedder, images, columns, tmp_path, suffix, kind):
    known = {"object_id": np.char.encode(columns["object_id"]).astype(kind)}
    path = embed(embedder, images, tmp_path / f"rows{suffix}", columns=known, verbose=0)
    assert list(read_columns(path)["object_id"]) == columns["object_id"].tolist()


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_missing_in_columns_stays_missing(embedder, images, columns, tmp_path, suffix):
    hidden = np.arange(len(images)) % 3 == 0
    known = {
        "redshift": np.ma.array(np.linspace(0, 1, len(images)), mask=hidden),
        "name": pd.Series(np.where(hidden, None, "M31"), dtype="string"),
    }
    held = read_columns(embed(embedder, images, tmp_path / f"rows{suffix}", columns=known, verbose=0))
    np.testing.assert_array_equal(np.isnan(np.asarray(held["redshift"], dtype=float)), hidden)
    assert [value == "M31" for value in held["name"]] == (~hidden).tolist()
    assert all(value == "" or pd.isna(value) for value, absent in zip(held["name"], hidden, strict=True) if absent)


def test_answers_that_are_no_numbers_are_refused(embedder, images, tmp_path):
    pipe = make_pipeline(embedder, LogisticRegression()).fit(images, np.array(["FRI", "FRII"])[np.arange(23) % 2])
    with pytest.raises(ValueError, match="Only numbers are written; the model answers with <U4"):
        embed(pipe, images, tmp_path / "rows.npy", method="predict", verbose=0)


def test_a_bar_shows_how_far_it_is(embedder, images, tmp_path, capsys):
    embed(embedder, images, tmp_path / "rows.npy")
    assert "23/23" in capsys.readouterr().err


@pytest.mark.parametrize(("suffix", "library"), [(".parquet", "pyarrow"), (".zarr", "zarr")])
def test_a_library_that_is_missing_is_named_with_its_extra(embedder, images, tmp_path, monkeypatch, suffix, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"needs {library}: pip install skastro\[{suffix[1:]}\]"):
        embed(Dies(embedder, 0), images, tmp_path / f"rows{suffix}", verbose=0)


def test_rows_are_counted_from_the_first(embedder, images, tmp_path):
    broken = images.copy()
    broken[17, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"the first in image 2.* Rows are counted from row 15\."):
        embed(embedder, broken, tmp_path / "rows.npy", part=5, verbose=0)
    far = images.copy()
    far[18] *= 1e6
    with pytest.warns(UserWarning, match=r"the first is row 3.* Rows are counted from row 15\."):
        embed(embedder, far, tmp_path / "far.npy", part=5, verbose=0)


def test_words_are_refused_before_they_are_computed(embedder, images, tmp_path):
    pipe = make_pipeline(embedder, LogisticRegression()).fit(images, np.array(["ring", "none"])[np.arange(23) % 2])
    with pytest.raises(ValueError, match="Only numbers are written; the model answers with <U4"):
        embed(pipe, images, tmp_path / "rows.npy", method="predict", verbose=0)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("first", [1237648720693755918, 2**63 + 1], ids=["signed", "unsigned"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_identifiers_of_which_some_are_missing_stay_whole(embedder, images, tmp_path, suffix, first):
    if suffix == ".zarr":
        pytest.importorskip("zarr", reason="needs the extra zarr")
    known = [first + row if row >= 6 else None for row in range(23)]  # a whole part has none
    path = embed(embedder, images, tmp_path / f"rows{suffix}", columns={"id": known}, part=5, verbose=0)
    if suffix == ".npy":
        found = pd.read_csv(path.with_suffix(".csv"), dtype=str, keep_default_na=False)["id"]
    else:
        found = read_columns(path)["id"]
    assert ["" if pd.isna(name) else str(name) for name in found] == [str(name or "") for name in known]


def test_what_a_search_has_found_is_embedded_by(images, tmp_path):
    rows, labels = images.reshape(23, -1)[:, :4], np.arange(23) % 2
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(rows, labels)
    out = embed(search, rows, tmp_path / "rows.npy", method="predict_proba", verbose=0)
    np.testing.assert_allclose(np.load(out), search.predict_proba(rows))
    assert search.cv_results_ is not None


def test_a_model_that_cannot_be_known_again_is_refused_in_a_sentence(images, tmp_path):
    with pytest.raises(TypeError, match=r"This FunctionTransformer cannot be pickled"):
        embed(FunctionTransformer(lambda X: X).fit(images[:, 0, 0]), images[:, 0, 0], tmp_path / "rows.npy", verbose=0)
