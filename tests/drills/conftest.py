"""Fixtures of the drills: the warm process, the number of repeats, and the log of the counts."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.drills.warm import Warm

_SOURCE = Path(__file__).with_name("fail_call.c")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the preload library that makes calls fail. Skips the test if there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("g++")
    if compiler is None:
        pytest.skip("needs a C compiler, to build the library that fails file calls")
    built = tmp_path_factory.mktemp("library") / "fail_call.so"
    language = ["-x", "c"] if not compiler.endswith("++") else []
    subprocess.run(
        [compiler, *language, "-shared", "-fPIC", "-O2", "-o", str(built), str(_SOURCE), "-ldl"],
        check=True,
    )
    return built


@pytest.fixture(scope="session")
def warm(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A warm process in which file calls can fail."""
    folder = tmp_path_factory.mktemp("warm")
    with Warm(folder, library) as process:
        yield process


@pytest.fixture(scope="session")
def data(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 24 images: three steps for a tiny net."""
    out = tmp_path_factory.mktemp("data") / "shapes"
    sizes = ("--num-train", "24", "--num-val", "8", "--num-test", "8", "--classes", "2")
    ended = warm.run(
        "prep", "shapes", "--out", str(out), *sizes, "--min-size", "16", "--max-size", "20"
    )
    assert ended.code == 0, ended
    return out


@pytest.fixture(scope="session")
def amount() -> Callable[[str, int], int]:
    """amount("kills", 20): the number of repeats of a drill: $SLIPFORM_DRILL_KILLS, or 20."""
    return lambda name, usual: int(os.environ.get(f"SLIPFORM_DRILL_{name.upper()}", usual))


@pytest.fixture(scope="session")
def count() -> Callable[[str], None]:
    """Appends a line of counts to the file $SLIPFORM_DRILL_LOG, if that is set."""

    def note(line: str) -> None:
        if name := os.environ.get("SLIPFORM_DRILL_LOG"):
            with open(name, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    return note
