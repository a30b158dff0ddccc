"""Sources behave like the arrays that they hold, in every format; what is wrong with a file is one sentence."""

import multiprocessing
import os
import pickle
import sys
import weakref
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import h5py
import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

from skastro.datasets import load_images, open_images, open_spectra
from skastro.datasets.disk import HDF5Files, NpyFile, ParquetFiles, opened
from skastro.datasets.disk.arrow import ParquetReader
from skastro.datasets.disk.hdf5 import HDF5Reader
from skastro.datasets.disk.npy import NpyReader
from skastro.sources import Source

N, SHAPE = 23, (3, 14, 12)
RNG = np.random.default_rng(0)
PIXELS = RNG.normal(size=(N, *SHAPE)).astype(np.float32)
BYTES = RNG.integers(0, 256, (N, *SHAPE)).astype(np.uint8)
REDSHIFT = RNG.random(N)


def nested(values):
    """Lists of lists of numbers, as Arrow has them."""
    array = pa.array(values.ravel())
    for length in values.shape[:0:-1]:
        array = pa.ListArray.from_arrays(pa.array(np.arange(0, len(array) + 1, length, dtype=np.int32)), array)
    return array


def stein(folder):
    path = folder / "images_npix152_000000000_001000000.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=PIXELS, chunks=(4, *SHAPE))
        file["z_spec"] = file["ra"] = REDSHIFT
        file["inds"] = np.arange(N)
    return open_images(path), PIXELS


def multimodal_universe_1(folder):
    for part, rows in enumerate(np.array_split(np.arange(N), 3)):
        (folder / f"healpix={part}").mkdir()
        with h5py.File(folder / f"healpix={part}" / "001-of-001.hdf5", "w") as file:
            file.create_dataset("image_array", data=PIXELS[rows], chunks=(2, *SHAPE), compression="lzf")
            file.create_dataset("image_ivar", data=np.abs(PIXELS[rows]), chunks=(2, *SHAPE), compression="lzf")
            file["image_mask"] = PIXELS[rows] > 0
            file["image_band"] = np.full((len(rows), 3), b"g")
            file["object_id"] = rows
            file["z_spec"] = REDSHIFT[rows]
    return open_images(folder), PIXELS


def multimodal_universe_2(folder):
    for part, rows in enumerate(np.array_split(np.arange(N), 2)):
        place = folder / "dataset" / "Norder=1" / f"Npix={part}.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        bands = pa.array([["g", "r", "z"]] * len(rows))
        image = pa.StructArray.from_arrays(
            [bands, nested(PIXELS[rows]), nested(np.abs(PIXELS[rows]))], ["band", "flux", "ivar"]
        )
        table = pa.table({"image": image, "object_id": rows, "z_spec": REDSHIFT[rows]})
        pq.write_table(table, place, row_group_size=5)
    (folder / "dataset" / "_metadata").write_bytes(b"")
    return open_images(folder), PIXELS


def astroclip(folder):
    with h5py.File(folder / "train.h5", "w") as file:
        for group, rows in enumerate(np.array_split(np.arange(N), 11)):
            images = np.moveaxis(PIXELS[rows], 1, -1)
            file[f"{group}/images"] = images
            file[f"{group}/spectra"] = PIXELS[rows].reshape(len(rows), -1)
            file[f"{group}/z_spec"] = REDSHIFT[rows]
            file[f"{group}/targetids"] = rows
    return open_images(folder / "train.h5"), PIXELS


def hayat(folder):
    with h5py.File(folder / "sdss.h5", "w") as file:
        file["images"] = PIXELS.astype(">f8")
        file["e_bv"] = np.ones((N, 5))
        file["z_spec"] = REDSHIFT
    return open_images(folder / "sdss.h5"), PIXELS


def galaxy10(folder):
    with h5py.File(folder / "Galaxy10_DECals.h5", "w") as file:
        file["images"] = np.moveaxis(BYTES, 1, -1)
        file["ans"] = np.arange(N) % 10
        file["z_spec"] = REDSHIFT
    return open_images(folder / "Galaxy10_DECals.h5"), BYTES


def zoobot(folder):
    for row, pixels in enumerate(BYTES):
        Image.fromarray(np.moveaxis(pixels, 0, -1)).save(folder / f"J{row:03d}.png")
    return open_images(folder), BYTES


