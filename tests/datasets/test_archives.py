"""Laws of reading other people's archives: what is an array is read, and nothing is run."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from numpy._core.multiarray import _reconstruct

from skastro.datasets.archives import read_npz, read_pickle

ARRAYS = {
    "big": np.arange(6, dtype=">u2").reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "text": np.array(["α", "beta"]),
    "bytes": np.array([b"a", b"bc"]),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 4), np.float32),
}


def _written(tmp_path, content):
    file = tmp_path / "batch"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_every_protocol_are_read(tmp_path, name, protocol):
    array = read_pickle(_written(tmp_path, pickle.dumps(ARRAYS[name], protocol)))
    np.testing.assert_array_equal(array, ARRAYS[name])
    assert array.dtype == ARRAYS[name].dtype


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_containers_and_scalars_are_read(tmp_path, protocol):
    content = {
        "data": ARRAYS["big"],
        b"labels": [np.int64(3), 4, np.float32(0.5)],
        "names": np.array(["a", "b"], dtype=object),
        "more": (np.str_("x"), None, {"y": b"z"}),
    }
    read = read_pickle(_written(tmp_path, pickle.dumps(content, protocol)))
    np.testing.assert_array_equal(read.pop("data"), content["data"])
    assert read == {b"labels": [3, 4, 0.5], "names": ["a", "b"], "more": ("x", None, {"y": b"z"})}


def test_pickle_of_python_2_is_read(tmp_path):
    content = (
        b"\x80\x02}(U\x04dataq\x00cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x03\x01\x02\xfftbu."
    )
    np.testing.assert_array_equal(read_pickle(_written(tmp_path, content))["data"], [[1, 2, 255]])


class Touch:
    """Makes a file when unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return exec, (f"open({str(self.file)!r}, 'w').close()",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_foreign_code_is_refused_and_not_run(tmp_path, protocol):
    mark = tmp_path / "mark"
    file = _written(tmp_path, pickle.dumps({"data": Touch(mark)}, protocol))
    with pytest.raises(
        pickle.UnpicklingError, match=r"batch was not read: it asks for \w+\.exec, .* nothing in it was"
    ):
        read_pickle(file)
    assert not mark.exists()
    pickle.loads(file.read_bytes())
    assert mark.exists()  # so the file was dangerous


class ForgedType:
    """Says that its bytes are addresses of Python objects, and that NumPy need not take care of them."""

    def __reduce__(self):
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


class ForgedArray:
    def __reduce__(self):
        return _reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), ForgedType(), False, b"A" * 8)


def test_forged_addresses_are_refused(tmp_path):
    with pytest.raises(pickle.UnpicklingError, match="holds an array of object, neither numbers nor text"):
        read_pickle(_written(tmp_path, pickle.dumps(ForgedArray())))


def test_nothing_is_left_behind_by_a_file(tmp_path):
    # BUILD on the name itself, not on an instance, would set attributes on a shared class.
    with pytest.raises(pickle.UnpicklingError, match="was not read"):
        read_pickle(_written(tmp_path, b"\x80\x02cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb."))
    test_arrays_of_every_protocol_are_read(tmp_path, "big", 4)


@pytest.mark.parametrize("length", [0, 1, 40, 200, 300])
def test_cut_pickle_is_refused(tmp_path, length):
    with pytest.raises(pickle.UnpicklingError, match="batch was not read"):
        read_pickle(_written(tmp_path, pickle.dumps(ARRAYS)[:length]))


def shared(levels):
    value = [1]
    for _ in range(levels):
        value = [value, value]
    return value


def circle():
    value = []
    value.append(value)
    return value


LONG = pickle.dumps(["galaxy" * 1000] * 1000)
HOSTILE = {
    "shared lists": pickle.dumps(shared(40)),
    "a long text, often": LONG,
    "a circle": pickle.dumps(circle()),
    "deep": b"]" * 10_000 + b"a" * 9_999 + b".",
    "a memo of gigabytes": b"\x80\x02Nr\xff\xff\xff\x0f.",
    "a memo of gigabytes, in text": b"Np999999999\n.",
    "a frame beyond the end": b"\x80\x04\x95\xff\xff\xff\xff\xff\x00\x00\x00N.",
    "bytes beyond the end": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00N.",
    "keys that collide": pickle.dumps({number * (2**61 - 1): 0 for number in range(99)}),
    "an instance of Python 2": b"(ios\nsystem\n.",
    "a set": pickle.dumps({1}, 4),
    "a copy of the top": b"K\x012.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_and_memory_beyond_the_length_are_refused(tmp_path, name):
    with pytest.raises(pickle.UnpicklingError, match="batch was not read"):
        read_pickle(_written(tmp_path, HOSTILE[name]))


def test_what_is_named_often_is_read(tmp_path):
    labels = ["confident wide-angle tail"] * 1000
    assert read_pickle(_written(tmp_path, pickle.dumps(labels))) == labels


def test_text_of_python_2_is_read(tmp_path):
    assert read_pickle(_written(tmp_path, b"(S'\\xff\\n'\nS\"it's\"\nl.")) == ["ÿ\n", "it's"]


def test_missing_files_are_said_to_be_missing(tmp_path):
    for reader in (read_npz, read_pickle):
        with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
            reader(tmp_path / "absent.npz")


@pytest.fixture
def archive(tmp_path):
    np.savez_compressed(tmp_path / "sky.npz", flux=np.random.default_rng(0).random(999), wave=np.arange(3))
    return tmp_path / "sky.npz"


def test_named_arrays_are_read(archive):
    assert list(read_npz(archive, "wave")) == ["wave"]
    np.testing.assert_array_equal(read_npz(archive, "wave", "flux")["wave"], [0, 1, 2])


def test_lacking_arrays_are_named(archive):
    with pytest.raises(ValueError, match=r"sky\.npz lacks the arrays ivar, mask\."):
        read_npz(archive, "flux", "ivar", "mask")


def test_cut_archive_is_refused(archive):
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"sky\.npz is damaged or not an archive"):
        read_npz(archive, "flux")


def test_changed_byte_is_noticed(archive):
    content = bytearray(archive.read_bytes())
    content[500] ^= 255
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"sky\.npz is damaged or not an archive"):
        read_npz(archive, "flux")


def test_other_file_is_refused(archive):
    archive.write_text("nothing of the kind")
    with pytest.raises(ValueError, match=r"sky\.npz is damaged or not an archive"):
        read_npz(archive, "flux")


@pytest.mark.parametrize("shape", [(10**12,), (2,), ()])
def test_an_array_of_another_size_than_its_member_is_refused(tmp_path, shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": "<f8"})
    with zipfile.ZipFile(tmp_path / "sky.npz", "w") as archive:
        archive.writestr("flux.npy", file.getvalue() + bytes(24))
    with pytest.raises(ValueError, match=r"sky\.npz is damaged or not an archive"):
        read_npz(tmp_path / "sky.npz", "flux")


def test_python_objects_in_an_archive_are_refused(tmp_path):
    np.savez(tmp_path / "sky.npz", flux=np.array([Touch(tmp_path / "mark")], dtype=object))
    with pytest.raises(ValueError, match=r"sky\.npz is damaged or not an archive of plain arrays"):
        read_npz(tmp_path / "sky.npz", "flux")
    assert not (tmp_path / "mark").exists()
