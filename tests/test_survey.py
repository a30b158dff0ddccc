"""Catalogs and arrays embedded by many processes: the rows of `transform`, each once, whatever is killed."""

import os
import pickle
import signal
import sys
import warnings
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from of_survey import Unlucky, drive, identities
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import skastro
from skastro import DirichletClassifier, FixedImageEmbedder, PhotoZRegressor, Survey
from skastro.cli import main
from skastro.datasets import open_images, open_spectra
from skastro.survey import (
    EmbeddingIndex,
    embed_array,
    embed_catalog,
    models,
    open_survey,
    search_catalog,
    write_embeddings,
)
from skastro.survey import index as search_index
from skastro.survey.cutouts import BesideRows
from skastro.survey.search import Search

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of pandas, about what lsdb calls
    lsdb = pytest.importorskip("lsdb", reason="needs the extra survey")
    dask = pytest.importorskip("dask", reason="needs the extra survey")
    distributed = pytest.importorskip("distributed", reason="needs the extra survey")
    da = pytest.importorskip("dask.array", reason="needs the extra survey")
pa = pytest.importorskip("pyarrow", reason="needs the extra survey")
zarr = pytest.importorskip("zarr", reason="needs the extra survey")

N, SHAPE = 90, (3, 16, 16)
RNG = np.random.default_rng(0)
PIXELS = RNG.normal(size=(N, *SHAPE)).astype(np.float32)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def nested(values):
    """Lists of lists of numbers, as Multimodal Universe has them."""
    array = pa.array(values.ravel())
    for length in values.shape[:0:-1]:
        array = pa.ListArray.from_arrays(pa.array(np.arange(0, len(array) + 1, length, dtype=np.int32)), array)
    return array


def column(array):
    return pd.Series(array, dtype=pd.ArrowDtype(array.type))


def structs(pixels, bands=("g", "r", "z")):
    names = pa.array([list(bands)] * len(pixels))
    return pa.StructArray.from_arrays([names, nested(pixels), nested(abs(pixels))], ["band", "flux", "ivar"])


