"""Freed memory stays in the process, unless the user has chosen how the allocator works."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from slipform.train.machine import allocator
from tests.warm import Warm

# Each of the blocks has 16,384 pages. Their sizes differ, as those of the tensors of a step do.
PROGRAM = """
import resource
import torch
from slipform.train.machine.allocator import give_back_freed_memory, keep_from_now_on

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        blocks = [torch.ones(2**24 + 1000 * k) for k in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

torch.set_num_threads(1)
print(keep_from_now_on())
faults()
# Once, a later span had the faults of one of its blocks. The cause was not found.
print(sorted(faults() for _ in range(3))[1])
before = resident()
give_back_freed_memory()
print(before - resident())
"""


def _without_settings() -> dict[str, str]:
    """The environment without the variables of glibc's allocator."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}


def test_blocks_are_used_again_and_can_be_given_back(warm_process: Warm) -> None:
    done = warm_process.run(PROGRAM, environment=_without_settings())
    assert done.returncode == 0, done.stderr
    accepted, faults, given_back = done.stdout.split()
    assert accepted == "True"
    assert int(faults) < 1000  # of 197,000 pages that are written
    assert int(given_back) > 150_000_000  # of 200 MB


@pytest.mark.parametrize(
    ("variable", "accepted"),
    [
        ("MALLOC_TRIM_THRESHOLD_=131072", False),
        ("GLIBC_TUNABLES=glibc.malloc.mmap_threshold=131072", False),
        ("MALLOC_ARENA_MAX=2", True),
        ("GLIBC_TUNABLES=glibc.malloc.check=0", True),
    ],
)
def test_a_users_settings_stay(
    variable: str, accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of memory that is freed; others change nothing."""
    made: list[tuple[int, ...]] = []

    def accept(*given: int) -> bool:
        made.append(given)
        return True

    monkeypatch.setattr(allocator, "_set", accept)
    monkeypatch.setattr(allocator, "_kept", False)
    for name in os.environ.keys() - _without_settings().keys():
        monkeypatch.delenv(name)
    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value)
    assert allocator.keep_from_now_on() is accepted
    assert made == [(allocator._MOST, allocator._MOST)] * accepted


REPEATS, BLOCK = 4, 2**26  # blocks in a span, and the bytes of each
# Prints the faults of spans: for a GPU, in a context, in it after another one, after it; the bytes
# that the end of the other one gave back; and whether each of the three kept memory. It takes
# memory as torch does, but needs no torch.
IN_CONTEXTS = f"""
import ctypes
import resource
import slipform as sf

libc, block, size = ctypes.CDLL(None), ctypes.c_void_p(), ctypes.c_size_t({BLOCK})

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({REPEATS}):
        assert libc.posix_memalign(ctypes.byref(block), ctypes.c_size_t(64), size) == 0
        ctypes.memset(block, 1, {BLOCK})
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

with sf.keep_freed_memory("cuda:0") as on_gpu:
    print(faults())
with sf.keep_freed_memory() as kept:
    faults(), faults()  # until each block has its place
    print(sorted(faults() for _ in range(3))[1])
    with sf.keep_freed_memory("cpu") as still:
        before = resident()
    given_back = before - resident()
    faults(), faults()
    print(sorted(faults() for _ in range(3))[1])
print(faults())
print(given_back)
print(int(on_gpu), int(kept), int(still))
"""


def _in_contexts(**variables: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", IN_CONTEXTS],
        env={**_without_settings(), **variables}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [int(word) for word in done.stdout.split()]


def _fewest() -> int:
    """Faults of a span of new blocks, if all pages are huge ones."""
    size = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
    page = int(size.read_text()) if size.exists() else resource.getpagesize()
    return REPEATS * (BLOCK // page - 1)  # its ends may be in pages of others


def test_a_context_keeps_memory_and_gives_it_back() -> None:
    on_gpu, inside, still, after, given_back, *said = _in_contexts()
    assert on_gpu >= _fewest()
    assert max(inside, still) < _fewest() // REPEATS  # less than one block
    assert after >= _fewest() // REPEATS  # at least the first one
    assert given_back > 0.9 * BLOCK
    assert said == [0, 1, 1]


def test_a_context_changes_nothing_that_the_user_has_set() -> None:
    on_gpu, inside, still, after, _, *said = _in_contexts(MALLOC_MMAP_THRESHOLD_="131072")
    assert min(on_gpu, inside, still, after) >= _fewest()
    assert said == [0, 0, 0]
