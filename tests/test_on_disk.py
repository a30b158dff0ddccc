"""Images on disk go wherever images go, and give the numbers of those in memory."""

import tracemalloc

import h5py
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skastro import (
    AstroCLIPEmbedder,
    BYOLEmbedder,
    FineTuneClassifier,
    FixedImageEmbedder,
    FixedSpectrumEmbedder,
    HybridBYOLEmbedder,
    SimCLREmbedder,
    SpectrumEncoder,
    Training,
    VoteSchema,
    label_sweep,
    pixels,
    sources,
)
from skastro.augment import Augment, Flip, InverseVarianceNoise
from skastro.datasets import open_images, open_spectra
from skastro.training import Window, batches
from skastro.training.batches import ArrayDataset, BatchSampler, HeldBlocks

TINY = "test_resnet"
N = 48
IMAGES = np.random.default_rng(0).normal(size=(N, 3, 16, 16)).astype(np.float32)
LABELS = np.repeat([0, 1, 2], N // 3)  # sorted, as files of classes are
IMAGES[LABELS == 1] += 1.0
IMAGES[LABELS == 2, 0] *= 2.0
SETTINGS = {"encoder": TINY, "max_epochs": 2, "batch_size": 16, "random_state": 0, "device": "cpu"}


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "sky.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, chunks=(5, 3, 16, 16), compression="lzf")
        file["label"], file["flux"] = LABELS, IMAGES.reshape(N, -1)
        file["ivar"] = np.full(IMAGES.shape, 4.0)
    return tmp_path / "sky.h5"


@pytest.fixture
def source(path):
    return open_images(path)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1)


@pytest.fixture(scope="module")
def fitted():
    return BYOLEmbedder(**SETTINGS).fit(IMAGES)


def test_embedding_from_disk_is_that_from_memory(source, fitted):
    expected = fitted.transform(IMAGES)
    order = np.random.default_rng(1).permutation(N)
    assert np.array_equal(fitted.transform(source), expected)
    assert np.array_equal(fitted.transform(source[order[:20]]), fitted.transform(IMAGES[order[:20]]))
    assert np.array_equal(clone(fitted).set_params(training__workers=0).fit(source).transform(source), expected)


def test_rows_in_any_order_are_embedded_as_they_lie_and_few_blocks_are_held(source, fitted, small_blocks, monkeypatch):
    held, release = [], HeldBlocks.release

    def watched(blocks, batch):
        held.append(len(blocks._blocks))
        release(blocks, batch)

    monkeypatch.setattr(HeldBlocks, "release", watched)
    monkeypatch.setattr(batches, "WINDOW_BYTES", 0)
    order = np.random.default_rng(1).integers(N, size=N)
    fitted = clone(fitted).set_params(max_epochs=0, batch_size=4, training__workers=0).fit(IMAGES)
    rows = fitted.transform(source[order])
    np.testing.assert_allclose(rows, fitted.transform(IMAGES)[order], rtol=1e-4, atol=1e-5)
    assert max(held) <= 4  # of ten


def test_little_is_noted_of_each_row(tmp_path, small_blocks):
    n, given = 20_000, np.arange(20_000).reshape(-1, 1, 1, 1)
    np.save(tmp_path / "sky.npy", given)
    source = open_images(tmp_path / "sky.npy")
    plan = np.split(np.random.default_rng(0).permutation(n), 100)
    tracemalloc.start()
    blocks = HeldBlocks(source, plan)
    noted, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert noted / n < 50  # bytes
    for number, batch in enumerate(plan[:3]):
        assert np.array_equal(blocks[batch], given[batch])
        assert len(blocks._blocks) == len(batch)
        blocks.release(number)
        assert not blocks._blocks


def test_another_unit_is_told_from_disk_as_from_memory(tmp_path, fitted):
    with h5py.File(tmp_path / "sky.h5", "w") as file:
        file["images"] = IMAGES * 1e-5
    with pytest.warns(UserWarning, match="are these in another unit"):
        fitted.transform(open_images(tmp_path / "sky.h5"))