def zoobot_table(folder):
    zoobot(folder)
    return open_images([folder / f"J{row:03d}.png" for row in range(N)]), BYTES


def npy(folder):
    np.save(folder / "cutouts.npy", PIXELS)
    return open_images(folder / "cutouts.npy"), PIXELS


def zarr_of(version):
    def write(folder):
        group = zarr.open_group(folder / "sky.zarr", mode="w", zarr_format=version)
        group.create_array("images", data=PIXELS, chunks=(4, *SHAPE))
        group.create_array("z_spec", data=REDSHIFT)
        return open_images(folder / "sky.zarr"), PIXELS

    write.__name__ = f"zarr_{version}"
    return write


def zarr_sharded(folder):
    group = zarr.open_group(folder / "sky.zarr", mode="w", zarr_format=3)
    group.create_array("images", data=PIXELS, chunks=(2, *SHAPE), shards=(8, *SHAPE))
    group.create_array("z_spec", data=REDSHIFT)
    return open_images(folder / "sky.zarr"), PIXELS


def zarr_alone(folder):
    zarr.save_array(folder / "sky.zarr", PIXELS)
    return open_images(folder / "sky.zarr"), PIXELS


def fixed_size_lists(folder):
    column = pa.FixedSizeListArray.from_arrays(pa.array(PIXELS.ravel()), int(np.prod(SHAPE)))
    table = pa.table({"cutout": column, "z_spec": REDSHIFT})
    pq.write_table(table, folder / "sky.parquet", row_group_size=7)
    return open_images(folder / "sky.parquet", image_shape=SHAPE), PIXELS


def tensors(folder):
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(PIXELS)
    pq.write_table(pa.table({"cutout": column, "z_spec": REDSHIFT}), folder / "sky.parquet", row_group_size=7)
    return open_images(folder / "sky.parquet"), PIXELS


def hugging_face(folder):
    for part, rows in enumerate(np.array_split(np.arange(N), 2)):
        table = pa.table({"image": nested(PIXELS[rows]), "z_spec": REDSHIFT[rows]})
        with pa.ipc.new_stream(str(folder / f"data-{part:05d}-of-00002.arrow"), table.schema) as stream:
            stream.write_table(table, max_chunksize=4)
    (folder / "state.json").write_text("{}")
    return open_images(folder), PIXELS


FORMATS = [
    stein,
    multimodal_universe_1,
    multimodal_universe_2,
    astroclip,
    hayat,
    galaxy10,
    zoobot,
    zoobot_table,
    npy,
    zarr_of(2),
    zarr_of(3),
    zarr_sharded,
    zarr_alone,
    fixed_size_lists,
    tensors,
    hugging_face,
]
WITHOUT_COLUMNS = (zoobot, zoobot_table, npy, zarr_alone)


@pytest.fixture(params=FORMATS, ids=lambda make: make.__name__)
def made(request, tmp_path):
    return request.param, *request.param(tmp_path)


def read_in_child(source, queue):
    queue.put(np.asarray(source[[5, 1]]))


def test_a_source_is_like_its_array(made):
    _, source, pixels = made
    assert (source.shape, source.ndim, len(source), source.size) == (pixels.shape, 4, N, pixels.size)
    assert source.dtype.kind == pixels.dtype.kind
    assert np.array_equal(source, pixels)
    assert np.array_equal(source[3], pixels[3])
    assert np.array_equal(source[-1], pixels[-1])
    mask, twice = np.arange(N) % 3 == 0, RNG.integers(-N, N, 2 * N)
    keys = (slice(None, None, -2), slice(2, 2), [4, 0, 4, -1], mask, twice, np.array([], int), slice(-5, None))
    for key in keys:
        some = source[key]
        assert isinstance(some, Source)
        assert some.shape == pixels[key].shape
        assert np.array_equal(some, pixels[key])
        assert np.array_equal(some[::-1], pixels[key][::-1])
        assert np.array_equal(source[key, ...], pixels[key])
    assert np.array_equal(source[1:20][::3][[2, 0, 2]], pixels[1:20][::3][[2, 0, 2]])
    assert np.array_equal(source[twice][mask][:4], pixels[twice[:N]][mask][:4]) if len(twice) == N else True
    assert np.array_equal(list(source[:2]), pixels[:2])


