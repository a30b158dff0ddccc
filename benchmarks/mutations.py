"""Change the library in one place at a time: each change must fail the tests named beside it in mutations.txt.

python benchmarks/mutations.py [--only WORD]

A block of mutations.txt is a file with a word on what goes wrong, the lines taken away (-) and those put in their
place (+), and the tests that must tell. What is taken away must be there exactly once. Tests run in forks of a process
that has imported what is slow, on a copy of the package; the working tree is never touched.
"""

import argparse
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SLOW = ("torch", "timm", "skorch.callbacks", "sklearn.model_selection", "pandas", "zuko.flows", "scipy.stats", "pytest")
LIMIT = 120  # seconds that the tests of one mutation may take
KILLED = 1  # pytest's word for tests that ran, and failed
# What is imported before pytest cannot be rewritten by it, of which it warns.
OPTIONS = ("-q", "-n0", "-pno:cacheprovider", "-Wignore::pytest.PytestAssertRewriteWarning")


class Mutation(NamedTuple):
    file: str
    what: str
    old: str
    new: str
    tests: list[str]

    def apply(self, text: str) -> str:
        if (count := text.count(self.old)) != 1:
            raise SystemExit(f"{self.file}: {self.what}: found {count} times, not once:\n{self.old}")
        return text.replace(self.old, self.new)


def read(text: str) -> list[Mutation]:
    mutations = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        if not lines:
            continue
        (file, what), rest = lines[0].split(": ", 1), lines[1:]
        old, new = ("\n".join(line[2:] for line in rest if line[0] == sign) for sign in "-+")
        mutations.append(Mutation(file, what, old, new, [line for line in rest if line[0] not in "-+"]))
    return mutations


def run(folder: Path, tests: Sequence[str], *options: str) -> int:
    """Run tests in a fork, and give pytest's exit code, or minus the signal that ended it."""
    child = os.fork()
    if not child:
        code = 3
        try:
            with (folder / "report.txt").open("w") as report:
                os.dup2(report.fileno(), 1)
                os.dup2(report.fileno(), 2)
            os.chdir(folder)
            sys.path.insert(0, str(folder))
            signal.alarm(LIMIT if options else 0)
            code = import_module("pytest").main([*OPTIONS, *options, *tests])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def judge(folder: Path, mutation: Mutation) -> int:
    """Run the tests of a mutation on the copy while it is changed."""
    file = folder / "skastro" / mutation.file
    text = file.read_text()
    file.write_text(mutation.apply(text))
    bytecode = Path(cache_from_source(str(file)))  # names no more than the second and the size of its source
    try:
        bytecode.unlink(missing_ok=True)
        return run(folder, [f"tests/{test}" for test in mutation.tests], "-x")
    finally:
        file.write_text(text)
        bytecode.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="a word of the mutations to try")
    only, start = parser.parse_args().only, perf_counter()
    every = read(Path(__file__).with_suffix(".txt").read_text())
    for mutation in every:
        mutation.apply((ROOT / "skastro" / mutation.file).read_text())
    chosen = [mutation for mutation in every if only in f"{mutation.file}: {mutation.what}"]
    os.environ["OMP_NUM_THREADS"] = "1"  # a fork inherits no threads
    for name in SLOW:
        import_module(name)
    with TemporaryDirectory() as place:
        folder = Path(place).resolve()
        for name in ("skastro", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "setup.cfg", folder)
        os.environ["PYTHONPATH"] = place  # of processes that tests start
        named = sorted({f"tests/{test}" for mutation in chosen for test in mutation.tests})
        if run(folder, named):
            raise SystemExit(f"{(folder / 'report.txt').read_text()}\nA test that is named does not pass unchanged.")
        print(f"{len(named)} tests pass unchanged: {perf_counter() - start:.0f} s", flush=True)
        survived = []
        for mutation in chosen:
            began, code = perf_counter(), judge(folder, mutation)
            word = "killed" if code == KILLED else "SURVIVED" if code == 0 else f"ERROR {code}"
            print(f"{word:8} {perf_counter() - began:5.1f} s  {mutation.file}: {mutation.what}", flush=True)
            if code != KILLED:
                survived.append(mutation)
                print((folder / "report.txt").read_text() if code else "", end="", flush=True)
    print(f"{len(chosen)} mutations, {len(survived)} survived, {(perf_counter() - start) / 60:.1f} minutes")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