def test_a_fit_from_disk_is_that_from_memory(source, fitted):
    again = clone(fitted).fit(source)  # the window holds all
    assert np.array_equal(again.transform(IMAGES), fitted.transform(IMAGES))
    assert np.array_equal(again.history_["loss"], fitted.history_["loss"])


def test_numbers_do_not_depend_on_the_workers(source, small_blocks):
    fits = [
        BYOLEmbedder(**SETTINGS, training=Training(shuffle_window=10, workers=workers)).fit(source)
        for workers in (0, 1, 3)
    ]
    for other in fits[1:]:
        assert np.array_equal(other.transform(IMAGES), fits[0].transform(IMAGES))


def test_every_row_comes_once_and_blocks_lie_in_the_window(source, small_blocks):
    window = Window(source, length=15)
    order = window.order(torch.arange(N), torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(N))
    assert torch.equal(order, window.order(torch.arange(N), torch.Generator().manual_seed(0)))
    assert not torch.equal(order, window.order(torch.arange(N), torch.Generator().manual_seed(1)))
    places = np.argsort(order.numpy())
    for start in range(0, N, 5):  # a block is needed for the window and itself, no longer
        assert np.ptp(places[start : start + 5]) <= 15 + 2 * 5


def test_a_subset_in_any_order_is_shuffled_by_its_blocks(source, small_blocks):
    rows = np.random.default_rng(0).permutation(N)[:30]
    order = Window(source[rows], length=8).order(torch.arange(30), torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(30))
    blocks = rows[order] // 5
    assert max(np.ptp(np.flatnonzero(blocks == block)) for block in np.unique(blocks)) <= 8 + 2 * 5


def test_batches_of_a_sorted_file_are_mixed(tmp_path, small_blocks):
    labels = np.repeat([0, 1, 2, 3], 1000)
    with h5py.File(tmp_path / "sorted.h5", "w") as file:
        file.create_dataset("images", data=np.zeros((4000, 1, 1, 1), np.uint8), chunks=(10, 1, 1, 1))
    dataset = ArrayDataset({"images": open_images(tmp_path / "sorted.h5", bands_axis=1)}, torch.device("cpu"))
    sampler = BatchSampler(4000, 100, torch.Generator().manual_seed(0), dataset.window(800))
    shares = np.array([np.bincount(labels[rows], minlength=4) for rows in sampler]) / 100
    assert abs(shares - 0.25).max() < 0.3
    assert abs(shares - 0.25).mean() < 0.08


def test_blocks_are_read_once_in_an_epoch(source, small_blocks, monkeypatch):
    reads = []
    read = type(source.reader).read
    monkeypatch.setattr(
        type(source.reader), "read", lambda self, start, stop: reads.append((start, stop)) or read(self, start, stop)
    )
    settings = SETTINGS | {"max_epochs": 1}
    emb = BYOLEmbedder(**settings, training=Training(shuffle_window=10)).fit(source)
    reads.clear()
    emb.transform(source)
    assert sorted(reads) == [(start, min(start + 5, N)) for start in range(0, N, 5)]


def test_only_a_sample_is_read_before_the_first_step(path, monkeypatch):
    monkeypatch.setattr(pixels, "SOURCE_VALUES", 8 * IMAGES[0].size)
    monkeypatch.setattr(pixels, "RUNS", 4)
    sample, rows = pixels.sample_of(open_images(path))
    assert rows.tolist() == [0, 1, 12, 13, 24, 25, 36, 37]
    assert np.array_equal(sample, IMAGES[rows])
    assert pixels.sample_of(IMAGES)[0] is IMAGES