def catalog_of(path, **columns):
    n = len(next(iter(columns.values())))
    sky = np.random.default_rng(1)
    frame = pd.DataFrame(
        {"object_id": 1000 + np.arange(n), "ra": sky.uniform(0, 360, n), "dec": sky.uniform(-60, 60, n)}
    )
    frame = frame.assign(**{name: column(array) for name, array in columns.items()})
    made = lsdb.from_dataframe(frame, catalog_name="sky", partition_rows=20, margin_threshold=None)
    made.write_catalog(path, as_collection=False, progress_bar=False)
    return lsdb.open_catalog(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("survey")


@pytest.fixture(scope="module")
def catalog(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat = pa.FixedSizeListArray.from_arrays(pa.array(PIXELS.ravel()), int(np.prod(SHAPE)))
        row = pa.array(np.arange(N)[::-1])
        return catalog_of(folder / "sky", cutout=flat, image=structs(PIXELS), row=row)


@pytest.fixture(scope="module")
def embedder():
    embedder = FixedImageEmbedder("test_resnet", survey=Survey("grz"), device="cpu", random_state=0)
    return embedder.set_params(training__precision="fp32", training__threads=1).fit(PIXELS)


@pytest.fixture(scope="module")
def rows(embedder):
    return embedder.transform(PIXELS)


@pytest.fixture(scope="module")
def model(embedder, folder):
    skastro.save(embedder, folder / "model.skastro")
    return folder / "model.skastro"


@pytest.fixture
def unlucky(embedder, tmp_path):
    """A saved model to which something happens at the row 50."""
    path = tmp_path / "unlucky.skastro"
    skastro.save(Unlucky(embedder, str(tmp_path), float(PIXELS[50, 0, 0, 0])), path, trusted=["of_survey.Unlucky"])
    return path


def computed(catalog):
    return catalog.compute(progress_bar=False)


def numbers(frame):
    return np.asarray(frame["object_id"]) - 1000


def embeddings(frame):
    return np.stack(frame["embedding"])


def check_whole(path, rows):
    """Every object is there once, with its own embedding."""
    frame = computed(lsdb.open_catalog(path))
    assert sorted(numbers(frame)) == list(range(N))
    np.testing.assert_allclose(embeddings(frame), rows[numbers(frame)], **CLOSE)


@pytest.mark.parametrize("name", ["cutout", "image", "image.flux"])
def test_rows_are_those_of_transform(catalog, model, rows, name):
    frame = computed(embed_catalog(catalog, model, name))
    assert sorted(numbers(frame)) == list(range(N))
    np.testing.assert_allclose(embeddings(frame), rows[numbers(frame)], **CLOSE)
    assert name.split(".")[0] not in frame.columns


def test_the_images_are_found_where_one_column_looks_like_them(catalog, model):
    places = ["object_id", "ra", "dec"]
    for name in ("image", "cutout"):
        assert [*embed_catalog(catalog[[*places, name]], model).columns] == [*places, "embedding"]


@pytest.mark.parametrize("ids", [None, "object_id"])
def test_images_beside_the_catalog(catalog, model, rows, tmp_path, ids):
    order = np.arange(N)[::-1]
    group = zarr.open_group(str(tmp_path / "cutouts.zarr"), mode="w")
    for name, values in {"images": PIXELS[order], "object_id": 1000 + order}.items():
        group.create_array(name, shape=values.shape, chunks=(10, *values.shape[1:]), dtype=values.dtype)[:] = values
    images = open_images(tmp_path / "cutouts.zarr", "images")
    frame = computed(embed_catalog(catalog, model, ids or "row", images=images, ids=ids))
    np.testing.assert_allclose(embeddings(frame), rows[numbers(frame)], **CLOSE)
    with pytest.raises(Exception, match=r"There is no image for .* among the 5 of .*cutouts.zarr"):
        computed(embed_catalog(catalog, model, "row", images=images[:5]))


def beside(path, identifiers, pixels=PIXELS):
    group = zarr.open_group(str(path), mode="w")
    for name, values in {"images": pixels, "object_id": np.asarray(identifiers)}.items():
        group.create_array(name, shape=values.shape, chunks=(10, *values.shape[1:]), dtype=values.dtype)[:] = values
    return open_images(path, "images")


def test_images_beside_are_those_of_this_call(catalog, model, rows, tmp_path):
    images = beside(tmp_path / "cutouts.zarr", 1000 + np.arange(N))
    asked = {"ids": "object_id", "keep": ["object_id"]}
    computed(embed_catalog(catalog, model, "object_id", images=images, **asked))
    frame = computed(embed_catalog(catalog, model, "object_id", images=images[::-1], **asked))
    np.testing.assert_allclose(embeddings(frame), rows[numbers(frame)], **CLOSE)
    images = beside(tmp_path / "cutouts.zarr", 1000 + np.arange(N)[::-1])  # other identifiers, under the same name
    frame = computed(embed_catalog(catalog, model, "object_id", images=images, **asked))
    np.testing.assert_allclose(embeddings(frame), rows[::-1][numbers(frame)], **CLOSE)


OBJECTS = 2**60 + 2 * np.arange(N)


@pytest.mark.parametrize(
    ("there", "kind"), [("i8", "u8"), ("u8", "i8"), ("S", "i8"), ("S", "U"), ("U", "O"), ("O", "U")]
)
def test_an_identifier_finds_its_image_whatever_type_it_has(there, kind):
    def told(values):
        return values.astype("U").astype(object) if kind == "O" else values.astype(kind)

    column = np.array([b"%d" % value for value in OBJECTS], dtype=object) if there == "O" else OBJECTS.astype(there)
    names = SimpleNamespace(column=lambda _: column, rows=range(N), reader=SimpleNamespace(where="sky.h5"))
    found = BesideRows("object_id", names, there + kind, False)
    assert found._find(told(OBJECTS[::-1])).tolist() == [*range(N)][::-1]
    assert found._find(told(OBJECTS + 1)).tolist() == [-1] * N


@pytest.mark.parametrize(
    ("values", "ids", "sentence"),
    [
        (np.arange(N) + 0.5, None, r"There is no image for told \d+\.5 among the 90"),
        ([f"J{row}" for row in range(N)], None, r"There is no image for told 'J\d+' among the 90"),
        ([None, *range(1, N)], None, r"Column 'told' holds nothing in row 0"),
        (np.arange(N), "object_id", r"'object_id' of .*cutouts.zarr .images. names two images 7"),
    ],
)
def test_an_image_that_is_told_amiss_is_refused(model, tmp_path, values, ids, sentence):
    told = np.arange(N)
    told[8] = 7
    images = beside(tmp_path / "cutouts.zarr", told)
    catalog = catalog_of(tmp_path / "sky", told=pa.array(values))
    with pytest.raises(RuntimeError, match=sentence):
        computed(embed_catalog(catalog, model, "told", images=images, ids=ids))


def test_bands_are_taken_by_the_names_of_each_row(model, rows, tmp_path):
    other = structs(PIXELS[30:, [1, 0, 2]], "rgz")
    catalog = catalog_of(tmp_path / "sky", image=pa.concat_arrays([structs(PIXELS[:30]), other]))
    frame = computed(embed_catalog(catalog, model, "image"))
    np.testing.assert_allclose(embeddings(frame), rows[numbers(frame)], **CLOSE)
    strange = catalog_of(tmp_path / "two", image=pa.concat_arrays([structs(PIXELS[:30]), structs(PIXELS[30:], "giz")]))
    with pytest.raises(RuntimeError, match=r"row \d+ has the bands .*; all must have the same"):
        computed(embed_catalog(strange, model, "image"))


def test_a_row_without_an_image_does_not_tell_the_shape(model, tmp_path):
    gaps = pa.concat_arrays([pa.nulls(1, structs(PIXELS).type), structs(PIXELS[1:])])
    catalog = catalog_of(tmp_path / "sky", image=gaps)
    with pytest.raises(RuntimeError, match=r"'image.flux': row \d+ holds nothing, others lists of 3"):
        computed(embed_catalog(catalog, model, "image"))


def test_pixels_that_are_missing_are_filled_or_name_their_object(model, embedder, tmp_path):
    gaps = PIXELS.copy()
    gaps[50, 0, 8, 8], gaps[60, 0, 8, 8] = np.nan, -99
    whole = np.where(np.isnan(gaps) | (gaps == -99), 0, gaps)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(gaps.ravel()), int(np.prod(SHAPE)))
    catalog = catalog_of(tmp_path / "sky", image=flat)
    with pytest.raises(RuntimeError, match=r"It is of _healpix_29 \d+, object_id 1050, ra .* fill= of embed_catalog"):
        computed(embed_catalog(catalog, model, "image"))
    options = {"fill": 0.0, "missing": -99, "keep": ["object_id"]}
    images = beside(tmp_path / "cutouts.zarr", 1000 + np.arange(N), gaps)
    for told in ({"column": "image"}, {"column": "object_id", "images": images, "ids": "object_id"}):
        frame = computed(embed_catalog(catalog, model, **told, **options))
        np.testing.assert_allclose(embeddings(frame), embedder.transform(whole)[numbers(frame)], **CLOSE)


def test_the_schema_is_that_of_no_rows_and_of_what_is_read_back(catalog, model, tmp_path):
    embedded = embed_catalog(catalog, model, "cutout", keep=["object_id"])
    kind = "fixed_size_list<element: float>[736][pyarrow]"
    assert embedded.dtypes.astype(str).to_dict()["embedding"] == kind
    assert [*embedded.columns] == ["object_id", "ra", "dec", "embedding"]
    nobody = embedded.cone_search(0, 89, 10)
    assert len(computed(nobody)) == 0
    assert computed(nobody).dtypes.equals(embedded.dtypes)
    path = write_embeddings(catalog, model, "cutout", out=tmp_path / "out", keep=["object_id"])
    assert lsdb.open_catalog(path).dtypes.equals(embedded.dtypes)


def test_bands_are_taken_by_the_names_that_the_model_knows(model, rows, tmp_path):
    more = np.concatenate([PIXELS[:, ::-1], np.zeros((N, 1, *SHAPE[1:]), np.float32)], axis=1)
    catalog = catalog_of(tmp_path / "sky", image=structs(more, "zrgy"))
    frame = computed(embed_catalog(catalog, model))
    np.testing.assert_allclose(embeddings(frame), rows[numbers(frame)], **CLOSE)
    frame = computed(embed_catalog(catalog, model, bands=["g", 1, 0]))
    np.testing.assert_allclose(embeddings(frame), rows[numbers(frame)], **CLOSE)


def test_answers_of_pipelines_are_columns(catalog, embedder, rows, tmp_path):
    classes = np.where(PIXELS.mean(axis=(1, 2, 3)) > 0, "spiral", "smooth")
    redshift = abs(PIXELS.mean(axis=(1, 2, 3)))
    votes = pd.DataFrame({"bar": np.arange(N) % 7, "none": np.arange(N) % 5})
    for name, head, target in [
        ("classes", LogisticRegression(max_iter=1000), classes),
        ("redshift", PhotoZRegressor(), redshift),
        ("votes", DirichletClassifier(alpha=10.0), votes),
    ]:
        skastro.save(make_pipeline(FrozenEstimator(embedder), head.fit(rows, target)), tmp_path / f"{name}.skastro")
    asked = {
        "classes": (["predict", "predict_proba"], "prediction probability_smooth probability_spiral"),
        "redshift": (["predict", "predict_interval"], "prediction interval_low interval_high"),
        "votes": ("predict_interval", "interval_bar_low interval_bar_high interval_none_low interval_none_high"),
    }
    for name, (method, columns) in asked.items():
        embedded = embed_catalog(catalog, tmp_path / f"{name}.skastro", "cutout", method=method, keep=["object_id"])
        assert [*embedded.columns[3:]] == columns.split()
    frame = computed(embed_catalog(catalog, tmp_path / "classes.skastro", "cutout", method="predict_proba", name="p"))
    expected = skastro.load(tmp_path / "classes.skastro").predict_proba(PIXELS[numbers(frame)])
    np.testing.assert_allclose(frame[["p_smooth", "p_spiral"]].to_numpy(float), expected, atol=1e-5)


def test_a_partition_that_fails_is_done_by_the_next_run(catalog, unlucky, rows, tmp_path):
    out, options = tmp_path / "out", {"trusted": ["of_survey.Unlucky"], "keep": ["object_id"]}
    (tmp_path / "fails").touch()
    with pytest.raises(RuntimeError, match="fails on purpose"):
        write_embeddings(catalog, unlucky, "cutout", out=out, **options)
    assert not out.exists()
    (tmp_path / "fails").unlink()
    with pytest.raises(ValueError, match="was begun with other options"):
        write_embeddings(catalog, unlucky, "image", out=out, **options)
    check_whole(write_embeddings(catalog, unlucky, "cutout", out=out, **options), rows)
    assert not [*tmp_path.glob("out.*")]
    with pytest.raises(FileExistsError, match="is there already"):
        write_embeddings(catalog, unlucky, "cutout", out=out, **options)


def begun(folder, catalog, model, column, **options):
    """Begin to write, and be cut off."""
    with pytest.raises(RuntimeError, match="fails on purpose"):
        write_embeddings(catalog, model, column, out=folder / "out", verbose=0, **options)


def test_what_was_begun_of_other_rows_is_refused(catalog, unlucky, tmp_path):
    images = beside(tmp_path / "cutouts.zarr", 1000 + np.arange(N))
    options = {"trusted": {"of_survey.Unlucky"}, "keep": ["object_id"], "images": images, "ids": "object_id"}
    (tmp_path / "fails").touch()
    begun(tmp_path, catalog, unlucky, "object_id", **options)
    begun(tmp_path, lsdb.open_catalog(catalog.hc_structure.catalog_path), unlucky, "object_id", **options)
    for other, told, word in (
        (catalog.query("object_id >= 1040"), {}, "another catalog"),
        (catalog.cone_search(0, 0, 3600 * 60), {}, "another catalog"),
        (catalog, {"images": images[::-1]}, "other images"),
        (catalog, {"fill": 0.0}, "other images"),
    ):
        with pytest.raises(ValueError, match=f"out.part was begun with {word}: remove it"):
            write_embeddings(other, unlucky, "object_id", out=tmp_path / "out", **options | told)


def test_a_catalog_is_known_again_by_another_process(catalog, folder):
    with ready().Pool(1) as pool:
        assert pool.apply(identities, (folder / "sky",)) == identities(folder / "sky")
    before = identities(folder / "sky")
    assert len({str(about) for about in before}) == len(before)
    (folder / "sky" / "hats.properties").touch()
    assert not [about for about in identities(folder / "sky") if about in before]


def test_a_partition_cut_off_between_its_two_marks_is_done_again(catalog, unlucky, rows, tmp_path):
    out, options = tmp_path / "out", {"trusted": ["of_survey.Unlucky"], "keep": ["object_id"]}
    (tmp_path / "fails").touch()
    with pytest.raises(RuntimeError, match="fails on purpose"):
        write_embeddings(catalog, unlucky, "cutout", out=out, **options)
    (tmp_path / "fails").unlink()
    marks = [*(tmp_path / "out.part").glob("*/*_done")]
    assert marks
    marks[0].unlink()
    check_whole(write_embeddings(catalog, unlucky, "cutout", out=out, **options), rows)


def test_what_somebody_else_put_there_stays(catalog, model, tmp_path):
    (tmp_path / "out.part").mkdir()
    array = da.from_array(PIXELS, chunks=(20, *SHAPE))
    for begin in (lambda out: write_embeddings(catalog, model, "cutout", out=out), partial(embed_array, array, model)):
        with pytest.raises(ValueError, match=r"out.part is there, and not begun by skastro: remove it"):
            begin(tmp_path / "out")
        with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere to write out to"):
            begin(tmp_path / "nowhere" / "out")
    assert [*tmp_path.iterdir()] == [tmp_path / "out.part"]


def test_without_workers_one_task_runs_at_a_time(monkeypatch):
    with models.one_at_a_time():
        assert dask.config.get("scheduler") == "synchronous"
    with dask.config.set(scheduler="threads"), models.one_at_a_time():
        assert dask.config.get("scheduler") == "threads"
    monkeypatch.setattr(models, "current_client", lambda: Client({}))
    with models.one_at_a_time():
        assert dask.config.get("scheduler", None) is None


@pytest.mark.parametrize("verbose", [0, 1])
def test_chunks_are_shown_as_they_are_done(model, tmp_path, capsys, verbose):
    embed_array(da.from_array(PIXELS, chunks=(20, *SHAPE)), model, tmp_path / "rows.zarr", verbose=verbose)
    assert ("5/5" in capsys.readouterr().err) == bool(verbose)


def ready():
    """Processes forked of one that has imported what is slow: each would take ten seconds to."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        context = distributed.utils.get_mp_context()
    context.set_forkserver_preload(["lsdb", "sklearn.frozen", "skastro.modalities", "skastro.survey"])
    return context


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills by a POSIX signal")
def test_a_driver_that_was_killed_is_run_again(catalog, folder, unlucky, rows, tmp_path):
    (tmp_path / "dies").touch()
    options = {"trusted": ["of_survey.Unlucky"], "keep": ["object_id"]}
    driver = ready().Process(target=drive, args=(folder / "sky", unlucky, tmp_path / "out"), kwargs=options)
    driver.start()
    driver.join()
    assert driver.exitcode == -signal.SIGKILL
    assert (tmp_path / "out.part").exists()
    assert not (tmp_path / "out").exists()
    check_whole(write_embeddings(catalog, unlucky, "cutout", out=tmp_path / "out", **options), rows)


@contextmanager
def cluster_of_two():
    """Two processes of one thread."""
    ready()
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills by a POSIX signal")
def test_a_worker_that_was_killed_loses_nothing(catalog, unlucky, rows, tmp_path):
    options = {"trusted": ["of_survey.Unlucky"]}
    with cluster_of_two() as client:
        before = {*client.run(os.getpid).values()}
        (tmp_path / "dies").touch()
        check_whole(write_embeddings(catalog, unlucky, "cutout", out=tmp_path / "out", **options), rows)
        assert not (tmp_path / "dies").exists()
        assert before != {*client.run(os.getpid).values()}
        array = da.from_array(PIXELS, chunks=(20, *SHAPE))
        path = embed_array(array, unlucky, tmp_path / "rows.zarr", **options)
        np.testing.assert_allclose(zarr.open_group(str(path))["embedding"][:], rows, **CLOSE)


class Client:
    """Workers that answer what they are told to."""

    def __init__(self, answers):
        self.answers = answers

    def run(self, function, *arguments):
        return {"tcp://one:1": True, "tcp://two:2": self.answers[function.__name__]}


@pytest.mark.parametrize(
    ("answers", "error", "sentence"),
    [
        ({"find_spec": None}, ModuleNotFoundError, "1 workers lack skastro, the first is tcp://two:2"),
        (
            {"find_spec": 1, "isfile": False},
            FileNotFoundError,
            "1 workers find no .*model.skastro, the first is tcp://t",
        ),
    ],
)
def test_workers_without_the_package_or_the_model_are_named(catalog, model, monkeypatch, answers, error, sentence):
    monkeypatch.setattr(models, "current_client", lambda: Client(answers))
    with pytest.raises(error, match=sentence):
        embed_catalog(catalog, model, "cutout")


@pytest.mark.parametrize("kind", ["dask", "source"])
def test_an_array_is_embedded_chunk_by_chunk(unlucky, rows, tmp_path, kind):
    np.save(tmp_path / "sky.npy", PIXELS)
    X = da.from_array(PIXELS, chunks=(20, 1, 8, 16)) if kind == "dask" else open_images(tmp_path / "sky.npy")
    options = {"part": 20, "trusted": ["of_survey.Unlucky"]}
    (tmp_path / "fails").touch()
    with pytest.raises(RuntimeError, match="fails on purpose"):
        embed_array(X, unlucky, tmp_path / "rows.zarr", **options)
    done = {*(tmp_path / "rows.zarr.part.done").iterdir()}
    assert {mark.name for mark in done} <= {"0", "20", "60", "80"}
    (tmp_path / "fails").unlink()
    with pytest.raises(ValueError, match="was begun with other objects"):
        embed_array(X[20:], unlucky, tmp_path / "rows.zarr", **options)
    other = X[::-1] if kind == "source" else da.from_array(PIXELS[::-1], chunks=X.chunks)
    with pytest.raises(ValueError, match="was begun with other objects"):
        embed_array(other, unlucky, tmp_path / "rows.zarr", **options)
    path = embed_array(X, unlucky, tmp_path / "rows.zarr", **options)
    np.testing.assert_allclose(zarr.open_group(str(path))["embedding"][:], rows, **CLOSE)
    assert not [*tmp_path.glob("rows.zarr.*")]
    with pytest.raises(FileExistsError, match="is there already"):
        embed_array(X, unlucky, tmp_path / "rows.zarr", **options)


def refusals():
    """What is refused before any work: how, and by which sentence."""
    flat = {"column": "cutout"}
    yield {"column": "nothing"}, KeyError, "no column 'nothing'; it has object_id, ra, dec, cutout, image.band"
    yield {"column": "ra"}, ValueError, "Column 'ra' has no columns that look like images"
    yield {"column": "image", "bands": ["i"]}, ValueError, "no band 'i' in column 'image.flux'; there are g, r, z"
    yield {**flat, "image_shape": (3, 16, 15)}, ValueError, "768 values, which are no images of .3, 16, 15."
    yield {**flat, "image_shape": (12, 8, 8)}, ValueError, "on images of 3 bands .g, r, z., column 'cutout' has 12"
    yield (
        {**flat, "image_shape": (3, 32, 8)},
        ValueError,
        "sees 16 × 16 pixels, the images of column 'cutout' have only 32 × 8",
    )
    yield {**flat, "bands": ["i"]}, ValueError, "no band 'i' in column 'cutout'"
    yield {**flat, "keep": ["redshift"]}, KeyError, "no column 'redshift'"
    yield {**flat, "method": "score"}, ValueError, "method must be among transform, predict"
    yield {**flat, "method": "predict"}, ValueError, "FixedImageEmbedder, which has no predict; it has transform"
    yield {**flat, "name": "ra"}, ValueError, "has a column 'ra' already"
    yield {**flat, "name": "both", "method": ["transform", "predict"]}, ValueError, "names the answers of one method"
    yield {"column": "nothing", "images": PIXELS}, KeyError, "no column 'nothing'"


def test_what_does_not_go_together_is_refused_in_a_sentence(catalog, model, embedder, tmp_path):
    for options, error, sentence in refusals():
        with pytest.raises(error, match=sentence):
            embed_catalog(catalog, model, **options)
    with pytest.raises(TypeError, match="model must be a path, not a FixedImageEmbedder: save it"):
        embed_catalog(catalog, embedder, "cutout")
    with pytest.raises(FileNotFoundError, match="There is no model"):
        embed_catalog(catalog, tmp_path / "model.skastro", "cutout")
    with pytest.raises(TypeError, match="X must be an array of Dask or what open_images gave, not a ndarray"):
        embed_array(PIXELS, model, tmp_path / "rows.zarr")
    with pytest.raises(ValueError, match="rows: rechunk it"):
        embed_array(da.from_array(PIXELS, chunks=((20, 30, 40), *SHAPE)), model, tmp_path / "rows.zarr")
    with pytest.raises(ValueError, match=r"3 bands .g, r, z., the array has 2"):
        embed_array(da.from_array(PIXELS[:, :2], chunks=(20, -1, -1, -1)), model, tmp_path / "rows.zarr")


def test_another_survey_and_cutouts_of_two_sizes_are_refused(model, tmp_path):
    other = catalog_of(tmp_path / "other", image=structs(PIXELS, ("DES-G", "DES-R", "DES-Z")))
    with pytest.raises(ValueError, match=r"trained on the bands g, r, z, column .image.flux. has DES-G, DES-R, DES-Z"):
        embed_catalog(other, model)
    pieces = [structs(PIXELS[:89]), structs(PIXELS[89:, :, :12, :12])]
    two = catalog_of(tmp_path / "two", image=pa.concat_arrays(pieces))
    with pytest.raises(RuntimeError, match=r"'image.flux': row \d+ holds lists of 12, the first row lists of 16"):
        computed(embed_catalog(two, model))


def test_a_model_that_changes_under_the_graph_is_refused(catalog, embedder, tmp_path):
    path = tmp_path / "model.skastro"
    skastro.save(embedder, path)
    embedded = embed_catalog(catalog, path, "cutout")
    skastro.save(FixedImageEmbedder("test_resnet", random_state=1).fit(PIXELS), path)
    models._models.clear()  # as in a worker that starts now
    with pytest.raises(RuntimeError, match="has changed since"):
        computed(embedded)


def test_threads_and_gpus_are_those_of_the_worker(embedder, monkeypatch):
    from types import SimpleNamespace

    import torch
    from sklearn.base import clone

    model = clone(embedder).set_params(device="auto")
    worker = SimpleNamespace(name="SLURMCluster-5", state=SimpleNamespace(nthreads=4))
    monkeypatch.setattr(models, "_worker", lambda: worker)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    settled = models.settle(FrozenEstimator(model)).estimator
    assert (settled.device, settled.training.threads) == ("cuda:1", 2)


@pytest.fixture(scope="module")
def embedded(catalog, model, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lsdb.open_catalog(write_embeddings(catalog, model, "cutout", out=folder / "embedded"))


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_the_search_is_that_of_brute_force(embedded, rows):
    similarity = unit(rows[:4]) @ unit(rows).T
    found = search_catalog(embedded, rows[:4], k=5)
    assert [*found.columns] == ["query", "similarity", "object_id", "ra", "dec", "row"]
    assert (numbers(found).reshape(4, 5) == np.argsort(-similarity, axis=1)[:, :5]).all()
    np.testing.assert_allclose(found["similarity"], np.sort(-similarity, axis=1)[:, :5].ravel() * -1, atol=1e-5)
    assert len(search_catalog(embedded, rows[0], k=200, keep=["object_id"])) == N


def test_the_search_keeps_to_a_cone(embedded, rows):
    cone = embedded.cone_search(180, 0, 50 * 3600)
    inside = numbers(computed(cone))
    assert 0 < len(inside) < N
    similarity = unit(rows[:1]) @ unit(rows[inside]).T
    found = search_catalog(cone, rows[0], k=3)
    assert [*numbers(found)] == [*inside[np.argsort(-similarity[0])[:3]]]
    assert len(search_catalog(embedded.cone_search(0, 89, 10), rows[0])) == 0


def test_a_search_that_cannot_be_is_refused(embedded, rows):
    with pytest.raises(KeyError, match="no column 'vector'; it has object_id"):
        search_catalog(embedded, rows[0], column="vector")
    with pytest.raises(ValueError, match=r"queries of shape .1, 10. do not go with embeddings of 736"):
        search_catalog(embedded, rows[0, :10])
    with pytest.raises(ValueError, match="must be finite"):
        search_catalog(embedded, np.full(736, np.nan))
    with pytest.raises(ValueError, match="must be finite"):
        search_catalog(embedded, np.ma.masked_equal(rows[0], rows[0, 3]))
    with pytest.raises(ValueError, match="k must be"):
        search_catalog(embedded, rows[0], k=0)


def test_the_index_finds_what_brute_force_finds(embedded, rows, tmp_path):
    pytest.importorskip("usearch", reason="needs the extra search")
    index = EmbeddingIndex(5).fit(embedded, ids="object_id")
    expected = np.argsort(-unit(rows) @ unit(rows).T, axis=1)[:, :5] + 1000
    distance, ids = index.kneighbors(rows)
    assert np.mean([len({*a} & {*b}) / 5 for a, b in zip(ids, expected, strict=True)]) > 0.98
    assert (ids[:, 0] == 1000 + np.arange(N)).all()
    assert (np.diff(distance, axis=1) >= 0).all()
    index.save(tmp_path / "sky.usearch")
    mapped = EmbeddingIndex.load(tmp_path / "sky.usearch", n_neighbors=5)
    assert (mapped.kneighbors(rows, return_distance=False) == ids).all()
    assert (mapped.n_features_in_, mapped.n_samples_fit_) == (736, N)
    assert mapped.kneighbors(rows[3], 200, return_distance=False).shape == (1, N)
    with pytest.raises(ValueError, match="takes no more rows"):
        mapped.add(rows)


@pytest.mark.parametrize("scale", [1e-8, 1e6])
def test_the_index_knows_no_units(rows, scale):
    pytest.importorskip("usearch", reason="needs the extra search")
    found = EmbeddingIndex().fit(scale * rows).kneighbors(scale * rows, return_distance=False)
    assert np.mean(found == EmbeddingIndex().fit(rows).kneighbors(rows, return_distance=False)) > 0.98


@pytest.mark.parametrize("kind", ["catalog", "rows on disk"])
def test_what_fails_halfway_leaves_the_index_as_it_was(embedded, rows, tmp_path, monkeypatch, kind):
    pytest.importorskip("usearch", reason="needs the extra search")
    monkeypatch.setattr(search_index, "SPAN", 20)
    last = int(computed(embedded.partitions[-1])["object_id"].iloc[0])
    index = EmbeddingIndex(3).fit(rows[:11], ids=[*range(5000, 5010), last])
    expected = index.kneighbors(rows[:10])
    np.save(tmp_path / "rows.npy", np.where(np.arange(N)[:, np.newaxis] == 88, np.nan, rows))
    add = {
        "catalog": partial(index.add_catalog, embedded, "object_id"),
        "rows on disk": partial(index.add, open_spectra(tmp_path / "rows.npy")),
    }
    with pytest.raises(ValueError, match=f"ids are repeated, {last} among them|Embeddings must be finite"):
        add[kind]()
    assert index.n_samples_fit_ == 11
    for found, was in zip(index.kneighbors(rows[:10]), expected, strict=True):
        np.testing.assert_array_equal(found, was)


def test_rows_on_disk_are_indexed_some_at_a_time(rows, tmp_path, monkeypatch):
    pytest.importorskip("usearch", reason="needs the extra search")
    taken, directions = [], search_index._directions
    monkeypatch.setattr(search_index, "SPAN", 20)
    monkeypatch.setattr(search_index, "_directions", lambda some: taken.append(len(some)) or directions(some))
    np.save(tmp_path / "rows.npy", rows)
    index = EmbeddingIndex(1).fit(open_spectra(tmp_path / "rows.npy"))
    assert taken == [20, 20, 20, 20, 10]
    assert (index.kneighbors(rows, return_distance=False)[:, 0] == np.arange(N)).mean() > 0.98


def test_what_the_index_cannot_take_is_refused(embedded, rows, tmp_path):
    pytest.importorskip("usearch", reason="needs the extra search")
    index = EmbeddingIndex().add(rows[:5]).add(rows[5:10])
    assert index.n_samples_fit_ == 10
    with pytest.raises(ValueError, match="ids are repeated"):
        index.add(rows[:1], ids=[7])
    with pytest.raises(ValueError, match=r"1 integers from 0 to .* got float64"):
        index.add(rows[:1], ids=[7.5])
    with pytest.raises(ValueError, match="do not go with embeddings of 736"):
        index.kneighbors(rows[:, :5])
    with pytest.raises(ValueError, match="has no rows yet"):
        EmbeddingIndex().kneighbors(rows)
    (tmp_path / "text").write_text("an index? no")
    with pytest.raises(ValueError, match="is not an index"):
        EmbeddingIndex.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError, match="There is no index"):
        EmbeddingIndex.load(tmp_path / "nothing")
    with pytest.raises(KeyError, match="no column 'name'"):
        EmbeddingIndex().fit(embedded, ids="name")


@pytest.mark.parametrize(
    "ids", [np.arange(5) - 1, np.uint64(2**63) + np.arange(5, dtype=np.uint64), [0, 1, 2, 3, None]]
)
def test_no_identifier_of_the_index_is_another(rows, ids):
    pytest.importorskip("usearch", reason="needs the extra search")
    with pytest.raises(ValueError, match=r"^ids (must be 5 integers from 0 to 2\*\*63 - 1|has 1 missing)"):
        EmbeddingIndex().fit(rows[:5], ids=ids)
    largest = 2**63 - 5 + np.arange(5, dtype=np.uint64)
    assert (EmbeddingIndex(1).fit(rows[:5], ids=largest).kneighbors(rows[:5])[1][:, 0] == largest).all()


WRONG = {
    "Embeddings must be finite": lambda rows: np.where(np.arange(len(rows)) == 2, np.nan, rows.T).T,
    "finite": lambda rows: np.ma.masked_array(rows, np.arange(rows.size).reshape(rows.shape) == 5),
    "X must be rows of an embedding, .n, d.; its shape is .736": lambda rows: rows[0],
    "X has the unit mag": lambda rows: rows * u.mag,
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_refused_refit_leaves_the_index_that_was(rows, sentence):
    pytest.importorskip("usearch", reason="needs the extra search")
    index = EmbeddingIndex().fit(rows)
    with pytest.raises(ValueError, match=sentence):
        index.fit(WRONG[sentence](rows[:5]))
    assert index.n_samples_fit_ == N
    fresh = EmbeddingIndex()
    with pytest.raises(ValueError, match=sentence):
        fresh.add(WRONG[sentence](rows[:5]))
    assert fresh.add(rows[:4, :5]).n_features_in_ == 5  # of another width: nothing was begun


@pytest.mark.parametrize("k", [0, -1, 2.5])
def test_a_number_of_neighbors_that_cannot_be_is_refused(rows, k):
    pytest.importorskip("usearch", reason="needs the extra search")
    for index, asked in ((EmbeddingIndex(), k), (EmbeddingIndex(n_neighbors=k), None)):
        with pytest.raises(ValueError, match=f"n_neighbors must be an integer of 1 or more; got {k}"):
            index.fit(rows).kneighbors(rows, asked)


def test_an_index_is_pickled_whole_and_takes_further_rows(rows, tmp_path):
    pytest.importorskip("usearch", reason="needs the extra search")
    index = EmbeddingIndex(n_neighbors=5).fit(rows[:-1])
    with pytest.raises(FileNotFoundError, match=r"There is no folder .* to write sky"):
        index.save(tmp_path / "nowhere" / "sky")
    index.save(tmp_path / "sky")
    for known in (index, EmbeddingIndex.load(tmp_path / "sky", n_neighbors=5)):
        again = pickle.loads(pickle.dumps(known))
        np.testing.assert_array_equal(again.kneighbors(rows), index.kneighbors(rows))
        assert (again.add(rows[-1:]).n_samples_fit_, known.n_samples_fit_) == (N, N - 1)
    for empty in (EmbeddingIndex(3), pickle.loads(pickle.dumps(EmbeddingIndex(3)))):
        with pytest.raises(ValueError, match="has no rows yet"):
            empty.save(tmp_path / "none")


@pytest.mark.parametrize(
    ("call", "extra"),
    [
        (lambda: embed_catalog(None, "model.skastro"), "survey"),
        (lambda: embed_array(None, "model.skastro", "rows.zarr"), "survey"),
        (lambda: search_catalog(None, []), "survey"),
        (lambda: EmbeddingIndex().fit([[1.0]]), "search"),
    ],
)
def test_an_extra_that_is_absent_is_named(monkeypatch, call, extra):
    for module in ("lsdb", "dask", "usearch"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install skastro\[{extra}\]"):
        call()


@pytest.mark.parametrize("prefix", ["", "hats://"])
def test_the_command_line_embeds_a_catalog(catalog, folder, model, rows, tmp_path, capsys, prefix):
    out = tmp_path / "embedded"
    command = ["embed", str(model), f"{prefix}{folder / 'sky'}", "--key", "image", "--columns", "object_id"]
    with pytest.raises(SystemExit):
        main([*command, "--out", str(out), "--invalid", "nan"])
    assert "--fill replaces missing pixels" in capsys.readouterr().err
    main([*command, "--out", str(out), "--fill", "0"])
    check_whole(out, rows)
    assert sorted(lsdb.open_catalog(out).columns) == ["dec", "embedding", "object_id", "ra"]
    assert "a HATS catalog" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--out", str(out)])
    assert "is there already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["embed", str(model), "hats://nowhere", "--out", str(tmp_path / "no")])
    assert "There is no HATS catalog nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("collection", [False, True])
def test_images_are_opened_from_a_catalog_and_sampled_by_partition(catalog, folder, tmp_path, collection):
    path = folder / "sky"
    if collection:  # with margins, whose rows are copies
        frame = computed(catalog[["object_id", "ra", "dec", "cutout"]]).reset_index(drop=True)
        made = lsdb.from_dataframe(frame, partition_rows=20, margin_threshold=36_000)
        assert len(made.margin.compute(progress_bar=False))
        made.write_catalog(path := tmp_path / "sky", as_collection=True, progress_bar=False)
    images = open_images(path, "cutout", image_shape=SHAPE)
    numbers = images.column("object_id") - 1000
    assert sorted(numbers) == [*range(N)]
    np.testing.assert_array_equal(np.asarray(images), PIXELS[numbers])
    partition = np.searchsorted(images.reader.begins, np.arange(N), side="right")
    drawn = partition[images.sample(30, random_state=0).rows]
    assert sum(np.sum(drawn == part) < np.sum(partition == part) for part in {*drawn}) <= 1


def test_no_more_columns_are_opened_than_needed(catalog, folder):
    opened = open_survey(folder / "sky", "image", keep=["object_id"])
    assert sorted(opened.exploded_columns) == ["dec", "image", "image.band", "image.flux", "object_id", "ra"]
    assert sorted(open_survey(folder / "sky", "cutout").columns) == ["cutout", "dec", "object_id", "ra", "row"]
    assert [*open_survey(folder / "sky", "row", keep=[], beside=True).columns] == ["ra", "dec", "row"]
    with pytest.raises(KeyError, match="no column 'redshift'"):
        open_survey(folder / "sky", "cutout", keep=["redshift"])


def test_objects_without_an_embedding_hide_no_neighbor():
    rows = np.random.default_rng(0).normal(size=(200, 4)).astype("f4")
    embedding = [*rows]
    for row in range(40):
        embedding[row] = np.full(4, np.nan, "f4")
    kind = pd.ArrowDtype(pa.list_(pa.float32(), 4))
    frame = pd.DataFrame({"_id": np.arange(200), "embedding": pd.Series(embedding, dtype=kind)})
    found = Search(rows[150:151], 3, "embedding", ("_id",))(frame)
    expected = np.argsort(-(rows[40:] @ rows[150]) / np.linalg.norm(rows[40:], axis=1))[:3] + 40
    np.testing.assert_array_equal(found["_id"], expected)


def test_tiny_rows_have_directions_too():
    rows = np.random.default_rng(0).normal(size=(50, 4))
    index = EmbeddingIndex(n_neighbors=3)
    np.testing.assert_array_equal(
        index.fit(rows * 1e-50).kneighbors(rows * 1e-50)[1], index.fit(rows).kneighbors(rows)[1]
    )
