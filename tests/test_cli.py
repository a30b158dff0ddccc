"""The command line, on the smallest settings."""

import errno
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.utils import Bunch

import skastro
from skastro import FixedImageEmbedder, explore, load
from skastro.cli import main
from skastro.datasets import load_hubble_deep_field, open_images
from skastro.persistence import save
from skastro.training.callbacks import Progress


@pytest.fixture
def few_objects(monkeypatch):
    """A part of the deep field, since every object is embedded in eight orientations."""
    field = load_hubble_deep_field()
    monkeypatch.setattr(
        "skastro.datasets.load_hubble_deep_field", lambda: Bunch(**field | {"images": field.images[:96]})
    )


def test_demo_does_the_main_job(few_objects, tmp_path, capsys):
    main(["demo", "--out", str(tmp_path), "--epochs", "1", "--galaxies", "240"])
    told = capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {
        "galaxies.skastro",
        "label-sweep.png",
        "look-alikes.png",
        "map.html",
        "map.png",
    }
    assert "Real sky: 96 objects" in told
    assert "48 of 48 predictions agree" in told
    methods = ("SimCLR", "untrained encoder", "raw pixels")
    rows = [line for line in told.splitlines() if line.startswith(methods)]
    scores = {name: row.removeprefix(name).split() for name, row in zip(methods, rows, strict=True)}
    assert scores["SimCLR"] != scores["untrained encoder"]
    assert float(scores["SimCLR"][-1]) > 0.5  # of 120 labels, in six classes
    learned = load(tmp_path / "galaxies.skastro")[0].estimator
    assert len(learned.history_["loss"]) == 1
    assert np.isfinite(learned.history_["loss"]).all()
    main(["info", str(tmp_path / "galaxies.skastro"), "--json"])
    provenance = json.loads(capsys.readouterr().out)["provenance"][0]
    assert provenance["bands"] == ["g", "r", "i"]
    assert provenance["n_images"] == 240
    main(["info", str(tmp_path / "galaxies.skastro")])
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert {"Images seen 240", "Bands g, r, i"} <= set(told)
    assert any(line.startswith("scikit-learn FrozenEstimator, LogisticRegression") for line in told)


@pytest.mark.parametrize("content", [None, b"", b"PK not a model"])
def test_info_refuses_in_one_sentence(tmp_path, capsys, content):
    file = tmp_path / "model.skastro"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit):
        main(["info", str(file)])
    assert "Traceback" not in (told := capsys.readouterr().err)
    assert "model.skastro" in told


@pytest.mark.parametrize("content", [None, 3, {"n": 1}, "[" * 100_000], ids=["null", "number", "no node", "nested"])
def test_info_of_a_damaged_model_is_one_sentence(tmp_path, capsys, content):
    file = tmp_path / "model.skastro"
    with zipfile.ZipFile(file, "w") as archive:
        kind = {"__module__": "sklearn.dummy", "__class__": "DummyClassifier", "__loader__": "DictNode"}
        schema = kind | {"protocol": 2, "content": {"provenance_": {"__loader__": "JsonNode", "content": content}}}
        archive.writestr("schema.json", json.dumps(schema))
    with pytest.raises(SystemExit) as ended:
        main(["info", str(file)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"skastro: error: {file} is damaged: ")


@pytest.mark.parametrize("depth", range(100, 1000, 50))
def test_info_of_nested_provenance_is_told_or_refused(tmp_path, capsys, depth):
    file = tmp_path / "model.skastro"
    save(DummyClassifier(), file)
    with zipfile.ZipFile(file) as archive:
        schema, about = json.loads(archive.read("schema.json")), archive.read("skastro.json")
    node = {"__loader__": "JsonNode", "content": "[" * depth + "]" * depth}
    schema["content"]["content"]["provenance_"] = node
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
        archive.writestr("skastro.json", about)
    try:
        main(["info", str(file)])
    except SystemExit:
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"skastro: error: {file} is damaged: ")


@pytest.fixture
def cutouts(tmp_path):
    path = tmp_path / "cutouts.npy"
    np.save(path, np.random.default_rng(0).normal(size=(40, 3, 32, 32)).astype(np.float32))
    return str(path)


FEW = ["--set", "encoder=test_resnet", "max_epochs=1", "batch_size=16"]