def test_a_bad_row_met_on_the_way_is_refused_and_nothing_is_lost(tmp_path, fitted, monkeypatch):
    monkeypatch.setattr(pixels, "SOURCE_VALUES", 8 * IMAGES[0].size)
    monkeypatch.setattr(pixels, "RUNS", 4)
    spoiled = IMAGES.copy()
    spoiled[20, 1, 3, 3] = np.nan
    np.save(tmp_path / "sky.npy", spoiled)
    emb = clone(fitted).fit(IMAGES)
    before = emb.transform(IMAGES)
    spoiled_source = open_images(tmp_path / "sky.npy")
    with pytest.raises(ValueError, match=r"the first in image 20; loaders have fill="):
        emb.fit(spoiled_source)
    assert np.array_equal(emb.transform(IMAGES), before)
    with pytest.raises(ValueError, match=r"the first in image 20"):
        emb.transform(spoiled_source)
    emb.fit(open_images(tmp_path / "sky.npy", fill=0))


def test_images_far_outside_that_the_sample_missed_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "SOURCE_VALUES", 24 * IMAGES[0].size)
    monkeypatch.setattr(pixels, "RUNS", 12)
    far = IMAGES.copy()
    far[3, 0, 0, 0] = 1e5
    np.save(tmp_path / "sky.npy", far)
    with pytest.warns(UserWarning, match="1 of 48 images .* the first is row 3"):
        BYOLEmbedder(**SETTINGS).fit(open_images(tmp_path / "sky.npy"))


def test_the_first_image_of_a_constant_band_is_told_by_its_number_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "SOURCE_VALUES", 12 * IMAGES[0].size)
    monkeypatch.setattr(pixels, "RUNS", 12)
    constant = IMAGES.copy()
    constant[8, 1] = 0  # the third that is looked at
    np.save(tmp_path / "sky.npy", constant)
    with pytest.warns(UserWarning, match=r"band 1 in 1 \(the first is image 8\)"):
        FixedImageEmbedder(TINY, random_state=0).fit(open_images(tmp_path / "sky.npy"))


def test_model_selection(source):
    pipe = make_pipeline(
        FixedImageEmbedder(TINY, random_state=0, device="cpu"), StandardScaler(), LogisticRegression(max_iter=500)
    )
    labels = source.column("label")
    splits = [train_test_split(X, labels, random_state=0, stratify=labels) for X in (source, IMAGES)]
    assert splits[0][0].column("label").tolist() == splits[0][2].tolist()
    scores = [pipe.fit(train, y).score(test, z) for train, test, y, z in splits]
    assert scores[0] == scores[1]
    assert np.array_equal(cross_val_score(pipe, source, labels, cv=3), cross_val_score(pipe, IMAGES, labels, cv=3))
    grid = {"logisticregression__C": [0.1, 1.0]}
    searches = [GridSearchCV(pipe, grid, cv=2, n_jobs=n).fit(X, labels) for X, n in ((source, 2), (IMAGES, 1))]
    assert np.array_equal(*(search.cv_results_["mean_test_score"] for search in searches))


def test_label_sweep(source, fitted):
    probe = make_pipeline(FrozenEstimator(fitted), LogisticRegression(max_iter=500))
    sweeps = [
        label_sweep({"byol": probe}, X, LABELS, label_counts=[12], cv=2, random_state=0) for X in (source, IMAGES)
    ]
    assert sweeps[0]["score"].tolist() == sweeps[1]["score"].tolist()


@pytest.mark.parametrize("frozen", [True, False])
def test_fine_tuning(source, fitted, frozen):
    encoder = FrozenEstimator(fitted) if frozen else TINY
    tuner = FineTuneClassifier(encoder, max_epochs=2, batch_size=16, random_state=0, early_stopping=True, device="cpu")
    tuned = [clone(tuner).fit(X, LABELS).predict_proba(X) for X in (source, IMAGES)]
    assert np.array_equal(*tuned)


