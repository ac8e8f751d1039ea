"""What the processes of `bench gpu` call in tests. It imports no pytest: each process would, too.

In: arguments that can be pickled. Out: `Measured` values, and errors.
"""

from __future__ import annotations

import time
from pathlib import Path

from slipform.bench.race.gpu import Measured
from slipform.bench.race.measure import estimate


def sleep(seconds: float) -> list[Measured]:
    time.sleep(seconds)
    return [Measured(f"slept {seconds}", {"slept_seconds": estimate([seconds])})]


def fail() -> list[Measured]:
    raise RuntimeError("CUDA error")


class Prepared:
    """Writes what happens when to a file."""

    def __init__(self, log: str, name: str) -> None:
        self.log, self.name = Path(log), name

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        self.write("closed")

    def write(self, what: str) -> None:
        with open(self.log, "a") as file:  # one write: lines of processes are not mixed
            file.write(f"{self.name} {what}\n")

    def measure(self) -> list[Measured]:
        self.write("begins")
        time.sleep(0.2)
        self.write("ends")
        return [Measured(self.name)]


def prepare(log: str, name: str, count: int, short: str = "") -> Prepared:
    """Wait until `count` items are being prepared. `short` lacks memory if it is not alone."""
    found = Prepared(log, name)
    found.write("prepares")
    for _ in range(1200):
        if found.log.read_text().count("prepares") >= count:
            break
        time.sleep(0.05)
    else:
        raise RuntimeError("the others are not prepared at the same time")
    if name == short and "ends" not in found.log.read_text():
        raise MemoryError("too large")
    if name == "broken":
        raise RuntimeError("does not compile")
    return found
