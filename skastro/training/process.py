"""State that all in a process share, such as torch's generators and threads, set apart while skastro computes."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import joblib
import psutil
import torch

from skastro import ranks

__all__ = ["Randomness", "bfloat16", "free_threads", "local_seed", "own_state", "repeatable_cudnn"]

RENEWED = 60.0  # seconds for which the load of the machine is believed
LOOKED_AT = 0.1  # seconds over which it is measured
BUSY = ("user", "nice", "system", "irq", "softirq", "steal")  # of a processor's times, by psutil's names

_lock = threading.RLock()


class Randomness:
    """The random numbers of one fit, which no other thread shares.

    Parameters
    ----------
    seed : int
        Seed of all of them.
    device : torch.device, default=None
        Device of the training; None is the CPU.

    Attributes
    ----------
    order : torch.Generator
        On the CPU: weights, order of the rows, dropout.
    views : torch.Generator
        On the device: what is drawn for the views.
    steps : torch.Generator or None
        On the GPU, if that is the device: dropout there.
    seeds : torch.Generator
        On the CPU: seeds of what each rank draws by itself in a step that ranks share, alike on all like the others.
    """

    def __init__(self, seed: int, device: torch.device | None = None) -> None:
        self.seed = seed
        self.device = device or torch.device("cpu")
        self.order = torch.Generator().manual_seed(seed)
        self.views = torch.Generator(self.device).manual_seed(seed)
        self.steps = torch.Generator(self.device).manual_seed(seed) if self.device.type == "cuda" else None
        self.seeds = torch.Generator().manual_seed(seed)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put these generators in the place of torch's global ones inside a block; other threads wait.

        In a step that ranks share, each draws by itself what a network draws, such as dropout.

        Examples
        --------
        >>> import torch
        >>> from skastro.training import Randomness
        >>> before, draws = torch.get_rng_state(), Randomness(0)
        >>> with draws.installed():
        ...     first = torch.rand(2)
        >>> with draws.installed():
        ...     second = torch.rand(2)
        >>> bool((torch.get_rng_state() == before).all()), bool((first == second).any())
        (True, False)
        """
        with own_state(), _lock, ExitStack() as stack:
            order, steps = (self.order, self.steps) if not ranks.sharing() else self._own()
            _exchange(stack, order, torch.get_rng_state, torch.set_rng_state)
            if steps is not None:
                get, put = torch.cuda.get_rng_state, torch.cuda.set_rng_state
                _exchange(stack, steps, partial(get, self.device), partial(put, device=self.device))
            yield

    def _own(self) -> tuple[torch.Generator, torch.Generator | None]:
        """Make generators of this rank for a step."""
        seed = int(torch.randint(2**62, (), generator=self.seeds)) + ranks.rank()
        steps = None if self.steps is None else torch.Generator(self.device).manual_seed(seed)
        return torch.Generator().manual_seed(seed), steps


def _exchange(stack: ExitStack, generator: torch.Generator, get: Any, put: Any) -> None:
    """Put a generator in the place of a global one until the stack is left."""
    before = get()
    stack.callback(put, before)
    stack.callback(lambda: generator.set_state(get()))
    put(generator.get_state())


@contextmanager
def local_seed(seed: int) -> Iterator[None]:
    """Seed torch inside a block, and restore the user's generators after it; threads take turns.

    Parameters
    ----------
    seed : int
        Seed of torch's global generator inside the block.

    Examples
    --------
    >>> import torch
    >>> from skastro.training import local_seed
    >>> before = torch.random.get_rng_state()
    >>> with local_seed(0):
    ...     noise = torch.rand(2)
    >>> bool((torch.random.get_rng_state() == before).all())
    True
    """
    with Randomness(seed).installed():
        yield


@contextmanager
def bfloat16(device: torch.device, enabled: bool) -> Iterator[None]:
    """Compute in bfloat16 by autocast; threads take turns, because they share its cache of weights.

    Parameters
    ----------
    device : torch.device
        Device of the computation.
    enabled : bool
        If False, nothing changes.
    """
    if not enabled:
        yield
        return
    with _lock, torch.autocast(device.type, torch.bfloat16):
        yield