def test_files_are_fitted_and_embedded(cutouts, tmp_path, capsys):
    model, rows = str(tmp_path / "sky.skastro"), str(tmp_path / "rows.npy")
    main(["fit", cutouts, "--method", "byol", "--out", model, "--checkpoint", str(tmp_path / "run"), *FEW])
    assert "Learning from 40 images of shape (3, 32, 32)" in capsys.readouterr().out
    assert type(load(model)).__name__ == "BYOLEmbedder"
    main(["embed", model, cutouts, "--out", rows])
    assert "40 rows" in capsys.readouterr().out
    np.testing.assert_allclose(np.load(rows), load(model).transform(np.load(cutouts)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_model_that_cannot_be_saved_is_saved_elsewhere(cutouts, tmp_path, capsys, monkeypatch, checkpoint):
    out, elsewhere, written = tmp_path / "sky.skastro", tmp_path / "elsewhere", skastro.save

    def full(model, path):
        if path == out:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(model, path)

    elsewhere.mkdir()
    monkeypatch.setattr(skastro, "save", full)
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    at = ["--checkpoint", str(elsewhere)] if checkpoint else []
    with pytest.raises(SystemExit):
        main(["fit", cutouts, "--method", "simclr", "--out", str(out), *at, *FEW])
    assert f"No space left on device): the model is saved as {elsewhere / out.name}." in capsys.readouterr().err
    assert type(load(elsewhere / out.name)).__name__ == "SimCLREmbedder"


def test_a_place_where_nothing_can_be_written_is_refused_before_the_fit(cutouts, tmp_path, capsys, monkeypatch):
    def denied(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    with pytest.raises(SystemExit):
        main(["fit", cutouts, "--out", str(tmp_path / "sky.skastro")])
    assert f"Nothing can be written to {tmp_path} (Permission denied): give another --out." in capsys.readouterr().err


def test_a_broken_image_is_an_empty_row_if_that_is_asked_for(cutouts, tmp_path):
    images, model = np.load(cutouts), str(tmp_path / "model.skastro")
    save(FixedImageEmbedder("test_resnet", random_state=0).fit(images), model)
    images[17, 0, 0, 0] = np.nan
    np.save(cutouts, images)
    with pytest.raises(SystemExit):
        main(["embed", model, cutouts, "--out", str(tmp_path / "rows.npy")])
    with pytest.warns(UserWarning, match="1 of 40 rows are NaN, the first are 17"):
        main(["embed", model, cutouts, "--out", str(tmp_path / "rows.npy"), "--invalid", "nan"])
    assert np.flatnonzero(np.isnan(np.load(tmp_path / "rows.npy")).any(axis=1)).tolist() == [17]


def test_words_of_repeated_options_add_up(cutouts, tmp_path):
    model = str(tmp_path / "sky.skastro")
    apart = [word for pair in ("batch_size=16", "encoder=test_resnet", "max_epochs=1") for word in ("--set", pair)]
    main(["fit", cutouts, "--method", "simclr", "--out", model, *apart])
    embedder = load(model)
    assert (embedder.encoder, embedder.max_epochs, embedder.batch_size) == ("test_resnet", 1, 16)


@pytest.mark.parametrize("suffix", [".parquet", ".zarr"])
def test_what_embed_writes_is_explored(cutouts, tmp_path, suffix):
    pytest.importorskip(suffix[1:].replace("parquet", "pyarrow"), reason="needs the extra")
    model, rows, page = (str(tmp_path / name) for name in ("sky.skastro", f"rows{suffix}", "page.html"))
    save(FixedImageEmbedder("test_resnet", random_state=0).fit(np.load(cutouts)), model)
    main(["embed", model, cutouts, "--out", rows])
    main(["explore", rows, cutouts, "--method", "pca", "--out", page])
    written = Path(page).read_text()
    main(["explore", model, cutouts, "--method", "pca", "--out", page])
    assert Path(page).read_text() == written


def test_an_interrupted_fit_keeps_what_was_learned(cutouts, tmp_path, monkeypatch, capsys):
    def interrupt(self, net, **kwargs):
        if len(net.history) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "on_epoch_begin", interrupt)
    for name, further in (("alone", []), ("resumed", ["--checkpoint", str(tmp_path / "run")])):
        model = tmp_path / f"{name}.skastro"
        with pytest.raises(SystemExit, match="130"):
            main(["fit", cutouts, "--out", str(model), *further, *FEW, "max_epochs=5"])
        assert model.exists() is not bool(further)
    assert "what was learned until now" in capsys.readouterr().out
    assert len(load(tmp_path / "alone.skastro").history_["loss"]) == 2


def test_cutouts_of_any_size_are_cut_to_one(tmp_path):
    fits = pytest.importorskip("astropy.io.fits", reason="needs the extra files")
    (tmp_path / "cutouts").mkdir()
    for place, side in enumerate(np.resize([36, 40, 41], 18)):
        fits.writeto(tmp_path / "cutouts" / f"{place:02}.fits", np.random.default_rng(place).normal(size=(side, side)))
    files, model, rows = (str(tmp_path / name) for name in ("cutouts", "sky.skastro", "rows.npy"))
    main(["fit", files, "--size", "32", "--out", model, *FEW])
    main(["embed", model, files, "--size", "32", "--columns", "filenames", "--out", rows])
    assert len(np.load(rows)) == len(pd.read_csv(tmp_path / "rows.csv")) == 18


def test_arrays_keep_what_is_outside_the_window_for_fit(cutouts, tmp_path, capsys):
    model, rows = str(tmp_path / "sky.skastro"), tmp_path / "rows.npy"
    main(["fit", cutouts, "--size", "16", "--out", model, *FEW])
    assert "of shape (3, 32, 32)" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["embed", model, cutouts, "--size", "12", "--out", str(rows)])
    assert "12 × 12 pixels are smaller than the window of 16 × 16" in capsys.readouterr().err


def test_arrays_of_the_file_go_along(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the extra hdf5")
    with h5py.File(tmp_path / "sky.h5", "w") as file:
        file["images"] = np.random.default_rng(0).normal(size=(12, 3, 32, 32)).astype(np.float32)
        file["object_id"], file["ra"] = np.arange(12), np.linspace(0, 1, 12)
    model, rows = str(tmp_path / "sky.skastro"), tmp_path / "rows.parquet"
    main(["fit", str(tmp_path / "sky.h5"), "--out", model, *FEW])
    main(["embed", model, str(tmp_path / "sky.h5"), "--columns", "object_id", "ra", "--out", str(rows)])
    table = pd.read_parquet(rows)
    assert list(table) == ["object_id", "ra", "embedding"]
    assert table["object_id"].tolist() == list(range(12))


def test_images_on_disk_are_explored(tmp_path, capsys):
    h5py = pytest.importorskip("h5py", reason="needs the extra hdf5")
    with h5py.File(tmp_path / "sky.h5", "w") as file:
        file["images"] = np.random.default_rng(0).normal(size=(12, 4, 32, 32)).astype(np.float32)
        file["object_id"], file["ra"], file["dec"] = np.arange(12), np.linspace(0, 1, 12), np.zeros(12)
    model, sky, page = (str(tmp_path / name) for name in ("sky.skastro", "sky.h5", "page.html"))
    main(["fit", sky, "--out", model, *FEW])
    given = ["--ids", "object_id", "--ra", "ra", "--dec", "dec", "--columns", "ra", "--labels", "ring"]
    given += ["--bands", "2", "1", "0", "--method", "pca", "--out"]
    main(["explore", model, sky, *given, page])
    assert f"{page}: 12 objects" in capsys.readouterr().out
    expected = explore(
        load(model),
        np.array(open_images(sky)),
        ids=np.arange(12),
        ra=np.linspace(0, 1, 12),
        dec=np.zeros(12),
        columns={"ra": np.linspace(0, 1, 12)},
        labels=["ring"],
        bands=[2, 1, 0],
        title="sky",
        method="pca",
        path=tmp_path / "expected.html",
    )
    assert Path(page).read_text() == expected.read_text()
    np.save(tmp_path / "rows.npy", load(model).transform(np.array(open_images(sky))))
    main(["explore", str(tmp_path / "rows.npy"), sky, *given, page])
    assert Path(page).read_text() == expected.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explore", "{there}", "{cutouts}", "--out", "nowhere/page.html"], "There is no folder nowhere to write page"),
        (["explore", "{there}", "{cutouts}", "--out", "page.html", "--ra", "ra"], "There is no 'ra' beside"),
        (["fit", "nowhere.h5", "--out", "new.skastro"], "nowhere.h5"),
        (["fit", "{cutouts}", "--out", "{there}"], "is there already: remove it, or give another name"),
        (["fit", "{cutouts}", "--out", "nowhere/new.skastro"], "There is no folder nowhere to write new.skastro to"),
        (
            ["fit", "{cutouts}", "--out", "new.skastro", "--set", "max_epochs"],
            "--set takes NAME=VALUE; got",
        ),
        (["explore", "{fitted}", "{cutouts}", "--out", "page.html", "--bands", "9"], "but the images have 3"),
        (
            ["embed", "{fitted}", "{cutouts}", "--out", "a.npy", "--method", "predict"],
            "has no predict; it has",
        ),
        (["info", "."], "is a folder, and no file that skastro.save wrote"),
        (["fit", "{cutouts}", "--out", "new.skastro", "--set", "colour=blue"], "Invalid parameter 'colour'"),
        (["fit", "nowhere", "--out", "new.skastro", "--set", "avrage=dihedral"], "Invalid parameter 'avrage'"),
        (["fit", "nowhere", "--out", "new.skastro", "--set", "lr=-1"], "The 'lr' parameter"),
        (["fit", "{cutouts}", "--out", "new.skastro", "--method", "simclear"], "invalid choice: 'simclear'"),
        (["embed", "nowhere.skastro", "{cutouts}", "--out", "rows.npy"], "nowhere.skastro"),
        (["embed", "{there}", "{cutouts}", "--out", "rows.npy"], "{there}"),
    ],
)
def test_files_that_cannot_be_used_are_one_sentence(cutouts, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.skastro").touch()
    if "{fitted}" in arguments:
        save(FixedImageEmbedder("test_resnet").fit(np.load(cutouts)), "fitted.skastro")
    words = {"{cutouts}": cutouts, "{there}": "there.skastro", "{fitted}": "fitted.skastro"}
    with pytest.raises(SystemExit) as stopped:
        main([words.get(word, word) for word in arguments])
    assert stopped.value.code == 2
    assert words.get(message, message) in capsys.readouterr().err.splitlines()[-1]
