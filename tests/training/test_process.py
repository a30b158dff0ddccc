"""What a process shares: random numbers, default state, threads."""

import os
import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from skastro import SimCLREmbedder, Training
from skastro.devices import resolve_device
from skastro.training import Randomness, free_threads, local_seed, own_state, process


def test_the_streams_of_a_fit_go_on_where_they_stopped():
    with local_seed(3):
        whole = torch.rand(6)
    draws = Randomness(3)
    with draws.installed():
        first = torch.rand(2)
    with Randomness(4).installed():
        other = torch.rand(2)
    with draws.installed():
        rest = torch.rand(4)
    assert torch.equal(torch.cat([first, rest]), whole)
    assert not torch.equal(other, whole[:2])
    assert torch.equal(torch.rand(3, generator=draws.views), torch.rand(3, generator=Randomness(3).views))


def test_the_users_generator_is_given_back_also_after_an_error():
    before = torch.get_rng_state()
    with suppress(ZeroDivisionError), local_seed(0):
        torch.rand(1)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)


def test_the_last_of_several_users_restores_the_state():
    torch.set_default_dtype(torch.float64)
    threads = torch.get_num_threads()
    entered, leave = threading.Event(), threading.Event()

    def other():
        with own_state():
            entered.set()
            leave.wait()

    try:
        with own_state(threads=3):
            beside = threading.Thread(target=other)
            beside.start()
            entered.wait()
        assert torch.get_default_dtype() == torch.float32  # the other still computes
        assert torch.get_num_threads() == threads
        leave.set()
        beside.join()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.get_num_threads() == threads


def test_autocast_of_the_user_is_left_outside():
    with torch.autocast("cpu", torch.bfloat16), own_state():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    torch.set_autocast_enabled("cuda", True)  # as torch.autocast does where there is a GPU
    try:
        with own_state():
            assert not torch.is_autocast_enabled("cuda")
        assert torch.is_autocast_enabled("cuda")
    finally:
        torch.set_autocast_enabled("cuda", False)


@pytest.mark.parametrize(
    ("own", "allowed", "busy", "taken"),
    [(4, 8, 0.0, 4), (4, 2, 0.0, 2), (4, 4, 1.0, 3), (4, 4, 0.4, 4), (2, 2, 2.3, 1), (4, 4, 9.0, 1), (1, 8, 0.0, 1)],
)
def test_threads_are_those_allowed_less_those_that_are_busy(own, allowed, busy, taken, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: own)
    monkeypatch.setattr(process.joblib, "cpu_count", lambda: allowed)
    monkeypatch.setattr(process, "_load", lambda: busy)
    assert free_threads() == taken
    assert Training().n_threads() == taken
    assert Training(threads=7).n_threads() == 7


def test_the_load_is_that_of_others_and_believed_for_a_while(monkeypatch):
    load = process._Load()
    used = iter([10.0, 10.15, 20.0])
    monkeypatch.setattr(load, "_used", lambda: next(used))
    assert load() == pytest.approx(1.5)
    assert load() == pytest.approx(1.5)  # not measured anew


def test_the_load_counts_other_work_on_the_processors_allowed():
    assert 0 <= process._Load()() <= os.cpu_count() + 1


def test_what_others_use_is_all_busy_time_of_the_processors_allowed_but_ones_own(monkeypatch):
    cpus = [SimpleNamespace(user=5.0, system=2.0, steal=1.0, idle=99.0), SimpleNamespace(user=400.0, idle=1.0)]
    own = SimpleNamespace(cpu_affinity=lambda: [0], cpu_times=lambda: (3.0, 0.5, 70.0))
    monkeypatch.setattr(process.psutil, "cpu_times", lambda percpu: cpus)
    monkeypatch.setattr(process.psutil, "Process", lambda: own)
    assert process._Load()._used() == 4.5


class Threads(Callback):
    """Note the number of threads in each step."""

    seen: ClassVar[list[int]] = []

    def on_batch_end(self, net, **kwargs):
        self.seen.append(torch.get_num_threads())


def test_training_takes_the_threads_asked_for_and_gives_them_back():
    own = torch.get_num_threads()
    X = np.random.default_rng(0).normal(size=(16, 1, 32, 32))
    SimCLREmbedder("test_resnet", max_epochs=1, batch_size=8, training=Training(threads=3, callbacks=[Threads()])).fit(
        X
    )
    assert Threads.seen == [3, 3]
    assert torch.get_num_threads() == own


def test_a_device_that_a_fork_broke_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    for device in ("auto", "cuda"):
        with pytest.raises(RuntimeError, match=r"forked from one that had used CUDA.*joblib, or multiprocessing"):
            resolve_device(device)