class _Shared:
    """The default dtype, which all threads of a process share: the first of us changes it, the last restores it."""

    def __init__(self) -> None:
        self.users = 0
        self.before: torch.dtype | None = None

    def enter(self) -> None:
        with _lock:
            self.users += 1
            if (dtype := torch.get_default_dtype()) != torch.float32:
                self.before = dtype
                torch.set_default_dtype(torch.float32)

    def leave(self) -> None:
        with _lock:
            self.users -= 1
            if self.before is not None and not self.users:
                torch.set_default_dtype(self.before)
                self.before = None


_shared = _Shared()


@contextmanager
def own_state(threads: int | None = None) -> Iterator[None]:
    """Compute in float32, on the CPU unless told otherwise, and with gradients, whatever the user has set globally.

    Parameters
    ----------
    threads : int, default=None
        Threads of torch on the CPU for the duration; None leaves them as they are.

    Examples
    --------
    >>> import torch
    >>> from skastro.training import own_state
    >>> torch.set_default_dtype(torch.float64)
    >>> with own_state():
    ...     inside = torch.rand(1).dtype
    >>> inside, torch.rand(1).dtype
    (torch.float32, torch.float64)
    >>> torch.set_default_dtype(torch.float32)
    """
    _shared.enter()
    try:
        with ExitStack() as stack:
            own = torch.get_num_threads()
            if threads not in (None, own):
                stack.callback(torch.set_num_threads, own)
                torch.set_num_threads(threads)
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            for kind in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
                stack.enter_context(torch.autocast(kind, enabled=False))
            if torch.is_inference_mode_enabled():
                stack.enter_context(torch.inference_mode(False))
            if not torch.is_grad_enabled():
                stack.enter_context(torch.enable_grad())
            yield
    finally:
        _shared.leave()


class _Load:
    """How many processors other work keeps busy, measured now and then."""

    def __init__(self) -> None:
        self.measured, self.busy = -RENEWED, 0.0

    def __call__(self) -> float:
        if time.monotonic() - self.measured > RENEWED:
            before = self._used()
            time.sleep(LOOKED_AT)
            self.busy = max(0.0, (self._used() - before) / LOOKED_AT)
            self.measured = time.monotonic()
        return self.busy

    def _used(self) -> float:
        """Seconds that others have computed on the processors that this process may use."""
        own = psutil.Process()
        allowed = set(own.cpu_affinity()) if hasattr(own, "cpu_affinity") else None
        times = [t for place, t in enumerate(psutil.cpu_times(percpu=True)) if allowed is None or place in allowed]
        # Not what idle time leaves: in some containers all counters stand still.
        return sum(getattr(t, kind, 0.0) for t in times for kind in BUSY) - sum(own.cpu_times()[:2])


_load = _Load()


def free_threads() -> int:
    """Count the threads that computing on the CPU should take now.

    Returns
    -------
    int
        Torch's own number, at most the processors that affinity and quota allow, less those that other work keeps
        busy; at least one. Threads that wait for one that is not running slow a fit down by a multiple.

    Examples
    --------
    >>> import torch
    >>> from skastro.training import free_threads
    >>> 1 <= free_threads() <= torch.get_num_threads()
    True
    """
    own = torch.get_num_threads()
    return own if own == 1 else max(1, min(own, round(joblib.cpu_count() - _load())))


def _forked() -> None:
    """In a forked child: OpenMP's threads are gone, and would be waited for; nobody holds the lock."""
    global _lock, _shared
    _lock, _shared = threading.RLock(), _Shared()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@contextmanager
def repeatable_cudnn() -> Iterator[None]:
    """Let cuDNN compute the same twice inside a block; how precise its products are stays the user's choice."""
    wanted = {"enabled": True, "benchmark": False, "deterministic": True}
    before = {name: getattr(torch.backends.cudnn, name) for name in wanted}
    try:
        for name, value in wanted.items():
            setattr(torch.backends.cudnn, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(torch.backends.cudnn, name, value)