def test_votes_ivar_and_flat_rows(path, source):
    votes = np.eye(3)[LABELS][:, [0, 1]] * 5 + np.array([0, 5]) * (LABELS == 2)[:, None]
    schema = VoteSchema({"smooth": ["yes", "no"]})
    hybrid = HybridBYOLEmbedder(**SETTINGS, schema=schema)
    assert np.array_equal(*(clone(hybrid).fit(X, votes=votes).transform(X) for X in (source, IMAGES)))
    noisy = BYOLEmbedder(**SETTINGS, augment=Augment([("flip", Flip()), ("noise", InverseVarianceNoise())]))
    given = [(source, source.beside("ivar")), (IMAGES, np.full(IMAGES.shape, 4.0))]
    assert np.array_equal(*(clone(noisy).fit(X, ivar=ivar).transform(X) for X, ivar in given))
    folded = BYOLEmbedder(**SETTINGS, image_shape=(3, 16, 16))
    assert np.array_equal(
        *(clone(folded).fit(X).transform(X) for X in (open_spectra(path, "flux"), IMAGES.reshape(N, -1)))
    )
    with pytest.raises(ValueError, match=r"ivar has \d+ values that are negative"):
        clone(noisy).fit(source, ivar=open_images(path, "images").then(Negative()))


class Negative:
    def __call__(self, values):
        return -np.ones_like(values)


def test_images_and_spectra_align(path, source):
    spectra = open_spectra(path, "flux")
    clip = AstroCLIPEmbedder(
        FixedImageEmbedder(TINY, random_state=0),
        FixedSpectrumEmbedder(SpectrumEncoder(depth=1, width=8), random_state=0),
        max_epochs=1,
        batch_size=16,
        random_state=0,
        device="cpu",
    )
    fits = [clone(clip).fit(X, y) for X, y in ((source, spectra), (IMAGES, IMAGES.reshape(N, -1)))]
    assert np.array_equal(*(fit.transform(IMAGES) for fit in fits))
    assert np.array_equal(fits[0].transform(source), fits[0].transform(IMAGES))


def test_one_row_and_wrong_bands_are_refused(source, fitted):
    with pytest.raises(ValueError, match=r"Found array with 1 sample\(s\)"):
        clone(fitted).fit(source[:1])
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        fitted.transform(source[:0])
    with pytest.raises(ValueError, match="X has 2 bands, but 3 were learned"):
        fitted.transform(open_images(source.reader.path, bands=[0, 1]))


class Cut(Callback):
    """Stop a fit like a power cut, in a step."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, net, **kwargs):
        self.step -= 1
        if not self.step:
            raise RuntimeError("power cut")


@pytest.mark.parametrize(("ending", "workers"), [(".npy", 2), (".h5", 0), (".h5", 2)])
@pytest.mark.parametrize("step", [2, 4, 8])  # the checkpoint before the fourth has the whole of an epoch
def test_a_fit_from_disk_that_was_cut_off_goes_on_bit_for_bit(tmp_path, ending, workers, step):
    np.save(tmp_path / "sky.npy", IMAGES)
    with h5py.File(tmp_path / "sky.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, chunks=(5, 3, 16, 16))
    images = open_images(tmp_path / f"sky{ending}")
    training = Training(precision="fp32", threads=1, workers=workers, shuffle_window=8)
    embedder = SimCLREmbedder("test_resnet", max_epochs=3, batch_size=16, training=training, random_state=0)
    whole = clone(embedder).fit(images).transform(images)
    embedder.set_params(training__checkpoint=str(tmp_path / "run"), training__checkpoint_every=0)
    cut = clone(embedder).set_params(training__callbacks=[Cut(step)])
    with pytest.raises(RuntimeError, match="power cut"):
        cut.fit(images)
    assert list((tmp_path / "run").iterdir())
    np.testing.assert_array_equal(embedder.fit(images).transform(images), whole)


def test_a_fit_that_goes_on_in_another_order_says_so(source, tmp_path, small_blocks):
    training = Training(shuffle_window=8, checkpoint=str(tmp_path / "run"), checkpoint_every=0)
    embedder = SimCLREmbedder(**SETTINGS, training=training)
    with pytest.raises(RuntimeError, match="power cut"):
        clone(embedder).set_params(training__callbacks=[Cut(2)]).fit(source)
    with pytest.warns(UserWarning, match="shuffled among 8 rows, in blocks of 5, before .* now among all rows"):
        embedder.fit(IMAGES)
