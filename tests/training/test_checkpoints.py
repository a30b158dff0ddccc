"""Fits that are cut off at any step, by any means, go on and end where the unbroken ones end, bit for bit."""

import errno
import multiprocessing
import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from estimators import TINY
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from test_seeds import IMAGES, LABELS, SPECTRA, TRAINED, data, make
from torch import nn

from skastro import (
    AstroCLIPEmbedder,
    FineTuneClassifier,
    FlowPosterior,
    MaskedSpectrumEmbedder,
    SpectrumEncoder,
    Training,
)
from skastro.training import checkpoints, fingerprints, local_seed

ROWS = np.arange(12)
with local_seed(0):
    NETWORK = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


class Cut(Exception):  # noqa: N818 no error of ours
    """A power cut."""


class CutAfter(Callback):
    """Cut a fit off in one of its steps from now on, before it is saved, or at the end of its first epoch."""

    def __init__(self, steps=None):
        self.steps = steps

    def on_train_begin(self, net, **kwargs):
        self.left_ = self.steps

    def on_batch_end(self, net, **kwargs):
        if self.steps is not None:
            self.left_ -= 1
            if not self.left_:
                raise Cut

    def on_epoch_end(self, net, **kwargs):
        if self.steps is None:
            raise Cut


def settings(folder=None, callback=None, **more):
    more = {"checkpoint": folder, "checkpoint_every": 0} | more if folder is not None else more
    return Training(precision="fp32", threads=1, callbacks=[callback] if callback else None, **more)


