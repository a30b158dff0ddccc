"""Checkpoints: what a fit that was cut off goes on from, and to which fit each belongs."""

import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import psutil
import torch
from sklearn.base import BaseEstimator, clone
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from skastro import ranks
from skastro._warning import warn
from skastro.training.batches import BatchSampler
from skastro.training.callbacks import EarlyStopping, Monitor, Progress, ScheduleCallback, StopTraining
from skastro.training.config import Training
from skastro.training.fingerprints import describe, differences, digest
from skastro.unfinished import replacing

__all__ = ["Checkpoint", "Run", "current_run", "is_compared", "resumable"]

FORMAT = 2  # of the files: raised when their content changes
SELDOM = 600.0  # seconds between two checkpoints by default
SHARE = 100  # of the time is what writing may take by default: one part in so many

_run: ContextVar["Run | None"] = ContextVar("run", default=None)
_open: set[Path] = set()  # files of the fits of this process that are not over


class Run:
    """One fit that keeps checkpoints, with the fits inside it: each training in it has a file of its own.

    The files stay until the fit is over, so that a training that has ended is not repeated.

    Parameters
    ----------
    estimator : BaseEstimator
        The outermost estimator that is being fitted.
    training : Training
        Its settings, with a folder for checkpoints.
    """

    def __init__(self, estimator: BaseEstimator, training: Training) -> None:
        self.estimator = estimator
        self.training = training
        self.folder: Path | None = None
        self.files: list[Path] = []

    def open(self, about: Mapping[str, str]) -> "Checkpoint":
        """Find the checkpoint of the next training, or the place for it.

        Parameters
        ----------
        about : mapping of str to str
            What `describe_fit` says of the training.

        Returns
        -------
        Checkpoint

        Raises
        ------
        ValueError
            If there is no such folder, or it has the checkpoint of another fit that is not running, or a damaged one.
        """
        folder = self.folder = self.folder or self._make_folder(about)
        number = len(self.files)
        path = folder / f"{number}-{about['estimator']}-{digest(about)}.checkpoint"
        self.files.append(path)
        _open.add(path)
        saved = None
        for found in [path] if path.exists() else sorted(folder.glob(f"{number}-*.checkpoint")):
            with suppress(FileNotFoundError):  # another fit has just ended
                state = _read(found)
                if state["fingerprint"] == about:
                    saved = state
                elif not _is_alive(state["process"], found):
                    raise ValueError(
                        f"{found} is the checkpoint of another fit ({differences(state['fingerprint'], about)}): "
                        "delete it, choose another folder, or give each fit of a search its own by "
                        "checkpoint='folder/{fit}'."
                    )
        if len(set(ranks.everyones(None if saved is None else saved["step"]))) > 1:
            raise ValueError(
                f"Not all processes see the same checkpoints in {folder}: it must be on a disk they share."
            )
        return Checkpoint(path, about, self.training.checkpoint_every, saved)

    def close(self) -> None:
        """Remove the files of a fit that is over."""
        for path in self.files * (ranks.rank() == 0):
            for file in (path, *path.parent.glob(f".{path.name}.*.part")):
                if file == path or not psutil.pid_exists(int(file.name.split(".")[-2].partition("-")[0])):
                    with suppress(OSError):
                        file.unlink(missing_ok=True)
        if self.folder is not None and "{fit}" in str(self.training.checkpoint):
            with suppress(OSError):
                self.folder.rmdir()

    def _make_folder(self, about: Mapping[str, str]) -> Path:
        name = str(self.training.checkpoint)
        if "{fit}" in name:
            name = name.replace("{fit}", digest(dict(describe("fit", clone(self.estimator))) | dict(about)))
        folder = Path(name).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"checkpoint={self.training.checkpoint!r} cannot be a folder: {error}.") from error
        return folder


@contextmanager
def resumable(estimator: BaseEstimator) -> Iterator[None]:
    """Keep checkpoints inside a block if the estimator asks for them, and remove them when it ends well.

    Parameters
    ----------
    estimator : BaseEstimator
        Being fitted inside the block. What it fits in turn keeps its checkpoints in the same folder.

    Raises
    ------
    ValueError
        If checkpoints are kept and ``random_state`` is None.
    """
    outer = _run.get()
    training: Any = getattr(estimator, "training", None)
    asked = getattr(training, "checkpoint", None) is not None
    if (outer is not None or asked) and getattr(estimator, "random_state", 0) is None:
        raise ValueError(
            f"Checkpoints need an int as random_state of {type(estimator).__name__}: "
            "under None each fit draws another seed, and none could go on."
        )
    if outer is not None or not asked:
        yield
        return
    run = Run(estimator, training)
    token = _run.set(run)
    try:
        yield
        run.close()
    finally:
        _run.reset(token)
        _open.difference_update(run.files)


def current_run() -> Run | None:
    """Return the fit that keeps checkpoints here, if one does.

    Returns
    -------
    Run or None
    """
    return _run.get()