@pytest.mark.parametrize("key", [(slice(None), np.array([0, 2])), (slice(None), [0, 2]), (0, 1)])
def test_bands_are_not_an_index(tmp_path, key):
    source, _ = npy(tmp_path)
    with pytest.raises(IndexError, match="A source is indexed by rows alone"):
        source[key]


def test_a_sample_is_of_whole_chunks(made):
    _, source, pixels = made
    some = source.sample(7, random_state=0)
    assert (some.rows == source.sample(7 / N, random_state=0).rows).all()
    np.testing.assert_array_equal(np.asarray(some), pixels[some.rows])
    chunks = np.searchsorted(source.reader.starts(), some.rows, side="right")
    whole = np.searchsorted(source.reader.starts(), np.arange(N), side="right")
    cut = [chunk for chunk in np.unique(chunks) if np.sum(chunks == chunk) < np.sum(whole == chunk)]
    assert len(cut) <= 1
    assert len({tuple(source.sample(7, random_state=seed).rows) for seed in range(9)}) > 1 or len(np.unique(whole)) == 1
    assert len(some.sample(3)) == 3
    for n in (0, N + 1, -0.5):
        with pytest.raises(ValueError, match="n must be from 1 to the 23 rows"):
            source.sample(n)


def test_companions_go_with_the_rows(made):
    make, source, _ = made
    if make in WITHOUT_COLUMNS:
        return
    assert "z_spec" in source.companions
    assert np.array_equal(source.column("z_spec"), REDSHIFT)
    assert np.array_equal(source[[7, 2, 7]].column("z_spec"), REDSHIFT[[7, 2, 7]])
    with pytest.raises(KeyError, match=r"There is no 'votes' beside .*; there are .*z_spec"):
        source.column("votes")


def test_pickles_are_small_and_equal_where_the_rows_are(made):
    make, source, pixels = made
    few = source[3:9:2]
    files = {multimodal_universe_1: 3, multimodal_universe_2: 2, astroclip: 11, hugging_face: 2}
    assert len(pickle.dumps(few)) < 1000 * files.get(make, 1)
    again = pickle.loads(pickle.dumps(few))
    assert np.array_equal(again, pixels[3:9:2])
    assert joblib.hash(again) == joblib.hash(few) == joblib.hash(source[3:9:2])
    assert joblib.hash(source[3:10:2]) != joblib.hash(few)
    twice = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(source[[9, 2, 9, 4]]))[[0, 3, 1, 2]]))
    assert np.array_equal(twice, pixels[[9, 4, 2, 9]])


def test_threads_read_the_same(made):
    _, source, pixels = made
    orders = [np.random.default_rng(seed).permutation(N) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for order, came in zip(orders, pool.map(lambda order: np.asarray(source[order]), orders), strict=True):
            assert np.array_equal(came, pixels[order])


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("make", [stein, zarr_of(3), npy, tensors], ids=lambda make: make.__name__)
def test_a_forked_child_opens_the_file_itself(make, tmp_path):
    source, pixels = make(tmp_path)
    assert np.array_equal(source[[2]], pixels[[2]])
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=read_in_child, args=(source, queue))
    child.start()
    assert np.array_equal(queue.get(timeout=20), pixels[[5, 1]])
    child.join()
    assert np.array_equal(source[[3]], pixels[[3]])


def test_bands_size_rows_and_ivar(tmp_path):
    images, _ = multimodal_universe_1(tmp_path)
    some = open_images(tmp_path, "image_array", bands=[2, 0], size=6, rows=np.arange(N) > 10)
    assert np.array_equal(some, PIXELS[11:, [2, 0], 4:10, 3:9])
    assert np.array_equal(some.beside("image_ivar"), np.abs(PIXELS)[11:, [2, 0], 4:10, 3:9])
    with pytest.raises(ValueError, match=r"Images of 14 × 12 pixels have fewer than size=13"):
        open_images(tmp_path, "image_array", size=13)
    with pytest.raises(IndexError, match="indexed by rows alone"):
        images[:, 0]
    with pytest.raises(IndexError, match=f"There is no row 40 of {N}"):
        images[[1, 40]]
    with pytest.raises(IndexError, match="A mask of shape"):
        images[[True, False]]
    with pytest.raises(IndexError, match="chosen by an int"):
        images["g"]
    assert "001-of-001.hdf5" in repr(images)


