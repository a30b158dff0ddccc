"""Laws of the MiraBest loader, on a made-up release and on the real one."""

import pickle

import numpy as np
import pytest

from skastro.datasets import load_mirabest

CODES = (100, 102, 104, 110, 112, 200, 201, 210, 300, 310)


def _batch(labels, seed=0):
    names = [f"{CODES[label]}_{10.5 + i:07.3f}-00{i}.250_0.1{i}00_00{i}0.50.png" for i, label in enumerate(labels)]
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 22500), np.uint8)
    return {"data": images, "labels": list(labels), "filenames": names, "batch_label": "a batch"}


@pytest.fixture
def release(tmp_path):
    for name, labels in {"data_batch_1": range(5), "data_batch_2": range(5, 8), "test_batch": (8, 9, 0)}.items():
        (tmp_path / name).write_bytes(pickle.dumps(_batch(labels), protocol=2))
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": CODES}))
    return tmp_path


def test_fields(release):
    mirabest = load_mirabest(release, hybrids=True)
    assert mirabest.images.shape == (11, 1, 150, 150)
    assert mirabest.images.dtype == np.uint8
    np.testing.assert_array_equal(mirabest.images[0].ravel(), _batch(range(5))["data"][0])
    assert mirabest.code.tolist() == [*CODES, 100]
    assert mirabest.target.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 0]
    assert list(mirabest.target_names) == ["FRI", "FRII", "hybrid"]
    assert mirabest.confident.tolist() == [True, True, True, False, False, True, True, False, True, False, True]
    assert list(mirabest.batch) == ["data_batch_1"] * 5 + ["data_batch_2"] * 3 + ["test_batch"] * 3
    assert mirabest.filename[1] == "102_011.500-001.250_0.1100_0010.50.png"
    assert [mirabest[name][1] for name in ("ra", "dec", "redshift", "las_arcsec")] == [11.5, -1.25, 0.11, 10.5]
    assert mirabest.bands == ("1.4 GHz",)
    assert mirabest.pixel_scale == 1.8
    assert "Porter" in mirabest.DESCR


def test_subsets_part_the_whole(release):
    every, sure, unsure = (load_mirabest(release, subset=name).code for name in ("all", "confident", "uncertain"))
    assert sure.tolist() == [100, 102, 104, 200, 201, 100]
    assert unsure.tolist() == [110, 112, 210]
    assert sorted([*sure, *unsure]) == sorted(every)
    assert list(load_mirabest(release).target_names) == ["FRI", "FRII"]


def test_one_batch_alone(release):
    assert load_mirabest(release / "data_batch_2").target.tolist() == [1, 1, 1]


def test_subset_without_any_source_is_empty(release):
    assert load_mirabest(release / "data_batch_1", subset="confident").images.shape == (3, 1, 150, 150)
    assert load_mirabest(release / "test_batch", subset="uncertain").images.shape == (0, 1, 150, 150)


@pytest.mark.parametrize(
    "change",
    [
        {"data": np.zeros((3, 7), np.uint8)},
        {"data": np.full((3, 22500), 0.5)},
        {"labels": [5, 6]},
        {"labels": [5, 6, 10]},
        {"labels": ["a", "b", "c"]},
        {"filenames": []},
        {"filenames": 3},
        {"filenames": ["a" * 256, "b", "c"]},
        {"labels": [5, 6, 2**63]},
    ],
)
def test_other_layouts_are_refused(tmp_path, change):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(_batch((5, 6, 7)) | change))
    with pytest.raises(ValueError, match="data_batch_1 is not laid out as a batch of MiraBest"):
        load_mirabest(tmp_path)


@pytest.mark.parametrize("content", [[1, 2], {"data": np.zeros((1, 22500), np.uint8)}, 3])
def test_other_pickles_are_refused(tmp_path, content):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="data_batch_1 is not laid out as a batch of MiraBest"):
        load_mirabest(tmp_path)


def test_other_file_names_are_refused(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(_batch((5,)) | {"filenames": [b"cat.png"]}))
    with pytest.raises(ValueError, match=r"cat\.png is no file name of MiraBest"):
        load_mirabest(tmp_path)


class Payload:
    def __reduce__(self):
        return print, ("never",)


def test_code_in_a_batch_is_not_run(release, capsys):
    (release / "data_batch_1").write_bytes(pickle.dumps(_batch((5,)) | {"labels": Payload()}))
    with pytest.raises(pickle.UnpicklingError, match=r"data_batch_1 was not read: it asks for builtins\.print"):
        load_mirabest(release)
    assert capsys.readouterr().out == ""


def test_folder_without_batches_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds neither"):
        load_mirabest(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        load_mirabest(tmp_path / "absent.npz")


def test_unknown_subset_is_refused(release):
    with pytest.raises(ValueError, match="The 'subset' parameter of load_mirabest"):
        load_mirabest(release, subset="sure")


@pytest.fixture(scope="module")
def archive(shared_data):
    with np.load(shared_data / "mirabest.npz") as arrays:
        return dict(arrays)


def test_real_archive(shared_data, archive):
    mirabest = load_mirabest(shared_data / "mirabest.npz", hybrids=True)
    np.testing.assert_array_equal(mirabest.images[:, 0], archive["images"])
    np.testing.assert_array_equal(mirabest.target, archive["fr_class"])
    np.testing.assert_array_equal(mirabest.confident, archive["confident"])
    np.testing.assert_array_equal(mirabest.code.astype(str), archive["label10_names"][archive["label10"]])
    for name in ("redshift", "las_arcsec", "ra", "dec"):
        np.testing.assert_allclose(mirabest[name], archive[name], rtol=1e-6, err_msg=name)


def test_published_counts(shared_data):
    confident = load_mirabest(shared_data, subset="confident")
    assert len(confident.target) == 833
    assert (confident.batch == "test_batch").sum() == 104
    assert len(load_mirabest(shared_data).target) == 1256 - 34


def test_release_and_archive_agree(tmp_path, shared_data, archive):
    for name in np.unique(archive["batch"]):
        rows = archive["batch"] == name
        batch = {
            b"data": archive["images"][rows].reshape(-1, 22500),
            b"labels": archive["label10"][rows].tolist(),
            b"filenames": [name.encode() for name in archive["filename"][rows]],
        }
        (tmp_path / name).write_bytes(pickle.dumps(batch))
    released, archived = load_mirabest(tmp_path, hybrids=True), load_mirabest(shared_data, hybrids=True)
    order = np.argsort(archived.batch, kind="stable")
    for name in ("images", "target", "code", "redshift", "las_arcsec", "ra", "dec", "batch", "filename"):
        np.testing.assert_array_equal(released[name], archived[name][order], err_msg=name)
