from concurrent.futures import ThreadPoolExecutor

import pytest

from skastro.unfinished import replacing


def full(*args):
    raise OSError("No space left on device")


def write(path, text, then=lambda: None):
    with replacing(path) as partial:
        partial.write_text(text)
        then()


@pytest.mark.parametrize("former", [None, "former"])
@pytest.mark.parametrize("place", [None, "os.fsync", "os.replace"])
def test_a_file_is_the_former_one_or_the_new_one(tmp_path, monkeypatch, former, place):
    path = tmp_path / "rows.npy"
    if former:
        write(path, former)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        write(path, "new", (lambda: patch.setattr(place, full)) if place else full)
    assert [file.read_text() for file in tmp_path.iterdir()] == [former] * bool(former)
    write(path, "new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["new"]


def test_two_that_write_one_file_have_each_a_place_of_their_own(tmp_path):
    path = tmp_path / "rows.npy"
    with ThreadPoolExecutor(1) as other:
        write(path, "mine", lambda: other.submit(write, path, "theirs").result())
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]
