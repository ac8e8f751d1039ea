"""What the tests of `Worker` call in its process. It imports no pytest: each process would, too.

In: arguments that can be pickled. Out: values, objects that stay there, and every kind of failure.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipform.bench.race.worker import NotPossible
from slipform.pipelines.errors import ConfigError


class Counter:
    """An object that lives in the process."""

    def __init__(self, start: int) -> None:
        self.value = start

    def add(self, number: int) -> int:
        self.value += number
        return self.value


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    path.write_text("open")
    yield path
    path.write_text("closed")


def read(path: Path) -> str:
    return path.read_text()


def raise_of(kind: str) -> None:
    if kind == "import":
        raise ImportError("No module named 'nothing'")
    if kind == "impossible":
        raise NotPossible("no counterpart")
    if kind == "memory":
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nmore lines")
    if kind == "mistake":
        raise ConfigError("give a smaller batch")
    raise ValueError("first line\nsecond line")


def write_and_wait(path: Path) -> None:
    path.with_suffix(".part").write_text(str(os.getpid()))
    path.with_suffix(".part").rename(path)
    time.sleep(600)