def is_compared() -> bool:
    """Tell whether the fit is compared with others: with one that was cut off, or those of other processes.

    Returns
    -------
    bool
    """
    return current_run() is not None or ranks.world_size() > 1


def _process() -> list[Any]:
    """Identify this process among all that ever were."""
    return [platform.node(), os.getpid(), psutil.Process().create_time()]


def _is_alive(process: list[Any], path: Path) -> bool:
    """Find whether the fit that wrote a checkpoint is still running, as in a search in parallel."""
    if process == _process():
        return path in _open
    try:
        return process[0] == platform.node() and psutil.Process(process[1]).create_time() == process[2]
    except psutil.Error:
        return False


def _read(path: Path) -> dict[str, Any]:
    """Read a checkpoint, running no code of it."""
    try:
        with ZipFile(path) as archive:
            whole = archive.testzip() is None
        state = torch.load(path, map_location="cpu", weights_only=True) if whole else {}
        written = state["format"]
    except FileNotFoundError:
        raise
    except Exception as error:  # what is damaged may fail in any way
        raise ValueError(f"{path} is damaged or no checkpoint: delete it to start its fit anew.") from error
    if written != FORMAT:
        raise ValueError(
            f"{path} was written by another version of skastro: end its fit with that, or delete it to start anew."
        )
    return state


class Checkpoint(Callback):
    """Save the state of a training now and then, and when a signal asks to stop; go on from what was saved.

    Parameters
    ----------
    path : Path
        File of the checkpoint.
    about : mapping of str to str
        What `describe_fit` says of the training.
    every : float or "auto"
        Seconds between two checkpoints.
    saved : dict or None
        State to go on from.
    """

    def __init__(self, path: Path, about: Mapping[str, str], every: float | str, saved: dict[str, Any] | None) -> None:
        self.path = path
        self.about = about
        self.every = every
        self.saved = saved
        self.wait = SELDOM if isinstance(every, str) else float(every)
        self.asked: int | None = None  # signal that waits for the end of a step
        self.former: dict[int, Any] = {}  # handlers of signals
        self.warned = False

    def run(self, net: NeuralNet, dataset: Dataset, epochs: int) -> None:
        """Train for what is left of the epochs.

        Parameters
        ----------
        net : NeuralNet
            Network, ready to train.
        dataset : Dataset
            Rows to train on.
        epochs : int
            Number of epochs in all.
        """
        ended = self.saved is not None and self.saved["ended"]
        self.written = time.monotonic()
        with self._signals():
            if not ended:
                with suppress(StopTraining):
                    net.fit_loop(dataset, epochs=epochs - len(net.history))
                self._save(net, ended=True)
                ranks.wait()

    def resume(self, sampler: BatchSampler, generator: torch.Generator) -> Sampler:
        """Wrap the sampler so that its first epoch goes on where the saved one was left.

        Parameters
        ----------
        sampler : BatchSampler
            Batches of an epoch, whose order follows from the generator's state at the beginning.
        generator : torch.Generator
            That generator.

        Returns
        -------
        Sampler
        """
        self.batches = _Resumed(sampler, generator, self)
        return self.batches

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        draws = net.module_.draws
        held = [value for module in net.module_.modules() for value in vars(module).values()]
        own = (draws.order, draws.views, draws.steps, draws.seeds)
        found = [value for value in (*own, *held) if isinstance(value, torch.Generator)]
        # The default one is the user's: `order` takes its place in each step.
        self.generators = list({id(each): each for each in found if each is not torch.default_generator}.values())
        self.monitor, self.schedule = _find(net, Monitor), _find(net, ScheduleCallback)
        self.stopping, self.progress = _find(net, EarlyStopping), _find(net, Progress)
        if self.saved is not None:
            self._restore(net, self.saved)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        if self.saved is not None:  # the first epoch: the batches before count too
            net.history[-1]["batches"].extend(self.saved["batches"])
            self.monitor.started_ -= self.saved["seconds"]

    def on_batch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: D102
        self.asked = max(ranks.everyones(self.asked or 0)) or None  # all stop after the same step
        if self.asked is not None or time.monotonic() - self.written >= self.wait:
            self._save(net)
        if self.asked is not None:
            ranks.wait()  # for the first, which writes
            self._obey()

    def _restore(self, net: NeuralNet, saved: dict[str, Any]) -> None:
        objective, optimizer = net.module_.objective, net.optimizer_
        objective.load_state_dict(saved["objective"])
        objective.parts = {name: part.to(net.device) for name, part in saved["parts"].items()}
        optimizer.load_state_dict({**optimizer.state_dict(), "state": saved["optimizer"]})
        for group, rates in zip(optimizer.param_groups, saved["rates"], strict=True):
            group.update(rates)
        self.schedule.step_ = saved["step"]
        self.monitor.recent_.extend(part.to(net.device) for part in saved["recent"])
        for name, values in saved["history"].items():
            self.monitor.history.setdefault(name, [])[:] = values
        for number in range(1, saved["epoch"]):
            net.history.new_epoch()
            net.history.record("epoch", number)
        if self.stopping is not None:
            self.stopping.weights_ = saved["best"]
            self.stopping.lowest_, self.stopping.since_ = saved["lowest"], saved["since"]
        if self.progress is not None:
            done = self.progress.n * (saved["epoch"] - 1) + sum(b["rows"] for b in saved["batches"])
            self.progress.bar_.n = self.progress.bar_.initial = done

    def _state(self, net: NeuralNet, ended: bool) -> dict[str, Any]:
        objective, monitor, stopping = net.module_.objective, self.monitor, self.stopping
        return {
            "format": FORMAT,
            "fingerprint": dict(self.about),
            "process": _process(),
            "ended": ended,
            "objective": objective.state_dict(),
            "parts": dict(objective.parts),
            "optimizer": net.optimizer_.state_dict()["state"],
            "rates": [
                {name: float(group[name]) for name in ("lr", "weight_decay")} for group in net.optimizer_.param_groups
            ],
            "step": self.schedule.step_,
            "epoch": len(net.history),
            "began": self.batches.began,
            "order": self.batches.order,
            "generators": [generator.get_state() for generator in self.generators],
            "batches": [
                {name: value for name, value in batch.items() if isinstance(value, int | float)}
                for batch in net.history[-1]["batches"]
            ],
            "seconds": time.perf_counter() - monitor.started_,
            "history": {name: [float(value) for value in values] for name, values in monitor.history.items()},
            "recent": [part.clone() for part in monitor.recent_],  # alone, not with the whole of which it is a view
            "best": None if stopping is None else stopping.weights_,
            "lowest": None if stopping is None else float(stopping.lowest_),
            "since": None if stopping is None else stopping.since_,
        }

    def _save(self, net: NeuralNet, ended: bool = False) -> None:
        start = time.monotonic()
        try:
            if ranks.rank() == 0:
                with replacing(self.path) as partial, open(partial, "wb") as file:
                    torch.save(self._state(net, ended), file)
        except (OSError, RuntimeError) as error:  # the latter is what torch makes of a file that takes no more
            if not self.warned:
                warn(f"{self.path} could not be written ({error}): training goes on without.")
            self.warned = True
        self.written = time.monotonic()
        if isinstance(self.every, str):
            self.wait = max(SELDOM, SHARE * (self.written - start))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM wait for the end of a step; a second one does not wait."""
        if threading.current_thread() is threading.main_thread():
            for number in (int(signal.SIGINT), int(signal.SIGTERM)):
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self.former[number] = signal.signal(number, self._note)
        try:
            yield
        finally:
            for number, handler in self.former.items():
                signal.signal(number, handler)
        if self.asked is not None:
            self._obey()

    def _note(self, number: int, frame: Any) -> None:
        waits, self.asked = self.asked is not None, number
        if waits:
            self._obey()

    def _obey(self) -> None:
        """Call the signal's former handler; in the place of the default one raise SystemExit, so that the fit ends."""
        number, self.asked = self.asked, None
        handler = self.former[number]  # type: ignore[index]
        if handler is signal.SIG_DFL:
            raise SystemExit(128 + number)  # type: ignore[operator]
        handler(number, None)