def numbers(value, name=""):
    """All numbers that were learned, by name, but for times."""
    if isinstance(value, BaseEstimator):
        parameters = value.get_params(deep=False)
        value = {key: part for key, part in value.__getstate__().items() if key not in parameters}
    if isinstance(value, dict):
        for key, part in value.items():
            yield from numbers(part, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield from numbers(part, f"{name}[{place}]")
    elif isinstance(value, int | float | np.ndarray) and not name.endswith("_per_s"):
        yield name, np.asarray(value)


def assert_same(one, other):
    one, other = dict(numbers(one)), dict(numbers(other))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def fit(estimator, training, **given):
    return clone(estimator).set_params(training=training).fit(**given or data(estimator, ROWS))


def configured(name):
    estimator = make(name, random_state=0, max_epochs=2)
    known = estimator.get_params()
    if "early_stopping" in known:
        estimator.set_params(early_stopping=True, n_iter_no_change=1, validation_fraction=0.2, max_epochs=3)
    return estimator.set_params(n_estimators=2) if "n_estimators" in known else estimator


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def byol(**params):
    settings = {"encoder": NETWORK, "batch_size": 4, "max_epochs": 2, "random_state": 0}
    return clone(TINY["BYOLEmbedder"]).set_params(**settings | params)


@pytest.fixture(scope="module")
def unbroken():
    return fit(byol(), settings())


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.filterwarnings("ignore:No image has a vote", "ignore:.*validation")
def test_a_fit_cut_off_again_and_again_ends_as_the_unbroken_one(name, tmp_path):
    estimator = configured(name)
    for steps in (2, 3, None, 2):  # in the first epoch, after its last step, between the epochs, in the second
        with pytest.raises(Cut):
            fit(estimator, settings(tmp_path, CutAfter(steps)))
        assert all(file.endswith(".checkpoint") for file in files(tmp_path))
    assert_same(fit(estimator, settings(tmp_path)), fit(estimator, settings()))
    assert files(tmp_path) == []


def test_a_cut_before_anything_is_saved_or_anew_costs_only_time(tmp_path, unbroken):
    for steps in (1, 3, 1, 1):
        with pytest.raises(Cut):
            fit(byol(), settings(tmp_path, CutAfter(steps)))
    for _ in range(2):  # the second from the beginning
        assert_same(fit(byol(), settings(tmp_path)), unbroken)


@pytest.mark.parametrize("optimizer", ["sgd", "lars", "adam"])
def test_every_optimizer_goes_on(optimizer, tmp_path):
    with pytest.raises(Cut):
        fit(byol(), settings(tmp_path, CutAfter(5), optimizer=optimizer))
    resumed = fit(byol(), settings(tmp_path, optimizer=optimizer))
    assert_same(resumed, fit(byol(), settings(optimizer=optimizer)))


def test_what_an_alignment_trains_first_is_not_trained_again(tmp_path):
    started = []

    class Watch(Callback):
        def on_batch_begin(self, net, **kwargs):
            started.append(type(net.module_.objective).__name__)

    spectra = MaskedSpectrumEmbedder(SpectrumEncoder(depth=1, width=8, heads=2), max_epochs=1, batch_size=4)
    sides = [side.set_params(training=Training(precision="fp32", callbacks=[Watch()])) for side in (byol(), spectra)]
    clip = AstroCLIPEmbedder(*sides, embedding_dim=8, max_epochs=2, batch_size=4, random_state=0)
    given = {"X": IMAGES, "y": SPECTRA}
    whole = fit(clip, settings(), **given)
    del started[:]
    for steps in (2, 2):
        with pytest.raises(Cut):
            fit(clip, settings(tmp_path, CutAfter(steps)), **given)
    assert [name.split("-")[0] for name in files(tmp_path)] == ["0", "1", "2"]
    assert len(started) == 9  # two epochs of images and one of spectra, three steps each
    assert_same(fit(clip, settings(tmp_path), **given), whole)
    assert len(started) == 9
    assert files(tmp_path) == []


def test_the_progress_bar_starts_where_the_fit_goes_on(tmp_path, capsys):
    with pytest.raises(Cut):
        fit(byol(), settings(tmp_path, CutAfter(6)))
    fit(byol(verbose=1), settings(tmp_path))
    told = capsys.readouterr().err
    assert "24.0/24.0" in told
    assert "epoch 2/2" in told
    assert "epoch 1/2" not in told


def test_global_generators_are_left_alone(tmp_path):
    for steps in (4, None):
        before = torch.get_rng_state()
        with pytest.raises(Cut):
            fit(byol(), settings(tmp_path, CutAfter(steps)))
        assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- kills and signals


def child(folder, epochs):
    torch.set_num_threads(1)
    fit(byol(max_epochs=epochs), settings(folder))


def start(folder, epochs=100_000):
    process = multiprocessing.get_context("fork").Process(target=child, args=(folder, epochs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads stay behind, and nobody waits for them
        process.start()
    return process


def wait_for_a_file(folder, process):
    while process.is_alive() and not any(Path(folder).glob("*.checkpoint")):
        time.sleep(0.01)


def test_killed_at_any_moment_a_fit_goes_on(tmp_path):
    rng, kills = np.random.default_rng(0), 0
    for _ in range(5):
        process = start(tmp_path, epochs=40)
        wait_for_a_file(tmp_path, process)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills > 0
    estimator = byol(max_epochs=40)
    assert_same(fit(estimator, settings(tmp_path)), fit(estimator, settings()))
    assert files(tmp_path) == []


def test_sigterm_ends_the_process(tmp_path):
    process = start(tmp_path)
    wait_for_a_file(tmp_path, process)
    process.terminate()
    process.join()
    assert process.exitcode == 128 + signal.SIGTERM
    assert len(files(tmp_path)) == 1


class Signal(Callback):
    """Send this process a signal in the middle of a step."""

    def __init__(self, number, steps, twice=False):
        self.number = number
        self.steps = steps
        self.twice = twice

    def on_train_begin(self, net, **kwargs):
        self.left_ = self.steps

    def on_grad_computed(self, net, **kwargs):
        self.left_ -= 1
        if not self.left_:
            for _ in range(1 + self.twice):
                signal.raise_signal(self.number)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_signals_wait_for_the_end_of_the_step_and_save(number, error, steps, tmp_path, unbroken):
    before = signal.getsignal(number)
    estimator = byol(training=settings(tmp_path, Signal(number, steps), checkpoint_every="auto"))
    with pytest.raises(error) as raised:
        estimator.fit(IMAGES)
    if error is SystemExit:
        assert raised.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(number) is before
    assert len(files(tmp_path)) == 1
    assert len(estimator.history_["loss"]) == (steps - 1) // 3  # what was learned stays
    assert estimator.transform(IMAGES).shape[0] == len(IMAGES)
    state = torch.load(tmp_path / files(tmp_path)[0], weights_only=True)
    assert state["step"] == steps
    assert_same(fit(byol(), settings(tmp_path)), unbroken)


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        byol(training=settings(tmp_path, Signal(signal.SIGINT, 2, twice=True), checkpoint_every="auto")).fit(IMAGES)
    assert files(tmp_path) == []


def test_a_handler_of_the_users_is_asked_after_saving(tmp_path, unbroken):
    asked = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(files(tmp_path)))
    try:
        went_on = fit(byol(), settings(tmp_path, Signal(signal.SIGTERM, 2), checkpoint_every="auto"))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(asked) == 1
    assert len(asked[0]) == 1
    assert_same(went_on, unbroken)


# ---------------------------------------------------------------- refused


@pytest.fixture
def left(tmp_path):
    """Path of a checkpoint that a fit left behind."""
    with pytest.raises(Cut):
        fit(byol(), settings(tmp_path, CutAfter(3)))
    return next(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("estimator", "training", "differs"),
    [
        (byol(lr=0.5), {}, r"lr is 0\.001 there and 0\.5 here"),
        (byol(), {"weight_decay": 0.5}, r"training__weight_decay is 0\.0001 there and 0\.5 here"),
        (byol(random_state=1), {}, "random_state is .* there and .* here"),
        (byol(augment="radio"), {}, "augment is 'galaxy' there and 'radio' here"),
        (
            byol(encoder=nn.Sequential(nn.Flatten(), nn.Linear(2048, 4))),
            {},
            "encoder is Sequential .* there and Sequential",
        ),
        (clone(TINY["SimCLREmbedder"]).set_params(random_state=0), {}, "estimator is BYOL.* there and SimCLR.* here"),
    ],
    ids=str,
)
def test_other_parameters_are_refused(estimator, training, differs, left):
    with pytest.raises(ValueError, match=f"is the checkpoint of another fit .*{differs}"):
        fit(estimator, settings(left.parent, **training), X=IMAGES)
    assert left.exists()


@pytest.mark.parametrize(
    ("images", "differs"),
    [
        (IMAGES[:-1], r"shape of images is \(12, .* there and \(11, .* here"),
        (IMAGES[::-1].copy(), "the values of images differ"),
        (
            np.where(np.arange(12)[:, None, None, None] == 7, IMAGES * 1.001, IMAGES).astype(np.float32),
            "values of images",
        ),
    ],
    ids=["fewer", "other order", "one image"],
)
def test_other_data_are_refused(images, differs, left):
    with pytest.raises(ValueError, match=differs):
        fit(byol(), settings(left.parent), X=images)


def test_large_arrays_are_known_by_some_rows(monkeypatch):
    monkeypatch.setattr(fingerprints, "WHOLE", 0)
    monkeypatch.setattr(fingerprints, "SAMPLED", 3)
    for row, equal in ((0, False), (5, False), (11, False), (7, True)):
        images = IMAGES.copy()
        images[row] += 1
        assert (fingerprints.describe_arrays({"a": images}) == fingerprints.describe_arrays({"a": IMAGES})) == equal


def test_what_changes_no_numbers_may_change(left, unbroken):
    training = settings(left.parent, CutAfter(99), checkpoint_every=3.0, workers=3)
    assert_same(fit(byol(verbose=1, device="cpu"), training), unbroken)


@pytest.mark.parametrize("damage", ["cut short", "one bit", "empty", "no checkpoint"])
def test_damaged_checkpoints_are_refused(damage, left):
    content = bytearray(left.read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    left.write_bytes({"cut short": content[:-100], "empty": b""}.get(damage, content))
    if damage == "no checkpoint":
        torch.save({"weight": torch.zeros(3)}, left)
    with pytest.raises(ValueError, match="is damaged or no checkpoint: delete it"):
        fit(byol(), settings(left.parent))
    left.unlink()
    fit(byol(), settings(left.parent))


def test_another_format_is_refused(left, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", checkpoints.FORMAT + 1)
    with pytest.raises(ValueError, match="was written by another version of skastro"):
        fit(byol(), settings(left.parent))


def test_no_code_of_a_file_runs(left):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(left.parent / "harmed"),)

    torch.save({"format": checkpoints.FORMAT, "objective": Harm()}, left)
    with pytest.raises(ValueError, match="is damaged or no checkpoint"):
        fit(byol(), settings(left.parent))
    assert not (left.parent / "harmed").exists()


def test_a_seed_that_cannot_be_drawn_again_is_refused(tmp_path):
    with pytest.raises(ValueError, match="need an int as random_state of BYOLEmbedder"):
        fit(byol(random_state=None), settings(tmp_path))
    tuned = FineTuneClassifier(byol(random_state=None), max_epochs=1, random_state=0)
    with pytest.raises(ValueError, match="need an int as random_state of BYOLEmbedder"):
        fit(tuned, settings(tmp_path), X=IMAGES, y=LABELS)
    assert files(tmp_path) == []


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match="cannot be a folder"):
        fit(byol(), settings(tmp_path / "taken"))


# ---------------------------------------------------------------- disks and searches


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["os.replace", "os.fsync", "torch.save"])
def test_a_full_disk_costs_a_warning_and_the_former_checkpoint_stays(place, left, monkeypatch, unbroken):
    before = left.read_bytes()
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        patch.setattr(place, full)
        with pytest.raises(Cut):
            fit(byol(), settings(left.parent, CutAfter(3)))
    assert [str(warning.message).count("No space left on device") for warning in told] == [1]
    assert files(left.parent) == [left.name]
    assert left.read_bytes() == before
    assert_same(fit(byol(), settings(left.parent)), unbroken)


@pytest.mark.parametrize("folder", ["", "{fit}"])
def test_a_search_has_one_folder(folder, tmp_path):
    search = GridSearchCV(
        FineTuneClassifier(NETWORK, max_epochs=1, batch_size=4, random_state=0), {"lr": [1e-3, 1e-2]}, cv=2
    )
    found = fit_search(search, settings())
    with_files = fit_search(search, settings(tmp_path / folder))
    np.testing.assert_array_equal(with_files.cv_results_["mean_test_score"], found.cv_results_["mean_test_score"])
    assert files(tmp_path) == []


def fit_search(search, training):
    return clone(search).set_params(estimator__training=training).fit(IMAGES, LABELS)


def test_a_search_that_was_cut_off_goes_on(tmp_path):
    training = settings(tmp_path / "{fit}")
    grid = [byol(lr=lr) for lr in (1e-3, 1e-2)]
    with pytest.raises(Cut):
        fit(grid[1], training.set_params(callbacks=[CutAfter(4)]))
    kept = files(tmp_path)
    fit(grid[0], training.set_params(callbacks=None))
    assert files(tmp_path) == kept
    assert_same(fit(grid[1], training), fit(grid[1], settings()))
    assert files(tmp_path) == []


def test_the_fits_of_a_search_in_parallel_do_not_mind_each_other(left, monkeypatch, unbroken):
    monkeypatch.setattr(checkpoints, "_open", {left})  # that fit is running
    fit(byol(lr=0.5), settings(left.parent))
    assert left.exists()


def test_a_checkpoint_of_another_process_belongs_to_a_running_fit_while_that_lives(tmp_path):
    process = start(tmp_path)
    wait_for_a_file(tmp_path, process)
    fit(byol(lr=0.5), settings(tmp_path))
    process.kill()
    process.join()
    with pytest.raises(ValueError, match="checkpoint of another fit"):
        fit(byol(lr=0.5), settings(tmp_path))


def test_remains_of_a_write_are_removed(left):
    remains = left.with_name(f".{left.name}.{2**22 + 1}-7.part")
    remains.write_bytes(b"half")
    fit(byol(), settings(left.parent))
    assert files(left.parent) == []


def test_by_default_writing_takes_a_hundredth_of_the_time_at_most(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(checkpoints, "SELDOM", 0.0)
    real = checkpoints.replacing
    monkeypatch.setattr(checkpoints, "replacing", lambda path: written.append(path) or real(path))
    fit(byol(), settings(tmp_path, checkpoint_every="auto"))
    assert len(written) == 2  # after the first step, and at the end


def test_flows_are_trained_once(tmp_path):
    flows = FlowPosterior(3, n_transforms=1, hidden_dim=8, max_epochs=1, batch_size=4, random_state=0)
    given = data(flows, ROWS)
    with pytest.raises(Cut):
        fit(
            flows,
            settings(tmp_path, CutAfter(99), checkpoint_every=600).set_params(callbacks=[SecondTraining()]),
            **given,
        )
    assert [name.split("-")[0] for name in files(tmp_path)] == ["0"]
    assert_same(fit(flows, settings(tmp_path), **given), fit(flows, settings(), **given))


class SecondTraining(Callback):
    """Cut off what is trained after something else."""

    count = 0

    def on_train_begin(self, net, **kwargs):
        type(self).count += 1
        if type(self).count == 2:
            raise Cut