def test_missing_pixels_are_filled(tmp_path):
    flux = PIXELS.copy()
    flux[1, 0, 2, 3], flux[2, 1, 0, 0], flux[3, 2] = np.nan, -999, np.inf
    np.save(tmp_path / "flux.npy", flux)
    zeroed = np.asarray(open_images(tmp_path / "flux.npy", fill=0, missing=-999))
    expected = np.where(np.isfinite(flux) & (flux != -999), flux, 0)
    assert np.array_equal(zeroed, expected)
    middle = np.asarray(open_images(tmp_path / "flux.npy", fill="median", missing=[-999.0], rows=[2]))
    assert middle[0, 1, 0, 0] == np.float32(np.median(flux[2, 1].ravel()[1:]))
    marked = np.asarray(open_images(tmp_path / "flux.npy", missing=-999))
    assert np.isnan(marked[2, 1, 0, 0])
    with pytest.raises(ValueError, match="a band without one finite pixel"):
        np.asarray(open_images(tmp_path / "flux.npy", fill="median"))
    np.save(tmp_path / "counts.npy", BYTES)
    counts = open_images(tmp_path / "counts.npy", missing=0, fill="median")
    assert counts.dtype == np.float32
    assert np.asarray(counts).min() > 0
    assert open_images(tmp_path / "counts.npy", fill=0).dtype == np.uint8