def _find(net: NeuralNet, kind: type) -> Any:
    """Find the callback of a kind, or None."""
    return next((callback for _, callback in net.callbacks_ if isinstance(callback, kind)), None)


class _Resumed(Sampler):
    """A sampler that remembers how its epoch began, and whose first epoch goes on from a checkpoint."""

    def __init__(self, sampler: BatchSampler, generator: torch.Generator, checkpoint: Checkpoint) -> None:
        self.sampler = sampler
        self.generator = generator
        self.checkpoint = checkpoint
        self.began = generator.get_state()
        window = sampler.window
        self.order = (
            "all rows" if window is None else f"{window.length} rows, in blocks of {window.source.reader.block}"
        )

    def __iter__(self) -> Iterator[Tensor]:
        saved, self.checkpoint.saved = self.checkpoint.saved, None
        if saved is not None:
            self.generator.set_state(saved["began"])
            if saved["order"] != self.order:  # from disk or memory, or as much of a GPU is free: no other fit for that
                warn(
                    f"Rows were shuffled among {saved['order']}, before this fit was cut off, and now among "
                    f"{self.order}: the epoch may see some of them twice, and others not at all."
                )
        self.began = self.generator.get_state()
        return self._rest(iter(self.sampler), saved)

    def _rest(self, batches: Iterator[Tensor], saved: dict[str, Any] | None) -> Iterator[Tensor]:
        """Leave out batches already trained on, and then let all generators go on, once whoever asks has drawn too."""
        if saved is not None:
            list(islice(batches, len(saved["batches"])))
            for generator, state in zip(self.checkpoint.generators, saved["generators"], strict=True):
                generator.set_state(state)
            saved = None  # an epoch is long, and it may be large
        yield from batches
