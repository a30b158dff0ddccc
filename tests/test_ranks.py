"""Processes that train together compute what one alone computes, and all of them end with the same."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import of_ranks
import pytest
import torch
from torch import distributed
from torch.nn import functional

import skastro
from skastro import ranks

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="needs torch.distributed")

SCRIPT = Path(__file__).with_name("of_ranks.py")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
PATH = os.pathsep.join([str(Path(skastro.__file__).parents[1]), *sys.path])


def start(part, folder, *launcher, **variables):
    return subprocess.Popen(
        [sys.executable, "-Wignore", *launcher, str(SCRIPT), part, str(folder)],
        env={**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_two(part, folder):
    """Start processes as torchrun does, without the time that it takes itself."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = str(found.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    return [start(part, folder, RANK=rank, LOCAL_RANK=rank, **common) for rank in "01"]


def end(folder, *processes):
    for process in processes:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.fixture(scope="module")
def pieces(once, tmp_path_factory):
    """What two processes find, and what one finds."""
    folder = tmp_path_factory.mktemp("pieces")

    def compute():
        running = start("pieces", folder, *TORCHRUN)
        alone = of_ranks.pieces()
        return [*end(folder, running), alone]

    return once("pieces", compute)


@pytest.fixture(scope="module")
def trained(once, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fits")

    def compute():
        running = start_two("fits", folder)
        alone = of_ranks.fits()
        return [*end(folder, *running), {"fits": alone}]

    return once("fits", compute)


@pytest.fixture
def fits(trained):
    return [each["fits"] for each in trained]


@pytest.fixture
def manners(trained):
    return [each["manners"] for each in trained[:2]]


def test_rows_are_cut_among_ranks_and_gathered_again(pieces):
    first, second, alone = pieces
    assert [len(each["own"]) for each in pieces] == [3, 2, 5]
    for each in pieces:
        assert torch.equal(each["gathered"], alone["own"])
        assert torch.equal(each["alone"], each["own"])
    assert torch.equal(torch.cat([first["drawn"], second["drawn"]]), torch.arange(5))
    assert sorted([*first["dealt"], *second["dealt"]]) == list(range(5))


def test_sums_run_over_all_ranks(pieces):
    *together, alone = pieces
    for each in together:
        for name in ("mean row", "logsumexp", "total", "loss"):
            scale = 2 if name == "loss" else 1
            torch.testing.assert_close(scale * each[name], alone[name], rtol=1e-14, atol=1e-14)
    means = [each["weight"] * each["own"].mean() for each in together]
    torch.testing.assert_close(sum(means) / 2, alone["own"].mean(), rtol=1e-14, atol=1e-14)


def test_gradients_flow_through_the_gather_and_the_batch_norm(pieces):
    first, second, alone = pieces
    for name in ("rows", "targets"):
        both = torch.cat([first["gradients"][name], second["gradients"][name]])
        torch.testing.assert_close(both, alone["gradients"][name], rtol=1e-12, atol=1e-12)
    for name in ("weight", "bias"):
        both = first["gradients"][name] + second["gradients"][name]
        torch.testing.assert_close(both, alone["gradients"][name], rtol=1e-12, atol=1e-12)
    for each in (first, second):
        torch.testing.assert_close(each["running"], alone["running"], rtol=1e-14, atol=1e-14)


def test_each_rank_draws_for_its_network_alone_and_the_order_stays_the_same(pieces):
    first, second, _ = pieces
    assert not torch.equal(first["of a network"], second["of a network"])
    assert torch.equal(first["order after"], second["order after"])


@pytest.mark.parametrize("method", of_ranks.METHODS)
def test_weights_after_six_steps_are_those_of_one_process(fits, method):
    first, second, alone = (each[method]["weights"] for each in fits)
    assert first.keys() == alone.keys()
    for name, weight in alone.items():
        torch.testing.assert_close(first[name], weight, rtol=0, atol=1e-12)
        assert torch.equal(first[name], second[name])


@pytest.mark.parametrize("method", sorted(of_ranks.METHODS.keys() - {"flows"}))
def test_histories_are_those_of_one_process(fits, method):
    first, second, alone = (each[method]["history"] for each in fits)
    own = {"embedding_std", "effective_rank"}  # of the first rank's rows
    for name in [name for name in alone if name not in own and not name.endswith("_per_s")]:
        np.testing.assert_allclose(first[name], alone[name], rtol=1e-9)
    for name in alone:
        np.testing.assert_array_equal(first[name], second[name])


def test_all_end_with_the_same_without_a_seed_in_low_precision_and_stopped_early(manners):
    first, second = (each["ordinary"] for each in manners)
    np.testing.assert_array_equal(first["embedding"], second["embedding"])
    np.testing.assert_array_equal(first["classes"], second["classes"])
    assert all(torch.equal(buffer, second["buffers"][name]) for name, buffer in first["buffers"].items())


def test_one_that_is_told_to_stop_stops_all_and_they_go_on_together(manners):
    for each in manners:
        assert each["stopped"] == {"code": 143, "files": 1, "same": True}


def test_what_ranks_cannot_share_is_refused_by_all(manners):
    for each in manners:
        assert each["refusals"] == {
            "compile": "compile=True is for one process, and 2 train together: set compile=False.",
            "data": "Processes that train together need the same data and parameters: the values of images differ.",
            "parameters": "Processes that train together need the same data and parameters: "
            "lr is 0.1 there and 1.1 here.",
            "folders": each["refusals"]["folders"],
        }
        assert each["refusals"]["folders"].startswith("Not all processes see the same checkpoints in ")


def test_one_rank_writes_the_embeddings(manners):
    assert all(each["embedded"] for each in manners)


def test_more_ranks_than_rows_are_refused(monkeypatch):
    monkeypatch.setattr(ranks, "world_size", lambda: 9)
    monkeypatch.setattr(ranks, "everyones", lambda value: [value])
    images = np.random.default_rng(0).normal(size=(16, 3, 32, 32))
    with pytest.raises(
        ValueError, match=r"^9 processes cannot share a batch of 8: start fewer, or take a larger batch\."
    ):
        skastro.SimCLREmbedder("test_resnet", batch_size=8, random_state=0).fit(images)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("tracked", [False, True])
def test_the_batch_norm_of_gpus_is_torchs_function(affine, tracked):
    x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scale = (torch.full((3,), 2.0), torch.ones(3)) if affine else (None, None)
    mine, theirs = ((torch.zeros(3), torch.ones(3)) if tracked else (None, None) for _ in range(2))
    found = ranks._sync_batch_norm(x, *mine, *scale, 0.1, 1e-5)
    assert torch.equal(found, functional.batch_norm(x, *theirs, *scale, True, 0.1, 1e-5))
    assert not tracked or all(map(torch.equal, mine, theirs))


def test_a_process_that_torchrun_did_not_start_is_alone():
    ranks.join()
    assert (ranks.world_size(), ranks.rank(), ranks.agree("me"), ranks.everyones(1)) == (1, 0, "me", [1])
    assert not ranks.sharing()