def test_spectra(tmp_path):
    astroclip(tmp_path)
    spectra = open_spectra(tmp_path / "train.h5", rows=slice(None, None, 2))
    assert np.array_equal(spectra, PIXELS.reshape(N, -1)[::2])
    assert np.array_equal(spectra.column("targetids"), np.arange(0, N, 2))
    np.save(tmp_path / "flux.npy", np.where(PIXELS.reshape(N, -1) > 1, -1, 0))
    assert np.isnan(open_spectra(tmp_path / "flux.npy", missing=-1)).any()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*gone\.h5"):
        open_images(tmp_path / "gone.h5")
    source, _ = stein(tmp_path)
    os.remove(source.reader.path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        source[0]


def test_a_key_that_is_not_there_and_one_to_choose(tmp_path):
    stein(tmp_path)
    path = next(tmp_path.glob("*.h5"))
    with pytest.raises(KeyError, match=r"There is no 'image' in .*; there are images, inds, ra, z_spec"):
        open_images(path, "image")
    with pytest.raises(ValueError, match=r"No array of .* looks like spectra: give key=, one of images, inds"):
        open_spectra(path)
    with h5py.File(path, "a") as file:
        file["other"] = PIXELS
    with pytest.raises(ValueError, match=r"2 arrays of .* look like images: give key=, one of images, inds, other"):
        open_images(path)
    assert open_images(path, "other").shape == PIXELS.shape
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(ValueError, match=r"notes\.txt does not end in one of \.h5|does not end in one of"):
        open_images(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("make", "ending"),
    [
        (make, end)
        for make, kind in ((stein, HDF5Files), (npy, NpyFile), (tensors, ParquetFiles))
        for end in kind.endings
    ],
)
def test_every_ending_is_known_alone_and_in_a_folder_in_capitals_too(make, ending, tmp_path):
    make(tmp_path)
    (path,) = tmp_path.iterdir()
    for name in (f"sky{ending}", f"SKY{ending.upper()}"):
        path = path.rename(tmp_path / name)
        np.testing.assert_array_equal(open_images(path)[:2], PIXELS[:2])
        if make is not npy:
            (tmp_path / f".hidden{ending}").write_bytes(b"cut short")
            np.testing.assert_array_equal(open_images(tmp_path)[:2], PIXELS[:2])


@pytest.mark.parametrize("make", [stein, npy, tensors], ids=lambda make: make.__name__)
def test_a_file_cut_short(make, tmp_path):
    make(tmp_path)
    path = next(path for path in tmp_path.iterdir() if path.is_file())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be opened, perhaps cut short"):
        open_images(path)


def test_a_chunk_damaged_in_the_middle(tmp_path):
    path = tmp_path / "sky.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=PIXELS, chunks=(4, *SHAPE), fletcher32=True)
        info = file["images"].id.get_chunk_info(2)
    with path.open("r+b") as raw:
        raw.seek(info.byte_offset + 20)
        raw.write(b"\xff" * 8)
    source = open_images(path)
    assert np.array_equal(source[:8], PIXELS[:8])
    with pytest.raises(ValueError, match=r"sky\.h5 \(images\): rows 8 to 11 cannot be read"):
        np.asarray(source)


def test_companions_of_another_length(tmp_path):
    stein(tmp_path)
    path = next(tmp_path.iterdir())
    with h5py.File(path, "a") as file:
        file["votes"] = np.zeros((N - 1, 4))
    source = open_images(path)
    with pytest.raises(ValueError, match=rf"\(votes\) has {N - 1} rows, .*\(images\) has {N}"):
        source.column("votes")


def test_cutouts_of_two_sizes(tmp_path):
    for name, side in (("a", 12), ("b", 14)):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(tmp_path / f"{name}.png")
    source = open_images(tmp_path)
    with pytest.raises(ValueError, match=r"b\.png has shape \(3, 14, 14\), the first file \(3, 12, 12\)"):
        np.asarray(source)
    assert np.asarray(open_images(tmp_path, size=12)).shape == (2, 3, 12, 12)
    images = pa.array([np.zeros((3, side, side)).tolist() for side in (5, 5, 6)])
    pq.write_table(pa.table({"image": images}), tmp_path / "sky.parquet")
    with pytest.raises(ValueError, match=r"row 2 holds lists of 6, the first row lists of 5"):
        np.asarray(open_images(tmp_path / "sky.parquet"))
    (tmp_path / "parts").mkdir()
    for part, pixels in enumerate((PIXELS, PIXELS[:, :, :13])):
        with h5py.File(tmp_path / "parts" / f"{part}.h5", "w") as file:
            file["images"] = pixels
    with pytest.raises(ValueError, match=r"has rows of shape \(3, 14, 12\), .* of \(3, 13, 12\): open them apart"):
        open_images(tmp_path / "parts")


@pytest.mark.parametrize("make", [stein, npy, zarr_of(3), tensors], ids=lambda make: make.__name__)
def test_a_file_that_changes(make, tmp_path):
    source, _ = make(tmp_path)
    assert source[0].shape == SHAPE
    os.utime(source.reader.watched, (1, 1))
    with pytest.raises(ValueError, match="has changed since it was opened: open it again"):
        source[1]


def test_a_folder_that_holds_other_files_is_refused_by_who_opens_it_later(tmp_path, monkeypatch):
    for place in range(1, 4):
        Image.fromarray(np.full((8, 8), place, np.uint8)).save(tmp_path / f"{place}.png")
    source = open_images(tmp_path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "0.png")
    assert np.asarray(source)[:, 0, 0, 0].tolist() == [1, 2, 3]
    monkeypatch.setattr(opened, "_files", OrderedDict())  # as in another process
    with pytest.raises(ValueError, match="holds other files than when it was opened: open it again"):
        np.asarray(pickle.loads(pickle.dumps(source)))


def test_a_reader_that_goes_while_another_comes_leaves_it_the_file(tmp_path, monkeypatch):
    source, _ = npy(tmp_path)
    readers = [source.reader, NpyReader(source.reader.path)]
    monkeypatch.setattr(opened, "_files", OrderedDict())
    monkeypatch.setattr(opened, "_users", {})
    opened.opened(readers[0])
    del source

    def late(*args):  # as the garbage collector may
        reference = weakref.ref(*args)
        if len(readers) > 1:
            del readers[0]
        return reference

    monkeypatch.setattr(opened, "weakref", SimpleNamespace(ref=late))
    assert len(opened.opened(readers[1])) == N
    assert len(opened._files) == 1


def test_a_list_without_files():
    with pytest.raises(ValueError, match="There are no files in the list"):
        open_images([])


@pytest.mark.parametrize("kinds", [("i8", "u8"), ("i8", "f4"), ("u1", "f4")], ids=" ".join)
@pytest.mark.parametrize("ending", ["h5", "parquet"])
def test_parts_without_a_common_type_are_refused(tmp_path, kinds, ending):
    for part, kind in enumerate(kinds):
        values, path = np.arange(2**60, 2**60 + 4).astype(kind), tmp_path / f"{part}.{ending}"
        if ending == "parquet":
            pq.write_table(pa.table({"image": nested(PIXELS[:4]), "object_id": values}), path)
            continue
        with h5py.File(path, "w") as file:
            file["image"], file["object_id"] = PIXELS[:4], values
    with pytest.raises(ValueError, match=r"0\.\w+ .object_id. holds \w+, .*1\.\w+ .object_id. .*: open them apart"):
        open_images(tmp_path).column("object_id")


def bands_of(pixels, names):
    return pa.StructArray.from_arrays([pa.array([list(names)] * len(pixels)), nested(pixels)], ["band", "flux"])


@pytest.mark.parametrize("files", [1, 2])
def test_bands_are_put_in_one_order_by_their_names(tmp_path, files):
    pieces = [bands_of(PIXELS[:10], "grz"), bands_of(PIXELS[10:, [1, 0, 2]], "rgz")]
    for part, piece in enumerate([pa.concat_arrays(pieces)] if files == 1 else pieces):
        pq.write_table(pa.table({"image": piece}), tmp_path / f"{part}.parquet", row_group_size=5)
    np.testing.assert_array_equal(open_images(tmp_path, "image.flux"), PIXELS)
    pq.write_table(pa.table({"image": bands_of(PIXELS, "giz")}), tmp_path / "2.parquet")
    with pytest.raises(ValueError, match=r"row 0 has the bands g, i, z, the first row g, r, z; all must have the same"):
        np.asarray(open_images(tmp_path, "image.flux"))


def test_a_folder_is_opened_by_the_rows_of_one_file(tmp_path, monkeypatch):
    multimodal_universe_2(tmp_path)
    looked, column = [], ParquetReader.column
    monkeypatch.setattr(ParquetReader, "column", lambda self, *rows: looked.append(self.path) or column(self, *rows))
    assert open_images(tmp_path).shape == PIXELS.shape
    assert len(looked) == 1


def test_a_row_without_an_image_does_not_tell_the_shape(tmp_path):
    images = pa.concat_arrays([pa.nulls(3, nested(PIXELS).type), nested(PIXELS)])
    pq.write_table(pa.table({"image": images}), tmp_path / "sky.parquet", row_group_size=2)
    source = open_images(tmp_path / "sky.parquet")
    np.testing.assert_array_equal(source[3:], PIXELS)
    with pytest.raises(ValueError, match="row 1 holds nothing, others lists of 3"):
        source[1]


def test_a_band_without_a_pixel_names_its_row(tmp_path):
    pixels = PIXELS.copy()
    pixels[7, 1] = np.nan
    np.save(tmp_path / "sky.npy", pixels)
    source = open_images(tmp_path / "sky.npy", fill="median")
    for rows in (slice(None), [20, 7]):
        with pytest.raises(ValueError, match=r"sky\.npy, row 7: An image has a band without one finite pixel"):
            np.asarray(source[rows])


def note_reads(reader, monkeypatch):
    """Note from now on what is read."""
    reads, read = [], reader.read
    monkeypatch.setattr(reader, "read", lambda self, *rows: reads.append(rows) or read(self, *rows))
    return reads


@pytest.mark.parametrize("parts", [1, 3])
def test_rows_that_lie_close_are_read_in_one_go(tmp_path, monkeypatch, parts):
    values = np.arange(3000.0)
    for part, rows in enumerate(np.array_split(np.arange(3000), parts)):
        with h5py.File(tmp_path / f"{part}.h5", "w") as file:
            file["images"], file["z"] = np.zeros((len(rows), 1, 2, 2)), values[rows]
    chosen = RNG.permutation(3000)[:800]
    source = open_images(tmp_path)[chosen]
    reads = note_reads(HDF5Reader, monkeypatch)
    np.testing.assert_array_equal(source.column("z"), values[chosen])
    assert len(reads) == parts


def test_rows_are_gone_through_block_by_block(made, monkeypatch):
    _, source, pixels = made
    reads = note_reads(type(source.reader), monkeypatch)
    np.testing.assert_array_equal([*source], pixels)
    assert len(reads) == -(-N // source.reader.block)


@pytest.mark.parametrize("version", [2, 3])
def test_chunks_that_are_not_there_are_told(tmp_path, version):
    zarr_of(version)(tmp_path)
    chunk = [path for path in (tmp_path / "sky.zarr" / "images").rglob("*") if path.is_file() and path.name[0] != "."]
    next(path for path in chunk if path.suffix != ".json").unlink()
    with pytest.warns(UserWarning, match=r"sky.zarr .images. has 5 of 6 chunks, and the others read as 0.0: they hold"):
        open_images(tmp_path / "sky.zarr")


def test_images_in_files_beside_a_table_are_told(tmp_path):
    zoobot(tmp_path)
    pq.write_table(pa.table({"object_id": np.arange(N)}), tmp_path / "catalog.parquet")
    with pytest.raises(ValueError, match=f"one of object_id. For the {N} images in files of their own give their list"):
        open_images(tmp_path)


@pytest.mark.parametrize(("kind", "read"), [("u1", "u1"), ("i2", "f4"), ("i4", "f8"), ("f4", "f4"), ("f8", "f4")])
def test_files_of_one_type_are_read_as_one_type(tmp_path, kind, read):
    fits = pytest.importorskip("astropy.io.fits", reason="needs astropy")
    values = np.arange(3 * 64).reshape(3, 8, 8).astype(kind)
    values[1:] += np.array(20_000_001 if kind == "i4" else 3, kind)
    for place, image in enumerate(values):
        fits.writeto(tmp_path / f"{place}.fits", image)
    source = open_images(tmp_path)
    assert source.dtype == np.dtype(read)
    np.testing.assert_array_equal(np.asarray(source)[:, 0], values)


def test_integers_that_are_not_there(tmp_path):
    label = pa.array([1, None, 3], pa.int64())
    pq.write_table(pa.table({"image": nested(PIXELS[:3]), "label": label}), tmp_path / "sky.parquet")
    with pytest.raises(ValueError, match="row 1 of 'label' holds nothing, which int64 has no value for"):
        open_images(tmp_path / "sky.parquet").column("label")


@pytest.mark.parametrize(
    ("make", "module", "extra"),
    [(stein, "h5py", "hdf5"), (zarr_of(3), "zarr", "zarr"), (tensors, "pyarrow", "parquet")],
)
def test_a_library_that_is_missing(make, module, extra, tmp_path, monkeypatch):
    make(tmp_path)
    path = next(tmp_path.iterdir())
    path.touch()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {module}: pip install skastro\[{extra}\]"):
        open_images(path)


def test_files_of_one_kind_open_in_any_order(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 255, size=(3, 8, 8, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[1, 2, 3, 3] = 0  # transparent: missing
    for place, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"{place}.png")
    held = open_images(tmp_path, fill=0)[0:3]
    assert held.dtype == np.uint8
    np.testing.assert_array_equal(held, load_images(tmp_path, fill=0).images)


def test_bands_are_chosen_by_a_mask_too(tmp_path):
    np.save(tmp_path / "sky.npy", PIXELS)
    np.testing.assert_array_equal(open_images(tmp_path / "sky.npy", bands=[True, False, True])[:], PIXELS[:, [0, 2]])


@pytest.mark.parametrize("bands", [[], [5], [-4], [True, False], ["g"], [0.5]])
def test_bands_that_are_not_there_are_refused(tmp_path, bands):
    np.save(tmp_path / "sky.npy", PIXELS)
    with pytest.raises(ValueError, match="does not choose among 3 bands: give numbers from 0 to 2"):
        open_images(tmp_path / "sky.npy", bands=bands)


def test_a_list_of_files_is_looked_through_when_it_is_opened(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    image.fromarray(BYTES[0, 0]).save(tmp_path / "a.png")
    there = str(tmp_path / "a.png")
    assert open_images([there, there.encode()]).shape[0] == 2
    with pytest.raises(FileNotFoundError, match=r"There is no file .*b\.png, which row 1 of path names"):
        open_images([there, tmp_path / "b.png"])
    with pytest.raises(ValueError, match="Row 1 of path holds nan, which is no path"):
        open_images([there, np.nan])
